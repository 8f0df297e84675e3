//! How facts arrive: payload in, events out.
//!
//! A file for each wire format parses a body into a `Delivery`; `validate` sorts its alerts into
//! good and refused ones, `coalesce` leaves out what the log knows already, and the [`Door`] hands
//! the rest to the engine. A sender is answered 200 when its good alerts are durable, never before.

mod alerta;
mod alertmanager_v2;
mod alertmanager_webhook;
mod body;
mod cd_events;
mod changes;
mod cloudevents;
mod coalesce;
mod details;
mod feeding;
mod forecast;
mod guess;
mod heartbeat;
mod history;
mod keys;
mod mapped;
mod mapping;
mod moment_text;
mod opsgenie;
mod orders;
mod pagerduty_changes;
mod pagerduty_events;
mod payload;
mod poll;
mod quarantine;
mod quota;
mod rate;
mod seen;
mod signature;
mod sns;
mod tried;
mod validate;
mod webhook;

pub use forecast::begin as begin_forecasts;
pub use heartbeat::{clean as clean_output, read_address as read_ping};
pub use history::{ToldAlert, ToldChange, read_range, read_webhook_line};
pub use keys::Keys;
pub use mapped::{Kind, Mapped};
pub use poll::{begin as begin_polling, client as http_client, read_polled_alerts};
pub use quarantine::Quarantined;
pub use rate::begin as begin_rates;
pub use tried::{
    deliver_entries, guess_body, map_body, map_quarantined, map_service_body, read_alerta,
    read_cloudevents, read_opsgenie, read_pagerduty_change, read_pagerduty_event,
    read_posted_alerts, read_webhook, suggest_source,
};

use crate::domain::change::ReceivedChange;
use crate::domain::event::{AlertBatch, ChangeBatch, Ends, Event, ReceivedAlert, RejectedAlert};
use crate::domain::noise::Page;
use crate::domain::source::Quota;
use crate::engine::{Handle, SubmitError};
use crate::telemetry::Metrics;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use coalesce::{Coalescer, Moment, Terms};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long a request is held while the log cannot take more. Prometheus drops what it could not
/// deliver and heeds no `Retry-After`; it waits 10 s for an answer.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// The pause before the second try of a held request; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries of a held request.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many refused alerts an answer names; the log knows them all.
const REASONS_MAX: usize = 100;

/// Where alerts come in.
pub struct Door {
    handle: Handle,
    metrics: Metrics,
    coalescer: Coalescer,
    feeding: feeding::Feeding,
    sources: webhook::Sources,
    keys: Keys,
    seen: seen::Seen,
    sns: sns::Sns,
    quarantine: quarantine::Quarantine,
    /// Told when a sender says that something is over.
    ended: tokio::sync::Notify,
    /// With so many alerts at hand no new one is taken.
    alerts_max: usize,
    /// How many bodies a source may send, declared or not.
    quotas: BTreeMap<String, Quota>,
    /// Where the steady clock began.
    opened_at: Instant,
}

/// The addresses at which facts arrive. Who may deliver is decided around them.
pub fn routes(door: Arc<Door>) -> Router {
    Router::new()
        .route("/api/v2/alerts", post(alertmanager_v2::post_alerts))
        .route("/ingest/{source}", post(webhook::post).options(cloudevents::handshake))
        .route("/v2/enqueue", post(pagerduty_events::enqueue))
        .route("/v2/change/enqueue", post(pagerduty_changes::enqueue))
        .route("/config", get(alerta::config))
        .route("/api/config", get(alerta::config))
        .route("/alert", post(alerta::send))
        .route("/api/alert", post(alerta::send))
        .route("/alert/{id}/action", put(alerta::act))
        .route("/api/alert/{id}/action", put(alerta::act))
        .route("/alert/{id}/status", put(alerta::act))
        .route("/api/alert/{id}/status", put(alerta::act))
        .route("/v2/alerts", post(opsgenie::create))
        .route("/v2/alerts/{identifier}", get(opsgenie::show))
        .route("/v2/alerts/{identifier}/close", post(opsgenie::close))
        .route("/v2/alerts/{identifier}/acknowledge", post(opsgenie::acknowledge))
        .route("/v2/alerts/{identifier}/notes", post(opsgenie::note))
        .route("/v2/alerts/requests/{id}", get(opsgenie::request))
        .route("/api/v1/quarantine", get(quarantine::list))
        .route("/api/v1/quarantine/{id}", get(quarantine::show))
        .merge(heartbeat::routes())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(door)
}

