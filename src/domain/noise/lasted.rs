//! How long things lasted: a small histogram that gives the median to within a sixteenth.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Below so many seconds each has a step of its own.
const EXACT_SECONDS: u64 = 16;
/// Above, each doubling has eight steps: so many bits after the first tell the step.
const STEP_BITS: u32 = 3;

/// Counts by steps of time. A step is at most an eighth as wide as it begins, and stands for its
/// middle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lasted(BTreeMap<u8, u64>);

impl Lasted {
    /// Counts one that lasted so long.
    pub(super) fn note(&mut self, seconds: u64) {
        *self.0.entry(step_of(seconds)).or_default() += 1;
    }

    /// Adds the counts of another.
    pub(super) fn add(&mut self, other: &Self) {
        for (step, count) in &other.0 {
            *self.0.entry(*step).or_default() += count;
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The median, in seconds; of two in the middle the lower one. `None` = nothing was counted.
    pub fn median_seconds(&self) -> Option<u64> {
        let middle = self.count().checked_sub(1)? / 2;
        let mut before = 0;
        let step = self.0.iter().find(|(_, count)| {
            before += **count;
            before > middle
        });
        step.map(|(step, _)| middle_of(*step))
    }
}

fn step_of(seconds: u64) -> u8 {
    let seconds = seconds.min(u64::from(u32::MAX));
    let step = if seconds < EXACT_SECONDS {
        seconds
    } else {
        let doublings = seconds.ilog2();
        let within = (seconds >> (doublings - STEP_BITS)) - (1 << STEP_BITS);
        let first = u64::from(doublings - EXACT_SECONDS.ilog2()) << STEP_BITS;
        EXACT_SECONDS + first + within
    };
    u8::try_from(step).unwrap_or(u8::MAX)
}

fn middle_of(step: u8) -> u64 {
    let Some(beyond) = u64::from(step).checked_sub(EXACT_SECONDS) else { return step.into() };
    let (doubling, within) = (beyond >> STEP_BITS, beyond & ((1 << STEP_BITS) - 1));
    // The width of a step doubles with what it stands for.
    let width = 1 << (doubling + 1);
    ((1 << STEP_BITS) + within) * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_is_the_lower_one_in_the_middle() {
        for (seconds, expected) in [
            (&[][..], None),
            (&[7], Some(7)),
            (&[1, 2, 3, 900], Some(2)),
            (&[0, 0, 5], Some(0)),
            (&[300, 300, 2], Some(304)),
        ] {
            let mut lasted = Lasted::default();
            for it in seconds {
                lasted.note(*it);
            }
            assert_eq!(lasted.median_seconds(), expected, "{seconds:?}");
        }
    }

    proptest! {
        #[test]
        fn a_step_is_near_what_it_stands_for(seconds in 0_u64..=u32::MAX.into(), more in 0_u64..1000) {
            let told = middle_of(step_of(seconds));
            prop_assert!(told.abs_diff(seconds) * 16 <= seconds, "{seconds} became {told}");
            prop_assert!(step_of(seconds) <= step_of(seconds + more));
            prop_assert!(step_of(u64::MAX) < u8::MAX);
        }
    }
}
