//! What an alert is called, by what it is known again, and what it is about.

use super::fields::Field;
use super::keys::{MONITORS, OCCURRENCES, PAST, STRANGERS};
use super::place::Place;
use super::times::{self, Which};
use super::vocabulary::NEGATIONS;
use super::words::{any, is_strange, resource, severity_of_word, state_of, words_of};
use crate::ingest::moment_text;
use std::collections::BTreeMap;

/// A title from this weight on is a name.
const NAME_WEIGHT: u32 = 70;
/// A title below this weight is only a message.
pub(super) const MESSAGE_WEIGHT: u32 = 64;
/// The longest title, in characters.
const TITLE_MAX: usize = 200;
/// The most words of a line that is only a heading.
const HEADING_WORDS_MAX: usize = 6;
/// How many lines after a heading a list may begin.
const HEADING_LINES_MAX: usize = 3;
/// The longest value that can name a thing, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 250;

/// A text with the weight of the key it stood under, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) weight: u32,
    pub(super) place: Place,
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
        let weight = title_weight(it)?;
        let which = if weight >= NAME_WEIGHT { Which::Dated } else { Which::All };
        let text = title_text(it.text()?, which)?;
        let weight = weight.checked_sub(it.depth * 4)?;
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
    own: &[Field<'_>],
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
    let thing = THINGS.iter().find_map(|it| resources.get(*it)).cloned();
    let thing = thing.or_else(|| address(own));
    // A number names nothing to people.
    let thing = thing.filter(|it| it.text.contains(char::is_alphabetic));
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

/// The line of a text that can be a title: the first, or the first point of a list under a heading,
/// without the time before or after it.
fn title_text(text: &str, which: Which) -> Option<String> {
    let text = without_marks(text);
    let mut lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
    let first = lines.next()?;
    let point =
        lines.take(HEADING_LINES_MAX).find_map(|it| it.strip_prefix(['*', '-', '\u{2022}']));
    let point =
        point.filter(|it| it.starts_with(' ') && words_of(first).len() <= HEADING_WORDS_MAX);
    let line = point.filter(|_| state_of(&words_of(first)).is_none()).unwrap_or(first).trim();
    let line = times::without_at_ends(line, which);
    let words = words_of(line);
    let is_name = line.chars().any(char::is_alphabetic)
        && line.chars().count() > 2
        && !line.contains("://")
        && !is_number_like(line)
        && moment_text::read(line).is_none();
    let only_state = words.len() <= 2
        && words.iter().all(|it| {
            state_of(std::slice::from_ref(it)).is_some()
                || severity_of_word(it).is_some()
                || MESSAGES.contains(&it.as_str())
                || NEGATIONS.contains(&it.as_str())
        });
    if !is_name || only_state || (line.starts_with("{{") || line.starts_with("arn:")) {
        return None;
    }
    Some(line.chars().take(TITLE_MAX).collect())
}

/// Words that say no more than that this is a message.
const MESSAGES: &[&str] = &[
    "alarms",
    "alerts",
    "event",
    "events",
    "incidents",
    "message",
    "notification",
    "notifications",
    "problems",
];

/// A text without what only makes it look: `<b>`, and `:fire:` before it.
fn without_marks(text: &str) -> String {
    let mut rest = text.trim_start();
    while let Some((code, after)) = rest.strip_prefix(':').and_then(|it| it.split_once(':'))
        && !code.is_empty()
        && code.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
    {
        rest = after.trim_start();
    }
    let mut plain = rest.to_owned();
    for mark in ["<b>", "</b>", "<i>", "</i>", "<strong>", "</strong>", "<code>", "</code>"] {
        plain = plain.replace(mark, "");
    }
    plain
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
    let text = field.text()?;
    // The name of an `alert_source` is that of a source.
    let qualified = |list: &[&str]| {
        any(&field.own, list) || any(&field.owner, list) && !any(&field.owner, &["source"])
    };
    let about_monitor = qualified(MONITORS);
    // `app_name` below `problem` is the name of an app.
    let is_own_name = field.own.len() == 1;
    let about_alert = about_monitor
        || any(&field.own, OCCURRENCES)
        || is_own_name && any(&field.owner, OCCURRENCES);
    let own_monitor = any(&field.own, MONITORS) || any(&field.own, OCCURRENCES);
    let base: u32 = match field.head() {
        // `alertType`, `eventTypeName`: a name where nothing has a better one.
        "name" | "type" if own_monitor && field.has("type") => type_weight(text)?,
        // A policy that people named by a sentence says what was broken.
        "name" if field.has("policy") && text.contains(' ') => 118,
        "name" | "title" if any(&field.own, &["type", "group", "policy", "source"]) => 30,
        "title" | "headline" => 100,
        "subject" => 94,
        "summary" => 84,
        "name" if field.own.len() == 2 && field.has("alert") => 106,
        "name" | "display" if about_monitor => 92,
        "name" if about_alert => 84,
        "name" if field.depth == 0 && is_own_name => 78,
        "name" if thing_before(field).is_some_and(|it| RUNNING.contains(&it)) => 74,
        "name" if field.has("display") && field.own.len() > 2 => 66,
        "name" if resource(field.own.first()?).is_some() => 34,
        "name" => 44,
        // What is only labelled is called so by people.
        "alias" if any(&field.owner, &["alert", "alarm"]) => 50,
        "label" | "alias" if is_own_name && about_monitor => 80,
        "label" | "alias" if is_own_name && field.depth == 0 && !field.is_label => 62,
        "label" | "alias" if is_own_name && resource(field.owner.last()?).is_some() => 40,
        // `"check": "uptime"` says of what kind it is.
        "check" | "monitor" if is_kind_of_check(text) => 12,
        "alert" | "alarm" | "problem" | "check" | "monitor" | "rule" => 74,
        "trigger" | "condition" if text.contains(' ') => 72,
        "detector" | "sensor" => 76,
        // What was looked for and found; elsewhere it proves who sent.
        "signature" if any(&field.owner, &["alert"]) && text.contains(' ') => 150,
        // `"event": "HttpServerError"`, and not `"event": "incident.opened"` or `"occurred"`.
        "event" if is_plain(text) && words_of(text).len() > 1 => 66,
        "description" | "desc" if field.has("short") => 88,
        "desc" | "description" if any(&field.own, &["service", "alarm", "check"]) => 68,
        "message" | "msg" => 60,
        "text" | "fallback" => 56,
        // `eventTypeCode`, `error_code`: a name, where it is no number.
        "code" if any(&field.own, &["event", "error", "alert", "problem"]) => 62,
        "description" => 54,
        "exception" | "error" => 50,
        "reason" | "output" | "info" | "content" | "body" | "details" | "detail" => 46,
        "id" if is_readable(text) && thing_of_id(field).is_some() => 26,
        word if resource(word).is_some() => 24,
        _ => return None,
    };
    let base = if is_made_up(text) { base.min(MADE_UP_WEIGHT) } else { base };
    // The label of a monitor is its name.
    let is_own_label = is_own_name && about_monitor && field.head() == "label";
    let is_stranger = any(&field.own, STRANGERS) && !is_own_label || is_strange(&field.owner);
    let penalty = if is_stranger && !own_monitor { 60 } else { 0 };
    let bonus = if own_monitor { 4 } else { 0 };
    (base + bonus).checked_sub(penalty).filter(|it| *it > 0)
}

/// A name of this weight is less than a message.
const MADE_UP_WEIGHT: u32 = 42;

/// How much the kind of an alert says what it is: much where it is a sentence, little where it is a
/// code, nothing where it is one word.
fn type_weight(text: &str) -> Option<u32> {
    match words_of(text).len() {
        0 | 1 => None,
        _ if text.contains('.') => None,
        _ if text.contains(' ') => Some(54),
        2 => Some(22),
        _ => Some(46),
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|it| it.is_alphanumeric() || it == ' ')
}

/// Things that run again and again under one name.
const RUNNING: &[&str] =
    &["backup", "connector", "dag", "flow", "job", "pipeline", "task", "workflow"];

/// What kinds of checks are called: none of them names one.
const KINDS_OF_CHECK: &[&str] = &[
    "api",
    "browser",
    "certificate",
    "cron",
    "dns",
    "domain",
    "heartbeat",
    "host",
    "http",
    "https",
    "icmp",
    "keyword",
    "metric",
    "ping",
    "port",
    "server",
    "ssl",
    "synthetic",
    "tcp",
    "threshold",
    "tls",
    "udp",
    "uptime",
];

fn is_kind_of_check(text: &str) -> bool {
    let words = words_of(text);
    !words.is_empty() && words.iter().all(|it| KINDS_OF_CHECK.contains(&it.as_str()))
}

/// What the last word of a key belongs to: `task` of `task_id`.
fn thing_before<'f>(field: &'f Field<'_>) -> Option<&'f str> {
    field.own.iter().rev().nth(1).or_else(|| field.owner.last()).map(String::as_str)
}

/// The thing that a key is the id of.
pub(super) fn thing_of_id<'f>(field: &'f Field<'_>) -> Option<&'f str> {
    thing_before(field)
        .filter(|it| RUNNING.contains(it) || MONITORS.contains(it) || resource(it).is_some())
}

/// Whether people gave this id: `load_orders`, and not `5f1c88a0`.
pub(super) fn is_readable(text: &str) -> bool {
    let letters = text.chars().filter(|it| it.is_alphabetic()).count();
    let words = words_of(text);
    let has_word = words.iter().any(|it| it.len() >= 4 && it.chars().all(char::is_alphabetic));
    has_word && letters * 4 >= text.chars().count() * 3 && !is_number_like(text)
}

/// Whether a machine gave this name: `checkout-7d9f-x2x.17a1b2c3d4`.
fn is_made_up(text: &str) -> bool {
    let mixed = |it: &&str| {
        it.len() >= 3
            && it.contains(|it: char| it.is_ascii_digit())
            && it.contains(|it: char| it.is_ascii_lowercase())
    };
    !text.contains(' ') && text.split(['-', '.', '_']).filter(mixed).count() >= 2
}

/// The address of what is watched, where it has no name.
pub(super) fn address(fields: &[Field<'_>]) -> Option<Named> {
    heaviest(fields.iter().filter_map(|it| {
        let url = it.text()?;
        let (_, address) = url.split_once("://")?;
        let is_key =
            matches!(it.head(), "url" | "uri" | "target" | "address" | "website" | "endpoint");
        let is_watched = any(&it.owner, MONITORS) || any(&it.own, &["check", "monitor", "target"]);
        let text = address.trim_end_matches('/').to_owned();
        let is_image = any(&it.own, &["avatar", "favicon", "icon", "image", "logo"]);
        (is_key && is_watched && !is_image && !text.contains(char::is_whitespace)).then(|| Named {
            text: text.chars().take(TITLE_MAX).collect(),
            weight: 30_u32.saturating_sub(it.depth * 4),
            place: it.place.clone(),
        })
    }))
}

/// A title of this weight says no more than that something happened.
pub(super) const HAPPENING_WEIGHT: u32 = 16;

/// What happened, where nothing has a name: `rogue-ap-detected`, `alerts.created`.
pub(super) fn happening(fields: &[Field<'_>]) -> Option<Named> {
    heaviest(fields.iter().filter_map(|it| {
        let text = it.text()?;
        let weight = match it.head() {
            "type" | "code" | "reason" => HAPPENING_WEIGHT,
            "event" | "kind" | "topic" | "action" | "category" => HAPPENING_WEIGHT - 4,
            _ => return None,
        };
        let weight = weight.checked_sub(it.depth * 2)?;
        let is_fit = words_of(text).len() >= 2 && is_readable(text) && text.len() <= NAME_BYTES_MAX;
        let is_fit = is_fit && !is_strange(&it.meaning) && !any(&it.meaning, PAST);
        is_fit.then(|| Named { text: text.to_owned(), weight, place: it.place.clone() })
    }))
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
        "url" | "link" | "permalink" if field.own.len() == 1 => 76,
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
        + if has(STRANGERS) { 40 } else { 0 }
        // Where the tool or the thing lives is not where the alert can be looked at.
        + if has(&["app", "application", "base", "controller", "home", "project", "server"]) { 15 } else { 0 };
    // The front door is far from it.
    let steps = url.split(['/', '?', '#']).filter(|it| !it.is_empty()).count();
    let near = if steps > 2 { 3 } else { 0 };
    Some((base + bonus + near).max(penalty) - penalty)
}
