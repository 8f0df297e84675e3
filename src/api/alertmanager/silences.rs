//! Silences as an Alertmanager keeps them: `/api/v2/silences` and `/api/v2/silence/{id}`.

mod posted;

use super::query::Query;
use super::{Caller, Context, Milliseconds, answer_code, answer_text, answer_unavailable};
use crate::domain::event::Command;
use crate::domain::matcher::{Matcher, Operator};
use crate::domain::silence::{Silence, SilenceState};
use crate::domain::{self, Accepted, ObjectKey, Refusal};
use crate::engine::CommandError;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;

pub(super) async fn get_silences(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Query::parse(query.as_deref());
    let now = Timestamp::now();
    let is_asked = |silence: &Silence| match silence.state(now) {
        SilenceState::Active => query.flag("active"),
        SilenceState::Pending => query.flag("pending"),
        SilenceState::Expired => query.flag("expired"),
    };
    let filters = match query.filters() {
        Ok(filters) => filters,
        Err(error) => return answer_text(StatusCode::BAD_REQUEST, &error),
    };
    let copy = |state: &domain::State| -> Vec<Silence> {
        let wanted = |it: &&Silence| is_asked(it) && is_wanted(it, &filters);
        state.silences.values().filter(wanted).cloned().collect()
    };
    match context.handle.read(copy).await {
        Ok(silences) => Json(list(&silences, now)).into_response(),
        Err(error) => answer_unavailable(&error),
    }
}

pub(super) async fn get_silence(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
) -> Response {
    match context.handle.read(|state| state.silences.get(&*id).cloned()).await {
        Ok(Some(silence)) => Json(gettable(&silence, Timestamp::now())).into_response(),
        Ok(None) => refuse_id(&id).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response()),
        Err(error) => answer_unavailable(&error),
    }
}

/// Reads the body of `POST /api/v2/silences`. Fails with the answer's text when it is refused.
pub fn read_silence(body: &[u8], now: Timestamp) -> Result<Command, String> {
    posted::parse(body, now, String::new()).map_err(|refusal| match refusal {
        posted::Refusal::Schema(_, _, text) | posted::Refusal::Meaning(text) => text,
    })
}

pub(super) async fn post_silence(
    State(context): State<Arc<Context>>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Some(answer) = refuse_content_type(&headers) {
        return answer;
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let status = rejection.status();
            return answer_code(status, status.as_u16(), &rejection.body_text());
        }
    };
    let new_id = uuid::Uuid::new_v4().to_string();
    let command = match posted::parse(&body, Timestamp::now(), new_id) {
        Ok(command) => command,
        Err(posted::Refusal::Schema(status, code, message)) => {
            return answer_code(status, code, &message);
        }
        Err(posted::Refusal::Meaning(text)) => return answer_text(StatusCode::BAD_REQUEST, &text),
    };
    let by = match (caller, &command) {
        (Some(Extension(Caller(name))), _) => name,
        (None, Command::SetSilence { created_by, .. }) => created_by.clone(),
        (None, _) => String::new(),
    };
    match context.handle.command(by, command).await {
        Ok(Accepted::Object(ObjectKey::Silence(id))) => {
            Json(serde_json::json!({"silenceID": id})).into_response()
        }
        Ok(other) => {
            tracing::error!(?other, "the answer to a new silence is no silence");
            answer_text(StatusCode::INTERNAL_SERVER_ERROR, "the silence was set, its id is lost")
        }
        Err(error) => answer_command(&error),
    }
}

pub(super) async fn delete_silence(
    State(context): State<Arc<Context>>,
    caller: Option<Extension<Caller>>,
    Path(id): Path<String>,
) -> Response {
    let found = context.handle.read(|state| look_up(state, &id, Timestamp::now())).await;
    match found {
        Err(error) => answer_unavailable(&error),
        Ok(Found::Written(place)) => {
            let text = format!("the silence is written in file {place}; change it there");
            answer_text(StatusCode::CONFLICT, &text)
        }
        Ok(Found::Over) => StatusCode::OK.into_response(),
        Ok(Found::Nothing) => refuse_id(&id)
            .unwrap_or_else(|| answer_text(StatusCode::NOT_FOUND, "silence not found")),
        Ok(Found::Changeable) => {
            let by = caller.map_or_else(|| "api".to_owned(), |Extension(Caller(name))| name);
            match context.handle.command(by, Command::ExpireSilence { id }).await {
                Ok(_) => StatusCode::OK.into_response(),
                Err(error) => answer_command(&error),
            }
        }
    }
}

