//! Alerts as an Alertmanager's webhook receiver sends them: `POST /ingest/alertmanager`, version 4.
//!
//! Each delivery is a page that an Alertmanager sent to people. Where Prometheus delivers to us itself,
//! `?pages_only=true` lets it count as that and change no alert: Alertmanager says nothing of the end
//! of what was silenced meanwhile.
//!
//! Alertmanager tries again after 5xx, for as long as its `group_interval`, and gives up on any
//! other failure. It says `firing` once, then only after its `repeat_interval`.

use super::payload::{ALERTS_MAX, RawAlerts};
use super::validate::{self, EndsBy};
use super::{Delivery, Door, Failure, answer_error};
use crate::domain::event::{Ends, ReceivedAlert};
use crate::domain::noise::Page;
use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The source's name, also in its address.
pub(super) const SOURCE: &str = "alertmanager";

/// The part of the body that we use. Newer versions add fields.
#[derive(Deserialize)]
struct Body<'a> {
    /// `null` is an empty list; not there at all means that this is something else.
    #[serde(borrow)]
    alerts: Option<RawAlerts<'a>>,
    /// How many alerts the sender left out, by its `max_alerts`.
    #[serde(rename = "truncatedAlerts")]
    truncated_alerts: Option<u64>,
    /// Whom it told; not there where something else sends this format.
    #[serde(default)]
    receiver: Value,
    #[serde(rename = "groupKey", default)]
    group_key: Value,
    #[serde(default)]
    status: Value,
}

/// What a delivery may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// Its alerts are taken, and it counts as a page.
    Everything,
    /// It counts as a page.
    PageOnly,
}

impl Counts {
    /// Reads the query of the address.
    pub(super) fn from_query(query: Option<&str>) -> Self {
        let mut words = query.unwrap_or_default().split('&');
        if words.any(|it| it == "pages_only=true") { Self::PageOnly } else { Self::Everything }
    }
}

pub(super) async fn post(
    door: &Door,
    headers: &HeaderMap,
    body: &Bytes,
    counts: Counts,
) -> Response {
    if let Err(content_type) = super::check_content_type(headers) {
        return answer_error(
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            &format!("the body must be `application/json`, not `{}`", content_type.escape_debug()),
            "set the header `content-type: application/json`",
        );
    }
    match door.take(SOURCE, |now| parse(body, now).map(|it| it.limited_to(counts))).await {
        Ok(rejected) if rejected.is_empty() => {
            Json(serde_json::json!({"status": "ok"})).into_response()
        }
        Ok(rejected) => answer_error(
            (StatusCode::BAD_REQUEST, "alerts_refused"),
            &super::list_reasons(&rejected),
            "the other alerts were taken; correct these where they come from",
        ),
        Err(Failure::Unreadable((status, code, message))) => answer_error(
            (status, code),
            &message,
            "this address takes the body of an Alertmanager webhook, version 4",
        ),
        Err(Failure::NotTaken(error)) => super::answer_not_taken(
            &error,
            answer_error(
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
                &error.to_string(),
                "send it again; Alertmanager does so by itself",
            ),
        ),
    }
}

/// Why a body is refused as a whole: status, code, message.
type Refusal = (StatusCode, &'static str, String);

/// Reads a body.
pub(super) fn parse(body: &[u8], now: Timestamp) -> Result<Delivery, Refusal> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, "bad_body", message);
    let body: Body<'_> =
        serde_json::from_slice(body).map_err(|it| bad(format!("the body cannot be read: {it}")))?;
    let raw = body.alerts.ok_or_else(|| bad("the body has no list of `alerts`".to_owned()))?;
    if raw.count > ALERTS_MAX {
        let message = format!("{} alerts in one body, at most {ALERTS_MAX} are taken", raw.count);
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "too_many_alerts", message));
    }
    if let Some(left_out @ 1..) = body.truncated_alerts {
        tracing::warn!(
            source = SOURCE,
            left_out,
            "the sender left alerts out of its webhook: set its `max_alerts` to 0"
        );
    }
    let (alerts, rejected) = validate::sort(&raw.alerts, EndsBy::Status, now);
    let page = page((&body.receiver, &body.group_key, &body.status), &alerts);
    Ok(Delivery { alerts, rejected, page, ..Delivery::default() })
}

