//! `/metrics`: looks up what is open now and adds it to what was counted.

use super::Context;
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::alert::AlertState;
use crate::domain::silence::SilenceState;
use crate::engine::Health;
use crate::telemetry::Gauges;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/metrics",
        "Shows the metrics in Prometheus' text format",
        Answer::Other("text/plain"),
        show,
    )]
}

async fn show(State(context): State<Context>) -> impl IntoResponse {
    let health = context.handle.health();
    let gauges = context.handle.peek(|state| gauges(state, &health));
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], context.metrics.render(&gauges))
}

/// Counts what is open.
fn gauges(state: &Domain, health: &Health) -> Gauges {
    let mut gauges = Gauges {
        alerts_active: 0,
        log_bytes: health.store.disk_bytes,
        effects_pending: health.effects_pending,
        runbooks_stopped: state.memory.stopped.is_some(),
        ..Gauges::default()
    };
    let now = Timestamp::now();
    for alert in state.alerts.values() {
        gauges.alerts_active += u64::from(alert.state == AlertState::Firing);
    }
    let firing_by_silence = state.firing_alerts_by_silence();
    for silence in state.silences.values() {
        let counts = &mut gauges.silences;
        match silence.state(now) {
            SilenceState::Pending => counts.pending += 1,
            SilenceState::Expired => {}
            SilenceState::Active => {
                let fires = firing_by_silence.contains_key(&*silence.id);
                counts.active += 1;
                counts.matching_nothing += u64::from(silence.alert_count == 0);
                counts.expiring += u64::from(fires && silence.warns_at() <= now);
            }
        }
    }
    for incident in state.incidents.values() {
        if incident.state.is_active() {
            let key = (incident.priority.as_str(), incident.state);
            *gauges.incidents_open.entry(key).or_default() += 1;
        }
        for clock in &incident.sla {
            let key = (clock.policy.clone(), clock.target, clock.state);
            *gauges.sla_clocks.entry(key).or_default() += 1;
        }
    }
    for problem in state.problems.values() {
        *gauges.problems.entry(problem.state).or_default() += 1;
    }
    for heartbeat in state.heartbeats.values() {
        *gauges.heartbeats.entry(heartbeat.state(now)).or_default() += 1;
    }
    gauges
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::domain::incident::{Incident, IncidentId, IncidentState};
    use crate::telemetry::Metrics;

    #[test]
    fn what_is_open_is_counted() {
        let mut state = Domain::default();
        let alert = samples::alert();
        state.alerts.insert(alert.fingerprint, Box::new(alert));
        let incident = samples::incident();
        let resolved =
            Incident { id: IncidentId(43), state: IncidentState::Resolved, ..incident.clone() };
        state.incidents.insert(incident.id, incident);
        state.incidents.insert(resolved.id, resolved);
        let problem = samples::problem();
        state.problems.insert(problem.id, problem);
        let health = Health { effects_pending: 3, ..Health::default() };
        let text = Metrics::new().render(&gauges(&state, &health));
        for line in [
            "watchkeeper_alerts_active 1",
            "watchkeeper_incidents_open{priority=\"P3\",state=\"acknowledged\"} 1",
            "watchkeeper_incidents_open{priority=\"P3\",state=\"open\"} 0",
            "watchkeeper_sla_clocks{policy=\"gold\",state=\"running\",target=\"resolve\"} 2",
            "watchkeeper_problems{state=\"proposed\"} 1",
            "watchkeeper_effects_pending 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }
}
