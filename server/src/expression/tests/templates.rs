//! Templates of chains: what they make of requests and steps.

use serde_json::json;

use super::{super::Template, sample};

fn rendered(text: &str) -> Result<String, String> {
    let steps = json!({
        "clean": {"text": "<Clean> & simple"},
        "x": {"predictions": [1, 2.5, null, {"a": "ü\"", "b": true}]},
        "two words": {"text": "quoted"},
    });
    Template::compile(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}")).render(&sample(), &steps).map(|rendered| rendered.text)
}

#[test]
fn texts_are_written_as_they_are_and_the_rest_as_json() {
    for (text, want) in [
        ("", ""),
        ("plain { text }", "plain { text }"),
        ("{{ steps.clean.text }}", "<Clean> & simple"),
        ("Sum up: {{ steps.clean.text }}!\n{{ request.principal }}", "Sum up: <Clean> & simple!\napp"),
        ("{{ steps.x.predictions }}", r#"[1, 2.5, null, {"a": "ü\"", "b": true}]"#),
        (
            r#"{"inputs": {{ steps.x.predictions|tojson }}, "q": {{ steps.clean.text|tojson }}}"#,
            r#"{"inputs": [1, 2.5, null, {"a": "ü\"", "b": true}], "q": "<Clean> & simple"}"#,
        ),
        (r#"{"q": {{ steps.clean.text }}, "r": [{{ request.principal }}]}"#, r#"{"q": "<Clean> & simple", "r": ["app"]}"#),
        ("[1, {{ steps.clean.text }}]", r#"[1, "<Clean> & simple"]"#),
        ("{no JSON: {{ steps.clean.text }}}", "{no JSON: <Clean> & simple}"),
        ("[1 of {{ steps.clean.text }}]", "[1 of <Clean> & simple]"),
        ("{{ steps.x.predictions[0] + 1 }} {{ steps.x.predictions[2] }} {{ steps.x.predictions[3].b }}", "2 null true"),
        ("{{ steps['two words'].text }} {{ request.json()['s'] }} {{ request.json['c'] }}", r#"quoted äbc {"d": "Text", "e": null}"#),
        ("{{ 'long' if len(steps.clean.text) > 5 else 'short' }}", "long"),
        ("{{ request.json()['z']|default('none') }}", "none"),
        ("{{ steps.x.predictions[:2]|join('; ') }}", "1; 2.5"),
        ("{{ '{{' }}{# a comment #}{{- ' x ' -}} y", "{{ x y"),
        ("{% raw %}{{ kept }}{% endraw %}", "{{ kept }}"),
        ("{{ 1.0 }} {{ 10 ** 20 }}", "1.0 100000000000000000000"),
    ] {
        assert_eq!(rendered(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn what_is_missing_is_an_error() {
    for text in
        ["{{ steps.clean.txt }}", "{{ steps.gone.text }}", "{{ request.json()['z'] }}", "{{ steps.clean.text.a }}", "{{ [steps.clean.a] }}"]
    {
        let error = rendered(text).unwrap_err();
        assert!(error.contains("missing"), "{text}: {error}");
    }
}

#[test]
fn a_template_tells_its_steps() {
    let template = Template::compile("{{ steps.a.text }} {{ steps['b c'].text ~ steps.a.x }} {{ request.path }}").unwrap();
    assert_eq!(template.steps(), ["a", "b c"]);
    assert_eq!(format!("{template:?}"), format!("Template({:?})", template.text()));
}

#[test]
fn what_templates_must_not_do_is_refused_where_it_stands() {
    for (text, piece, word) in [
        ("a {% if True %}b{% endif %}", "{%", "statements are not offered"),
        ("{% for x in range(1000000) %}{{ x }}{% endfor %}", "{%", "statements"),
        ("{% set x = 'a' * 100 %}", "{%", "statements"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{%", "statements"),
        ("{% include 'a' %}", "{%", "statements"),
        ("é {{ stps.a.text }}", "stps", "did you mean `steps`?"),
        ("{{ steps }}", "steps", "`steps` alone"),
        ("{{ steps[request.path] }}", "request.path", "named by a literal"),
        ("{{ steps.a.text.__class__ }}", "__class__", "begin with `_`"),
        ("{{ secrets.KEY }}", "secrets", "unknown"),
        ("x {{ 1 + }}", "}}", "unexpected end of variable block"),
        ("x {{ 'open", "'open", "unexpected end of string"),
    ] {
        let fault = Template::compile(text).expect_err(text);
        assert!(fault.message.contains(word), "{text}: {}", fault.message);
        assert_eq!(text.get(fault.range.unwrap_or_default()), Some(piece), "{text}: {}", fault.message);
    }
}

#[test]
fn the_result_is_bounded() {
    let half = "x".repeat(3 << 20);
    let steps = json!({ "a": { "text": half, "list": vec!["y"; 500_000] } });
    let render = |text: &str| Template::compile(text).unwrap().render(&sample(), &steps).map(|rendered| rendered.text);
    assert_eq!(render("{{ steps.a.text }}").map(|text| text.len()), Ok(3 << 20));
    assert!(render("{{ steps.a.text }}{{ steps.a.text }}").unwrap_err().contains("longer than"));
    assert!(render("{{ steps.a.text * 100 }}").unwrap_err().contains("more than the allowed"));
    assert!(render("{{ steps.a.list }}{{ steps.a.list }}{{ steps.a.list }}").is_err());
}

#[test]
fn one_value_alone_is_told_from_a_text() {
    let steps = json!({ "x": { "predictions": [1, 2], "text": "[1, 2]" } });
    for (text, is_value) in [
        ("{{ steps.x.predictions }}", true),
        (" {{ steps.x.predictions[0] }}\n", true),
        ("{{ steps.x.text }}", false),
        ("{{ steps.x.predictions|tojson }}", false),
        ("{{ steps.x.predictions }}{{ steps.x.predictions }}", false),
        ("a {{ steps.x.predictions }}", false),
        ("", false),
    ] {
        assert_eq!(Template::compile(text).unwrap().render(&sample(), &steps).unwrap().is_value, is_value, "{text}");
    }
}
