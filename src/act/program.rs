//! A step's program: what it is given, where it is started, and what is kept of what it prints.

use super::command::{self, Task};
use super::executor::{Executor, Lost};
use super::live::Board;
use super::outcome;
use super::output::{Kept, Secrets, Sink};
use crate::config;
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind};
use crate::domain::rules::{Bounds, SecretText};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Who starts programs.
pub(super) enum Place {
    /// This process.
    Here {
        /// See [`super::Options::keeper_mark`].
        keeper_mark: Option<String>,
    },
    /// Another one, so that this one needs no privilege.
    Executor(Executor),
}

/// A program as a step orders it.
pub(super) struct Program<'a> {
    pub(super) argv: &'a [String],
    pub(super) bounds: &'a Bounds,
    /// What the daemon tells it.
    pub(super) environment: &'a [(&'a str, String)],
    /// What is masked in its output.
    pub(super) secrets: &'a Secrets,
    pub(super) place: &'a Place,
    /// Where what it prints is seen at once, and under which name.
    pub(super) board: Option<(&'a Arc<Board>, &'a EffectKey)>,
}

/// Runs a program to its end, to its deadline, or until it is stopped. What it starts ends with it.
pub(super) async fn run(
    program: &Program<'_>,
    timeout: Duration,
    stop: &CancellationToken,
) -> Result<Outcome, Lost> {
    let (task, secrets) = match ready(program) {
        Ok(ready) => ready,
        // The file may be in the middle of being renewed.
        Err(error) => return Ok(outcome(OutcomeKind::FailedRetryable, error)),
    };
    let printing = program.board.map(|(board, key)| board.begin(key, secrets.clone()));
    let kept = Arc::new(Kept::new(printing));
    let mut outcome = match program.place {
        Place::Here { keeper_mark } => {
            let sink = Sink::Kept(kept.clone());
            command::run(&task, keeper_mark.as_deref(), sink, timeout, stop).await
        }
        Place::Executor(executor) => {
            let key = program.board.map(|(_, key)| key.0.to_string()).unwrap_or_default();
            let mut outcome = executor.run((key, task), &kept, timeout, stop).await?;
            outcome.detail = secrets.mask(&outcome.detail);
            outcome
        }
    };
    let (text, cut) = kept.text(&secrets);
    if cut > 0 {
        outcome.detail =
            format!("{}; {cut} bytes in the middle of its output were cut", outcome.detail);
    }
    outcome.output_tail = text;
    Ok(outcome)
}

/// All that must be known to start it, and what is masked in its output.
fn ready(program: &Program<'_>) -> Result<(Task, Secrets), String> {
    let told = program.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut environment: BTreeMap<String, String> = told.collect();
    let mut hidden = Vec::new();
    for (name, value) in &program.bounds.environment {
        let text = match value {
            SecretText::Text(text) => text.clone(),
            SecretText::File(_) | SecretText::Env(_) => {
                let text = config::read_secret(name, value).map_err(|it| it.to_string())?;
                hidden.push(text.clone());
                text
            }
        };
        environment.insert(name.clone(), text);
    }
    let Bounds { directory, environment: _, limits, user, stdin, paths } = program.bounds.clone();
    let argv = program.argv.to_vec();
    let task = Task { argv, directory, environment, limits, user, stdin, paths };
    Ok((task, program.secrets.with(hidden)))
}
