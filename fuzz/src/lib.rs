//! What is done with bytes from outside: each function reads them in one way and checks a law.
//!
//! Whatever the bytes, nothing may panic, hang or take memory without end. The fuzz targets and the
//! test `tests/corpus.rs` of the package call the same functions.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use watchkeeper::api::alertmanager;
use watchkeeper::config::{self, Level};
use watchkeeper::domain::effect::PlannedEffect;
use watchkeeper::domain::event::Event;
use watchkeeper::domain::execution::Context;
use watchkeeper::domain::heartbeat::{HeartbeatPing, OUTPUT_BYTES_MAX};
use watchkeeper::domain::incident::TimelineEntry;
use watchkeeper::domain::label::Labels;
use watchkeeper::domain::matcher::{Matcher, Matchers};
use watchkeeper::domain::rules::{Mode, RuleSet};
use watchkeeper::domain::schedule::Schedule;
use watchkeeper::domain::{State, condition, template};
use watchkeeper::store::{Kind, Object, Record, Turn};
use watchkeeper::{act, engine, ingest, store};

/// A way to read bytes.
pub type Target = fn(&[u8]);

/// All of them, by the name of their folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 24] = [
    ("alerta", read_alerta),
    ("any_webhook", read_any_webhook),
    ("cloudevents", read_cloudevents),
    ("condition", read_condition),
    ("duration", read_duration),
    ("executor", read_executor),
    ("heartbeat_ping", read_heartbeat_ping),
    ("history", read_history),
    ("import", read_import),
    ("matcher", read_matcher),
    ("opsgenie", read_opsgenie),
    ("pagerduty_change", read_pagerduty_change),
    ("pagerduty_event", read_pagerduty_event),
    ("polled_alerts", read_polled_alerts),
    ("posted_alerts", read_posted_alerts),
    ("posted_silence", read_posted_silence),
    ("query", read_query),
    ("rules", read_rules),
    ("schedule", read_schedule),
    ("settings", read_settings),
    ("stored_object", read_stored_object),
    ("stored_value", read_stored_value),
    ("template", read_template),
    ("webhook", read_webhook),
];

