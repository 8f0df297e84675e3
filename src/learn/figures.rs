//! The figures of a group: when it comes, how it changes, what it costs, where it is seen.

use super::chance::{circle, of_halves, parts_per_million};
use super::history::{History, Record};
use super::rhythm::{forecasts, weekday_name};
use crate::domain::incident::IncidentId;
use crate::domain::problem::{Figures, Recent, Rhythm, Trend};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// 1970-01-05, a Monday.
const MONDAY: i64 = 4 * DAY;
/// The fewest occurrences that can show a rhythm, and the fewest days or weeks.
const OCCURRENCES_MIN: usize = 5;
const ROUNDS_MIN: usize = 3;
/// A rhythm is told if chance makes one in fewer than so many; two kinds are looked for.
const CHANCE_MAX: f64 = 0.005;
/// What is spread over more of a week than this has no day.
const WEEK_SPREAD_MAX: f64 = 12.0 / 168.0;
/// The most places that are told.
const PLACES_MAX: usize = 8;

/// A group's incidents in order of time, and when it came.
pub(super) struct Look<'a> {
    pub(super) history: &'a History,
    pub(super) records: &'a [(Timestamp, IncidentId, &'a Record)],
    pub(super) occurrences: &'a [Timestamp],
    /// The first time that is known, and now.
    pub(super) span: (Timestamp, Timestamp),
}

impl Look<'_> {
    /// All figures that follow from the group alone.
    pub(super) fn figures(&self) -> Figures {
        let records = || self.records.iter().map(|(_, _, it)| it);
        let now = self.span.1;
        let since = |days: i64| {
            let begin = now.saturating_sub(SignedDuration::from_hours(24 * days));
            let begin = begin.unwrap_or(Timestamp::MIN);
            small(self.records.iter().filter(|(at, _, _)| *at >= begin).count())
        };
        let changed = |it: &&&Record| self.history.signature_of(it).is_some_and(|it| it.changed);
        Figures {
            occurrences: small(self.occurrences.len()),
            recent: Recent { days_7: since(7), days_30: since(30), days_90: since(90) },
            rhythm: rhythm(self.occurrences),
            forecasts: forecasts(self.occurrences),
            trend: self.trend(),
            impact_minutes: self.impact_minutes(),
            breaches: records().map(|it| u32::from(it.breaches)).sum(),
            acted_on: small(records().filter(|it| it.acted_on).count()),
            changed_before: small(records().filter(changed).count()),
            places: self.places(),
            ..Figures::default()
        }
    }

    /// Occurrences in the two halves of the time.
    fn trend(&self) -> Option<Trend> {
        let (first, now) = self.span;
        let middle = first.checked_add(now.duration_since(first) / 2).ok()?;
        let earlier = self.occurrences.iter().filter(|it| **it < middle).count();
        let later = self.occurrences.len() - earlier;
        let chance_ppm = parts_per_million(of_halves(earlier, later));
        Some(Trend { earlier: small(earlier), later: small(later), chance_ppm })
    }

    /// The minutes in which at least one was not over.
    fn impact_minutes(&self) -> u64 {
        let (mut total, mut until) = (SignedDuration::ZERO, Timestamp::MIN);
        for (opened_at, _, record) in self.records {
            let over_at = record.over_at.unwrap_or(self.span.1);
            if over_at > until {
                total += over_at.duration_since((*opened_at).max(until));
                until = over_at;
            }
        }
        u64::try_from(total.as_secs() / 60).unwrap_or_default()
    }

    /// The places that its incidents were seen at.
    fn places(&self) -> Vec<(String, u32)> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, _, record) in self.records {
            let own = self.history.signature_of(record).map(|it| it.place);
            let places: BTreeSet<u32> =
                own.into_iter().chain(record.effects.iter().map(|(_, place)| *place)).collect();
            for place in places {
                *counts.entry(self.history.text(place)).or_default() += 1;
            }
        }
        counts.remove("");
        let mut places: Vec<_> = counts.into_iter().map(|(it, n)| (it.to_owned(), n)).collect();
        places.sort_by_key(|(_, count)| Reverse(*count));
        places.truncate(PLACES_MAX);
        places
    }
}

/// The time of the week around which it comes, or else that of the day, in UTC.
fn rhythm(occurrences: &[Timestamp]) -> Option<Rhythm> {
    let around = |length: i64, begin: i64| {
        let seconds = occurrences.iter().map(|it| it.as_second() - begin);
        let rounds: BTreeSet<i64> = seconds.clone().map(|it| it.div_euclid(length)).collect();
        let parts = seconds.map(|it| part(it.rem_euclid(length), length)).collect::<Vec<f64>>();
        let found = circle(&parts).filter(|it| it.chance <= CHANCE_MAX)?;
        let is_enough = rounds.len() >= ROUNDS_MIN && parts.len() >= OCCURRENCES_MIN;
        is_enough.then_some((found, length))
    };
    let weekly = around(WEEK, MONDAY).filter(|(it, _)| it.deviation <= WEEK_SPREAD_MAX);
    let is_weekly = weekly.is_some();
    let (found, length) = weekly.or_else(|| around(DAY, 0))?;
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a week")]
    let seconds = |part: f64| (part * length as f64).round() as i64;
    let begin = if is_weekly { MONDAY } else { 0 };
    let at = Timestamp::from_second(begin + seconds(found.mean)).ok()?;
    let at = TimeZone::UTC.to_datetime(at);
    let time = format!("{:02}:{:02} UTC", at.hour(), at.minute());
    let text = if is_weekly {
        format!("weekly around {} {time}", weekday_name(at.weekday()))
    } else {
        format!("daily around {time}")
    };
    let spread_minutes = u32::try_from(seconds(found.deviation) / 60).unwrap_or_default();
    Some(Rhythm { text, spread_minutes, chance_ppm: parts_per_million(found.chance) })
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a week")]
fn part(seconds: i64, length: i64) -> f64 {
    seconds as f64 / length as f64
}

/// A count that is far below the end of its type.
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