/// The page that a delivery is, if it says who was told.
fn page(head: (&Value, &Value, &Value), alerts: &[ReceivedAlert]) -> Option<Page> {
    let (receiver, group) = (head.0.as_str()?, head.1.as_str()?);
    let alerts = alerts.iter().map(|it| (&it.labels, it.ends == Ends::WhenTold));
    Some(Page::new(receiver, group, head.2.as_str() != Some("resolved"), alerts))
}

impl Delivery {
    fn limited_to(self, counts: Counts) -> Self {
        match counts {
            Counts::Everything => self,
            Counts::PageOnly => Self { page: self.page, ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T17:00:00Z".parse().unwrap()
    }

    /// As Alertmanager 0.25 sends it.
    const BODY: &str = r#"{"receiver":"hook","status":"firing","alerts":[
        {"status":"firing","labels":{"alertname":"bar","instance":"a","severity":"critical"},
         "annotations":{"summary":"s"},"startsAt":"2026-11-22T16:30:00.5Z",
         "endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/g",
         "fingerprint":"732b30836e261245"},
        {"status":"resolved","labels":{"alertname":"bar","instance":"b"},"annotations":{},
         "startsAt":"2026-11-22T16:30:00Z","endsAt":"2026-11-22T16:40:00Z","generatorURL":"",
         "fingerprint":"0000000000000000"},
        {"status":"odd","labels":{"a":"b"}}],
        "groupLabels":{"alertname":"bar"},"commonLabels":{},"commonAnnotations":{},
        "externalURL":"http://am:9093","version":"4","groupKey":"{}:{alertname=\"bar\"}",
        "truncatedAlerts":0,"notification_reason":{"new":["field"]}}"#;

    #[test]
    fn each_alert_keeps_its_labels_and_its_status() {
        let delivery = parse(BODY.as_bytes(), now()).unwrap();
        let [firing, resolved] = delivery.alerts.as_slice() else { panic!("not two alerts") };
        assert_eq!(firing.labels.fingerprint().to_string(), "732b30836e261245");
        assert_eq!(firing.ends, Ends::WhenTold);
        assert_eq!(firing.starts_at, "2026-11-22T16:30:00.5Z".parse().ok());
        assert_eq!(resolved.ends, Ends::At("2026-11-22T16:40:00Z".parse().unwrap()));
        let page = delivery.page.as_ref().unwrap();
        assert_eq!((page.receiver.as_str(), page.is_firing), ("hook", true));
        assert_eq!(page.rules.iter().collect::<Vec<_>>(), ["bar"]);
        assert_ne!((page.firing, page.resolved), (0, 0));
        assert_eq!(
            super::super::list_reasons(&delivery.rejected),
            "alert 2: status must be `firing` or `resolved`, not `odd`"
        );
    }

    #[test]
    fn a_page_alone_changes_no_alert_and_what_is_no_page_is_none() {
        let delivery = parse(BODY.as_bytes(), now()).unwrap();
        let limited = delivery.limited_to(Counts::from_query(Some("a=b&pages_only=true")));
        assert!(limited.alerts.is_empty() && limited.rejected.is_empty() && limited.page.is_some());
        assert!(Counts::from_query(Some("pages_only=false")) == Counts::Everything);
        for body in [r#"{"alerts":[]}"#, r#"{"alerts":[],"receiver":5,"groupKey":{}}"#] {
            assert_eq!(parse(body.as_bytes(), now()).unwrap().page, None, "{body}");
        }
    }

    #[test]
    fn what_is_no_webhook_is_refused_as_a_whole() {
        let too_many = format!(r#"{{"alerts":[{}0]}}"#, "0,".repeat(ALERTS_MAX));
        for (body, status, message) in [
            ("", 400, "the body cannot be read: EOF"),
            ("[]", 400, "the body"),
            ("{}", 400, "the body has no list of `alerts`"),
            (r#"{"alerts":"x"}"#, 400, "the body cannot be read: invalid type"),
            (&too_many, 413, "10001 alerts in one body"),
        ] {
            let refusal = parse(body.as_bytes(), now()).err().unwrap();
            assert_eq!(refusal.0.as_u16(), status, "{body}");
            assert!(refusal.2.starts_with(message), "{body}: {}", refusal.2);
        }
    }
}
