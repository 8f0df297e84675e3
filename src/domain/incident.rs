//! Incidents: unplanned interruptions that people, or runbooks, work on.

mod life;
mod lock;
mod major;
mod orders;

pub(super) use life::Opening;
pub(super) use orders::Parting;

use super::cause::{RootCause, SuspectChange};
use super::event::CorrelationDomain;
use super::execution::ExecutionId;
use super::impact::Impacted;
use super::label::{Fingerprint, Labels};
use super::problem::ProblemId;
use super::rules::RuleRef;
use super::service_level::SlaClock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

super::numbered_id!(
    /// The number of an incident; printed `INC-42`.
    IncidentId,
    "INC"
);

/// How bad something is; from an alert's `severity` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will become bad.
    Warning,
    /// Something fails.
    Error,
    /// Users suffer now.
    Critical,
}

impl Severity {
    /// Reads a `severity` label as operators write it; what is unknown or absent is a warning.
    pub fn from_label(value: Option<&str>) -> Self {
        match value.unwrap_or_default().to_ascii_lowercase().as_str() {
            "critical" | "crit" | "page" | "high" | "fatal" | "emergency" | "alert" => {
                Self::Critical
            }
            "error" | "err" | "major" => Self::Error,
            "info" | "information" | "informational" | "debug" | "none" => Self::Info,
            _ => Self::Warning,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// How soon to act, `P1` to `P5`: impact plus urgency minus 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// From impact and urgency, 1 to 3 each; what lies outside is moved to the edge.
    pub fn new(impact: u8, urgency: u8) -> Self {
        Self(impact.clamp(1, 3) + urgency.clamp(1, 3) - 1)
    }

    /// 1 to 5.
    pub fn number(self) -> u8 {
        self.0
    }

    /// `P1` to `P5`.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            1 => "P1",
            2 => "P2",
            3 => "P3",
            4 => "P4",
            _ => "P5",
        }
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('P').and_then(|it| it.parse().ok()) {
            Some(number @ 1..=5) => Ok(Self(number)),
            _ => Err(format!("a priority is `P1` to `P5`, not `{text}`")),
        }
    }
}

impl Serialize for Priority {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where an incident is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Nobody has said that they look after it.
    Open,
    /// Somebody looks after it.
    Acknowledged,
    /// It is over; an alert within the reopen window opens it again.
    Resolved,
    /// It is over for good.
    Closed,
}

impl IncidentState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }

    /// Whether people still work on it.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged)
    }
}

