//! Opsgenie's alert API, as its senders use it: `/v2/alerts` to create, close, acknowledge and note.
//!
//! The original answers 202 at once and does the work later; its number of the request leads to what
//! came of it. Here the work is done when the answer comes, and the number of a request holds what it
//! was about, so that nothing has to be kept of it.

use super::mapped::{Kind, Mapped};
use super::{Door, Failure, details, webhook};
use crate::domain::alert::{Alert, AlertState};
use crate::domain::event::Command;
use crate::domain::label::{Fingerprint, Labels};
use crate::engine::SubmitError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The source's name.
pub(super) const SOURCE: &str = "opsgenie_api";
/// The longest message, in characters; the original cuts there.
const MESSAGE_MAX: usize = 130;
/// The longest alias, in characters.
const ALIAS_MAX: usize = 512;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Close,
    Acknowledge,
    Note,
}

impl Action {
    const ALL: [Self; 4] = [Self::Create, Self::Close, Self::Acknowledge, Self::Note];

    /// The original's words for it, and for it done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("Create", "Created alert"),
            Self::Close => ("Close", "Alert closed"),
            Self::Acknowledge => ("Acknowledge", "Alert acknowledged"),
            Self::Note => ("Add note", "Note added"),
        }
    }
}

/// The query that says what the identifier of an alert is.
#[derive(Deserialize)]
pub(super) struct Identified {
    #[serde(rename = "identifierType", default)]
    by: String,
}

impl Identified {
    /// The alert that an identifier means. Fails with a reason.
    fn find(&self, identifier: &str) -> Result<Fingerprint, String> {
        match self.by.to_ascii_lowercase().as_str() {
            "alias" => Ok(known_by(identifier).fingerprint()),
            "" | "id" => identifier.parse().map_err(|_| {
                "an id has sixteen hexadecimal digits; or say identifierType=alias".to_owned()
            }),
            other => {
                Err(format!("identifierType is `id` or `alias`, not `{}`", other.escape_debug()))
            }
        }
    }
}

/// The number of a request: a UUID of the action, some random bytes and the alert.
fn request_id(action: Action, alert: Fingerprint) -> uuid::Uuid {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    let (head, last) = bytes.split_at_mut(8);
    let number = Action::ALL.iter().zip(0..).find(|it| *it.0 == action).map_or(0, |it| it.1);
    head.iter_mut().take(1).for_each(|it| *it = number);
    last.copy_from_slice(&alert.0.to_be_bytes());
    uuid::Uuid::from_bytes(bytes)
}

fn of_request(id: &str) -> Option<(Action, Fingerprint)> {
    let bytes = *id.parse::<uuid::Uuid>().ok()?.as_bytes();
    let (first, last) = bytes.split_first_chunk::<8>()?;
    let action = Action::ALL.get(usize::from(*first.first()?))?;
    Some((*action, Fingerprint(u64::from_be_bytes(last.try_into().ok()?))))
}

pub(super) async fn create(State(door): State<Arc<Door>>, body: Bytes) -> Response {
    let mapped = match read(&body) {
        Ok(mapped) => mapped,
        Err(errors) => return unprocessable(&errors),
    };
    let fingerprint = mapped.fingerprint();
    let entries = vec![Ok(mapped)];
    match door.take(SOURCE, |now| Ok::<_, ()>(webhook::delivery(&entries, now))).await {
        Ok(rejected) if rejected.is_empty() => accepted(Action::Create, fingerprint),
        Ok(rejected) => unprocessable(&[("body", super::list_reasons(&rejected))].into()),
        Err(Failure::Unreadable(())) => unprocessable(&BTreeMap::new()),
        Err(Failure::NotTaken(error)) => not_taken(&error),
    }
}

pub(super) async fn close(
    State(door): State<Arc<Door>>,
    Path(identifier): Path<String>,
    Query(query): Query<Identified>,
    body: Bytes,
) -> Response {
    let fingerprint = match query.find(&identifier) {
        Ok(fingerprint) => fingerprint,
        Err(reason) => return unprocessable(&[("identifier", reason)].into()),
    };
    let (user, note) = user_and_note(&body);
    if !note.is_empty() {
        let order = |incident| Command::NoteIncident { incident, text: note };
        if let Err(error) = door.order(fingerprint, &user, order).await {
            return not_taken(&error);
        }
    }
    match door.end(SOURCE, fingerprint).await {
        Ok(_) => accepted(Action::Close, fingerprint),
        Err(error) => not_taken(&error),
    }
}

pub(super) async fn acknowledge(
    State(door): State<Arc<Door>>,
    Path(identifier): Path<String>,
    Query(query): Query<Identified>,
    body: Bytes,
) -> Response {
    let fingerprint = match query.find(&identifier) {
        Ok(fingerprint) => fingerprint,
        Err(reason) => return unprocessable(&[("identifier", reason)].into()),
    };
    let (user, _) = user_and_note(&body);
    let order = |incident| Command::AcknowledgeIncident { incident };
    match door.order(fingerprint, &user, order).await {
        Ok(_) => accepted(Action::Acknowledge, fingerprint),
        Err(error) => not_taken(&error),
    }
}

