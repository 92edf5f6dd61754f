//! Requests put together and answers cut apart: what is joined is split into what it was joined of, letter for letter.

use bytes::Bytes;
use flowgate_server::dialect::scoring::{
    rows::{merge, rows, split},
    without_python_tokens,
};
use serde_json::value::RawValue;

const JSON: &[u8] = b"application/json";

/// Feeds one input: two bodies with a zero byte between them, or an answer to requests of two and one row behind one.
pub fn feed(input: &[u8]) {
    let Some(at) = input.iter().position(|byte| *byte == 0) else { return };
    let (first, second) = (&input[..at], Bytes::copy_from_slice(&input[at + 1..]));
    if first.is_empty() {
        return cut(&second);
    }
    let first = Bytes::copy_from_slice(first);
    let (Some(a), Some(b)) = (rows(JSON, &first), rows(JSON, &second)) else { return };
    if a.kind != b.kind {
        return;
    }
    let whole = merge(&[&a, &b, &a].into_iter());
    let joined = rows(JSON, &whole).expect("what is joined is a request");
    assert_eq!((joined.count, &joined.kind), (2 * a.count + b.count, &a.kind));
    let (of_a, of_b, of_all) = (lists(&first), lists(&second), lists(&whole));
    assert_eq!(of_a.len(), of_all.len());
    for (n, list) in of_all.iter().enumerate() {
        let parts = [of_a[n].as_slice(), of_b[n].as_slice(), of_a[n].as_slice()].concat();
        assert_eq!(*list, parts, "the rows are those of the parts");
        let answer = Bytes::from(format!("{{\"predictions\": [{}]}}", list.join(" , ")));
        let answers = split(&answer, &[a.count, b.count, a.count]).expect("one prediction for each row");
        let back: Vec<Vec<String>> = answers.iter().map(predictions).collect();
        assert_eq!(back, [of_a[n].clone(), of_b[n].clone(), of_a[n].clone()]);
    }
}

/// Cuts an answer that may be anything: what comes of it is JSON again, one for each request.
fn cut(answer: &Bytes) {
    let Some(answers) = split(answer, &[2, 1]) else { return };
    assert_eq!(answers.len(), 2);
    for part in answers {
        assert!(part.len() <= answer.len() * 2 + 64);
        serde_json::from_slice::<serde::de::IgnoredAny>(&without_python_tokens(&part)).expect("a part is JSON");
    }
}

/// The rows of a body, each as it is written; of `inputs` by name each column.
fn lists(body: &[u8]) -> Vec<Vec<String>> {
    let fields = members(body);
    let (name, value) = fields.iter().find(|(name, _)| name != "params").expect("a form");
    match (name.as_str(), value.as_bytes().first()) {
        ("dataframe_split", _) => {
            let split = members(value.as_bytes());
            let (_, data) = split.iter().find(|(name, _)| name == "data").expect("rows");
            vec![items(data)]
        }
        (_, Some(b'[')) => vec![items(value)],
        _ => members(value.as_bytes()).iter().map(|(_, column)| items(column)).collect(),
    }
}

fn predictions(answer: &Bytes) -> Vec<String> {
    let fields = members(answer);
    let [(name, list)] = fields.as_slice() else { panic!("another form") };
    assert_eq!(name, "predictions");
    items(list)
}

fn items(list: &str) -> Vec<String> {
    let items: Vec<&RawValue> = serde_json::from_str(list).expect("a list");
    items.into_iter().map(|item| item.get().to_owned()).collect()
}

/// The members of an object, in their order.
fn members(object: &[u8]) -> Vec<(String, String)> {
    struct Members(Vec<(String, String)>);
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Self;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                self.0.push((name, value.get().to_owned()));
            }
            Ok(self)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(object);
    serde::Deserializer::deserialize_map(&mut reader, Members(Vec::new())).expect("an object").0
}
