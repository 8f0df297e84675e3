//! Runbooks over REST: what may be done, starting it, and the order to stop everything.

mod record;

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::executions::{self, ExecutionView};
use super::input::{ByBody, Input, Params, ReasonBody};
use super::routes::{Answer, Operation};
use crate::config::Role;
use crate::domain::event::Command;
use crate::domain::incident::IncidentId;
use crate::domain::rules::{
    Action, Approval, BlastRadius, Idempotency, Quota, Runbook, RunbookMode, Step, TriggerEvent,
    TriggerSchedule, Until,
};
use crate::domain::{Accepted, ObjectKey, State as Domain, Stop};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const MANY: Answer = Answer::Json("RunbookList");
    vec![
        Operation::read(
            "/api/v1/runbooks",
            "Lists runbooks, and whether they are stopped",
            MANY,
            list,
        ),
        Operation::command(
            "/api/v1/runbooks/stop-all",
            "Starts no runbook any more, and stops those that run",
            "Reason",
            MANY,
            stop_all,
        )
        .role(Some(Role::Admin)),
        Operation::command(
            "/api/v1/runbooks/resume-all",
            "Lets runbooks start again",
            "By",
            MANY,
            resume_all,
        )
        .role(Some(Role::Admin)),
        Operation::read(
            "/api/v1/runbooks/{name}",
            "Shows a runbook",
            Answer::Json("Runbook"),
            show,
        ),
        Operation::read(
            "/api/v1/runbooks/{name}/record",
            "Shows how its runs ended, and how far it should go by itself",
            Answer::Json("RunbookRecord"),
            record::record,
        ),
        Operation::command(
            "/api/v1/runbooks/{name}/stop",
            "Starts this runbook no more, and stops its runs",
            "Reason",
            Answer::Json("Runbook"),
            stop,
        ),
        Operation::command(
            "/api/v1/runbooks/{name}/resume",
            "Lets this runbook start again",
            "By",
            Answer::Json("Runbook"),
            resume,
        ),
        Operation::command(
            "/api/v1/runbooks/{name}/run",
            "Starts a runbook",
            "Run",
            Answer::Json("Execution"),
            run,
        ),
    ]
}

/// A runbook as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct RunbookView {
    name: String,
    description: String,
    mode: RunbookMode,
    triggers: Vec<TriggerView>,
    parameters: BTreeMap<String, ParameterView>,
    lock: Option<String>,
    cooldown_seconds: u32,
    cooldown_seconds_max: u32,
    runs_max: u32,
    runs_per_seconds: u32,
    breaker_after: u32,
    breaker_per_seconds: u32,
    at_once: Option<u32>,
    beside_people: bool,
    blast_radius: Option<BlastRadius>,
    precondition: Vec<&'static str>,
    approval: Option<Approval>,
    stopped: Option<Stop>,
    steps: Vec<StepView>,
    always: Vec<StepView>,
    verify: bool,
    file: String,
    line: u32,
}

#[derive(Clone, Debug, Serialize)]
struct TriggerView {
    event: TriggerEvent,
    matchers: Vec<String>,
    when: String,
    schedule: Option<TriggerSchedule>,
    quota: Quota,
}

#[derive(Clone, Debug, Serialize)]
struct ParameterView {
    value: String,
    pattern: String,
}

/// A step as it is written, before any value is known.
#[derive(Clone, Debug, Serialize)]
struct StepView {
    id: String,
    kind: &'static str,
    argv: Option<Vec<String>>,
    method: Option<String>,
    url: Option<String>,
    promql: Option<String>,
    timeout_seconds: u32,
    attempts: u32,
    until: Option<Until>,
    idempotency: Idempotency,
    #[serde(rename = "if")]
    condition: String,
    continue_on_error: bool,
    undo: bool,
}

fn view(runbook: &Runbook, stops: &BTreeMap<String, Stop>) -> RunbookView {
    let trigger = |it: &crate::domain::rules::Trigger| TriggerView {
        event: it.event,
        matchers: it.matchers.0.iter().map(ToString::to_string).collect(),
        when: it.when.clone(),
        schedule: it.schedule.clone(),
        quota: runbook.quota(it),
    };
    let parameter = |(name, it): (&String, &crate::domain::rules::Parameter)| {
        (name.clone(), ParameterView { value: it.value.clone(), pattern: it.pattern.clone() })
    };
    RunbookView {
        name: runbook.rule.name.clone(),
        description: runbook.description.clone(),
        mode: runbook.mode,
        triggers: runbook.triggers.iter().map(trigger).collect(),
        parameters: runbook.parameters.iter().map(parameter).collect(),
        lock: runbook.lock.clone(),
        cooldown_seconds: runbook.guards.cooldown_seconds,
        cooldown_seconds_max: runbook.guards.cooldown_seconds_max,
        runs_max: runbook.guards.runs_max,
        runs_per_seconds: runbook.guards.runs_per_seconds,
        breaker_after: runbook.guards.breaker_after,
        breaker_per_seconds: runbook.guards.breaker_per_seconds,
        at_once: runbook.guards.at_once,
        beside_people: runbook.guards.beside_people,
        blast_radius: runbook.guards.blast_radius.clone(),
        precondition: runbook.guards.preconditions.iter().map(Action::as_str).collect(),
        approval: runbook.approval.clone(),
        stopped: stops.get(&runbook.rule.name).cloned(),
        steps: runbook.steps.iter().map(step).collect(),
        always: runbook.always.iter().map(step).collect(),
        verify: runbook.verify.is_some(),
        file: runbook.rule.file.clone(),
        line: runbook.rule.line,
    }
}

