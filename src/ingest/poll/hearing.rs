//! What the answers of a server mean, one after the other: what fires, and what is over.

use super::answer::{Listed, Listing};
use crate::domain::event::{Ends, ReceivedAlert};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::{State, later};
use crate::ingest::Delivery;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// So many answers without an alert mean that it is over.
const ABSENCES: u32 = 2;
/// How long after its start a server may not know what fires, in seconds: as long as it looks
/// back for the samples of before.
const SETTLE_SECONDS: i64 = 300;
/// What is remembered from answer to answer.
#[derive(Default)]
pub(super) struct Hearing {
    /// When the server started.
    pub(super) started_at: Option<Timestamp>,
    /// In how many answers an alert that we hold was missing.
    pub(super) absences: BTreeMap<Fingerprint, u32>,
}

impl Hearing {
    /// What an answer means: what fires, and until when its word holds, and what is over.
    pub(super) fn delivery(
        &mut self,
        listing: Listing,
        held: &Held,
        (asked_at, ends): (Timestamp, Timestamp),
    ) -> Delivery {
        let mut alerts = firing(&listing.alerts, held, asked_at, ends);
        let over = self.over(&listing.alerts, held, asked_at);
        alerts.extend(over.into_iter().map(|it| it.says_over(asked_at)));
        Delivery { alerts, rejected: listing.rejected, ..Delivery::default() }
    }

    /// The alerts that are over for this source, because two answers did not have them.
    fn over<'h>(&mut self, listed: &[Listed], held: &'h Held, now: Timestamp) -> Vec<&'h Known> {
        let is_firing: BTreeSet<Fingerprint> =
            listed.iter().filter(|it| it.is_firing).map(|it| it.labels.fingerprint()).collect();
        let is_pending: BTreeSet<Fingerprint> =
            listed.iter().filter(|it| !it.is_firing).map(|it| it.labels.fingerprint()).collect();
        let started_at = self.started_at.unwrap_or(now);
        let is_settled = later(started_at, SETTLE_SECONDS) <= now;
        let mut absences = BTreeMap::new();
        let mut over = Vec::new();
        for (fingerprint, known) in held.iter().filter(|(_, it)| it.told_at.is_some()) {
            let told_before_start = known.told_at.is_some_and(|it| it < started_at);
            let may_not_know = !is_settled || is_pending.contains(fingerprint);
            if is_firing.contains(fingerprint) || told_before_start && may_not_know {
                continue;
            }
            let count = self.absences.get(fingerprint).map_or(1, |it| it + 1);
            // Where another source has said so already, one answer is enough.
            let is_said = known.over_at >= known.told_at;
            if count >= ABSENCES || is_said {
                over.push(known);
            }
            absences.insert(*fingerprint, count);
        }
        self.absences = absences;
        over
    }
}

/// What we hold of the alerts that a server tells or told of.
pub(super) type Held = BTreeMap<Fingerprint, Known>;

/// What we know of an alert.
pub(super) struct Known {
    labels: Labels,
    annotations: Labels,
    identity: Option<Fingerprint>,
    is_firing: bool,
    /// When this server last told that it fires; `None` = its last word is another.
    told_at: Option<Timestamp>,
    /// When another source last said that it is over.
    over_at: Option<Timestamp>,
}

impl Known {
    fn says_over(&self, now: Timestamp) -> ReceivedAlert {
        ReceivedAlert {
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            starts_at: None,
            ends: Ends::At(now),
            generator_url: "".into(),
            identity: self.identity,
        }
    }
}

/// Looks up what a source says to fire, and what is in its answer.
pub(super) fn held_by(state: &State, source: &str, listing: &Listing) -> Held {
    let listed: BTreeSet<Fingerprint> =
        listing.alerts.iter().map(|it| it.labels.fingerprint()).collect();
    let mut held = Held::new();
    for alert in state.alerts.values() {
        let (own, others): (Vec<_>, Vec<_>) =
            alert.reports.iter().partition(|it| *it.source == *source);
        let told_at = own.iter().filter(|it| it.firing).map(|it| it.received_at).max();
        if told_at.is_none() && !listed.contains(&alert.fingerprint) {
            continue;
        }
        let over = others.iter().filter(|it| !it.firing).map(|it| it.received_at);
        let is_own = alert.fingerprint == alert.labels.fingerprint();
        let known = Known {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            identity: (!is_own).then_some(alert.fingerprint),
            is_firing: alert.state == crate::domain::alert::AlertState::Firing,
            told_at,
            over_at: over.max(),
        };
        held.insert(alert.fingerprint, known);
    }
    held
}

