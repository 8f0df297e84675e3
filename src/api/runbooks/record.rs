//! The record of a runbook: how its runs ended, and how far it should go by itself.

use super::super::Context;
use super::super::error::ApiError;
use super::super::listing;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::rules::{Runbook, RunbookMode};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// So many runs are looked at, the newest.
const RUNS_MAX: usize = 1000;
/// So many runs in shadow that nothing held back, before it is proposed.
const SHADOWS_WANTED: usize = 3;
/// So many verified successes in a row, before it asks by itself.
const SUCCESSES_TO_ASK: usize = 3;
/// So many verified successes in a row, before it runs by itself.
const SUCCESSES_TO_RUN: usize = 10;

/// How a runbook's runs ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RecordView {
    name: String,
    mode: RunbookMode,
    file: String,
    line: u32,
    /// How many runs were looked at, the newest.
    runs: usize,
    /// How many ended in each state.
    outcomes: BTreeMap<&'static str, usize>,
    /// How many of the last runs were verified successes, without another in between.
    verified_in_a_row: usize,
    /// Of those that did something, how many succeeded, in percent.
    success_percent: Option<usize>,
    /// How long a success took, in seconds, on average.
    success_seconds: Option<i64>,
    /// Of those that were verified, how many helped, in percent.
    effective_percent: Option<usize>,
    /// The time that people were spared, in seconds, by what the runbook says that they need; `None` =
    /// it does not say so.
    saved_seconds: Option<i64>,
    proposal: RunbookMode,
    why: String,
}

