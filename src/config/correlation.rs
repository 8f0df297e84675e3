//! `correlations:` and `priorities:`: how alerts become incidents, and how urgent these are.

use super::code::Code;
use super::expression::{self, Names};
use super::fields::Fields;
use super::reader::Reader;
use super::topology::topology;
use super::yaml::Node;
use crate::domain::correlation::{Way, requirement};
use crate::domain::flapping::FlappingRule;
use crate::domain::incident::Severity;
use crate::domain::matcher::Matchers;
use crate::domain::rules::{Correlation, NeverTogether, PriorityRule, RuleRef};
use std::sync::Arc;

/// An entry of `ignored_evidence`.
pub(super) fn ignored_evidence(reader: &mut Reader<'_>, node: &Node) -> Option<Way> {
    reader.word(node, &Way::ALL.map(|it| (it.as_str(), it)))
}

/// The title of an incident whose rule gives none.
pub(super) const TITLE: &str =
    "{{ labels.alertname }}{% if labels.service %} on {{ labels.service }}{% endif %}";
/// The most labels to group by.
const GROUP_BY_MAX: usize = 64;
/// The most changes after which an alert flaps.
const CHANGES_MAX: u64 = 1000;
const GAP_SECONDS: u32 = 5 * 60;
const MAX_SECONDS: u32 = 4 * 3600;
const REOPEN_WITHIN_SECONDS: u32 = 15 * 60;

/// A rule with nothing written but its name.
fn plain(rule: Arc<RuleRef>) -> Correlation {
    Correlation {
        rule,
        matchers: Matchers::default(),
        group_by: Vec::new(),
        topology: None,
        require: String::new(),
        gap_seconds: GAP_SECONDS,
        max_seconds: MAX_SECONDS,
        title: TITLE.to_owned(),
        severity: None,
        reopen_within_seconds: REOPEN_WITHIN_SECONDS,
        flapping: FlappingRule::default(),
        hold_open_seconds: 0,
        auto_resolve_seconds: 0,
    }
}

/// An entry of `correlations`.
pub(super) fn correlation(reader: &mut Reader<'_>, node: &Node) -> Option<Correlation> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("correlation", &mut fields);
    let mut correlation = plain(rule);
    correlation.matchers = reader.matchers(fields.optional("matchers"));
    if let Some(node) = fields.optional("group_by") {
        correlation.group_by = group_by(reader, node);
    }
    if let Some(node) = fields.optional("window") {
        window(reader, node, &mut correlation);
    }
    if let Some(node) = fields.optional("incident") {
        incident(reader, node, &mut correlation);
    }
    if let Some(node) = fields.optional("flapping") {
        flapping(reader, node, &mut correlation.flapping);
    }
    if let Some(node) = fields.optional("hold_open") {
        correlation.hold_open_seconds = reader.duration(node);
    }
    if let Some(node) = fields.optional("auto_resolve") {
        correlation.auto_resolve_seconds = reader.duration(node);
    }
    fields.optional("description").map(|it| reader.text(it));
    correlation.topology = fields.optional("topology").and_then(|it| topology(reader, it));
    if let Some(node) = fields.optional("require") {
        correlation.require = requirement(reader, node);
    }
    fields.finish(reader);
    Some(correlation)
}

/// A condition over an incident with an alert in it, tried on one that is made up.
fn requirement(reader: &mut Reader<'_>, node: &Node) -> String {
    let text = reader.filled_text(node);
    let known = expression::check_condition(&text, &requirement::NAMES);
    let checked = known.and_then(|()| {
        requirement::check(&text).map_err(|error| (format!("bad condition: {error}"), None))
    });
    if let Err((message, hint)) = checked {
        reader.report_at((reader.current, node.place), Code::BadCondition, &message, hint);
    }
    text
}

fn group_by(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = reader.short_list(node, GROUP_BY_MAX);
    let labels: Vec<String> = items.iter().map(|it| reader.text(it)).collect();
    for (index, label) in labels.iter().enumerate() {
        if labels.iter().take(index).any(|it| it == label) {
            reader.report(node.place, Code::BadValue, format!("the label `{label}` stands twice"));
        }
    }
    if labels.len() > 1 && labels.iter().any(|it| it == "...") {
        reader.report_hint(
            node.place,
            Code::BadValue,
            "`...` stands alone",
            "`['...']` groups by every label",
        );
    }
    labels
}

