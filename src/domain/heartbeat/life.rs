//! The life of a heartbeat: pings come or do not, it goes down and up, it is declared and gone.

use super::{Failure, Heartbeat, HeartbeatPing, HeartbeatRule, SOURCE, Signal};
use crate::domain::event::{AlertBatch, Ends, ReceivedAlert};
use crate::domain::label::Labels;
use crate::domain::rules::RuleSet;
use crate::domain::timer::TimerKey;
use crate::domain::{Accepted, Closed, Count, ObjectKey, Refusal, Reply, State, later};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// While something is late or under way, a turn is made at each so many seconds: only turns tell
/// after a restart until when we listened.
const LISTEN_SECONDS: i64 = 60;
/// Of a source that speaks more often than this only each so much counts, in milliseconds.
const FED_MILLISECONDS_MIN: i64 = 1000;

impl State {
    /// The rule of a heartbeat.
    fn heartbeat_rule(&self, name: &str) -> Option<HeartbeatRule> {
        self.rules.heartbeats.iter().find(|it| it.rule.name == name).cloned()
    }

    /// Takes in a sign of life.
    pub(in crate::domain) fn heartbeat_pinged(&mut self, now: Timestamp, ping: &HeartbeatPing) {
        let Some(rule) = self.heartbeat_rule(&ping.heartbeat) else { return };
        let Some(heartbeat) = self.heartbeats.get_mut(ping.heartbeat.as_str()) else { return };
        self.turn.counts.push(Count::HeartbeatPinged(ping.signal));
        heartbeat.pings += 1;
        if !ping.output.is_empty() || matches!(ping.signal, Signal::Success | Signal::Fail(_)) {
            heartbeat.last_output.clone_from(&ping.output);
        }
        if ping.signal != Signal::Log && std::mem::take(&mut heartbeat.is_paused) {
            heartbeat.remember(now, "resumed", "it was heard from".to_owned());
        }
        match ping.signal {
            Signal::Log => {}
            Signal::Start => heartbeat.begin_run(now, ping.run.as_ref()),
            Signal::Success => {
                heartbeat.end_run(now, ping.run.as_ref());
                self.heartbeat_came(now, &rule);
            }
            Signal::Fail(code) => {
                heartbeat.end_run(now, ping.run.as_ref());
                heartbeat.last_ping_at = Some(now);
                heartbeat.expected_at = rule.rhythm.next_after(now);
                self.heartbeat_fails(now, &rule, Failure::Failed(code));
            }
        }
        self.touch_heartbeat(now, &rule.rule.name);
    }

    /// A good ping, or whatever feeds it: it is up.
    fn heartbeat_came(&mut self, now: Timestamp, rule: &HeartbeatRule) {
        let Some(heartbeat) = self.heartbeats.get_mut(rule.rule.name.as_str()) else { return };
        let is_first = heartbeat.last_ping_at.is_none();
        heartbeat.last_ping_at = Some(now);
        heartbeat.expected_at = rule.rhythm.next_after(now);
        if heartbeat.failure.take().is_some() || is_first {
            heartbeat.remember(now, "up", "it was heard from".to_owned());
        }
        self.end_heartbeat_alert(now, &rule.rule.name);
    }

    /// It is down, or was already and tells of another failure.
    fn heartbeat_fails(&mut self, now: Timestamp, rule: &HeartbeatRule, failure: Failure) {
        let Some(heartbeat) = self.heartbeats.get_mut(rule.rule.name.as_str()) else { return };
        let is_new = heartbeat.failure.replace(failure).is_none();
        let why = why(heartbeat, rule, failure);
        if is_new {
            heartbeat.remember(now, "down", why.clone());
        }
        heartbeat.alert = Some(rule.labels.clone());
        let annotations = annotations(heartbeat, rule, failure, &why);
        self.tell_of_heartbeat(now, rule.labels.clone(), annotations, Ends::WhenTold);
    }

    fn end_heartbeat_alert(&mut self, now: Timestamp, name: &str) {
        let labels = self.heartbeats.get_mut(name).and_then(|it| it.alert.take());
        if let Some(labels) = labels {
            let known = self.alerts.get(&labels.fingerprint());
            let annotations = known.map(|it| it.annotations.clone()).unwrap_or_default();
            self.tell_of_heartbeat(now, labels, annotations, Ends::At(now));
        }
    }

