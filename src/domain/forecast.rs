//! Capacity forecasts: measured values that will be full, and the alert that says so beforehand.

use super::alert::AlertState;
use super::event::{Ends, ReceivedAlert};
use super::execution::Context;
use super::incident::Severity;
use super::label::{Fingerprint, Labels};
use super::rules::RuleRef;
use super::{State, later, template};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of the source whose alerts tell of forecasts.
pub const SOURCE: &str = "forecast";
/// The alert of a forecast, unless its rule names another.
pub const ALERT_NAME: &str = "CapacityForecast";
/// The most readings of a series that are looked at.
pub const READINGS_MAX: u32 = 336;
/// The alert holds without a further word for so many looks,
const LOOKS_HELD: u32 = 4;
/// and at least for so many seconds.
const HELD_SECONDS_MIN: u32 = 900;

/// A value that must not become full, as a file declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// The Prometheus of the settings that is asked.
    pub source: String,
    /// What it is asked; each series of the answer is looked at by itself.
    pub promql: String,
    /// When it is full.
    pub limit: Limit,
    /// People are told if it will be full within so many seconds.
    pub horizon_seconds: u32,
    /// The readings of so many seconds are looked at.
    pub look_back_seconds: u32,
    /// So many seconds lie between two looks.
    pub every_seconds: u32,
    /// After so many seconds a season begins anew; `None` = there is none.
    pub season_seconds: Option<u32>,
    /// With less time left it is critical, in seconds,
    pub critical_seconds: u32,
    /// and with less than this an error.
    pub error_seconds: u32,
    /// Templates for labels of the alert, beside those of the series.
    pub labels: Vec<(String, String)>,
    /// Templates for its annotations.
    pub annotations: Vec<(String, String)>,
}

/// When a value is full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The value, a decimal number as it was written.
    pub value: String,
    /// Whether it is reached from above: nothing is left.
    pub is_falling: bool,
}

/// What is to be said of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is full.
    Reached,
    /// It will be.
    Foreseen(Foreseen),
    /// Nothing is foretold.
    Quiet(Quiet),
}

/// When a series will be full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// Most likely at this time,
    pub at: Timestamp,
    /// nine in ten times not before this
    pub from: Timestamp,
    /// and not after this.
    pub until: Timestamp,
    /// The same in words: `in 1 d 12 h ± 9 h`.
    pub when: String,
    /// What it rests on, in words.
    pub why: String,
}

/// Why nothing is foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quiet {
    /// There are too few readings, or too few since the level shifted.
    TooFew,
    /// The newest readings are missing.
    Stale,
    /// It is brought down again and again.
    SawTooth,
    /// It does not go towards its limit, as far as its noise lets one tell.
    NoTrend,
    /// It goes there, but when it will be there is not to be told.
    Unsure,
    /// It will be there later than people want to know, or than so short a history tells.
    Later,
}

impl Quiet {
    /// What it means, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::TooFew => "too few readings, or too few since the level shifted",
            Self::Stale => "the newest readings are missing",
            Self::SawTooth => "it is brought down again and again",
            Self::NoTrend => "it does not go towards its limit, as far as its noise lets one tell",
            Self::Unsure => "it goes towards its limit, but it cannot be told when it is there",
            Self::Later => "its limit is further away than the horizon or than its history is long",
        }
    }
}

impl Outlook {
    /// All words for it, for metrics.
    pub const WORDS: [&'static str; 8] =
        ["reached", "foreseen", "too_few", "stale", "saw_tooth", "no_trend", "unsure", "later"];

    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Foreseen(_) => "foreseen",
            Self::Quiet(Quiet::TooFew) => "too_few",
            Self::Quiet(Quiet::Stale) => "stale",
            Self::Quiet(Quiet::SawTooth) => "saw_tooth",
            Self::Quiet(Quiet::NoTrend) => "no_trend",
            Self::Quiet(Quiet::Unsure) => "unsure",
            Self::Quiet(Quiet::Later) => "later",
        }
    }
}

/// A look at a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The labels of the series.
    pub series: Labels,
    /// What is to be said of it.
    pub outlook: Outlook,
    /// Whether its alert fires.
    pub is_held: bool,
}

