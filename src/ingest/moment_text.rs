//! Reads points in time as tools write them: RFC 3339 and its likes, epochs, mail dates.

use jiff::civil::DateTime;
use jiff::{Timestamp, tz};

/// Times before this are no times of alerts, but other numbers: 2001-09-09. In seconds.
const EARLIEST_SECONDS: i64 = 1_000_000_000;
/// And after this: 2100. In seconds.
const LATEST_SECONDS: i64 = 4_102_444_800;
/// The longest text that can be a time, in bytes.
const BYTES_MAX: usize = 64;

/// Reads a time out of a text: RFC 3339, the same with blanks, slashes or points or without a zone
/// (which then is UTC), an epoch in seconds to nanoseconds, or a date as mails and `date` have it.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.is_empty() || text.len() > BYTES_MAX {
        return None;
    }
    let is_number = text.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    if let Some(time) = text.parse::<f64>().ok().filter(|_| is_number).and_then(read_number) {
        return Some(time);
    }
    parse_date(text).filter(|it| is_likely(it.as_second()))
}

fn parse_date(text: &str) -> Option<Timestamp> {
    // `… GMT+0000 (Coordinated Universal Time)`
    let text = text.split_once(" (").filter(|it| it.1.ends_with(')')).map_or(text, |it| it.0);
    let mail = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|it| it.timestamp());
    let time = text.parse::<Timestamp>().ok().or_else(|| numeric_date(text));
    time.or_else(|| mail(text)).or_else(|| worded_date(text))
}

/// Whether a text is a time, be it one at which there were no alerts yet.
pub(super) fn is_date(text: &str) -> bool {
    parse_date(text.trim()).is_some()
}

/// Reads a number as an epoch in seconds, milliseconds, microseconds or nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked, parts are rounded")]
pub(super) fn read_number(number: f64) -> Option<Timestamp> {
    let mut seconds = number;
    for _ in 0..4 {
        if is_likely(seconds as i64) {
            return Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok();
        }
        seconds /= 1000.0;
    }
    None
}

fn is_likely(seconds: i64) -> bool {
    (EARLIEST_SECONDS..LATEST_SECONDS).contains(&seconds)
}

/// `2026-11-22 10:00:00 +0100`, `2026/11/22 10:00`, `2026.11.22 10:00:00`, `… UTC`.
fn numeric_date(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let date = date.replace(['/', '.'], "-");
    let rest = rest.trim().trim_start_matches("- ").trim();
    let end = rest.find(|it: char| !(it.is_ascii_digit() || matches!(it, ':' | '.' | ',')));
    let (clock, zone) = rest.split_at(end.unwrap_or(rest.len()));
    let date_time: DateTime = format!("{date}T{}", clock.replace(',', ".")).parse().ok()?;
    let words: Vec<&str> = zone.split_whitespace().collect();
    let is_zone = words.len() <= 2 && words.iter().all(|it| is_zone(it));
    in_zone(date_time, zone.trim()).filter(|_| is_zone)
}

/// Whether a word behind a time may belong to it: `+0100`, `CET`, `Europe/Berlin`, `pm`. What goes on in
/// words is a message that begins with its time.
fn is_zone(word: &str) -> bool {
    let is_plain = !word.contains(|it: char| it.is_ascii_lowercase());
    is_plain || word.contains('/') || matches!(word, "am" | "pm" | "Z" | "z")
}

/// `Thu Nov 22 10:00:00 UTC 2026`, `Nov 22, 2026 10:00:00 AM`, `22 Nov 2026 10:00`.
fn worded_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    /// Days of the week, and what stands between the parts.
    const BESIDE: [&str; 10] =
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "at", "on", "o'clock"];
    let (mut year, mut month, mut day) = (None, None, None);
    let (mut clock, mut zone, mut after_noon) = (None, "", None);
    for word in text.split([' ', ',']).filter(|it| !it.is_empty()) {
        let lower = word.to_ascii_lowercase();
        let named = MONTHS.iter().position(|it| lower.starts_with(it));
        if word.contains(':') && clock.is_none() {
            clock = Some(word);
        } else if let Some(index) = named {
            month = i8::try_from(index + 1).ok();
        } else if lower == "am" || lower == "pm" {
            after_noon = Some(lower == "pm");
        } else if let Ok(number) = word.parse::<i16>() {
            if word.len() == 4 {
                year = Some(number);
            } else if word.len() <= 2 {
                day = i8::try_from(number).ok();
            } else {
                zone = word;
            }
        } else if word.starts_with(['+', '-']) || word == "UTC" || word == "GMT" {
            zone = word;
        } else if !is_zone(word) && !BESIDE.iter().any(|it| lower.starts_with(it)) {
            return None;
        }
    }
    let mut parts = clock?.split(':').map(|it| it.parse::<i8>().ok());
    let mut hour = parts.next()??;
    let (minute, second) = (parts.next()??, parts.next().flatten().unwrap_or(0));
    match after_noon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    in_zone(DateTime::new(year?, month?, day?, hour, minute, second, 0).ok()?, zone)
}

/// A zone by its number, else UTC: names of three letters are ambiguous.
fn in_zone(date_time: DateTime, zone: &str) -> Option<Timestamp> {
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let offset = match digits.len() {
        4 => {
            let (hours, minutes) = digits.split_at(2);
            let minutes = hours.parse::<i32>().ok()? * 60 + minutes.parse::<i32>().ok()?;
            tz::Offset::from_seconds(sign * minutes * 60).ok()?
        }
        2 => tz::Offset::from_seconds(sign * digits.parse::<i32>().ok()? * 3600).ok()?,
        _ => tz::Offset::UTC,
    };
    offset.to_timestamp(date_time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_many_forms() {
        let ten = "2026-11-22T10:00:00Z".parse::<Timestamp>().ok();
        for text in [
            "2026-11-22T10:00:00Z",
            "2026-11-22T11:00:00+01:00",
            "2026-11-22T10:00:00.000+0000",
            "2026-11-22 10:00:00",
            "2026-11-22 10:00:00 UTC",
            "2026-11-22 12:00:00 +0200",
            "2026/11/22 10:00:00",
            "2026.11.22 10:00:00",
            "1795341600",
            "1795341600.0",
            "1795341600000",
            "1795341600000000",
            "Sun, 22 Nov 2026 10:00:00 +0000",
            "Sun Nov 22 10:00:00 UTC 2026",
            "Nov 22, 2026 10:00:00 AM",
            "Sun Nov 22 2026 10:00:00 GMT+0000 (Coordinated Universal Time)",
            "2026-11-22 10:00:00 (UTC)",
        ] {
            assert_eq!(read(text), ten, "{text}");
        }
        for text in [
            "",
            "x",
            "0",
            "12",
            "10:00",
            "2026",
            "0001-01-01T00:00:00Z",
            "99.5",
            "1.2.3",
            "Nov",
            "2026-11-22 10:00:00 Backup failed",
            "Nov 22 2026 10:00 web down",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
