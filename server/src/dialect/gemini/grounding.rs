//! Sources that an answer names for its text. Places come as bytes of the text, the contract counts characters.

use std::{borrow::Cow, collections::BTreeMap};

use flowgate_proto::v1::Citation;
use serde::Deserialize;

use crate::dialect::json::{Count, Str, object};

object! {
    /// What an answer recites. The two surfaces of the protocol name the list differently.
    RecitedIn {
        sources: Vec<SourceIn<'a>> = "citationSources",
        citations: Vec<SourceIn<'a>> = "citations",
        ..
    }
}

object! {
    /// One source that is recited.
    SourceIn {
        start: Count = "startIndex",
        end: Count = "endIndex",
        uri: Str<'a> = "uri",
        title: Str<'a> = "title",
        ..
    }
}

object! {
    /// What an answer rests on.
    GroundedIn {
        chunks: Vec<ChunkIn<'a>> = "groundingChunks",
        supports: Vec<SupportIn> = "groundingSupports",
        ..
    }
}

object! {
    /// One thing that was found: on the web, in a store, on a map.
    ChunkIn {
        web: Option<FoundIn<'a>> = "web",
        retrieved: Option<FoundIn<'a>> = "retrievedContext",
        maps: Option<FoundIn<'a>> = "maps",
        ..
    }
}

object! {
    /// Where it was found.
    FoundIn {
        uri: Str<'a> = "uri",
        title: Str<'a> = "title",
        ..
    }
}

/// Which text rests on which things.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SupportIn {
    segment: Option<SegmentIn>,
    grounding_chunk_indices: Vec<Count>,
}

/// A piece of the text.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SegmentIn {
    start_index: Count,
    end_index: Count,
}

/// The sources among what was said of a candidate, for its one text.
pub(super) fn citations(further: &BTreeMap<String, Cow<'static, str>>, text: &str) -> Vec<Citation> {
    let text = &Counted::new(text);
    let recited: RecitedIn<'_> = read(further, "citationMetadata");
    let grounded: GroundedIn<'_> = read(further, "groundingMetadata");
    let recited = recited.sources.into_iter().chain(recited.citations).filter(|source| !source.uri.is_empty());
    let mut all: Vec<Citation> =
        recited.map(|source| citation(source.uri.into(), source.title.into(), [source.start, source.end], text)).collect();
    let found: Vec<Option<FoundIn<'_>>> = grounded.chunks.into_iter().map(|chunk| chunk.web.or(chunk.retrieved).or(chunk.maps)).collect();
    for SupportIn { segment, grounding_chunk_indices: chunks } in grounded.supports {
        let Some(SegmentIn { start_index, end_index }) = segment else { continue };
        let places = chunks.iter().filter_map(|chunk| usize::try_from(chunk.0?).ok());
        for source in places.filter_map(|place| found.get(place)?.as_ref()) {
            all.push(citation(source.uri.to_string(), source.title.to_string(), [start_index, end_index], text));
        }
    }
    all
}

fn read<'a, T: Deserialize<'a> + Default>(further: &'a BTreeMap<String, Cow<'static, str>>, name: &str) -> T {
    further.get(name).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// A start of 0 is left out on the wire.
fn citation(uri: String, title: String, [start, end]: [Count; 2], text: &Counted<'_>) -> Citation {
    let end = end.0.and_then(|end| text.characters(end));
    let start = end.and_then(|_| text.characters(start.0.unwrap_or_default()));
    Citation { uri, title, quote: String::new(), start, end }
}

/// A text whose characters are counted, so that many places in it are found without reading all of it for each.
struct Counted<'a> {
    text: &'a str,
    /// How many characters begin before each `STEP` bytes.
    before: Vec<u32>,
}

const STEP: usize = 1024;

impl<'a> Counted<'a> {
    fn new(text: &'a str) -> Self {
        let counted = |sum: &mut u32, piece: &[u8]| Some(std::mem::replace(sum, sum.saturating_add(begun(piece))));
        Self { text, before: text.as_bytes().chunks(STEP).chain([&[][..]]).scan(0, counted).collect() }
    }

    /// How many characters stand before a byte; nothing when that is in the midst of one.
    fn characters(&self, bytes: u32) -> Option<u32> {
        let before = self.text.get(..usize::try_from(bytes).ok()?)?.as_bytes();
        let whole = before.len() / STEP;
        Some(self.before.get(whole)?.saturating_add(begun(&before[whole * STEP..])))
    }
}

/// How many characters begin in a piece of a text.
fn begun(piece: &[u8]) -> u32 {
    let begins = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
    u32::try_from(piece.iter().filter(begins).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_wherever_a_place_is() {
        let text = "aä→🦀".repeat(700);
        let counted = Counted::new(&text);
        for bytes in (0..text.len() + 3).step_by(7).chain([0, STEP - 1, STEP, STEP + 1, 2 * STEP, text.len()]) {
            let told = text.get(..bytes).map(|before| u32::try_from(before.chars().count()).unwrap());
            assert_eq!(counted.characters(u32::try_from(bytes).unwrap()), told, "{bytes}");
        }
        assert_eq!(Counted::new("").characters(0), Some(0));
    }
}
