//! What an alert is called, by what it is known again, and what it is about.

use super::fields::{Field, Leaf};
use super::vocabulary::{MONITORS, OCCURRENCES, PAST, STRANGERS};
use super::words::{any, is_strange, resource, severity_of_word, state_of, words_of};
use crate::ingest::mapped::label_name;
use crate::ingest::moment_text;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A title from this weight on is a name.
const NAME_WEIGHT: u32 = 70;
/// A title below this weight is only a message.
const MESSAGE_WEIGHT: u32 = 64;
/// The longest title, in characters.
const TITLE_MAX: usize = 200;
/// The longest value that can name a thing, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 250;

/// A text with the weight of the key it stood under, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) weight: u32,
    pub(super) place: String,
}

/// The first of the heaviest.
pub(super) fn heaviest(found: impl Iterator<Item = Named>) -> Option<Named> {
    found.fold(None, |best: Option<Named>, it| match &best {
        Some(best) if best.weight >= it.weight => Some(best.clone()),
        _ => Some(it),
    })
}

/// Finds the title.
pub(super) fn title(fields: &[Field<'_>]) -> Option<Named> {
    heaviest(fields.iter().filter_map(|it| {
        let text = title_text(it.text()?)?;
        let weight = title_weight(it)?.checked_sub(it.depth * 4)?;
        Some(Named { text, weight, place: it.place.clone() })
    }))
}

/// Things that an alert may be called after, the nearest to users first.
const THINGS: &[&str] =
    &["service", "endpoint", "application", "component", "site", "entity", "resource", "host"];

/// Names the thing in a title. Where the state is that of a thing, the alert is called as the thing,
/// unless it has a real name; where there is only a message, the thing stands before it.
pub(super) fn with_thing(
    title: Option<Named>,
    of: Option<&str>,
    resources: &BTreeMap<String, Named>,
) -> Option<Named> {
    if title.as_ref().is_some_and(|it| it.weight >= NAME_WEIGHT) {
        return title;
    }
    if let Some(thing) = of.and_then(|it| resources.get(it)) {
        let host = resources.get("host").filter(|it| it.text != thing.text);
        let text = host.map(|it| format!("{} on {}", thing.text, it.text));
        let text = text.unwrap_or_else(|| thing.text.clone());
        return Some(Named { text, weight: 88, place: thing.place.clone() });
    }
    let title = title?;
    if title.weight >= MESSAGE_WEIGHT {
        return Some(title);
    }
    let thing = THINGS.iter().find_map(|it| resources.get(*it));
    let is_named = |it: &Named| title.text.to_lowercase().contains(&it.text.to_lowercase());
    Some(match thing.filter(|it| !is_named(it) && it.text != title.text) {
        Some(thing) => Named { text: format!("{}: {}", thing.text, title.text), ..title },
        None => title,
    })
}

/// Finds the text that tells more than the title.
pub(super) fn description<'f>(fields: &'f [Field<'_>], title: &str) -> Option<&'f str> {
    let told = |it: &&Field<'_>| {
        matches!(
            it.head(),
            "message"
                | "msg"
                | "text"
                | "description"
                | "body"
                | "output"
                | "reason"
                | "details"
                | "summary"
        ) && !is_strange(&it.owner)
    };
    let texts = fields.iter().filter(told).filter_map(Field::text);
    texts.filter(|it| *it != title).max_by_key(|it| it.len().min(500))
}

/// The first line of a text that can be a title.
fn title_text(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|it| !it.is_empty())?;
    let words = words_of(line);
    let is_name = line.chars().any(char::is_alphabetic)
        && line.chars().count() > 2
        && !line.contains("://")
        && !is_number_like(line)
        && moment_text::read(line).is_none();
    let only_state = words.len() <= 2
        && words.iter().all(|it| {
            state_of(std::slice::from_ref(it)).is_some() || severity_of_word(it).is_some()
        });
    if !is_name || only_state || (line.starts_with("{{") || line.starts_with("arn:")) {
        return None;
    }
    Some(line.chars().take(TITLE_MAX).collect())
}

/// Ids look like this: long, without blanks, mostly digits and letters of hexadecimal.
fn is_number_like(text: &str) -> bool {
    let digits = text.chars().filter(|it| it.is_ascii_digit() || *it == '-').count();
    let hex = text.chars().all(|it| it.is_ascii_hexdigit() || it == '-');
    hex && text.len() >= 16 || digits * 2 > text.chars().count() && !text.contains(' ')
}

