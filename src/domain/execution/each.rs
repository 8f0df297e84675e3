//! Steps that are done for each of some things: some at a time, and all of them undone again.

use super::{Execution, ExecutionId, Item, Part, StepRun, StepState};
use crate::domain::rules::ForEach;
use crate::domain::{ObjectKey, State, template};
use jiff::Timestamp;

/// A step is done for so many things at most.
const ITEMS_MAX: usize = 100;

impl State {
    /// Makes one step for each thing out of a step that is done for several.
    pub(super) fn spread(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(step) = execution.step(index) else { return };
        let Some(for_each) = &step.for_each else { return };
        let listed = match execution.is_wanted(index, &step) {
            Ok(true) => execution.list(for_each),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(format!("its `if` cannot be decided: {error}")),
        };
        match listed {
            Ok(values) if values.is_empty() => {
                if let Some(run) = execution.steps.get_mut(index) {
                    run.state = StepState::Skipped;
                    "there is nothing to do it for".clone_into(&mut run.detail);
                }
            }
            Ok(values) => {
                let part = execution.steps.get(index).map_or(Part::Step, |it| it.part);
                let run = |(value, place)| {
                    let item = Item { name: for_each.name.clone(), value, place };
                    StepRun { item: Some(item), ..StepRun::new(part, &step.id) }
                };
                let runs: Vec<StepRun> = values.into_iter().zip(1..).map(run).collect();
                execution.steps.splice(index..=index, runs);
            }
            Err(error) => {
                if let Some(run) = execution.steps.get_mut(index) {
                    run.started_at = Some(now);
                }
                return self.step_over(now, id, index, (StepState::Failed, &error));
            }
        }
        self.touch(now, ObjectKey::Execution(id));
    }
}

impl Execution {
    /// The things that a step is done for; one that does not fit its pattern means none.
    pub(super) fn list(&self, for_each: &ForEach) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        for text in &for_each.list {
            let text = template::render(text, &self.context, &self.parameters)
                .map_err(|error| format!("`for_each`: {error}"))?;
            let parts = text.split(|it: char| it == ',' || it.is_whitespace());
            values.extend(parts.filter(|it| !it.is_empty()).map(str::to_owned));
        }
        if values.len() > ITEMS_MAX {
            return Err(format!("{} things are more than {ITEMS_MAX}", values.len()));
        }
        for value in &values {
            super::start::check_value(value, &for_each.pattern)
                .map_err(|error| format!("`for_each`: {error}"))?;
        }
        Ok(values)
    }

    /// Whether a further step may begin beside those that are being done.
    pub(super) fn has_room(&self) -> bool {
        let running: Vec<&StepRun> =
            self.steps.iter().filter(|it| it.state == StepState::Running).collect();
        let Some(first) = running.first() else { return true };
        let Some(index) = self.next_step().filter(|_| self.ending.is_none()) else { return false };
        let is_same =
            |it: &StepRun| it.item.is_some() && (it.part, &it.id) == (first.part, &first.id);
        let most = self.step(index).and_then(|it| it.for_each).map_or(1, |it| it.concurrency);
        self.steps.get(index).is_some_and(is_same) && running.len() < most as usize
    }

    /// What waits for its next attempt does not get it: the run turns round.
    pub(super) fn give_up_waiting(&mut self, now: Timestamp) {
        for run in &mut self.steps {
            let waits = run.state == StepState::Running && run.retry_at.take().is_some();
            if waits && run.part == Part::Step {
                run.state = StepState::Failed;
                run.ended_at = Some(now);
            }
        }
    }

    /// A step ended after the run had turned round: if it did something, that is undone first.
    pub(super) fn undo_late(&mut self, index: usize) {
        let Some(run) = self.steps.get(index) else { return };
        let can_be_undone =
            self.runbook.steps.iter().any(|it| it.id == run.id && it.undo.is_some());
        if run.state != StepState::Succeeded || !can_be_undone {
            return;
        }
        let undo = StepRun::undoing(run);
        let first = |it: &StepRun| it.part == Part::Undo;
        let place = self.steps.iter().position(first).unwrap_or(self.steps.len());
        self.steps.insert(place, undo);
        if let Some(ending) = &mut self.ending
            && ending.state == super::ExecutionState::Failed
        {
            ending.state = super::ExecutionState::Undone;
        }
    }
}

impl StepRun {
    /// What takes a step back.
    pub(super) fn undoing(done: &Self) -> Self {
        Self { item: done.item.clone(), ..Self::new(Part::Undo, &done.id) }
    }

    /// Whether it stands for itself, not for one of several things.
    pub(super) fn is_whole(&self) -> bool {
        self.item.is_none()
    }
}
