//! `receivers:` and `routes:`: who is told of what.

use super::code::Code;
use super::fields::{Fields, closest};
use super::reader::Reader;
use super::secret;
use super::time_interval;
use super::yaml::Node;
use crate::domain::rules::{Occasion, Receiver, Route, SecretText};

/// The kind of name that receivers bear.
pub(super) const RECEIVER: &str = "receiver";

/// An entry of `receivers`.
pub(super) fn receiver(reader: &mut Reader<'_>, node: &Node) -> Option<Receiver> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name(RECEIVER, &mut fields);
    let mut webhook_url = SecretText::Text(String::new());
    if let Some(node) = fields.required(reader, "webhook")
        && let Some(mut fields) = Fields::open(reader, node)
    {
        if let Some(node) = fields.required(reader, "url") {
            webhook_url = secret::read(reader, node);
            if let SecretText::Text(url) = &webhook_url
                && !url.is_empty()
            {
                address(reader, node, url);
            }
        }
        fields.finish(reader);
    }
    fields.finish(reader);
    Some(Receiver { rule, webhook_url })
}

/// Reports a text that is no address on the web.
pub(super) fn address(reader: &mut Reader<'_>, node: &Node, url: &str) {
    let good = reqwest::Url::parse(url)
        .is_ok_and(|it| matches!(it.scheme(), "http" | "https") && it.has_host());
    if !good {
        reader.report_hint(
            node.place,
            Code::BadAddress,
            format!("not an address: `{url}`"),
            "write it as `http://host:port/path` or `https://…`",
        );
    }
}

/// An entry of `routes`; it has no name, so it gets one from its position.
pub(super) fn route(reader: &mut Reader<'_>, node: &Node, number: usize) -> Option<Route> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.rule_ref(format!("route {number}"), node.place);
    let matchers = reader.matchers(fields.optional("matchers"));
    let on = match fields.required(reader, "on") {
        Some(node) => occasions(reader, node),
        None => Vec::new(),
    };
    let receiver = match fields.required(reader, RECEIVER) {
        Some(node) => {
            let name = reader.text(node);
            reader.refer(RECEIVER, &name, node.place);
            name
        }
        None => String::new(),
    };
    let mute_time_intervals = time_interval::named(reader, &mut fields, "mute_time_intervals");
    let active_time_intervals = time_interval::named(reader, &mut fields, "active_time_intervals");
    let decide_after_seconds = fields.optional("decide_after").map_or(0, |node| {
        if !on.is_empty() && !on.contains(&Occasion::Opened) {
            let message = "only a route on `opened` can wait until it decides whom to tell";
            reader.report_hint(node.place, Code::BadValue, message, "add `opened` to `on`");
        }
        reader.positive_duration(node)
    });
    fields.finish(reader);
    Some(Route {
        rule,
        matchers,
        on,
        receiver,
        mute_time_intervals,
        active_time_intervals,
        decide_after_seconds,
    })
}

fn occasions(reader: &mut Reader<'_>, node: &Node) -> Vec<Occasion> {
    let items = reader.list(node);
    if items.is_empty() {
        reader.report(node.place, Code::BadValue, "a route on no occasion sends nothing");
    }
    let mut occasions = Vec::new();
    for item in items {
        match occasion(reader, item) {
            Some(Occasion::RunbookNote) => {
                let message = "the step of a runbook names its receiver, and no route tells it";
                reader.report(item.place, Code::BadValue, message);
            }
            found => occasions.extend(found),
        }
    }
    occasions
}

/// What can be told.
pub(super) fn occasion(reader: &mut Reader<'_>, node: &Node) -> Option<Occasion> {
    reader.word(node, &Occasion::ALL.map(|it| (it.as_str(), it)))
}

/// Reports routes to receivers that no file has. Called when all files are read.
pub(super) fn check_references(reader: &mut Reader<'_>) {
    for (kind, name, position) in std::mem::take(&mut reader.references) {
        let known = name.is_empty() || reader.position_of(kind, &name).is_some();
        if known || (reader.is_full() && reader.has_error()) {
            continue;
        }
        let names = reader.names_of(kind);
        let hint = match (closest(&name, &names), names.is_empty()) {
            (Some(it), _) => format!("did you mean `{it}`?"),
            (None, true) => format!("no file has any {kind}; add it under `{kind}s:`"),
            (None, false) => format!("there are: {}", names.join(", ")),
        };
        let message = format!("there is no {kind} `{name}`");
        reader.report_at(position, Code::UnknownName, &message, Some(hint));
    }
}
