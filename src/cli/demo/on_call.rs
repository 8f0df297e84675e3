//! The shop's engineer on call: acknowledges what is urgent, and approves one repair.

use super::report::Picture;
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Result};
use crate::cli::output::field;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Who it is.
const NAME: &str = "dana";

/// What the engineer has seen and done.
#[derive(Default)]
pub struct OnCall {
    seen: BTreeSet<String>,
    approved: bool,
}

impl OnCall {
    /// Looks at the picture and does what is due; says what was done.
    pub async fn act(&mut self, client: &Client, picture: &Picture) -> Result<Vec<String>> {
        let mut deeds = Vec::new();
        for id in self.overdue(picture) {
            if give(client, &["incidents", &id, "ack"]).await? {
                deeds.push(format!("acknowledged    {id} by {NAME}"));
            }
        }
        if let Some(id) = self.waiting(picture) {
            self.approved = true;
            if give(client, &["executions", &id, "approve"]).await? {
                deeds.push(format!("approved        {id} by {NAME}"));
            }
        }
        Ok(deeds)
    }

    /// Urgent incidents that are open at the second look: nobody is quicker than that.
    fn overdue(&mut self, picture: &Picture) -> Vec<String> {
        let urgent = |it: &&Value| {
            field(it, "state") == "open"
                && matches!(field(it, "priority").as_str(), "P1" | "P2" | "P3")
        };
        let ids = picture.incidents.iter().filter(urgent).map(|it| field(it, "id"));
        ids.filter(|id| !self.seen.insert(id.clone())).collect()
    }

    /// The second execution that waits; the first is overslept, the others are left to whoever
    /// watches the demo.
    fn waiting(&self, picture: &Picture) -> Option<String> {
        let waits = |it: &&Value| field(it, "state") == "waiting_approval";
        let waiting: Vec<&Value> = picture.executions.iter().filter(waits).collect();
        let newest = waiting.first().filter(|_| waiting.len() >= 2 && !self.approved)?;
        Some(field(newest, "id"))
    }
}

/// Gives a command; `false` when the object's state has moved on meanwhile.
async fn give(client: &Client, path: &[&str]) -> Result<bool> {
    match client.post(path, json!({"by": NAME})).await {
        Ok(_) => Ok(true),
        Err(Failure::Refused { status: 404 | 409, .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urgent_incidents_are_acknowledged_and_not_at_once() {
        let incident = |id: &str, priority: &str, state: &str| json!({"id": id, "priority": priority, "state": state});
        let picture = Picture {
            incidents: vec![
                incident("INC-1", "P1", "open"),
                incident("INC-2", "P4", "open"),
                incident("INC-3", "P2", "resolved"),
            ],
            ..Picture::default()
        };
        let mut on_call = OnCall::default();
        assert!(on_call.overdue(&picture).is_empty());
        assert_eq!(on_call.overdue(&picture), ["INC-1"]);
    }

    #[test]
    fn one_repair_is_approved_and_the_others_are_left() {
        let execution = |id: &str| json!({"id": id, "state": "waiting_approval"});
        let mut picture = Picture { executions: vec![execution("EXE-1")], ..Picture::default() };
        let mut on_call = OnCall::default();
        assert_eq!(on_call.waiting(&picture), None);
        picture.executions.insert(0, execution("EXE-2"));
        assert_eq!(on_call.waiting(&picture).as_deref(), Some("EXE-2"));
        on_call.approved = true;
        assert_eq!(on_call.waiting(&picture), None);
    }
}
