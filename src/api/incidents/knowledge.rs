//! What is known that may help with an incident: articles that fit, and past incidents like it with what helped.

use super::super::Context;
use super::super::access::Caller;
use super::super::articles::Rating;
use super::super::error::ApiError;
use super::super::input::{Input, Params, page_limit, parse_id};
use super::super::listing::{self, Page};
use super::super::routes::{Answer, Operation};
use super::{load, timeline};
use crate::domain::event::Command;
use crate::domain::execution::{Execution, ExecutionId, ExecutionState};
use crate::domain::incident::{Incident, IncidentId, TimelineEntry};
use crate::domain::knowledge::Offer;
use crate::domain::problem::{Problem, ProblemId, ProblemState};
use crate::domain::{State as Domain, seconds_between};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// So many articles stand with an incident, and so many past incidents.
const SHOWN: usize = 5;
/// Of a past incident so many remarks are shown, the last ones.
const NOTES_MAX: usize = 3;
/// Of a past incident so many runs of runbooks are shown, the last ones.
const RUNS_MAX: usize = 3;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::read(
            "/api/v1/incidents/{id}/similar",
            "Lists past incidents that are like it, the likest first, with what helped",
            Answer::Page("SimilarIncident"),
            similar,
        )
        .query(&[("limit", "how many, 1 to 1000, 100 by default")]),
        Operation::command(
            "/api/v1/incidents/{id}/rate",
            "Says whether what was done about this past incident helped with another",
            "Rating",
            Answer::Json("SimilarIncident"),
            rate,
        ),
    ]
}

/// An article that fits an incident.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FittingArticle {
    id: String,
    title: String,
    score: u16,
    why: Vec<String>,
    runbook: Option<String>,
}

/// A past incident, and what helped.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SimilarIncident {
    id: IncidentId,
    score: u16,
    why: Vec<String>,
    title: String,
    opened_at: Timestamp,
    lasted_seconds: Option<u64>,
    resolved_by: String,
    resolution: String,
    notes: Vec<String>,
    runs: Vec<Run>,
    problem: Option<KnownProblem>,
}

#[derive(Clone, Debug, Serialize)]
struct Run {
    id: ExecutionId,
    runbook: String,
    state: ExecutionState,
}

#[derive(Clone, Debug, Serialize)]
struct KnownProblem {
    id: ProblemId,
    title: String,
    state: ProblemState,
    cause: String,
    workaround: String,
}

/// What is known that may help with an incident. What cannot be read is left out: it must not keep anybody from
/// seeing the incident.
pub(super) async fn help(
    context: &Context,
    incident: &Incident,
) -> (Vec<SimilarIncident>, Vec<FittingArticle>) {
    let articles = context.handle.fitting_articles(incident, SHOWN).await;
    let look = |state: &Domain| {
        let all = state.all_articles();
        let view = |it: Offer<String>| {
            let article = all.iter().find(|known| known.rule.name == it.id)?;
            let (title, runbook) = (article.title.clone(), article.runbook.clone());
            Some(FittingArticle { id: it.id, title, score: it.score, why: it.why, runbook })
        };
        articles.into_iter().filter_map(view).collect()
    };
    let articles = context.handle.peek(look);
    let similar = like(context, incident.clone(), SHOWN).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "past incidents could not be looked through");
        Vec::new()
    });
    (similar, articles)
}

async fn like(
    context: &Context,
    incident: Incident,
    most: usize,
) -> Result<Vec<SimilarIncident>, ApiError> {
    let found = context.handle.similar_incidents(incident, most).await;
    let mut similar = Vec::new();
    for offer in found.map_err(|error| ApiError::store(&error))? {
        similar.extend(told(context, offer).await?);
    }
    Ok(similar)
}

