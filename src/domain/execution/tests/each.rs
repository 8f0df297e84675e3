//! Steps for several things at a time, and for other runs: every failure at every place, in every order
//! of the answers.

use super::*;
use crate::domain::rules::ForEach;
use proptest::prelude::*;

fn spread(count: usize, concurrency: u32) -> Runbook {
    let list = (1..=count).map(|it| format!("h{it}")).collect();
    let for_each =
        ForEach { list, name: "host".to_owned(), pattern: "[a-z0-9]+".to_owned(), concurrency };
    runbook(vec![Step { for_each: Some(for_each), ..step("a") }])
}

/// Answers in an order that is told by lots; gives what was done at the same time at most.
fn go(world: &mut World, lots: &[usize], failing: &[usize]) -> usize {
    let mut most = 0;
    for lot in lots.iter().cycle().take(200) {
        most = most.max(world.waiting.len());
        if world.waiting.is_empty() {
            break;
        }
        let effect = world.waiting.remove(lot % world.waiting.len());
        let name = effect.key.0.trim_start_matches("EXE-1/").to_owned();
        world.done.push(name.clone());
        let fails = failing.iter().any(|it| name == format!("a.{it}/1"));
        world.finish(&name, if fails { bad() } else { good() });
    }
    most
}

proptest! {
    #[test]
    fn what_was_done_is_undone_and_nothing_twice(
        count in 1_usize..8,
        concurrency in 1_u32..5,
        lots in prop::collection::vec(0_usize..8, 1..20),
        failing in prop::collection::vec(1_usize..10, 0..3),
    ) {
        let mut world = World::start(spread(count, concurrency));
        let most = go(&mut world, &lots, &failing);
        prop_assert!(most <= concurrency as usize, "{most} at a time: {:?}", world.done);
        let execution = world.execution().unwrap();
        prop_assert!(execution.state.is_final(), "{:?}", execution.state);
        prop_assert!(!execution.is_under_way());
        let done = |prefix: &str, it: usize| world.done.contains(&format!("{prefix}a.{it}/1"));
        let failed = failing.iter().any(|it| done("", *it));
        prop_assert_eq!(failed, execution.state != ExecutionState::Succeeded);
        for place in 1..=count {
            let succeeded = done("", place) && !failing.contains(&place);
            prop_assert_eq!(done("undo/", place), failed && succeeded, "{} {:?}", place, world.done);
        }
        let mut once = world.done.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), world.done.len());
    }
}

#[test]
fn each_run_is_a_change_that_is_told_of_again_when_it_is_over() {
    use crate::domain::change::ChangeState;
    let mut world = World::start(runbook(steps(1)));
    let change = world.execution().unwrap().change.unwrap();
    let told = |world: &World| world.state.change_log.open[&change].told.clone();
    assert_eq!(told(&world).state, ChangeState::Running);
    assert_eq!(told(&world).external_id, "EXE-1");
    assert_eq!(
        (told(&world).title.as_str(), told(&world).author.as_str()),
        ("runbook mend", "ann")
    );
    world.go(|_| bad());
    assert_eq!(told(&world).state, ChangeState::Failed);
    assert_eq!(world.state.change_log.open[&change].run(), Some(ExecutionId(1)));
}

#[test]
fn who_stops_all_stops_a_called_run_once() {
    use crate::domain::Count;
    let mut world = World::start(runbook(Vec::new()));
    let call = Action::Runbook { runbook: "part".to_owned(), parameters: BTreeMap::new() };
    let rule = Arc::new(RuleRef { name: "part".to_owned(), ..RuleRef::default() });
    let runbooks =
        vec![runbook(vec![Step::new("call", call)]), Runbook { rule, ..runbook(steps(1)) }];
    world.apply(&Event::RulesLoaded(Arc::new(RuleSet { runbooks, ..RuleSet::default() })));
    let order = |command| Event::CommandGiven { by: "ann".to_owned(), command };
    world.apply(&order(Command::RunRunbook {
        runbook: "mend".to_owned(),
        parameters: BTreeMap::new(),
        incident: None,
        dry_run: false,
        emergency: false,
    }));
    assert_eq!(&*world.waiting[0].key.0, "EXE-3/1/1", "it is being done");
    let turn = world.apply(&order(Command::StopRunbooks { reason: String::new() }));
    let mut keys: Vec<&EffectKey> = world.waiting.iter().map(|it| &it.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), world.waiting.len(), "one effect twice: {:?}", world.waiting);
    let ended = turn.counts.iter().filter(|it| matches!(it, Count::ExecutionEnded { .. })).count();
    assert_eq!(ended, 2, "the one that called, and the one that was called");
}
