//! What a freeze binds: which runs of runbooks it holds back, and which changes it marks.

use super::{AnyFreeze, FreezeTerms};
use crate::domain::State;
use crate::domain::change::{ChangeKind, ReceivedChange};
use crate::domain::execution::Execution;
use crate::domain::item::{Bindings, Catalog, ItemId};
use crate::domain::label::Labels;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So many parts of a whole are looked at.
const PARTS_MAX: usize = 4096;

/// A change began in a freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFreeze {
    /// The freeze's name or number.
    pub freeze: String,
    /// Whether the freeze allows changes of this kind.
    pub allowed: bool,
}

/// What is going to be changed, as far as it is known.
#[derive(Default)]
struct Target {
    /// Items of the catalog, with all that belongs to them.
    items: BTreeSet<ItemId>,
    /// Names as they are told, in lower case.
    names: BTreeSet<String>,
    labels: Labels,
}

impl Target {
    fn add_name(&mut self, catalog: &Catalog, name: &str) {
        self.names.insert(name.to_ascii_lowercase());
        if let Some(item) = catalog.find(name) {
            add_with_parts(catalog, item, &mut self.items);
        }
    }

    fn add_labels(&mut self, catalog: &Catalog, labels: &Labels) {
        for binding in catalog.bind(labels).iter() {
            add_with_parts(catalog, binding.item, &mut self.items);
        }
        let guess = Bindings::guess(labels);
        for name in [guess.service, guess.host].into_iter().flatten() {
            self.add_name(catalog, name);
        }
    }

    fn is_known(&self) -> bool {
        !self.items.is_empty() || !self.names.is_empty()
    }

    /// Whether a freeze names it, and by which name.
    fn named_by<'f>(&self, catalog: &Catalog, terms: &'f FreezeTerms) -> Option<&'f str> {
        let is_named = |name: &&String| match catalog.find(name) {
            Some(item) => {
                let mut frozen = BTreeSet::new();
                add_with_parts(catalog, item, &mut frozen);
                !frozen.is_disjoint(&self.items)
            }
            None => self.names.contains(&name.to_ascii_lowercase()),
        };
        terms.items.iter().find(is_named).map(String::as_str)
    }
}

/// An item and everything that belongs to it.
fn add_with_parts(catalog: &Catalog, item: ItemId, all: &mut BTreeSet<ItemId>) {
    let mut waiting = vec![item];
    while let Some(item) = waiting.pop() {
        if all.len() < PARTS_MAX && all.insert(item) {
            waiting.extend(catalog.parts(item));
        }
    }
}

impl State {
    /// Why a freeze holds a run of a runbook back; `None` = none does. Where it is not known what the
    /// run acts on, a freeze binds it.
    pub(in crate::domain) fn freeze_that_holds(
        &self,
        now: Timestamp,
        execution: &Execution,
    ) -> Option<String> {
        let kind = execution.change_kind();
        let in_force =
            |it: &AnyFreeze<'_>| it.terms.holds_at(now) && !it.terms.allow.contains(&kind);
        let mut freezes = self.all_freezes().filter(in_force).peekable();
        freezes.peek()?;
        let target = self.target_of(execution);
        freezes.find_map(|it| self.why_bound(now, &it, &target))
    }

    fn why_bound(&self, now: Timestamp, freeze: &AnyFreeze<'_>, target: &Target) -> Option<String> {
        let terms = freeze.terms;
        let what = if terms.items.is_empty() {
            None
        } else if target.is_known() {
            Some(format!("`{}`", target.named_by(&self.rules.catalog, terms)?))
        } else {
            Some("it, as it is not known what the run acts on".to_owned())
        };
        if !terms.matchers.0.is_empty()
            && !target.labels.is_empty()
            && !terms.matchers.matches(&target.labels)
        {
            return None;
        }
        let what = what.unwrap_or_else(|| match terms.matchers.0.is_empty() {
            true => "everything".to_owned(),
            false if target.labels.is_empty() => "it, as no labels tell what it acts on".to_owned(),
            false => "what has these labels".to_owned(),
        });
        let name = freeze.rule.map_or_else(|| freeze.id.clone(), ToString::to_string);
        let until = terms.next_change(now).map_or_else(String::new, |it| format!(" until {it:.0}"));
        let reason = if terms.reason.is_empty() { "" } else { ": " };
        let allowed: Vec<&str> = terms.allow.iter().map(|it| it.as_str()).collect();
        let allowed = if allowed.is_empty() {
            String::new()
        } else {
            format!("; it allows what is {}", allowed.join(", "))
        };
        Some(format!("the freeze {name} binds {what}{until}{reason}{}{allowed}", terms.reason))
    }

    /// What a run acts on: what its incident is about, and what its parameters name.
    fn target_of(&self, execution: &Execution) -> Target {
        let catalog = &*self.rules.catalog;
        let mut target = Target::default();
        let incident = execution.incident.and_then(|it| self.incidents.get(&it));
        for service in incident.iter().flat_map(|it| &it.services) {
            target.add_name(catalog, service);
        }
        let parameters = Labels::from_pairs(&execution.parameters);
        for labels in [&execution.context.labels, &parameters] {
            target.add_labels(catalog, labels);
        }
        for value in execution.parameters.values().filter(|it| catalog.find(it).is_some()) {
            target.add_name(catalog, value);
        }
        // A label of the incident goes before a parameter of the same name.
        let all = parameters.iter().chain(execution.context.labels.iter());
        target.labels = Labels::from_pairs(all);
        target
    }

    /// The freezes in which a change began. What is not known to be bound is not marked.
    pub(in crate::domain) fn freezes_of_change(
        &self,
        source: &str,
        told: &ReceivedChange,
    ) -> Vec<InFreeze> {
        let Some(at) = told.time else { return Vec::new() };
        let mut in_force = self.all_freezes().filter(|it| it.terms.holds_at(at)).peekable();
        if in_force.peek().is_none() {
            return Vec::new();
        }
        let catalog = &*self.rules.catalog;
        let mut target = Target::default();
        if !told.service.is_empty() {
            target.add_name(catalog, &told.service);
        }
        let labels = [
            ("service", &*told.service),
            ("environment", &told.environment),
            ("version", &told.version),
            ("author", &told.author),
            ("kind", told.kind.as_str()),
            ("source", source),
        ];
        let labels = Labels::from_pairs(labels.into_iter().filter(|it| !it.1.is_empty()));
        let is_bound = |it: &AnyFreeze<'_>| {
            (it.terms.items.is_empty() || target.named_by(catalog, it.terms).is_some())
                && it.terms.matchers.matches(&labels)
        };
        in_force
            .filter(is_bound)
            .map(|it| InFreeze { allowed: it.terms.allow.contains(&told.kind), freeze: it.id })
            .collect()
    }
}

impl InFreeze {
    /// In a sentence.
    pub fn text(&self, kind: ChangeKind) -> String {
        let word = if self.allowed { "allows" } else { "does not allow" };
        format!("it began in the freeze {}, which {word} {} changes", self.freeze, kind.as_str())
    }
}

impl Execution {
    /// What kind of change a run is: one that was decided once for all of its kind, unless a person
    /// orders it in an emergency.
    pub fn change_kind(&self) -> ChangeKind {
        if self.is_emergency { ChangeKind::Emergency } else { ChangeKind::Standard }
    }
}