/// A time that every run has in common: 22 November 2026, 12:00 UTC.
fn now() -> Timestamp {
    Timestamp::constant(1_795_348_800, 0)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The body of `POST /api/v2/alerts`.
pub fn read_posted_alerts(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_posted_alerts(bytes, now()) {
        check_delivery(&delivery);
    }
}

/// What a daemon and its executor say to each other. What is wrong with it is told.
pub fn read_executor(bytes: &[u8]) {
    match act::executor::read_frames(bytes) {
        Ok(count) => assert!(count * 5 <= bytes.len()),
        Err(reason) => assert!(!reason.is_empty() && !reason.contains("what was written")),
    }
}

/// The configuration of an Alertmanager. What is made of it is good.
pub fn read_import(bytes: &[u8]) {
    if let Ok(imported) = config::import_alertmanager(text(bytes)) {
        let checked = config::rules_from_texts(&[("a.yaml", &imported.rules)], Mode::Act);
        assert!(checked.value.is_some(), "{:?}\n{}", checked.findings, imported.rules);
    }
}

/// What `replay` reads: lines of alerts, of changes and of an Alertmanager's webhook, and a range of `ALERTS`.
pub fn read_history(bytes: &[u8]) {
    if let Ok(told) = ingest::ToldAlert::read(bytes) {
        assert_eq!(ingest::ToldAlert::read_time(bytes), Some(told.at));
        check_comes_back(&told.alert);
    }
    if let Ok(told) = ingest::ToldChange::read(bytes) {
        check_comes_back(&told.change);
    }
    for read in [ingest::read_webhook_line, ingest::read_range] {
        for told in read(bytes).into_iter().flatten() {
            match told {
                Ok(told) => check_comes_back(&told.alert),
                Err(reason) => assert!(!reason.is_empty()),
            }
        }
    }
}

/// The body of an Alertmanager's webhook.
pub fn read_webhook(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_webhook(bytes, now()) {
        check_delivery(&delivery);
    }
}

/// The body of `POST /v2/enqueue`.
pub fn read_pagerduty_event(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_pagerduty_event(bytes, now()) {
        assert_eq!(delivery.alerts.len() + delivery.rejected.len(), 1);
        check_delivery(&delivery);
    }
}

/// The answer of a polled Prometheus, and what its configuration says of its labels.
pub fn read_polled_alerts(bytes: &[u8]) {
    let external = Labels::from_pairs([("cluster", "eu")]);
    if let Ok(listing) = ingest::read_polled_alerts(bytes, &external, now()) {
        for alert in &listing.alerts {
            assert!(alert.labels.get("cluster").is_some(), "an external label is missing");
            assert!(alert.active_at.is_none_or(|it| it <= now()));
        }
    }
    drop(config::read_prometheus_configuration(text(bytes)));
}

/// A ping: the end of its address, the id of its run, and its body, each on a line.
pub fn read_heartbeat_ping(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |it| *it == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (signal, run, body) = (text(next()), text(next()), next());
    let output = ingest::clean_output(body);
    assert!(output.len() <= OUTPUT_BYTES_MAX);
    assert!(!output.contains(|it: char| it.is_control() && it != '\n' && it != '\t'));
    if let Ok(ping) = ingest::read_ping("a", signal, Some(run)) {
        check_comes_back(&Event::HeartbeatPinged(HeartbeatPing { output, ..ping }));
    }
}

/// The body of `POST /ingest/cloudevents`, one event and a batch.
pub fn read_cloudevents(bytes: &[u8]) {
    for mode in ["application/cloudevents+json", "application/cloudevents-batch+json"] {
        if let Ok(delivery) = ingest::read_cloudevents(bytes, mode, now()) {
            check_delivery(&delivery);
        }
    }
}

/// The body of a new alert for Alerta.
pub fn read_alerta(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_alerta(bytes, now()) {
        assert_eq!(delivery.alerts.len() + delivery.rejected.len(), 1);
        check_delivery(&delivery);
    }
}

/// The body of a new alert for Opsgenie.
pub fn read_opsgenie(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_opsgenie(bytes, now()) {
        assert_eq!(delivery.alerts.len() + delivery.rejected.len(), 1);
        check_delivery(&delivery);
    }
}

/// The body of `POST /v2/change/enqueue`.
pub fn read_pagerduty_change(bytes: &[u8]) {
    if let Ok(delivery) = ingest::read_pagerduty_change(bytes, now()) {
        assert_eq!(delivery.changes.len() + delivery.rejected.len(), 1);
        check_delivery(&delivery);
    }
}

/// A body of any tool, by the general mapper and by every mapping that comes with us.
pub fn read_any_webhook(bytes: &[u8]) {
    for content_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
    ] {
        if let Ok(entries) = ingest::guess_body(bytes, content_type, now()) {
            check_delivery(&ingest::deliver_entries(&entries, now()));
            let suggested = ingest::suggest_source(bytes, content_type, ("fuzz", now()));
            // An event in the envelope of CloudEvents needs no mapping.
            let is_wrapped = text(bytes).contains("specversion");
            assert!(suggested.is_ok() || is_wrapped, "what is guessed can be suggested");
        }
    }
    for source in &config::built_in_sources() {
        if let Ok(entries) = ingest::map_body(source, bytes, "application/json") {
            check_delivery(&ingest::deliver_entries(&entries, now()));
        }
    }
}

/// What is taken can be stored and read again, and what is refused has a reason.
fn check_delivery(delivery: &ingest::Delivery) {
    for alert in &delivery.alerts {
        assert!(!alert.labels.is_empty(), "an alert without a label was taken");
    }
    check_comes_back(&delivery.alerts);
    check_comes_back(&delivery.changes);
    check_comes_back(&delivery.page);
    assert!(delivery.rejected.iter().all(|it| !it.reason.is_empty()));
}

/// The body of `POST /api/v2/silences`.
pub fn read_posted_silence(bytes: &[u8]) {
    if let Ok(command) = alertmanager::read_silence(bytes, now()) {
        check_comes_back(&command);
    }
}

/// The query of `GET /api/v2/alerts`.
pub fn read_query(bytes: &[u8]) {
    if let Err(reason) = alertmanager::check_query(text(bytes)) {
        assert!(!reason.is_empty());
    }
}

/// One matcher, and a list of them. What was read is written so that it is read as the same.
pub fn read_matcher(bytes: &[u8]) {
    if let Ok(matcher) = text(bytes).parse::<Matcher>() {
        let again: Matcher = matcher.to_string().parse().expect("what we write can be read");
        assert_eq!(again, matcher);
        matcher.matches(&Labels::from_pairs([(matcher.name(), matcher.value())]));
    }
    if let Ok(matchers) = text(bytes).parse::<Matchers>() {
        check_comes_back(&matchers);
    }
}

