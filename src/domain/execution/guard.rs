//! What holds an execution back: each guard says no with its reason.
//!
//! A guard looks at what is known, and what it cannot know holds back, too. A run that a person
//! orders or says yes to passes those that only stand in for a person's judgement.

use super::{Blocked, Check, Execution, ExecutionId, ExecutionState, Part, StepRun, StepState};
use crate::domain::planted::{self, Bug};
use crate::domain::rules::Occasion;
use crate::domain::{Count, ObjectKey, State, later};
use jiff::Timestamp;

/// One guard: the reason why it holds a run back, if it does.
type Guard = fn(&State, Timestamp, &Execution) -> Option<String>;

/// All guards, by name, in the order in which they are asked.
const GUARDS: [(&str, Guard); 9] = [
    ("stopped", State::stop_holds),
    ("freeze", State::freeze_that_holds),
    ("lock", State::lock_holds),
    ("by_hand", State::work_by_hand_holds),
    ("breaker", State::breaker_holds),
    ("cooldown", State::cooldown_holds),
    ("max_runs", State::runs_hold),
    ("at_once", State::runs_at_once_hold),
    ("blast_radius", State::blast_radius_holds),
];

/// The names of all that may hold a run back: the guards, in the order in which they are asked, what it
/// needs, and what is wrong with its rules or its question.
pub const GUARD_NAMES: [&str; 15] = [
    "stopped",
    "freeze",
    "lock",
    "by_hand",
    "breaker",
    "cooldown",
    "max_runs",
    "at_once",
    "blast_radius",
    PRECONDITION,
    "when",
    "quota",
    "parameter",
    "template",
    "incident_closed",
];

/// The guard that looks whether what a run needs is well.
const PRECONDITION: &str = "precondition";