/// A body that was read.
#[derive(Default)]
pub struct Delivery {
    /// Its good alerts.
    pub alerts: Vec<ReceivedAlert>,
    /// Those that are refused, with reasons.
    pub rejected: Vec<RejectedAlert>,
    /// Its changes.
    pub changes: Vec<ReceivedChange>,
    /// What it tells of the people who were told.
    pub page: Option<Page>,
}

/// Why a body was not taken. `R` is how its format refuses.
enum Failure<R> {
    Unreadable(R),
    NotTaken(SubmitError),
}

impl Door {
    /// A door that delivers to the engine; `keys` knows our tokens.
    pub fn new(handle: Handle, metrics: Metrics, keys: Keys) -> Self {
        let sns = sns::Sns::new(metrics.clone());
        Self {
            handle,
            metrics,
            coalescer: Coalescer::new(),
            feeding: feeding::Feeding::default(),
            sources: webhook::Sources::default(),
            keys,
            seen: seen::Seen::new(),
            sns,
            quarantine: quarantine::Quarantine::default(),
            ended: tokio::sync::Notify::new(),
            alerts_max: usize::MAX,
            quotas: BTreeMap::new(),
            opened_at: Instant::now(),
        }
    }

    /// Takes no new alerts while so many are at hand, so that a flood cannot fill the memory.
    #[must_use]
    pub fn with_alerts_max(self, alerts_max: usize) -> Self {
        Self { alerts_max, ..self }
    }

    /// Takes no more bodies of a source than these.
    #[must_use]
    pub fn with_quotas(self, quotas: BTreeMap<String, Quota>) -> Self {
        Self { quotas, ..self }
    }

    /// Keeps bodies that are not understood in a folder, and not in memory alone.
    #[must_use]
    pub fn with_quarantine(self, folder: PathBuf) -> Self {
        Self { quarantine: quarantine::Quarantine::open(folder), ..self }
    }

    /// Takes one body out of the quota that the settings give a source. Fails with how long to wait.
    fn use_quota(&self, source: &str) -> Result<(), (Quota, Duration)> {
        let Some(quota) = self.quotas.get(source) else { return Ok(()) };
        // A name of its own, since a declared source may have a quota as well.
        let taken =
            self.sources.quotas.take(&format!("{source} (settings)"), *quota, Instant::now());
        taken.map_err(|wait| (*quota, wait))
    }

    /// Takes in a body as [`Door::take_in`] does, if its source may send one.
    async fn take<R>(
        &self,
        source: &str,
        parse: impl Fn(Timestamp) -> Result<Delivery, R>,
    ) -> Result<Vec<RejectedAlert>, Failure<R>> {
        if self.use_quota(source).is_err() {
            return Err(Failure::NotTaken(SubmitError::OverQuota(source.to_owned())));
        }
        self.take_in(source, parse).await
    }

