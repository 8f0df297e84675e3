//! `change:` in a test: a change that is told of.

use crate::config::code::Code;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::yaml::Node;
use crate::domain::change::{ChangeKind, ChangeState, ReceivedChange};

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
