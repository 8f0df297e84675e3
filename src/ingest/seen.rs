//! Remembers which deliveries were taken, by the numbers that their senders give them: what is
//! delivered once more, long after, must not make fire again what is over.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

/// How many deliveries are remembered, until the next start.
const DELIVERIES_MAX: usize = 65_536;

/// The deliveries that were taken last.
pub(super) struct Seen {
    /// Keyed with random numbers, so that nobody can craft two deliveries with one hash.
    hasher: RandomState,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

/// A delivery by its sender's number.
pub(super) type Number<'a> = (&'a str, &'a str);

impl Seen {
    /// Has seen nothing yet.
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), last: Mutex::default() }
    }

    /// Whether a delivery was taken before.
    pub(super) fn has(&self, number: Number<'_>) -> bool {
        let hash = self.hasher.hash_one(number);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&hash)
    }

    /// Remembers a delivery that was taken. Two that come at the same time are both taken: the second
    /// says nothing that is not known.
    pub(super) fn remember(&self, number: Number<'_>) {
        let hash = self.hasher.hash_one(number);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.known.insert(hash) {
            last.order.push_back(hash);
        }
        if last.order.len() > DELIVERIES_MAX
            && let Some(oldest) = last.order.pop_front()
        {
            last.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_deliveries_are_known_again() {
        let seen = Seen::new();
        for number in 0..=DELIVERIES_MAX {
            let number = number.to_string();
            assert!(!seen.has(("source", &number)));
            seen.remember(("source", &number));
            seen.remember(("source", &number));
        }
        assert!(!seen.has(("source", "0")), "the oldest is forgotten");
        assert!(seen.has(("source", "1")) && !seen.has(("other", "1")));
        assert_eq!(seen.last.lock().unwrap().known.len(), DELIVERIES_MAX);
    }
}
