//! Freezes over REST: those of files are shown, others are made and ended here.

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, page_limit, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::change::ChangeKind;
use crate::domain::event::Command;
use crate::domain::freeze::{AnyFreeze, Freeze, FreezeId, FreezeState, FreezeTerms};
use crate::domain::matcher::{Matcher, Matchers};
use crate::domain::{Accepted, ObjectKey, State as Domain, later};
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest text of a freeze, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// The most items, and the most matchers.
const ENTRIES_MAX: usize = 100;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Freeze");
    let summary =
        "Lists freezes: those of files, and those that were made, for a day after their end";
    vec![
        Operation::read("/api/v1/freezes", summary, Answer::Page("Freeze"), list).query(&[
            ("state", "pending, active, expired; several with commas"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::command("/api/v1/freezes", "Makes a freeze", "FreezeInput", ONE, add),
        Operation::read("/api/v1/freezes/{id}", "Shows a freeze", ONE, show),
        Operation::command("/api/v1/freezes/{id}/end", "Ends it now", "By", ONE, end),
    ]
}

/// A freeze as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct FreezeView {
    id: String,
    state: FreezeState,
    items: Vec<String>,
    matchers: Vec<String>,
    allow: Vec<ChangeKind>,
    owner: String,
    reason: String,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    time_intervals: Vec<String>,
    next_change_at: Option<Timestamp>,
    created_by: Option<String>,
    ended_by: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    warnings: Vec<String>,
}

fn view(state: &Domain, freeze: &AnyFreeze<'_>, now: Timestamp) -> FreezeView {
    let terms = freeze.terms;
    let unknown = terms.unknown_items(&state.rules.catalog).into_iter();
    FreezeView {
        id: freeze.id.clone(),
        state: terms.state(now),
        items: terms.items.clone(),
        matchers: terms.matchers.0.iter().map(ToString::to_string).collect(),
        allow: terms.allow.clone(),
        owner: terms.owner.clone(),
        reason: terms.reason.clone(),
        starts_at: terms.starts_at,
        ends_at: terms.ends_at,
        time_intervals: terms.time_intervals.iter().map(|it| it.rule.name.clone()).collect(),
        next_change_at: terms.next_change(now),
        created_by: freeze.made.map(|it| it.created_by.clone()),
        ended_by: freeze.made.and_then(|it| it.ended_by.clone()),
        file: freeze.rule.map(|it| it.file.clone()),
        line: freeze.rule.map(|it| it.line),
        warnings: unknown.map(|it| format!("no item of the catalog is called `{it}`")).collect(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<FreezeView>>, ApiError> {
    let states =
        parse_words(query.state.as_deref(), &FreezeState::ALL.map(|it| (it.as_str(), it)))?;
    let limit = page_limit(query.limit)?;
    let now = Timestamp::now();
    let look = |state: &Domain| {
        let mut all: Vec<AnyFreeze<'_>> = state.all_freezes().collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        let mut wanted = (all.iter())
            .filter(|it| query.cursor.as_ref().is_none_or(|cursor| it.id > *cursor))
            .filter(|it| states.as_ref().is_none_or(|known| known.contains(&it.terms.state(now))))
            .peekable();
        let items: Vec<_> = wanted.by_ref().take(limit).map(|it| view(state, it, now)).collect();
        let last = items.last().map(|it| it.id.clone());
        Page { items, next_cursor: wanted.peek().and(last) }
    };
    Ok(Json(context.handle.read(look).await?))
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<FreezeView>, ApiError> {
    let now = Timestamp::now();
    let look =
        |state: &Domain| state.all_freezes().find(|it| it.id == id).map(|it| view(state, &it, now));
    if let Some(found) = context.handle.read(look).await? {
        return Ok(Json(found));
    }
    if id.parse::<FreezeId>().is_err() {
        return Err(ApiError::not_found(format!("there is no freeze `{id}`")));
    }
    let freeze: Freeze = listing::find(&context, Kind::Freeze, &id).await?;
    let look = |state: &Domain| view(state, &AnyFreeze::from(&freeze), now);
    Ok(Json(context.handle.read(look).await?))
}

/// The body of a new freeze.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeInput {
    by: Option<String>,
    #[serde(default)]
    items: Vec<String>,
    #[serde(default)]
    matchers: Vec<Matcher>,
    #[serde(default)]
    allow: Vec<ChangeKind>,
    #[serde(default)]
    owner: String,
    reason: String,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    duration_seconds: Option<u32>,
}

impl FreezeInput {
    fn terms(self, by: &str, now: Timestamp) -> Result<FreezeTerms, ApiError> {
        let starts_at = self.starts_at.unwrap_or(now).max(now);
        let ends_at = match (self.ends_at, self.duration_seconds) {
            (Some(at), None) => at,
            (None, Some(seconds)) => later(starts_at, i64::from(seconds)),
            _ => {
                return Err(ApiError::bad_request("say when the freeze ends, in one way")
                    .hint("give either `ends_at` or `duration_seconds`"));
            }
        };
        if self.reason.trim().is_empty() {
            return Err(ApiError::bad_request("a freeze needs a reason")
                .hint("say in `reason` why nothing may be changed"));
        }
        let is_long = |it: &String| it.len() > TEXT_BYTES_MAX;
        if self.items.iter().chain([&self.owner, &self.reason]).any(is_long) {
            let message = format!("a text of a freeze has at most {TEXT_BYTES_MAX} bytes");
            return Err(ApiError::bad_request(message));
        }
        if self.items.iter().any(|it| it.trim().is_empty()) {
            return Err(ApiError::bad_request("an empty text names no item"));
        }
        if self.items.len().max(self.matchers.len()) > ENTRIES_MAX {
            let message = format!("a freeze has at most {ENTRIES_MAX} items and as many matchers");
            return Err(ApiError::bad_request(message));
        }
        let mut allow = self.allow;
        allow.sort_unstable();
        allow.dedup();
        Ok(FreezeTerms {
            items: self.items,
            matchers: Matchers(self.matchers),
            allow,
            owner: if self.owner.is_empty() { by.to_owned() } else { self.owner },
            reason: self.reason,
            starts_at: Some(starts_at),
            ends_at: Some(ends_at),
            time_intervals: Vec::new(),
        })
    }
}

async fn add(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<FreezeInput>,
) -> Result<Json<FreezeView>, ApiError> {
    let by = caller.by(body.by.clone())?;
    let terms = Box::new(body.terms(&by, Timestamp::now())?);
    match context.handle.command(by, Command::AddFreeze { terms }).await? {
        Accepted::Object(ObjectKey::Freeze(id)) => show(State(context), Path(id.to_string())).await,
        Accepted::Object(_) | Accepted::Done | Accepted::AfterEffect(_) => {
            Err(ApiError::unavailable("the freeze was made, but cannot be shown"))
        }
    }
}

async fn end(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<FreezeView>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::EndFreeze { freeze: id.clone() }).await?;
    show(State(context), Path(id)).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let now: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
        let input: FreezeInput = serde_json::from_str(
            r#"{"items": ["shop"], "allow": ["emergency"], "reason": "christmas",
                "duration_seconds": 3600}"#,
        )
        .unwrap();
        let terms = input.terms("ann", now).unwrap();
        let freeze = Freeze {
            id: FreezeId(2),
            terms,
            created_at: now,
            created_by: "ann".to_owned(),
            ended_by: None,
        };
        let shown = view(&Domain::default(), &AnyFreeze::from(&freeze), now);
        let json = serde_json::to_value(shown).unwrap();
        assert_schema("Freeze", &json);
        assert_eq!((&json["id"], &json["state"]), (&"FRZ-2".into(), &"active".into()));
        assert_eq!(json["next_change_at"], "2026-12-20T01:00:00Z");
        assert_eq!((&json["owner"], &json["file"]), (&"ann".into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_new_freeze_has_an_end_and_a_reason() {
        let now: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
        for bad in [
            r#"{"reason": "r"}"#.to_owned(),
            r#"{"reason": " ", "duration_seconds": 1}"#.to_owned(),
            r#"{"reason": "r", "duration_seconds": 1, "ends_at": "2027-01-01T00:00Z"}"#.to_owned(),
            r#"{"reason": "r", "duration_seconds": 1, "items": [""]}"#.to_owned(),
            format!(r#"{{"reason": "{}", "duration_seconds": 1}}"#, "a".repeat(513)),
        ] {
            let input: FreezeInput = serde_json::from_str(&bad).unwrap();
            assert!(input.terms("ann", now).is_err(), "{bad}");
        }
    }
}
