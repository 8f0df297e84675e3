//! `CloudEvents` 1.0 over HTTP: `POST /ingest/cloudevents` in the binary, structured and batched modes,
//! and the `OPTIONS` by which a sender asks first whether its events are wanted.
//!
//! What an event means is for the mapping of a declared source `cloudevents`, whose `body` is the event
//! as an object. Without one, data that has the shape of an Alertmanager's alerts is taken as it is, and
//! the rest is guessed where the event's type or its data speaks of an alert; other events are left out.

use super::mapped::{Kind, Mapped};
use super::mapping::Entries;
use super::{Door, answer_error, cd_events, details, guess, moment_text, webhook};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The source's name, also in its address.
pub(super) const SOURCE: &str = "cloudevents";
/// The most events of a batch.
const EVENTS_MAX: usize = 10_000;
/// Words of a type that say that what it is about is over.
const OVER: [&str; 9] = [
    "resolved",
    "recovered",
    "recovery",
    "closed",
    "cleared",
    "ok",
    "ended",
    "restored",
    "healthy",
];
/// Words of a type that say that it is about an alert.
const ALARMING: [&str; 16] = [
    "alert",
    "alerts",
    "alerting",
    "alarm",
    "incident",
    "problem",
    "outage",
    "anomaly",
    "firing",
    "fired",
    "triggered",
    "raised",
    "failed",
    "failure",
    "degraded",
    "unhealthy",
];
/// Keys of data that say so.
const TELLING: [&str; 7] =
    ["alertname", "alert", "alert_name", "alertName", "severity", "alarm", "monitor"];

/// A sender asks whether it may send events here. Who may is for tokens to say; we want them all.
pub(super) async fn handshake(headers: HeaderMap) -> Response {
    let mut answer = StatusCode::OK.into_response();
    let told = answer.headers_mut();
    told.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        told.insert(HeaderName::from_static("webhook-allowed-origin"), origin.clone());
        let any = HeaderValue::from_static("*");
        told.insert(HeaderName::from_static("webhook-allowed-rate"), any);
    }
    answer
}

pub(super) async fn post(door: &Door, headers: &HeaderMap, body: &[u8]) -> Response {
    let now = Timestamp::now();
    let rules = door.handle.peek(|state| Arc::clone(&state.rules));
    let known = door.sources.find(&rules, SOURCE);
    if let Some(known) = &known
        && let Err(refusal) = door.admit(SOURCE, known, (headers, body), now).await
    {
        return webhook::answer_refusal(&refusal);
    }
    if let Err(refusal) = door.check_quota(SOURCE) {
        return webhook::answer_refusal(&refusal);
    }
    let events = match events(headers, body) {
        Ok(events) => events,
        Err(message) => return refused(&message),
    };
    let mut entries = Entries::new();
    let mut numbers = BTreeSet::new();
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(reason) => {
                entries.push(Err(reason));
                continue;
            }
        };
        let number =
            (format!("event {}", attribute(&event, "source")), attribute(&event, "id").to_owned());
        if door.seen.has((&number.0, &number.1)) || !numbers.insert(number) {
            continue;
        }
        match known.as_ref().filter(|it| it.has_mapping).map(|it| it.mapper.as_ref()) {
            None => entries.extend(self::entries(&event, now)),
            Some(Ok(mapper)) => match mapper.map(&event, &webhook::texts_of(headers)) {
                Ok(found) => entries.extend(found),
                Err(reason) => entries.push(Err(reason)),
            },
            Some(Err(reason)) => entries.push(Err(reason.clone())),
        }
    }
    let answer = webhook::deliver(door, SOURCE, &entries, (headers, body)).await;
    if webhook::was_taken(&answer) {
        for (source, id) in &numbers {
            door.seen.remember((source, id));
        }
    }
    answer
}