fn title_weight(field: &Field<'_>) -> Option<u32> {
    let meaning = &field.meaning;
    if any(&field.own, PAST) || any(&field.owner, PAST) || field.is_tag && !any(meaning, MONITORS) {
        return None;
    }
    let qualified = |list: &[&str]| any(&field.owner, list) || any(&field.own, list);
    let about_monitor = qualified(MONITORS);
    let about_alert = about_monitor || qualified(OCCURRENCES);
    let own_monitor = any(&field.own, MONITORS) || any(&field.own, OCCURRENCES);
    let base: u32 = match field.head() {
        "name" | "title" if any(&field.own, &["type", "group", "policy"]) => 30,
        "title" | "headline" => 100,
        "subject" => 94,
        "summary" => 84,
        "name" if field.own.len() == 2 && field.has("alert") => 106,
        "name" | "display" if about_monitor => 92,
        "name" if about_alert => 84,
        "name" if field.depth == 0 && field.own.len() == 1 => 78,
        "name" if field.has("display") && field.own.len() > 2 => 66,
        "name" if resource(field.own.first()?).is_some() => 34,
        "name" => 44,
        "alert" | "alarm" | "problem" | "check" | "monitor" | "rule" => 74,
        "detector" | "sensor" => 76,
        // `"event": "HttpServerError"`, and not `"event": "incident.opened"`.
        "event" if field.text()?.chars().all(|it| it.is_alphanumeric() || it == ' ') => 66,
        "description" | "desc" if field.has("short") => 88,
        "desc" | "description" if any(&field.own, &["service", "alarm", "check"]) => 68,
        "message" | "msg" => 60,
        "text" | "fallback" => 56,
        // `eventTypeCode`, `error_code`: a name, where it is no number.
        "code" if any(&field.own, &["event", "error", "alert", "problem"]) => 62,
        "description" => 54,
        "reason" | "output" | "info" | "content" | "body" | "details" | "detail" => 46,
        word if resource(word).is_some() => 24,
        _ => return None,
    };
    let is_stranger = any(&field.own, STRANGERS) || is_strange(&field.owner);
    let penalty = if is_stranger && !own_monitor { 60 } else { 0 };
    let bonus = if own_monitor { 4 } else { 0 };
    (base + bonus).checked_sub(penalty).filter(|it| *it > 0)
}