/// The alerts that fire, as a delivery. One that another source ended while we asked is left to the
/// next answer.
fn firing(
    listed: &[Listed],
    held: &Held,
    asked_at: Timestamp,
    ends: Timestamp,
) -> Vec<ReceivedAlert> {
    /// A watch's time and the wall clock's differ by less.
    const CLOSE: SignedDuration = SignedDuration::from_millis(50);
    let mut alerts = Vec::new();
    for it in listed.iter().filter(|it| it.is_firing) {
        let known = held.get(&it.labels.fingerprint());
        if known.is_some_and(|it| it.over_at.is_some_and(|at| at + CLOSE >= asked_at)) {
            continue;
        }
        // Its time is that of the condition; what it told by itself began when its `for` was over.
        let is_new = known.is_none_or(|it| !it.is_firing);
        alerts.push(ReceivedAlert {
            labels: it.labels.clone(),
            annotations: it.annotations.clone(),
            starts_at: it.active_at.filter(|_| is_new),
            ends: Ends::At(ends),
            generator_url: "".into(),
            identity: None,
        });
    }
    alerts
}

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;
    use crate::config;
    use crate::domain::alert::AlertState;
    use crate::domain::event::{AlertBatch, Event};
    use crate::domain::rules::Mode;
    use crate::engine::stepped::{Options, SteppedWatch, VirtualTime};
    use crate::store;
    use crate::telemetry::{Gauges, Metrics};
    use serde_json::json;
    use std::sync::Arc;

    const RULES: &str = "
correlations:
  - name: by-service
    matchers: []
    group_by: [service]
    window: {gap: 30m, max: 4h}
    incident: {title: t, severity: from_label, reopen_within: 15m}
