//! Alerts as an Alertmanager lists them: `GET /api/v2/alerts` and `/api/v2/alerts/groups`.

use super::query::Query;
use super::{
    Context, DEFAULT_RECEIVER, GettableReceiver, Milliseconds, answer_text, answer_unavailable,
    name_receivers,
};
use crate::domain;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::incident::IncidentId;
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::matcher::{Matcher, compile_anchored};
use crate::domain::rules::RuleSet;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many alerts are written at once; there may be a hundred thousand.
const PART_ALERTS: usize = 256;

pub(super) async fn get_alerts(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = match Filter::read(query.as_deref()) {
        Ok(filter) => filter,
        Err(error) => return answer_text(StatusCode::BAD_REQUEST, &error),
    };
    match context.handle.read(|state| select(state, &filter, Timestamp::now())).await {
        Ok(mut selection) => {
            let rules = Arc::clone(&selection.rules);
            selection.rows.retain(|it| filter.takes_any(&receivers(&rules, &it.labels)));
            let parts = futures_util::stream::iter(write_parts(selection));
            let content_type = [(header::CONTENT_TYPE, "application/json")];
            (content_type, Body::from_stream(parts)).into_response()
        }
        Err(error) => answer_unavailable(&error),
    }
}

/// Checks the query of `GET /api/v2/alerts`. Fails with the answer's text when it cannot be read.
pub fn check_query(query: &str) -> Result<(), String> {
    Filter::read(Some(query)).map(drop)
}

/// Which alerts are wanted.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of Alertmanager's query")]
pub(super) struct Filter {
    active: bool,
    silenced: bool,
    inhibited: bool,
    /// Groups whose route tells nobody at this time.
    pub(super) muted: bool,
    matchers: Vec<Matcher>,
    receiver: Option<Regex>,
    /// Whether receivers without labels are wanted; ours have none.
    unlabelled: bool,
}

impl Filter {
    /// Reads a query. `unprocessed` selects nothing, for every alert is decided about.
    pub(super) fn read(query: Option<&str>) -> Result<Self, String> {
        let query = Query::parse(query);
        let receiver = query.get("receiver").filter(|it| !it.is_empty());
        let receiver = receiver.map(compile_anchored).transpose();
        Ok(Self {
            active: query.flag("active"),
            silenced: query.flag("silenced"),
            inhibited: query.flag("inhibited"),
            muted: query.flag("muted"),
            matchers: query.filters()?,
            unlabelled: query.takes_unlabelled_receivers()?,
            receiver: receiver.map_err(|it| format!("failed to parse receiver param: {it}"))?,
        })
    }

    fn takes(&self, alert: &Alert) -> bool {
        let decision = &alert.decision;
        // Maintenance is to us what a silence is to Alertmanager: somebody said so.
        let is_silenced = !decision.silenced_by.is_empty() || !decision.maintenance().is_empty();
        let is_inhibited = decision.inhibited_by().is_some();
        (self.active || is_silenced || is_inhibited)
            && (self.silenced || !is_silenced)
            && (self.inhibited || !is_inhibited)
            && alert.state == AlertState::Firing
            && self.matchers.iter().all(|it| it.matches(&alert.labels))
    }

    pub(super) fn takes_any(&self, receivers: &[&str]) -> bool {
        let Some(pattern) = &self.receiver else { return self.unlabelled };
        self.unlabelled && receivers.iter().any(|it| pattern.is_match(it))
    }
}

/// What is copied out of the state, to be written after the lock is given back.
pub(super) struct Selection {
    pub(super) rules: Arc<RuleSet>,
    pub(super) rows: Vec<Row>,
    /// The group labels and the labels of the incidents that the rows name.
    pub(super) incidents: BTreeMap<IncidentId, (Labels, Labels)>,
}

/// An alert, copied.
pub(super) struct Row {
    fingerprint: Fingerprint,
    labels: Labels,
    annotations: Labels,
    generator_url: Box<str>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    updated_at: Timestamp,
    silenced_by: Vec<Arc<str>>,
    inhibited_by: Option<Fingerprint>,
    muted_by: Vec<Arc<str>>,
    pub(super) incident: Option<IncidentId>,
}

