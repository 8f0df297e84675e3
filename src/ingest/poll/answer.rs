//! What a Prometheus answers: its alerts, when it started, what it is configured to add.

use crate::config;
use crate::domain::event::RejectedAlert;
use crate::domain::label::Labels;
use crate::ingest::mapped::pairs_of;
use crate::ingest::payload::{RawAlert, Value};
use crate::ingest::validate::{self, EndsBy};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// An alert that a server lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its labels, with those that the server adds when it sends.
    pub labels: Labels,
    /// Texts about it.
    pub annotations: Labels,
    /// Whether it fires; else its `for` is not over.
    pub is_firing: bool,
    /// Since when its condition is true.
    pub active_at: Option<Timestamp>,
}

/// What a server lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The good ones.
    pub alerts: Vec<Listed>,
    /// The refused ones.
    pub rejected: Vec<RejectedAlert>,
}

#[derive(Deserialize)]
struct Answer<T> {
    status: String,
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<RawListed>,
}

#[derive(Deserialize)]
struct RawListed {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    state: String,
    #[serde(rename = "activeAt")]
    active_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct RuntimeInfo {
    #[serde(rename = "startTime")]
    start_time: Timestamp,
}

#[derive(Deserialize)]
struct Configuration {
    yaml: String,
}

/// What an answer holds. Fails when it is none, or one that says why there is nothing.
pub(in crate::ingest) fn data<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let answer: Answer<T> = serde_json::from_slice(body)
        .map_err(|error| format!("no answer of Prometheus: {error}"))?;
    match answer.data {
        Some(data) if answer.status == "success" => Ok(data),
        _ => Err(format!("it answered: {}", answer.error.unwrap_or(answer.status))),
    }
}

/// Reads the answer of `/api/v1/alerts`. The external labels are added where an alert has none of
/// that name, as the server does when it sends. Fails when it is no such answer.
pub fn read(body: &[u8], external: &Labels, now: Timestamp) -> Result<Listing, String> {
    let alerts: Alerts = data(body)?;
    let mut listing = Listing::default();
    for (index, mut raw) in (0..).zip(alerts.alerts) {
        for (name, value) in external.iter() {
            let known = raw.labels.entry(name.to_owned()).or_default();
            if known.is_empty() {
                value.clone_into(known);
            }
        }
        match check(&raw, now) {
            Ok(alert) => listing.alerts.push(alert),
            Err(reason) => listing.rejected.push(RejectedAlert { index, reason }),
        }
    }
    Ok(listing)
}

fn check(listed: &RawListed, now: Timestamp) -> Result<Listed, String> {
    let is_firing = match listed.state.as_str() {
        "firing" => true,
        "pending" | "inactive" => false,
        _ => return Err("its state is neither `firing` nor `pending`".to_owned()),
    };
    let raw = RawAlert {
        labels: pairs_of(&listed.labels),
        annotations: pairs_of(&listed.annotations),
        starts_at: Value::Absent,
        ends_at: Value::Absent,
        generator_url: Value::Absent,
        status: Value::Text("firing".into()),
    };
    let received = validate::check(&raw, EndsBy::Status, now)?;
    Ok(Listed {
        labels: received.labels,
        annotations: received.annotations,
        is_firing,
        active_at: listed.active_at.map(|it| it.clamp(Timestamp::UNIX_EPOCH, now)),
    })
}

/// Reads from the answer of `/api/v1/status/runtimeinfo` when the server started.
pub(super) fn read_start(body: &[u8]) -> Option<Timestamp> {
    data::<RuntimeInfo>(body).ok().map(|it| it.start_time)
}

/// Reads from the answer of `/api/v1/status/config` what the server adds to its alerts' labels, and
/// whether it changes them further.
pub(super) fn read_configuration(body: &[u8]) -> Result<(Labels, bool), String> {
    let configuration: Configuration = data(body)?;
    config::read_prometheus_configuration(&configuration.yaml)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T17:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_answer_of_prometheus_is_read_and_its_labels_completed() {
        // As Prometheus 2.42 answers.
        let body = br#"{"status":"success","data":{"alerts":[
            {"labels":{"alertname":"Down","cluster":"own"},"annotations":{"summary":"x"},
             "state":"firing","activeAt":"2026-11-22T16:59:30.123456789Z","value":"1e+00"},
            {"labels":{"alertname":"Slow"},"annotations":{},"state":"pending",
             "activeAt":"2026-11-22T17:59:30Z","value":"1e+00"},
            {"labels":{"1bad":"x"},"annotations":{},"state":"firing","value":"1"},
            {"labels":{"alertname":"Odd"},"annotations":{},"state":"strange","value":"1"}]}}"#;
        let external = Labels::from_pairs([("cluster", "eu"), ("replica", "a")]);
        let listing = read(body, &external, now()).unwrap();
        let labels: Vec<String> = listing.alerts.iter().map(|it| it.labels.to_string()).collect();
        assert_eq!(
            labels,
            [
                "{alertname=\"Down\", cluster=\"own\", replica=\"a\"}",
                "{alertname=\"Slow\", cluster=\"eu\", replica=\"a\"}"
            ]
        );
        assert_eq!(listing.alerts[0].active_at, "2026-11-22T16:59:30.123456789Z".parse().ok());
        assert_eq!(listing.alerts[1].active_at, Some(now()), "no clock runs ahead of ours");
        assert!(listing.alerts[0].is_firing && !listing.alerts[1].is_firing);
        assert_eq!(listing.rejected.iter().map(|it| it.index).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_is_no_answer_says_so() {
        for (body, part) in [
            (&b"<html>"[..], "no answer of Prometheus"),
            (b"{\"status\":\"error\",\"error\":\"not now\"}", "it answered: not now"),
            (b"{\"status\":\"success\"}", "it answered: success"),
            (b"{\"status\":\"success\",\"data\":{}}", "missing field `alerts`"),
            (b"[]", "no answer of Prometheus"),
        ] {
            let error = read(body, &Labels::default(), now()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let start = b"{\"status\":\"success\",\"data\":{\"startTime\":\"2026-11-22T16:00:00Z\"}}";
        assert_eq!(read_start(start), "2026-11-22T16:00:00Z".parse().ok());
        assert_eq!(read_start(b"{}"), None);
    }
}
