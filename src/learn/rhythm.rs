//! When things come back: occurrences, their period, and the hours that they prefer.

use super::chance::of_even_gaps;
use crate::domain::problem::{Forecasts, Interval};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// Incidents that follow each other within this time, the first not yet over, are one occurrence:
/// a storm is not a habit.
const OCCURRENCE_GAP: SignedDuration = SignedDuration::from_mins(10);
/// The fewest gaps that can show a period.
const GAPS_MIN: usize = 3;
/// A gap is near the median if it differs by at most this part of it.
const SPREAD_DIVISOR: i64 = 4;
/// A period is one if half of the gaps are near, and chance would bring so many less often than this.
const CHANCE_MAX: f64 = 0.01;
/// The median deviation of a normal distribution, times this, is its standard deviation; 1.96 of
/// those on both sides hold 19 of 20.
const NINETEEN_OF_TWENTY: f64 = 1.4826 * 1.96;
/// No time is foretold more exactly than this, in seconds.
const INTERVAL_MIN: i64 = 60;
/// The most forecasts of the past that are put to the test,
const FORECASTS_MAX: usize = 12;
/// each from so many occurrences at most.
const WINDOW: usize = 24;
/// The fewest occurrences that can show a preference.
const OCCURRENCES_MIN: usize = 4;
/// The percentage of occurrences that makes a preference.
const PREFERENCE_PERCENT: usize = 60;

/// The usual time between occurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// The median of the gaps.
    pub(super) seconds: i64,
    /// The median deviation from it.
    pub(super) spread_seconds: i64,
    /// How many gaps it is from.
    pub(super) gaps: usize,
}

/// When each occurrence began. `incidents` tells when each was opened and when it was over, in
/// order of opening. What comes back after all before it was over is a new occurrence, however
/// soon; what comes while something is not over is one only after a while.
pub(super) fn occurrences(incidents: &[(Timestamp, Option<Timestamp>)]) -> Vec<Timestamp> {
    let mut began = Vec::new();
    let mut last: Option<Timestamp> = None;
    // When all so far was over; `None` = something is not over.
    let mut quiet_since = Some(Timestamp::MIN);
    for (opened_at, over_at) in incidents {
        let is_calm = quiet_since.is_some_and(|it| it <= *opened_at);
        if is_calm || last.is_none_or(|it| opened_at.duration_since(it) > OCCURRENCE_GAP) {
            began.push(*opened_at);
        }
        last = Some(*opened_at);
        quiet_since = quiet_since.zip(*over_at).map(|(one, other)| one.max(other));
    }
    began
}

/// The period, if there is one. Medians, so that one that was missed or came between does no harm.
pub(super) fn period(occurrences: &[Timestamp]) -> Option<Period> {
    let gaps: Vec<i64> = occurrences
        .windows(2)
        .filter_map(|it| match it {
            [a, b] => Some(b.duration_since(*a).as_secs()),
            _ => None,
        })
        .collect();
    if gaps.len() < GAPS_MIN {
        return None;
    }
    let seconds = median(gaps.clone())?;
    let spread_seconds = median(gaps.iter().map(|it| (it - seconds).abs()).collect())?;
    let near = |it: &&i64| (**it - seconds).abs().saturating_mul(SPREAD_DIVISOR) <= seconds;
    let chance = of_even_gaps(gaps.iter().filter(near).count(), gaps.len());
    let is_even = spread_seconds.saturating_mul(SPREAD_DIVISOR) <= seconds;
    (is_even && chance <= CHANCE_MAX).then_some(Period {
        seconds,
        spread_seconds,
        gaps: gaps.len(),
    })
}

/// How forecasts of the next from those before came true: the last ones, each from a window.
pub(super) fn forecasts(occurrences: &[Timestamp]) -> Forecasts {
    let mut told = Forecasts::default();
    let first = occurrences.len().saturating_sub(FORECASTS_MAX).max(GAPS_MIN + 1);
    for at in first..occurrences.len() {
        let known = occurrences.get(at.saturating_sub(WINDOW)..at).unwrap_or_default();
        let (Some(period), Some(last), Some(came)) =
            (period(known), known.last(), occurrences.get(at))
        else {
            continue;
        };
        let next = last.saturating_add(SignedDuration::from_secs(period.seconds));
        let expected = next.ok().and_then(|it| interval(it, &period));
        let is_right = expected.is_some_and(|it| it.from <= *came && *came <= it.until);
        told.of += 1;
        told.right += u32::from(is_right);
    }
    told
}

/// The time around the next one that holds 19 of 20.
pub(super) fn interval(next: Timestamp, period: &Period) -> Option<Interval> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "seconds")]
    let around = (period.spread_seconds as f64 * NINETEEN_OF_TWENTY).round() as i64;
    let around = SignedDuration::from_secs(around.max(INTERVAL_MIN));
    let (from, until) = (next.checked_sub(around).ok()?, next.checked_add(around).ok()?);
    Some(Interval { from, until })
}

