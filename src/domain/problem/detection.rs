//! How recurring problems are looked for: when, by which algorithm, and what counts how much.

use crate::domain::rules::RuleRef;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which algorithm finds recurring problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Density-based clustering (Ester et al., 1996), by linfa.
    #[default]
    Dbscan,
    /// Communities of a graph of shared nearest neighbours (Jarvis and Patrick, 1973; Blondel and others,
    /// 2008), for incidents that people wrote in their own words.
    Communities,
}

/// When and how recurring problems are looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemDetection {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// A cron line with five fields, and the IANA time zone in which it counts.
    pub cron: String,
    /// IANA name; `UTC` by default.
    pub time_zone: String,
    /// How far back incidents are looked at, in seconds.
    pub look_back_seconds: u32,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The fewest incidents that make a problem.
    pub incidents_min: u32,
    /// The largest cosine distance of neighbours, in thousandths; `None` = chosen from the data.
    pub tolerance_thousandths: Option<u16>,
    /// How much each field of an incident counts.
    #[serde(default)]
    pub weights: FieldWeights,
    /// For algorithms that draw lots.
    pub seed: u64,
}

/// How much each field of an incident counts when two are compared, relative to the others. A field
/// that says nothing of an incident leaves its share to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldWeights {
    /// What alerts tell of the place where it began: words of their names, with the place.
    pub symptoms: u8,
    /// The place where it began.
    pub place: u8,
    /// Words of the names of the alerts there, wherever that is.
    pub names: u8,
    /// Words of the title and of the summary of the first alert, masked.
    pub text: u8,
    /// Other labels of the first alert, masked.
    pub labels: u8,
    /// Whether something was changed shortly before.
    pub changes: u8,
}

impl FieldWeights {
    /// How many fields there are.
    pub const FIELDS: usize = 6;

    /// The weight of a field by its number, in the order above.
    pub fn of(&self, field: usize) -> u8 {
        let all = [self.symptoms, self.place, self.names, self.text, self.labels, self.changes];
        all.get(field).copied().unwrap_or_default()
    }
}

impl Default for FieldWeights {
    /// Half for what is told of the place, a sixth each for the place, the names and the texts.
    fn default() -> Self {
        Self { symptoms: 6, place: 2, names: 2, text: 2, labels: 1, changes: 1 }
    }
}
