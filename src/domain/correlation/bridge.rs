//! Two incidents that turn out to be one: alerts come that belong to both.

use crate::domain::incident::{Incident, IncidentId, TimelineEntry};
use crate::domain::label::Fingerprint;
use crate::domain::{Fact, ObjectKey, State, seconds_between};
use jiff::Timestamp;

/// So many alerts that belong to both make two incidents one.
const BRIDGES: usize = 5;
/// The two began within so many seconds.
const APART_SECONDS: u64 = 600;
/// Who merges, as it stands in the timelines.
const BY: &str = "correlation";

impl State {
    /// Notes an alert that has enough evidence for two incidents.
    pub(super) fn note_bridge(
        &mut self,
        fingerprint: Fingerprint,
        one: IncidentId,
        other: IncidentId,
    ) {
        let (into, from) = (one.min(other), one.max(other));
        if !self.may_be_one(into, from) {
            return;
        }
        let Some(incident) = self.incidents.get_mut(&into) else { return };
        let alerts = incident.bridges.entry(from).or_default();
        if alerts.insert(fingerprint) && alerts.len() == BRIDGES {
            self.facts.push_back(Fact::IncidentsAreOne { into, from });
        }
        self.changes.objects.insert(ObjectKey::Incident(into));
    }

    /// Whether two incidents may be merged without asking: they began about together, and no people had
    /// a hand in it who would be surprised.
    fn may_be_one(&self, into: IncidentId, from: IncidentId) -> bool {
        let is_fit =
            |it: &&Incident| it.state.is_active() && !it.is_split && it.locked_by.is_none();
        let known = |it| self.incidents.get(&it).filter(is_fit);
        let (Some(older), Some(younger)) = (known(into), known(from)) else { return false };
        let apart = seconds_between(older.opened_at, younger.opened_at);
        let has_two_owners = younger.owner.is_some() && older.owner != younger.owner;
        apart <= APART_SECONDS && !has_two_owners
    }

    /// Merges two incidents that turned out to be one.
    pub(in crate::domain) fn merge_by_evidence(
        &mut self,
        now: Timestamp,
        into: IncidentId,
        from: IncidentId,
    ) {
        if !self.may_be_one(into, from) || self.are_kept_apart(now, into, from) {
            return;
        }
        let is_arranged = self.incidents.get(&from).is_some_and(|it| it.is_arranged);
        let Some(incident) = self.incidents.get_mut(&into) else { return };
        incident.is_arranged |= is_arranged;
        let alerts: Vec<Fingerprint> =
            incident.bridges.remove(&from).unwrap_or_default().into_iter().collect();
        let text = format!("{from} is the same trouble: {} alerts belong to both", alerts.len());
        self.log(ObjectKey::Incident(into), TimelineEntry::about(now, "merged", text, alerts));
        let merged = self.merge(now, BY, into, &[from]);
        debug_assert!(merged.is_ok(), "both were looked at");
    }
}
