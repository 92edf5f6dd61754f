//! Endpoints that name each other, by `fallback`, `mirror` and `steps`: that they exist, do what is needed, and come to an end.

use std::collections::HashMap;

use super::{chain, counterpart, endpoint::lower_task, routing};
use crate::{
    config::{
        diagnostic::Diagnostic,
        raw::{RawEndpoint, RawRoute},
        reading::Reading,
        suggest,
        tree::At,
    },
    event::Task,
};

/// How many endpoints a call may pass on its way, the one that was called not counted.
const DEEPEST: usize = 4;
/// With more names than this, the nearest is not looked for: many wrong names must cost little.
const MOST_NAMES: usize = 200;
/// So many names of a path are shown.
const SHOWN: usize = 10;

/// What the endpoints of a file are to each other.
#[derive(Default)]
struct Graph {
    names: Vec<String>,
    tasks: Vec<Option<Task>>,
    /// By endpoint: the others that it names, in the order of the file.
    edges: Vec<Vec<Edge>>,
    by_name: HashMap<String, usize>,
}

struct Edge {
    key: &'static str,
    to: At<String>,
    /// Whether it must answer what the endpoint answers.
    answers: bool,
    /// Whether it is asked with the caller's own request, and another's answer goes on from it.
    begins: bool,
    /// What it is asked, where that is a template.
    input: Option<At<String>>,
}

/// Checks what endpoints say of each other.
pub(super) fn check(written: &[At<RawEndpoint>], splits: &[At<RawRoute>], reading: &mut Reading<'_>) {
    let mut graph = Graph::default();
    for endpoint in written {
        let Some(name) = &endpoint.value.name else { continue };
        graph.add(&name.value, endpoint.value.endpoint_type.as_ref().map(|task| lower_task(task.value)), edges(endpoint));
    }
    for split in splits {
        let Some(name) = &split.value.name else { continue };
        graph.add(&name.value, split.value.task_type.as_ref().map(|task| lower_task(task.value)), Vec::new());
    }
    graph.check_targets(reading);
    graph.check_ends(reading);
}

fn edges(endpoint: &At<RawEndpoint>) -> Vec<Edge> {
    let fallbacks =
        routing::fallbacks(endpoint).into_iter().map(|to| Edge { key: "fallback", to, answers: true, begins: false, input: None });
    let mirrors = routing::mirrors(endpoint).into_iter().filter_map(|mirror| mirror.endpoint.clone());
    let mirrors = mirrors.map(|to| Edge { key: "mirror", to, answers: true, begins: false, input: None });
    let steps = endpoint.value.routing.steps.as_ref().map(|steps| steps.value.as_slice()).unwrap_or_default();
    let last = steps.len().saturating_sub(1);
    let steps = steps.iter().enumerate().filter_map(|(n, step)| {
        let begins = n == 0 && n != last && step.value.input.is_none();
        let (to, input) = (step.value.endpoint.clone()?, step.value.input.clone());
        Some(Edge { key: "steps", to, answers: n == last, begins, input })
    });
    fallbacks.chain(mirrors).chain(steps).collect()
}

/// Whether one endpoint can answer for another.
fn alike(a: Task, b: Task) -> bool {
    a == b || counterpart(a) == Some(b)
}

impl Edge {
    /// From an endpoint to one of another kind.
    fn check_kind(&self, task: Task, other: Task, reading: &mut Reading<'_>) {
        let (shown, task, other) = (reading.shown(self.to.spot), task.endpoint_type(), other.endpoint_type());
        if self.answers {
            let message = match self.key {
                "steps" => format!("the last step, {shown}, is a {other} endpoint"),
                key => format!("`{key}` names {shown}, which is a {other} endpoint"),
            };
            reading.error(self.to.spot, Diagnostic::new(message).expected(format!("one that answers as this endpoint does: {task}")));
        } else if self.begins {
            let message = format!("the first step, {shown}, is a {other} endpoint, which a {task} request cannot ask");
            let diagnostic = Diagnostic::new(message).expected("`input` beside it");
            reading.error(self.to.spot, diagnostic.suggest(Some("write what it is asked, for example `input: '{{ request.text }}'`")));
        }
    }
}

impl Graph {
    /// A name that stands twice is an error already; the first one counts.
    fn add(&mut self, name: &str, task: Option<Task>, edges: Vec<Edge>) {
        self.by_name.entry(name.to_owned()).or_insert(self.names.len());
        self.names.push(name.to_owned());
        self.tasks.push(task);
        self.edges.push(edges);
    }