fn context() -> Context {
    Context {
        labels: Labels::from_pairs([("alertname", "Up"), ("service", "shop")]),
        annotations: Labels::from_pairs([("summary", "it is down")]),
        incident: BTreeMap::from([("id".to_owned(), "INC-1".to_owned())]),
        trigger: BTreeMap::from([("event".to_owned(), "change".to_owned())]),
    }
}

/// A condition: what cannot be compiled cannot hold.
pub fn read_condition(bytes: &[u8]) {
    let checked = condition::check(text(bytes));
    let holds = condition::holds(text(bytes), &context());
    assert!(checked.is_ok() || holds.is_err());
}

/// A template: what cannot be parsed gives no text.
pub fn read_template(bytes: &[u8]) {
    let checked = template::check(text(bytes));
    let rendered = template::render(text(bytes), &context(), &BTreeMap::new());
    assert!(checked.is_ok() || rendered.is_err());
}

/// A line of a crontab, and in the second line a time zone.
pub fn read_schedule(bytes: &[u8]) {
    let (line, time_zone) = text(bytes).split_once('\n').unwrap_or((text(bytes), "UTC"));
    if let Ok(schedule) = Schedule::parse(line, time_zone) {
        let next = schedule.next_after(now());
        assert!(next.is_none_or(|it| it > now()), "due in the past");
    }
}

/// A duration, where rules have one.
pub fn read_duration(bytes: &[u8]) {
    let duration = serde_json::to_string(text(bytes)).expect("a text is JSON");
    let rules = format!("correlations: [{{name: a, group_by: [b], window: {{gap: {duration}}}}}]");
    read_rules(rules.as_bytes());
}

/// A file of rules. Rules without an error come back from the store as they were.
pub fn read_rules(bytes: &[u8]) {
    let checked = config::rules_from_texts(&[("rules/fuzz.yaml", text(bytes))], Mode::Act);
    check_findings(&checked.findings, checked.value.is_some());
    if let Some(rules) = checked.value {
        let json = serde_json::to_vec(&rules).expect("our own types have text keys only");
        let again: RuleSet = serde_json::from_slice(&json).expect("what we write can be read");
        assert!(again == rules, "the rules came back as others");
    }
}

/// `watchkeeper.yaml`.
pub fn read_settings(bytes: &[u8]) {
    let checked = config::settings_from_text(text(bytes));
    check_findings(&checked.findings, checked.value.is_some());
}

/// Every finding has a place and says something, and there is a value unless one is an error.
fn check_findings(findings: &[config::Finding], has_value: bool) {
    for finding in findings {
        assert!(finding.line > 0 && finding.column > 0 && !finding.message.is_empty());
    }
    assert_eq!(has_value, findings.iter().all(|it| it.level != Level::Error));
}

/// A value as the store writes it, and what may be in it.
pub fn read_stored_value(bytes: &[u8]) {
    drop(store::decode_value(bytes));
    drop(store::decode_records(bytes));
    read_and_check::<Record>(bytes);
    read_and_check::<Vec<Turn>>(bytes);
    read_and_check::<PlannedEffect>(bytes);
    read_and_check::<TimelineEntry>(bytes);
}

/// The kinds of objects that are loaded at a start.
const KINDS: [Kind; 17] = [
    Kind::AlertPage,
    Kind::Incident,
    Kind::Execution,
    Kind::Problem,
    Kind::Silence,
    Kind::Notification,
    Kind::Memory,
    Kind::Rules,
    Kind::Heartbeat,
    Kind::Freeze,
    Kind::Change,
    Kind::Noise,
    Kind::Experience,
    Kind::LearnedPlace,
    Kind::Habit,
    Kind::Article,
    Kind::Feedback,
];

/// An open object, by a digit, or what follows `9`, for its kind and its text, as a start reads it.
pub fn read_stored_object(bytes: &[u8]) {
    let Some((digit, body)) = bytes.split_first() else { return };
    let index = usize::from(digit.wrapping_sub(b'0'));
    let Some(kind) = KINDS.get(index) else { return };
    let object = Object { kind: *kind, id: "fuzz".to_owned(), body: body.to_vec() };
    if let Ok(stored) = engine::read_back(&[object]) {
        drop(State::restore(stored, now()));
    }
}

fn read_and_check<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        check_comes_back(&value);
    }
}

/// What was read is written so that it is read as the same.
fn check_comes_back<T: Serialize + DeserializeOwned>(value: &T) {
    let written = serde_json::to_string(value).expect("our own types have text keys only");
    let again: T = serde_json::from_str(&written).expect("what we write can be read");
    assert_eq!(serde_json::to_string(&again).expect("it was written before"), written);
}
