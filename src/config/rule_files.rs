//! Puts the rules of all files together into one set.

use super::code::Code;
use super::each;
use super::fields::Fields;
use super::files::Files;
use super::reader::{Reader, Source};
use super::rule_test::{RuleTest, rule_test};
use super::yaml::{Node, Value, parse};
use super::{
    Checked, article, catalog, correlation, detection, forecast, freeze, heartbeat, inhibition,
    maintenance, notification, rate, runbook, service_level, silence, source, step, time_interval,
    topology,
};
use crate::domain::rules::{Mode, RuleSet};
use jiff::Timestamp;
use std::sync::Arc;

const RESOLVE_TIMEOUT_SECONDS: u32 = 300;

/// The lists that a rule file may hold.
pub(super) const LISTS: [&str; 19] = [
    "time_intervals",
    "correlations",
    "never_together",
    "ignored_evidence",
    "priorities",
    "sla_policies",
    "inhibitions",
    "silences",
    "maintenance",
    "freezes",
    "receivers",
    "routes",
    "runbooks",
    "problem_detection",
    "forecasts",
    "unusual_rates",
    "sources",
    "heartbeats",
    "tests",
];
/// A list that a later version will know.
const LATER: &str = "slos";

/// What the files say.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) rules: RuleSet,
    pub(super) tests: Vec<RuleTest>,
    entities: catalog::Entities,
}

/// What is known beside the files themselves.
pub(super) struct Surroundings<'a> {
    pub(super) mode: Mode,
    pub(super) now: Timestamp,
    /// Destinations that http steps may reach; `None` = not known, so nothing is said about them.
    pub(super) http_allow: Option<&'a [String]>,
    /// Files whose names may be referred to, but which are not checked themselves.
    pub(super) neighbours: &'a [Source],
}

/// Reads rules from files that are in memory.
pub(super) fn collect(files: Files, surroundings: &Surroundings<'_>) -> Checked<Collected> {
    let revision = files.revision();
    let mut reader = Reader::new(&files.sources, surroundings.now);
    let mut collected = Collected::default();
    for (number, source) in files.sources.iter().enumerate() {
        reader.current = number;
        read_source(&mut reader, &source.text, &mut collected);
    }
    reader.borrow_names(surroundings.neighbours, surroundings.now);
    let entities = std::mem::take(&mut collected.entities);
    collected.rules.catalog = Arc::new(catalog::resolve(&mut reader, entities));
    // What a broken file does not tell would only look like further errors.
    if !reader.findings.iter().any(|it| it.code == Code::Syntax.as_str()) {
        notification::check_references(&mut reader);
    }
    each::check_calls(&mut reader, &collected.rules.runbooks);
    if !reader.has_error() {
        topology::warn_without_catalog(&mut reader, &collected.rules);
        let RuleSet { freezes, catalog, .. } = &collected.rules;
        freeze::warn_of_unknown_items(&mut reader, freezes, catalog);
        warn_of_unreached(&mut reader, &collected.rules);
    }
    if let Some(http_allow) = surroundings.http_allow {
        step::check_destinations(&mut reader, http_allow);
    }
    add_built_in(&mut collected.rules);
    time_interval::resolve(&mut collected.rules);
    collected.rules.revision = revision;
    collected.rules.mode = surroundings.mode;
    collected.rules.resolve_timeout_seconds = RESOLVE_TIMEOUT_SECONDS;
    let mut findings = files.findings;
    let count = files.sources.len() + findings.len();
    findings.append(&mut reader.findings);
    Checked::new(collected, findings, count)
}

/// Reads all documents of a file, or the one article.
pub(super) fn read_source(reader: &mut Reader<'_>, text: &str, collected: &mut Collected) {
    if reader.sources.get(reader.current).is_some_and(|it| article::is_article(&it.name)) {
        return article::read(reader, text, &mut collected.rules.articles);
    }
    let (documents, errors) = parse(text);
    for document in &documents {
        read_document(reader, document, collected);
    }
    reader.report_syntax(errors);
}

