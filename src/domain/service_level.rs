//! Service levels: what was promised about times, and the clocks that measure it.

use super::incident::{Incident, TimelineEntry};
use super::planted::{self, Bug};
use super::rules::{Occasion, SlaPolicy};
use super::{Count, ObjectKey, State};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is promised to happen in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Somebody says that they look after the incident.
    Acknowledge,
    /// The incident is over.
    Resolve,
}

impl TargetKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
        }
    }
}

/// Where an SLA clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// Time runs.
    Running,
    /// It stopped in time. It runs on if the incident is opened again, unless somebody had
    /// acknowledged it and that is what it waits for.
    Met,
    /// The promise was missed.
    Breached,
}

impl ClockState {
    /// All of them, for metrics.
    pub const ALL: [Self; 3] = [Self::Running, Self::Met, Self::Breached];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Met => "met",
            Self::Breached => "breached",
        }
    }
}

/// The time running for one incident against one promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlaClock {
    /// The policy's name.
    pub policy: Arc<str>,
    /// What is promised.
    pub target: TargetKind,
    /// Where it is.
    pub state: ClockState,
    /// The promised time, in seconds.
    pub limit_seconds: u32,
    /// The time that had run when it last stopped, in milliseconds.
    pub elapsed_milliseconds: i64,
    /// Since when it runs; `None` = it stands still.
    pub running_since: Option<Timestamp>,
    /// The warnings that were given, in percent of the time.
    pub warned_percent: Vec<u8>,
    /// The percents at which to warn, ascending.
    pub warn_at_percent: Vec<u8>,
    /// When the promise is, or was, missed if the clock runs on.
    pub due_at: Option<Timestamp>,
    /// When it stopped in time or was missed.
    pub ended_at: Option<Timestamp>,
}

/// What a clock's time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockEvent {
    /// A warning at this percent of the time.
    Warned(u8),
    /// The promise was missed.
    Breached,
}

impl SlaClock {
    /// Starts a clock.
    fn start(policy: &SlaPolicy, target: TargetKind, limit_seconds: u32, at: Timestamp) -> Self {
        let mut clock = Self {
            policy: policy.rule.name.as_str().into(),
            target,
            state: ClockState::Running,
            limit_seconds,
            elapsed_milliseconds: 0,
            running_since: Some(at),
            warned_percent: Vec::new(),
            warn_at_percent: policy.warn_at_percent.clone(),
            due_at: None,
            ended_at: None,
        };
        clock.due_at = clock.reaches(100);
        clock
    }

    /// When a running clock reaches a percentage of its time.
    fn reaches(&self, percent: u8) -> Option<Timestamp> {
        let since = self.running_since?;
        let goal = i64::from(self.limit_seconds) * 10 * i64::from(percent);
        let left = goal.saturating_sub(self.elapsed_milliseconds);
        Some(since.checked_add(SignedDuration::from_millis(left)).unwrap_or(Timestamp::MAX))
    }

    /// When it wants to be looked at.
    pub(super) fn wants(&self) -> Option<Timestamp> {
        if self.state != ClockState::Running {
            return None;
        }
        let next = self.warn_at_percent.iter().find(|it| !self.warned_percent.contains(it));
        self.reaches(next.copied().unwrap_or(100))
    }

    /// Looks at the time. Gives each warning and the breach once. After a gap only the last
    /// warning is given: the earlier ones tell nothing new.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<ClockEvent> {
        if self.state != ClockState::Running {
            return None;
        }
        if self.reaches(100).is_some_and(|it| it <= now) {
            self.state = ClockState::Breached;
            self.ended_at = self.due_at;
            return Some(ClockEvent::Breached);
        }
        let passed: Vec<u8> = (self.warn_at_percent.iter().copied())
            .filter(|it| !self.warned_percent.contains(it))
            .filter(|it| self.reaches(*it).is_some_and(|at| at <= now))
            .collect();
        self.warned_percent.extend(&passed);
        passed.last().map(|it| ClockEvent::Warned(*it))
    }

    /// What was promised has happened. Late is late: a clock whose time is over is breached,
    /// also when nobody had looked at it yet.
    pub(super) fn meet(&mut self, now: Timestamp) -> Option<ClockEvent> {
        let breach = self.look(now).filter(|it| *it == ClockEvent::Breached);
        if self.state == ClockState::Running {
            self.state = ClockState::Met;
            self.ended_at = Some(now);
        }
        if let Some(since) = self.running_since.take() {
            self.elapsed_milliseconds += milliseconds(since, now);
        }
        breach
    }

    /// The incident was opened again: the clock runs on, if what it waits for has not happened.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if self.running_since.is_none() {
            let paused_at = self.ended_at.filter(|_| planted::is(Bug::SlaRunsWhilePaused));
            self.running_since = Some(paused_at.unwrap_or(now));
            if self.state == ClockState::Met {
                self.state = ClockState::Running;
                self.ended_at = None;
                self.due_at = self.reaches(100);
            }
        }
    }

    /// The priority changed, and with it the promised time.
    fn change_limit(&mut self, limit_seconds: u32) {
        if self.state == ClockState::Running && self.limit_seconds != limit_seconds {
            self.limit_seconds = limit_seconds;
            self.due_at = self.reaches(100);
        }
    }

    /// The time that has run until `now`, in milliseconds.
    pub fn elapsed_milliseconds_at(&self, now: Timestamp) -> i64 {
        let running = self.running_since.map_or(0, |it| milliseconds(it, now));
        self.elapsed_milliseconds.saturating_add(running)
    }
}

