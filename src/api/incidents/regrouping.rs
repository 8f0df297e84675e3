//! What people do about what belongs together: merge, link, unlink, split.

use super::super::Context;
use super::super::access::Caller;
use super::super::error::ApiError;
use super::super::input::{ByBody, Input, parse_id};
use super::super::routes::{Answer, Operation};
use super::give;
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
    let into = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, into, Command::MergeIncidents { into, from: body.from }).await
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
    let incident = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, incident, Command::LinkIncident { incident, parent: body.parent }).await
}

async fn unlink(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let incident = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, incident, Command::UnlinkIncident { incident }).await
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
    let incident = parse_id(&id)?;
    let by = caller.by(body.by)?;
    give(&context, by, incident, Command::SplitIncident { incident, alerts: body.alerts }).await
}
