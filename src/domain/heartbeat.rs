//! Heartbeats: jobs and senders that must be heard from again and again, and whether they were.
//!
//! The meaning is that of healthchecks.io: a period or a cron line, some grace, runs with a start
//! and an end, and an alert when one is missed or tells of a failure.

mod life;
#[cfg(test)]
mod tests;

use super::label::Labels;
use super::matcher::Matchers;
use super::rules::{RuleRef, SecretText};
use super::schedule::Schedule;
use super::{later, stored_time};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the source whose alerts tell of heartbeats.
pub const SOURCE: &str = "heartbeat";
/// The alert of a heartbeat that is down, unless its rule names another.
pub const ALERT_NAME: &str = "HeartbeatDown";
/// How much of what a ping carries is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 8192;
/// The longest id of a run, in bytes.
pub const RUN_ID_BYTES_MAX: usize = 64;
/// How many runs of one heartbeat may be under way; the oldest are forgotten.
const RUNS_MAX: usize = 64;
/// How many changes of its state a heartbeat remembers.
const HISTORY_MAX: usize = 20;

/// Something that must be heard from, as a file declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatRule {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// When it is expected.
    pub rhythm: Rhythm,
    /// How long after that it counts as missed, and how long a run may take, in seconds.
    pub grace_seconds: u32,
    /// The labels of its alert.
    pub labels: Labels,
    /// Texts for its alert.
    pub annotations: Labels,
    /// The alerts or the source that it is fed by; `None` = by pings.
    pub feed: Option<Feed>,
    /// What a ping must show; `None` = by the daemon's own tokens.
    pub token: Option<SecretText>,
}

/// When a heartbeat is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rhythm {
    /// So many seconds after the last one.
    Every(u32),
    /// By the calendar.
    Cron {
        /// A cron line with five fields.
        line: String,
        /// IANA name.
        time_zone: String,
    },
}

impl Rhythm {
    /// When the next is expected, if the last came at a time; `None` = never again.
    pub fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => Some(later(last, i64::from(*seconds))),
            Self::Cron { line, time_zone } => {
                Schedule::parse(line, time_zone).ok()?.next_after(last)
            }
        }
    }
}

/// What feeds a heartbeat in place of pings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// A firing alert must match all of these; none = any delivery will do.
    pub matchers: Matchers,
    /// Only this source counts; `None` = any.
    pub source: Option<String>,
    /// Whether the alerts open incidents as others do.
    pub open_incidents: bool,
}

impl Feed {
    /// Whether an alert with these labels, from this source, feeds it.
    pub fn takes(&self, source: &str, labels: &Labels) -> bool {
        self.hears(source) && !self.matchers.0.is_empty() && self.matchers.matches(labels)
    }

    /// Whether any delivery of a source feeds it.
    pub fn takes_any(&self, source: &str) -> bool {
        self.hears(source) && self.matchers.0.is_empty()
    }

    /// Whether it keeps alerts with these labels from opening incidents.
    pub fn holds(&self, labels: &Labels) -> bool {
        !self.open_incidents && !self.matchers.0.is_empty() && self.matchers.matches(labels)
    }

    fn hears(&self, source: &str) -> bool {
        source != SOURCE && self.source.as_ref().is_none_or(|it| it == source)
    }
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatPing {
    /// The heartbeat's name.
    pub heartbeat: String,
    /// What it says.
    pub signal: Signal,
    /// Which run it is about, where runs may overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What the job wrote, its first [`OUTPUT_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// What a ping says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A run begins.
    Start,
    /// All is well.
    Success,
    /// It went wrong, with this exit code, if it was told.
    Fail(Option<u8>),
    /// Only something to remember.
    Log,
}

impl Signal {
    /// All kinds, for metrics.
    pub const WORDS: [&'static str; 4] = ["start", "success", "fail", "log"];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Fail(_) => "fail",
            Self::Log => "log",
        }
    }

    /// Reads the last part of a ping's address: `start`, `fail`, `log`, or an exit code.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "start" => Some(Self::Start),
            "fail" => Some(Self::Fail(None)),
            "log" => Some(Self::Log),
            _ if text.starts_with('+') => None,
            code => code
                .parse()
                .ok()
                .map(|it| if it == 0 { Self::Success } else { Self::Fail(Some(it)) }),
        }
    }
}

/// Where a heartbeat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatState {
    /// Nothing came yet, and nothing is missed.
    New,
    /// It came in time.
    Up,
    /// A run is under way.
    Started,
    /// It is late, within its grace.
    Late,
    /// It was missed, or told of a failure.
    Down,
    /// Nobody waits for it.
    Paused,
}

