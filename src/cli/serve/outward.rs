//! What the daemon asks and tells by itself: Prometheus servers, and the watch over this watch.

use crate::config::{self, HeartbeatOut, Settings};
use crate::engine::{Executor, Handle};
use crate::ingest::{self, Door};
use crate::telemetry::Metrics;
use reqwest::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the watch may take to go round, before it counts as hanging.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// Begins all of it; it goes on until it is aborted.
pub(super) fn begin(
    settings: &Settings,
    door: &Arc<Door>,
    handle: &Handle,
    metrics: &Metrics,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let failed = |error: String| anyhow::anyhow!(error);
    let mut tasks = Vec::new();
    if !settings.prometheus.is_empty() {
        tasks.extend(ingest::begin_polling(door, &settings.prometheus).map_err(failed)?);
    }
    tasks.push(ingest::begin_rates(door));
    tasks.push(ingest::begin_forecasts(door, &settings.prometheus).map_err(failed)?);
    if let Some(out) = settings.heartbeat_out.clone() {
        let client = ingest::http_client().map_err(failed)?;
        let teller = Teller { out, client, handle: handle.clone(), metrics: metrics.clone() };
        tasks.push(tokio::spawn(teller.run()));
    }
    if let Some(executor) = handle.executor() {
        tasks.push(tokio::spawn(look_after(executor, metrics.clone())));
    }
    Ok(tasks)
}

/// How often it is looked whether the executor answers.
const LOOK_AT_EXECUTOR_EVERY: Duration = Duration::from_secs(15);

/// Looks whether the executor answers, for ever.
async fn look_after(executor: Executor, metrics: Metrics) {
    let mut was_up = true;
    loop {
        let answer = executor.greet().await;
        metrics.executor_up(answer.is_ok());
        match &answer {
            Err(reason) if was_up => tracing::error!(reason, "no program can be started"),
            Ok(()) if !was_up => tracing::info!("the executor answers again"),
            Ok(()) | Err(_) => {}
        }
        was_up = answer.is_ok();
        tokio::time::sleep(LOOK_AT_EXECUTOR_EVERY).await;
    }
}

/// Tells the outer watch that ours goes round.
struct Teller {
    out: HeartbeatOut,
    client: Client,
    handle: Handle,
    metrics: Metrics,
}

impl Teller {
    async fn run(self) {
        let mut is_well = true;
        loop {
            let (outcome, reason) = match self.goes_round().await {
                Err(reason) => ("withheld", reason),
                Ok(()) => match self.tell().await {
                    Ok(()) => ("sent", String::new()),
                    Err(reason) => ("failed", reason),
                },
            };
            self.metrics.told_outer_watch(outcome);
            if is_well && !reason.is_empty() {
                tracing::warn!(outcome, reason, "the outer watch was not told that we live");
            }
            is_well = reason.is_empty();
            tokio::time::sleep(Duration::from_secs(self.out.every_seconds.into())).await;
        }
    }

    /// Whether a record becomes durable, and the watch gets to it and writes what it decided.
    async fn goes_round(&self) -> Result<(), String> {
        let round = async {
            self.handle.submit(Vec::new()).await.map_err(|it| it.to_string())?;
            self.handle.settle().await.map_err(|it| it.to_string())
        };
        let round = tokio::time::timeout(ROUND_MAX, round).await;
        round.map_err(|_| format!("no round within {} s", ROUND_MAX.as_secs()))??;
        self.handle.health().not_ready.map_or(Ok(()), Err)
    }

    async fn tell(&self) -> Result<(), String> {
        let url = config::read_secret("heartbeat_out", &self.out.url);
        let url = url.map_err(|it| it.to_string())?;
        // The address may be a secret, so that nothing is said of it.
        let answer = self.client.get(url).send().await;
        let answer = answer.map_err(|it| it.without_url().to_string())?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
