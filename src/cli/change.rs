//! The commands on changes: list, show, add.

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::incident::time_and_age;
use super::output::{self, Output, age, card, field};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What to do with changes.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List changes, newest first
    List {
        /// Only of this service
        #[arg(long, default_value = "")]
        service: String,
        /// Only of these kinds: standard, normal, emergency
        #[arg(long, value_delimiter = ',', value_name = "KIND")]
        kind: Vec<String>,
        /// Only those that are running, done or failed
        #[arg(long, value_delimiter = ',', value_name = "STATE")]
        state: Vec<String>,
        /// Only those that began in a freeze that does not allow them
        #[arg(long)]
        forbidden: bool,
        /// The most to list
        #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Show one change
    Show {
        /// For example CHG-3
        #[arg(value_parser = super::parse_change)]
        id: String,
    },
    /// Tell of a change, and print it; as the last step of a deployment, say
    Add(Box<New>),
}

/// A change that is told of.
#[derive(Debug, clap::Args)]
pub struct New {
    /// What people call it, for example 'shop 1.2 to production'
    title: String,
    /// What was changed
    #[arg(long, default_value = "")]
    service: String,
    /// Where, for example production
    #[arg(long, default_value = "")]
    environment: String,
    /// To what
    #[arg(long, default_value = "")]
    version: String,
    /// By whom; you, if not told
    #[arg(long, default_value = "")]
    author: String,
    /// Standard, normal or emergency
    #[arg(long, default_value = "normal", value_parser = ["standard", "normal", "emergency"])]
    kind: String,
    /// Running, done or failed
    #[arg(long, default_value = "done", value_parser = ["running", "done", "failed"])]
    state: String,
    /// When it was made; now, if not told
    #[arg(long)]
    time: Option<Timestamp>,
    /// Your own name for it: what is told under the same name is about the same change
    #[arg(long, default_value = "")]
    external_id: String,
    /// Where it can be looked at
    #[arg(long, default_value = "")]
    link: String,
    /// Who says so
    #[command(flatten)]
    by: By,
}

impl New {
    fn body(self) -> Value {
        let texts = [
            ("by", self.by.name()),
            ("title", &self.title),
            ("service", &self.service),
            ("environment", &self.environment),
            ("version", &self.version),
            ("author", &self.author),
            ("kind", &self.kind),
            ("state", &self.state),
            ("external_id", &self.external_id),
            ("link", &self.link),
        ];
        let told = texts.into_iter().filter(|it| !it.1.is_empty());
        let mut body: Map<String, Value> =
            told.map(|(name, text)| (name.to_owned(), json!(text))).collect();
        if let Some(time) = self.time {
            body.insert("time".to_owned(), json!(time));
        }
        Value::Object(body)
    }
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List { service, kind, state, forbidden, limit } => {
            let forbidden = if forbidden { "true".to_owned() } else { String::new() };
            let asked = [
                ("service", service),
                ("kind", kind.join(",")),
                ("state", state.join(",")),
                ("forbidden", forbidden),
            ];
            let query: Vec<_> = asked.into_iter().filter(|it| !it.1.is_empty()).collect();
            let listing = Listing { path: &["changes"], query: &query, limit };
            output::list(&client.list(&listing).await?, output, change_table)
        }
        Command::Show { id } => {
            output::show(&client.get(&["changes", &id], &[]).await?, output, change_card)
        }
        Command::Add(new) => {
            let change = client.post(&["changes"], (*new).body()).await?;
            output::show(&change, output, |it, _| {
                format!("{}  {}  {}", field(it, "id"), field(it, "state"), field(it, "title"))
            })
        }
    }
}

fn change_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "kind"),
            field(it, "state"),
            age(it, "time", now),
            field(it, "service"),
            field(it, "version"),
            field(it, "author"),
            freezes(it),
            field(it, "title"),
        ]
    });
    let header = ["ID", "KIND", "STATE", "AGE", "SERVICE", "VERSION", "AUTHOR", "FREEZE", "TITLE"];
    output::table(&header, rows.collect())
}

/// The freezes in which a change began, with a mark for those that do not allow it.
fn freezes(change: &Value) -> String {
    let all = change["freezes"].as_array().into_iter().flatten();
    let name = |it: &Value| {
        let mark = if it["allowed"] == true { " (allowed)" } else { "!" };
        format!("{}{mark}", field(it, "freeze"))
    };
    all.map(name).collect::<Vec<String>>().join(", ")
}

fn change_card(change: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(change, name);
    let title = format!("{}  {}\n\n", of("id"), of("title"));
    let fields = card(&[
        ("kind", of("kind")),
        ("state", of("state")),
        ("service", of("service")),
        ("environment", of("environment")),
        ("version", of("version")),
        ("author", of("author")),
        ("made", time_and_age(change, "time", now)),
        ("told", time_and_age(change, "received_at", now)),
        ("in freezes", freezes(change)),
        ("source", of("source")),
        ("external id", of("external_id")),
        ("link", of("link")),
    ]);
    title + &fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_told_is_sent() {
        let new = New {
            title: "shop 1.2".to_owned(),
            service: "shop".to_owned(),
            environment: String::new(),
            version: "1.2".to_owned(),
            author: String::new(),
            kind: "normal".to_owned(),
            state: "done".to_owned(),
            time: None,
            external_id: String::new(),
            link: String::new(),
            by: By { by: "ada".to_owned() },
        };
        let expected = json!({"by": "ada", "title": "shop 1.2", "service": "shop",
            "version": "1.2", "kind": "normal", "state": "done"});
        assert_eq!(new.body(), expected);
    }

    #[test]
    fn the_listing_tells_when_and_what() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let change = json!({"id": "CHG-3", "kind": "normal", "state": "done", "service": "shop",
            "version": "1.2", "author": "ada", "title": "shop 1.2", "external_id": "7",
            "time": "2026-01-01T00:00:00Z", "source": "github", "environment": "", "link": ""});
        let table = change_table(&json!({"items": [change]}), now);
        assert!(table.contains("CHG-3  normal  done   1h"), "{table}");
        let card = change_card(&change, now);
        assert!(card.contains("shop 1.2") && card.contains("github"), "{card}");
    }
}
