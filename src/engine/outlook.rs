//! What the daemon sees coming: readings and counts in, looks and alerts out, off the watch.

use super::Handle;
use crate::domain::event::ReceivedAlert;
use crate::domain::forecast::{ForecastRule, Look};
use crate::domain::label::Labels;
use crate::learn;
use jiff::Timestamp;

impl Handle {
    /// Looks at each series of a rule, the last reading of which is of a time; see [`learn::look_ahead`].
    /// Fails where a template of the rule cannot be filled in.
    pub async fn look_ahead(
        &self,
        rule: ForecastRule,
        series: Vec<(Labels, Vec<Option<f64>>)>,
        at: Timestamp,
    ) -> Result<Vec<Look>, String> {
        let foretold = self.peek(crate::domain::State::foretold);
        let looking = move || learn::look_ahead(&rule, series, &foretold, at);
        tokio::task::spawn_blocking(looking).await.map_err(|error| error.to_string())?
    }

    /// The alerts that tell what begins far more often than usual, and which sources fell silent; see
    /// [`learn::unusual_rates`].
    pub async fn unusual_rates(&self, now: Timestamp) -> Result<Vec<ReceivedAlert>, String> {
        let (habits, watching) =
            self.peek(|state| (state.habits_to_judge(now), state.memory.rates.clone()));
        let Some(watched) = watching.since.zip(watching.unbroken_since) else {
            return Ok(Vec::new());
        };
        let judging = move || learn::unusual_rates(habits, watched, now);
        let found = tokio::task::spawn_blocking(judging).await.map_err(|it| it.to_string())?;
        Ok(self.peek(|state| state.alerts_of_rates(&found, now)))
    }
}
