//! The life of an incident: opened, joined, resolved, opened again, closed.

use super::{Incident, IncidentId, IncidentState, Priority, Severity, TimelineEntry};
use crate::domain::alert::{Alert, AlertState, Grouping};
use crate::domain::correlation::Spoken;
use crate::domain::event::{CorrelationDomain, ReceivedAlert};
use crate::domain::execution::{Context, Occurrence};
use crate::domain::impact::default_impact;
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::planted::{self, Bug};
use crate::domain::rules::{Correlation, Occasion};
use crate::domain::service_level::{TargetKind, milliseconds};
use crate::domain::{
    Closed, Count, Fact, Moved, ObjectKey, State, later, seconds_between, template,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The longest title, in characters: it must fit into a list and a notification.
const TITLE_CHARACTERS_MAX: usize = 200;

/// Why an incident is opened.
pub(in crate::domain) struct Opening<'a> {
    /// The grouping rule.
    pub(in crate::domain) rule: &'a Correlation,
    /// The values of its labels.
    pub(in crate::domain) group: &'a Labels,
    /// Why no other incident takes the alert.
    pub(in crate::domain) grouping: &'a Grouping,
    /// What the alert speaks of.
    pub(in crate::domain) spoken: &'a Spoken,
}

impl Alert {
    /// Takes over the texts that a source tells. Some tools tell nothing at the end but what is over.
    pub(in crate::domain) fn take_texts(
        &mut self,
        now: Timestamp,
        received: &ReceivedAlert,
        is_firing: bool,
    ) {
        let tells = is_firing || received.identity.is_none();
        let tells_texts = tells || !received.annotations.is_empty();
        if tells_texts && self.annotations != received.annotations {
            self.annotations = received.annotations.clone();
            self.updated_at = now;
        }
        // Not every source knows of a link; one that does is heard.
        if !received.generator_url.is_empty() && self.generator_url != received.generator_url {
            self.generator_url = received.generator_url.clone();
        }
    }
}

impl State {
    /// Opens an incident for an alert.
    pub(in crate::domain) fn open_incident(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        opening: &Opening<'_>,
    ) -> IncidentId {
        let Opening { rule, group, grouping, .. } = opening;
        let id = self.next_incident();
        let Some(alert) = self.alerts.get(&fingerprint) else { return id };
        let mut incident = new_incident(now, id, rule, alert);
        incident.group = (*group).clone();
        incident.why = why_opened(rule, group, grouping);
        incident.impacted = self.impacted_by_alert(&opening.spoken.places);
        self.set_priority(now, &mut incident);
        self.fit_clocks(&mut incident);
        let (title, priority, why) = (&incident.title, incident.priority, &incident.why);
        let text = format!("{title} ({priority}) by the rule {}: {why}", rule.rule);
        self.log(ObjectKey::Incident(id), TimelineEntry::new(now, "opened", "", text));
        self.incidents.insert(id, incident);
        self.join_incident(now, id, fingerprint, opening.spoken);
        self.facts.push_back(Fact::IncidentBegan(id));
        self.announce(now, id);
        id
    }

    pub(in crate::domain) fn next_incident(&mut self) -> IncidentId {
        self.memory.incident += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        IncidentId(self.memory.incident)
    }

