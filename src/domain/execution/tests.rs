//! Runs from beginning to end: every failure at every place, and what follows from it.

mod deadline;
mod each;

use super::*;
use crate::domain::effect::{Effect, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::event::{Command, Event};
use crate::domain::rules::{
    Idempotency, Occasion, Parameter, Receiver, Route, RuleRef, RuleSet, SecretText, Step, Verify,
};
use crate::domain::{Accepted, State, Turn, later};

/// A state with one runbook, and everything that it did.
struct World {
    state: State,
    now: Timestamp,
    /// The keys of what was done, without the number of the execution.
    done: Vec<String>,
    /// What receivers were told of.
    told: Vec<Occasion>,
    waiting: Vec<PlannedEffect>,
}

fn command(name: &str) -> Action {
    Action::command(vec![name.to_owned()])
}

/// A step that can be undone.
fn step(id: &str) -> Step {
    Step { undo: Some(Box::new(Step::new(id, command("undo")))), ..Step::new(id, command("do")) }
}

fn steps(count: usize) -> Vec<Step> {
    (1..=count).map(|it| step(&it.to_string())).collect()
}

fn runbook(steps: Vec<Step>) -> Runbook {
    Runbook {
        rule: Arc::new(RuleRef { name: "mend".to_owned(), ..RuleRef::default() }),
        mode: RunbookMode::Auto,
        steps,
        ..Runbook::default()
    }
}

fn outcome(result: OutcomeKind, code: Option<i32>, output: &str) -> Outcome {
    Outcome {
        result,
        detail: "as told".to_owned(),
        output_tail: output.to_owned(),
        code,
        duration_milliseconds: 1,
    }
}

fn good() -> Outcome {
    outcome(OutcomeKind::Succeeded, Some(0), "")
}

fn bad() -> Outcome {
    outcome(OutcomeKind::Failed, Some(1), "")
}

impl World {
    /// Starts a runbook.
    fn start(runbook: Runbook) -> Self {
        let mut world = Self {
            state: State::default(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            done: Vec::new(),
            told: Vec::new(),
            waiting: Vec::new(),
        };
        let rule = Arc::new(RuleRef { name: "hook".to_owned(), ..RuleRef::default() });
        let url = SecretText::Text("http://hook/".to_owned());
        let route = Route {
            rule: rule.clone(),
            matchers: "".parse().unwrap(),
            on: vec![Occasion::Opened, Occasion::ApprovalNeeded],
            receiver: "hook".to_owned(),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            decide_after_seconds: 0,
        };
        let rules = RuleSet {
            runbooks: vec![runbook],
            receivers: vec![Receiver { rule, webhook_url: url }],
            routes: vec![route],
            ..RuleSet::default()
        };
        world.apply(&Event::RulesLoaded(Arc::new(rules)));
        let turn = world.apply(&Event::CommandGiven {
            by: "ann".to_owned(),
            command: Command::RunRunbook {
                runbook: "mend".to_owned(),
                parameters: BTreeMap::new(),
                incident: None,
                dry_run: false,
                emergency: false,
            },
        });
        assert!(matches!(turn.reply, Some(Ok(Accepted::Object(_)))), "{:?}", turn.reply);
        world
    }

    fn apply(&mut self, event: &Event) -> Turn {
        let mut turn = self.state.apply(self.now, event);
        drop(self.state.take_changes());
        for effect in std::mem::take(&mut turn.effects) {
            if let Effect::Deliver { occasion, .. } = &effect.effect {
                self.told.push(*occasion);
            } else {
                self.waiting.push(effect);
            }
        }
        turn
    }

    /// The next deed, which is now being done.
    fn next(&mut self) -> Option<String> {
        assert!(self.waiting.len() <= 1, "two things at once: {:?}", self.waiting);
        let effect = self.waiting.pop()?;
        let name = effect.key.0.trim_start_matches("EXE-1/").to_owned();
        self.done.push(name.clone());
        Some(name)
    }

    fn finish(&mut self, name: &str, outcome: Outcome) {
        let key = EffectKey(format!("EXE-1/{name}").into());
        self.apply(&Event::EffectFinished { key, outcome });
    }

    /// Does everything, with the outcomes that are told, and lets time pass in between.
    fn go(&mut self, outcome: impl Fn(&str) -> Outcome) -> &Execution {
        for _ in 0..200 {
            if let Some(name) = self.next() {
                self.finish(&name, outcome(&name));
            } else if let Some(at) = self
                .execution()
                .and_then(|it| (!it.state.is_final()).then(|| self.state.next_wakeup()).flatten())
            {
                self.now = self.now.max(at);
                self.apply(&Event::Woken);
            } else {
                break;
            }
        }
        self.execution().expect("the guards remember it")
    }

    fn execution(&self) -> Option<&Execution> {
        self.state.executions.get(&ExecutionId(1))
    }
}

fn names(prefix: &str, numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|it| format!("{prefix}{it}/1")).collect()
}

#[test]
fn a_failure_at_any_step_undoes_those_before_it_in_reverse() {
    for count in 1..=8 {
        for failing in 1..=count {
            let mut world = World::start(runbook(steps(count)));
            let failed = format!("{failing}/1");
            let state = world.go(|it| if it == failed { bad() } else { good() }).state;
            let expected =
                if failing == 1 { ExecutionState::Failed } else { ExecutionState::Undone };
            assert_eq!(state, expected, "{failing} of {count}");
            let mut done = names("", 1..=failing);
            done.extend(names("undo/", (1..failing).rev()));
            assert_eq!(world.done, done);
        }
        let mut world = World::start(runbook(steps(count)));
        assert_eq!(world.go(|_| good()).state, ExecutionState::Succeeded);
        assert_eq!(world.done, names("", 1..=count));
    }
}

#[test]
fn a_failure_inside_an_undo_is_stuck_and_never_success() {
    for count in 2..=8 {
        for failing in 2..=count {
            for stuck in 1..failing {
                let mut book = runbook(steps(count));
                book.always = vec![Step::new("last", command("tidy"))];
                let mut world = World::start(book);
                let (failed, sticks) = (format!("{failing}/1"), format!("undo/{stuck}/1"));
                let is_bad = |it: &str| it == failed || it == sticks;
                let execution = world.go(|it| if is_bad(it) { bad() } else { good() }).clone();
                assert_eq!(execution.state, ExecutionState::Stuck);
                assert!(execution.holds_lock() && execution.ended_at.is_none());
                let mut done = names("", 1..=failing);
                done.extend(names("undo/", (stuck..failing).rev()));
                done.push("last/1".to_owned());
                assert_eq!(world.done, done, "{stuck}, {failing} of {count}");
                assert_eq!(world.told, [Occasion::Escalated], "nobody routes it, people are told");
                let why = format!("undoing step {stuck}: as told; this came after: step {failing}");
                assert!(execution.why.starts_with(&why), "{}", execution.why);
                assert_eq!(end_of_stuck(&mut world), ExecutionState::Aborted);
            }
        }
    }
}

/// A person has looked.
fn end_of_stuck(world: &mut World) -> ExecutionState {
    let (execution, reason) = (ExecutionId(1), "I mended it".to_owned());
    let command = Command::AbortExecution { execution, reason };
    world.apply(&Event::CommandGiven { by: "ann".to_owned(), command });
    let execution = world.execution().unwrap();
    assert!(!execution.holds_lock());
    execution.state
}

#[test]
fn a_loss_at_any_step_or_undo_waits_for_a_person() {
    for count in 1..=8 {
        for lost in names("", 1..=count).into_iter().chain(names("undo/", 1..count)) {
            let mut world = World::start(runbook(steps(count)));
            let last = format!("{count}/1");
            while let Some(name) = world.next() {
                if name == lost {
                    let key = EffectKey(format!("EXE-1/{name}").into());
                    world.apply(&Event::EffectLost { key });
                    break;
                }
                let fails = name == last && lost.starts_with("undo");
                world.finish(&name, if fails { bad() } else { good() });
            }
            assert_eq!(world.execution().unwrap().state, ExecutionState::Unknown, "{lost}");
            assert!(world.next().is_none(), "nothing goes on by itself");
            assert_eq!(world.told, [Occasion::ApprovalNeeded]);
        }
    }
}

#[test]
fn what_is_always_done_is_done_last_whatever_happens() {
    let book = || {
        let mut book = runbook(steps(2));
        book.always = vec![Step::new("x", command("tidy")), Step::new("y", command("tidy"))];
        book
    };
    for (failing, state, done) in [
        ("", ExecutionState::Succeeded, "1 2 x y"),
        ("1/1", ExecutionState::Failed, "1 x y"),
        ("2/1", ExecutionState::Undone, "1 2 undo/1 x y"),
        ("x/1", ExecutionState::Failed, "1 2 x y"),
        ("y/1", ExecutionState::Failed, "1 2 x y"),
    ] {
        let mut world = World::start(book());
        let execution = world.go(|it| if it == failing { bad() } else { good() });
        assert_eq!(execution.state, state, "{failing}: {}", execution.why);
        let names: Vec<&str> = world.done.iter().map(|it| it.strip_suffix("/1").unwrap()).collect();
        assert_eq!(names.join(" "), done, "{failing}");
    }
}

#[test]
fn conditions_errors_that_do_not_matter_and_values() {
    let number =
        Parameter { value: "{{ steps.look.output }}".to_owned(), pattern: "^[0-9]+$".to_owned() };
    let set = Action::Set { values: [("size".to_owned(), number)].into() };
    let grow = Action::command(vec!["grow".to_owned(), "{{ parameters.size }}".to_owned()]);
    let book = || {
        runbook(vec![
            Step { continue_on_error: true, ..step("look") },
            Step::new("take", set.clone()),
            Step {
                condition: "steps.look.exit_code == 0".to_owned(),
                ..Step::new("grow", grow.clone())
            },
            Step { condition: "parameters.size == '7'".to_owned(), ..step("last") },
        ])
    };
    let mut world = World::start(book());
    let answer = |result, code| outcome(result, Some(code), "7\n");
    let execution = world.go(|_| answer(OutcomeKind::Succeeded, 0)).clone();
    assert_eq!(execution.state, ExecutionState::Succeeded, "{}", execution.why);
    assert_eq!(world.done, ["look/1", "grow/1", "last/1"]);
    let argv = execution.steps[2].action.as_ref().and_then(Action::argv).unwrap();
    assert_eq!(argv, ["grow", "7"]);

    let mut world = World::start(book());
    let outcome_of = |it: &str| match it {
        "look/1" => answer(OutcomeKind::Failed, 1),
        _ => good(),
    };
    let execution = world.go(outcome_of).clone();
    assert_eq!(execution.state, ExecutionState::Succeeded, "{}", execution.why);
    assert_eq!(execution.steps[2].state, StepState::Skipped);
    assert_eq!(world.done, ["look/1", "last/1"]);

    let mut world = World::start(book());
    let execution = world.go(|_| outcome(OutcomeKind::Succeeded, Some(0), "7; rm -rf /"));
    assert_eq!(execution.state, ExecutionState::Undone);
    assert!(execution.why.contains("does not match `^[0-9]+$`"), "{}", execution.why);
    assert_eq!(world.done, ["look/1", "undo/look/1"]);
}

#[test]
fn a_condition_that_cannot_be_decided_fails_closed() {
    let asks = Step { condition: "steps.nothing.exit_code == 0".to_owned(), ..step("b") };
    let mut world = World::start(runbook(vec![step("a"), asks]));
    let execution = world.go(|_| good());
    assert_eq!(execution.state, ExecutionState::Undone);
    assert!(execution.why.contains("cannot be decided"), "{}", execution.why);
    assert_eq!(world.done, ["a/1", "undo/a/1"]);
}

#[test]
fn attempts_are_spread_and_bounded() {
    let tried =
        Step { attempts: 4, backoff_seconds: 8, idempotency: Idempotency::Idempotent, ..step("a") };
    let mut world = World::start(runbook(vec![tried]));
    let mut waits = Vec::new();
    while let Some(name) = world.next() {
        world.finish(&name, outcome(OutcomeKind::FailedRetryable, Some(1), ""));
        if let Some(at) = world.execution().and_then(|it| it.steps[0].retry_at) {
            waits.push(at.duration_since(world.now).as_millis());
            world.now = at;
            world.apply(&Event::Woken);
        }
    }
    assert_eq!(world.done, ["a/1", "a/2", "a/3", "a/4"]);
    for (wait, most) in waits.iter().zip([8_000, 16_000, 32_000]) {
        assert!((most / 2..=most).contains(wait), "{waits:?}");
    }
    assert!(waits.iter().any(|it| it % 1000 != 0), "not spread: {waits:?}");
}

#[test]
fn a_look_comes_before_the_deed_and_after_a_crash() {
    let looks = Step {
        look: Some(command("is-it-done")),
        idempotency: Idempotency::CheckThenAct,
        ..step("a")
    };
    let mut world = World::start(runbook(vec![looks.clone()]));
    assert_eq!(world.go(|_| good()).state, ExecutionState::Succeeded);
    assert_eq!(world.done, ["look/a/1"], "it was done already");

    let mut world = World::start(runbook(vec![looks.clone()]));
    let not_yet = |it: &str| if it.starts_with("look/") { bad() } else { good() };
    assert_eq!(world.go(not_yet).state, ExecutionState::Succeeded);
    assert_eq!(world.done, ["look/a/1", "a/1"]);

    let mut world = World::start(runbook(vec![looks.clone()]));
    let blind = |_: &str| outcome(OutcomeKind::Failed, None, "");
    assert_eq!(world.go(blind).state, ExecutionState::Failed);
    assert_eq!(world.done, ["look/a/1"], "what cannot be seen is not done");

    for (seen, done) in [(good(), "look/a/1 a/1 look/a/2"), (bad(), "look/a/1 a/1 look/a/2 a/2")] {
        let mut world = World::start(runbook(vec![looks.clone()]));
        let first = world.next().unwrap();
        world.finish(&first, bad());
        world.next().unwrap();
        world.apply(&Event::EffectLost { key: EffectKey("EXE-1/a/1".into()) });
        let after = |it: &str| if it == "look/a/2" { seen.clone() } else { good() };
        assert_eq!(world.go(after).state, ExecutionState::Succeeded);
        assert_eq!(world.done.join(" "), done);
    }
}

fn verified(verify: Verify) -> Runbook {
    Runbook { verify: Some(verify), ..runbook(steps(1)) }
}

#[test]
fn looks_verify_in_rounds_and_must_hold() {
    let verify = Verify {
        settle_seconds: 10,
        within_seconds: 100,
        looks: vec![command("look")],
        every_seconds: 20,
        hold_seconds: 30,
        escalate: true,
        ..Verify::default()
    };
    let mut world = World::start(verified(verify.clone()));
    let began = world.now;
    let execution = world.go(|_| good());
    assert_eq!(execution.why, "verified: command");
    // Settled after 10 s; held at 10, 30 and 40 s.
    assert_eq!(execution.ended_at, Some(later(began, 40)));
    assert_eq!(world.done.len(), 1 + 3);

    let mut world = World::start(verified(verify.clone()));
    let breaks = |it: &str| if it == "verify/command/2" { bad() } else { good() };
    let ended_at = world.go(breaks).ended_at;
    // Held at 10, not at 30; again from 50 on, at 70 and 80.
    assert_eq!(ended_at, Some(later(began, 80)));

    for undo in [false, true] {
        let verify = Verify { undo, ..verify.clone() };
        let mut world = World::start(verified(verify));
        let execution = world.go(|it| if it.starts_with("verify/") { bad() } else { good() });
        assert_eq!(execution.state, ExecutionState::Ineffective);
        assert_eq!(execution.ended_at, Some(later(began, 100)));
        assert_eq!(world.done.contains(&"undo/1/1".to_owned()), undo, "{:?}", world.done);
        assert_eq!(world.told, [Occasion::Escalated]);
    }
    let quiet = Verify { escalate: false, ..verify };
    let mut world = World::start(verified(quiet));
    world.go(|it| if it.starts_with("verify/") { bad() } else { good() });
    assert_eq!(world.told, []);
}

#[test]
fn a_wait_takes_its_time_and_a_receiver_is_told() {
    let tell = Action::Notify { receiver: "hook".to_owned(), text: "it goes on".to_owned() };
    let mut world = World::start(runbook(vec![
        Step::new("rest", Action::Wait { seconds: 90 }),
        Step::new("tell", tell),
        step("a"),
    ]));
    let began = world.now;
    assert_eq!(world.go(|_| good()).state, ExecutionState::Succeeded);
    assert_eq!(world.now, later(began, 90));
    assert_eq!(world.told, [Occasion::RunbookNote]);
    let gone = Action::Notify { receiver: "gone".to_owned(), text: String::new() };
    let mut world = World::start(runbook(vec![step("a"), Step::new("tell", gone)]));
    let execution = world.go(|_| good());
    assert_eq!(execution.state, ExecutionState::Undone);
    assert!(execution.why.contains("there is no receiver `gone`"), "{}", execution.why);
}

#[test]
fn a_person_stops_a_run_wherever_it_is() {
    let mut book = runbook(steps(2));
    book.always = vec![Step::new("last", command("tidy"))];
    for stopped_at in ["1/1", "2/1", "undo/1/1", "last/1"] {
        let mut world = World::start(book.clone());
        while let Some(name) = world.next() {
            if name == stopped_at {
                assert_eq!(end_of_run(&mut world, &name), ExecutionState::Aborted);
                break;
            }
            world.finish(&name, if name == "2/1" { bad() } else { good() });
        }
        assert_eq!(world.done.last().map(String::as_str), Some(stopped_at));
        assert!(world.next().is_none(), "nothing more is done");
    }
}

/// A person stops it, and the step that is being done ends.
fn end_of_run(world: &mut World, name: &str) -> ExecutionState {
    let (execution, reason) = (ExecutionId(1), String::new());
    let command = Command::AbortExecution { execution, reason };
    world.apply(&Event::CommandGiven { by: "ann".to_owned(), command });
    let stop = world.waiting.pop().map(|it| it.effect);
    assert!(matches!(stop, Some(Effect::StopStep { .. })), "{stop:?}");
    world.finish(name, outcome(OutcomeKind::Stopped, None, ""));
    let execution = world.execution().unwrap();
    assert!(!execution.holds_lock());
    execution.state
}
