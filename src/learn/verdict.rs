//! What to say of a group: its name, its rhythm, how sure it is, and why its members belong
//! together.

use super::chance::parts_per_million;
use super::clusters::Cluster;
use super::figures::{Look, small};
use super::history::{History, Record, Signature, SymptomId};
use super::points::{Points, number};
use super::rhythm::{self, Period, interval, most};
use crate::domain::incident::{IncidentId, Symptom};
use crate::domain::problem::{How, Membership, Opening, Recurrence, SharedTrait};
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How many shared traits are told, in words and as figures.
const TRAITS_IN_WORDS_MAX: usize = 3;
/// See `TRAITS_IN_WORDS_MAX`.
const TRAITS_MAX: usize = 5;
/// How many ways to begin are told.
const OPENINGS_MAX: usize = 8;
/// By how many standard deviations of a Poisson distribution a group must be more frequent than
/// chance would have it.
const DEVIATIONS_MIN: f64 = 4.0;

/// A trait that people search by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trait<'a> {
    Alert(&'a str),
    Place(&'a str),
    Label(&'a str),
    Word(&'a str),
}

impl std::fmt::Display for Trait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alert(name) => write!(f, "the alert {name}"),
            Self::Place(place) => write!(f, "begun at {place}"),
            Self::Label(label) => f.write_str(label),
            Self::Word(word) => write!(f, "the word \"{word}\""),
        }
    }
}

/// A group with its incidents.
pub(super) struct Group<'a> {
    pub(super) cluster: &'a Cluster,
    /// Those that are alike.
    pub(super) members: Vec<IncidentId>,
    /// Those that follow in its wake.
    pub(super) wake: Vec<(IncidentId, f64)>,
}

/// What can be said of groups, and how often each trait is anywhere.
pub(super) struct Verdicts<'a> {
    history: &'a History,
    everywhere: BTreeMap<Trait<'a>, usize>,
    incidents: usize,
    /// How many incidents began with each symptom.
    openings: BTreeMap<SymptomId, u32>,
    occurrences_min: usize,
    span: (Timestamp, Timestamp),
    points: &'a Points<'a>,
}

impl<'a> Verdicts<'a> {
    /// `span`: from when incidents are looked at, and now.
    pub(super) fn of(
        points: &'a Points<'a>,
        occurrences_min: usize,
        (since, now): (Timestamp, Timestamp),
    ) -> Self {
        let history = points.history;
        let mut everywhere = BTreeMap::new();
        for point in &points.all {
            for it in traits(history, point.signature) {
                *everywhere.entry(it).or_default() += point.members.len();
            }
        }
        let (mut openings, mut first) = (BTreeMap::new(), now);
        for (_, record) in history.between(since, now) {
            *openings.entry(record.opening).or_default() += 1;
            first = first.min(record.opened_at);
        }
        let (incidents, span) = (points.incident_count(), (first, now));
        Self { history, everywhere, incidents, openings, occurrences_min, span, points }
    }

    /// Describes a group; `None` when it did not come back often enough.
    pub(super) fn recurrence(&self, group: &Group<'_>) -> Option<Recurrence> {
        let mut records: Vec<(Timestamp, IncidentId, &Record)> = group
            .members
            .iter()
            .filter_map(|id| self.history.record(*id).map(|it| (it.opened_at, *id, it)))
            .collect();
        records.sort_by_key(|(at, id, _)| (*at, *id));
        let spans: Vec<_> = records.iter().map(|(at, _, it)| (*at, it.over_at)).collect();
        let occurrences = rhythm::occurrences(&spans);
        if occurrences.len() < self.occurrences_min {
            return None;
        }
        let (first_seen, last_seen) = (records.first()?.0, records.last()?.0);
        let period = rhythm::period(&occurrences);
        let size = records.len();
        let inside = self.inside(&group.members);
        let mut why = self.shared_traits(&inside, size);
        let expected = self.expected_by_chance(&inside, size);
        let by_chance = expected.is_some_and(|it| number(size) <= it + DEVIATIONS_MIN * it.sqrt());
        if let Some(expected) = expected {
            let expected = whole(expected);
            why.push(format!("chance alone would bring its alert there {expected} times"));
        }
        let span = rhythm::in_words(last_seen.duration_since(first_seen).as_secs());
        why.push(format!(
            "{size} incidents at {} different times within {span}",
            occurrences.len()
        ));
        if !group.wake.is_empty() {
            why.push(format!(
                "{} more began in its wake, with what it brings about elsewhere",
                group.wake.len()
            ));
        }
        why.extend(rhythm::preference(&occurrences));
        why.extend(period.as_ref().map(describe));
        let look = Look {
            history: self.history,
            records: &records,
            occurrences: &occurrences,
            span: self.span,
        };
        let next_expected_at =
            period.and_then(|it| next_expected(*occurrences.last()?, it, self.span.1));
        let mut figures = look.figures();
        figures.next_expected = next_expected_at.zip(period).and_then(|(at, it)| interval(at, &it));
        figures.traits = self.traits_told(&inside, size);
        let records: Vec<&Record> = records.into_iter().map(|(_, _, it)| it).collect();
        figures.openings = self.openings_of(&records);
        figures.members = self.memberships(group);
        why.extend(figures.trend.filter(|it| it.as_str() != "steady").map(|it| {
            let (earlier, later) = (it.earlier, it.later);
            format!(
                "it is {}: {earlier} times in the first half of the time, {later} in the second",
                it.as_str()
            )
        }));
        Some(Recurrence {
            title: self.title(&records),
            incidents: figures.members.keys().copied().collect(),
            first_seen,
            last_seen,
            period_seconds: period.and_then(|it| u64::try_from(it.seconds).ok()),
            next_expected_at,
            confidence: confidence(group.cluster, occurrences.len(), by_chance),
            by_chance,
            why,
            figures,
        })
    }

