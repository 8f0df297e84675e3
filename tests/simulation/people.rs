//! What people do, by what they see.

use super::faults::Fault;
use super::random::Random;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use watchkeeper::domain::State;
use watchkeeper::domain::event::Command;
use watchkeeper::domain::execution::ExecutionId;
use watchkeeper::domain::incident::IncidentId;

/// What a person orders.
pub(crate) fn order(
    fault: Fault,
    state: &State,
    random: &mut Random,
    now: Timestamp,
) -> Option<Command> {
    match fault {
        Fault::IncidentOrders => on_incident(state, random),
        Fault::MergeAndSplit => merge_or_split(state, random),
        Fault::Silences => silence(state, random, now),
        Fault::RunbookOrders => on_runbook(state, random),
        _ => None,
    }
}

fn incident(state: &State, random: &mut Random) -> Option<IncidentId> {
    let ids: Vec<IncidentId> = state.incidents.keys().copied().collect();
    random.pick(&ids).copied()
}

fn on_incident(state: &State, random: &mut Random) -> Option<Command> {
    let incident = incident(state, random)?;
    Some(match random.below(8) {
        0..=2 => Command::AcknowledgeIncident { incident },
        3..=4 => Command::ResolveIncident { incident, reason: String::new() },
        5 => Command::ReopenIncident { incident, reason: String::new() },
        6 => Command::AssignIncident { incident, owner: "bob".to_owned() },
        _ => Command::NoteIncident { incident, text: "looking".to_owned() },
    })
}

fn merge_or_split(state: &State, random: &mut Random) -> Option<Command> {
    let incident = incident(state, random)?;
    if random.chance(500) {
        let other = self::incident(state, random)?;
        return Some(Command::MergeIncidents { into: incident, from: vec![other] });
    }
    let members: Vec<_> = state.members.get(&incident)?.iter().copied().collect();
    let alerts = random.pick(&members).copied().into_iter().collect();
    Some(Command::SplitIncident { incident, alerts })
}

fn silence(state: &State, random: &mut Random, now: Timestamp) -> Option<Command> {
    let ids: Vec<String> = state.silences.keys().map(ToString::to_string).collect();
    let known = random.pick(&ids).cloned();
    if random.chance(200) {
        return Some(Command::ExpireSilence { id: known? });
    }
    let over = ["service=\"a\"", "alertname=\"B\"", "service!=\"b\"", "severity=\"warning\""];
    let starts_in = i64::try_from(random.below(300)).unwrap_or(0) - 60;
    let lasts = i64::try_from(random.between(20, 900)).unwrap_or(60);
    let starts_at = now + SignedDuration::from_secs(starts_in);
    Some(Command::SetSilence {
        new_id: format!("silence-{}", random.next()),
        replaces: known.filter(|_| random.chance(300)),
        matchers: random.pick(&over)?.parse().ok()?,
        starts_at,
        ends_at: starts_at + SignedDuration::from_secs(lasts),
        created_by: "ann".to_owned(),
        comment: String::new(),
    })
}

fn on_runbook(state: &State, random: &mut Random) -> Option<Command> {
    let open = state.executions.values().filter(|it| !it.state.is_final());
    let open: Vec<ExecutionId> = open.map(|it| it.id).collect();
    let execution = random.pick(&open).copied();
    let reason = String::new();
    Some(match random.below(12) {
        0..=3 => Command::ApproveExecution { execution: execution?, role: None },
        4 => Command::DenyExecution { execution: execution?, role: None, reason },
        5..=6 => Command::AbortExecution { execution: execution?, reason },
        7 => Command::StopRunbooks { reason },
        8 => Command::ResumeRunbooks,
        9 => Command::DetectProblems,
        _ => Command::RunRunbook {
            runbook: (*random.pick(&["again", "once", "asked", "proposed"])?).to_owned(),
            parameters: BTreeMap::new(),
            incident: incident(state, random).filter(|_| random.chance(700)),
            dry_run: random.chance(100),
            emergency: random.chance(300),
        },
    })
}
