//! What a stream has told of the items of an answer, so that what says them again adds only what is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::Str;

/// The items so far, by their place in the answer.
pub(super) type Items = BTreeMap<u32, ItemState>;

/// What is told of one item.
#[derive(Debug, Default)]
pub(super) struct ItemState {
    /// `None` while no event named it.
    pub(super) kind: Option<Kind>,
    pub(super) is_done: bool,
    pub(super) entries: BTreeMap<u32, EntryState>,
    pub(super) call: Option<u32>,
    pub(super) has_arguments: bool,
    pub(super) reasoning: Option<u32>,
    /// The piece of reasoning that is being told.
    pub(super) section: Option<Section>,
    pub(super) sections: BTreeSet<Section>,
}

/// What is told of one entry of a message's content.
#[derive(Debug, Default)]
pub(super) struct EntryState {
    pub(super) is_done: bool,
    pub(super) text: Option<u32>,
    pub(super) refusal: Option<u32>,
    /// How many annotations.
    pub(super) cited: usize,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Message,
    Call,
    Reasoning,
    /// None of those that the contract has parts for.
    Other,
}

/// An entry of an item's content: the item, and the entry in it.
pub(super) type Spot = (u32, u32);

/// A piece of reasoning: an entry of the summary, or of the content.
pub(super) type Section = (bool, u32);

impl Kind {
    /// What an item says that it is.
    pub(super) fn of(item: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        struct Typed<'a> {
            #[serde(borrow, default)]
            r#type: Option<Str<'a>>,
        }
        let item: Typed<'_> = serde_json::from_str(item.get()).unwrap_or_default();
        match item.r#type.as_deref() {
            Some("message") => Self::Message,
            Some("function_call") => Self::Call,
            Some("reasoning") => Self::Reasoning,
            _ => Self::Other,
        }
    }
}

impl ItemState {
    /// Whether anything of it is told but that it exists.
    pub(super) fn says(&self) -> bool {
        self.is_done || self.call.is_some() || self.reasoning.is_some() || !self.entries.is_empty()
    }

    /// What is told of an entry of its content.
    pub(super) fn entry(&mut self, index: u32) -> &mut EntryState {
        self.entries.entry(index).or_default()
    }
}

/// Where the items of a whole answer stand among those of its stream, in order. Mostly that is the same place. A speaker that numbers them
/// in another way, or leaves some out of either, keeps the order of each kind: the first message is the first message.
pub(super) fn places(told: &Items, whole: &[&RawValue]) -> Vec<u32> {
    let kinds: Vec<Kind> = whole.iter().map(|item| Kind::of(item)).collect();
    let is_at_home = |(place, state): (&u32, &ItemState)| {
        let there = usize::try_from(*place).ok().and_then(|place| kinds.get(place));
        there.is_some_and(|there| state.kind.is_none_or(|kind| kind == *there))
    };
    if told.iter().all(is_at_home) {
        return (0..).zip(whole).map(|(place, _)| place).collect();
    }
    let mut of_kind: HashMap<Kind, Vec<u32>> = HashMap::new();
    for (place, kind) in told.iter().rev().filter_map(|(place, state)| Some((*place, state.kind?))) {
        of_kind.entry(kind).or_default().push(place);
    }
    let mut fresh = told.keys().next_back().map_or(0, |last| last.saturating_add(1));
    let mut place_of = |kind: Kind| {
        of_kind.get_mut(&kind).and_then(Vec::pop).unwrap_or_else(|| {
            fresh = fresh.saturating_add(1);
            fresh - 1
        })
    };
    kinds.into_iter().map(&mut place_of).collect()
}