pub(super) async fn note(
    State(door): State<Arc<Door>>,
    Path(identifier): Path<String>,
    Query(query): Query<Identified>,
    body: Bytes,
) -> Response {
    let (user, text) = user_and_note(&body);
    let fingerprint = match query.find(&identifier) {
        Ok(_) if text.is_empty() => {
            return unprocessable(&[("note", "Note can not be empty.".to_owned())].into());
        }
        Ok(fingerprint) => fingerprint,
        Err(reason) => return unprocessable(&[("identifier", reason)].into()),
    };
    let order = |incident| Command::NoteIncident { incident, text };
    match door.order(fingerprint, &user, order).await {
        Ok(_) => accepted(Action::Note, fingerprint),
        Err(error) => not_taken(&error),
    }
}

/// What came of a request.
pub(super) async fn request(State(door): State<Arc<Door>>, Path(id): Path<String>) -> Response {
    let Some((action, fingerprint)) = of_request(&id) else {
        return answer(StatusCode::NOT_FOUND, json!({"message": "Request not found."}));
    };
    let look = |alert: &Alert| alert.annotations.get("alias").unwrap_or_default().to_owned();
    let found = door.handle.read(|state| state.alerts.get(&fingerprint).map(|it| look(it))).await;
    match found {
        Err(error) => not_taken(&error),
        Ok(alias) => {
            let (word, done) = action.words();
            let status = if alias.is_some() { done } else { "Alert does not exist" };
            let data = json!({"success": alias.is_some(), "isSuccess": alias.is_some(),
                "action": word, "status": status, "processedAt": now(), "integrationId": SOURCE,
                "alertId": fingerprint.to_string(), "alias": alias.unwrap_or_default()});
            let body = json!({"data": data, "took": 0.001, "requestId": id});
            (StatusCode::OK, Json(body)).into_response()
        }
    }
}

/// One alert.
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    Path(identifier): Path<String>,
    Query(query): Query<Identified>,
) -> Response {
    let fingerprint = match query.find(&identifier) {
        Ok(fingerprint) => fingerprint,
        Err(reason) => return answer(StatusCode::NOT_FOUND, json!({"message": reason})),
    };
    let found = door.handle.read(|state| {
        let alert = state.alerts.get(&fingerprint)?;
        let incident = alert.incident.and_then(|it| state.incidents.get(&it));
        Some(view(alert, incident.is_some_and(|it| it.acknowledged_at.is_some())))
    });
    match found.await {
        Ok(Some(data)) => answer(StatusCode::OK, json!({"data": data})),
        Ok(None) => answer(StatusCode::NOT_FOUND, json!({"message": "Alert not found."})),
        Err(error) => not_taken(&error),
    }
}

fn view(alert: &Alert, is_acknowledged: bool) -> Value {
    let is_open = alert.state == AlertState::Firing;
    let text = |name: &str| alert.annotations.get(name).unwrap_or_default();
    let label = |name: &str| alert.labels.get(name).unwrap_or_default();
    json!({"id": alert.fingerprint.to_string(), "alias": text("alias"),
        "message": label("alertname"), "status": if is_open { "open" } else { "closed" },
        "acknowledged": is_acknowledged, "count": alert.count, "priority": label("priority"),
        "source": text("source"), "entity": label("entity"), "description": text("description"),
        "tags": text("tags").split(", ").filter(|it| !it.is_empty()).collect::<Vec<_>>(),
        "createdAt": alert.starts_at.to_string(), "updatedAt": alert.updated_at.to_string(),
        "lastOccurredAt": alert.updated_at.to_string(), "snoozed": false, "isSeen": is_acknowledged})
}