/// An unplanned interruption. Its members and its timeline are kept beside it, because they grow
/// with the storm while this stays small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The part of the key space that it belongs to.
    pub correlation_domain: CorrelationDomain,
    /// What it is called.
    pub title: String,
    /// The worst severity of its alerts so far.
    pub severity: Severity,
    /// 1 (wide) to 3 (narrow).
    pub impact: u8,
    /// 1 (soon) to 3 (later).
    pub urgency: u8,
    /// From impact and urgency.
    pub priority: Priority,
    /// Where it is in its life.
    pub state: IncidentState,
    /// The services that its alerts name.
    pub services: BTreeSet<String>,
    /// Who looks after it.
    pub owner: Option<String>,
    /// When it was opened first.
    pub opened_at: Timestamp,
    /// When somebody first said that they look after it.
    pub acknowledged_at: Option<Timestamp>,
    /// When it was last resolved.
    pub resolved_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// When an alert last joined.
    pub last_joined_at: Timestamp,
    /// How many alerts are or were members.
    pub alert_count: u64,
    /// How many of its members are firing now.
    pub firing_count: u64,
    /// How often it was opened again.
    pub reopen_count: u32,
    /// The time between its resolutions and the openings that followed, in milliseconds; it
    /// counts for no promise.
    #[serde(default)]
    pub paused_milliseconds: i64,
    /// The part of that before `acknowledged_at`.
    #[serde(default)]
    pub paused_before_acknowledged_milliseconds: i64,
    /// The labels of the alert that opened it; rules about the incident match on these.
    pub labels: Labels,
    /// The annotations of the alert that opened it.
    pub annotations: Labels,
    /// The first alert.
    pub first_alert: Fingerprint,
    /// The values of the rule's `group_by` labels.
    pub group: Labels,
    /// The rule that opened it.
    pub opened_by: Arc<RuleRef>,
    /// Seconds after its resolution until it is closed.
    pub reopen_within_seconds: u32,
    /// Why it was opened, in a sentence.
    pub why: String,
    /// What its alerts tell of, in order of appearance, and not more than some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symptoms: Vec<Symptom>,
    /// Where it may have begun, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_causes: Vec<RootCause>,
    /// The changes that may have caused it, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspect_changes: Vec<SuspectChange>,
    /// What may suffer from it; `None` = its alerts are about no item of the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impacted: Option<Box<Impacted>>,
    /// Clocks of its SLA policy.
    pub sla: Vec<SlaClock>,
    /// Runs of runbooks for it.
    pub executions: Vec<ExecutionId>,
    /// The problem that it is an instance of.
    pub problem: Option<ProblemId>,
    /// Whether a person, or a runbook, did something about it.
    #[serde(default)]
    pub acted_on: bool,
    /// The major incident that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<IncidentId>,
    /// The incidents that are part of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub children: BTreeSet<IncidentId>,
    /// Who locked it: only its own alerts come back to it, and no others join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_by: Option<String>,
    /// The incident that took its alerts.
    pub merged_into: Option<IncidentId>,
    /// It was split off another; the group's new alerts go to the other, and the two stay two.
    #[serde(default)]
    pub is_split: bool,
    /// People merged others into it, or split it: it is as they want it to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_arranged: bool,
    /// When to look whether it holds two, since an alert of it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_for_parts_at: Option<Timestamp>,
    /// The younger incidents for which alerts spoke that belong to this one as well, with these alerts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bridges: BTreeMap<IncidentId, BTreeSet<Fingerprint>>,
}

impl Incident {
    /// Since when all its alerts are over, or a person said so; `None` while it is not.
    pub fn over_since(&self) -> Option<Timestamp> {
        self.resolved_at.filter(|_| self.state == IncidentState::Resolved)
    }
}

/// What alerts of one name tell of one place; kept with an incident when its alerts are gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Symptom {
    /// The alert's name; empty if it has none.
    pub alertname: String,
    /// The item that it is about first of all, or whatever place it names; empty if none.
    pub place: String,
}

/// So many symptoms of an incident are kept, the first ones: they tell where it began.
const SYMPTOMS_MAX: usize = 64;

/// Adds a symptom that is not known yet.
pub(super) fn note_symptom(symptoms: &mut Vec<Symptom>, alertname: &str, place: &str) {
    let is_known = || symptoms.iter().any(|it| it.alertname == alertname && it.place == place);
    if symptoms.len() < SYMPTOMS_MAX && !is_known() {
        symptoms.push(Symptom { alertname: alertname.to_owned(), place: place.to_owned() });
    }
}

/// Something that happened to an incident, problem or execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What kind of thing: `opened`, `joined`, `acknowledged`, `note`, `execution`, `sla`, …
    pub kind: String,
    /// Who; empty = the daemon.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What, in a sentence.
    pub text: String,
    /// The alerts that joined or left with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Fingerprint>,
}

impl TimelineEntry {
    /// An entry; without a name it is the daemon that did it.
    pub(super) fn new(at: Timestamp, kind: &str, by: &str, text: String) -> Self {
        Self { at, kind: kind.to_owned(), by: by.to_owned(), text, alerts: Vec::new() }
    }

    /// An entry about alerts that joined or left.
    pub(super) fn about(at: Timestamp, kind: &str, text: String, alerts: Vec<Fingerprint>) -> Self {
        Self { at, kind: kind.to_owned(), by: String::new(), text, alerts }
    }
}
