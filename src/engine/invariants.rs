//! A simulation: random histories with faults, and what must hold after each turn.

mod beats;
mod cases;
mod laws;
mod rules;

use super::persist;
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use crate::domain::execution::{ExecutionId, ExecutionState};
use crate::domain::incident::IncidentId;
use crate::domain::label::Labels;
use crate::domain::problem::{Figures, Recurrence};
use crate::domain::rules::RuleSet;
use crate::domain::{State, Turn};
use crate::store::{Kind, Object};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More wake-ups than this without time going on are a timer that spins.
const WAKES_MAX: usize = 8;

/// What happens in a history.
#[derive(Clone, Debug)]
enum Act {
    Alerts { source: u8, alerts: Vec<(u8, Word)> },
    Silence { over: u8, starts_in: i64, lasts: i64, replaces: Option<usize> },
    ExpireSilence(usize),
    Incident { nth: usize, order: Order },
    Merge { into: usize, from: usize },
    Split { nth: usize, first: usize },
    Execution { nth: usize, order: Order },
    Run { runbook: u8, incident: Option<usize> },
    Stop(bool),
    Detect,
    Found(Vec<u64>),
    Rules(u8),
    Beat { heartbeat: u8, kind: u8, run: Option<u8> },
    Result { nth: usize, kind: OutcomeKind },
    OldResult { nth: usize, kind: OutcomeKind },
    Lost(usize),
    Wait(i64),
    Gap(i64),
    Restore,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Fires(i64),
    Timeout,
    WhenTold,
    Over,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Yes,
    No,
    Note,
    Again,
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => (1_i64..400).prop_map(Word::Fires),
        1 => Just(Word::Timeout),
        1 => Just(Word::WhenTold),
        4 => Just(Word::Over),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Yes), Just(Order::No), Just(Order::Note), Just(Order::Again)]
}