/// A body's events as objects, as the structured mode writes them, each checked. Fails with a reason
/// when the body holds no events.
pub(super) fn events(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Result<Value, String>>, String> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = |body| {
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))
    };
    match media_type.as_str() {
        "application/cloudevents+json" => Ok(vec![checked(json(body)?)]),
        "application/cloudevents-batch+json" => {
            let Value::Array(events) = json(body)? else {
                return Err("a batch of events is a list".to_owned());
            };
            if events.len() > EVENTS_MAX {
                let count = events.len();
                return Err(format!("{count} events in one body, at most {EVENTS_MAX} are taken"));
            }
            Ok(events.into_iter().map(checked).collect())
        }
        other if other.starts_with("application/cloudevents") => {
            Err(format!("events are read as JSON, not as `{}`", other.escape_debug()))
        }
        _ if headers.contains_key("ce-specversion") => {
            Ok(vec![binary(headers, content_type, body).and_then(checked)])
        }
        other => Err(format!(
            "no event: the content type is `{}` and there is no header `ce-specversion`",
            other.escape_debug()
        )),
    }
}

/// Makes an object of an event whose attributes stand in headers.
fn binary(headers: &HeaderMap, content_type: &str, body: &[u8]) -> Result<Value, String> {
    let mut event = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let value = std::str::from_utf8(value.as_bytes())
            .ok()
            .and_then(unescaped)
            .ok_or_else(|| format!("the header `ce-{name}` is no text"))?;
        event.insert(name.to_owned(), Value::String(value));
    }
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_json = media_type.is_empty() || media_type.ends_with("json");
    if !body.is_empty() {
        let data = match serde_json::from_slice(body) {
            Ok(data) if is_json => data,
            Err(error) if is_json && !media_type.is_empty() => {
                return Err(format!("the data is no JSON: {error}"));
            }
            _ => Value::String(String::from_utf8_lossy(body).into_owned()),
        };
        event.insert("data".to_owned(), data);
    }
    Ok(Value::Object(event))
}

/// Takes the percent signs out of an attribute in a header.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?].map(|it| char::from(it).to_digit(16));
        let [Some(high), Some(low)] = digits else { return None };
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Checks what every event must have.
fn checked(event: Value) -> Result<Value, String> {
    if !event.is_object() {
        return Err("an event is an object".to_owned());
    }
    for name in ["specversion", "id", "source", "type"] {
        if event.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("the event has no `{name}`"));
        }
    }
    match attribute(&event, "specversion") {
        "1.0" => Ok(event),
        other => Err(format!("version 1.0 of events is read, not `{}`", other.escape_debug())),
    }
}

/// What a body is taken for that came to the general mapper: one whole event, or a batch of them; `None`
/// = it is none.
pub(super) fn wrapped(body: &Value, now: Timestamp) -> Option<Vec<Mapped>> {
    let events = match body {
        Value::Array(events) if events.len() <= EVENTS_MAX => events.as_slice(),
        one => std::slice::from_ref(one),
    };
    let is_whole = |it: &Value| it.get("specversion").is_some() && checked(it.clone()).is_ok();
    if events.is_empty() || !events.iter().all(is_whole) {
        return None;
    }
    let mut found: Vec<Mapped> =
        events.iter().flat_map(|it| entries(it, now)).filter_map(Result::ok).collect();
    for it in &mut found {
        it.labels.insert("mapped_by".to_owned(), guess::NAME.to_owned());
    }
    Some(found)
}

/// An attribute's text; empty when there is none.
pub(super) fn attribute<'e>(event: &'e Value, name: &str) -> &'e str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What an event means where no mapping says it.
pub(super) fn entries(event: &Value, now: Timestamp) -> Entries {
    let mut found = match event.get("data") {
        Some(data) if data.get("labels").is_some_and(Value::is_object) => vec![plain(data)],
        Some(data) if data.get("alerts").is_some_and(Value::is_array) => {
            let alerts = data.get("alerts").and_then(Value::as_array).into_iter().flatten();
            alerts.map(plain).collect()
        }
        _ => vec![Ok(cd_events::entry(event).unwrap_or_else(|| guessed(event, now)))],
    };
    let time = moment_text::read(attribute(event, "time"));
    for mapped in found.iter_mut().flatten() {
        let told = if mapped.is_firing { &mut mapped.starts_at } else { &mut mapped.ends_at };
        *told = told.or(time);
        for name in ["type", "source", "subject"] {
            let text = attribute(event, name).to_owned();
            mapped.annotations.entry(format!("event_{name}")).or_insert(text);
        }
    }
    found
}