    /// Takes in a body. Its good alerts are durable when this returns well, with the refused ones.
    ///
    /// While the log cannot take more the request is held and its body read again for each try:
    /// that is rare, and cheaper than a copy of every alert that comes.
    async fn take_in<R>(
        &self,
        source: &str,
        parse: impl Fn(Timestamp) -> Result<Delivery, R>,
    ) -> Result<Vec<RejectedAlert>, Failure<R>> {
        let began = Instant::now();
        let mut wait = FIRST_PAUSE;
        let mut is_counted = false;
        loop {
            let delivery = parse(Timestamp::now()).map_err(Failure::Unreadable)?;
            if !is_counted {
                let count = delivery.alerts.len() + delivery.rejected.len();
                self.metrics.alerts_received(source, count as u64);
                is_counted = true;
            }
            let now = Timestamp::now();
            let has_ended = delivery.alerts.iter().any(|it| !it.fires_at(now));
            let rejected = delivery.rejected.clone();
            match self.append(source, delivery).await {
                Ok(()) => {
                    if has_ended {
                        self.ended.notify_waiters();
                    }
                    return Ok(rejected);
                }
                Err(SubmitError::Overloaded) if began.elapsed() + wait < HOLD_MAX => {
                    tokio::time::sleep(wait + jitter(wait)).await;
                    wait = (wait * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(Failure::NotTaken(error)),
            }
        }
    }

    async fn append(&self, source: &str, delivery: Delivery) -> Result<(), SubmitError> {
        let Delivery { mut alerts, rejected, changes, page } = delivery;
        let source: Arc<str> = Arc::from(source);
        let now = self.moment();
        let timeout = self.resolve_timeout(&alerts);
        let fed = self.feeding.by(&self.handle, &source);
        let terms = Terms { resolve_timeout: timeout, repeat_after: &|it| fed.repeat_after(it) };
        let left_out = self.leave_out_new(&mut alerts);
        let on_its_way = self.coalescer.begin(&source, &mut alerts, now, &terms);
        let mut events = Vec::new();
        if !changes.is_empty() {
            let source = source.clone();
            events.push(Event::ChangesReceived(ChangeBatch { source, changes }));
        }
        events.extend(page.map(Event::PageHeard));
        let is_new = !alerts.is_empty() || !rejected.is_empty();
        if is_new || self.feeding.must_tell(&fed, Instant::now()) {
            in_our_time(&mut alerts, self.handle.ahead());
            events.push(Event::AlertsReceived(AlertBatch { source, alerts, rejected }));
        }
        if !events.is_empty() {
            self.handle.submit(events).await?;
        }
        on_its_way.mark_durable();
        // The sender repeats all of them; what is durable costs nothing then.
        if left_out { Err(SubmitError::Crowded(self.handle.alerts_at_hand())) } else { Ok(()) }
    }

    /// Leaves alerts out that are not known, where there are too many already. Tells whether it did.
    fn leave_out_new(&self, alerts: &mut Vec<ReceivedAlert>) -> bool {
        let count = alerts.len();
        if self.handle.alerts_at_hand().saturating_add(count) <= self.alerts_max {
            return false;
        }
        self.handle.peek(|state| {
            alerts.retain(|it| state.alerts.contains_key(&it.fingerprint()));
        });
        alerts.len() < count
    }

    /// Takes in facts; while the log cannot take more the request is held.
    async fn submit_held(&self, events: Vec<Event>) -> Result<(), SubmitError> {
        let began = Instant::now();
        let mut wait = FIRST_PAUSE;
        loop {
            match self.handle.submit(events.clone()).await {
                Err(SubmitError::Overloaded) if began.elapsed() + wait < HOLD_MAX => {
                    tokio::time::sleep(wait + jitter(wait)).await;
                    wait = (wait * 2).min(PAUSE_MAX);
                }
                result => return result,
            }
        }
    }

    fn moment(&self) -> Moment {
        let steady = SignedDuration::try_from(self.opened_at.elapsed());
        Moment { wall: Timestamp::now(), steady: steady.unwrap_or(SignedDuration::MAX) }
    }

    /// The rule is looked up only for senders that tell no end: Prometheus always does.
    fn resolve_timeout(&self, alerts: &[ReceivedAlert]) -> SignedDuration {
        if alerts.iter().all(|it| it.ends != Ends::Timeout) {
            return SignedDuration::ZERO;
        }
        let seconds = self.handle.peek(|state| state.rules.resolve_timeout_seconds);
        SignedDuration::from_secs(seconds.into())
    }
}

/// Moves the ends of alerts from the wall clock, by which senders tell them, to our time: after the
/// wall clock was set back, an alert that has just begun would else be over already.
fn in_our_time(alerts: &mut [ReceivedAlert], ahead: SignedDuration) {
    if ahead.is_zero() {
        return;
    }
    for alert in alerts {
        if let Ends::At(at) = &mut alert.ends {
            *at = at.checked_add(ahead).unwrap_or(Timestamp::MAX);
        }
    }
}

/// Checks that a body is JSON; else gives its content type. No type at all means bytes.
fn check_content_type(headers: &HeaderMap) -> Result<(), String> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let value = value.filter(|it| !it.is_empty()).unwrap_or("application/octet-stream");
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(media_type.to_owned())
    }
}

