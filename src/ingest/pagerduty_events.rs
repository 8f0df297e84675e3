//! PagerDuty's Events API, version 2: `POST /v2/enqueue`.
//!
//! Whoever can send to PagerDuty sends here with another address. The `routing_key` is one of our
//! tokens, or the token of a declared source, whose name the alerts then carry. Statuses and bodies
//! of answers are the original's; its senders try again after 5xx and give up on 4xx.

use super::details;
use super::keys::KeyRefusal;
use super::mapped::{Kind, Mapped};
use super::{Door, Failure, moment_text, webhook};
use crate::domain::event::Command;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The source's name, unless the key is that of a declared one.
pub(super) const SOURCE: &str = "pagerduty_events";
/// The longest key by which an event is known again, in characters.
const DEDUP_KEY_MAX: usize = 255;
/// The longest summary that is kept, in characters; the original cuts there.
const SUMMARY_MAX: usize = 1024;
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Trigger,
    Acknowledge,
    Resolve,
}

/// An event that was read.
#[derive(Debug)]
pub(super) struct Enqueued {
    routing_key: String,
    action: Action,
    dedup_key: String,
    mapped: Mapped,
}

/// Why a body is no event, in the original's words.
#[derive(Debug)]
pub(super) struct Invalid {
    code: StatusCode,
    status: &'static str,
    message: &'static str,
    pub(super) errors: Vec<String>,
}

impl Invalid {
    /// The event has errors.
    pub(super) fn event(errors: Vec<String>) -> Self {
        let (status, message) = ("invalid event", "Event object is invalid");
        Self { code: StatusCode::BAD_REQUEST, status, message, errors }
    }

    fn unrecognized(error: &str) -> Self {
        let (status, message) = ("unrecognized object", "Event object format is unrecognized");
        Self { code: StatusCode::BAD_REQUEST, status, message, errors: vec![error.to_owned()] }
    }
}

impl From<BytesRejection> for Invalid {
    fn from(rejection: BytesRejection) -> Self {
        Self { code: rejection.status(), ..Self::unrecognized(&rejection.body_text()) }
    }
}

impl IntoResponse for Invalid {
    fn into_response(self) -> Response {
        let Self { code, status, message, errors } = self;
        let body = json!({"status": status, "message": message, "errors": errors});
        (code, Json(body)).into_response()
    }
}

pub(super) async fn enqueue(
    State(door): State<Arc<Door>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let event = match body.map_err(Invalid::from).and_then(|it| read(&it)) {
        Ok(event) => event,
        Err(invalid) => return invalid.into_response(),
    };
    let source = match door.source_of_key(&event.routing_key, SOURCE) {
        Ok(source) => source,
        Err(refusal) => return refused(&refusal),
    };
    let dedup_key = event.dedup_key.clone();
    let mapped = event.mapped_for(&source);
    if event.action == Action::Acknowledge {
        let order = |incident| Command::AcknowledgeIncident { incident };
        return match door.order(mapped.fingerprint(), &source, order).await {
            Ok(_) => accepted(&dedup_key),
            Err(error) => super::answer_not_taken(&error, not_taken(&error.to_string())),
        };
    }
    let entries = vec![Ok(mapped)];
    match door.take(&source, |now| Ok::<_, ()>(webhook::delivery(&entries, now))).await {
        Ok(rejected) if rejected.is_empty() => accepted(&dedup_key),
        Ok(rejected) => Invalid::event(vec![super::list_reasons(&rejected)]).into_response(),
        Err(Failure::Unreadable(())) => Invalid::event(Vec::new()).into_response(),
        Err(Failure::NotTaken(error)) => {
            super::answer_not_taken(&error, not_taken(&error.to_string()))
        }
    }
}

fn accepted(dedup_key: &str) -> Response {
    let body = json!({"status": "success", "message": "Event processed", "dedup_key": dedup_key});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// What is answered while the log cannot take more.
pub(super) fn not_taken(reason: &str) -> Response {
    Json(json!({"status": "error", "message": reason, "errors": []})).into_response()
}

/// What is answered to a key that lets nothing in.
pub(super) fn refused(refusal: &KeyRefusal) -> Response {
    let (code, error) = match refusal {
        KeyRefusal::Unknown => (StatusCode::UNAUTHORIZED, "'routing_key' is not known here"),
        KeyRefusal::UsedUp(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "this source has used up its quota")
        }
    };
    let invalid = Invalid { code, ..Invalid::event(vec![error.to_owned()]) };
    let mut answer = invalid.into_response();
    if let KeyRefusal::UsedUp(seconds) = refusal {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    answer
}

/// A body as an object.
pub(super) fn object(body: &[u8]) -> Result<Value, Invalid> {
    match serde_json::from_slice(body) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(Invalid::unrecognized("the event is no object")),
        Err(_) => Err(Invalid::unrecognized("JSON parse error")),
    }
}

