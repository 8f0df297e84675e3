//! The bodies of REST, for files that hold the same.

use super::{executions, explain, incidents, problems};
use crate::domain::alert::Alert;
use crate::domain::execution::Execution;
use crate::domain::incident::{Incident, TimelineEntry};
use crate::domain::label::Fingerprint;
use crate::domain::problem::Problem;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// An incident with its timeline, as `GET /api/v1/incidents/INC-1` answers. `members` are those of
/// one that is open; of one that is closed its timeline tells them.
pub fn incident(
    incident: &Incident,
    members: Option<&BTreeSet<Fingerprint>>,
    timeline: Vec<TimelineEntry>,
    now: Timestamp,
) -> serde_json::Result<Value> {
    serde_json::to_value(incidents::body(incident, members.cloned(), timeline, now))
}

/// A problem, as `GET /api/v1/problems/PRB-1` answers.
pub fn problem(problem: &Problem) -> serde_json::Result<Value> {
    serde_json::to_value(problems::view(problem))
}

/// A run of a runbook, as `GET /api/v1/executions/EXE-1` answers.
pub fn execution(execution: &Execution) -> serde_json::Result<Value> {
    serde_json::to_value(executions::view(execution))
}

/// What was decided when an alert last began to fire, and why, in a sentence.
pub fn why_decided(alert: &Alert) -> String {
    explain::why_of(alert, alert.decision.disposition)
}
