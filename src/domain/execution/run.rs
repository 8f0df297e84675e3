//! How an execution goes on: steps, retries, verification, a person's word, the end.

use super::{Blocked, Execution, ExecutionId, ExecutionState, StepRun, StepState};
use crate::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::incident::{Incident, IncidentId, TimelineEntry};
use crate::domain::rules::{Action, Idempotency, Step};
use crate::domain::{
    Accepted, Closed, Count, ObjectKey, Refusal, Reply, State, Stop, later, seconds_between,
    template,
};
use jiff::Timestamp;

/// The longest time between two attempts of a step, in seconds.
const BACKOFF_SECONDS_MAX: i64 = 3600;

impl State {
    /// Begins a step, or what follows the last one.
    pub(super) fn start_step(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        if index >= execution.steps.len() {
            self.steps_done(now, id);
            return;
        }
        let rendered = execution.rendered(index);
        let Some(step) = execution.steps.get_mut(index) else { return };
        step.state = StepState::Running;
        step.started_at = Some(now);
        match rendered {
            Ok(action) => {
                step.action = Some(action);
                self.attempt_step(now, id, index);
            }
            Err(error) => {
                step.state = StepState::Failed;
                step.ended_at = Some(now);
                step.detail.clone_from(&error);
                let why = format!("step {}: {error}", step.id);
                self.end_execution(now, id, ExecutionState::Failed, &why);
            }
        }
    }

    fn attempt_step(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let runbook = execution.runbook.clone();
        let (Some(run), Some(step)) = (execution.steps.get_mut(index), runbook.steps.get(index))
        else {
            return;
        };
        let Some(action) = run.action.clone() else { return };
        run.attempts += 1;
        run.retry_at = None;
        let key = EffectKey(format!("{id}/{}/{}", run.id, run.attempts).into());
        run.effect = Some(key.clone());
        self.turn.effects.push(PlannedEffect {
            key,
            idempotent: step.idempotency == Idempotency::Idempotent,
            effect: Effect::RunStep {
                execution: id,
                step: run.id.clone(),
                action,
                timeout_seconds: step.timeout_seconds,
            },
        });
        self.touch(now, ObjectKey::Execution(id));
    }

    /// A step was tried.
    pub(in crate::domain) fn step_finished(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        key: &EffectKey,
        outcome: &Outcome,
    ) {
        let Some((index, step)) = self.step_of(id, key) else { return };
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let is_running = execution.state == ExecutionState::Running;
        let Some(run) = execution.steps.get_mut(index) else { return };
        // A result that is told twice, or after the step was given up, changes nothing.
        if !run.is_under_way() {
            return;
        }
        run.detail.clone_from(&outcome.detail);
        run.output_tail.clone_from(&outcome.output_tail);
        run.exit_code = outcome.code;
        let succeeded = outcome.result == OutcomeKind::Succeeded;
        let again = matches!(outcome.result, OutcomeKind::FailedRetryable | OutcomeKind::TimedOut)
            && step.idempotency == Idempotency::Idempotent
            && run.attempts < step.attempts;
        if is_running && !succeeded && again {
            run.retry_at = Some(retry_time(now, &step, run.attempts));
            self.touch(now, ObjectKey::Execution(id));
            return;
        }
        run.ended_at = Some(now);
        run.state = if succeeded { StepState::Succeeded } else { StepState::Failed };
        let text = format!("step {}: {}", run.id, outcome.detail);
        if !is_running {
            self.touch(now, ObjectKey::Execution(id));
        } else if succeeded {
            self.log_execution(now, id, "", &text);
            self.start_step(now, id, index + 1);
        } else {
            self.end_execution(now, id, ExecutionState::Failed, &text);
        }
    }

