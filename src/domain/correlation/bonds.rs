//! What holds the alerts of an incident together: the places at which one fault would explain them both.
//!
//! An alert is explained by a fault where it speaks of, and of all that this needs on the graph. Where two alerts
//! have such a place in common, nothing tells that they are two faults, be it in trouble itself or not.

use super::evidence::parts_told;
use super::lesson::holds;
use super::place::{Place, Spoken, told_zone};
use crate::domain::State;
use crate::domain::alert::Alert;
use crate::domain::incident::{IncidentId, Symptom};
use crate::domain::item::{ItemId, ItemKind};
use crate::domain::label::Fingerprint;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A fault is looked for so many steps away.
const HOPS_MAX: u8 = 4;
/// So many items are followed from one alert.
const REACHED_MAX: usize = 1024;

/// What two alerts may have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bond<'s> {
    /// A fault of this item explains both.
    Item(ItemId),
    /// A fault of this zone, which is in trouble itself, does.
    Zone(&'s str),
    /// Both name this part of something.
    Told(&'s str, &'s str),
    /// Both are of kinds that people joined.
    Taught(usize),
}

/// What the alerts of an incident have in common with others.
pub(super) struct Bonds<'s> {
    of_alert: BTreeMap<Fingerprint, BTreeSet<Bond<'s>>>,
}

impl Bonds<'_> {
    /// The alerts in groups that nothing holds together.
    pub(super) fn together<'a>(&self, alerts: &[&'a Alert]) -> Vec<Vec<&'a Alert>> {
        let mut groups: Vec<(BTreeSet<&Bond<'_>>, Vec<&'a Alert>)> = Vec::new();
        for alert in alerts {
            let bonds: BTreeSet<&Bond<'_>> = self.of(alert).collect();
            let mut joined = (bonds, vec![*alert]);
            let (same, others) =
                groups.into_iter().partition(|(known, _)| !known.is_disjoint(&joined.0));
            groups = others;
            let same: Vec<(BTreeSet<&Bond<'_>>, Vec<&'a Alert>)> = same;
            for (bonds, alerts) in same {
                joined.0.extend(bonds);
                joined.1.extend(alerts);
            }
            groups.push(joined);
        }
        groups.into_iter().map(|(_, alerts)| alerts).collect()
    }

    /// Whether something holds an alert to one of some others.
    pub(super) fn hold(&self, alert: &Alert, others: &[&Alert]) -> bool {
        let own: BTreeSet<&Bond<'_>> = self.of(alert).collect();
        others.iter().any(|it| self.of(it).any(|bond| own.contains(bond)))
    }

    fn of(&self, alert: &Alert) -> impl Iterator<Item = &Bond<'_>> {
        self.of_alert.get(&alert.fingerprint).into_iter().flatten()
    }
}

/// What the alerts of an incident tell of the graph, beside the catalog: what runs where, and what calls what.
type ToldGraph = BTreeMap<ItemId, BTreeSet<ItemId>>;

impl State {
    /// What may hold the alerts of an incident together; `None` = one of them speaks of a place that nobody
    /// wrote down, so that nothing is known of what it needs.
    pub(super) fn bonds<'s>(
        &'s self,
        now: Timestamp,
        incident: IncidentId,
        alerts: &[&'s Alert],
    ) -> Option<Bonds<'s>> {
        let spoken: Vec<Spoken> = alerts.iter().map(|it| self.spoken(&it.labels)).collect();
        let mut told = ToldGraph::new();
        for it in &spoken {
            let items = self.written_items_of(it)?;
            if let Some((first, needed)) = items.split_first() {
                told.entry(*first).or_default().extend(needed);
            }
        }
        let zone_is_in_trouble =
            self.sightings.of(incident).any(|(place, it)| is_zone(place) && it.is_primary);
        let mut known: BTreeMap<ItemId, BTreeSet<Bond<'s>>> = BTreeMap::new();
        let mut of_alert = BTreeMap::new();
        for (alert, spoken) in alerts.iter().zip(&spoken) {
            let mut bonds: BTreeSet<Bond<'s>> =
                parts_told(alert).map(|(name, value)| Bond::Told(name, value)).collect();
            for item in self.written_items_of(spoken)? {
                let of_item = known
                    .entry(item)
                    .or_insert_with(|| self.explained_by(item, &told, zone_is_in_trouble));
                bonds.extend(of_item.iter().cloned());
            }
            if zone_is_in_trouble {
                bonds.extend(told_zone(&alert.labels).map(Bond::Zone));
            }
            of_alert.insert(alert.fingerprint, bonds);
        }
        self.add_lessons(now, alerts, &mut of_alert);
        Some(Bonds { of_alert })
    }

    /// The items that an alert speaks of, what it is about first of all first; `None` = one is in no catalog.
    fn written_items_of(&self, spoken: &Spoken) -> Option<Vec<ItemId>> {
        let places = &spoken.places;
        if spoken.is_of_no_place() || places.is_empty() && spoken.called.is_none() {
            return None;
        }
        let named = [&places.service, &places.host, &spoken.called].into_iter().flatten();
        let items: Option<Vec<ItemId>> = named.map(Place::item).collect();
        let is_written = |it: &ItemId| self.rules.catalog.item(*it).is_some_and(|it| !it.learned);
        items.filter(|it| it.iter().all(is_written))
    }

    /// Where a fault would explain what an item suffers from.
    fn explained_by<'s>(
        &'s self,
        from: ItemId,
        told: &ToldGraph,
        with_zones: bool,
    ) -> BTreeSet<Bond<'s>> {
        let catalog = &*self.rules.catalog;
        let is_component =
            |it: &&ItemId| catalog.item(**it).is_some_and(|it| it.kind == ItemKind::Component);
        let mut hops: BTreeMap<ItemId, u8> = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(item) = queue.pop_front() {
            let steps = hops.get(&item).copied().unwrap_or(HOPS_MAX);
            if steps >= HOPS_MAX {
                continue;
            }
            let needs = catalog.dependencies(item).iter().chain(catalog.hosts(item));
            let wholes = catalog.wholes(item).iter().filter(is_component);
            for next in needs.chain(wholes).chain(told.get(&item).into_iter().flatten()) {
                if hops.len() < REACHED_MAX && !hops.contains_key(next) {
                    hops.insert(*next, steps + 1);
                    queue.push_back(*next);
                }
            }
        }
        let zones = hops.keys().filter_map(|it| catalog.zone(*it)).filter(|_| with_zones);
        let zones: Vec<Bond<'s>> = zones.map(Bond::Zone).collect();
        hops.into_keys().map(Bond::Item).chain(zones).collect()
    }

    /// Adds what people joined by hand.
    fn add_lessons(
        &self,
        now: Timestamp,
        alerts: &[&Alert],
        of_alert: &mut BTreeMap<Fingerprint, BTreeSet<Bond<'_>>>,
    ) {
        let lessons = self.memory.lessons.iter().enumerate();
        let lessons: Vec<_> = lessons.filter(|(_, it)| it.belong && holds(now, it)).collect();
        if lessons.is_empty() {
            return;
        }
        for alert in alerts {
            let kind: Symptom = self.kind_of(alert);
            let about = lessons.iter().filter(|(_, it)| it.one == kind || it.other == kind);
            let taught = about.map(|(number, _)| Bond::Taught(*number));
            of_alert.entry(alert.fingerprint).or_default().extend(taught);
        }
    }
}

fn is_zone(place: &Place) -> bool {
    match place {
        Place::Zone(_) => true,
        Place::Item(_) | Place::Service(_) | Place::Host(_) | Place::Anywhere => false,
    }
}
