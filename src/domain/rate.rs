//! How often alerts usually begin, by hour of the week: what is far off that, and what was never seen before.

mod habits;
#[cfg(test)]
mod tests;

pub use habits::Habits;

use super::event::{AlertBatch, Ends, ReceivedAlert};
use super::incident::Severity;
use super::label::Labels;
use super::rules::RuleRef;
use super::{State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the source whose alerts tell of rates.
pub const SOURCE: &str = "rate";
/// The alert of an unusual rate.
pub const ALERT_NAME: &str = "UnusualRate";
/// The alert of names that were never seen before.
pub const NEW_ALERT_NAME: &str = "NewKindOfAlert";
/// An alert of ours holds for so many seconds.
const HOLDS_SECONDS: i64 = 3600;
/// The same subject is told of at most once in so many seconds.
const TOLD_ONCE_SECONDS: i64 = 24 * 3600;
/// More than so many at once are one alert.
const ONE_BY_ONE_MAX: usize = 5;
/// So many of them it names.
const NAMED_MAX: usize = 10;
/// The hours of a week.
pub const WEEK_HOURS: i64 = 168;
/// Counts are kept in thousandths, because they fade.
pub const ONE: u32 = 1000;

/// That rates are watched, as a file declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// Nothing is told of what was not watched for so many seconds.
    pub learn_seconds: u32,
    /// How bad it is.
    pub severity: Severity,
    /// Whether people are told of names that were never seen before.
    pub tell_new: bool,
}

/// How often something usually begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habit {
    /// Whose: `alert/Down`, numbers masked, or `source/prometheus`.
    pub name: Arc<str>,
    /// When it first began.
    pub first_seen_at: Timestamp,
    /// The hour that is being counted, since 1970.
    pub hour: i64,
    /// How often it began in it.
    pub count: u32,
    /// How often it began in the hour before that.
    #[serde(default)]
    pub before: u32,
    /// How often in past weeks, by hour of the week from Thursday 00:00 UTC on, in thousandths: each
    /// week leaves seven of eight parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<u8, u32>,
    /// The squares of all hours' counts, the same way.
    #[serde(default)]
    pub squares: u64,
    /// When people were last told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
}

/// What must survive a restart beside the habits themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// Since when rates are watched; `None` = they are not.
    pub since: Option<Timestamp>,
    /// Since when nothing was missed.
    pub unbroken_since: Option<Timestamp>,
}

/// A rate that is far off what is usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// Whose, as in [`Habit::name`].
    pub name: Arc<str>,
    /// Whether it is more than usual.
    pub is_more: bool,
    /// The figures, in words.
    pub why: String,
}

impl State {
    /// The rule that rates are watched by.
    pub(super) fn rate_rule(&self) -> Option<&RateRule> {
        self.rules.unusual_rates.first()
    }

    /// An alert began to fire.
    pub(super) fn count_rate(
        &mut self,
        now: Timestamp,
        source: &Arc<str>,
        received: &ReceivedAlert,
    ) {
        if self.rate_rule().is_none() {
            return;
        }
        if **source == *SOURCE {
            self.habits.told(now, &received.labels);
            return;
        }
        self.habits.count(now, &format!("source/{source}"));
        let name = format!("alert/{}", kind_of(&received.labels));
        // Where there is no more room nobody knows what is new.
        let is_known = self.may_know_new(now);
        if self.habits.count(now, &name) && is_known {
            if let Some(alert) = self.alerts.get_mut(&received.fingerprint()) {
                alert.is_new = true;
            }
            self.new_kinds.push(name.into());
        }
    }

    /// Whether rates have been watched for long enough to say what is new.
    fn may_know_new(&self, now: Timestamp) -> bool {
        let since = self.memory.rates.since;
        let rule = self.rate_rule().filter(|_| !self.habits.is_full());
        rule.zip(since).is_some_and(|(it, since)| later(since, it.learn_seconds.into()) <= now)
    }

