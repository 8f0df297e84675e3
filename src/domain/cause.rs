//! Causes: which item an incident began at, and which change may have begun it.
//!
//! A place is the likelier the root the more of the others a fault there would explain, on the graph
//! of dependencies, the more unusual what alerts say of it is, and the earlier it was seen. A change
//! is the more suspect the shorter it was made before, and the nearer to a likely root.

use super::change::ChangeId;
use super::correlation::{Place, Told};
use super::flapping::faded;
use super::incident::{Incident, IncidentId};
use super::item::{Catalog, ItemId};
use super::{State, later, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where an incident may have begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCause {
    /// The name of the item, or of whatever place it is.
    pub item: String,
    /// 0 to 1000.
    pub score: u64,
    /// In a sentence.
    pub why: String,
}

/// A change that may have caused an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectChange {
    /// The change.
    pub id: ChangeId,
    /// 0 to 1000.
    pub score: u64,
    /// In a sentence.
    pub why: String,
}

/// So many are named.
const ROOTS_MAX: usize = 5;
/// So many changes are named.
const SUSPECTS_MAX: usize = 3;
/// So many places are looked at, the earliest first.
const PLACES_MAX: usize = 64;
/// So many items are followed from one place.
const REACHED_MAX: usize = 256;
/// An effect is looked for so many steps away.
const HOPS_MAX: u8 = 4;
/// The weights of what counts for a root; they add up to 1000.
const EXPLAINS: u64 = 375;
const NEWS: u64 = 375;
const EARLY: u64 = 190;
const PRIMARY: u64 = 60;
/// What is said of a place counts so much less if it is a caller who says it, in a thousand.
const CALLER_SHARE: u64 = 300;
/// What is said late counts so much less, in a thousand.
const LATE_SHARE: u64 = 200;
/// Being early counts half after so many seconds.
const EARLY_HALF_LIFE_SECONDS: u64 = 60;
/// A change counts half after so many seconds, and nothing after an hour.
const CHANGE_HALF_LIFE_SECONDS: u64 = 900;
const CHANGE_SECONDS: i64 = 3600;
/// A change is told of up to so many seconds after the first alert.
const CHANGE_LATE_SECONDS: i64 = 60;
/// So many changes are looked at, and so many incidents when a change is told of late.
const LOOKED_AT_MAX: usize = 256;
/// What a change counts at what a likely root depends on, in a thousand.
const BESIDE_SHARE: u64 = 500;

/// A place with what is known of it, and how likely the incident began there.
struct Candidate {
    place: Place,
    first_at: Timestamp,
    is_primary: bool,
    explained: usize,
    firsts: usize,
    score: u64,
}

impl State {
    /// Works out the causes of the incidents that were seen in new places in this turn.
    pub(super) fn find_causes(&mut self) {
        for id in std::mem::take(&mut self.causes_wanted) {
            let candidates = self.root_candidates(id);
            let Some(incident) = self.incidents.get(&id) else { continue };
            let roots = self.name_roots(incident, &candidates);
            let suspects = self.suspect_changes(incident, &candidates);
            if let Some(incident) = self.incidents.get_mut(&id) {
                incident.root_causes = roots;
                incident.suspect_changes = suspects;
            }
        }
    }

    /// A change became known: the incidents that began about then are looked at again.
    pub(super) fn change_may_be_cause(&mut self, at: Timestamp) {
        let from = later(at, -CHANGE_LATE_SECONDS);
        let until = later(at, CHANGE_SECONDS);
        let recent = self.incidents.values().rev().take_while(|it| it.opened_at >= from);
        let wanted = recent.filter(|it| it.opened_at <= until).take(LOOKED_AT_MAX).map(|it| it.id);
        let wanted: Vec<IncidentId> = wanted.collect();
        for id in &wanted {
            self.changes.objects.insert(super::ObjectKey::Incident(*id));
        }
        self.causes_wanted.extend(wanted);
    }

    /// The places of an incident, the likeliest root first.
    fn root_candidates(&self, id: IncidentId) -> Vec<Candidate> {
        let catalog = &*self.rules.catalog;
        let mut seen: Vec<(&Place, &Told)> = self.sightings.of(id).collect();
        seen.sort_by_key(|(place, it)| (it.first_at, !it.is_primary, *place));
        seen.truncate(PLACES_MAX);
        let Some(began) = seen.first().map(|(_, it)| it.first_at) else { return Vec::new() };
        let about: Vec<&Place> =
            seen.iter().filter(|(_, it)| it.is_primary).map(|(place, _)| *place).collect();
        let news: Vec<u64> =
            seen.iter().map(|(place, told)| self.news_of(place, told, began)).collect();
        let most = news.iter().copied().max().unwrap_or(0).max(1);
        let mut candidates: Vec<Candidate> = seen
            .iter()
            .zip(news)
            .map(|((place, told), news)| {
                let effects = effects_of(catalog, place);
                let is_explained = |it: &&&Place| it == &place || effects.explains(catalog, it);
                let explained = about.iter().filter(is_explained).count();
                let share = (explained as u64 * EXPLAINS).checked_div(about.len() as u64);
                let late = seconds_between(began, told.first_at);
                let early = faded(EARLY, late, EARLY_HALF_LIFE_SECONDS);
                let primary = if told.is_primary { PRIMARY } else { 0 };
                Candidate {
                    place: (*place).clone(),
                    first_at: told.first_at,
                    is_primary: told.is_primary,
                    explained,
                    firsts: self.firsts_of(place, told),
                    score: share.unwrap_or(0) + early + primary + NEWS * news / most,
                }
            })
            .collect();
        candidates.sort_by(|one, other| {
            (other.score, one.first_at, &one.place).cmp(&(one.score, other.first_at, &other.place))
        });
        candidates
    }

