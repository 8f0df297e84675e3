//! `maintenance:`: when alerts are expected.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::time_interval;
use super::yaml::{Node, Value};
use crate::domain::matcher::Matchers;
use crate::domain::rules::MaintenanceRule;
use jiff::Timestamp;

/// An entry of `maintenance`.
pub(super) fn maintenance(reader: &mut Reader<'_>, node: &Node) -> Option<MaintenanceRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("maintenance window", &mut fields);
    let matchers = muting_matchers(reader, &mut fields, "a maintenance window");
    let (owner, reason) = owner_and_reason(reader, &mut fields);
    let time_intervals = time_interval::named(reader, &mut fields, "time_intervals");
    let before = reader.findings.len();
    let mut time = |reader: &mut Reader<'_>, name| {
        let node = fields.optional(name)?;
        Some((reader.timestamp(node), node.place))
    };
    let (starts_at, ends_at) = (time(reader, "starts_at"), time(reader, "ends_at"));
    let flexible_seconds = fields.optional("flexible").map(|it| reader.positive_duration(it));
    if time_intervals.is_empty() && (starts_at.is_none() || ends_at.is_none()) {
        reader.report_hint(
            fields.place,
            Code::MissingField,
            "a maintenance window needs a time",
            "write `starts_at` and `ends_at`, or `time_intervals: [name]`",
        );
    }
    if let (Some((start, _)), Some((end, place))) = (starts_at, ends_at)
        && reader.findings.len() == before
    {
        if end <= start {
            let message = format!("the maintenance window ends before it starts: `{end}`");
            reader.report(place, Code::BadTime, message);
        } else if end <= reader.now {
            let message = format!("the maintenance window is over since `{end}`");
            reader.report_hint(place, Code::SilenceOver, message, "take it out");
        }
    }
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    let at = |it: Option<(Timestamp, _)>| it.map(|(at, _)| at);
    Some(MaintenanceRule {
        rule,
        matchers,
        owner,
        reason,
        starts_at: at(starts_at),
        ends_at: at(ends_at),
        time_intervals,
        flexible_seconds,
    })
}

/// Who wants something that mutes, and why.
pub(super) fn owner_and_reason(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
) -> (String, String) {
    let mut text = |name| match fields.required(reader, name) {
        Some(node) => reader.filled_text(node),
        None => String::new(),
    };
    (text("owner"), text("reason"))
}

/// The `matchers` of something that mutes; without any it would mute everything.
pub(super) fn muting_matchers(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    what: &str,
) -> Matchers {
    let node = fields.required(reader, "matchers");
    if let Some(node) = node
        && matches!(&node.value, Value::List(items) if items.is_empty())
    {
        reader.report_hint(
            node.place,
            Code::BadValue,
            format!("{what} without matchers would mute everything"),
            "to mute everything on purpose, write `matchers: ['alertname=~\".+\"']`",
        );
    }
    reader.matchers(node)
}
