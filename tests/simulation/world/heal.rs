//! The end of a history: everything is healed, and then all must come right.

use super::super::{laws, rules};
use super::{Happening, Waiting, World};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use watchkeeper::domain::State;
use watchkeeper::domain::alert::AlertState;
use watchkeeper::domain::effect::EffectKey;
use watchkeeper::domain::event::{Command, Event};
use watchkeeper::domain::execution::ExecutionState;
use watchkeeper::domain::label::Fingerprint;
use watchkeeper::engine::replay;
use watchkeeper::store::Store;

/// Within this long after everything is healed the watch knows what is so, in milliseconds: a
/// sender's word runs out after 4 minutes, or after 90 s of grace.
const KNOWN_AFTER: u64 = 6 * 60_000;
/// What we tell ourselves.
const OURS: [&str; 2] = ["watchkeeper", "heartbeat"];
/// Within this long after everything is over all has come to its end, in milliseconds.
const OVER_AFTER: u64 = 8 * 60_000;

impl World {
    /// Heals everything, and checks that all comes right.
    pub(super) fn converge(&mut self) -> laws::Verdict {
        self.tell("healed", 0, String::new);
        self.lots.heal();
        {
            let mut disk = self.disk.lock();
            disk.lots.heal();
            disk.mood = super::Mood::Good;
        }
        self.outside.down_until = 0;
        self.senders.iter_mut().for_each(super::Sender::calm);
        self.schedule(0, Happening::Start);
        self.go_on(self.now() + 10_000)?;
        self.load_rules();
        self.go_on(self.now() + KNOWN_AFTER)?;
        self.check_truth()?;
        self.want_no_heartbeats();
        self.put_in_order();
        self.go_on(self.now() + OVER_AFTER)?;
        // A detection may have begun in the last moment, and have told somebody.
        if self.disk.lock().effects().next().is_some() {
            self.go_on(self.now() + 10_000)?;
        }
        self.check_over()?;
        self.check_replay()
    }

    /// What fires is what the senders say, and the rules are those of the files.
    fn check_truth(&mut self) -> laws::Verdict {
        let watch = self.watch.as_ref().ok_or("the watch does not start")?;
        let health = watch.health();
        laws::ensure(health.not_ready.is_none(), || format!("not ready: {:?}", health.not_ready))?;
        let true_now = self.senders.iter().flat_map(|it| it.firing().map(|(it, _)| it));
        let true_now: BTreeSet<Fingerprint> = true_now.collect();
        watch.peek(|state| {
            let firing = state.alerts.values().filter(|it| it.state == AlertState::Firing);
            let known = firing.filter(|it| it.sources().any(|it| !OURS.contains(&it)));
            let wrong = known.clone().find(|it| !true_now.contains(&it.fingerprint));
            laws::ensure(wrong.is_none(), || format!("this does not fire: {wrong:?}"))?;
            let known: BTreeSet<Fingerprint> = known.map(|it| it.fingerprint).collect();
            let unknown = true_now.difference(&known).next();
            laws::ensure(unknown.is_none(), || format!("nobody knows that it fires: {unknown:?}"))
        })?;
        let wanted = rules::variant(self.variant);
        let in_force = watch.peek(|state| state.rules == wanted);
        laws::ensure(in_force, || "the rules of the files are not in force".to_owned())
    }

    /// Heartbeats that nobody feeds any more would be down for ever.
    fn want_no_heartbeats(&mut self) {
        let Some(watch) = &self.watch else { return };
        let rules = rules::without_heartbeats(self.variant);
        if let Ok(answer) = watch.submit(vec![Event::RulesLoaded(rules)]) {
            self.waiting.push(Waiting::Fact(answer));
        }
    }

    /// People tidy up, and everything ends.
    fn put_in_order(&mut self) {
        let (now, wall) = (self.now(), self.time.wall());
        self.senders.iter_mut().for_each(|it| it.end_all(now, wall));
        let Some(watch) = &self.watch else { return };
        let reason = String::new;
        let orders: Vec<Command> = watch.peek(|state| {
            let idle = state.incidents.values();
            let idle = idle.filter(|it| it.state.is_active() && it.firing_count == 0);
            let unknown = state.executions.values();
            let unknown = unknown
                .filter(|it| matches!(it.state, ExecutionState::Unknown | ExecutionState::Stuck));
            let resolve =
                idle.map(|it| Command::ResolveIncident { incident: it.id, reason: reason() });
            let abort =
                unknown.map(|it| Command::AbortExecution { execution: it.id, reason: reason() });
            resolve.chain(abort).collect()
        });
        for order in orders {
            self.order(order);
        }
    }

    /// Nothing is under way, and nobody waits.
    fn check_over(&mut self) -> laws::Verdict {
        let watch = self.watch.as_mut().ok_or("the watch does not start")?;
        let now = watch.now();
        let pending: Vec<EffectKey> = self.disk.lock().effects().map(|it| it.key.clone()).collect();
        laws::ensure(pending.is_empty(), || format!("these have no result: {pending:?}"))?;
        laws::ensure(self.waiting.is_empty(), || "somebody got no answer".to_owned())?;
        watch.peek(|state| {
            // At this very moment nobody has gone round yet.
            laws::check_timers(state, now - SignedDuration::from_millis(1))?;
            laws::ensure(state.notifications.is_empty(), || {
                format!("not delivered: {:?}", state.notifications)
            })?;
            nothing_goes_on(state)
        })
    }

    /// The history, applied again from nothing, gives what the disk holds.
    fn check_replay(&self) -> laws::Verdict {
        let objects = replay::run(&self.disk).map_err(|error| error.to_string())?;
        for object in &objects {
            let stored = self.disk.get(object.kind, &object.id).map_err(|it| it.to_string())?;
            laws::ensure(stored.as_ref() == Some(object), || {
                let body = String::from_utf8_lossy(&object.body);
                let stored = stored.map(|it| String::from_utf8_lossy(&it.body).into_owned());
                format!("replay gives {:?} {} as {body}, not {stored:?}", object.kind, object.id)
            })?;
        }
        let count = self.disk.lock().object_count();
        laws::ensure(objects.len() == count, || {
            format!("replay gives {} objects, and {count} are there", objects.len())
        })
    }
}

fn nothing_goes_on(state: &State) -> laws::Verdict {
    for alert in state.alerts.values() {
        laws::ensure(alert.state != AlertState::Firing, || format!("still fires: {alert:?}"))?;
    }
    for incident in state.incidents.values() {
        laws::ensure(!incident.state.is_active(), || format!("still open: {incident:?}"))?;
    }
    for execution in state.executions.values() {
        let goes_on = matches!(
            execution.state,
            ExecutionState::Running
                | ExecutionState::Verifying
                | ExecutionState::Unknown
                | ExecutionState::Stuck
        );
        laws::ensure(!goes_on, || format!("still runs: {execution:?}"))?;
    }
    Ok(())
}
