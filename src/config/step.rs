//! The steps of a runbook: what each does, when, how often, and what takes it back.

use super::approval;
use super::code::Code;
use super::command;
use super::each;
use super::expression::{Names, check_condition};
use super::fields::Fields;
use super::notification::{RECEIVER, address};
use super::reader::Reader;
use super::runbook::values;
use super::tool;
use super::yaml::{Node, Value};
use crate::domain::rules::{Action, Idempotency, Step, Until};
use std::collections::BTreeMap;

/// The most steps of a runbook, and the most that are always done.
const STEPS_MAX: usize = 100;
const TIMEOUT_SECONDS: u32 = 60;
const BACKOFF_SECONDS: u32 = 1;
/// How long something is waited for unless told, how often it is looked, and how long a look may take.
const UNTIL: Until = Until { every_seconds: 10, within_seconds: 300 };
const UNTIL_TIMEOUT_SECONDS: u32 = 10;
const UNTIL_SECONDS_MAX: u32 = 24 * 3600;
/// What a step can do.
const KINDS: [&str; 12] = [
    "command",
    "http",
    "query",
    "wait",
    "set",
    "notify",
    "approval",
    "runbook",
    "change",
    "ssh",
    "kubernetes",
    "ansible",
];
/// What can be done for each of some things.
const FOR_EACH_KINDS: [&str; 8] =
    ["command", "http", "query", "runbook", "change", "ssh", "kubernetes", "ansible"];
/// What can look and change nothing.
const LOOKS: [&str; 5] = ["command", "http", "query", "ssh", "kubernetes"];
/// What a condition may name.
const CONDITION_ROOTS: [&str; 6] =
    ["incident", "labels", "annotations", "trigger", "parameters", "steps"];
/// What a value that is set may name.
const SET_ROOTS: [&str; 6] =
    ["parameters", "labels", "annotations", "incident", "trigger", "steps"];

/// Reads `steps` or `always`. `ids` are those that are taken; what steps set joins the `names`.
pub(super) fn steps(
    reader: &mut Reader<'_>,
    node: &Node,
    names: &mut Names,
    ids: &mut Vec<String>,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let items = reader.short_list(node, STEPS_MAX);
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        reader.report(node.place, Code::BadValue, "a runbook without steps does nothing");
    }
    for item in items {
        let Some(mut fields) = Fields::open(reader, item) else { continue };
        let mut id = String::new();
        if let Some(node) = fields.required(reader, "id") {
            id = reader.filled_text(node);
            if id.contains('/') {
                let message = format!("the id of a step has no `/`: `{id}`");
                reader.report(node.place, Code::BadName, message);
            }
            if ids.contains(&id) {
                let message = format!("a step of this runbook has this id already: `{id}`");
                reader.report(node.place, Code::DuplicateName, message);
            }
            ids.push(id.clone());
        }
        let step = step(reader, fields, &id, names);
        if let Action::Set { values } = &step.action {
            names.parameters.extend(values.keys().cloned());
        }
        steps.push(step);
    }
    steps
}

fn step(reader: &mut Reader<'_>, mut fields: Fields<'_>, id: &str, names: &Names) -> Step {
    let mut inside = names.clone();
    let for_each = fields.optional("for_each");
    let for_each = for_each.and_then(|it| each::for_each(reader, it, &mut inside));
    let names = &inside;
    let mut step = attempt(reader, &mut fields, id, names);
    if for_each.is_some() && !FOR_EACH_KINDS.contains(&step.action.as_str()) {
        let message = format!("`for_each` is for `{}`", FOR_EACH_KINDS.join("`, `"));
        reader.report(fields.place, Code::BadValue, message);
    }
    step.for_each = for_each;
    if let Some(node) = fields.optional("if") {
        step.condition = condition(reader, node);
    }
    if let Some(node) = fields.optional("continue_on_error") {
        step.continue_on_error = reader.boolean(node);
    }
    if let Some(node) = fields.optional("look") {
        step.look = look(reader, node, names);
        if step.idempotency != Idempotency::CheckThenAct {
            let message = "a step looks first where it is `idempotency: check_then_act`";
            reader.report(node.place, Code::BadValue, message);
        }
    }
    if let Some(node) = fields.optional("undo")
        && let Some(mut fields) = Fields::open_like(reader, node, "command: {argv: […]}")
    {
        let undo = attempt(reader, &mut fields, id, names);
        fields.finish(reader);
        step.undo = Some(Box::new(undo));
    }
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    step
}

