//! Latencies: gathered in a histogram, reported in milliseconds.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest latency that is told from longer ones: 10 minutes, in microseconds.
const LONGEST_MICROSECONDS: u64 = 600_000_000;

/// Latencies of many requests, to three significant digits.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Begins with none.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_MICROSECONDS, 3).expect("the bounds are valid"))
    }

    /// Takes in one.
    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The usual quantiles, in milliseconds.
    pub(crate) fn report(&self) -> Value {
        let milliseconds = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "count": self.0.len(), "mean": self.0.mean() / 1000.0,
            "p50": milliseconds(0.5), "p99": milliseconds(0.99), "p99_9": milliseconds(0.999),
            "max": self.0.max() as f64 / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut latencies = Latencies::new();
        for milliseconds in 1..=100 {
            latencies.record(Duration::from_millis(milliseconds));
        }
        let report = latencies.report();
        for (key, expected) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
            let found = report[key].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 0.01, "{key}: {found}");
        }
    }
}
