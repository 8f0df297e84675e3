//! Freezes: when nothing may be changed, by people or by runbooks.
//!
//! What files declare is a rule; what people make over the API is an object. Both have the same terms. A
//! change that begins in a freeze is marked, since we only hear of it; a run of a runbook is held back.

mod bound;
#[cfg(test)]
mod tests;

pub use bound::InFreeze;

use super::change::ChangeKind;
use super::incident::TimelineEntry;
use super::item::Catalog;
use super::matcher::Matchers;
use super::rules::RuleRef;
use super::time_interval::{self, TimeIntervals};
use super::timer::TimerKey;
use super::{Accepted, Closed, ObjectKey, Refusal, Reply, State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

super::numbered_id!(
    /// The number of a freeze that somebody made; printed `FRZ-2`.
    FreezeId,
    "FRZ"
);

/// When, for what and for whom a freeze holds. Without items and matchers it binds everything; with
/// both, what both mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreezeTerms {
    /// Names of items, with all that belongs to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// All must hold.
    #[serde(default)]
    pub matchers: Matchers,
    /// The kinds of changes that may be made all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<ChangeKind>,
    /// Who wants it.
    #[serde(default)]
    pub owner: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// From when on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Until when; the end is not part of it.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// If any, only within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
}

/// A freeze that a file declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreezeRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// When, and for what.
    pub terms: FreezeTerms,
}

/// A freeze that somebody made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its number.
    pub id: FreezeId,
    /// When, and for what.
    pub terms: FreezeTerms,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Who ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

/// Where a freeze is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeState {
    /// Not now.
    Pending,
    /// Now.
    Active,
    /// Never again.
    Expired,
}

impl FreezeState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Active, Self::Expired];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

/// A freeze, from wherever it is.
#[derive(Clone, Debug)]
pub struct AnyFreeze<'a> {
    /// The name in the file, or `FRZ-2`.
    pub id: String,
    /// When, and for what.
    pub terms: &'a FreezeTerms,
    /// Where it is written.
    pub rule: Option<&'a RuleRef>,
    /// What somebody made.
    pub made: Option<&'a Freeze>,
}

impl<'a> From<&'a FreezeRule> for AnyFreeze<'a> {
    fn from(it: &'a FreezeRule) -> Self {
        Self { id: it.rule.name.clone(), terms: &it.terms, rule: Some(&it.rule), made: None }
    }
}

impl<'a> From<&'a Freeze> for AnyFreeze<'a> {
    fn from(it: &'a Freeze) -> Self {
        Self { id: it.id.to_string(), terms: &it.terms, rule: None, made: Some(it) }
    }
}

/// How long a freeze that is over stays at hand, in seconds: changes of that time may be told late.
const KEPT_SECONDS: i64 = 24 * 3600;
/// So many that people made may be open.
const OPEN_MAX: usize = 1000;

impl FreezeTerms {
    /// Whether it is its time.
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.starts_at.is_none_or(|it| it <= at)
            && self.ends_at.is_none_or(|it| at < it)
            && (self.time_intervals.is_empty() || time_interval::contains(&self.time_intervals, at))
    }

    /// The first moment after another at which [`FreezeTerms::holds_at`] may change; `None` = never.
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let edges = [self.starts_at, self.ends_at].into_iter().flatten();
        let from = self.starts_at.map_or(after, |it| it.max(after));
        let recurring = time_interval::next_change(&self.time_intervals, from)
            .filter(|it| self.ends_at.is_none_or(|end| *it < end));
        edges.filter(|it| *it > after).chain(recurring).min()
    }

    /// Where it is.
    pub fn state(&self, now: Timestamp) -> FreezeState {
        if self.holds_at(now) {
            FreezeState::Active
        } else if self.next_change(now).is_some() {
            FreezeState::Pending
        } else {
            FreezeState::Expired
        }
    }

    /// The names that no item of the catalog has; without a catalog nothing can be said.
    pub fn unknown_items(&self, catalog: &Catalog) -> Vec<&str> {
        let is_unknown = |it: &&str| !catalog.is_empty() && catalog.find(it).is_none();
        self.items.iter().map(String::as_str).filter(is_unknown).collect()
    }
}

