//! Correlation where no rule decides: the evidence for and against each incident, added up in points.
//!
//! An alert belongs to the incident with the most points, if these are enough. Points come from how its
//! place is related to one where the incident was seen (`Way`); they fade with the time since, and
//! count only as far as experience says that such alerts are caused, and cause, at all.

use super::lesson::{Lessons, Strangers, Taught, as_taught};
use super::place::{Place, Spoken, Way};
use super::sighting::Sighting;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::flapping::faded;
use crate::domain::incident::{Incident, IncidentId, Severity};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::{State, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// So many points join an alert to an incident.
const ENOUGH: u64 = 270;
/// So many more where the incident has one alert only, and may be an accident itself.
const ENOUGH_OF_ONE: u64 = 160;
/// What a piece of information counts beside an alert, in a thousand.
const INFO_SHARE: u64 = 700;
/// A cause may be told of so many seconds after the first of its effects.
const LATE_CAUSE_SECONDS: u64 = 600;
/// What speaks for an incident that is over counts half after each further so many seconds.
const OVER_HALF_LIFE_SECONDS: u64 = 60;
/// Nothing older than that is looked at, in seconds.
const HORIZON_SECONDS: u64 = 2 * 3600;
/// All of a million.
const ONE: u64 = 1_000_000;

/// Labels that tell in what realm a thing is, or how bad it is, but not which part of it is meant.
const REALM_LABELS: [&str; 37] = [
    "account",
    "alertgroup",
    "alertname",
    "app",
    "availability_zone",
    "category",
    "cluster",
    "component",
    "datacenter",
    "dc",
    "env",
    "environment",
    "host",
    "hostname",
    "instance",
    "job",
    "monitor",
    "namespace",
    "node",
    "owner",
    "priority",
    "project",
    "prometheus",
    "provider",
    "receiver",
    "region",
    "replica",
    "rule_group",
    "service",
    "severity",
    "source",
    "stage",
    "team",
    "tenant",
    "tier",
    "type",
    "zone",
];

/// Labels that tell in which world a thing is: what has one name in two of them is two things.
const WORLD_LABELS: [&str; 5] = ["cluster", "env", "environment", "stage", "tenant"];

/// Why an alert belongs to an incident, or how near it came to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The incident.
    pub incident: IncidentId,
    /// How the alert's place is related to the other.
    pub way: Way,
    /// The name of the place where the incident was seen.
    pub place: String,
    /// The alert by which it was seen there.
    pub alert: Fingerprint,
    /// Seconds since.
    pub gap_seconds: u64,
    /// What the way counts at once.
    pub at_once: u64,
    /// What is left of it after that time.
    pub after_gap: u64,
    /// Seconds since all alerts of the incident were over; 0 while some are not.
    #[serde(default)]
    pub over_seconds: u64,
    /// What is left of it after those.
    #[serde(default)]
    pub after_over: u64,
    /// What is left of that by experience.
    pub after_experience: u64,
    /// What is left in the end.
    pub points: u64,
    /// What people taught about such alerts, if that counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taught: Option<Box<Taught>>,
    /// What it takes to join.
    pub needed: u64,
    /// The next best incident and its points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<(IncidentId, u64)>,
}

impl Evidence {
    /// Whether it is enough.
    pub fn is_enough(&self) -> bool {
        self.points > self.needed
    }
}

/// What the evidence says of an alert.
#[derive(Default)]
pub(in crate::domain) struct Weighed {
    /// What speaks for the best incident, be it enough or not; `None` = nothing speaks for any.
    pub(in crate::domain) best: Option<Evidence>,
    /// Another incident for which there would be enough as well.
    pub(in crate::domain) also: Option<IncidentId>,
    /// The best of those for which there would be enough, were they not locked.
    pub(in crate::domain) locked: Option<IncidentId>,
}

#[derive(Clone, Copy)]
struct RunnerUp {
    incident: IncidentId,
    points: u64,
    /// Whether it would be enough, and more than that both came at one moment.
    is_enough: bool,
}

