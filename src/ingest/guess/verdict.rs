//! Whether an alert fires, and how bad it is, by keys and values.

use super::fields::{Field, Leaf, words};
use super::keys::{MONITORS, OCCURRENCES, PAST};
use super::place::Place;
use super::times::{self, Which};
use super::words::{
    Said, any, is_strange, resource, severity_of_state, severity_of_word, state_of, state_of_text,
    strong_state_of, words_of,
};
use crate::ingest::moment_text;
use jiff::Timestamp;

/// A verdict and the weight of what it was read from, 0 to 100.
type Weighed<T> = Option<(T, u32)>;

/// A verdict, its weight, and where what it was read from stands.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) verdict: T,
    pub(super) weight: u32,
    pub(super) place: Place,
}

/// Keys that have to do with how a message was sent.
const TRANSPORT: &[&str] =
    &["delivery", "http", "response", "sync", "billing", "build", "test", "login"];

/// What was found out about a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) said: Said,
    /// The label of the thing whose state it is, where the key says so: `service_state`.
    pub(super) of: Option<&'static str>,
}

/// Finds out whether an alert fires: the heaviest word decides.
pub(super) fn state(fields: &[Field<'_>], now: Timestamp) -> Option<Found<Verdict>> {
    let said = fields.iter().filter_map(|it| {
        let (said, weight) = one_state(it, now)?;
        let of = match it.own.as_slice() {
            [word, end] if end == "state" || end == "status" => resource(word),
            _ => None,
        };
        // A host that answers says nothing of a service on it.
        let bonus = if of.is_some_and(|it| it != "host") { 3 } else { 0 };
        let weight = (weight + bonus).saturating_sub(it.depth * 3);
        Some(Found { verdict: Verdict { said, of }, weight, place: it.place.clone() })
    });
    heaviest(said)
}

/// The first of the heaviest.
fn heaviest<T>(said: impl Iterator<Item = Found<T>>) -> Option<Found<T>> {
    said.fold(None, |best: Option<Found<T>>, it| match best {
        Some(best) if best.weight >= it.weight => Some(best),
        _ => Some(it),
    })
}

fn one_state(field: &Field<'_>, now: Timestamp) -> Weighed<Said> {
    let meaning = &field.meaning;
    if any(meaning, PAST) || any(&field.owner, PAST) {
        return None;
    }
    let stranger = is_strange(meaning) || is_strange(&field.owner);
    let penalty = if stranger { 45 } else { 0 };
    let about_alert = any(meaning, MONITORS) || any(meaning, OCCURRENCES);
    let bonus = if about_alert || field.has("current") || field.has("new") { 4 } else { 0 };
    let (said, weight) = match &field.value {
        // A monitor that is active is one that is switched on.
        Leaf::Bool(_) if any(&field.owner, MONITORS) && field.has("active") => return None,
        Leaf::Bool(it) => state_of_bool(meaning, *it)?,
        Leaf::Number(number) => state_of_number(field, meaning, *number, now)?,
        Leaf::Null => state_of_time(meaning, None, now)?,
        Leaf::Text(text) => match state_of_time(meaning, Some(text), now) {
            Some(found) => found,
            None => state_of_words(field, meaning)?,
        },
    };
    (weight + bonus > penalty).then(|| (said, weight + bonus - penalty))
}

fn state_of_words(field: &Field<'_>, meaning: &[String]) -> Weighed<Said> {
    let value = words(field);
    let text = field.text()?;
    if let [only] = value.as_slice() {
        if let Ok(number) = only.parse::<f64>() {
            return number_of_state(meaning, number);
        }
        // Forms, and alerts whose values are all texts, write a truth as one.
        if let Ok(is_true) = only.parse::<bool>() {
            return state_of_bool(meaning, is_true);
        }
    }
    // A sensor that is made for a trouble is on while there is one.
    if matches!(text, "on" | "off") && field.head() == "state" {
        return Some((if text == "on" { Said::Firing } else { Said::Resolved }, 60));
    }
    // `"clear": "normal"`: what is said under the word itself is that it is so.
    if let [word] = field.own.as_slice()
        && matches!(word.as_str(), "clear" | "cleared" | "recovered" | "recovery" | "resolved")
        && strong_state_of(&value) == Some(Said::Resolved)
    {
        return Some((Said::Resolved, 70));
    }
    let value = after_arrow(text).map_or(value, words_of);
    let weight = key_weight(field, meaning);
    if weight > 0 && value.len() <= 6 && text.len() <= 60 {
        let said = state_of(&value)?;
        if weight == SEVERITY_WEIGHT {
            // What is over may still tell how bad it was; a severity that is well is over.
            let weight = if said == Said::Resolved { SEVERITY_WEIGHT } else { 25 };
            return Some((said, weight));
        }
        // Types are often kinds of things: `"type": "error"`, `"kind": "alert"`.
        let is_strong = strong_state_of(&value).is_some();
        // `backup.verification.failed` says it of the whole message, whatever a part of it came to.
        let is_whole = weight == 60 && is_strong && field.depth == 0 && value.len() > 1;
        let weight = if is_whole { 76 } else { weight };
        return Some((said, if weight > 60 || is_strong { weight } else { 40 }));
    }
    text_weight(field).and_then(|weight| sentence(text, weight))
}

/// The state that a change leads to: `OK -> CRITICAL`.
fn after_arrow(text: &str) -> Option<&str> {
    ["->", "=>", "\u{2192}"].iter().find_map(|it| text.rsplit_once(it)).map(|it| it.1)
}

/// How much a severity weighs as a state.
const SEVERITY_WEIGHT: u32 = 72;

/// How much a key says that its value is a state; 0 = nothing.
fn key_weight(field: &Field<'_>, meaning: &[String]) -> u32 {
    if any(meaning, TRANSPORT) && !any(meaning, &["check", "monitor"]) {
        return 0;
    }
    let has = |list: &[&str]| any(meaning, list);
    if has(&["state", "status", "states"]) {
        if field.own.iter().any(|it| it == "type" || it == "category") { 55 } else { 95 }
    } else if has(&["transition"]) {
        94
    } else if has(&["action"]) {
        85
    } else if has(&["health", "result", "outcome", "phase", "verdict", "availability"]) {
        75
    } else if has(&["type", "event", "kind", "trigger", "notification", "hook", "change", "reason"])
    {
        60
    } else if has(&["severity", "level"]) {
        SEVERITY_WEIGHT
    } else if has(&["color", "colour"]) {
        30
    } else {
        0
    }
}

/// How much a sentence under this key counts.
fn text_weight(field: &Field<'_>) -> Option<u32> {
    match field.head() {
        "title" | "subject" | "headline" | "summary" => Some(52),
        "message" | "msg" | "text" | "fallback" | "pretext" => Some(48),
        "description" | "body" | "output" | "reason" | "content" | "details" | "name" => Some(36),
        _ => None,
    }
}

/// The most lines of a text that are read.
const LINES_MAX: usize = 5;
/// How much of a line is read, in bytes.
const LINE_BYTES_MAX: usize = 500;
/// The most parts in brackets that are looked at.
const MARKS_MAX: usize = 8;

/// As much of a line as is read.
fn beginning(line: &str) -> &str {
    line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(line)
}

/// What a text says: the first of its lines that says something.
fn sentence(text: &str, weight: u32) -> Weighed<Said> {
    let lines = text.lines().filter(|it| !it.trim().is_empty()).take(LINES_MAX).enumerate();
    let mut said = lines.filter_map(|(index, line)| {
        let line = times::without_at_ends(beginning(line), Which::All);
        let (said, weight) = line_of_text(line, weight)?;
        Some((said, if index == 0 { weight } else { weight.saturating_sub(6) }))
    });
    said.next()
}

/// What a line says: in brackets or before a colon, else by its plain words. A mark that is only a
/// name, `alert: …`, is asked last.
fn line_of_text(line: &str, weight: u32) -> Weighed<Said> {
    let mut marked = Vec::new();
    for (start, _) in line.match_indices(['[', '(', '*']).take(MARKS_MAX) {
        let rest = line.get(start + 1..).unwrap_or_default();
        marked.extend(rest.split([']', ')', '*']).next());
    }
    marked.extend(line.split_once([':', '|']).map(|it| it.0));
    marked.extend(line.split_once(" - ").map(|it| it.0));
    let marked: Vec<Vec<String>> = marked.into_iter().map(words_of).collect();
    let marked = || marked.iter().filter(|it| (1..=3).contains(&it.len()));
    if let Some(said) = marked().find_map(|it| strong_state_of(it)) {
        return Some((said, weight + 6));
    }
    let all = words_of(line);
    let ends = [all.first(), all.last()].into_iter().flatten();
    // A single capital word at an end: `DOWN alert: web`, `web is OK`.
    let mut capital = ends.filter(|it| it.len() > 1 && line.contains(&it.to_uppercase()));
    let capital = capital.find_map(|it| strong_state_of(std::slice::from_ref(it)));
    let plain = capital.or_else(|| state_of_text(&all)).map(|it| (it, weight));
    plain.or_else(|| marked().find_map(|it| state_of(it)).map(|it| (it, weight + 6)))
}

/// `resolved: true`, `is_down: false`.
fn state_of_bool(meaning: &[String], value: bool) -> Weighed<Said> {
    const GOOD: &[&str] = &[
        "alive",
        "available",
        "cleared",
        "closed",
        "fixed",
        "healthy",
        "normal",
        "ok",
        "online",
        "operational",
        "passed",
        "reachable",
        "recovered",
        "recovery",
        "resolved",
        "solved",
        "success",
        "up",
    ];
    const BAD: &[&str] = &[
        "active",
        "alarm",
        "alert",
        "alerting",
        "breached",
        "degraded",
        "down",
        "failed",
        "failing",
        "firing",
        "offline",
        "open",
        "triggered",
        "unavailable",
        "unhealthy",
        "unreachable",
        "violated",
        "violation",
    ];
    let (word, before) = meaning.split_last()?;
    let is_plain = before.iter().all(|it| {
        let it = it.as_str();
        matches!(it, "is" | "has" | "currently" | "now" | "still" | "in" | "been" | "back" | "to")
            || MONITORS.contains(&it)
            || OCCURRENCES.contains(&it)
            || resource(it).is_some()
    });
    // `is_host_alert` says of what kind it is.
    let is_kind = word == "alert" && before.iter().any(|it| resource(it).is_some());
    if is_kind {
        return None;
    }
    let says = |resolved: bool| if resolved { Said::Resolved } else { Said::Firing };
    if is_plain && GOOD.contains(&word.as_str()) {
        Some((says(value), 88))
    } else if is_plain && BAD.contains(&word.as_str()) {
        Some((says(!value), 84))
    } else {
        None
    }
}

/// `resolved_at`, `endTime`: told and past, it is over; known but empty, it is not.
fn state_of_time(meaning: &[String], text: Option<&str>, now: Timestamp) -> Weighed<Said> {
    const OVER: &[&str] = &[
        "cleared",
        "close",
        "closed",
        "end",
        "ended",
        "ends",
        "recovered",
        "resolution",
        "resolved",
        "solved",
    ];
    const TIME: &[&str] =
        &["at", "date", "datetime", "epoch", "on", "time", "timestamp", "ts", "tstamp"];
    let is_time = any(meaning, OVER)
        && (any(meaning, TIME) || meaning.len() == 1 && text.is_some_and(|it| it.contains(':')));
    if !is_time {
        return None;
    }
    match text.map(moment_text::read) {
        Some(Some(time)) if time <= now => Some((Said::Resolved, 70)),
        Some(None)
            if text.is_some_and(|it| it.chars().any(char::is_alphabetic) && !it.contains('T')) =>
        {
            None
        }
        _ => Some((Said::Firing, 45)),
    }
}

fn state_of_number(
    field: &Field<'_>,
    meaning: &[String],
    number: f64,
    now: Timestamp,
) -> Weighed<Said> {
    let text = field.plain()?;
    if let Some(found) = state_of_time(meaning, Some(&text), now) {
        return (number > 0.0).then_some(found).or(Some((Said::Firing, 45)));
    }
    number_of_state(meaning, number)
}

/// Numbered states: 0 is well with nearly everybody.
fn number_of_state(meaning: &[String], number: f64) -> Weighed<Said> {
    let is_state = any(meaning, &["state", "status"]) && !any(meaning, TRANSPORT)
        || any(meaning, &["event", "trigger"]) && any(meaning, &["value"]);
    if !is_state || any(meaning, &["code"]) || !(0.0..=10.0).contains(&number) {
        return None;
    }
    Some((if number == 0.0 { Said::Resolved } else { Said::Firing }, 45))
}

/// Finds out how bad it is, 0 information to 3 critical.
pub(super) fn severity(fields: &[Field<'_>]) -> Option<Found<u8>> {
    let said = fields.iter().filter_map(|it| {
        let (severity, weight) = one_severity(it)?;
        let weight = weight.saturating_sub(it.depth * 2);
        Some(Found { verdict: severity, weight, place: it.place.clone() })
    });
    heaviest(said)
}

fn one_severity(field: &Field<'_>) -> Weighed<u8> {
    let meaning = &field.meaning;
    // The last occurrence of something is this one.
    let is_newest = any(&field.owner, &["last"]) && any(&field.owner, &["event", "occurrence"]);
    if any(meaning, PAST) || any(&field.owner, PAST) && !is_newest {
        return None;
    }
    let has = |list: &[&str]| any(meaning, list);
    let weight = if has(&["severity", "sev", "severities"]) {
        100
    } else if has(&["criticality"]) {
        95
    } else if has(&["priority", "prio"]) {
        88
    } else if has(&["level", "urgency", "importance", "threat"]) {
        80
    } else if has(&["impact"]) {
        70
    } else if has(&["state", "status"]) {
        return state_as_severity(field, meaning);
    } else if has(&["type", "class", "kind", "category", "classification"]) {
        let [word] = words(field).try_into().ok()?;
        return severity_of_state(&word).map(|it| (it, 50));
    } else if has(&["color", "colour"]) && any(&field.above, &["attachment", "attachments"]) {
        let word = words(field).into_iter().next()?;
        return match word.as_str() {
            "danger" | "red" => Some((3, 25)),
            "warning" | "yellow" | "orange" => Some((1, 25)),
            _ => None,
        };
    } else if matches!(
        field.head(),
        "title" | "subject" | "summary" | "message" | "msg" | "text" | "headline" | "output"
    ) {
        return severity_of_title(field.text()?).map(|it| (it, 30));
    } else {
        return None;
    };
    let penalty = if is_strange(&field.owner) { 40 } else { 0 };
    let number = match &field.value {
        Leaf::Number(number) => Some(*number),
        _ => field.text().and_then(|it| it.parse().ok()),
    };
    let found = match number {
        Some(number) => (severity_of_number(meaning, number)?, weight - 12),
        None if field.text()?.eq_ignore_ascii_case("alert") => (3, weight),
        None => (severity_of_text(field.text()?)?, weight),
    };
    Some((found.0, found.1 - penalty))
}

fn state_as_severity(field: &Field<'_>, meaning: &[String]) -> Weighed<u8> {
    if any(meaning, TRANSPORT) || is_strange(&field.owner) {
        return None;
    }
    let found = words(field);
    if found.len() > 3 {
        return None;
    }
    found.iter().find_map(|it| severity_of_state(it)).map(|it| (it, 55))
}

/// `P1 - Critical`, `SEV-2`, `Sev1`, `high`.
fn severity_of_text(text: &str) -> Option<u8> {
    // Azure counts `Sev0` to `Sev4`, from critical over error and warning to information.
    if let Some(digit) = text.strip_prefix("Sev").filter(|it| it.len() == 1) {
        return digit.parse::<u8>().ok().map(|it| 3_u8.saturating_sub(it));
    }
    let found = words_of(text);
    if found.len() > 5 {
        return None;
    }
    let joined = found.concat();
    let graded =
        ["sev", "severity", "p", "priority", "prio", "level", "l", "s"].iter().find_map(|it| {
            let digit = joined.strip_prefix(it)?.chars().next()?.to_digit(10)?;
            u8::try_from(digit).ok()
        });
    if let Some(grade) = graded {
        return Some(4_u8.saturating_sub(grade.max(1)).min(3));
    }
    found.iter().find_map(|it| severity_of_word(it))
}

/// Bare numbers: priorities count from the worst down, severities from the least up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
fn severity_of_number(meaning: &[String], number: f64) -> Option<u8> {
    if !(0.0..=10.0).contains(&number) {
        return None;
    }
    if any(meaning, &["severity", "sev"]) {
        // With a fraction it is a score up to ten, as that of CVSS.
        let steps = if number.fract() > 0.0 { [7.0, 5.5, 4.0] } else { [5.0, 4.0, 2.0] };
        let below = steps.iter().filter(|it| number < **it).count();
        return u8::try_from(3 - below).ok();
    }
    if any(meaning, &["priority", "prio", "urgency", "impact"]) {
        return Some(4_u8.saturating_sub((number as u8).max(1)).min(3));
    }
    None
}

/// `[P1] …`, `CRITICAL: …`.
fn severity_of_title(text: &str) -> Option<u8> {
    let line = beginning(text.lines().next()?);
    let mut marked: Vec<&str> = Vec::new();
    for (start, _) in line.match_indices(['[', '(']).take(MARKS_MAX) {
        let rest = line.get(start + 1..).unwrap_or_default();
        marked.extend(rest.split([']', ')']).next());
    }
    marked.extend(line.split_once([':', '|']).map(|it| it.0));
    marked.extend(line.split_once(" - ").map(|it| it.0));
    let marked = marked.into_iter().filter(|it| it.len() <= 20 && words_of(it).len() <= 2);
    let mut marked = marked.filter(|it| !it.contains("age")).filter_map(severity_of_text);
    marked.next().or_else(|| {
        let plain = words_of(line);
        plain.iter().find_map(|it| match it.as_str() {
            "critical" | "disaster" | "fatal" => Some(3),
            "warning" => Some(1),
            "p1" | "p2" | "p3" | "p4" | "p5" => severity_of_text(it),
            _ => None,
        })
    })
}
