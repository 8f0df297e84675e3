//! Runbooks that call runbooks: the one waits until the other is over, and is told how it went.

use super::start::Wish;
use super::{Execution, ExecutionId, ExecutionState, StepState};
use crate::domain::rules::RunbookMode;
use crate::domain::{Fact, ObjectKey, State};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Calls go so deep at most. The rules are checked for it, too, but may change while a run is under way.
pub const DEPTH_MAX: usize = 5;

impl State {
    /// A step runs another runbook.
    pub(super) fn call(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        index: usize,
        order: (&str, &BTreeMap<String, String>),
    ) {
        match self.begin_call(now, id, order) {
            Ok(child) => {
                let run = self.executions.get_mut(&id).and_then(|it| it.steps.get_mut(index));
                if let Some(run) = run {
                    run.child = Some(child);
                    run.detail = format!("runs {child}");
                }
                self.log_execution(now, id, "", &format!("runs {} as {child}", order.0));
                self.touch(now, ObjectKey::Execution(id));
            }
            Err(reason) => self.step_over(now, id, index, (StepState::Failed, &reason)),
        }
    }

    fn begin_call(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        (name, given): (&str, &BTreeMap<String, String>),
    ) -> Result<ExecutionId, String> {
        let rules = self.rules.clone();
        let runbook = rules.runbook(name).ok_or_else(|| format!("there is no runbook `{name}`"))?;
        let caller = self.executions.get(&id).ok_or("the run is gone")?;
        let callers = self.callers(caller);
        let is_it = |it: &ExecutionId| {
            self.executions.get(it).is_some_and(|it| it.runbook.rule.name == name)
        };
        if caller.runbook.rule.name == name || callers.iter().any(is_it) {
            return Err(format!("runbook `{name}` would call itself"));
        }
        if callers.len() + 1 >= DEPTH_MAX {
            return Err(format!("runbooks call each other more than {DEPTH_MAX} deep"));
        }
        if let Some(unknown) = given.keys().find(|it| !runbook.parameters.contains_key(*it)) {
            return Err(format!("runbook `{name}` has no parameter `{unknown}`"));
        }
        // Who said yes to the caller has said yes to what it calls, unless that asks for itself.
        let mode =
            if runbook.approval.is_some() { RunbookMode::Approve } else { RunbookMode::Auto };
        let by = match caller.requested_by.as_str() {
            "" => caller.decided_by.clone(),
            by => by.to_owned(),
        };
        let wish = Wish {
            incident: caller.incident,
            given,
            by: &by,
            is_emergency: caller.is_emergency,
            parent: Some(id),
            context: (!caller.context.trigger.is_empty()).then(|| caller.context.clone()),
            ..Wish::new(runbook, mode)
        };
        Ok(self.make_execution(now, &wish))
    }

    /// The runs that called a run, the nearest first.
    pub(super) fn callers(&self, execution: &Execution) -> Vec<ExecutionId> {
        let mut callers = Vec::new();
        let mut next = execution.parent;
        while let Some(id) = next
            && callers.len() <= DEPTH_MAX
        {
            callers.push(id);
            next = self.executions.get(&id).and_then(|it| it.parent);
        }
        callers
    }

    /// Tells the run that called this one that it is over, or waits for a person to look.
    pub(super) fn tell_caller(&mut self, id: ExecutionId) {
        if self.executions.get(&id).is_some_and(|it| it.parent.is_some()) {
            self.facts.push_back(Fact::CalledRunEnded(id));
        }
    }

    /// A run that another run called is over, or waits for a person to look.
    pub(in crate::domain) fn called_run_ended(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(child) = self.executions.get(&id) else { return };
        let (state, why) = (child.state, format!("{id} {}: {}", child.state.as_str(), child.why));
        let Some(parent) = child.parent.and_then(|it| self.executions.get_mut(&it)) else { return };
        let parent_id = parent.id;
        let is_it = |it: &super::StepRun| it.child == Some(id) && it.state == StepState::Running;
        let Some(index) = parent.steps.iter().position(is_it) else { return };
        if parent.state != ExecutionState::Running {
            return;
        }
        if state == ExecutionState::Unknown {
            if let Some(run) = parent.steps.get_mut(index) {
                run.state = StepState::Unknown;
                run.ended_at = Some(now);
                run.detail.clone_from(&why);
            }
            parent.state = ExecutionState::Unknown;
            parent.why = format!("{why}; then abort this one, too");
            self.touch(now, ObjectKey::Execution(parent_id));
            self.tell_caller(parent_id);
            return;
        }
        let done = state == ExecutionState::Succeeded;
        let result = if done { StepState::Succeeded } else { StepState::Failed };
        self.step_over(now, parent_id, index, (result, &why));
        self.proceed(now, parent_id);
    }
}
