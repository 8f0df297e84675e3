//! When each object wants to be looked at again: the one list of times that the engine sleeps by.

use super::alert::{Alert, AlertState};
use super::change::ChangeId;
use super::execution::{Execution, ExecutionId, ExecutionState};
use super::freeze::FreezeId;
use super::incident::{IncidentId, IncidentState};
use super::label::Fingerprint;
use super::notification::{NotificationId, NotificationState};
use super::problem::{Problem, ProblemId};
use super::schedule::Schedule;
use super::{ObjectKey, State, later};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose time it is. The order is the order of work when several are due at once: alerts before
/// incidents, so that an incident whose last alert expires is resolved in the same turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    Silence(Arc<str>),
    Maintenance(String),
    Alert(Fingerprint),
    Incident(IncidentId),
    Execution(ExecutionId),
    Notification(NotificationId),
    Heartbeat(Arc<str>),
    Change(ChangeId),
    Freeze(FreezeId),
    Problem(ProblemId),
    Detection(String),
    Schedule(String),
}

/// At most one time for each object.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeSet<(Timestamp, TimerKey)>,
    by_key: BTreeMap<TimerKey, Timestamp>,
    /// Those of alerts, which are most of all; each alert knows its own ([`Alert::due_at`]).
    alerts: BTreeSet<(Timestamp, Fingerprint)>,
}

impl Timers {
    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let of_alerts = self.alerts.first().map(|(at, _)| *at);
        self.due.first().map(|(at, _)| *at).into_iter().chain(of_alerts).min()
    }

    /// Sets or removes an object's time.
    fn set(&mut self, key: TimerKey, at: Option<Timestamp>) {
        // Most changes to an object leave its time as it is.
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.due.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, key.clone()));
            self.by_key.insert(key, at);
        }
    }

    /// Sets or removes an alert's time.
    fn set_alert(&mut self, alert: &mut Alert, at: Option<Timestamp>) {
        if alert.due_at == at {
            return;
        }
        if let Some(old) = alert.due_at {
            self.alerts.remove(&(old, alert.fingerprint));
        }
        alert.due_at = at;
        self.alerts.extend(at.map(|it| (it, alert.fingerprint)));
    }

    /// Takes out everything that is due; of an alert only the caller can take away its own time.
    fn take_due(&mut self, now: Timestamp) -> BTreeSet<TimerKey> {
        let mut taken = BTreeSet::new();
        while let Some((at, fingerprint)) = self.alerts.first().copied() {
            if at > now {
                break;
            }
            self.alerts.pop_first();
            taken.insert(TimerKey::Alert(fingerprint));
        }
        while let Some((at, key)) = self.due.first().cloned() {
            if at > now {
                break;
            }
            self.due.pop_first();
            self.by_key.remove(&key);
            taken.insert(key);
        }
        taken
    }
}

impl State {
    /// Looks at every object whose time has come.
    pub(super) fn wake(&mut self, now: Timestamp) {
        let due = self.timers.take_due(now);
        for key in &due {
            if let TimerKey::Alert(fingerprint) = key
                && let Some(alert) = self.alerts.get_mut(fingerprint)
            {
                alert.due_at = None;
            }
        }
        self.silences_due(now, &due);
        self.maintenance_due(now, &due);
        for key in due {
            match &key {
                // All of them were looked at together.
                TimerKey::Silence(_) | TimerKey::Maintenance(_) => {}
                TimerKey::Alert(fingerprint) => self.alert_due(now, *fingerprint),
                TimerKey::Incident(id) => self.incident_due(now, *id),
                TimerKey::Execution(id) => self.execution_due(now, *id),
                TimerKey::Notification(id) => self.notification_due(now, *id),
                TimerKey::Heartbeat(name) => self.heartbeat_due(now, name),
                TimerKey::Change(id) => self.close_change(now, *id),
                TimerKey::Freeze(id) => self.close_freeze(now, *id),
                TimerKey::Problem(id) => self.problem_due(now, *id),
                TimerKey::Detection(name) => self.detection_due(now, name),
                TimerKey::Schedule(runbook) => self.schedule_due(now, runbook),
            }
            self.set_timer(now, key);
        }
    }

    /// Notes that an alert changed: its page is written, its time is set anew.
    pub(super) fn touch_alert(&mut self, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        self.changes.pages.insert(alert.page);
        self.set_alert_timer(fingerprint);
    }

    fn set_alert_timer(&mut self, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let at = self.alert_at(alert);
        // Most changes to an object leave its time as it is.
        if alert.due_at != at
            && let Some(alert) = self.alerts.get_mut(&fingerprint)
        {
            self.timers.set_alert(alert, at);
        }
    }

