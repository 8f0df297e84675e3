//! Checks a cron line: five fields, as in crontab(5).

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::{Node, Value};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: what it is called, its range, and words for its numbers from the least on.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of the month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, words: &DAYS },
];

/// A cron line with `time_zone` beside it, or both in a map as models have them.
pub(super) fn schedule(
    reader: &mut Reader<'_>,
    schedule: &Node,
    zone: Option<&Node>,
) -> (String, String) {
    let mut read = (String::new(), "UTC".to_owned());
    let mut take_line = |reader: &mut Reader<'_>, node: &Node| {
        read.0 = reader.text(node);
        if let Err(message) = check(&read.0) {
            let hint = "minute, hour, day of the month, month, day of the week: `0 2 * * *`";
            reader.report_hint(node.place, Code::BadCron, message, hint);
        }
    };
    let mut zone = zone;
    if matches!(&schedule.value, Value::Map(_)) {
        if let Some(mut fields) = Fields::open(reader, schedule) {
            if let Some(node) = fields.required(reader, "cron") {
                take_line(reader, node);
            }
            zone = fields.optional("time_zone").or(zone);
            fields.finish(reader);
        }
    } else {
        take_line(reader, schedule);
    }
    if let Some(node) = zone {
        read.1 = reader.time_zone(node);
    }
    read
}

/// Fails with a message that names the field.
pub(super) fn check(line: &str) -> Result<(), String> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("a cron line has 5 fields, not {}: `{line}`", parts.len()));
    }
    for (field, part) in FIELDS.iter().zip(parts) {
        if !part.split(',').all(|it| is_range(field, it)) {
            return Err(format!("bad {} in the cron line: `{part}`", field.name));
        }
    }
    Ok(())
}

/// `*`, `5`, `1-5`, and each with a step: `*/6`.
fn is_range(field: &Field, text: &str) -> bool {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let good_step = step.is_none_or(|it| {
        it.parse::<u8>().is_ok_and(|it| (1..=field.most).contains(&it)) && !it.starts_with('+')
    });
    let good_range = match range.split_once('-') {
        _ if range == "*" => true,
        Some((from, to)) => match (number(field, from), number(field, to)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
        None => number(field, range).is_some() && step.is_none(),
    };
    good_step && good_range
}

fn number(field: &Field, text: &str) -> Option<u8> {
    let by_word = field.words.iter().position(|it| it.eq_ignore_ascii_case(text));
    let number = match by_word {
        Some(index) => u8::try_from(index).ok()? + field.least,
        None if text.bytes().all(|it| it.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    (field.least..=field.most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn five_fields_in_range_are_a_cron_line() {
        for (line, good) in [
            ("0 */6 * * *", true),
            ("*/5 8-18 1,15 jan-mar mon-fri", true),
            ("0 0 * * 7", true),
            ("", false),
            ("* * * *", false),
            ("0 0 */6 * * *", false),
            ("@daily", false),
            ("60 * * * *", false),
            ("* 24 * * *", false),
            ("* * 0 * *", false),
            ("* * * 13 *", false),
            ("* * * * 8", false),
            ("*/0 * * * *", false),
            ("5-1 * * * *", false),
            ("5/2 * * * *", false),
            ("1,,2 * * * *", false),
            ("x * * * *", false),
        ] {
            assert_eq!(check(line).is_ok(), good, "{line}");
        }
    }
}
