//! What is looked up of silences, and the name under which Alertmanager's clients know us.

use super::{Metrics, register};
use crate::telemetry::gauges::{signed, vector};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// Silences at the moment of the exposition.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    /// Those that do not hold yet, or not now.
    pub pending: u64,
    /// Those that hold.
    pub active: u64,
    /// Active ones that have matched no alert.
    pub matching_nothing: u64,
    /// Active ones that end soon while alerts that they hold fire.
    pub expiring: u64,
}

impl Silences {
    pub(in crate::telemetry) fn families(&self) -> Vec<MetricFamily> {
        let silences = vector("watchkeeper_silences", "Silences by state", &["state"]);
        for (state, count) in [
            ("pending", self.pending),
            ("active", self.active),
            ("matching_nothing", self.matching_nothing),
            ("expiring", self.expiring),
        ] {
            silences.with_label_values(&[state]).set(signed(count));
        }
        silences.collect()
    }
}

impl Metrics {
    /// Says that an Alertmanager of this version is here: Karma asks before it talks to one. May be
    /// called once.
    pub fn stand_as_alertmanager(&self, version: &str) {
        let labels = ["version", "revision", "branch", "goversion"];
        let options = Opts::new("alertmanager_build_info", "The Alertmanager that we stand for");
        let build = register(&self.inner.registry, IntGaugeVec::new(options, &labels));
        let revision = env!("CARGO_PKG_VERSION");
        build.with_label_values(&[version, revision, "watchkeeper", "none"]).set(1);
    }
}