sla_policies: [{name: gold, matchers: [], targets: {P5: {acknowledge: 10m}}}]
";

    /// A watch in virtual time that polls a Prometheus of which we know what it says.
    struct Rig {
        folder: tempfile::TempDir,
        time: VirtualTime,
        metrics: Metrics,
        watch: Option<SteppedWatch>,
        hearing: Hearing,
    }

    impl Rig {
        fn new() -> Self {
            let start = "2026-11-22T10:00:00Z".parse().unwrap();
            let mut rig = Self {
                folder: tempfile::TempDir::new().unwrap(),
                time: VirtualTime::starting_at(start),
                metrics: Metrics::new(),
                watch: None,
                hearing: Hearing::default(),
            };
            rig.start();
            let rules = config::rules_from_texts(&[("r.yaml", RULES)], Mode::Act);
            rig.submit(Event::RulesLoaded(Arc::new(rules.value.unwrap())));
            rig
        }

        fn start(&mut self) {
            let folder = self.folder.path().join("store");
            let open = move || -> Result<Arc<dyn store::Store>, store::Error> {
                let opened =
                    store::open(store::Engine::default(), &folder, store::Options::default())?;
                Ok(Arc::new(opened))
            };
            let options = Options {
                open: Box::new(open),
                time: self.time.clone(),
                metrics: self.metrics.clone(),
                retention_seconds: 86_400,
                audit_retention_seconds: 86_400,
            };
            self.watch = Some(SteppedWatch::open(options).unwrap());
            // It has been up all the time, as far as it tells.
            let started_at = "2026-11-22T09:00:00Z".parse().ok();
            self.hearing = Hearing { started_at, absences: BTreeMap::new() };
            self.go(0);
        }

        fn watch(&mut self) -> &mut SteppedWatch {
            self.watch.as_mut().unwrap()
        }

        fn submit(&mut self, event: Event) {
            let mut answer = self.watch().submit(vec![event]).unwrap();
            self.watch().write();
            self.go(0);
            answer.try_recv().unwrap().unwrap();
        }

        /// Lets time go on, second by second.
        fn go(&mut self, seconds: u64) {
            for second in 0..=seconds {
                if second > 0 {
                    self.time.advance(1000);
                }
                for _ in 0..3 {
                    self.watch().round();
                }
            }
        }

        /// What comes of an answer with these alerts, each with the minute since when it is true.
        fn poll(&mut self, fires: &[(&str, u32)]) {
            let now = self.time.wall();
            let alerts: Vec<_> = fires
                .iter()
                .map(|(name, minute)| {
                    let labels = json!({"alertname": name, "service": "shop"});
                    let active_at = format!("2026-11-22T10:{minute:02}:00Z");
                    json!({"labels": labels, "annotations": {}, "state": "firing",
                        "activeAt": active_at, "value": "1"})
                })
                .collect();
            let body = json!({"status": "success", "data": {"alerts": alerts}}).to_string();
            let listing = answer::read(body.as_bytes(), &Labels::default(), now).unwrap();
            let held = self.watch().peek(|state| held_by(state, "prod", &listing));
            let delivery = self.hearing.delivery(listing, &held, (now, later(now, 900)));
            self.deliver("prod", delivery.alerts);
        }

        fn deliver(&mut self, source: &str, alerts: Vec<ReceivedAlert>) {
            let batch = AlertBatch { source: source.into(), alerts, rejected: Vec::new() };
            self.submit(Event::AlertsReceived(batch));
        }

        fn push(&mut self, name: &str) {
            let ends = Ends::At(later(self.time.wall(), 240));
            let labels = Labels::from_pairs([("alertname", name), ("service", "shop")]);
            let alert = ReceivedAlert {
                labels,
                annotations: Labels::default(),
                starts_at: None,
                ends,
                generator_url: "".into(),
                identity: None,
            };
            self.deliver("prometheus", vec![alert]);
        }

        fn states(&mut self) -> BTreeMap<String, AlertState> {
            self.watch().peek(|state| {
                let alerts = state.alerts.values();
                alerts
                    .map(|it| (it.labels.get("alertname").unwrap_or_default().to_owned(), it.state))
                    .collect()
            })
        }
    }

    #[test]
    fn after_twenty_minutes_without_us_the_state_is_that_of_prometheus() {
        let mut rig = Rig::new();
        for _ in 0..3 {
            rig.poll(&[("A", 0), ("B", 0)]);
            rig.push("A");
            rig.push("B");
            rig.go(30);
        }
        let before = rig.watch().peek(|state| state.incidents.keys().copied().collect::<Vec<_>>());
        assert_eq!(before.len(), 1);
        rig.watch = None;
        // B goes on. A ends, C begins, D begins and ends.
        rig.time.advance(20 * 60_000);
        rig.start();
        for _ in 0..2 {
            rig.go(5);
            rig.poll(&[("B", 0), ("C", 12)]);
            rig.go(25);
        }
        let expected =
            [("A", AlertState::Resolved), ("B", AlertState::Firing), ("C", AlertState::Firing)];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(name, state)| (name.to_owned(), state)).collect();
        assert_eq!(rig.states(), expected);
        let page = rig.metrics.render(&Gauges::default());
        assert!(!page.contains("watchkeeper_sla_breaches_total{"), "broken by surprise: {page}");
        for _ in 0..6 {
            rig.poll(&[("B", 0), ("C", 12)]);
            rig.go(30);
        }
        assert_eq!(rig.states(), expected, "it stays so");
        let after = rig.watch().peek(|state| state.incidents.keys().copied().collect::<Vec<_>>());
        assert_eq!(after, before, "it is the incident of before");
        let page = rig.metrics.render(&Gauges::default());
        assert!(page.contains("watchkeeper_alerts_total{disposition=\"expired\"} 0"), "{page}");
        // What is promised is promised all the same: after its grace the miss is told.
        assert!(page.contains("target=\"acknowledge\"} 1"), "{page}");
    }
}