fn window(reader: &mut Reader<'_>, node: &Node, correlation: &mut Correlation) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    let gap = fields.optional("gap");
    let max = fields.optional("max");
    if let Some(node) = gap {
        correlation.gap_seconds = reader.duration(node);
    }
    if let Some(node) = max {
        correlation.max_seconds = reader.duration(node);
    }
    // One that is not written gives way to the other.
    match (gap, max) {
        (Some(_), Some(node)) if correlation.max_seconds < correlation.gap_seconds => {
            let message = "`max` is shorter than `gap`, so that `gap` means nothing";
            reader.report(node.place, Code::BadValue, message);
        }
        (Some(_), None) => {
            correlation.max_seconds = correlation.max_seconds.max(correlation.gap_seconds);
        }
        _ => correlation.gap_seconds = correlation.gap_seconds.min(correlation.max_seconds),
    }
    fields.finish(reader);
}

fn incident(reader: &mut Reader<'_>, node: &Node, correlation: &mut Correlation) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    if let Some(node) = fields.optional("title") {
        reader.filled_text(node);
        correlation.title = reader.template(node, &Names::of(&["labels", "annotations"]));
    }
    if let Some(node) = fields.optional("severity") {
        let words = [
            ("from_label", None),
            ("critical", Some(Severity::Critical)),
            ("error", Some(Severity::Error)),
            ("warning", Some(Severity::Warning)),
            ("info", Some(Severity::Info)),
        ];
        correlation.severity = reader.word(node, &words).flatten();
    }
    if let Some(node) = fields.optional("reopen_within") {
        correlation.reopen_within_seconds = reader.duration(node);
    }
    fields.finish(reader);
}

fn flapping(reader: &mut Reader<'_>, node: &Node, rule: &mut FlappingRule) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    let mut count = |reader: &mut Reader<'_>, name| {
        let node = fields.optional(name)?;
        u32::try_from(reader.integer(node, 0, CHANGES_MAX)).ok()
    };
    let (start, stop) = (count(reader, "start_changes"), count(reader, "stop_changes"));
    rule.start_changes = start.unwrap_or(rule.start_changes);
    rule.stop_changes = stop.unwrap_or(rule.start_changes / 2);
    if rule.start_changes > 0 && rule.stop_changes >= rule.start_changes {
        let message = "`stop_changes` must be less than `start_changes`";
        reader.report(node.place, Code::BadValue, message);
    }
    if let Some(node) = fields.optional("half_life") {
        rule.half_life_seconds = reader.duration(node);
    }
    fields.finish(reader);
}

/// An entry of `never_together`.
pub(super) fn never_together(reader: &mut Reader<'_>, node: &Node) -> Option<NeverTogether> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("pair of `never_together`", &mut fields);
    let one = fields.required(reader, "one");
    let other = fields.required(reader, "other");
    let (one, other) = (reader.matchers(one), reader.matchers(other));
    fields.finish(reader);
    Some(NeverTogether { rule, one, other })
}

/// An entry of `priorities`; it has no name, so it gets one from its position.
pub(super) fn priority(
    reader: &mut Reader<'_>,
    node: &Node,
    number: usize,
) -> Option<PriorityRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.rule_ref(format!("priority {number}"), node.place);
    let matchers = reader.matchers(fields.optional("matchers"));
    let mut level = |reader: &mut Reader<'_>, name| {
        let node = fields.optional(name)?;
        u8::try_from(reader.integer(node, 1, 3)).ok()
    };
    let (impact, urgency) = (level(reader, "impact"), level(reader, "urgency"));
    if impact.is_none() && urgency.is_none() {
        let message = "a priority rule sets `impact`, `urgency` or both";
        reader.report(node.place, Code::MissingField, message);
    }
    fields.finish(reader);
    Some(PriorityRule { rule, matchers, impact, urgency })
}
