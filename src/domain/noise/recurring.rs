//! Which alerts of a rule fire again and again, found in little room.
//!
//! The counters are those of Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and
//! Top-k Elements in Data Streams" (2005): an alert without a counter takes over the lowest one.
//! What fires more often than one in [`KEPT_MAX`] times is always found.

use crate::domain::label::Fingerprint;
use serde::{Deserialize, Serialize};

/// How many alerts of a rule are counted at once.
const KEPT_MAX: usize = 16;

/// The counters of a rule's alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recurring(Vec<Series>);

/// How often an alert fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Which.
    pub fingerprint: Fingerprint,
    /// At most so often.
    pub count: u64,
    /// At most so many of them were those of others, whose counter it took over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub taken_over: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Series {
    /// It fired at least so often.
    pub fn certain(&self) -> u64 {
        self.count - self.taken_over
    }
}

impl Recurring {
    /// Counts one.
    pub(super) fn count(&mut self, fingerprint: Fingerprint) {
        if let Some(known) = self.0.iter_mut().find(|it| it.fingerprint == fingerprint) {
            known.count += 1;
        } else if self.0.len() < KEPT_MAX {
            self.0.push(Series { fingerprint, count: 1, taken_over: 0 });
        } else if let Some(lowest) = self.0.iter_mut().min_by_key(|it| it.count) {
            let taken_over = lowest.count;
            *lowest = Series { fingerprint, count: taken_over + 1, taken_over };
        }
    }

    /// All that have a counter.
    pub fn iter(&self) -> impl Iterator<Item = &Series> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_certain_is_true_and_what_is_frequent_is_found(
            fired in proptest::collection::vec(prop_oneof![3 => 0_u64..4, 2 => 0_u64..60], 0..400),
        ) {
            let mut recurring = Recurring::default();
            for it in &fired {
                recurring.count(Fingerprint(*it));
            }
            for one in 0..60 {
                let truth = fired.iter().filter(|it| **it == one).count() as u64;
                let found = recurring.iter().find(|it| it.fingerprint.0 == one);
                if let Some(found) = found {
                    prop_assert!(found.certain() <= truth && truth <= found.count);
                } else {
                    prop_assert!(truth * KEPT_MAX as u64 <= fired.len() as u64);
                }
            }
        }
    }
}