/// What a step and an undo have in common: what is done, how long, how often.
fn attempt(reader: &mut Reader<'_>, fields: &mut Fields<'_>, id: &str, names: &Names) -> Step {
    let place = fields.place;
    let given = KINDS.map(|it| (it, fields.optional(it)));
    let mut given = given.into_iter().filter_map(|(kind, node)| Some((kind, node?)));
    let mut until = None;
    let action = if let (Some((kind, node)), None) = (given.next(), given.next()) {
        match &node.value {
            Value::Map(_) if kind == "wait" => {
                let waited = wait_until(reader, node, names);
                until = waited.as_ref().map(|(_, it)| *it);
                waited.map(|(look, _)| look)
            }
            _ => action(reader, kind, node, names),
        }
    } else {
        let message = format!("a step has one of `{}`", KINDS.join("`, `"));
        reader.report(place, Code::MissingField, message);
        None
    };
    let mut step = Step::new(id, action.unwrap_or(Action::command(Vec::new())));
    step.until = until;
    let usual = if until.is_some() { UNTIL_TIMEOUT_SECONDS } else { TIMEOUT_SECONDS };
    step.timeout_seconds =
        fields.optional("timeout").map_or(usual, |it| reader.positive_duration(it));
    let retry_node = fields.optional("retry");
    if let Some(node) = retry_node.filter(|_| until.is_some()) {
        let message = "what is waited for is looked at again anyway";
        reader.report_hint(
            node.place,
            Code::BadValue,
            message,
            "say `within` and `every` in `wait`",
        );
    }
    (step.attempts, step.backoff_seconds) =
        retry_node.map_or((1, BACKOFF_SECONDS), |it| retry(reader, it));
    let words = [
        ("idempotent", Idempotency::Idempotent),
        ("check_then_act", Idempotency::CheckThenAct),
        ("once", Idempotency::Once),
    ];
    let told = fields.optional("idempotency").and_then(|it| reader.word(it, &words));
    // A question changes nothing, so that it may always be asked again.
    let usual = match &step.action {
        Action::Query { .. } => Idempotency::Idempotent,
        _ if until.is_some() => Idempotency::Idempotent,
        _ => Idempotency::default(),
    };
    step.idempotency = told.unwrap_or(usual);
    step
}

fn action(reader: &mut Reader<'_>, kind: &str, node: &Node, names: &Names) -> Option<Action> {
    match kind {
        "command" => command::command(reader, node, names),
        "http" => http_action(reader, node, names, "POST"),
        "query" => query_action(reader, node, names),
        "wait" => Some(Action::Wait { seconds: reader.positive_duration(node) }),
        "set" => {
            let names = Names { roots: &SET_ROOTS, ..names.clone() };
            let values = values(reader, node, &names);
            if let Some(taken) = values.keys().find(|it| names.parameters.contains(*it)) {
                let message = format!("this runbook has a parameter of this name: `{taken}`");
                reader.report(node.place, Code::DuplicateName, message);
            }
            Some(Action::Set { values })
        }
        "approval" => approval::approval(reader, node, names, approval::STEP_SECONDS)
            .map(|it| Action::Approval(Box::new(it))),
        "ssh" | "kubernetes" | "ansible" => tool::tool(reader, kind, node, names),
        "runbook" => each::call(reader, node, names),
        "change" => each::change(reader, node, names),
        _ => notify_action(reader, node, names),
    }
}

/// What only looks: actions that are meant to change nothing.
pub(super) fn looks(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    names: &Names,
) -> Vec<Action> {
    let given = LOOKS.map(|it| (it, fields.optional(it)));
    let given = given.into_iter().filter_map(|(kind, node)| Some((kind, node?)));
    let read = |(kind, node): (&str, &Node)| match kind {
        "http" => http_action(reader, node, names, "GET"),
        _ => action(reader, kind, node, names),
    };
    given.filter_map(read).collect()
}

