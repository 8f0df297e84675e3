//! Bodies that are read without a door: tried by people, by tests and by fuzzing.

use super::mapped::Mapped;
use super::mapping::Entries;
use super::quarantine::Quarantined;
use super::{
    Delivery, alerta, alertmanager_v2, alertmanager_webhook, body, cloudevents, guess, opsgenie,
    pagerduty_changes, pagerduty_events, webhook,
};
use crate::domain::source::Source;
use axum::http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Reads the body of `POST /api/v2/alerts`. Fails with a message when it is no list of alerts.
pub fn read_posted_alerts(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    alertmanager_v2::parse(body, now).map_err(|(_, _, message)| message)
}

/// Reads the body of an Alertmanager's webhook. Fails with a message when it is none.
pub fn read_webhook(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    alertmanager_webhook::parse(body, now).map_err(|(_, _, message)| message)
}

/// Reads the body of `POST /v2/enqueue`. Fails with everything that is wrong with it.
pub fn read_pagerduty_event(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    let event = pagerduty_events::read(body).map_err(|it| it.errors.join("; "))?;
    Ok(webhook::delivery(&vec![Ok(event.mapped_for(pagerduty_events::SOURCE))], now))
}

/// Reads the body of `POST /ingest/cloudevents` with this content type, where no mapping is declared.
/// Fails with a reason when it holds no events.
pub fn read_cloudevents(
    body: &[u8],
    content_type: &str,
    now: Timestamp,
) -> Result<Delivery, String> {
    Ok(webhook::delivery(&cloudevents_entries(body, content_type, now)?, now))
}

/// Reads the body of `POST /v2/change/enqueue`. Fails with everything that is wrong with it.
pub fn read_pagerduty_change(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    let event = pagerduty_changes::read(body).map_err(|it| it.errors.join("; "))?;
    Ok(webhook::delivery(&vec![Ok(event.mapped)], now))
}

/// Reads the body of Alerta's `POST /alert`. Fails with what is wrong with it.
pub fn read_alerta(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    alerta::read(body).map(|it| it.deliver(now))
}

/// Reads the body of Opsgenie's `POST /v2/alerts`. Fails with what is wrong with it.
pub fn read_opsgenie(body: &[u8], now: Timestamp) -> Result<Delivery, String> {
    let alert = opsgenie::read(body);
    let alert = alert.map_err(|it| it.into_values().collect::<Vec<_>>().join("; "))?;
    Ok(webhook::delivery(&vec![Ok(alert)], now))
}

/// What a body of a webhook of any tool most likely means, entry by entry, or why an entry is refused.
/// Fails with a reason when it means nothing.
pub fn guess_body(
    body: &[u8],
    content_type: &str,
    now: Timestamp,
) -> Result<Vec<Result<Mapped, String>>, String> {
    webhook::guess_entries(&body::read(body, content_type)?, body, now)
}

/// A mapping that does with a body what the general mapper does, to paste into a file of rules.
/// Fails with a reason when the body means nothing.
pub fn suggest_source(
    body: &[u8],
    content_type: &str,
    (name, now): (&str, Timestamp),
) -> Result<String, String> {
    guess::suggest(&body::read(body, content_type)?, name, now)
}

/// What a body of a declared source becomes, in the same way.
pub fn map_body(
    source: &Source,
    body: &[u8],
    content_type: &str,
) -> Result<Vec<Result<Mapped, String>>, String> {
    webhook::try_source(source, &body::read(body, content_type)?, &BTreeMap::new())
}

/// What a quarantined body becomes by a source, with the headers that came with it; `None` = by the
/// general mapper.
pub fn map_quarantined(
    source: Option<&Source>,
    kept: &Quarantined,
    now: Timestamp,
) -> Result<Vec<Result<Mapped, String>>, String> {
    let bytes = kept.body.as_bytes();
    let body = body::read(bytes, &kept.content_type)?;
    match source {
        Some(source) => webhook::try_source(source, &body, &kept.headers),
        None => webhook::guess_entries(&body, bytes, now),
    }
}

/// The alerts among mapped entries as they are taken, and those that are refused.
pub fn deliver_entries(entries: &Vec<Result<Mapped, String>>, now: Timestamp) -> Delivery {
    webhook::delivery(entries, now)
}

/// What a body becomes that was written for another service and is sent to us in its place:
/// `pagerduty_events`, `alerta`, `opsgenie_api` or `cloudevents`; `None` = it is none of these. Fails
/// with what is wrong with the body.
pub fn map_service_body(
    service: &str,
    body: &[u8],
    content_type: &str,
    now: Timestamp,
) -> Option<Result<Entries, String>> {
    Some(match service {
        pagerduty_events::SOURCE => pagerduty_entries(body),
        alerta::SOURCE => alerta::read(body).map(|it| vec![Ok(it.mapped())]),
        opsgenie::SOURCE => opsgenie::read(body)
            .map(|it| vec![Ok(it)])
            .map_err(|it| it.into_values().collect::<Vec<_>>().join("; ")),
        // An event that stands in a file is a whole one; in the binary mode it would be data alone.
        cloudevents::SOURCE if content_type == "application/json" => {
            let is_batch = body.trim_ascii_start().starts_with(b"[");
            let mode = if is_batch { "-batch" } else { "" };
            cloudevents_entries(body, &format!("application/cloudevents{mode}+json"), now)
        }
        cloudevents::SOURCE => cloudevents_entries(body, content_type, now),
        _ => return None,
    })
}

/// An event of an alert, or of a change.
fn pagerduty_entries(body: &[u8]) -> Result<Entries, String> {
    let mapped = match pagerduty_events::read(body) {
        Ok(event) => event.tried(),
        Err(wrong) => match pagerduty_changes::read(body) {
            Ok(event) => event.mapped,
            Err(_) => return Err(wrong.errors.join("; ")),
        },
    };
    Ok(vec![Ok(mapped)])
}

fn cloudevents_entries(body: &[u8], content_type: &str, now: Timestamp) -> Result<Entries, String> {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    let mut entries = Vec::new();
    for event in cloudevents::events(&headers, body)? {
        match event {
            Ok(event) => entries.extend(cloudevents::entries(&event, now)),
            Err(reason) => entries.push(Err(reason)),
        }
    }
    Ok(entries)
}
