//! How the daemon does: for people, for load balancers, and the order to read the files again.

use super::access::Caller;
use super::error::ApiError;
use super::routes::{Answer, Operation};
use super::{Context, ReloadOrder};
use crate::config::Role;
use crate::domain::Stop;
use crate::domain::rules::Mode;
use crate::telemetry::PollHealth;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an answer waits for the files to be read.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const TEXT: Answer = Answer::Other("text/plain");
    vec![
        Operation::read(
            "/api/v1/status",
            "Shows version, rules, mode and the store's health",
            Answer::Json("Status"),
            status,
        ),
        Operation::read("/-/healthy", "Answers 200 while the process lives", TEXT, healthy)
            .role(None),
        Operation::read(
            "/-/ready",
            "Answers 200 when it takes alerts, else 503 with the reason",
            TEXT,
            ready,
        )
        .role(None),
        Operation::command(
            "/-/reload",
            "Reads the rules again, all or nothing",
            "By",
            TEXT,
            reload,
        )
        .without_body()
        .role(Some(Role::Admin)),
    ]
}

/// How the daemon does.
#[derive(Clone, Debug, Serialize)]
struct StatusView {
    version: &'static str,
    started_at: Timestamp,
    uptime_seconds: i64,
    ready: bool,
    not_ready: Option<String>,
    mode: Mode,
    rules_revision: String,
    stopped: Option<Stop>,
    effects_pending: u64,
    alerts: usize,
    incidents: usize,
    store: StoreView,
    prometheus: Vec<PolledView>,
    token_needed: bool,
}

/// How polling a Prometheus goes.
#[derive(Clone, Debug, Serialize)]
struct PolledView {
    name: String,
    last_success_at: Option<Timestamp>,
    error: Option<String>,
    alerts: usize,
}

fn view_poll((name, health): (String, PollHealth)) -> PolledView {
    let PollHealth { last_success_at, error, alerts } = health;
    PolledView { name, last_success_at, error, alerts }
}

#[derive(Clone, Debug, Serialize)]
struct StoreView {
    engine: &'static str,
    disk_bytes: u64,
    free_bytes: u64,
}

async fn status(State(context): State<Context>) -> Json<StatusView> {
    // Reads what is there without waiting: a status must come also when nothing moves.
    let health = context.handle.health();
    let now = Timestamp::now();
    Json(context.handle.peek(|state| StatusView {
        version: env!("CARGO_PKG_VERSION"),
        started_at: context.started_at,
        uptime_seconds: now.as_second() - context.started_at.as_second(),
        ready: health.not_ready.is_none(),
        not_ready: health.not_ready.clone(),
        mode: state.rules.mode,
        rules_revision: state.rules.revision.clone(),
        stopped: state.memory.stopped.clone(),
        effects_pending: health.effects_pending,
        alerts: state.alerts.len(),
        incidents: state.incidents.values().filter(|it| it.state.is_active()).count(),
        store: StoreView {
            engine: health.store.engine,
            disk_bytes: health.store.disk_bytes,
            free_bytes: health.store.free_bytes,
        },
        prometheus: context.metrics.polls().into_iter().map(view_poll).collect(),
        token_needed: !context.access.tokens.is_empty(),
    }))
}

async fn healthy() -> &'static str {
    "healthy\n"
}

async fn ready(State(context): State<Context>) -> (StatusCode, String) {
    readiness(context.handle.health().not_ready)
}

fn readiness(not_ready: Option<String>) -> (StatusCode, String) {
    match not_ready {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn reload(State(context): State<Context>, caller: Caller) -> Result<String, ApiError> {
    ask(&context.reloader, caller.name).await
}

async fn ask(reloader: &super::Reloader, by: Option<String>) -> Result<String, ApiError> {
    let (done, answered) = oneshot::channel();
    let gone = |_| ApiError::unavailable("the daemon is stopping");
    let ask = async {
        reloader
            .0
            .send(ReloadOrder { by, done })
            .await
            .map_err(|_| ApiError::unavailable("the daemon is stopping"))?;
        answered.await.map_err(gone)
    };
    match tokio::time::timeout(RELOAD_WAIT, ask).await {
        Ok(answer) => answer?.map(|it| format!("{it}\n")).map_err(|findings| {
            ApiError::bad_request(findings).hint("the old rules stay in force")
        }),
        Err(_) => Err(ApiError::unavailable(format!(
            "the files were not read within {} s",
            RELOAD_WAIT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::{Reloader, samples};
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn the_view_is_as_documented() {
        let view = StatusView {
            version: "1",
            started_at: Timestamp::UNIX_EPOCH,
            uptime_seconds: 1,
            ready: false,
            not_ready: Some("the store is full".to_owned()),
            mode: Mode::Act,
            rules_revision: "abc".to_owned(),
            stopped: Some(samples::stop()),
            effects_pending: 0,
            alerts: 1,
            incidents: 1,
            store: StoreView { engine: "sled", disk_bytes: 1, free_bytes: 2 },
            prometheus: vec![view_poll(("prod".to_owned(), PollHealth::default()))],
            token_needed: false,
        };
        let json = serde_json::to_value(view).unwrap();
        assert_schema("Status", &json);
        assert_schema("StoreHealth", &json["store"]);
        assert_schema("PolledServer", &json["prometheus"][0]);
    }

    #[test]
    fn readiness_tells_the_reason() {
        assert_eq!(readiness(None).0, StatusCode::OK);
        let (status, text) = readiness(Some("the store is full".to_owned()));
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("the store is full"));
    }

    #[tokio::test]
    async fn a_reload_tells_what_came_of_it() {
        let (sender, mut receiver) = mpsc::channel::<ReloadOrder>(1);
        let reader = tokio::spawn(async move {
            for answer in [Ok("12 rules".to_owned()), Err("a.yaml:3: bad".to_owned())] {
                let order = receiver.recv().await.unwrap();
                assert_eq!(order.by.as_deref(), Some("ann"));
                order.done.send(answer).unwrap();
            }
        });
        let reloader = Reloader(sender);
        assert_eq!(ask(&reloader, Some("ann".to_owned())).await, Ok("12 rules\n".to_owned()));
        let refusal = ask(&reloader, Some("ann".to_owned())).await.err().unwrap();
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        assert!(refusal.to_string().contains("a.yaml:3"));
        reader.await.unwrap();
        assert_eq!(
            ask(&reloader, Some("ann".to_owned())).await.err().unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