fn kind() -> impl Strategy<Value = OutcomeKind> {
    prop_oneof![
        4 => Just(OutcomeKind::Succeeded),
        1 => Just(OutcomeKind::Failed),
        2 => Just(OutcomeKind::FailedRetryable),
        1 => Just(OutcomeKind::TimedOut),
        1 => Just(OutcomeKind::Stopped),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let alerts = proptest::collection::vec((0_u8..9, word()), 1..4);
    let nth = 0_usize..6;
    prop_oneof![
        12 => (0_u8..3, alerts).prop_map(|(source, alerts)| Act::Alerts { source, alerts }),
        2 => (0_u8..4, -30_i64..120, 1_i64..300, proptest::option::of(0_usize..3)).prop_map(
            |(over, starts_in, lasts, replaces)| Act::Silence { over, starts_in, lasts, replaces }
        ),
        1 => (0_usize..3).prop_map(Act::ExpireSilence),
        3 => (nth.clone(), order()).prop_map(|(nth, order)| Act::Incident { nth, order }),
        1 => (nth.clone(), nth.clone()).prop_map(|(into, from)| Act::Merge { into, from }),
        1 => (nth.clone(), nth.clone()).prop_map(|(nth, first)| Act::Split { nth, first }),
        2 => (nth.clone(), order()).prop_map(|(nth, order)| Act::Execution { nth, order }),
        1 => (0_u8..4, proptest::option::of(nth.clone()))
            .prop_map(|(runbook, incident)| Act::Run { runbook, incident }),
        1 => any::<bool>().prop_map(Act::Stop),
        1 => Just(Act::Detect),
        1 => proptest::collection::vec(1_u64..12, 2..5).prop_map(Act::Found),
        1 => (0_u8..5).prop_map(Act::Rules),
        6 => (0_u8..3, 0_u8..8, proptest::option::of(0_u8..3))
            .prop_map(|(heartbeat, kind, run)| Act::Beat { heartbeat, kind, run }),
        8 => (nth.clone(), kind()).prop_map(|(nth, kind)| Act::Result { nth, kind }),
        1 => (nth.clone(), kind()).prop_map(|(nth, kind)| Act::OldResult { nth, kind }),
        1 => nth.prop_map(Act::Lost),
        8 => (0_i64..200).prop_map(Act::Wait),
        1 => (0_i64..5000).prop_map(Act::Gap),
        2 => Just(Act::Restore),
    ]
}

/// Two watches over one history: one is restored from the store now and then, the other never.
struct World {
    now: Timestamp,
    steady: State,
    restored: State,
    store: BTreeMap<(Kind, String), Object>,
    pending: BTreeMap<EffectKey, PlannedEffect>,
    old: Vec<EffectKey>,
    silences: u32,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            steady: State::default(),
            restored: State::default(),
            store: BTreeMap::new(),
            pending: BTreeMap::new(),
            old: Vec::new(),
            silences: 0,
        };
        world.apply(&Event::RulesLoaded(rules::variant(0)));
        world
    }

    fn apply(&mut self, event: &Event) {
        let turn = self.steady.apply(self.now, event);
        let other = self.restored.apply(self.now, event);
        let written = write(&mut self.steady);
        same_turns(&turn, &other, event);
        assert_eq!(written.0, write(&mut self.restored).0, "objects after {event:?}");
        assert_eq!(self.steady.next_wakeup(), self.restored.next_wakeup(), "after {event:?}");
        for (name, object) in written.0 {
            match object {
                Some(object) => drop(self.store.insert(name, object)),
                None => drop(self.store.remove(&name)),
            }
        }
        for planned in turn.effects {
            let known = self.old.contains(&planned.key);
            assert!(!known, "{} is done twice", planned.key);
            self.old.push(planned.key.clone());
            self.pending.insert(planned.key.clone(), planned);
        }
        for key in &turn.finished {
            self.pending.remove(key);
        }
        laws::check(&self.steady, &self.pending);
        beats::check(&self.steady);
    }

    /// Lets time go on, as the engine does: each timer is woken when it is due.
    fn wait(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        let mut spins = 0;
        while let Some(at) = self.steady.next_wakeup().filter(|it| *it <= end) {
            spins = if at > self.now { 0 } else { spins + 1 };
            assert!(spins <= WAKES_MAX, "a timer spins at {}", self.now);
            self.now = self.now.max(at);
            self.apply(&Event::Woken);
        }
        self.now = end;
    }

    fn restore(&mut self) {
        let objects: Vec<Object> = self.store.values().cloned().collect();
        self.restored = State::restore(persist::read_back(&objects).unwrap(), self.now);
    }

    fn command(&mut self, command: Command) {
        self.apply(&Event::CommandGiven { by: "ann".to_owned(), command });
    }

    fn incident(&self, nth: usize) -> IncidentId {
        self.steady.incidents.keys().rev().nth(nth).copied().unwrap_or_default()
    }

    fn execution(&self, nth: usize) -> ExecutionId {
        self.steady.executions.keys().rev().nth(nth).copied().unwrap_or_default()
    }

    fn alerts(&self, source: u8, alerts: &[(u8, Word)]) -> Event {
        let alerts = alerts.iter().map(|(nth, word)| ReceivedAlert {
            labels: labels(*nth),
            annotations: Labels::from_pairs([("summary", format!("from {source}"))]),
            starts_at: None,
            ends: match word {
                Word::Fires(seconds) => Ends::At(self.now + SignedDuration::from_secs(*seconds)),
                Word::Timeout => Ends::Timeout,
                Word::WhenTold => Ends::WhenTold,
                Word::Over => Ends::At(self.now),
            },
            generator_url: "".into(),
            identity: None,
        });
        Event::AlertsReceived(AlertBatch {
            source: format!("source-{source}").into(),
            alerts: alerts.collect(),
            rejected: Vec::new(),
        })
    }

    fn silence(&mut self, over: u8, starts_in: i64, lasts: i64, replaces: Option<usize>) {
        self.silences += 1;
        let matcher = ["service=\"a\"", "alertname=~\"A|B\"", "service!=\"b\"", "alertname=\"C\""];
        let starts_at = self.now + SignedDuration::from_secs(starts_in);
        let command = Command::SetSilence {
            new_id: format!("silence-{}", self.silences),
            replaces: replaces.and_then(|it| self.silence_id(it)),
            matchers: matcher[usize::from(over)].parse().unwrap(),
            starts_at,
            ends_at: starts_at + SignedDuration::from_secs(lasts),
            created_by: "ann".to_owned(),
            comment: String::new(),
        };
        self.command(command);
    }

    fn silence_id(&self, nth: usize) -> Option<String> {
        self.steady.silences.keys().nth(nth).map(ToString::to_string)
    }

    fn finish(&mut self, key: EffectKey, kind: OutcomeKind) {
        let outcome = Outcome {
            result: kind,
            detail: "x".to_owned(),
            output_tail: String::new(),
            code: None,
            duration_milliseconds: 1,
        };
        self.apply(&Event::EffectFinished { key, outcome });
    }

    fn go(&mut self, act: &Act) {
        match act {
            Act::Alerts { source, alerts } => self.apply(&self.alerts(*source, alerts)),
            Act::Silence { over, starts_in, lasts, replaces } => {
                self.silence(*over, *starts_in, *lasts, *replaces);
            }
            Act::ExpireSilence(nth) => {
                let id = self.silence_id(*nth).unwrap_or_default();
                self.command(Command::ExpireSilence { id });
            }
            Act::Incident { nth, order } => {
                self.command(incident_order(self.incident(*nth), *order));
            }
            Act::Merge { into, from } => {
                let (into, from) = (self.incident(*into), vec![self.incident(*from)]);
                self.command(Command::MergeIncidents { into, from });
            }
            Act::Split { nth, first } => {
                let incident = self.incident(*nth);
                let members = self.steady.members.get(&incident);
                let alerts = members.and_then(|it| it.iter().nth(*first).copied());
                let alerts = alerts.into_iter().collect();
                self.command(Command::SplitIncident { incident, alerts });
            }
            Act::Execution { nth, order } => {
                self.command(execution_order(self.execution(*nth), *order));
            }
            Act::Run { runbook, incident } => self.command(Command::RunRunbook {
                runbook: format!("runbook-{runbook}"),
                parameters: BTreeMap::new(),
                incident: incident.map(|it| self.incident(it)),
                dry_run: false,
                emergency: false,
            }),
            Act::Stop(true) => self.command(Command::StopRunbooks { reason: String::new() }),
            Act::Stop(false) => self.command(Command::ResumeRunbooks),
            Act::Detect => self.command(Command::DetectProblems),
            Act::Found(incidents) => self.apply(&found(incidents, self.now)),
            Act::Beat { heartbeat, kind, run } => {
                self.apply(&beats::happens(*heartbeat, *kind, *run));
            }
            Act::Rules(variant) => self.apply(&Event::RulesLoaded(rules::variant(*variant))),
            Act::Result { nth, kind } => {
                if let Some(key) = self.pending.keys().nth(*nth).cloned() {
                    self.finish(key, *kind);
                }
            }
            Act::OldResult { nth, kind } => {
                let old = self.old.iter().rev().filter(|it| !self.pending.contains_key(*it));
                if let Some(key) = old.clone().nth(*nth).cloned() {
                    self.finish(key, *kind);
                }
            }
            Act::Lost(nth) => {
                let claimed = |it: &&PlannedEffect| !it.idempotent;
                let lost = self.pending.values().filter(claimed).nth(*nth);
                if let Some(key) = lost.map(|it| it.key.clone()) {
                    self.apply(&Event::EffectLost { key });
                }
            }
            Act::Wait(seconds) => self.wait(*seconds),
            Act::Gap(seconds) => {
                let last_seen = Some(self.now);
                self.now += SignedDuration::from_secs(*seconds);
                self.apply(&Event::WatchStarted { last_seen });
                self.apply(&Event::Woken);
            }
            Act::Restore => self.restore(),
        }
    }

    /// When everything is healed, everything comes to its end.
    fn heal(&mut self) {
        // A heartbeat that nobody pings would be told of for ever.
        let mut rules = RuleSet::clone(&self.steady.rules);
        rules.heartbeats.clear();
        self.apply(&Event::RulesLoaded(Arc::new(rules)));
        let all: Vec<(u8, Word)> = (0..9).map(|it| (it, Word::Over)).collect();
        for source in 0..3 {
            self.apply(&self.alerts(source, &all));
        }
        for _ in 0..30 {
            for key in self.pending.keys().cloned().collect::<Vec<_>>() {
                self.finish(key, OutcomeKind::Succeeded);
            }
            self.wait(6 * 3600);
        }
        let state = &self.steady;
        assert!(self.pending.is_empty() || state.next_wakeup().is_some());
        assert!(state.notifications.is_empty(), "a notification hangs");
        for alert in state.alerts.values() {
            let incident = alert.incident.and_then(|it| state.incidents.get(&it));
            assert!(incident.is_some(), "an alert stays for ever: {alert:?}");
        }
        assert!(state.silences.is_empty(), "a silence stays for ever");
        for execution in state.executions.values() {
            let waits = matches!(
                execution.state,
                ExecutionState::Unknown
                    | ExecutionState::Stuck
                    | ExecutionState::Proposed
                    | ExecutionState::WaitingApproval
            );
            assert!(waits, "{} hangs: {:?}", execution.id, execution.state);
        }
        for incident in state.incidents.values() {
            // Only a person's own word keeps an incident open whose alerts are all over.
            assert!(incident.reopen_count > 0 && incident.state.is_active(), "{incident:?}");
        }
    }
}