/// The lower of the two in the middle if their number is even, so that it is one that occurred.
fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// The weekday, the hour, or both that most occurrences prefer, in a sentence. In UTC.
pub(super) fn preference(occurrences: &[Timestamp]) -> Option<String> {
    let days = occurrences.iter().map(|it| it.as_second().div_euclid(86_400));
    let days: std::collections::BTreeSet<_> = days.collect();
    if occurrences.len() < OCCURRENCES_MIN || days.len() < GAPS_MIN {
        return None;
    }
    let civil: Vec<_> = occurrences.iter().map(|it| TimeZone::UTC.to_datetime(*it)).collect();
    let weekday = |it: &jiff::civil::DateTime| weekday_name(it.weekday());
    let hours = |it: &jiff::civil::DateTime| {
        format!("between {:02}:00 and {:02}:00 UTC", it.hour(), (it.hour() + 1) % 24)
    };
    let both = civil.iter().map(|it| format!("on {} {}", weekday(it), hours(it)));
    let hour = civil.iter().map(hours);
    let day = civil.iter().map(|it| format!("on {}", weekday(it)));
    let total = occurrences.len();
    [most(both), most(hour), most(day)]
        .into_iter()
        .flatten()
        .find(|(_, count)| count * 100 >= total * PREFERENCE_PERCENT)
        .map(|(when, count)| format!("{count} of {total} began {when}"))
}

/// The most frequent text and how often it comes; of equals the first in order of the alphabet.
pub(super) fn most(texts: impl Iterator<Item = String>) -> Option<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count)
}

pub(super) fn weekday_name(weekday: jiff::civil::Weekday) -> &'static str {
    use jiff::civil::Weekday;
    match weekday {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

/// A time in the two largest units that it has, rounded, for people: `6 d 23 h`.
pub(super) fn in_words(seconds: i64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let smallest = match seconds {
        86_400.. => 3600,
        3600.. => 60,
        _ => 1,
    };
    let mut rest = seconds.saturating_add(smallest / 2) / smallest * smallest;
    let mut parts = Vec::new();
    for (unit, size) in units {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: &[i64]) -> Vec<Timestamp> {
        seconds.iter().map(|it| Timestamp::from_second(*it).unwrap()).collect()
    }

    #[test]
    fn a_storm_is_one_occurrence() {
        let open = |times: &[i64]| at(times).into_iter().map(|it| (it, None)).collect::<Vec<_>>();
        assert_eq!(occurrences(&open(&[0, 60, 600, 1200, 1801])), at(&[0, 1801]));
        assert_eq!(occurrences(&[]), []);
    }

    #[test]
    fn what_comes_back_after_it_was_over_has_occurred_again() {
        for (spans, expected) in [
            (&[(0, 30), (30, 50), (55, 60)][..], &[0, 30, 55][..]),
            // The second comes while the first is not over.
            (&[(0, 100), (30, 50), (101, 120)], &[0, 101]),
        ] {
            let spans: Vec<_> =
                spans.iter().map(|(from, to)| (at(&[*from])[0], Some(at(&[*to])[0]))).collect();
            assert_eq!(occurrences(&spans), at(expected));
        }
    }

    #[test]
    fn a_period_needs_even_gaps() {
        for (times, expected) in [
            (&[0, 3600, 7200, 10800][..], Some((3600, 0, 3))),
            // One was missed.
            (&[0, 3600, 10800, 14400, 18000, 21600], Some((3600, 0, 5))),
            // That three of four are even may well be chance.
            (&[0, 3600, 10800, 14400, 18000], None),
            (&[0, 3500, 7200, 10800, 14500], Some((3600, 100, 4))),
            (&[0, 3600, 7200], None),
            (&[0, 1000, 9000, 12000, 30000, 31000], None),
            (&[], None),
        ] {
            let found = period(&at(times)).map(|it| (it.seconds, it.spread_seconds, it.gaps));
            assert_eq!(found, expected, "{times:?}");
        }
    }

    #[test]
    fn preferences_are_told() {
        // 1970-01-05 was a Monday.
        let monday = 4 * 86_400;
        let week = 7 * 86_400;
        for (times, expected) in [
            (
                at(&[0, 1, 2, 3].map(|it| monday + 3 * 3600 + it * week)),
                Some("4 of 4 began on Monday between 03:00 and 04:00 UTC"),
            ),
            (
                at(&[0, 1, 2, 3, 4].map(|it| 23 * 3600 + it * 86_400)),
                Some("5 of 5 began between 23:00 and 00:00 UTC"),
            ),
            (
                at(&[0, 1, 2, 3].map(|it| monday + it * (week + 4000))),
                Some("4 of 4 began on Monday"),
            ),
            (at(&[0, 1, 2, 3, 4, 5].map(|it| it * 100_000)), None),
            (at(&[0, 1, 2].map(|it| it * week)), None),
        ] {
            assert_eq!(preference(&times).as_deref(), expected, "{times:?}");
        }
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (604_800, "7 d"),
            (86_460, "1 d"),
            (604_500, "7 d"),
            (100_000, "1 d 4 h"),
        ] {
            assert_eq!(in_words(seconds), text);
        }
    }
}
