//! What is true, and what follows from it. Pure: no I/O, no clock, no randomness.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::float_arithmetic)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod alert;
pub mod audit;
pub mod cause;
pub mod change;
pub mod command;
pub mod condition;
pub mod correlation;
pub mod effect;
pub mod event;
pub mod execution;
pub mod flapping;
pub mod forecast;
pub mod freeze;
mod gap;
pub mod heartbeat;
mod hold;
pub mod impact;
pub mod incident;
mod inhibition;
pub mod item;
pub mod knowledge;
pub mod label;
pub mod maintenance;
pub mod matcher;
#[cfg(test)]
mod merge_tests;
pub mod noise;
pub mod notification;
mod number;
pub mod planted;
pub mod problem;
pub mod rate;
pub mod restore;
pub mod rules;
pub mod schedule;
pub mod service_level;
pub mod silence;
pub mod source;
mod stored_time;
pub mod template;
pub mod time_interval;
pub mod timer;
mod turn;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(crate) use number::numbered_id;
pub use turn::{Accepted, Count, Refusal, Reply, Turn};

use alert::Alert;
use event::Event;
use execution::{Execution, ExecutionId};
use freeze::{Freeze, FreezeId};
use heartbeat::Heartbeat;
use incident::{Incident, IncidentId, TimelineEntry};
use knowledge::{Feedback, MadeArticle};
use label::{Beside, Fingerprint};
use notification::{Notification, NotificationId};
use problem::{Problem, ProblemId};
use rules::RuleSet;
use silence::Silence;

/// Everything that is open. What is closed is in the store.
#[derive(Default)]
pub struct State {
    /// Alerts that fire, and those that did until their incident is closed.
    pub alerts: BTreeMap<Fingerprint, Box<Alert>>,
    /// The members of each incident in `incidents`.
    pub members: BTreeMap<IncidentId, BTreeSet<Fingerprint>>,
    /// Which alerts stand on which page of the store; a page takes [`PAGE_ALERTS_MAX`].
    pub pages: BTreeMap<u32, BTreeSet<Fingerprint>>,
    /// Incidents that are not closed.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// Executions that are not over, and those that the guards must remember.
    pub executions: BTreeMap<ExecutionId, Execution>,
    /// All problems.
    pub problems: BTreeMap<ProblemId, Problem>,
    /// Silences, and for five days those that are over.
    pub silences: BTreeMap<Arc<str>, Silence>,
    /// All heartbeats that the rules declare.
    pub heartbeats: BTreeMap<Arc<str>, Heartbeat>,
    /// Freezes that people made, and for a day those that are over.
    pub freezes: BTreeMap<FreezeId, Freeze>,
    /// Articles that people made over the API.
    pub articles: BTreeMap<Arc<str>, MadeArticle>,
    /// What people said of whether articles and past incidents helped.
    pub feedback: BTreeMap<Arc<str>, Feedback>,
    /// Changes that may still change, or be the cause of something.
    pub change_log: change::ChangeLog,
    /// What was learned of alerts, by their name and severity.
    pub experiences: BTreeMap<Arc<str>, correlation::Experience>,
    /// What was learned of places that are in no catalog.
    pub learned: correlation::LearnedPlaces,
    /// Notifications that are not delivered.
    pub notifications: BTreeMap<NotificationId, Notification>,
    /// What fired and who was told today.
    pub noise: noise::Accounts,
    /// How often alerts usually begin.
    pub habits: rate::Habits,
    /// The rules in force.
    pub rules: Arc<RuleSet>,
    /// Small things that must survive a restart.
    pub memory: Memory,
    /// What alerts spoke of nothing that is known; it decides nothing and is not kept.
    pub unbound: item::UnboundAlerts,
    /// Which problem an incident seems to be that begins in some way.
    openings: problem::Openings,
    /// The incidents of each rule and group that are not closed.
    groups: correlation::Groups,
    /// Where the incidents that are not closed were seen.
    sightings: correlation::Sightings,
    /// The incidents whose causes must be worked out in this turn.
    causes_wanted: BTreeSet<IncidentId>,
    /// The firing alerts that inhibit or can be inhibited.
    inhibitions: inhibition::Inhibitions,
    /// What runbooks want to know of incidents, while there are such runbooks.
    watched: execution::Watched,
    /// When each object wants to be looked at again.
    timers: timer::Timers,
    /// What changed since the last [`State::take_changes`].
    changes: Changes,
    /// What the turn under way has done so far.
    turn: Turn,
    /// What the turn under way has still to tell other practices.
    facts: VecDeque<Fact>,
    /// The kinds of alert that were seen for the first time in the delivery under way.
    new_kinds: Vec<Arc<str>>,
    /// Alerts that joined or ended in the turn under way, to make one timeline entry of many.
    moved: BTreeMap<(IncidentId, Moved), Vec<Fingerprint>>,
}