    /// Tells about an incident that needs people, counts it, and asks for its runbooks.
    pub(in crate::domain) fn announce(&mut self, now: Timestamp, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id).cloned() else { return };
        self.turn.counts.push(Count::IncidentOpened(incident.priority));
        let text = format!("{} is open", incident.id);
        self.notify(now, Occasion::Opened, &incident, &text);
        self.occurred(&Occurrence::IncidentOpened(id));
    }

    /// Adds a firing alert to an incident that is open.
    pub(in crate::domain) fn join_incident(
        &mut self,
        now: Timestamp,
        id: IncidentId,
        fingerprint: Fingerprint,
        spoken: &Spoken,
    ) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        if let Some(alert) = self.alerts.get_mut(&fingerprint) {
            alert.incident = Some(id);
            let severity = Severity::from_label(alert.labels.get("severity"));
            if !self.severity_is_fixed(&incident) {
                incident.severity = incident.severity.max(severity);
            }
        }
        if let Some(service) = spoken.service.as_ref().filter(|it| !incident.services.contains(*it))
        {
            incident.services.insert(service.clone());
        }
        let is_new = self.members.entry(id).or_default().insert(fingerprint);
        if is_new {
            incident.alert_count += 1;
            if let Some(alert) = self.alerts.get_mut(&fingerprint) {
                alert.joined_at = Some(now);
            }
            // What the first alert is about is known since the opening.
            if self.sight_at(fingerprint, spoken, &mut incident.symptoms)
                && incident.alert_count > 1
            {
                incident.impacted = self.impacted_by_incident(id);
            }
        }
        incident.last_joined_at = now;
        self.set_priority(now, &mut incident);
        self.fit_clocks(&mut incident);
        self.incidents.insert(id, incident);
        self.moved.entry((id, Moved::Joined)).or_default().push(fingerprint);
        if spoken.is_unbound {
            self.note_unbound(now, fingerprint);
        }
        self.member_fires(now, id);
    }

    /// Takes over what a firing alert is like now, where its labels are not its identity. An incident
    /// is as bad as its worst alert was.
    pub(in crate::domain) fn take_labels(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        labels: &Labels,
    ) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        if alert.labels == *labels {
            return;
        }
        let before = self.places(&alert.labels);
        let fires = alert.state == AlertState::Firing;
        if fires {
            self.index_inhibition(fingerprint, false);
        }
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        alert.labels = labels.clone();
        alert.updated_at = now;
        if let Some(incident) = alert.incident
            && before != self.places(labels)
        {
            drop(self.sight_again(incident));
        }
        if fires {
            self.index_inhibition(fingerprint, true);
        }
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let Some(id) = alert.incident else { return };
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        let severity = Severity::from_label(labels.get("severity"));
        let is_active = incident.state.is_active();
        if is_active && severity > incident.severity && !self.severity_is_fixed(&incident) {
            incident.severity = severity;
            self.set_priority(now, &mut incident);
            self.fit_clocks(&mut incident);
            self.touch(now, ObjectKey::Incident(id));
        }
        self.incidents.insert(id, incident);
    }

    /// One more member fires.
    pub(in crate::domain) fn member_fires(&mut self, now: Timestamp, id: IncidentId) {
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.firing_count += 1;
            if incident.firing_count == 1 {
                self.facts.push_back(Fact::AlertsFiring(id));
            }
        }
        self.touch(now, ObjectKey::Incident(id));
    }

    /// One member less fires. The last one resolves the incident.
    pub(in crate::domain) fn member_ends(
        &mut self,
        now: Timestamp,
        id: IncidentId,
        fingerprint: Fingerprint,
        moved: Moved,
    ) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        incident.firing_count = incident.firing_count.saturating_sub(1);
        let is_over = incident.firing_count == 0;
        let is_active = incident.state.is_active();
        self.moved.entry((id, moved)).or_default().push(fingerprint);
        if is_over {
            self.facts.push_back(Fact::AlertsResolved(id));
        }
        if is_over && is_active {
            self.resolve_incident(now, id, "", "all its alerts are over");
        } else {
            self.may_fall_apart(now, id);
            self.touch(now, ObjectKey::Incident(id));
        }
    }

    /// The incident is over.
    pub(in crate::domain) fn resolve_incident(
        &mut self,
        now: Timestamp,
        id: IncidentId,
        by: &str,
        reason: &str,
    ) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        incident.state = IncidentState::Resolved;
        incident.resolved_at = Some(now);
        self.meet_clocks(now, &mut incident, &[TargetKind::Acknowledge, TargetKind::Resolve]);
        let lasted = seconds_between(incident.opened_at, now);
        self.turn.counts.push(Count::IncidentResolved(lasted));
        self.log(
            ObjectKey::Incident(id),
            TimelineEntry::new(now, "resolved", by, reason.to_owned()),
        );
        let text = format!("{id} is resolved after {lasted} s: {reason}");
        if planted::is(Bug::ResolveDropsQueue) {
            self.notifications.retain(|_, it| it.incident != Some(id));
        }
        self.notify(now, Occasion::Resolved, &incident, &text);
        self.incidents.insert(id, incident);
        self.touch(now, ObjectKey::Incident(id));
    }

    /// The incident is not over after all.
    pub(in crate::domain) fn reopen_incident(
        &mut self,
        now: Timestamp,
        id: IncidentId,
        by: &str,
        reason: &str,
    ) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        incident.state = IncidentState::Open;
        if let Some(at) = incident.resolved_at.take() {
            incident.paused_milliseconds += milliseconds(at, now);
        }
        incident.reopen_count += 1;
        for clock in &mut incident.sla {
            if clock.target == TargetKind::Resolve || incident.acknowledged_at.is_none() {
                clock.resume(now);
            }
        }
        self.log(
            ObjectKey::Incident(id),
            TimelineEntry::new(now, "reopened", by, reason.to_owned()),
        );
        self.touch(now, ObjectKey::Incident(id));
        self.announce(now, id);
    }

    /// An incident's time has come: a clock, or the end of its reopen window.
    pub(in crate::domain) fn incident_due(&mut self, now: Timestamp, id: IncidentId) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        self.look_at_clocks(now, &mut incident);
        let window_ends =
            incident.resolved_at.map(|it| later(it, i64::from(incident.reopen_within_seconds)));
        let is_quiet = incident.state == IncidentState::Resolved && incident.firing_count == 0;
        self.incidents.insert(id, incident);
        if is_quiet && window_ends.is_some_and(|it| it <= now) {
            self.close_incident(now, id);
        } else {
            self.look_for_parts(now, id);
            self.touch(now, ObjectKey::Incident(id));
        }
    }

    /// Closes an incident for good; it and its members leave the state.
    pub(in crate::domain) fn close_incident(&mut self, now: Timestamp, id: IncidentId) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        incident.state = IncidentState::Closed;
        incident.closed_at = Some(now);
        self.account_incident(now, &incident);
        self.leave_groups(&incident);
        self.learn_places(now, id);
        self.sightings.forget(id);
        self.end_questions(now, id);
        self.log(
            ObjectKey::Incident(id),
            TimelineEntry::new(now, "closed", "", "the incident is closed".to_owned()),
        );
        self.changes.closed.push(Closed::Incident(Box::new(incident)));
        self.touch(now, ObjectKey::Incident(id));
        for fingerprint in self.members.remove(&id).unwrap_or_default() {
            self.forget_alert(fingerprint);
        }
    }

    /// Works out impact, urgency and priority; a change is told in the timeline.
    pub(in crate::domain) fn set_priority(&mut self, now: Timestamp, incident: &mut Incident) {
        let rule =
            self.rules.priorities.iter().find(|it| it.matchers.matches(&incident.labels)).cloned();
        let (impact, urgency) = rule.map_or((None, None), |it| (it.impact, it.urgency));
        let (by_default, why) = default_impact(incident);
        let why = if impact.is_some() { "the rule says so".to_owned() } else { why };
        incident.impact = impact.unwrap_or(by_default);
        incident.urgency = urgency.unwrap_or(match incident.severity {
            Severity::Critical => 1,
            Severity::Error => 2,
            Severity::Warning | Severity::Info => 3,
        });
        let before = incident.priority;
        incident.priority = Priority::new(incident.impact, incident.urgency);
        if incident.priority != before && incident.alert_count > 0 {
            let text = format!(
                "{before} became {}: severity {}, impact {}: {why}",
                incident.priority,
                incident.severity.as_str(),
                incident.impact
            );
            self.log(
                ObjectKey::Incident(incident.id),
                TimelineEntry::new(now, "priority", "", text),
            );
        }
    }

    /// Whether the rule that opened it says how bad it is.
    pub(in crate::domain) fn severity_is_fixed(&self, incident: &Incident) -> bool {
        let rule =
            (self.rules.correlations.iter()).find(|it| it.rule.name == incident.opened_by.name);
        rule.is_some_and(|it| it.severity.is_some())
    }
}

