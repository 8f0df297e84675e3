//! Alerts: one firing condition on one labelled thing, and what became of each.

mod decision;

pub use decision::{Decision, Disposition, Grouping, Held, Inhibitor, Passed};

use super::event::{AlertBatch, Ends, ReceivedAlert};
use super::flapping::Unrest;
use super::incident::IncidentId;
use super::label::{Fingerprint, Labels};
use super::planted::{self, Bug};
use super::{Closed, Count, ObjectKey, PAGE_ALERTS_MAX, State, heartbeat, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether an alert is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It is.
    Firing,
    /// Its sources said that it is over.
    Resolved,
    /// Its sources fell silent about it.
    Expired,
}

impl AlertState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Expired => "expired",
        }
    }
}

/// What one source says of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The source's name.
    pub source: Arc<str>,
    /// Whether it says that the alert fires.
    pub firing: bool,
    /// When its word runs out; `None` = never, it will tell.
    #[serde(with = "super::stored_time::option", default)]
    pub expires_at: Option<Timestamp>,
    /// When it last spoke.
    #[serde(with = "super::stored_time")]
    pub received_at: Timestamp,
}

/// One firing condition on one labelled thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// What the identity is made of.
    pub labels: Labels,
    /// Texts about it, as last received.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// A link to where it comes from.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub generator_url: Box<str>,
    /// Whether it is true.
    pub state: AlertState,
    /// Since when it is, or last was, true.
    #[serde(with = "super::stored_time")]
    pub starts_at: Timestamp,
    /// When it ended; while it fires, when its sources' word runs out.
    #[serde(with = "super::stored_time::option", default)]
    pub ends_at: Option<Timestamp>,
    /// When a source first told of it.
    #[serde(with = "super::stored_time")]
    pub received_at: Timestamp,
    /// When something about it last changed.
    #[serde(with = "super::stored_time")]
    pub updated_at: Timestamp,
    /// What each source says.
    pub reports: Vec<Report>,
    /// How often it began to fire.
    pub count: u32,
    /// The incident that it is a member of.
    pub incident: Option<IncidentId>,
    /// When it joined that incident.
    #[serde(with = "super::stored_time::option", default)]
    pub joined_at: Option<Timestamp>,
    /// Whether other alerts followed it that it may have caused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_led: bool,
    /// Whether it was the first of its kind, after rates had been watched for long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
    /// What became of it, and why.
    pub decision: Decision,
    /// How it came and went, once it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrest: Option<Box<Unrest>>,
    /// The page of the store that it is written on, see [`super::State::pages`].
    pub page: u32,
    /// When it wants to be looked at again; worked out anew after a start.
    #[serde(skip)]
    pub(crate) due_at: Option<Timestamp>,
}

impl Alert {
    /// The names of the sources that know it.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.reports.iter().map(|it| &*it.source)
    }

    /// What became of it: [`Disposition::Resolved`] or [`Disposition::Expired`] once it is over,
    /// else what was decided when it began to fire.
    pub fn disposition(&self) -> Disposition {
        match self.state {
            AlertState::Firing => self.decision.disposition,
            AlertState::Resolved => Disposition::Resolved,
            AlertState::Expired => Disposition::Expired,
        }
    }
}

/// How long an alert that is over and belongs to no open incident stays at hand, in seconds.
pub(super) const KEPT_SECONDS: i64 = 15 * 60;

/// What a source says of an alert, with its times made plain.
struct Word {
    fingerprint: Fingerprint,
    firing: bool,
    starts_at: Timestamp,
    /// `None` = the source will tell.
    ends_at: Option<Timestamp>,
}

