//! An alert as a rule of Prometheus keeps it: when it began, and when it was resolved.

use crate::alerts::{Times, mix};

/// One series, from its first evaluation on.
pub(super) struct Series {
    /// Its number.
    pub(super) id: u64,
    starts_at: u64,
    resolved_at: Option<u64>,
}

impl Series {
    /// Not evaluated yet.
    pub(super) fn new(id: u64) -> Self {
        Self { id, starts_at: 0, resolved_at: None }
    }

    /// Begins to fire with the first evaluation; later so many of 1,000 are resolved, or fire again,
    /// chosen by seed, series and evaluation. `now` is in milliseconds since 1970.
    pub(super) fn evaluate(&mut self, seed: u64, evaluation: u64, (now, changes): (u64, u64)) {
        let changes = mix(seed ^ mix(self.id) ^ mix(evaluation << 40)) % 1000 < changes;
        if evaluation == 0 || (changes && self.resolved_at.is_some()) {
            self.starts_at = now;
            self.resolved_at = None;
        } else if changes {
            self.resolved_at = Some(now);
        }
    }

    /// What is sent, and whether it fires: the end of a firing alert is `lead` milliseconds ahead.
    pub(super) fn report(&self, now: u64, lead: u64) -> (Times, bool) {
        let ends_at = self.resolved_at.unwrap_or(now + lead);
        (Times { starts_at: self.starts_at, ends_at }, self.resolved_at.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_resolved_and_fires_again() {
        let mut series = Series::new(1);
        series.evaluate(1, 0, (1000, 0));
        assert_eq!(series.report(1000, 24), (Times { starts_at: 1000, ends_at: 1024 }, true));
        series.evaluate(1, 1, (2000, 0));
        assert_eq!(series.report(2000, 24), (Times { starts_at: 1000, ends_at: 2024 }, true));
        series.evaluate(1, 2, (3000, 1000));
        assert_eq!(series.report(3500, 24), (Times { starts_at: 1000, ends_at: 3000 }, false));
        series.evaluate(1, 3, (4000, 1000));
        assert_eq!(series.report(4000, 24), (Times { starts_at: 4000, ends_at: 4024 }, true));
    }
}
