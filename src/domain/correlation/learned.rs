//! What is learned of places that nobody wrote down: in which zone a machine is, what runs on it, and
//! after what else a service gets into trouble. Labels tell the first two, incidents the third.

use super::place::{Place, Spoken, Way, told_zone};
use crate::domain::incident::IncidentId;
use crate::domain::item::{Item, ItemId, ItemKind, Relation, RelationKind};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::{ObjectKey, State, later, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many places are remembered.
const PLACES_MAX: usize = 10_000;
/// So many machines are known of a service.
const HOSTS_MAX: usize = 16;
/// After so many other services one may be in trouble.
const LEADERS_MAX: usize = 32;
/// So many places of an incident are learned from.
const LEARNED_FROM_MAX: usize = 32;
/// One service is in trouble after another if it was in so many incidents …
const SUPPORT: u32 = 2;
/// … and in one of so many of all in which it was.
const SHARE: u32 = 4;
/// Counts are halved after so many seconds: a month. What was not heard of for two of them goes.
const HALF_LIFE_SECONDS: u64 = 30 * 24 * 3600;
/// That a place was heard of is noted once in so many seconds.
const HEARD_SECONDS: u64 = 24 * 3600;

/// A service or a machine that is in no catalog, as alerts tell of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedPlace {
    /// Its kind and name: `host/n1`, `service/cart`.
    pub key: Arc<str>,
    /// The zone of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The machines on which a service was seen.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// In how many incidents a service was in trouble …
    #[serde(default)]
    pub incidents: u32,
    /// … and in how many of them after each other one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<String, u32>,
    /// When it was last heard of, to the day.
    pub heard_at: Timestamp,
    /// When the counts were last halved, or begun.
    pub halved_at: Timestamp,
}

/// All learned places, and how many machines are in each zone.
#[derive(Default)]
pub struct LearnedPlaces {
    by_key: BTreeMap<Arc<str>, LearnedPlace>,
    zones: BTreeMap<String, usize>,
}

impl LearnedPlaces {
    /// One of them.
    pub fn get(&self, key: &str) -> Option<&LearnedPlace> {
        self.by_key.get(key)
    }

    /// The keys of all of them.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_key.keys()
    }

    /// Puts one back, after loading.
    pub(in crate::domain) fn put(&mut self, place: LearnedPlace) {
        if let Some(zone) = &place.zone {
            *self.zones.entry(zone.clone()).or_default() += 1;
        }
        self.by_key.insert(place.key.clone(), place);
    }

    /// Whether machines are known to be in a zone of this name, and others to be in another: what
    /// all have in common says nothing.
    pub(super) fn has_zone(&self, name: &str) -> bool {
        self.zones.len() > 1 && self.zones.contains_key(name)
    }

    /// The zone of a machine, if it tells it from others.
    pub(super) fn zone(&self, host: &Place) -> Option<&str> {
        if self.zones.len() < 2 {
            return None;
        }
        self.by_key.get(key_of(host)?.as_str())?.zone.as_deref()
    }

    /// The services after which one is often in trouble.
    pub(super) fn leaders(&self, service: &Place) -> impl Iterator<Item = (Way, Place)> {
        let known = key_of(service).and_then(|it| self.by_key.get(it.as_str()));
        known.into_iter().flat_map(|known| {
            let often = |count: u32| count >= SUPPORT && count * SHARE >= known.incidents;
            let after = known.after.iter().filter(move |(_, count)| often(**count));
            after.map(|(it, _)| (Way::FiredAfter, Place::Service(it.as_str().into())))
        })
    }

    fn forget(&mut self, key: &str) {
        let Some(gone) = self.by_key.remove(key) else { return };
        self.leave_zone(gone.zone.as_deref());
    }

    fn leave_zone(&mut self, zone: Option<&str>) {
        let Some(zone) = zone else { return };
        if let Some(count) = self.zones.get_mut(zone) {
            *count -= 1;
            if *count == 0 {
                self.zones.remove(zone);
            }
        }
    }
}

/// The key of a place that is in no catalog; zones are known by their machines.
fn key_of(place: &Place) -> Option<String> {
    match place {
        Place::Service(it) => Some(format!("service/{}", it.as_str())),
        Place::Host(it) => Some(format!("host/{}", it.as_str())),
        Place::Item(_) | Place::Zone(_) | Place::Anywhere => None,
    }
}

