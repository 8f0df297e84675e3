//! Drafts over REST: a post-mortem of an incident, an article from a problem. People finish them.

mod article;
mod markdown;
mod postmortem;

use super::Context;
use super::error::ApiError;
use super::incidents;
use super::input::parse_id;
use super::listing;
use super::problems;
use super::routes::{Answer, Operation};
use crate::domain::execution::Execution;
use crate::domain::incident::{Incident, IncidentId, TimelineEntry};
use crate::domain::problem::{Problem, ProblemId};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;

/// So many runs of runbooks are told of.
const RUNS_MAX: usize = 50;
/// An article tells of so many incidents of its problem, the last ones.
const INCIDENTS_MAX: usize = 5;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const DRAFT: Answer = Answer::Json("Draft");
    vec![
        Operation::read(
            "/api/v1/incidents/{id}/postmortem",
            "Drafts a post-mortem of an incident, from its timeline",
            DRAFT,
            postmortem,
        ),
        Operation::read(
            "/api/v1/problems/{id}/article",
            "Drafts an article from a problem, with front matter",
            DRAFT,
            article,
        ),
    ]
}

/// A draft as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct Draft {
    id: String,
    title: String,
    markdown: String,
}

/// Everything that is known of an incident.
struct Story {
    incident: Incident,
    timeline: Vec<TimelineEntry>,
    runs: Vec<Execution>,
    problem: Option<Problem>,
    /// When it was asked for.
    now: Timestamp,
}

async fn postmortem(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Draft>, ApiError> {
    let story = story(&context, parse_id(&id)?).await?;
    Ok(Json(Draft {
        id: story.incident.id.to_string(),
        title: format!("Post-mortem of {}", story.incident.id),
        markdown: postmortem::draft(&story),
    }))
}

async fn story(context: &Context, id: IncidentId) -> Result<Story, ApiError> {
    let incident = incidents::load(context, id).await?;
    let timeline = incidents::timeline(context, id).await?;
    let mut runs = Vec::new();
    for id in incident.executions.iter().take(RUNS_MAX) {
        let run = context.handle.get(Kind::Execution, id.to_string()).await;
        let run = run.map_err(|error| ApiError::store(&error))?;
        runs.extend(run.as_ref().map(listing::decode::<Execution>).transpose()?);
    }
    let has = |it: &&Problem| it.incidents.contains(&id);
    let problem = context.handle.peek(|state| state.problems.values().find(has).cloned());
    Ok(Story { incident, timeline, runs, problem, now: Timestamp::now() })
}

async fn article(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Draft>, ApiError> {
    let id: ProblemId = parse_id(&id)?;
    let problem = problems::load(&context, id).await?;
    let mut stories = Vec::new();
    for incident in problem.incidents.iter().rev().take(INCIDENTS_MAX) {
        // Retention may have removed it.
        stories.extend(story(&context, *incident).await.ok());
    }
    Ok(Json(Draft {
        id: id.to_string(),
        title: problem.title.clone(),
        markdown: article::draft(&problem, &stories),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let draft = Draft { id: String::new(), title: String::new(), markdown: String::new() };
        assert_schema("Draft", &serde_json::to_value(draft).unwrap());
    }
}