/// Reads the body of a new alert. Fails with what is wrong, by field.
pub(super) fn read(body: &[u8]) -> Result<Mapped, BTreeMap<&'static str, String>> {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body @ Value::Object(_)) => body,
        Ok(_) => return Err([("body", "The body is no object.".to_owned())].into()),
        Err(error) => return Err([("body", format!("The body is no JSON: {error}"))].into()),
    };
    let message: String = details::field(&body, "message").chars().take(MESSAGE_MAX).collect();
    if message.is_empty() {
        return Err([("message", "Message can not be empty.".to_owned())].into());
    }
    let mut alias = details::field(&body, "alias");
    if alias.chars().count() > ALIAS_MAX {
        return Err([("alias", format!("Alias has more than {ALIAS_MAX} characters."))].into());
    }
    if alias.is_empty() {
        alias = uuid::Uuid::new_v4().to_string();
    }
    let priority = match details::field(&body, "priority").to_ascii_uppercase() {
        it if it.is_empty() => "P3".to_owned(),
        it => it,
    };
    let severity = match priority.as_str() {
        "P1" => "critical",
        "P2" => "error",
        "P3" => "warning",
        "P4" | "P5" => "info",
        _ => return Err([("priority", "Priority is one of P1 to P5.".to_owned())].into()),
    };
    let mut annotations = details::texts_of(body.get("details").unwrap_or(&Value::Null));
    let mut labels = details::labels_among(&annotations);
    let entity = details::field(&body, "entity");
    for (name, text) in [
        ("alertname", &message),
        ("severity", &severity.to_owned()),
        ("priority", &priority),
        ("entity", &entity),
    ] {
        details::set(&mut labels, name, text);
    }
    for name in ["description", "source", "note", "user"] {
        annotations.insert(name.to_owned(), details::field(&body, name));
    }
    annotations.insert("tags".to_owned(), details::words_of(&body, "tags"));
    annotations.insert("responders".to_owned(), responders(&body));
    annotations.insert("summary".to_owned(), message.clone());
    annotations.insert("alias".to_owned(), alias.clone());
    let known_by = known_by(&alias);
    Ok(Mapped {
        kind: Kind::Alert,
        title: message,
        is_firing: true,
        known_by: known_by.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        labels,
        annotations,
        starts_at: None,
        ends_at: None,
        link: String::new(),
        confidence: 1000,
    })
}

/// Who should look after it, as far as they have names.
fn responders(body: &Value) -> String {
    let entries = body.get("responders").and_then(Value::as_array).into_iter().flatten();
    let name = |it: &Value| {
        let names = ["name", "username", "id"].map(|field| details::field(it, field));
        names.into_iter().find(|it| !it.is_empty())
    };
    entries.filter_map(name).collect::<Vec<_>>().join(", ")
}

fn known_by(alias: &str) -> Labels {
    Labels::from_pairs([("source", SOURCE), ("alias", alias)])
}

/// Who gives an order, and what he adds to it. A body is not needed.
fn user_and_note(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let users = ["user", "source"].map(|it| details::field(&body, it));
    let user = users.into_iter().find(|it| !it.is_empty());
    (user.unwrap_or_else(|| SOURCE.to_owned()), details::field(&body, "note"))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn accepted(action: Action, alert: Fingerprint) -> Response {
    let body = json!({"result": "Request will be processed", "took": 0.001,
        "requestId": request_id(action, alert).to_string()});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// An answer with what every answer of the original has.
fn answer(status: StatusCode, mut body: Value) -> Response {
    if let Some(body) = body.as_object_mut() {
        body.insert("took".to_owned(), json!(0.001));
        body.insert("requestId".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    }
    (status, Json(body)).into_response()
}

fn unprocessable(errors: &BTreeMap<&'static str, String>) -> Response {
    let message = "Request body is not processable. Please check the errors.";
    answer(StatusCode::UNPROCESSABLE_ENTITY, json!({"message": message, "errors": errors}))
}

fn not_taken(error: &SubmitError) -> Response {
    let body = json!({"message": error.to_string()});
    super::answer_not_taken(error, answer(StatusCode::SERVICE_UNAVAILABLE, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_keeps_what_its_sender_told() {
        let body = json!({"message": "Disk full", "alias": "disk-db-1", "priority": "p2",
            "tags": ["db", "eu"], "entity": "db-1", "details": {"service": "shop", "free": 3},
            "responders": [{"type": "team", "name": "ops"}, {"id": "7"}, 8]});
        let it = read(body.to_string().as_bytes()).unwrap();
        let labels: Vec<String> = it.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels.join(" "),
            "alertname=Disk full entity=db-1 priority=P2 service=shop severity=error"
        );
        assert_eq!(it.annotations["tags"], "db, eu");
        assert_eq!(it.annotations["responders"], "ops, 7");
        assert_eq!(it.annotations["free"], "3");
        let by_alias = Identified { by: "alias".to_owned() };
        assert_eq!(by_alias.find("disk-db-1"), Ok(it.fingerprint()));
        let by_id = Identified { by: String::new() };
        assert_eq!(by_id.find(&it.fingerprint().to_string()), Ok(it.fingerprint()));
        assert!(by_id.find("disk-db-1").is_err());
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        for (body, field) in [
            ("{", "body"),
            ("[]", "body"),
            ("{}", "message"),
            (r#"{"message":"a","priority":"P6"}"#, "priority"),
            (&json!({"message": "a", "alias": "a".repeat(513)}).to_string(), "alias"),
        ] {
            let errors = read(body.as_bytes()).unwrap_err();
            assert_eq!(errors.keys().copied().collect::<Vec<_>>(), [field], "{body}");
        }
    }

    #[test]
    fn the_number_of_a_request_holds_what_it_was_about() {
        for action in Action::ALL {
            let id = request_id(action, Fingerprint(42)).to_string();
            assert_eq!(of_request(&id), Some((action, Fingerprint(42))));
        }
        for wrong in ["", "x", "ffffffff-0000-0000-0000-000000000000"] {
            assert_eq!(of_request(wrong), None, "{wrong}");
        }
    }
}
