//! The account of noise: what fired, what was held back, who was told, and whether anybody acted.
//!
//! An account is kept for each day of UTC, of each rule (the label `alertname`) and of the day as a
//! whole. Each thing is counted on the day on which it becomes known, so that only today's accounts
//! change: whether somebody acted on an incident is known when it is closed.

mod accounts;
mod advice;
mod lasted;
mod page;
mod recurring;
mod summary;
#[cfg(test)]
mod tests;

pub use accounts::Accounts;
pub use advice::{Advice, Change};
pub use lasted::Lasted;
pub use page::{HeardPages, Page, PageGroups};
pub use recurring::{Recurring, Series};
pub use summary::Summary;

use super::alert::Disposition;
use super::event::Command;
use super::execution::ExecutionId;
use super::incident::{Incident, IncidentId};
use super::label::{Fingerprint, Labels};
use super::notification::{Notification, NotificationState};
use super::rules::Occasion;
use super::{ObjectKey, State, seconds_between};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many rules a day has accounts of; the others share the one of [`OTHER`].
const RULES_MAX: usize = 500;
/// How many receivers a day tells apart on each side; the others share [`OTHER`].
const RECEIVERS_MAX: usize = 100;
/// Behind so many other rules an account tells a rule to come; the first ones.
const BEHIND_MAX: usize = 16;
/// The longest name that is kept, in bytes; a longer one is cut.
const NAME_BYTES_MAX: usize = 128;
/// The rule of alerts without a name.
const NAMELESS: &str = "(no name)";
/// What there was no more room for.
const OTHER: &str = "(other)";

/// A day of UTC, as the number of days since 1970-01-01. Written as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    const SECONDS: i64 = 24 * 3600;

    /// The day that a time is on.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(Self::SECONDS))
    }

    /// When it begins.
    pub fn begins_at(self) -> Timestamp {
        let seconds = self.0.saturating_mul(Self::SECONDS);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.begins_at().to_zoned(TimeZone::UTC).date().fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let date = Date::deserialize(deserializer)?;
        let at = date.to_zoned(TimeZone::UTC).map_err(serde::de::Error::custom)?;
        Ok(Self::of(at.timestamp()))
    }
}

/// What became of a rule's alerts on a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleAccount {
    /// How often an alert began to fire.
    pub fired: u64,
    /// How many of those times ended so; one that is let go counts a second time.
    pub became: BTreeMap<Disposition, u64>,
    /// How often one that was held back went on its way later.
    pub let_go: u64,
    /// How many incidents ended in which it was and on which somebody, or a runbook, acted.
    pub acted_on: u64,
    /// How many incidents ended in which it was and on which nobody and nothing acted.
    pub by_itself: u64,
    /// How many of an Alertmanager's pages it was in.
    pub heard: u64,
    /// How many of our notifications went out about incidents that it began.
    pub sent: u64,
    /// How many would have, had we not only observed.
    pub would_send: u64,
    /// How many of its alerts were the first of a kind that was never seen before.
    pub new: u64,
    /// How often its alerts joined an incident that an alert of another rule had begun, by that rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub behind: BTreeMap<String, u64>,
    /// How long its alerts fired.
    pub lasted: Lasted,
    /// Which of its alerts fired most often.
    pub series: Recurring,
}

impl RuleAccount {
    fn note(&mut self, disposition: Disposition) {
        *self.became.entry(disposition).or_default() += 1;
    }

    /// Counts that it came behind another rule.
    fn note_behind(&mut self, rule: &str) {
        let rule = short(rule);
        let has_room = self.behind.len() < BEHIND_MAX;
        if let Some(count) = self.behind.get_mut(rule) {
            *count += 1;
        } else if has_room {
            self.behind.insert(rule.to_owned(), 1);
        }
    }

    /// How many beginnings had this disposition.
    pub fn became(&self, disposition: Disposition) -> u64 {
        self.became.get(&disposition).copied().unwrap_or(0)
    }

    /// How many beginnings a silence, an inhibition or a maintenance window held back.
    pub fn held_back(&self) -> u64 {
        self.became.iter().filter(|(it, _)| it.is_held()).map(|(_, count)| count).sum()
    }
}

