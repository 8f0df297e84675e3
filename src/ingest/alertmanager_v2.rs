//! Alerts as Prometheus posts them to an Alertmanager: `POST /api/v2/alerts`.
//!
//! Answers are Alertmanager 0.25's, measured: a body that is no list of alerts gets
//! `{"code","message"}`, refused alerts a JSON text with the reasons. What is better here: one bad
//! alert never costs its neighbours, and 200 means that the good ones are durable.

use super::payload::{ALERTS_MAX, RawAlerts};
use super::validate::{self, EndsBy};
use super::{Delivery, Door, Failure};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use std::sync::Arc;

/// The source's name: whoever speaks Alertmanager's API is, or acts as, a Prometheus.
pub(super) const SOURCE: &str = "prometheus";

/// Why a body is refused as a whole: status, Alertmanager's code, message.
type Refusal = (StatusCode, u16, String);

pub(super) async fn post_alerts(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(content_type) = super::check_content_type(&headers) {
        return answer_refusal((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            415,
            format!("unsupported media type {content_type:?}, only [application/json] are allowed"),
        ));
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            let status = rejection.status();
            return answer_refusal((status, status.as_u16(), rejection.body_text()));
        }
    };
    match door.take(SOURCE, |now| parse(&body, now)).await {
        Ok(rejected) if rejected.is_empty() => StatusCode::OK.into_response(),
        Ok(rejected) => {
            (StatusCode::BAD_REQUEST, Json(super::list_reasons(&rejected))).into_response()
        }
        Err(Failure::Unreadable(refusal)) => answer_refusal(refusal),
        Err(Failure::NotTaken(error)) => {
            super::answer_not_taken(&error, Json(error.to_string()).into_response())
        }
    }
}

fn answer_refusal((status, code, message): Refusal) -> Response {
    let body = serde_json::json!({"code": code, "message": message});
    (status, Json(body)).into_response()
}

/// Reads a body.
pub(super) fn parse(body: &[u8], now: Timestamp) -> Result<Delivery, Refusal> {
    if body.is_empty() {
        let message = "alerts in body is required".to_owned();
        return Err((StatusCode::UNPROCESSABLE_ENTITY, 602, message));
    }
    let refuse = |error: &dyn std::fmt::Display| {
        let message = format!("parsing alerts body from \"\" failed, because {error}");
        (StatusCode::BAD_REQUEST, 400, message)
    };
    // The whole body at once takes less time than each of its texts.
    let text = std::str::from_utf8(body).map_err(|error| refuse(&error))?;
    let raw: RawAlerts<'_> = serde_json::from_str(text).map_err(|error| refuse(&error))?;
    if raw.count > ALERTS_MAX {
        let count = raw.count;
        let message = format!("{count} alerts in one body, at most {ALERTS_MAX} are taken");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, 413, message));
    }
    let (alerts, rejected) = validate::sort(&raw.alerts, EndsBy::Time, now);
    Ok(Delivery { alerts, rejected, ..Delivery::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Ends;

    fn now() -> Timestamp {
        "2026-11-22T17:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_body_that_is_no_list_of_alerts_is_refused_as_a_whole() {
        let parsing = "parsing alerts body from \"\" failed, because ";
        let too_many = format!("[{}{{}}]", "{},".repeat(ALERTS_MAX));
        for (body, status, code, message) in [
            (&b""[..], 422, 602, "alerts in body is required"),
            (b"{}", 400, 400, parsing),
            (b"nonsense", 400, 400, parsing),
            (b"[", 400, 400, parsing),
            (b"[] []", 400, 400, parsing),
            (b"[{\"labels\":{\"a\":\"\xff\"}}]", 400, 400, parsing),
            (b"[{\"labels\":{\"a\":\"\\ud800\"}}]", 400, 400, parsing),
            (too_many.as_bytes(), 413, 413, "10001 alerts in one body, at most 10000 are taken"),
        ] {
            let text = String::from_utf8_lossy(body);
            let refusal = parse(body, now()).err().unwrap();
            assert_eq!((refusal.0.as_u16(), refusal.1), (status, code), "{text}");
            assert!(refusal.2.starts_with(message), "{text}: {}", refusal.2);
        }
    }

    #[test]
    fn the_good_alerts_are_kept_and_the_bad_ones_named() {
        for (body, kept, reasons) in [
            ("[]", 0, ""),
            ("null", 0, ""),
            (
                r#"[{"labels":{"good":"1"}},{"labels":{"1bad":"x"}},{"labels":{}}]"#,
                1,
                "alert 1: invalid label set: invalid name \"1bad\"; \
                 alert 2: at least one label pair required",
            ),
            (
                r#"[7,{"labels":{"a":"b"}},{"labels":{"a":5}},{"labels":{"a":"c"}}]"#,
                2,
                "alert 0: an alert is an object, not a number; \
                 alert 2: labels: the value of \"a\" must be text, not a number",
            ),
        ] {
            let delivery = parse(body.as_bytes(), now()).unwrap();
            assert_eq!(delivery.alerts.len(), kept, "{body}");
            assert_eq!(super::super::list_reasons(&delivery.rejected), reasons, "{body}");
        }
    }

    #[test]
    fn what_prometheus_sends_is_understood() {
        // As Prometheus 2.42 sends it.
        let body = r#"[{"annotations":{"summary":"it is \"down\""},
            "endsAt":"2026-11-22T17:04:00.123Z","startsAt":"2026-11-22T16:59:59.123Z",
            "generatorURL":"http://p:9090/graph?g0.expr=up+%3D%3D+0\u0026g0.tab=1",
            "labels":{"alertname":"bar","instance":"a","severity":"critical"}}]"#;
        let delivery = parse(body.as_bytes(), now()).unwrap();
        let alert = delivery.alerts.first().unwrap();
        assert_eq!(alert.labels.fingerprint().to_string(), "732b30836e261245");
        assert_eq!(alert.annotations.get("summary"), Some("it is \"down\""));
        assert_eq!(alert.starts_at, "2026-11-22T16:59:59.123Z".parse().ok());
        assert_eq!(alert.ends, Ends::At("2026-11-22T17:04:00.123Z".parse().unwrap()));
        assert_eq!(&*alert.generator_url, "http://p:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    }
}