/// Notes what a field lacks.
pub(super) fn required(object: &Value, path: &str, errors: &mut Vec<String>) -> String {
    let value = path.split('.').try_fold(object, |it, name| it.get(name));
    let text = value.map(details::text_of).unwrap_or_default();
    if text.is_empty() {
        errors.push(format!("'{path}' is missing or blank"));
    }
    text
}

/// Reads an event. Fails with everything that is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Enqueued, Invalid> {
    let body = object(body)?;
    let mut errors = Vec::new();
    let routing_key = required(&body, "routing_key", &mut errors);
    let action = match details::field(&body, "event_action").as_str() {
        "trigger" => Action::Trigger,
        "acknowledge" => Action::Acknowledge,
        "resolve" => Action::Resolve,
        "" => {
            errors.push("'event_action' is missing or blank".to_owned());
            return Err(Invalid::event(errors));
        }
        _ => {
            let words = "'trigger', 'acknowledge' or 'resolve'";
            errors.push(format!("'event_action' is invalid (must be one of: {words})"));
            return Err(Invalid::event(errors));
        }
    };
    let mut dedup_key = details::field(&body, "dedup_key");
    if dedup_key.chars().count() > DEDUP_KEY_MAX {
        errors.push(format!("'dedup_key' is too long (at most {DEDUP_KEY_MAX} characters)"));
    } else if dedup_key.is_empty() {
        if action != Action::Trigger {
            errors.push("'dedup_key' is missing or blank".to_owned());
        }
        dedup_key = uuid::Uuid::new_v4().simple().to_string();
    }
    let mut mapped = match action {
        Action::Trigger => triggered(&body, &mut errors),
        Action::Acknowledge | Action::Resolve => over(&dedup_key),
    };
    mapped.known_by.insert("dedup_key".to_owned(), dedup_key.clone());
    if errors.is_empty() {
        Ok(Enqueued { routing_key, action, dedup_key, mapped })
    } else {
        Err(Invalid::event(errors))
    }
}

impl Enqueued {
    /// What it becomes when it is tried: what is acknowledged fires still.
    pub(super) fn tried(&self) -> Mapped {
        let is_firing = self.action != Action::Resolve;
        Mapped { is_firing, ..self.mapped_for(SOURCE) }
    }

    /// The alert, known again among those of its source.
    pub(super) fn mapped_for(&self, source: &str) -> Mapped {
        let mut mapped = self.mapped.clone();
        mapped.known_by.insert("source".to_owned(), source.to_owned());
        mapped
    }
}

/// An end tells nothing but the key; what is known of the alert stays.
fn over(dedup_key: &str) -> Mapped {
    let mut labels = BTreeMap::new();
    details::set(&mut labels, "alertname", dedup_key);
    Mapped {
        kind: Kind::Alert,
        title: dedup_key.to_owned(),
        is_firing: false,
        known_by: BTreeMap::new(),
        labels,
        annotations: BTreeMap::new(),
        starts_at: None,
        ends_at: None,
        link: String::new(),
        confidence: 1000,
    }
}

fn triggered(body: &Value, errors: &mut Vec<String>) -> Mapped {
    let title = required(body, "payload.summary", errors);
    let title: String = title.chars().take(SUMMARY_MAX).collect();
    let instance = required(body, "payload.source", errors);
    let severity = required(body, "payload.severity", errors).to_ascii_lowercase();
    if !severity.is_empty() && !SEVERITIES.contains(&severity.as_str()) {
        let words = "'critical', 'error', 'warning' or 'info'";
        errors.push(format!("'payload.severity' is invalid (must be one of: {words})"));
    }
    let payload = body.get("payload").unwrap_or(&Value::Null);
    let custom = payload.get("custom_details").unwrap_or(&Value::Null);
    let mut annotations = details::texts_of(custom);
    let mut labels = details::labels_among(&annotations);
    for (name, text) in [("alertname", &title), ("instance", &instance), ("severity", &severity)] {
        details::set(&mut labels, name, text);
    }
    for name in ["component", "group", "class"] {
        details::set(&mut labels, name, &details::field(payload, name));
    }
    annotations.insert("summary".to_owned(), title.clone());
    annotations.insert("client".to_owned(), details::field(body, "client"));
    annotations.insert("links".to_owned(), listed(body, "links", &["text", "href"]));
    annotations.insert("images".to_owned(), listed(body, "images", &["alt", "src", "href"]));
    let first_link = body.get("links").and_then(|it| it.get(0));
    let links = [details::field(body, "client_url"), first_link.map_or(String::new(), href)];
    Mapped {
        kind: Kind::Alert,
        title,
        is_firing: true,
        known_by: BTreeMap::new(),
        labels,
        annotations,
        starts_at: moment_text::read(&details::field(payload, "timestamp")),
        ends_at: None,
        link: links.into_iter().find(|it| !it.is_empty()).unwrap_or_default(),
        confidence: 1000,
    }
}

