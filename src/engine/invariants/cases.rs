//! Single histories: what went wrong once, in the fewest steps.

use super::{Act, Order, Word, World};
use crate::domain::effect::OutcomeKind;
use crate::domain::execution::{ExecutionId, ExecutionState};
use crate::domain::incident::IncidentState;

/// The states of the incidents, in order of number.
fn states(world: &World) -> Vec<IncidentState> {
    world.steady.incidents.values().map(|it| it.state).collect()
}

fn alert(nth: u8, word: Word) -> Act {
    Act::Alerts { source: 0, alerts: vec![(nth, word)] }
}

fn check_history(acts: &[Act], expected: &[IncidentState]) {
    let mut world = World::new();
    world.go(&Act::Rules(1));
    for act in acts {
        world.go(act);
    }
    assert_eq!(states(&world), expected, "{acts:?}");
}

#[test]
fn a_silence_that_ends_lets_its_alerts_go() {
    let silence = |lasts| Act::Silence { over: 0, starts_in: 0, lasts, replaces: None };
    let fires = || alert(3, Word::WhenTold);
    let over = || alert(3, Word::Over);
    check_history(&[silence(50), fires(), Act::Wait(49)], &[]);
    check_history(&[silence(50), fires(), Act::Wait(50)], &[IncidentState::Open]);
    // Also when it ends while nobody watches.
    check_history(&[silence(50), fires(), Act::Gap(500)], &[IncidentState::Open]);
    check_history(&[silence(50), fires(), Act::Restore, Act::Gap(500)], &[IncidentState::Open]);
    // Also when the incident was resolved before the alert began to fire again, muted.
    let before = [fires(), over(), silence(50), fires()];
    check_history(&before, &[IncidentState::Resolved]);
    check_history(&[&before[..], &[Act::Wait(60)]].concat(), &[IncidentState::Open]);
}

#[test]
fn new_alerts_follow_a_merge_also_after_a_restart() {
    let merge = Act::Merge { into: 0, from: 1 };
    let begin = [alert(0, Word::WhenTold), alert(1, Word::WhenTold), merge];
    let again = [Act::Restore, alert(3, Word::WhenTold)];
    check_history(&[&begin[..], &again[..]].concat(), &[IncidentState::Open]);
    // Over two merges as well.
    let merge = Act::Merge { into: 0, from: 1 };
    let twice = [alert(2, Word::WhenTold), merge];
    check_history(&[&begin[..], &twice[..], &again[..]].concat(), &[IncidentState::Open]);
}

#[test]
fn nobody_is_asked_about_an_incident_that_is_closed() {
    let mut world = World::new();
    // Rules 0 close an incident as soon as it is resolved.
    world.go(&alert(2, Word::WhenTold));
    let asked = |world: &World| {
        let waits = |it: &ExecutionState| {
            matches!(it, ExecutionState::Proposed | ExecutionState::WaitingApproval)
        };
        world.steady.executions.values().filter(|it| waits(&it.state)).count()
    };
    assert_eq!(asked(&world), 2);
    world.go(&alert(2, Word::Over));
    world.wait(1);
    assert_eq!(asked(&world), 0);
}

#[test]
fn a_result_that_is_told_twice_begins_no_step_twice() {
    let mut world = World::new();
    let run = Act::Run { runbook: 1, incident: None };
    world.go(&run);
    let first = world.old[0].clone();
    world.finish(first.clone(), OutcomeKind::Succeeded);
    assert_eq!(world.old.len(), 2);
    world.finish(first, OutcomeKind::Succeeded);
    assert_eq!(world.old.len(), 2, "{:?}", world.old);
}

#[test]
fn a_step_that_is_being_stopped_keeps_its_lock() {
    let mut world = World::new();
    let run = Act::Run { runbook: 1, incident: None };
    world.go(&run);
    world.go(&Act::Execution { nth: 0, order: Order::Again });
    world.wait(40);
    world.go(&run);
    let state =
        |world: &World, id| world.steady.executions.get(&ExecutionId(id)).map(|it| it.state);
    assert_eq!(state(&world, 2), Some(ExecutionState::Blocked));
    let first = world.old[0].clone();
    world.finish(first, OutcomeKind::Stopped);
    world.go(&run);
    assert_eq!(state(&world, 3), Some(ExecutionState::Running));
}
