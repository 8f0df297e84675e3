//! Readings in tests: what a forecast makes of them, as the daemon would.

use crate::cli::virtual_watch::VirtualWatch;
use crate::config::Measurement;
use crate::domain::event::{AlertBatch, Event, RejectedAlert};
use crate::domain::forecast::SOURCE;
use crate::learn;

/// The alerts that are told after a look; a template that cannot be filled in refuses its alert.
pub(super) fn looked_at(watch: &VirtualWatch, measurement: &Measurement) -> Event {
    let mut batch = AlertBatch { source: SOURCE.into(), alerts: vec![], rejected: vec![] };
    let rules = &watch.state.rules.forecasts;
    if let Some(rule) = rules.iter().find(|it| it.rule.name == measurement.forecast) {
        let foretold = watch.state.foretold();
        let looks = learn::look_ahead(rule, measurement.series.clone(), &foretold, watch.now);
        let alerts = looks.and_then(|it| {
            let alerts = it.iter().map(|look| rule.alert(look, watch.now));
            alerts.collect::<Result<Vec<_>, _>>()
        });
        match alerts {
            Ok(alerts) => batch.alerts = alerts.into_iter().flatten().collect(),
            Err(reason) => batch.rejected.push(RejectedAlert { index: 0, reason }),
        }
    }
    Event::AlertsReceived(batch)
}