/// What an id names.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A silence that is over already; ending it again is no error.
    Over,
    /// A silence that a file says, at this place.
    Written(String),
    Changeable,
}

fn look_up(state: &domain::State, id: &str, now: Timestamp) -> Found {
    match state.silences.get(id) {
        None => Found::Nothing,
        Some(silence) if silence.from_file => {
            let rule = state.rules.silences.iter().find(|it| it.rule.name == id);
            Found::Written(rule.map_or_else(
                || "that is no longer there".to_owned(),
                |it| format!("{}:{}", it.rule.file, it.rule.line),
            ))
        }
        Some(silence) if silence.state(now) == SilenceState::Expired => Found::Over,
        Some(_) => Found::Changeable,
    }
}

/// The answer to an id that cannot be one.
fn refuse_id(id: &str) -> Option<Response> {
    if uuid::Uuid::try_parse(id).is_ok() {
        return None;
    }
    let message = format!("silenceID in path must be of type uuid: {id:?}");
    Some(answer_code(StatusCode::UNPROCESSABLE_ENTITY, 601, &message))
}

/// The answer to a body that is not JSON.
fn refuse_content_type(headers: &HeaderMap) -> Option<Response> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let value = value.filter(|it| !it.is_empty()).unwrap_or("application/octet-stream");
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return None;
    }
    let message =
        format!("unsupported media type {media_type:?}, only [application/json] are allowed");
    Some(answer_code(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, &message))
}

fn answer_command(error: &CommandError) -> Response {
    match error {
        CommandError::NotTaken(error) => answer_unavailable(error),
        CommandError::Refused(refusal) => {
            let status = match refusal {
                Refusal::NotFound(_) => {
                    return answer_text(StatusCode::NOT_FOUND, "silence not found");
                }
                Refusal::WrongState(_) => StatusCode::CONFLICT,
                Refusal::NotAllowed(_) => StatusCode::FORBIDDEN,
                Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
            };
            answer_text(status, &refusal.to_string())
        }
    }
}

/// Whether a silence has every filter among its own matchers, as Alertmanager compares them: by
/// name, operator and value.
fn is_wanted(silence: &Silence, filters: &[Matcher]) -> bool {
    filters.iter().all(|it| silence.matchers.0.contains(it))
}

/// A silence as Alertmanager writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GettableSilence<'a> {
    id: &'a str,
    status: SilenceStatus,
    updated_at: Milliseconds,
    comment: &'a str,
    created_by: &'a str,
    ends_at: Milliseconds,
    matchers: Vec<GettableMatcher<'a>>,
    starts_at: Milliseconds,
}

#[derive(Serialize)]
struct SilenceStatus {
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GettableMatcher<'a> {
    is_equal: bool,
    is_regex: bool,
    name: &'a str,
    value: &'a str,
}

fn gettable(silence: &Silence, now: Timestamp) -> GettableSilence<'_> {
    let matchers = silence.matchers.0.iter().map(|it| GettableMatcher {
        is_equal: matches!(it.operator(), Operator::Equal | Operator::Matches),
        is_regex: matches!(it.operator(), Operator::Matches | Operator::NotMatches),
        name: it.name(),
        value: it.value(),
    });
    GettableSilence {
        id: &silence.id,
        status: SilenceStatus { state: silence.state(now).as_str() },
        updated_at: Milliseconds(silence.updated_at),
        comment: &silence.comment,
        created_by: &silence.created_by,
        ends_at: Milliseconds(silence.ends_at),
        matchers: matchers.collect(),
        starts_at: Milliseconds(silence.starts_at),
    }
}