/// Milliseconds from one time to another; 0 when the other is earlier.
pub(super) fn milliseconds(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX).max(0)
}

impl State {
    /// Starts the clocks of the first policy that matches, or fits them to a new priority.
    pub(super) fn fit_clocks(&mut self, incident: &mut Incident) {
        let rules = self.rules.clone();
        let policy = match incident.sla.first() {
            Some(clock) => rules.sla_policies.iter().find(|it| *it.rule.name == *clock.policy),
            None => rules.sla_policies.iter().find(|it| it.matchers.matches(&incident.labels)),
        };
        let Some(policy) = policy else { return };
        let Some(targets) = policy.targets.get(&incident.priority.number()) else { return };
        for (target, limit_seconds) in targets {
            if let Some(clock) = incident.sla.iter_mut().find(|it| it.target == *target) {
                clock.change_limit(*limit_seconds);
                continue;
            }
            // A promise that comes with a higher priority may have been kept already, and what
            // does not count for the others does not count for it.
            let kept_at = incident.acknowledged_at.filter(|_| *target == TargetKind::Acknowledge);
            let paused = match kept_at {
                Some(_) => incident.paused_before_acknowledged_milliseconds,
                None => incident.paused_milliseconds,
            };
            let since = incident.opened_at.checked_add(SignedDuration::from_millis(paused));
            let since = since.unwrap_or(Timestamp::MAX);
            let mut clock = SlaClock::start(policy, *target, *limit_seconds, since);
            if let Some(at) = kept_at {
                clock.meet(at);
            }
            incident.sla.push(clock);
        }
    }

    /// Looks at an incident's clocks.
    pub(super) fn look_at_clocks(&mut self, now: Timestamp, incident: &mut Incident) {
        let mut events = Vec::new();
        for clock in &mut incident.sla {
            if let Some(event) = clock.look(now) {
                events.push((clock.clone(), event));
            }
        }
        for (clock, event) in events {
            self.tell_clock_event(now, incident, &clock, event);
        }
    }

    /// Stops the clocks of some targets, because what they wait for has happened.
    pub(super) fn meet_clocks(
        &mut self,
        now: Timestamp,
        incident: &mut Incident,
        targets: &[TargetKind],
    ) {
        let mut breached = Vec::new();
        for clock in incident.sla.iter_mut().filter(|it| targets.contains(&it.target)) {
            if let Some(event) = clock.meet(now) {
                breached.push((clock.clone(), event));
            }
        }
        for (clock, event) in breached {
            self.tell_clock_event(now, incident, &clock, event);
        }
    }