fn new_incident(now: Timestamp, id: IncidentId, rule: &Correlation, alert: &Alert) -> Incident {
    let severity =
        rule.severity.unwrap_or_else(|| Severity::from_label(alert.labels.get("severity")));
    Incident {
        id,
        correlation_domain: CorrelationDomain::default(),
        title: title_of(rule, alert),
        severity,
        impact: 3,
        urgency: 3,
        priority: Priority::new(3, 3),
        state: IncidentState::Open,
        services: BTreeSet::new(),
        owner: None,
        opened_at: now,
        acknowledged_at: None,
        resolved_at: None,
        closed_at: None,
        last_joined_at: now,
        alert_count: 0,
        firing_count: 0,
        reopen_count: 0,
        paused_milliseconds: 0,
        paused_before_acknowledged_milliseconds: 0,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        first_alert: alert.fingerprint,
        group: Labels::default(),
        opened_by: rule.rule.clone(),
        reopen_within_seconds: rule.reopen_within_seconds,
        why: String::new(),
        symptoms: Vec::new(),
        root_causes: Vec::new(),
        suspect_changes: Vec::new(),
        impacted: None,
        sla: Vec::new(),
        executions: Vec::new(),
        problem: None,
        acted_on: false,
        parent: None,
        children: BTreeSet::new(),
        merged_into: None,
        locked_by: None,
        is_split: false,
        is_arranged: false,
        look_for_parts_at: None,
        bridges: BTreeMap::new(),
    }
}

