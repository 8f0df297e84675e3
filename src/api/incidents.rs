//! Incidents over REST: listing, looking, and what people do with them.

mod knowledge;
mod regrouping;
mod view;

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, ReasonBody, page_limit, parse_id, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::event::Command;
use crate::domain::incident::{Incident, IncidentId, IncidentState, Priority, TimelineEntry};
use crate::domain::label::Fingerprint;
use crate::domain::{Accepted, ObjectKey};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeSet;

use view::{IncidentView, view};

/// How many entries of a timeline are read at once.
const TIMELINE_CHUNK: usize = 1000;
/// The most entries of a timeline that are shown.
const TIMELINE_MAX: usize = 20_000;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Incident");
    const PATH: &str = "/api/v1/incidents/{id}";
    let mut operations = vec![
        Operation::read(
            "/api/v1/incidents",
            "Lists incidents, newest first, without their timelines",
            Answer::Page("Incident"),
            list,
        )
        .query(&[
            ("state", "open, acknowledged, resolved, closed; several with commas"),
            ("priority", "P1 to P5; several with commas"),
            ("service", "one of its services"),
            ("q", "a text in its id, title, owner, services or labels"),
            ("since", "opened at or after this time, RFC 3339"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::read(PATH, "Shows an incident", ONE, show),
        Operation::command(
            "/api/v1/incidents/{id}/ack",
            "Says that somebody looks after it",
            "By",
            ONE,
            acknowledge,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/assign",
            "Gives it an owner",
            "Assign",
            ONE,
            assign,
        ),
        Operation::command("/api/v1/incidents/{id}/note", "Adds a remark", "Note", ONE, note),
        Operation::command(
            "/api/v1/incidents/{id}/resolve",
            "Says that it is over",
            "Reason",
            ONE,
            resolve,
        ),
        Operation::command(
            "/api/v1/incidents/{id}/reopen",
            "Says that it is not over",
            "Reason",
            ONE,
            reopen,
        ),
    ];
    operations.extend(regrouping::operations());
    operations.extend(knowledge::operations());
    operations
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    priority: Option<String>,
    service: Option<String>,
    q: Option<String>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Which incidents are wanted.
struct Wanted {
    states: Option<Vec<IncidentState>>,
    priorities: Option<Vec<Priority>>,
    service: Option<String>,
    text: Option<String>,
    since: Option<Timestamp>,
}

impl Wanted {
    fn parse(query: ListQuery) -> Result<Self, ApiError> {
        const STATES: [IncidentState; 4] = [
            IncidentState::Open,
            IncidentState::Acknowledged,
            IncidentState::Resolved,
            IncidentState::Closed,
        ];
        let priorities = [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3)]
            .map(|(impact, urgency)| Priority::new(impact, urgency))
            .map(|it| (it.as_str(), it));
        let since = query.since.as_deref().map(str::parse::<Timestamp>).transpose();
        Ok(Self {
            states: parse_words(query.state.as_deref(), &STATES.map(|it| (it.as_str(), it)))?,
            priorities: parse_words(query.priority.as_deref(), &priorities)?,
            service: query.service,
            text: query.q.map(|it| it.to_lowercase()).filter(|it| !it.is_empty()),
            since: since.map_err(|error| {
                ApiError::bad_request(format!("`since` is no time: {error}"))
                    .hint("a time looks like `2026-01-31T12:00:00Z`")
            })?,
        })
    }

    fn wants(&self, incident: &Incident) -> bool {
        self.states.as_ref().is_none_or(|it| it.contains(&incident.state))
            && self.priorities.as_ref().is_none_or(|it| it.contains(&incident.priority))
            && self.service.as_ref().is_none_or(|it| incident.services.contains(it))
            && self.since.is_none_or(|it| incident.opened_at >= it)
            && self.text.as_ref().is_none_or(|it| mentions(incident, it))
    }
}

/// Whether a text in lower case stands somewhere in the incident.
fn mentions(incident: &Incident, text: &str) -> bool {
    let has = |it: &str| it.to_lowercase().contains(text);
    has(&incident.id.to_string())
        || has(&incident.title)
        || incident.owner.as_deref().is_some_and(has)
        || incident.services.iter().any(|it| has(it))
        || incident.labels.iter().any(|(_, value)| has(value))
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<IncidentView>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_id::<IncidentId>).transpose()?;
    let wanted = Wanted::parse(query)?;
    let cursor = cursor.map(|it| it.to_string());
    let page: Page<Incident> =
        listing::walk(&context, Kind::Incident, cursor, limit, |it| wanted.wants(it)).await?;
    let ids: Vec<IncidentId> = page.items.iter().map(|it| it.id).collect();
    let known = |state: &Domain, id| (state.members.get(&id).cloned(), new_kinds(state, id));
    let open: Vec<_> =
        context.handle.read(|state| ids.iter().map(|it| known(state, *it)).collect()).await?;
    let now = Timestamp::now();
    let mut items = Vec::with_capacity(page.items.len());
    for (incident, (members, new_kinds)) in page.items.iter().zip(open) {
        let members = match members {
            Some(members) => members,
            None => members_told(&timeline(&context, incident.id).await?),
        };
        let mut shown = view(incident, members, None, now);
        shown.new_kinds = new_kinds;
        items.push(shown);
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<IncidentView>, ApiError> {
    whole(&context, parse_id(&id)?).await
}

/// Reads an incident, open or closed.
pub(super) async fn load(context: &Context, id: IncidentId) -> Result<Incident, ApiError> {
    let open = context.handle.read(|state| state.incidents.get(&id).cloned()).await?;
    match open {
        Some(incident) => Ok(incident),
        None => listing::find(context, Kind::Incident, &id.to_string()).await,
    }
}

/// Reads everything about an incident.
async fn whole(context: &Context, id: IncidentId) -> Result<Json<IncidentView>, ApiError> {
    let incident = load(context, id).await?;
    let timeline = timeline(context, id).await?;
    let look = |state: &Domain| (state.members.get(&id).cloned(), new_kinds(state, id));
    let (open, new_kinds) = context.handle.read(look).await?;
    let mut shown = body(&incident, open, timeline, Timestamp::now());
    shown.new_kinds = new_kinds;
    (shown.similar, shown.articles) = knowledge::help(context, &incident).await;
    Ok(Json(shown))
}

/// Makes the view of one incident. `open` are its members, while it is not closed.
pub(super) fn body(
    incident: &Incident,
    open: Option<BTreeSet<Fingerprint>>,
    timeline: Vec<TimelineEntry>,
    now: Timestamp,
) -> IncidentView {
    let members = open.unwrap_or_else(|| members_told(&timeline));
    view(incident, members, Some(timeline), now)
}

/// The kinds of alert in an open incident that were never seen before.
fn new_kinds(state: &Domain, id: IncidentId) -> BTreeSet<String> {
    let members = state.members.get(&id).into_iter().flatten();
    let new = members.filter_map(|it| state.alerts.get(it)).filter(|it| it.is_new);
    new.filter_map(|it| it.labels.get("alertname")).map(str::to_owned).collect()
}

/// The alerts of an incident, open or closed.
pub(super) async fn members(
    context: &Context,
    id: IncidentId,
) -> Result<BTreeSet<Fingerprint>, ApiError> {
    let open = context.handle.read(|state| state.members.get(&id).cloned()).await?;
    match open {
        Some(members) => Ok(members),
        None => Ok(members_told(&timeline(context, id).await?)),
    }
}

/// The alerts that a timeline tells of: once an incident is closed, its members are kept nowhere
/// else.
fn members_told(timeline: &[TimelineEntry]) -> BTreeSet<Fingerprint> {
    let mut members = BTreeSet::new();
    for entry in timeline {
        if matches!(entry.kind.as_str(), "left" | "split" | "merged_away") {
            members.retain(|it| !entry.alerts.contains(it));
        } else {
            members.extend(&entry.alerts);
        }
    }
    members
}

/// Reads the timeline of an incident, oldest first. Call it after a read of the open state, which
/// waits until what was accepted before is in the store.
pub(super) async fn timeline(
    context: &Context,
    id: IncidentId,
) -> Result<Vec<TimelineEntry>, ApiError> {
    let mut entries = Vec::new();
    let mut after = 0;
    loop {
        let chunk = context.handle.timeline(id.to_string(), after, TIMELINE_CHUNK).await;
        let chunk = chunk.map_err(|error| ApiError::store(&error))?;
        let is_last = chunk.len() < TIMELINE_CHUNK;
        after = chunk.last().map_or(after, |(number, _)| *number);
        entries.extend(chunk.into_iter().map(|(_, entry)| entry));
        if is_last || entries.len() >= TIMELINE_MAX {
            return Ok(entries);
        }
    }
}

/// Gives a person's command about an incident, and answers the incident as it is then.
async fn order(
    context: &Context,
    id: &str,
    by: String,
    command: impl FnOnce(IncidentId) -> Command,
) -> Result<Json<IncidentView>, ApiError> {
    let id = parse_id(id)?;
    let id = match context.handle.command(by, command(id)).await? {
        Accepted::Object(ObjectKey::Incident(id)) => id,
        Accepted::Object(_) | Accepted::Done | Accepted::AfterEffect(_) => id,
    };
    whole(context, id).await
}

async fn acknowledge(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::AcknowledgeIncident { incident };
    order(&context, &id, caller.by(body.by)?, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignBody {
    by: Option<String>,
    owner: String,
}

async fn assign(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<AssignBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::AssignIncident { incident, owner: body.owner };
    order(&context, &id, caller.by(body.by)?, command).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteBody {
    by: Option<String>,
    text: String,
}

async fn note(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<NoteBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::NoteIncident { incident, text: body.text };
    order(&context, &id, caller.by(body.by)?, command).await
}

async fn resolve(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::ResolveIncident { incident, reason: body.reason };
    order(&context, &id, caller.by(body.by)?, command).await
}

async fn reopen(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ReasonBody>,
) -> Result<Json<IncidentView>, ApiError> {
    let command = |incident| Command::ReopenIncident { incident, reason: body.reason };
    order(&context, &id, caller.by(body.by)?, command).await
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn wanted(name: &str, value: &str) -> Result<Wanted, ApiError> {
        let query = serde_json::from_value(serde_json::json!({ name: value })).unwrap();
        Wanted::parse(query)
    }

    #[test]
    fn filters_choose() {
        let incident = samples::incident();
        for (name, value, is_wanted) in [
            ("state", "acknowledged,open", true),
            ("state", "closed", false),
            ("priority", "P2,P3", true),
            ("priority", "P1", false),
            ("service", "shop", true),
            ("service", "sho", false),
            ("q", "WEB is", true),
            ("q", "inc-42", true),
            ("q", "ada", true),
            ("q", "nothing", false),
            ("since", "2026-01-01T00:00:00Z", true),
            ("since", "2026-02-01T00:00:00Z", false),
        ] {
            let wanted = wanted(name, value).unwrap();
            assert_eq!(wanted.wants(&incident), is_wanted, "{name}={value}");
        }
        for (name, value) in [("state", "new"), ("priority", "1"), ("since", "today")] {
            assert!(wanted(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_timeline_tells_the_members() {
        let entry = |kind: &str, alerts: &[u64]| TimelineEntry {
            at: Timestamp::UNIX_EPOCH,
            kind: kind.to_owned(),
            by: String::new(),
            text: String::new(),
            alerts: alerts.iter().map(|it| Fingerprint(*it)).collect(),
        };
        let timeline = [
            entry("opened", &[1]),
            entry("joined", &[2, 3]),
            entry("note", &[]),
            entry("split", &[2]),
        ];
        let members = members_told(&timeline);
        assert_eq!(members, BTreeSet::from([Fingerprint(1), Fingerprint(3)]));
    }
}
