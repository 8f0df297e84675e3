//! What should be looked at: the daemon's account of its own health, for `watchkeeper doctor`.

use super::Context;
use super::error::ApiError;
use super::listing::{self, Page};
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::heartbeat::HeartbeatState;
use crate::domain::notification::{Notification, NotificationState};
use crate::domain::rules::{Action, Mode, Runbook};
use crate::engine::{Executor, Health};
use crate::store::{Kind, Scope};
use crate::telemetry::PollHealth;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// With less space than this, in bytes, somebody should make room.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// So many of the last notifications are looked at.
const NOTIFICATIONS_MAX: usize = 256;
/// A receiver that took nothing is told of for so long, in seconds.
const DEAD_SECONDS: i64 = 7 * 24 * 3600;
/// So many names are told of a kind.
const NAMED_MAX: usize = 5;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/api/v1/doctor",
        "Lists what was looked at of the daemon's own health, and what is wrong",
        Answer::Page("Check"),
        list,
    )]
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

/// Something that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Examined {
    check: &'static str,
    verdict: Verdict,
    detail: String,
    hint: Option<String>,
}

impl Examined {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Good, detail: detail.into(), hint: None }
    }

    fn bad(check: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { check, verdict: Verdict::Bad, detail: detail.into(), hint }
    }

    fn warning(check: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self { verdict: Verdict::Warning, ..Self::bad(check, detail, hint) }
    }
}

async fn list(State(context): State<Context>) -> Result<Json<Page<Examined>>, ApiError> {
    let health = context.handle.health();
    let mut items = vec![store(&health), space(&health), rules(context.metrics.rules_are_good())];
    let now = Timestamp::now();
    let can_confine = context.handle.can_confine();
    items.extend(context.handle.peek(|state| of_state(state, now)));
    items.push(context.handle.peek(|state| landlock(state, can_confine)));
    items.push(executor(context.handle.executor()).await);
    items.push(polls(&context.metrics.polls()));
    items.push(receivers(now, &last_notifications(&context).await?));
    Ok(Json(Page { items, next_cursor: None }))
}

fn store(health: &Health) -> Examined {
    match &health.not_ready {
        None => Examined::good("store", format!("{} takes facts", health.store.engine)),
        Some(reason) => {
            Examined::bad("store", reason.clone(), "nothing new is taken until this is mended")
        }
    }
}

fn space(health: &Health) -> Examined {
    let (used, free) = (health.store.disk_bytes >> 20, health.store.free_bytes >> 20);
    let detail = format!("{used} MiB used, {free} MiB free");
    if health.store.free_bytes < FREE_BYTES_MIN {
        let hint = "make room, or shorten `store.retention`; with a full disk no alert is taken";
        return Examined::warning("disk space", detail, hint);
    }
    Examined::good("disk space", detail)
}

fn rules(are_good: bool) -> Examined {
    if are_good {
        return Examined::good("rules", "the files are in force as they are");
    }
    let hint = "`watchkeeper check` on the daemon's machine names what is wrong";
    Examined::bad("rules", "the files were not taken; the rules before them are in force", hint)
}

fn of_state(state: &Domain, now: Timestamp) -> Vec<Examined> {
    vec![mode(state), binding(state), heartbeats(state, now), runbooks(state)]
}

fn mode(state: &Domain) -> Examined {
    match state.rules.mode {
        Mode::Act => Examined::good("mode", "act"),
        Mode::Observe => Examined::good("mode", "observe: nobody is told and no runbook runs"),
    }
}

/// Alerts that speak of nothing that is known.
fn binding(state: &Domain) -> Examined {
    let known = state.rules.catalog.len();
    if known == 0 {
        return Examined::good("unbound alerts", "there is no catalog to bind alerts to");
    }
    let count = state.unbound.count();
    if count == 0 {
        return Examined::good("unbound alerts", format!("none; {known} items are known"));
    }
    let mut names: Vec<_> = state.unbound.by_name.iter().collect();
    names.sort_by_key(|(name, it)| (std::cmp::Reverse(it.count), *name));
    let told = names.iter().map(|(name, it)| format!("{name} {} ({})", it.count, it.labels));
    let detail = format!("{count} speak of no item of the catalog: {}", named(told));
    let hint = "name the item in a label, or write the annotation `watchkeeper.dev/matchers`";
    Examined::warning("unbound alerts", detail, hint)
}

