//! What the daemon's forecasts are made of: readings in, looks out, off the watch.

use super::Handle;
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
}
