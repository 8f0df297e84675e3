//! Heartbeats over REST.

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, page_limit, parse_words};
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::event::Command;
use crate::domain::heartbeat::{
    Failure, Feed, Heartbeat, HeartbeatRule, HeartbeatState, Rhythm, Turnover,
};
use crate::domain::label::{Fingerprint, Labels};
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Heartbeat");
    let list = "Lists what must be heard from, by name";
    let pause = "Waits no more for it, until it is resumed or heard from";
    vec![
        Operation::read("/api/v1/heartbeats", list, Answer::Page("Heartbeat"), self::list).query(
            &[
                ("state", "new, up, started, late, down, paused; several with commas"),
                ("cursor", "`next_cursor` of the page before"),
                ("limit", "items a page, 1 to 1000, 100 by default"),
            ],
        ),
        Operation::read("/api/v1/heartbeats/{name}", "Shows a heartbeat", ONE, show),
        Operation::command("/api/v1/heartbeats/{name}/pause", pause, "By", ONE, self::pause),
        Operation::command(
            "/api/v1/heartbeats/{name}/resume",
            "Waits for it again",
            "By",
            ONE,
            resume,
        ),
    ]
}

/// A heartbeat as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct HeartbeatView {
    name: String,
    state: HeartbeatState,
    reason: Option<&'static str>,
    exit_code: Option<u8>,
    running: bool,
    every_seconds: Option<u32>,
    cron: Option<String>,
    time_zone: Option<String>,
    grace_seconds: u32,
    from: Option<FeedView>,
    labels: Labels,
    created_at: Timestamp,
    last_ping_at: Option<Timestamp>,
    last_start_at: Option<Timestamp>,
    last_duration_seconds: Option<u64>,
    expected_at: Option<Timestamp>,
    down_at: Option<Timestamp>,
    pings: u64,
    last_output: String,
    alert: Option<Fingerprint>,
    history: Vec<Turnover>,
    rule_file: String,
    rule_line: u32,
}

#[derive(Clone, Debug, Serialize)]
struct FeedView {
    matchers: Vec<String>,
    source: Option<String>,
}

fn view_feed(feed: &Feed) -> FeedView {
    let matchers = feed.matchers.0.iter().map(ToString::to_string).collect();
    FeedView { matchers, source: feed.source.clone() }
}

fn view(heartbeat: &Heartbeat, rule: &HeartbeatRule, now: Timestamp) -> HeartbeatView {
    let (every_seconds, cron, time_zone) = match &rule.rhythm {
        Rhythm::Every(seconds) => (Some(*seconds), None, None),
        Rhythm::Cron { line, time_zone } => (None, Some(line.clone()), Some(time_zone.clone())),
    };
    HeartbeatView {
        name: heartbeat.name.to_string(),
        state: heartbeat.state(now),
        reason: heartbeat.failure.map(Failure::as_str),
        exit_code: match heartbeat.failure {
            Some(Failure::Failed(code)) => code,
            Some(Failure::Missed | Failure::TookTooLong) | None => None,
        },
        running: heartbeat.is_running(),
        every_seconds,
        cron,
        time_zone,
        grace_seconds: rule.grace_seconds,
        from: rule.feed.as_ref().map(view_feed),
        labels: rule.labels.clone(),
        created_at: heartbeat.created_at,
        last_ping_at: heartbeat.last_ping_at,
        last_start_at: heartbeat.last_start_at,
        last_duration_seconds: heartbeat.last_duration_milliseconds.map(|it| it / 1000),
        expected_at: heartbeat.expected_at.filter(|_| !heartbeat.is_paused),
        down_at: heartbeat.down_at(rule.grace_seconds).map(|(at, _)| at),
        pings: heartbeat.pings,
        last_output: heartbeat.last_output.clone(),
        alert: heartbeat.alert.as_ref().map(Labels::fingerprint),
        history: heartbeat.history.clone(),
        rule_file: rule.rule.file.clone(),
        rule_line: rule.rule.line,
    }
}

