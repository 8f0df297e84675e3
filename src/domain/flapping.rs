//! Alerts that come and go: which of them flap, and which incidents wait whether one comes back.
//!
//! Each beginning and each end is a change; the count of changes halves with each half-life. An alert
//! flaps from so many on, and calms down at so few: two thresholds, as Icinga and Nagios have them,
//! but on events in a window that fades, since alerts tell of changes and not of checks. While it
//! flaps its incident stays open and nobody is told but of the beginning and the end of it.

use super::alert::{Alert, AlertState, Disposition};
use super::incident::TimelineEntry;
use super::label::{Beside, Fingerprint, Labels};
use super::rules::{Correlation, Occasion};
use super::{Moved, ObjectKey, State, later, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One change, as it is counted.
const CHANGE_PPM: u64 = 1_000_000;
/// After so many half-lives nothing is left of any count.
const HALF_LIVES_MAX: u64 = 40;

/// When alerts flap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlappingRule {
    /// An alert flaps from so many changes on; 0 = none ever does.
    pub start_changes: u32,
    /// It is calm again at so few; less than `start_changes`.
    pub stop_changes: u32,
    /// A change counts half after so many seconds.
    pub half_life_seconds: u32,
}

/// Six changes within some minutes, and calm at three: an alert that comes and goes each minute
/// flaps after three times, and is calm ten to twenty minutes after its last change.
impl Default for FlappingRule {
    fn default() -> Self {
        Self { start_changes: 6, stop_changes: 3, half_life_seconds: 600 }
    }
}

/// How an alert that was over at least once comes and goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unrest {
    /// Its changes at `counted_at`, in millionths.
    pub changes_ppm: u64,
    /// When it last changed.
    #[serde(with = "super::stored_time")]
    pub counted_at: Timestamp,
    /// Since when it flaps.
    #[serde(with = "super::stored_time::option", default)]
    pub flapping_since: Option<Timestamp>,
    /// It is over, but its incident waits so long whether it comes back.
    #[serde(with = "super::stored_time::option", default)]
    pub held_until: Option<Timestamp>,
}

impl Unrest {
    /// What is left of its changes, in millionths.
    fn changes_at(&self, now: Timestamp, rule: FlappingRule) -> u64 {
        faded(
            self.changes_ppm,
            seconds_between(self.counted_at, now),
            rule.half_life_seconds.into(),
        )
    }

    /// When it is calm again.
    fn calm_at(&self, rule: FlappingRule) -> Timestamp {
        let enough = u64::from(rule.stop_changes) * CHANGE_PPM;
        let (mut low, mut high) = (0, HALF_LIVES_MAX * u64::from(rule.half_life_seconds.max(1)));
        while low < high {
            let middle = low.midpoint(high);
            if faded(self.changes_ppm, middle, rule.half_life_seconds.into()) <= enough {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        later(self.counted_at, i64::try_from(low).unwrap_or(i64::MAX))
    }
}

/// A count after some seconds: halved with each half-life, on a straight line in between.
pub(super) fn faded(count: u64, seconds: u64, half_life_seconds: u64) -> u64 {
    let half_life = half_life_seconds.max(1);
    let halvings = seconds / half_life;
    if halvings >= HALF_LIVES_MAX {
        return 0;
    }
    let count = count >> halvings;
    count - count * (seconds % half_life) / (2 * half_life)
}

impl Alert {
    /// Whether its incident counts it among those that fire: it does, or it is over and may come back.
    pub fn counts_as_firing(&self) -> bool {
        self.state == AlertState::Firing || self.held_until().is_some()
    }

    /// Since when it flaps; `None` = it does not.
    pub fn flapping_since(&self) -> Option<Timestamp> {
        self.unrest.as_ref()?.flapping_since
    }

    /// Until when its incident waits whether it comes back, while it is over.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.unrest.as_ref()?.held_until
    }
}

impl State {
    /// The grouping rule that holds for labels.
    pub(super) fn correlation_for(&self, labels: &Labels) -> &Correlation {
        let mut rules = self.rules.correlations.iter();
        rules.find(|it| it.matchers.matches(labels)).unwrap_or(&super::correlation::LAST_RESORT)
    }

