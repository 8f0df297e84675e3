//! Senders that behave as Prometheus and Alertmanager do.

use super::random::Random;
use jiff::{SignedDuration, Timestamp};
use watchkeeper::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
use watchkeeper::domain::label::{Fingerprint, Labels};

/// How often a sender looks at its series, in milliseconds.
pub(crate) const LOOK_MILLISECONDS: u64 = 30_000;
/// Prometheus' `--rules.alert.resend-delay`.
const RESEND_MILLISECONDS: u64 = 60_000;
/// Prometheus lets an alert end after four times that, if it says nothing more.
const ENDS_AFTER: SignedDuration = SignedDuration::from_secs(240);
/// For so long Prometheus repeats that an alert is over.
const RESOLVED_MILLISECONDS: u64 = 15 * 60_000;
/// How many alerts Prometheus sends at once; 256 in truth, less here for more deliveries.
const BATCH_ALERTS_MAX: usize = 4;
/// How many alerts wait in Prometheus; 10,000 in truth. What finds no room pushes out the oldest.
const QUEUE_ALERTS_MAX: usize = 24;

/// Whose behaviour a sender has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Repeats every minute what is so, and drops what was not taken.
    Prometheus,
    /// Tells each change once it is taken, and repeats what was not.
    Alertmanager,
}

/// One series and what its sender knows of it.
struct Series {
    labels: Labels,
    firing: bool,
    /// When it next changes, in milliseconds of the steady clock.
    changes_at: u64,
    starts_at: Timestamp,
    ends_at: Timestamp,
    /// When it was over, by the steady clock.
    over_at: Option<u64>,
    /// When it was last sent.
    sent_at: Option<u64>,
    /// Alertmanager: a change that was not taken yet.
    is_new: bool,
}

/// A sender with its series.
pub(crate) struct Sender {
    /// How it behaves.
    pub(crate) kind: Kind,
    source: &'static str,
    series: Vec<Series>,
    queue: Vec<ReceivedAlert>,
    random: Random,
    /// Alertmanager: the number of the delivery that has no answer yet.
    awaited: Option<u64>,
    /// Nothing reaches us before this.
    pub(crate) cut_off_until: u64,
    /// Nothing changes any more.
    is_calm: bool,
}

/// The alerts of a delivery, before they are on their way.
pub(crate) struct Delivery {
    /// Its number, which the first alert carries as its link.
    pub(crate) number: u64,
    /// What arrives.
    pub(crate) event: Event,
}

/// The link by which a delivery is known again.
pub(crate) fn mark(number: u64) -> String {
    format!("http://d/{number}")
}

impl Sender {
    /// A sender with a share of all series.
    pub(crate) fn new(seed: u64, kind: Kind, of_thousand: u64) -> Self {
        let source = match kind {
            Kind::Prometheus => "prometheus",
            Kind::Alertmanager => "alertmanager",
        };
        let mut random = Random::stream(seed, source);
        let mut series = Vec::new();
        for (index, labels) in all_labels().into_iter().enumerate() {
            let is_known = random.chance(700) && random.chance(of_thousand);
            if !is_known && index > 0 {
                continue;
            }
            series.push(Series {
                labels,
                firing: false,
                changes_at: random.around(8 * 60_000),
                starts_at: Timestamp::UNIX_EPOCH,
                ends_at: Timestamp::UNIX_EPOCH,
                over_at: None,
                sent_at: None,
                is_new: false,
            });
        }
        let (queue, is_calm) = (Vec::new(), false);
        Self { kind, source, series, queue, random, awaited: None, cut_off_until: 0, is_calm }
    }

    /// Looks at the series, and says what to send now.
    pub(crate) fn look(&mut self, now: u64, wall: Timestamp, next: &mut u64) -> Vec<Delivery> {
        if !self.is_calm {
            self.change(now, wall);
        }
        match self.kind {
            Kind::Prometheus => self.send_repeatedly(now, wall, next),
            Kind::Alertmanager => self.send_changes(wall, next),
        }
    }

    fn change(&mut self, now: u64, wall: Timestamp) {
        for series in self.series.iter_mut().filter(|it| it.changes_at <= now) {
            series.firing = !series.firing;
            series.is_new = true;
            series.sent_at = None;
            let mean = if series.firing { 6 * 60_000 } else { 12 * 60_000 };
            series.changes_at = now + self.random.around(mean);
            if series.firing {
                (series.starts_at, series.over_at) = (wall, None);
            } else {
                (series.ends_at, series.over_at) = (wall, Some(now));
            }
        }
    }