    /// How much that is new is said of a place.
    fn news_of(&self, place: &Place, told: &Told, began: Timestamp) -> u64 {
        let name = place.name(&self.rules.catalog);
        let news = told.said.values().map(|it| {
            let late = seconds_between(began, it.first_at);
            let early = LATE_SHARE + faded(1000 - LATE_SHARE, late, EARLY_HALF_LIFE_SECONDS);
            let share = if it.by_caller { CALLER_SHARE } else { 1000 };
            self.newness(&it.name, name) * early / 1000 * share / 1000
        });
        news.sum()
    }

    /// How many kinds of alerts speak of a place for the first time.
    fn firsts_of(&self, place: &Place, told: &Told) -> usize {
        let name = place.name(&self.rules.catalog);
        told.said.values().filter(|it| self.newness(&it.name, name) == 1000).count()
    }

    fn name_roots(&self, incident: &Incident, candidates: &[Candidate]) -> Vec<RootCause> {
        let about = candidates.iter().filter(|it| it.is_primary).count();
        let named = candidates.iter().take(ROOTS_MAX).map(|it| {
            let late = seconds_between(incident.opened_at, it.first_at);
            let item = it.place.name(&self.rules.catalog).to_owned();
            let explained = it.explained;
            let firsts = match it.firsts {
                0 => String::new(),
                1 => "; one kind of alert was never heard of it before".to_owned(),
                count => format!("; {count} kinds of alerts were never heard of it before"),
            };
            let why = format!(
                "a fault there explains {explained} of the {about} places in trouble; it was seen \
                 {late} s after the first alert{firsts}"
            );
            RootCause { item, score: it.score, why }
        });
        named.collect()
    }

    fn suspect_changes(&self, incident: &Incident, candidates: &[Candidate]) -> Vec<SuspectChange> {
        let catalog = &*self.rules.catalog;
        let began = candidates.iter().map(|it| it.first_at).min().unwrap_or(incident.opened_at);
        let until = later(began, CHANGE_LATE_SECONDS);
        let recent = self.change_log.between(later(began, -CHANGE_SECONDS), until);
        let mut suspects = Vec::new();
        for change in recent.take(LOOKED_AT_MAX) {
            // What was done about the incident did not begin it.
            if change.run().is_some_and(|it| incident.executions.contains(&it)) {
                continue;
            }
            let service = change.told.service.as_str();
            let Some(at) = change.told.time.filter(|_| !service.is_empty()) else { continue };
            let item = catalog.find(service);
            let is_there = |place: &Place| match (place, item) {
                (Place::Item(known), Some(item)) => *known == item,
                _ => place.name(catalog).eq_ignore_ascii_case(service),
            };
            let own = candidates.iter().filter(|it| is_there(&it.place)).map(|it| (it.score, true));
            let needs = |place: &Place| match (place, item) {
                (Place::Item(known), Some(item)) => catalog.dependencies(*known).contains(&item),
                _ => false,
            };
            let beside = candidates.iter().filter(|it| needs(&it.place));
            let beside = beside.map(|it| (it.score * BESIDE_SHARE / 1000, false));
            let Some((near, is_own)) = own.chain(beside).max() else { continue };
            let before = seconds_between(at, began);
            let score = near * faded(1000, before, CHANGE_HALF_LIFE_SECONDS) / 1000;
            let how = if is_own { "is in trouble" } else { "is needed by what is in trouble" };
            let why = format!("made {before} s before the first alert; `{service}` {how}");
            suspects.push(SuspectChange { id: change.id, score, why });
        }
        suspects.sort_by_key(|it| (std::cmp::Reverse(it.score), std::cmp::Reverse(it.id)));
        suspects.truncate(SUSPECTS_MAX);
        suspects
    }
}

/// What a fault at a place would explain.
enum Effects<'c> {
    /// These items.
    Items(BTreeSet<ItemId>),
    /// Everything that stands in the zone, and what depends on it.
    Zone(&'c str),
    /// Itself alone.
    Itself,
}

impl Effects<'_> {
    fn explains(&self, catalog: &Catalog, place: &Place) -> bool {
        match (self, place) {
            (Self::Items(items), Place::Item(it)) => items.contains(it),
            (Self::Zone(zone), Place::Item(it)) => {
                let hosts = catalog.hosts(*it).iter();
                catalog.zone(*it) == Some(zone)
                    || hosts.into_iter().any(|it| catalog.zone(*it) == Some(zone))
            }
            _ => false,
        }
    }
}

fn effects_of<'c>(catalog: &'c Catalog, place: &'c Place) -> Effects<'c> {
    match place {
        Place::Item(item) => Effects::Items(reached(catalog, *item)),
        Place::Zone(_) => Effects::Zone(place.name(catalog)),
        Place::Service(_) | Place::Host(_) | Place::Anywhere => Effects::Itself,
    }
}

/// The items that a fault of one reaches: those that run on it, and those that depend on it.
fn reached(catalog: &Catalog, from: ItemId) -> BTreeSet<ItemId> {
    let mut hops: BTreeMap<ItemId, u8> = BTreeMap::from([(from, 0)]);
    let mut queue = std::collections::VecDeque::from([from]);
    while let Some(item) = queue.pop_front() {
        let steps = hops.get(&item).copied().unwrap_or(HOPS_MAX);
        if steps >= HOPS_MAX {
            continue;
        }
        for next in catalog.dependents(item).iter().chain(catalog.residents(item)) {
            if hops.len() < REACHED_MAX && !hops.contains_key(next) {
                hops.insert(*next, steps + 1);
                queue.push_back(*next);
            }
        }
    }
    hops.into_keys().collect()
}