/// An alert as an Alertmanager writes it.
fn plain(alert: &Value) -> Result<Mapped, String> {
    let texts = |name: &str| alert.get(name).map(details::texts_of).unwrap_or_default();
    let labels = texts("labels");
    let is_firing = match details::field(alert, "status").as_str() {
        "" | "firing" => true,
        "resolved" => false,
        other => {
            return Err(format!(
                "status must be `firing` or `resolved`, not `{}`",
                other.escape_debug()
            ));
        }
    };
    let time = |name: &str| moment_text::read(&details::field(alert, name));
    Ok(Mapped {
        kind: Kind::Alert,
        title: labels.get("alertname").cloned().unwrap_or_default(),
        is_firing,
        known_by: BTreeMap::new(),
        labels,
        annotations: texts("annotations"),
        starts_at: time("startsAt"),
        ends_at: if is_firing { None } else { time("endsAt") },
        link: details::field(alert, "generatorURL"),
        confidence: 1000,
    })
}

/// An event with data of any shape. It is known by its source and subject, and by what its data is known by.
fn guessed(event: &Value, now: Timestamp) -> Mapped {
    let [kind, source, subject] = ["type", "source", "subject"].map(|it| attribute(event, it));
    let data = event.get("data").filter(|it| it.is_object()).cloned().unwrap_or(json!({}));
    let words = words_of(kind);
    let is_any = |list: &[&str]| words.iter().any(|it| list.contains(&it.as_str()));
    let tells = TELLING.iter().any(|it| data.get(*it).is_some());
    let found = guess::guess(&data, now).unwrap_or_default().into_iter().next();
    let lasting = words.iter().filter(|it| !OVER.contains(&it.as_str()) && !says_begin(it));
    let lasting = lasting.cloned().collect::<Vec<_>>().join(".");
    let mut mapped = found.unwrap_or_else(|| nameless(event, &lasting));
    mapped.kind = if tells || is_any(&ALARMING) { Kind::Alert } else { Kind::Other };
    if is_any(&OVER) {
        mapped.is_firing = false;
    } else if words.iter().any(|it| says_begin(it)) {
        mapped.is_firing = true;
    }
    if mapped.known_by.is_empty() {
        mapped.known_by = mapped.labels.clone();
        mapped.known_by.remove("severity");
    }
    for (name, text) in [("event_source", source), ("event_subject", subject)] {
        mapped.known_by.insert(name.to_owned(), text.to_owned());
    }
    mapped.known_by.insert("event_type".to_owned(), lasting);
    let raw = event.to_string();
    mapped.annotations.insert("raw".to_owned(), raw);
    mapped.annotations.insert("confidence".to_owned(), mapped.confidence.to_string());
    mapped
}

/// An event whose data names nothing: its subject does, or its type.
fn nameless(event: &Value, lasting: &str) -> Mapped {
    let title = [attribute(event, "subject"), lasting, attribute(event, "type")];
    let title = title.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
    let mut labels = BTreeMap::new();
    let named = [("alertname", title), ("severity", "warning"), ("mapped_by", guess::NAME)];
    for (name, text) in named {
        details::set(&mut labels, name, text);
    }
    Mapped {
        kind: Kind::Other,
        title: title.to_owned(),
        is_firing: true,
        known_by: BTreeMap::new(),
        labels,
        annotations: BTreeMap::from([("summary".to_owned(), title.to_owned())]),
        starts_at: None,
        ends_at: None,
        link: String::new(),
        confidence: 300,
    }
}

fn says_begin(word: &str) -> bool {
    ["firing", "fired", "triggered", "raised", "opened", "started", "detected", "created"]
        .contains(&word)
}

