//! The commands on incidents: list, show, acknowledge, assign, note, resolve, merge, split.

mod similar;

use super::By;
use super::client::{Client, Listing};
use super::failure::Result;
use super::output::{self, Output, age, card, due, entries, field, section, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What to do with incidents.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List incidents: those that are not resolved, unless told otherwise
    List(ListArguments),
    /// Show one incident with its timeline
    Show {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        id: String,
    },
    /// List past incidents like it, with what helped
    Similar {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        id: String,
        /// The most to list
        #[arg(long, default_value_t = 10, value_parser = super::parse_limit)]
        limit: usize,
    },
    /// Say whether what was done about a past incident helped with another
    Rate(super::article::Rate),
    /// Say that somebody looks after them
    Ack {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Give an incident an owner
    Assign {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        id: String,
        /// Who looks after it
        owner: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Add a remark to the timeline
    Note {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        id: String,
        /// The remark
        text: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say that they are over
    Resolve {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Why they are over
        #[arg(long, default_value = "")]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Say that they are not over
    Reopen {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Move the alerts of other incidents into one
    Merge {
        /// The one that stays
        #[arg(value_parser = super::parse_incident)]
        into: String,
        /// The ones whose alerts move
        #[arg(required = true, value_parser = super::parse_incident)]
        from: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Make incidents part of a major one; each keeps its alerts, its owner and its clocks
    Link {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// The major incident
        #[arg(long, value_name = "ID", value_parser = super::parse_incident)]
        parent: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Take incidents away from the major one that they are part of
    Unlink {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Let no more alerts join them but their own, for example when a storm is over
    Lock {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Let alerts join them again
    Unlock {
        /// For example INC-42
        #[arg(required = true, value_name = "ID", value_parser = super::parse_incident)]
        ids: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
    /// Move some alerts of an incident into a new one
    Split {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        id: String,
        /// The alerts that move
        #[arg(required = true, value_name = "FINGERPRINT")]
        fingerprints: Vec<String>,
        /// Who says so
        #[command(flatten)]
        by: By,
    },
}

/// How many alerts of an incident are shown to people.
const ALERTS_MAX: usize = 20;

/// What narrows the listing.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Only in these states: open, acknowledged, resolved, closed
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    state: Vec<String>,
    /// Only of these priorities: P1 to P5
    #[arg(long, value_delimiter = ',', value_name = "PRIORITY")]
    priority: Vec<String>,
    /// Only those that touch this service
    #[arg(long, default_value = "")]
    service: String,
    /// In every state
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// The most to list
    #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
    limit: usize,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    let (ids, verb, body) = match command {
        Command::List(arguments) => return list(client, &arguments, output).await,
        Command::Show { id } => return show(client, &id, output).await,
        Command::Similar { id, limit } => return similar::list(client, &id, limit, output).await,
        Command::Rate(rate) => return similar::rate(client, &rate, output).await,
        Command::Ack { ids, by } => (ids, "ack", json!({"by": by.name()})),
        Command::Assign { id, owner, by } => {
            (vec![id], "assign", json!({"by": by.name(), "owner": owner}))
        }
        Command::Note { id, text, by } => {
            (vec![id], "note", json!({"by": by.name(), "text": text}))
        }
        Command::Resolve { ids, reason, by } => {
            (ids, "resolve", json!({"by": by.name(), "reason": reason}))
        }
        Command::Reopen { ids, reason, by } => {
            (ids, "reopen", json!({"by": by.name(), "reason": reason}))
        }
        Command::Merge { into, from, by } => {
            (vec![into], "merge", json!({"by": by.name(), "from": from}))
        }
        Command::Link { ids, parent, by } => {
            (ids, "link", json!({"by": by.name(), "parent": parent}))
        }
        Command::Unlink { ids, by } => (ids, "unlink", json!({"by": by.name()})),
        Command::Lock { ids, reason, by } => {
            (ids, "lock", json!({"by": by.name(), "reason": reason}))
        }
        Command::Unlock { ids, by } => (ids, "unlock", json!({"by": by.name()})),
        Command::Split { id, fingerprints, by } => {
            (vec![id], "split", json!({"by": by.name(), "alerts": fingerprints}))
        }
    };
    super::change_each(client, &super::Change { kind: "incidents", verb, body }, &ids, output).await
}

/// Shows an incident; for people with its alerts by name, as many as they read.
async fn show(client: &Client, id: &str, output: Output) -> Result<()> {
    let mut incident = client.get(&["incidents", id], &[]).await?;
    if output == Output::Table {
        let query = [("incident", field(&incident, "id"))];
        let listing = Listing { path: &["alerts"], query: &query, limit: ALERTS_MAX };
        let alerts = output::items(&client.list(&listing).await?).to_vec();
        // What nobody knows any more is still shown by its fingerprint.
        if let Some(fields) = incident.as_object_mut().filter(|_| !alerts.is_empty()) {
            fields.insert("alerts".to_owned(), Value::Array(alerts));
        }
    }
    output::show(&incident, output, incident_card)
}

async fn list(client: &Client, arguments: &ListArguments, output: Output) -> Result<()> {
    let state = match (arguments.all, arguments.state.is_empty()) {
        (true, _) => String::new(),
        (false, true) => "open,acknowledged".to_owned(),
        (false, false) => arguments.state.join(","),
    };
    let query = [
        ("state", state),
        ("priority", arguments.priority.join(",")),
        ("service", arguments.service.clone()),
    ];
    let listing = Listing { path: &["incidents"], query: &query, limit: arguments.limit };
    let listing = client.list(&listing).await?;
    let narrowed = arguments.all || !arguments.state.is_empty();
    if output == Output::Table && !narrowed && output::items(&listing).is_empty() {
        output::say("no incident is open; `--all` lists those that are over too");
        return Ok(());
    }
    output::list(&listing, output, incident_table)
}

/// The listing for people.
fn incident_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "id"),
            field(it, "priority"),
            field(it, "state"),
            age(it, "opened_at", now),
            field(it, "alert_count"),
            services(it),
            sla(it, now),
            field(it, "owner"),
            field(it, "title"),
        ]
    });
    let header = ["ID", "PRI", "STATE", "AGE", "ALERTS", "SERVICES", "SLA", "OWNER", "TITLE"];
    output::table(&header, rows.collect())
}

/// The first service and how many more there are.
fn services(incident: &Value) -> String {
    match entries(incident, "services") {
        [] => String::new(),
        [one] => text(one),
        [first, rest @ ..] => format!("{} +{}", text(first), rest.len()),
    }
}

/// The clock that matters most: a breached one, else the one that runs out first.
fn sla(incident: &Value, now: Timestamp) -> String {
    let clocks = entries(incident, "sla");
    let state_is = |it: &&Value, state: &str| field(it, "state") == state;
    if let Some(breached) = clocks.iter().find(|it| state_is(it, "breached")) {
        return format!("{} breached", target(breached));
    }
    let running = clocks.iter().filter(|it| state_is(it, "running"));
    match running.min_by_key(|it| output::time(it, "due_at")) {
        Some(next) => format!("{} {}", target(next), due(next, "due_at", now)),
        None if clocks.is_empty() => String::new(),
        None => "met".to_owned(),
    }
}

/// What a clock measures, short enough for a table.
fn target(clock: &Value) -> String {
    field(clock, "target").replace("acknowledge", "ack")
}

/// One incident for people.
fn incident_card(incident: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(incident, name);
    let priority =
        format!("{} (impact {}, urgency {})", of("priority"), of("impact"), of("urgency"));
    let mut out = format!("{}  {}\n\n", of("id"), of("title"));
    out.push_str(&card(&[
        ("state", of("state")),
        ("severity", of("severity")),
        ("priority", priority),
        ("services", of("services")),
        ("owner", of("owner")),
        ("opened", time_and_age(incident, "opened_at", now)),
        ("acknowledged", time_and_age(incident, "acknowledged_at", now)),
        ("resolved", time_and_age(incident, "resolved_at", now)),
        ("closed", time_and_age(incident, "closed_at", now)),
        ("alerts", of("alert_count")),
        ("problem", of("problem")),
        ("part of", of("parent")),
        ("its parts", of("children")),
        ("locked by", of("locked_by")),
        ("merged into", of("merged_into")),
        ("runbooks", of("executions")),
        ("opened by", opened_by(incident)),
        ("why", of("why")),
    ]));
    let clocks: Vec<String> = entries(incident, "sla")
        .iter()
        .map(|it| {
            let due = if field(it, "state") == "running" {
                due(it, "due_at", now)
            } else {
                String::new()
            };
            let at = output::moment(it, "due_at");
            format!("{:<12}{:<10}due {at}  {due}", field(it, "target"), field(it, "state"))
        })
        .collect();
    out.push_str(&section("service level", &clocks));
    out.push_str(&section("may suffer", &impacted(&incident["impacted"])));
    out.push_str(&section("what may help", &similar::help(incident)));
    out.push_str(&section("alerts", &alerts(incident)));
    out.push_str(&section("timeline", &timeline(incident)));
    out
}

/// What needs what is in trouble, what matters most first.
fn impacted(impacted: &Value) -> Vec<String> {
    let shown = entries(impacted, "items");
    let mut lines: Vec<String> = shown
        .iter()
        .map(|it| {
            let (tier, owner) = (field(it, "tier"), field(it, "owner"));
            let tier = if tier.is_empty() { tier } else { format!("tier {tier}") };
            let told: Vec<String> = [field(it, "kind"), tier, owner].into();
            let told: Vec<String> = told.into_iter().filter(|it| !it.is_empty()).collect();
            let path: Vec<String> = entries(it, "path").iter().rev().skip(1).map(text).collect();
            format!("{} ({})  needs {}", field(it, "item"), told.join(", "), path.join(" > "))
        })
        .collect();
    let all = impacted.get("count").and_then(Value::as_u64).unwrap_or_default();
    let more = usize::try_from(all).unwrap_or_default().saturating_sub(shown.len());
    lines.extend((more > 0).then(|| format!("and {more} more")));
    let systems = field(impacted, "systems");
    lines.extend((!systems.is_empty()).then(|| format!("systems: {systems}")));
    lines
}

/// The rule that opened an incident, and where it stands.
fn opened_by(incident: &Value) -> String {
    let (rule, file) = (field(incident, "opened_by"), field(incident, "rule_file"));
    match field(incident, "rule_line").as_str() {
        "" | "0" => rule,
        line => format!("{rule} ({file}:{line})"),
    }
}

fn alerts(incident: &Value) -> Vec<String> {
    let shown = entries(incident, "alerts").iter().take(ALERTS_MAX);
    let all = incident.get("alert_count").and_then(Value::as_u64).unwrap_or_default();
    let more = usize::try_from(all).unwrap_or_default().saturating_sub(shown.len());
    let command = format!("watchkeeper alert list --all --incident {}", field(incident, "id"));
    let rest = (more > 0).then(|| format!("and {more} more: {command}"));
    shown
        .map(|it| match it {
            Value::Object(_) => {
                let labels = it.get("labels").map(super::alert::labels).unwrap_or_default();
                format!("{}  {:<9}{labels}", field(it, "fingerprint"), field(it, "state"))
            }
            _ => text(it),
        })
        .chain(rest)
        .collect()
}

/// The timeline for people, a line for each entry.
pub fn timeline(object: &Value) -> Vec<String> {
    entries(object, "timeline")
        .iter()
        .map(|it| {
            let by = field(it, "by");
            let by = if by.is_empty() { by } else { format!(" ({by})") };
            let (at, kind) = (output::moment(it, "at"), field(it, "kind").replace('_', " "));
            let text = field(it, "text");
            let text = if text == kind { String::new() } else { text };
            format!("{at}  {kind:<14} {text}{by}").trim_end().to_owned()
        })
        .collect()
}

/// A time as it was sent, and how long ago that was.
pub fn time_and_age(value: &Value, name: &str, now: Timestamp) -> String {
    match field(value, name) {
        at if at.is_empty() => at,
        _ => format!("{} ({} ago)", output::moment(value, name), age(value, name, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn incident() -> Value {
        json!({
            "id": "INC-3", "title": "Down on web\u{1b}[0m", "state": "open", "severity": "critical",
            "priority": "P1", "impact": 1, "urgency": 1, "services": ["web", "shop"],
            "opened_at": "2026-01-01T00:08:00Z", "alert_count": 118,
            "alerts": [{"fingerprint": "00ff", "state": "firing", "labels": {"alertname": "Down"}}],
            "sla": [
                {"target": "acknowledge", "state": "met", "due_at": "2026-01-01T00:09:00Z"},
                {"target": "resolve", "state": "running", "due_at": "2026-01-01T01:10:00Z"},
            ],
            "timeline": [{"at": "2026-01-01T00:08:00Z", "kind": "opened", "text": "opened"}],
            "why": "no open incident had the same rule and group",
            "impacted": {"count": 3, "systems": ["shop"], "items": [{"item": "site", "tier": 1,
                "kind": "component", "owner": null, "path": ["web", "cart", "site"]}]},
        })
    }

    #[test]
    fn the_listing_has_a_line_for_each_incident() {
        let text = incident_table(&json!({"items": [incident(), {"id": "INC-2"}]}), now());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for word in ["INC-3", "P1", "open", "2m", "118", "web +1", "resolve 1h left"] {
            assert!(lines[1].contains(word), "{word} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(lines[2].starts_with("INC-2  –"), "{text}");
    }

    #[test]
    fn a_breach_comes_first() {
        let clocks = json!({"sla": [
            {"target": "resolve", "state": "running", "due_at": "2026-01-01T01:10:00Z"},
            {"target": "acknowledge", "state": "breached"},
        ]});
        assert_eq!(sla(&clocks, now()), "ack breached");
        assert_eq!(sla(&json!({"sla": [{"state": "met"}]}), now()), "met");
        assert_eq!(sla(&json!({}), now()), "");
    }

    #[test]
    fn the_card_tells_all_and_tolerates_nothing() {
        let text = incident_card(&incident(), now());
        for line in [
            "priority      P1 (impact 1, urgency 1)",
            "opened        2026-01-01T00:08:00Z (2m ago)",
            "service level",
            "  00ff  firing   Down",
            "  site (component, tier 1)  needs cart > web\n  and 2 more\n  systems: shop\n",
            "  2026-01-01T00:08:00Z  opened\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("owner"), "{text}");
        incident_card(&Value::Null, now());
    }
}