impl State {
    /// Learns of the places of an alert that is about to join an incident, or to open one.
    pub(super) fn learn_places_of(
        &mut self,
        now: Timestamp,
        (fingerprint, incident): (Fingerprint, Option<IncidentId>),
        spoken: &Spoken,
    ) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let zone = told_zone(&alert.labels).map(str::to_owned);
        self.learn_labels(now, zone.as_deref(), spoken);
        self.learn_order(now, incident, spoken);
    }

    /// Learns from labels which zone a machine is in, and what runs there.
    fn learn_labels(&mut self, now: Timestamp, zone: Option<&str>, spoken: &Spoken) {
        let (service, host) = (&spoken.places.service, &spoken.places.host);
        if let (Some(key), Some(zone)) = (host.as_ref().and_then(key_of), zone) {
            self.learn_zone(now, &key, zone);
        }
        let service = service.as_ref().and_then(key_of);
        let Some((service, Some(Place::Host(host)))) = service.zip(Some(host)) else { return };
        if self.learned.get(&service).is_some_and(|it| it.hosts.contains(host.as_str())) {
            return;
        }
        let host = host.as_str().to_owned();
        self.change_learned(now, &service, |it| {
            it.hosts.len() < HOSTS_MAX && it.hosts.insert(host)
        });
    }

    fn learn_zone(&mut self, now: Timestamp, host: &str, zone: &str) {
        let known = self.learned.get(host);
        if known.is_some_and(|it| {
            it.zone.as_deref() == Some(zone) && seconds_between(it.heard_at, now) < HEARD_SECONDS
        }) {
            return;
        }
        let before = known.and_then(|it| it.zone.clone());
        let is_taken = self.change_learned(now, host, |it| {
            it.zone = Some(zone.to_owned());
            true
        });
        if is_taken {
            *self.learned.zones.entry(zone.to_owned()).or_default() += 1;
            self.learned.leave_zone(before.as_deref());
        }
    }

    /// Learns, before an alert joins an incident, after which services its own is in trouble there.
    fn learn_order(&mut self, now: Timestamp, incident: Option<IncidentId>, spoken: &Spoken) {
        let Some(service @ Place::Service(_)) = &spoken.places.service else { return };
        let Some(key) = key_of(service) else { return };
        let mut before = Vec::new();
        for (place, _) in incident.iter().flat_map(|it| self.sightings.of(*it)) {
            if place == service {
                // It was in trouble there before.
                return;
            }
            if let Place::Service(it) = place
                && before.len() < LEARNED_FROM_MAX
            {
                before.push(it.as_str().to_owned());
            }
        }
        self.change_learned(now, &key, |it| {
            it.incidents = it.incidents.saturating_add(1);
            for leader in before {
                if it.after.len() < LEADERS_MAX || it.after.contains_key(&leader) {
                    let count = it.after.entry(leader).or_default();
                    *count = count.saturating_add(1);
                }
            }
            true
        });
    }

    /// Changes what is known of a place, which may be new. Tells whether it did.
    fn change_learned(
        &mut self,
        now: Timestamp,
        key: &str,
        change: impl FnOnce(&mut LearnedPlace) -> bool,
    ) -> bool {
        let is_new = !self.learned.by_key.contains_key(key);
        if is_new && self.learned.by_key.len() >= PLACES_MAX && !self.forget_learned(now) {
            return false;
        }
        let key: Arc<str> = key.into();
        let known = self.learned.by_key.entry(key.clone()).or_insert_with(|| LearnedPlace {
            key: key.clone(),
            zone: None,
            hosts: BTreeSet::new(),
            incidents: 0,
            after: BTreeMap::new(),
            heard_at: now,
            halved_at: now,
        });
        if seconds_between(known.halved_at, now) >= HALF_LIFE_SECONDS {
            known.incidents /= 2;
            known.after.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            known.halved_at = now;
        }
        let is_changed = change(known) | is_new;
        if is_changed {
            known.heard_at = now;
            self.changes.objects.insert(ObjectKey::LearnedPlace(key));
        }
        is_changed
    }

    /// Makes room: what was not heard of for two half-lives goes. Looks once an hour at most.
    fn forget_learned(&mut self, now: Timestamp) -> bool {
        let swept = self.memory.learned_swept_at;
        if swept.is_some_and(|it| seconds_between(it, now) < 3600) {
            return false;
        }
        self.memory.learned_swept_at = Some(now);
        self.changes.objects.insert(ObjectKey::Memory);
        let long_ago = later(now, -2 * i64::try_from(HALF_LIFE_SECONDS).unwrap_or(i64::MAX));
        let places = self.learned.by_key.values();
        let old: Vec<Arc<str>> =
            places.filter(|it| it.heard_at < long_ago).map(|it| it.key.clone()).collect();
        for key in old {
            self.learned.forget(&key);
            self.changes.objects.insert(ObjectKey::LearnedPlace(key));
        }
        self.learned.by_key.len() < PLACES_MAX
    }

    /// What was learned as items, marked as learned, and their relations, to stand behind the items of the
    /// catalog in force.
    pub fn learned_items(&self) -> (Vec<Item>, Vec<Relation>) {
        let mut items: BTreeMap<(bool, &str), Item> = BTreeMap::new();
        for place in self.learned.by_key.values() {
            let Some((kind, name)) = place.key.split_once('/') else { continue };
            if self.rules.catalog.find(name).is_some() {
                continue;
            }
            let is_host = kind == "host";
            let mut item = learned_item(is_host, name);
            if let Some(zone) = &place.zone {
                item.labels = Labels::from_pairs([("zone", zone.as_str())]);
            }
            items.insert((is_host, name), item);
            for host in &place.hosts {
                items.entry((true, host)).or_insert_with(|| learned_item(true, host));
            }
        }
        let numbers = items.keys().enumerate().filter_map(|(number, key)| {
            Some((*key, ItemId(u32::try_from(self.rules.catalog.len() + number).ok()?)))
        });
        let numbers: BTreeMap<(bool, &str), ItemId> = numbers.collect();
        let mut relations = Vec::new();
        for place in self.learned.by_key.values() {
            let Some(name) = place.key.strip_prefix("service/") else { continue };
            let Some(from) = numbers.get(&(false, name)).copied() else { continue };
            let service = Place::Service(name.into());
            let leaders: Vec<Place> = self.learned.leaders(&service).map(|it| it.1).collect();
            let services = leaders.iter().map(|it| (false, it.name(&self.rules.catalog)));
            let to = services.chain(place.hosts.iter().map(|it| (true, it.as_str())));
            relations.extend(to.filter_map(|it| numbers.get(&it).copied()).map(|to| Relation {
                from,
                kind: RelationKind::DependsOn,
                to,
            }));
        }
        (items.into_values().collect(), relations)
    }
}