    /// The daemon stopped while a step was being done that must not be done twice.
    pub(in crate::domain) fn step_lost(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        key: &EffectKey,
    ) {
        let Some((index, _)) = self.step_of(id, key) else { return };
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(run) = execution.steps.get_mut(index) else { return };
        if !run.is_under_way() {
            return;
        }
        run.state = StepState::Unknown;
        run.ended_at = Some(now);
        "the daemon stopped while this step was being done".clone_into(&mut run.detail);
        let why = format!(
            "nobody knows whether step {} was done, and it must not be done twice: look, then abort",
            run.id
        );
        if execution.state == ExecutionState::Running {
            execution.state = ExecutionState::Unknown;
            execution.why.clone_from(&why);
            self.log_execution(now, id, "", &why);
            self.ask_for_approval(now, id, &why);
        }
        self.touch(now, ObjectKey::Execution(id));
    }

    /// The step that an effect belongs to, if the effect is its latest.
    fn step_of(&self, id: ExecutionId, key: &EffectKey) -> Option<(usize, Step)> {
        let execution = self.executions.get(&id)?;
        let index = execution.steps.iter().position(|it| it.effect.as_ref() == Some(key))?;
        Some((index, execution.runbook.steps.get(index)?.clone()))
    }

    fn steps_done(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.steps_done_at = Some(now);
        if execution.runbook.verify.is_none() {
            self.end_execution(now, id, ExecutionState::Succeeded, "all steps succeeded");
            return;
        }
        execution.state = ExecutionState::Verifying;
        "looking whether it helped".clone_into(&mut execution.why);
        self.log_execution(now, id, "", "all steps succeeded; looking whether it helped");
        self.touch(now, ObjectKey::Execution(id));
    }

    /// The alerts of an incident are over, or are not any more.
    pub(in crate::domain) fn alerts_of_executions(
        &mut self,
        now: Timestamp,
        incident: IncidentId,
        resolved: bool,
    ) {
        let concerned: Vec<ExecutionId> = (self.executions.values())
            .filter(|it| it.incident == Some(incident) && !it.state.is_final())
            .map(|it| it.id)
            .collect();
        for id in concerned {
            if let Some(execution) = self.executions.get_mut(&id) {
                execution.alerts_resolved = resolved;
            }
            self.touch(now, ObjectKey::Execution(id));
            self.look_at_execution(now, id);
        }
    }

