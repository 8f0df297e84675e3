//! Leaves out of a delivery what the log knows already: senders repeat themselves every minute.
//!
//! An alert is left out when its labels, annotations, status and start equal its last durable
//! report, unless [`REPEAT_AFTER`] has passed or less than half of the time until its durable end
//! remains. While a report is on its way into the log nothing is known about its alert, and of two
//! that are on their way together nobody knows which is the last: then the next one is appended.

use crate::domain::event::{Ends, ReceivedAlert};
use crate::domain::label::Fingerprint;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An alert that did not change is appended again after this time.
pub(super) const REPEAT_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// How many locks share the work; a power of two.
const SHARDS: usize = 16;
/// How many alerts a shard remembers; what is beyond is appended each time.
const SHARD_ALERTS_MAX: usize = 32_768;

/// A time by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the wall clock: what senders' times are compared with.
    pub(super) wall: Timestamp,
    /// By the steady clock, since the daemon's start: how much time has passed.
    pub(super) steady: SignedDuration,
}

/// How often what does not change is appended.
pub(super) struct Terms<'a> {
    /// How long an alert without an end stays firing.
    pub(super) resolve_timeout: SignedDuration,
    /// After which time an alert is appended again, at most [`REPEAT_AFTER`].
    pub(super) repeat_after: &'a (dyn Fn(&ReceivedAlert) -> SignedDuration + Sync),
}

/// An alert of one source.
type Key = (Arc<str>, Fingerprint);

/// The last durable report of an alert.
#[derive(Clone, Copy, Debug)]
struct Durable {
    /// The hash of what must not have changed.
    content: u64,
    ends: Ends,
    appended_at: Moment,
}

/// What is known of an alert.
#[derive(Debug)]
enum Known {
    /// Its last durable report.
    Durable(Durable),
    /// Nothing, for so many reports are on their way; `alone` = there never was more than one.
    OnItsWay { reports: usize, alone: bool },
}

/// Remembers the last durable report of each alert.
pub(super) struct Coalescer {
    /// Keyed with random numbers, so that nobody can craft two reports with one hash.
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    alerts: HashMap<Key, Known>,
    /// When outdated entries were last thrown away, by the steady clock.
    swept_at: SignedDuration,
}

/// Reports on their way into the log. Dropping it means that nobody knows whether they got there.
pub(super) struct OnItsWay<'a> {
    coalescer: &'a Coalescer,
    reports: Vec<(Key, Durable)>,
}

impl Coalescer {
    /// Knows nothing yet.
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Keeps of a delivery what must be appended. Call [`OnItsWay::mark_durable`] once it is.
    pub(super) fn begin(
        &self,
        source: &Arc<str>,
        alerts: &mut Vec<ReceivedAlert>,
        now: Moment,
        terms: &Terms<'_>,
    ) -> OnItsWay<'_> {
        let mut reports = Vec::with_capacity(alerts.len());
        alerts.retain(|alert| {
            let key = (Arc::clone(source), alert.fingerprint());
            let report =
                Durable { content: self.content(alert, now), ends: alert.ends, appended_at: now };
            let mut shard = self.shard(key.1);
            if matches!(shard.alerts.get(&key), Some(Known::Durable(last))
                if last.covers(&report, terms.resolve_timeout, (terms.repeat_after)(alert)))
            {
                return false;
            }
            shard.send_off(key.clone(), now.steady);
            reports.push((key, report));
            true
        });
        OnItsWay { coalescer: self, reports }
    }

    /// What must not have changed. The link is not part of it. The end is part of it once it is
    /// past: while an alert fires its end moves on with each report.
    fn content(&self, alert: &ReceivedAlert, now: Moment) -> u64 {
        let ended_at = match alert.ends {
            Ends::At(end) if end <= now.wall => Some(end),
            Ends::At(_) | Ends::Timeout | Ends::WhenTold => None,
        };
        self.hasher.hash_one((&alert.labels, &alert.annotations, alert.starts_at, ended_at))
    }

    fn shard(&self, fingerprint: Fingerprint) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(fingerprint.0 % (SHARDS as u64)).unwrap_or_default();
        let shard = self.shards.get(index).expect("the index is less than the number of shards");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Durable {
    /// Whether a new report says nothing that this one does not say for a while yet.
    fn covers(
        &self,
        report: &Self,
        resolve_timeout: SignedDuration,
        repeat_after: SignedDuration,
    ) -> bool {
        let (now, then) = (report.appended_at, self.appended_at);
        let passed = now.steady.saturating_sub(then.steady);
        let half_of_the_lead_remains = match (self.ends, report.ends) {
            (Ends::At(end), Ends::At(_)) if end <= then.wall => true,
            (Ends::At(end), Ends::At(new_end)) => {
                let lead = end.duration_since(then.wall);
                new_end >= end && passed.saturating_mul(2) <= lead
            }
            (Ends::Timeout, Ends::Timeout) => passed.saturating_mul(2) <= resolve_timeout,
            (Ends::WhenTold, Ends::WhenTold) => true,
            _ => false,
        };
        self.content == report.content && passed < repeat_after && half_of_the_lead_remains
    }
}

