//! What was learned about alerts of a name: how often they come in company, and bring some along.
//!
//! An alert is in company if it begins shortly after another one in a place that a fault may have
//! come from. How often that happens by chance is learned from looks at places drawn by lot, one for
//! each minute that passes, since what comes by chance comes at any time: a control group, as in a
//! case-control study. From both follows how likely it is that an alert of that name, when it comes in
//! company, was caused by it (Bayes' rule).

use super::evidence::in_other_worlds;
use super::place::{Place, Places, Spoken, Way, ways_to};
use crate::domain::incident::IncidentId;
use crate::domain::item::{Catalog, ItemId};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::{ObjectKey, State, later, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whatever came before by so many seconds is company.
const COMPANY_SECONDS: u64 = 300;
/// What comes within so many seconds comes at one moment.
const MOMENT_SECONDS: u64 = 60;
/// A count is halved after so many seconds: a month.
const HALF_LIFE_SECONDS: u64 = 30 * 24 * 3600;
/// So many names are remembered.
const NAMES_MAX: usize = 4096;
/// No name is longer, in bytes.
const NAME_BYTES_MAX: usize = 160;
/// So many places are known of each name.
const PLACES_MAX: usize = 128;
/// All of a million.
const ONE: u64 = 1_000_000;
/// How sure one is of a name that was never heard, and how many alerts it takes to outweigh that.
const UNKNOWN_PPM: u64 = 900_000;
/// The same of what came at one moment, in places of which nobody wrote down what they depend on.
const UNKNOWN_MOMENT_PPM: u64 = 500_000;
const UNKNOWN_WEIGHT: u64 = 2;
/// The share of company by chance while nothing is known, and its weight.
const CHANCE_PPM: u64 = 300_000;
const CHANCE_WEIGHT: u64 = 60;
/// The weight of the same for moments, and the least of it.
const MOMENT_WEIGHT: u64 = 10;
const MOMENT_PPM_MIN: u64 = 100_000;

/// What was learned about the alerts of one name and severity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experience {
    /// The alert's name and severity.
    pub name: Arc<str>,
    /// How many began.
    pub began: u32,
    /// How many of them came in company.
    pub followed: u32,
    /// How many of them brought company along.
    pub led: u32,
    /// How many of them came at one moment with others, wherever these were.
    #[serde(default)]
    pub in_moments: u32,
    /// When the counts were last halved, or begun.
    pub halved_at: Timestamp,
    /// In how many incidents such an alert spoke of each place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, u32>,
}

/// The name under which an alert's experience is kept: its own, and its severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct ExperienceName(Arc<str>);

impl ExperienceName {
    /// The one of an alert with these labels.
    pub(in crate::domain) fn of(labels: &Labels) -> Self {
        Self(experience_name(labels).into())
    }

    /// A hash of the name, without writing it down: most names are known already.
    pub(in crate::domain) fn hash(labels: &Labels) -> u64 {
        let (name, severity) = name_and_severity(labels);
        let bytes = name.bytes().chain([b'/']).chain(severity.bytes());
        bytes.fold(0, |hash, it| mixed(hash ^ u64::from(it)))
    }
}

/// How often places drawn by lot were in company.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// How often one looked.
    pub looks: u32,
    /// How often there was company.
    pub hits: u32,
    /// When the counts were last halved.
    pub halved_at: Option<Timestamp>,
    /// When one last looked.
    #[serde(default)]
    pub looked_at: Option<Timestamp>,
}

impl Chance {
    /// How many looks are due: one for each minute, a day of them at most.
    fn due(&self, now: Timestamp) -> u32 {
        let minutes = self.looked_at.map_or(1, |it| seconds_between(it, now) / 60);
        u32::try_from(minutes.min(24 * 60)).unwrap_or(0)
    }

