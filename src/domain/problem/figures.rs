//! What is known of a group of incidents, in figures: the record by which people judge a proposal.

use crate::domain::incident::{IncidentId, Symptom};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of a problem's incidents within the look-back of the detection that found them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// At how many different times it came; a storm is one.
    pub occurrences: u32,
    /// Incidents opened in the last 7, 30 and 90 days.
    pub recent: Recent,
    /// The hours that it prefers, if it does.
    pub rhythm: Option<Rhythm>,
    /// Within which times the next is expected, 19 times out of 20.
    pub next_expected: Option<Interval>,
    /// How forecasts of the same kind came true in the past.
    pub forecasts: Forecasts,
    /// Whether it comes more often lately.
    pub trend: Option<Trend>,
    /// For how many minutes at least one of its incidents was not over.
    pub impact_minutes: u64,
    /// How many SLA clocks of its incidents were breached.
    pub breaches: u32,
    /// How many of its incidents somebody did something about.
    pub acted_on: u32,
    /// Before how many of its incidents something was changed.
    pub changed_before: u32,
    /// Where it was seen, the most frequent places first, with the number of incidents.
    pub places: Vec<(String, u32)>,
    /// What its incidents share that others do not, the most telling first.
    pub traits: Vec<SharedTrait>,
    /// How its incidents begin.
    pub openings: Vec<Opening>,
    /// Why each of its incidents is one of it.
    pub members: BTreeMap<IncidentId, Membership>,
}

/// How many there were lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// In the last 7 days.
    pub days_7: u32,
    /// In the last 30 days.
    pub days_30: u32,
    /// In the last 90 days.
    pub days_90: u32,
}

/// The time of the day, or of the week, around which it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rhythm {
    /// In words, in UTC: `daily around 03:00`.
    pub text: String,
    /// By how many minutes it differs, as a standard deviation on the circle.
    pub spread_minutes: u32,
    /// How likely such a concentration is by chance, in parts per million (Rayleigh's test).
    pub chance_ppm: u32,
}

/// Two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
}

/// What became of forecasts, each made from what had been seen until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecasts {
    /// How many came true: it came within the time that was foretold.
    pub right: u32,
    /// How many there were.
    pub of: u32,
}

/// How the later half of the time compares with the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    /// Occurrences in the earlier half.
    pub earlier: u32,
    /// Occurrences in the later half.
    pub later: u32,
    /// How likely such a difference is if nothing changed, in parts per million (an exact binomial
    /// test, both sides).
    pub chance_ppm: u32,
}

impl Trend {
    /// `rising` or `falling` where chance does not explain it in 19 cases out of 20, else `steady`.
    pub fn as_str(&self) -> &'static str {
        match self.later.cmp(&self.earlier) {
            _ if self.chance_ppm > 50_000 => "steady",
            std::cmp::Ordering::Greater => "rising",
            std::cmp::Ordering::Less => "falling",
            std::cmp::Ordering::Equal => "steady",
        }
    }
}

/// Something that most of its incidents have and others have not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedTrait {
    /// What, in words.
    pub text: String,
    /// How many of its incidents have it.
    pub inside: u32,
    /// How many incidents there are in the group.
    pub of: u32,
    /// How many of all other incidents have it, in parts per million.
    pub elsewhere_ppm: u32,
}

/// How its incidents begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// What the first alert tells.
    pub symptom: Symptom,
    /// How many of its incidents began so.
    pub count: u32,
    /// How many of all incidents began so.
    pub of: u32,
}

impl Opening {
    /// Whether an incident that begins so is most likely one of it: two in three were.
    pub fn is_telling(&self) -> bool {
        self.count >= 2 && u64::from(self.count) * 3 >= u64::from(self.of) * 2
    }
}

/// Why an incident is one of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// How it came to be.
    pub how: How,
    /// How alike it is to the middle of the group, how sure that it followed, or how many of those
    /// that began so were, 0 to 1000.
    pub points: u16,
}

/// How an incident came to be one of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It is alike.
    Alike,
    /// It began in the wake of another.
    Wake,
    /// It began as others did; the next detection looks at it closer.
    Opening,
    /// A person added it.
    Linked,
}
