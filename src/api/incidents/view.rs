//! How REST shows an incident.

use super::knowledge::{FittingArticle, SimilarIncident};
use crate::domain::cause::{RootCause, SuspectChange};
use crate::domain::execution::ExecutionId;
use crate::domain::impact::Impacted;
use crate::domain::incident::{
    Incident, IncidentId, IncidentState, Priority, Severity, TimelineEntry,
};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::problem::ProblemId;
use crate::domain::service_level::{ClockState, SlaClock, TargetKind};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An incident as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IncidentView {
    id: IncidentId,
    title: String,
    state: IncidentState,
    severity: Severity,
    priority: Priority,
    impact: u8,
    urgency: u8,
    services: BTreeSet<String>,
    owner: Option<String>,
    opened_at: Timestamp,
    acknowledged_at: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    alert_count: u64,
    firing_count: u64,
    reopen_count: u32,
    alerts: BTreeSet<Fingerprint>,
    /// The kinds among them that were never seen before; they are known of open ones only.
    pub(super) new_kinds: BTreeSet<String>,
    labels: Labels,
    annotations: Labels,
    root_causes: Vec<RootCause>,
    suspect_changes: Vec<SuspectChange>,
    impacted: Option<Box<Impacted>>,
    /// Both are looked for where one incident is shown.
    pub(super) similar: Vec<SimilarIncident>,
    pub(super) articles: Vec<FittingArticle>,
    problem: Option<ProblemId>,
    executions: Vec<ExecutionId>,
    sla: Vec<ClockView>,
    opened_by: String,
    rule_file: String,
    rule_line: u32,
    group: Labels,
    parent: Option<IncidentId>,
    children: BTreeSet<IncidentId>,
    locked_by: Option<String>,
    merged_into: Option<IncidentId>,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<TimelineView>>,
}

/// An SLA clock as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct ClockView {
    policy: Arc<str>,
    target: TargetKind,
    state: ClockState,
    due_at: Option<Timestamp>,
    limit_seconds: u32,
    elapsed_seconds: i64,
    warned_percent: Vec<u8>,
    ended_at: Option<Timestamp>,
}

/// An entry of a timeline as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct TimelineView {
    at: Timestamp,
    kind: String,
    by: String,
    text: String,
    alerts: Vec<Fingerprint>,
}

/// Makes the view of an incident; `timeline` is left out of listings.
pub(super) fn view(
    incident: &Incident,
    alerts: BTreeSet<Fingerprint>,
    timeline: Option<Vec<TimelineEntry>>,
    now: Timestamp,
) -> IncidentView {
    IncidentView {
        id: incident.id,
        title: incident.title.clone(),
        state: incident.state,
        severity: incident.severity,
        priority: incident.priority,
        impact: incident.impact,
        urgency: incident.urgency,
        services: incident.services.clone(),
        owner: incident.owner.clone(),
        opened_at: incident.opened_at,
        acknowledged_at: incident.acknowledged_at,
        resolved_at: incident.resolved_at,
        closed_at: incident.closed_at,
        alert_count: incident.alert_count,
        firing_count: incident.firing_count,
        reopen_count: incident.reopen_count,
        alerts,
        new_kinds: BTreeSet::new(),
        labels: incident.labels.clone(),
        annotations: incident.annotations.clone(),
        root_causes: incident.root_causes.clone(),
        suspect_changes: incident.suspect_changes.clone(),
        impacted: incident.impacted.clone(),
        similar: Vec::new(),
        articles: Vec::new(),
        problem: incident.problem,
        executions: incident.executions.clone(),
        sla: incident.sla.iter().map(|it| clock(it, now)).collect(),
        opened_by: incident.opened_by.name.clone(),
        rule_file: incident.opened_by.file.clone(),
        rule_line: incident.opened_by.line,
        group: incident.group.clone(),
        parent: incident.parent,
        children: incident.children.clone(),
        locked_by: incident.locked_by.clone(),
        merged_into: incident.merged_into,
        why: incident.why.clone(),
        timeline: timeline.map(|it| it.into_iter().map(entry).collect()),
    }
}

fn clock(clock: &SlaClock, now: Timestamp) -> ClockView {
    let running =
        clock.running_since.map_or(0, |since| now.as_millisecond() - since.as_millisecond());
    ClockView {
        policy: clock.policy.clone(),
        target: clock.target,
        state: clock.state,
        due_at: clock.due_at,
        limit_seconds: clock.limit_seconds,
        elapsed_seconds: (clock.elapsed_milliseconds + running.max(0)) / 1000,
        warned_percent: clock.warned_percent.clone(),
        ended_at: clock.ended_at,
    }
}

fn entry(entry: TimelineEntry) -> TimelineView {
    let TimelineEntry { at, kind, by, text, alerts } = entry;
    TimelineView { at, kind, by, text, alerts }
}

#[cfg(test)]
mod tests {
    use super::super::super::openapi::assert_schema;
    use super::super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let incident = samples::incident();
        let timeline = vec![samples::timeline_entry()];
        let now: Timestamp = "2026-01-01T00:02:30Z".parse().unwrap();
        let members = BTreeSet::from([incident.first_alert]);
        let json = serde_json::to_value(view(&incident, members, Some(timeline), now)).unwrap();
        assert_schema("Incident", &json);
        assert_schema("Impacted", &json["impacted"]);
        assert_schema("ImpactedItem", &json["impacted"]["items"][0]);
        assert_schema("SlaClock", &json["sla"][0]);
        assert_schema("TimelineEntry", &json["timeline"][0]);
        assert_eq!(json["opened_by"], "web");
        assert_eq!(json["priority"], "P3");
        assert_eq!(json["sla"][0]["elapsed_seconds"], 150);
        assert_eq!(json["root_causes"], serde_json::json!([]));
    }
}
