//! Times inside a text: an alert is not called after when it was told of.

/// Longer texts are no names; nothing is looked for in them. In bytes.
const BYTES_MAX: usize = 1000;
/// Words that lead to a time, and that stand between two.
const LEADS: &[&str] = &["around", "at", "from", "on", "since", "to", "until"];
/// What stands after a time and belongs to it.
const TAILS: &[&str] = &[
    "am", "bst", "cdt", "cest", "cet", "edt", "est", "gmt", "ist", "jst", "local", "mdt", "mst",
    "pdt", "pm", "pst", "utc", "z",
];
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
const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Which times are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All, as in a message.
    All,
    /// Those with a date: a name may tell at which hour something is done, never on which day it was.
    Dated,
}

/// Words that tell one time, with those that lead to it; from the first to before `end`.
struct Run {
    start: usize,
    end: usize,
    is_dated: bool,
}

/// A text without the times in it. One that is nothing else stays.
pub(super) fn without(text: &str, which: Which) -> String {
    let tokens: Vec<&str> = tokens(text);
    let runs = runs(&tokens, which);
    let is_time = |index: usize| runs.iter().any(|it| (it.start..it.end).contains(&index));
    let kept = tokens.iter().enumerate().filter(|(index, _)| !is_time(*index));
    let kept: Vec<&str> = kept.map(|it| *it.1).collect();
    let is_same = runs.is_empty() || !kept.iter().any(|it| it.contains(char::is_alphanumeric));
    if is_same { text.to_owned() } else { kept.join(" ") }
}

/// A text without the times before and after it.
pub(super) fn without_at_ends(text: &str, which: Which) -> &str {
    let tokens = tokens(text);
    let runs = runs(&tokens, which);
    let first = runs.first().filter(|it| it.start == 0).map_or(0, |it| it.end);
    let last = runs.last().filter(|it| it.end == tokens.len()).map_or(tokens.len(), |it| it.start);
    let offset = |token: &&str| token.as_ptr().addr() - text.as_ptr().addr();
    let start = tokens.get(first).map(offset);
    let end = last.checked_sub(1).and_then(|it| tokens.get(it)).map(|it| offset(it) + it.len());
    let is_separator = |it: char| it.is_whitespace() || matches!(it, '-' | '|' | ',' | ':' | ';');
    match (start, end) {
        (Some(start), Some(end)) if first > 0 || last < tokens.len() => {
            let rest = text.get(start..end).unwrap_or(text).trim_start_matches(is_separator);
            let rest = if last < tokens.len() { rest.trim_end_matches(is_separator) } else { rest };
            if rest.contains(char::is_alphanumeric) { rest } else { text }
        }
        _ => text,
    }
}

fn tokens(text: &str) -> Vec<&str> {
    if text.len() > BYTES_MAX { Vec::new() } else { text.split_whitespace().collect() }
}

fn runs(tokens: &[&str], which: Which) -> Vec<Run> {
    let bare: Vec<&str> =
        tokens.iter().map(|it| it.trim_matches(|it: char| !it.is_alphanumeric())).collect();
    let of = |index: usize| bare.get(index).copied().unwrap_or_default();
    let mut runs: Vec<Run> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let (length, is_date) = time_at(&bare, index);
        if length == 0 {
            index += 1;
            continue;
        }
        let (mut end, mut is_dated) = (index + length, is_date);
        let mut next = end;
        while next < tokens.len() {
            let (length, is_date) = time_at(&bare, next);
            let is_tail = next == end && is_tail(tokens.get(next).copied().unwrap_or_default());
            if length > 0 || is_tail {
                next += length.max(1);
                end = next;
                is_dated |= is_date;
            } else if is_between(of(next)) {
                next += 1;
            } else {
                break;
            }
        }
        let floor = runs.last().map_or(0, |it| it.end);
        let before = (floor..index).rev().take_while(|it| is_between(of(*it))).count();
        runs.push(Run { start: index - before, end, is_dated });
        index = end;
    }
    runs.retain(|it| it.is_dated || which == Which::All);
    runs
}

/// How many words from here on are a date or a time of day, and whether it is a date.
fn time_at(bare: &[&str], index: usize) -> (usize, bool) {
    let of = |index: usize| bare.get(index).copied().unwrap_or_default();
    let (here, next) = (of(index), of(index + 1));
    if is_date(here) {
        (1, true)
    } else if is_clock(here) {
        (1, false)
    } else if is_month(here) && is_day(next) || is_day(here) && is_month(next) {
        (if is_year(of(index + 2)) { 3 } else { 2 }, true)
    } else {
        (0, false)
    }
}

/// Whether a word may lead to a time: nothing but signs, a day of the week, `since`.
fn is_between(bare: &str) -> bool {
    let lower = bare.to_lowercase();
    bare.is_empty() || LEADS.contains(&lower.as_str()) || is_name_of(bare, &WEEKDAYS)
}

