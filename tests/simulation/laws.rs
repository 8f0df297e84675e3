//! What must hold whenever everything that was decided is on the disk.

use super::disk::Contents;
use super::outside::Outside;
use super::triggers;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper::domain::State;
use watchkeeper::domain::alert::{Alert, AlertState, Disposition, Grouping};
use watchkeeper::domain::effect::{Effect, EffectKey};
use watchkeeper::domain::execution::{Execution, ExecutionId, ExecutionState, Part, StepState};
use watchkeeper::domain::incident::{IncidentId, IncidentState};
use watchkeeper::domain::notification::NotificationId;
use watchkeeper::store::Kind;

/// What is right, or what is not.
pub(crate) type Verdict = Result<(), String>;

/// Says what is wrong, unless it is right.
pub(crate) fn ensure(is_right: bool, what: impl FnOnce() -> String) -> Verdict {
    if is_right { Ok(()) } else { Err(what()) }
}

/// Checks a state that the disk holds, too.
pub(crate) fn check(state: &State, disk: &Contents) -> Verdict {
    check_counts(state, disk)?;
    check_incidents(state)?;
    for alert in state.alerts.values() {
        check_alert(state, alert)?;
    }
    let mut steps: BTreeMap<ExecutionId, u32> = BTreeMap::new();
    for planned in disk.effects() {
        if let Effect::RunStep { execution, .. } = &planned.effect {
            *steps.entry(*execution).or_default() += 1;
        }
    }
    let mut locks = BTreeSet::new();
    let begun = Begun::of(state);
    for execution in state.executions.values() {
        let under_way = steps.get(&execution.id).copied().unwrap_or(0);
        check_execution(state, execution, under_way)?;
        begun.check_guards(execution)?;
        let is_alone = !holds_lock(execution) || locks.insert(&execution.lock);
        ensure(is_alone, || format!("the lock of {} is taken twice", execution.id))?;
    }
    for notification in state.notifications.values() {
        let key = EffectKey(format!("{}/{}", notification.id, notification.attempts).into());
        let is_sent = disk.planned(&key).is_some();
        let waits = notification.retry_at.is_some();
        ensure(is_sent != waits, || format!("{} hangs", notification.id))?;
    }
    triggers::check(state)
}

/// What is open on the disk is open in memory, and nothing else is.
fn check_counts(state: &State, disk: &Contents) -> Verdict {
    for (kind, count) in [
        (Kind::AlertPage, state.pages.len()),
        (Kind::Incident, state.incidents.len()),
        (Kind::Execution, state.executions.len()),
        (Kind::Problem, state.problems.len()),
        (Kind::Silence, state.silences.len()),
        (Kind::Notification, state.notifications.len()),
        (Kind::Heartbeat, state.heartbeats.len()),
        (Kind::Change, state.change_log.open.len()),
        (Kind::Article, state.articles.len()),
        (Kind::Feedback, state.feedback.len()),
        (Kind::Freeze, state.freezes.len()),
        (Kind::Noise, state.noise.keys().len()),
        (Kind::Experience, state.experiences.len()),
        (Kind::LearnedPlace, state.learned.keys().count()),
        (Kind::Habit, state.habits.all().count()),
    ] {
        let stored = disk.open_count(kind);
        ensure(stored == count, || format!("{stored} of {kind:?} are open, not {count}"))?;
    }
    Ok(())
}

fn check_incidents(state: &State) -> Verdict {
    let fires = |it: &&_| state.alerts.get(it).is_some_and(|it| it.counts_as_firing());
    let known = state.members.keys().all(|it| state.incidents.contains_key(it));
    ensure(known, || "members of an incident that is not there".to_owned())?;
    for (id, incident) in &state.incidents {
        let members = state.members.get(id).ok_or_else(|| format!("{id} has no members"))?;
        let firing = members.iter().filter(fires).count() as u64;
        let counted = (incident.firing_count, incident.alert_count);
        let right = (firing, members.len() as u64);
        ensure(counted == right, || format!("{id} counts {counted:?} members, not {right:?}"))?;
        let is_resolved = incident.state == IncidentState::Resolved;
        ensure(is_resolved == incident.resolved_at.is_some(), || format!("{id}: {incident:?}"))?;
    }
    Ok(())
}

