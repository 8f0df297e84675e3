//! What people do with incidents: acknowledge, assign, note, resolve, reopen, merge, split.

use super::{Incident, IncidentId, IncidentState, Severity, TimelineEntry};
use crate::domain::alert::{AlertState, Disposition, Grouping};
use crate::domain::label::Fingerprint;
use crate::domain::rules::Occasion;
use crate::domain::service_level::TargetKind;
use crate::domain::{
    Accepted, Closed, Count, Fact, ObjectKey, Refusal, Reply, State, seconds_between,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// How some alerts leave an incident for one of their own.
pub(in crate::domain) struct Parting<'a> {
    /// Who splits.
    pub(in crate::domain) by: &'a str,
    /// Why, in a sentence.
    pub(in crate::domain) why: String,
    /// Whether a person does.
    pub(in crate::domain) is_by_hand: bool,
    /// The alert after which the new incident is called; it fires.
    pub(in crate::domain) first: Fingerprint,
    /// All that leave.
    pub(in crate::domain) alerts: BTreeSet<Fingerprint>,
}

impl State {
    /// Somebody says that they look after it.
    pub(in crate::domain) fn acknowledge(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
    ) -> Reply {
        let state = self.known_incident(id)?.state;
        if state != IncidentState::Open {
            return Err(wrong_state(id, state));
        }
        let Some(mut incident) = self.incidents.remove(&id) else { return Err(no_incident(id)) };
        incident.state = IncidentState::Acknowledged;
        self.meet_clocks(now, &mut incident, &[TargetKind::Acknowledge]);
        if incident.acknowledged_at.is_none() {
            incident.acknowledged_at = Some(now);
            incident.paused_before_acknowledged_milliseconds = incident.paused_milliseconds;
            let waited = seconds_between(incident.opened_at, now);
            self.turn.counts.push(Count::IncidentAcknowledged(waited));
        }
        if incident.owner.is_none() && !by.is_empty() {
            incident.owner = Some(by.to_owned());
        }
        self.incidents.insert(id, incident);
        let entry = TimelineEntry::new(now, "acknowledged", by, "acknowledged".to_owned());
        Ok(self.note_change(id, entry))
    }