/// Sources and jobs that should have been heard from.
fn heartbeats(state: &Domain, now: Timestamp) -> Examined {
    let is_silent = |it: HeartbeatState| matches!(it, HeartbeatState::Down | HeartbeatState::Late);
    let silent = state.heartbeats.values().filter(|it| is_silent(it.state(now)));
    let names: Vec<String> = silent.map(|it| it.name.to_string()).collect();
    if names.is_empty() {
        let detail = format!("none of {} heartbeats", state.heartbeats.len());
        return Examined::good("silent sources", detail);
    }
    let detail = format!("not heard from: {}", named(names.into_iter()));
    Examined::bad(
        "silent sources",
        detail,
        "`watchkeeper heartbeat list --state down,late` tells more",
    )
}

fn runbooks(state: &Domain) -> Examined {
    if let Some(stop) = &state.memory.stopped {
        let detail = format!("stopped by {} at {:.0}: {}", stop.by, stop.at, stop.reason);
        return Examined::warning("runbooks", detail, "`watchkeeper runbook resume-all`");
    }
    let waits =
        |it: &&Execution| matches!(it.state, ExecutionState::Unknown | ExecutionState::Stuck);
    let names: Vec<String> =
        state.executions.values().filter(waits).map(|it| it.id.to_string()).collect();
    if names.is_empty() {
        return Examined::good("runbooks", "none waits for somebody to look what was done");
    }
    let detail =
        format!("whether a step was done, or undone, is not known: {}", named(names.into_iter()));
    Examined::bad("runbooks", detail, "look, then `watchkeeper runbook abort`")
}

/// Whether programs can be bound to paths, where runbooks ask for that.
fn landlock(state: &Domain, can_confine: bool) -> Examined {
    if can_confine {
        return Examined::good("landlock", "this kernel can bind programs to paths");
    }
    let asks = |it: &&Runbook| {
        let steps = it.steps.iter().chain(&it.always);
        let actions = steps.flat_map(|it| {
            let undo = it.undo.as_ref().map(|it| &it.action);
            [Some(&it.action), it.look.as_ref(), undo].into_iter().flatten()
        });
        let looks = it.verify.iter().flat_map(|it| &it.looks);
        actions.chain(looks).filter_map(Action::bounds).any(|it| it.paths.is_some())
    };
    let asking = state.rules.runbooks.iter().filter(asks).map(|it| it.rule.name.clone());
    let names: Vec<String> = asking.collect();
    if names.is_empty() {
        let detail = "this kernel cannot bind programs to paths, and no runbook asks for that";
        return Examined::good("landlock", detail);
    }
    let detail = format!(
        "this kernel cannot bind programs to `paths`, as these runbooks ask: {}",
        named(names.into_iter())
    );
    let hint = "such a step fails unless it says `landlock: best_effort`; Linux 5.13 can";
    Examined::warning("landlock", detail, hint)
}

/// Whether somebody is there to start programs.
async fn executor(executor: Option<Executor>) -> Examined {
    let Some(executor) = executor else {
        return Examined::good("executor", "none: the daemon starts programs itself");
    };
    match executor.greet().await {
        Ok(()) => Examined::good("executor", format!("answers at {}", executor.socket().display())),
        Err(reason) => Examined::bad(
            "executor",
            reason,
            "no step that starts a program begins until it answers",
        ),
    }
}

fn polls(polls: &BTreeMap<String, PollHealth>) -> Examined {
    let failed = polls.iter().filter_map(|(name, it)| Some((name, it.error.as_ref()?)));
    let told: Vec<String> = failed.map(|(name, error)| format!("{name}: {error}")).collect();
    if told.is_empty() {
        return Examined::good("polled servers", format!("{} answer", polls.len()));
    }
    let hint = "what they would tell is not heard; see `prometheus:` in the settings";
    Examined::bad("polled servers", named(told.into_iter()), hint)
}

async fn last_notifications(context: &Context) -> Result<Vec<Notification>, ApiError> {
    let kind = Kind::Notification;
    let last = context.handle.list(kind, Scope::All, None, NOTIFICATIONS_MAX).await;
    last.map_err(|error| ApiError::store(&error))?.iter().map(listing::decode).collect()
}

