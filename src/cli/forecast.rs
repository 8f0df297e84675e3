//! The commands on capacity forecasts: list.

use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, due, field};
use jiff::Timestamp;
use serde_json::Value;

/// What to do with capacity forecasts. Files declare them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List what is foretold of each series, or why nothing is
    List,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List => {
            let listing = Listing { path: &["forecasts"], query: &[], limit: usize::MAX };
            output::list(&client.list(&listing).await?, output, table)
        }
    }
}

/// A line for each series; one for a forecast that has none.
fn table(listing: &Value, now: Timestamp) -> String {
    let mut rows = Vec::new();
    for forecast in output::items(listing) {
        let series = forecast["series"].as_array().map(Vec::as_slice).unwrap_or_default();
        for it in series {
            rows.push(vec![
                field(forecast, "name"),
                field(it, "outlook"),
                due(it, "expected_at", now),
                field(it, "labels"),
                field(it, "why"),
            ]);
        }
        if series.is_empty() {
            let none = String::new;
            rows.push(vec![
                field(forecast, "name"),
                none(),
                none(),
                none(),
                field(forecast, "error"),
            ]);
        }
    }
    output::table(&["NAME", "OUTLOOK", "FULL", "SERIES", "WHY"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_listing_shows_each_series_and_what_failed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let listing = json!({"items": [
            {"name": "disk", "series": [{"labels": {"instance": "a"}, "outlook": "foreseen",
                "expected_at": "2026-01-01T01:00:00Z", "why": "in 1 h ± 5 min"}]},
            {"name": "quota", "series": [], "error": "no answer"},
        ]});
        let text = table(&listing, now);
        assert!(text.contains("disk   foreseen  1h left"), "{text}");
        assert!(text.contains("quota") && text.contains("no answer"), "{text}");
    }
}
