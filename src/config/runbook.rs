//! `runbooks:`: what may be done, when, and what holds it back.

use super::approval;
use super::code::Code;
use super::expression::Names;
use super::fields::Fields;
use super::reader::Reader;
use super::step;
use super::trigger::trigger;
use super::verify;
use super::yaml::Node;
use crate::domain::rules::{Action, BlastRadius, Guards, Parameter, Runbook, RunbookMode};
use std::collections::BTreeMap;

/// The kind of name that runbooks bear.
pub(super) const RUNBOOK: &str = "runbook";

/// An entry of `runbooks`.
pub(super) fn runbook(reader: &mut Reader<'_>, node: &Node) -> Option<Runbook> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name(RUNBOOK, &mut fields);
    let description = fields.optional("description").map(|it| reader.text(it)).unwrap_or_default();
    let mode = fields.optional("mode").and_then(|it| mode(reader, it)).unwrap_or_default();
    let triggers = match fields.optional("triggers") {
        Some(node) => reader.list(node).iter().filter_map(|it| trigger(reader, it)).collect(),
        None => Vec::new(),
    };
    let parameters = match fields.optional("parameters") {
        Some(node) => {
            values(reader, node, &Names::of(&["labels", "annotations", "incident", "trigger"]))
        }
        None => BTreeMap::new(),
    };
    let mut names = Names {
        roots: &["parameters", "labels", "annotations", "incident", "trigger"],
        parameters: parameters.keys().cloned().collect(),
    };
    let lock = fields.optional("lock").map(|it| reader.template(it, &names));
    let approval = fields.optional("approval").and_then(|node| {
        if mode == RunbookMode::Auto {
            let message = "a runbook in mode `auto` asks nobody before it begins";
            let hint = "write `mode: approve`, or make `approval` a step";
            reader.report_hint(node.place, Code::BadValue, message, hint);
        }
        approval::approval(reader, node, &names, approval::RUN_SECONDS)
    });
    let guards = fields.optional("guards").map(|it| guards(reader, it, &names)).unwrap_or_default();
    let timeout_seconds = fields.optional("timeout").map(|it| reader.positive_duration(it));
    let manual_seconds = fields.optional("manual_time").map(|it| reader.positive_duration(it));
    let mut ids = Vec::new();
    let steps = match fields.required(reader, "steps") {
        Some(node) => step::steps(reader, node, &mut names, &mut ids),
        None => Vec::new(),
    };
    let verify = fields.optional("verify").and_then(|it| verify::verify(reader, it, &names));
    let always = match fields.optional("always") {
        Some(node) => step::steps(reader, node, &mut names, &mut ids),
        None => Vec::new(),
    };
    for call in reader.calls.iter_mut().filter(|it| it.caller.is_empty()) {
        call.caller.clone_from(&rule.name);
    }
    fields.misplaced(reader, &["cooldown", "max_runs"], "guards");
    fields.finish(reader);
    Some(Runbook {
        rule,
        description,
        mode,
        approval,
        triggers,
        parameters,
        lock,
        guards,
        timeout_seconds,
        manual_seconds,
        steps,
        always,
        verify,
    })
}

fn mode(reader: &mut Reader<'_>, node: &Node) -> Option<RunbookMode> {
    let words = [
        ("shadow", RunbookMode::Shadow),
        ("suggest", RunbookMode::Suggest),
        ("approve", RunbookMode::Approve),
        ("auto", RunbookMode::Auto),
    ];
    reader.word(node, &words)
}

/// Values by name, each with its pattern.
pub(super) fn values(
    reader: &mut Reader<'_>,
    node: &Node,
    names: &Names,
) -> BTreeMap<String, Parameter> {
    let mut parameters = BTreeMap::new();
    for (key, node) in reader.map(node) {
        let is_identifier = key.text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
            && key.text.chars().next().is_some_and(|it| !it.is_ascii_digit());
        if !is_identifier {
            reader.report_hint(
                key.place,
                Code::BadName,
                format!("bad parameter name: `{}`", key.text),
                "use letters, digits and `_`, so that templates can name it",
            );
        }
        let inside = "value: '{{ labels.NAME }}', pattern: '^[a-z0-9-]+$'";
        let Some(mut fields) = Fields::open_like(reader, node, inside) else { continue };
        let value = match fields.required(reader, "value") {
            Some(node) => reader.template(node, names),
            None => String::new(),
        };
        let pattern = match fields.required(reader, "pattern") {
            Some(node) => reader.pattern(node),
            None => String::new(),
        };
        fields.optional("description").map(|it| reader.text(it));
        fields.finish(reader);
        parameters.insert(key.text.clone(), Parameter { value, pattern });
    }
    parameters
}

