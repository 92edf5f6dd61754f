//! What a stream has told of the items of an answer, so that what says them again adds only what is missing.
//!
//! Items are known by their kind and their place in the answer. Not all speakers number them well: some give reasoning and the message after
//! it one place, some give all the same or none. So the kind goes with the place, which an event's name or its item tells; and where places
//! are missing, or one has several items of a kind, their ids tell them apart. Ids alone would not do: some make up one for each event.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::Str;

/// The most items of a stream.
const MOST: usize = 4_096;

/// The items so far, by the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Items(BTreeMap<u32, ItemState>);

/// What is told of one item.
#[derive(Debug, Default)]
pub(super) struct ItemState {
    known: Known,
    pub(super) is_done: bool,
    pub(super) entries: BTreeMap<u32, EntryState>,
    pub(super) call: Option<u32>,
    pub(super) has_arguments: bool,
    pub(super) reasoning: Option<u32>,
    /// The piece of reasoning that is being told.
    pub(super) section: Option<Section>,
    pub(super) sections: BTreeSet<Section>,
}

/// By what an item is known.
#[derive(Debug, Default)]
struct Known {
    kind: Kind,
    index: Option<u32>,
    id: String,
    call_id: String,
    /// Whether its head was told.
    is_begun: bool,
    /// Whether its events name it in more than one way.
    is_mixed: bool,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Call,
    Reasoning,
    /// None of those that the contract has parts for.
    #[default]
    Other,
}

/// Which item an event is about.
#[derive(Debug, Default)]
pub(super) struct About<'a> {
    pub(super) kind: Kind,
    /// Its place in the answer, if the event says it.
    pub(super) index: Option<u32>,
    pub(super) id: Str<'a>,
    pub(super) call_id: Str<'a>,
    /// Whether the event is the head of an item.
    pub(super) begins: bool,
}

/// An entry of an item's content: the item, and the entry in it.
pub(super) type Spot = (u32, u32);

/// A piece of reasoning: an entry of the summary, or of the content.
pub(super) type Section = (bool, u32);

impl<'a> About<'a> {
    /// What an item says of itself.
    pub(super) fn item(item: &'a RawValue, index: Option<u32>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Head<'a> {
            #[serde(borrow)]
            r#type: Option<Str<'a>>,
            #[serde(borrow)]
            id: Option<Str<'a>>,
            #[serde(borrow)]
            call_id: Option<Str<'a>>,
        }
        let Head { r#type, id, call_id } = serde_json::from_str(item.get()).unwrap_or_default();
        let kind = match r#type.as_deref() {
            Some("message") => Kind::Message,
            Some("function_call") => Kind::Call,
            Some("reasoning") => Kind::Reasoning,
            _ => Kind::Other,
        };
        Self { kind, index, id: id.unwrap_or_default(), call_id: call_id.unwrap_or_default(), begins: false }
    }
}

impl ItemState {
    /// Whether anything of it is told but that it exists.
    fn says(&self) -> bool {
        self.is_done || self.call.is_some() || self.reasoning.is_some() || self.entries.values().any(EntryState::says)
    }

    /// What is told of an entry of its content.
    pub(super) fn entry(&mut self, index: u32) -> &mut EntryState {
        self.entries.entry(index).or_default()
    }

    /// Whether an event near it that does not name it is about it all the same, and not about another item of the kind.
    fn goes_on(&mut self, about: &About<'_>) -> bool {
        let is_over = self.is_done || (about.begins && self.known.is_begun);
        let is_placed = self.known.index.is_some() && about.index.is_some();
        match self.known.is_named(about) {
            Some(false) if is_placed => {
                self.known.is_mixed |= !is_over;
                self.known.is_mixed
            }
            Some(false) => false,
            _ => is_placed || !is_over,
        }
    }
}

impl Known {
    /// Whether it is of that kind and may be at that place.
    fn is_near(&self, about: &About<'_>) -> bool {
        let is_elsewhere = self.index.zip(about.index).is_some_and(|(own, told)| own != told);
        self.kind == about.kind && !is_elsewhere
    }

    /// Whether it has that name; `None` when one of the two has none.
    fn is_named(&self, about: &About<'_>) -> Option<bool> {
        let told = [&*about.call_id, &*about.id];
        let own = [&*self.call_id, &*self.id];
        if !told[0].is_empty() && !own[0].is_empty() {
            return Some(told[0] == own[0]);
        }
        let is_name = |name: &&str| !name.is_empty();
        let knows_both = told.iter().any(is_name) && own.iter().any(is_name);
        knows_both.then(|| told.iter().filter(|name| is_name(name)).any(|name| own.contains(name)))
    }