    /// Notes that an object changed: it is written, its time is set anew.
    pub(super) fn touch(&mut self, now: Timestamp, key: ObjectKey) {
        let timer = match &key {
            ObjectKey::Incident(id) => Some(TimerKey::Incident(*id)),
            ObjectKey::Execution(id) => Some(TimerKey::Execution(*id)),
            ObjectKey::Silence(id) => Some(TimerKey::Silence(id.clone())),
            ObjectKey::Notification(id) => Some(TimerKey::Notification(*id)),
            ObjectKey::Heartbeat(name) => Some(TimerKey::Heartbeat(name.clone())),
            ObjectKey::Change(id) => Some(TimerKey::Change(*id)),
            ObjectKey::Freeze(id) => Some(TimerKey::Freeze(*id)),
            ObjectKey::Problem(id) => Some(TimerKey::Problem(*id)),
            ObjectKey::Article(_)
            | ObjectKey::Feedback(_)
            | ObjectKey::Alert(_)
            | ObjectKey::Noise(_)
            | ObjectKey::Experience(_)
            | ObjectKey::LearnedPlace(_)
            | ObjectKey::Habit(_)
            | ObjectKey::Audit(_)
            | ObjectKey::Memory
            | ObjectKey::Rules => None,
        };
        if let ObjectKey::Incident(id) = key {
            self.watched.touch(id);
        }
        self.changes.objects.insert(key);
        if let Some(timer) = timer {
            self.set_timer(now, timer);
        }
    }

    /// Sets every time anew, after loading or when a hold begins.
    pub(super) fn rebuild_timers(&mut self, now: Timestamp) {
        let wanted: Vec<_> = self.alerts.values().map(|it| self.alert_at(it)).collect();
        let mut of_alerts = Vec::with_capacity(wanted.len());
        for (alert, at) in self.alerts.values_mut().zip(wanted) {
            alert.due_at = at;
            of_alerts.extend(at.map(|it| (it, alert.fingerprint)));
        }
        let keys = (self.incidents.keys().map(|it| TimerKey::Incident(*it)))
            .chain(self.executions.keys().map(|it| TimerKey::Execution(*it)))
            .chain(self.notifications.keys().map(|it| TimerKey::Notification(*it)))
            .chain(self.change_log.open.keys().map(|it| TimerKey::Change(*it)))
            .chain(self.freezes.keys().map(|it| TimerKey::Freeze(*it)))
            .chain(self.problems.keys().map(|it| TimerKey::Problem(*it)))
            .chain(self.silences.keys().map(|it| TimerKey::Silence(it.clone())))
            .chain(self.heartbeat_timers())
            .chain(self.rule_timers());
        // All at once, which takes half the time of one by one.
        let by_key: BTreeMap<TimerKey, Timestamp> =
            keys.filter_map(|key| Some((key.clone(), self.wanted_at(now, &key)?))).collect();
        let due = by_key.iter().map(|(key, at)| (*at, key.clone())).collect();
        self.timers = Timers { due, by_key, alerts: of_alerts.into_iter().collect() };
    }

    /// Sets the times of what only rules declare anew, when these change.
    pub(super) fn set_rule_timers(&mut self, now: Timestamp) {
        let gone: Vec<TimerKey> =
            (self.timers.by_key.keys()).filter(|it| is_of_rules(it)).cloned().collect();
        for key in gone {
            self.timers.set(key, None);
        }
        for key in self.rule_timers().collect::<Vec<_>>() {
            self.set_timer(now, key);
        }
    }

    fn rule_timers(&self) -> impl Iterator<Item = TimerKey> {
        let detections = self.rules.problem_detection.iter().map(|it| it.rule.name.clone());
        let maintenance = self.rules.maintenance.iter().map(|it| it.rule.name.clone());
        let runbooks = self.rules.runbooks.iter().map(|it| it.rule.name.clone());
        (detections.map(TimerKey::Detection))
            .chain(maintenance.map(TimerKey::Maintenance))
            .chain(runbooks.map(TimerKey::Schedule))
    }

    pub(super) fn set_timer(&mut self, now: Timestamp, key: TimerKey) {
        if let TimerKey::Alert(fingerprint) = key {
            return self.set_alert_timer(fingerprint);
        }
        let at = self.wanted_at(now, &key);
        self.timers.set(key, at);
    }

    /// Takes away the time of an alert that leaves the state.
    pub(super) fn end_timer(&mut self, alert: &mut Alert) {
        self.timers.set_alert(alert, None);
    }