/// What is known of a past incident; nothing once it was removed from the store.
async fn told(
    context: &Context,
    offer: Offer<IncidentId>,
) -> Result<Option<SimilarIncident>, ApiError> {
    let object = context.handle.get(Kind::Incident, offer.id.to_string()).await;
    let Some(object) = object.map_err(|error| ApiError::store(&error))? else { return Ok(None) };
    let incident: Incident = listing::decode(&object)?;
    let timeline = timeline(context, incident.id).await?;
    let mut runs = Vec::new();
    for id in incident.executions.iter().rev().take(RUNS_MAX) {
        let object = context.handle.get(Kind::Execution, id.to_string()).await;
        let object = object.map_err(|error| ApiError::store(&error))?;
        let Some(run) = object.as_ref().map(listing::decode::<Execution>).transpose()? else {
            continue;
        };
        runs.push(Run { id: run.id, runbook: run.runbook.rule.name.clone(), state: run.state });
    }
    let problem = context.handle.peek(|state| {
        // The problem may have been found when the incident was closed already.
        let has = |it: &&Problem| {
            it.incidents.contains(&incident.id) && it.state != ProblemState::Rejected
        };
        state.problems.values().find(has).map(known_problem)
    });
    Ok(Some(view(offer, &incident, &timeline, runs, problem)))
}

fn known_problem(problem: &Problem) -> KnownProblem {
    KnownProblem {
        id: problem.id,
        title: problem.title.clone(),
        state: problem.state,
        cause: problem.cause.clone(),
        workaround: problem.workaround.clone(),
    }
}

fn view(
    offer: Offer<IncidentId>,
    incident: &Incident,
    timeline: &[TimelineEntry],
    runs: Vec<Run>,
    problem: Option<KnownProblem>,
) -> SimilarIncident {
    let resolved = timeline.iter().rev().find(|it| it.kind == "resolved");
    let notes = timeline.iter().filter(|it| it.kind == "note").rev().take(NOTES_MAX);
    let over = incident.resolved_at.or(incident.closed_at);
    SimilarIncident {
        id: offer.id,
        score: offer.score,
        why: offer.why,
        title: incident.title.clone(),
        opened_at: incident.opened_at,
        lasted_seconds: over.map(|it| seconds_between(incident.opened_at, it)),
        resolved_by: resolved.map(|it| it.by.clone()).unwrap_or_default(),
        resolution: resolved.map(|it| it.text.clone()).unwrap_or_default(),
        notes: notes.map(|it| format!("{}: {}", it.by, it.text)).collect(),
        runs,
        problem,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimilarQuery {
    limit: Option<usize>,
}

async fn similar(
    State(context): State<Context>,
    Path(id): Path<String>,
    Params(query): Params<SimilarQuery>,
) -> Result<Json<Page<SimilarIncident>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let incident = load(&context, parse_id(&id)?).await?;
    let items = like(&context, incident, limit).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

async fn rate(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<Rating>,
) -> Result<Json<SimilarIncident>, ApiError> {
    let past: IncidentId = parse_id(&id)?;
    let by = caller.by(body.by)?;
    let (subject, incident) = (past.to_string(), body.incident);
    let command = Command::RateKnowledge { subject, incident, helped: body.helped };
    context.handle.command(by, command).await?;
    let offer = Offer { id: past, score: 0, why: Vec::new() };
    let told = told(&context, offer).await?;
    told.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no `{past}` any more")))
}

#[cfg(test)]
mod tests {
    use super::super::super::openapi::assert_schema;
    use super::super::super::samples;
    use super::*;

    #[test]
    fn the_views_are_as_documented() {
        let (incident, execution) = (samples::incident(), samples::execution());
        let entry = |kind: &str, text: &str| TimelineEntry {
            kind: kind.to_owned(),
            text: text.to_owned(),
            ..samples::timeline_entry()
        };
        let timeline = [entry("note", "looked"), entry("resolved", "restarted it")];
        let runs =
            vec![Run { id: execution.id, runbook: "restart".to_owned(), state: execution.state }];
        let offer = Offer { id: incident.id, score: 900, why: vec!["the same alert".to_owned()] };
        let problem = Some(known_problem(&samples::problem()));
        let json = serde_json::to_value(view(offer, &incident, &timeline, runs, problem)).unwrap();
        assert_schema("SimilarIncident", &json);
        assert_schema("SimilarRun", &json["runs"][0]);
        assert_schema("SimilarProblem", &json["problem"]);
        assert_eq!(json["resolution"], "restarted it");
        assert_eq!(json["notes"], serde_json::json!(["ada: looked"]));
        let article = FittingArticle {
            id: "disk".to_owned(),
            title: "Disk".to_owned(),
            score: 1,
            why: vec!["it is about disks".to_owned()],
            runbook: None,
        };
        assert_schema("FittingArticle", &serde_json::to_value(article).unwrap());
    }
}
