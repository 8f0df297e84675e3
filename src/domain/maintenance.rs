//! Maintenance windows: when alerts are expected, because somebody works on the thing.

use super::alert::{Alert, AlertState};
use super::label::Fingerprint;
use super::rules::MaintenanceRule;
use super::timer::TimerKey;
use super::{ObjectKey, State, later, time_interval};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A flexible window that an alert has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When.
    pub at: Timestamp,
    /// When the time in which it may begin is over: before, it begins no second time.
    pub window_ends_at: Timestamp,
}

/// Where a maintenance window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceState {
    /// Not now.
    Pending,
    /// It is its time, but it is flexible and no alert has begun it.
    Waiting,
    /// Now.
    Active,
    /// Never again.
    Expired,
}

impl MaintenanceState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

impl MaintenanceRule {
    /// Whether a moment is in the times that the file tells.
    fn is_time(&self, at: Timestamp) -> bool {
        self.starts_at.is_none_or(|it| it <= at)
            && self.ends_at.is_none_or(|it| at < it)
            && (self.time_intervals.is_empty() || time_interval::contains(&self.time_intervals, at))
    }

    /// The first moment after another at which `MaintenanceRule::is_time` may change.
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let edges = [self.starts_at, self.ends_at].into_iter().flatten();
        let from = self.starts_at.map_or(after, |it| it.max(after));
        let recurring = time_interval::next_change(&self.time_intervals, from)
            .filter(|it| self.ends_at.is_none_or(|end| *it < end));
        edges.filter(|it| *it > after).chain(recurring).min()
    }

    /// When a run that was begun is over.
    fn over_at(&self, begun: Begun) -> Option<Timestamp> {
        self.flexible_seconds.map(|it| later(begun.at, i64::from(it)))
    }
}

impl State {
    /// Where a window is, and when it next begins or ends; `None` = never.
    pub fn maintenance_state(
        &self,
        now: Timestamp,
        rule: &MaintenanceRule,
    ) -> (MaintenanceState, Option<Timestamp>) {
        let next = self.runs_until(now, rule).or_else(|| rule.next_change(now));
        let phase = self.maintenance_phase(now, rule);
        if phase == MaintenanceState::Pending && next.is_none() {
            return (MaintenanceState::Expired, None);
        }
        (phase, next)
    }

    /// The same without looking ahead, which takes long: what is over for good is pending.
    fn maintenance_phase(&self, now: Timestamp, rule: &MaintenanceRule) -> MaintenanceState {
        if self.runs_until(now, rule).is_some() {
            return MaintenanceState::Active;
        }
        let begun = self.memory.maintenance_begun.get(&rule.rule.name);
        let is_used = begun.is_some_and(|it| now < it.window_ends_at);
        match (rule.is_time(now), rule.flexible_seconds) {
            (true, None) => MaintenanceState::Active,
            (true, Some(_)) if !is_used => MaintenanceState::Waiting,
            _ => MaintenanceState::Pending,
        }
    }

    /// Until when a flexible window runs that has begun.
    fn runs_until(&self, now: Timestamp, rule: &MaintenanceRule) -> Option<Timestamp> {
        let begun = self.memory.maintenance_begun.get(&rule.rule.name).copied();
        begun.and_then(|it| rule.over_at(it)).filter(|it| *it > now)
    }

    /// The windows that hold an alert back.
    pub(super) fn maintenance_for(&self, now: Timestamp, alert: &Alert) -> Vec<Arc<str>> {
        (self.rules.maintenance.iter())
            .filter(|it| it.matchers.matches(&alert.labels))
            .filter(|it| self.maintenance_phase(now, it) == MaintenanceState::Active)
            .map(|it| it.rule.name.as_str().into())
            .collect()
    }

    /// Begins the flexible windows that wait for an alert like this one.
    pub(super) fn begin_maintenance(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let rules = self.rules.clone();
        for rule in rules.maintenance.iter().filter(|it| it.flexible_seconds.is_some()) {
            let Some(alert) = self.alerts.get(&fingerprint) else { return };
            let waits = || self.maintenance_phase(now, rule) == MaintenanceState::Waiting;
            if !rule.matchers.matches(&alert.labels) || !waits() {
                continue;
            }
            let window_ends_at = rule.next_change(now).unwrap_or(Timestamp::MAX);
            let name = rule.rule.name.clone();
            self.memory.maintenance_begun.insert(name.clone(), Begun { at: now, window_ends_at });
            self.changes.objects.insert(ObjectKey::Memory);
            self.set_timer(now, TimerKey::Maintenance(name));
            self.look_at_maintained_again(now, &BTreeSet::from([rule.rule.name.as_str()]));
        }
    }

    /// Windows begin or end.
    pub(super) fn maintenance_due(&mut self, now: Timestamp, due: &BTreeSet<TimerKey>) {
        let names: BTreeSet<&str> = (due.iter())
            .filter_map(|it| if let TimerKey::Maintenance(it) = it { Some(&**it) } else { None })
            .collect();
        if names.is_empty() {
            return;
        }
        self.memory.maintenance_seen_at = Some(now);
        self.changes.objects.insert(ObjectKey::Memory);
        self.look_at_maintained_again(now, &names);
    }

    /// Looks again at the firing alerts that some windows hold or could hold.
    fn look_at_maintained_again(&mut self, now: Timestamp, names: &BTreeSet<&str>) {
        let rules = self.rules.clone();
        let concerned: Vec<&MaintenanceRule> =
            rules.maintenance.iter().filter(|it| names.contains(&*it.rule.name)).collect();
        let is_concerned = |alert: &Alert| {
            alert.decision.maintenance().iter().any(|it| names.contains(&**it))
                || concerned.iter().any(|it| it.matchers.matches(&alert.labels))
        };
        let alerts: Vec<Fingerprint> = (self.alerts.values())
            .filter(|it| it.state == AlertState::Firing && is_concerned(it))
            .map(|it| it.fingerprint)
            .collect();
        self.look_again(now, alerts);
    }

    /// Forgets the windows that are no longer declared.
    pub(super) fn forget_maintenance(&mut self) {
        let rules = self.rules.clone();
        let is_declared = |name: &str| rules.maintenance.iter().any(|it| it.rule.name == name);
        let before = self.memory.maintenance_begun.len();
        self.memory.maintenance_begun.retain(|name, _| is_declared(name));
        if self.memory.maintenance_begun.len() != before {
            self.changes.objects.insert(ObjectKey::Memory);
        }
    }

    /// The first moment that has not had its effect at which a window begins or ends.
    pub(super) fn maintenance_wants(&self, now: Timestamp, name: &str) -> Option<Timestamp> {
        let rule = self.rules.maintenance.iter().find(|it| it.rule.name == name)?;
        let seen_at = self.memory.maintenance_seen_at.unwrap_or(now).min(now);
        let begun = self.memory.maintenance_begun.get(name).copied();
        let over_at = begun.and_then(|it| rule.over_at(it)).filter(|it| *it > seen_at);
        over_at.into_iter().chain(rule.next_change(seen_at)).min()
    }
}