    /// Why each incident is one of the group.
    fn memberships(&self, group: &Group<'_>) -> BTreeMap<IncidentId, Membership> {
        let thousandths = |part: f64| u16::try_from(whole(part * 1000.0)).unwrap_or(1000).min(1000);
        let mut members = BTreeMap::new();
        for (point, likeness) in group.cluster.points.iter().zip(&group.cluster.likeness) {
            let point = self.points.all.get(*point).into_iter();
            let membership = Membership { how: How::Alike, points: thousandths(*likeness) };
            members.extend(point.flat_map(|it| &it.members).map(|it| (*it, membership)));
        }
        let stayed: BTreeSet<&IncidentId> = group.members.iter().collect();
        members.retain(|it, _| stayed.contains(it));
        for (id, sure) in &group.wake {
            members.insert(*id, Membership { how: How::Wake, points: thousandths(*sure) });
        }
        members
    }

    /// How the incidents begin, the most frequent ways first.
    fn openings_of(&self, records: &[&Record]) -> Vec<Opening> {
        let mut counts: BTreeMap<SymptomId, u32> = BTreeMap::new();
        for record in records {
            *counts.entry(record.opening).or_default() += 1;
        }
        let text = |it: u32| self.history.text(it).to_owned();
        let opening = |((name, place), count): (SymptomId, u32)| Opening {
            symptom: Symptom { alertname: text(name), place: text(place) },
            count,
            of: self.openings.get(&(name, place)).copied().unwrap_or(count),
        };
        let mut openings: Vec<Opening> = counts.into_iter().map(opening).collect();
        // Of one that tells neither name nor place nothing can be told.
        openings.retain(|it| it.count > 1 && !it.symptom.alertname.is_empty());
        openings.sort_by(|a, b| (b.count, &a.symptom).cmp(&(a.count, &b.symptom)));
        openings.truncate(OPENINGS_MAX);
        openings
    }

    /// The same traits as figures.
    fn traits_told(&self, inside: &BTreeMap<Trait<'_>, usize>, size: usize) -> Vec<SharedTrait> {
        let others = self.incidents.saturating_sub(size).max(1);
        let told = |(it, count, _): (Trait<'_>, usize, usize)| {
            let elsewhere = self.everywhere.get(&it).copied().unwrap_or_default();
            let share = number(elsewhere.saturating_sub(count)) / number(others);
            SharedTrait {
                text: it.to_string(),
                inside: small(count),
                of: small(size),
                elsewhere_ppm: parts_per_million(share),
            }
        };
        self.telling(inside, size).into_iter().take(TRAITS_MAX).map(told).collect()
    }

    /// The alert that most often comes first, and the place where most began; without names of
    /// alerts the most common title.
    fn title(&self, records: &[&Record]) -> String {
        let text = |it: u32| self.history.text(it).to_owned();
        let named = |it: &&Record| Some(text(it.opening.0)).filter(|it| !it.is_empty());
        let name = match most(records.iter().filter_map(named)) {
            Some((name, count)) if count * 3 >= records.len() => name,
            _ => most(records.iter().map(|it| text(it.title))).unwrap_or_default().0,
        };
        let places = records.iter().filter_map(|it| self.history.signature_of(it));
        match most(places.map(|it| text(it.place))) {
            Some((place, count))
                if !place.is_empty() && count * 2 > records.len() && !name.contains(&place) =>
            {
                format!("{name} on {place}")
            }
            _ => name,
        }
    }

