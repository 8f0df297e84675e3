//! By what an alert is known again, so that the fired and the resolved body of one are one.

use super::fields::Field;
use super::naming::{NAME_BYTES_MAX, Named, heaviest};
use super::vocabulary::{MONITORS, OCCURRENCES, PAST, STRANGERS};
use super::words::{any, is_strange, resource, severity_of_word, state_of, words_of};
use crate::ingest::moment_text;

/// By what the alert is known again, best first: a key that the sender made for that, the thing
/// that raised it, its title without what changes.
pub(super) fn find(fields: &[Field<'_>], title: Option<&Named>) -> Option<Named> {
    let by_key = fields.iter().filter_map(|it| {
        let text = it.plain()?;
        let weight = identity_weight(it)?.checked_sub(it.depth * 2)?;
        let is_fit = text.len() <= NAME_BYTES_MAX * 2
            && (moment_text::read(&text).is_none() || weight > 90)
            && text != "0";
        is_fit.then(|| Named { text: with_noun(it, text), weight, place: it.place.clone() })
    });
    let by_title = title.map(|it| Named {
        text: lasting(&it.text),
        weight: if it.weight >= 70 { 66 } else { 50 },
        place: it.place.clone(),
    });
    let by_title = by_title.filter(|it| !it.text.is_empty());
    let by_key = by_key.map(|it| Named { text: lasting_name(&it), ..it });
    heaviest(by_key.chain(by_title))
}

/// A short number means something only together with what it is the number of.
fn with_noun(field: &Field<'_>, text: String) -> String {
    if text.len() > 12 || !text.bytes().all(|it| it.is_ascii_digit()) {
        return text;
    }
    let noun = if field.own.len() > 1 { field.own.first() } else { field.owner.last() };
    format!("{} {text}", noun.map_or("", String::as_str)).trim().to_owned()
}

/// A name may have the state in front: `[Triggered] CPU`. An id is kept as it is.
fn lasting_name(named: &Named) -> String {
    if named.text.contains(' ') { lasting(&named.text) } else { named.text.clone() }
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
        (true, true) if noun == "issue" => Some(90),
        (true, true) if noun != "event" => Some(62),
        (_, true) if own.len() == 1 && field.depth == 0 && own != ["code"] && own != ["number"] => {
            Some(40)
        }
        _ => None,
    }
}

/// A title without what changes from one message of an alert to the next: words of state, times,
/// numbers with a fraction or a percentage.
pub(super) fn lasting(title: &str) -> String {
    let mut kept = Vec::new();
    let tokens: Vec<&str> = title.split_whitespace().collect();
    for token in &tokens {
        let bare = token.trim_matches(|it: char| !it.is_alphanumeric());
        let words = words_of(bare);
        let is_state = !words.is_empty()
            && words.iter().all(|it| {
                state_of(std::slice::from_ref(it)).is_some() || severity_of_word(it).is_some()
            });
        let is_filler = words.len() == 1
            && words.iter().all(|it| {
                matches!(
                    it.as_str(),
                    "is" | "are"
                        | "was"
                        | "has"
                        | "been"
                        | "now"
                        | "again"
                        | "still"
                        | "not"
                        | "for"
                        | "after"
                        | "auto"
                        | "re"
                )
            });
        let is_measure = !bare.is_empty()
            && bare.starts_with(|it: char| it.is_ascii_digit())
            && (bare.contains(['.', ':', '%'])
                || token.contains('%')
                || bare.ends_with(['s', 'm', 'h']))
            && !bare.contains('/')
            && bare.split('.').count() != 4;
        let is_counter = token.starts_with('#') && bare.chars().all(|it| it.is_ascii_digit());
        if !(is_state || is_filler || is_measure || is_counter || bare.is_empty()) {
            kept.push(bare.to_lowercase());
        }
    }
    kept.join(" ")
}

/// A title without the words of state at its ends: what the alert is called as long as it lives.
pub(super) fn lasting_title(title: &str) -> String {
    let mut rest = title.trim();
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