impl State {
    /// All freezes: those of files in their order, then those that people made.
    pub fn all_freezes(&self) -> impl Iterator<Item = AnyFreeze<'_>> {
        let written = self.rules.freezes.iter().map(AnyFreeze::from);
        written.chain(self.freezes.values().map(AnyFreeze::from))
    }

    /// Makes a freeze.
    pub(super) fn add_freeze(&mut self, now: Timestamp, by: &str, terms: &FreezeTerms) -> Reply {
        let refuse = |text: &str| Err(Refusal::Invalid(text.to_owned()));
        let Some(ends_at) = terms.ends_at else {
            return refuse("a freeze that somebody makes needs an end");
        };
        let starts_at = terms.starts_at.unwrap_or(now).max(now);
        if ends_at <= starts_at {
            return refuse("a freeze must end after its start and after now");
        }
        if terms.reason.trim().is_empty() {
            return refuse("a freeze needs a reason");
        }
        if self.freezes.values().filter(|it| it.terms.ends_at > Some(now)).count() >= OPEN_MAX {
            let text = format!("{OPEN_MAX} freezes are open already: end some of them first");
            return Err(Refusal::WrongState(text));
        }
        self.memory.freeze += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        let id = FreezeId(self.memory.freeze);
        let terms = FreezeTerms { starts_at: Some(starts_at), ..terms.clone() };
        let text = format!("from {starts_at:.0} until {ends_at:.0}: {}", terms.reason);
        let freeze =
            Freeze { id, terms, created_at: now, created_by: by.to_owned(), ended_by: None };
        self.freezes.insert(id, freeze);
        let key = ObjectKey::Freeze(id);
        self.log(key.clone(), TimelineEntry::new(now, "added", by, text));
        self.touch(now, key.clone());
        Ok(Accepted::Object(key))
    }

    /// Ends a freeze that somebody made.
    pub(super) fn end_freeze(&mut self, now: Timestamp, by: &str, name: &str) -> Reply {
        if self.rules.freezes.iter().any(|it| it.rule.name == name) {
            let text = format!("the freeze {name} is written in a file: take it out there");
            return Err(Refusal::WrongState(text));
        }
        let found = name.parse().ok().and_then(|id| self.freezes.get_mut(&id));
        let Some(freeze) = found else {
            return Err(Refusal::NotFound(format!("there is no freeze `{name}`")));
        };
        if freeze.terms.ends_at <= Some(now) {
            return Err(Refusal::WrongState(format!("the freeze {name} is over already")));
        }
        freeze.terms.ends_at = Some(now);
        freeze.terms.starts_at = freeze.terms.starts_at.min(Some(now));
        freeze.ended_by = Some(by.to_owned());
        let key = ObjectKey::Freeze(freeze.id);
        self.log(key.clone(), TimelineEntry::new(now, "ended", by, "ended by hand".to_owned()));
        self.touch(now, key.clone());
        Ok(Accepted::Object(key))
    }

    /// When a freeze need not be at hand any more.
    pub(super) fn freeze_wants(&self, id: FreezeId) -> Option<Timestamp> {
        let ends_at = self.freezes.get(&id)?.terms.ends_at?;
        Some(later(ends_at, KEPT_SECONDS))
    }

    /// Moves a freeze out of the state; views find it in the store.
    pub(super) fn close_freeze(&mut self, now: Timestamp, id: FreezeId) {
        if let Some(freeze) = self.freezes.remove(&id) {
            self.changes.closed.push(Closed::Freeze(Box::new(freeze)));
            self.set_timer(now, TimerKey::Freeze(id));
        }
    }
}
