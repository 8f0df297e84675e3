//! How an execution goes on: from step to step, attempt to attempt, until something ends it.

use super::{Execution, ExecutionId, ExecutionState, Part, StepRun, StepState};
use crate::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::incident::TimelineEntry;
use crate::domain::rules::{Action, Idempotency, Step, Until};
use crate::domain::{ObjectKey, State, later};
use jiff::{SignedDuration, Timestamp};

/// The longest time between two attempts of a step, in seconds.
const BACKOFF_SECONDS_MAX: i64 = 3600;

impl State {
    /// Begins what comes next, one thing after another, until one of them takes time.
    pub(super) fn proceed(&mut self, now: Timestamp, id: ExecutionId) {
        while let Some(execution) = self.executions.get(&id)
            && execution.state == ExecutionState::Running
            && execution.has_room()
        {
            match execution.next_step() {
                Some(index) => self.begin_step(now, id, index),
                None if execution.ending.is_some() => self.conclude(now, id),
                None => self.steps_done(now, id),
            }
        }
    }

    fn begin_step(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(step) = execution.step(index) else { return };
        if step.for_each.is_some() && execution.steps.get(index).is_some_and(StepRun::is_whole) {
            return self.spread(now, id, index);
        }
        let wanted = execution.is_wanted(index, &step);
        let action = execution.rendered(index, &step.action);
        let Some(run) = execution.steps.get_mut(index) else { return };
        if wanted == Ok(false) {
            run.state = StepState::Skipped;
            "its `if` does not hold".clone_into(&mut run.detail);
            self.touch(now, ObjectKey::Execution(id));
            return;
        }
        run.started_at = Some(now);
        run.state = StepState::Running;
        let undecided = |error| format!("its `if` cannot be decided: {error}");
        match wanted.map_err(undecided).and(action) {
            Ok(action) => {
                run.action = Some(action.clone());
                self.do_step(now, id, index, &action);
            }
            Err(error) => self.step_over(now, id, index, (StepState::Failed, &error)),
        }
    }

