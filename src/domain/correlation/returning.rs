//! An alert that fires again: whether it is still the fault in whose incident it was.

use crate::domain::incident::{Incident, IncidentId};
use crate::domain::label::Fingerprint;
use crate::domain::{State, seconds_between};
use jiff::Timestamp;

/// After so many seconds without any alert what comes back is looked at anew.
const QUIET_SECONDS: u64 = 240;
/// Nothing shorter than that is quiet.
const QUIET_SECONDS_MIN: u64 = 60;
/// Of an incident with so many alerts it is known how fast they come.
const DENSE: u64 = 20;
/// It is quiet after so many times the usual distance between its alerts.
const DISTANCES: u64 = 20;

impl State {
    /// The incident that an alert was in before, if it belongs there still. Where evidence decides, an
    /// incident that was quiet for long has no claim: the alert leaves it, and it is closed.
    pub(super) fn own_incident(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        by_evidence: bool,
    ) -> Option<IncidentId> {
        let own = self.alerts.get(&fingerprint)?.incident?;
        let incident = self.incidents.get(&own)?;
        let quiet = incident.over_since().map_or(0, |it| seconds_between(it, now));
        if !by_evidence || incident.firing_count > 0 || quiet <= quiet_seconds(incident) {
            return Some(own);
        }
        if let Some(members) = self.members.get_mut(&own) {
            members.remove(&fingerprint);
        }
        if let Some(alert) = self.alerts.get_mut(&fingerprint) {
            alert.incident = None;
            alert.joined_at = None;
        }
        self.close_incident(now, own);
        None
    }
}

/// After how many seconds an incident is over, by the rhythm of its alerts: one that brought an alert every
/// two seconds and then none for a minute has ended, another may only pause.
fn quiet_seconds(incident: &Incident) -> u64 {
    let lasted = seconds_between(incident.opened_at, incident.last_joined_at);
    match lasted.checked_div(incident.alert_count) {
        Some(distance) if incident.alert_count >= DENSE => {
            (distance * DISTANCES).clamp(QUIET_SECONDS_MIN, QUIET_SECONDS)
        }
        _ => QUIET_SECONDS,
    }
}