fn step(step: &Step) -> StepView {
    let request = step.action.request();
    StepView {
        id: step.id.clone(),
        kind: step.action.as_str(),
        argv: step.action.argv().map(<[String]>::to_vec),
        method: request.map(|(method, _)| method.to_owned()),
        url: request.map(|(_, url)| url.to_owned()),
        promql: step.action.promql().map(str::to_owned),
        timeout_seconds: step.timeout_seconds,
        attempts: step.attempts,
        until: step.until,
        idempotency: step.idempotency,
        condition: step.condition.clone(),
        continue_on_error: step.continue_on_error,
        undo: step.undo.is_some(),
    }
}

/// All runbooks; there are never so many that they need pages.
#[derive(Clone, Debug, Serialize)]
struct RunbookList {
    items: Vec<RunbookView>,
    next_cursor: Option<String>,
    stopped: Option<Stop>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

async fn list(
    State(context): State<Context>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<RunbookList>, ApiError> {
    everything(&context).await
}

async fn everything(context: &Context) -> Result<Json<RunbookList>, ApiError> {
    let list = context
        .handle
        .read(|state| RunbookList {
            items: (state.rules.runbooks.iter())
                .map(|it| view(it, &state.memory.stopped_runbooks))
                .collect(),
            next_cursor: None,
            stopped: state.memory.stopped.clone(),
        })
        .await?;
    Ok(Json(list))
}

async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<RunbookView>, ApiError> {
    look_up(&context, &name).await
}

async fn look_up(context: &Context, name: &str) -> Result<Json<RunbookView>, ApiError> {
    let stops = |state: &Domain| {
        state.rules.runbook(name).map(|it| view(it, &state.memory.stopped_runbooks))
    };
    let found = context.handle.read(stops).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no runbook `{name}`")))
}

async fn stop(
    State(context): State<Context>,
    Path(name): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<RunbookView>, ApiError> {
    let by = caller.by(body.by)?;
    let command = Command::StopRunbook { runbook: name.clone(), reason: body.reason };
    context.handle.command(by, command).await?;
    look_up(&context, &name).await
}

async fn resume(
    State(context): State<Context>,
    Path(name): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<RunbookView>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::ResumeRunbook { runbook: name.clone() }).await?;
    look_up(&context, &name).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunBody {
    by: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    incident: Option<IncidentId>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    emergency: bool,
}

async fn run(
    State(context): State<Context>,
    Path(runbook): Path<String>,
    caller: Caller,
    Input(body): Input<RunBody>,
) -> Result<Json<ExecutionView>, ApiError> {
    let RunBody { by, parameters, incident, dry_run, emergency } = body;
    let by = caller.by(by)?;
    let command = Command::RunRunbook { runbook, parameters, incident, dry_run, emergency };
    match context.handle.command(by, command).await? {
        Accepted::Object(ObjectKey::Execution(id)) => {
            Ok(Json(executions::view(&executions::load(&context, id).await?)))
        }
        Accepted::Object(_) | Accepted::Done | Accepted::AfterEffect(_) => {
            Err(ApiError::unavailable("the run was asked for, but cannot be shown"))
        }
    }
}

async fn stop_all(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<RunbookList>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::StopRunbooks { reason: body.reason }).await?;
    everything(&context).await
}

async fn resume_all(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<RunbookList>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::ResumeRunbooks).await?;
    everything(&context).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let list = RunbookList {
            items: vec![view(
                &samples::runbook(),
                &BTreeMap::from([("restart".to_owned(), samples::stop())]),
            )],
            next_cursor: None,
            stopped: Some(samples::stop()),
        };
        let json = serde_json::to_value(list).unwrap();
        assert_schema("RunbookList", &json);
        assert_schema("Stop", &json["stopped"]);
        assert_schema("Runbook", &json["items"][0]);
        assert_schema("RunbookStep", &json["items"][0]["steps"][0]);
        assert_schema("RunbookTrigger", &json["items"][0]["triggers"][0]);
        assert_schema("RunbookParameter", &json["items"][0]["parameters"]["unit"]);
    }
}