/// What happened on a day as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DayAccount {
    /// How many incidents were opened.
    pub incidents_opened: u64,
    /// How many ended on which somebody, or a runbook, acted.
    pub acted_on: u64,
    /// How many ended on which nobody and nothing acted.
    pub by_itself: u64,
    /// The pages of an Alertmanager beside us, by its receiver.
    pub heard: BTreeMap<String, HeardPages>,
    /// Our own notifications, by receiver and occasion.
    pub told: BTreeMap<String, BTreeMap<Occasion, ToldPages>>,
}

/// Our own notifications of one kind, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToldPages {
    /// Delivered.
    pub sent: u64,
    /// Not sent, because we only observe.
    pub would_send: u64,
    /// Given up.
    pub failed: u64,
    /// Held back by a mute until there was nothing to tell.
    pub muted: u64,
}

/// The name of a stored account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoiseKey {
    /// A day as a whole.
    Day(Day),
    /// A rule on a day.
    Rule(Day, Arc<str>),
    /// The groups that an Alertmanager told of and that are not over.
    Groups,
}

/// Prints `2026-11-23/day`, `2026-11-23/rule/DiskFull` or `groups`: those of a day stand together.
impl std::fmt::Display for NoiseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{day}/day"),
            Self::Rule(day, name) => write!(f, "{day}/rule/{name}"),
            Self::Groups => f.write_str("groups"),
        }
    }
}

/// An account as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// See [`NoiseKey::Day`].
    Day {
        /// Which day.
        day: Day,
        /// What happened.
        account: DayAccount,
    },
    /// See [`NoiseKey::Rule`].
    Rule {
        /// Which day.
        day: Day,
        /// The rule.
        name: Arc<str>,
        /// What became of its alerts.
        account: RuleAccount,
    },
    /// See [`NoiseKey::Groups`].
    Groups(PageGroups),
}

impl Account {
    /// Its name.
    pub fn key(&self) -> NoiseKey {
        match self {
            Self::Day { day, .. } => NoiseKey::Day(*day),
            Self::Rule { day, name, .. } => NoiseKey::Rule(*day, name.clone()),
            Self::Groups(_) => NoiseKey::Groups,
        }
    }
}

/// The rule that an alert comes from: its label `alertname`.
fn rule_of(labels: &Labels) -> &str {
    short(labels.get("alertname").unwrap_or(NAMELESS))
}

/// The first part of a name that came from outside.
fn short(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default()
}

/// The entry of a receiver, or the one that those without room share.
fn of_receiver<'a, T: Default>(by: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let name = short(name);
    let has_room = by.len() < RECEIVERS_MAX || by.contains_key(name);
    by.entry(if has_room { name } else { OTHER }.to_owned()).or_default()
}

impl State {
    /// An alert began to fire, and this became of it.
    pub(super) fn account_beginning(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        disposition: Disposition,
    ) {
        let first = self.alerts.get(&fingerprint).filter(|it| it.is_new && it.count == 1);
        let new = u64::from(first.is_some());
        self.account(now, (fingerprint, disposition), |it| {
            it.fired += 1;
            it.new += new;
            it.series.count(fingerprint);
        });
    }

    /// Nothing holds an alert back any more, and this became of it.
    pub(super) fn account_release(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        disposition: Disposition,
    ) {
        self.account(now, (fingerprint, disposition), |it| it.let_go += 1);
    }