impl Shard {
    /// Notes that a report of the alert is on its way.
    fn send_off(&mut self, key: Key, now: SignedDuration) {
        if now.saturating_sub(self.swept_at) >= REPEAT_AFTER {
            self.swept_at = now;
            self.alerts.retain(|_, known| match known {
                Known::Durable(it) => now.saturating_sub(it.appended_at.steady) < REPEAT_AFTER,
                Known::OnItsWay { .. } => true,
            });
        }
        match self.alerts.entry(key) {
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Known::OnItsWay { reports, alone } => (*reports, *alone) = (*reports + 1, false),
                known @ Known::Durable(_) => *known = Known::OnItsWay { reports: 1, alone: true },
            },
            Entry::Vacant(entry) => {
                entry.insert(Known::OnItsWay { reports: 1, alone: true });
            }
        }
    }

    /// Notes that a report of the alert has arrived in the log, or may have.
    fn arrive(&mut self, key: Key, report: Option<Durable>) {
        let is_full = self.alerts.len() > SHARD_ALERTS_MAX;
        let Entry::Occupied(mut entry) = self.alerts.entry(key) else { return };
        let Known::OnItsWay { reports, alone } = entry.get_mut() else { return };
        if *reports > 1 {
            *reports -= 1;
            return;
        }
        match report {
            Some(report) if *alone && !is_full => {
                entry.insert(Known::Durable(report));
            }
            _ => {
                entry.remove();
            }
        }
    }
}