    fn send_repeatedly(&mut self, now: u64, wall: Timestamp, next: &mut u64) -> Vec<Delivery> {
        for series in &mut self.series {
            let is_repeated = match series.over_at {
                None => series.firing,
                Some(at) => now - at < RESOLVED_MILLISECONDS,
            };
            let is_due = series.sent_at.is_none_or(|it| now - it >= RESEND_MILLISECONDS);
            if is_repeated && is_due {
                series.sent_at = Some(now);
                // An end that a clock set back has moved into the future would mean that it fires.
                let ends = if series.firing { wall + ENDS_AFTER } else { series.ends_at.min(wall) };
                self.queue.push(report(series, Ends::At(ends)));
            }
        }
        let surplus = self.queue.len().saturating_sub(QUEUE_ALERTS_MAX);
        self.queue.drain(..surplus);
        let alerts = std::mem::take(&mut self.queue);
        let batches = alerts.chunks(BATCH_ALERTS_MAX);
        batches.map(|it| delivery(self.source, it.to_vec(), next)).collect()
    }

    fn send_changes(&mut self, wall: Timestamp, next: &mut u64) -> Vec<Delivery> {
        if self.awaited.is_some() || !self.series.iter().any(|it| it.is_new) {
            return Vec::new();
        }
        let alerts = self.series.iter().filter(|it| it.firing || it.is_new);
        let alerts = alerts.map(|it| {
            let ends = if it.firing { Ends::WhenTold } else { Ends::At(it.ends_at.min(wall)) };
            report(it, ends)
        });
        let delivery = delivery(self.source, alerts.collect(), next);
        // What changes while it is on its way is new again.
        self.series.iter_mut().for_each(|it| it.is_new = false);
        self.awaited = Some(delivery.number);
        vec![delivery]
    }

    /// A delivery was answered, well or not. Prometheus drops what was not taken; the next
    /// repetition says the same.
    pub(crate) fn answered(&mut self, number: u64, taken: bool) {
        if self.awaited != Some(number) {
            return;
        }
        self.awaited = None;
        if !taken {
            self.repeat_all();
        }
    }

    /// Says everything again, as Alertmanager does after its `repeat_interval`.
    pub(crate) fn repeat_all(&mut self) {
        let known = self.series.iter_mut().filter(|it| it.firing || it.over_at.is_some());
        known.for_each(|it| it.is_new = true);
    }

    /// From now on nothing changes.
    pub(crate) fn calm(&mut self) {
        self.is_calm = true;
        self.cut_off_until = 0;
        self.awaited = None;
        self.repeat_all();
    }

    /// Everything is over.
    pub(crate) fn end_all(&mut self, now: u64, wall: Timestamp) {
        for series in self.series.iter_mut().filter(|it| it.firing) {
            (series.firing, series.is_new, series.sent_at) = (false, true, None);
            (series.ends_at, series.over_at) = (wall, Some(now));
        }
    }

    /// The alerts that are true by this sender.
    pub(crate) fn firing(&self) -> impl Iterator<Item = (Fingerprint, &Labels)> {
        self.series.iter().filter(|it| it.firing).map(|it| (it.labels.fingerprint(), &it.labels))
    }
}

fn report(series: &Series, ends: Ends) -> ReceivedAlert {
    ReceivedAlert {
        labels: series.labels.clone(),
        annotations: Labels::default(),
        starts_at: Some(series.starts_at),
        ends,
        generator_url: "".into(),
        identity: None,
    }
}

fn delivery(source: &str, mut alerts: Vec<ReceivedAlert>, next: &mut u64) -> Delivery {
    *next += 1;
    if let Some(first) = alerts.first_mut() {
        first.generator_url = mark(*next).into();
    }
    let batch = AlertBatch { source: source.into(), alerts, rejected: Vec::new() };
    Delivery { number: *next, event: Event::AlertsReceived(batch) }
}

/// Three conditions on four services.
fn all_labels() -> Vec<Labels> {
    let mut all = Vec::new();
    for service in ["a", "b", "c", "d"] {
        for (name, severity) in [("A", "critical"), ("B", "error"), ("C", "warning")] {
            let labels = [("alertname", name), ("service", service), ("severity", severity)];
            all.push(Labels::from_pairs(labels));
        }
    }
    all
}