/// Copies the wanted alerts, in order of fingerprint. An alert whose source will tell its end has
/// none; clients require one, so it is given the end of an alert that was reported just now.
pub(super) fn select(state: &domain::State, filter: &Filter, now: Timestamp) -> Selection {
    let timeout = SignedDuration::from_secs(state.rules.resolve_timeout_seconds.into());
    let open_end = now.saturating_add(timeout).unwrap_or(now);
    let copy = |alert: &Alert| Row {
        fingerprint: alert.fingerprint,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        generator_url: alert.generator_url.clone(),
        starts_at: alert.starts_at,
        ends_at: alert.ends_at.unwrap_or(open_end),
        updated_at: alert.updated_at,
        silenced_by: alert.decision.silenced_by.clone(),
        inhibited_by: alert.decision.inhibited_by().and_then(|it| it.source),
        muted_by: muted_by(alert),
        incident: alert.incident,
    };
    let rows: Vec<Row> =
        state.alerts.values().map(Box::as_ref).filter(|it| filter.takes(it)).map(copy).collect();
    let mut incidents = BTreeMap::new();
    for id in rows.iter().filter_map(|it| it.incident) {
        if let Some(incident) = state.incidents.get(&id) {
            incidents
                .entry(id)
                .or_insert_with(|| (incident.group.clone(), incident.labels.clone()));
        }
    }
    Selection { rules: Arc::clone(&state.rules), rows, incidents }
}

/// The names of what else holds an alert back: maintenance windows, and an inhibition that waits for a
/// source, which has no alert to name.
fn muted_by(alert: &Alert) -> Vec<Arc<str>> {
    let waiting = alert.decision.inhibited_by().filter(|it| it.source.is_none());
    let waiting = waiting.map(|it| it.rule.name.as_str().into());
    alert.decision.maintenance().iter().cloned().chain(waiting).collect()
}

/// The receivers whose routes match.
pub(super) fn receivers<'a>(rules: &'a RuleSet, labels: &Labels) -> Vec<&'a str> {
    let mut names = Vec::new();
    for route in rules.routes.iter().filter(|it| it.matchers.matches(labels)) {
        if !names.contains(&&*route.receiver) {
            names.push(&*route.receiver);
        }
    }
    if names.is_empty() {
        names.push(DEFAULT_RECEIVER);
    }
    names
}

/// An alert as Alertmanager writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GettableAlert<'a> {
    annotations: &'a Labels,
    ends_at: Milliseconds,
    fingerprint: Fingerprint,
    receivers: Vec<GettableReceiver<'a>>,
    starts_at: Milliseconds,
    status: AlertStatus<'a>,
    updated_at: Milliseconds,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
    labels: &'a Labels,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus<'a> {
    #[serde(serialize_with = "as_list")]
    inhibited_by: Option<Fingerprint>,
    muted_by: Vec<&'a str>,
    silenced_by: &'a [Arc<str>],
    state: &'static str,
}

/// As a list of at most one.
#[expect(clippy::ref_option, reason = "serde asks for a reference")]
fn as_list<S: Serializer>(it: &Option<Fingerprint>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(it)
}

/// Writes an alert; `muted_by` are the time intervals that mute its group.
pub(super) fn gettable<'a>(
    row: &'a Row,
    rules: &'a RuleSet,
    muted_by: &'a [Arc<str>],
) -> GettableAlert<'a> {
    let muted_by: Vec<&str> = row.muted_by.iter().chain(muted_by).map(|it| &**it).collect();
    let is_active = row.silenced_by.is_empty() && row.inhibited_by.is_none() && muted_by.is_empty();
    GettableAlert {
        annotations: &row.annotations,
        ends_at: Milliseconds(row.ends_at),
        fingerprint: row.fingerprint,
        receivers: name_receivers(receivers(rules, &row.labels)),
        starts_at: Milliseconds(row.starts_at),
        status: AlertStatus {
            inhibited_by: row.inhibited_by,
            muted_by,
            silenced_by: &row.silenced_by,
            state: if is_active { "active" } else { "suppressed" },
        },
        updated_at: Milliseconds(row.updated_at),
        generator_url: &row.generator_url,
        labels: &row.labels,
    }
}

