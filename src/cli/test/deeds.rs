//! Steps in a test: what comes of them, and whether runs are where they should be.

use crate::config::{ExpectedExecution, ExpectedStep, TestDeed};
use crate::domain::effect::{EffectKey, Outcome};
use crate::domain::execution::{Execution, Part, StepRun, StepState};

/// What comes of a step: the first of what is told for it that is not used up.
pub(super) fn outcome(
    deeds: &mut [TestDeed],
    execution: &Execution,
    key: &EffectKey,
) -> Option<Outcome> {
    let run = execution.steps.iter().find(|it| it.effect.as_ref() == Some(key))?;
    let item = run.item.as_ref().map(|it| it.value.as_str());
    let is_it = |it: &&mut TestDeed| {
        it.step == run.id
            && it.part == run.part
            && it.times != Some(0)
            && (it.item.is_none() || it.item.as_deref() == item)
    };
    let deed = deeds.iter_mut().find(is_it)?;
    deed.times = deed.times.map(|it| it - 1);
    Some(Outcome {
        result: deed.result,
        detail: "as the test says".to_owned(),
        output_tail: deed.output.clone(),
        code: deed.code,
        duration_milliseconds: 0,
    })
}

/// Whether a run is as expected.
pub(super) fn fits(wanted: &ExpectedExecution, it: &Execution) -> bool {
    let guard = || it.blocked_by.as_ref().map(|it| it.guard.clone());
    it.runbook.rule.name == wanted.runbook
        && wanted.state.is_none_or(|state| state == it.state)
        && (wanted.blocked_by.is_none() || wanted.blocked_by == guard())
        && wanted.parameters.iter().all(|(name, value)| it.parameters.get(name) == Some(value))
        && wanted.steps.iter().all(|wanted| it.steps.iter().any(|it| step_fits(wanted, it)))
}

fn step_fits(wanted: &ExpectedStep, it: &StepRun) -> bool {
    let item = it.item.as_ref().map(|it| &it.value);
    (it.part, &it.id, it.state) == (wanted.part, &wanted.id, wanted.state)
        && (wanted.item.is_none() || wanted.item.as_ref() == item)
}

/// What is expected of a run, for people.
pub(super) fn wanted(wanted: &ExpectedExecution) -> String {
    let mut words = Vec::from_iter(wanted.state.map(|it| it.as_str().to_owned()));
    words.extend(wanted.blocked_by.iter().map(|it| format!("blocked by {it}")));
    words.extend(wanted.parameters.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend(wanted.steps.iter().map(|it| step(it.part, &it.id, it.item.as_deref(), it.state)));
    words.join(" ")
}

/// Where a run is, for people.
pub(super) fn shown(it: &Execution) -> String {
    let steps = it.steps.iter().map(|it| {
        let item = it.item.as_ref().map(|it| it.value.as_str());
        step(it.part, &it.id, item, it.state)
    });
    let steps: Vec<String> = steps.collect();
    let (name, state) = (&it.runbook.rule.name, it.state.as_str());
    format!("{name} {state} ({}; {})", it.why, steps.join(", "))
}

fn step(part: Part, id: &str, item: Option<&str>, state: StepState) -> String {
    let part = if part == Part::Step { "" } else { part.as_str() };
    let item = item.map_or_else(String::new, |it| format!(" ({it})"));
    format!("{part} {id}{item} {}", state.as_str()).trim_start().to_owned()
}