/// How many alerts share a page of the store.
pub const PAGE_ALERTS_MAX: usize = 32;

/// Small things that must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The last number given to each kind.
    pub incident: u64,
    /// See `incident`.
    pub execution: u64,
    /// See `incident`.
    pub problem: u64,
    /// See `incident`.
    pub notification: u64,
    /// See `incident`.
    #[serde(default)]
    pub change: u64,
    /// See `incident`.
    #[serde(default)]
    pub freeze: u64,
    /// The number of the last detection run.
    #[serde(default)]
    pub detection: u64,
    /// The last page of alerts that was begun.
    pub page: u32,
    /// Who stopped all runbooks, when and why.
    pub stopped: Option<Stop>,
    /// Who stopped single runbooks, by the runbook's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stopped_runbooks: BTreeMap<String, Stop>,
    /// When each detection last ran, by name.
    pub detected_at: BTreeMap<String, Timestamp>,
    /// When the schedules of each runbook were last looked at, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduled_at: BTreeMap<String, Timestamp>,
    /// How often each trigger started its runbook lately, by the runbook and its own place there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggered: BTreeMap<String, execution::Uses>,
    /// Nothing expires and nothing is breached before this time: after a gap senders get time to
    /// speak again.
    pub hold_until: Option<Timestamp>,
    /// Every silence that began or ended up to this time has had its effect on the alerts.
    #[serde(default)]
    pub silences_seen_at: Option<Timestamp>,
    /// Every maintenance window that began or ended up to this time has had its effect.
    #[serde(default)]
    pub maintenance_seen_at: Option<Timestamp>,
    /// The flexible maintenance windows that an alert has begun, by name.
    #[serde(default)]
    pub maintenance_begun: BTreeMap<String, maintenance::Begun>,
    /// The groups of merged incidents, by the incident that is gone.
    #[serde(default)]
    pub followed: BTreeMap<IncidentId, correlation::Followed>,
    /// What people taught by splits and merges, the last lesson last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lessons: Vec<correlation::Lesson>,
    /// How often alerts come together by chance.
    #[serde(default)]
    pub chance: correlation::Chance,
    /// In how many minutes alerts begin of which nobody knows what they depend on.
    #[serde(default)]
    pub moments: correlation::Chance,
    /// Since when rates are watched.
    #[serde(default)]
    pub rates: rate::Watching,
    /// When places that were not heard of for long were last forgotten.
    #[serde(default)]
    pub learned_swept_at: Option<Timestamp>,
    /// When names that were not heard for long were last forgotten.
    #[serde(default)]
    pub experiences_swept_at: Option<Timestamp>,
    /// Where the audit trail begins and ends.
    #[serde(default)]
    pub audit: audit::Chain,
}

/// The order to start no runbook, or one of them no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Who gave it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// The name of an object in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKey {
    /// An alert; open ones are written by page.
    Alert(Fingerprint),
    /// An incident.
    Incident(IncidentId),
    /// An execution.
    Execution(ExecutionId),
    /// A problem.
    Problem(ProblemId),
    /// A silence.
    Silence(Arc<str>),
    /// A change.
    Change(change::ChangeId),
    /// A freeze.
    Freeze(FreezeId),
    /// A notification.
    Notification(NotificationId),
    /// An article that somebody made.
    Article(Arc<str>),
    /// What people said of something.
    Feedback(Arc<str>),
    /// A heartbeat.
    Heartbeat(Arc<str>),
    /// An account of noise.
    Noise(noise::NoiseKey),
    /// What was learned of alerts of a name.
    Experience(Arc<str>),
    /// What was learned of a place that is in no catalog.
    LearnedPlace(Arc<str>),
    /// How often something usually begins.
    Habit(Arc<str>),
    /// An entry of the audit trail.
    Audit(audit::AuditId),
    /// [`Memory`].
    Memory,
    /// The rules in force.
    Rules,
}

