//! The commands on articles: list, show, search, add, remove, rate.

use super::By;
use super::client::{Client, Listing};
use super::failure::{Failure, Result};
use super::output::{self, Output, card, entries, field};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What to do with articles.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List articles by name
    List,
    /// Show one article with its text
    Show {
        /// Its name
        name: String,
    },
    /// Find articles by words that they are about
    Search {
        /// What to look for
        #[arg(required = true)]
        words: Vec<String>,
        /// The most to list
        #[arg(long, default_value_t = 10, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Make an article from a Markdown file, or write one anew that was made so
    Add {
        /// The file, with front matter or without
        file: PathBuf,
        /// Its name, unless the front matter tells one; that of the file, if not told
        #[arg(long)]
        name: Option<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Remove an article that was made over the API
    Remove {
        /// Its name
        name: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say whether an article helped; that counts when it is offered again
    Rate(Rate),
}

/// A word about whether something helped.
#[derive(Debug, clap::Args)]
pub struct Rate {
    /// What was tried: the name of an article, or a past incident
    pub id: String,
    /// It helped
    #[arg(long, conflicts_with = "no_use", required_unless_present = "no_use")]
    helped: bool,
    /// It was of no use
    #[arg(long)]
    no_use: bool,
    /// For which incident
    #[arg(long = "for", value_name = "INCIDENT", value_parser = super::parse_incident)]
    incident: Option<String>,
    /// Who says so
    #[command(flatten)]
    by: By,
}

impl Rate {
    /// What is sent.
    pub fn body(&self) -> Value {
        json!({"by": self.by.name(), "helped": self.helped, "incident": self.incident})
    }
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List => {
            let listing = Listing { path: &["articles"], query: &[], limit: usize::MAX };
            output::list(&client.list(&listing).await?, output, table)
        }
        Command::Search { words, limit } => {
            let query = [("q", words.join(" ")), ("limit", limit.to_string())];
            output::list(&client.get(&["articles"], &query).await?, output, found)
        }
        Command::Show { name } => {
            output::show(&client.get(&["articles", &name], &[]).await?, output, article_card)
        }
        Command::Add { file, name, by } => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Failure::Usage(format!("cannot read `{}`: {error}", file.display()))
            })?;
            let stem = file.file_stem().map(|it| it.to_string_lossy().into_owned());
            let body = json!({"by": by.name(), "name": name.or(stem), "markdown": text});
            output::show(&client.post(&["articles"], body).await?, output, line)
        }
        Command::Remove { name, by } => {
            let body = json!({"by": by.name()});
            client.post(&["articles", &name, "remove"], body).await?;
            output::say(&format!("the article {name} is gone"));
            Ok(())
        }
        Command::Rate(rate) => {
            let article = client.post(&["articles", &rate.id, "rate"], rate.body()).await?;
            output::show(&article, output, line)
        }
    }
}

/// An article in a line.
fn line(article: &Value, _: Timestamp) -> String {
    let of = |name| field(article, name);
    format!("{}  {}  helped {}, no use {}", of("id"), of("title"), of("helped"), of("no_use"))
}

fn table(listing: &Value, _: Timestamp) -> String {
    let row = |it: &Value| {
        ["id", "alerts", "items", "owner", "helped", "no_use", "title"].map(|name| field(it, name))
    };
    let rows = output::items(listing).iter().map(|it| row(it).to_vec());
    let header = ["NAME", "ALERTS", "ITEMS", "OWNER", "HELPED", "NO USE", "TITLE"];
    output::table(&header, rows.collect())
}

fn found(listing: &Value, _: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        let why: Vec<String> = entries(it, "why").iter().map(output::text).collect();
        vec![field(it, "id"), field(it, "score"), field(it, "title"), why.join("; ")]
    });
    output::table(&["NAME", "SCORE", "TITLE", "WHY"], rows.collect())
}

fn article_card(article: &Value, _: Timestamp) -> String {
    let of = |name: &str| field(article, name);
    let place = match article["file"].as_str() {
        Some(file) => format!("{file}:{}", of("line")),
        None => format!("made by {}", of("created_by")),
    };
    let fields = card(&[
        ("alerts", of("alerts")),
        ("matchers", of("matchers")),
        ("items", of("items")),
        ("pages", of("urls")),
        ("tags", of("tags")),
        ("owner", of("owner")),
        ("runbook", of("runbook")),
        ("helped", of("helped")),
        ("no use", of("no_use")),
        ("written in", place),
    ]);
    format!("{}  {}\n\n{fields}\n{}", of("id"), of("title"), of("text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_is_told_with_its_place_and_its_text() {
        let article = json!({"id": "disk", "title": "Disk full", "alerts": ["DiskFull"], "helped": 2,
            "no_use": 0, "file": "rules/knowledge/disk.md", "line": 1, "text": "Free *some*.",
            "score": 700, "why": ["it is called so", "both say disk"]});
        let now = Timestamp::UNIX_EPOCH;
        let text = article_card(&article, now);
        for part in ["disk  Disk full", "DiskFull", "rules/knowledge/disk.md:1", "\nFree *some*."] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let listing = json!({"items": [article]});
        assert!(table(&listing, now).contains("DiskFull"), "{}", table(&listing, now));
        assert!(found(&listing, now).contains("it is called so; both say disk"));
        assert_eq!(line(&listing["items"][0], now), "disk  Disk full  helped 2, no use 0");
    }
}
