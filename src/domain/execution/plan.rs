//! What a run would do, as far as it can be known before: every step, guard and taking back.

use super::{Execution, ExecutionId, Item, Part, StepRun, StepState};
use crate::domain::State;
use serde::{Deserialize, Serialize};

/// What a guard says of a run that is only looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub guard: String,
    /// Why it would hold the run back; `None` = it would not.
    pub reason: Option<String>,
}

impl State {
    /// Shows what the steps would do, where that can be known before.
    pub(super) fn show_rendered_steps(&mut self, id: ExecutionId) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        for index in 0..execution.steps.len() {
            let action =
                execution.step(index).and_then(|it| execution.rendered(index, &it.action).ok());
            if let Some(step) = execution.steps.get_mut(index) {
                step.action = action;
            }
        }
    }

    /// Shows all that a run would do, might do, and what would hold it back. Does nothing.
    pub(super) fn show_plan(&mut self, id: ExecutionId, checks: Vec<Check>) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.checks = checks;
        execution.spread_all();
        let undos = execution.all_undos();
        execution.steps.extend(undos);
        for index in 0..execution.steps.len() {
            execution.show_step(index);
        }
    }
}

impl Execution {
    /// Makes one step of each thing that a step would be done for.
    fn spread_all(&mut self) {
        let mut index = 0;
        while let Some(run) = self.steps.get(index) {
            let (part, id) = (run.part, run.id.clone());
            let for_each = self.step(index).and_then(|it| it.for_each);
            let listed = for_each.as_ref().filter(|_| run.is_whole()).map(|it| (it, self.list(it)));
            if let Some((for_each, Ok(values))) = listed
                && !values.is_empty()
            {
                let count = values.len();
                let run = |(value, place)| {
                    let item = Item { name: for_each.name.clone(), value, place };
                    StepRun { item: Some(item), ..StepRun::new(part, &id) }
                };
                let runs: Vec<StepRun> = values.into_iter().zip(1..).map(run).collect();
                self.steps.splice(index..=index, runs);
                index += count;
            } else {
                index += 1;
            }
        }
    }

    /// What would take each step back, the last first.
    fn all_undos(&self) -> Vec<StepRun> {
        let has_undo =
            |id: &str| self.runbook.steps.iter().any(|it| it.id == id && it.undo.is_some());
        let steps = self.steps.iter().rev().filter(|it| it.part == Part::Step);
        steps.filter(|it| has_undo(&it.id)).map(StepRun::undoing).collect()
    }

    fn show_step(&mut self, index: usize) {
        let Some(step) = self.step(index) else { return };
        let action = self.rendered(index, &step.action);
        let mut detail = String::new();
        if !step.condition.is_empty() {
            detail = format!("if {}", step.condition);
        }
        if let Err(error) = &action {
            let sign = if detail.is_empty() { "" } else { "; " };
            detail = format!("{detail}{sign}cannot be known before: {error}");
        }
        if let Some(run) = self.steps.get_mut(index) {
            run.action = action.ok();
            run.detail = detail;
            run.state = StepState::Pending;
        }
    }
}
