//! PagerDuty's change events: `POST /v2/change/enqueue`, the feed that pipelines have already.

use super::mapped::{Kind, Mapped};
use super::pagerduty_events::{self as events, Invalid};
use super::{Door, Failure, changes, details, moment_text, webhook};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The names under which details commonly tell of a change what a label tells.
const NAMES: [(&str, &[&str]); 6] = [
    ("service", &["service", "app", "application", "component", "project"]),
    ("environment", &["environment", "env", "stage"]),
    ("version", &["version", "release", "revision", "tag", "commit", "sha", "build"]),
    ("author", &["author", "user", "username", "actor", "deployer", "pusher", "committer"]),
    ("kind", &["change_kind", "change_type"]),
    ("state", &["state", "status"]),
];

/// A change event that was read.
#[derive(Debug)]
pub(super) struct Enqueued {
    routing_key: String,
    pub(super) mapped: Mapped,
}

pub(super) async fn enqueue(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut event = match body.map_err(Invalid::from).and_then(|it| read(&it)) {
        Ok(event) => event,
        Err(invalid) => return invalid.into_response(),
    };
    let source = match door.source_of_key(&event.routing_key, events::SOURCE) {
        Ok(source) => source,
        Err(refusal) => return events::refused(&refusal),
    };
    // The format has no key; one that comes twice is one where its sender numbers what it sends.
    let number = headers.get("idempotency-key").and_then(|it| it.to_str().ok());
    let number = number.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    event.mapped.known_by.insert("number".to_owned(), number.clone());
    let entries = vec![Ok(event.mapped)];
    match door.take(&source, |now| Ok::<_, ()>(webhook::delivery(&entries, now))).await {
        Ok(rejected) if rejected.is_empty() => {
            let body = json!({"status": "success", "message": "Change event processed",
                "id": number});
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        Ok(rejected) => Invalid::event(vec![super::list_reasons(&rejected)]).into_response(),
        Err(Failure::Unreadable(())) => Invalid::event(Vec::new()).into_response(),
        Err(Failure::NotTaken(error)) => {
            super::answer_not_taken(&error, events::not_taken(&error.to_string()))
        }
    }
}

/// Reads a change event. Fails with everything that is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Enqueued, Invalid> {
    let body = events::object(body)?;
    let mut errors = Vec::new();
    let routing_key = events::required(&body, "routing_key", &mut errors);
    let title = events::required(&body, "payload.summary", &mut errors);
    if !errors.is_empty() {
        return Err(Invalid::event(errors));
    }
    let payload = body.get("payload").unwrap_or(&Value::Null);
    let details = payload.get("custom_details").unwrap_or(&Value::Null);
    let mut labels = BTreeMap::new();
    let named = |names: &[&str]| {
        names.iter().map(|it| details::field(details, it)).find(|it| !it.is_empty())
    };
    for (label, names) in NAMES {
        details::set(&mut labels, label, &named(names).unwrap_or_default());
    }
    if !labels.contains_key("service") {
        details::set(&mut labels, "service", &details::field(payload, "source"));
    }
    // Details are free words: what is no kind of ours tells none.
    labels.retain(|name, word| name != "kind" || changes::kind(word).is_ok());
    let first_link = body.get("links").and_then(|it| it.get(0));
    let link = first_link.map(|it| details::field(it, "href")).unwrap_or_default();
    let starts_at = moment_text::read(&details::field(payload, "timestamp"));
    let mapped = Mapped {
        kind: Kind::Change,
        title,
        is_firing: false,
        known_by: BTreeMap::new(),
        labels,
        annotations: BTreeMap::new(),
        starts_at,
        ends_at: None,
        link,
        confidence: 1000,
    };
    Ok(Enqueued { routing_key, mapped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_event_tells_what_its_details_name() {
        let body = json!({"routing_key": "k", "links": [{"href": "https://ci.example.org/7"}],
            "payload": {"summary": "Build 7 is out", "timestamp": "2026-11-22T10:00:00Z",
                "source": "acme-build", "custom_details": {"service": "shop", "release": "1.2",
                    "user": "ada", "env": "prod", "change_kind": "emergency"}}});
        let now = "2026-11-22T11:00:00Z".parse().unwrap();
        let change = read(body.to_string().as_bytes()).unwrap().mapped.change(now).unwrap();
        assert_eq!(
            [&change.service, &change.version, &change.author, &change.environment, &change.link],
            ["shop", "1.2", "ada", "prod", "https://ci.example.org/7"]
        );
        assert_eq!(change.kind.as_str(), "emergency");
        assert_eq!(change.time, "2026-11-22T10:00:00Z".parse().ok());
        let bare = json!({"routing_key": "k", "payload": {"summary": "s", "source": "shop"}});
        let bare = read(bare.to_string().as_bytes()).unwrap().mapped.change(now).unwrap();
        assert_eq!((bare.service.as_str(), bare.state.as_str()), ("shop", "done"));
    }

    #[test]
    fn what_is_missing_is_told() {
        let errors = read(b"{\"payload\":{}}").unwrap_err().errors;
        let missing = ["routing_key", "payload.summary"];
        assert_eq!(errors, missing.map(|it| format!("'{it}' is missing or blank")));
        assert!(read(b"[]").is_err());
    }
}
