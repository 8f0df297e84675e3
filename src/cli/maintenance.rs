//! The commands on maintenance windows: list.

use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, due, field};
use jiff::Timestamp;
use serde_json::Value;

/// What to do with maintenance windows. Files declare them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List maintenance windows, and when each next begins or ends
    List,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List => {
            let listing = Listing { path: &["maintenance"], query: &[], limit: usize::MAX };
            output::list(&client.list(&listing).await?, output, table)
        }
    }
}

fn table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "name"),
            field(it, "state"),
            due(it, "next_change_at", now),
            field(it, "held_alerts"),
            field(it, "owner"),
            field(it, "matchers"),
            field(it, "reason"),
        ]
    });
    let heads = ["NAME", "STATE", "CHANGES", "HELD", "OWNER", "MATCHERS", "REASON"];
    output::table(&heads, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_listing_shows_when_a_window_changes() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let listing = json!({"items": [{
            "name": "disks", "state": "active", "next_change_at": "2026-01-01T01:00:00Z",
            "held_alerts": 2, "owner": "ann", "matchers": ["a=\"b\""], "reason": "new disks",
        }]});
        let text = table(&listing, now);
        assert!(text.contains("disks  active  1h left  2     ann    a=\"b\""), "{text}");
    }
}
