//! What rules say of holding alerts back: silences, inhibition, maintenance windows.

use super::RuleRef;
use crate::domain::item::Topology;
use crate::domain::matcher::Matchers;
use crate::domain::time_interval::TimeIntervals;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A silence written in a file. Its id is `rule.name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold for an alert to be silenced.
    pub matchers: Matchers,
    /// Who wants it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// If any, it holds only within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
}

/// Which alerts hold back others, as in Alertmanager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inhibition {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold on the alert that inhibits.
    pub source_matchers: Matchers,
    /// All must hold on the alert that is inhibited.
    pub target_matchers: Matchers,
    /// Labels of the source and of the target that must have equal values; an absent label counts
    /// as empty. No label of the target stands twice.
    pub equal: Vec<(String, String)>,
    /// What the target is about must need, or be, what the source is about; `None` = it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// A target goes on its way when no source has fired for this long, in seconds.
    #[serde(default)]
    pub wait_seconds: u32,
}

/// When alerts are expected, because somebody works on the thing. It has `time_intervals`, or a
/// start and an end, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// All must hold for an alert to be expected.
    pub matchers: Matchers,
    /// Who does it.
    pub owner: String,
    /// What is done.
    pub reason: String,
    /// From when on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Until when.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// If any, only within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
    /// It begins, within its time, with the first alert that begins to fire, and lasts so many
    /// seconds; `None` = it lasts as long as its time.
    #[serde(default)]
    pub flexible_seconds: Option<u32>,
}