fn labels(nth: u8) -> Labels {
    let service = ["a", "b", "c"][usize::from(nth % 3)];
    let name = ["A", "B", "C"][usize::from(nth / 3)];
    let severity = ["critical", "warning", "error"][usize::from((nth / 2) % 3)];
    Labels::from_pairs([("alertname", name), ("service", service), ("severity", severity)])
}

fn incident_order(incident: IncidentId, order: Order) -> Command {
    match order {
        Order::Yes => Command::AcknowledgeIncident { incident },
        Order::No => Command::ResolveIncident { incident, reason: String::new() },
        Order::Note => Command::AssignIncident { incident, owner: "bob".to_owned() },
        Order::Again => Command::ReopenIncident { incident, reason: String::new() },
    }
}

fn execution_order(execution: ExecutionId, order: Order) -> Command {
    match order {
        Order::Yes => Command::ApproveExecution { execution, role: None },
        Order::No => Command::DenyExecution { execution, role: None, reason: String::new() },
        Order::Note | Order::Again => Command::AbortExecution { execution, reason: String::new() },
    }
}

fn found(incidents: &[u64], now: Timestamp) -> Event {
    let recurrence = Recurrence {
        title: "again".to_owned(),
        incidents: incidents.iter().map(|it| IncidentId(*it)).collect(),
        first_seen: now,
        last_seen: now,
        period_seconds: None,
        next_expected_at: None,
        confidence: 500,
        by_chance: false,
        why: Vec::new(),
        figures: Figures::default(),
    };
    Event::RecurrencesFound {
        detection: "default".to_owned(),
        incidents_seen: 3,
        looked_at: None,
        recurrences: vec![recurrence],
    }
}

type Writes = BTreeMap<(Kind, String), Option<Object>>;

/// What a turn wrote of the open objects, by name, and which objects it closed.
fn write(state: &mut State) -> (Writes, Vec<Object>) {
    let changes = state.take_changes();
    let written = persist::write_down(state, &changes);
    let mut open = Writes::new();
    for object in written.puts {
        open.insert((object.kind, object.id.clone()), Some(object));
    }
    for object in &written.closes {
        open.insert((object.kind, object.id.clone()), None);
    }
    for name in written.deletes {
        open.insert(name, None);
    }
    (open, written.closes)
}

fn same_turns(turn: &Turn, other: &Turn, event: &Event) {
    assert_eq!(turn.effects, other.effects, "effects of {event:?}");
    assert_eq!(turn.finished, other.finished, "results of {event:?}");
    assert_eq!(turn.reply, other.reply, "the reply to {event:?}");
    assert_eq!(turn.timeline, other.timeline, "the timeline of {event:?}");
    assert_eq!(turn.counts, other.counts, "the counts of {event:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_histories_break_no_invariant(acts in proptest::collection::vec(act(), 1..100)) {
        let mut world = World::new();
        for act in &acts {
            world.go(act);
        }
        world.heal();
    }
}
