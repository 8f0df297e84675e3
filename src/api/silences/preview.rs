//! What a silence would have held back, looked up in what was.

use super::super::Context;
use super::super::error::ApiError;
use super::super::input::Params;
use super::super::listing;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::later;
use crate::domain::matcher::Matchers;
use crate::store::{Kind, Scope};
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How many closed alerts are looked at, at most.
const EXAMINED_MAX: usize = 100_000;
/// How many are read at once.
const CHUNK: usize = 256;
/// How many are shown.
const EXAMPLES_MAX: usize = 10;
/// The longest time back, in days.
const DAYS_MAX: u32 = 365;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    filter: Option<String>,
    days: Option<u32>,
}

/// What a silence would have held back.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    matchers: Vec<String>,
    since: Timestamp,
    /// Alerts with different labels that matched.
    alerts: usize,
    /// Those of them that fire now.
    firing: usize,
    examined: usize,
    /// Whether all alerts since then were looked at, as far as they are kept.
    complete: bool,
    examples: Vec<Labels>,
}

impl Preview {
    fn look(&mut self, matchers: &Matchers, alert: &Alert) {
        self.examined += 1;
        let fires = alert.state == AlertState::Firing;
        let is_old = !fires && alert.updated_at < self.since;
        if is_old || !matchers.matches(&alert.labels) {
            return;
        }
        self.alerts += 1;
        self.firing += usize::from(fires);
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(alert.labels.clone());
        }
    }
}

/// `GET /api/v1/silences/preview`.
pub(super) async fn show(
    State(context): State<Context>,
    Params(query): Params<Query>,
) -> Result<Json<Preview>, ApiError> {
    let filter = query.filter.unwrap_or_default();
    let matchers: Matchers = filter.parse().map_err(ApiError::bad_request)?;
    if matchers.0.is_empty() {
        return Err(ApiError::bad_request("a silence needs at least one matcher")
            .hint("for example `?filter=host=\"a\"`"));
    }
    let days = query.days.unwrap_or(30);
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(ApiError::bad_request(format!("`days` is from 1 to {DAYS_MAX}: `{days}`")));
    }
    let mut preview = Preview {
        matchers: matchers.0.iter().map(ToString::to_string).collect(),
        since: later(Timestamp::now(), -i64::from(days) * 24 * 3600),
        alerts: 0,
        firing: 0,
        examined: 0,
        complete: true,
        examples: Vec::new(),
    };
    let open: BTreeSet<Fingerprint> = context
        .handle
        .read(|state| {
            state.alerts.values().for_each(|it| preview.look(&matchers, it));
            state.alerts.keys().copied().collect()
        })
        .await?;
    look_at_closed(&context, &matchers, &open, &mut preview).await?;
    Ok(Json(preview))
}

async fn look_at_closed(
    context: &Context,
    matchers: &Matchers,
    open: &BTreeSet<Fingerprint>,
    preview: &mut Preview,
) -> Result<(), ApiError> {
    let mut before = None;
    for _ in 0..EXAMINED_MAX / CHUNK {
        let chunk = context.handle.list(Kind::Alert, Scope::Closed, before, CHUNK).await;
        let chunk = chunk.map_err(|error| ApiError::store(&error))?;
        for object in &chunk {
            let alert: Alert = listing::decode(object)?;
            if !open.contains(&alert.fingerprint) {
                preview.look(matchers, &alert);
            }
        }
        match chunk.last() {
            Some(last) if chunk.len() == CHUNK => before = Some(last.id.clone()),
            _ => return Ok(()),
        }
    }
    preview.complete = false;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::openapi::assert_schema;
    use super::super::super::samples;
    use super::*;

    #[test]
    fn what_matched_is_counted_unless_it_is_old() {
        let alert = samples::alert();
        let matchers: Matchers = "{alertname=\"Down\"}".parse().unwrap();
        let mut preview = Preview {
            matchers: Vec::new(),
            since: later(alert.updated_at, 1),
            alerts: 0,
            firing: 0,
            examined: 0,
            complete: true,
            examples: Vec::new(),
        };
        preview.look(&matchers, &alert);
        preview.look(&matchers, &Alert { state: AlertState::Resolved, ..alert.clone() });
        preview.look(&"{alertname=\"Up\"}".parse().unwrap(), &alert);
        assert_eq!((preview.alerts, preview.firing, preview.examined), (1, 1, 3));
        preview.since = alert.updated_at;
        preview.look(&matchers, &Alert { state: AlertState::Resolved, ..alert });
        assert_eq!((preview.alerts, preview.firing, preview.examples.len()), (2, 1, 2));
        assert_schema("SilencePreview", &serde_json::to_value(&preview).unwrap());
    }
}
