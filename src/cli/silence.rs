//! The commands on silences: list, add, expire.

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, due, field};
use crate::domain::matcher::Matcher;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What to do with silences.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List silences: those that hold or will hold, unless told otherwise
    List {
        /// Those that are over instead
        #[arg(long)]
        expired: bool,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Hold alerts back for a time, and print the silence's id
    Add {
        /// What they must match, all of it, for example 'host="a"'
        #[arg(required = true, value_name = "MATCHER")]
        matchers: Vec<Matcher>,
        /// For how long, for example 90m, 1h30m or 2d
        #[arg(long, short, value_parser = parse_duration)]
        duration: SignedDuration,
        /// Why
        #[arg(long, short)]
        comment: String,
        /// Only show which alerts of the last 30 days it would have held back
        #[arg(long)]
        dry_run: bool,
        /// Who wants it
        #[command(flatten)]
        author: Author,
    },
    /// Show which alerts of the last days a silence would have held back
    Preview {
        /// What they must match, all of it
        #[arg(required = true, value_name = "MATCHER")]
        matchers: Vec<Matcher>,
        /// How many days back
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
        days: u32,
    },
    /// End silences now
    Expire {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// Who wants a silence.
#[derive(Debug, clap::Args)]
pub struct Author {
    /// Who wants it
    #[arg(long, short, env = "USER", default_value = "cli", hide_env_values = true)]
    author: String,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { expired, limit } => {
            let states = if expired { "expired" } else { "pending,active" };
            let query = [("state", states.to_owned())];
            let listing = Listing { path: &["silences"], query: &query, limit };
            output::list(&client.list(&listing).await?, output, silence_table)
        }
        Command::Add { matchers, dry_run: true, .. } => {
            preview(client, &matchers, 30, output).await
        }
        Command::Preview { matchers, days } => preview(client, &matchers, days, output).await,
        Command::Add { matchers, duration, comment, author, dry_run: false } => {
            let author = By { by: author.author };
            let silence = json!({
                "by": author.name(),
                "matchers": matchers,
                "duration_seconds": duration.as_secs(),
                "comment": comment,
            });
            let silence = client.post(&["silences"], silence).await?;
            output::show(&silence, output, |it, _| field(it, "id"))
        }
        Command::Expire { ids, by } => {
            let body = json!({"by": by.name()});
            let change = super::Change { kind: "silences", verb: "expire", body };
            super::change_each(client, &change, &ids, output).await
        }
    }
}

async fn preview(client: &Client, matchers: &[Matcher], days: u32, output: Output) -> Result<()> {
    let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    let query = [("filter", format!("{{{}}}", matchers.join(","))), ("days", days.to_string())];
    let preview = client.get(&["silences", "preview"], &query).await?;
    output::show(&preview, output, preview_text)
}

fn preview_text(preview: &Value, _: Timestamp) -> String {
    let since = field(preview, "since");
    let mut lines = vec![format!(
        "since {since} it would have held back {} alerts, of which {} fire now",
        field(preview, "alerts"),
        field(preview, "firing")
    )];
    let examples = preview["examples"].as_array().into_iter().flatten();
    lines.extend(examples.map(|it| format!("  {}", output::plain(&it.to_string()))));
    if preview["complete"] == false {
        lines.push(format!("only {} alerts were looked at", field(preview, "examined")));
    }
    lines.join("\n")
}

/// Reads a duration as Prometheus writes it: `90m`, `1h30m`, `2d`, `1w`.
pub(super) fn parse_duration(text: &str) -> std::result::Result<SignedDuration, String> {
    let bad = || format!("expected a duration such as `90m`, `1h30m` or `2d`, not `{text}`");
    let mut seconds: i64 = 0;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(bad()),
        };
        let count: i64 = std::mem::take(&mut number).parse().map_err(|_| bad())?;
        let part = count.checked_mul(unit).ok_or_else(bad)?;
        seconds = seconds.checked_add(part).ok_or_else(bad)?;
    }
    // The server counts silences in 32 bits: 136 years are enough for anybody.
    if (1..=i64::from(u32::MAX)).contains(&seconds) && number.is_empty() {
        Ok(SignedDuration::from_secs(seconds))
    } else {
        Err(bad())
    }
}

fn silence_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "state"),
            due(it, "ends_at", now),
            field(it, "created_by"),
            field(it, "matchers"),
            field(it, "comment"),
            field(it, "warnings"),
        ]
    });
    let heads = ["ID", "STATE", "ENDS", "AUTHOR", "MATCHERS", "COMMENT", "WARNINGS"];
    output::table(&heads, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_prometheus_ones() {
        for (text, expected) in [
            ("90m", Some(5_400)),
            ("1h30m", Some(5_400)),
            ("2d", Some(172_800)),
            ("1w", Some(604_800)),
            ("0s", None),
            ("5", None),
            ("h", None),
            ("1y", None),
            ("-1h", None),
            ("", None),
            ("99999999999999999w", None),
            ("9999w", None),
        ] {
            let parsed = parse_duration(text).ok().map(|it| it.as_secs());
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_silence_is_sent_as_the_api_wants_it() {
        use std::sync::{Arc, Mutex};
        let seen = Arc::new(Mutex::new(Value::Null));
        let kept = Arc::clone(&seen);
        let create = move |axum::Json(body): axum::Json<Value>| async move {
            *kept.lock().unwrap() = body;
            r#"{"id": "x"}"#
        };
        let router = axum::Router::new().route("/api/v1/silences", axum::routing::post(create));
        let client = super::super::client::tests::serve(router).await;
        let command = Command::Add {
            matchers: [r#"a="b""#, "c!~d"].map(|it| it.parse().unwrap()).to_vec(),
            duration: SignedDuration::from_hours(1),
            comment: "why".to_owned(),
            author: Author { author: "ann".to_owned() },
            dry_run: false,
        };
        run(&client, command, Output::Table).await.unwrap();
        let expected = json!({
            "by": "ann", "matchers": [r#"a="b""#, r#"c!~"d""#], "duration_seconds": 3600,
            "comment": "why",
        });
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn the_listing_shows_when_a_silence_ends() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let listing = json!({"items": [{
            "id": "x", "state": "active", "ends_at": "2026-01-01T01:00:00Z",
            "matchers": ["a=\"b\"", "c=\"d\""],
        }]});
        let table = silence_table(&listing, now);
        assert!(table.contains(r#"x   active  1h left  –       a="b", c="d""#), "{table}");
    }
}