/// Active ones first, by their end; then pending ones, by their start; then those that are over,
/// the last one first.
fn list(silences: &[Silence], now: Timestamp) -> Vec<GettableSilence<'_>> {
    let mut sorted: Vec<&Silence> = silences.iter().collect();
    let before = Reverse(Timestamp::MIN);
    sorted.sort_by_key(|it| match it.state(now) {
        SilenceState::Active => (0, it.ends_at, before),
        SilenceState::Pending => (1, it.starts_at, before),
        SilenceState::Expired => (2, Timestamp::MIN, Reverse(it.ends_at)),
    });
    sorted.into_iter().map(|it| gettable(it, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rules::{RuleRef, RuleSet, SilenceRule};
    use serde_json::json;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn silence(id: &str, starts_at: &str, ends_at: &str) -> Silence {
        Silence {
            id: id.into(),
            matchers: r#"{a="b",c!~"d.*"}"#.parse().unwrap(),
            starts_at: time(starts_at),
            ends_at: time(ends_at),
            updated_at: time("2026-11-22T16:00:00.5Z"),
            created_by: "me".to_owned(),
            comment: "why".to_owned(),
            from_file: false,
            time_intervals: Vec::new(),
            alert_count: 3,
            warned_at: None,
        }
    }

    const NOW: &str = "2026-11-22T17:00:00Z";
    const PAST: &str = "2026-11-22T16:00:00Z";
    const EARLIER: &str = "2026-11-22T15:00:00Z";
    const FUTURE: &str = "2026-11-22T18:00:00Z";
    const LATER: &str = "2026-11-22T19:00:00Z";

    #[test]
    fn a_silence_is_written_as_alertmanager_does() {
        let silence = silence("s", PAST, FUTURE);
        assert_eq!(
            serde_json::to_value(gettable(&silence, time(NOW))).unwrap(),
            json!({
                "id": "s", "status": {"state": "active"}, "updatedAt": "2026-11-22T16:00:00.500Z",
                "comment": "why", "createdBy": "me", "startsAt": "2026-11-22T16:00:00.000Z",
                "endsAt": "2026-11-22T18:00:00.000Z",
                "matchers": [
                    {"isEqual": true, "isRegex": false, "name": "a", "value": "b"},
                    {"isEqual": false, "isRegex": true, "name": "c", "value": "d.*"},
                ],
            })
        );
    }

    #[test]
    fn silences_come_in_order_of_use() {
        let silences = [
            silence("over first", "2026-11-22T14:00:00Z", EARLIER),
            silence("over last", EARLIER, PAST),
            silence("pending later", LATER, "2026-11-22T20:00:00Z"),
            silence("pending", FUTURE, LATER),
            silence("active later", PAST, LATER),
            silence("active", PAST, FUTURE),
        ];
        let ids: Vec<_> = list(&silences, time(NOW)).iter().map(|it| it.id.to_owned()).collect();
        let expected =
            ["active", "active later", "pending", "pending later", "over last", "over first"];
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_filter_is_compared_with_the_silences_own_matchers() {
        for (filter, wanted) in [
            (r#"a="b""#, true),
            (r#"c!~"d.*""#, true),
            (r#"a=~"b""#, false),
            (r#"a!="b""#, false),
            (r#"c="x""#, false),
        ] {
            let filters = [filter.parse().unwrap()];
            assert_eq!(is_wanted(&silence("s", PAST, FUTURE), &filters), wanted, "{filter}");
        }
    }

    #[test]
    fn what_a_file_says_cannot_be_ended_here() {
        let mut state = domain::State::default();
        let mut written = silence("nightly", PAST, FUTURE);
        written.from_file = true;
        let gone = Silence { id: "gone".into(), ..written.clone() };
        for it in [written, gone, silence("over", EARLIER, PAST), silence("now", PAST, FUTURE)] {
            state.silences.insert(Arc::clone(&it.id), it);
        }
        let rule = RuleRef { name: "nightly".to_owned(), file: "a.yaml".to_owned(), line: 3 };
        state.rules = Arc::new(RuleSet {
            silences: vec![SilenceRule {
                rule: Arc::new(rule),
                matchers: "{a=b}".parse().unwrap(),
                owner: String::new(),
                reason: String::new(),
                starts_at: time(PAST),
                ends_at: time(FUTURE),
                time_intervals: Vec::new(),
            }],
            ..RuleSet::default()
        });
        for (id, expected) in [
            ("nightly", Found::Written("a.yaml:3".to_owned())),
            ("gone", Found::Written("that is no longer there".to_owned())),
            ("over", Found::Over),
            ("now", Found::Changeable),
            ("none", Found::Nothing),
        ] {
            assert_eq!(look_up(&state, id, time(NOW)), expected, "{id}");
        }
    }

    #[test]
    fn refusals_become_statuses() {
        let refused = |it: Refusal| CommandError::Refused(it);
        for (error, status) in [
            (refused(Refusal::NotFound(String::new())), 404),
            (refused(Refusal::WrongState(String::new())), 409),
            (refused(Refusal::Invalid(String::new())), 400),
            (CommandError::NotTaken(crate::engine::SubmitError::Overloaded), 503),
        ] {
            assert_eq!(answer_command(&error).status().as_u16(), status, "{error}");
        }
        assert!(refuse_id("3b0b2a4e-0000-4000-8000-000000000000").is_none());
        assert_eq!(refuse_id("xx").map(|it| it.status().as_u16()), Some(422));
    }
}
