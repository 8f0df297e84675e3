//! Heartbeats that live on alerts or on a source: they must hear of what is left out as repeated.

use super::coalesce::REPEAT_AFTER;
use crate::domain::event::ReceivedAlert;
use crate::domain::heartbeat::{HeartbeatRule, Rhythm};
use crate::domain::rules::RuleSet;
use crate::engine::Handle;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old our copy of the rules may be: looking them up waits for the watch.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What feeds a heartbeat is told this many times within its period.
const TELLS: u32 = 4;

/// What is known of the rules, and when each heartbeat's source was last told of.
#[derive(Default)]
pub(super) struct Feeding(Mutex<Known>);

#[derive(Default)]
struct Known {
    looked_at: Option<Instant>,
    rules: Arc<RuleSet>,
    told_at: BTreeMap<String, Instant>,
}

/// The heartbeats that a delivery may feed; usually none.
pub(super) struct Fed {
    rules: Arc<RuleSet>,
    source: Arc<str>,
}

impl Feeding {
    /// The heartbeats that a delivery of a source may feed.
    pub(super) fn by(&self, handle: &Handle, source: &Arc<str>) -> Fed {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked_at.is_none_or(|it| it.elapsed() >= LOOK_EVERY) {
            known.rules = handle.peek(|state| Arc::clone(&state.rules));
            known.looked_at = Some(Instant::now());
        }
        Fed { rules: Arc::clone(&known.rules), source: Arc::clone(source) }
    }

    /// Whether a delivery with nothing new in it must be told of, because it feeds a heartbeat.
    /// Then it is taken for told.
    pub(super) fn must_tell(&self, fed: &Fed, now: Instant) -> bool {
        let mut is_wanted = false;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in fed.rules() {
            if !rule.feed.as_ref().is_some_and(|it| it.takes_any(&fed.source)) {
                continue;
            }
            let last = known.told_at.get(&rule.rule.name);
            let pause = pause(rule);
            if last.is_none_or(|it| now.saturating_duration_since(*it) >= pause) {
                known.told_at.insert(rule.rule.name.clone(), now);
                is_wanted = true;
            }
        }
        is_wanted
    }
}

impl Fed {
    fn rules(&self) -> impl Iterator<Item = &HeartbeatRule> {
        self.rules.heartbeats.iter().filter(|it| it.feed.is_some())
    }

    /// After which time an alert that did not change is told again.
    pub(super) fn repeat_after(&self, alert: &ReceivedAlert) -> SignedDuration {
        let feeds = |it: &&HeartbeatRule| {
            it.feed.as_ref().is_some_and(|feed| feed.takes(&self.source, &alert.labels))
        };
        let pauses = self.rules().filter(feeds).map(pause);
        pauses.min().and_then(|it| it.try_into().ok()).unwrap_or(REPEAT_AFTER)
    }
}

/// How long a heartbeat may go untold: a fraction of its period, a second at least.
fn pause(rule: &HeartbeatRule) -> Duration {
    let most = REPEAT_AFTER.unsigned_abs();
    match rule.rhythm {
        Rhythm::Every(seconds) => {
            (Duration::from_secs(seconds.into()) / TELLS).clamp(Duration::from_secs(1), most)
        }
        Rhythm::Cron { .. } => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::domain::event::Ends;
    use crate::domain::label::Labels;
    use crate::domain::rules::Mode;

    fn fed(source: &str) -> Fed {
        let text = "
heartbeats:
  - {name: watchdog, every: 40s, from: {matchers: ['alertname=\"Watchdog\"']}}
  - {name: quick, every: 1s, from: {source: zabbix}}
  - {name: slow, every: 2h, from: {source: nagios}}
  - {name: pinged, every: 4s}
";
        let rules = config::rules_from_texts(&[("h.yaml", text)], Mode::Act).value.unwrap();
        Fed { rules: Arc::new(rules), source: source.into() }
    }

    #[test]
    fn what_feeds_a_heartbeat_is_repeated_more_often() {
        for (name, seconds) in [("Watchdog", 10), ("Down", 60)] {
            let alert = ReceivedAlert {
                labels: Labels::from_pairs([("alertname", name)]),
                annotations: Labels::default(),
                starts_at: None,
                ends: Ends::WhenTold,
                generator_url: "".into(),
                identity: None,
            };
            assert_eq!(fed("prometheus").repeat_after(&alert).as_secs(), seconds, "{name}");
        }
    }

    #[test]
    fn a_source_is_told_of_now_and_then() {
        let (feeding, start) = (Feeding::default(), Instant::now());
        let tell = |source: &str, seconds: u64| {
            feeding.must_tell(&fed(source), start + Duration::from_secs(seconds))
        };
        assert!(tell("zabbix", 0) && !tell("zabbix", 0) && tell("zabbix", 1));
        assert!(tell("nagios", 0) && !tell("nagios", 59) && tell("nagios", 60));
        assert!(!tell("prometheus", 0));
    }
}