    fn tell_clock_event(
        &mut self,
        now: Timestamp,
        incident: &Incident,
        clock: &SlaClock,
        event: ClockEvent,
    ) {
        let (policy, target) = (&clock.policy, clock.target.as_str());
        let (text, occasion) = match event {
            ClockEvent::Warned(percent) => (
                format!("{percent} % of the time to {target} is used ({policy})"),
                Occasion::Warned,
            ),
            ClockEvent::Breached => {
                let counted = Count::SlaBreached { policy: policy.clone(), target: clock.target };
                self.turn.counts.push(counted);
                let limit = clock.limit_seconds;
                (format!("the time to {target}, {limit} s, is over ({policy})"), Occasion::Breached)
            }
        };
        self.log(
            ObjectKey::Incident(incident.id),
            TimelineEntry::new(now, "sla", "", text.clone()),
        );
        self.notify(now, occasion, incident, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
    use crate::domain::incident::IncidentId;
    use crate::domain::label::Labels;
    use crate::domain::rules::RuleSet;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn policy() -> SlaPolicy {
        SlaPolicy {
            rule: Arc::default(),
            matchers: super::super::matcher::Matchers::default(),
            warn_at_percent: vec![50, 80],
            targets: BTreeMap::new(),
        }
    }

    fn clock(limit_seconds: u32) -> SlaClock {
        SlaClock::start(&policy(), TargetKind::Resolve, limit_seconds, at(0))
    }

    #[test]
    fn warnings_and_the_breach_come_once_each() {
        let mut clock = clock(100);
        assert_eq!(clock.wants(), Some(at(50)));
        assert_eq!(clock.look(at(49)), None);
        assert_eq!(clock.look(at(50)), Some(ClockEvent::Warned(50)));
        assert_eq!(clock.look(at(50)), None);
        assert_eq!(clock.look(at(85)), Some(ClockEvent::Warned(80)));
        assert_eq!(clock.wants(), Some(at(100)));
        assert_eq!(clock.look(at(100)), Some(ClockEvent::Breached));
        assert_eq!(clock.wants(), None);
        assert_eq!(clock.ended_at, Some(at(100)));
    }

    #[test]
    fn the_time_between_resolution_and_reopening_does_not_count() {
        let mut clock = clock(100);
        assert_eq!(clock.meet(at(30)), None);
        assert_eq!((clock.state, clock.elapsed_milliseconds), (ClockState::Met, 30_000));
        clock.resume(at(1000));
        assert_eq!((clock.state, clock.due_at), (ClockState::Running, Some(at(1070))));
        assert_eq!(clock.meet(at(1071)), Some(ClockEvent::Breached));
        assert_eq!(clock.state, ClockState::Breached);
    }

    /// A clock that comes with a higher priority counts no more than one from the beginning.
    #[test]
    fn a_clock_that_comes_later_counts_no_pause_either() {
        let alert = |severity: &str, ends| ReceivedAlert {
            labels: Labels::from_pairs([("alertname", "A"), ("severity", severity)]),
            annotations: Labels::default(),
            starts_at: None,
            ends,
            generator_url: "".into(),
            identity: None,
        };
        let batch = |severity, ends| {
            let alerts = vec![alert(severity, ends)];
            Event::AlertsReceived(AlertBatch { source: "a".into(), alerts, rejected: vec![] })
        };
        let limits = BTreeMap::from([(TargetKind::Acknowledge, 60), (TargetKind::Resolve, 60)]);
        let policy = SlaPolicy { targets: BTreeMap::from([(3, limits)]), ..policy() };
        let rules = RuleSet { sla_policies: vec![policy], ..RuleSet::default() };
        let order = |command| Event::CommandGiven { by: "ann".to_owned(), command };
        let mut state = State::default();
        for (seconds, event) in [
            (0, Event::RulesLoaded(Arc::new(rules))),
            (0, batch("warning", Ends::WhenTold)),
            (10, order(Command::AcknowledgeIncident { incident: IncidentId(1) })),
            (20, batch("warning", Ends::At(at(20)))),
            (520, batch("critical", Ends::WhenTold)),
        ] {
            drop(state.apply(at(seconds), &event));
        }
        let clocks = &state.incidents[&IncidentId(1)].sla;
        let ran: Vec<i64> = clocks.iter().map(|it| it.elapsed_milliseconds_at(at(525))).collect();
        assert_eq!(ran, [10_000, 25_000]);
    }

    proptest! {
        /// A clock that stops and runs on in between counts what a plain sum counts.
        #[test]
        fn elapsed_time_is_the_sum_of_the_runs(runs in proptest::collection::vec((1_i64..500, 1_i64..500), 1..10)) {
            let mut clock = clock(1_000_000);
            let (mut now, mut sum) = (0, 0);
            for (run, pause) in runs {
                now += run;
                sum += run;
                prop_assert_eq!(clock.elapsed_milliseconds_at(at(now)), sum * 1000);
                clock.meet(at(now));
                now += pause;
                prop_assert_eq!(clock.elapsed_milliseconds_at(at(now)), sum * 1000);
                clock.resume(at(now));
                prop_assert_eq!(clock.due_at, Some(at(now + 1_000_000 - sum)));
            }
        }
    }
}