    /// An execution's time has come: a retry, a look at its effect, or it can be forgotten.
    pub(in crate::domain) fn execution_due(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id) else { return };
        if execution.state == ExecutionState::Running {
            let due = |it: &StepRun| it.retry_at.is_some_and(|at| at <= now);
            if let Some(index) = execution.steps.iter().position(due) {
                self.attempt_step(now, id, index);
            }
        } else if execution.state.is_final() {
            if let Some(execution) = self.executions.remove(&id) {
                self.changes.closed.push(Closed::Execution(Box::new(execution)));
            }
        } else {
            self.look_at_execution(now, id);
        }
    }

    /// Looks whether a verification has its answer.
    fn look_at_execution(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id) else { return };
        let (ExecutionState::Verifying, Some(done_at), Some(verify)) =
            (execution.state, execution.steps_done_at, &execution.runbook.verify)
        else {
            return;
        };
        let settled = later(done_at, i64::from(verify.settle_seconds)) <= now;
        let deadline = later(done_at, i64::from(verify.within_seconds.max(verify.settle_seconds)));
        let holds = !verify.alerts_resolved || execution.alerts_resolved;
        if settled && holds {
            let what = if verify.alerts_resolved { "all alerts are over" } else { "settled" };
            let why = format!("verified: {what}");
            self.end_execution(now, id, ExecutionState::Succeeded, &why);
        } else if deadline <= now {
            let why =
                format!("the alerts still fire {} s after the last step", verify.within_seconds);
            self.end_execution(now, id, ExecutionState::Ineffective, &why);
        }
    }

    /// A person says yes.
    pub(in crate::domain) fn approve(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ExecutionId,
    ) -> Reply {
        self.take_answer(by, id)?;
        self.log_execution(now, id, by, "approved");
        self.try_start(now, id);
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    /// A person says no.
    pub(in crate::domain) fn deny(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ExecutionId,
        reason: &str,
    ) -> Reply {
        self.take_answer(by, id)?;
        self.end_execution(now, id, ExecutionState::Denied, &with_reason(by, "denied it", reason));
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    /// Writes down who answered the question that an execution waits with.
    fn take_answer(&mut self, by: &str, id: ExecutionId) -> Result<(), Refusal> {
        let execution = self.known_execution(id)?;
        if !matches!(execution.state, ExecutionState::Proposed | ExecutionState::WaitingApproval) {
            return Err(wrong_state(execution));
        }
        if let Some(execution) = self.executions.get_mut(&id) {
            by.clone_into(&mut execution.decided_by);
        }
        Ok(())
    }

    /// A person stops it.
    pub(in crate::domain) fn abort(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ExecutionId,
        reason: &str,
    ) -> Reply {
        let execution = self.known_execution(id)?;
        if execution.state.is_final() {
            return Err(wrong_state(execution));
        }
        self.stop_execution(now, by, id, reason);
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    fn stop_execution(&mut self, now: Timestamp, by: &str, id: ExecutionId, reason: &str) {
        if let Some(execution) = self.executions.get_mut(&id) {
            by.clone_into(&mut execution.decided_by);
            let running = execution.steps.iter_mut().find(|it| it.state == StepState::Running);
            if let Some(run) = running {
                if run.retry_at.take().is_some() {
                    // Nothing is being done: it waits for its next attempt.
                    run.state = StepState::Failed;
                    run.ended_at = Some(now);
                } else if let Some(step) = run.effect.clone() {
                    self.turn.effects.push(PlannedEffect {
                        key: EffectKey(format!("{id}/stop").into()),
                        idempotent: true,
                        effect: Effect::StopStep { step },
                    });
                }
            }
        }
        self.end_execution(
            now,
            id,
            ExecutionState::Aborted,
            &with_reason(by, "stopped it", reason),
        );
    }

    /// No runbook starts any more, and none goes on.
    pub(in crate::domain) fn stop_runbooks(&mut self, now: Timestamp, by: &str, reason: &str) {
        self.memory.stopped = Some(Stop { by: by.to_owned(), at: now, reason: reason.to_owned() });
        self.changes.objects.insert(ObjectKey::Memory);
        let going: Vec<ExecutionId> = (self.executions.values())
            .filter(|it| matches!(it.state, ExecutionState::Running | ExecutionState::Verifying))
            .map(|it| it.id)
            .collect();
        for id in going {
            self.stop_execution(now, by, id, &format!("all runbooks are stopped: {reason}"));
        }
    }

    /// An incident is closed: nobody is asked about it any more.
    pub(in crate::domain) fn end_questions(&mut self, now: Timestamp, incident: IncidentId) {
        let asked: Vec<ExecutionId> = (self.executions.values())
            .filter(|it| it.incident == Some(incident))
            .filter(|it| {
                matches!(it.state, ExecutionState::Proposed | ExecutionState::WaitingApproval)
            })
            .map(|it| it.id)
            .collect();
        for id in asked {
            let reason = format!("{incident} was closed before anybody said yes");
            self.block(now, id, Blocked { guard: "incident_closed".to_owned(), reason });
        }
    }

    /// An incident was merged into another one: its runs that are not over are for that one now.
    pub(in crate::domain) fn move_executions(
        &mut self,
        now: Timestamp,
        from: &Incident,
        into: IncidentId,
    ) {
        let Some(target) = self.incidents.get_mut(&into) else { return };
        let alerts_resolved = target.firing_count == 0;
        let mut moved = Vec::new();
        for id in &from.executions {
            let Some(execution) = self.executions.get_mut(id).filter(|it| !it.state.is_final())
            else {
                continue;
            };
            execution.incident = Some(into);
            execution.alerts_resolved = alerts_resolved;
            target.executions.push(*id);
            moved.push(*id);
        }
        for id in moved {
            self.touch(now, ObjectKey::Execution(id));
            self.look_at_execution(now, id);
        }
        self.touch(now, ObjectKey::Incident(into));
    }

    /// Whether an effect of an execution is still to be done: its step is under way, and nobody
    /// has stopped the execution. After a restart what is not wanted is not begun again.
    pub fn wants_step(&self, id: ExecutionId, key: &EffectKey) -> bool {
        self.executions.get(&id).is_some_and(|execution| {
            execution.state == ExecutionState::Running
                && execution
                    .steps
                    .iter()
                    .any(|it| it.effect.as_ref() == Some(key) && it.is_under_way())
        })
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
        self.touch(now, ObjectKey::Execution(id));
    }

    /// Tells an execution's timeline, and its incident's, what happened.
    pub(super) fn log_execution(&mut self, now: Timestamp, id: ExecutionId, by: &str, text: &str) {
        let Some(execution) = self.executions.get(&id) else { return };
        let line = format!("runbook {} ({id}) {text}", execution.runbook.rule.name);
        if let Some(incident) = execution.incident {
            self.log(
                ObjectKey::Incident(incident),
                TimelineEntry::new(now, "execution", by, line.clone()),
            );
        }
        self.log(ObjectKey::Execution(id), TimelineEntry::new(now, "execution", by, line));
    }

    fn known_execution(&self, id: ExecutionId) -> Result<&Execution, Refusal> {
        match self.executions.get(&id) {
            Some(execution) => Ok(execution),
            None if id.0 > 0 && id.0 <= self.memory.execution => {
                Err(Refusal::WrongState(format!("{id} is over")))
            }
            None => Err(Refusal::NotFound(format!("there is no execution {id}"))),
        }
    }
}

impl Execution {
    /// What a step does, with every template filled in.
    pub(super) fn rendered(&self, index: usize) -> Result<Action, String> {
        let step = self.runbook.steps.get(index).ok_or("there is no such step")?;
        let fill = |text: &String| template::render(text, &self.context, &self.parameters);
        Ok(match &step.action {
            Action::Command { argv } => {
                Action::Command { argv: argv.iter().map(fill).collect::<Result<_, _>>()? }
            }
            Action::Http { method, url, headers, body, expect_status } => Action::Http {
                method: method.clone(),
                url: fill(url)?,
                headers: (headers.iter())
                    .map(|(name, value)| Ok((name.clone(), fill(value)?)))
                    .collect::<Result<_, String>>()?,
                body: body.as_ref().map(fill).transpose()?,
                expect_status: expect_status.clone(),
            },
        })
    }

    /// When a verification wants to be looked at, and whether that is its deadline.
    pub(in crate::domain) fn verification_wants(&self) -> Option<(Timestamp, bool)> {
        let (done_at, verify) = (self.steps_done_at?, self.runbook.verify.as_ref()?);
        let holds = !verify.alerts_resolved || self.alerts_resolved;
        let wait = if holds {
            verify.settle_seconds
        } else {
            verify.within_seconds.max(verify.settle_seconds)
        };
        Some((later(done_at, i64::from(wait)), !holds))
    }

    /// Until when the guards must remember it.
    pub(in crate::domain) fn remembered_until(&self) -> Timestamp {
        let guards = &self.runbook.guards;
        let window = i64::from(guards.cooldown_seconds.max(guards.runs_per_seconds));
        let ended = self.ended_at.unwrap_or(self.created_at);
        self.started_at.map_or(ended, |it| ended.max(later(it, window)))
    }
}

fn with_reason(by: &str, did: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{by} {did}") } else { format!("{by} {did}: {reason}") }
}

fn wrong_state(execution: &Execution) -> Refusal {
    Refusal::WrongState(format!("{} is {}", execution.id, execution.state.as_str()))
}

/// Exponential backoff. There is one runbook to a lock, so attempts do not meet and need no
/// spread.
fn retry_time(now: Timestamp, step: &Step, attempts: u32) -> Timestamp {
    let wait = i64::from(step.backoff_seconds) << attempts.saturating_sub(1).min(16);
    later(now, wait.min(BACKOFF_SECONDS_MAX))
}
