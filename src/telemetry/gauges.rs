//! What is looked up at the moment of the exposition, and the names under which it stands there.

use super::metrics::{PRIORITIES, Silences};
use crate::domain::heartbeat::HeartbeatState;
use crate::domain::incident::IncidentState;
use crate::domain::problem::ProblemState;
use crate::domain::service_level::{ClockState, TargetKind};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is looked up at the moment of the exposition.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Alerts that fire.
    pub alerts_active: u64,
    /// Silences by state.
    pub silences: Silences,
    /// Active incidents by priority and state.
    pub incidents_open: BTreeMap<(&'static str, IncidentState), u64>,
    /// SLA clocks of incidents that are not closed.
    pub sla_clocks: BTreeMap<(Arc<str>, TargetKind, ClockState), u64>,
    /// Problems by state.
    pub problems: BTreeMap<ProblemState, u64>,
    /// Heartbeats by state.
    pub heartbeats: BTreeMap<HeartbeatState, u64>,
    /// The size of the store's files, in bytes.
    pub log_bytes: u64,
    /// Effects that are planned or under way.
    pub effects_pending: u64,
    /// Whether runbooks are stopped.
    pub runbooks_stopped: bool,
}

impl Gauges {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let incidents =
            vector("watchkeeper_incidents_open", "Active incidents", &["priority", "state"]);
        for priority in PRIORITIES {
            for state in [IncidentState::Open, IncidentState::Acknowledged] {
                let count = self.incidents_open.get(&(priority, state)).copied().unwrap_or(0);
                incidents.with_label_values(&[priority, state.as_str()]).set(signed(count));
            }
        }
        let clocks = vector(
            "watchkeeper_sla_clocks",
            "SLA clocks of incidents that are not closed",
            &["policy", "target", "state"],
        );
        for (policy, target) in self.sla_clocks.keys().map(|(policy, target, _)| (policy, target)) {
            for state in ClockState::ALL {
                let key = (policy.clone(), *target, state);
                let count = self.sla_clocks.get(&key).copied().unwrap_or(0);
                let labels = [&**policy, target.as_str(), state.as_str()];
                clocks.with_label_values(&labels).set(signed(count));
            }
        }
        let problems = vector("watchkeeper_problems", "Problems by state", &["state"]);
        for state in ProblemState::ALL {
            let count = self.problems.get(&state).copied().unwrap_or(0);
            problems.with_label_values(&[state.as_str()]).set(signed(count));
        }
        let heartbeats = vector("watchkeeper_heartbeats", "Heartbeats by state", &["state"]);
        for state in HeartbeatState::ALL {
            let count = self.heartbeats.get(&state).copied().unwrap_or(0);
            heartbeats.with_label_values(&[state.as_str()]).set(signed(count));
        }
        let vectors = [incidents, clocks, problems, heartbeats];
        let mut families = vectors.map(|it| it.collect()).concat();
        families.extend(self.silences.families());
        families.retain(|it| !it.get_metric().is_empty());
        let plain = [
            ("watchkeeper_alerts_active", "Alerts that fire", self.alerts_active),
            ("watchkeeper_log_bytes", "The size of the store's files", self.log_bytes),
            ("watchkeeper_effects_pending", "Effects planned or under way", self.effects_pending),
            (
                "watchkeeper_runbooks_stopped",
                "1 while no runbook may start",
                u64::from(self.runbooks_stopped),
            ),
        ];
        for (name, help, value) in plain {
            let gauge = IntGauge::new(name, help).expect("names in this file are well-formed");
            gauge.set(signed(value));
            families.extend(gauge.collect());
        }
        families
    }
}

pub(super) fn vector(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("names in this file are well-formed")
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
