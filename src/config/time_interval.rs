//! `time_intervals:` in Alertmanager's own syntax, and the names by which other rules refer to them.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::rules::{RuleRef, RuleSet};
use crate::domain::time_interval::{Location, Range, TimeInterval, TimeIntervals};
use std::sync::Arc;

/// The kind of name that time intervals bear.
const TIME_INTERVAL: &str = "time_interval";
/// The most intervals under one name, and ranges of one condition.
const RANGES_MAX: usize = 100;
const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// An entry of `time_intervals`.
pub(super) fn time_intervals(reader: &mut Reader<'_>, node: &Node) -> Option<Arc<TimeIntervals>> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name(TIME_INTERVAL, &mut fields);
    let mut intervals = Vec::new();
    if let Some(node) = fields.required(reader, "time_intervals") {
        let items = reader.short_list(node, RANGES_MAX);
        intervals = items.iter().filter_map(|it| time_interval(reader, it)).collect();
    }
    fields.finish(reader);
    Some(Arc::new(TimeIntervals { rule, intervals }))
}

fn time_interval(reader: &mut Reader<'_>, node: &Node) -> Option<TimeInterval> {
    let mut fields = Fields::open(reader, node)?;
    let mut interval = TimeInterval::default();
    if let Some(node) = fields.optional("times") {
        let items = reader.short_list(node, RANGES_MAX);
        interval.times = items.iter().filter_map(|it| time(reader, it)).collect();
    }
    let mut ranges = |reader: &mut Reader<'_>, name, read: fn(&str) -> Result<Range, String>| {
        let Some(node) = fields.optional(name) else { return Vec::new() };
        let items = reader.short_list(node, RANGES_MAX);
        items.iter().filter_map(|it| range(reader, it, read)).collect()
    };
    interval.weekdays = ranges(reader, "weekdays", read_weekdays);
    interval.days_of_month = ranges(reader, "days_of_month", read_days_of_month);
    interval.months = ranges(reader, "months", read_months);
    interval.years = ranges(reader, "years", read_years);
    if let Some(node) = fields.optional("location") {
        match Location::find(&reader.text(node)) {
            Ok(location) => interval.location = location,
            Err(reason) => reader.report(node.place, Code::UnknownTimeZone, reason),
        }
    }
    fields.finish(reader);
    Some(interval)
}

fn time(reader: &mut Reader<'_>, node: &Node) -> Option<Range> {
    let mut fields = Fields::open_like(reader, node, "start_time: '09:00', end_time: '17:00'")?;
    let mut minute = |reader: &mut Reader<'_>, name| {
        let node = fields.required(reader, name)?;
        let minute = read_minute(&reader.text(node));
        minute.map_err(|reason| reader.report(node.place, Code::BadTime, reason)).ok()
    };
    let (first, last) = (minute(reader, "start_time"), minute(reader, "end_time"));
    fields.finish(reader);
    let range = Range { first: first?, last: last? };
    if range.first >= range.last {
        let hint = "for a night write two times: until `24:00`, and from `00:00` on";
        reader.report_hint(node.place, Code::BadTime, "the time ends before it starts", hint);
        return None;
    }
    Some(range)
}

fn range(
    reader: &mut Reader<'_>,
    node: &Node,
    read: fn(&str) -> Result<Range, String>,
) -> Option<Range> {
    let text = reader.filled_text(node);
    if text.trim().is_empty() {
        return None;
    }
    read(&text).map_err(|reason| reader.report(node.place, Code::BadValue, reason)).ok()
}

/// `HH:MM`, up to `24:00`, in minutes of the day.
fn read_minute(text: &str) -> Result<i16, String> {
    let bad = || format!("expected a time from `00:00` to `24:00`, not `{text}`");
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| -> Option<i16> {
        let is_good = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
        is_good.then(|| text.parse().ok())?
    };
    let (hour, minute) = (number(hour).ok_or_else(bad)?, number(minute).ok_or_else(bad)?);
    let is_good = (hour < 24 && minute < 60) || (hour, minute) == (24, 0);
    if is_good { Ok(hour * 60 + minute) } else { Err(bad()) }
}

/// `first:last`, or one for both.
fn read_range(text: &str, number: impl Fn(&str) -> Option<i16>) -> Option<Range> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(Range { first: number(first)?, last: number(last)? })
}

fn backwards(text: &str) -> String {
    format!("the range ends before it starts: `{text}`")
}

fn read_weekdays(text: &str) -> Result<Range, String> {
    let range = read_range(text, |it| position(&WEEKDAYS, it));
    let range = range.ok_or_else(|| {
        format!("expected weekdays such as `monday:friday` or `sunday`, not `{text}`")
    })?;
    // As in Alertmanager the week begins with Sunday.
    if range.first <= range.last { Ok(range) } else { Err(backwards(text)) }
}

