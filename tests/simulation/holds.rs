//! What must hold of that which holds alerts back, and of heartbeats.

use super::laws::{Verdict, ensure};
use jiff::Timestamp;
use watchkeeper::domain::State;
use watchkeeper::domain::alert::{Alert, AlertState};
use watchkeeper::domain::rules::Inhibition;

/// Checks a state in which every timer up to a time has had its effect.
pub(crate) fn check(state: &State, as_of: Timestamp) -> Verdict {
    let firing: Vec<&Alert> = state
        .alerts
        .values()
        .map(Box::as_ref)
        .filter(|it| it.state == AlertState::Firing)
        .collect();
    let inhibitors: Vec<_> = state
        .rules
        .inhibitions
        .iter()
        .map(|rule| {
            let sources = firing.iter().filter(|it| rule.source_matchers.matches(&it.labels));
            (rule, sources.copied().collect::<Vec<_>>())
        })
        .collect();
    for alert in firing {
        check_inhibition(state, alert, &inhibitors)?;
        check_names(state, alert, as_of)?;
        check_alert_of_heartbeat(state, alert)?;
    }
    check_heartbeats(state)
}

/// Whatever holds an alert back has a name, is there, and is not over.
fn check_names(state: &State, alert: &Alert, as_of: Timestamp) -> Verdict {
    let decision = &alert.decision;
    for id in &decision.silenced_by {
        let holds = match id.strip_prefix("heartbeat/") {
            Some(name) => state.rules.heartbeats.iter().any(|it| it.rule.name == name),
            None => state.silences.get(id).is_some_and(|it| it.ends_at > as_of),
        };
        ensure(holds, || format!("the silence `{id}` holds at {as_of}, and is over: {alert:?}"))?;
    }
    for name in decision.maintenance() {
        let rule = state.rules.maintenance.iter().find(|it| *it.rule.name == **name);
        let is_over = rule.is_none_or(|it| it.ends_at.is_some_and(|at| at <= as_of));
        ensure(!is_over, || format!("maintenance `{name}` is over at {as_of}: {alert:?}"))?;
    }
    if let Some(by) = decision.inhibited_by() {
        let waits = by.until.is_some_and(|it| it > as_of);
        ensure(by.source.is_some() || waits, || format!("nothing inhibits {alert:?}"))?;
    }
    let is_named = !decision.disposition.is_held() || decision.is_held();
    ensure(is_named, || format!("nobody knows what holds {alert:?}"))
}

/// A firing alert is inhibited exactly if comparing it with all that a rule may begin with says so.
fn check_inhibition(
    state: &State,
    alert: &Alert,
    inhibitors: &[(&Inhibition, Vec<&Alert>)],
) -> Verdict {
    let inhibits = |(rule, sources): &&(&Inhibition, Vec<&Alert>)| {
        sources.iter().any(|it| stands_over(it, alert, rule))
    };
    let rule = inhibitors.iter().find(inhibits).map(|(rule, _)| *rule);
    let by = alert.decision.inhibited_by().filter(|it| it.until.is_none());
    let is_right = by.map(|it| &it.rule) == rule.map(|it| &it.rule);
    ensure(is_right, || format!("{rule:?} should inhibit {alert:?}"))?;
    let (Some(by), Some(rule)) = (by, rule) else { return Ok(()) };
    let source = by.source.and_then(|it| state.alerts.get(&it));
    let is_source =
        source.is_some_and(|it| it.state == AlertState::Firing && stands_over(it, alert, rule));
    ensure(is_source, || format!("{source:?} does not inhibit {alert:?}"))
}

/// Alertmanager's rule, said once more.
fn stands_over(source: &Alert, target: &Alert, rule: &Inhibition) -> bool {
    let is_source = |it: &Alert| rule.source_matchers.matches(&it.labels);
    let is_target = |it: &Alert| rule.target_matchers.matches(&it.labels);
    let is_two_sided = |it: &Alert| is_source(it) && is_target(it);
    is_source(source)
        && is_target(target)
        && !(is_two_sided(source) && is_two_sided(target))
        && rule.equal.iter().all(|(theirs, ours)| {
            source.labels.get(theirs).unwrap_or_default()
                == target.labels.get(ours).unwrap_or_default()
        })
}

/// A heartbeat is down if and only if its alert fires, and each that is declared is there.
fn check_heartbeats(state: &State) -> Verdict {
    let declared = &state.rules.heartbeats;
    let is_there = |name: &str| declared.iter().any(|it| it.rule.name == name);
    let count = (state.heartbeats.len(), declared.len());
    ensure(count.0 == count.1, || format!("{} heartbeats of {} are there", count.0, count.1))?;
    for (name, heartbeat) in &state.heartbeats {
        ensure(is_there(name), || format!("{name} is not declared"))?;
        let is_down = heartbeat.failure.is_some();
        ensure(is_down == heartbeat.alert.is_some(), || format!("no alert: {heartbeat:?}"))?;
        let alert = heartbeat.alert.as_ref().and_then(|it| state.alerts.get(&it.fingerprint()));
        let fires = alert.is_some_and(|it| it.state == AlertState::Firing);
        ensure(is_down == fires, || format!("{heartbeat:?}: {alert:?}"))?;
    }
    Ok(())
}

fn check_alert_of_heartbeat(state: &State, alert: &Alert) -> Verdict {
    let Some(name) = alert.labels.get("heartbeat") else { return Ok(()) };
    let told = state.heartbeats.get(name).and_then(|it| it.alert.as_ref());
    ensure(told == Some(&alert.labels), || format!("an alert of {name} stays: {alert:?}"))
}
