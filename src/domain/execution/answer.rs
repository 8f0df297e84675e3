//! What people and incidents say about an execution: stop, go on, it belongs to another one.

use super::{Execution, ExecutionId, ExecutionState, StepState};
use crate::domain::effect::{Effect, EffectKey, PlannedEffect};
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State, Stop};
use jiff::Timestamp;

impl State {
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

    /// Stops a run that is not over, with what it called.
    fn stop_execution(&mut self, now: Timestamp, by: &str, id: ExecutionId, reason: &str) {
        // Where all are stopped, a called run has been stopped with its caller.
        if self.executions.get(&id).is_none_or(|it| it.state.is_final()) {
            return;
        }
        let mut called = Vec::new();
        if let Some(execution) = self.executions.get_mut(&id) {
            by.clone_into(&mut execution.decided_by);
            execution.question = None;
            let running = execution.steps.iter_mut().filter(|it| it.state == StepState::Running);
            for run in running {
                called.extend(run.child);
                if let Some(step) = run.effect.clone().filter(|_| run.is_under_way()) {
                    let place =
                        run.item.as_ref().map_or_else(String::new, |it| format!("/{}", it.place));
                    self.turn.effects.push(PlannedEffect {
                        key: EffectKey(format!("{id}/stop{place}").into()),
                        idempotent: true,
                        effect: Effect::StopStep { step },
                    });
                } else {
                    // Nothing is being done: it waits for its time, its next attempt or an answer.
                    run.retry_at = None;
                    run.state = StepState::Failed;
                    run.ended_at = Some(now);
                }
            }
        }
        self.end_execution(
            now,
            id,
            ExecutionState::Aborted,
            &with_reason(by, "stopped it", reason),
        );
        for id in called {
            self.stop_execution(now, by, id, reason);
        }
    }

    /// No runbook starts any more, and none goes on.
    pub(in crate::domain) fn stop_runbooks(&mut self, now: Timestamp, by: &str, reason: &str) {
        self.memory.stopped = Some(Stop { by: by.to_owned(), at: now, reason: reason.to_owned() });
        self.changes.objects.insert(ObjectKey::Memory);
        self.stop_going(now, by, &format!("all runbooks are stopped: {reason}"), |_| true);
    }

    /// A runbook starts no more, and goes on no more.
    pub(in crate::domain) fn stop_runbook(
        &mut self,
        now: Timestamp,
        by: &str,
        runbook: &str,
        reason: &str,
    ) -> Reply {
        if self.rules.runbook(runbook).is_none() {
            return Err(Refusal::NotFound(format!("there is no runbook `{runbook}`")));
        }
        let stop = Stop { by: by.to_owned(), at: now, reason: reason.to_owned() };
        self.memory.stopped_runbooks.insert(runbook.to_owned(), stop);
        self.changes.objects.insert(ObjectKey::Memory);
        let is_it = |it: &Execution| it.runbook.rule.name == runbook;
        self.stop_going(now, by, &format!("this runbook is stopped: {reason}"), is_it);
        Ok(Accepted::Done)
    }

    /// A runbook may start again.
    pub(in crate::domain) fn resume_runbook(&mut self, runbook: &str) -> Reply {
        if self.memory.stopped_runbooks.remove(runbook).is_none() {
            return Err(Refusal::WrongState(format!("runbook `{runbook}` is not stopped")));
        }
        self.changes.objects.insert(ObjectKey::Memory);
        Ok(Accepted::Done)
    }

    fn stop_going(
        &mut self,
        now: Timestamp,
        by: &str,
        reason: &str,
        concerns: impl Fn(&Execution) -> bool,
    ) {
        let going: Vec<ExecutionId> = (self.executions.values())
            .filter(|it| {
                matches!(it.state, ExecutionState::Running | ExecutionState::Verifying)
                    || it.is_asking()
            })
            .filter(|it| concerns(it))
            .map(|it| it.id)
            .collect();
        for id in going {
            self.stop_execution(now, by, id, reason);
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
}

impl State {
    pub(super) fn known_execution(&self, id: ExecutionId) -> Result<&Execution, Refusal> {
        match self.executions.get(&id) {
            Some(execution) => Ok(execution),
            None if id.0 > 0 && id.0 <= self.memory.execution => {
                Err(Refusal::WrongState(format!("{id} is over")))
            }
            None => Err(Refusal::NotFound(format!("there is no execution {id}"))),
        }
    }
}

pub(super) fn with_reason(by: &str, did: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{by} {did}") } else { format!("{by} {did}: {reason}") }
}

pub(super) fn wrong_state(execution: &Execution) -> Refusal {
    Refusal::WrongState(format!("{} is {}", execution.id, execution.state.as_str()))
}