fn guards(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Guards {
    let mut guards = Guards::default();
    let Some(mut fields) = Fields::open(reader, node) else { return guards };
    if let Some(node) = fields.optional("cooldown") {
        guards.cooldown_seconds = reader.duration(node);
    }
    if let Some(node) = fields.optional("cooldown_max") {
        guards.cooldown_seconds_max = reader.positive_duration(node);
        if guards.cooldown_seconds == 0 || guards.cooldown_seconds_max < guards.cooldown_seconds {
            let message = "`cooldown` doubles up to `cooldown_max`: there must be a shorter one";
            reader.report(node.place, Code::BadValue, message);
        }
    }
    if let Some(node) = fields.optional("breaker")
        && let Some(mut fields) = Fields::open_like(reader, node, "after: 2, per: 1h")
    {
        if let Some(node) = fields.required(reader, "after") {
            guards.breaker_after = u32::try_from(reader.integer(node, 0, 1000)).unwrap_or(0);
        }
        if let Some(node) = fields.optional("per") {
            guards.breaker_per_seconds = reader.positive_duration(node);
        }
        fields.finish(reader);
    }
    if let Some(node) = fields.optional("at_once") {
        guards.at_once = u32::try_from(reader.integer(node, 1, 1_000_000)).ok();
    }
    if let Some(node) = fields.optional("beside_people") {
        guards.beside_people = reader.boolean(node);
    }
    guards.blast_radius =
        fields.optional("blast_radius").and_then(|it| blast_radius(reader, it, names));
    guards.preconditions = fields
        .optional("precondition")
        .map_or_else(Vec::new, |it| preconditions(reader, it, names));
    if let Some(node) = fields.optional("max_runs")
        && let Some(mut fields) = Fields::open_like(reader, node, "count: 3, per: 1h")
    {
        if let Some(node) = fields.required(reader, "count") {
            guards.runs_max = u32::try_from(reader.integer(node, 1, 1_000_000)).unwrap_or(1);
        }
        if let Some(node) = fields.required(reader, "per") {
            guards.runs_per_seconds = reader.positive_duration(node);
        }
        fields.finish(reader);
    }
    fields.finish(reader);
    guards
}

fn preconditions(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Vec<Action> {
    let inside = "query: {source: prod, promql: up}";
    let Some(mut fields) = Fields::open_like(reader, node, inside) else { return Vec::new() };
    let looks = step::looks(reader, &mut fields, names);
    if looks.is_empty() {
        let message = "a precondition has an `http`, a `query` or a `command` that looks";
        reader.report(fields.place, Code::MissingField, message);
    }
    fields.finish(reader);
    looks
}

fn blast_radius(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<BlastRadius> {
    let mut fields = Fields::open_like(reader, node, "items: 2, share: 25%")?;
    let of = fields.optional("of").map(|it| reader.template(it, names));
    let items = fields.optional("items").map(|it| reader.integer(it, 1, 100_000));
    let share_percent = fields.optional("share").map(|node| {
        let text = reader.text(node);
        let number = text.strip_suffix('%').and_then(|it| it.trim().parse().ok());
        number.filter(|it| (1..=100).contains(it)).unwrap_or_else(|| {
            let message = format!("a share is 1% to 100%, not `{text}`");
            reader.report(node.place, Code::BadValue, message);
            100
        })
    });
    let tier = fields.optional("tier").map(|it| reader.integer(it, 0, 255));
    if items.is_none() && share_percent.is_none() && tier.is_none() {
        let message = "a blast radius has `items`, `share` or `tier`";
        reader.report(fields.place, Code::MissingField, message);
    }
    let words = [("block", false), ("allow", true)];
    let unknown = fields.optional("unknown").and_then(|it| reader.word(it, &words));
    fields.finish(reader);
    Some(BlastRadius {
        of,
        items: items.and_then(|it| u32::try_from(it).ok()),
        share_percent,
        tier: tier.and_then(|it| u8::try_from(it).ok()),
        unknown_allowed: unknown.unwrap_or(false),
    })
}