    /// When an alert is over of whose end its source promised to tell, and did not.
    pub(super) fn auto_resolves_at(&self, now: Timestamp, labels: &Labels) -> Option<Timestamp> {
        let seconds = self.correlation_for(labels).auto_resolve_seconds;
        (seconds > 0).then(|| later(now, i64::from(seconds)))
    }

    /// Counts that an alert began again, or ended; it may flap from now on.
    pub(super) fn count_change(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let rule = self.correlation_for(&alert.labels).flapping;
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        let unrest = alert.unrest.get_or_insert_with(|| {
            let (changes_ppm, counted_at) = (0, now);
            Box::new(Unrest { changes_ppm, counted_at, flapping_since: None, held_until: None })
        });
        unrest.changes_ppm = unrest.changes_at(now, rule).saturating_add(CHANGE_PPM);
        unrest.counted_at = now;
        let is_restless = rule.start_changes > 0
            && unrest.changes_ppm >= u64::from(rule.start_changes) * CHANGE_PPM;
        if is_restless && unrest.flapping_since.is_none() {
            unrest.flapping_since = Some(now);
            let text = format!(
                "began or ended often: {} changes, fading by half in {} s",
                unrest.changes_ppm / CHANGE_PPM,
                rule.half_life_seconds
            );
            self.tell_flapping(now, fingerprint, Occasion::FlappingStarted, &text);
        }
    }

    /// An alert is over. Tells whether its incident, if it is still open, waits for it.
    pub(super) fn hold_open(&mut self, now: Timestamp, fingerprint: Fingerprint) -> bool {
        let Some(alert) = self.alerts.get(&fingerprint) else { return false };
        let incident = alert.incident.and_then(|it| self.incidents.get(&it));
        if !incident.is_some_and(|it| it.state.is_active()) {
            return false;
        }
        let rule = self.correlation_for(&alert.labels);
        let patience = i64::from(rule.hold_open_seconds);
        let until = (patience > 0).then(|| later(now, patience));
        let unrest = alert.unrest.as_ref().filter(|it| it.flapping_since.is_some());
        let until = until.max(unrest.map(|it| it.calm_at(rule.flapping)));
        if let Some(unrest) = self.alerts.get_mut(&fingerprint).and_then(|it| it.unrest.as_mut()) {
            unrest.held_until = until;
        }
        until.is_some()
    }

    /// An alert fires again. If its incident waited for it, it goes on as if it had never been
    /// over; what is told then? `None` = it must be decided about.
    pub(super) fn resume(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
    ) -> Option<Disposition> {
        let alert = self.alerts.get_mut(&fingerprint)?;
        let unrest = alert.unrest.as_mut()?;
        unrest.held_until.take()?;
        let flaps = unrest.flapping_since.is_some();
        let incident = self.incidents.get_mut(&alert.incident?)?;
        if !incident.state.is_active() {
            // A person called it over meanwhile; that it fires again is news.
            incident.firing_count = incident.firing_count.saturating_sub(1);
            return None;
        }
        let disposition = if flaps { Disposition::Flapping } else { Disposition::Refreshed };
        if flaps && !alert.decision.disposition.is_held() {
            alert.decision.at = now;
            alert.decision.disposition = disposition;
        }
        self.begin_maintenance(now, fingerprint);
        self.look_again(now, [fingerprint]);
        self.touch_alert(fingerprint);
        Some(disposition)
    }

    /// When an alert that flaps, or is held open, wants to be looked at.
    pub(super) fn unrest_wants(&self, alert: &Alert) -> Option<Timestamp> {
        let unrest = alert.unrest.as_ref()?;
        let calm = unrest
            .flapping_since
            .map(|_| unrest.calm_at(self.correlation_for(&alert.labels).flapping));
        calm.into_iter().chain(unrest.held_until).min()
    }

