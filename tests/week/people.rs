//! What people do by what they see: they answer, late or never, twice, or stop it all.

use super::random::Random;
use std::collections::BTreeMap;
use watchkeeper::domain::State;
use watchkeeper::domain::event::Command;
use watchkeeper::domain::execution::{Execution, ExecutionId, ExecutionState};
use watchkeeper::domain::incident::IncidentId;

/// What somebody orders, if he has a mind to.
pub(crate) fn orders(state: &State, random: &mut Random) -> Vec<Command> {
    let reason = String::new;
    let one = |random: &mut Random, wanted: &[ExecutionState]| {
        let of = |it: &&Execution| wanted.contains(&it.state);
        let ids: Vec<ExecutionId> = state.executions.values().filter(of).map(|it| it.id).collect();
        random.pick(&ids).copied()
    };
    let incidents: Vec<IncidentId> =
        state.incidents.values().filter(|it| it.state.is_active()).map(|it| it.id).collect();
    let incident = random.pick(&incidents).copied();
    let asked = one(random, &[ExecutionState::WaitingApproval]);
    let lost = one(random, &[ExecutionState::Unknown, ExecutionState::Stuck]);
    let at_work = one(random, &[ExecutionState::Running, ExecutionState::Verifying]);
    let approve = |execution| Command::ApproveExecution { execution, role: None };
    let order = match random.below(40) {
        0..=9 => asked.map(approve),
        10..=11 => {
            asked.map(|it| Command::DenyExecution { execution: it, role: None, reason: reason() })
        }
        12..=17 => lost.map(|it| Command::AbortExecution { execution: it, reason: reason() }),
        18 => at_work.map(|it| Command::AbortExecution { execution: it, reason: reason() }),
        19 => Some(Command::StopRunbooks { reason: reason() }),
        20..=25 => state.memory.stopped.is_some().then_some(Command::ResumeRunbooks),
        26..=27 => incident.map(|it| Command::AcknowledgeIncident { incident: it }),
        28 => incident.map(|it| Command::ResolveIncident { incident: it, reason: reason() }),
        29..=31 => Some(by_hand(random, incident)),
        _ => None,
    };
    // Who clicks twice says the same twice.
    let twice = order.as_ref().filter(|_| random.chance(150)).cloned();
    order.into_iter().chain(twice).collect()
}

fn by_hand(random: &mut Random, incident: Option<IncidentId>) -> Command {
    let runbook = *random.pick(&["part", "asked-part", "rolling"]).unwrap_or(&"part");
    let host = format!("h{}", random.below(4));
    let parameters = if runbook == "rolling" {
        BTreeMap::new()
    } else {
        BTreeMap::from([("host".to_owned(), host)])
    };
    Command::RunRunbook {
        runbook: runbook.to_owned(),
        parameters,
        incident: incident.filter(|_| random.chance(500)),
        dry_run: random.chance(100),
        emergency: random.chance(300),
    }
}

/// What somebody orders who puts everything in order.
pub(crate) fn tidying(state: &State) -> Vec<Command> {
    let reason = String::new;
    let lost = state.executions.values().filter(|it| {
        matches!(
            it.state,
            ExecutionState::Unknown | ExecutionState::Stuck | ExecutionState::Proposed
        )
    });
    let lost = lost.map(|it| Command::AbortExecution { execution: it.id, reason: reason() });
    let resume = state.memory.stopped.is_some().then_some(Command::ResumeRunbooks);
    lost.chain(resume).collect()
}
