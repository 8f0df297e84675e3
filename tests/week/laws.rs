//! What must hold of runs whenever everything that was decided is on the disk.

use super::disk::Contents;
use std::collections::BTreeMap;
use watchkeeper::domain::State;
use watchkeeper::domain::effect::Effect;
use watchkeeper::domain::execution::{Execution, ExecutionState, Part, StepRun, StepState};
use watchkeeper::domain::rules::{Action, RunbookMode};

/// What is right, or what is not.
pub(crate) type Verdict = Result<(), String>;

/// Says what is wrong, unless it is right.
pub(crate) fn ensure(is_right: bool, what: impl FnOnce() -> String) -> Verdict {
    if is_right { Ok(()) } else { Err(what()) }
}

/// Checks all runs in memory.
pub(crate) fn check(state: &State, disk: &Contents) -> Verdict {
    for execution in state.executions.values() {
        check_progress(state, execution, disk)?;
        check_answers(execution)?;
        check_preconditions(execution)?;
    }
    for planned in disk.effects() {
        if let Effect::RunStep { execution, .. } = &planned.effect {
            let run = state.executions.get(execution);
            let is_wanted = run.is_some_and(|it| {
                it.steps
                    .iter()
                    .any(|it| it.effect.as_ref() == Some(&planned.key) && it.is_under_way())
            });
            ensure(is_wanted, || format!("nobody waits for {}: {run:?}", planned.key))?;
        }
    }
    Ok(())
}

/// A run that goes on waits for something that comes: an effect, a time, a called run.
fn check_progress(state: &State, execution: &Execution, disk: &Contents) -> Verdict {
    let id = execution.id;
    for step in execution.steps.iter().filter(|it| it.is_under_way()) {
        let planned = step.effect.as_ref().and_then(|it| disk.planned(it));
        ensure(planned.is_some(), || format!("{id} waits for what nobody does: {step:?}"))?;
    }
    let calls = |step: &StepRun| {
        let child = step.child.and_then(|it| state.executions.get(&it));
        step.state == StepState::Running && child.is_some_and(|it| !it.state.is_final())
    };
    let waits = |it: &StepRun| it.is_under_way() || it.retry_at.is_some() || calls(it);
    match execution.state {
        ExecutionState::Running => {
            let goes_on = execution.steps.iter().any(waits);
            ensure(goes_on, || format!("{id} hangs: {execution:?}"))
        }
        ExecutionState::Verifying => {
            let is_timed = execution.steps_done_at.is_some() && execution.runbook.verify.is_some();
            ensure(is_timed, || format!("{id} verifies for ever: {execution:?}"))
        }
        ExecutionState::WaitingApproval => {
            let question = execution.question.as_ref();
            let ends = question.is_some_and(|it| it.expires_at.is_some());
            ensure(ends, || format!("{id} asks for ever: {execution:?}"))
        }
        _ => Ok(()),
    }
}

/// Each question was answered by nobody twice, by no more than it wanted, and before what it allows.
fn check_answers(execution: &Execution) -> Verdict {
    let id = execution.id;
    let mut answers: BTreeMap<Option<&str>, (u32, u32)> = BTreeMap::new();
    for answer in &execution.answers {
        let (yes, no) = answers.entry(answer.step.as_deref()).or_default();
        *(if answer.yes { yes } else { no }) += 1;
    }
    let is_once = answers.values().all(|(yes, no)| yes + no <= 1);
    ensure(is_once, || format!("{id} has too many answers: {:?}", execution.answers))?;
    let said_yes = |step: Option<&str>| answers.get(&step).is_some_and(|it| it.0 == 1);
    if execution.mode == RunbookMode::Approve && execution.started_at.is_some() {
        ensure(said_yes(None), || format!("{id} begins without a yes"))?;
    }
    let asks = |it: &&StepRun| matches!(it.action, Some(Action::Approval(_)));
    for step in execution.steps.iter().filter(asks).filter(|it| it.part == Part::Step) {
        let is_right = step.state != StepState::Succeeded || said_yes(Some(&step.id));
        ensure(is_right, || format!("{id} goes on without a yes: {execution:?}"))?;
    }
    Ok(())
}

/// Nothing has begun before what it needs was seen to be well.
fn check_preconditions(execution: &Execution) -> Verdict {
    let mut looks = execution.steps.iter().filter(|it| it.part == Part::Precondition);
    let is_begun = |it: &StepRun| it.part == Part::Step && it.started_at.is_some();
    let has_begun = execution.started_at.is_some() || execution.steps.iter().any(is_begun);
    let is_right = !has_begun || looks.all(|it| it.state == StepState::Succeeded);
    ensure(is_right, || format!("{} begins all the same: {execution:?}", execution.id))
}