impl ForecastRule {
    /// How many seconds lie between two readings.
    pub fn step_seconds(&self) -> u32 {
        let step = self.look_back_seconds.div_ceil(READINGS_MAX).max(1);
        // A season has a whole number of readings.
        match self.season_seconds {
            Some(season) if season > step => season / (season.div_ceil(step)),
            _ => step,
        }
    }

    /// What a look makes of the alert of its series; `None` = nothing. Fails when a template cannot
    /// be filled in.
    pub fn alert(&self, look: &Look, now: Timestamp) -> Result<Option<ReceivedAlert>, String> {
        let name = &self.rule.name;
        let limit = &self.limit.value;
        let (severity, ends, summary, why) = match &look.outlook {
            Outlook::Reached => {
                let summary = format!("{name}: {limit} is reached");
                (Severity::Critical, self.holds_until(now), summary, "")
            }
            Outlook::Foreseen(foreseen) => {
                let left = foreseen.at.duration_since(now);
                let summary = format!("{name}: {limit} is reached {}", foreseen.when);
                let why = foreseen.why.as_str();
                (self.severity(left), self.holds_until(now), summary, why)
            }
            // Nobody knows more: the last word holds as long as it said.
            Outlook::Quiet(Quiet::Stale) => return Ok(None),
            Outlook::Quiet(_) if !look.is_held => return Ok(None),
            Outlook::Quiet(quiet) => {
                let summary = format!("{name}: {limit} is not foreseen any more");
                (Severity::Info, now, summary, quiet.in_words())
            }
        };
        let identity = self.labels_of(&look.series)?;
        let texts = Self::fill_in(&self.annotations, &look.series)?;
        let own = [("summary".to_owned(), summary), ("description".to_owned(), why.to_owned())];
        let known = [("severity", severity.as_str())].into_iter().chain(identity.iter());
        // A severity that the rule gives stands.
        Ok(Some(ReceivedAlert {
            labels: Labels::from_pairs(known),
            annotations: Labels::from_pairs(own.into_iter().chain(texts)),
            starts_at: None,
            ends: Ends::At(ends),
            generator_url: "".into(),
            identity: Some(identity.fingerprint()),
        }))
    }

    /// The alert of a series is known by these; its severity changes with the time that is left.
    pub fn labels_of(&self, series: &Labels) -> Result<Labels, String> {
        let own = [("alertname", ALERT_NAME), (SOURCE, self.rule.name.as_str())];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let told = series.iter().filter(|(name, _)| !["__name__", "severity"].contains(name));
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let filled = Self::fill_in(&self.labels, series)?;
        Ok(Labels::from_pairs(told.chain(own).chain(filled)))
    }

    fn fill_in(
        templates: &[(String, String)],
        series: &Labels,
    ) -> Result<Vec<(String, String)>, String> {
        let context = Context { labels: series.clone(), ..Context::default() };
        let fill = |(name, text): &(String, String)| {
            let filled = template::render(text, &context, &BTreeMap::new());
            let filled = filled.map_err(|error| format!("`{name}` of {series}: {error}"))?;
            Ok((name.clone(), filled))
        };
        templates.iter().map(fill).collect()
    }

    fn severity(&self, left: SignedDuration) -> Severity {
        let within = |seconds: u32| left < SignedDuration::from_secs(i64::from(seconds));
        if within(self.critical_seconds) {
            Severity::Critical
        } else if within(self.error_seconds) {
            Severity::Error
        } else {
            Severity::Warning
        }
    }

    fn holds_until(&self, now: Timestamp) -> Timestamp {
        let seconds = self.every_seconds.saturating_mul(LOOKS_HELD).max(HELD_SECONDS_MIN);
        later(now, i64::from(seconds))
    }
}

impl State {
    /// The alerts of forecasts that fire.
    pub fn foretold(&self) -> BTreeSet<Fingerprint> {
        let is_told = |it: &super::Alert| it.sources().any(|source| source == SOURCE);
        let firing = self.alerts.values().filter(|it| it.state == AlertState::Firing);
        firing.filter(|it| is_told(it)).map(|it| it.fingerprint).collect()
    }

