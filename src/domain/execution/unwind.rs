//! How an execution ends: what was done is undone in reverse order, then what is always done is done.

use super::{Ending, Execution, ExecutionId, ExecutionState, Part, StepRun, StepState};
use crate::domain::rules::Occasion;
use crate::domain::{Closed, Count, ObjectKey, State, later, seconds_between};
use jiff::Timestamp;

impl State {
    /// A step failed and the run does not go on past it.
    pub(super) fn step_failed(&mut self, now: Timestamp, id: ExecutionId, part: Part, what: &str) {
        self.log_execution(now, id, "", &format!("{what}; it failed"));
        match part {
            Part::Step => self.unwind(now, id, ExecutionState::Failed, (what, true)),
            Part::Undo => self.undo_failed(now, id, what),
            Part::Always => self.end_of_all_failed(id, what),
            Part::Verify | Part::Precondition => {}
        }
    }

    /// Turns round: what succeeded is to be undone, the last first. The caller goes on.
    pub(super) fn unwind(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        state: ExecutionState,
        (why, undo): (&str, bool),
    ) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.skip(Part::Step);
        execution.skip(Part::Verify);
        execution.give_up_waiting(now);
        let undone = if undo { execution.undos() } else { Vec::new() };
        let is_undone = !undone.is_empty();
        // That it did not help stays the result, whatever is undone after that.
        let state = if is_undone && state == ExecutionState::Failed {
            ExecutionState::Undone
        } else {
            state
        };
        execution.steps.extend(undone);
        execution.ending = Some(Ending { state, why: why.to_owned() });
        execution.state = ExecutionState::Running;
        execution.why = if is_undone { format!("{why}; undoing") } else { why.to_owned() };
        if is_undone {
            self.log_execution(now, id, "", "undoes what it did");
        }
        self.touch(now, ObjectKey::Execution(id));
    }

    /// What cannot be undone stays as it is, and so does what was done before it: undoing that
    /// alone may make it worse.
    fn undo_failed(&mut self, now: Timestamp, id: ExecutionId, what: &str) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.skip(Part::Undo);
        let before = execution.ending.take().map(|it| it.why).unwrap_or_default();
        let why = format!("{what}; this came after: {before}");
        execution.ending = Some(Ending { state: ExecutionState::Stuck, why });
        self.touch(now, ObjectKey::Execution(id));
    }

    /// What is always done failed: nothing is undone for that, but it is no success.
    fn end_of_all_failed(&mut self, id: ExecutionId, what: &str) {
        let Some(ending) = self.executions.get_mut(&id).and_then(|it| it.ending.as_mut()) else {
            return;
        };
        if ending.state == ExecutionState::Succeeded {
            ending.state = ExecutionState::Failed;
        }
        ending.why = format!("{}; {what}", ending.why);
    }

    /// Everything is done, undone, and done at last: the run ends as was decided.
    pub(super) fn conclude(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(Ending { state, why }) = execution.ending.take() else { return };
        if state != ExecutionState::Stuck {
            self.end_execution(now, id, state, &why);
            let tells = (self.executions.get(&id))
                .and_then(|it| it.runbook.verify.as_ref())
                .is_some_and(|it| it.escalate);
            if state == ExecutionState::Ineffective && tells {
                self.escalate(now, id, &format!("did not help: {why}"));
            }
            return;
        }
        execution.state = state;
        execution.why = format!("{why}: look, then abort");
        self.log_execution(now, id, "", &format!("stuck: {why}"));
        self.escalate(now, id, &format!("is stuck: {why}: look, then abort"));
        self.tell_caller(id);
        self.touch(now, ObjectKey::Execution(id));
    }

    /// Tells people that a run has not put it right, and that they must.
    pub(super) fn escalate(&mut self, now: Timestamp, id: ExecutionId, what: &str) {
        let Some(execution) = self.executions.get(&id) else { return };
        let text = format!("runbook {} ({id}) {what}", execution.runbook.rule.name);
        self.tell_of_execution(now, id, Occasion::Escalated, &text);
    }

    /// Ends an execution.
    pub(super) fn end_execution(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        state: ExecutionState,
        why: &str,
    ) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.state = state;
        execution.ended_at = Some(now);
        execution.ending = None;
        execution.deadline = None;
        execution.question = None;
        why.clone_into(&mut execution.why);
        for step in &mut execution.steps {
            if step.state == StepState::Pending {
                step.state = StepState::Skipped;
            }
        }
        let seconds = seconds_between(execution.created_at, now);
        let runbook = execution.runbook.rule.name.clone();
        self.turn.counts.push(Count::ExecutionEnded { runbook, outcome: state, seconds });
        self.log_execution(now, id, "", &format!("{}: {why}", state.as_str()));
        self.record_end(now, id);
        self.tell_caller(id);
        self.touch(now, ObjectKey::Execution(id));
    }

    /// An execution's time has come: a retry, a look at its effect, or it can be forgotten.
    pub(in crate::domain) fn execution_due(&mut self, now: Timestamp, id: ExecutionId) {
        if self.is_out_of_time(now, id) {
            return self.run_out_of_time(now, id);
        }
        let Some(execution) = self.executions.get(&id) else { return };
        if execution.state == ExecutionState::Running {
            self.step_due(now, id);
        } else if execution.question.is_some() && !execution.state.is_final() {
            self.question_due(now, id);
        } else if execution.state.is_final() {
            if let Some(execution) = self.executions.remove(&id) {
                self.changes.closed.push(Closed::Execution(Box::new(execution)));
            }
        } else if execution.state == ExecutionState::Proposed {
            self.proposal_due(now, id);
        } else {
            self.look_at_execution(now, id);
        }
    }
}

impl Execution {
    /// What is left of a part will not be done.
    fn skip(&mut self, part: Part) {
        let left = |it: &&mut StepRun| it.part == part && it.state == StepState::Pending;
        self.steps.iter_mut().filter(left).for_each(|it| it.state = StepState::Skipped);
    }

    /// The undoing of each step that succeeded and can be undone, the last first.
    fn undos(&self) -> Vec<StepRun> {
        let done = self.steps.iter().rev();
        let done = done.filter(|it| it.part == Part::Step && it.state == StepState::Succeeded);
        let can_be_undone =
            |id: &str| self.runbook.steps.iter().any(|it| it.id == id && it.undo.is_some());
        done.filter(|it| can_be_undone(&it.id)).map(StepRun::undoing).collect()
    }

    /// Until when the guards must remember it.
    pub(in crate::domain) fn remembered_until(&self) -> Timestamp {
        let guards = &self.runbook.guards;
        let cooldown = guards.cooldown_seconds.max(guards.cooldown_seconds_max.saturating_mul(2));
        let window = cooldown.max(guards.runs_per_seconds).max(guards.breaker_per_seconds);
        let window = i64::from(window);
        let ended = self.ended_at.unwrap_or(self.created_at);
        self.started_at.map_or(ended, |it| ended.max(later(it, window)))
    }
}