/// A zone, or the year that `date` prints last.
fn is_tail(token: &str) -> bool {
    let bare = token.trim_matches(|it: char| !it.is_alphanumeric() && !matches!(it, '+' | '-'));
    let offset = bare.strip_prefix(['+', '-']).map(|it| it.replace(':', ""));
    let is_offset = offset.is_some_and(|it| it.len() == 4 && number(&it).is_some());
    is_offset || is_year(bare) || TAILS.contains(&bare.to_lowercase().as_str())
}

/// `2026-11-20`, `20.11.2026`, `20/Nov/2026:09:15:02`, `2026-11-20T09:15:02Z`. Not `2026.11.20`, which is
/// as often a version.
fn is_date(text: &str) -> bool {
    let (date, clock) = match text.split_once(['T', ':', '_']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let Some(sign) = date.chars().find(|it| matches!(it, '-' | '/' | '.')) else { return false };
    let parts: Vec<&str> = date.split(sign).collect();
    let is_date = match parts.as_slice() {
        [year, month, day] if year.len() == 4 => {
            sign != '.' && is_year(year) && is_month_number(month) && is_day(day)
        }
        [first, second, year] if is_year(year) => {
            let is_mixed = is_month_number(first) && is_day(second);
            is_mixed || is_day(first) && (is_month_number(second) || is_month(second))
        }
        _ => false,
    };
    is_date && clock.is_none_or(is_clock)
}

/// `09:15`, `9:15:02.123`, `09:15:02Z`, `09:15:02+01:00`, `9:15pm`.
fn is_clock(text: &str) -> bool {
    let text = text.split(['+', '-', 'Z']).next().unwrap_or_default();
    let text = ["am", "pm", "AM", "PM"].iter().find_map(|it| text.strip_suffix(it)).unwrap_or(text);
    let text = text.split(['.', ',']).next().unwrap_or_default();
    let parts: Vec<&str> = text.split(':').collect();
    let below = |part: &str, most: u32| number(part).is_some_and(|it| it < most);
    match parts.as_slice() {
        [hour, minute] => minute.len() == 2 && below(hour, 24) && below(minute, 60),
        [hour, minute, second] => {
            let is_wide = minute.len() == 2 && second.len() == 2;
            is_wide && below(hour, 24) && below(minute, 60) && below(second, 61)
        }
        _ => false,
    }
}

fn number(text: &str) -> Option<u32> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && number(text).is_some_and(|it| (1990..2100).contains(&it))
}

fn is_month_number(text: &str) -> bool {
    number(text).is_some_and(|it| (1..=12).contains(&it))
}

/// `20`, `20th`.
fn is_day(text: &str) -> bool {
    let text = ["st", "nd", "rd", "th"].iter().find_map(|it| text.strip_suffix(it)).unwrap_or(text);
    number(text).is_some_and(|it| (1..=31).contains(&it))
}

fn is_month(text: &str) -> bool {
    is_name_of(text, &MONTHS)
}

/// Whether this is such a name, or its first three letters. With a capital: `may` is as often a verb.
fn is_name_of(text: &str, names: &[&str]) -> bool {
    let lower = text.to_lowercase();
    text.starts_with(|it: char| it.is_ascii_uppercase())
        && names.iter().any(|it| *it == lower || it.get(..3) == Some(lower.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_left_out_of_texts() {
        for (text, expected) in [
            ("2026-11-20 09:15:02 Backup failed", "Backup failed"),
            ("[20/Nov/2026:09:15:02 +0100] web-7 is down", "web-7 is down"),
            ("2026-11-20T09:15:02.123Z - disk full", "disk full"),
            ("Nov 20 09:15:02 db-2 monit: disk full", "db-2 monit: disk full"),
            ("Fri Nov 20 09:15:02 UTC 2026: disk full", "disk full"),
            ("disk full since 09:15 on Nov 20", "disk full"),
            ("disk full at 9:15 PM, Friday, 20th November 2026", "disk full"),
            ("disk full (11/20/2026 09:15)", "disk full"),
            ("web is down from 09:15 to 09:45", "web is down"),
        ] {
            assert_eq!(without_at_ends(text, Which::All), expected);
            assert_eq!(without(text, Which::All).trim_start_matches("- "), expected);
        }
        let text = "Backup of 2026-11-20 on db-1 failed";
        assert_eq!(without_at_ends(text, Which::All), text);
        assert_eq!(without(text, Which::All), "Backup of on db-1 failed");
    }

    #[test]
    fn what_is_no_time_stays() {
        for text in [
            "node 7 is down",
            "release 2026.11.20 failed",
            "10.0.0.1:9100 is down",
            "ratio 16:9 is wrong",
            "may 5 requests fail",
            "1/2 disks failed",
            "failed on db-1 at boot",
            "2026-11-20 09:15",
            "error 2026",
            "",
            "-",
        ] {
            assert_eq!(without_at_ends(text, Which::All), text);
            assert_eq!(without(text, Which::All), text);
        }
        // At which hour something is done may be its name.
        let name = "Backup at 03:00";
        assert_eq!(without_at_ends(name, Which::Dated), name);
        assert_eq!(without_at_ends("Backup 2026-11-20 03:00", Which::Dated), "Backup");
        assert_eq!(without_at_ends(name, Which::All), "Backup");
    }
}