    fn account(
        &mut self,
        now: Timestamp,
        (fingerprint, disposition): (Fingerprint, Disposition),
        write: impl FnOnce(&mut RuleAccount),
    ) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let rule = rule_of(&alert.labels);
        let joined = alert.incident.filter(|_| disposition == Disposition::Joined);
        let begun_by = joined.and_then(|it| self.incidents.get(&it)).map(|it| rule_of(&it.labels));
        self.noise.of_rule(now, rule, &mut self.changes, |it| {
            write(it);
            it.note(disposition);
            if let Some(other) = begun_by.filter(|it| *it != rule) {
                it.note_behind(other);
            }
        });
        if disposition == Disposition::Opened {
            self.noise.of_day(now, &mut self.changes, |it| it.incidents_opened += 1);
        }
    }

    /// An alert that fired is over.
    pub(super) fn account_end(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let seconds = seconds_between(alert.starts_at, alert.ends_at.unwrap_or(now));
        self.noise.of_rule(now, rule_of(&alert.labels), &mut self.changes, |it| {
            it.lasted.note(seconds);
        });
    }

    /// An incident is closed; its members are still at hand.
    pub(super) fn account_incident(&mut self, now: Timestamp, incident: &Incident) {
        let acted_on = u64::from(incident.acted_on);
        self.noise.of_day(now, &mut self.changes, |it| {
            it.acted_on += acted_on;
            it.by_itself += 1 - acted_on;
        });
        let members = self.members.get(&incident.id).into_iter().flatten();
        let rules: BTreeSet<&str> =
            members.filter_map(|it| self.alerts.get(it)).map(|it| rule_of(&it.labels)).collect();
        for rule in rules {
            self.noise.of_rule(now, rule, &mut self.changes, |it| {
                it.acted_on += acted_on;
                it.by_itself += 1 - acted_on;
            });
        }
    }

    /// A notification is delivered, or need not be.
    pub(super) fn account_told(&mut self, now: Timestamp, notification: &Notification) {
        let mut told = ToldPages::default();
        match notification.state {
            NotificationState::Pending => {}
            NotificationState::Delivered => told.sent = 1,
            NotificationState::WouldSend => told.would_send = 1,
            NotificationState::Dead => told.failed = 1,
            NotificationState::Muted => told.muted = 1,
        }
        self.noise.of_day(now, &mut self.changes, |it| {
            let receiver = of_receiver(&mut it.told, &notification.receiver);
            receiver.entry(notification.occasion).or_default().add(told);
        });
        let has_gone_out = told.sent + told.would_send > 0;
        if let Some(rule) = notification.alertname.as_ref().filter(|_| has_gone_out) {
            self.noise.of_rule(now, short(rule), &mut self.changes, |it| {
                it.sent += told.sent;
                it.would_send += told.would_send;
            });
        }
    }

    /// An Alertmanager beside us told people.
    pub(super) fn page_heard(&mut self, now: Timestamp, page: &Page) {
        let kind = self.noise.groups.take(now, page);
        self.changes.objects.insert(ObjectKey::Noise(NoiseKey::Groups));
        self.noise.of_day(now, &mut self.changes, |it| {
            of_receiver(&mut it.heard, &page.receiver).note(kind);
        });
        for rule in &page.rules {
            let rule = if rule.is_empty() { NAMELESS } else { short(rule) };
            self.noise.of_rule(now, rule, &mut self.changes, |it| it.heard += 1);
        }
    }

    /// A person did something; if it was about an incident, that incident was acted on.
    pub(super) fn note_order(&mut self, now: Timestamp, command: &Command) {
        if let Command::AcknowledgeIncident { incident }
        | Command::AssignIncident { incident, .. }
        | Command::NoteIncident { incident, .. }
        | Command::ResolveIncident { incident, .. }
        | Command::ReopenIncident { incident, .. }
        | Command::MergeIncidents { into: incident, .. }
        | Command::LinkIncident { incident, .. }
        | Command::UnlinkIncident { incident }
        | Command::LockIncident { incident, .. }
        | Command::UnlockIncident { incident }
        | Command::SplitIncident { incident, .. } = command
        {
            self.note_acted_on(*incident);
        }
        if matches!(command, Command::SplitIncident { .. }) {
            self.noise.of_day(now, &mut self.changes, |it| it.incidents_opened += 1);
        }
    }

    /// A runbook begins to run.
    pub(super) fn note_run(&mut self, execution: ExecutionId) {
        if let Some(id) = self.executions.get(&execution).and_then(|it| it.incident) {
            self.note_acted_on(id);
        }
    }

    fn note_acted_on(&mut self, id: IncidentId) {
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.acted_on = true;
            self.changes.objects.insert(ObjectKey::Incident(id));
        }
    }
}

impl ToldPages {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.would_send += other.would_send;
        self.failed += other.failed;
        self.muted += other.muted;
    }
}