impl State {
    /// Takes in a sender's delivery.
    pub(super) fn receive_batch(&mut self, now: Timestamp, batch: &AlertBatch) {
        self.feed_heartbeats(now, batch);
        for _ in &batch.rejected {
            self.turn.counts.push(Count::Alert(Disposition::Rejected));
        }
        // What can inhibit goes first, so that the order within a delivery does not matter.
        let (mut first, then): (Vec<_>, Vec<_>) =
            batch.alerts.iter().partition(|it| self.can_inhibit(&it.labels));
        first.sort_by_cached_key(|it| self.inhibition_rank(it));
        for received in first.into_iter().chain(then) {
            let disposition = self.receive(now, &batch.source, received);
            self.turn.counts.push(Count::Alert(disposition));
        }
        self.tell_new_kinds(now);
    }

    /// Sends one alert through the stages; they stand here in their order.
    fn receive(
        &mut self,
        now: Timestamp,
        source: &Arc<str>,
        received: &ReceivedAlert,
    ) -> Disposition {
        let word = self.make_plain(now, source, received);
        let fingerprint = word.fingerprint;
        let was_firing = self.alerts.get(&fingerprint).map(|it| it.state == AlertState::Firing);
        let firing = self.note_word(now, source, received, &word);
        if received.identity.is_some() && word.firing {
            self.take_labels(now, fingerprint, &received.labels);
        }
        match (was_firing, firing) {
            (Some(true), true) | (Some(false), false) => {
                self.touch_alert(fingerprint);
                Disposition::Refreshed
            }
            (Some(true), false) => self.end_alert(now, fingerprint, AlertState::Resolved, &word),
            (None, false) => {
                self.touch_alert(fingerprint);
                Disposition::Resolved
            }
            (None, true) => {
                self.begin_alert(now, fingerprint, &word);
                self.count_rate(now, source, received);
                let disposition = self.decide(now, fingerprint);
                self.account_beginning(now, fingerprint, disposition);
                disposition
            }
            (Some(false), true) => {
                self.begin_alert(now, fingerprint, &word);
                self.count_rate(now, source, received);
                let resumed = self.resume(now, fingerprint);
                let disposition = resumed.unwrap_or_else(|| self.decide(now, fingerprint));
                self.count_change(now, fingerprint);
                self.touch_alert(fingerprint);
                self.account_beginning(now, fingerprint, disposition);
                disposition
            }
        }
    }

    /// Fills in the times that a source left out, as Alertmanager does.
    fn make_plain(&self, now: Timestamp, source: &str, received: &ReceivedAlert) -> Word {
        let timeout = i64::from(self.rules.resolve_timeout_seconds.max(1));
        let (firing, ends_at) = match received.ends {
            // Our time counts whole milliseconds: what ended within this one is over, or it would wait
            // for its end like one that fell silent.
            Ends::At(at) => (at.as_millisecond() > now.as_millisecond(), Some(at)),
            Ends::Timeout => (true, Some(later(now, timeout))),
            // A heartbeat that is down stays so until it is heard from.
            Ends::WhenTold if source == heartbeat::SOURCE => (true, None),
            Ends::WhenTold => (true, self.auto_resolves_at(now, &received.labels)),
        };
        let starts_at = received.starts_at.unwrap_or_else(|| ends_at.map_or(now, |it| it.min(now)));
        Word { fingerprint: received.fingerprint(), firing, starts_at, ends_at }
    }