/// The rule's title, or the alert's name where the template cannot be filled.
fn title_of(rule: &Correlation, alert: &Alert) -> String {
    let context = Context {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        ..Context::default()
    };
    let rendered = template::render(&rule.title, &context, &BTreeMap::new()).unwrap_or_default();
    let line = rendered.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = match (line.is_empty(), alert.labels.get("alertname")) {
        (false, _) => line,
        (true, Some(name)) => name.to_owned(),
        (true, None) => alert.labels.to_string(),
    };
    title.chars().take(TITLE_CHARACTERS_MAX).collect()
}

/// Why none that was open took the alert; the rule itself is told beside it.
fn why_opened(rule: &Correlation, group: &Labels, grouping: &Grouping) -> String {
    let group = if group.is_empty() { String::new() } else { format!(" for the group {group}") };
    match grouping {
        Grouping::WindowOver { previous, gap_seconds, age_seconds } => format!(
            "{previous}{group} takes no more alerts: its last one joined {gap_seconds} s ago \
             (gap {} s), and it is {age_seconds} s old (max {} s)",
            rule.gap_seconds, rule.max_seconds
        ),
        Grouping::Locked { previous } => format!("{previous}{group} is locked"),
        Grouping::Far { previous } => {
            format!("no incident{group} that takes alerts was seen near; the last is {previous}")
        }
        Grouping::Moved { by } => format!("split off by {by}"),
        Grouping::Parted { from, why } => format!("split off {from}: {why}"),
        Grouping::Apart { nearest: None } => {
            "nothing that is open was seen where a fault could come from".to_owned()
        }
        Grouping::Apart { nearest: Some(it) } => format!(
            "{} came nearest, with {} points of {} by `{}`",
            it.incident, it.points, it.needed, it.place
        ),
        Grouping::First
        | Grouping::SameGroup { .. }
        | Grouping::Near { .. }
        | Grouping::SameThing { .. }
        | Grouping::Evidence(_)
        | Grouping::Returned
        | Grouping::ReopenWindow { .. } => {
            format!("no incident of this rule was open{group}")
        }
    }
}
