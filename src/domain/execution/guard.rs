//! What holds an execution back: each guard says no with its reason.

use super::{Blocked, Execution, ExecutionId, ExecutionState};
use crate::domain::planted::{self, Bug};
use crate::domain::{State, later};
use jiff::Timestamp;

impl State {
    /// Starts an execution, if no guard holds it back.
    pub(in crate::domain) fn try_start(&mut self, now: Timestamp, id: ExecutionId) {
        if let Some(blocked) = self.guard_that_holds(now, id) {
            self.block(now, id, blocked);
            return;
        }
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.state = ExecutionState::Running;
            execution.started_at = Some(now);
            "running".clone_into(&mut execution.why);
        }
        self.log_execution(now, id, "", "started");
        self.note_run(id);
        self.proceed(now, id);
    }

    /// The first guard that holds an execution back.
    pub(super) fn guard_that_holds(&self, now: Timestamp, id: ExecutionId) -> Option<Blocked> {
        let execution = self.executions.get(&id)?;
        let blocked =
            |guard: &str, reason: String| Some(Blocked { guard: guard.to_owned(), reason });
        if let Some(stop) = &self.memory.stopped {
            return blocked(
                "stopped",
                format!("{} stopped all runbooks: {}", stop.by, stop.reason),
            );
        }
        let guards = &execution.runbook.guards;
        let others = || self.executions.values().filter(move |it| it.id != id);
        let holds = |it: &&Execution| it.holds_lock() && !planted::is(Bug::LockIgnored);
        if let Some(holder) = others().filter(holds).find(|it| it.lock == execution.lock) {
            return blocked("lock", format!("{} holds the lock `{}`", holder.id, execution.lock));
        }
        let started = |it: &&Execution| it.runbook.rule.name == execution.runbook.rule.name;
        let last = others().filter(started).filter(|it| it.lock == execution.lock);
        if let Some(last) = last.filter_map(|it| it.started_at).max() {
            let until = later(last, i64::from(guards.cooldown_seconds));
            if until > now {
                let text = format!(
                    "the last run for `{}` began at {last}; cooldown until {until}",
                    execution.lock
                );
                return blocked("cooldown", text);
            }
        }
        let window = later(now, -i64::from(guards.runs_per_seconds));
        let runs =
            others().filter(started).filter(|it| it.started_at.is_some_and(|at| at > window));
        let runs = runs.count();
        if runs >= guards.runs_max as usize {
            let text = format!(
                "{runs} runs began in the last {} s; {} are allowed",
                guards.runs_per_seconds, guards.runs_max
            );
            return blocked("max_runs", text);
        }
        None
    }

    pub(super) fn block(&mut self, now: Timestamp, id: ExecutionId, blocked: Blocked) {
        let why = format!("held back by {}: {}", blocked.guard, blocked.reason);
        self.turn.counts.push(crate::domain::Count::RunbookBlocked(blocked.guard.clone()));
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.blocked_by = Some(blocked);
        }
        self.end_execution(now, id, ExecutionState::Blocked, &why);
    }
}
