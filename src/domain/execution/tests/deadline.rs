//! The time for a whole run: what is under way when it is up is stopped before anything is undone.

use super::*;

fn timed(steps: Vec<Step>) -> Runbook {
    Runbook { timeout_seconds: Some(60), ..runbook(steps) }
}

/// Begins the second step, and lets the time of the run be up; gives what is ordered then.
fn out_of_time(world: &mut World) -> Vec<Effect> {
    let first = world.next().unwrap();
    world.finish(&first, good());
    assert_eq!(world.next().as_deref(), Some("2/1"));
    world.now = later(world.now, 59);
    world.apply(&Event::Woken);
    assert!(world.waiting.is_empty(), "there is a second left");
    world.now = later(world.now, 1);
    world.apply(&Event::Woken);
    std::mem::take(&mut world.waiting).into_iter().map(|it| it.effect).collect()
}

#[test]
fn what_is_under_way_is_stopped_first_and_the_rest_undone() {
    for (result, undone) in [(outcome(OutcomeKind::Stopped, None, ""), "1"), (good(), "2 1")] {
        let mut world = World::start(timed(steps(3)));
        let ordered = out_of_time(&mut world);
        let step = EffectKey("EXE-1/2/1".into());
        assert_eq!(ordered, [Effect::StopStep { step }], "nothing is undone beside it");
        world.finish("2/1", result);
        let execution = world.go(|_| good());
        assert_eq!(execution.state, ExecutionState::Undone);
        assert!(execution.why.contains("longer than its 60 s"), "{}", execution.why);
        let undos = world.done.iter().filter_map(|it| it.strip_prefix("undo/")?.strip_suffix("/1"));
        assert_eq!(undos.collect::<Vec<_>>().join(" "), undone);
        assert!(!world.done.iter().any(|it| it.starts_with("3/")), "{:?}", world.done);
    }
}

#[test]
fn nobodys_time_is_up_in_a_gap_and_a_crash_forgets_no_deadline() {
    let mut world = World::start(timed(steps(2)));
    assert_eq!(world.next().as_deref(), Some("1/1"));
    world.now = later(world.now, 3600);
    let last_seen = Some(later(world.now, -3600));
    world.apply(&Event::WatchStarted { last_seen });
    world.apply(&Event::Woken);
    assert!(world.waiting.is_empty(), "nobody watched: {:?}", world.waiting);
    world.now = later(world.now, 3600);
    world.apply(&Event::Woken);
    assert_eq!(world.waiting.len(), 1, "the step is stopped");
}