    /// Tells of the kinds of alert that were new in a delivery.
    pub(super) fn tell_new_kinds(&mut self, now: Timestamp) {
        let names = std::mem::take(&mut self.new_kinds);
        let Some(rule) = self.rate_rule().filter(|it| it.tell_new && !names.is_empty()) else {
            return;
        };
        let what = format!("never seen before, since {} days", rule.learn_seconds / 86_400);
        let told = names.iter().map(|it| (it.clone(), what.clone())).collect();
        let alerts = told_alerts(rule, NEW_ALERT_NAME, told, now);
        self.receive_batch(now, &AlertBatch { source: SOURCE.into(), alerts, rejected: vec![] });
    }

    /// The alerts that tell of unusual rates; many at once are one.
    pub fn alerts_of_rates(&self, unusual: &[Unusual], now: Timestamp) -> Vec<ReceivedAlert> {
        let Some(rule) = self.rate_rule() else { return Vec::new() };
        let told = unusual.iter().map(|it| (it.name.clone(), it.why.clone())).collect();
        told_alerts(rule, ALERT_NAME, told, now)
    }

    /// The habits to look at: those of which enough is known, and nobody was told lately.
    pub fn habits_to_judge(&self, now: Timestamp) -> Vec<Habit> {
        let Some(rule) = self.rate_rule() else { return Vec::new() };
        let known_since = later(now, -i64::from(rule.learn_seconds));
        let told_since = later(now, -TOLD_ONCE_SECONDS);
        let is_judged = |it: &&Habit| {
            it.first_seen_at <= known_since && it.told_at.is_none_or(|at| at <= told_since)
        };
        self.habits.all().filter(is_judged).cloned().collect()
    }

    /// Rates are watched from the first rule on that says so, and forgotten with the last.
    pub(super) fn watch_rates(&mut self, now: Timestamp) {
        let is_watched = self.rate_rule().is_some();
        if is_watched == self.memory.rates.since.is_some() {
            return;
        }
        let since = is_watched.then_some(now);
        self.memory.rates = Watching { since, unbroken_since: since };
        self.changes.objects.insert(super::ObjectKey::Memory);
        if !is_watched {
            self.habits.forget_all();
        }
    }

    /// Nobody watched for a while: hours in which little came prove nothing.
    pub(super) fn rates_were_not_watched(&mut self, now: Timestamp) {
        if self.memory.rates.since.is_some() {
            self.memory.rates.unbroken_since = Some(now);
            self.changes.objects.insert(super::ObjectKey::Memory);
        }
    }
}

/// An alert for each of some names, or one for all if they are many.
fn told_alerts(
    rule: &RateRule,
    alertname: &str,
    told: Vec<(Arc<str>, String)>,
    now: Timestamp,
) -> Vec<ReceivedAlert> {
    let alert = |kind: &str, name: &str, text: &str| ReceivedAlert {
        labels: Labels::from_pairs([
            ("alertname", alertname),
            ("kind", kind),
            ("name", name),
            ("severity", rule.severity.as_str()),
        ]),
        annotations: Labels::from_pairs([("summary", text)]),
        starts_at: None,
        ends: Ends::At(later(now, HOLDS_SECONDS)),
        generator_url: "".into(),
        identity: None,
    };
    if told.len() > ONE_BY_ONE_MAX {
        let count = told.len();
        let named: Vec<&str> = told.iter().take(NAMED_MAX).map(|(name, _)| &**name).collect();
        let named = named.join(", ");
        return vec![alert("several", "", &format!("{count} at once, among them {named}"))];
    }
    let one = |(subject, text): (Arc<str>, String)| {
        let (kind, name) = subject.split_once('/').unwrap_or(("alert", &subject));
        alert(kind, name, &format!("{name}: {text}"))
    };
    told.into_iter().map(one).collect()
}

/// The kind of an alert: its name, without the numbers in it.
fn kind_of(labels: &Labels) -> String {
    /// No name is longer, in bytes.
    const NAME_BYTES_MAX: usize = 160;
    let name = labels.get("alertname").unwrap_or("nameless");
    let mut kind = String::with_capacity(name.len().min(NAME_BYTES_MAX));
    for letter in name.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        let repeats = letter == '#' && kind.ends_with('#');
        if !repeats && kind.len() + letter.len_utf8() <= NAME_BYTES_MAX {
            kind.push(letter);
        }
    }
    kind
}
