//! Time intervals as Alertmanager knows them: which minutes of which days, in a time zone.

use super::rules::RuleRef;
use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far ahead a change is looked for, in days: the calendar repeats itself within 28 years,
/// years without a leap day apart.
const DAYS_MAX: usize = 41 * 366;
/// So many changes of its parts are followed to find one of the whole. What is found then may be
/// none: whoever waits for it looks again.
const FLIPS_MAX: usize = 500;
/// Minutes of a civil day.
const DAY_MINUTES: i16 = 24 * 60;

/// Intervals under one name; a moment is in it when it is in one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeIntervals {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// Any of them.
    pub intervals: Vec<TimeInterval>,
}

/// What must hold of a moment, each condition if it has any ranges. Meaning and limits are
/// Alertmanager's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeInterval {
    /// Minutes of the day, from 0; the last is not part of it, and may be 1440.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<Range>,
    /// Days of the week, Sunday = 0; the last is part of it, here and below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<Range>,
    /// Days of the month; negative ones count from its end, -1 is the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<Range>,
    /// Months, January = 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<Range>,
    /// Years.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<Range>,
    /// Where the clock hangs that counts; UTC by default.
    #[serde(default)]
    pub location: Location,
}

/// From one number to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub first: i16,
    /// The last.
    pub last: i16,
}