/// `alert 1: …; alert 5: …`
fn list_reasons(rejected: &[RejectedAlert]) -> String {
    let mut reasons: Vec<String> = rejected
        .iter()
        .take(REASONS_MAX)
        .map(|it| format!("alert {}: {}", it.index, it.reason))
        .collect();
    if rejected.len() > REASONS_MAX {
        reasons.push(format!("and {} more", rejected.len() - REASONS_MAX));
    }
    reasons.join("; ")
}

/// Tells a sender to come again. Never 429: Prometheus and Alertmanager give up on it.
fn answer_not_taken(error: &SubmitError, mut answer: Response) -> Response {
    tracing::warn!(%error, "alerts were not taken; their sender was told to come again");
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// Answers with an error in our own form.
fn answer_error((status, code): (StatusCode, &str), message: &str, hint: &str) -> Response {
    let error = serde_json::json!({"code": code, "message": message, "hint": hint});
    (status, Json(serde_json::json!({"error": error}))).into_response()
}

/// Up to a quarter of a pause, so that held requests do not all come again at once.
fn jitter(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().hash_one(0) % 1000;
    pause / 4 * u32::try_from(random).unwrap_or_default() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_read() {
        for (value, expected) in [
            ("application/json", Ok(())),
            ("application/json; charset=utf-8", Ok(())),
            ("Application/JSON", Ok(())),
            ("text/plain", Err("text/plain")),
            ("application/jsonx", Err("application/jsonx")),
            ("", Err("application/octet-stream")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(check_content_type(&headers), expected.map_err(str::to_owned), "{value}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_long_list_of_reasons_is_cut() {
        let rejected: Vec<_> =
            (0..102).map(|index| RejectedAlert { index, reason: "no".to_owned() }).collect();
        let text = list_reasons(&rejected);
        assert!(text.starts_with("alert 0: no; alert 1: no; "), "{text}");
        assert!(text.ends_with("alert 99: no; and 2 more"), "{text}");
    }

    #[test]
    fn overload_is_answered_with_503_and_when_to_come_again() {
        for error in [SubmitError::Overloaded, SubmitError::Unavailable("full".to_owned())] {
            let answer = answer_not_taken(&error, Json(error.to_string()).into_response());
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        }
    }

    #[test]
    fn ends_move_with_our_time() {
        let labels = crate::domain::label::Labels::from_pairs([("alertname", "Up")]);
        let end: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut alerts: Vec<_> = [Ends::At(end), Ends::Timeout]
            .into_iter()
            .map(|ends| ReceivedAlert {
                labels: labels.clone(),
                annotations: crate::domain::label::Labels::default(),
                starts_at: None,
                ends,
                generator_url: "".into(),
                identity: None,
            })
            .collect();
        in_our_time(&mut alerts, SignedDuration::from_hours(1));
        assert_eq!(alerts[0].ends, Ends::At("2026-11-22T11:00:00Z".parse().unwrap()));
        assert_eq!(alerts[1].ends, Ends::Timeout);
    }

    #[test]
    fn jitter_is_at_most_a_quarter() {
        for _ in 0..1000 {
            assert!(jitter(PAUSE_MAX) < PAUSE_MAX / 4);
        }
    }
}
