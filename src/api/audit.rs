//! The audit trail over REST.

use super::Context;
use super::error::ApiError;
use super::input::{Params, page_limit, parse_id};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::audit::{AuditEntry, AuditId, Chain};
use crate::store::Kind;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const CHAIN: &str = "Tells where the audit trail begins and ends, by the hashes of its chain";
    let summary = "Lists who changed what, newest first";
    vec![
        Operation::read("/api/v1/audit", summary, Answer::Page("AuditEntry"), list).query(&[
            ("by", "only what this person, token or `runbook NAME` did"),
            ("action", "only this, for example `resolve_incident` or `step_begun`"),
            ("subject", "only what was done to this, for example `EXE-9`"),
            ("since", "done at or after this time"),
            ("until", "done before this time"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::read("/api/v1/audit/chain", CHAIN, Answer::Json("AuditChain"), chain),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    by: Option<String>,
    action: Option<String>,
    subject: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(parse_id::<AuditId>).transpose()?;
    let cursor = cursor.map(|it| it.to_string());
    let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|it| it == text);
    let page = listing::walk(&context, Kind::Audit, cursor, limit, |it: &AuditEntry| {
        is(&query.by, &it.by)
            && is(&query.action, &it.action)
            && is(&query.subject, &it.subject)
            && query.since.is_none_or(|since| it.at >= since)
            && query.until.is_none_or(|until| it.at < until)
    });
    Ok(Json(page.await?))
}

async fn chain(State(context): State<Context>) -> Result<Json<Chain>, ApiError> {
    Ok(Json(context.handle.read(|state| state.memory.audit).await?))
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use crate::domain::Closed;
    use crate::domain::State;
    use crate::domain::event::{Command, Event};
    use jiff::Timestamp;

    #[test]
    fn the_views_are_as_documented() {
        let mut state = State::default();
        let command = Command::StopRunbooks { reason: "storm".to_owned() };
        let event = Event::CommandGiven { by: "ann".to_owned(), command };
        drop(state.apply(Timestamp::UNIX_EPOCH, &event));
        assert_schema("AuditChain", &serde_json::to_value(state.memory.audit).unwrap());
        let closed = state.take_changes().closed;
        let [Closed::Audit(entry)] = closed.as_slice() else { panic!("{closed:?}") };
        let json = serde_json::to_value(entry).unwrap();
        assert_schema("AuditEntry", &json);
        assert_eq!((&json["id"], &json["action"]), (&"AUD-1".into(), &"stop_runbooks".into()));
        assert_eq!((&json["by"], &json["details"]["reason"]), (&"ann".into(), &"storm".into()));
    }
}
