//! What must hold after each turn of a simulated history.

use crate::domain::State;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::effect::{Effect, EffectKey, PlannedEffect};
use crate::domain::execution::ExecutionState;
use crate::domain::incident::{IncidentId, IncidentState};
use crate::domain::label::Fingerprint;
use crate::domain::rules::Inhibition;
use std::collections::{BTreeMap, BTreeSet};

/// What must hold after each turn.
pub(super) fn check(state: &State, pending: &BTreeMap<EffectKey, PlannedEffect>) {
    check_incidents(state);
    check_alerts(state);
    check_inhibition(state);
    check_executions(state, pending);
    for notification in state.notifications.values() {
        let key = EffectKey(format!("{}/{}", notification.id, notification.attempts).into());
        let is_sent = pending.contains_key(&key);
        assert!(is_sent != notification.retry_at.is_some(), "{} hangs", notification.id);
    }
}

fn check_incidents(state: &State) {
    let fires = |it: &&Fingerprint| state.alerts[*it].counts_as_firing();
    let open = |it: &&IncidentId| state.incidents.contains_key(it);
    assert_eq!(state.members.keys().filter(open).count(), state.members.len());
    for (id, incident) in &state.incidents {
        let members = &state.members[id];
        let firing = members.iter().filter(fires).count() as u64;
        assert_eq!(incident.firing_count, firing, "{id}: firing");
        assert_eq!(incident.alert_count, members.len() as u64, "{id}: members");
        assert!(incident.state != IncidentState::Closed);
        assert_eq!(incident.state == IncidentState::Resolved, incident.resolved_at.is_some());
        for clock in &incident.sla {
            assert!(clock.elapsed_milliseconds >= 0, "{id}: {clock:?}");
            assert!(incident.state.is_active() || clock.running_since.is_none(), "{id}: {clock:?}");
        }
    }
}

fn check_alerts(state: &State) {
    for (fingerprint, alert) in &state.alerts {
        assert!(state.pages[&alert.page].contains(fingerprint));
        let member = alert.incident.and_then(|it| state.members.get(&it));
        if let Some(member) = member {
            assert!(member.contains(fingerprint), "{fingerprint}: no member");
        }
        if alert.state != AlertState::Firing {
            continue;
        }
        assert!(alert.reports.iter().any(|it| it.firing), "{fingerprint}: nobody says it fires");
        if !alert.decision.is_held() {
            let incident = alert.incident.and_then(|it| state.incidents.get(&it));
            let incident = incident.unwrap_or_else(|| panic!("{alert:?} is nowhere"));
            let began = alert.decision.at;
            let seen = incident.resolved_at.is_none_or(|it| it >= began);
            assert!(incident.state.is_active() || seen, "nobody knows of {alert:?}: {incident:?}");
        }
    }
    let paged: BTreeSet<Fingerprint> = state.pages.values().flatten().copied().collect();
    assert_eq!(paged.len(), state.alerts.len());
}

/// Each firing alert is inhibited exactly if comparing it with every other says so.
fn check_inhibition(state: &State) {
    let firing = || state.alerts.values().filter(|it| it.state == AlertState::Firing);
    for alert in firing() {
        let stands_over = |source: &Alert, rule: &Inhibition| {
            let two_sided = |it: &Alert| {
                rule.source_matchers.matches(&it.labels) && rule.target_matchers.matches(&it.labels)
            };
            rule.target_matchers.matches(&alert.labels)
                && rule.source_matchers.matches(&source.labels)
                && !(two_sided(alert) && two_sided(source))
                && (rule.equal.iter())
                    .all(|(theirs, ours)| source.labels.get(theirs) == alert.labels.get(ours))
        };
        let rules = &state.rules.inhibitions;
        let rule = rules.iter().find(|rule| firing().any(|it| stands_over(it, rule)));
        let by = alert.decision.inhibited_by().filter(|it| it.until.is_none());
        assert_eq!(by.map(|it| &it.rule), rule.map(|it| &it.rule), "{alert:?}");
        if let (Some(by), Some(rule)) = (by, rule) {
            let source = by.source.and_then(|it| state.alerts.get(&it));
            let fires = source.is_some_and(|it| it.state == AlertState::Firing);
            assert!(fires && source.is_some_and(|it| stands_over(it, rule)), "{alert:?}");
        }
    }
}

fn check_executions(state: &State, pending: &BTreeMap<EffectKey, PlannedEffect>) {
    let mut locks = BTreeSet::new();
    for (id, execution) in &state.executions {
        let steps = pending.values().filter(
            |it| matches!(&it.effect, Effect::RunStep { execution, .. } if execution == id),
        );
        let under_way = steps.count();
        assert!(under_way <= 1, "{id} does two steps at once");
        assert_eq!(
            under_way == 1,
            execution.is_under_way(),
            "{id} waits for nothing: {execution:?}"
        );
        if execution.state == ExecutionState::Running {
            let waits = execution.steps.iter().any(|it| it.retry_at.is_some());
            assert!(waits != (under_way == 1), "{id} hangs");
        }
        if execution.holds_lock() {
            assert!(locks.insert(&execution.lock), "{id}: the lock is taken twice");
        }
        if let Some(incident) = execution.incident.and_then(|it| state.incidents.get(&it))
            && !execution.state.is_final()
        {
            assert_eq!(execution.alerts_resolved, incident.firing_count == 0, "{id}");
        }
    }
}