    /// A heartbeat's alert goes the way of all alerts.
    fn tell_of_heartbeat(
        &mut self,
        now: Timestamp,
        labels: Labels,
        annotations: Labels,
        ends: Ends,
    ) {
        let alert = ReceivedAlert {
            labels,
            annotations,
            starts_at: None,
            ends,
            generator_url: "".into(),
            identity: None,
        };
        let batch = AlertBatch { source: SOURCE.into(), alerts: vec![alert], rejected: Vec::new() };
        self.receive_batch(now, &batch);
    }

    fn touch_heartbeat(&mut self, now: Timestamp, name: &str) {
        self.touch(now, ObjectKey::Heartbeat(name.into()));
    }

    /// Feeds the heartbeats that live on alerts or on a source.
    pub(in crate::domain) fn feed_heartbeats(&mut self, now: Timestamp, batch: &AlertBatch) {
        if self.rules.heartbeats.iter().all(|it| it.feed.is_none()) {
            return;
        }
        let rules = self.rules.clone();
        for rule in &rules.heartbeats {
            let Some(feed) = &rule.feed else { continue };
            let is_fed = feed.takes_any(&batch.source)
                || (batch.alerts.iter())
                    .any(|it| it.fires_at(now) && feed.takes(&batch.source, &it.labels));
            let known = self.heartbeats.get(rule.rule.name.as_str());
            let is_enough = known.is_none_or(|it| {
                it.is_paused
                    || it.failure.is_none() && it.last_ping_at.is_some_and(|at| is_just(at, now))
            });
            if !is_fed || is_enough {
                continue;
            }
            if let Some(heartbeat) = self.heartbeats.get_mut(rule.rule.name.as_str()) {
                heartbeat.pings += 1;
            }
            self.heartbeat_came(now, rule);
            self.touch_heartbeat(now, &rule.rule.name);
        }
    }

    /// The heartbeats that an alert feeds and that keep it from opening an incident, by the names
    /// under which they stand among what silences it.
    pub(in crate::domain) fn heartbeats_fed_by(&self, labels: &Labels) -> Vec<Arc<str>> {
        (self.rules.heartbeats.iter())
            .filter(|it| it.feed.as_ref().is_some_and(|feed| feed.holds(labels)))
            .map(|it| silencer(&it.rule.name))
            .collect()
    }

    /// A heartbeat's time has come.
    pub(in crate::domain) fn heartbeat_due(&mut self, now: Timestamp, name: &str) {
        let Some(rule) = self.heartbeat_rule(name) else { return };
        let Some(heartbeat) = self.heartbeats.get_mut(name) else { return };
        let Some((at, failure)) = heartbeat.down_at(rule.grace_seconds) else { return };
        if self.memory.hold_until.map_or(at, |hold| at.max(hold)) > now {
            return;
        }
        let grace = i64::from(rule.grace_seconds);
        for run in &mut heartbeat.runs {
            run.is_overdue |= later(run.started_at, grace) <= now;
        }
        self.heartbeat_fails(now, &rule, failure);
        self.touch_heartbeat(now, name);
    }

    /// When it must be looked at again.
    pub(in crate::domain) fn heartbeat_wants(
        &self,
        now: Timestamp,
        name: &str,
    ) -> Option<Timestamp> {
        let rule = self.rules.heartbeats.iter().find(|it| it.rule.name == name)?;
        let heartbeat = self.heartbeats.get(name)?;
        let (down_at, _) = heartbeat.down_at(rule.grace_seconds)?;
        let down_at = self.memory.hold_until.map_or(down_at, |hold| down_at.max(hold));
        let listens = match heartbeat.expected_at {
            Some(at) if at > now && !heartbeat.is_running() => at,
            // By the clock, so that a restart changes nothing about it.
            Some(_) | None => {
                later(now, LISTEN_SECONDS - now.as_second().rem_euclid(LISTEN_SECONDS))
            }
        };
        Some(down_at.min(listens))
    }

