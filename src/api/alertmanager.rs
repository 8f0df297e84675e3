//! How we stand as an Alertmanager for amtool, Grafana and Karma: `/api/v2` but for posted alerts.
//!
//! Shapes, texts and statuses are Alertmanager 0.25's, measured. Clients generated from its schema
//! are strict: what it calls required is always there, and its 400 is a JSON text.

mod alerts;
mod groups;
mod query;
mod silences;
mod status;

pub use alerts::check_query;
pub use silences::read_silence;

use crate::domain::rules::RuleSet;
use crate::engine::{Handle, SubmitError};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// The receiver of alerts that no route takes; Alertmanager knows no alert without a receiver.
const DEFAULT_RECEIVER: &str = "default";
/// The longest body of a silence, in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What these addresses need.
pub struct Context {
    /// The engine.
    pub handle: Handle,
    /// The version that we report, because amtool compares it with its own.
    pub version: String,
    /// When the daemon was started.
    pub started_at: Timestamp,
}

/// Who sends a request, by name: put into its extensions by whoever checked it. Without it a
/// silence is set by its own `createdBy`.
#[derive(Clone, Debug)]
pub struct Caller(pub String);

/// The addresses of an Alertmanager but for `POST /api/v2/alerts`, which is at the door.
pub fn routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/api/v2/alerts", get(alerts::get_alerts))
        .route("/api/v2/alerts/groups", get(groups::get_groups))
        .route("/api/v2/silences", get(silences::get_silences).post(silences::post_silence))
        .route("/api/v2/silence/{id}", get(silences::get_silence).delete(silences::delete_silence))
        .route("/api/v2/status", get(status::get_status))
        .route("/api/v2/receivers", get(get_receivers))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(context)
}

async fn get_receivers(State(context): State<Arc<Context>>) -> Response {
    match context.handle.read(|state| Arc::clone(&state.rules)).await {
        Ok(rules) => Json(name_receivers(receiver_names(&rules))).into_response(),
        Err(error) => answer_unavailable(&error),
    }
}

/// All receivers that an alert can have.
fn receiver_names(rules: &RuleSet) -> Vec<&str> {
    let names = rules.receivers.iter().map(|it| &*it.rule.name);
    std::iter::once(DEFAULT_RECEIVER).chain(names.filter(|it| *it != DEFAULT_RECEIVER)).collect()
}

/// A receiver as Alertmanager writes it.
#[derive(Serialize)]
struct GettableReceiver<'a> {
    name: &'a str,
}

fn name_receivers<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<GettableReceiver<'a>> {
    names.into_iter().map(|name| GettableReceiver { name }).collect()
}

/// A time as Alertmanager writes it: UTC with milliseconds.
struct Milliseconds(Timestamp);

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// A status with Alertmanager's JSON text.
fn answer_text(status: StatusCode, text: &str) -> Response {
    (status, Json(text)).into_response()
}

/// A status with the `{"code","message"}` of what does not fit Alertmanager's schema.
fn answer_code(status: StatusCode, code: u16, message: &str) -> Response {
    (status, Json(serde_json::json!({"code": code, "message": message}))).into_response()
}

fn answer_unavailable(error: &SubmitError) -> Response {
    let mut answer = answer_text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_end_in_z() {
        for (time, text) in [
            ("2026-11-22T17:00:00Z", "\"2026-11-22T17:00:00.000Z\""),
            ("2026-11-22T19:00:00.1239+02:00", "\"2026-11-22T17:00:00.123Z\""),
        ] {
            let time = Milliseconds(time.parse().unwrap());
            assert_eq!(serde_json::to_string(&time).unwrap(), text);
        }
    }
}
