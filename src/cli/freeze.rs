//! The commands on freezes: list, show, add, end.

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::incident::time_and_age;
use super::output::{self, Output, card, due, field};
use super::silence::parse_duration;
use crate::domain::matcher::Matcher;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What to do with freezes.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List freezes: those that hold or will hold, unless told otherwise
    List {
        /// Those that are over instead
        #[arg(long)]
        expired: bool,
    },
    /// Show one freeze
    Show {
        /// Its name in the file, or for example FRZ-2
        id: String,
    },
    /// Let nothing be changed for a time, and print the freeze
    Add(Box<New>),
    /// End freezes that were made by hand, now
    End {
        /// For example FRZ-2
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// A freeze to make.
#[derive(Debug, clap::Args)]
pub struct New {
    /// What it binds, with all that belongs to it; everything, if not told
    #[arg(value_name = "ITEM")]
    items: Vec<String>,
    /// What else must hold, for example 'environment="production"'
    #[arg(long, value_name = "MATCHER")]
    matcher: Vec<Matcher>,
    /// For how long, for example 90m, 1h30m or 2d
    #[arg(long, short, value_parser = parse_duration, conflicts_with = "until")]
    duration: Option<SignedDuration>,
    /// Until when
    #[arg(long, value_name = "TIME", required_unless_present = "duration")]
    until: Option<Timestamp>,
    /// From when on; now, if not told
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// The kinds of changes that may be made all the same: standard, normal, emergency
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    allow: Vec<String>,
    /// Why
    #[arg(long)]
    reason: String,
    /// Who wants it; you, if not told
    #[arg(long, default_value = "")]
    owner: String,
    /// Who says so
    #[command(flatten)]
    by: By,
}

impl New {
    fn body(&self) -> Value {
        let mut body = json!({
            "by": self.by.name(),
            "items": self.items,
            "matchers": self.matcher,
            "allow": self.allow,
            "reason": self.reason,
            "owner": self.owner,
        });
        if let Some(it) = body.as_object_mut() {
            it.extend(self.from.map(|at| ("starts_at".to_owned(), json!(at))));
            it.extend(self.until.map(|at| ("ends_at".to_owned(), json!(at))));
            let length = self.duration.map(|it| it.as_secs());
            it.extend(length.map(|seconds| ("duration_seconds".to_owned(), json!(seconds))));
        }
        body
    }
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { expired } => {
            let states = if expired { "expired" } else { "pending,active" };
            let query = [("state", states.to_owned())];
            let listing = Listing { path: &["freezes"], query: &query, limit: usize::MAX };
            output::list(&client.list(&listing).await?, output, table)
        }
        Command::Show { id } => {
            output::show(&client.get(&["freezes", &id], &[]).await?, output, freeze_card)
        }
        Command::Add(new) => {
            let freeze = client.post(&["freezes"], new.body()).await?;
            let warnings = freeze.get("warnings").and_then(Value::as_array);
            for warning in warnings.into_iter().flatten() {
                output::say(warning.as_str().unwrap_or_default());
            }
            output::show(&freeze, output, |it, _| {
                let of = |name| field(it, name);
                format!("{}  {}  until {}", of("id"), of("state"), of("ends_at"))
            })
        }
        Command::End { ids, by } => {
            let body = json!({"by": by.name()});
            let change = super::Change { kind: "freezes", verb: "end", body };
            super::change_each(client, &change, &ids, output).await
        }
    }
}

/// What a freeze binds, in a few words.
fn bound(freeze: &Value) -> String {
    let parts = ["items", "matchers"].map(|it| field(freeze, it));
    let parts: Vec<String> = parts.into_iter().filter(|it| !it.is_empty()).collect();
    if parts.is_empty() { "everything".to_owned() } else { parts.join("; ") }
}

fn table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "state"),
            due(it, "next_change_at", now),
            bound(it),
            field(it, "allow"),
            field(it, "owner"),
            field(it, "reason"),
            field(it, "warnings"),
        ]
    });
    let heads = ["ID", "STATE", "CHANGES", "BINDS", "ALLOWS", "OWNER", "REASON", "WARNINGS"];
    output::table(&heads, rows.collect())
}

fn freeze_card(freeze: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(freeze, name);
    let place = match freeze["file"].as_str() {
        Some(file) => format!("{file}:{}", of("line")),
        None => String::new(),
    };
    let fields = card(&[
        ("state", of("state")),
        ("binds", bound(freeze)),
        ("allows", of("allow")),
        ("from", time_and_age(freeze, "starts_at", now)),
        ("until", of("ends_at")),
        ("within", of("time_intervals")),
        ("changes", due(freeze, "next_change_at", now)),
        ("owner", of("owner")),
        ("reason", of("reason")),
        ("made by", of("created_by")),
        ("ended by", of("ended_by")),
        ("written in", place),
        ("warnings", of("warnings")),
    ]);
    format!("{}\n\n{fields}", of("id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_tells_what_is_bound_and_how_long() {
        let now: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
        let freeze = |items: Value| {
            json!({"id": "christmas", "state": "active", "next_change_at": "2026-12-20T01:00:00Z",
                "items": items, "matchers": [], "allow": ["emergency"], "owner": "ann",
                "reason": "christmas", "warnings": [], "file": "a.yaml", "line": 3})
        };
        let text = table(&json!({"items": [freeze(json!(["shop", "cart"]))]}), now);
        assert!(text.contains("christmas  active  1h left  shop, cart  emergency"), "{text}");
        let text = freeze_card(&freeze(json!([])), now);
        assert!(text.contains("everything") && text.contains("a.yaml:3"), "{text}");
    }

    #[test]
    fn a_freeze_is_sent_as_the_api_wants_it() {
        let new = New {
            items: vec!["shop".to_owned()],
            matcher: vec!["environment=\"production\"".parse().unwrap()],
            duration: Some(SignedDuration::from_hours(1)),
            until: None,
            from: None,
            allow: vec!["emergency".to_owned()],
            reason: "sale".to_owned(),
            owner: String::new(),
            by: By { by: "ann".to_owned() },
        };
        let expected = json!({"by": "ann", "items": ["shop"], "allow": ["emergency"],
            "matchers": ["environment=\"production\""], "reason": "sale", "owner": "",
            "duration_seconds": 3600});
        assert_eq!(new.body(), expected);
    }
}