impl RunnerUp {
    fn of(evidence: &Evidence) -> Self {
        let (incident, points) = (evidence.incident, evidence.points);
        Self { incident, points, is_enough: is_enough_of_place(evidence) }
    }
}

/// The alert that is being decided about.
struct Newcomer<'a> {
    alert: &'a Alert,
    follows_ppm: u64,
    follows_moment_ppm: u64,
    share: u64,
    lessons: Lessons<'a>,
    strangers: Strangers<'a>,
}

impl State {
    /// Weighs all incidents that an alert may belong to. Returns the best one, be it enough or not.
    pub(in crate::domain) fn weigh(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
        spoken: &Spoken,
        mut ways: Vec<(Way, Place)>,
    ) -> Weighed {
        let Some(alert) = self.alerts.get(&fingerprint) else { return Weighed::default() };
        let is_info = Severity::from_label(alert.labels.get("severity")) == Severity::Info;
        let name = alert.labels.get("alertname").unwrap_or_default();
        let newcomer = Newcomer {
            alert,
            lessons: self.lessons_about(now, name, &spoken.places),
            strangers: self.strangers_to(&alert.labels),
            follows_ppm: self.follows_ppm(&alert.labels),
            follows_moment_ppm: self.follows_moment_ppm(&alert.labels),
            share: if is_info { INFO_SHARE } else { 1000 },
        };
        ways.extend(self.ways_without_catalog(spoken));
        ways.retain(|(way, _)| !self.rules.ignored_evidence.contains(way));
        let mut best: Option<(Evidence, &Place)> = None;
        let mut runner_up: Option<RunnerUp> = None;
        let mut locked: Option<(u64, Reverse<IncidentId>)> = None;
        for (way, place) in &ways {
            for sighting in self.sightings.at(place) {
                if seconds_between(sighting.at, now) > HORIZON_SECONDS {
                    break;
                }
                let Some(found) = self.weigh_one(now, &newcomer, *way, sighting) else {
                    continue;
                };
                if self.is_locked(found.incident) {
                    let of_it = (found.points, Reverse(found.incident));
                    locked = locked.max(found.is_enough().then_some(of_it));
                    continue;
                }
                let is_better = best.as_ref().is_none_or(|(known, _)| rank(&found) > rank(known));
                let worse = if is_better {
                    best.replace((found, place)).map(|it| it.0)
                } else {
                    Some(found)
                };
                let next = worse.map(|it| RunnerUp::of(&it));
                let winner = best.as_ref().map(|it| it.0.incident);
                runner_up = [runner_up, next]
                    .into_iter()
                    .flatten()
                    .filter(|it| Some(it.incident) != winner)
                    .max_by_key(|it| (it.points, Reverse(it.incident)));
            }
        }
        let locked = locked.map(|(_, Reverse(it))| it);
        let Some((mut best, place)) = best else { return Weighed { locked, ..Weighed::default() } };
        best.runner_up = runner_up.map(|it| (it.incident, it.points));
        place.name(&self.rules.catalog).clone_into(&mut best.place);
        let both = runner_up.filter(|it| it.is_enough && is_enough_of_place(&best));
        Weighed { also: both.map(|it| it.incident), best: Some(best), locked }
    }

    /// What speaks for one incident, seen at one place.
    fn weigh_one(
        &self,
        now: Timestamp,
        newcomer: &Newcomer<'_>,
        way: Way,
        sighting: &Sighting,
    ) -> Option<Evidence> {
        let incident = self.incidents.get(&sighting.incident)?;
        if way.needs_primary() && !sighting.is_primary {
            return None;
        }
        let is_old = seconds_between(incident.opened_at, now) > LATE_CAUSE_SECONDS;
        if way == Way::NeededBy && is_old {
            return None;
        }
        let leader = self.alerts.get(&sighting.alert)?;
        if in_other_worlds(&newcomer.alert.labels, &leader.labels) {
            return None;
        }
        let plain = self.points(now, newcomer, way, (incident, leader, sighting.at));
        let same_place = matches!(way, Way::SameItem | Way::SameHost)
            && !self.rules.ignored_evidence.contains(&Way::SamePart);
        let of_part =
            if same_place { self.same_part(now, newcomer, incident, leader) } else { None };
        let of_part = of_part.filter(|it| it.points >= plain.points);
        let found = as_taught(&newcomer.lessons, incident, of_part.unwrap_or(plain));
        Some(self.kept_apart(now, (&newcomer.alert.labels, &newcomer.strangers), found))
    }

