//! What people taught: which alerts do not belong together whatever the evidence says, and which do.
//!
//! Whoever splits an incident parts each kind of alert on the one side from each on the other; a kind is a name,
//! and the place that is spoken of. Whoever merges two incidents joins them. The last word about a pair holds,
//! and it fades.

use super::evidence::Evidence;
use super::place::Places;
use crate::domain::alert::Alert;
use crate::domain::flapping::faded;
use crate::domain::incident::{Incident, IncidentId, Symptom};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::matcher::Matchers;
use crate::domain::rules::RuleRef;
use crate::domain::{ObjectKey, Reply, State, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A lesson counts half after so many seconds: ninety days.
const HALF_LIFE_SECONDS: u64 = 90 * 24 * 3600;
/// One of which less than that is left, of a thousand, is forgotten.
const FORGOTTEN: u64 = 100;
/// So many are remembered; the oldest makes room.
const LESSONS_MAX: usize = 400;
/// So many kinds of alerts are looked at on each side of a split or merge.
const SIDE_MAX: usize = 4;

/// A pair of kinds of alerts that people parted or joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// The one kind.
    pub one: Symptom,
    /// The other.
    pub other: Symptom,
    /// Whether they belong together; else they never do.
    pub belong: bool,
    /// Who taught it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The incident that was split, or that took the other.
    pub incident: IncidentId,
}

/// A lesson as it counts in a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taught {
    /// The lesson.
    pub lesson: Lesson,
    /// What is left of it, of a thousand.
    pub left: u64,
    /// The points before it counted.
    pub points_before: u64,
}

/// So many members of an incident are asked whether a rule keeps them apart from an alert.
const MEMBERS_MAX: usize = 200;

/// What an alert is kept apart from, by rule.
pub(super) type Strangers<'a> = Vec<(&'a RuleRef, &'a Matchers)>;

/// The lessons that concern an alert, as the other kind and what is left of the lesson.
pub(super) type Lessons<'a> = Vec<(&'a Lesson, &'a Symptom, u64)>;

impl State {
    /// Merges incidents as a person orders, and learns that their alerts belong together.
    pub(in crate::domain) fn merge_and_learn(
        &mut self,
        now: Timestamp,
        by: &str,
        into: IncidentId,
        from: &[IncidentId],
    ) -> Reply {
        let kinds = |it: &IncidentId| self.kinds_of(self.members.get(it).into_iter().flatten());
        let sides = [kinds(&into), from.iter().flat_map(kinds).take(SIDE_MAX).collect()];
        let reply = self.merge(now, by, into, from)?;
        self.note_arranged(into);
        self.teach(now, by, (into, true), &sides);
        Ok(reply)
    }

    /// Splits an incident as a person orders, and learns that the two parts do not belong together.
    pub(in crate::domain) fn split_and_learn(
        &mut self,
        now: Timestamp,
        by: &str,
        incident: IncidentId,
        alerts: &[Fingerprint],
    ) -> Reply {
        let members = self.members.get(&incident).into_iter().flatten();
        let rest = members.filter(|it| !alerts.contains(it));
        let sides = [self.kinds_of(alerts.iter()), self.kinds_of(rest)];
        let reply = self.split(now, by, incident, alerts)?;
        self.note_arranged(incident);
        self.teach(now, by, (incident, false), &sides);
        Ok(reply)
    }

