//! Plays the day into a daemon as Prometheus would: batches, resends, and an end for each alert.

use super::shop::{DAY_SECONDS, PlannedAlert};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Result};
use crate::domain::label::Fingerprint;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A firing alert is sent again after this long.
const RESEND_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// An alert fires on for this long after it was last sent, as with Prometheus: four resends.
const HOLDS_FOR: SignedDuration = SignedDuration::from_secs(8);
/// How often the end of an alert is sent.
const ENDS_SENT: u8 = 2;
/// The most alerts in one request, as with Prometheus.
const BATCH_MAX: usize = 64;
/// The longest that the daemon may refuse to take alerts.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Alerts posted, resends included.
    pub alerts: usize,
    /// Of these, alerts that the daemon took.
    pub accepted: usize,
    /// Different alerts.
    pub series: usize,
    /// Requests.
    pub requests: usize,
}

/// A day being played.
pub struct Player {
    day: Vec<PlannedAlert>,
    progress: Vec<Progress>,
    series: BTreeSet<Fingerprint>,
    begun_at: Timestamp,
    speed: u32,
    waiting: Vec<Value>,
    refused_since: Option<Timestamp>,
    sent: Sent,
}

/// Where one alert of the day is.
#[derive(Clone, Copy)]
enum Progress {
    Ahead,
    Firing { since: Timestamp, sent_at: Timestamp },
    Ended { since: Timestamp, at: Timestamp, sent_at: Timestamp, times: u8 },
}

impl Player {
    /// Prepares to play a day that begins now.
    pub fn new(day: Vec<PlannedAlert>, speed: u32, now: Timestamp) -> Self {
        Self {
            progress: vec![Progress::Ahead; day.len()],
            day,
            series: BTreeSet::new(),
            begun_at: now,
            speed: speed.max(1),
            waiting: Vec::new(),
            refused_since: None,
            sent: Sent::default(),
        }
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        Sent { series: self.series.len(), ..self.sent }
    }

    /// The time of the shop's day, in seconds since it began.
    pub fn clock_seconds(&self, now: Timestamp) -> u32 {
        let milliseconds = now.duration_since(self.begun_at).as_millis().max(0);
        let seconds = milliseconds.saturating_mul(i128::from(self.speed)) / 1000;
        u32::try_from(seconds).unwrap_or(u32::MAX).min(DAY_SECONDS)
    }

    /// Whether every alert has ended, and its end was sent.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let has_ended = |it: &Progress| matches!(it, Progress::Ended { times: ENDS_SENT.., .. });
        self.waiting.is_empty()
            && self.clock_seconds(now) >= DAY_SECONDS
            && self.progress.iter().all(has_ended)
    }

    /// Sends what is due. Fails when the daemon answers badly, or takes nothing for too long.
    pub async fn send_due(
        &mut self,
        client: &Client,
        cured_at: &BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) -> Result<()> {
        let due = self.due(cured_at, now);
        self.waiting.extend(due);
        while !self.waiting.is_empty() {
            let batch: Vec<Value> = self.waiting.iter().take(BATCH_MAX).cloned().collect();
            let count = batch.len();
            self.sent.requests += 1;
            self.sent.alerts += count;
            match client.post_alertmanager(&["alerts"], Value::Array(batch)).await {
                Ok(_) => {
                    self.sent.accepted += count;
                    self.refused_since = None;
                    self.waiting.drain(..count);
                }
                Err(failure) => return self.bear(failure, now),
            }
        }
        Ok(())
    }

    /// A daemon that is busy gets the same again at the next tick; for a while.
    fn bear(&mut self, failure: Failure, now: Timestamp) -> Result<()> {
        let since = *self.refused_since.get_or_insert(now);
        let busy = failure.exit_code() == 3;
        if busy && now.duration_since(since) < PATIENCE { Ok(()) } else { Err(failure) }
    }

    /// The alerts to send now: new ones, resends, and ends.
    fn due(&mut self, cured_at: &BTreeMap<String, Timestamp>, now: Timestamp) -> Vec<Value> {
        let mut due = Vec::new();
        let begun_at = self.begun_at;
        let speed = self.speed;
        let real = |seconds: u32| {
            let milliseconds = i64::from(seconds) * 1000 / i64::from(speed);
            begun_at + SignedDuration::from_millis(milliseconds)
        };
        for (alert, progress) in self.day.iter().zip(&mut self.progress) {
            let cured = alert.cure.as_ref().and_then(|it| cured_at.get(it)).copied();
            let next = progress.next(real(alert.starts_at_seconds), now, |since| {
                let ends_at = real(alert.ends_at_seconds);
                cured.filter(|it| *it >= since).map_or(ends_at, |it| it.min(ends_at))
            });
            let Some(next) = next else { continue };
            *progress = next;
            self.series.insert(alert.labels.fingerprint());
            due.push(next.to_post(alert, now));
        }
        due
    }
}