    /// The points of one way from one alert.
    fn points(
        &self,
        now: Timestamp,
        newcomer: &Newcomer<'_>,
        way: Way,
        (incident, leader, seen_at): (&Incident, &Alert, Timestamp),
    ) -> Evidence {
        let gap_seconds = seconds_between(seen_at, now);
        let at_once = way.points();
        let after_gap = faded(at_once, gap_seconds, way.half_life_seconds());
        let over_seconds = incident.over_since().map_or(0, |it| seconds_between(it, now));
        let after_over = faded(after_gap, over_seconds, OVER_HALF_LIFE_SECONDS);
        let of_part = way == Way::SamePart;
        let follows = if matches!(way, Way::SameMoment | Way::FiredAfter) {
            newcomer.follows_moment_ppm
        } else {
            newcomer.follows_ppm
        };
        let likely = if of_part { ONE } else { follows.min(self.leads_ppm(&leader.labels)) };
        let after_experience = after_over * likely / ONE;
        let share = if of_part { 1000 } else { newcomer.share };
        let of_one = if incident.alert_count == 1 && !of_part { ENOUGH_OF_ONE } else { 0 };
        Evidence {
            incident: incident.id,
            way,
            place: String::new(),
            alert: leader.fingerprint,
            gap_seconds,
            at_once,
            after_gap,
            over_seconds,
            after_over,
            after_experience,
            points: after_experience * share / 1000,
            taught: None,
            needed: ENOUGH + of_one,
            runner_up: None,
        }
    }

    /// What speaks for an incident that still has an alert about the same part of the same place: a
    /// disk that fills and then is full, a container that grows and then is killed.
    fn same_part(
        &self,
        now: Timestamp,
        newcomer: &Newcomer<'_>,
        incident: &Incident,
        latest: &Alert,
    ) -> Option<Evidence> {
        let first = self.alerts.get(&incident.first_alert).map(Box::as_ref);
        let known = [Some(latest), first].into_iter().flatten();
        let name = newcomer.alert.labels.get("alertname");
        let same = known.filter(|it| {
            it.state == AlertState::Firing
                && it.incident == Some(incident.id)
                && it.labels.get("alertname") != name
                && shares_part(newcomer.alert, it)
        });
        let at = |it: &Alert| it.joined_at.unwrap_or(it.received_at);
        same.map(|it| self.points(now, newcomer, Way::SamePart, (incident, it, at(it))))
            .max_by_key(|it| it.points)
    }
}

/// The better one has more points; of equals the older incident.
fn rank(evidence: &Evidence) -> (bool, u64, Reverse<IncidentId>) {
    (evidence.is_enough(), evidence.points, Reverse(evidence.incident))
}

fn is_enough_of_place(evidence: &Evidence) -> bool {
    evidence.is_enough() && evidence.way != Way::SameMoment
}

/// Whether two alerts tell of themselves that they are not from the same world.
pub(in crate::domain) fn in_other_worlds(one: &Labels, other: &Labels) -> bool {
    WORLD_LABELS.iter().any(|it| match (one.get(it), other.get(it)) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    })
}

/// Whether two alerts of one place name the same part of it.
fn shares_part(one: &Alert, other: &Alert) -> bool {
    parts_told(one).any(|(name, value)| other.labels.get(name) == Some(value))
}

/// The labels of an alert that tell which part of something is meant.
pub(super) fn parts_told(alert: &Alert) -> impl Iterator<Item = (&str, &str)> {
    alert.labels.iter().filter(|(name, _)| REALM_LABELS.binary_search(name).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_realms_are_sorted() {
        assert!(REALM_LABELS.is_sorted());
    }
}