    /// An incident is as a person wants it to be.
    fn note_arranged(&mut self, id: IncidentId) {
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.is_arranged = true;
        }
    }

    /// Learns from a person who moved alerts: they belong to the others, or they do not.
    fn teach(
        &mut self,
        now: Timestamp,
        by: &str,
        (incident, belong): (IncidentId, bool),
        sides: &[BTreeSet<Symptom>; 2],
    ) {
        let [ones, others] = sides;
        let lessons = &mut self.memory.lessons;
        for one in ones {
            for other in others.iter().filter(|it| *it != one) {
                let pair = [one, other];
                lessons.retain(|it| !(pair.contains(&&it.one) && pair.contains(&&it.other)));
                lessons.push(Lesson {
                    one: one.clone(),
                    other: other.clone(),
                    belong,
                    by: by.to_owned(),
                    at: now,
                    incident,
                });
            }
        }
        lessons.retain(|it| left(now, it) >= FORGOTTEN);
        let too_many = lessons.len().saturating_sub(LESSONS_MAX);
        lessons.drain(..too_many);
        self.changes.objects.insert(ObjectKey::Memory);
    }

    /// The kinds of some alerts, not more than some.
    fn kinds_of<'f>(&self, alerts: impl Iterator<Item = &'f Fingerprint>) -> BTreeSet<Symptom> {
        let mut kinds = BTreeSet::new();
        for alert in alerts.filter_map(|it| self.alerts.get(it)) {
            if kinds.len() >= SIDE_MAX {
                break;
            }
            kinds.insert(self.kind_of(alert));
        }
        kinds
    }

    /// The kind of an alert.
    pub(super) fn kind_of(&self, alert: &Alert) -> Symptom {
        let name = alert.labels.get("alertname").unwrap_or_default();
        self.kind(name, &self.places(&alert.labels))
    }

    fn kind(&self, alertname: &str, places: &Places) -> Symptom {
        let about = places.seen().find(|(_, is_primary)| *is_primary);
        let place = about.map_or("", |(place, _)| place.name(&self.rules.catalog));
        Symptom { alertname: alertname.to_owned(), place: place.to_owned() }
    }

    /// What rules keep an alert with these labels apart from, by rule.
    pub(super) fn strangers_to(&self, labels: &Labels) -> Strangers<'_> {
        let pairs = self.rules.never_together.iter();
        let pairs = pairs.flat_map(|it| [(it, &it.one, &it.other), (it, &it.other, &it.one)]);
        let about = pairs.filter(|(_, own, _)| own.matches(labels));
        about.map(|(it, _, other)| (&*it.rule, other)).collect()
    }

    /// What is left of the evidence for an incident with a member that a rule keeps apart: nothing.
    pub(super) fn kept_apart(
        &self,
        now: Timestamp,
        (labels, strangers): (&Labels, &Strangers<'_>),
        mut evidence: Evidence,
    ) -> Evidence {
        if strangers.is_empty() {
            return evidence;
        }
        let members = self.members.get(&evidence.incident).into_iter().flatten();
        let mut members = members.take(MEMBERS_MAX).filter_map(|it| self.alerts.get(it));
        let found = members.find_map(|member| {
            let (rule, _) = strangers.iter().find(|(_, it)| it.matches(&member.labels))?;
            Some((rule, member))
        });
        let Some((rule, member)) = found else { return evidence };
        let kind =
            |it: &Labels| self.kind(it.get("alertname").unwrap_or_default(), &self.places(it));
        let lesson = Lesson {
            one: kind(labels),
            other: kind(&member.labels),
            belong: false,
            by: format!("the rule {rule}"),
            at: now,
            incident: evidence.incident,
        };
        let points_before = std::mem::take(&mut evidence.points);
        evidence.taught = Some(Box::new(Taught { lesson, left: 1000, points_before }));
        evidence
    }

    /// Whether people parted kinds of alerts that two incidents tell of.
    pub(super) fn are_taught_apart(
        &self,
        now: Timestamp,
        one: IncidentId,
        other: IncidentId,
    ) -> bool {
        let known = |it: &IncidentId| self.incidents.get(it).map(|it| &it.symptoms);
        let (Some(ones), Some(others)) = (known(&one), known(&other)) else { return false };
        let mut lessons = self.memory.lessons.iter().filter(|it| !it.belong && holds(now, it));
        lessons.any(|it| {
            ones.contains(&it.one) && others.contains(&it.other)
                || ones.contains(&it.other) && others.contains(&it.one)
        })
    }

    /// The lessons that concern an alert of this name about these places.
    pub(super) fn lessons_about(
        &self,
        now: Timestamp,
        alertname: &str,
        places: &Places,
    ) -> Lessons<'_> {
        if self.memory.lessons.is_empty() {
            return Vec::new();
        }
        let own = self.kind(alertname, places);
        let about = self.memory.lessons.iter().filter_map(|it| {
            let other = if it.one == own {
                &it.other
            } else if it.other == own {
                &it.one
            } else {
                return None;
            };
            Some((it, other, left(now, it)))
        });
        about.filter(|(_, _, left)| *left >= FORGOTTEN).collect()
    }
}

/// Whether a lesson is not forgotten.
pub(super) fn holds(now: Timestamp, lesson: &Lesson) -> bool {
    left(now, lesson) >= FORGOTTEN
}

fn left(now: Timestamp, lesson: &Lesson) -> u64 {
    faded(1000, seconds_between(lesson.at, now), HALF_LIFE_SECONDS)
}

/// What is left of the evidence for an incident in which the alert would meet kinds that it was parted from,
/// or joined with. Of several lessons the freshest counts, of equals the one that parts.
pub(super) fn as_taught(
    lessons: &Lessons<'_>,
    incident: &Incident,
    mut evidence: Evidence,
) -> Evidence {
    let meets = lessons.iter().filter(|(_, other, _)| incident.symptoms.contains(other));
    let Some((lesson, _, left)) = meets.max_by_key(|(it, _, left)| (*left, !it.belong)) else {
        return evidence;
    };
    let points_before = evidence.points;
    let share = if lesson.belong { 1000 + left } else { 1000_u64.saturating_sub(*left) };
    evidence.points = points_before * share / 1000;
    let lesson = (*lesson).clone();
    evidence.taught = Some(Box::new(Taught { lesson, left: *left, points_before }));
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::later;

    #[test]
    fn the_last_word_about_a_pair_holds_and_lessons_fade() {
        let mut state = State::default();
        let kind = |it: &str| {
            BTreeSet::from([Symptom { alertname: it.to_owned(), place: "shop".to_owned() }])
        };
        let day = |it: i64| later(Timestamp::UNIX_EPOCH, it * 24 * 3600);
        let (one, two) = (kind("Slow"), kind("Down"));
        state.teach(day(0), "ann", (IncidentId(1), false), &[one.clone(), two.clone()]);
        state.teach(day(1), "bo", (IncidentId(2), true), &[two, one.clone()]);
        let [lesson] = state.memory.lessons.as_slice() else { panic!("a pair has one lesson") };
        assert!(lesson.belong && lesson.by == "bo");
        assert!((490..=510).contains(&left(day(91), lesson)), "{}", left(day(91), lesson));
        state.teach(day(400), "ann", (IncidentId(3), false), &[one.clone(), kind("Full")]);
        let [lesson] = state.memory.lessons.as_slice() else { panic!("the old one is forgotten") };
        assert_eq!(lesson.incident, IncidentId(3));
        for number in 0..1000 {
            let other = kind(&number.to_string());
            state.teach(day(400), "ann", (IncidentId(4), false), &[one.clone(), other]);
        }
        assert_eq!(state.memory.lessons.len(), LESSONS_MAX);
    }
}