    /// Ends of the forecasts' alerts that no rule speaks of any more.
    pub fn forecasts_without_rule(&self, now: Timestamp) -> Vec<ReceivedAlert> {
        let is_declared = |name: &str| self.rules.forecasts.iter().any(|it| it.rule.name == name);
        let foretold = self.foretold();
        let alerts = foretold.iter().filter_map(|it| self.alerts.get(it));
        let left = alerts.filter(|it| it.labels.get(SOURCE).is_none_or(|it| !is_declared(it)));
        let end = |it: &super::Alert| ReceivedAlert {
            labels: it.labels.clone(),
            annotations: Labels::default(),
            starts_at: None,
            ends: Ends::At(now),
            generator_url: "".into(),
            identity: Some(it.fingerprint),
        };
        left.map(|it| end(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> ForecastRule {
        ForecastRule {
            rule: Arc::new(RuleRef { name: "disk".to_owned(), ..RuleRef::default() }),
            source: "prod".to_owned(),
            promql: "disk".to_owned(),
            limit: Limit { value: "95".to_owned(), is_falling: false },
            horizon_seconds: 72 * 3600,
            look_back_seconds: 7 * 86_400,
            every_seconds: 600,
            season_seconds: None,
            critical_seconds: 6 * 3600,
            error_seconds: 86_400,
            labels: vec![("host".to_owned(), "{{ labels.instance }}".to_owned())],
            annotations: Vec::new(),
        }
    }

    fn look(outlook: Outlook, is_held: bool) -> Look {
        let series = [("__name__", "disk"), ("instance", "db-1"), ("severity", "none")];
        Look { series: Labels::from_pairs(series), outlook, is_held }
    }

    #[test]
    fn the_severity_follows_the_time_left_and_the_alert_stays_the_same() {
        let now: Timestamp = "2026-11-22T17:00:00Z".parse().unwrap();
        let mut identities = BTreeSet::new();
        for (hours, severity) in [(60, "warning"), (23, "error"), (5, "critical")] {
            let at = now + SignedDuration::from_hours(hours);
            let foreseen =
                Foreseen { at, from: at, until: at, when: "soon".to_owned(), why: "x".to_owned() };
            let look = look(Outlook::Foreseen(foreseen), false);
            let alert = rule().alert(&look, now).unwrap().unwrap();
            let expected = format!(
                "{{alertname=\"CapacityForecast\", forecast=\"disk\", host=\"db-1\", \
                 instance=\"db-1\", severity=\"{severity}\"}}"
            );
            assert_eq!(alert.labels.to_string(), expected);
            assert_eq!(alert.annotations.get("summary"), Some("disk: 95 is reached soon"));
            assert!(alert.fires_at(later(now, 2399)) && !alert.fires_at(later(now, 2400)));
            identities.insert(alert.fingerprint());
        }
        assert_eq!(identities.len(), 1);
    }

    #[test]
    fn what_is_not_foreseen_ends_what_was_told_and_says_nothing_else() {
        let now: Timestamp = "2026-11-22T17:00:00Z".parse().unwrap();
        let told = |quiet, is_held| {
            let alert = rule().alert(&look(Outlook::Quiet(quiet), is_held), now).unwrap();
            alert.map(|it| it.fires_at(now))
        };
        assert_eq!(told(Quiet::NoTrend, true), Some(false));
        assert_eq!((told(Quiet::NoTrend, false), told(Quiet::Stale, true)), (None, None));
        let mut rule = rule();
        rule.labels = vec![("host".to_owned(), "{{ labels.nothing }}".to_owned())];
        assert!(rule.alert(&look(Outlook::Reached, false), now).unwrap_err().contains("`host`"));
    }

    #[test]
    fn a_season_has_a_whole_number_of_readings() {
        let step = |look_back_seconds, season_seconds| {
            ForecastRule { look_back_seconds, season_seconds, ..rule() }.step_seconds()
        };
        assert_eq!(step(7 * 86_400, None), 1800);
        assert_eq!(step(7 * 86_400, Some(86_400)), 1800);
        assert_eq!(step(10 * 86_400, Some(86_400)), 2541);
        assert_eq!(step(60, None), 1);
    }
}
