//! What a sender may say of an alert that it names by its key alone: that somebody looks after it, a
//! remark, that it is over.

use super::{Delivery, Door, Failure};
use crate::domain::event::{Command, Ends, ReceivedAlert};
use crate::domain::incident::IncidentId;
use crate::domain::label::{Fingerprint, Labels};
use crate::engine::{CommandError, SubmitError};

impl Door {
    /// Gives an order about the incident of an alert. Tells whether there was one that takes it: an
    /// alert that is unknown or over, or an incident that is acknowledged already, is no failure of
    /// the sender's.
    pub(super) async fn order(
        &self,
        alert: Fingerprint,
        by: &str,
        command: impl FnOnce(IncidentId) -> Command,
    ) -> Result<bool, SubmitError> {
        let incident = self.handle.read(|state| state.alerts.get(&alert)?.incident).await?;
        let Some(incident) = incident else { return Ok(false) };
        match self.handle.command(by.to_owned(), command(incident)).await {
            Ok(_) => Ok(true),
            Err(CommandError::Refused(reason)) => {
                tracing::info!(by, %incident, %reason, "an order about an alert was not taken");
                Ok(false)
            }
            Err(CommandError::NotTaken(error)) => Err(error),
        }
    }
    /// Ends an alert, as far as a source is concerned. Tells whether it was known.
    pub(super) async fn end(&self, source: &str, alert: Fingerprint) -> Result<bool, SubmitError> {
        let labels =
            self.handle.read(|state| Some(state.alerts.get(&alert)?.labels.clone())).await?;
        let Some(labels) = labels else { return Ok(false) };
        let delivery = |now| {
            let over = ReceivedAlert {
                labels: labels.clone(),
                annotations: Labels::default(),
                starts_at: None,
                ends: Ends::At(now),
                generator_url: "".into(),
                identity: Some(alert),
            };
            Ok::<_, ()>(Delivery { alerts: vec![over], ..Delivery::default() })
        };
        match self.take_in(source, delivery).await {
            Ok(_) | Err(Failure::Unreadable(())) => Ok(true),
            Err(Failure::NotTaken(error)) => Err(error),
        }
    }
}
