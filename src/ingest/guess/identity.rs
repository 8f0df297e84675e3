//! By what an alert is known again, so that the fired and the resolved body of one are one.

use super::KEY_WEIGHT;
use super::fields::Field;
use super::keys::{MONITORS, OCCURRENCES, PAST, STRANGERS};
use super::naming::{self, HAPPENING_WEIGHT, MESSAGE_WEIGHT, NAME_BYTES_MAX, Named};
use super::naming::{is_readable, thing_of_id};
use super::things;
use super::times::{self, Which};
use super::vocabulary::{COMPLAINTS, IS};
use super::words::{any, is_strange, resource, severity_of_word, state_of, words_of};
use crate::ingest::moment_text;

/// By what an alert is known again.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) named: Named,
    /// Whether it says alone which alert it is: a key made for that, or the number of an error. The name
    /// of a rule says so only with its labels and things.
    pub(super) is_whole: bool,
}

/// By what the alert is known again, best first: a key that the sender made for that, the thing
/// that raised it, its title without what changes.
pub(super) fn find(fields: &[Field<'_>], title: Option<&Named>) -> Option<Identity> {
    let typed = typed_objects(fields);
    let by_key = fields.iter().filter_map(|it| {
        let text = it.plain()?;
        let is_typed = it.own == ["id"] && typed.contains(&it.place.object());
        let weight = if is_typed { TYPED_WEIGHT } else { identity_weight(it)? };
        let is_whole = is_typed || weight >= KEY_WEIGHT || is_error_number(it);
        let weight = weight.checked_sub(it.depth * 2)?;
        let is_fit = text.len() <= NAME_BYTES_MAX * 2
            && (moment_text::read(&text).is_none() || weight > 60)
            && text != "0";
        // A name may have the state in front: `[Triggered] CPU`. An id is kept as it is.
        let text = if text.contains(' ') { lasting(&text) } else { with_noun(it, text) };
        let named = Named { text, weight, place: it.place.clone() };
        is_fit.then_some(Identity { named, is_whole })
    });
    // What is only a message changes; what it is about does not.
    let is_message = title.is_none_or(|it| it.weight < MESSAGE_WEIGHT);
    let by_thing = is_message.then(|| thing(fields)).flatten();
    let by_title = title.map(|it| {
        // A title that is all state lasts as it is.
        let text = Some(lasting(&it.text)).filter(|it| !it.is_empty());
        let text = text.unwrap_or_else(|| it.text.to_lowercase());
        let weight = match it.weight {
            70.. => 66,
            ..=HAPPENING_WEIGHT => 30,
            _ => 50,
        };
        Identity { named: Named { text, weight, place: it.place.clone() }, is_whole: false }
    });
    by_key.chain(by_thing).chain(by_title).fold(None, |best: Option<Identity>, it| match best {
        Some(best) if best.named.weight >= it.named.weight => Some(best),
        _ => Some(it),
    })
}

/// What a message is about: an object that says what it is, or the address that is watched.
fn thing(fields: &[Field<'_>]) -> Option<Identity> {
    if let Some((kind, named)) = things::object(fields) {
        let mut all = fields.iter().filter(|it| it.own == ["namespace"]);
        let space = all.find(|it| it.place.object() == named.place.object());
        let space = space.and_then(Field::text).unwrap_or_default();
        let text = format!("{kind} {space} {}", named.text);
        return Some(Identity { named: Named { text, weight: 58, ..named }, is_whole: true });
    }
    let named = naming::address(fields)?;
    Some(Identity { named: Named { weight: 58, ..named }, is_whole: false })
}

/// Whether this is the number under which all occurrences of an error are counted.
fn is_error_number(field: &Field<'_>) -> bool {
    let noun = field.own.iter().rev().nth(1).or_else(|| field.owner.last());
    let noun = noun.map_or("", String::as_str);
    matches!(field.head(), "id" | "uid" | "uuid") && ERRORS.contains(&noun)
}

/// What is counted under one number until it is mended.
const ERRORS: &[&str] = &["bug", "error", "exception", "fault", "issue", "item"];

/// The weight of an id of an object that says itself that it is an incident.
const TYPED_WEIGHT: u32 = 80;

/// The places of the objects that say of themselves what they are: `{"id": …, "type": "incident"}`.
fn typed_objects<'f>(fields: &'f [Field<'_>]) -> Vec<&'f str> {
    let types = fields.iter().filter(|it| it.own == ["type"] || it.own == ["kind"]);
    let types = types.filter(|it| it.text().is_some_and(|it| OCCURRENCES.contains(&it)));
    types.filter(|it| it.text() != Some("event")).map(|it| it.place.object()).collect()
}

/// A short number means something only together with what it is the number of.
fn with_noun(field: &Field<'_>, text: String) -> String {
    if text.len() > 12 || !text.bytes().all(|it| it.is_ascii_digit()) {
        return text;
    }
    let noun = if field.own.len() > 1 { field.own.first() } else { field.owner.last() };
    format!("{} {text}", noun.map_or("", String::as_str)).trim().to_owned()
}

fn identity_weight(field: &Field<'_>) -> Option<u32> {
    if any(&field.own, PAST) || field.is_tag {
        return None;
    }
    let own: Vec<&str> = field.own.iter().map(String::as_str).collect();
    let joined = own.concat();
    if joined.contains("dedup") || joined.contains("dedupe") {
        return Some(120);
    }
    if matches!(
        joined.as_str(),
        "fingerprint"
            | "aggregationkey"
            | "aggregkey"
            | "alertkey"
            | "incidentkey"
            | "eventkey"
            | "groupkey"
            | "correlationkey"
            | "correlationid"
            | "uniquekey"
            | "problemkey"
    ) {
        return Some(112);
    }
    if joined == "alias"
        && !is_strange(&field.owner)
        && field.depth <= 1
        && resource(field.owner.last().map_or("", String::as_str)).is_none()
    {
        return Some(108);
    }
    let is_id =
        matches!(field.head(), "id" | "uid" | "arn" | "uuid" | "key" | "slug" | "code" | "number");
    let is_name = matches!(field.head(), "name");
    let before = own.get(own.len().saturating_sub(2)).copied().filter(|_| own.len() > 1);
    let noun = match before {
        Some(it) => it,
        None if is_id || is_name => field.owner.last().map_or("", String::as_str),
        None => "",
    };
    let noun = noun.strip_suffix('s').filter(|_| noun.len() > 4).unwrap_or(noun);
    if any(&field.own, STRANGERS) && !MONITORS.contains(&noun) {
        return None;
    }
    if MONITORS.contains(&noun) {
        // The id of an alert is often that of one occurrence, that of a rule never.
        return match (is_id, is_name, noun) {
            (true, _, "alert" | "trigger" | "alarm") => {
                Some(if joined.ends_with("arn") { 100 } else { 64 })
            }
            (true, _, _) => Some(102),
            (_, true, _) => Some(98),
            _ => None,
        };
    }
    let is_occurrence = OCCURRENCES.contains(&noun);
    match (is_occurrence, is_id) {
        (_, true) if is_error_number(field) => Some(if noun == "item" { 72 } else { 90 }),
        (false, true) if thing_of_id(field).is_some() && is_readable(field.text()?) => Some(69),
        // A code says of what kind an error is.
        (true, true) if noun != "event" && field.head() != "code" => Some(62),
        (_, true) if own.len() == 1 && field.depth == 0 && own != ["code"] && own != ["number"] => {
            Some(40)
        }
        _ => None,
    }
}

/// Words between those that last, and what measures are counted in.
const FILLERS: &[&str] = &[
    "after", "again", "are", "auto", "became", "been", "came", "for", "has", "is", "not", "now",
    "re", "still", "was", "went",
];
const UNITS: &[&str] = &[
    "b", "bytes", "c", "gb", "gib", "hours", "kb", "mb", "mib", "min", "minutes", "ms", "percent",
    "s", "sec", "seconds", "tb",
];

/// A title without what changes from one message of an alert to the next: words of state, times,
/// measures, and the number of the process that wrote it.
pub(super) fn lasting(title: &str) -> String {
    let title = times::without(without_duration(title), Which::Dated);
    let tokens: Vec<&str> = title.split_whitespace().collect();
    let mut kept: Vec<String> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let of = |index: usize| tokens.get(index).copied().unwrap_or_default();
        let before = index.checked_sub(1).map_or("", of);
        // `monit[412]:`
        let writer = token.strip_suffix("]:").and_then(|it| it.split_once('['));
        let writer = writer.filter(|(_, number)| number.bytes().all(|it| it.is_ascii_digit()));
        let bare = writer.map_or(*token, |it| it.0);
        let bare = bare.trim_matches(|it: char| !it.is_alphanumeric());
        // `is full`, `is too long` are said while it is so.
        let is_said = |before: &str| IS.contains(&before);
        let is_complaint = is_said(before) && (bare == "too" || COMPLAINTS.contains(&bare))
            || before == "too" && index > 1 && is_said(of(index - 2));
        if !is_complaint && is_lasting(token, bare, of(index + 1)) {
            kept.push(bare.to_lowercase());
        }
    }
    kept.join(" ")
}

/// Whether a word of a title is in all messages of an alert.
fn is_lasting(token: &str, bare: &str, next: &str) -> bool {
    let words = words_of(bare);
    // `FIRING:2` counts how many.
    let names = words.iter().filter(|it| it.parse::<u32>().is_err());
    let is_state = words.is_empty()
        || names.clone().count() > 0
            && names.clone().all(|it| {
                state_of(std::slice::from_ref(it)).is_some() || severity_of_word(it).is_some()
            });
    let is_filler = words.iter().all(|it| FILLERS.contains(&it.as_str()));
    let is_counter = token.starts_with('#') && bare.bytes().all(|it| it.is_ascii_digit());
    !(is_state || is_filler || is_counter || is_measure(token, bare, next))
}

/// A title without how long it took: `Resolved in 5m 0s: CPU`.
fn without_duration(title: &str) -> &str {
    let Some((mark, rest)) = title.split_once(": ") else { return title };
    let words = words_of(mark);
    let is_mark = words.len() > 1
        && words.len() <= 6
        && words.first().is_some_and(|it| state_of(std::slice::from_ref(it)).is_some());
    let in_time = words.iter().any(|it| it == "in" || it == "after");
    if is_mark && in_time { rest } else { title }
}

/// `97.1`, `10:15`, `96%`, `5m`, and `97` before `%` or `MB`; no address, no path, no plain number,
/// which may be that of a machine.
fn is_measure(token: &str, bare: &str, next: &str) -> bool {
    if !bare.starts_with(|it: char| it.is_ascii_digit()) || bare.contains('/') {
        return false;
    }
    let is_address = bare.split('.').count() == 4;
    let has_unit =
        bare.contains(['.', ':']) || token.contains('%') || bare.ends_with(['s', 'm', 'h']);
    let unit = next.trim_matches(|it: char| !it.is_alphanumeric()).to_lowercase();
    let before_unit = next.starts_with('%') || UNITS.contains(&unit.as_str());
    !is_address && (has_unit || before_unit && bare.bytes().all(|it| it.is_ascii_digit()))
}

/// A title without the words of state at its ends and the days in it: what the alert is called as long
/// as it lives.
pub(super) fn lasting_title(title: &str) -> String {
    let undated = times::without(title.trim(), Which::Dated);
    let mut rest = undated.as_str();
    // `[FIRING:2] name`, `RESOLVED: name`.
    while let Some((mark, after)) = rest.strip_prefix('[').and_then(|it| it.split_once(']')) {
        if state_of(&words_of(mark)).is_none()
            && severity_of_word(&words_of(mark).concat()).is_none()
        {
            break;
        }
        rest = after.trim();
    }
    if let Some((mark, after)) = rest.split_once(':')
        && words_of(mark).len() <= 2
        && state_of(&words_of(mark)).is_some()
    {
        rest = after.trim();
    }
    if rest.is_empty() { title.to_owned() } else { rest.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_of_a_title() {
        for (fired, resolved, expected) in [
            ("[Triggered] CPU of web-3", "[Recovered] CPU of web-3", "cpu of web-3"),
            ("disk is 97 % full", "disk is 60 % full", "disk full"),
            ("Ping down for 5m", "Ping up after 10m", "ping"),
            ("PROBLEM: load 9.5 on 10.0.0.1", "OK: load 0.5 on 10.0.0.1", "load on 10.0.0.1"),
            ("node 7 is DOWN", "node 7 is UP", "node 7"),
            ("CRITICAL: Queue mail is too long", "OK: Queue mail", "queue mail"),
            ("Backup of 2026-11-20 failed", "Backup of 2026-11-21 is OK", "backup of"),
            ("db-2 monit[412]: disk full", "db-2 monit[9]: disk full ok", "db-2 monit disk full"),
        ] {
            assert_eq!(lasting(fired), expected);
            assert_eq!(lasting(resolved), expected);
        }
        assert_eq!(lasting_title("[FIRING:2] High load: web"), "High load: web");
        assert_eq!(lasting_title("RESOLVED: web"), "web");
        assert_eq!(lasting_title("Backup of 2026-11-20: failed"), "Backup of failed");
        assert_eq!(lasting_title("Queue: too long"), "Queue: too long");
    }
}