/// `wait: {until, every, within}`: a look, how often and how long.
fn wait_until(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<(Action, Until)> {
    let mut fields = Fields::open(reader, node)?;
    let action = fields.required(reader, "until").and_then(|it| look(reader, it, names));
    let mut until = UNTIL;
    if let Some(node) = fields.optional("every") {
        until.every_seconds = reader.positive_duration(node);
    }
    if let Some(node) = fields.optional("within") {
        until.within_seconds = reader.positive_duration(node);
        if until.within_seconds > UNTIL_SECONDS_MAX {
            reader.report(node.place, Code::BadValue, "a run waits no longer than a day");
        }
    }
    if until.every_seconds > until.within_seconds {
        reader.report(fields.place, Code::BadValue, "`every` is longer than `within`");
    }
    fields.finish(reader);
    Some((action?, until))
}

/// The one look of a step.
fn look(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    let mut fields = Fields::open_like(reader, node, "command: {argv: […]}")?;
    let mut looks = looks(reader, &mut fields, names);
    if looks.len() != 1 {
        let message = format!("a look has one of `{}`", LOOKS.join("`, `"));
        reader.report(fields.place, Code::MissingField, message);
    }
    fields.finish(reader);
    looks.pop()
}

fn condition(reader: &mut Reader<'_>, node: &Node) -> String {
    let text = reader.filled_text(node);
    if !text.is_empty()
        && let Err((message, hint)) = check_condition(&text, &CONDITION_ROOTS)
    {
        reader.report_at((reader.current, node.place), Code::BadCondition, &message, hint);
    }
    text
}

fn query_action(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    let mut fields = Fields::open_like(reader, node, "source: prod, promql: 'up == 1'")?;
    let source = fields.required(reader, "source").map(|it| reader.filled_text(it));
    let promql = fields.required(reader, "promql").map(|node| {
        let promql = reader.template(node, names);
        if names_alert(&promql) {
            reader.report_hint(
                node.place,
                Code::BadValue,
                "an alert must not write what is asked",
                "make it a parameter with a pattern",
            );
        }
        promql
    });
    let mut assert = String::new();
    if let Some(node) = fields.optional("assert") {
        assert = reader.filled_text(node);
        let roots = ["value", "values", "count"];
        if !assert.is_empty()
            && let Err((message, hint)) = check_condition(&assert, &roots)
        {
            reader.report_at((reader.current, node.place), Code::BadCondition, &message, hint);
        }
    }
    fields.finish(reader);
    Some(Action::Query { source: source?, promql: promql?, assert })
}

fn notify_action(reader: &mut Reader<'_>, node: &Node, names: &Names) -> Option<Action> {
    let mut fields = Fields::open_like(reader, node, "receiver: hook, text: '…'")?;
    let receiver = fields.required(reader, RECEIVER).map(|node| {
        let name = reader.text(node);
        reader.refer(RECEIVER, &name, node.place);
        name
    });
    let text = fields.required(reader, "text").map(|it| reader.template(it, names));
    fields.finish(reader);
    Some(Action::Notify { receiver: receiver?, text: text? })
}

fn retry(reader: &mut Reader<'_>, node: &Node) -> (u32, u32) {
    let opened = Fields::open_like(reader, node, "attempts: 3, backoff: 1s");
    let Some(mut fields) = opened else { return (1, BACKOFF_SECONDS) };
    let attempts = fields.required(reader, "attempts").map_or(1, |it| reader.integer(it, 1, 10));
    let backoff = fields.optional("backoff").map_or(BACKOFF_SECONDS, |it| reader.duration(it));
    fields.finish(reader);
    (u32::try_from(attempts).unwrap_or(1), backoff)
}

/// Whether a text takes something straight from an alert, past the patterns of the parameters.
pub(super) fn names_alert(text: &str) -> bool {
    (text.contains("{{") || text.contains("{%"))
        && ["labels", "annotations", "incident", "trigger"].iter().any(|it| text.contains(it))
}

fn http_action(
    reader: &mut Reader<'_>,
    node: &Node,
    names: &Names,
    default: &'static str,
) -> Option<Action> {
    let mut fields = Fields::open_like(reader, node, "method: POST, url: 'http://host:port/path'")?;
    let words = ["GET", "POST", "PUT", "PATCH", "DELETE"].map(|it| (it, it));
    let method = fields.optional("method").map_or(Some(default), |it| reader.word(it, &words));
    let mut url = String::new();
    if let Some(node) = fields.required(reader, "url") {
        url = reader.template(node, names);
        destination(reader, node, &url);
    }
    let mut headers = BTreeMap::new();
    if let Some(node) = fields.optional("headers") {
        for (key, value) in reader.map(node) {
            headers.insert(key.text.clone(), reader.template(value, names));
        }
    }
    let body = fields.optional("body").map(|it| reader.template(it, names));
    let mut expect_status = Vec::new();
    if let Some(node) = fields.optional("expect_status") {
        for item in reader.list(node) {
            let status = reader.integer(item, 100, 599);
            expect_status.push(u16::try_from(status).unwrap_or_default());
        }
    }
    fields.finish(reader);
    Some(Action::Http { method: method?.to_owned(), url, headers, body, expect_status })
}

/// Checks the fixed part of an address and notes where it leads.
fn destination(reader: &mut Reader<'_>, node: &Node, url: &str) {
    let first = |sign: &str| url.find(sign).unwrap_or(url.len());
    let at = first("{{").min(first("{%"));
    if at == url.len() {
        address(reader, node, url);
        if let Some(destination) = host_and_port(url) {
            reader.destinations.push((destination, (reader.current, node.place)));
        }
        return;
    }
    // Where a template names the host, only the request itself can be checked.
    let fixed = url.get(..at).unwrap_or_default();
    let host_is_fixed = fixed.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if host_is_fixed && let Some(destination) = host_and_port(fixed) {
        reader.destinations.push((destination, (reader.current, node.place)));
    }
}

/// `host:port` of an address.
fn host_and_port(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Warns of steps that would be refused, because `http_allow` does not have their destination.
pub(super) fn check_destinations(reader: &mut Reader<'_>, http_allow: &[String]) {
    for (destination, position) in std::mem::take(&mut reader.destinations) {
        if !http_allow.contains(&destination) {
            let hint = format!("add `http_allow: [\"{destination}\"]` to watchkeeper.yaml");
            let message = format!("this step will be refused: `{destination}` is not allowed");
            reader.report_at(position, Code::NotAllowed, &message, Some(hint));
        }
    }
}