fn check_alert(state: &State, alert: &Alert) -> Verdict {
    let id = alert.fingerprint;
    let is_on_page = state.pages.get(&alert.page).is_some_and(|it| it.contains(&id));
    ensure(is_on_page, || format!("{id} is on no page"))?;
    let members = alert.incident.and_then(|it| state.members.get(&it));
    ensure(members.is_none_or(|it| it.contains(&id)), || format!("{id} is no member"))?;
    if alert.state != AlertState::Firing {
        return Ok(());
    }
    let is_told = alert.reports.iter().any(|it| it.firing);
    ensure(is_told, || format!("{id}: nobody says that it fires"))?;
    if alert.decision.is_held() {
        return Ok(());
    }
    let incident = alert.incident.and_then(|it| state.incidents.get(&it));
    let incident = incident.ok_or_else(|| format!("{alert:?} is nowhere"))?;
    let began = alert.decision.at;
    let is_seen = incident.state.is_active() || incident.resolved_at.is_some_and(|it| it >= began);
    ensure(is_seen, || format!("nobody knows of {alert:?}: {incident:?}"))?;
    check_not_silenced(state, alert)
}

/// An alert that went into an incident was not held back by a silence at that time.
fn check_not_silenced(state: &State, alert: &Alert) -> Verdict {
    let decision = &alert.decision;
    let went_in = matches!(
        decision.disposition,
        Disposition::Opened | Disposition::Joined | Disposition::Reopened
    );
    let by_hand = matches!(decision.grouping, Some(Grouping::Moved { .. }));
    if !went_in || by_hand {
        return Ok(());
    }
    let silence = state.silences.values().find(|it| {
        it.updated_at < decision.at
            && it.starts_at <= decision.at
            && decision.at < it.ends_at
            && it.matchers.matches(&alert.labels)
    });
    ensure(silence.is_none(), || format!("{silence:?} did not hold {alert:?} back"))
}

/// What the domain says about locks, said once more.
fn holds_lock(execution: &Execution) -> bool {
    let by_state = [
        ExecutionState::Running,
        ExecutionState::Verifying,
        ExecutionState::Unknown,
        ExecutionState::Stuck,
    ];
    let by_step = |it: &watchkeeper::domain::execution::StepRun| {
        it.state == StepState::Running && it.effect.is_some() && it.retry_at.is_none()
    };
    by_state.contains(&execution.state) || execution.steps.iter().any(by_step)
}

fn check_execution(state: &State, execution: &Execution, under_way: u32) -> Verdict {
    let id = execution.id;
    ensure(under_way <= 1, || format!("{id} does two steps at once"))?;
    let waits_for_step = execution.is_under_way();
    ensure((under_way == 1) == waits_for_step, || format!("{id} hangs: {execution:?}"))?;
    if execution.state == ExecutionState::Running {
        let waits = execution.steps.iter().any(|it| it.retry_at.is_some());
        ensure(waits != (under_way == 1), || format!("{id} hangs: {execution:?}"))?;
    }
    let of = |part: Part| execution.steps.iter().filter(move |it| it.part == part);
    // What may fail, or be left out, is passed over; nothing else is begun before the one before it.
    let steps = of(Part::Step).skip_while(|it| it.state != StepState::Pending);
    let in_order = steps.clone().all(|it| it.state == StepState::Pending);
    ensure(in_order, || format!("{id} does a step too early: {execution:?}"))?;
    let turned = execution.ending.is_some() || execution.state.is_final();
    let turned = turned || execution.state == ExecutionState::Stuck;
    let undoes = of(Part::Undo).chain(of(Part::Always)).any(|it| it.started_at.is_some());
    ensure(turned || !undoes, || format!("{id} turns early: {execution:?}"))?;
    let undone = of(Part::Undo).map(|it| it.id.as_str());
    let done = of(Part::Step).rev().filter(|it| it.state == StepState::Succeeded);
    let mut done = done.map(|it| it.id.as_str());
    let in_reverse = undone.clone().all(|it| done.any(|step| step == it));
    ensure(in_reverse, || format!("{id} undoes out of order: {execution:?}"))?;
    let is_stuck = of(Part::Undo).any(|it| it.state == StepState::Failed);
    let is_told =
        execution.state != ExecutionState::Succeeded && execution.state != ExecutionState::Undone;
    ensure(!is_stuck || is_told, || format!("{id} is stuck and says nothing: {execution:?}"))?;
    let incident = execution.incident.and_then(|it: IncidentId| state.incidents.get(&it));
    if let Some(incident) = incident.filter(|_| !execution.state.is_final()) {
        let is_over = incident.firing_count == 0;
        ensure(execution.alerts_resolved == is_over, || format!("{id} looks at other alerts"))?;
    }
    Ok(())
}

