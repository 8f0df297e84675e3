//! Cron lines as Unix knows them, in a time zone: the only user of the `cron` crate.
//!
//! The crate speaks another dialect: seconds first, Sunday = 1, no five fields; and it loses runs
//! when the clocks change. So every field is read and checked here, and the crate only searches
//! the calendar, in civil time disguised as UTC. What it finds is mapped to an instant with jiff.

use chrono::{DateTime, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// No change of the clocks, and no move across the date line, is longer than this.
const SHIFT_MAX: SignedDuration = SignedDuration::from_hours(26);

/// So many lines are remembered.
const KNOWN_MAX: usize = 1024;

/// What was read before, by line and time zone. Reading takes far longer than asking, and state
/// holds lines, which are asked whenever a time is set.
static KNOWN: Mutex<BTreeMap<(String, String), Arc<Schedule>>> = Mutex::new(BTreeMap::new());

/// When something is due, again and again.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The days on which either fits, because cron joins day of month and day of week with *or*
    /// when both are restricted; else only one.
    calendars: Vec<cron::Schedule>,
    /// Whether the hour is left open. Such a line follows the real time through a change of the
    /// clocks; any other runs once at each civil time, as Vixie cron does it.
    every_hour: bool,
    time_zone: TimeZone,
}

impl Schedule {
    /// Reads a line of five fields (minute, hour, day of month, month, day of week) or one of
    /// `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`, and an IANA
    /// time zone from the data that is built in. Fails also when the line can never be due.
    pub fn parse(line: &str, time_zone: &str) -> Result<Arc<Self>, String> {
        let name = (line.to_owned(), time_zone.to_owned());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schedule) = known.get(&name) {
            return Ok(schedule.clone());
        }
        let schedule = Arc::new(Self::read(line, time_zone)?);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name, schedule.clone());
        Ok(schedule)
    }

    fn read(line: &str, time_zone: &str) -> Result<Self, String> {
        let time_zone = TimeZoneDatabase::bundled().get(time_zone).map_err(|_| {
            format!("expected an IANA time zone such as `Europe/Berlin`, not `{time_zone}`")
        })?;
        let fields = split(line)?;
        let sets = [&MINUTE, &HOUR, &DAY_OF_MONTH, &MONTH, &DAY_OF_WEEK]
            .into_iter()
            .zip(&fields)
            .map(|(kind, text)| {
                kind.read(text).map_err(|error| format!("{error} in cron line `{line}`"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let [minute, hour, day_of_month, month, day_of_week] = sets.as_slice() else {
            return Err(format!("expected five fields in cron line `{line}`"));
        };
        let calendar = |day_of_month: &str, day_of_week: &str| {
            let text = format!(
                "0 {} {} {day_of_month} {} {day_of_week}",
                minute.numbers(),
                hour.numbers(),
                month.numbers()
            );
            text.parse::<cron::Schedule>().map_err(|_| format!("bad cron line `{line}`"))
        };
        let calendars = if day_of_month.starred || day_of_week.starred {
            vec![calendar(&day_of_month.numbers(), &day_of_week.weekdays())?]
        } else {
            vec![calendar(&day_of_month.numbers(), "*")?, calendar("*", &day_of_week.weekdays())?]
        };
        let schedule = Self { calendars, every_hour: hour.is_all(&HOUR), time_zone };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(format!("no day of any year fits cron line `{line}`")),
        }
    }

    /// The first time that is due strictly after `after`; `None` only after the year 2099. A civil
    /// time that the clocks skip is due as much later as they skip; one that comes twice is due
    /// the first time. Lines with an open hour are due at each real time that fits.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let civil = self.time_zone.to_datetime(after);
        let next =
            self.candidates(civil).flat_map(|it| self.instants(it)).find(|it| *it > after)?;
        let shift = self.time_zone.following(after.saturating_sub(SHIFT_MAX).ok()?).next();
        if shift.is_none_or(|it| it.timestamp() > next) {
            return Some(next);
        }
        // Near a change of the clocks the order of civil times is not that of the instants.
        let begin = civil.checked_sub(SHIFT_MAX).ok()?;
        let end = self.time_zone.to_datetime(next).checked_add(SHIFT_MAX).ok()?;
        self.candidates(begin)
            .take_while(|it| *it <= end)
            .flat_map(|it| self.instants(it))
            .filter(|it| *it > after)
            .min()
    }

    /// The civil times after a given one, in order.
    fn candidates(&self, after: civil::DateTime) -> impl Iterator<Item = civil::DateTime> {
        let mut last = disguise(after);
        std::iter::from_fn(move || {
            let from = last?;
            last = self.calendars.iter().filter_map(|it| it.after(&from).next()).min();
            last.and_then(undisguise)
        })
    }

    /// The instants at which a civil time is due.
    fn instants(&self, civil: civil::DateTime) -> impl Iterator<Item = Timestamp> + use<> {
        let ambiguous = self.time_zone.to_ambiguous_timestamp(civil);
        let (first, second) = match (ambiguous.offset(), self.every_hour) {
            (AmbiguousOffset::Gap { .. }, true) => (None, None),
            (AmbiguousOffset::Fold { .. }, true) => {
                (ambiguous.earlier().ok(), ambiguous.later().ok())
            }
            _ => (ambiguous.compatible().ok(), None),
        };
        first.into_iter().chain(second)
    }
}

/// A civil time as if it were in UTC. Seconds are enough for cron.
fn disguise(civil: civil::DateTime) -> Option<DateTime<Utc>> {
    let instant = TimeZone::UTC.to_timestamp(civil).ok()?;
    DateTime::from_timestamp(instant.as_second(), 0)
}

fn undisguise(instant: DateTime<Utc>) -> Option<civil::DateTime> {
    let instant = Timestamp::from_second(instant.timestamp()).ok()?;
    Some(TimeZone::UTC.to_datetime(instant))
}

/// Splits a line into its five fields, after looking up the words that begin with `@`.
fn split(line: &str) -> Result<Vec<&str>, String> {
    let text = match line.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        word if word.starts_with('@') => {
            return Err(format!(
                "expected `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`, not `{word}`"
            ));
        }
        fields => fields,
    };
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() == 5 {
        return Ok(fields);
    }
    let hint = if fields.len() == 6 { " (no seconds)" } else { "" };
    Err(format!(
        "expected five fields, minute, hour, day of month, month and day of week{hint}, \
         but found {} in cron line `{line}`",
        fields.len()
    ))
}