impl State {
    /// Starts an execution, if no guard holds it back.
    pub(in crate::domain) fn try_start(&mut self, now: Timestamp, id: ExecutionId) {
        if let Some(blocked) = self.guard_that_holds(now, id) {
            let is_breaker = blocked.guard == "breaker";
            let reason = blocked.reason.clone();
            self.block(now, id, blocked);
            if is_breaker {
                self.tell_of_breaker(now, id, &reason);
            }
            return;
        }
        if self.executions.get(&id).is_some_and(Execution::must_look) {
            return self.look_before(now, id);
        }
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.state = ExecutionState::Running;
            execution.started_at = Some(now);
            execution.set_deadline(now);
            "running".clone_into(&mut execution.why);
        }
        self.log_execution(now, id, "", "started");
        self.note_run(id);
        self.record_run(now, id);
        self.proceed(now, id);
    }

    /// What it needs is looked at before anything is done, and that takes time.
    fn look_before(&mut self, now: Timestamp, id: ExecutionId) {
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.state = ExecutionState::Running;
            "looking whether it may begin".clone_into(&mut execution.why);
        }
        self.log_execution(now, id, "", "looks whether it may begin");
        self.touch(now, ObjectKey::Execution(id));
        self.proceed(now, id);
    }

    /// A precondition was looked at. After the last of them the guards are asked again: things may
    /// have changed meanwhile.
    pub(super) fn precondition_over(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        (holds, text): (bool, &str),
    ) {
        self.touch(now, ObjectKey::Execution(id));
        if !holds {
            let guard = PRECONDITION.to_owned();
            self.block(now, id, Blocked { guard, reason: text.to_owned() });
        } else if !self.executions.get(&id).is_some_and(Execution::must_look) {
            self.try_start(now, id);
        }
    }

    /// The first guard that holds an execution back.
    pub(super) fn guard_that_holds(&self, now: Timestamp, id: ExecutionId) -> Option<Blocked> {
        let execution = self.executions.get(&id)?;
        GUARDS.iter().find_map(|(name, guard)| {
            let reason = guard(self, now, execution)?;
            Some(Blocked { guard: (*name).to_owned(), reason })
        })
    }

    /// What each guard says of an execution.
    pub(super) fn checks(&self, now: Timestamp, id: ExecutionId) -> Vec<Check> {
        let Some(execution) = self.executions.get(&id) else { return Vec::new() };
        let check = |(name, guard): &(&str, Guard)| Check {
            guard: (*name).to_owned(),
            reason: guard(self, now, execution),
        };
        GUARDS.iter().map(check).collect()
    }

    pub(super) fn block(&mut self, now: Timestamp, id: ExecutionId, blocked: Blocked) {
        let is_known = GUARD_NAMES.contains(&blocked.guard.as_str());
        debug_assert!(is_known, "a guard without a name in the list: {}", blocked.guard);
        let why = format!("held back by {}: {}", blocked.guard, blocked.reason);
        self.turn.counts.push(Count::RunbookBlocked(blocked.guard.clone()));
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.blocked_by = Some(blocked);
        }
        self.end_execution(now, id, ExecutionState::Blocked, &why);
    }

    /// The fix does not last: people are told instead.
    fn tell_of_breaker(&mut self, now: Timestamp, id: ExecutionId, reason: &str) {
        let Some(execution) = self.executions.get(&id) else { return };
        let name = &execution.runbook.rule.name;
        let text = format!("runbook {name} ({id}) is not run again: {reason}");
        self.tell_of_execution(now, id, Occasion::Escalated, &text);
    }

    fn stop_holds(&self, _: Timestamp, execution: &Execution) -> Option<String> {
        if let Some(stop) = &self.memory.stopped {
            return Some(format!("{} stopped all runbooks: {}", stop.by, stop.reason));
        }
        let stop = self.memory.stopped_runbooks.get(&execution.runbook.rule.name)?;
        Some(format!("{} stopped this runbook: {}", stop.by, stop.reason))
    }

    fn lock_holds(&self, _: Timestamp, execution: &Execution) -> Option<String> {
        // A run that is called acts for those that called it.
        let callers = self.callers(execution);
        let holds = |it: &&Execution| {
            it.holds_lock() && !callers.contains(&it.id) && !planted::is(Bug::LockIgnored)
        };
        let mut holders = self.others(execution).filter(holds);
        let holder = holders.find(|it| it.lock == execution.lock)?;
        Some(format!("{} holds the lock `{}`", holder.id, execution.lock))
    }

    /// Somebody works on another incident of the same services: the robot keeps off.
    fn work_by_hand_holds(&self, _: Timestamp, execution: &Execution) -> Option<String> {
        if execution.is_by_person() || execution.runbook.guards.beside_people {
            return None;
        }
        let own = execution.incident.and_then(|it| self.incidents.get(&it));
        let told = execution.context.labels.get("service");
        let is_own = |service: &String| match own {
            Some(own) => own.services.contains(service),
            None => told == Some(service.as_str()),
        };
        let other = self.incidents.values().find(|it| {
            own.is_none_or(|own| own.id != it.id)
                && it.state.is_active()
                && it.acknowledged_at.is_some()
                && it.services.iter().any(is_own)
        })?;
        let who = other.owner.as_deref().unwrap_or("somebody");
        Some(format!("{who} works on {} of the same service", other.id))
    }

    /// After some useless runs in a row of time a person is told instead of one more.
    fn breaker_holds(&self, now: Timestamp, execution: &Execution) -> Option<String> {
        if execution.is_by_person() {
            return None;
        }
        let guards = &execution.runbook.guards;
        let useless = self.useless_runs(now, execution, guards.breaker_per_seconds);
        (guards.breaker_after > 0 && useless >= guards.breaker_after as usize).then(|| {
            format!(
                "{useless} runs for `{}` in the last {} s did not help, or not for long",
                execution.lock, guards.breaker_per_seconds
            )
        })
    }

    fn cooldown_holds(&self, now: Timestamp, execution: &Execution) -> Option<String> {
        let guards = &execution.runbook.guards;
        let last = self.own_runs(execution).filter_map(|it| it.started_at).max()?;
        // Each useless run doubles it, up to its most.
        let most = guards.cooldown_seconds_max.max(guards.cooldown_seconds);
        let useless = if most > guards.cooldown_seconds {
            self.useless_runs(now, execution, most.saturating_mul(2))
        } else {
            0
        };
        let doubled = u32::try_from(useless).unwrap_or(u32::MAX).min(20);
        let seconds = guards.cooldown_seconds.saturating_mul(1 << doubled).min(most);
        let until = later(last, i64::from(seconds));
        (until > now).then(|| {
            format!("the last run for `{}` began at {last}; cooldown until {until}", execution.lock)
        })
    }

    fn runs_hold(&self, now: Timestamp, execution: &Execution) -> Option<String> {
        let guards = &execution.runbook.guards;
        let window = later(now, -i64::from(guards.runs_per_seconds));
        let recent = |it: &&Execution| it.started_at.is_some_and(|at| at > window);
        let runs = self.same_runbook(execution).filter(recent).count();
        (runs >= guards.runs_max as usize).then(|| {
            format!(
                "{runs} runs began in the last {} s; {} are allowed",
                guards.runs_per_seconds, guards.runs_max
            )
        })
    }

    /// So many things may be in the runbook's hands at a time.
    fn runs_at_once_hold(&self, _: Timestamp, execution: &Execution) -> Option<String> {
        let most = execution.runbook.guards.at_once?;
        let at_work = self.same_runbook(execution).filter(|it| it.holds_lock()).count();
        (at_work >= most as usize)
            .then(|| format!("{at_work} runs are at work; {most} are allowed at once"))
    }

    pub(super) fn others(&self, execution: &Execution) -> impl Iterator<Item = &Execution> {
        let id = execution.id;
        self.executions.values().filter(move |it| it.id != id)
    }

    fn same_runbook(&self, execution: &Execution) -> impl Iterator<Item = &Execution> {
        let name = &execution.runbook.rule.name;
        self.others(execution).filter(move |it| it.runbook.rule.name == *name)
    }

    /// The runs of the same runbook for the same thing.
    fn own_runs(&self, execution: &Execution) -> impl Iterator<Item = &Execution> {
        self.same_runbook(execution).filter(move |it| it.lock == execution.lock)
    }

    /// How many runs for the same thing did not help; one that did, and for the very alert that is
    /// here again, did not for long.
    fn useless_runs(&self, now: Timestamp, execution: &Execution, per_seconds: u32) -> usize {
        let window = later(now, -i64::from(per_seconds));
        let is_back = |it: &Execution| {
            execution.incident.is_some()
                && it.incident.is_some()
                && it.context.labels == execution.context.labels
        };
        let is_useless = |it: &&Execution| match it.state {
            ExecutionState::Ineffective => true,
            ExecutionState::Succeeded => is_back(it),
            ExecutionState::Proposed
            | ExecutionState::WaitingApproval
            | ExecutionState::Running
            | ExecutionState::Verifying
            | ExecutionState::Failed
            | ExecutionState::Undone
            | ExecutionState::Stuck
            | ExecutionState::Blocked
            | ExecutionState::Denied
            | ExecutionState::Aborted
            | ExecutionState::Unknown
            | ExecutionState::WouldRun => false,
        };
        let recent = |it: &&Execution| it.started_at.is_some_and(|at| at > window);
        self.own_runs(execution).filter(recent).filter(is_useless).count()
    }
}

impl Execution {
    /// Whether something must be looked at before it begins.
    pub(super) fn must_look(&self) -> bool {
        let is_open =
            |it: &StepRun| it.part == Part::Precondition && it.state != StepState::Succeeded;
        self.started_at.is_none() && self.steps.iter().any(is_open)
    }

    /// Whether a person ordered it, or said yes to it.
    fn is_by_person(&self) -> bool {
        !self.requested_by.is_empty() || !self.decided_by.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_is_in_the_list() {
        let missing = GUARDS.iter().find(|(name, _)| !GUARD_NAMES.contains(name));
        assert_eq!(missing.map(|it| it.0), None);
    }
}