impl OnItsWay<'_> {
    /// The reports are in the log for good.
    pub(super) fn mark_durable(mut self) {
        for (key, report) in std::mem::take(&mut self.reports) {
            self.coalescer.shard(key.1).arrive(key, Some(report));
        }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        for (key, _) in std::mem::take(&mut self.reports) {
            self.coalescer.shard(key.1).arrive(key, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Labels;
    use proptest::prelude::*;

    const RESOLVE_TIMEOUT: SignedDuration = SignedDuration::from_secs(40);
    const TERMS: Terms<'_> =
        Terms { resolve_timeout: RESOLVE_TIMEOUT, repeat_after: &|_| REPEAT_AFTER };
    const START: i64 = 1_800_000_000;

    fn moment(seconds: i64) -> Moment {
        Moment {
            wall: Timestamp::from_second(START + seconds).unwrap(),
            steady: SignedDuration::from_secs(seconds),
        }
    }

    /// An alert; its end is in seconds after the start of the test.
    fn alert(name: u8, text: u8, ends: Option<i64>) -> ReceivedAlert {
        ReceivedAlert {
            labels: Labels::from_pairs([("a", name.to_string())]),
            annotations: Labels::from_pairs([("t", text.to_string())]),
            starts_at: Some(Timestamp::from_second(START - 1000).unwrap()),
            ends: ends.map_or(Ends::Timeout, |it| Ends::At(moment(it).wall)),
            generator_url: Box::default(),
            identity: None,
        }
    }

    /// Delivers and makes durable; returns how many were appended.
    fn deliver(coalescer: &Coalescer, mut alerts: Vec<ReceivedAlert>, seconds: i64) -> usize {
        let on_its_way = coalescer.begin(&Arc::from("s"), &mut alerts, moment(seconds), &TERMS);
        on_its_way.mark_durable();
        alerts.len()
    }

    #[test]
    fn a_repeated_alert_is_appended_only_when_it_must_be() {
        // (first end, second: text, end, seconds later) and whether the second is appended.
        for (first_end, text, end, later, appended) in [
            (Some(240), 0, Some(255), 15, false),
            (Some(240), 1, Some(255), 15, true),
            (Some(240), 0, Some(299), 59, false),
            (Some(240), 0, Some(300), 60, true),
            (Some(16), 0, Some(24), 8, false),
            (Some(16), 0, Some(25), 9, true),
            (Some(240), 0, Some(200), 15, true),
            (Some(240), 0, Some(5), 15, true),
            (Some(240), 0, None, 15, true),
            (Some(-5), 0, Some(-5), 59, false),
            (Some(-5), 0, Some(-5), 60, true),
            (Some(-5), 0, Some(-4), 1, true),
            (None, 0, None, 20, false),
            (None, 0, None, 21, true),
        ] {
            let coalescer = Coalescer::new();
            assert_eq!(deliver(&coalescer, vec![alert(1, 0, first_end)], 0), 1);
            let count = deliver(&coalescer, vec![alert(1, text, end)], later);
            assert_eq!(count, usize::from(appended), "{first_end:?} {text} {end:?} {later}");
        }
    }

    #[test]
    fn sources_do_not_know_of_each_other() {
        let coalescer = Coalescer::new();
        for source in ["one", "two"] {
            let mut alerts = vec![alert(1, 0, Some(240))];
            coalescer.begin(&Arc::from(source), &mut alerts, moment(0), &TERMS).mark_durable();
            assert_eq!(alerts.len(), 1, "{source}");
        }
    }

    #[test]
    fn within_a_delivery_the_last_word_counts() {
        let coalescer = Coalescer::new();
        let firing = alert(1, 0, Some(240));
        assert_eq!(deliver(&coalescer, vec![firing.clone()], 0), 1);
        // Were the second left out because it equals the durable one, the alert would end.
        assert_eq!(deliver(&coalescer, vec![alert(1, 0, Some(1)), firing.clone()], 2), 2);
        assert_eq!(deliver(&coalescer, vec![firing.clone()], 3), 1, "nobody knows the last one");
        assert_eq!(deliver(&coalescer, vec![firing], 4), 0);
    }

    #[test]
    fn a_failed_append_makes_the_next_report_count() {
        let coalescer = Coalescer::new();
        let firing = alert(1, 0, Some(240));
        assert_eq!(deliver(&coalescer, vec![firing.clone()], 0), 1);
        let mut changed = vec![alert(1, 1, Some(240))];
        drop(coalescer.begin(&Arc::from("s"), &mut changed, moment(1), &TERMS));
        // The changed report may be in the log, so the old one must be said again.
        assert_eq!(deliver(&coalescer, vec![firing], 2), 1);
    }

    #[test]
    fn of_two_on_their_way_nobody_knows_the_last() {
        let coalescer = Coalescer::new();
        let source = Arc::from("s");
        let (mut one, mut two) = (vec![alert(1, 0, Some(240))], vec![alert(1, 1, Some(240))]);
        let first = coalescer.begin(&source, &mut one, moment(0), &TERMS);
        let second = coalescer.begin(&source, &mut two, moment(0), &TERMS);
        second.mark_durable();
        first.mark_durable();
        assert_eq!(deliver(&coalescer, two, 1), 1);
        assert_eq!(deliver(&coalescer, vec![alert(1, 1, Some(240))], 2), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_time_and_number() {
        let mut shard = Shard::default();
        let report = Durable { content: 1, ends: Ends::WhenTold, appended_at: moment(1) };
        for number in 0..=SHARD_ALERTS_MAX as u64 + 10 {
            let key: Key = (Arc::from("s"), Fingerprint(number));
            shard.send_off(key.clone(), moment(1).steady);
            shard.arrive(key, Some(report));
        }
        assert_eq!(shard.alerts.len(), SHARD_ALERTS_MAX);
        shard.send_off((Arc::from("s"), Fingerprint(0)), moment(61).steady);
        assert_eq!(shard.alerts.len(), 1);
    }

    /// One delivered alert: seconds since the one before, name, text, seconds until its end, and
    /// whether the append succeeds.
    type Delivery = (i64, u8, u8, Option<i64>, bool);

    fn delivery() -> impl Strategy<Value = Delivery> {
        let end = prop_oneof![Just(None), (-20_i64..200).prop_map(Some)];
        (0_i64..40, 0_u8..3, 0_u8..2, end, prop::bool::weighted(0.9))
    }

    /// Says the rule again, naively, over the whole list of what was appended.
    fn must_append(log: &[(i64, ReceivedAlert, bool)], now: i64, alert: &ReceivedAlert) -> bool {
        let Some((then, last, true)) = log.iter().rev().find(|it| it.1.labels == alert.labels)
        else {
            return true;
        };
        let end = |it: &ReceivedAlert, at: i64| match it.ends {
            Ends::At(end) => end.as_second() - START,
            _ => at + RESOLVE_TIMEOUT.as_secs(),
        };
        let (last_end, new_end) = (end(last, *then), end(alert, now));
        let (was_over, is_over) = (last_end <= *then, new_end <= now);
        let same = last.annotations == alert.annotations
            && was_over == is_over
            && std::mem::discriminant(&last.ends) == std::mem::discriminant(&alert.ends)
            && if is_over { last_end == new_end } else { last_end <= new_end };
        let half_remains = is_over || 2 * (last_end - now) >= last_end - then;
        !(same && now - then < 60 && half_remains)
    }

    proptest! {
        #[test]
        fn a_naive_model_agrees(deliveries in prop::collection::vec(delivery(), 1..80)) {
            let coalescer = Coalescer::new();
            let source = Arc::from("s");
            let mut log = Vec::new();
            let mut now = 0;
            for (later, name, text, ends_in, succeeds) in deliveries {
                now += later;
                let alert = alert(name, text, ends_in.map(|it| now + it));
                let expected = must_append(&log, now, &alert);
                let mut alerts = vec![alert.clone()];
                let on_its_way =
                    coalescer.begin(&source, &mut alerts, moment(now), &TERMS);
                prop_assert_eq!(alerts.len(), usize::from(expected));
                if succeeds {
                    on_its_way.mark_durable();
                } else {
                    drop(on_its_way);
                }
                if expected {
                    log.push((now, alert, succeeds));
                }
            }
        }
    }
}
