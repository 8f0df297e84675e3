//! `silences:`: which alerts a file mutes, and until when.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use super::{maintenance, time_interval};
use crate::domain::rules::SilenceRule;
use jiff::Timestamp;

/// An entry of `silences`.
pub(super) fn silence(reader: &mut Reader<'_>, node: &Node) -> Option<SilenceRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("silence", &mut fields);
    let matchers = maintenance::muting_matchers(reader, &mut fields, "a silence");
    let (owner, reason) = maintenance::owner_and_reason(reader, &mut fields);
    let time_intervals = time_interval::named(reader, &mut fields, "time_intervals");
    let before = reader.findings.len();
    let mut time = |reader: &mut Reader<'_>, name| match fields.required(reader, name) {
        Some(node) => (reader.timestamp(node), node.place),
        None => (Timestamp::UNIX_EPOCH, node.place),
    };
    let (starts_at, _) = time(reader, "starts_at");
    let (ends_at, end_place) = time(reader, "ends_at");
    if reader.findings.len() == before {
        if ends_at <= starts_at {
            let message = format!("the silence ends before it starts: `{ends_at}`");
            reader.report(end_place, Code::BadTime, message);
        } else if ends_at <= reader.now {
            let message = format!("the silence is over since `{ends_at}`");
            reader.report_hint(end_place, Code::SilenceOver, message, "take it out");
        }
    }
    fields.finish(reader);
    Some(SilenceRule { rule, matchers, owner, reason, starts_at, ends_at, time_intervals })
}
