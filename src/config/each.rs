//! `for_each`, `runbook` and `change` of a step: what it is done for, what it calls, what it tells of.

use super::code::Code;
use super::expression::Names;
use super::fields::{Fields, closest};
use super::reader::{Position, Reader};
use super::runbook::RUNBOOK;
use super::yaml::{Node, Value};
use crate::domain::execution::CALL_DEPTH_MAX;
use crate::domain::rules::{Action, ChangeNote, ForEach, Runbook};
use std::collections::{BTreeMap, BTreeSet};

/// So many templates may a list have.
const LIST_MAX: usize = 100;
/// So many may be done at a time.
const CONCURRENCY_MAX: u64 = 16;

/// A step that calls a runbook.
pub(super) struct Call {
    /// The runbook that calls; empty while it is being read.
    pub(super) caller: String,
    /// The runbook that is called.
    name: String,
    /// The parameters that it is given, and where.
    given: Vec<(String, Position)>,
    position: Position,
}

/// Reads `for_each`; its name joins the `names`.
pub(super) fn for_each(reader: &mut Reader<'_>, node: &Node, names: &mut Names) -> Option<ForEach> {
    let inside = "in: [a, b], as: host, pattern: '^[a-z0-9.-]+$'";
    let mut fields = Fields::open_like(reader, node, inside)?;
    let mut list = Vec::new();
    if let Some(node) = fields.required(reader, "in") {
        if matches!(node.value, Value::Scalar { .. }) {
            list.push(reader.template(node, names));
        } else {
            let items = reader.short_list(node, LIST_MAX);
            list.extend(items.iter().map(|it| reader.template(it, names)));
        }
    }
    let mut name = String::new();
    if let Some(node) = fields.required(reader, "as") {
        name = reader.filled_text(node);
        let is_good = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if !is_good {
            let message = format!("bad parameter name: `{name}`");
            let hint = "use letters, digits and `_`, so that templates can name it";
            reader.report_hint(node.place, Code::BadName, message, hint);
        }
        if names.parameters.contains(&name) {
            let message = format!("this runbook has a parameter of this name: `{name}`");
            reader.report(node.place, Code::DuplicateName, message);
        }
        names.parameters.insert(name.clone());
    }
    let pattern = fields.required(reader, "pattern").map(|it| reader.pattern(it));
    let concurrency = fields.optional("concurrency");
    let concurrency = concurrency.map_or(1, |it| reader.integer(it, 1, CONCURRENCY_MAX));
    fields.finish(reader);
    let concurrency = u32::try_from(concurrency).unwrap_or(1);
    Some(ForEach { list, name, pattern: pattern?, concurrency })
}

/// Reads `runbook`: a name, or a map with parameters.
pub(super) fn call(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    let mut parameters = BTreeMap::new();
    let mut given = Vec::new();
    let (runbook, place) = if matches!(node.value, Value::Scalar { .. }) {
        (reader.filled_text(node), node.place)
    } else {
        let mut fields = Fields::open_like(reader, node, "name: drain, parameters: {host: a}")?;
        let name = fields.required(reader, "name").map(|it| (reader.filled_text(it), it.place));
        if let Some(node) = fields.optional("parameters") {
            for (key, value) in reader.map(node) {
                given.push((key.text.clone(), (reader.current, key.place)));
                parameters.insert(key.text.clone(), reader.template(value, names));
            }
        }
        fields.finish(reader);
        name?
    };
    reader.refer(RUNBOOK, &runbook, place);
    let position = (reader.current, place);
    let (caller, name) = (String::new(), runbook.clone());
    reader.calls.push(Call { caller, name, given, position });
    Some(Action::Runbook { runbook, parameters })
}

/// Reads `change`: a title, or a map.
pub(super) fn change(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    if matches!(node.value, Value::Scalar { .. }) {
        let title = reader.template(node, names);
        return Some(Action::Change(Box::new(ChangeNote { title, ..ChangeNote::default() })));
    }
    let mut fields = Fields::open_like(reader, node, "title: 'scaled out', service: shop")?;
    let title = fields.required(reader, "title").map(|it| reader.template(it, names));
    let mut text = |reader: &mut Reader<'_>, name: &'static str| {
        fields.optional(name).map(|it| reader.template(it, names)).unwrap_or_default()
    };
    let (service, environment) = (text(reader, "service"), text(reader, "environment"));
    let version = text(reader, "version");
    fields.finish(reader);
    Some(Action::Change(Box::new(ChangeNote { title: title?, service, environment, version })))
}

/// Reports calls that end nowhere, go too deep, or give what is not asked for. Called when all files
/// are read.
pub(super) fn check_calls(reader: &mut Reader<'_>, runbooks: &[Runbook]) {
    let calls = std::mem::take(&mut reader.calls);
    let mut called: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in &calls {
        called.entry(&call.caller).or_default().insert(&call.name);
    }
    for call in &calls {
        let depth = depth(&called, &call.name, CALL_DEPTH_MAX);
        if depth >= CALL_DEPTH_MAX {
            let message = format!(
                "`{}` calls itself in the end, or runbooks more than {CALL_DEPTH_MAX} deep",
                call.caller
            );
            reader.report_at(call.position, Code::BadValue, &message, None);
        }
        let Some(runbook) = runbooks.iter().find(|it| it.rule.name == call.name) else { continue };
        for (name, position) in &call.given {
            if !runbook.parameters.contains_key(name) {
                let known: Vec<&str> = runbook.parameters.keys().map(String::as_str).collect();
                let message = format!("runbook `{}` has no parameter `{name}`", call.name);
                let hint = closest(name, &known).map(|it| format!("did you mean `{it}`?"));
                reader.report_at(*position, Code::UnknownName, &message, hint);
            }
        }
    }
}

/// How deep calls go from a runbook on, itself included; no further than is asked.
fn depth(called: &BTreeMap<&str, BTreeSet<&str>>, name: &str, most: usize) -> usize {
    let mut level = BTreeSet::from([name]);
    for depth in 0..most {
        if level.is_empty() {
            return depth;
        }
        level = level.iter().filter_map(|it| called.get(it)).flatten().copied().collect();
    }
    most
}
