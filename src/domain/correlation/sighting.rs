//! Where incidents were seen: the index by which a new alert finds those that it may belong to.

use super::experience::ExperienceName;
use super::place::{Place, Spoken};
use crate::domain::incident::{IncidentId, Symptom, note_symptom};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::{State, seconds_between};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// An incident at a place: the alerts of the one that speak of the other, as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Sighting {
    /// The incident.
    pub(in crate::domain) incident: IncidentId,
    /// When the last of its alerts joined it that speak of the place.
    pub(in crate::domain) at: Timestamp,
    /// That alert.
    pub(in crate::domain) alert: Fingerprint,
    /// Whether one of them is about the place first of all.
    pub(in crate::domain) is_primary: bool,
}

/// What an incident tells of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Told {
    /// When its first alert joined that speaks of the place.
    pub(in crate::domain) first_at: Timestamp,
    /// Whether an alert is about the place first of all.
    pub(in crate::domain) is_primary: bool,
    /// What is said of it, by a hash of the name.
    pub(in crate::domain) said: BTreeMap<u64, Said>,
}

/// An alert's name, said of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Said {
    /// The name of its experience.
    pub(in crate::domain) name: ExperienceName,
    /// When it was first said.
    pub(in crate::domain) first_at: Timestamp,
    /// Whether it was said by a caller, who can only suspect.
    pub(in crate::domain) by_caller: bool,
}

/// So many names are kept of what is said of a place.
const SAID_MAX: usize = 64;

/// All sightings of incidents that are not closed.
#[derive(Default)]
pub(in crate::domain) struct Sightings {
    /// By place; the latest stands last.
    by_place: BTreeMap<Place, Vec<Sighting>>,
    /// The places of each incident.
    of_incident: BTreeMap<IncidentId, BTreeMap<Place, Told>>,
    /// Where it is found besides, though nothing is told of these places.
    loose: BTreeMap<IncidentId, BTreeSet<Place>>,
}

/// So many incidents are looked at in one place, the latest first.
const LOOKED_AT_MAX: usize = 8;

/// What was seen anywhere is kept for so many seconds: after less nobody takes it for the same moment.
const MOMENTS_SECONDS: u64 = 120;

/// Up to so many places each new one is a reason to look for causes again.
const CAUSES_EACH_TIME: usize = 32;

impl Told {
    /// Of too many names those with the lowest hashes are kept, so that their order does not matter.
    fn say(&mut self, hash: u64, labels: &Labels, (at, by_caller): (Timestamp, bool)) {
        if let Some(known) = self.said.get_mut(&hash) {
            known.first_at = known.first_at.min(at);
            known.by_caller &= by_caller;
            return;
        }
        let name = ExperienceName::of(labels);
        self.said.insert(hash, Said { name, first_at: at, by_caller });
        if self.said.len() > SAID_MAX {
            self.said.pop_last();
        }
    }
}

impl Sightings {
    /// The incidents that were seen at a place, the latest first, and not more than some.
    pub(in crate::domain) fn at(&self, place: &Place) -> impl Iterator<Item = &Sighting> {
        self.by_place.get(place).into_iter().flatten().rev().take(LOOKED_AT_MAX)
    }

    /// The places of an incident with what it tells of them.
    pub(in crate::domain) fn of(
        &self,
        incident: IncidentId,
    ) -> impl Iterator<Item = (&Place, &Told)> {
        self.of_incident.get(&incident).into_iter().flatten()
    }

    /// Adds what was seen. Tells whether the incident is new there.
    fn add(&mut self, place: &Place, seen: Sighting) -> bool {
        let row = match self.by_place.get_mut(place) {
            Some(row) => row,
            None => self.by_place.entry(place.clone()).or_default(),
        };
        let is_new = match row.last_mut() {
            // Most come to the incident that was seen there last, and later.
            Some(last) if last.incident == seen.incident && last.word() <= seen.word() => {
                *last = Sighting { is_primary: last.is_primary || seen.is_primary, ..seen };
                false
            }
            _ => put_in(row, seen),
        };
        if *place == Place::Anywhere {
            let newest = row.last().map_or(seen.at, |it| it.at);
            let old = row.partition_point(|it| seconds_between(it.at, newest) > MOMENTS_SECONDS);
            row.drain(..old);
        }
        is_new
    }

