//! What follows in the wake of a fault and became an incident of its own: an alert that this fault's
//! incidents hold at other times began soon after one of them, and does so more often than by chance.

use super::history::{History, Record, SymptomId, TextId};
use super::points::number;
use crate::domain::incident::IncidentId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long after an incident was opened its effects are looked for,
const AFTER: SignedDuration = SignedDuration::from_mins(5);
/// and how long before, since senders are late.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);
/// The fewest incidents of a group from which its wake can be told.
const INCIDENTS_MIN: usize = 5;
/// So much of what follows may be there by chance.
const CHANCE_MAX: f64 = 0.35;
/// The fewest followers that tell anything of chance.
const FOLLOWERS_MIN: usize = 2;

/// What belongs together so far, and when all of it was.
pub(super) struct Wakes<'a> {
    history: &'a History,
    /// All incidents by time.
    by_time: Vec<(Timestamp, IncidentId)>,
    /// How many incidents hold each symptom where they began.
    totals: BTreeMap<SymptomId, usize>,
    group_of: BTreeMap<IncidentId, usize>,
}

/// An incident that may belong to a group.
struct Follower {
    incident: IncidentId,
    /// The part of such that would be there by chance.
    chance: f64,
    seconds: i64,
}

impl<'a> Wakes<'a> {
    /// Looks at groups of incidents.
    pub(super) fn of(
        history: &'a History,
        (since, until): (Timestamp, Timestamp),
        groups: &[Vec<IncidentId>],
    ) -> Self {
        let mut by_time = Vec::new();
        let mut totals = BTreeMap::new();
        for (id, record) in history.between(since, until) {
            by_time.push((record.opened_at, id));
            for symptom in symptoms(history, record) {
                *totals.entry(symptom).or_default() += 1;
            }
        }
        by_time.sort_unstable();
        let groups = groups.iter().enumerate();
        let group_of = groups.flat_map(|(number, them)| them.iter().map(move |it| (*it, number)));
        Self { history, by_time, totals, group_of: group_of.collect() }
    }

    /// Which incidents belong to another group than the one that they are in: the group where the
    /// least of it is chance, of equals the nearest in time. With how likely it is no chance, 0 to 1.
    pub(super) fn moves(&self, groups: &[Vec<IncidentId>]) -> BTreeMap<IncidentId, (usize, f64)> {
        let mut best: BTreeMap<IncidentId, (Follower, usize)> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            for follower in self.followers(number, group) {
                let is_better = best.get(&follower.incident).is_none_or(|(it, _)| {
                    let order = follower.chance.total_cmp(&it.chance);
                    order.then(follower.seconds.cmp(&it.seconds)).is_lt()
                });
                if follower.chance <= CHANCE_MAX && is_better {
                    best.insert(follower.incident, (follower, number));
                }
            }
        }
        best.into_iter().map(|(id, (it, group))| (id, (group, 1.0 - it.chance))).collect()
    }

    fn followers(&self, number_of_group: usize, group: &[IncidentId]) -> Vec<Follower> {
        let records = || group.iter().filter_map(|it| self.history.record(*it));
        let effects: BTreeSet<SymptomId> =
            records().flat_map(|it| it.effects.iter().copied()).collect();
        if group.len() < INCIDENTS_MIN || effects.is_empty() {
            return Vec::new();
        }
        let places: BTreeSet<TextId> = records().filter_map(|it| self.place(it)).collect();
        let mut found: BTreeMap<IncidentId, i64> = BTreeMap::new();
        let mut covered = SignedDuration::ZERO;
        let mut covered_until = Timestamp::MIN;
        for opened_at in sorted(records().map(|it| it.opened_at)) {
            let from = opened_at.saturating_sub(BEFORE).unwrap_or(opened_at);
            let until = opened_at.saturating_add(AFTER).unwrap_or(opened_at);
            covered += until.duration_since(from.max(covered_until.min(until)));
            covered_until = until;
            for (at, id) in self.opened(from, until) {
                let seconds = at.duration_since(opened_at).abs().as_secs();
                if self.could_follow(number_of_group, id, (&places, &effects)) {
                    let nearest = found.entry(id).or_insert(seconds);
                    *nearest = seconds.min(*nearest);
                }
            }
        }
        self.judged(&found, &effects, covered)
    }

    /// With each name of an alert that followed: how many were to be expected by chance.
    fn judged(
        &self,
        found: &BTreeMap<IncidentId, i64>,
        effects: &BTreeSet<SymptomId>,
        covered: SignedDuration,
    ) -> Vec<Follower> {
        let (Some((first, _)), Some((last, _))) = (self.by_time.first(), self.by_time.last())
        else {
            return Vec::new();
        };
        let span = last.duration_since(*first).max(covered).as_secs_f64().max(1.0);
        let share = covered.as_secs_f64() / span;
        let mut counts: BTreeMap<TextId, usize> = BTreeMap::new();
        for name in found.keys().flat_map(|it| self.names(*it)) {
            *counts.entry(name).or_default() += 1;
        }
        let mut everywhere: BTreeMap<TextId, usize> = BTreeMap::new();
        for (name, place) in effects {
            let total = self.totals.get(&(*name, *place)).copied().unwrap_or_default();
            *everywhere.entry(*name).or_default() += total;
        }
        let chance = |name: &TextId| {
            let count = counts.get(name).copied().unwrap_or_default();
            let expected = share * number(everywhere.get(name).copied().unwrap_or_default());
            if count < FOLLOWERS_MIN { 1.0 } else { expected / number(count) }
        };
        let follower = |(incident, seconds): (&IncidentId, &i64)| Follower {
            incident: *incident,
            chance: self.names(*incident).iter().map(chance).fold(1.0, f64::min),
            seconds: *seconds,
        };
        found.iter().map(follower).collect()
    }

    /// Whether an incident began elsewhere with something that the group's incidents know as an effect.
    fn could_follow(
        &self,
        group: usize,
        id: IncidentId,
        (places, effects): (&BTreeSet<TextId>, &BTreeSet<SymptomId>),
    ) -> bool {
        let Some(record) = self.history.record(id) else { return false };
        self.group_of.get(&id) != Some(&group)
            && self.place(record).is_some_and(|it| !places.contains(&it))
            && symptoms(self.history, record).any(|it| effects.contains(&it))
    }

    fn opened(
        &self,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, IncidentId)> {
        let start = self.by_time.partition_point(|(at, _)| *at < from);
        let rest = self.by_time.get(start..).unwrap_or_default().iter().copied();
        rest.take_while(move |(at, _)| *at <= until)
    }

    fn place(&self, record: &Record) -> Option<TextId> {
        Some(self.history.signature_of(record)?.place)
    }

    fn names(&self, id: IncidentId) -> Vec<TextId> {
        let signature = self.history.record(id).and_then(|it| self.history.signature_of(it));
        signature.map(|it| it.alerts.clone()).unwrap_or_default()
    }
}

/// What an incident's alerts tell of the place where it began.
fn symptoms(history: &History, record: &Record) -> impl Iterator<Item = SymptomId> {
    let signature = history.signature_of(record).into_iter();
    signature.flat_map(|it| it.alerts.iter().map(|name| (*name, it.place)))
}

fn sorted(times: impl Iterator<Item = Timestamp>) -> Vec<Timestamp> {
    let mut times: Vec<Timestamp> = times.collect();
    times.sort_unstable();
    times
}