impl HeartbeatState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Up, Self::Started, Self::Late, Self::Down, Self::Paused];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Up => "up",
            Self::Started => "started",
            Self::Late => "late",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }
}

/// Why a heartbeat is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing came within its grace.
    Missed,
    /// A run did not end within the grace.
    TookTooLong,
    /// It told of a failure, with this exit code, if any.
    Failed(Option<u8>),
}

impl Failure {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::TookTooLong => "took_too_long",
            Self::Failed(_) => "failed",
        }
    }
}

/// A run that began and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id, if the job gives one.
    pub id: Option<String>,
    /// When it began.
    #[serde(with = "stored_time")]
    pub started_at: Timestamp,
    /// Whether it was told already that it takes too long.
    pub is_overdue: bool,
}

/// A change of a heartbeat's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turnover {
    /// When.
    pub at: Timestamp,
    /// What it became: `up`, `down`, `paused`, or `excused` when we were away.
    pub to: String,
    /// Why.
    pub why: String,
}

/// What is known of a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its name.
    pub name: Arc<str>,
    /// When it was declared.
    pub created_at: Timestamp,
    /// When a run last ended, well or not.
    pub last_ping_at: Option<Timestamp>,
    /// When a run last began.
    pub last_start_at: Option<Timestamp>,
    /// By when the next is expected; `None` = nobody waits.
    pub expected_at: Option<Timestamp>,
    /// Why it is down; `None` = it is not.
    pub failure: Option<Failure>,
    /// Whether a person said not to wait.
    pub is_paused: bool,
    /// The runs under way, in order of their start.
    pub runs: Vec<Run>,
    /// How long the last run took whose start was told.
    pub last_duration_milliseconds: Option<u64>,
    /// What the job last wrote.
    pub last_output: String,
    /// How many pings came.
    pub pings: u64,
    /// The labels of the alert that tells that it is down, while there is one.
    pub alert: Option<Labels>,
    /// What became of it lately, oldest first.
    pub history: Vec<Turnover>,
}

impl Heartbeat {
    fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.into(),
            created_at: now,
            last_ping_at: None,
            last_start_at: None,
            expected_at: None,
            failure: None,
            is_paused: false,
            runs: Vec::new(),
            last_duration_milliseconds: None,
            last_output: String::new(),
            pings: 0,
            alert: None,
            history: Vec::new(),
        }
    }

    /// Where it is at a time.
    pub fn state(&self, now: Timestamp) -> HeartbeatState {
        if self.is_paused {
            HeartbeatState::Paused
        } else if self.failure.is_some() {
            HeartbeatState::Down
        } else if self.is_running() {
            HeartbeatState::Started
        } else {
            match self.expected_at {
                None if self.last_ping_at.is_none() => HeartbeatState::New,
                Some(at) if at <= now => HeartbeatState::Late,
                None | Some(_) => HeartbeatState::Up,
            }
        }
    }

    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        !self.runs.is_empty()
    }

    /// When it is down unless something comes, and why; `None` = nobody waits.
    pub fn down_at(&self, grace_seconds: u32) -> Option<(Timestamp, Failure)> {
        if self.is_paused || self.failure.is_some() {
            return None;
        }
        let grace = i64::from(grace_seconds);
        let missed = self.expected_at.map(|it| (later(it, grace), Failure::Missed));
        let begun = self.runs.iter().filter(|it| !it.is_overdue);
        let too_long =
            begun.map(|it| it.started_at).min().map(|it| (later(it, grace), Failure::TookTooLong));
        missed.into_iter().chain(too_long).min_by_key(|(at, _)| *at)
    }

    fn remember(&mut self, at: Timestamp, to: &str, why: String) {
        if self.history.len() >= HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(Turnover { at, to: to.to_owned(), why });
    }

    /// A run begins. Of several starts of one run the first counts.
    fn begin_run(&mut self, now: Timestamp, id: Option<&String>) {
        self.last_start_at = Some(now);
        if self.runs.iter().any(|it| it.id.as_ref() == id) {
            return;
        }
        if self.runs.len() >= RUNS_MAX {
            self.runs.remove(0);
        }
        self.runs.push(Run { id: id.cloned(), started_at: now, is_overdue: false });
    }

    /// A run ends. An end that names no run ends all: it cannot be told which is meant.
    fn end_run(&mut self, now: Timestamp, id: Option<&String>) {
        let position = self.runs.iter().position(|it| it.id.as_ref() == id);
        let ended = position.map(|it| self.runs.remove(it));
        self.last_duration_milliseconds = ended.map(|it| {
            u64::try_from(now.duration_since(it.started_at).as_millis()).unwrap_or_default()
        });
        if id.is_none() {
            self.runs.clear();
        }
    }
}
