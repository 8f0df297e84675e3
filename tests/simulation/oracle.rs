//! A second, naive implementation of deduplication and service levels: lists, and no index.
//!
//! It is fed with what the disk holds, and knows nothing of how the watch came to its state.

use super::disk::Contents;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use watchkeeper::domain::State;
use watchkeeper::domain::alert::AlertState;
use watchkeeper::domain::event::{AlertBatch, Ends, Event};
use watchkeeper::domain::incident::{Incident, IncidentId, IncidentState};
use watchkeeper::domain::label::{Fingerprint, Labels};
use watchkeeper::domain::rules::RuleSet;
use watchkeeper::domain::service_level::{ClockState, TargetKind};

/// After somebody was cut off nothing runs out for this long.
const GRACE: SignedDuration = SignedDuration::from_secs(90);

/// So long after the last word a change is kept in memory; less here, for what is about to leave it.
const KEPT: SignedDuration = SignedDuration::from_hours(23);

/// What one source says of one alert.
struct Word {
    source: Arc<str>,
    firing: bool,
    ends: Option<Timestamp>,
}

/// One alert.
struct Alert {
    fingerprint: Fingerprint,
    words: Vec<Word>,
    firing: bool,
    /// How often it began to fire.
    begun: u64,
}

/// What happened to one incident, as its timeline tells it.
struct Life {
    id: IncidentId,
    entries: Vec<(Change, Timestamp)>,
}

/// What changes where an incident is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Opened,
    Acknowledged,
    Resolved,
    Closed,
}

/// The naive watch.
#[derive(Default)]
pub(crate) struct Oracle {
    turns: usize,
    told: usize,
    alerts: Vec<Alert>,
    lives: Vec<Life>,
    hold_until: Option<Timestamp>,
    /// The changes that were told of, by the names that their source gives them, and when last.
    changes: BTreeMap<String, Timestamp>,
    rules: Arc<RuleSet>,
    /// The rules of the watch that were found to be the same.
    compared_rules: Option<Arc<RuleSet>>,
}

impl Oracle {
    /// Takes in what was written since the last call.
    pub(crate) fn hear(&mut self, disk: &Contents) {
        disk.tell_turns(self.turns, |now, events| {
            for event in events {
                self.apply(now, event);
            }
        });
        self.turns = disk.turn_count();
        for (id, entry) in disk.told_from(self.told) {
            self.told += 1;
            let what = match entry.kind.as_str() {
                "opened" | "reopened" => Change::Opened,
                "acknowledged" => Change::Acknowledged,
                "resolved" => Change::Resolved,
                "closed" | "merged" => Change::Closed,
                _ => continue,
            };
            let entry = (what, entry.at);
            let Ok(id) = id.parse::<IncidentId>() else { continue };
            match self.lives.iter_mut().rev().find(|it| it.id == id) {
                Some(life) => life.entries.push(entry),
                None => self.lives.push(Life { id, entries: vec![entry] }),
            }
        }
    }

