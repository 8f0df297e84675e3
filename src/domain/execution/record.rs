//! Each run is a change: recorded when it begins, told of when it ends, and linked both ways.

use super::{Execution, ExecutionId, ExecutionState};
use crate::domain::State;
use crate::domain::change::{ChangeKind, ChangeState, RUNS, ReceivedChange};
use crate::domain::rules::ChangeNote;
use jiff::Timestamp;
use std::sync::Arc;

impl State {
    /// A run begins.
    pub(super) fn record_run(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id) else { return };
        let change = ReceivedChange {
            external_id: id.to_string(),
            time: Some(now),
            title: format!("runbook {}", execution.runbook.rule.name),
            service: self.acted_on(execution),
            author: author(execution),
            kind: execution.change_kind(),
            state: ChangeState::Running,
            ..ReceivedChange::default()
        };
        let change = self.receive_change(now, &Arc::from(RUNS), &change);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.change = Some(change);
        }
    }

    /// A run is over.
    pub(super) fn record_end(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id).filter(|it| it.change.is_some()) else {
            return;
        };
        // What was done and did not help is done all the same.
        let is_done =
            matches!(execution.state, ExecutionState::Succeeded | ExecutionState::Ineffective);
        let change = ReceivedChange {
            external_id: id.to_string(),
            title: format!("runbook {}", execution.runbook.rule.name),
            kind: execution.change_kind(),
            state: if is_done { ChangeState::Done } else { ChangeState::Failed },
            ..ReceivedChange::default()
        };
        self.receive_change(now, &Arc::from(RUNS), &change);
    }

    /// A step tells of a change.
    pub(super) fn record_step(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        index: usize,
        note: &ChangeNote,
    ) -> Result<String, String> {
        let execution = self.executions.get(&id).ok_or("the run is gone")?;
        let run = execution.steps.get(index).ok_or("the step is gone")?;
        let place = run.item.as_ref().map_or_else(String::new, |it| format!(".{}", it.place));
        let service = match note.service.as_str() {
            "" => self.acted_on(execution),
            service => service.to_owned(),
        };
        let change = ReceivedChange {
            external_id: format!("{id}/{}/{}{place}", run.part.as_str(), run.id),
            time: Some(now),
            title: note.title.clone(),
            service,
            environment: note.environment.clone(),
            version: note.version.clone(),
            author: author(execution),
            kind: ChangeKind::Standard,
            state: ChangeState::Done,
            link: String::new(),
        };
        let change = self.receive_change(now, &Arc::from(RUNS), &change);
        Ok(format!("recorded as {change}"))
    }

    /// What a run acts on, by the name that changes are told with: what its incident is about, else an
    /// item that a parameter names. Empty = it is not known.
    fn acted_on(&self, execution: &Execution) -> String {
        let incident = execution.incident.and_then(|it| self.incidents.get(&it));
        if let Some(service) = incident.and_then(|it| it.services.first()) {
            return service.clone();
        }
        let catalog = &*self.rules.catalog;
        let named = |it: &String| catalog.find(it).map(|it| catalog.name(it).to_owned());
        execution.parameters.values().find_map(named).unwrap_or_default()
    }
}

/// Who did it: whoever asked for the run, or said yes to it.
fn author(execution: &Execution) -> String {
    let people = [&execution.requested_by, &execution.decided_by];
    let person = people.into_iter().find(|it| !it.is_empty());
    person.map_or_else(|| "watchkeeper".to_owned(), Clone::clone)
}
