//! The commands on alerts: list, show, and send one to try the whole way.

use super::client::{Client, Listing};
use super::failure::{Failure, Result};
use super::incident::time_and_age;
use super::output::{self, Output, age, card, entries, field, plain, section, text};
use crate::domain::label::Labels;
use crate::domain::matcher::Matcher;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What to do with alerts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List alerts: those that fire, unless told otherwise
    List(ListArguments),
    /// Show one alert and what became of it
    Show {
        /// The 16 hexadecimal digits of its identity
        fingerprint: String,
    },
    /// Send one alert, and print its fingerprint
    Send(SendArguments),
}

/// What narrows the listing.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Only in these states: firing, resolved, expired
    #[arg(long, value_delimiter = ',', value_name = "STATE", default_value = "firing")]
    state: Vec<String>,
    /// In every state
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only members of this incident
    #[arg(long, default_value = "", value_name = "ID")]
    incident: String,
    /// The most to list
    #[arg(long, default_value_t = 100, value_parser = super::parse_limit)]
    limit: usize,
    /// Only those whose labels match, for example severity=critical
    #[arg(value_name = "MATCHER")]
    matchers: Vec<Matcher>,
}

/// The alert to send.
#[derive(Debug, clap::Args)]
pub struct SendArguments {
    /// Its labels; a first one without `=` is the alertname
    #[arg(required = true, value_name = "LABEL=VALUE")]
    labels: Vec<String>,
    /// A text about it; may be given several times
    #[arg(long, value_name = "NAME=TEXT")]
    annotation: Vec<String>,
    /// Say that it is over
    #[arg(long)]
    resolve: bool,
    /// Since when it is true, in RFC 3339; since now if not told
    #[arg(long, value_name = "TIME")]
    starts_at: Option<Timestamp>,
}

/// Does it.
pub async fn run(client: &Client, command: Command, output: Output) -> Result<()> {
    match command {
        Command::List(arguments) => list(client, &arguments, output).await,
        Command::Show { fingerprint } => {
            let alert = client.get(&["alerts", &fingerprint], &[]).await?;
            output::show(&alert, output, alert_card)
        }
        Command::Send(arguments) => {
            let (labels, alert) = to_send(&arguments, Timestamp::now())?;
            client.post_alertmanager(&["alerts"], json!([alert])).await?;
            let sent = json!({"fingerprint": labels.fingerprint()});
            output::show(&sent, output, |it, _| field(it, "fingerprint"))
        }
    }
}

async fn list(client: &Client, arguments: &ListArguments, output: Output) -> Result<()> {
    let query = query(arguments);
    let listing = Listing { path: &["alerts"], query: &query, limit: arguments.limit };
    output::list(&client.list(&listing).await?, output, alert_table)
}