/// What one of the five fields may hold.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// Names in order, the first for `min`.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
const DAY_OF_MONTH: Field = Field { name: "day of month", min: 1, max: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 7 is Sunday too.
const DAY_OF_WEEK: Field = Field { name: "day of week", min: 0, max: 7, names: &WEEKDAYS };
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The numbers that a field stands for, as bits.
struct Numbers {
    bits: u64,
    /// Whether the field begins with `*`: then it does not restrict the other day field.
    starred: bool,
}

impl Field {
    /// Reads a list of numbers, names, ranges and steps.
    fn read(&self, text: &str) -> Result<Numbers, String> {
        let mut bits = 0;
        for part in text.split(',') {
            for number in self.part(part)? {
                bits |= 1 << number;
            }
        }
        Ok(Numbers { bits, starred: text.starts_with('*') })
    }

    fn part(&self, part: &str) -> Result<impl Iterator<Item = u8> + use<>, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => match step.parse() {
                Ok(step @ 1..) => (range, Some(step)),
                _ => return Err(format!("bad step `{step}` for the {}", self.name)),
            },
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max.min(self.min + self.count() - 1)),
            Some((first, last)) => (self.number(first)?, self.last(last)?),
            None => {
                let first = self.number(range)?;
                // `5/15` is `5-59/15`, as most crons read it.
                (first, if step.is_some() { self.max } else { first })
            }
        };
        if first > last {
            return Err(format!("the range `{range}` for the {} goes backwards", self.name));
        }
        Ok((first..=last).step_by(usize::from(step.unwrap_or(1_u8))))
    }

    /// How many different values there are; the week has seven although 0 to 7 may be written.
    fn count(&self) -> u8 {
        if self.name == DAY_OF_WEEK.name { 7 } else { self.max - self.min + 1 }
    }

    /// The end of a range, where a Sunday is the seventh day.
    fn last(&self, text: &str) -> Result<u8, String> {
        let number = self.number(text)?;
        let is_sunday = self.name == DAY_OF_WEEK.name && text.eq_ignore_ascii_case("SUN");
        Ok(if is_sunday { 7 } else { number })
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let named = || {
            let index = self.names.iter().position(|it| it.eq_ignore_ascii_case(text))?;
            u8::try_from(index).ok().map(|it| it + self.min)
        };
        let written = || text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok())?;
        let alternative = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        written().or_else(named).filter(|it| (self.min..=self.max).contains(it)).ok_or_else(|| {
            format!("the {} is {} to {}{alternative}, not `{text}`", self.name, self.min, self.max)
        })
    }
}