/// What one practice tells another within a turn. What crosses from the alerts' side to the
/// control side (runbooks, problems) goes this way only, so that the two can live on different
/// machines one day.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    /// Something happened that a trigger of a runbook waits for.
    RunbookTriggered { runbook: String, by: execution::Occurrence },
    /// An incident began.
    IncidentBegan(IncidentId),
    /// No member of an incident fires any more.
    AlertsResolved(IncidentId),
    /// A member of an incident fires again.
    AlertsFiring(IncidentId),
    /// A run that another run called is over, or waits for a person to look.
    CalledRunEnded(ExecutionId),
    /// Two incidents turned out to be one.
    IncidentsAreOne { into: IncidentId, from: IncidentId },
}

/// What alerts did in an incident, for the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moved {
    Joined,
    Resolved,
    Expired,
}

/// What must be written so that the store holds the state.
#[derive(Default)]
pub struct Changes {
    /// Pages of alerts.
    pub pages: BTreeSet<u32>,
    /// Objects that are open; one that is not in the state any more was closed.
    pub objects: BTreeSet<ObjectKey>,
    /// Objects that were closed, as they were last.
    pub closed: Vec<Closed>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.objects.is_empty() && self.closed.is_empty()
    }
}

/// An object that has left the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Closed {
    /// An alert.
    Alert(Box<Alert>),
    /// An incident.
    Incident(Box<Incident>),
    /// An execution.
    Execution(Box<Execution>),
    /// A silence.
    Silence(Box<Silence>),
    /// A change.
    Change(Box<change::Change>),
    /// A freeze.
    Freeze(Box<Freeze>),
    /// A notification.
    Notification(Box<Notification>),
    /// A heartbeat.
    Heartbeat(Box<Heartbeat>),
    /// An account of noise.
    Noise(Box<noise::Account>),
    /// An entry of the audit trail, which is never open.
    Audit(Box<audit::AuditEntry>),
}

impl State {
    /// Takes in one fact and says what to do about it.
    ///
    /// `now` never falls from one call to the next. The same calls give the same results, on every
    /// machine, for ever: this is what replay and recovery rest on.
    #[must_use = "an effect that is dropped is a promise that is broken"]
    pub fn apply(&mut self, now: Timestamp, event: &Event) -> Turn {
        match event {
            Event::AlertsReceived(batch) => self.receive_batch(now, batch),
            Event::ChangesReceived(batch) => self.receive_changes(now, batch),
            Event::CommandGiven { by, command } => {
                let reply = self.carry_out(now, by, command);
                self.turn.reply = Some(reply);
            }
            Event::RulesLoaded(rules) | Event::RulesReloaded { rules, .. } => {
                self.load_rules(now, rules);
            }
            Event::EffectFinished { key, outcome } => self.effect_finished(now, key, outcome),
            Event::EffectLost { key } => self.effect_lost(now, key),
            Event::RecurrencesFound { detection, looked_at, recurrences, .. } => {
                let looked_at = *looked_at;
                self.recurrences_found(now, &problem::Found { detection, looked_at, recurrences });
            }
            Event::WatchStarted { last_seen } => self.watch_started(now, *last_seen),
            Event::HeartbeatPinged(ping) => self.heartbeat_pinged(now, ping),
            Event::PageHeard(page) => self.page_heard(now, page),
            Event::ClockJumped { milliseconds } => self.clock_jumped(now, *milliseconds),
            Event::RecordPoisoned { seq, reason } => self.record_poisoned(now, *seq, reason),
            Event::StoreHealed(healing) => self.store_healed(now, healing),
            Event::AuditTrimmed { up_to } => self.audit_trimmed(*up_to),
            Event::Woken => self.wake(now),
            #[cfg(any(test, feature = "planted-bugs"))]
            Event::Explosion => panic!("planted for a test"),
        }
        self.look_at_inhibited_again(now);
        self.tell_facts(now);
        self.write_moves(now);
        self.find_causes();
        self.audit(now, event);
        std::mem::take(&mut self.turn)
    }