    /// Adds what an alert tells of a place.
    fn tell(&mut self, incident: IncidentId, place: &Place, at: Timestamp) -> &mut Told {
        let of_incident = self.of_incident.entry(incident).or_default();
        if !of_incident.contains_key(place) {
            let new = Told { first_at: at, is_primary: false, said: BTreeMap::new() };
            of_incident.insert(place.clone(), new);
        }
        let told = of_incident.get_mut(place).expect("it was added above");
        told.first_at = told.first_at.min(at);
        told
    }

    /// Forgets an incident.
    pub(in crate::domain) fn forget(&mut self, incident: IncidentId) {
        let told = self.of_incident.remove(&incident).unwrap_or_default().into_keys();
        for place in told.chain(self.loose.remove(&incident).unwrap_or_default()) {
            if let Some(row) = self.by_place.get_mut(&place) {
                row.retain(|it| it.incident != incident);
                if row.is_empty() {
                    self.by_place.remove(&place);
                }
            }
        }
    }
}

impl Sighting {
    /// What of it is the latest word.
    fn word(&self) -> (Timestamp, Fingerprint) {
        (self.at, self.alert)
    }
}

/// Puts what was seen where it belongs in a row. Tells whether the incident is new there.
fn put_in(row: &mut Vec<Sighting>, seen: Sighting) -> bool {
    let mut merged = seen;
    let known = row.iter().rposition(|it| it.incident == seen.incident);
    if let Some(known) = known.map(|it| row.remove(it)) {
        (merged.at, merged.alert) = known.word().max(seen.word());
        merged.is_primary |= known.is_primary;
    }
    let at = row.partition_point(|it| (it.at, it.incident) < (merged.at, merged.incident));
    row.insert(at, merged);
    known.is_none()
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
        let spoken = self.spoken(&alert.labels);
        self.sight_at(fingerprint, &spoken, symptoms)
    }

    /// [`Self::sight`] where it is known what the alert speaks of.
    pub(in crate::domain) fn sight_at(
        &mut self,
        fingerprint: Fingerprint,
        spoken: &Spoken,
        symptoms: &mut Vec<Symptom>,
    ) -> bool {
        let Some(alert) = self.alerts.get(&fingerprint) else { return false };
        let (Some(incident), Some(at)) = (alert.incident, alert.joined_at) else { return false };
        let hash = ExperienceName::hash(&alert.labels);
        let mut is_new = false;
        let about = spoken.places.seen().find(|(_, is_primary)| *is_primary);
        let about = about.map_or("", |(place, _)| place.name(&self.rules.catalog));
        note_symptom(symptoms, alert.labels.get("alertname").unwrap_or_default(), about);
        for (place, is_primary) in spoken.places.seen() {
            let seen = Sighting { incident, at, alert: fingerprint, is_primary };
            is_new |= self.sightings.add(place, seen);
            let told = self.sightings.tell(incident, place, at);
            told.is_primary |= is_primary;
            if is_primary && spoken.called.is_none() {
                told.say(hash, &alert.labels, (at, false));
            }
        }
        if let Some(place) = &spoken.loose {
            let seen = Sighting { incident, at, alert: fingerprint, is_primary: true };
            if self.sightings.add(place, seen) {
                self.sightings.loose.entry(incident).or_default().insert(place.clone());
            }
        }
        if let Some(called) = &spoken.called {
            self.sightings.tell(incident, called, at).say(hash, &alert.labels, (at, true));
        }
        // Of a storm the causes are looked for each time that it has become twice as wide.
        let width = self.sightings.of_incident.get(&incident).map_or(0, BTreeMap::len);
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