    /// An alert that came and went may be calm now, and one that is held open over for good.
    pub(super) fn settle(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let Some(unrest) = &alert.unrest else { return };
        let rule = self.correlation_for(&alert.labels).flapping;
        let is_calm = unrest.changes_at(now, rule) <= u64::from(rule.stop_changes) * CHANGE_PPM;
        let calms_down = is_calm && unrest.flapping_since.is_some();
        let is_over = unrest.held_until.is_some_and(|it| it <= now);
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        let Some(unrest) = &mut alert.unrest else { return };
        if calms_down {
            let since = unrest.flapping_since.take().unwrap_or(now);
            if alert.decision.disposition == Disposition::Flapping {
                alert.decision.disposition = Disposition::Joined;
            }
            let text = format!("calm again after {} s", seconds_between(since, now));
            self.tell_flapping(now, fingerprint, Occasion::FlappingEnded, &text);
        }
        if is_over {
            self.end_hold(now, fingerprint);
        }
    }

    /// An alert is over, and nobody waits whether it comes back.
    pub(super) fn end_hold(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        if let Some(unrest) = &mut alert.unrest {
            unrest.held_until = None;
        }
        alert.updated_at = now;
        let moved = match alert.state {
            AlertState::Expired => Moved::Expired,
            AlertState::Firing | AlertState::Resolved => Moved::Resolved,
        };
        if let Some(incident) = alert.incident {
            self.member_ends(now, incident, fingerprint, moved);
        }
    }

    /// Tells whom it concerns, once when it begins and once when it ends.
    fn tell_flapping(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        occasion: Occasion,
        text: &str,
    ) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return };
        let Some(incident) = alert.incident.and_then(|it| self.incidents.get(&it)).cloned() else {
            return;
        };
        let id = incident.id;
        let name = Beside { labels: &alert.labels, known: Some(&incident.labels) };
        let word = if occasion == Occasion::FlappingStarted { "flaps" } else { "flaps no more" };
        let text = format!("{name} {word}: {text}");
        let entry = TimelineEntry::about(now, "flapping", text.clone(), vec![fingerprint]);
        self.log(ObjectKey::Incident(id), entry);
        self.notify(now, occasion, &incident, &format!("{id}: {text}"));
        self.touch(now, ObjectKey::Incident(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: FlappingRule =
        FlappingRule { start_changes: 6, stop_changes: 3, half_life_seconds: 600 };

    #[test]
    fn a_count_halves_with_each_half_life() {
        for (seconds, expected) in [
            (0, 8_000_000),
            (300, 6_000_000),
            (600, 4_000_000),
            (900, 3_000_000),
            (1200, 2_000_000),
            (600 * HALF_LIVES_MAX, 0),
        ] {
            assert_eq!(
                faded(8_000_000, seconds, RULE.half_life_seconds.into()),
                expected,
                "after {seconds} s"
            );
        }
    }

    proptest! {
        /// It is calm from then on, and was not a second before: the timer neither misses nor spins.
        #[test]
        fn it_is_calm_at_the_first_second_at_which_it_is(
            changes in 0_u64..200_000_000,
            stop in 0_u32..20,
            half_life in 1_u32..10_000,
        ) {
            let rule = FlappingRule { stop_changes: stop, half_life_seconds: half_life, ..RULE };
            let counted_at = Timestamp::UNIX_EPOCH;
            let unrest = Unrest {
                changes_ppm: changes,
                counted_at,
                flapping_since: None,
                held_until: None,
            };
            let calm = unrest.calm_at(rule);
            let enough = u64::from(stop) * CHANGE_PPM;
            prop_assert!(unrest.changes_at(calm, rule) <= enough);
            if calm > counted_at {
                prop_assert!(unrest.changes_at(later(calm, -1), rule) > enough);
            }
        }
    }
}
