//! Asks Prometheus servers what fires, so that what was missed, or went stale, is put right.
//!
//! A poll's answer is a delivery of a source named after the server. An alert that the source holds
//! and that is not in two answers any more is over for this source, and for it alone. A server that
//! started anew does not know yet what fires: what it told before is left to run out, or to be told
//! again, until it has settled.

mod answer;
mod hearing;

use super::{Door, jitter};
use crate::config::{self, Credentials, PrometheusServer};
use crate::domain::label::Labels;
use crate::domain::later;
pub(super) use answer::data;
pub use answer::read as read_polled_alerts;
use futures_util::StreamExt;
use hearing::{Hearing, held_by};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Response};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The time for one request, from beginning to end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The longest answer about the server itself that is read, in bytes.
const STATUS_BYTES_MAX: usize = 4 << 20;
/// How long an answer's word lasts at least, in seconds: longer than a server takes to settle.
const WORD_SECONDS_MIN: u32 = 900;
/// How often we look whether there was a gap, or something ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Begins to poll; each server for ever.
pub fn begin(
    door: &Arc<Door>,
    servers: &[PrometheusServer],
) -> Result<Vec<JoinHandle<()>>, String> {
    let client = client()?;
    let poller = |server: &PrometheusServer| Poller {
        door: door.clone(),
        server: server.clone(),
        client: client.clone(),
        labels: server.external_labels.clone(),
        is_well: None,
        hearing: Hearing::default(),
    };
    Ok(servers.iter().map(|it| tokio::spawn(poller(it).run())).collect())
}

/// A client that follows no redirect and asks no proxy.
pub fn client() -> Result<Client, String> {
    let builder = || {
        Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .user_agent(concat!("watchkeeper/", env!("CARGO_PKG_VERSION")))
    };
    // A machine without certificates can still reach plain HTTP.
    let made = builder().build().or_else(|_| builder().tls_certs_only([]).build());
    made.map_err(|error| format!("cannot make an HTTP client: {error}"))
}

/// What is known of a server.
struct Poller {
    door: Arc<Door>,
    server: PrometheusServer,
    client: Client,
    /// What it adds to its alerts' labels; `None` = not known yet.
    labels: Option<Labels>,
    /// Whether the last poll went well.
    is_well: Option<bool>,
    hearing: Hearing,
}

impl Poller {
    async fn run(mut self) {
        loop {
            let gap = self.gap();
            let name = self.server.name.clone();
            let result = self.poll().await;
            let is_well = result.is_ok();
            match &result {
                Ok(count) if self.is_well != Some(true) => {
                    tracing::info!(server = name, alerts = count, "polling goes well");
                }
                Err(error) if self.is_well != Some(false) => {
                    tracing::warn!(server = name, error, "the server cannot be polled");
                }
                Ok(_) | Err(_) => {}
            }
            self.is_well = Some(is_well);
            self.door.metrics.polled(&name, result);
            self.rest(gap).await;
        }
    }

    /// What tells that there was a time in which nobody could speak to us.
    fn gap(&self) -> Option<Timestamp> {
        self.door.handle.peek(|state| state.memory.hold_until)
    }