    /// Writes down what a source says. Returns whether any source now says that the alert fires.
    fn note_word(
        &mut self,
        now: Timestamp,
        source: &Arc<str>,
        received: &ReceivedAlert,
        word: &Word,
    ) -> bool {
        let fingerprint = word.fingerprint;
        if !self.alerts.contains_key(&fingerprint) {
            self.add_alert(now, received, word);
        }
        let alert = self.alerts.get_mut(&fingerprint).expect("it was added above");
        let report = Report {
            source: source.clone(),
            firing: word.firing,
            expires_at: word.firing.then_some(word.ends_at).flatten(),
            received_at: now,
        };
        match alert.reports.iter_mut().find(|it| it.source == *source) {
            Some(known) => *known = report,
            None => alert.reports.push(report),
        }
        if !word.firing {
            // A word that ran out, and counts only because its source could not speak, weighs
            // nothing against one that says that it is over.
            let ran_out = |it: &&mut Report| it.expires_at.is_some_and(|at| at <= now);
            alert.reports.iter_mut().filter(ran_out).for_each(|it| it.firing = false);
        }
        alert.take_texts(now, received, word.firing);
        if alert.state == AlertState::Firing {
            alert.count += u32::from(planted::is(Bug::DuplicateCounted));
            alert.starts_at = alert.starts_at.min(word.starts_at);
            let firing = alert.reports.iter().filter(|it| it.firing);
            let words: Option<Vec<Timestamp>> = firing.map(|it| it.expires_at).collect();
            alert.ends_at = words.and_then(|it| it.into_iter().max());
        }
        alert.reports.iter().any(|it| it.firing)
    }

    /// Makes room for an alert that was not at hand.
    fn add_alert(&mut self, now: Timestamp, received: &ReceivedAlert, word: &Word) {
        let fingerprint = word.fingerprint;
        if self.pages.get(&self.memory.page).is_none_or(|it| it.len() >= PAGE_ALERTS_MAX) {
            self.memory.page += 1;
            self.changes.objects.insert(ObjectKey::Memory);
        }
        let page = self.memory.page;
        self.pages.entry(page).or_default().insert(fingerprint);
        let alert = Alert {
            fingerprint,
            labels: received.labels.clone(),
            annotations: received.annotations.clone(),
            generator_url: received.generator_url.clone(),
            state: AlertState::Resolved,
            starts_at: word.starts_at,
            ends_at: word.ends_at,
            received_at: now,
            updated_at: now,
            reports: Vec::with_capacity(1),
            count: 0,
            incident: None,
            joined_at: None,
            has_led: false,
            is_new: false,
            decision: Decision {
                at: now,
                disposition: Disposition::Resolved,
                silenced_by: Vec::new(),
                silences_checked: 0,
                held: None,
                rule: None,
                passed: None,
                grouping: None,
            },
            unrest: None,
            page,
            due_at: None,
        };
        self.alerts.insert(fingerprint, Box::new(alert));
    }

    /// An alert begins to fire.
    fn begin_alert(&mut self, now: Timestamp, fingerprint: Fingerprint, word: &Word) {
        if let Some(alert) = self.alerts.get_mut(&fingerprint) {
            alert.state = AlertState::Firing;
            alert.starts_at = word.starts_at;
            alert.ends_at = word.ends_at;
            alert.updated_at = now;
            alert.count += 1;
        }
        self.index_inhibition(fingerprint, true);
    }

    /// An alert is over.
    fn end_alert(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        state: AlertState,
        word: &Word,
    ) -> Disposition {
        let ended = word.ends_at.unwrap_or(now).min(now);
        self.index_inhibition(fingerprint, false);
        if let Some(alert) = self.alerts.get_mut(&fingerprint) {
            alert.state = state;
            alert.ends_at = Some(ended);
            alert.updated_at = now;
        }
        self.account_end(now, fingerprint);
        self.count_change(now, fingerprint);
        if !self.hold_open(now, fingerprint) {
            self.end_hold(now, fingerprint);
        }
        self.touch_alert(fingerprint);
        match state {
            AlertState::Expired => Disposition::Expired,
            AlertState::Firing | AlertState::Resolved => Disposition::Resolved,
        }
    }