    fn wanted_at(&self, now: Timestamp, key: &TimerKey) -> Option<Timestamp> {
        match key {
            TimerKey::Silence(id) => self.silence_wants(id),
            TimerKey::Maintenance(name) => self.maintenance_wants(now, name),
            TimerKey::Alert(fingerprint) => self.alert_wants(*fingerprint),
            TimerKey::Incident(id) => self.incident_wants(*id),
            TimerKey::Execution(id) => self.execution_wants(*id),
            TimerKey::Notification(id) => (self.notifications.get(id))
                .filter(|it| it.state == NotificationState::Pending)
                .and_then(|it| it.retry_at),
            TimerKey::Heartbeat(name) => self.heartbeat_wants(now, name),
            TimerKey::Change(id) => self.change_wants(*id),
            TimerKey::Freeze(id) => self.freeze_wants(*id),
            TimerKey::Problem(id) => self.problems.get(id).and_then(Problem::warns_at),
            TimerKey::Detection(name) => self.detection_wants(now, name),
            TimerKey::Schedule(runbook) => self.schedule_wants(now, runbook),
        }
    }

    /// Moves a time behind the hold, see [`super::Memory::hold_until`].
    pub(super) fn held(&self, at: Timestamp) -> Timestamp {
        self.memory.hold_until.map_or(at, |hold| at.max(hold))
    }

    pub(super) fn alert_wants(&self, fingerprint: Fingerprint) -> Option<Timestamp> {
        self.alert_at(self.alerts.get(&fingerprint)?)
    }

    fn alert_at(&self, alert: &Alert) -> Option<Timestamp> {
        let own = match alert.state {
            // Each word that runs out counts, because the alert is over when the last has.
            AlertState::Firing => {
                let words = alert.reports.iter().filter(|it| it.firing);
                let expiry = words.filter_map(|it| it.expires_at).min().map(|it| self.held(it));
                let free = alert.decision.inhibited_by().and_then(|it| it.until);
                expiry.into_iter().chain(free).min()
            }
            AlertState::Resolved | AlertState::Expired => {
                let is_member = alert.incident.is_some_and(|it| self.incidents.contains_key(&it));
                let ended = alert.ends_at.unwrap_or(alert.updated_at).max(alert.updated_at);
                (!is_member).then(|| later(ended, super::alert::KEPT_SECONDS))
            }
        };
        own.into_iter().chain(self.unrest_wants(alert)).min()
    }

    fn incident_wants(&self, id: IncidentId) -> Option<Timestamp> {
        let incident = self.incidents.get(&id)?;
        let clock = incident.sla.iter().filter_map(super::service_level::SlaClock::wants).min();
        let close = match (incident.state, incident.resolved_at) {
            // An incident that a person resolved stays while its alerts fire: they must not
            // open another one behind his back, nor vanish.
            (IncidentState::Resolved, Some(at)) if incident.firing_count == 0 => {
                Some(later(at, i64::from(incident.reopen_within_seconds)))
            }
            _ => None,
        };
        let parts = incident.look_for_parts_at;
        clock.into_iter().chain(parts).map(|it| self.held(it)).chain(close).min()
    }

    fn execution_wants(&self, id: ExecutionId) -> Option<Timestamp> {
        let execution = self.executions.get(&id)?;
        let deadline = execution.live_deadline().map(|it| self.held(it));
        deadline.into_iter().chain(self.work_wants(execution)).min()
    }

    fn work_wants(&self, execution: &Execution) -> Option<Timestamp> {
        match execution.state {
            ExecutionState::Running => execution.steps.iter().filter_map(|it| it.retry_at).min(),
            // Only a failure is held: that it helped is no surprise.
            ExecutionState::Verifying => {
                let (round, deadline) = execution.verification_wants()?;
                round.into_iter().chain([self.held(deadline)]).min()
            }
            ExecutionState::WaitingApproval => {
                let question = execution.question.as_ref()?;
                let expires_at = question.expires_at.map(|it| self.held(it));
                expires_at.into_iter().chain(question.remind_at).min()
            }
            ExecutionState::Proposed => execution.proposal_ends_at().map(|it| self.held(it)),
            ExecutionState::Unknown | ExecutionState::Stuck => None,
            ExecutionState::Succeeded
            | ExecutionState::Ineffective
            | ExecutionState::Failed
            | ExecutionState::Undone
            | ExecutionState::Blocked
            | ExecutionState::Denied
            | ExecutionState::Aborted
            | ExecutionState::WouldRun => {
                (!execution.is_under_way()).then(|| execution.remembered_until())
            }
        }
    }

    fn detection_wants(&self, now: Timestamp, name: &str) -> Option<Timestamp> {
        let detection = self.rules.problem_detection.iter().find(|it| it.rule.name == name)?;
        let schedule = Schedule::parse(&detection.cron, &detection.time_zone).ok()?;
        // A slot that was missed while nobody watched is made up for at once, but only one.
        let last = self.memory.detected_at.get(name).copied().unwrap_or(now);
        schedule.next_after(last)
    }
}

/// Whether a time is of what only rules declare.
fn is_of_rules(key: &TimerKey) -> bool {
    matches!(key, TimerKey::Detection(_) | TimerKey::Maintenance(_) | TimerKey::Schedule(_))
}
