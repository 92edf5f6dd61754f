//! What outlives a reload that leaves alone what it rests on: found again by that, and forgotten when nobody uses it any more.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// What is kept, by what it rests on.
#[derive(Debug)]
pub(super) struct Kept<K, T>(Mutex<HashMap<K, Weak<T>>>);

impl<K: Eq + Hash, T> Kept<K, T> {
    /// That of before, or a new one.
    pub(super) fn of(&self, key: K, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = known.get(&key).and_then(Weak::upgrade) {
            return kept;
        }
        let made = Arc::new(make());
        known.retain(|_, kept| kept.strong_count() > 0);
        known.insert(key, Arc::downgrade(&made));
        made
    }
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_found_again_and_what_nobody_uses_is_forgotten() {
        let kept = Kept::default();
        let (first, second) = (kept.of("a", || 1), kept.of("b", || 2));
        assert!(Arc::ptr_eq(&first, &kept.of("a", || 3)) && !Arc::ptr_eq(&first, &second));
        drop(first);
        assert_eq!((*kept.of("a", || 3), *kept.of("b", || 4)), (3, 2));
        drop(second);
        kept.of("c", || 5);
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }
}