    /// An alert's time has come: a source's word runs out, or it need not be at hand any more.
    pub(super) fn alert_due(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        self.settle(now, fingerprint);
        let is_forgotten = self.alert_wants(fingerprint).is_some_and(|it| it <= now);
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        if alert.state != AlertState::Firing {
            if is_forgotten {
                self.forget_alert(fingerprint);
            } else {
                self.touch_alert(fingerprint);
            }
            return;
        }
        // It may be looked at for another reason while nothing expires, because nobody watched.
        let is_held = self.memory.hold_until.is_some_and(|it| it > now);
        for report in &mut alert.reports {
            if !is_held && report.expires_at.is_some_and(|it| it <= now) {
                report.firing = false;
            }
        }
        if alert.reports.iter().any(|it| it.firing) {
            // A rule may have waited long enough for another alert to inhibit this one.
            self.look_again(now, [fingerprint]);
            self.touch_alert(fingerprint);
            return;
        }
        let starts_at = alert.starts_at;
        let word = Word { fingerprint, firing: false, starts_at, ends_at: Some(now) };
        let disposition = self.end_alert(now, fingerprint, AlertState::Expired, &word);
        self.turn.counts.push(Count::Alert(disposition));
    }

    /// Moves an alert out of the state; views find it in the store.
    pub(super) fn forget_alert(&mut self, fingerprint: Fingerprint) {
        let Some(mut alert) = self.alerts.remove(&fingerprint) else { return };
        self.end_timer(&mut alert);
        self.changes.pages.insert(alert.page);
        if let Some(page) = self.pages.get_mut(&alert.page) {
            page.remove(&fingerprint);
            if page.is_empty() {
                self.pages.remove(&alert.page);
            }
        }
        self.changes.closed.push(Closed::Alert(alert));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;

    #[test]
    fn what_ended_within_this_millisecond_is_over() {
        let now: Timestamp = "2026-11-22T17:00:00.500Z".parse().unwrap();
        for (nanoseconds, expected) in
            [(-1, "resolved"), (999_999, "resolved"), (1_000_000, "firing")]
        {
            let mut state = State::default();
            for ends in [later(now, 60), now + jiff::SignedDuration::from_nanos(nanoseconds)] {
                let alert = ReceivedAlert {
                    labels: Labels::from_pairs([("alertname", "Down")]),
                    annotations: Labels::default(),
                    starts_at: Some(now - jiff::SignedDuration::from_secs(9)),
                    ends: Ends::At(ends),
                    generator_url: "".into(),
                    identity: None,
                };
                let batch =
                    AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
                drop(state.apply(now, &Event::AlertsReceived(batch)));
            }
            let alert = state.alerts.values().next().unwrap();
            assert_eq!(alert.state.as_str(), expected, "{nanoseconds}");
        }
    }

    #[test]
    fn nothing_expires_in_a_gap_because_it_is_looked_at_for_another_reason() {
        let mut state = State::default();
        let begin: Timestamp = "2026-11-22T17:00:00Z".parse().unwrap();
        let tell = |state: &mut State, seconds: i64, ends_in: i64| {
            let now = later(begin, seconds);
            let alert = ReceivedAlert {
                labels: Labels::from_pairs([("alertname", "Down")]),
                annotations: Labels::default(),
                starts_at: Some(begin),
                ends: Ends::At(later(now, ends_in)),
                generator_url: "".into(),
                identity: None,
            };
            let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
            drop(state.apply(now, &Event::AlertsReceived(batch)));
        };
        for seconds in 0..=8 {
            tell(&mut state, seconds, if seconds % 2 == 0 { 60 } else { 0 });
        }
        let flaps =
            |state: &State| state.alerts.values().next().unwrap().flapping_since().is_some();
        let fires =
            |state: &State| state.alerts.values().next().unwrap().state == AlertState::Firing;
        let calm = state.unrest_wants(state.alerts.values().next().unwrap()).unwrap();
        assert!(flaps(&state));
        let started = Event::WatchStarted { last_seen: Some(later(begin, 9)) };
        drop(state.apply(later(calm, -30), &started));
        drop(state.apply(calm, &Event::Woken));
        assert!(!flaps(&state) && fires(&state), "its source had no time to speak");
        drop(state.apply(later(calm, 61), &Event::Woken));
        assert!(!fires(&state), "nor did it speak");
    }
}