/// The heartbeats that are declared, by name.
fn views(state: &Domain, now: Timestamp) -> impl Iterator<Item = HeartbeatView> {
    state.heartbeats.values().filter_map(move |it| {
        let rule = state.rules.heartbeats.iter().find(|rule| *rule.rule.name == *it.name)?;
        Some(view(it, rule, now))
    })
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
) -> Result<Json<Page<HeartbeatView>>, ApiError> {
    let words = HeartbeatState::ALL.map(|it| (it.as_str(), it));
    let states = parse_words(query.state.as_deref(), &words)?;
    let limit = page_limit(query.limit)?;
    let now = Timestamp::now();
    let page = context.handle.read(|state| {
        let mut wanted = views(state, now)
            .filter(|it| query.cursor.as_deref().is_none_or(|cursor| it.name.as_str() > cursor))
            .filter(|it| states.as_ref().is_none_or(|known| known.contains(&it.state)))
            .peekable();
        let items: Vec<_> = wanted.by_ref().take(limit).collect();
        let last = items.last().map(|it| it.name.clone());
        Page { items, next_cursor: wanted.peek().and(last) }
    });
    Ok(Json(page.await?))
}

async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<HeartbeatView>, ApiError> {
    let now = Timestamp::now();
    let found = context.handle.read(|state| views(state, now).find(|it| it.name == name)).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no heartbeat `{name}`")))
}

async fn pause(
    State(context): State<Context>,
    caller: Caller,
    Path(heartbeat): Path<String>,
    Input(body): Input<ByBody>,
) -> Result<Json<HeartbeatView>, ApiError> {
    let command = Command::PauseHeartbeat { heartbeat: heartbeat.clone() };
    context.handle.command(caller.by(body.by)?, command).await?;
    show(State(context), Path(heartbeat)).await
}

async fn resume(
    State(context): State<Context>,
    caller: Caller,
    Path(heartbeat): Path<String>,
    Input(body): Input<ByBody>,
) -> Result<Json<HeartbeatView>, ApiError> {
    let command = Command::ResumeHeartbeat { heartbeat: heartbeat.clone() };
    context.handle.command(caller.by(body.by)?, command).await?;
    show(State(context), Path(heartbeat)).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;
    use crate::config;
    use crate::domain::event::Event;
    use crate::domain::heartbeat::{HeartbeatPing, Signal};
    use crate::domain::rules::Mode;
    use std::sync::Arc;

    #[test]
    fn the_view_is_as_documented() {
        let text = "
heartbeats:
  - {name: a, every: 1m, grace: 2m}
  - {name: b, schedule: '0 2 * * *', from: {matchers: ['a=\"b\"']}}
";
        let rules = config::rules_from_texts(&[("h.yaml", text)], Mode::Act).value.unwrap();
        let (mut state, now) = (Domain::default(), Timestamp::UNIX_EPOCH);
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        for signal in [Signal::Start, Signal::Fail(Some(3))] {
            let ping = HeartbeatPing {
                heartbeat: "a".to_owned(),
                signal,
                run: None,
                output: "no space".to_owned(),
            };
            drop(state.apply(now, &Event::HeartbeatPinged(ping)));
        }
        let views: Vec<_> = views(&state, now).collect();
        for view in &views {
            let json = serde_json::to_value(view).unwrap();
            assert_schema("Heartbeat", &json);
            for entry in json["history"].as_array().unwrap() {
                assert_schema("HeartbeatTurnover", entry);
            }
        }
        let json = serde_json::to_value(&views[0]).unwrap();
        assert_eq!((&json["state"], &json["exit_code"]), (&"down".into(), &3.into()));
        assert_eq!(json["last_output"], "no space");
        let from = serde_json::to_value(&views[1]).unwrap()["from"].clone();
        assert_schema("HeartbeatFeed", &from);
    }
}
