//! What a sender may say of an alert besides that it fires or is over: that somebody looks after it,
//! or a remark. Both go to the alert's incident.

use super::Door;
use crate::domain::event::Command;
use crate::domain::incident::IncidentId;
use crate::domain::label::Fingerprint;
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
}
