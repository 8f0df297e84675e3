//! Whether the steps helped: rounds of looks after a settling time, until all hold or time is up.

use super::{Ending, Execution, ExecutionId, ExecutionState, Part, StepState};
use crate::domain::incident::IncidentId;
use crate::domain::rules::Verify;
use crate::domain::{ObjectKey, State, later};
use jiff::Timestamp;

/// The time for one look, in seconds.
pub(super) const LOOK_SECONDS: u32 = 10;

impl State {
    /// All steps are done.
    pub(super) fn steps_done(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.steps_done_at = Some(now);
        let Some(verify) = &execution.runbook.verify else {
            let why = "all steps succeeded".to_owned();
            execution.ending = Some(Ending { state: ExecutionState::Succeeded, why });
            return;
        };
        execution.look_at = Some(later(now, i64::from(verify.settle_seconds)));
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

    /// Looks whether a verification has its answer, or can go on.
    pub(super) fn look_at_execution(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some((verify, deadline)) = execution.verification() else { return };
        if execution.is_under_way() {
            return;
        }
        let holds = execution.alerts_hold();
        if !holds {
            execution.begin_round_anew();
        }
        if holds && execution.look_at.is_none_or(|it| it <= now) {
            self.go_round(now, id, &verify, deadline);
        } else if self.held(deadline) <= now {
            let why =
                format!("the alerts still fire {} s after the last step", verify.within_seconds);
            self.not_verified(now, id, &why);
        }
    }

    /// Begins the next look of a round, or draws the sum of it.
    fn go_round(&mut self, now: Timestamp, id: ExecutionId, verify: &Verify, deadline: Timestamp) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let is_next =
            |it: &super::StepRun| it.part == Part::Verify && it.state == StepState::Pending;
        if let Some(index) = execution.steps.iter().position(is_next) {
            self.begin_look(now, id, index);
            return;
        }
        let since = *execution.holding_since.get_or_insert(now);
        let held = later(since, i64::from(verify.hold_seconds));
        if held <= now {
            let mut found = Vec::new();
            if verify.alerts_resolved {
                found.push("all alerts are over");
            }
            found.extend(verify.looks.iter().map(crate::domain::rules::Action::as_str));
            let found = if found.is_empty() { "settled".to_owned() } else { found.join(", ") };
            let why = format!("verified: {found}");
            execution.ending = Some(Ending { state: ExecutionState::Succeeded, why });
            execution.state = ExecutionState::Running;
            self.touch(now, ObjectKey::Execution(id));
            self.proceed(now, id);
        } else if deadline <= now {
            let seconds = verify.within_seconds;
            let why = format!("it did not hold long enough within {seconds} s");
            self.not_verified(now, id, &why);
        } else {
            execution.begin_round(later(now, i64::from(verify.every_seconds.max(1))).min(held));
            self.touch(now, ObjectKey::Execution(id));
        }
    }

    fn begin_look(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(step) = execution.step(index) else { return };
        let rendered = execution.rendered(index, &step.action);
        let Some(run) = execution.steps.get_mut(index) else { return };
        run.started_at = Some(now);
        run.state = StepState::Running;
        match rendered {
            Ok(action) => {
                run.action = Some(action);
                self.begin_attempt(now, id, index);
            }
            Err(error) => self.step_over(now, id, index, (StepState::Failed, &error)),
        }
    }

    /// A look has its result.
    pub(super) fn looked(&mut self, now: Timestamp, id: ExecutionId, good: bool, text: &str) {
        self.touch(now, ObjectKey::Execution(id));
        if good {
            self.look_at_execution(now, id);
            return;
        }
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some((verify, deadline)) = execution.verification() else { return };
        execution.holding_since = None;
        if deadline <= now {
            self.not_verified(now, id, text);
        } else {
            let next = later(now, i64::from(verify.every_seconds.max(1)));
            execution.begin_round(next.min(deadline));
            self.touch(now, ObjectKey::Execution(id));
        }
    }

    pub(super) fn not_verified(&mut self, now: Timestamp, id: ExecutionId, why: &str) {
        let undo = (self.executions.get(&id))
            .and_then(|it| it.runbook.verify.as_ref())
            .is_some_and(|it| it.undo);
        self.log_execution(now, id, "", &format!("did not help: {why}"));
        self.unwind(now, id, ExecutionState::Ineffective, (why, undo));
        self.proceed(now, id);
    }
}

impl Execution {
    /// How it is verified, and until when that must succeed; `None` = it is not being verified.
    fn verification(&self) -> Option<(Verify, Timestamp)> {
        let is_verifying = self.state == ExecutionState::Verifying;
        let (done_at, verify) = (self.steps_done_at?, self.runbook.verify.as_ref()?);
        let within = verify.within_seconds.max(verify.settle_seconds);
        is_verifying.then(|| (verify.clone(), later(done_at, i64::from(within))))
    }

    fn alerts_hold(&self) -> bool {
        let asked = self.runbook.verify.as_ref().is_some_and(|it| it.alerts_resolved);
        !asked || self.alerts_resolved
    }

    /// All looks are done again, from some time on.
    fn begin_round(&mut self, at: Timestamp) {
        self.look_at = Some(at);
        for run in self.steps.iter_mut().filter(|it| it.part == Part::Verify) {
            run.state = StepState::Pending;
        }
    }

    /// What held so far counts no more.
    fn begin_round_anew(&mut self) {
        self.holding_since = None;
        for run in self.steps.iter_mut().filter(|it| it.part == Part::Verify) {
            run.state = StepState::Pending;
        }
    }

    /// When a verification wants to be looked at: for its next round, and at its deadline.
    pub(in crate::domain) fn verification_wants(&self) -> Option<(Option<Timestamp>, Timestamp)> {
        let (_, deadline) = self.verification().filter(|_| !self.is_under_way())?;
        let round = if self.alerts_hold() { self.look_at.or(self.steps_done_at) } else { None };
        Some((round, deadline))
    }
}