    /// When the next timer is due, if any: the engine sleeps until then.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Takes what changed since the last call.
    #[must_use = "what is taken must be written"]
    pub fn take_changes(&mut self) -> Changes {
        self.noise.mark(&mut self.changes);
        self.habits.mark(&mut self.changes);
        std::mem::take(&mut self.changes)
    }

    /// Whether something changed since the last [`State::take_changes`].
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.noise.has_changes() || self.habits.has_changes()
    }

    /// Passes facts between the practices until there are none left.
    fn tell_facts(&mut self, now: Timestamp) {
        while let Some(fact) = self.next_fact() {
            match fact {
                Fact::RunbookTriggered { runbook, by } => {
                    self.runbook_triggered(now, &runbook, &by);
                }
                Fact::IncidentBegan(incident) => self.recognise(now, incident),
                Fact::AlertsResolved(incident) => self.alerts_of_executions(now, incident, true),
                Fact::IncidentsAreOne { into, from } => self.merge_by_evidence(now, into, from),
                Fact::CalledRunEnded(id) => self.called_run_ended(now, id),
                Fact::AlertsFiring(incident) => self.alerts_of_executions(now, incident, false),
            }
        }
    }

    /// The next fact; what incidents changed in all is one, after all others.
    fn next_fact(&mut self) -> Option<Fact> {
        if self.facts.is_empty() {
            self.notice_changed_incidents();
        }
        self.facts.pop_front()
    }

    /// Makes one timeline entry of all alerts that did the same in an incident in this turn.
    fn write_moves(&mut self, now: Timestamp) {
        /// An entry names this many alerts in its text.
        const NAMED_MAX: usize = 3;
        /// An entry carries this many fingerprints, so that a stored value stays small.
        const ALERTS_MAX: usize = 512;
        for ((incident, moved), alerts) in std::mem::take(&mut self.moved) {
            let (kind, before) = match moved {
                Moved::Joined => ("joined", ""),
                Moved::Resolved => ("alert_resolved", ""),
                Moved::Expired => ("alert_expired", "their sources fell silent: "),
            };
            for part in alerts.chunks(ALERTS_MAX) {
                let known = self.incidents.get(&incident).map(|it| &it.labels);
                let first = part.iter().take(NAMED_MAX).filter_map(|it| self.alerts.get(it));
                let mut names: Vec<String> =
                    first.map(|it| Beside { labels: &it.labels, known }.to_string()).collect();
                if part.len() > NAMED_MAX {
                    names.push(format!("and {} more", part.len() - NAMED_MAX));
                }
                let text = format!("{before}{}", names.join(", "));
                self.log(
                    ObjectKey::Incident(incident),
                    TimelineEntry::about(now, kind, text, part.to_vec()),
                );
            }
        }
    }

    /// Adds an entry to the timeline of an object.
    fn log(&mut self, of: ObjectKey, entry: TimelineEntry) {
        self.turn.timeline.push((of, entry));
    }

    /// Something is wrong with ourselves: people learn of it as of everything else.
    fn record_poisoned(&mut self, now: Timestamp, seq: u64, reason: &str) {
        self.turn.counts.push(Count::RecordPoisoned);
        let text = format!("record {seq} of the log was set aside: {reason}");
        let batch = event::AlertBatch::about_ourselves("WatchkeeperRecordSetAside", &text);
        self.receive_batch(now, &batch);
    }

    fn effect_finished(
        &mut self,
        now: Timestamp,
        key: &effect::EffectKey,
        outcome: &effect::Outcome,
    ) {
        self.turn.finished.push(key.clone());
        match effect::owner(key) {
            effect::Owner::Execution(id) => self.step_finished(now, id, key, outcome),
            effect::Owner::Notification(id) => self.delivery_finished(now, id, key, outcome),
            effect::Owner::Nobody => {}
        }
    }

    fn effect_lost(&mut self, now: Timestamp, key: &effect::EffectKey) {
        self.turn.finished.push(key.clone());
        match effect::owner(key) {
            effect::Owner::Execution(id) => self.step_lost(now, id, key),
            effect::Owner::Notification(_) | effect::Owner::Nobody => {}
        }
    }
}

/// A time some seconds after another; the end of time when there is none.
pub(crate) fn later(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Whole seconds from one time to another; 0 when the other is earlier.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}
