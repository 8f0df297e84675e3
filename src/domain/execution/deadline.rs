//! The time that a run may take in all, with the runs that it calls.

use super::{Execution, ExecutionId, ExecutionState, StepState};
use crate::domain::effect::{Effect, EffectKey, PlannedEffect};
use crate::domain::{ObjectKey, State, later};
use jiff::Timestamp;

impl State {
    /// Whether the time of a run is up. In a gap in which nobody watched nobody's time is.
    pub(super) fn is_out_of_time(&self, now: Timestamp, id: ExecutionId) -> bool {
        let deadline = self.executions.get(&id).and_then(Execution::live_deadline);
        deadline.is_some_and(|it| self.held(it) <= now)
    }

    /// The time of a run is up: what it is doing is stopped, and it turns round as if that had
    /// failed. A run that it called has the same time, or less, and ends by itself.
    pub(super) fn run_out_of_time(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.deadline = None;
        let seconds = execution.runbook.timeout_seconds;
        let why = match seconds.filter(|_| execution.parent.is_none()) {
            Some(seconds) => format!("it took longer than its {seconds} s in all"),
            None => "its time, or that of the run that called it, is up".to_owned(),
        };
        if execution.started_at.is_none() {
            return self.end_execution(now, id, ExecutionState::Denied, &why);
        }
        if execution.state == ExecutionState::Verifying {
            return self.not_verified(now, id, &why);
        }
        execution.question = None;
        let stops = execution.stop_what_runs(now);
        self.turn.effects.extend(stops);
        self.log_execution(now, id, "", &why);
        self.unwind(now, id, ExecutionState::Failed, (&why, true));
        self.touch(now, ObjectKey::Execution(id));
        self.proceed(now, id);
    }
}

impl Execution {
    /// It begins: its time runs, and never longer than that of the run that called it.
    pub(super) fn set_deadline(&mut self, now: Timestamp) {
        let own = self.runbook.timeout_seconds.map(|it| later(now, i64::from(it)));
        self.deadline = own.into_iter().chain(self.deadline).min();
    }

    /// Until when its work may take. What is undone, or always done, has no such end, and what waits
    /// for a person to look waits.
    pub(in crate::domain) fn live_deadline(&self) -> Option<Timestamp> {
        let is_at_work = matches!(
            self.state,
            ExecutionState::Running | ExecutionState::WaitingApproval | ExecutionState::Verifying
        );
        self.deadline.filter(|_| is_at_work && self.ending.is_none())
    }

    /// Orders to stop what is under way. A step that asks people has failed.
    fn stop_what_runs(&mut self, now: Timestamp) -> Vec<PlannedEffect> {
        let id = self.id;
        let mut stops = Vec::new();
        for run in self.steps.iter_mut().filter(|it| it.state == StepState::Running) {
            if let Some(step) = run.effect.clone().filter(|_| run.is_under_way()) {
                let place = run.item.as_ref().map_or(0, |it| it.place);
                stops.push(PlannedEffect {
                    key: EffectKey(format!("{id}/deadline/stop/{place}").into()),
                    idempotent: true,
                    effect: Effect::StopStep { step },
                });
            } else if run.child.is_none() && run.retry_at.is_none() {
                run.state = StepState::Failed;
                run.ended_at = Some(now);
            }
        }
        stops
    }
}
