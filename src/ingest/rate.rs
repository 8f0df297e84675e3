//! Tells of alerts that begin far more often than usual, and of sources that fall silent.

use super::{Delivery, Door};
use crate::domain::rate::SOURCE;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often rates are looked at.
const LOOK_EVERY: Duration = Duration::from_mins(5);

/// Begins to look at rates; it goes on for ever.
pub fn begin(door: &Arc<Door>) -> JoinHandle<()> {
    let door = door.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Timestamp::now();
            let alerts = match door.handle.unusual_rates(now).await {
                Ok(alerts) if alerts.is_empty() => continue,
                Ok(alerts) => alerts,
                Err(error) => {
                    tracing::warn!(error, "rates could not be looked at");
                    continue;
                }
            };
            if let Err(error) =
                door.append(SOURCE, Delivery { alerts, ..Delivery::default() }).await
            {
                tracing::warn!(%error, "unusual rates could not be told; the next look tries again");
            }
        }
    })
}