fn href(link: &Value) -> String {
    details::field(link, "href")
}

/// The entries of a list, a line each, as the texts of some of their fields.
pub(super) fn listed(body: &Value, name: &str, fields: &[&str]) -> String {
    /// More than anybody reads.
    const LINES_MAX: usize = 20;
    let entries = body.get(name).and_then(Value::as_array).into_iter().flatten().take(LINES_MAX);
    let line = |entry: &Value| {
        let texts = fields.iter().map(|it| details::field(entry, it));
        texts.filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
    };
    entries.map(line).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({"routing_key": "k", "event_action": "trigger", "dedup_key": "d",
            "client": "Monitor", "client_url": "https://m.example.org/1",
            "links": [{"href": "https://m.example.org/2", "text": "graph"}, 7, {}],
            "images": [{"src": "https://m.example.org/3.png", "alt": "load"}],
            "payload": {"summary": "Disk full", "source": "db-1", "severity": "Error",
                "timestamp": "2026-11-22T10:00:00.000+0000", "component": "mysql",
                "custom_details": {"service": "shop", "free": 3, "more": {"a": 1}}}})
    }

    fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut event = event();
        change(&mut event);
        read(event.to_string().as_bytes()).map_or_else(|it| it.errors, |_| Vec::new())
    }

    #[test]
    fn a_trigger_keeps_what_the_sender_told() {
        let read = read(event().to_string().as_bytes()).unwrap();
        let it = read.mapped_for("x");
        let labels: Vec<String> = it.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels.join(" "),
            "alertname=Disk full component=mysql instance=db-1 service=shop severity=error"
        );
        assert_eq!(it.link, "https://m.example.org/1");
        assert_eq!(it.annotations["links"], "graph https://m.example.org/2");
        assert_eq!(it.annotations["images"], "load https://m.example.org/3.png");
        assert_eq!(it.annotations["more"], r#"{"a":1}"#);
        assert_eq!(it.starts_at, "2026-11-22T10:00:00Z".parse().ok());
        let received = it.receive("2026-11-22T11:00:00Z".parse().unwrap()).unwrap();
        let again = json!({"routing_key": "k", "event_action": "resolve", "dedup_key": "d"});
        let over = super::read(again.to_string().as_bytes()).unwrap();
        assert_eq!(over.mapped_for("x").fingerprint(), received.fingerprint());
        assert_ne!(over.mapped_for("y").fingerprint(), received.fingerprint(), "other sender");
    }

    #[test]
    fn everything_that_is_wrong_is_told_as_the_original_does() {
        assert!(errors(|_| ()).is_empty());
        let missing = |name: &str| vec![format!("'{name}' is missing or blank")];
        for name in ["routing_key", "event_action"] {
            assert_eq!(errors(|it| it[name] = json!("")), missing(name));
        }
        for name in ["summary", "source", "severity"] {
            let found = errors(|it| it["payload"][name] = Value::Null);
            assert_eq!(found, missing(&format!("payload.{name}")));
        }
        assert_eq!(errors(|it| it["payload"] = json!("x")).len(), 3);
        let found = errors(|it| it["payload"]["severity"] = json!("bad"));
        assert!(found[0].starts_with("'payload.severity' is invalid"), "{found:?}");
        let found = errors(|it| it["event_action"] = json!("close"));
        assert!(found[0].starts_with("'event_action' is invalid"), "{found:?}");
        let found = errors(|it| it["dedup_key"] = json!("d".repeat(256)));
        assert!(found[0].starts_with("'dedup_key' is too long"), "{found:?}");
        for action in ["acknowledge", "resolve"] {
            let found = errors(|it| {
                it["event_action"] = json!(action);
                it["dedup_key"] = Value::Null;
            });
            assert_eq!(found, missing("dedup_key"));
        }
        for body in ["", "[]", "7", "{"] {
            assert_eq!(
                read(body.as_bytes()).unwrap_err().message,
                "Event object format is unrecognized"
            );
        }
    }

    #[test]
    fn a_key_is_made_where_none_is_given() {
        let mut event = event();
        event["dedup_key"] = Value::Null;
        let keys = [0; 2].map(|_| read(event.to_string().as_bytes()).unwrap().dedup_key);
        assert!(keys[0] != keys[1] && keys[0].len() == 32, "{keys:?}");
    }
}
