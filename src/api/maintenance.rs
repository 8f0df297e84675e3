//! Maintenance windows over REST: files declare them, so that they are only shown.

use super::Context;
use super::error::ApiError;
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::maintenance::MaintenanceState;
use crate::domain::rules::MaintenanceRule;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/api/v1/maintenance",
        "Lists maintenance windows",
        Answer::Page("Maintenance"),
        list,
    )]
}

/// A maintenance window as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct MaintenanceView {
    name: String,
    state: MaintenanceState,
    matchers: Vec<String>,
    owner: String,
    reason: String,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    time_intervals: Vec<String>,
    flexible_seconds: Option<u32>,
    next_change_at: Option<Timestamp>,
    held_alerts: usize,
    file: String,
    line: u32,
}

fn view(state: &Domain, rule: &MaintenanceRule, now: Timestamp) -> MaintenanceView {
    let (at, next_change_at) = state.maintenance_state(now, rule);
    let holds = |names: &[std::sync::Arc<str>]| names.iter().any(|it| **it == *rule.rule.name);
    MaintenanceView {
        name: rule.rule.name.clone(),
        state: at,
        matchers: rule.matchers.0.iter().map(ToString::to_string).collect(),
        owner: rule.owner.clone(),
        reason: rule.reason.clone(),
        starts_at: rule.starts_at,
        ends_at: rule.ends_at,
        time_intervals: rule.time_intervals.iter().map(|it| it.rule.name.clone()).collect(),
        flexible_seconds: rule.flexible_seconds,
        next_change_at,
        held_alerts: state.alerts.values().filter(|it| holds(it.decision.maintenance())).count(),
        file: rule.rule.file.clone(),
        line: rule.rule.line,
    }
}

async fn list(State(context): State<Context>) -> Result<Json<Page<MaintenanceView>>, ApiError> {
    let now = Timestamp::now();
    let look = |state: &Domain| -> Vec<MaintenanceView> {
        state.rules.maintenance.iter().map(|it| view(state, it, now)).collect()
    };
    let items = context.handle.read(look).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;
    use crate::domain::matcher::Matchers;

    #[test]
    fn the_view_is_as_documented() {
        let now: Timestamp = "2026-01-01T00:30:00Z".parse().unwrap();
        let rule = MaintenanceRule {
            rule: std::sync::Arc::default(),
            matchers: Matchers::default(),
            owner: "ann".to_owned(),
            reason: "disks".to_owned(),
            starts_at: Some(now),
            ends_at: "2026-01-01T01:00:00Z".parse().ok(),
            time_intervals: Vec::new(),
            flexible_seconds: Some(60),
        };
        let json = serde_json::to_value(view(&Domain::default(), &rule, now)).unwrap();
        assert_schema("Maintenance", &json);
        assert_eq!(json["state"], "waiting");
        assert_eq!(json["next_change_at"], "2026-01-01T01:00:00Z");
    }
}