impl Range {
    fn has(self, number: i16) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// A time zone of the built-in data, stored by its IANA name.
#[derive(Clone, Debug, PartialEq)]
pub struct Location(TimeZone);

impl Location {
    /// Finds a time zone by its IANA name.
    pub fn find(name: &str) -> Result<Self, String> {
        TimeZoneDatabase::bundled().get(name).map(Self).map_err(|_| {
            format!("expected an IANA time zone such as `Europe/Berlin`, not `{name}`")
        })
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl Default for Location {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::find(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Whether a moment is in any of some intervals.
pub fn contains(all: &[Arc<TimeIntervals>], at: Timestamp) -> bool {
    parts(all).any(|it| it.contains(at))
}

/// The first moment strictly after another at which [`contains`] may change its answer; `None` =
/// never again, as far as 41 years.
pub fn next_change(all: &[Arc<TimeIntervals>], after: Timestamp) -> Option<Timestamp> {
    let inside = contains(all, after);
    let mut at = after;
    for _ in 0..FLIPS_MAX {
        at = parts(all).filter_map(|it| it.next_change(at)).min()?;
        if contains(all, at) != inside {
            break;
        }
    }
    Some(at)
}

fn parts(all: &[Arc<TimeIntervals>]) -> impl Iterator<Item = &TimeInterval> {
    all.iter().flat_map(|it| &it.intervals)
}

impl TimeInterval {
    /// Whether a moment is in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        let local = self.location.0.to_datetime(at);
        let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
        let in_time = |it: &Range| it.first <= minute && minute < it.last;
        self.has_date(local.date()) && (self.times.is_empty() || self.times.iter().any(in_time))
    }

    /// The first moment strictly after another at which [`TimeInterval::contains`] changes its
    /// answer; `None` = never again, as far as 41 years.
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let inside = self.contains(after);
        let mut date = self.location.0.to_datetime(after).date().yesterday().ok()?;
        // The days on whose edges nothing can change are passed over quickly.
        let stays = |date: Date| match (inside, self.times.is_empty()) {
            (true, true) => self.has_date(date),
            (true, false) => false,
            (false, _) => !self.has_date(date),
        };
        for _ in 0..DAYS_MAX {
            let next = date.tomorrow().ok()?;
            if !(stays(date) && stays(next)) {
                let moments = self.moments(after, date);
                if let Some(at) = moments.into_iter().find(|it| self.contains(*it) != inside) {
                    return Some(at);
                }
            }
            date = next;
        }
        None
    }

    /// The moments around a day at which something can change, after another moment: the days'
    /// edges, those of the times, and changes of the clocks. Where clocks are set back a civil time
    /// comes twice, and days overlap: so three days are looked at together.
    fn moments(&self, after: Timestamp, date: Date) -> BTreeSet<Timestamp> {
        let mut found = BTreeSet::new();
        let days = [date.yesterday().unwrap_or(date), date, date.tomorrow().unwrap_or(date)];
        let edges = || self.times.iter().flat_map(|it| [it.first, it.last]);
        for day in days {
            for minute in [0, DAY_MINUTES].into_iter().chain(edges()) {
                let midnight = DateTime::from(day);
                let Ok(civil) = midnight.checked_add(SignedDuration::from_mins(minute.into()))
                else {
                    continue;
                };
                let ambiguous = self.location.0.to_ambiguous_timestamp(civil);
                found.extend(ambiguous.earlier());
                found.extend(ambiguous.later());
            }
        }
        if let (Some(first), Some(last)) = (found.first().copied(), found.last().copied()) {
            let shifts = self.location.0.following(first.min(after)).map(|it| it.timestamp());
            found.extend(shifts.take_while(|it| *it <= last));
        }
        found.split_off(&after.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(after))
    }

    fn has_date(&self, date: Date) -> bool {
        let weekday = i16::from(date.weekday().to_sunday_zero_offset());
        let any = |ranges: &[Range], number: i16| {
            ranges.is_empty() || ranges.iter().any(|it| it.has(number))
        };
        any(&self.years, date.year())
            && any(&self.months, i16::from(date.month()))
            && any(&self.weekdays, weekday)
            && (self.days_of_month.is_empty()
                || self.days_of_month.iter().any(|it| has_day(*it, date)))
    }
}

/// Whether a day is in a range of days of its month. A range that begins after the month's end is
/// not clamped to it.
fn has_day(range: Range, date: Date) -> bool {
    let length = i16::from(date.days_in_month());
    let from_end = |day: i16| if day < 0 { length + day + 1 } else { day };
    let (first, last) = (from_end(range.first), from_end(range.last));
    let day = i16::from(date.day());
    first <= length && first.max(-length) <= day && day <= last.min(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn range(first: i16, last: i16) -> Range {
        Range { first, last }
    }

    fn minutes(first: i16, last: i16) -> TimeInterval {
        TimeInterval { times: vec![range(first, last)], ..TimeInterval::default() }
    }

    fn berlin(interval: TimeInterval) -> TimeInterval {
        TimeInterval { location: Location::find("Europe/Berlin").unwrap(), ..interval }
    }

    #[test]
    fn each_condition_is_alertmanagers() {
        let days = |first, last| TimeInterval {
            days_of_month: vec![range(first, last)],
            ..TimeInterval::default()
        };
        let weekdays = TimeInterval { weekdays: vec![range(1, 5)], ..TimeInterval::default() };
        let months = TimeInterval { months: vec![range(2, 3)], ..TimeInterval::default() };
        let years = TimeInterval { years: vec![range(2026, 2027)], ..TimeInterval::default() };
        for (interval, moment, expected) in [
            (minutes(540, 1020), "2026-11-22T09:00:00Z", true),
            (minutes(540, 1020), "2026-11-22T16:59:59Z", true),
            (minutes(540, 1020), "2026-11-22T17:00:00Z", false),
            (minutes(1380, 1440), "2026-11-22T23:59:59Z", true),
            (berlin(minutes(540, 600)), "2026-11-22T08:30:00Z", true),
            (berlin(minutes(540, 600)), "2026-07-22T08:30:00Z", false),
            // 2026-11-22 is a Sunday.
            (weekdays.clone(), "2026-11-22T12:00:00Z", false),
            (weekdays, "2026-11-23T00:00:00Z", true),
            (days(-1, -1), "2026-02-28T00:00:00Z", true),
            (days(-1, -1), "2028-02-28T00:00:00Z", false),
            (days(31, 31), "2026-02-28T00:00:00Z", false),
            (days(29, 31), "2026-02-28T00:00:00Z", false),
            (days(28, 31), "2026-02-28T00:00:00Z", true),
            (days(-31, -28), "2026-02-01T00:00:00Z", true),
            (days(1, -1), "2026-02-14T00:00:00Z", true),
            (days(-7, -1), "2026-11-24T00:00:00Z", true),
            (days(-7, -1), "2026-11-23T23:59:59Z", false),
            (months.clone(), "2026-03-31T23:59:59Z", true),
            (months, "2026-04-01T00:00:00Z", false),
            (years, "2028-01-01T00:00:00Z", false),
            (TimeInterval::default(), "2026-01-01T00:00:00Z", true),
        ] {
            assert_eq!(interval.contains(at(moment)), expected, "{moment} in {interval:?}");
        }
    }

    #[test]
    fn changes_are_found_also_where_the_clocks_change() {
        // Clocks go from 02:00 to 03:00 on 2026-03-29, and from 03:00 to 02:00 on 2026-10-25.
        let night = berlin(minutes(150, 180));
        let leap = TimeInterval {
            months: vec![range(2, 2)],
            days_of_month: vec![range(29, 29)],
            weekdays: vec![range(0, 0)],
            ..TimeInterval::default()
        };
        let never = TimeInterval { months: vec![range(2, 2)], ..leap.clone() };
        let never = TimeInterval { days_of_month: vec![range(30, 30)], ..never };
        for (interval, after, expected) in [
            (night.clone(), "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z"),
            (night.clone(), "2026-03-28T01:30:00Z", "2026-03-28T02:00:00Z"),
            // 02:30 does not come on that day at all.
            (night.clone(), "2026-03-28T02:00:00Z", "2026-03-30T00:30:00Z"),
            // 02:30 to 03:00 comes twice.
            (night.clone(), "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            (night.clone(), "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z"),
            (night.clone(), "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"),
            (night, "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"),
            (berlin(minutes(1380, 1440)), "2026-06-01T12:00:00Z", "2026-06-01T21:00:00Z"),
            (leap, "2026-01-01T00:00:00Z", "2032-02-29T00:00:00Z"),
        ] {
            let found = interval.next_change(at(after)).map(|it| it.to_string());
            assert_eq!(found.as_deref(), Some(expected), "after {after} in {interval:?}");
        }
        assert_eq!(never.next_change(at("2026-01-01T00:00:00Z")), None);
        assert_eq!(TimeInterval::default().next_change(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_joins_without_a_gap_changes_once() {
        let part =
            |interval| Arc::new(TimeIntervals { rule: Arc::default(), intervals: vec![interval] });
        let both = [part(minutes(60, 120)), part(minutes(120, 180))];
        let change = next_change(&both, at("2026-01-01T01:30:00Z")).unwrap();
        assert_eq!(change, at("2026-01-01T03:00:00Z"));
        let all_day = [part(minutes(0, 1440))];
        assert!(next_change(&all_day, at("2026-01-01T01:30:00Z")).is_none());
        assert_eq!(next_change(&[], at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn a_zone_is_stored_by_its_name() {
        let interval = berlin(minutes(1, 2));
        let text = serde_json::to_string(&interval).unwrap();
        assert!(text.contains("\"Europe/Berlin\""), "{text}");
        assert_eq!(serde_json::from_str::<TimeInterval>(&text).unwrap(), interval);
        assert!(Location::find("Mars/Phobos").is_err());
    }

    fn interval() -> impl Strategy<Value = TimeInterval> {
        let ranges = |least: i16, most: i16| {
            let range = (least..=most, 0_i16..6)
                .prop_map(move |(first, length)| range(first, (first + length).min(most)));
            proptest::collection::vec(range, 0..2)
        };
        let times = (0_i16..1440, 1_i16..400)
            .prop_map(|(first, length)| range(first, (first + length).min(1440)));
        let zones = proptest::sample::select(vec![
            "UTC",
            "Europe/Berlin",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "America/Havana",
            "Asia/Kolkata",
        ]);
        (
            proptest::collection::vec(times, 0..3),
            ranges(0, 6),
            ranges(-31, -1),
            ranges(1, 12),
            zones,
        )
            .prop_map(|(times, weekdays, days_of_month, months, zone)| TimeInterval {
                times,
                weekdays,
                days_of_month,
                months,
                years: Vec::new(),
                location: Location::find(zone).unwrap(),
            })
    }

    proptest! {
        /// A change is where looking minute by minute finds it.
        #[test]
        fn a_change_is_the_first_one(interval in interval(), minute in 0_i64..525_600) {
            let after = at("2026-01-01T00:00:30Z") + SignedDuration::from_mins(minute);
            let inside = interval.contains(after);
            let found = interval.next_change(after);
            let step = SignedDuration::from_mins(1);
            let mut at = after - SignedDuration::from_secs(30) + step;
            let end = found.unwrap_or(Timestamp::MAX).min(after + SignedDuration::from_hours(24 * 9));
            while at < end {
                prop_assert_eq!(interval.contains(at), inside, "at {} before {:?}", at, found);
                at += step;
            }
            if let Some(found) = found {
                prop_assert!(interval.contains(found) != inside);
            }
        }
    }
}