    /// Does a step whose texts are filled in, or orders it.
    fn do_step(&mut self, now: Timestamp, id: ExecutionId, index: usize, action: &Action) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let result = match action {
            Action::Wait { seconds } => {
                if let Some(run) = execution.steps.get_mut(index) {
                    run.retry_at = Some(later(now, i64::from(*seconds)));
                }
                return self.touch(now, ObjectKey::Execution(id));
            }
            Action::Runbook { runbook, parameters } => {
                return self.call(now, id, index, (runbook, parameters));
            }
            Action::Change(change) => self.record_step(now, id, index, change),
            Action::Set { values } => execution.set(values),
            Action::Notify { receiver, text } => self.tell_receiver(now, id, receiver, text),
            Action::Approval(approval) => {
                return self.ask(now, id, approval.as_ref().clone(), Some(index));
            }
            Action::Command { .. }
            | Action::Http { .. }
            | Action::Query { .. }
            | Action::Tool(_) => {
                return self.begin_attempt(now, id, index);
            }
        };
        let (state, detail) = match result {
            Ok(detail) => (StepState::Succeeded, detail),
            Err(error) => (StepState::Failed, error),
        };
        self.step_over(now, id, index, (state, &detail));
    }

    /// Begins an attempt: with a look, if the step has one.
    pub(super) fn begin_attempt(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(step) = execution.step(index) else { return };
        let Some(run) = execution.steps.get_mut(index) else { return };
        run.attempts += 1;
        run.retry_at = None;
        run.looking = step.look.is_some();
        self.order_attempt(now, id, index, &step);
    }

    fn order_attempt(&mut self, now: Timestamp, id: ExecutionId, index: usize, step: &Step) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let look = step.look.as_ref().map(|it| execution.rendered(index, it));
        let Some(run) = execution.steps.get_mut(index) else { return };
        let action = match (run.looking, look) {
            (true, Some(Ok(look))) => Some(look),
            (true, Some(Err(error))) => {
                let detail = format!("the look: {error}");
                return self.step_over(now, id, index, (StepState::Failed, &detail));
            }
            _ => run.action.clone(),
        };
        let Some(action) = action else { return };
        let key = run.effect_key(id);
        run.effect = Some(key.clone());
        let harmless = run.looking || matches!(run.part, Part::Verify | Part::Precondition);
        self.turn.effects.push(PlannedEffect {
            key,
            idempotent: harmless || step.idempotency == Idempotency::Idempotent,
            effect: Effect::RunStep {
                execution: id,
                step: run.id.clone(),
                action,
                timeout_seconds: step.timeout_seconds,
            },
        });
        self.touch(now, ObjectKey::Execution(id));
    }

    /// A step was tried, or looked at.
    pub(in crate::domain) fn step_finished(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        key: &EffectKey,
        outcome: &Outcome,
    ) {
        let Some((index, step)) = self.step_of(id, key) else { return };
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let goes_on = execution.goes_on();
        let is_ending = execution.ending.is_some();
        let Some(run) = execution.steps.get_mut(index) else { return };
        let gives_up = is_ending && run.part == Part::Step;
        // A result that is told twice, or after the step was given up, changes nothing.
        if !run.is_under_way() {
            return;
        }
        run.detail.clone_from(&outcome.detail);
        run.output_tail.clone_from(&outcome.output_tail);
        run.exit_code = outcome.code;
        let succeeded = outcome.result == OutcomeKind::Succeeded;
        if !goes_on {
            run.ended_at = Some(now);
            run.state =
                if succeeded && !run.looking { StepState::Succeeded } else { StepState::Failed };
            self.touch(now, ObjectKey::Execution(id));
            return;
        }
        // Only what answered with a code has said that it is not done yet.
        if run.looking && !succeeded && outcome.code.is_some() {
            run.looking = false;
            self.order_attempt(now, id, index, &step);
            return;
        }
        run.retry_at =
            if gives_up { None } else { again_at(now, (key, &step), run, outcome.result) };
        if run.retry_at.is_some() {
            self.touch(now, ObjectKey::Execution(id));
            return;
        }
        let detail = match (run.looking, succeeded, step.until) {
            (true, true, _) => format!("done already: {}", outcome.detail),
            (true, false, _) => format!("whether it is done cannot be seen: {}", outcome.detail),
            (false, false, Some(Until { within_seconds, .. })) => {
                format!("not so within {within_seconds} s: {}", outcome.detail)
            }
            (false, ..) => outcome.detail.clone(),
        };
        let state = if succeeded { StepState::Succeeded } else { StepState::Failed };
        self.step_over(now, id, index, (state, &detail));
        self.proceed(now, id);
    }

    /// A step is over: what follows from that for the run. The caller goes on.
    pub(super) fn step_over(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        index: usize,
        (state, detail): (StepState, &str),
    ) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let goes_on_anyway = execution.step(index).is_some_and(|it| it.continue_on_error);
        let Some(run) = execution.steps.get_mut(index) else { return };
        run.state = state;
        run.ended_at = Some(now);
        run.retry_at = None;
        detail.clone_into(&mut run.detail);
        let (part, text) = (run.part, format!("{}: {detail}", run.name()));
        if part == Part::Verify {
            self.looked(now, id, state == StepState::Succeeded, &text);
            return;
        }
        if part == Part::Precondition {
            self.precondition_over(now, id, (state == StepState::Succeeded, &text));
            return;
        }
        let is_late = part == Part::Step && execution.ending.is_some();
        if is_late {
            execution.undo_late(index);
        }
        self.touch(now, ObjectKey::Execution(id));
        if state == StepState::Succeeded || is_late {
            self.log_execution(now, id, "", &text);
        } else if part == Part::Step && goes_on_anyway {
            self.log_execution(now, id, "", &format!("{text}; the run goes on"));
        } else {
            self.step_failed(now, id, part, &text);
        }
    }

    /// The daemon, or its executor, stopped while a step was being done that must not be done twice.
    pub(in crate::domain) fn step_lost(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        key: &EffectKey,
    ) {
        let Some((index, step)) = self.step_of(id, key) else { return };
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let goes_on = execution.goes_on();
        let Some(run) = execution.steps.get_mut(index) else { return };
        if !run.is_under_way() {
            return;
        }
        if goes_on && step.look.is_some() && step.idempotency == Idempotency::CheckThenAct {
            self.begin_attempt(now, id, index);
            return;
        }
        run.state = StepState::Unknown;
        run.ended_at = Some(now);
        "who did this step stopped while it was being done".clone_into(&mut run.detail);
        let why = format!(
            "nobody knows whether {} was done, and it must not be done twice: look, then abort",
            run.name()
        );
        if goes_on {
            execution.state = ExecutionState::Unknown;
            execution.why.clone_from(&why);
            self.log_execution(now, id, "", &why);
            self.ask_for_approval(now, id, &why);
            self.tell_caller(id);
        }
        self.touch(now, ObjectKey::Execution(id));
    }

    /// The step that an effect belongs to, if the effect is its latest.
    fn step_of(&self, id: ExecutionId, key: &EffectKey) -> Option<(usize, Step)> {
        let execution = self.executions.get(&id)?;
        let index = execution.steps.iter().position(|it| it.effect.as_ref() == Some(key))?;
        Some((index, execution.step(index)?))
    }

    /// An execution's time has come: a retry, the end of a wait, or a look at its effect.
    pub(super) fn step_due(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id) else { return };
        let due =
            |(index, it): (usize, &StepRun)| it.retry_at.filter(|at| *at <= now).map(|_| index);
        let due: Vec<usize> = execution.steps.iter().enumerate().filter_map(due).collect();
        for index in due {
            self.go_on_with(now, id, index);
        }
    }

    fn go_on_with(&mut self, now: Timestamp, id: ExecutionId, index: usize) {
        let Some(execution) = self.executions.get(&id) else { return };
        if !execution.goes_on() || execution.steps.get(index).is_none_or(|it| it.retry_at.is_none())
        {
            return;
        }
        if execution.step(index).is_some_and(|it| matches!(it.action, Action::Wait { .. })) {
            self.step_over(now, id, index, (StepState::Succeeded, "waited"));
            self.proceed(now, id);
        } else {
            self.begin_attempt(now, id, index);
        }
    }

    /// Whether an effect of an execution is still to be done: its step is under way, and nobody
    /// has stopped the execution. After a restart what is not wanted is not begun again.
    pub fn wants_step(&self, id: ExecutionId, key: &EffectKey) -> bool {
        self.executions.get(&id).is_some_and(|execution| {
            execution.goes_on()
                && execution
                    .steps
                    .iter()
                    .any(|it| it.effect.as_ref() == Some(key) && it.is_under_way())
        })
    }

    /// Tells an execution's timeline, and its incident's, what happened.
    pub(super) fn log_execution(&mut self, now: Timestamp, id: ExecutionId, by: &str, text: &str) {
        let Some(execution) = self.executions.get(&id) else { return };
        let line = format!("runbook {} ({id}) {text}", execution.runbook.rule.name);
        if let Some(incident) = execution.incident {
            self.log(
                ObjectKey::Incident(incident),
                TimelineEntry::new(now, "execution", by, line.clone()),
            );
        }
        self.log(ObjectKey::Execution(id), TimelineEntry::new(now, "execution", by, line));
    }
}

