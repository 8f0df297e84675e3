//! Groups of alerts as an Alertmanager lists them: `GET /api/v2/alerts/groups`.

use super::alerts::{Filter, GettableAlert, Row, Selection, gettable, receivers, select};
use super::{Context, DEFAULT_RECEIVER, GettableReceiver, answer_text, answer_unavailable};
use crate::domain::incident::IncidentId;
use crate::domain::label::Labels;
use crate::domain::rules::RuleSet;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn get_groups(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = match Filter::read(query.as_deref()) {
        Ok(filter) => filter,
        Err(error) => return answer_text(StatusCode::BAD_REQUEST, &error),
    };
    match context.handle.read(|state| select(state, &filter, Timestamp::now())).await {
        Ok(selection) => {
            let groups = write_groups(&selection, &filter, Timestamp::now());
            ([(header::CONTENT_TYPE, "application/json")], groups).into_response()
        }
        Err(error) => answer_unavailable(&error),
    }
}

/// A group as Alertmanager writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertGroup<'a> {
    alerts: Vec<GettableAlert<'a>>,
    labels: Labels,
    receiver: GettableReceiver<'a>,
    route_labels: BTreeMap<&'a str, &'a str>,
}

/// The time intervals that mute a receiver now: none while one of its routes that match is not mute.
fn muted_routes(rules: &RuleSet, labels: &Labels, receiver: &str, now: Timestamp) -> Vec<Arc<str>> {
    let routes = rules.routes.iter().filter(|it| it.receiver == receiver);
    let mut names: Vec<Arc<str>> = Vec::new();
    for route in routes.filter(|it| it.matchers.matches(labels)) {
        let muted_by = route.muted_by(now);
        if muted_by.is_empty() {
            return Vec::new();
        }
        for name in muted_by {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// What the alerts of a group share: its labels, its incident, its receiver.
type GroupKey<'a> = (Option<(&'a Labels, IncidentId)>, &'a str);

/// One group for each incident and receiver that hears of it, with the labels that its alerts share
/// by rule, and one without labels for alerts that have no incident.
fn groups_of<'a>(
    selection: &'a Selection,
    filter: &Filter,
    now: Timestamp,
) -> BTreeMap<GroupKey<'a>, (Vec<Arc<str>>, Vec<&'a Row>)> {
    let mut groups: BTreeMap<GroupKey<'a>, (Vec<Arc<str>>, Vec<&'a Row>)> = BTreeMap::new();
    for row in &selection.rows {
        let incident = row.incident.and_then(|id| Some((id, selection.incidents.get(&id)?)));
        let names = match incident {
            Some((_, (_, labels))) => receivers(&selection.rules, labels),
            None => vec![DEFAULT_RECEIVER],
        };
        for name in names.into_iter().filter(|it| filter.takes_any(&[it])) {
            let key = (incident.map(|(id, (labels, _))| (labels, id)), name);
            let group = groups.entry(key).or_insert_with(|| {
                let muted_by = incident.map_or_else(Vec::new, |(_, (_, labels))| {
                    muted_routes(&selection.rules, labels, name, now)
                });
                (muted_by, Vec::new())
            });
            group.1.push(row);
        }
    }
    groups.retain(|_, (muted_by, _)| filter.muted || muted_by.is_empty());
    groups
}

/// Writes the groups.
fn write_groups(selection: &Selection, filter: &Filter, now: Timestamp) -> Vec<u8> {
    let groups = groups_of(selection, filter, now);
    let groups: Vec<AlertGroup<'_>> = (groups.iter())
        .map(|((incident, name), (muted_by, rows))| AlertGroup {
            alerts: rows.iter().map(|it| gettable(it, &selection.rules, muted_by)).collect(),
            labels: incident.map(|(labels, _)| labels.clone()).unwrap_or_default(),
            receiver: GettableReceiver { name },
            route_labels: BTreeMap::new(),
        })
        .collect();
    serde_json::to_vec(&groups).expect("labels and texts can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::super::alerts::tests::{alert, state_of, time};
    use super::*;
    use crate::domain::alert::AlertState;
    use crate::domain::rules::RuleRef;
    use crate::domain::time_interval::{Range, TimeInterval, TimeIntervals};
    use serde_json::json;

    #[test]
    fn alerts_are_grouped_by_incident() {
        let selection = |receiver: &str| {
            let filter = Filter::read(Some(receiver)).unwrap();
            let state = state_of(["Up", "Down", "Left"].map(|name| {
                let mut alert = alert(name, AlertState::Firing, &[]);
                alert.incident = (name != "Left").then_some(IncidentId(1));
                alert
            }));
            let mut selection = select(&state, &filter, time("2026-11-22T17:00:00Z"));
            let labels = |name| Labels::from_pairs([("alertname", name)]);
            let group_labels = Labels::from_pairs([("host", "a")]);
            selection.incidents.insert(IncidentId(1), (group_labels, labels("Up")));
            let now = time("2026-11-22T17:00:00Z");
            let json = write_groups(&selection, &filter, now);
            serde_json::from_slice::<serde_json::Value>(&json).unwrap()
        };
        let groups = selection("");
        assert_eq!(groups.as_array().map(Vec::len), Some(2));
        assert_eq!(groups[0]["labels"], json!({}));
        assert_eq!(groups[0]["receiver"], json!({"name": "default"}));
        assert_eq!(groups[0]["alerts"][0]["labels"]["alertname"], "Left");
        assert_eq!(groups[1]["labels"], json!({"host": "a"}));
        assert_eq!(groups[1]["receiver"], json!({"name": "hook"}));
        assert_eq!(groups[1]["alerts"].as_array().map(Vec::len), Some(2));
        assert_eq!(groups[1]["routeLabels"], json!({}));
        assert_eq!(selection("receiver=hook").as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_group_is_muted_while_its_route_is() {
        let mut state = state_of([alert("Up", AlertState::Firing, &[])]);
        for alert in state.alerts.values_mut() {
            alert.incident = Some(IncidentId(1));
        }
        let interval =
            TimeInterval { times: vec![Range { first: 0, last: 60 }], ..TimeInterval::default() };
        let rule = Arc::new(RuleRef { name: "nights".to_owned(), ..RuleRef::default() });
        let nights = Arc::new(TimeIntervals { rule, intervals: vec![interval] });
        for route in &mut Arc::make_mut(&mut state.rules).routes {
            route.mute_time_intervals = vec![nights.clone()];
        }
        for (hour, query, muted) in [
            ("00", "", Some(json!(["nights"]))),
            ("01", "", Some(json!([]))),
            ("00", "muted=false", None),
        ] {
            let now = time(&format!("2026-11-22T{hour}:30:00Z"));
            let filter = Filter::read(Some(query)).unwrap();
            let mut selection = select(&state, &filter, now);
            let labels = Labels::from_pairs([("alertname", "Up")]);
            selection.incidents.insert(IncidentId(1), (Labels::default(), labels));
            let json = write_groups(&selection, &filter, now);
            let groups: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let found = groups.get(0).map(|it| it["alerts"][0]["status"]["mutedBy"].clone());
            assert_eq!(found, muted, "{hour} {query}");
        }
    }
}
