//! Runbooks that start by the clock, and proposals that nobody took up.

use super::{Execution, ExecutionId, ExecutionState, Occurrence};
use crate::domain::rules::{Runbook, TriggerSchedule};
use crate::domain::schedule::Schedule;
use crate::domain::{ObjectKey, State, later};
use jiff::Timestamp;

/// How long a proposal stands that belongs to no incident, in seconds; as long as a question does.
const PROPOSAL_SECONDS: i64 = 24 * 3600;

impl State {
    /// Schedules count from the hour in which they were first declared; what is not declared any more is
    /// forgotten.
    pub(in crate::domain) fn note_new_triggers(&mut self, now: Timestamp) {
        self.watch_incidents();
        let rules = self.rules.clone();
        let before = (self.memory.scheduled_at.clone(), self.memory.triggered.len());
        for runbook in rules.runbooks.iter().filter(|it| schedules(it).next().is_some()) {
            self.memory.scheduled_at.entry(runbook.rule.name.clone()).or_insert(now);
        }
        self.memory
            .scheduled_at
            .retain(|name, _| rules.runbook(name).is_some_and(|it| schedules(it).next().is_some()));
        self.memory.triggered.retain(|key, _| {
            key.rsplit_once('/').is_some_and(|(name, _)| rules.runbook(name).is_some())
        });
        if before != (self.memory.scheduled_at.clone(), self.memory.triggered.len()) {
            self.changes.objects.insert(ObjectKey::Memory);
        }
    }

    /// When a runbook's schedules want to be looked at.
    pub(in crate::domain) fn schedule_wants(
        &self,
        now: Timestamp,
        name: &str,
    ) -> Option<Timestamp> {
        let runbook = self.rules.runbook(name)?;
        let last = self.memory.scheduled_at.get(name).copied().unwrap_or(now);
        schedules(runbook).filter_map(|it| next_after(it, last)).min()
    }

    /// A time of a runbook's schedules has come, or came while nobody watched. Of several that are late
    /// one is made up for, and none that is too late: a restart at noon is not what was meant by one at
    /// night.
    pub(in crate::domain) fn schedule_due(&mut self, now: Timestamp, name: &str) {
        let rules = self.rules.clone();
        let Some(runbook) = rules.runbook(name) else { return };
        let last = self.memory.scheduled_at.insert(name.to_owned(), now).unwrap_or(now);
        self.changes.objects.insert(ObjectKey::Memory);
        let due = |it: &TriggerSchedule| {
            // The time itself still counts when it is just as late as it may be.
            let earliest = later(now, -i64::from(it.late_seconds) - 1);
            next_after(it, last.max(earliest)).filter(|it| *it <= now)
        };
        if let Some(at) = schedules(runbook).filter_map(due).min() {
            self.occurred_for(runbook, &Occurrence::Schedule(at));
        }
    }

    /// Nobody started what was proposed.
    pub(super) fn proposal_due(&mut self, now: Timestamp, id: ExecutionId) {
        let ends_at = self.executions.get(&id).and_then(Execution::proposal_ends_at);
        if ends_at.is_some_and(|it| self.held(it) <= now) {
            let why = format!("nobody started it within {} h", PROPOSAL_SECONDS / 3600);
            self.end_execution(now, id, ExecutionState::Denied, &why);
        }
    }
}

impl Execution {
    /// When it is proposed no more; one that belongs to an incident ends with that.
    pub(in crate::domain) fn proposal_ends_at(&self) -> Option<Timestamp> {
        let is_alone = self.state == ExecutionState::Proposed && self.incident.is_none();
        is_alone.then(|| later(self.created_at, PROPOSAL_SECONDS))
    }
}

fn schedules(runbook: &Runbook) -> impl Iterator<Item = &TriggerSchedule> {
    runbook.triggers.iter().filter_map(|it| it.schedule.as_ref())
}

fn next_after(schedule: &TriggerSchedule, after: Timestamp) -> Option<Timestamp> {
    Schedule::parse(&schedule.cron, &schedule.time_zone).ok()?.next_after(after)
}
