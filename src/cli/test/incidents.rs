//! Incidents in a test: whether they are as they should be, and how they are told.

use crate::config::ExpectedIncident;
use crate::domain::incident::Incident;
use crate::domain::service_level::{ClockState, SlaClock, TargetKind};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Whether an incident is as expected.
pub(super) fn fits(wanted: &ExpectedIncident, it: &Incident) -> bool {
    wanted.id.is_none_or(|id| id == it.id)
        && wanted.state.is_none_or(|state| state == it.state)
        && wanted.alert_count.is_none_or(|count| count == it.alert_count)
        && wanted.rule.as_ref().is_none_or(|rule| *rule == it.opened_by.name)
        && wanted.title.as_ref().is_none_or(|title| *title == it.title)
        && wanted.severity.is_none_or(|severity| severity == it.severity)
        && wanted.priority.is_none_or(|priority| priority == it.priority)
        && wanted.problem.is_none_or(|problem| Some(problem) == it.problem)
        && wanted.sla.iter().all(|wanted| it.sla.iter().any(|it| (it.target, it.state) == *wanted))
        && wanted.impacted.as_ref().is_none_or(|names| *names == impacted(it))
        && wanted.parent.is_none_or(|parent| Some(parent) == it.parent)
        && wanted.children.as_ref().is_none_or(|children| *children == it.children)
        && wanted.root_cause.as_ref().is_none_or(|name| root_cause(it) == Some(name))
}

fn impacted(it: &Incident) -> BTreeSet<String> {
    let items = it.impacted.iter().flat_map(|it| &it.items);
    items.map(|it| it.item.clone()).collect()
}

fn root_cause(it: &Incident) -> Option<&String> {
    it.root_causes.first().map(|it| &it.item)
}

/// What is expected, for people.
pub(super) fn wanted(wanted: &ExpectedIncident) -> String {
    let mut parts = Vec::new();
    parts.extend(wanted.id.map(|it| it.to_string()));
    parts.extend(wanted.state.map(|it| it.as_str().to_owned()));
    parts.extend(wanted.title.as_ref().map(|it| format!("`{it}`")));
    parts.extend(wanted.severity.map(|it| it.as_str().to_owned()));
    parts.extend(wanted.priority.map(|it| it.to_string()));
    parts.extend(wanted.alert_count.map(|it| format!("alert_count {it}")));
    parts.extend(wanted.rule.as_ref().map(|it| format!("rule {it}")));
    let clock = |(target, state): &(TargetKind, ClockState)| {
        format!("{} {}", target.as_str(), state.as_str())
    };
    parts.extend(wanted.sla.iter().map(clock));
    parts.extend(wanted.problem.map(|it| format!("of {it}")));
    parts.extend(wanted.impacted.as_ref().map(|it| format!("impacted [{}]", joined(it))));
    parts.extend(wanted.parent.map(|it| format!("part of {it}")));
    parts.extend(wanted.children.as_ref().map(|it| format!("children [{}]", joined(it))));
    parts.extend(wanted.root_cause.as_ref().map(|it| format!("root cause {it}")));
    parts.join(" ")
}

/// An incident that is there, for people.
pub(super) fn told(it: &Incident) -> String {
    let clock = |it: &SlaClock| format!("{} {}", it.target.as_str(), it.state.as_str());
    let mut parts = vec![
        format!("{} {} `{}` {}", it.id, it.state.as_str(), it.title, it.severity.as_str()),
        format!("{} alert_count {} rule {}", it.priority, it.alert_count, it.opened_by.name),
    ];
    parts.extend(it.sla.iter().map(clock));
    parts.extend(it.problem.map(|it| format!("of {it}")));
    let impacted = impacted(it);
    parts.extend((!impacted.is_empty()).then(|| format!("impacted [{}]", joined(&impacted))));
    parts.extend(it.parent.map(|it| format!("part of {it}")));
    let children = &it.children;
    parts.extend((!children.is_empty()).then(|| format!("children [{}]", joined(children))));
    parts.extend(root_cause(it).map(|it| format!("root cause {it}")));
    parts.join(" ")
}

fn joined<T: Display>(all: &BTreeSet<T>) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