    /// Notes looks, one of which may have found company.
    fn note(&mut self, now: Timestamp, due: u32, is_hit: bool) {
        let since = *self.halved_at.get_or_insert(now);
        if seconds_between(since, now) >= HALF_LIFE_SECONDS {
            (self.looks, self.hits) = (self.looks / 2, self.hits / 2);
            self.halved_at = Some(now);
        }
        self.looked_at = Some(now);
        self.looks = self.looks.saturating_add(due);
        self.hits = self.hits.saturating_add(u32::from(is_hit));
    }

    /// The share of looks that found company, in millionths.
    pub(in crate::domain) fn ppm(&self) -> u64 {
        let hits = u64::from(self.hits) * ONE + CHANCE_PPM * CHANCE_WEIGHT;
        (hits / (u64::from(self.looks) + CHANCE_WEIGHT)).clamp(CHANCE_PPM, ONE * 9 / 10)
    }

    /// The same where every minute is looked at, so that less is enough to know.
    fn moment_ppm(&self) -> u64 {
        let hits = u64::from(self.hits) * ONE + CHANCE_PPM * MOMENT_WEIGHT;
        (hits / (u64::from(self.looks) + MOMENT_WEIGHT)).clamp(MOMENT_PPM_MIN, ONE * 9 / 10)
    }
}

/// How likely it is that company is no accident, in millionths: `q / (q + (1 - q) · chance)`, where
/// `q` is the share of alerts that were caused, which is what is left of those in company when
/// chance is taken away.
fn cause_ppm(company: u32, began: u32, chance_ppm: u64, unknown_ppm: u64) -> u64 {
    let (company, began) = (u64::from(company), u64::from(began));
    let caused = (company * ONE).saturating_sub(chance_ppm * began);
    let caused = caused * ONE / (ONE - chance_ppm) + unknown_ppm * UNKNOWN_WEIGHT;
    let share = (caused / (began + UNKNOWN_WEIGHT)).min(ONE * 99 / 100);
    share * ONE / (share + (ONE - share) * chance_ppm / ONE)
}

/// The name under which an alert's experience is kept.
fn experience_name(labels: &Labels) -> String {
    let (name, severity) = name_and_severity(labels);
    format!("{name}/{severity}")
}

fn name_and_severity(labels: &Labels) -> (&str, &str) {
    let name = labels.get("alertname").unwrap_or_default();
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let severity = labels.get("severity").filter(|it| it.len() <= 32).unwrap_or_default();
    (name.get(..end).unwrap_or_default(), severity)
}

impl State {
    /// How likely it is that an alert with these labels, in company, was caused by it, in millionths.
    pub(in crate::domain) fn follows_ppm(&self, labels: &Labels) -> u64 {
        let (company, began) = self.heard_of(labels, |it| it.followed);
        cause_ppm(company, began, self.memory.chance.ppm(), UNKNOWN_PPM)
    }

    /// How likely it is that what comes after such an alert was caused by it, in millionths.
    pub(in crate::domain) fn leads_ppm(&self, labels: &Labels) -> u64 {
        let (company, began) = self.heard_of(labels, |it| it.led);
        cause_ppm(company, began, self.memory.chance.ppm(), UNKNOWN_PPM)
    }

    /// How likely it is that what came the moment before caused an alert with these labels, wherever that
    /// was, in millionths.
    pub(in crate::domain) fn follows_moment_ppm(&self, labels: &Labels) -> u64 {
        let (company, began) = self.heard_of(labels, |it| it.in_moments);
        cause_ppm(company, began, self.memory.moments.moment_ppm(), UNKNOWN_MOMENT_PPM)
    }

    fn heard_of(&self, labels: &Labels, count: impl Fn(&Experience) -> u32) -> (u32, u32) {
        let known = self.experiences.get(experience_name(labels).as_str());
        known.map_or((0, 0), |it| (count(it), it.began))
    }

