//! Since when an alert is true.

use super::fields::{Field, Leaf};
use super::keys::{MONITORS, OCCURRENCES};
use super::place::Place;
use super::words::{any, is_strange, resource};
use crate::ingest::moment_text;
use jiff::Timestamp;

/// Finds since when it is true. While it fires the time of the message will do; of what is over
/// that would be its end.
pub(super) fn find(
    fields: &[Field<'_>],
    is_firing: bool,
    now: Timestamp,
) -> Option<(Timestamp, Place)> {
    let found = fields.iter().filter_map(|it| {
        let weight = start_weight(it, is_firing)?.checked_sub(it.depth * 3)?;
        let time = match &it.value {
            Leaf::Number(number) => moment_text::read_number(*number)?,
            _ => moment_text::read(it.text()?)?,
        };
        // A start that is well ahead is no start.
        (time.as_second() < now.as_second() + 86_400).then(|| (time, weight, it.place.clone()))
    });
    let best = found.fold(None, |best: Option<(Timestamp, u32, Place)>, it| match best {
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
    // What was looked at began earlier than what was seen in it.
    const LOOKED_AT: &[&str] =
        &["evaluation", "period", "query", "range", "timeframe", "timerange", "window"];
    let meaning = &field.meaning;
    let has = |list: &[&str]| any(meaning, list);
    if has(OVER)
        || is_strange(&field.owner)
        || has(&["previous", "next", "local"])
        || has(LOOKED_AT)
    {
        return None;
    }
    // A service, or a check, is older than its alert.
    let owner = field.owner.last().map_or("", String::as_str);
    let is_thing = resource(owner).is_some() || MONITORS.contains(&owner);
    let is_thing = is_thing && !matches!(owner, "alert" | "alarm");
    let about_alert = any(&field.owner, OCCURRENCES) || any(&field.owner, &["alert", "alarm"]);
    let bonus = if about_alert { 8 } else { 0 };
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
        "tstamp",
        "changed",
    ]);
    if has(START) {
        Some(95)
    } else if has(&["first"]) && !has(&["response"]) {
        Some(88)
    } else if has(&["triggered", "trigger", "activated", "raised", "down", "detected"]) && is_time {
        Some(85)
    } else if has(&["created", "creation"])
        && (is_time || meaning.len() == 1 || field.own.len() == 1)
    {
        (!is_thing).then_some(bonus + if is_firing { 70 } else { 62 })
    } else if is_firing && is_time {
        Some(55)
    } else if is_firing && has(&["occurred", "received", "reported"]) {
        Some(50)
    } else {
        None
    }
}