impl Numbers {
    fn has(&self, number: u8) -> bool {
        self.bits & (1 << number) != 0
    }

    fn is_all(&self, field: &Field) -> bool {
        (field.min..=field.max).all(|it| self.has(it))
    }

    /// As a list of numbers.
    fn numbers(&self) -> String {
        join((0..=63).filter(|it| self.has(*it)).map(|it| it.to_string()))
    }

    /// As a list of names, which mean the same in every dialect.
    fn weekdays(&self) -> String {
        let is_due = |it: u8| self.has(it) || (it == 0 && self.has(7));
        if (0..7).all(is_due) {
            return "*".to_owned();
        }
        join((0..7).zip(WEEKDAYS).filter(|(it, _)| is_due(*it)).map(|(_, name)| name.to_owned()))
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(line: &str, time_zone: &str, after: &str) -> String {
        let after = after.parse().unwrap();
        Schedule::parse(line, time_zone).unwrap().next_after(after).unwrap().to_string()
    }

    #[test]
    fn lines_mean_what_unix_says() {
        // 2026-11-22 is a Sunday.
        for (line, expected) in [
            ("0 */6 * * *", "2026-11-22T18:00:00Z"),
            ("* * * * *", "2026-11-22T12:01:00Z"),
            ("5/20 * * * *", "2026-11-22T12:05:00Z"),
            ("0 9 * * 1", "2026-11-23T09:00:00Z"),
            ("0 9 * * mon", "2026-11-23T09:00:00Z"),
            ("0 9 * * 0", "2026-11-29T09:00:00Z"),
            ("0 9 * * 7", "2026-11-29T09:00:00Z"),
            ("0 13 * * SUN", "2026-11-22T13:00:00Z"),
            ("0 13 * * SAT-SUN", "2026-11-22T13:00:00Z"),
            ("0 9 * * 5-7", "2026-11-27T09:00:00Z"),
            ("0 9 * * TUE-THU", "2026-11-24T09:00:00Z"),
            ("0 9 * * */2", "2026-11-24T09:00:00Z"),
            ("15,45 8-10 1 JAN *", "2027-01-01T08:15:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 31 * *", "2026-12-31T00:00:00Z"),
            // Both days are restricted: either is enough.
            ("0 0 13 * FRI", "2026-11-27T00:00:00Z"),
            ("0 0 25 * FRI", "2026-11-25T00:00:00Z"),
            // One begins with a star: both must fit.
            ("0 0 */2 * FRI", "2026-11-27T00:00:00Z"),
            ("0 0 */5 * TUE", "2026-12-01T00:00:00Z"),
            ("@hourly", "2026-11-22T13:00:00Z"),
            ("@daily", "2026-11-23T00:00:00Z"),
            ("@weekly", "2026-11-29T00:00:00Z"),
            ("@monthly", "2026-12-01T00:00:00Z"),
            (" @yearly ", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(next(line, "UTC", "2026-11-22T12:00:00Z"), expected, "{line}");
        }
    }

    #[test]
    fn a_change_of_the_clocks_loses_and_doubles_nothing() {
        let berlin = "Europe/Berlin";
        for (line, after, expected) in [
            // 02:00 to 03:00 does not exist on 2026-03-29; 02:30 becomes 03:30 summer time.
            ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("30 2 * * *", "2026-03-29T01:10:00Z", "2026-03-29T01:30:00Z"),
            ("30 2 * * *", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            ("0,30 2,3 * * *", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
            ("0,30 2,3 * * *", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"),
            // 02:00 to 03:00 comes twice on 2026-10-25.
            ("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("30 2 * * *", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"),
            // A line with an open hour goes on through the doubled hour.
            ("30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            ("*/20 * * * *", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"),
            ("*/20 * * * *", "2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z"),
            ("0 9 * * MON", "2026-11-22T12:00:00Z", "2026-11-23T08:00:00Z"),
        ] {
            assert_eq!(next(line, berlin, after), expected, "{line} after {after}");
        }
        // Half an hour is skipped here, and a whole day there.
        let lord_howe = next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z");
        assert_eq!(lord_howe, "2026-10-03T15:45:00Z");
        let apia = next("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z");
        assert_eq!(apia, "2011-12-30T22:00:00Z");
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, time_zone, part) in [
            ("* * * *", "UTC", "but found 4"),
            ("0 0 * * * *", "UTC", "(no seconds), but found 6"),
            ("", "UTC", "but found 0"),
            ("60 * * * *", "UTC", "the minute is 0 to 59, not `60`"),
            ("* 24 * * *", "UTC", "the hour is 0 to 23, not `24`"),
            ("* * 0 * *", "UTC", "the day of month is 1 to 31, not `0`"),
            ("* * * 13 *", "UTC", "the month is 1 to 12 or JAN to DEC, not `13`"),
            ("* * * * 8", "UTC", "the day of week is 0 to 7 or SUN to SAT, not `8`"),
            ("* * * * MOON", "UTC", "not `MOON`"),
            ("*/0 * * * *", "UTC", "bad step `0` for the minute"),
            ("*/x * * * *", "UTC", "bad step `x` for the minute"),
            ("30-10 * * * *", "UTC", "the range `30-10` for the minute goes backwards"),
            ("1,,2 * * * *", "UTC", "not ``"),
            ("+1 * * * *", "UTC", "not `+1`"),
            ("-1 * * * *", "UTC", "not ``"),
            ("? * * * *", "UTC", "not `?`"),
            ("0 0 30 2 *", "UTC", "no day of any year fits"),
            ("@reboot", "UTC", "not `@reboot`"),
            ("* * * * *", "Mars/Olympus", "not `Mars/Olympus`"),
        ] {
            let error = Schedule::parse(line, time_zone).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    /// Fields as one would write them, with the numbers that they stand for.
    fn field(min: u8, max: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
        let all = move || ("*".to_owned(), (min..=max).collect::<Vec<_>>());
        prop_oneof![
            2 => Just(()).prop_map(move |()| all()),
            1 => (min..=max).prop_map(|it| (it.to_string(), vec![it])),
            1 => (min..=max, min..=max).prop_map(|(a, b)| (format!("{a},{b}"), vec![a, b])),
            1 => (min..=max, min..=max, 1..5_u8).prop_map(|(a, b, step)| {
                let (a, b) = (a.min(b), a.max(b));
                (format!("{a}-{b}/{step}"), (a..=b).step_by(usize::from(step)).collect())
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_counting_minutes(
            minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12),
            weekday in field(0, 6), start in 0..2_000_000_000_i64,
        ) {
            let line = [&minute, &hour, &day, &month, &weekday].map(|it| it.0.as_str()).join(" ");
            let Ok(schedule) = Schedule::parse(&line, "UTC") else {
                // Only a day that no month has can be refused.
                prop_assert!(day.1.iter().all(|it| *it > 29), "{}", line);
                return Ok(());
            };
            let after = Timestamp::from_second(start).unwrap();
            let next = schedule.next_after(after).unwrap();
            let fits = |at: i64| {
                let civil = TimeZone::UTC.to_datetime(Timestamp::from_second(at).unwrap());
                let is = |set: &(String, Vec<u8>), it: i8| set.1.contains(&u8::try_from(it).unwrap());
                let of_month = is(&day, civil.day());
                let of_week = is(&weekday, civil.weekday().to_sunday_zero_offset());
                let on_day = if day.0 == "*" || weekday.0 == "*" { of_month && of_week } else { of_month || of_week };
                on_day && is(&minute, civil.minute()) && is(&hour, civil.hour()) && is(&month, civil.month())
            };
            prop_assert!(next > after && fits(next.as_second()), "{} {}", line, next);
            // Counting every minute of years takes too long; the first month is enough.
            let mut at = (start / 60 + 1) * 60;
            while at < next.as_second() && at < start + 31 * 86400 {
                prop_assert!(!fits(at), "{} skips {}", line, at);
                at += 60;
            }
        }

        #[test]
        fn it_is_later_and_monotone_in_every_zone(
            minute in field(0, 59), hour in field(0, 23),
            zone in prop_oneof![Just("Europe/Berlin"), Just("Australia/Lord_Howe"), Just("Pacific/Apia"), Just("America/St_Johns")],
            start in 1_293_840_000..1_800_000_000_i64, step in 1..200_000_i64,
        ) {
            let line = format!("{} {} * * *", minute.0, hour.0);
            let schedule = Schedule::parse(&line, zone).unwrap();
            let (a, b) = (Timestamp::from_second(start).unwrap(), Timestamp::from_second(start + step).unwrap());
            let (after_a, after_b) = (schedule.next_after(a).unwrap(), schedule.next_after(b).unwrap());
            prop_assert!(after_a > a && after_b > b && after_a <= after_b);
            prop_assert!(after_a <= b || after_a == after_b, "{} {} {}", after_a, b, after_b);
        }
    }
}