/// When the runs of each runbook began, with their locks.
struct Begun<'a>(BTreeMap<&'a str, Vec<(Timestamp, &'a str)>>);

impl<'a> Begun<'a> {
    fn of(state: &'a State) -> Self {
        let mut begun: BTreeMap<&str, Vec<(Timestamp, &str)>> = BTreeMap::new();
        for run in state.executions.values() {
            if let Some(at) = run.started_at {
                let runs = begun.entry(&run.runbook.rule.name).or_default();
                runs.push((at, &run.lock));
            }
        }
        Self(begun)
    }

    /// No run began while the guards held it back.
    fn check_guards(&self, execution: &Execution) -> Verdict {
        let Some(began) = execution.started_at else { return Ok(()) };
        let guards = &execution.runbook.guards;
        let runs = self.0.get(execution.runbook.rule.name.as_str()).into_iter().flatten();
        let before = |seconds: u32| {
            let from = began - SignedDuration::from_secs(seconds.into());
            runs.clone().filter(move |(at, _)| from < *at && *at < began)
        };
        let count = before(guards.runs_per_seconds).count();
        let is_allowed = count < guards.runs_max as usize;
        ensure(is_allowed, || format!("{} is one run too many", execution.id))?;
        let cooled = before(guards.cooldown_seconds).all(|(_, lock)| *lock != execution.lock);
        ensure(cooled, || format!("{} began within the cooldown", execution.id))
    }
}

/// Keeps an eye on every notification from its making to its end.
#[derive(Default)]
pub(crate) struct Outbox {
    open: BTreeSet<NotificationId>,
    last: u64,
}

impl Outbox {
    /// Every notification is being delivered, or was, or was given up.
    pub(crate) fn check(&mut self, state: &State, disk: &Contents, outside: &Outside) -> Verdict {
        let new = (self.last + 1..=state.memory.notification).map(NotificationId);
        self.last = state.memory.notification;
        self.open.extend(new);
        let gone: Vec<NotificationId> =
            self.open.iter().filter(|it| !state.notifications.contains_key(it)).copied().collect();
        for id in gone {
            self.open.remove(&id);
            let id = id.to_string();
            let object = disk.closed(Kind::Notification, &id);
            let object = object.ok_or_else(|| format!("{id} is neither open nor closed"))?;
            let body = String::from_utf8_lossy(&object.body);
            let is_delivered = body.contains("\"state\":\"delivered\"");
            ensure(!is_delivered || outside.has(&id), || format!("nobody received {id}"))?;
        }
        Ok(())
    }
}

/// Nothing waits for a time that is past.
pub(crate) fn check_timers(state: &State, as_of: Timestamp) -> Verdict {
    let next = state.next_wakeup();
    ensure(next.is_none_or(|it| it > as_of), || format!("it is {as_of}, and {next:?} is due"))
}
