//! What is counted of changes.

use super::register;
use crate::domain::change::ChangeKind;
use prometheus::{IntCounterVec, Opts, Registry};

/// Changes, by kind.
pub(super) struct Changes {
    told: IntCounterVec,
    in_freeze: IntCounterVec,
}

impl Changes {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            register(registry, IntCounterVec::new(Opts::new(name, help), &["kind"]))
        };
        Self {
            told: counter("watchkeeper_changes_total", "Changes that were told of, each once"),
            in_freeze: counter(
                "watchkeeper_changes_in_freeze_total",
                "Changes that began in a freeze that does not allow their kind",
            ),
        }
    }

    /// One was told of for the first time.
    pub(super) fn told(&self, kind: ChangeKind) {
        self.told.with_label_values(&[kind.as_str()]).inc();
    }

    /// One began in a freeze that does not allow it.
    pub(super) fn in_freeze(&self, kind: ChangeKind) {
        self.in_freeze.with_label_values(&[kind.as_str()]).inc();
    }
}