fn read_document(reader: &mut Reader<'_>, document: &Node, collected: &mut Collected) {
    if is_foreign(reader, document, collected) {
        return;
    }
    let Value::Map(_) = &document.value else {
        return reader.report_hint(
            document.place,
            Code::WrongKind,
            format!("expected a map of lists, found {}", document.kind()),
            "a file begins with a key such as `correlations:` or `runbooks:`",
        );
    };
    let Some(mut fields) = Fields::open(reader, document) else { return };
    let rules = &mut collected.rules;
    each(reader, &mut fields, "correlations", |reader, node| {
        rules.correlations.push(correlation::correlation(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "never_together", |reader, node| {
        rules.never_together.push(correlation::never_together(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "ignored_evidence", |reader, node| {
        rules.ignored_evidence.insert(correlation::ignored_evidence(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "priorities", |reader, node| {
        let number = rules.priorities.len() + 1;
        rules.priorities.push(correlation::priority(reader, node, number)?);
        Some(())
    });
    each(reader, &mut fields, "sla_policies", |reader, node| {
        rules.sla_policies.push(service_level::policy(reader, node)?);
        Some(())
    });
    read_suppression(reader, &mut fields, rules);
    each(reader, &mut fields, "receivers", |reader, node| {
        rules.receivers.push(notification::receiver(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "routes", |reader, node| {
        let number = rules.routes.len() + 1;
        rules.routes.push(notification::route(reader, node, number)?);
        Some(())
    });
    each(reader, &mut fields, "runbooks", |reader, node| {
        rules.runbooks.push(runbook::runbook(reader, node)?);
        Some(())
    });
    read_learned(reader, &mut fields, rules);
    each(reader, &mut fields, "sources", |reader, node| {
        rules.sources.push(source::source(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "heartbeats", |reader, node| {
        rules.heartbeats.push(heartbeat::heartbeat(reader, node)?);
        Some(())
    });
    each(reader, &mut fields, "tests", |reader, node| {
        collected.tests.push(rule_test(reader, node)?);
        Some(())
    });
    fields.later(reader, LATER);
    fields.finish(reader);
}

/// Reads what holds alerts, or changes, back.
fn read_suppression(reader: &mut Reader<'_>, fields: &mut Fields<'_>, rules: &mut RuleSet) {
    each(reader, fields, "time_intervals", |reader, node| {
        rules.time_intervals.push(time_interval::time_intervals(reader, node)?);
        Some(())
    });
    each(reader, fields, "inhibitions", |reader, node| {
        rules.inhibitions.push(inhibition::inhibition(reader, node)?);
        Some(())
    });
    each(reader, fields, "silences", |reader, node| {
        rules.silences.push(silence::silence(reader, node)?);
        Some(())
    });
    each(reader, fields, "maintenance", |reader, node| {
        rules.maintenance.push(maintenance::maintenance(reader, node)?);
        Some(())
    });
    each(reader, fields, "freezes", |reader, node| {
        rules.freezes.push(freeze::freeze(reader, node)?);
        Some(())
    });
}

/// Reads what is learned, and when.
fn read_learned(reader: &mut Reader<'_>, fields: &mut Fields<'_>, rules: &mut RuleSet) {
    each(reader, fields, "problem_detection", |reader, node| {
        rules.problem_detection.push(detection::detection(reader, node)?);
        Some(())
    });
    each(reader, fields, "forecasts", |reader, node| {
        rules.forecasts.push(forecast::forecast(reader, node)?);
        Some(())
    });
    each(reader, fields, "unusual_rates", |reader, node| {
        rules.unusual_rates.push(rate::unusual_rates(reader, node)?);
        Some(())
    });
}

/// Reads each entry of a list that may be left out.
fn each<'n>(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'n>,
    name: &'static str,
    mut read: impl FnMut(&mut Reader<'_>, &'n Node) -> Option<()>,
) {
    // `name:` with nothing behind it is a list whose entries are all commented out.
    let Some(node) = fields.optional(name).filter(|it| !it.is_null()) else { return };
    for item in reader.list(node) {
        // An entry that cannot be read has been reported.
        read(reader, item).unwrap_or_default();
    }
}

/// Documents of other tools, known by their `apiVersion`: read as they are or reported, for nothing
/// may be ignored.
fn is_foreign(reader: &mut Reader<'_>, document: &Node, collected: &mut Collected) -> bool {
    let mut entries = document.entries().iter();
    let Some((key, version)) = entries.find(|(key, _)| key.text == "apiVersion") else {
        return false;
    };
    let version = reader.text(version);
    let is_backstage = catalog::is_backstage(&version);
    if is_backstage {
        catalog::read_document(reader, document, &mut collected.entities);
    }
    let is_later = version.starts_with("openslo/");
    if is_later {
        reader.report_hint(
            key.place,
            Code::NotSupported,
            format!("not supported yet by this version: documents of `{version}`"),
            "move the file out of the rules folder for now",
        );
    }
    is_backstage || is_later
}

/// Warns of rules behind one that takes everything: they never decide.
fn warn_of_unreached(reader: &mut Reader<'_>, rules: &RuleSet) {
    let mut behind = rules.correlations.iter().skip_while(|it| !it.matchers.0.is_empty());
    let Some(catcher) = behind.next() else { return };
    for correlation in behind {
        let Some(position) = reader.position_of("correlation", &correlation.rule.name) else {
            continue;
        };
        let message = format!("never reached: {} takes every alert", catcher.rule);
        let hint = "put it in front; the order is that of file names, then of positions";
        reader.report_at(position, Code::NeverReached, &message, Some(hint.to_owned()));
    }
}

/// Adds what must be there and no file has.
fn add_built_in(rules: &mut RuleSet) {
    if rules.problem_detection.is_empty() {
        rules.problem_detection.push(detection::built_in());
    }
}
