//! Alerta's API, as its senders use it: `POST /alert`, and what its client asks for beside that.
//!
//! An alert is known by environment, resource and event; events that a sender calls correlated are one
//! alert that changes. The client looks at nothing but `status` in the body of an answer.

use super::mapped::{Kind, Mapped};
use super::{Delivery, Door, Failure, details, moment_text, webhook};
use crate::domain::event::{Command, Ends};
use crate::domain::label::Fingerprint;
use crate::engine::SubmitError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The source's name.
pub(super) const SOURCE: &str = "alerta";
/// Alerta's severities, with ours; nothing = it is over.
const SEVERITIES: [(&str, &str); 14] = [
    ("security", "critical"),
    ("critical", "critical"),
    ("major", "error"),
    ("minor", "warning"),
    ("warning", "warning"),
    ("indeterminate", "warning"),
    ("unknown", "warning"),
    ("informational", "info"),
    ("debug", "info"),
    ("trace", "info"),
    ("normal", ""),
    ("ok", ""),
    ("cleared", ""),
    ("closed", ""),
];

/// An alert that was read.
#[derive(Debug)]
pub(super) struct Sent {
    mapped: Mapped,
    /// The body, as the answer gives it back.
    body: Map<String, Value>,
    severity: String,
    /// After this many seconds it is over unless it is sent again.
    timeout_seconds: Option<u32>,
}

impl Sent {
    /// What it becomes, its timeout aside.
    pub(super) fn mapped(&self) -> Mapped {
        self.mapped.clone()
    }

    /// The alert as it is taken at a time.
    pub(super) fn deliver(&self, now: Timestamp) -> Delivery {
        let mut delivery = webhook::delivery(&vec![Ok(self.mapped.clone())], now);
        let timeout = self.timeout_seconds.filter(|_| self.mapped.is_firing);
        for alert in &mut delivery.alerts {
            if let Some(seconds) = timeout {
                let end = now.checked_add(SignedDuration::from_secs(seconds.into()));
                alert.ends = end.map_or(Ends::WhenTold, Ends::At);
            }
        }
        delivery
    }
}

pub(super) async fn send(State(door): State<Arc<Door>>, body: Bytes) -> Response {
    let sent = match read(&body) {
        Ok(sent) => sent,
        Err(message) => return refused(&message),
    };
    let fingerprint = sent.mapped.fingerprint();
    let before = door.handle.peek(|state| {
        let alert = state.alerts.get(&fingerprint)?;
        Some(alert.annotations.get("severity_told")?.to_owned())
    });
    match door.take(SOURCE, |now| Ok::<_, ()>(sent.deliver(now))).await {
        Ok(rejected) if rejected.is_empty() => {
            let id = fingerprint.to_string();
            let alert = answered(sent, &id, before);
            let body = json!({"status": "ok", "id": id, "alert": alert});
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Ok(rejected) => refused(&super::list_reasons(&rejected)),
        Err(Failure::Unreadable(())) => refused("the alert cannot be read"),
        Err(Failure::NotTaken(error)) => not_taken(&error),
    }
}

/// `PUT /alert/ID/action`, and the same for its status: acknowledge or close. Others are refused.
pub(super) async fn act(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Ok(fingerprint) = id.parse::<Fingerprint>() else { return unknown() };
    let words = ["action", "status"].map(|it| details::field(&body, it));
    let done = match words.iter().find(|it| !it.is_empty()).map(String::as_str) {
        Some("ack") => {
            let order = |incident| Command::AcknowledgeIncident { incident };
            door.order(fingerprint, SOURCE, order).await
        }
        Some("close" | "closed") => door.end(SOURCE, fingerprint).await,
        other => {
            let other = other.unwrap_or_default().escape_debug();
            return refused(&format!("an action is `ack` or `close` here, not `{other}`"));
        }
    };
    match done {
        Ok(true) => Json(json!({"status": "ok"})).into_response(),
        Ok(false) => unknown(),
        Err(error) => not_taken(&error),
    }
}

/// What its client asks for before everything else: which severities there are, and which are over.
pub(super) async fn config() -> Response {
    let ranks = SEVERITIES.iter().zip(0..).map(|((name, _), rank)| ((*name).to_owned(), rank));
    let ranks: BTreeMap<String, u32> = ranks.collect();
    Json(json!({"alarm_model": {"name": "Alerta", "severity": ranks,
        "defaults": {"severity": "warning", "normal_severity": "normal"}},
        "auth_required": false, "severity": ranks, "provider": "basic"}))
    .into_response()
}

/// Reads the body of an alert. Fails with a message.
pub(super) fn read(body: &[u8]) -> Result<Sent, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let [resource, event, environment, customer] =
        ["resource", "event", "environment", "customer"].map(|it| details::field(&value, it));
    for (name, text) in [("resource", &resource), ("event", &event)] {
        if text.is_empty() {
            return Err(format!("Missing mandatory value for \"{name}\""));
        }
    }
    let severity = match details::field(&value, "severity").to_ascii_lowercase() {
        it if it.is_empty() => "warning".to_owned(),
        it => it,
    };
    let ours = SEVERITIES.iter().find(|it| it.0 == severity).map(|it| it.1);
    let ours = ours.ok_or_else(|| {
        let words = SEVERITIES.map(|it| it.0).join(", ");
        format!("Severity ({}) is not one of {words}", severity.escape_debug())
    })?;
    let timeout_seconds = match value.get("timeout") {
        None | Some(Value::Null) => None,
        Some(number) => {
            let seconds = number.as_u64().and_then(|it| u32::try_from(it).ok());
            Some(seconds.ok_or("timeout must be a number of seconds")?)
        }
    };
    let mapped = Mapped {
        kind: Kind::Alert,
        title: event.clone(),
        is_firing: !ours.is_empty(),
        known_by: known_by(&value, [&environment, &resource, &event, &customer]),
        labels: labels(&value, ours),
        annotations: annotations(&value, &severity),
        starts_at: moment_text::read(&details::field(&value, "createTime")),
        ends_at: None,
        link: String::new(),
        confidence: 1000,
    };
    let timeout_seconds = timeout_seconds.filter(|it| *it > 0);
    let Value::Object(body) = value else { return Err("the alert is no object".to_owned()) };
    Ok(Sent { mapped, body, severity, timeout_seconds })
}

