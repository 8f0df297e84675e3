//! Changes in a test: one that is told of, and what is expected of those that are known.

use super::problem::number;
use crate::config::code::Code;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::yaml::Node;
use crate::domain::change::{ChangeId, ChangeKind, ChangeState, ReceivedChange};
use std::collections::BTreeSet;

/// A change in a test; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedChange {
    /// Its number.
    pub id: ChangeId,
    /// Whether it is made.
    pub state: Option<ChangeState>,
    /// The freezes in which it began, all of them, by name.
    pub freezes: Option<BTreeSet<String>>,
    /// Whether one of these does not allow it.
    pub forbidden: Option<bool>,
}

/// A change that is expected.
pub(super) fn expected(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedChange> {
    let mut fields = Fields::open(reader, node)?;
    let id = fields.required(reader, "id").and_then(|it| number(reader, it));
    let states = ChangeState::ALL.map(|it| (it.as_str(), it));
    let state = fields.optional("state").and_then(|it| reader.word(it, &states));
    let freezes = fields.optional("freezes");
    let freezes = freezes.map(|it| reader.list(it).iter().map(|it| reader.text(it)).collect());
    let forbidden = fields.optional("forbidden").map(|it| reader.boolean(it));
    fields.finish(reader);
    Some(ExpectedChange { id: id?, state, freezes, forbidden })
}

/// Reads a change; at least what was changed, or what people call it.
pub(super) fn change(reader: &mut Reader<'_>, node: &Node) -> Option<ReceivedChange> {
    let mut fields = Fields::open(reader, node)?;
    let mut text = |reader: &mut Reader<'_>, name: &'static str| {
        fields.optional(name).map(|it| reader.text(it)).unwrap_or_default()
    };
    let mut change = ReceivedChange {
        external_id: text(reader, "id"),
        title: text(reader, "title"),
        service: text(reader, "service"),
        environment: text(reader, "environment"),
        version: text(reader, "version"),
        author: text(reader, "author"),
        ..ReceivedChange::default()
    };
    if change.title.is_empty() && change.service.is_empty() {
        let message = "a change needs a `service` or a `title`";
        reader.report(fields.place, Code::MissingField, message);
    }
    if change.title.is_empty() {
        change.title = [change.service.as_str(), change.version.as_str()].join(" ");
    }
    let kinds = ChangeKind::ALL.map(|it| (it.as_str(), it));
    let kind = fields.optional("kind").and_then(|it| reader.word(it, &kinds));
    change.kind = kind.unwrap_or_default();
    let states = ChangeState::ALL.map(|it| (it.as_str(), it));
    let state = fields.optional("state").and_then(|it| reader.word(it, &states));
    change.state = state.unwrap_or_default();
    fields.finish(reader);
    Some(change)
}