    fn check_targets(&self, reading: &mut Reading<'_>) {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        for (edges, task) in self.edges.iter().zip(&self.tasks) {
            for edge in edges {
                let Some(to) = self.by_name.get(&edge.to.value) else {
                    let near = if names.len() <= MOST_NAMES { suggest::nearest(&edge.to.value, &names) } else { None };
                    let message = format!("`{}` names {}, which is no endpoint of this file", edge.key, reading.shown(edge.to.spot));
                    reading.error(edge.to.spot, Diagnostic::new(message).expected("the name of an endpoint").suggest(near));
                    continue;
                };
                let Some(other) = self.tasks.get(*to).copied().flatten() else { continue };
                if let Some(input) = &edge.input {
                    chain::check_request(input, other, reading);
                }
                if let Some(task) = task.filter(|task| !alike(*task, other)) {
                    edge.check_kind(task, other, reading);
                }
            }
        }
    }

    /// Walks from every endpoint, deepest first, without recursion: a file may hold a chain of thousands.
    fn check_ends(&self, reading: &mut Reading<'_>) {
        // The way on from each endpoint that was left: how deep, and by which of its edges.
        let mut left: Vec<Option<(usize, Option<usize>)>> = vec![None; self.names.len()];
        let mut on_path = vec![false; self.names.len()];
        for start in 0..self.names.len() {
            let mut path = if left.get(start).is_some_and(Option::is_none) { vec![(start, 0)] } else { continue };
            while let Some((node, next)) = path.last_mut() {
                let (node, number) = (*node, *next);
                *next += 1;
                on_path[node] = true;
                let Some(edge) = self.edges[node].get(number) else {
                    left[node] = Some(self.deepest(node, &left));
                    on_path[node] = false;
                    path.pop();
                    self.report_depth(node, &left, reading);
                    continue;
                };
                match self.by_name.get(&edge.to.value) {
                    Some(to) if on_path[*to] => self.report_cycle(&path, *to, reading),
                    Some(to) if left[*to].is_none() => path.push((*to, 0)),
                    Some(_) | None => {}
                }
            }
        }
    }

    /// How deep the ways from an endpoint go, and by which of its edges the deepest goes.
    fn deepest(&self, node: usize, left: &[Option<(usize, Option<usize>)>]) -> (usize, Option<usize>) {
        let depth = |edge: &Edge| {
            let to = self.by_name.get(&edge.to.value)?;
            // What was not left yet leads back here: a way without end, which is said already.
            Some(left.get(*to).copied().flatten().map_or(usize::MAX, |(depth, _)| depth.saturating_add(1)))
        };
        let ways = self.edges[node].iter().enumerate().filter_map(|(n, edge)| Some((depth(edge)?, n)));
        ways.max_by_key(|(depth, n)| (*depth, std::cmp::Reverse(*n))).map_or((0, None), |(depth, n)| (depth, Some(n)))
    }

    fn report_cycle(&self, path: &[(usize, usize)], to: usize, reading: &mut Reading<'_>) {
        let Some((node, next)) = path.last() else { return };
        let Some(edge) = next.checked_sub(1).and_then(|number| self.edges[*node].get(number)) else { return };
        let nodes = path.iter().map(|(node, _)| *node).skip_while(|node| *node != to).chain([to]);
        let message = format!("`{}` leads in a circle: {}", edge.key, self.shown(nodes));
        reading.error(edge.to.spot, Diagnostic::new(message).expected("an endpoint that does not lead back here"));
    }

    /// Reported where a way becomes too deep, and not again above.
    fn report_depth(&self, node: usize, left: &[Option<(usize, Option<usize>)>], reading: &mut Reading<'_>) {
        let way = |node: usize| left.get(node).copied().flatten().and_then(|(_, number)| self.edges[node].get(number?));
        let Some((depth, edge)) = left[node].map(|(depth, _)| depth).zip(way(node)) else { return };
        if depth == DEEPEST + 1 {
            let nodes = std::iter::successors(Some(node), |node| self.by_name.get(&way(*node)?.to.value).copied());
            let message = format!("`{}` leads too deep: {}", edge.key, self.shown(nodes));
            reading.error(edge.to.spot, Diagnostic::new(message).expected(format!("at most {DEEPEST} endpoints behind each other")));
        }
    }

    fn shown(&self, nodes: impl Iterator<Item = usize>) -> String {
        let names: Vec<&str> = nodes.filter_map(|node| self.names.get(node).map(String::as_str)).collect();
        let short = names.len() > SHOWN;
        let head = names.get(..if short { SHOWN - 1 } else { names.len() }).unwrap_or_default().join(" -> ");
        match names.last().filter(|_| short) {
            Some(last) => format!("{head} -> … -> {last}"),
            None => head,
        }
    }
}