/// Correlated events are known by all of them, so that `node_up` ends what `node_down` began.
fn known_by(
    body: &Value,
    [environment, resource, event, customer]: [&str; 4],
) -> BTreeMap<String, String> {
    let correlate = body.get("correlate").and_then(Value::as_array).into_iter().flatten();
    let mut events: BTreeSet<String> = correlate.map(details::text_of).collect();
    events.insert(event.to_owned());
    let events = events.into_iter().collect::<Vec<_>>().join("\n");
    let parts = [
        ("source", SOURCE),
        ("environment", environment),
        ("resource", resource),
        ("events", &events),
        ("customer", customer),
    ];
    parts.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

fn labels(body: &Value, severity: &str) -> BTreeMap<String, String> {
    let attributes = body.get("attributes").map(details::texts_of).unwrap_or_default();
    let mut labels = details::labels_among(&attributes);
    for name in ["resource", "environment", "group", "customer"] {
        details::set(&mut labels, name, &details::field(body, name));
    }
    let services = body.get("service").and_then(Value::as_array);
    let service = services.and_then(|it| it.first()).map(details::text_of).unwrap_or_default();
    details::set(&mut labels, "service", &service);
    details::set(&mut labels, "alertname", &details::field(body, "event"));
    details::set(&mut labels, "severity", severity);
    labels
}

fn annotations(body: &Value, severity: &str) -> BTreeMap<String, String> {
    let mut texts = body.get("attributes").map(details::texts_of).unwrap_or_default();
    for (name, field) in [
        ("description", "text"),
        ("value", "value"),
        ("origin", "origin"),
        ("type", "type"),
        ("raw", "rawData"),
    ] {
        texts.insert(name.to_owned(), details::field(body, field));
    }
    for (name, field) in [("tags", "tags"), ("services", "service")] {
        texts.insert(name.to_owned(), details::words_of(body, field));
    }
    let [event, resource] = ["event", "resource"].map(|it| details::field(body, it));
    texts.insert("summary".to_owned(), format!("{event} on {resource}"));
    texts.insert("severity_told".to_owned(), severity.to_owned());
    texts
}

/// The alert as the original answers it: what was sent, and what became of it.
fn answered(sent: Sent, id: &str, before: Option<String>) -> Value {
    let now = format!("{:.3}", Timestamp::now());
    let Sent { mapped, mut body, severity, .. } = sent;
    let status = if mapped.is_firing { "open" } else { "closed" };
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let created = text("createTime").unwrap_or_else(|| now.clone());
    let before = before.unwrap_or_else(|| "indeterminate".to_owned());
    let fields = [
        ("id", json!(id)),
        ("lastReceiveId", json!(id)),
        ("severity", json!(severity)),
        ("previousSeverity", json!(before)),
        ("status", json!(status)),
        ("createTime", json!(created)),
        ("receiveTime", json!(now)),
        ("lastReceiveTime", json!(now)),
        ("repeat", json!(false)),
        ("duplicateCount", json!(0)),
        ("trendIndication", json!("noChange")),
        ("history", json!([])),
    ];
    body.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    for (name, empty) in [
        ("correlate", json!([])),
        ("service", json!([])),
        ("tags", json!([])),
        ("attributes", json!({})),
    ] {
        let value = body.entry(name).or_insert(Value::Null);
        if value.is_null() {
            *value = empty;
        }
    }
    Value::Object(body)
}

fn refused(message: &str) -> Response {
    let body = json!({"status": "error", "message": message, "errors": []});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn unknown() -> Response {
    let body = json!({"status": "error", "message": "no alert that this can be done to"});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn not_taken(error: &SubmitError) -> Response {
    let body = json!({"status": "error", "message": error.to_string()});
    super::answer_not_taken(error, Json(body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(change: Value) -> Value {
        let mut alert = json!({"resource": "db-1", "event": "DiskFull", "environment": "Production",
            "severity": "major", "service": ["shop", "db"], "group": "OS", "value": "97 %",
            "text": "the disk is full", "tags": ["a", "b"], "attributes": {"region": "eu", "n": 1}});
        if let (Value::Object(alert), Value::Object(change)) = (&mut alert, change) {
            alert.extend(change);
        }
        alert
    }

    fn sent(change: Value) -> Sent {
        read(alert(change).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_alert_keeps_what_its_sender_told() {
        let it = sent(json!({"createTime": "2026-11-22T10:00:00.000Z"})).mapped;
        let labels: Vec<String> = it.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels.join(" "),
            "alertname=DiskFull environment=Production group=OS region=eu resource=db-1 \
             service=shop severity=error"
        );
        assert_eq!(it.annotations["services"], "shop, db");
        assert_eq!(it.annotations["description"], "the disk is full");
        assert_eq!(it.starts_at, "2026-11-22T10:00:00Z".parse().ok());
        assert!(it.is_firing);
    }

    #[test]
    fn severities_tell_what_is_over() {
        let begun = sent(json!({})).mapped;
        for (severity, is_firing) in
            [("normal", false), ("ok", false), ("Cleared", false), ("critical", true), ("", true)]
        {
            let it = sent(json!({"severity": severity})).mapped;
            assert_eq!((it.is_firing, it.fingerprint()), (is_firing, begun.fingerprint()));
        }
        let correlated = json!(["NodeUp", "NodeDown"]);
        let one = sent(json!({"event": "NodeUp", "correlate": correlated})).mapped;
        let other = sent(json!({"event": "NodeDown", "correlate": correlated})).mapped;
        assert_eq!(one.fingerprint(), other.fingerprint());
        assert_ne!(one.fingerprint(), sent(json!({"event": "NodeUp"})).mapped.fingerprint());
    }

    #[test]
    fn a_timeout_is_an_end_unless_it_is_sent_again() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let end = |change| sent(change).deliver(now).alerts.pop().unwrap().ends;
        assert_eq!(end(json!({})), Ends::WhenTold);
        assert_eq!(end(json!({"timeout": 0})), Ends::WhenTold);
        let later = "2026-11-22T10:05:00Z".parse().unwrap();
        assert_eq!(end(json!({"timeout": 300})), Ends::At(later));
        assert_eq!(end(json!({"timeout": 300, "severity": "ok"})), Ends::At(now));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (change, message) in [
            (json!({"resource": ""}), "Missing mandatory value for \"resource\""),
            (json!({"event": null}), "Missing mandatory value for \"event\""),
            (json!({"severity": "bad"}), "Severity (bad) is not one of"),
            (json!({"timeout": "x"}), "timeout must be a number of seconds"),
        ] {
            let error = read(alert(change).to_string().as_bytes()).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        assert!(read(b"{").is_err() && read(b"[]").is_err());
    }
}