    /// Gives it an owner.
    pub(in crate::domain) fn assign(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        owner: &str,
    ) -> Reply {
        self.known_incident(id)?;
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.owner = (!owner.is_empty()).then(|| owner.to_owned());
        }
        let entry = TimelineEntry::new(now, "assigned", by, format!("assigned to {owner}"));
        Ok(self.note_change(id, entry))
    }

    /// Adds a remark.
    pub(in crate::domain) fn note(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        text: &str,
    ) -> Reply {
        self.known_incident(id)?;
        Ok(self.note_change(id, TimelineEntry::new(now, "note", by, text.to_owned())))
    }

    /// Ends it, whatever its alerts say.
    pub(in crate::domain) fn resolve(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        reason: &str,
    ) -> Reply {
        let state = self.known_incident(id)?.state;
        if !state.is_active() {
            return Err(wrong_state(id, state));
        }
        self.resolve_incident(now, id, by, reason);
        Ok(Accepted::Object(ObjectKey::Incident(id)))
    }

    /// Takes a resolution back.
    pub(in crate::domain) fn reopen(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        reason: &str,
    ) -> Reply {
        let state = self.known_incident(id)?.state;
        if state != IncidentState::Resolved {
            return Err(wrong_state(id, state));
        }
        self.reopen_incident(now, id, by, reason);
        Ok(Accepted::Object(ObjectKey::Incident(id)))
    }

    /// Moves the alerts of some incidents into one and closes them.
    pub(in crate::domain) fn merge(
        &mut self,
        now: Timestamp,
        by: &str,
        into: IncidentId,
        from: &[IncidentId],
    ) -> Reply {
        let state = self.known_incident(into)?.state;
        if !state.is_active() {
            return Err(wrong_state(into, state));
        }
        let from: BTreeSet<IncidentId> = from.iter().copied().collect();
        if from.is_empty() || from.contains(&into) {
            let text = format!("name the incidents to merge into {into}, without itself");
            return Err(Refusal::Invalid(text));
        }
        for id in &from {
            self.known_incident(*id)?;
        }
        for id in from {
            let alerts = self.members.get(&id).cloned().unwrap_or_default();
            self.move_alerts(now, by, (id, into), &alerts);
            self.close_merged(now, by, id, into);
        }
        Ok(Accepted::Object(ObjectKey::Incident(into)))
    }

    /// Moves some alerts into an incident of their own.
    pub(in crate::domain) fn split(
        &mut self,
        now: Timestamp,
        by: &str,
        id: IncidentId,
        alerts: &[Fingerprint],
    ) -> Reply {
        let state = self.known_incident(id)?.state;
        if !state.is_active() {
            return Err(wrong_state(id, state));
        }
        let members = self.members.get(&id).cloned().unwrap_or_default();
        let alerts: BTreeSet<Fingerprint> = alerts.iter().copied().collect();
        if let Some(stranger) = alerts.iter().find(|it| !members.contains(it)) {
            return Err(Refusal::Invalid(format!("alert {stranger} is no member of {id}")));
        }
        let firing = |set: &BTreeSet<Fingerprint>| {
            let fires = |it: &&Fingerprint| {
                self.alerts.get(it).is_some_and(|alert| alert.state == AlertState::Firing)
            };
            set.iter().find(fires).copied()
        };
        let rest: BTreeSet<Fingerprint> = members.difference(&alerts).copied().collect();
        let (Some(first), Some(_)) = (firing(&alerts), firing(&rest)) else {
            let text = "each part of a split needs an alert that fires".to_owned();
            return Err(Refusal::Invalid(text));
        };
        let why = format!("{by} split it off {id}");
        let new = self.part(now, id, &Parting { by, why, is_by_hand: true, first, alerts });
        Ok(Accepted::Object(ObjectKey::Incident(new)))
    }

    /// Moves alerts that leave an incident into a new one, and tells of it.
    pub(in crate::domain) fn part(
        &mut self,
        now: Timestamp,
        from: IncidentId,
        parting: &Parting<'_>,
    ) -> IncidentId {
        let new = self.open_split(now, from, parting);
        self.move_alerts(now, parting.by, (from, new), &parting.alerts);
        self.announce(now, new);
        new
    }

    /// Opens the empty incident that a split fills.
    fn open_split(
        &mut self,
        now: Timestamp,
        from: IncidentId,
        parting: &Parting<'_>,
    ) -> IncidentId {
        let Parting { by, first, .. } = *parting;
        let old = self.incidents.get(&from).cloned();
        let id = self.next_incident();
        let (Some(old), Some(alert)) = (old, self.alerts.get(&first)) else { return id };
        let of_alert = Severity::from_label(alert.labels.get("severity"));
        let severity = if self.severity_is_fixed(&old) { old.severity } else { of_alert };
        let name = alert.labels.get("alertname").unwrap_or("alerts");
        let mut incident = Incident {
            id,
            title: format!("{name}, split off {from}"),
            severity,
            services: BTreeSet::new(),
            opened_at: now,
            acknowledged_at: None,
            state: IncidentState::Open,
            owner: None,
            last_joined_at: now,
            alert_count: 0,
            firing_count: 0,
            reopen_count: 0,
            paused_milliseconds: 0,
            paused_before_acknowledged_milliseconds: 0,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            first_alert: first,
            why: parting.why.clone(),
            symptoms: Vec::new(),
            root_causes: Vec::new(),
            suspect_changes: Vec::new(),
            impacted: self.impacted_by_alert(&self.places(&alert.labels)),
            sla: Vec::new(),
            executions: Vec::new(),
            problem: None,
            parent: None,
            children: BTreeSet::new(),
            acted_on: parting.is_by_hand,
            is_split: true,
            is_arranged: parting.is_by_hand,
            look_for_parts_at: None,
            bridges: BTreeMap::new(),
            ..old
        };
        self.set_priority(now, &mut incident);
        self.fit_clocks(&mut incident);
        self.log(
            ObjectKey::Incident(id),
            TimelineEntry::new(now, "opened", by, incident.why.clone()),
        );
        self.incidents.insert(id, incident);
        id
    }

    /// Moves members from one incident to another, and counts anew on both sides.
    fn move_alerts(
        &mut self,
        now: Timestamp,
        by: &str,
        (from, into): (IncidentId, IncidentId),
        alerts: &BTreeSet<Fingerprint>,
    ) {
        let mut firing = 0;
        for fingerprint in alerts {
            if let Some(members) = self.members.get_mut(&from) {
                members.remove(fingerprint);
            }
            if let Some(alert) = self.alerts.get_mut(fingerprint) {
                alert.incident = Some(into);
                alert.decision.disposition = Disposition::Joined;
                alert.decision.grouping = Some(Grouping::Moved { by: by.to_owned() });
                alert.updated_at = now;
                firing += u64::from(alert.counts_as_firing());
            }
            self.touch_alert(*fingerprint);
        }
        self.members.entry(into).or_default().extend(alerts);
        let services: Vec<String> = (alerts.iter().filter_map(|it| self.alerts.get(it)))
            .filter_map(|it| self.service_of(it).map(str::to_owned))
            .collect();
        let worst = (alerts.iter().filter_map(|it| self.alerts.get(it)))
            .map(|it| Severity::from_label(it.labels.get("severity")))
            .max();
        let count = alerts.len() as u64;
        if let Some(mut target) = self.incidents.remove(&into) {
            target.alert_count += count;
            if target.firing_count == 0 && firing > 0 {
                self.facts.push_back(Fact::AlertsFiring(into));
            }
            target.firing_count += firing;
            target.services.extend(services);
            if !self.severity_is_fixed(&target) {
                target.severity = worst.map_or(target.severity, |it| it.max(target.severity));
            }
            self.set_priority(now, &mut target);
            self.fit_clocks(&mut target);
            self.incidents.insert(into, target);
        }
        for id in [from, into] {
            let symptoms = self.sight_again(id);
            let impacted = self.impacted_by_incident(id);
            if let Some(mut incident) = self.incidents.remove(&id) {
                incident.symptoms = symptoms;
                incident.impacted = impacted;
                self.set_priority(now, &mut incident);
                self.fit_clocks(&mut incident);
                self.incidents.insert(id, incident);
            }
        }
        if let Some(source) = self.incidents.get_mut(&from) {
            source.alert_count = source.alert_count.saturating_sub(count);
            source.firing_count = source.firing_count.saturating_sub(firing);
        }
        let list: Vec<Fingerprint> = alerts.iter().copied().collect();
        let (left, came) =
            (format!("{count} alerts moved to {into}"), format!("{count} alerts came from {from}"));
        self.log(ObjectKey::Incident(from), TimelineEntry::about(now, "left", left, list.clone()));
        self.log(ObjectKey::Incident(into), TimelineEntry::about(now, "joined", came, list));
        self.touch(now, ObjectKey::Incident(from));
        self.touch(now, ObjectKey::Incident(into));
    }

    /// Closes an incident whose alerts went into another one. New alerts of its group and runs of
    /// runbooks for it follow them.
    fn close_merged(&mut self, now: Timestamp, by: &str, id: IncidentId, into: IncidentId) {
        let Some(mut incident) = self.incidents.remove(&id) else { return };
        self.meet_clocks(now, &mut incident, &[TargetKind::Acknowledge, TargetKind::Resolve]);
        self.follow(&incident, into);
        self.move_executions(now, &incident, into);
        let was_active = incident.state.is_active();
        incident.state = IncidentState::Closed;
        incident.resolved_at = incident.resolved_at.or(Some(now));
        incident.closed_at = Some(now);
        incident.merged_into = Some(into);
        self.log(
            ObjectKey::Incident(id),
            TimelineEntry::new(now, "merged", by, format!("merged into {into}")),
        );
        if was_active {
            // Whoever was told that it is open must not wait for its end for ever.
            let text = format!("{id} is merged into {into} by {by}");
            self.notify(now, Occasion::Resolved, &incident, &text);
        }
        self.move_children(now, by, &incident, into);
        self.members.remove(&id);
        self.sightings.forget(id);
        self.changes.closed.push(Closed::Incident(Box::new(incident)));
        self.touch(now, ObjectKey::Incident(id));
    }

    /// Writes down what a person did.
    pub(super) fn note_change(&mut self, id: IncidentId, entry: TimelineEntry) -> Accepted {
        let now = entry.at;
        self.log(ObjectKey::Incident(id), entry);
        self.touch(now, ObjectKey::Incident(id));
        Accepted::Object(ObjectKey::Incident(id))
    }

    /// The incident, or why it cannot be worked on.
    pub(in crate::domain) fn known_incident(&self, id: IncidentId) -> Result<&Incident, Refusal> {
        match self.incidents.get(&id) {
            Some(incident) => Ok(incident),
            None if id.0 > 0 && id.0 <= self.memory.incident => {
                Err(wrong_state(id, IncidentState::Closed))
            }
            None => Err(no_incident(id)),
        }
    }
}

fn no_incident(id: IncidentId) -> Refusal {
    Refusal::NotFound(format!("there is no incident {id}"))
}

fn wrong_state(id: IncidentId, state: IncidentState) -> Refusal {
    Refusal::WrongState(format!("{id} is {}", state.as_str()))
}
