//! Heartbeats in the simulation: their rules, what may happen to them, and what always holds.

use super::rules::{matchers, rule};
use crate::domain::State;
use crate::domain::alert::AlertState;
use crate::domain::event::{Command, Event};
use crate::domain::heartbeat::{Feed, HeartbeatPing, HeartbeatRule, Rhythm, Signal};
use crate::domain::label::Labels;

/// The heartbeats of a variant of the rules.
pub(super) fn declared(variant: u8) -> Vec<HeartbeatRule> {
    let cron = |line: &str| Rhythm::Cron { line: line.to_owned(), time_zone: "UTC".to_owned() };
    let fed = |over: &str, source: Option<&str>| {
        let source = source.map(str::to_owned);
        Some(Feed { matchers: matchers(over), source, open_incidents: false })
    };
    let beat = |name: &str, rhythm, feed| HeartbeatRule {
        rule: rule(name, variant),
        rhythm,
        grace_seconds: 30,
        labels: Labels::from_pairs([
            ("alertname", "HeartbeatDown"),
            ("heartbeat", name),
            ("service", ["a", "b"][usize::from(variant % 2)]),
        ]),
        annotations: Labels::default(),
        feed,
        token: None,
    };
    match variant % 3 {
        0 => vec![
            beat("job", Rhythm::Every(60), None),
            beat("fed", Rhythm::Every(90), fed("alertname=\"B\"", None)),
        ],
        1 => vec![beat("job", Rhythm::Every(100), None), beat("night", cron("*/5 * * * *"), None)],
        _ => vec![
            beat("fed", Rhythm::Every(90), fed("alertname=\"C\"", Some("source-0"))),
            beat("night", cron("7 * * * *"), None),
            beat("source", Rhythm::Every(120), fed("", Some("source-1"))),
        ],
    }
}

/// A ping, or a person's word, by numbers.
pub(super) fn happens(heartbeat: u8, kind: u8, run: Option<u8>) -> Event {
    let heartbeat = ["job", "night", "fed"][usize::from(heartbeat % 3)].to_owned();
    let signal = match kind {
        0 | 1 => Signal::Success,
        2 => Signal::Start,
        3 => Signal::Fail(None),
        4 => Signal::Fail(Some(7)),
        5 => Signal::Log,
        _ => {
            let command = if kind == 6 {
                Command::PauseHeartbeat { heartbeat }
            } else {
                Command::ResumeHeartbeat { heartbeat }
            };
            return Event::CommandGiven { by: "ann".to_owned(), command };
        }
    };
    let run = run.map(|it| it.to_string());
    Event::HeartbeatPinged(HeartbeatPing { heartbeat, signal, run, output: "x".to_owned() })
}

/// A heartbeat is down if and only if its alert fires, and each that is declared is there.
pub(super) fn check(state: &State) {
    let declared: Vec<&str> =
        state.rules.heartbeats.iter().map(|it| it.rule.name.as_str()).collect();
    assert_eq!(state.heartbeats.len(), declared.len());
    for (name, heartbeat) in &state.heartbeats {
        assert!(declared.contains(&&**name), "{name} is not declared");
        assert_eq!(heartbeat.failure.is_some(), heartbeat.alert.is_some(), "{heartbeat:?}");
        if let Some(labels) = &heartbeat.alert {
            let alert = state.alerts.get(&labels.fingerprint());
            assert!(alert.is_some_and(|it| it.state == AlertState::Firing), "{heartbeat:?}");
        }
    }
    for alert in state.alerts.values().filter(|it| it.state == AlertState::Firing) {
        let Some(name) = alert.labels.get("heartbeat") else { continue };
        let told = state.heartbeats.get(name).and_then(|it| it.alert.as_ref());
        assert_eq!(told, Some(&alert.labels), "an alert of {name} stays");
    }
}