fn query(arguments: &ListArguments) -> [(&'static str, String); 3] {
    let state = if arguments.all { String::new() } else { arguments.state.join(",") };
    let matchers: Vec<String> = arguments.matchers.iter().map(ToString::to_string).collect();
    [("state", state), ("incident", arguments.incident.clone()), ("filter", matchers.join(","))]
}

/// Builds the alert as the Alertmanager API wants it.
fn to_send(arguments: &SendArguments, now: Timestamp) -> Result<(Labels, Value)> {
    let mut pairs = Vec::new();
    for (index, text) in arguments.labels.iter().enumerate() {
        let pair = match text.split_once('=') {
            None if index == 0 => ("alertname".to_owned(), text.clone()),
            _ => super::parse_pair(text).map_err(Failure::Usage)?,
        };
        pairs.push(pair);
    }
    let labels = Labels::from_pairs(pairs);
    if labels.is_empty() {
        return Err(Failure::Usage("an alert needs a label with a value".to_owned()));
    }
    let annotations: std::result::Result<Vec<_>, _> =
        arguments.annotation.iter().map(|it| super::parse_pair(it)).collect();
    let annotations = Labels::from_pairs(annotations.map_err(Failure::Usage)?);
    let mut alert = json!({"labels": labels, "annotations": annotations});
    let times = [("startsAt", arguments.starts_at), ("endsAt", arguments.resolve.then_some(now))];
    if let Some(fields) = alert.as_object_mut() {
        let given = times.iter().filter_map(|(name, at)| Some((*name, (*at)?)));
        fields.extend(given.map(|(name, at)| (name.to_owned(), json!(at))));
    }
    Ok((labels, alert))
}

/// Labels for people: the alert's name, then the others.
pub fn labels(labels: &Value) -> String {
    let Some(fields) = labels.as_object() else { return text(labels) };
    let name = fields.get("alertname").map(text).unwrap_or_default();
    let others: Vec<String> = fields
        .iter()
        .filter(|(name, _)| *name != "alertname")
        .map(|(name, value)| format!("{}={}", plain(name), text(value)))
        .collect();
    format!("{name} {}", others.join(" ")).trim().to_owned()
}

fn alert_table(listing: &Value, now: Timestamp) -> String {
    let rows = output::items(listing).iter().map(|it| {
        vec![
            field(it, "fingerprint"),
            field(it, "state"),
            age(it, "starts_at", now),
            field(it, "count"),
            field(it, "disposition"),
            field(it, "incident"),
            it.get("labels").map(labels).unwrap_or_default(),
        ]
    });
    let header = ["FINGERPRINT", "STATE", "AGE", "COUNT", "DISPOSITION", "INCIDENT", "ALERT"];
    output::table(&header, rows.collect())
}

fn alert_card(alert: &Value, now: Timestamp) -> String {
    let of = |name: &str| field(alert, name);
    let mut out = card(&[
        ("fingerprint", of("fingerprint")),
        ("state", of("state")),
        ("starts at", time_and_age(alert, "starts_at", now)),
        ("ends at", output::moment(alert, "ends_at")),
        ("received", time_and_age(alert, "received_at", now)),
        ("sources", of("sources")),
        ("disposition", of("disposition")),
        ("incident", of("incident")),
        ("fired", fired(alert)),
        ("why", of("why")),
    ]);
    for title in ["labels", "annotations"] {
        let lines: Vec<String> = alert
            .get(title)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{} = {}", plain(name), text(value)))
            .collect();
        out.push_str(&section(title, &lines));
    }
    let timeline = super::incident::timeline(alert);
    if !entries(alert, "timeline").is_empty() {
        out.push_str(&section("timeline", &timeline));
    }
    out
}

/// How often it began to fire.
fn fired(alert: &Value) -> String {
    match field(alert, "count").as_str() {
        "" => String::new(),
        "1" => "once".to_owned(),
        count => format!("{count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(labels: &[&str]) -> SendArguments {
        SendArguments {
            labels: labels.iter().map(|it| (*it).to_owned()).collect(),
            annotation: vec!["summary=a = b".to_owned()],
            resolve: false,
            starts_at: None,
        }
    }

    #[test]
    fn an_alert_is_built_from_pairs() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut arguments = arguments(&["bar", "instance=a", "severity=critical"]);
        let (labels, alert) = to_send(&arguments, now).unwrap();
        assert_eq!(labels.fingerprint().to_string(), "732b30836e261245");
        assert_eq!(alert["labels"]["alertname"], "bar");
        assert_eq!(alert["annotations"]["summary"], "a = b");
        assert!(alert.get("endsAt").is_none() && alert.get("startsAt").is_none());
        arguments.resolve = true;
        assert_eq!(to_send(&arguments, now).unwrap().1["endsAt"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_label_is_wrong_usage() {
        for labels in [&["a", "b"][..], &["a="], &["=a"]] {
            let failure = to_send(&arguments(labels), Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{labels:?}");
        }
    }

    #[test]
    fn what_narrows_the_listing_is_sent() {
        let matchers = ["a=x".parse().unwrap(), r#"b=~"y,z""#.parse().unwrap()].to_vec();
        let state = vec!["firing".to_owned(), "resolved".to_owned()];
        let incident = "INC-1".to_owned();
        let mut arguments = ListArguments { state, all: false, incident, limit: 9, matchers };
        let texts = query(&arguments).map(|(_, text)| text);
        assert_eq!(texts, ["firing,resolved", "INC-1", r#"a="x",b=~"y,z""#]);
        arguments.all = true;
        assert_eq!(query(&arguments)[0].1, "");
    }

    #[test]
    fn people_see_the_name_first() {
        let value = json!({"alertname": "Down", "a": "1", "z": "2"});
        assert_eq!(labels(&value), "Down a=1 z=2");
        let alert = json!({"fingerprint": "00ff", "labels": value, "state": "firing"});
        let now = Timestamp::UNIX_EPOCH;
        assert!(alert_table(&json!({"items": [alert]}), now).contains("Down a=1 z=2"));
        assert!(alert_card(&alert, now).contains("  alertname = Down\n"));
    }
}
