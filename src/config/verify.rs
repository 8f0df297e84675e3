//! `verify:` of a runbook: how it is seen whether the steps helped, and what follows when not.

use super::code::Code;
use super::expression::Names;
use super::fields::Fields;
use super::reader::Reader;
use super::step;
use super::yaml::Node;
use crate::domain::rules::Verify;

/// The time within which it must be seen, unless told.
const WITHIN_SECONDS: u32 = 5 * 60;
/// The time between two rounds of looks, unless told.
const EVERY_SECONDS: u32 = 15;

/// What may follow when it did not help.
#[derive(Clone, Copy, PartialEq)]
enum Reaction {
    Undo,
    Escalate,
}

/// Reads `verify`.
pub(super) fn verify(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Verify> {
    let mut fields = Fields::open(reader, node)?;
    let settle_seconds = fields.optional("settle").map_or(0, |it| reader.duration(it));
    let hold_seconds = fields.optional("hold").map_or(0, |it| reader.duration(it));
    let least = settle_seconds.saturating_add(hold_seconds);
    let within = fields.optional("within");
    let within_seconds =
        within.map_or(WITHIN_SECONDS.max(least), |it| reader.positive_duration(it));
    if let Some(node) = within
        && within_seconds < least
    {
        let message =
            "`within` is over before `settle` and `hold` are, so that nothing can be verified";
        reader.report(node.place, Code::BadValue, message);
    }
    let every_seconds =
        fields.optional("every").map_or(EVERY_SECONDS, |it| reader.positive_duration(it));
    let alerts_resolved = fields.optional("alerts_resolved").is_some_and(|it| reader.boolean(it));
    let looks = step::looks(reader, &mut fields, names);
    if !alerts_resolved && looks.is_empty() {
        reader.report_hint(
            node.place,
            Code::MissingField,
            "`verify` checks nothing",
            "add `alerts_resolved: true`, or an `http`, a `query` or a `command` that looks",
        );
    }
    let reactions = match fields.optional("on_ineffective") {
        Some(node) => {
            let words = [("undo", Reaction::Undo), ("escalate", Reaction::Escalate)];
            reader.list(node).iter().filter_map(|it| reader.word(it, &words)).collect()
        }
        None => vec![Reaction::Escalate],
    };
    fields.finish(reader);
    Some(Verify {
        settle_seconds,
        within_seconds,
        alerts_resolved,
        looks,
        every_seconds,
        hold_seconds,
        undo: reactions.contains(&Reaction::Undo),
        escalate: reactions.contains(&Reaction::Escalate),
    })
}
