//! `sla_policies:`: what is promised about times.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::incident::Priority;
use crate::domain::rules::SlaPolicy;
use crate::domain::service_level::TargetKind;
use std::collections::BTreeMap;

/// An entry of `sla_policies`.
pub(super) fn policy(reader: &mut Reader<'_>, node: &Node) -> Option<SlaPolicy> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("SLA policy", &mut fields);
    let matchers = reader.matchers(fields.optional("matchers"));
    if let Some(node) = fields.optional("calendar")
        && reader.text(node) != "always"
    {
        reader.report_hint(
            node.place,
            Code::NotSupported,
            "not supported yet by this version: a calendar other than `always`",
            "write `calendar: always`, or leave it out",
        );
    }
    let warn_at_percent = match fields.optional("warn_at") {
        Some(node) => warn_at(reader, node),
        None => vec![50, 80],
    };
    let targets = match fields.required(reader, "targets") {
        Some(node) => targets(reader, node),
        None => BTreeMap::new(),
    };
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    Some(SlaPolicy { rule, matchers, warn_at_percent, targets })
}

fn warn_at(reader: &mut Reader<'_>, node: &Node) -> Vec<u8> {
    let mut percents: Vec<u8> = Vec::new();
    for item in reader.list(node) {
        let percent = u8::try_from(reader.integer(item, 1, 99)).unwrap_or(99);
        if percents.last().is_some_and(|it| *it >= percent) {
            let message = format!("`warn_at` must ascend: `{percent}`");
            reader.report(item.place, Code::BadValue, message);
        }
        percents.push(percent);
    }
    percents
}

fn targets(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<u8, BTreeMap<TargetKind, u32>> {
    let mut targets = BTreeMap::new();
    let entries = reader.map(node);
    for (key, node) in entries {
        match key.text.parse::<Priority>() {
            Ok(priority) => {
                targets.insert(priority.number(), times(reader, node));
            }
            Err(reason) => reader.report(key.place, Code::BadValue, reason),
        }
    }
    if entries.is_empty() {
        let message = "a policy without targets promises nothing";
        reader.report_hint(
            node.place,
            Code::BadValue,
            message,
            "for example `targets: {P1: {acknowledge: 5m, resolve: 1h}}`",
        );
    }
    targets
}

fn times(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<TargetKind, u32> {
    let mut times = BTreeMap::new();
    let Some(mut fields) = Fields::open(reader, node) else { return times };
    for (name, kind) in [("acknowledge", TargetKind::Acknowledge), ("resolve", TargetKind::Resolve)]
    {
        if let Some(node) = fields.optional(name) {
            times.insert(kind, reader.positive_duration(node));
        }
    }
    fields.finish(reader);
    times
}