impl Execution {
    /// Whether steps or looks are being done.
    fn goes_on(&self) -> bool {
        matches!(self.state, ExecutionState::Running | ExecutionState::Verifying)
    }

    /// The next step that is to be done: what it undoes and what it always does come when it is
    /// known how it ends.
    pub(super) fn next_step(&self) -> Option<usize> {
        let next = |part: Part| {
            let is_next = |it: &StepRun| it.part == part && it.state == StepState::Pending;
            self.steps.iter().position(is_next)
        };
        match self.ending {
            None => next(Part::Precondition).or_else(|| next(Part::Step)),
            Some(_) => next(Part::Undo).or_else(|| next(Part::Always)),
        }
    }

    /// What a step of the run does, as it is written.
    pub(super) fn step(&self, index: usize) -> Option<Step> {
        let run = self.steps.get(index)?;
        let runbook = &self.runbook;
        let named = |steps: &[Step]| steps.iter().find(|it| it.id == run.id).cloned();
        match run.part {
            Part::Step => named(&runbook.steps),
            Part::Always => named(&runbook.always),
            Part::Undo => named(&runbook.steps)?.undo.map(|it| *it),
            Part::Verify => look_of(&runbook.verify.as_ref()?.looks, &run.id),
            Part::Precondition => look_of(&runbook.guards.preconditions, &run.id),
        }
    }
}

/// A look as a step: it is what it is called by.
fn look_of(looks: &[Action], id: &str) -> Option<Step> {
    let look = looks.iter().find(|it| it.as_str() == id)?;
    let step = Step::new(id, look.clone());
    Some(Step { timeout_seconds: super::verify::LOOK_SECONDS, ..step })
}

/// When a step that was tried is tried again, if it is.
fn again_at(
    now: Timestamp,
    (key, step): (&EffectKey, &Step),
    run: &StepRun,
    result: OutcomeKind,
) -> Option<Timestamp> {
    if result == OutcomeKind::Succeeded {
        return None;
    }
    if let Some(until) = step.until {
        let next = later(now, until.every_seconds.into());
        let since = run.started_at.unwrap_or(now);
        return Some(next).filter(|it| *it <= later(since, until.within_seconds.into()));
    }
    let may_repeat = match step.idempotency {
        Idempotency::Idempotent => true,
        Idempotency::CheckThenAct => step.look.is_some(),
        Idempotency::Once => run.looking,
    };
    let again = matches!(result, OutcomeKind::FailedRetryable | OutcomeKind::TimedOut)
        && may_repeat
        && run.attempts < step.attempts;
    again.then(|| retry_time(now, key, step, run.attempts))
}

/// Exponential backoff. Half of it is spread by the effect's name, so that what failed together is
/// not tried together; the spread is no drawn lot, so that replay gives the same.
fn retry_time(now: Timestamp, key: &EffectKey, step: &Step, attempts: u32) -> Timestamp {
    let wait = i64::from(step.backoff_seconds) << attempts.saturating_sub(1).min(16);
    let half = wait.min(BACKOFF_SECONDS_MAX) * 500;
    // FNV-1a, of which the upper bits are spread well enough.
    let hash = key.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let part = i64::try_from(hash >> 48).unwrap_or(0) * half / 65_536;
    let wait = SignedDuration::from_millis(half + part);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