impl Progress {
    /// Where an alert is after what is due is sent; `None` when nothing is due.
    fn next(
        self,
        starts_at: Timestamp,
        now: Timestamp,
        ends_at: impl Fn(Timestamp) -> Timestamp,
    ) -> Option<Self> {
        match self {
            Self::Ahead if now < starts_at => None,
            Self::Ahead => Some(Self::Firing { since: starts_at, sent_at: now }),
            Self::Firing { since, .. } if ends_at(since) <= now => {
                Some(Self::Ended { since, at: ends_at(since), sent_at: now, times: 1 })
            }
            Self::Firing { since, sent_at } => {
                let is_due = now.duration_since(sent_at) >= RESEND_AFTER;
                is_due.then_some(Self::Firing { since, sent_at: now })
            }
            Self::Ended { times: ENDS_SENT.., .. } => None,
            Self::Ended { since, at, sent_at, times } => {
                let is_due = now.duration_since(sent_at) >= RESEND_AFTER;
                is_due.then_some(Self::Ended { since, at, sent_at: now, times: times + 1 })
            }
        }
    }

    fn to_post(self, alert: &PlannedAlert, now: Timestamp) -> Value {
        let (starts_at, ends_at) = match self {
            Self::Ended { since, at, .. } => (since, at),
            Self::Firing { since, .. } => (since, now + HOLDS_FOR),
            Self::Ahead => (now, now + HOLDS_FOR),
        };
        json!({
            "labels": alert.labels,
            "annotations": alert.annotations,
            "startsAt": starts_at,
            "endsAt": ends_at,
            "generatorURL": "http://prometheus.shop.example/graph",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::shop;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds)
    }

    /// Plays a whole day without a daemon; gives what was sent, by time in milliseconds.
    fn play(speed: u32, cured_at: &BTreeMap<String, Timestamp>) -> Vec<(i64, Value)> {
        let mut player = Player::new(shop::plan(7), speed, at(0));
        let mut sent = Vec::new();
        for tick in 0.. {
            let now = tick * 200;
            sent.extend(player.due(cured_at, at(now)).into_iter().map(|it| (now, it)));
            if player.is_over(at(now)) {
                return sent;
            }
            assert!(tick < 100_000, "the day never ends");
        }
        sent
    }

    fn time(value: &Value, name: &str) -> Timestamp {
        value[name].as_str().unwrap().parse().unwrap()
    }

    #[test]
    fn every_alert_that_fires_is_resolved_at_the_end() {
        for speed in [720, 3600] {
            let mut last = BTreeMap::new();
            for (now, alert) in play(speed, &BTreeMap::new()) {
                assert!(time(&alert, "startsAt") <= at(now));
                assert!(time(&alert, "startsAt") < time(&alert, "endsAt"));
                last.insert(alert["labels"].to_string(), (now, alert));
            }
            assert!(last.len() > 120);
            for (now, alert) in last.values() {
                assert!(time(alert, "endsAt") <= at(*now), "{alert}");
            }
        }
    }

    #[test]
    fn a_firing_alert_is_sent_again_before_it_runs_out() {
        let mut player = Player::new(shop::plan(7), 1, at(0));
        let begins = i64::from(shop::plan(7)[0].starts_at_seconds) * 1000;
        let cures = BTreeMap::new();
        let sent: Vec<usize> = [0, 1_000, 2_000, 3_999, 4_000]
            .map(|it| player.due(&cures, at(begins + it)).len())
            .into();
        assert_eq!(sent, [1, 0, 1, 0, 1]);
    }

    #[test]
    fn a_cure_ends_an_alert_that_fires_and_no_later_one() {
        let day: Vec<PlannedAlert> =
            shop::plan(7).into_iter().filter(|it| it.cure.is_some()).collect();
        let cure = day[0].cure.clone().unwrap();
        let begins = i64::from(day[0].starts_at_seconds) * 1000;
        let mut player = Player::new(day[..1].to_vec(), 1, at(0));
        let before = BTreeMap::from([(cure.clone(), at(begins - 1))]);
        assert_eq!(player.due(&before, at(begins)).len(), 1);
        assert_eq!(player.due(&before, at(begins + 500)).len(), 0);
        let cured = BTreeMap::from([(cure, at(begins + 700))]);
        let ended = player.due(&cured, at(begins + 800));
        assert_eq!(time(&ended[0], "endsAt"), at(begins + 700));
    }

    #[tokio::test]
    async fn a_busy_daemon_gets_the_same_again_and_a_broken_one_ends_the_demo() {
        use axum::http::StatusCode;
        use std::sync::atomic::{AtomicU16, Ordering};
        static STATUS: AtomicU16 = AtomicU16::new(503);
        let answer = || async { StatusCode::from_u16(STATUS.load(Ordering::SeqCst)).unwrap() };
        let router = axum::Router::new().route("/api/v2/alerts", axum::routing::post(answer));
        let client = crate::cli::client::tests::serve(router).await;
        let mut player = Player::new(shop::plan(7), 3600, at(0));
        let cures = BTreeMap::new();
        player.send_due(&client, &cures, at(2_000)).await.unwrap();
        let posted = player.sent().alerts;
        assert!(posted > 0 && player.sent().accepted == 0);
        assert!(player.send_due(&client, &cures, at(20_000)).await.is_err());
        STATUS.store(200, Ordering::SeqCst);
        player.send_due(&client, &cures, at(20_001)).await.unwrap();
        assert!(player.sent().accepted >= posted && player.waiting.is_empty());
        STATUS.store(400, Ordering::SeqCst);
        let failure = player.send_due(&client, &cures, at(24_000)).await.unwrap_err();
        assert_eq!(failure.exit_code(), 2);
    }
}
