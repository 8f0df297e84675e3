//! Executions over REST: what a runbook does, and a person's yes or no.

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::follow::follow;
use super::input::{Input, Params, ReasonBody, page_limit, parse_id, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::config::Role;
use crate::domain::change::ChangeId;
use crate::domain::event::Command;
use crate::domain::execution::{
    self, Execution, ExecutionId, ExecutionState, Part, StepRun, StepState,
};
use crate::domain::incident::IncidentId;
use crate::domain::rules::{Action, ApprovalRole, RunbookMode};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Execution");
    vec![
        Operation::read(
            "/api/v1/executions",
            "Lists runs of runbooks, newest first",
            Answer::Page("Execution"),
            list,
        )
        .query(&[
            ("state", "waiting_approval, running, …; several with commas"),
            ("runbook", "the runbook's name"),
            ("incident", "the incident that it is for"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::read("/api/v1/executions/{id}", "Shows a run", ONE, show),
        Operation::read(
            "/api/v1/executions/{id}/logs",
            "Shows the last part of what each step printed or answered",
            Answer::Json("ExecutionLogs"),
            logs,
        ),
        Operation::read(
            "/api/v1/executions/{id}/stream",
            "Tells of a run as it goes, until it is over: `execution` with the run each time it has \
             changed, `output` with `{\"effect\", \"text\", \"left_out\"}` as its programs print",
            Answer::Other("text/event-stream"),
            follow,
        ),
        Operation::command(
            "/api/v1/executions/{id}/approve",
            "Says yes to a run that is proposed or waits, or to a step of it that asks",
            "By",
            ONE,
            approve,
        ),
        Operation::command("/api/v1/executions/{id}/deny", "Says no to it", "Reason", ONE, deny),
        Operation::command(
            "/api/v1/executions/{id}/abort",
            "Stops it; what has begun is not undone",
            "Reason",
            ONE,
            abort,
        ),
    ]
}

/// An execution as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ExecutionView {
    id: ExecutionId,
    runbook: String,
    incident: Option<IncidentId>,
    mode: RunbookMode,
    parent: Option<ExecutionId>,
    change: Option<ChangeId>,
    state: ExecutionState,
    blocked_by: Option<String>,
    blocked_reason: Option<String>,
    parameters: BTreeMap<String, String>,
    lock: String,
    steps: Vec<StepView>,
    trigger: Option<BTreeMap<String, String>>,
    requested_by: Option<String>,
    decided_by: Option<String>,
    question: Option<QuestionView>,
    answers: Vec<execution::Answer>,
    checks: Vec<execution::Check>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    alerts_resolved: bool,
    why: String,
}

/// What a run asks people, as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct QuestionView {
    step: Option<String>,
    text: String,
    role: ApprovalRole,
    people: u32,
    two_person: bool,
    yes: Vec<String>,
    expires_at: Option<Timestamp>,
}

fn question(execution: &Execution) -> Option<QuestionView> {
    let question = execution.question.as_ref()?;
    let step = question.step.and_then(|it| execution.steps.get(it)).map(|it| it.id.clone());
    let approval = &question.approval;
    Some(QuestionView {
        step,
        text: approval.text.clone(),
        role: approval.role,
        people: approval.people,
        two_person: approval.two_person,
        yes: question.yes.clone(),
        expires_at: question.expires_at,
    })
}

/// A step as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct StepView {
    id: String,
    part: Part,
    kind: Option<&'static str>,
    item: Option<String>,
    execution: Option<ExecutionId>,
    state: StepState,
    argv: Option<Vec<String>>,
    method: Option<String>,
    url: Option<String>,
    promql: Option<String>,
    note: Option<String>,
    destination: Option<String>,
    attempts: u32,
    exit_code: Option<i32>,
    detail: String,
    output_tail: String,
    retry_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

/// Makes the view of an execution.
pub(super) fn view(execution: &Execution) -> ExecutionView {
    let named = |it: &String| (!it.is_empty()).then(|| it.clone());
    ExecutionView {
        id: execution.id,
        runbook: execution.runbook.rule.name.clone(),
        incident: execution.incident,
        mode: execution.mode,
        parent: execution.parent,
        change: execution.change,
        state: execution.state,
        blocked_by: execution.blocked_by.as_ref().map(|it| it.guard.clone()),
        blocked_reason: execution.blocked_by.as_ref().map(|it| it.reason.clone()),
        parameters: execution.parameters.clone(),
        lock: execution.lock.clone(),
        steps: execution.steps.iter().map(step).collect(),
        trigger: Some(&execution.context.trigger).filter(|it| !it.is_empty()).cloned(),
        requested_by: named(&execution.requested_by),
        decided_by: named(&execution.decided_by),
        question: question(execution),
        answers: execution.answers.clone(),
        checks: execution.checks.clone(),
        created_at: execution.created_at,
        started_at: execution.started_at,
        ended_at: execution.ended_at,
        deadline: execution.deadline,
        alerts_resolved: execution.alerts_resolved,
        why: execution.why.clone(),
    }
}

/// Whom a step speaks to: `host:port` of a request, a server, a receiver.
fn destination(action: &Action) -> Option<String> {
    if let Action::Query { source, .. } = action {
        return Some(source.clone());
    }
    if let Action::Notify { receiver, .. } = action {
        return Some(receiver.clone());
    }
    let (_, url) = action.request()?;
    let url = reqwest::Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn step(step: &StepRun) -> StepView {
    let action = step.action.as_ref();
    // Headers and body may hold secrets, so they are not shown.
    let request = action.and_then(Action::request);
    StepView {
        id: step.id.clone(),
        part: step.part,
        kind: action.map(Action::as_str),
        item: step.item.as_ref().map(|it| it.value.clone()),
        execution: step.child,
        state: step.state,
        argv: action.and_then(Action::argv).map(<[String]>::to_vec),
        method: request.map(|(method, _)| method.to_owned()),
        url: request.map(|(_, url)| url.to_owned()),
        promql: action.and_then(Action::promql).map(str::to_owned),
        note: action.and_then(Action::note),
        destination: action.and_then(destination),
        attempts: step.attempts,
        exit_code: step.exit_code,
        detail: step.detail.clone(),
        output_tail: step.output_tail.clone(),
        retry_at: step.retry_at,
        started_at: step.started_at,
        ended_at: step.ended_at,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    runbook: Option<String>,
    incident: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<ExecutionView>>, ApiError> {
    let states =
        parse_words(query.state.as_deref(), &ExecutionState::ALL.map(|it| (it.as_str(), it)))?;
    let incident = query.incident.as_deref().map(parse_id::<IncidentId>).transpose()?;
    let limit = page_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_id::<ExecutionId>).transpose()?;
    let cursor = cursor.map(|it| it.to_string());
    let page = listing::walk(&context, Kind::Execution, cursor, limit, |it: &Execution| {
        states.as_ref().is_none_or(|known| known.contains(&it.state))
            && incident.is_none_or(|wanted| it.incident == Some(wanted))
            && query.runbook.as_ref().is_none_or(|wanted| it.runbook.rule.name == *wanted)
    });
    Ok(Json(page.await?.map(|it| view(&it))))
}

/// Reads an execution, open or closed.
pub(super) async fn load(context: &Context, id: ExecutionId) -> Result<Execution, ApiError> {
    let open = context.handle.read(|state| state.executions.get(&id).cloned()).await?;
    match open {
        Some(execution) => Ok(execution),
        None => listing::find(context, Kind::Execution, &id.to_string()).await,
    }
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<ExecutionView>, ApiError> {
    Ok(Json(view(&load(&context, parse_id(&id)?).await?)))
}

/// What the steps of an execution printed or answered.
#[derive(Clone, Debug, Serialize)]
struct LogsView {
    id: ExecutionId,
    state: ExecutionState,
    steps: Vec<StepView>,
}

async fn logs(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<LogsView>, ApiError> {
    let execution = load(&context, parse_id(&id)?).await?;
    let steps = execution.steps.iter().map(step).collect();
    Ok(Json(LogsView { id: execution.id, state: execution.state, steps }))
}

async fn give(
    context: &Context,
    by: String,
    execution: ExecutionId,
    command: Command,
) -> Result<Json<ExecutionView>, ApiError> {
    context.handle.command(by, command).await?;
    Ok(Json(view(&load(context, execution).await?)))
}

impl Caller {
    /// What counts of a yes; `None` without tokens, where a name is only what the caller says.
    fn approval_role(&self) -> Option<ApprovalRole> {
        self.name.as_ref()?;
        Some(match self.role {
            Role::Admin => ApprovalRole::Admin,
            Role::Ingest | Role::Viewer | Role::Responder => ApprovalRole::Responder,
        })
    }
}

async fn approve(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<ExecutionView>, ApiError> {
    let execution = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let role = caller.approval_role();
    give(&context, by, execution, Command::ApproveExecution { execution, role }).await
}

async fn deny(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<ExecutionView>, ApiError> {
    let execution = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let role = caller.approval_role();
    let command = Command::DenyExecution { execution, role, reason: body.reason };
    give(&context, by, execution, command).await
}

async fn abort(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<ExecutionView>, ApiError> {
    let execution = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let command = Command::AbortExecution { execution, reason: body.reason };
    give(&context, by, execution, command).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let json = serde_json::to_value(view(&samples::execution())).unwrap();
        assert_schema("Execution", &json);
        assert_schema("Question", &json["question"]);
        assert_schema("Answer", &json["answers"][0]);
        assert_schema("GuardCheck", &json["checks"][0]);
        assert_eq!(json["steps"][1]["destination"], "127.0.0.1:8080");
        assert_schema("Step", &json["steps"][0]);
        assert_schema("Step", &json["steps"][1]);
        assert_eq!(json["steps"][0]["argv"], serde_json::json!(["systemctl", "restart", "web"]));
        assert_eq!(json["steps"][1]["url"], "http://127.0.0.1:8080/check");
        assert_eq!(json["blocked_by"], "cooldown");
        let text = json.to_string();
        assert!(!text.contains("sesame"), "a header of a step is shown: {text}");
    }
}