fn learned_item(is_host: bool, name: &str) -> Item {
    let (kind, item_type) =
        if is_host { (ItemKind::Resource, "host") } else { (ItemKind::Component, "service") };
    Item { item_type: item_type.to_owned(), learned: true, ..Item::named(kind, name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Lets an alert begin, and a minute later end.
    fn tell(state: &mut State, second: i64, labels: &[(&str, &str)]) {
        for (later, ends) in [(0, Ends::WhenTold), (60, Ends::At(at(second + 60)))] {
            let alert = ReceivedAlert {
                labels: Labels::from_pairs(labels.iter().copied()),
                annotations: Labels::default(),
                starts_at: Some(at(second)),
                ends,
                generator_url: "".into(),
                identity: None,
            };
            let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
            drop(state.apply(at(second + later), &Event::AlertsReceived(batch)));
        }
    }

    #[test]
    fn a_zone_that_all_machines_share_says_nothing() {
        let mut state = State::default();
        tell(&mut state, 0, &[("alertname", "Load"), ("host", "n1"), ("dc", "east")]);
        tell(&mut state, 9000, &[("alertname", "Load"), ("host", "n2"), ("dc", "east")]);
        let host = Place::Host("n1".into());
        assert_eq!(state.learned.zone(&host), None);
        tell(&mut state, 18_000, &[("alertname", "Load"), ("host", "n3"), ("dc", "west")]);
        assert_eq!(state.learned.zone(&host), Some("east"));
        // The only machine of a zone moves: again there is one zone.
        tell(&mut state, 27_000, &[("alertname", "Load"), ("host", "n3"), ("dc", "east")]);
        assert_eq!(state.learned.zone(&host), None);
    }

    #[test]
    fn what_is_learned_is_shown_as_items_and_survives() {
        let mut state = State::default();
        let labels =
            [("alertname", "NotReady"), ("service", "cart"), ("host", "n1"), ("zone", "a")];
        tell(&mut state, 0, &labels);
        let (items, relations) = state.learned_items();
        let names: Vec<_> = items.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["component:default/cart", "resource:default/n1"]);
        assert!(items.iter().all(|it| it.learned) && items[1].is_host());
        assert_eq!(items[1].zone(), Some("a"));
        let to_host = Relation { from: ItemId(0), kind: RelationKind::DependsOn, to: ItemId(1) };
        assert_eq!(relations, [to_host]);
        let mut restored = LearnedPlaces::default();
        for key in state.learned.keys() {
            restored.put(state.learned.get(key).unwrap().clone());
        }
        assert_eq!(restored.by_key, state.learned.by_key);
        assert_eq!(restored.zones, state.learned.zones);
    }

    #[test]
    fn room_is_made_by_what_was_not_heard_of_for_long() {
        let mut state = State::default();
        for number in 0..PLACES_MAX {
            state.learned.put(LearnedPlace {
                key: format!("host/old{number}").into(),
                zone: Some("a".to_owned()),
                hosts: BTreeSet::new(),
                incidents: 0,
                after: BTreeMap::new(),
                heard_at: at(0),
                halved_at: at(0),
            });
        }
        let labels = [("alertname", "Load"), ("host", "new"), ("zone", "b")];
        tell(&mut state, 3600, &labels);
        assert!(state.learned.get("host/new").is_none(), "there is no room");
        tell(&mut state, 3 * i64::try_from(HALF_LIFE_SECONDS).unwrap(), &labels);
        assert_eq!(state.learned.keys().map(|it| &**it).collect::<Vec<_>>(), ["host/new"]);
        assert_eq!(state.learned.zones.keys().collect::<Vec<_>>(), ["b"]);
    }
}
