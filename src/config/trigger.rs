//! `triggers:` of a runbook: what starts it.

use super::code::Code;
use super::cron_line;
use super::expression::check_condition;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::rules::{Quota, Trigger, TriggerEvent, TriggerSchedule};

/// How late a schedule may start a runbook unless told, in seconds.
const LATE_SECONDS: u32 = 600;
/// What a condition may name.
const ROOTS: [&str; 4] = ["incident", "labels", "annotations", "trigger"];

/// An entry of `triggers`.
pub(super) fn trigger(reader: &mut Reader<'_>, node: &Node) -> Option<Trigger> {
    let mut fields = Fields::open(reader, node)?;
    let words = TriggerEvent::ALL.map(|it| (it.as_str(), it));
    let event = fields.required(reader, "event").and_then(|it| reader.word(it, &words));
    let matchers_node = fields.optional("matchers");
    let matchers = reader.matchers(matchers_node);
    if let Some(node) = matchers_node.filter(|_| event == Some(TriggerEvent::Schedule)) {
        let message = "a time has no labels that could match";
        reader.report_hint(node.place, Code::BadValue, message, "take `matchers` out");
    }
    let when = fields.optional("when").map(|it| condition(reader, it)).unwrap_or_default();
    let schedule = schedule(reader, &mut fields, event);
    let quota = fields.optional("quota").and_then(|it| quota(reader, it));
    fields.finish(reader);
    Some(Trigger { when, schedule, quota, ..Trigger::new(event?, matchers) })
}

fn condition(reader: &mut Reader<'_>, node: &Node) -> String {
    let when = reader.text(node);
    if !when.is_empty()
        && let Err((message, hint)) = check_condition(&when, &ROOTS)
    {
        reader.report_at((reader.current, node.place), Code::BadCondition, &message, hint);
    }
    when
}

/// `schedule`, `time_zone` and `late`, which belong to one event and to no other.
fn schedule(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    event: Option<TriggerEvent>,
) -> Option<TriggerSchedule> {
    let (line, zone) = (fields.optional("schedule"), fields.optional("time_zone"));
    let late = fields.optional("late");
    if event != Some(TriggerEvent::Schedule) {
        if let Some(node) = [line, zone, late].into_iter().flatten().next() {
            let message = "only `event: schedule` starts by the clock";
            let hint = "make it a trigger of its own: `- {event: schedule, schedule: '0 3 * * *'}`";
            reader.report_hint(node.place, Code::BadValue, message, hint);
        }
        return None;
    }
    let Some(line) = line else {
        let message = "a trigger by the clock needs its `schedule`";
        let hint = "write `schedule: '0 3 * * *'`, with a `time_zone` if it is not UTC";
        reader.report_hint(fields.place, Code::MissingField, message, hint);
        return None;
    };
    let (cron, time_zone) = cron_line::schedule(reader, line, zone);
    let late_seconds = late.map_or(LATE_SECONDS, |it| reader.duration(it));
    Some(TriggerSchedule { cron, time_zone, late_seconds })
}

fn quota(reader: &mut Reader<'_>, node: &Node) -> Option<Quota> {
    let mut fields = Fields::open_like(reader, node, "count: 100, per: 1h")?;
    let count = fields.required(reader, "count").map(|it| reader.integer(it, 1, 1_000_000));
    let per_seconds = fields.optional("per").map_or(3600, |it| reader.positive_duration(it));
    fields.finish(reader);
    Some(Quota { count: u32::try_from(count?).unwrap_or(1), per_seconds })
}
