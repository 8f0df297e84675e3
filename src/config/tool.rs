//! `ssh:`, `kubernetes:` and `ansible:` of a step: what is done elsewhere, through their own programs.

use super::code::Code;
use super::command;
use super::expression::Names;
use super::fields::Fields;
use super::reader::Reader;
use super::step::names_alert;
use super::yaml::Node;
use crate::domain::rules::{Action, Tool, ToolRun};
use std::collections::BTreeMap;

/// Reads one of them.
pub(super) fn tool(
    reader: &mut Reader<'_>,
    kind: &str,
    node: &Node,
    names: &Names,
) -> Option<Action> {
    let inside = match kind {
        "ssh" => "host: web-1, argv: [systemctl, restart, web]",
        "kubernetes" => "namespace: shop, arguments: [rollout, restart, deployment/web]",
        _ => "playbook: site.yaml, limit: web-1",
    };
    let mut fields = Fields::open_like(reader, node, inside)?;
    let tool = match kind {
        "ssh" => ssh(reader, &mut fields, names),
        "kubernetes" => kubernetes(reader, &mut fields, names),
        _ => ansible(reader, &mut fields, names),
    };
    let bounds = command::bounds(reader, &mut fields, names);
    fields.finish(reader);
    Some(Action::Tool(Box::new(ToolRun { tool: tool?, bounds })))
}

fn ssh(reader: &mut Reader<'_>, fields: &mut Fields<'_>, names: &Names) -> Option<Tool> {
    let host = fields.required(reader, "host").map(|it| reader.template(it, names));
    let user = text(reader, fields, "as", names);
    let port = fields.optional("port").map(|it| reader.integer(it, 1, 65_535));
    let argv = fields.required(reader, "argv").map(|it| command::argv(reader, it, names));
    let port = port.and_then(|it| u16::try_from(it).ok());
    Some(Tool::Ssh { host: host?, user, port, argv: argv? })
}

fn kubernetes(reader: &mut Reader<'_>, fields: &mut Fields<'_>, names: &Names) -> Option<Tool> {
    let context = text(reader, fields, "context", names);
    let namespace = text(reader, fields, "namespace", names);
    let told = fields.required(reader, "arguments")?;
    let arguments = command::argv(reader, told, names);
    Some(Tool::Kubernetes { context, namespace, arguments })
}

fn ansible(reader: &mut Reader<'_>, fields: &mut Fields<'_>, names: &Names) -> Option<Tool> {
    let playbook = fields.required(reader, "playbook").map(|it| fixed(reader, it));
    let inventory = fields.optional("inventory").map(|it| fixed(reader, it)).unwrap_or_default();
    let limit = text(reader, fields, "limit", names);
    let mut variables = BTreeMap::new();
    if let Some(node) = fields.optional("variables") {
        for (key, value) in reader.map(node) {
            variables.insert(key.text.clone(), reader.template(value, names));
        }
    }
    let check = fields.optional("check").is_some_and(|it| reader.boolean(it));
    Some(Tool::Ansible { playbook: playbook?, inventory, limit, variables, check })
}

/// A file that no value has a say in.
fn fixed(reader: &mut Reader<'_>, node: &Node) -> String {
    let text = reader.filled_text(node);
    if text.contains("{{") || text.contains("{%") || names_alert(&text) {
        let message = "which file is played is written down, not filled in";
        reader.report(node.place, Code::BadValue, message);
    }
    text
}

fn text(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    names: &Names,
) -> String {
    fields.optional(name).map(|it| reader.template(it, names)).unwrap_or_default()
}