    /// How many incidents of a group have each trait.
    fn inside(&self, members: &[IncidentId]) -> BTreeMap<Trait<'a>, usize> {
        let mut inside = BTreeMap::new();
        for record in members.iter().filter_map(|it| self.history.record(*it)) {
            let signature = self.history.signature_of(record).into_iter();
            for it in signature.flat_map(|it| traits(self.history, it)) {
                *inside.entry(it).or_default() += 1;
            }
        }
        inside
    }

    /// How many percent of the others have a trait, rounded up.
    fn percent_elsewhere(&self, it: Trait<'_>, inside: usize, size: usize) -> usize {
        let elsewhere = self.everywhere.get(&it).copied().unwrap_or_default();
        let others = self.incidents.saturating_sub(size).max(1);
        (elsewhere.saturating_sub(inside) * 100).div_ceil(others)
    }

    /// The traits that most members have and most others have not, with how many have them and how
    /// many percent of the others: what people search by before mere words, then the most telling first.
    fn telling<'t>(
        &self,
        inside: &BTreeMap<Trait<'t>, usize>,
        size: usize,
    ) -> Vec<(Trait<'t>, usize, usize)> {
        let mut traits: Vec<_> = inside
            .iter()
            .map(|(it, count)| (*it, *count, self.percent_elsewhere(*it, *count, size)))
            .filter(|(_, count, elsewhere)| {
                count * 100 >= size * elsewhere.saturating_add(20).max(60)
            })
            .collect();
        traits.sort_by_key(|(it, count, elsewhere)| {
            let lead = (count * 100 / size.max(1)).saturating_sub(*elsewhere);
            (matches!(it, Trait::Word(_)), matches!(it, Trait::Label(_)), Reverse(lead), *it)
        });
        traits
    }

    /// The traits in sentences.
    fn shared_traits(&self, inside: &BTreeMap<Trait<'_>, usize>, size: usize) -> Vec<String> {
        let figures = |(it, count, elsewhere): (Trait<'_>, usize, usize)| {
            let is_known = self.incidents > size;
            let rest = if is_known { format!(" ({elsewhere} % elsewhere)") } else { String::new() };
            format!("{count} of {size} incidents have {it}{rest}")
        };
        self.telling(inside, size).into_iter().take(TRAITS_IN_WORDS_MAX).map(figures).collect()
    }

    /// How many would be expected if among all others the group's alert had nothing to do with its
    /// place; `None` where one of the two is not known.
    fn expected_by_chance(&self, inside: &BTreeMap<Trait<'_>, usize>, size: usize) -> Option<f64> {
        let rarest = |of: fn(&Trait<'_>) -> bool| {
            let common = inside.iter().filter(|(it, count)| of(it) && **count * 2 >= size);
            let elsewhere = common.map(|(it, count)| {
                self.everywhere.get(it).copied().unwrap_or_default().saturating_sub(*count)
            });
            elsewhere.min()
        };
        let alert = rarest(|it| matches!(it, Trait::Alert(_)))?;
        let place = rarest(|it| matches!(it, Trait::Place(_)))?;
        let others = self.incidents.saturating_sub(size).max(1);
        Some(number(alert) * number(place) / number(others))
    }
}

/// A number without its fraction, and not endless.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn whole(value: f64) -> u64 {
    value.round().clamp(0.0, 1e6) as u64
}

fn traits<'a>(history: &'a History, signature: &'a Signature) -> impl Iterator<Item = Trait<'a>> {
    let alerts = signature.alerts.iter().map(|it| Trait::Alert(history.text(*it)));
    let place = Some(history.text(signature.place)).filter(|it| !it.is_empty());
    let labels = signature.labels.iter().map(|it| Trait::Label(history.text(*it)));
    let words = signature.text.iter().map(|it| Trait::Word(history.text(*it)));
    alerts.chain(place.map(Trait::Place)).chain(labels).chain(words)
}

fn describe(period: &Period) -> String {
    format!(
        "it comes about every {} (median of {} gaps, deviation {})",
        rhythm::in_words(period.seconds),
        period.gaps,
        rhythm::in_words(period.spread_seconds)
    )
}

/// One period after the last; `None` when that is more than a period ago, because then the rhythm
/// has ended.
fn next_expected(last: Timestamp, period: Period, now: Timestamp) -> Option<Timestamp> {
    let period = SignedDuration::from_secs(period.seconds);
    let next = last.checked_add(period).ok()?;
    (now <= next.checked_add(period).ok()?).then_some(next)
}

/// Four tenths for how alike the members are, two for how far the rest is, two for how often it
/// came back, and two if chance would not bring it so often.
fn confidence(cluster: &Cluster, occurrences: usize, by_chance: bool) -> u16 {
    let often = number(occurrences) / (number(occurrences) + 3.0);
    let more = if by_chance { 0.0 } else { 200.0 };
    let sum = 400.0 * cluster.cohesion + 200.0 * cluster.separation + 200.0 * often + more;
    u16::try_from(whole(sum.min(1000.0))).unwrap_or(1000)
}
