//! Where incidents were seen: the index by which a new alert finds those that it may belong to.

use super::place::Place;
use crate::domain::State;
use crate::domain::incident::{IncidentId, Symptom, note_symptom};
use crate::domain::label::Fingerprint;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// An incident at a place: the alerts of the one that speak of the other, as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Sighting {
    /// The incident.
    pub(in crate::domain) incident: IncidentId,
    /// When the first of its alerts joined it that speak of the place.
    pub(in crate::domain) first_at: Timestamp,
    /// When the last of them did.
    pub(in crate::domain) at: Timestamp,
    /// The last of them.
    pub(in crate::domain) alert: Fingerprint,
    /// Whether one of them is about the place first of all.
    pub(in crate::domain) is_primary: bool,
}

/// All sightings of incidents that are not closed.
#[derive(Default)]
pub(in crate::domain) struct Sightings {
    /// By place; the latest stands last.
    by_place: BTreeMap<Place, Vec<Sighting>>,
    /// The places of each incident.
    of_incident: BTreeMap<IncidentId, BTreeSet<Place>>,
}

/// So many incidents are looked at in one place, the latest first.
const LOOKED_AT_MAX: usize = 8;

/// Up to so many places each new one is a reason to look for causes again.
const CAUSES_EACH_TIME: usize = 32;

impl Sightings {
    /// The incidents that were seen at a place, the latest first, and not more than some.
    pub(in crate::domain) fn at(&self, place: &Place) -> impl Iterator<Item = &Sighting> {
        self.by_place.get(place).into_iter().flatten().rev().take(LOOKED_AT_MAX)
    }

    /// The places of an incident with what was seen there.
    pub(in crate::domain) fn of(
        &self,
        incident: IncidentId,
    ) -> impl Iterator<Item = (&Place, &Sighting)> {
        self.of_incident.get(&incident).into_iter().flatten().filter_map(move |place| {
            let sighting = self.by_place.get(place)?.iter().find(|it| it.incident == incident)?;
            Some((place, sighting))
        })
    }

    /// Adds what was seen. Tells whether the incident is new there.
    fn add(&mut self, place: &Place, seen: Sighting) -> bool {
        let is_new = match self.of_incident.get_mut(&seen.incident) {
            Some(places) if places.contains(place) => false,
            Some(places) => places.insert(place.clone()),
            None => {
                self.of_incident.insert(seen.incident, BTreeSet::from([place.clone()]));
                true
            }
        };
        let mut merged = seen;
        let row = match self.by_place.get_mut(place) {
            Some(row) => row,
            None => self.by_place.entry(place.clone()).or_default(),
        };
        if !is_new && let Some(old) = row.iter().rposition(|it| it.incident == seen.incident) {
            let known = row.remove(old);
            let latest = (known.at, known.alert).max((seen.at, seen.alert));
            (merged.at, merged.alert) = latest;
            merged.first_at = known.first_at.min(seen.first_at);
            merged.is_primary |= known.is_primary;
        }
        let place = row.partition_point(|it| (it.at, it.incident) < (merged.at, merged.incident));
        row.insert(place, merged);
        is_new
    }

    /// Forgets an incident.
    pub(in crate::domain) fn forget(&mut self, incident: IncidentId) {
        for place in self.of_incident.remove(&incident).unwrap_or_default() {
            if let Some(row) = self.by_place.get_mut(&place) {
                row.retain(|it| it.incident != incident);
                if row.is_empty() {
                    self.by_place.remove(&place);
                }
            }
        }
    }
}

impl State {
    /// Notes where an alert of an incident speaks of, and what it tells of that place. An incident
    /// in a new place is looked at for causes again; tells whether.
    pub(in crate::domain) fn sight(
        &mut self,
        fingerprint: Fingerprint,
        symptoms: &mut Vec<Symptom>,
    ) -> bool {
        let Some(alert) = self.alerts.get(&fingerprint) else { return false };
        let (Some(incident), Some(at)) = (alert.incident, alert.joined_at) else { return false };
        let mut is_new = false;
        let places = self.places(&alert.labels);
        let about = places.seen().find(|(_, is_primary)| *is_primary);
        let about = about.map_or("", |(place, _)| place.name(&self.rules.catalog));
        note_symptom(symptoms, alert.labels.get("alertname").unwrap_or_default(), about);
        for (place, is_primary) in places.seen() {
            let seen = Sighting { incident, first_at: at, at, alert: fingerprint, is_primary };
            is_new |= self.sightings.add(place, seen);
        }
        // Of a storm the causes are looked for each time that it has become twice as wide.
        let width = self.sightings.of_incident.get(&incident).map_or(0, BTreeSet::len);
        let is_wanted = is_new && (width <= CAUSES_EACH_TIME || width.is_power_of_two());
        if is_wanted {
            self.causes_wanted.insert(incident);
        }
        is_wanted
    }

    /// Looks anew where an incident's alerts speak of, after some left it. Tells what they tell of.
    pub(in crate::domain) fn sight_again(&mut self, incident: IncidentId) -> Vec<Symptom> {
        self.sightings.forget(incident);
        let members = self.members.get(&incident).into_iter().flatten();
        let joined = |it: &Fingerprint| self.alerts.get(it).and_then(|it| it.joined_at);
        let mut members: Vec<_> = members.map(|it| (joined(it), *it)).collect();
        members.sort_unstable();
        let mut symptoms = Vec::new();
        for (_, fingerprint) in members {
            self.sight(fingerprint, &mut symptoms);
        }
        symptoms
    }

    /// Fills the index anew, after loading, or when places have other names.
    pub(in crate::domain) fn rebuild_sightings(&mut self) {
        self.sightings = Sightings::default();
        let incidents: Vec<IncidentId> = self.incidents.keys().copied().collect();
        for incident in incidents {
            drop(self.sight_again(incident));
        }
        // What is known of causes was stored, and so was what the alerts tell of.
        self.causes_wanted.clear();
    }
}