fn read_months(text: &str) -> Result<Range, String> {
    let number = |it: &str| match position(&MONTHS, it) {
        Some(index) => Some(index + 1),
        None => it.parse().ok().filter(|it| (1..=12).contains(it)),
    };
    let range = read_range(text, number);
    let range = range
        .ok_or_else(|| format!("expected months such as `june:august` or `12`, not `{text}`"))?;
    if range.first <= range.last { Ok(range) } else { Err(backwards(text)) }
}

fn read_years(text: &str) -> Result<Range, String> {
    let range = read_range(text, |it| it.parse().ok().filter(|it| (0..=9999).contains(it)));
    let range = range
        .ok_or_else(|| format!("expected years such as `2026` or `2026:2028`, not `{text}`"))?;
    if range.first <= range.last { Ok(range) } else { Err(backwards(text)) }
}

fn read_days_of_month(text: &str) -> Result<Range, String> {
    // The shortest month: what is the wrong way round in it is refused.
    const LENGTH_MIN: i16 = 28;
    let number = |it: &str| it.parse().ok().filter(|it| *it != 0 && (-31..=31).contains(it));
    let range = read_range(text, number);
    let range = range.ok_or_else(|| {
        format!("expected days of the month such as `1:5`, `15` or `-3:-1`, not `{text}`")
    })?;
    let from_end = |day: i16| if day < 0 { LENGTH_MIN + day } else { day };
    let mixed = range.first < 0 && range.last > 0;
    if mixed || from_end(range.first) > from_end(range.last) {
        return Err(backwards(text));
    }
    Ok(range)
}

fn position(words: &[&str], text: &str) -> Option<i16> {
    let index = words.iter().position(|it| it.eq_ignore_ascii_case(text))?;
    i16::try_from(index).ok()
}

/// The time intervals that a rule names under a key; [`resolve`] fills them when all files are read.
pub(super) fn named(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
) -> Vec<Arc<TimeIntervals>> {
    let Some(node) = fields.optional(key) else { return Vec::new() };
    let mut all: Vec<Arc<TimeIntervals>> = Vec::new();
    for item in reader.short_list(node, RANGES_MAX) {
        let name = reader.text(item);
        reader.refer(TIME_INTERVAL, &name, item.place);
        let rule = Arc::new(RuleRef { name, ..RuleRef::default() });
        all.push(Arc::new(TimeIntervals { rule, intervals: Vec::new() }));
    }
    all
}

/// Puts the intervals themselves where rules name them.
pub(super) fn resolve(rules: &mut RuleSet) {
    let known = &rules.time_intervals;
    let fill = |named: &mut Vec<Arc<TimeIntervals>>| {
        for it in named {
            if let Some(found) = known.iter().find(|known| known.rule.name == it.rule.name) {
                *it = found.clone();
            }
        }
    };
    rules.silences.iter_mut().for_each(|it| fill(&mut it.time_intervals));
    rules.routes.iter_mut().for_each(|it| {
        fill(&mut it.mute_time_intervals);
        fill(&mut it.active_time_intervals);
    });
    rules.maintenance.iter_mut().for_each(|it| fill(&mut it.time_intervals));
    rules.freezes.iter_mut().for_each(|it| fill(&mut it.terms.time_intervals));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(range: Result<Range, String>) -> Option<(i16, i16)> {
        range.ok().map(|it| (it.first, it.last))
    }

    #[test]
    fn times_of_day_are_read() {
        for (text, expected) in [
            ("00:00", Some(0)),
            ("09:30", Some(570)),
            ("24:00", Some(1440)),
            ("24:01", None),
            ("9:30", None),
            ("09:60", None),
            ("+9:30", None),
            ("0930", None),
        ] {
            assert_eq!(read_minute(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn ranges_are_alertmanagers() {
        for (text, expected) in [
            ("monday:friday", Some((1, 5))),
            ("Sunday", Some((0, 0))),
            ("saturday:sunday", None),
            ("1:5", None),
            ("mon", None),
        ] {
            assert_eq!(parts(read_weekdays(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("1:5", Some((1, 5))),
            ("-3:-1", Some((-3, -1))),
            ("1:-1", Some((1, -1))),
            ("15", Some((15, 15))),
            ("0", None),
            ("32", None),
            ("-5:5", None),
            ("-1:-3", None),
            ("28:-5", None),
        ] {
            assert_eq!(parts(read_days_of_month(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("june:August", Some((6, 8))),
            ("12", Some((12, 12))),
            ("1:3", Some((1, 3))),
            ("0", None),
            ("13", None),
            ("may:april", None),
        ] {
            assert_eq!(parts(read_months(text)), expected, "{text}");
        }
        assert_eq!(parts(read_years("2026:2028")), Some((2026, 2028)));
        assert_eq!(parts(read_years("2028:2026")), None);
    }
}
