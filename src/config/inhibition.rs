//! `inhibitions:`: which alerts hold back others.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::topology::topology;
use super::yaml::{Node, Value};
use crate::domain::matcher::Matchers;
use crate::domain::rules::Inhibition;

/// The most labels that must be equal.
const EQUAL_MAX: usize = 64;

/// An entry of `inhibitions`.
pub(super) fn inhibition(reader: &mut Reader<'_>, node: &Node) -> Option<Inhibition> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("inhibition", &mut fields);
    let source_matchers = side(reader, &mut fields, "source_matchers");
    let target_matchers = side(reader, &mut fields, "target_matchers");
    let equal = fields.optional("equal").map_or_else(Vec::new, |it| equal(reader, it));
    let topology = fields.optional("topology").and_then(|it| topology(reader, it));
    let wait_seconds = fields.optional("wait").map_or(0, |it| reader.duration(it));
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    Some(Inhibition { rule, source_matchers, target_matchers, equal, topology, wait_seconds })
}

fn side(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Matchers {
    let node = fields.required(reader, name);
    if let Some(node) = node
        && matches!(&node.value, Value::List(items) if items.is_empty())
    {
        reader.report_hint(
            node.place,
            Code::BadValue,
            format!("without `{name}` every alert would stand on this side"),
            "write what they match, for example `['alertname=\"ClusterDown\"']`",
        );
    }
    reader.matchers(node)
}

/// `[a, b]`, or `{source_label: target_label}`.
fn equal(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, String)> {
    let pairs: Vec<(String, String)> = if matches!(&node.value, Value::Map(_)) {
        let pairs = reader.pairs(node).into_iter();
        pairs.map(|(source, target)| (source.to_owned(), target)).collect()
    } else {
        let items = reader.short_list(node, EQUAL_MAX);
        items.iter().map(|it| reader.text(it)).map(|it| (it.clone(), it)).collect()
    };
    if pairs.len() > EQUAL_MAX {
        reader.report(node.place, Code::BadValue, format!("more than {EQUAL_MAX} entries"));
    }
    for (index, (source, target)) in pairs.iter().enumerate().take(EQUAL_MAX) {
        if source.is_empty() || target.is_empty() {
            reader.report(node.place, Code::BadValue, "an empty text names no label");
        } else if pairs.iter().take(index).any(|(_, it)| it == target) {
            let message = format!("the label `{target}` stands twice");
            reader.report(node.place, Code::BadValue, message);
        }
    }
    pairs
}