    /// Learns from an alert that begins: whether it is in company, and whether a place drawn by lot is.
    pub(in crate::domain) fn learn_from(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        spoken: &Spoken,
        ways: &[(Way, Place)],
    ) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let name = experience_name(&alert.labels);
        let company = self.company(now, fingerprint, ways, COMPANY_SECONDS);
        let is_in_moment = spoken.loose == Some(Place::Anywhere) && {
            self.look_for_moments(now);
            let anywhere = [(Way::SameMoment, Place::Anywhere)];
            !self.company(now, fingerprint, &anywhere, MOMENT_SECONDS).is_empty()
        };
        self.look_for_chance(now, fingerprint, &spoken.places);
        if let Some(known) = self.experience(now, &name) {
            known.began = known.began.saturating_add(1);
            known.followed = known.followed.saturating_add(u32::from(!company.is_empty()));
            known.in_moments = known.in_moments.saturating_add(u32::from(is_in_moment));
        }
        for leader in company {
            let Some(alert) = self.alerts.get_mut(&leader) else { continue };
            if !std::mem::replace(&mut alert.has_led, true) {
                let name = experience_name(&alert.labels);
                self.changes.pages.insert(alert.page);
                if let Some(known) = self.experience(now, &name) {
                    known.led = known.led.saturating_add(1);
                }
            }
        }
    }

    /// Looks whether a place drawn by lot is in company. In the minutes before, in which nothing began,
    /// nothing would have been.
    fn look_for_chance(&mut self, now: Timestamp, fingerprint: Fingerprint, places: &Places) {
        let due = self.memory.chance.due(now);
        if due == 0 {
            return;
        }
        let Some(control) = self.drawn_by_lot(now, fingerprint, places) else { return };
        let ways = ways_to(&self.rules.catalog, &control);
        let is_hit = !self.company(now, fingerprint, &ways, COMPANY_SECONDS).is_empty();
        self.memory.chance.note(now, due, is_hit);
        self.changes.objects.insert(ObjectKey::Memory);
    }

    /// Looks in how many minutes an alert begins that is about no place of the catalog: one does now, and
    /// in the whole minutes before none did.
    fn look_for_moments(&mut self, now: Timestamp) {
        let due = self.memory.moments.due(now);
        if due > 0 {
            self.memory.moments.note(now, due, true);
            self.changes.objects.insert(ObjectKey::Memory);
        }
    }

    /// How new it is that such an alert speaks of a place: 1000 for the first time, and the less in the
    /// more incidents that happened before.
    pub(in crate::domain) fn newness(&self, name: &ExperienceName, place: &str) -> u64 {
        let known = self.experiences.get(&name.0);
        let count = known.map_or(0, |it| match it.places.get(place) {
            Some(count) => *count,
            None if it.places.len() >= PLACES_MAX => 1,
            None => 0,
        });
        1000 / (1 + u64::from(count))
    }

    /// Learns from an incident that is closed what was said of which place.
    pub(in crate::domain) fn learn_places(&mut self, now: Timestamp, incident: IncidentId) {
        let catalog = self.rules.catalog.clone();
        let told = self.sightings.of(incident);
        let said: Vec<(ExperienceName, String)> = told
            .flat_map(|(place, it)| it.said.values().map(move |said| (said, place)))
            .map(|(said, place)| (said.name.clone(), place.name(&catalog).to_owned()))
            .collect();
        for (name, place) in said {
            let Some(known) = self.experience(now, &name.0) else { continue };
            if known.places.len() < PLACES_MAX || known.places.contains_key(&place) {
                *known.places.entry(place).or_default() += 1;
            }
        }
    }

    /// The experience of a name, to be changed; `None` if there is no room for another name.
    fn experience(&mut self, now: Timestamp, name: &str) -> Option<&mut Experience> {
        if !self.experiences.contains_key(name) {
            if self.experiences.len() >= NAMES_MAX && !self.forget_experiences(now) {
                return None;
            }
            let name: Arc<str> = name.into();
            let new = Experience {
                name: name.clone(),
                began: 0,
                followed: 0,
                led: 0,
                in_moments: 0,
                halved_at: now,
                places: BTreeMap::new(),
            };
            self.experiences.insert(name, new);
        }
        let known = self.experiences.get_mut(name)?;
        self.changes.objects.insert(ObjectKey::Experience(known.name.clone()));
        if seconds_between(known.halved_at, now) >= HALF_LIFE_SECONDS {
            known.began /= 2;
            known.followed /= 2;
            known.led /= 2;
            known.in_moments /= 2;
            known.places.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            known.halved_at = now;
        }
        Some(known)
    }

    /// Makes room: names that were not heard for two half-lives go. Looks once an hour at most.
    fn forget_experiences(&mut self, now: Timestamp) -> bool {
        let seen = self.memory.experiences_swept_at;
        if seen.is_some_and(|it| seconds_between(it, now) < 3600) {
            return false;
        }
        self.memory.experiences_swept_at = Some(now);
        self.changes.objects.insert(ObjectKey::Memory);
        let long_ago = later(now, -2 * i64::try_from(HALF_LIFE_SECONDS).unwrap_or(i64::MAX));
        let old: Vec<Arc<str>> = (self.experiences.values())
            .filter(|it| it.halved_at < long_ago || it.began <= 1)
            .map(|it| it.name.clone())
            .collect();
        for name in &old {
            self.experiences.remove(name);
            self.changes.objects.insert(ObjectKey::Experience(name.clone()));
        }
        self.experiences.len() < NAMES_MAX
    }

    /// The alerts that began so many seconds before at most, in places from which a fault may come.
    fn company(
        &self,
        now: Timestamp,
        besides: Fingerprint,
        ways: &[(Way, Place)],
        seconds: u64,
    ) -> Vec<Fingerprint> {
        let mut company = Vec::new();
        let Some(alert) = self.alerts.get(&besides) else { return company };
        let is_near = |it: &Fingerprint| {
            let other = self.alerts.get(it);
            other.is_some_and(|it| !in_other_worlds(&alert.labels, &it.labels))
        };
        for (way, place) in ways {
            for sighting in self.sightings.at(place) {
                if seconds_between(sighting.at, now) > seconds {
                    break;
                }
                let counts = sighting.is_primary || !way.needs_primary();
                let is_new = sighting.alert != besides && !company.contains(&sighting.alert);
                if counts && is_new && is_near(&sighting.alert) {
                    company.push(sighting.alert);
                }
            }
        }
        company
    }

    /// Places of the same kinds, drawn from the catalog by lot. The lot is a hash of the alert and of
    /// what was drawn before, so that the same history draws the same.
    fn drawn_by_lot(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
        places: &Places,
    ) -> Option<Places> {
        let catalog = &*self.rules.catalog;
        let millisecond = now.as_millisecond().cast_unsigned();
        let lot = mixed(fingerprint.0 ^ mixed(millisecond));
        let draw = |place: &Option<Place>, lot: u64| -> Option<Option<Place>> {
            match place {
                Some(place @ Place::Item(_)) => {
                    let hosts = place.is_host(catalog);
                    Some(Some(Place::Item(drawn_item(catalog, lot, hosts)?)))
                }
                // Of places that are in no catalog nobody knows how many there are.
                Some(_) => None,
                None => Some(None),
            }
        };
        let service = draw(&places.service, lot)?;
        let host = draw(&places.host, mixed(lot))?;
        if service.is_none() && host.is_none() {
            return None;
        }
        let zone = match &host {
            Some(Place::Item(it)) => catalog.zone(*it).map(|it| Place::Zone(it.into())),
            _ => None,
        };
        Some(Places { service, host, zone })
    }
}

/// So many lots are drawn until one is an item of the right kind.
const LOTS: u64 = 16;

/// An item of the catalog by lot: a machine, or none.
fn drawn_item(catalog: &Catalog, lot: u64, is_host: bool) -> Option<ItemId> {
    let count = catalog.len() as u64;
    let tries = (0..LOTS).map(|it| mixed(lot.wrapping_add(it)).checked_rem(count));
    let items = tries.flatten().map(|it| ItemId(u32::try_from(it).unwrap_or(0)));
    items.into_iter().find(|it| catalog.is_host(*it) == is_host)
}

/// Mixes the bits of a number (splitmix64, Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