    /// Waits for the next poll: after a gap, or when another source says that something is over, it
    /// comes at once.
    async fn rest(&self, gap: Option<Timestamp>) {
        let every = Duration::from_secs(self.server.poll_every_seconds.into());
        let mut due = Instant::now() + every.saturating_sub(jitter(every) / 2);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.gap() != gap {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
                () = self.door.ended.notified() => due = due.min(Instant::now() + LOOK_EVERY),
            }
        }
    }

    /// Asks once. Returns how many alerts fire.
    async fn poll(&mut self) -> Result<usize, String> {
        let asked_at = Timestamp::now();
        self.look_at_server(asked_at).await?;
        let body = self.ask("/api/v1/alerts", ANSWER_BYTES_MAX).await?;
        let labels = self.labels.clone().unwrap_or_default();
        let listing = answer::read(&body, &labels, asked_at)?;
        let lead = self.server.poll_every_seconds.saturating_mul(4).max(WORD_SECONDS_MIN);
        let ends = later(asked_at, lead.into());
        let held = self.door.handle.peek(|state| held_by(state, &self.server.name, &listing));
        let count = listing.alerts.iter().filter(|it| it.is_firing).count();
        let delivery = self.hearing.delivery(listing, &held, (asked_at, ends));
        self.door.append(&self.server.name, delivery).await.map_err(|it| it.to_string())?;
        Ok(count)
    }

    /// Learns when the server started and what it adds to its alerts, where that is not known.
    async fn look_at_server(&mut self, now: Timestamp) -> Result<(), String> {
        let told = self.ask("/api/v1/status/runtimeinfo", STATUS_BYTES_MAX).await;
        let started_at = match told.map(|it| answer::read_start(&it)) {
            Ok(Some(at)) => Some(at),
            // It does not tell. One that could not be reached may have started anew.
            _ if self.is_well == Some(true) => self.hearing.started_at,
            _ => Some(now),
        };
        if started_at != self.hearing.started_at {
            self.hearing = Hearing { started_at, absences: BTreeMap::new() };
            self.labels.clone_from(&self.server.external_labels);
        }
        if self.labels.is_some() {
            return Ok(());
        }
        let hint = "say `external_labels` of this server in the settings, `{}` if it has none";
        let body = self.ask("/api/v1/status/config", STATUS_BYTES_MAX).await;
        let read = body.and_then(|it| answer::read_configuration(&it));
        let (labels, relabels) =
            read.map_err(|error| format!("its external labels are not known: {error}; {hint}"))?;
        if relabels {
            let server = &self.server.name;
            tracing::warn!(
                server,
                "`alert_relabel_configs` are not known to polling: alerts whose labels they change count twice"
            );
        }
        self.labels = Some(labels);
        Ok(())
    }

    async fn ask(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        question(&self.client, &self.server, path, &[])?.read(bytes_max).await
    }
}

/// A question to a server.
pub(super) struct Question<'a> {
    path: &'a str,
    request: RequestBuilder,
}

/// Puts a question together, with the credentials that the server wants.
pub(super) fn question<'a>(
    client: &Client,
    server: &PrometheusServer,
    path: &'a str,
    values: &[(&str, String)],
) -> Result<Question<'a>, String> {
    let url = format!("{}{path}", server.url);
    let mut url = reqwest::Url::parse(&url).map_err(|error| format!("bad URL: {error}"))?;
    for (name, value) in values {
        url.query_pairs_mut().append_pair(name, value);
    }
    let read = |it| config::read_secret(&server.name, it).map_err(|it| it.to_string());
    let request = client.get(url);
    let request = match &server.credentials {
        None => request,
        Some(Credentials::Bearer(token)) => request.bearer_auth(read(token)?),
        Some(Credentials::Basic { username, password }) => {
            request.basic_auth(username, Some(read(password)?))
        }
    };
    Ok(Question { path, request })
}

impl Question<'_> {
    /// Sends it and reads the answer, if that is not longer than it may be.
    pub(super) async fn read(self, bytes_max: usize) -> Result<Vec<u8>, String> {
        let path = self.path;
        let answer = self.request.send().await.map_err(|it| reason(&it.without_url()))?;
        let status = answer.status();
        let is_success = status.is_success();
        let body = read_answer(answer, bytes_max).await.map_err(|error| format!("{path}: {error}"));
        if is_success {
            return body;
        }
        let said = body.ok().and_then(|it| data::<()>(&it).err()).unwrap_or_default();
        let said =
            said.strip_prefix("it answered: ").map(|it| format!(": {it}")).unwrap_or_default();
        Err(format!("{path} was answered with status `{}`{said}", status.as_u16()))
    }
}

/// Reads what a server answered, if that is not longer than it may be.
pub(super) async fn read_answer(answer: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|it| reason(&it.without_url()))?);
        if body.len() > bytes_max {
            return Err(format!("the answer has more than {bytes_max} bytes"));
        }
    }
    Ok(body)
}

/// The innermost cause: the outer ones only say that there is one.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
