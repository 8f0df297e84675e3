//! `approval:` of a runbook and of a step: whose yes is needed, and until when.

use super::code::Code;
use super::expression::Names;
use super::fields::Fields;
use super::notification::RECEIVER;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::rules::{Approval, ApprovalRole};

/// How long a step waits for its answer, unless told: a run that has begun must not hang.
pub(super) const STEP_SECONDS: u32 = 3600;
/// How long a run waits for the yes that it needs to begin, unless told.
pub(super) const RUN_SECONDS: u32 = 24 * 3600;
/// The most people who can be asked for.
const PEOPLE_MAX: u64 = 10;

/// Reads `approval`.
pub(super) fn approval(
    reader: &mut Reader<'_>,
    node: &Node,
    names: &Names,
    expires_seconds: u32,
) -> Option<Approval> {
    let mut fields = Fields::open_like(reader, node, "people: 2, role: admin, expires: 30m")?;
    let text = fields.optional("text").map(|it| reader.template(it, names)).unwrap_or_default();
    let roles = [ApprovalRole::Responder, ApprovalRole::Admin].map(|it| (it.as_str(), it));
    let role = fields.optional("role").and_then(|it| reader.word(it, &roles)).unwrap_or_default();
    let people = fields.optional("people").map_or(1, |it| reader.integer(it, 1, PEOPLE_MAX));
    let two_person = fields.optional("two_person").is_some_and(|it| reader.boolean(it));
    let expires = fields.optional("expires");
    let expires_seconds = expires.map_or(expires_seconds, |it| reader.positive_duration(it));
    let reactions = [("deny", false), ("escalate", true)];
    let escalate =
        fields.optional("on_expiry").and_then(|it| reader.word(it, &reactions)).unwrap_or_default();
    let mut remind_seconds = None;
    if let Some(node) = fields.optional("remind") {
        let seconds = reader.positive_duration(node);
        if seconds >= expires_seconds {
            let message = format!("nobody is reminded: it expires after {expires_seconds} s");
            reader.report(node.place, Code::BadValue, message);
        }
        remind_seconds = Some(seconds);
    }
    let receiver = fields.optional(RECEIVER).map(|node| {
        let name = reader.text(node);
        reader.refer(RECEIVER, &name, node.place);
        name
    });
    fields.finish(reader);
    Some(Approval {
        text,
        role,
        people: u32::try_from(people).unwrap_or(1),
        two_person,
        expires_seconds: Some(expires_seconds),
        escalate,
        remind_seconds,
        receiver,
    })
}