/// Receivers that took none of the last notifications.
fn receivers(now: Timestamp, last: &[Notification]) -> Examined {
    let mut by_receiver: BTreeMap<&str, (u32, bool, &str)> = BTreeMap::new();
    for it in last {
        let (failed, took, detail) = by_receiver.entry(&it.receiver).or_default();
        match it.state {
            NotificationState::Delivered => *took = true,
            NotificationState::Dead
                if now.as_second() - it.created_at.as_second() < DEAD_SECONDS && !*took =>
            {
                *failed += 1;
                *detail = &it.detail;
            }
            NotificationState::Pending if it.attempts > 1 && !*took => {
                *failed += 1;
                *detail = &it.detail;
            }
            NotificationState::Dead
            | NotificationState::Pending
            | NotificationState::Muted
            | NotificationState::WouldSend => {}
        }
    }
    let dead = by_receiver.iter().filter(|(_, (failed, _, _))| *failed > 0);
    let told: Vec<String> = dead
        .map(|(name, (failed, _, why))| format!("{name} missed the last {failed}: {why}"))
        .collect();
    if told.is_empty() {
        return Examined::good(
            "receivers",
            format!("{} took what was sent last", by_receiver.len()),
        );
    }
    Examined::bad(
        "receivers",
        named(told.into_iter()),
        "nobody is told there; see the receiver's address",
    )
}

/// Some names, and how many more there are.
fn named(names: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = names.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    let told = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{told}; and {more} more") } else { told }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;
    use crate::config;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
    use crate::domain::label::Labels;
    use std::sync::Arc;

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        let text = "
{apiVersion: backstage.io/v1alpha1, kind: Component, metadata: {name: cart}}
---
heartbeats: [{name: backup, every: 1m, grace: 1m}]
";
        let rules = config::rules_from_texts(&[("c.yaml", text)], Mode::Act).value.unwrap();
        let (mut state, now) = (Domain::default(), Timestamp::UNIX_EPOCH);
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        let all_good =
            |state: &Domain| of_state(state, now).iter().all(|it| it.verdict == Verdict::Good);
        assert!(all_good(&state));
        let alert = |name: &str, service: &str| ReceivedAlert {
            labels: Labels::from_pairs([("alertname", name), ("service", service)]),
            annotations: Labels::default(),
            starts_at: Some(now),
            ends: Ends::WhenTold,
            generator_url: "".into(),
            identity: None,
        };
        let alerts = vec![alert("Slow", "cart"), alert("Odd", "nobody")];
        let batch = AlertBatch { source: "x".into(), alerts, rejected: vec![] };
        drop(state.apply(now, &Event::AlertsReceived(batch)));
        state.memory.stopped = Some(samples::stop());
        let checks = of_state(&state, now);
        for check in &checks {
            assert_schema("Check", &serde_json::to_value(check).unwrap());
        }
        let wrong: Vec<_> = checks.iter().filter(|it| it.verdict != Verdict::Good).collect();
        let names: Vec<_> = wrong.iter().map(|it| it.check).collect();
        assert_eq!(names, ["unbound alerts", "runbooks"]);
        assert!(wrong[0].detail.starts_with("1 speak of no item of the catalog: Odd 1 ("));
    }

    #[test]
    fn a_kernel_that_cannot_bind_programs_is_told_where_somebody_asks_for_it() {
        let text = "runbooks: [{name: tidy, steps: [{id: a, command: {argv: [x], paths: {}}}]}]";
        let rules = config::rules_from_texts(&[("r.yaml", text)], Mode::Act).value.unwrap();
        let mut state = Domain::default();
        assert_eq!(landlock(&state, false).verdict, Verdict::Good);
        drop(state.apply(Timestamp::UNIX_EPOCH, &Event::RulesLoaded(Arc::new(rules))));
        let told = landlock(&state, false);
        assert!(told.verdict == Verdict::Warning && told.detail.ends_with("ask: tidy"), "{told:?}");
        assert_eq!(landlock(&state, true).verdict, Verdict::Good);
    }

    #[test]
    fn the_store_the_disk_and_the_files_are_looked_at() {
        let mut health = Health::default();
        assert_eq!(
            (store(&health).verdict, space(&health).verdict),
            (Verdict::Good, Verdict::Warning)
        );
        health.not_ready = Some("the store is full".to_owned());
        health.store.free_bytes = FREE_BYTES_MIN;
        assert_eq!((store(&health).verdict, space(&health).verdict), (Verdict::Bad, Verdict::Good));
        assert_eq!((rules(true).verdict, rules(false).verdict), (Verdict::Good, Verdict::Bad));
        let failed = PollHealth { error: Some("refused".to_owned()), ..PollHealth::default() };
        let servers = BTreeMap::from([("prod".to_owned(), failed)]);
        assert_eq!(polls(&servers).detail, "prod: refused");
        assert_eq!(polls(&BTreeMap::new()).verdict, Verdict::Good);
    }
}
