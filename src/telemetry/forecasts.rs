//! What is counted of capacity forecasts, and what the last look at each of them found.

use super::metrics::{Metrics, register};
use crate::domain::forecast::{Look, Outlook};
use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How looking went last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLook {
    /// When it last went well.
    pub looked_at: Option<Timestamp>,
    /// Why the last look failed; `None` = it did not.
    pub error: Option<String>,
    /// What was found when it last went well.
    pub looks: Vec<Look>,
}

/// Looks ahead.
pub(super) struct Forecasts {
    looks: IntCounterVec,
    series: IntGaugeVec,
    last: Mutex<BTreeMap<String, LastLook>>,
}

impl Forecasts {
    pub(super) fn new(registry: &Registry) -> Self {
        let looks = Opts::new("watchkeeper_forecast_looks_total", "Looks at forecasts");
        let series = "Series of a forecast, by what is to be said of them";
        let series = Opts::new("watchkeeper_forecast_series", series);
        Self {
            looks: register(registry, IntCounterVec::new(looks, &["forecast", "outcome"])),
            series: register(registry, IntGaugeVec::new(series, &["forecast", "outlook"])),
            last: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Notes how a look at a forecast went: what was found, or why it failed.
    pub fn looked_ahead(&self, forecast: &str, result: Result<Vec<Look>, String>) {
        let all = self.forecasts();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        all.looks.with_label_values(&[forecast, outcome]).inc();
        let mut last = all.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.entry(forecast.to_owned()).or_default();
        match result {
            Ok(looks) => {
                for word in Outlook::WORDS {
                    let count = looks.iter().filter(|it| it.outlook.as_str() == word).count();
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    all.series.with_label_values(&[forecast, word]).set(count);
                }
                *last = LastLook { looked_at: Some(Timestamp::now()), error: None, looks };
            }
            Err(error) => last.error = Some(error),
        }
    }

    /// Forgets a forecast that no rule declares any more.
    pub fn forget_forecast(&self, forecast: &str) {
        let all = self.forecasts();
        all.last.lock().unwrap_or_else(PoisonError::into_inner).remove(forecast);
        for word in Outlook::WORDS {
            // One that was never counted is not there to be removed.
            drop(all.series.remove_label_values(&[forecast, word]));
        }
        for outcome in ["ok", "failed"] {
            drop(all.looks.remove_label_values(&[forecast, outcome]));
        }
    }

    /// How looking ahead goes, by forecast.
    pub fn last_looks(&self) -> BTreeMap<String, LastLook> {
        self.forecasts().last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
