//! Problems over REST.

mod view;

pub(super) use view::{ProblemView, view};

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, ReasonBody, page_limit, parse_id, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::change::ChangeId;
use crate::domain::event::Command;
use crate::domain::incident::IncidentId;
use crate::domain::problem::{Problem, ProblemId, ProblemState};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use std::time::Duration;

/// How long an answer waits for a detection that was asked for.
const DETECTION_WAIT: Duration = Duration::from_secs(25);

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Problem");
    const MANY: Answer = Answer::Page("Problem");
    vec![
        Operation::read("/api/v1/problems", "Lists problems, newest first", MANY, list).query(&[
            ("state", "proposed, accepted, rejected, …; several with commas"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::command(
            "/api/v1/problems/detect",
            "Looks for recurring problems at once and lists what is known then",
            "By",
            MANY,
            detect,
        ),
        Operation::read("/api/v1/problems/{id}", "Shows a problem", ONE, show),
        Operation::command(
            "/api/v1/problems/{id}/accept",
            "Says that it is one",
            "By",
            ONE,
            accept,
        ),
        Operation::command(
            "/api/v1/problems/{id}/reject",
            "Says that it is none",
            "Reason",
            ONE,
            reject,
        ),
        Operation::command(
            "/api/v1/problems/{id}/known-error",
            "Says what is behind it or how to live with it; its incidents are offered that from then on",
            "KnownError",
            ONE,
            known_error,
        ),
        Operation::command(
            "/api/v1/problems/{id}/plan-fix",
            "Says which change will remove its cause",
            "PlanFix",
            ONE,
            plan_fix,
        ),
        Operation::command(
            "/api/v1/problems/{id}/link",
            "Adds an incident to it",
            "Link",
            ONE,
            link,
        ),
        Operation::command(
            "/api/v1/problems/{id}/close",
            "Says that its cause is gone; when it recurs it is open again",
            "Reason",
            ONE,
            close,
        ),
    ]
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<ProblemView>>, ApiError> {
    let known = ProblemState::ALL.map(|it| (it.as_str(), it));
    let states = parse_words(query.state.as_deref(), &known)?;
    let limit = page_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_id::<ProblemId>).transpose()?;
    let page = context
        .handle
        .read(|state| {
            let mut wanted = state
                .problems
                .values()
                .rev()
                .filter(|it| cursor.is_none_or(|cursor| it.id < cursor))
                .filter(|it| states.as_ref().is_none_or(|known| known.contains(&it.state)))
                .peekable();
            let items: Vec<_> = wanted.by_ref().take(limit).map(view).collect();
            let last = items.last().map(|it| it.id.to_string());
            Page { items, next_cursor: wanted.peek().and(last) }
        })
        .await?;
    Ok(Json(page))
}

/// Reads a problem.
pub(super) async fn load(context: &Context, id: ProblemId) -> Result<Problem, ApiError> {
    let open = context.handle.read(|state| state.problems.get(&id).cloned()).await?;
    match open {
        Some(problem) => Ok(problem),
        None => listing::find(context, Kind::Problem, &id.to_string()).await,
    }
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<ProblemView>, ApiError> {
    Ok(Json(view(&load(&context, parse_id(&id)?).await?)))
}

async fn detect(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<Page<ProblemView>>, ApiError> {
    let by = caller.by(body.by)?;
    // The command is answered when the detection has its result.
    let detecting = context.handle.command(by, Command::DetectProblems);
    if let Ok(detected) = tokio::time::timeout(DETECTION_WAIT, detecting).await {
        detected?;
    } else {
        tracing::info!("a detection goes on for longer than its request waits");
    }
    list(State(context), Params(ListQuery::default())).await
}

async fn give(
    context: &Context,
    by: String,
    problem: ProblemId,
    command: Command,
) -> Result<Json<ProblemView>, ApiError> {
    context.handle.command(by, command).await?;
    Ok(Json(view(&load(context, problem).await?)))
}

async fn accept(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, problem, Command::AcceptProblem { problem }).await
}

async fn reject(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let command = Command::RejectProblem { problem, reason: body.reason };
    give(&context, by, problem, command).await
}

async fn close(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, problem, Command::CloseProblem { problem, reason: body.reason }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownErrorBody {
    by: Option<String>,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    workaround: String,
    runbook: Option<String>,
}

async fn known_error(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<KnownErrorBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let KnownErrorBody { by, cause, workaround, runbook } = body;
    let by = caller.by(by)?;
    let command = Command::DeclareKnownError { problem, cause, workaround, runbook };
    give(&context, by, problem, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFixBody {
    by: Option<String>,
    change: ChangeId,
}

async fn plan_fix(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<PlanFixBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, problem, Command::PlanFix { problem, change: body.change }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    by: Option<String>,
    incident: IncidentId,
}

async fn link(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<LinkBody>,
) -> Result<Json<ProblemView>, ApiError> {
    let problem = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let command = Command::LinkProblem { problem, incident: body.incident };
    give(&context, by, problem, command).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let json = serde_json::to_value(view(&samples::problem())).unwrap();
        assert_schema("Problem", &json);
        assert_eq!(json["count"], 2);
        assert_eq!(json["incidents"], serde_json::json!(["INC-3", "INC-42"]));
    }
}
