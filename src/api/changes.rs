//! Changes over REST.

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{Input, Params, page_limit, parse_id, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::change::{Change, ChangeId, ChangeKind, ChangeState, ReceivedChange};
use crate::domain::event::Command;
use crate::domain::execution::ExecutionId;
use crate::domain::freeze::InFreeze;
use crate::domain::{Accepted, ObjectKey};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The source of what is told over this API.
const SOURCE: &str = "api";
/// The longest text of a change, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Change");
    let list = Operation::read(
        "/api/v1/changes",
        "Lists changes, newest first",
        Answer::Page("Change"),
        list,
    );
    vec![
        list.query(&[
            ("service", "only of this service"),
            ("kind", "standard, normal, emergency; several with commas"),
            ("state", "running, done, failed; several with commas"),
            ("forbidden", "`true`: only those that began in a freeze that does not allow them"),
            ("source", "only those that this source told of"),
            ("since", "made at or after this time"),
            ("until", "made before this time"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::command("/api/v1/changes", "Tells of a change", "ChangeInput", ONE, add),
        Operation::read("/api/v1/changes/{id}", "Shows a change", ONE, show),
    ]
}

/// A change as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct ChangeView {
    id: ChangeId,
    external_id: String,
    kind: ChangeKind,
    state: ChangeState,
    title: String,
    service: String,
    environment: String,
    version: String,
    author: String,
    time: Option<Timestamp>,
    link: String,
    source: Arc<str>,
    received_at: Timestamp,
    updated_at: Timestamp,
    freezes: Vec<InFreeze>,
    execution: Option<ExecutionId>,
}

fn view(change: Change) -> ChangeView {
    let execution = change.run();
    let Change { id, source, received_at, updated_at, heard_at: _, freezes, told } = change;
    ChangeView {
        id,
        external_id: told.external_id,
        kind: told.kind,
        state: told.state,
        title: told.title,
        service: told.service,
        environment: told.environment,
        version: told.version,
        author: told.author,
        time: told.time,
        link: told.link,
        source,
        received_at,
        updated_at,
        freezes,
        execution,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    service: Option<String>,
    kind: Option<String>,
    state: Option<String>,
    source: Option<String>,
    forbidden: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<ChangeView>>, ApiError> {
    let kinds = parse_words(query.kind.as_deref(), &ChangeKind::ALL.map(|it| (it.as_str(), it)))?;
    let states =
        parse_words(query.state.as_deref(), &ChangeState::ALL.map(|it| (it.as_str(), it)))?;
    let limit = page_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_id::<ChangeId>).transpose()?;
    let cursor = cursor.map(|it| it.to_string());
    let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|it| it == text);
    let page = listing::walk(&context, Kind::Change, cursor, limit, |it: &Change| {
        let time = it.told.time.unwrap_or(it.received_at);
        is(&query.service, &it.told.service)
            && is(&query.source, &it.source)
            && query.forbidden.is_none_or(|wanted| it.is_forbidden() == wanted)
            && kinds.as_ref().is_none_or(|known| known.contains(&it.told.kind))
            && states.as_ref().is_none_or(|known| known.contains(&it.told.state))
            && query.since.is_none_or(|since| time >= since)
            && query.until.is_none_or(|until| time < until)
    });
    Ok(Json(page.await?.map(view)))
}

/// Reads a change.
pub(super) async fn load(context: &Context, id: ChangeId) -> Result<Change, ApiError> {
    let open = context.handle.read(|state| state.change_log.open.get(&id).cloned()).await?;
    match open {
        Some(change) => Ok(change),
        None => listing::find(context, Kind::Change, &id.to_string()).await,
    }
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<ChangeView>, ApiError> {
    Ok(Json(view(load(&context, parse_id(&id)?).await?)))
}

/// The body of a change that somebody tells of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ChangeInput {
    by: Option<String>,
    external_id: String,
    title: String,
    service: String,
    environment: String,
    version: String,
    author: String,
    kind: ChangeKind,
    state: ChangeState,
    time: Option<Timestamp>,
    link: String,
}

impl ChangeInput {
    /// What is told, with who told it as the author where none is named.
    fn told(self, by: &str, now: Timestamp) -> Result<ReceivedChange, ApiError> {
        if self.title.trim().is_empty() {
            return Err(ApiError::bad_request("a change needs a title")
                .hint("for example `\"title\": \"shop 1.2\", \"service\": \"shop\"`"));
        }
        let is_web = ["http://", "https://"].iter().any(|it| self.link.starts_with(it));
        if !self.link.is_empty() && !is_web {
            let message = format!("a link begins with `https://`, not `{}`", self.link);
            return Err(ApiError::bad_request(message));
        }
        let change = ReceivedChange {
            external_id: self.external_id,
            time: self.time,
            title: self.title,
            service: self.service,
            environment: self.environment,
            version: self.version,
            author: if self.author.is_empty() { by.to_owned() } else { self.author },
            kind: self.kind,
            state: self.state,
            link: self.link,
        };
        let texts = [
            &change.external_id,
            &change.title,
            &change.service,
            &change.environment,
            &change.version,
            &change.author,
            &change.link,
        ];
        if texts.iter().any(|it| it.len() > TEXT_BYTES_MAX) {
            let message = format!("a text of a change has at most {TEXT_BYTES_MAX} bytes");
            return Err(ApiError::bad_request(message));
        }
        if change.time.is_some_and(|it| it > now) {
            return Err(ApiError::bad_request(
                "a change that is told of was made: its `time` is ahead",
            ));
        }
        Ok(change)
    }
}

async fn add(
    State(context): State<Context>,
    headers: HeaderMap,
    caller: Caller,
    Input(body): Input<ChangeInput>,
) -> Result<Json<ChangeView>, ApiError> {
    let by = caller.by(body.by.clone())?;
    let mut change = body.told(&by, Timestamp::now())?;
    if change.external_id.is_empty() {
        // One that is sent again because its answer was lost is the same.
        let number = headers.get("idempotency-key").and_then(|it| it.to_str().ok());
        change.external_id =
            number.filter(|it| it.len() <= TEXT_BYTES_MAX).unwrap_or_default().to_owned();
    }
    let command = Command::AddChange { source: SOURCE.into(), change: Box::new(change) };
    match context.handle.command(by, command).await? {
        Accepted::Object(ObjectKey::Change(id)) => Ok(Json(view(load(&context, id).await?))),
        Accepted::Object(_) | Accepted::Done | Accepted::AfterEffect(_) => {
            Err(ApiError::unavailable("the change was taken, but cannot be shown"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let json = serde_json::to_value(view(samples::change())).unwrap();
        assert_schema("Change", &json);
        assert_eq!((&json["id"], &json["kind"]), (&"CHG-3".into(), &"normal".into()));
    }

    #[test]
    fn what_is_told_must_make_sense() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let told = |text: &str| {
            let input: ChangeInput = serde_json::from_str(text).unwrap();
            input.told("ada", now)
        };
        let change = told(r#"{"title":"shop 1.2","service":"shop"}"#).unwrap();
        assert_eq!((change.author.as_str(), change.kind), ("ada", ChangeKind::Normal));
        assert_eq!(told(r#"{"title":"a","author":"bob"}"#).unwrap().author, "bob");
        let long = format!(r#"{{"title":"{}"}}"#, "a".repeat(513));
        for bad in [
            "{}",
            r#"{"title":" "}"#,
            r#"{"title":"a","link":"javascript:alert(1)"}"#,
            r#"{"title":"a","time":"2026-01-01T00:00:01Z"}"#,
            &long,
        ] {
            assert!(told(bad).is_err(), "{bad}");
        }
    }
}
