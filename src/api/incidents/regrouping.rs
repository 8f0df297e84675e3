//! What people do about what belongs together: merge, link, unlink, split, lock, unlock.

use super::super::Context;
use super::super::access::Caller;
use super::super::error::ApiError;
use super::super::input::{ByBody, Input, ReasonBody};
use super::super::routes::{Answer, Operation};
use super::order;
use super::view::IncidentView;
use crate::domain::event::Command;
use crate::domain::incident::IncidentId;
use crate::domain::label::Fingerprint;
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;

/// The routes that change what belongs together.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Incident");
    vec![
        Operation::command(
            "/api/v1/incidents/{id}/merge",
            "Moves the alerts of others into it",
            "Merge",
            ONE,
            merge,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/link",
            "Makes it part of a major incident",
            "Link",
            ONE,
            link,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/unlink",
            "Takes it away from the major incident that it is part of",
            "By",
            ONE,
            unlink,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/split",
            "Moves some of its alerts into a new incident, which is answered",
            "Split",
            ONE,
            split,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/lock",
            "Lets no alerts join it but its own",
            "Reason",
            ONE,
            lock,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/unlock",
            "Lets alerts join it again",
            "By",
            ONE,
            unlock,
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeBody {
    by: Option<String>,
    from: Vec<IncidentId>,
}

async fn merge(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<MergeBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |into| Command::MergeIncidents { into, from: body.from };
    order(&context, &id, caller.by(body.by)?, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    by: Option<String>,
    parent: IncidentId,
}

async fn link(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<LinkBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::LinkIncident { incident, parent: body.parent };
    order(&context, &id, caller.by(body.by)?, command).await
}

async fn unlink(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::UnlinkIncident { incident };
    order(&context, &id, caller.by(body.by)?, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitBody {
    by: Option<String>,
    alerts: Vec<Fingerprint>,
}

async fn split(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<SplitBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::SplitIncident { incident, alerts: body.alerts };
    order(&context, &id, caller.by(body.by)?, command).await
}

async fn lock(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::LockIncident { incident, reason: body.reason };
    order(&context, &id, caller.by(body.by)?, command).await
}

async fn unlock(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::UnlockIncident { incident };
    order(&context, &id, caller.by(body.by)?, command).await
}
