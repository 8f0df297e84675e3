//! `command:` of a step: a program, where it runs, and what it may use.

use super::code::Code;
use super::expression::Names;
use super::fields::Fields;
use super::reader::Reader;
use super::secret;
use super::step::names_alert;
use super::yaml::{Node, Value};
use crate::domain::rules::{Action, Bounds, Limits, Paths, SecretText};
use std::collections::BTreeMap;

/// Variables of these names are ours.
const OURS: &str = "WATCHKEEPER_";
const MEBIBYTE: u64 = 1 << 20;

/// Reads a `command`.
pub(super) fn command(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    // There is no shell that would take a line apart.
    let mut fields = Fields::open_like(reader, node, "argv: [systemctl, restart, web]")?;
    let argv_node = fields.required(reader, "argv");
    let argv = argv_node.map(|it| argv(reader, it, names));
    let bounds = bounds(reader, &mut fields, names);
    fields.finish(reader);
    let argv = argv?;
    if let Some(node) = argv_node
        && argv.first().is_some_and(|it| matches!(it.rsplit('/').next(), Some("sudo" | "doas")))
        && !bounds.limits.new_privileges
    {
        reader.report_hint(
            node.place,
            Code::Unprivileged,
            "this program will not become another user, unless the daemon is root",
            "add `new_privileges: true` beside `argv`",
        );
    }
    Some(Action::Command { argv, bounds: Box::new(bounds) })
}

/// Where a program runs, and what it may use.
pub(super) fn bounds(reader: &mut Reader<'_>, fields: &mut Fields<'_>, names: &Names) -> Bounds {
    let directory = fields.optional("directory").map(|it| reader.template(it, names));
    let environment = match fields.optional("environment") {
        Some(node) => environment(reader, node, names),
        None => BTreeMap::new(),
    };
    let mut limits = Limits::default();
    if let Some(node) = fields.optional("limits") {
        read_limits(reader, node, &mut limits);
    }
    if let Some(node) = fields.optional("new_privileges") {
        limits.new_privileges = reader.boolean(node);
    }
    let user = fields.optional("user").map(|node| {
        let user = reader.filled_text(node);
        let is_sign = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
        if user.starts_with('-') || !user.chars().all(is_sign) {
            let message = format!("bad name of a user: `{user}`");
            let hint = "it is written down, not filled in";
            reader.report_hint(node.place, Code::BadName, message, hint);
        }
        user
    });
    let stdin = fields.optional("stdin").map(|it| reader.template(it, names));
    let paths = paths(reader, fields, limits.new_privileges);
    Bounds { directory, environment, limits, user, stdin, paths }
}

/// Where a program may read and write. They are written down: an alert must not choose them.
fn paths(reader: &mut Reader<'_>, fields: &mut Fields<'_>, new_privileges: bool) -> Option<Paths> {
    let node = fields.optional("paths");
    let landlock = fields.optional("landlock");
    let words = [("required", false), ("best_effort", true)];
    let best_effort = landlock.and_then(|it| reader.word(it, &words)).unwrap_or_default();
    if let (Some(landlock), None) = (landlock, node) {
        let message = "`landlock` says what becomes of `paths`, and there are none";
        reader.report(landlock.place, Code::MissingField, message);
    }
    let node = node?;
    let mut fields = Fields::open_like(reader, node, "write: [/var/backups]")?;
    let mut lists = ["read", "write"].map(|name| {
        let items = fields.optional(name).map_or(&[][..], |it| reader.list(it));
        let mut list = Vec::new();
        for item in items {
            let path = reader.filled_text(item);
            if !path.starts_with('/') || path.contains("{{") || path.contains("/..") {
                let message = format!("not a path from the root: `{path}`");
                let hint = "write it down whole, as `/var/backups`";
                reader.report_hint(item.place, Code::BadValue, message, hint);
            }
            list.push(path);
        }
        list
    });
    fields.finish(reader);
    if new_privileges {
        let message = "a program that is bound to `paths` cannot get new privileges";
        let hint = "leave `new_privileges` out; the daemon's `user:` needs none";
        reader.report_hint(node.place, Code::BadValue, message, hint);
    }
    let [read, write] = &mut lists;
    Some(Paths { read: std::mem::take(read), write: std::mem::take(write), best_effort })
}

fn environment(
    reader: &mut Reader<'_>,
    node: &Node,
    names: &Names,
) -> BTreeMap<String, SecretText> {
    let mut variables = BTreeMap::new();
    for (key, node) in reader.map(node) {
        let is_name = key.text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
            && key.text.chars().next().is_some_and(|it| !it.is_ascii_digit());
        if !is_name || key.text.starts_with(OURS) {
            let message = format!("bad name of a variable: `{}`", key.text);
            let hint = format!("use letters, digits and `_`; `{OURS}…` are the daemon's own");
            reader.report_hint(key.place, Code::BadName, message, hint);
        }
        let value = if matches!(&node.value, Value::Map(_)) {
            secret::read(reader, node)
        } else {
            SecretText::Text(reader.template(node, names))
        };
        variables.insert(key.text.clone(), value);
    }
    variables
}

fn read_limits(reader: &mut Reader<'_>, node: &Node, limits: &mut Limits) {
    let Some(mut fields) = Fields::open_like(reader, node, "processes: 64, cpu: 60s") else {
        return;
    };
    let mut number = |reader: &mut Reader<'_>, name: &'static str, most: u64| {
        fields.optional(name).map(|it| reader.integer(it, 1, most))
    };
    let narrow = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
    if let Some(processes) = number(reader, "processes", 100_000) {
        limits.processes = narrow(processes);
    }
    if let Some(files) = number(reader, "files", 1_000_000) {
        limits.files = narrow(files);
    }
    limits.memory_bytes = number(reader, "memory_mebibytes", 1 << 24).map(|it| it * MEBIBYTE);
    limits.file_bytes = number(reader, "file_mebibytes", 1 << 24).map(|it| it * MEBIBYTE);
    limits.cpu_seconds = fields.optional("cpu").map(|it| reader.positive_duration(it));
    fields.finish(reader);
}

/// Program and arguments.
pub(super) fn argv(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Vec<String> {
    let items = reader.list(node);
    let argv: Vec<String> = items.iter().map(|it| reader.template(it, names)).collect();
    match (items.first(), argv.first()) {
        (None, _) if matches!(node.value, Value::List(_)) => reader.report_hint(
            node.place,
            Code::BadValue,
            "an empty `argv` starts nothing",
            "write the program and its arguments: `[systemctl, restart, web]`",
        ),
        (Some(item), Some(program)) if names_alert(program) => reader.report_hint(
            item.place,
            Code::BadValue,
            "an alert must not choose which program runs",
            "write the program down, or make it a parameter with a pattern",
        ),
        (Some(item), Some(program)) if program.trim().is_empty() => {
            reader.report(item.place, Code::BadValue, "the program has no name");
        }
        _ => {}
    }
    argv
}