    /// We heard nothing from `since` until now: whatever could have come in that time is not
    /// missed, but expected anew. Ends of runs may have been among it.
    pub(in crate::domain) fn excuse_heartbeats(&mut self, now: Timestamp, since: Timestamp) {
        let rules = self.rules.clone();
        for rule in &rules.heartbeats {
            let Some(heartbeat) = self.heartbeats.get_mut(rule.rule.name.as_str()) else {
                continue;
            };
            if heartbeat.is_paused || heartbeat.failure.is_some() {
                continue;
            }
            heartbeat.runs.clear();
            let grace = i64::from(rule.grace_seconds);
            // What comes by the period may come a little early.
            let early = if matches!(rule.rhythm, super::Rhythm::Every(_)) { grace } else { 0 };
            let could_come = |it: Timestamp| later(it, -early) <= now && later(it, grace) >= since;
            if heartbeat.expected_at.is_some_and(could_come) {
                heartbeat.expected_at = rule.rhythm.next_after(now);
                let why = format!("nobody listened from {since:.0} to {now:.0}");
                heartbeat.remember(now, "excused", why);
            }
            self.touch_heartbeat(now, &rule.rule.name);
        }
    }

    /// Makes the heartbeats that files declare the ones that are there.
    pub(in crate::domain) fn load_heartbeats(&mut self, now: Timestamp, before: &RuleSet) {
        let rules = self.rules.clone();
        let declared: BTreeSet<&str> =
            rules.heartbeats.iter().map(|it| it.rule.name.as_str()).collect();
        let gone: Vec<Arc<str>> =
            self.heartbeats.keys().filter(|it| !declared.contains(&***it)).cloned().collect();
        for name in gone {
            self.end_heartbeat_alert(now, &name);
            if let Some(heartbeat) = self.heartbeats.remove(&name) {
                self.changes.closed.push(Closed::Heartbeat(Box::new(heartbeat)));
            }
            self.touch(now, ObjectKey::Heartbeat(name));
        }
        for rule in &rules.heartbeats {
            let name = rule.rule.name.as_str();
            let old = before.heartbeats.iter().find(|it| it.rule.name == name);
            let is_known = self.heartbeats.contains_key(name);
            if is_known && old == Some(rule) {
                continue;
            }
            let heartbeat =
                self.heartbeats.entry(name.into()).or_insert_with(|| Heartbeat::new(name, now));
            if let (Some(last), true) = (heartbeat.last_ping_at, old != Some(rule)) {
                // Nothing is missed only because it is expected more often now.
                let next = rule.rhythm.next_after(last).filter(|it| *it > now);
                heartbeat.expected_at = next.or_else(|| rule.rhythm.next_after(now));
            }
            let is_renamed = heartbeat.alert.as_ref().is_some_and(|it| *it != rule.labels);
            if let (Some(failure), true) = (heartbeat.failure, is_renamed) {
                self.end_heartbeat_alert(now, name);
                self.heartbeat_fails(now, rule, failure);
            }
            self.touch_heartbeat(now, name);
        }
        self.let_fed_alerts_go(now, before);
    }

    /// Alerts that a feed held back and holds back no longer go on their way, and the other way
    /// round.
    fn let_fed_alerts_go(&mut self, now: Timestamp, before: &RuleSet) {
        let after = self.rules.clone();
        let holding = |rules: &RuleSet| -> Vec<(String, super::Feed)> {
            let fed = rules
                .heartbeats
                .iter()
                .filter_map(|it| it.feed.clone().map(|feed| (it.rule.name.clone(), feed)));
            fed.filter(|(_, feed)| !feed.open_incidents).collect()
        };
        let (before, after) = (holding(before), holding(&after));
        let gone = before.iter().filter(|it| !after.contains(it));
        let concerned: BTreeSet<Arc<str>> = gone.map(|(name, _)| silencer(name)).collect();
        if !concerned.is_empty() {
            self.look_at_silenced_again(now, &concerned);
        }
    }

