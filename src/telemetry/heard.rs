//! What is counted of those who must be heard from.

use super::metrics::register;
use crate::domain::heartbeat::Signal;
use prometheus::{IntCounterVec, Opts, Registry};

/// Signs of life.
pub(super) struct Heard {
    pings: IntCounterVec,
}

impl Heard {
    pub(super) fn new(registry: &Registry) -> Self {
        let name = "watchkeeper_heartbeat_pings_total";
        let options = Opts::new(name, "Signs of life, by what they say");
        let pings = register(registry, IntCounterVec::new(options, &["signal"]));
        for signal in Signal::WORDS {
            pings.with_label_values(&[signal]).inc_by(0);
        }
        Self { pings }
    }

    /// Counts a sign of life.
    pub(super) fn pinged(&self, signal: Signal) {
        self.pings.with_label_values(&[signal.as_str()]).inc();
    }
}