    /// Takes what an event says of it.
    fn learn(&mut self, about: &About<'_>) {
        self.is_begun |= about.begins;
        self.index = self.index.or(about.index);
        for (own, told) in [(&mut self.id, &about.id), (&mut self.call_id, &about.call_id)] {
            if own.is_empty() {
                own.push_str(told);
            }
        }
    }
}

impl EntryState {
    fn says(&self) -> bool {
        self.is_done || self.text.is_some() || self.refusal.is_some() || self.cited > 0
    }
}

impl Items {
    /// What is told of an item.
    pub(super) fn state(&mut self, item: u32) -> &mut ItemState {
        self.0.entry(item).or_default()
    }

    /// Whether there are more than any answer has: each event is held against all of them.
    pub(super) fn are_too_many(&self) -> bool {
        self.0.len() > MOST
    }

    /// Whether anything is told.
    pub(super) fn says(&self) -> bool {
        self.0.values().any(ItemState::says)
    }

    /// The item that an event is about; a new one, if it is none of those so far.
    pub(super) fn of(&mut self, about: &About<'_>) -> u32 {
        let item = self.named(about).or_else(|| {
            let (item, state) = self.0.iter_mut().rev().find(|(_, state)| state.known.is_near(about))?;
            state.goes_on(about).then_some(*item)
        });
        let item = item.unwrap_or_else(|| self.add(about.kind));
        self.state(item).known.learn(about);
        item
    }

    /// As [`Items::of`], for an event that can begin nothing: the item that it is most likely about.
    pub(super) fn likely(&self, about: &About<'_>) -> Option<u32> {
        self.named(about).or_else(|| Some(*self.0.iter().rev().find(|(_, state)| state.known.is_near(about))?.0))
    }

    /// Which of the items so far those of the whole answer are, in order: new ones where they were not told. `None` is for what may have been
    /// told: of its kind something was that cannot be found again.
    ///
    /// Mostly they have the same names or stand at the same places. A speaker that changes both, or leaves items out of either, keeps the
    /// order of each kind: the first message is the first message.
    pub(super) fn again(&mut self, whole: &[&RawValue]) -> Vec<Option<u32>> {
        let abouts: Vec<About<'_>> = (0..).zip(whole).map(|(place, item)| About::item(item, Some(place))).collect();
        let mut left: BTreeSet<u32> = self.0.keys().copied().collect();
        let mut take = |items: &Self, fits: &dyn Fn(&ItemState) -> bool| {
            let item = left.iter().copied().find(|item| items.0.get(item).is_some_and(fits))?;
            left.remove(&item).then_some(item)
        };
        let is_home = self.is_home(&abouts);
        let by_name = |about: &About<'_>| take(self, &|state| state.known.kind == about.kind && state.known.is_named(about) == Some(true));
        let mut found: Vec<Option<u32>> = abouts.iter().map(by_name).collect();
        for (found, about) in found.iter_mut().zip(&abouts).filter(|(found, _)| is_home && found.is_none()) {
            *found = take(self, &|state| state.known.kind == about.kind && state.known.index == about.index);
        }
        let sure: BTreeSet<u32> = found.iter().flatten().copied().collect();
        // What is added from here on was not told.
        let told = self.0.len();
        for (found, about) in found.iter_mut().zip(&abouts).filter(|(found, _)| found.is_none()) {
            let is_doubtful = |(item, state): (&u32, &ItemState)| {
                let is_lost = state.known.is_mixed || !sure.contains(item) || state.known.is_named(about) == Some(true);
                state.known.kind == about.kind && state.says() && is_lost
            };
            *found = match take(self, &|state| state.known.kind == about.kind) {
                None if self.0.iter().take(told).any(is_doubtful) => None,
                None => Some(self.add(about.kind)),
                item => item,
            };
        }
        found
    }

    /// Whether each item stands in the whole answer where it was told, and none shares its place.
    fn is_home(&self, whole: &[About<'_>]) -> bool {
        let mut taken = BTreeSet::new();
        self.0.values().all(|state| {
            let there = whole.iter().find(|about| about.index == state.known.index);
            there.is_some_and(|there| there.kind == state.known.kind) && taken.insert(state.known.index)
        })
    }

    fn named(&self, about: &About<'_>) -> Option<u32> {
        let is_it = |state: &ItemState| state.known.is_near(about) && state.known.is_named(about) == Some(true);
        self.0.iter().rev().find(|(_, state)| is_it(state)).map(|(item, _)| *item)
    }

    fn add(&mut self, kind: Kind) -> u32 {
        let item = self.0.keys().next_back().map_or(0, |last| last.saturating_add(1));
        self.state(item).known.kind = kind;
        item
    }
}