    /// Nobody waits for it until it is resumed, or heard from again.
    pub(in crate::domain) fn pause_heartbeat(
        &mut self,
        now: Timestamp,
        by: &str,
        name: &str,
    ) -> Reply {
        let heartbeat = self.heartbeats.get_mut(name).ok_or_else(|| no_heartbeat(name))?;
        if std::mem::replace(&mut heartbeat.is_paused, true) {
            return Err(Refusal::WrongState(format!("heartbeat `{name}` is paused already")));
        }
        heartbeat.remember(now, "paused", format!("by {by}"));
        heartbeat.failure = None;
        heartbeat.runs.clear();
        self.end_heartbeat_alert(now, name);
        let key = ObjectKey::Heartbeat(name.into());
        self.touch(now, key.clone());
        Ok(Accepted::Object(key))
    }

    /// It is waited for again, from now on.
    pub(in crate::domain) fn resume_heartbeat(
        &mut self,
        now: Timestamp,
        by: &str,
        name: &str,
    ) -> Reply {
        let rule = self.heartbeat_rule(name);
        let heartbeat = self.heartbeats.get_mut(name).ok_or_else(|| no_heartbeat(name))?;
        if !std::mem::replace(&mut heartbeat.is_paused, false) {
            return Err(Refusal::WrongState(format!("heartbeat `{name}` is not paused")));
        }
        heartbeat.remember(now, "resumed", format!("by {by}"));
        if heartbeat.last_ping_at.is_some() {
            heartbeat.expected_at = rule.and_then(|it| it.rhythm.next_after(now));
        }
        let key = ObjectKey::Heartbeat(name.into());
        self.touch(now, key.clone());
        Ok(Accepted::Object(key))
    }

    /// The timers of all heartbeats.
    pub(in crate::domain) fn heartbeat_timers(&self) -> impl Iterator<Item = TimerKey> {
        self.heartbeats.keys().map(|it| TimerKey::Heartbeat(it.clone()))
    }
}

fn is_just(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) < SignedDuration::from_millis(FED_MILLISECONDS_MIN)
}

/// What stands for a heartbeat among the silences of an alert that feeds it.
fn silencer(name: &str) -> Arc<str> {
    format!("heartbeat/{name}").into()
}

fn no_heartbeat(name: &str) -> Refusal {
    Refusal::NotFound(format!("there is no heartbeat `{name}`"))
}

/// Why it is down, in a sentence.
fn why(heartbeat: &Heartbeat, rule: &HeartbeatRule, failure: Failure) -> String {
    let name = &heartbeat.name;
    match failure {
        Failure::Failed(None) => format!("{name} told of a failure"),
        Failure::Failed(Some(code)) => format!("{name} ended with exit code {code}"),
        Failure::TookTooLong => {
            format!("{name} began and did not end within {} s", rule.grace_seconds)
        }
        Failure::Missed => match (heartbeat.expected_at, heartbeat.last_ping_at) {
            (Some(expected), Some(last)) => format!(
                "{name} was expected at {expected:.0} and {} s of grace are over; it was last \
                 heard from at {last:.0}",
                rule.grace_seconds
            ),
            _ => format!("{name} was not heard from"),
        },
    }
}

/// The texts of a heartbeat's alert: those of its rule, and what happened.
fn annotations(heartbeat: &Heartbeat, rule: &HeartbeatRule, failure: Failure, why: &str) -> Labels {
    let mut pairs = vec![("summary", why.to_owned())];
    pairs.extend(rule.annotations.iter().map(|(name, text)| (name, text.to_owned())));
    pairs.push(("reason", failure.as_str().to_owned()));
    pairs.push(("why", why.to_owned()));
    if let Failure::Failed(Some(code)) = failure {
        pairs.push(("exit_code", code.to_string()));
    }
    if let Some(at) = heartbeat.last_ping_at {
        pairs.push(("last_ping_at", format!("{at:.0}")));
    }
    if let Some(milliseconds) = heartbeat.last_duration_milliseconds {
        pairs.push(("duration_seconds", (milliseconds / 1000).to_string()));
    }
    if matches!(failure, Failure::Failed(_)) {
        pairs.push(("output", heartbeat.last_output.clone()));
    }
    Labels::from_pairs(pairs)
}