/// The words of a type: `com.example.AlertFired` has four.
fn words_of(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for letter in text.chars() {
        let begins = !letter.is_alphanumeric() || letter.is_uppercase() && was_small;
        if begins {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        was_small = letter.is_lowercase();
    }
    words.retain(|it| !it.is_empty());
    words
}

/// What is answered to a body that holds no events.
pub(super) fn refused(message: &str) -> Response {
    answer_error(
        (StatusCode::BAD_REQUEST, "bad_body"),
        message,
        "send an event as CloudEvents 1.0 over HTTP has it, or a batch of them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T17:00:00Z".parse().unwrap()
    }

    fn event(kind: &str, data: &Value) -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/eu", "type": kind, "subject": "db-1",
            "time": "2026-11-22T10:00:00Z", "data": data})
    }

    fn one(kind: &str, data: &Value) -> Mapped {
        let mut found = entries(&event(kind, data), now());
        found.pop().unwrap().unwrap()
    }

    #[test]
    fn the_end_of_an_event_is_known_by_its_begin() {
        for (begin, end, data) in [
            ("com.example.alert.fired", "com.example.alert.resolved", json!({"message": "full"})),
            ("com.example.AlertRaised", "com.example.AlertClosed", Value::Null),
            ("com.example.disk", "com.example.disk.cleared", json!({"severity": "major"})),
        ] {
            let (begin, end) = (one(begin, &data), one(end, &data));
            assert_eq!((begin.kind, begin.is_firing, end.is_firing), (Kind::Alert, true, false));
            assert_eq!(begin.fingerprint(), end.fingerprint());
            assert_eq!(begin.starts_at, "2026-11-22T10:00:00Z".parse().ok());
        }
        let other = one("com.example.memory", &json!({"severity": "major"}));
        assert_ne!(
            other.fingerprint(),
            one("com.example.disk", &json!({"severity": "major"})).fingerprint()
        );
    }

    #[test]
    fn what_speaks_of_no_alert_is_left_out() {
        for (kind, data) in [
            ("com.example.object.created", json!({"size": 1, "bucket": "b"})),
            ("com.example.order.shipped", json!({"status": "open", "title": "a"})),
            ("com.example.tick", Value::Null),
        ] {
            assert_eq!(one(kind, &data).kind, Kind::Other, "{kind}");
        }
    }

    #[test]
    fn an_alertmanagers_alert_is_that_alert() {
        let labels = json!({"alertname": "bar", "instance": "a", "severity": "critical"});
        let found = one("any", &json!({"labels": labels, "status": "firing"}));
        assert_eq!(found.fingerprint().to_string(), "732b30836e261245");
        let list = json!({"alerts": [{"labels": labels, "status": "resolved"}, {"labels": {}}]});
        assert_eq!(entries(&event("any", &list), now()).len(), 2);
        let odd = entries(&event("any", &json!({"labels": labels, "status": "odd"})), now());
        assert!(odd[0].is_err());
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn each_mode_gives_the_same_event() {
        let data = json!({"severity": "major"});
        let expected = event("t", &data);
        let structured =
            headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let binary = headers(&[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "%2Feu"),
            ("ce-type", "t"),
            ("ce-subject", "db-1"),
            ("ce-time", "2026-11-22T10:00:00Z"),
        ]);
        let list = json!([expected, 7]).to_string();
        for (headers, body, count) in [
            (&structured, expected.to_string(), 1),
            (&batch, list, 2),
            (&binary, data.to_string(), 1),
        ] {
            let found = events(headers, body.as_bytes()).unwrap();
            assert_eq!(found.len(), count);
            assert_eq!(found[0], Ok(expected.clone()), "{body}");
        }
        assert_eq!(events(&batch, b"[]").unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_event_is_refused_with_a_reason() {
        let structured = [("content-type", "application/cloudevents+json")];
        let xml = [("content-type", "application/cloudevents+xml")];
        let plain = [("content-type", "application/json")];
        let binary = [("ce-specversion", "1.0"), ("ce-id", "%zz")];
        let old = r#"{"specversion":"0.3","id":"1","source":"a","type":"t"}"#;
        for (pairs, body, reason) in [
            (&structured[..], "{", "the body is no JSON"),
            (&structured, "7", "an event is an object"),
            (&structured, r#"{"specversion":"1.0"}"#, "the event has no `id`"),
            (&structured, old, "version 1.0 of events is read, not `0.3`"),
            (&xml, "", "events are read as JSON"),
            (&plain, "{}", "no event: the content type is `application/json`"),
            (&binary, "", "the header `ce-id` is no text"),
        ] {
            let found = events(&headers(pairs), body.as_bytes());
            let found = found.and_then(|mut it| it.pop().unwrap());
            let error = found.unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