pub(super) async fn record(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<RecordView>, ApiError> {
    let runbook = context.handle.read(|state| state.rules.runbook(&name).cloned()).await?;
    let runbook =
        runbook.ok_or_else(|| ApiError::not_found(format!("there is no runbook `{name}`")))?;
    let is_it = |it: &Execution| it.runbook.rule.name == name && it.state.is_final();
    let page = listing::walk(&context, Kind::Execution, None, RUNS_MAX, is_it).await?;
    Ok(Json(judge(&runbook, &page.items)))
}

/// Judges by the runs, the newest first.
fn judge(runbook: &Runbook, runs: &[Execution]) -> RecordView {
    let mut outcomes = BTreeMap::new();
    for run in runs {
        *outcomes.entry(run.state.as_str()).or_insert(0) += 1;
    }
    let done: Vec<&Execution> = runs.iter().filter(|it| it.started_at.is_some()).collect();
    let good: Vec<&&Execution> =
        done.iter().filter(|it| it.state == ExecutionState::Succeeded).collect();
    let is_verified =
        |it: &&&Execution| it.state == ExecutionState::Succeeded && it.runbook.verify.is_some();
    let verified_in_a_row = done.iter().take_while(is_verified).count();
    let lasted = |it: &&&Execution| Some(it.ended_at?.as_second() - it.started_at?.as_second());
    let lasted: Vec<i64> = good.iter().filter_map(lasted).collect();
    let count = i64::try_from(lasted.len()).unwrap_or(i64::MAX);
    let is_shadow = |it: &&Execution| it.state == ExecutionState::WouldRun;
    let shadows = runs.iter().filter(is_shadow);
    let free = shadows.filter(|it| it.why.starts_with("would have run")).count();
    let ineffective = done.iter().filter(|it| it.state == ExecutionState::Ineffective).count();
    let helped = good.iter().filter(|it| it.runbook.verify.is_some()).count();
    let (proposal, why) = propose(runbook, verified_in_a_row, free, &done);
    RecordView {
        name: runbook.rule.name.clone(),
        mode: runbook.mode,
        file: runbook.rule.file.clone(),
        line: runbook.rule.line,
        runs: runs.len(),
        outcomes,
        verified_in_a_row,
        success_percent: (good.len() * 100).checked_div(done.len()),
        success_seconds: lasted.iter().sum::<i64>().checked_div(count),
        effective_percent: (helped * 100).checked_div(helped + ineffective),
        saved_seconds: runbook.manual_seconds.map(|it| saved(it, &lasted)),
        proposal,
        why,
    }
}

/// What successes that lasted so long spared people who need `manual` seconds for each. One that took
/// longer than that spared nothing, and takes nothing off: nobody had to watch it.
fn saved(manual: u32, lasted: &[i64]) -> i64 {
    lasted.iter().map(|it| (i64::from(manual) - it).max(0)).sum()
}

/// How far it should go: a step up for a row of verified successes, a step down for a useless run.
fn propose(
    runbook: &Runbook,
    in_a_row: usize,
    shadows: usize,
    done: &[&Execution],
) -> (RunbookMode, String) {
    let bad = |it: &&&Execution| {
        matches!(
            it.state,
            ExecutionState::Ineffective | ExecutionState::Stuck | ExecutionState::Undone
        )
    };
    let mode = runbook.mode;
    if mode == RunbookMode::Auto
        && let Some(bad) = done.iter().take(SUCCESSES_TO_RUN).find(bad)
    {
        let text = format!("{} of its last runs was {}", bad.id, bad.state.as_str());
        return (RunbookMode::Approve, text);
    }
    let (next, got, wanted, what) = match mode {
        RunbookMode::Shadow => {
            (RunbookMode::Suggest, shadows, SHADOWS_WANTED, "runs in shadow that nothing held back")
        }
        RunbookMode::Suggest => {
            (RunbookMode::Approve, in_a_row, SUCCESSES_TO_ASK, "verified successes in a row")
        }
        RunbookMode::Approve => {
            (RunbookMode::Auto, in_a_row, SUCCESSES_TO_RUN, "verified successes in a row")
        }
        RunbookMode::Auto => {
            return (mode, "its last runs give no reason to hold it back".to_owned());
        }
    };
    if mode != RunbookMode::Shadow && runbook.verify.is_none() {
        return (mode, "it has no `verify`, so that nobody knows whether it helps".to_owned());
    }
    if mode == RunbookMode::Approve && runbook.approval.is_some() {
        return (mode, "its `approval` says whose yes it needs".to_owned());
    }
    let text = format!("{got} {what}, of {wanted} that are wanted");
    if got >= wanted { (next, text) } else { (mode, text) }
}

#[cfg(test)]
mod tests {
    use super::super::super::openapi::assert_schema;
    use super::super::super::samples;
    use super::*;

    fn runs(states: &[ExecutionState]) -> Vec<Execution> {
        let run = |state: &ExecutionState| Execution { state: *state, ..samples::execution() };
        states.iter().map(run).collect()
    }

    fn check(mode: RunbookMode, states: &[ExecutionState], expected: RunbookMode) {
        let runbook = Runbook { mode, approval: None, ..samples::runbook() };
        let view = judge(&runbook, &runs(states));
        assert_eq!(view.proposal, expected, "{}", view.why);
    }

    #[test]
    fn evidence_decides_how_far_a_runbook_goes() {
        use ExecutionState::{Blocked, Ineffective, Succeeded};
        check(RunbookMode::Suggest, &[Succeeded; 3], RunbookMode::Approve);
        check(RunbookMode::Suggest, &[Succeeded; 2], RunbookMode::Suggest);
        check(RunbookMode::Approve, &[Succeeded; 9], RunbookMode::Approve);
        check(RunbookMode::Approve, &[Succeeded; 10], RunbookMode::Auto);
        let mixed = [&[Ineffective][..], &[Succeeded; 10]].concat();
        check(RunbookMode::Approve, &mixed, RunbookMode::Approve);
        check(RunbookMode::Auto, &mixed, RunbookMode::Approve);
        check(RunbookMode::Auto, &[Succeeded; 3], RunbookMode::Auto);
        check(RunbookMode::Shadow, &[Blocked; 9], RunbookMode::Shadow);
    }

    #[test]
    fn what_is_not_verified_is_no_evidence() {
        let runbook = Runbook { mode: RunbookMode::Suggest, verify: None, ..samples::runbook() };
        let view = judge(&runbook, &runs(&[ExecutionState::Succeeded; 20]));
        assert_eq!((view.proposal, view.success_percent), (RunbookMode::Suggest, Some(100)));
    }

    #[test]
    fn what_helped_is_told_with_the_time_that_it_saved() {
        use ExecutionState::{Failed, Ineffective, Succeeded};
        let mut runs = runs(&[Succeeded, Succeeded, Succeeded, Ineffective, Failed]);
        for (run, seconds) in runs.iter_mut().zip([60, 100, 2000, 60, 60]) {
            let since = run.started_at.unwrap();
            run.ended_at = Some(since + jiff::SignedDuration::from_secs(seconds));
        }
        let runbook = Runbook { manual_seconds: Some(900), ..samples::runbook() };
        let view = judge(&runbook, &runs);
        assert_eq!((view.success_percent, view.effective_percent), (Some(60), Some(75)));
        assert_eq!(view.saved_seconds, Some(840 + 800));
        let untold = Runbook { manual_seconds: None, ..runbook };
        assert_eq!(judge(&untold, &runs).saved_seconds, None);
        assert_eq!(judge(&untold, &[]).effective_percent, None);
    }

    #[test]
    fn the_view_is_as_documented() {
        let view = judge(&samples::runbook(), &runs(&[ExecutionState::Succeeded]));
        assert_schema("RunbookRecord", &serde_json::to_value(view).unwrap());
    }
}