/// Finds the link to where the alert can be looked at.
pub(super) fn link(fields: &[Field<'_>]) -> Option<Named> {
    heaviest(fields.iter().filter_map(|it| {
        let text = it.text()?;
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        if !is_web || text.contains(char::is_whitespace) {
            return None;
        }
        let weight = link_weight(it, text)?.checked_sub(it.depth * 3)?;
        Some(Named { text: text.to_owned(), weight, place: it.place.clone() })
    }))
}

fn link_weight(field: &Field<'_>, url: &str) -> Option<u32> {
    const NONE: &[&str] = &[
        "avatar",
        "callback",
        "cert",
        "feed",
        "gravatar",
        "icon",
        "image",
        "logo",
        "signing",
        "silence",
        "snapshot",
        "subscribe",
        "thumbnail",
        "unsubscribe",
        "ack",
        "acknowledge",
    ];
    let meaning = &field.meaning;
    if any(meaning, NONE) || any(&field.above, &["avatar", "image", "images", "icon"]) {
        return None;
    }
    let base = match field.head() {
        "url" | "link" | "href" | "permalink" | "uri" => 70,
        "html" | "web" | "self" => 60,
        _ => 40,
    };
    let has = |list: &[&str]| any(meaning, list) || any(&field.owner, list);
    let bonus = if has(OCCURRENCES) || has(&["alert", "details", "permalink", "web", "html"]) {
        20
    } else if has(MONITORS) || has(&["generator", "dashboard", "source", "view", "title"]) {
        12
    } else {
        0
    };
    let penalty = if has(&["runbook", "playbook", "panel"]) { 25 } else { 0 }
        + if has(&["api"]) || url.contains("//api.") || url.contains("/api/") { 30 } else { 0 }
        + if has(&["host", "check", "monitored", "target", "site", "full", "website", "external"]) {
            15
        } else {
            0
        }
        + if has(STRANGERS) { 40 } else { 0 };
    Some((base + bonus).max(penalty) - penalty)
}

/// Finds since when it is true. While it fires the time of the message will do; of what is over
/// that would be its end.
pub(super) fn starts_at(
    fields: &[Field<'_>],
    is_firing: bool,
    now: Timestamp,
) -> Option<(Timestamp, String)> {
    let found = fields.iter().filter_map(|it| {
        let weight = start_weight(it, is_firing)?.checked_sub(it.depth * 3)?;
        let time = match &it.value {
            Leaf::Number(number) => moment_text::read_number(*number)?,
            _ => moment_text::read(it.text()?)?,
        };
        // A start that is well ahead is no start.
        (time.as_second() < now.as_second() + 86_400).then(|| (time, weight, it.place.clone()))
    });
    let best = found.fold(None, |best: Option<(Timestamp, u32, String)>, it| match best {
        Some(best) if best.1 >= it.1 => Some(best),
        _ => Some(it),
    })?;
    Some((best.0, best.2))
}

fn start_weight(field: &Field<'_>, is_firing: bool) -> Option<u32> {
    const START: &[&str] =
        &["began", "begin", "fired", "onset", "opened", "since", "start", "started", "starts"];
    const OVER: &[&str] = &[
        "cleared",
        "close",
        "closed",
        "end",
        "ended",
        "ends",
        "expires",
        "recovered",
        "resolved",
        "updated",
        "until",
    ];
    let meaning = &field.meaning;
    let has = |list: &[&str]| any(meaning, list);
    if has(OVER) || is_strange(&field.owner) || has(&["previous", "next", "local"]) {
        return None;
    }
    let is_time = has(&[
        "at",
        "date",
        "datetime",
        "epoch",
        "occurrence",
        "on",
        "time",
        "timestamp",
        "ts",
        "changed",
    ]);
    if has(START) {
        Some(95)
    } else if has(&["first"]) && (is_time || has(&["seen", "occurred"])) {
        Some(88)
    } else if has(&["triggered", "trigger", "activated", "raised", "down", "detected"]) && is_time {
        Some(85)
    } else if has(&["created"]) && (is_time || meaning.len() == 1 || field.own.len() == 1) {
        Some(if is_firing { 70 } else { 62 })
    } else if is_firing && is_time {
        Some(55)
    } else {
        None
    }
}

/// What an alert is about: names of things that can be broken, by label.
pub(super) fn resources(fields: &[Field<'_>]) -> BTreeMap<String, Named> {
    let mut best: BTreeMap<String, Named> = BTreeMap::new();
    for field in fields {
        let Some((label, weight)) = resource_weight(field).filter(|_| !field.is_listed) else {
            continue;
        };
        let Some(text) = field.plain() else { continue };
        let is_name = text.len() <= NAME_BYTES_MAX
            && !text.contains('\n')
            && !text.starts_with("{{")
            && moment_text::read(&text).is_none();
        let known = best.get(label).map_or(0, |it| it.weight);
        if is_name && weight > known {
            let place = field.place.clone();
            best.insert(label.to_owned(), Named { text, weight, place });
        }
    }
    best
}

fn resource_weight(field: &Field<'_>) -> Option<(&'static str, u32)> {
    if any(&field.own, PAST)
        || any(
            &field.owner,
            &[
                "actor",
                "author",
                "user",
                "sender",
                "integration",
                "creator",
                "webhook",
                "client",
                "sdk",
                "browser",
                "os",
            ],
        )
    {
        return None;
    }
    let own: Vec<&str> = field.own.iter().map(String::as_str).collect();
    let (label, form): (&str, u32) = match own.as_slice() {
        [word] if resource(word).is_some() => (resource(word)?, 80),
        [.., word]
            if resource(word).is_some() && field.own.len() <= 3 && !any(&field.own, STRANGERS) =>
        {
            (resource(word)?, 55)
        }
        [word, "name" | "desc" | "description"] => (resource(word)?, 90),
        [.., word, "name"] => (resource(word)?, 60),
        [word, "id" | "key" | "alias" | "address"] => (resource(word)?, 50),
        ["name" | "display" | "hostname"] => (resource(field.owner.last()?)?, 70),
        ["id" | "key" | "url"] => (resource(field.owner.last()?)?, 40),
        _ => return None,
    };
    let is_title = label == "resource" && own == ["subject"];
    if is_title || matches!(field.value, Leaf::Bool(_) | Leaf::Null) {
        return None;
    }
    Some((label, (form + 20).saturating_sub(field.depth * 3)))
}

/// Labels of the sender's own choice that stay the same from one message to the next.
pub(super) fn labels(fields: &[Field<'_>]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for field in fields.iter().filter(|it| it.is_label && !it.is_listed) {
        let name = label_name(&field.key);
        let meaning = &field.meaning;
        let Some(text) = field.plain() else { continue };
        let is_fit = !name.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.contains('\n')
            && !any(
                meaning,
                &[
                    "value",
                    "time",
                    "timestamp",
                    "date",
                    "count",
                    "duration",
                    "url",
                    "message",
                    "state",
                    "status",
                ],
            );
        if is_fit && found.len() < 24 {
            found.entry(name).or_insert(text);
        }
    }
    found
}