    fn apply(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::AlertsReceived(batch) => self.receive(now, batch),
            Event::ChangesReceived(batch) => {
                let told = batch.changes.iter().map(|it| (it.external_id.clone(), now));
                self.changes.extend(told);
            }
            Event::RecordPoisoned { .. } => {
                let labels = [
                    ("alertname", "WatchkeeperRecordSetAside"),
                    ("service", "watchkeeper"),
                    ("severity", "error"),
                ];
                let fingerprint = Labels::from_pairs(labels).fingerprint();
                self.note(now, fingerprint, "watchkeeper", Ends::Timeout);
            }
            Event::RulesLoaded(rules) => {
                self.rules = rules.clone();
                self.compared_rules = None;
            }
            Event::WatchStarted { last_seen: Some(_) } | Event::ClockJumped { .. } => {
                self.hold_until = Some(now + GRACE);
            }
            Event::Woken => self.wake(now),
            _ => {}
        }
    }

    fn receive(&mut self, now: Timestamp, batch: &AlertBatch) {
        for alert in &batch.alerts {
            self.note(now, alert.labels.fingerprint(), &batch.source, alert.ends);
        }
    }

    fn note(&mut self, now: Timestamp, fingerprint: Fingerprint, source: &str, ends: Ends) {
        let timeout = SignedDuration::from_secs(self.rules.resolve_timeout_seconds.into());
        let (firing, ends) = match ends {
            Ends::At(at) => (at > now, Some(at)),
            Ends::Timeout => (true, Some(now + timeout)),
            Ends::WhenTold => (true, None),
        };
        let position = self.alerts.iter().position(|it| it.fingerprint == fingerprint);
        let mut alert = match position {
            Some(position) => self.alerts.swap_remove(position),
            None => Alert { fingerprint, words: Vec::new(), firing: false, begun: 0 },
        };
        alert.words.retain(|it| &*it.source != source);
        if !firing {
            let ran_out = |it: &&mut Word| it.ends.is_some_and(|at| at <= now);
            alert.words.iter_mut().filter(ran_out).for_each(|it| it.firing = false);
        }
        alert.words.push(Word { source: source.into(), firing, ends });
        let fires = alert.words.iter().any(|it| it.firing);
        alert.begun += u64::from(fires && !alert.firing);
        alert.firing = fires;
        self.alerts.push(alert);
    }

    fn wake(&mut self, now: Timestamp) {
        if self.hold_until.is_some_and(|it| it > now) {
            return;
        }
        for alert in &mut self.alerts {
            for word in &mut alert.words {
                word.firing &= word.ends.is_none_or(|it| it > now);
            }
            alert.firing = alert.words.iter().any(|it| it.firing);
        }
    }

    /// Compares the state of a watch, all of which is on the disk, with what it should be.
    pub(crate) fn check(
        &mut self,
        state: &State,
        now: Timestamp,
        disk: &Contents,
    ) -> Result<(), String> {
        // To compare rules takes long, and most often they were compared before.
        if !self.compared_rules.as_ref().is_some_and(|it| Arc::ptr_eq(it, &state.rules)) {
            if state.rules != self.rules {
                return Err("the rules in force are not those that were loaded last".to_owned());
            }
            self.compared_rules = Some(state.rules.clone());
        }
        self.check_alerts(state, disk)?;
        self.check_changes(state, now)?;
        for incident in state.incidents.values() {
            let life = self.lives.iter().rev().find(|it| it.id == incident.id);
            let life = life.ok_or_else(|| format!("{} has no timeline", incident.id))?;
            life.check(incident, now)?;
        }
        Ok(())
    }

    /// Each change that was told of is known once, however often and in whatever order it was told.
    fn check_changes(&self, state: &State, now: Timestamp) -> Result<(), String> {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for change in state.change_log.open.values() {
            *known.entry(&change.told.external_id).or_default() += 1;
        }
        let recent = self.changes.iter().filter(|(_, at)| now.duration_since(**at) < KEPT);
        for (name, _) in recent {
            let count = known.get(name.as_str()).copied().unwrap_or_default();
            if count != 1 {
                return Err(format!("the change `{name}` is known {count} times"));
            }
        }
        Ok(())
    }

    fn check_alerts(&self, state: &State, disk: &Contents) -> Result<(), String> {
        let firing = |it: &&Alert| it.firing;
        let expected: BTreeSet<Fingerprint> =
            self.alerts.iter().filter(firing).map(|it| it.fingerprint).collect();
        // Heartbeats have a law of their own.
        let fires = |it: &&watchkeeper::domain::alert::Alert| {
            it.state == AlertState::Firing && it.labels.get("heartbeat").is_none()
        };
        let found: BTreeSet<Fingerprint> =
            state.alerts.values().map(Box::as_ref).filter(fires).map(|it| it.fingerprint).collect();
        if expected != found {
            return Err(format!("these alerts fire: {expected:?}, not {found:?}"));
        }
        for alert in &self.alerts {
            let open = state.alerts.get(&alert.fingerprint).map_or(0, |it| u64::from(it.count));
            let all = open + disk.begun_before(alert.fingerprint);
            if all != alert.begun {
                return Err(format!(
                    "alert {} began to fire {} times, and is counted {all} times",
                    alert.fingerprint, alert.begun
                ));
            }
        }
        Ok(())
    }
}

impl Life {
    /// Compares an incident with what its timeline tells.
    fn check(&self, incident: &Incident, now: Timestamp) -> Result<(), String> {
        let expected = match self.entries.last() {
            Some((Change::Opened, _)) => IncidentState::Open,
            Some((Change::Acknowledged, _)) => IncidentState::Acknowledged,
            Some((Change::Resolved, _)) => IncidentState::Resolved,
            Some((Change::Closed, _)) | None => IncidentState::Closed,
        };
        if expected != incident.state {
            return Err(format!("{} is {:?}, not {expected:?}", self.id, incident.state));
        }
        for clock in &incident.sla {
            let expected = self.ran(clock.target, now);
            let found = SignedDuration::from_millis(clock.elapsed_milliseconds_at(now));
            if expected != found {
                let entries = &self.entries;
                return Err(format!(
                    "{}: {expected:?} have run for {clock:?}, not {found:?}: {entries:?}",
                    self.id
                ));
            }
            let limit = SignedDuration::from_secs(clock.limit_seconds.into());
            if clock.state == ClockState::Breached && expected < limit {
                return Err(format!("{}: {expected:?} break no promise: {clock:?}", self.id));
            }
        }
        Ok(())
    }

    /// The time for which a clock has run: while the incident was open, and for the one that
    /// waits for an acknowledgement while there was none.
    fn ran(&self, target: TargetKind, now: Timestamp) -> SignedDuration {
        let (mut ran, mut since) = (SignedDuration::ZERO, None);
        let mut is_over = false;
        for (what, at) in &self.entries {
            let runs = match what {
                Change::Opened => !is_over,
                Change::Acknowledged if target == TargetKind::Acknowledge => {
                    is_over = true;
                    false
                }
                Change::Acknowledged => continue,
                Change::Resolved | Change::Closed => false,
            };
            match (since, runs) {
                (None, true) => since = Some(*at),
                (Some(begun), false) => {
                    ran += at.duration_since(begun);
                    since = None;
                }
                _ => {}
            }
        }
        since.map_or(ran, |begun| ran + now.duration_since(begun))
    }
}
