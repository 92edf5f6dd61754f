//! Streams that go on and on: what a decoder makes of thousands of frames that each begin something new, or that each add to the same.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{
    Fixture, Suite,
    hostile::{feed, judge, shape},
};
use crate::dialect::Frame;

/// How often a frame comes; more often once for each dialect.
const TIMES: u64 = 500;
const ONCE: u64 = 20_000;

/// Repeats frames of a stream, once for each shape that is not known: as they are, with every number in them that says which block, call or
/// choice is meant counting up and every call with an id of its own, and all at once as entries of the lists in one frame. What comes out is
/// bounded by what went in.
pub(super) fn check(suite: &Suite, fixture: &Fixture, frames: &[Frame], known: &mut HashSet<String>) -> usize {
    let mut tried = 0;
    for (n, frame) in frames.iter().enumerate() {
        let Ok(json) = serde_json::from_slice::<Json>(&frame.data) else { continue };
        if frame.is_exception || frame.data.len() > 2000 || !known.insert(format!("storm {:?} {}", frame.name, shape(&json))) {
            continue;
        }
        let counting = |count| {
            let mut json = json.clone();
            count_up(&mut json, count).then(|| Frame { data: json.to_string().into(), ..frame.clone() })
        };
        let same: Vec<Frame> = (0..TIMES).map(|_| frame.clone()).collect();
        let is_first = counting(0).is_some() && known.insert("storm".to_owned());
        let counted: Vec<Frame> = (0..if is_first { ONCE } else { TIMES }).filter_map(counting).collect();
        let is_first = has_list(&json) && known.insert("storm of entries".to_owned());
        let mut crowded = json.clone();
        crowd(&mut crowded, if is_first { ONCE } else { TIMES });
        let crowded = Some(crowded).filter(|crowded| *crowded != json).map(|json| Frame { data: json.to_string().into(), ..frame.clone() });
        for storm in [same, counted, crowded.into_iter().collect()] {
            let stream = [&frames[..n], &storm, &frames[n + 1..]].concat();
            judge(fixture, feed(suite, fixture, stream));
            tried += 1;
        }
    }
    tried
}

/// Sets every index within to a number, and gives every call an id of that number; false when there is neither.
fn count_up(json: &mut Json, count: u64) -> bool {
    match json {
        Json::Array(list) => list.iter_mut().fold(false, |any, value| count_up(value, count) | any),
        Json::Object(fields) => {
            let is_call = fields.contains_key("name") || fields.contains_key("function");
            fields.iter_mut().fold(false, |any, (name, value)| {
                let name = name.to_ascii_lowercase();
                let is_index = value.is_u64() && name.ends_with("index");
                let is_id = is_call && value.is_string() && name.ends_with("id");
                match (is_index, is_id) {
                    (true, _) => *value = count.into(),
                    (_, true) => *value = format!("call{count}").into(),
                    _ => return count_up(value, count) | any,
                }
                true
            })
        }
        _ => false,
    }
}

/// Whether there is a list within that holds something.
fn has_list(json: &Json) -> bool {
    match json {
        Json::Array(list) => !list.is_empty(),
        Json::Object(fields) => fields.values().any(has_list),
        _ => false,
    }
}

/// Makes the outermost lists within so long, each entry the one that was the last, told apart as [`count_up`] does.
fn crowd(json: &mut Json, length: u64) {
    match json {
        Json::Array(list) => {
            let Some(last) = list.last().cloned() else { return };
            list.extend((0..length).map(|count| {
                let mut entry = last.clone();
                count_up(&mut entry, count);
                entry
            }));
        }
        Json::Object(fields) => fields.values_mut().for_each(|value| crowd(value, length)),
        _ => {}
    }
}
