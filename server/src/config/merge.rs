//! Overlays: several files become one tree, later ones win. Every value keeps its own place.

use super::tree::{Any, Entries, Tree};

/// Lists whose items have names, so that an overlay changes an item instead of the list.
const NAMED: &[&str] = &["endpoints", "routes", "model_endpoints", "deployments", "keys"];

/// Lays `over` on `base`: mappings merge, lists of named items merge by name, everything else is replaced.
pub(super) fn merge(base: Tree, over: Tree) -> Tree {
    lay("", base, over)
}

fn lay(key: &str, base: Tree, over: Tree) -> Tree {
    // A merged collection stays where it was first written, so that the order of endpoints is the first file's.
    match (base.value, over.value) {
        (Any::Map(below), Any::Map(above)) => Tree::new(Any::Map(lay_entries(below, above)), base.spot),
        (Any::List(below), Any::List(above)) if NAMED.contains(&key) && all_named(&below) && all_named(&above) => {
            Tree::new(Any::List(lay_items(below, above)), base.spot)
        }
        (_, value) => Tree::new(value, over.spot),
    }
}

fn lay_entries(mut below: Entries, above: Entries) -> Entries {
    for (key, value) in above {
        match below.iter().position(|(other, _)| other.value == key.value) {
            Some(n) => {
                let (_, old) = below.remove(n);
                let merged = lay(&key.value, old, value);
                below.insert(n, (key, merged));
            }
            None => below.push((key, value)),
        }
    }
    below
}

fn lay_items(mut below: Vec<Tree>, above: Vec<Tree>) -> Vec<Tree> {
    for item in above {
        match below.iter().position(|other| name(other) == name(&item)) {
            Some(n) => {
                let old = below.remove(n);
                below.insert(n, lay("", old, item));
            }
            None => below.push(item),
        }
    }
    below
}

fn all_named(items: &[Tree]) -> bool {
    items.iter().all(|item| name(item).is_some())
}

fn name(item: &Tree) -> Option<&str> {
    item.get("name").or_else(|| item.get("alias"))?.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{diagnostic::Report, tree};

    fn merged(base: &str, over: &str) -> Tree {
        let mut report = Report::new(vec![("a.yaml".to_owned(), base.to_owned()), ("b.yaml".to_owned(), over.to_owned())]);
        let base = tree::read(0, &mut report).unwrap();
        merge(base, tree::read(1, &mut report).unwrap())
    }

    #[test]
    fn mappings_merge_and_plain_lists_are_replaced() {
        let tree =
            merged("admin: { listen: a }\ntrusted_proxies: [x, y]\nlog: text", "admin: { more: b }\ntrusted_proxies: [z]\nlog: json");
        assert_eq!(tree.to_json(), json!({"admin": {"listen": "a", "more": "b"}, "trusted_proxies": ["z"], "log": "json"}));
        assert_eq!(tree.get("log").unwrap().spot.source, 1, "a value keeps its own file");
        assert_eq!(tree.get("admin").unwrap().get("listen").unwrap().spot.source, 0);
    }

    #[test]
    fn named_items_merge_by_name() {
        let tree = merged(
            "endpoints:\n  - name: a\n    deployments: [{ alias: x, weight: 1 }, { alias: y, weight: 2 }]\n  - { name: b, path: /b }",
            "endpoints:\n  - { name: c }\n  - name: a\n    deployments: [{ alias: y, weight: 3 }]",
        );
        let expected = json!({"endpoints": [
            {"name": "a", "deployments": [{"alias": "x", "weight": 1}, {"alias": "y", "weight": 3}]},
            {"name": "b", "path": "/b"},
            {"name": "c"},
        ]});
        assert_eq!(tree.to_json(), expected);
    }

    #[test]
    fn a_list_with_a_nameless_item_is_replaced() {
        let tree = merged("deployments: [{ weight: 1 }, { alias: y }]", "deployments: [{ alias: z }]");
        assert_eq!(tree.to_json(), json!({"deployments": [{"alias": "z"}]}));
    }
}