/// Writes a list part by part, so that a long one is never in memory as a whole.
fn write_parts(selection: Selection) -> impl Iterator<Item = Result<Bytes, serde_json::Error>> {
    let starts = (0..selection.rows.len()).step_by(PART_ALERTS);
    let parts = starts.map(move |start| {
        let mut json = Vec::with_capacity(PART_ALERTS * 1024);
        let rows = selection.rows.iter().enumerate().skip(start).take(PART_ALERTS);
        for (index, row) in rows {
            json.extend(if index == 0 { None } else { Some(b',') });
            serde_json::to_writer(&mut json, &gettable(row, &selection.rules, &[]))?;
        }
        Ok(Bytes::from(json))
    });
    let edge = |text: &'static [u8]| std::iter::once(Ok(Bytes::from_static(text)));
    edge(b"[").chain(parts).chain(edge(b"]"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::alert::{Decision, Disposition, Held, Inhibitor};
    use crate::domain::rules::{Occasion, Route, RuleRef};
    use serde_json::{Value, json};

    pub(in super::super) fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(in super::super) fn alert(name: &str, state: AlertState, silenced_by: &[&str]) -> Alert {
        let labels = Labels::from_pairs([("alertname", name), ("host", "a")]);
        let at = time("2026-11-22T16:00:00Z");
        Alert {
            fingerprint: labels.fingerprint(),
            labels,
            annotations: Labels::from_pairs([("summary", "s")]),
            generator_url: "http://p".into(),
            state,
            starts_at: at,
            ends_at: Some(time("2026-11-22T17:04:00Z")),
            received_at: at,
            updated_at: at,
            reports: Vec::new(),
            count: 1,
            incident: None,
            joined_at: None,
            has_led: false,
            is_new: false,
            decision: Decision {
                at,
                disposition: Disposition::Opened,
                silenced_by: silenced_by.iter().map(|it| Arc::from(*it)).collect(),
                silences_checked: 0,
                held: None,
                rule: None,
                passed: None,
                grouping: None,
            },
            unrest: None,
            page: 0,
            due_at: None,
        }
    }

    pub(in super::super) fn state_of(alerts: impl IntoIterator<Item = Alert>) -> domain::State {
        let route = |matchers: &str, receiver: &str| Route {
            rule: Arc::new(RuleRef::default()),
            matchers: matchers.parse().unwrap(),
            on: vec![Occasion::Opened],
            receiver: receiver.to_owned(),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            decide_after_seconds: 0,
        };
        let mut state = domain::State::default();
        state.alerts = alerts.into_iter().map(|it| (it.fingerprint, Box::new(it))).collect();
        state.rules = Arc::new(RuleSet {
            resolve_timeout_seconds: 300,
            routes: vec![route("{alertname=Up}", "hook"), route("{alertname=Up}", "hook")],
            ..RuleSet::default()
        });
        state
    }

    fn answer(state: &domain::State, query: &str) -> Vec<Value> {
        let filter = Filter::read(Some(query)).unwrap();
        let mut selection = select(state, &filter, time("2026-11-22T17:00:00Z"));
        let rules = Arc::clone(&selection.rules);
        selection.rows.retain(|it| filter.takes_any(&receivers(&rules, &it.labels)));
        let json: Vec<u8> = write_parts(selection).flat_map(|it| it.unwrap()).collect();
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn an_alert_is_written_as_alertmanager_does() {
        let mut silenced = alert("Up", AlertState::Firing, &["s-1"]);
        silenced.ends_at = None;
        let labels = json!({"alertname": "Up", "host": "a"});
        assert_eq!(
            answer(&state_of([silenced.clone()]), ""),
            [json!({
                "annotations": {"summary": "s"}, "endsAt": "2026-11-22T17:05:00.000Z",
                "fingerprint": silenced.fingerprint.to_string(), "receivers": [{"name": "hook"}],
                "startsAt": "2026-11-22T16:00:00.000Z",
                "status": {
                    "inhibitedBy": [], "mutedBy": [], "silencedBy": ["s-1"], "state": "suppressed",
                },
                "updatedAt": "2026-11-22T16:00:00.000Z", "generatorURL": "http://p",
                "labels": labels,
            })]
        );
    }

    #[test]
    fn a_query_selects_firing_alerts() {
        let state = state_of([
            alert("Up", AlertState::Firing, &[]),
            alert("Down", AlertState::Firing, &["s"]),
            alert("Gone", AlertState::Resolved, &[]),
            alert("Lost", AlertState::Expired, &[]),
        ]);
        for (query, names) in [
            ("", &["Down", "Up"][..]),
            ("active=false", &["Down"]),
            ("silenced=false&inhibited=false&unprocessed=false", &["Up"]),
            ("active=0&silenced=0", &[]),
            ("filter=alertname%3D~%22U.*%22", &["Up"]),
            ("filter=host%3Da&filter=alertname!%3DUp", &["Down"]),
            ("receiver=ho", &[]),
            ("receiver=ho.*", &["Up"]),
            ("receiver=default", &["Down"]),
            ("receiver_matchers=owner%3Dann", &[]),
            ("receiver_matchers=owner!%3Dann", &["Down", "Up"]),
        ] {
            let found = answer(&state, query);
            let mut found: Vec<_> =
                found.iter().filter_map(|it| it["labels"]["alertname"].as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, names, "{query}");
        }
        assert!(Filter::read(Some("filter=a")).is_err());
        assert!(Filter::read(Some("receiver=(")).is_err());
    }

    #[test]
    fn what_holds_an_alert_is_named_and_asked_for() {
        let source = Fingerprint(0xab);
        let hold = |name, inhibited: bool, maintenance: &[&str]| {
            let mut held = Held::default();
            let rule = Arc::new(RuleRef { name: "rule".to_owned(), ..RuleRef::default() });
            held.inhibited_by = inhibited.then_some(Inhibitor {
                rule,
                source: Some(source),
                path: Vec::new(),
                until: None,
            });
            held.maintenance = maintenance.iter().map(|it| Arc::from(*it)).collect();
            let mut alert = alert(name, AlertState::Firing, &[]);
            alert.decision.held = Some(Box::new(held));
            alert
        };
        let state = state_of([
            hold("Child", true, &[]),
            hold("Work", false, &["disks"]),
            alert("Up", AlertState::Firing, &[]),
        ]);
        for (query, names) in [
            ("", &["Child", "Up", "Work"][..]),
            ("active=false", &["Child", "Work"]),
            ("inhibited=false", &["Up", "Work"]),
            ("silenced=false", &["Child", "Up"]),
            ("inhibited=false&silenced=false", &["Up"]),
        ] {
            let found = answer(&state, query);
            let mut found: Vec<_> =
                found.iter().filter_map(|it| it["labels"]["alertname"].as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, names, "{query}");
        }
        let status =
            |name: &str| answer(&state, &format!("filter=alertname={name}"))[0]["status"].clone();
        assert_eq!(
            status("Child"),
            json!({"inhibitedBy": ["00000000000000ab"], "mutedBy": [], "silencedBy": [], "state": "suppressed"})
        );
        assert_eq!(
            status("Work"),
            json!({"inhibitedBy": [], "mutedBy": ["disks"], "silencedBy": [], "state": "suppressed"})
        );
    }

    #[test]
    fn a_long_list_is_whole_and_sorted() {
        for count in [0, 1, PART_ALERTS, PART_ALERTS + 1, PART_ALERTS * 3 - 1] {
            let alerts = (0..count).map(|it| alert(&it.to_string(), AlertState::Firing, &[]));
            let found = answer(&state_of(alerts), "");
            let prints: Vec<_> = found.iter().filter_map(|it| it["fingerprint"].as_str()).collect();
            assert_eq!(prints.len(), count);
            assert!(prints.is_sorted(), "{count}");
        }
    }
}
