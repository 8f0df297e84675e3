//! Alerts over REST.

use super::Context;
use super::error::ApiError;
use super::explain;
use super::incidents;
use super::input::{Params, page_limit, parse_id, parse_words};
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::alert::{Alert, AlertState, Disposition};
use crate::domain::incident::IncidentId;
use crate::domain::item::Catalog;
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::matcher::Matchers;
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    let list = "Lists alerts that fire, and those that did until their incident is closed";
    vec![
        Operation::read("/api/v1/alerts", list, Answer::Page("Alert"), self::list).query(&[
            ("state", "firing, resolved, expired; several with commas"),
            ("disposition", "what became of it; several with commas"),
            ("incident", "members of this incident, also when it is closed"),
            ("filter", "matchers as in Alertmanager, for example `env=\"prod\",team=~\"a|b\"`"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::read(
            "/api/v1/alerts/{fingerprint}",
            "Shows an alert",
            Answer::Json("Alert"),
            show,
        ),
    ]
}

/// An alert as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AlertView {
    fingerprint: Fingerprint,
    labels: Labels,
    annotations: Labels,
    generator_url: Box<str>,
    service: Option<String>,
    state: AlertState,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    received_at: Timestamp,
    updated_at: Timestamp,
    sources: Vec<String>,
    disposition: Disposition,
    silenced_by: Vec<Arc<str>>,
    inhibited_by: Option<Fingerprint>,
    maintenance: Vec<Arc<str>>,
    incident: Option<IncidentId>,
    flapping_since: Option<Timestamp>,
    held_until: Option<Timestamp>,
    count: u32,
    new: bool,
    why: String,
}

/// Makes the view of an alert.
pub(super) fn view(alert: &Alert, catalog: &Catalog) -> AlertView {
    AlertView {
        fingerprint: alert.fingerprint,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        generator_url: alert.generator_url.clone(),
        service: catalog.service_of(&alert.labels).map(str::to_owned),
        state: alert.state,
        starts_at: alert.starts_at,
        ends_at: alert.ends_at,
        received_at: alert.received_at,
        updated_at: alert.updated_at,
        sources: alert.sources().map(str::to_owned).collect(),
        disposition: alert.disposition(),
        silenced_by: alert.decision.silenced_by.clone(),
        inhibited_by: alert.decision.inhibited_by().and_then(|it| it.source),
        maintenance: alert.decision.maintenance().to_vec(),
        incident: alert.incident,
        flapping_since: alert.flapping_since(),
        held_until: alert.held_until(),
        count: alert.count,
        new: alert.is_new,
        why: explain::why_alert(alert),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    disposition: Option<String>,
    incident: Option<String>,
    filter: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Which alerts are wanted.
struct Wanted {
    states: Option<Vec<AlertState>>,
    dispositions: Option<Vec<Disposition>>,
    matchers: Matchers,
    after: Option<Fingerprint>,
    limit: usize,
}

impl Wanted {
    fn parse(query: &ListQuery) -> Result<Self, ApiError> {
        const STATES: [AlertState; 3] =
            [AlertState::Firing, AlertState::Resolved, AlertState::Expired];
        let matchers = query.filter.as_deref().unwrap_or_default();
        Ok(Self {
            states: parse_words(query.state.as_deref(), &STATES.map(|it| (it.as_str(), it)))?,
            dispositions: parse_words(
                query.disposition.as_deref(),
                &Disposition::ALL.map(|it| (it.as_str(), it)),
            )?,
            matchers: if matchers.trim().is_empty() {
                Matchers::default()
            } else {
                matchers.parse().map_err(ApiError::bad_request)?
            },
            after: query.cursor.as_deref().map(parse_id).transpose()?,
            limit: page_limit(query.limit)?,
        })
    }

    fn wants(&self, alert: &Alert) -> bool {
        self.after.is_none_or(|it| alert.fingerprint > it)
            && self.states.as_ref().is_none_or(|it| it.contains(&alert.state))
            && self.dispositions.as_ref().is_none_or(|it| it.contains(&alert.disposition()))
            && self.matchers.matches(&alert.labels)
    }

    /// Takes one page of alerts in rising order of fingerprint.
    fn page<'a>(
        &self,
        alerts: impl Iterator<Item = &'a Alert>,
        catalog: &Catalog,
    ) -> Page<AlertView> {
        let mut wanted = alerts.filter(|it| self.wants(it)).peekable();
        let items = wanted.by_ref().take(self.limit).map(|it| view(it, catalog));
        let items: Vec<AlertView> = items.collect();
        let last = items.last().map(|it| it.fingerprint.to_string());
        Page { items, next_cursor: wanted.peek().and(last) }
    }
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<AlertView>>, ApiError> {
    let wanted = Wanted::parse(&query)?;
    let Some(incident) = query.incident.as_deref() else {
        let page = context
            .handle
            .read(|state| wanted.page(state.alerts.values().map(Box::as_ref), &state.rules.catalog))
            .await?;
        return Ok(Json(page));
    };
    let incident: IncidentId = parse_id(incident)?;
    let mut alerts = Vec::new();
    let members = incidents::members(&context, incident).await?;
    let open: Vec<(Fingerprint, Option<Alert>)> = context
        .handle
        .read(|state| {
            members
                .into_iter()
                .map(|it| (it, state.alerts.get(&it).map(|it| Alert::clone(it))))
                .collect()
        })
        .await?;
    for (fingerprint, alert) in open {
        match alert {
            Some(alert) => alerts.push(alert),
            // Retention may have taken an old one.
            None => alerts.extend(load_closed(&context, fingerprint).await?),
        }
    }
    alerts.sort_by_key(|it| it.fingerprint);
    let catalog = context.handle.peek(|state| state.rules.catalog.clone());
    Ok(Json(wanted.page(alerts.iter(), &catalog)))
}

async fn show(
    State(context): State<Context>,
    Path(fingerprint): Path<String>,
) -> Result<Json<AlertView>, ApiError> {
    let alert = load(&context, parse_id(&fingerprint)?).await?;
    let catalog = context.handle.peek(|state| state.rules.catalog.clone());
    Ok(Json(view(&alert, &catalog)))
}

/// Finds an alert, open or closed.
pub(super) async fn load(context: &Context, fingerprint: Fingerprint) -> Result<Alert, ApiError> {
    let open = context.handle.read(|state| state.alerts.get(&fingerprint).cloned()).await?;
    let alert = match open {
        Some(alert) => Some(*alert),
        None => load_closed(context, fingerprint).await?,
    };
    alert.ok_or_else(|| ApiError::not_found(format!("there is no alert `{fingerprint}`")))
}

async fn load_closed(
    context: &Context,
    fingerprint: Fingerprint,
) -> Result<Option<Alert>, ApiError> {
    let object = context.handle.get(Kind::Alert, fingerprint.to_string()).await;
    let object = object.map_err(|error| ApiError::store(&error))?;
    object.as_ref().map(listing::decode).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let alert = samples::alert();
        let json = serde_json::to_value(view(&alert, &Catalog::default())).unwrap();
        assert_schema("Alert", &json);
        assert_eq!(json["disposition"], "opened");
        assert_eq!(json["starts_at"], "2026-01-01T00:00:00Z");
        assert_eq!(json["incident"], "INC-42");
    }

    fn query(text: &str) -> Result<Wanted, ApiError> {
        let (name, value) = text.split_once('=').unwrap();
        let value = serde_json::Value::from(value);
        let query = serde_json::from_value(serde_json::json!({ name: value })).unwrap();
        Wanted::parse(&query)
    }

    #[test]
    fn filters_choose() {
        let alert = samples::alert();
        for (text, wanted) in [
            ("state=firing", true),
            ("state=resolved,expired", false),
            ("disposition=opened,joined", true),
            ("disposition=silenced", false),
            ("filter=alertname=\"Down\"", true),
            ("filter={alertname!=\"Down\"}", false),
            ("cursor=0000000000000000", true),
            ("cursor=ffffffffffffffff", false),
        ] {
            assert_eq!(query(text).unwrap().wants(&alert), wanted, "{text}");
        }
        for bad in ["state=on", "disposition=x", "filter=a", "cursor=INC-1"] {
            assert!(query(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let alerts: Vec<Alert> =
            (1..=5).map(|it| Alert { fingerprint: Fingerprint(it), ..samples::alert() }).collect();
        let mut wanted = query("state=firing").unwrap();
        wanted.limit = 2;
        let mut seen = Vec::new();
        loop {
            let page = wanted.page(alerts.iter(), &Catalog::default());
            seen.extend(page.items.iter().map(|it| it.fingerprint.0));
            let Some(cursor) = page.next_cursor else { break };
            wanted.after = Some(cursor.parse().unwrap());
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }
}
