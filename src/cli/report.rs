//! The command `report`: what made noise, and drafts of post-mortems, as text, Markdown, HTML, CSV, JSON or YAML.

use super::client::Client;
use super::failure::Result;
use super::output::{self, counted, entries, field};
use super::silence::parse_duration;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What to report, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The form of the output: table, markdown, html, csv (of the rules only), json or yaml
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    output: Form,
}

/// What can be reported.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Report what fired, who was told, and who would have been
    Noise {
        /// From when on, in whole days of UTC: `14d`, or a time
        #[arg(long, default_value = "14d", value_parser = parse_since)]
        since: Since,
        /// Until when: a time; now if not told
        #[arg(long)]
        until: Option<Timestamp>,
        /// How many rules are shown at most, but in csv, json and yaml
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Draft a post-mortem of an incident, from its timeline
    Postmortem {
        /// For example INC-42
        #[arg(value_parser = super::parse_incident)]
        incident: String,
    },
}

/// The form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Text for people
    #[default]
    Table,
    /// To paste into a ticket or a wiki
    Markdown,
    /// A page of its own
    Html,
    /// The rules, for a spreadsheet
    Csv,
    /// What the server sent
    Json,
    /// The same as YAML
    Yaml,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Since {
    Ago(SignedDuration),
    Time(Timestamp),
}

fn parse_since(text: &str) -> std::result::Result<Since, String> {
    if let Ok(time) = text.parse() {
        return Ok(Since::Time(time));
    }
    parse_duration(text)
        .map(Since::Ago)
        .map_err(|_| format!("expected `14d` or a time like `2026-01-31T00:00:00Z`, not `{text}`"))
}

/// Does it.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Noise { since, until, limit } => {
            noise(client, (*since, *until), *limit, arguments.output).await
        }
        Command::Postmortem { incident } => postmortem(client, incident, arguments.output).await,
    }
}

/// Prints the draft of a post-mortem: Markdown unless told otherwise.
async fn postmortem(client: &Client, incident: &str, form: Form) -> Result<()> {
    let draft = client.get(&["incidents", incident, "postmortem"], &[]).await?;
    match form {
        Form::Table | Form::Markdown => output::print(&field(&draft, "markdown")),
        Form::Json => output::show(&draft, output::Output::Json, |_, _| String::new()),
        Form::Yaml => output::show(&draft, output::Output::Yaml, |_, _| String::new()),
        Form::Html | Form::Csv => Err(super::failure::Failure::Usage(
            "a post-mortem is Markdown; `-o json` and `-o yaml` hold the same".to_owned(),
        )),
    }
}

async fn noise(
    client: &Client,
    (since, until): (Since, Option<Timestamp>),
    limit: usize,
    form: Form,
) -> Result<()> {
    let end = until.unwrap_or_else(Timestamp::now);
    let since = match since {
        Since::Time(time) => time,
        Since::Ago(duration) => end.checked_sub(duration).unwrap_or(Timestamp::MIN),
    };
    let query = [("since", since.to_string()), ("until", end.to_string())];
    let report = client.get(&["reports", "noise"], &query).await?;
    let sections = || sections(&report, limit);
    match form {
        Form::Table => output::print(&table(&sections())),
        Form::Markdown => output::print(&markdown(&sections())),
        Form::Html => output::print(&html(&sections())),
        Form::Csv => output::print(&csv(&report)),
        Form::Json => output::show(&report, output::Output::Json, |_, _| String::new()),
        Form::Yaml => output::show(&report, output::Output::Yaml, |_, _| String::new()),
    }
}

/// A part of a report: lines, or a table.
struct Section {
    title: String,
    lines: Vec<String>,
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

const HEARD: [&str; 5] = ["NEW", "CHANGED", "REPEATED", "RESOLVED", "RECEIVER"];
const TOLD: [&str; 6] = ["SENT", "WOULD SEND", "GIVEN UP", "MUTED", "OCCASION", "RECEIVER"];
const RULES: [&str; 12] = [
    "PAGES",
    "OURS",
    "FIRED",
    "HELD BACK",
    "FLAPPING",
    "OPENED",
    "JOINED",
    "REOPENED",
    "ACTED ON",
    "BY ITSELF",
    "MEDIAN",
    "RULE",
];
const ADVICE: [&str; 3] = ["RULE", "CHANGE", "WHY"];
const NEW: [&str; 3] = ["NEW", "FIRED", "RULE"];
const ALERTS: [&str; 2] = ["FIRED", "ALERT"];
const PROBLEMS: [&str; 4] = ["ID", "STATE", "INCIDENTS", "TITLE"];

fn sections(report: &Value, limit: usize) -> Vec<Section> {
    let fields = |list: &str, names: &'static [&'static str]| -> Vec<Vec<String>> {
        let row = |it: &Value| names.iter().map(|name| field(it, name)).collect();
        entries(report, list).iter().map(row).collect()
    };
    let section = |title: &str, header, rows| Section {
        title: title.to_owned(),
        lines: Vec::new(),
        header,
        rows,
    };
    let day = |name| field(report, name).chars().take(10).collect::<String>();
    let top = Section {
        title: format!("Noise from {} up to {}", day("since"), day("until")),
        lines: summary(report),
        header: &[],
        rows: Vec::new(),
    };
    let heard = fields("heard", &["new", "changed", "repeated", "resolved", "receiver"]);
    let told = fields("told", &["sent", "would_send", "failed", "muted", "occasion", "receiver"]);
    let problems = fields("problems", &["id", "state", "incidents", "title"]);
    let rules: Vec<Vec<String>> =
        entries(report, "rules").iter().take(limit).map(rule_row).collect();
    let advice = entries(report, "rules").iter().flat_map(|rule| {
        let of = |it: &Value| {
            vec![field(rule, "rule"), field(it, "change").replace('_', " "), field(it, "why")]
        };
        entries(rule, "advice").iter().map(of).collect::<Vec<_>>()
    });
    let advice = advice.take(limit).collect();
    let new = entries(report, "rules").iter().filter(|it| number(it, "new") > 0);
    let new = new.map(|it| vec![field(it, "new"), field(it, "fired"), field(it, "rule")]).collect();
    let alerts = entries(report, "alerts").iter().map(|it| {
        let labels = it.get("labels").filter(|it| !it.is_null());
        let name = labels.map_or_else(|| field(it, "rule"), output::text);
        vec![field(it, "fired"), name]
    });
    let alerts = alerts.collect();
    let all = [
        top,
        section("What the Alertmanager told", &HEARD, heard),
        section("What we told, or would have told", &TOLD, told),
        section("The noisiest rules", &RULES, rules),
        section("What to change", &ADVICE, advice),
        section("Kinds of alert that were never seen before", &NEW, new),
        section("Alerts that fire again and again", &ALERTS, alerts),
        section("Problems that were seen", &PROBLEMS, problems),
    ];
    all.into_iter().filter(|it| !(it.lines.is_empty() && it.rows.is_empty())).collect()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The report in some sentences.
fn summary(report: &Value) -> Vec<String> {
    let of = |name| number(report, name);
    let (fired, held_back) = (of("fired"), of("held_back"));
    let times = |count, noun: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    let mut lines = vec![
        format!(
            "Something happened on {}; the mode is {}.",
            times(of("days"), "day"),
            field(report, "mode")
        ),
        format!(
            "{} became {}; {held_back} were held back.",
            times(fired, "firing alert"),
            times(of("incidents"), "incident")
        ),
        format!(
            "Of the incidents that are closed somebody acted on {}; {} were over by themselves.",
            of("acted_on"),
            of("by_itself")
        ),
    ];
    if of("pages_heard") > 0 {
        lines.push(format!("The Alertmanager sent {}.", times(of("pages_heard"), "page")));
    }
    let (sent, would_send) = (of("pages_sent"), of("pages_would_send"));
    if sent > 0 || would_send == 0 {
        lines.push(format!("We sent {}.", times(sent, "notification")));
    }
    if would_send > 0 {
        lines.push(format!("We would have sent {}.", times(would_send, "notification")));
    }
    lines
}

fn rule_row(it: &Value) -> Vec<String> {
    let held_back = number(it, "silenced") + number(it, "inhibited") + number(it, "in_maintenance");
    let median = it.get("median_seconds").and_then(Value::as_i64);
    vec![
        field(it, "pages_heard"),
        (number(it, "pages_sent") + number(it, "pages_would_send")).to_string(),
        field(it, "fired"),
        held_back.to_string(),
        field(it, "flapping"),
        field(it, "opened"),
        field(it, "joined"),
        field(it, "reopened"),
        field(it, "acted_on"),
        field(it, "by_itself"),
        median.map(output::seconds).unwrap_or_default(),
        field(it, "rule"),
    ]
}

fn table(sections: &[Section]) -> String {
    let text = sections.iter().map(|it| {
        let lines = it.lines.iter().map(|it| it.clone() + "\n").collect::<String>();
        let table = if it.rows.is_empty() {
            String::new()
        } else {
            output::table(it.header, it.rows.clone()) + "\n"
        };
        format!("{}\n{lines}{table}", it.title)
    });
    text.collect::<Vec<_>>().join("\n")
}

fn markdown(sections: &[Section]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let text = sections.iter().enumerate().map(|(index, it)| {
        let level = if index == 0 { "#" } else { "##" };
        let mut text = format!("{level} {}\n\n", it.title);
        text.extend(it.lines.iter().map(|it| format!("- {it}\n")));
        if !it.rows.is_empty() {
            let header: Vec<String> = it.header.iter().map(|it| small(it)).collect();
            // All but the last column are short.
            let lines: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
            text += &(row(&header) + &row(&lines));
            text.extend(
                it.rows
                    .iter()
                    .map(|it| row(&it.iter().map(|it| escape_markdown(it)).collect::<Vec<_>>())),
            );
        }
        text
    });
    text.collect::<Vec<_>>().join("\n")
}

/// `HELD BACK` as `held back`.
fn small(head: &str) -> String {
    head.to_ascii_lowercase()
}

/// Text that stays text in Markdown: what senders write is hostile.
fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '!' | '#' => {
                out.extend(['\\', letter]);
            }
            '\n' => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

fn html(sections: &[Section]) -> String {
    let title = sections.first().map(|it| escape_html(&it.title)).unwrap_or_default();
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body {{ font: 16px sans-serif; margin: 2em }} \
         td, th {{ padding: .2em .8em; text-align: left }}</style>\n"
    );
    let parts = sections.iter().enumerate().map(|(index, it)| {
        let level = if index == 0 { "h1" } else { "h2" };
        let mut parts = vec![element(level, &escape_html(&it.title))];
        parts.extend(it.lines.iter().map(|it| element("p", &escape_html(it))));
        if !it.rows.is_empty() {
            let header: Vec<String> = it.header.iter().map(|it| small(it)).collect();
            let rows = it.rows.iter().map(|it| html_row("td", it)).collect::<String>();
            parts.push(element("table", &(html_row("th", &header) + &rows)));
        }
        parts.concat()
    });
    format!("{head}{}</html>\n", parts.collect::<String>())
}

fn html_row(cell: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|it| element(cell, &escape_html(it))).collect();
    element("tr", &cells.concat())
}

fn element(name: &str, inside: &str) -> String {
    format!("<{name}>{inside}</{name}>\n")
}

fn escape_html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// All rules with the names that the API gives their fields (RFC 4180).
fn csv(report: &Value) -> String {
    const FIELDS: [&str; 16] = [
        "rule",
        "fired",
        "silenced",
        "inhibited",
        "in_maintenance",
        "flapping",
        "opened",
        "joined",
        "reopened",
        "acted_on",
        "by_itself",
        "median_seconds",
        "pages_heard",
        "pages_sent",
        "pages_would_send",
        "new",
    ];
    let row = |it: &Value| {
        FIELDS.iter().map(|name| csv_field(&field(it, name))).collect::<Vec<_>>().join(",") + "\r\n"
    };
    let rows = entries(report, "rules").iter().map(row).collect::<String>();
    format!("{}\r\n{rows}", FIELDS.join(","))
}

/// A field that no spreadsheet takes for a formula.
fn csv_field(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Value {
        let rule = |name: &str| {
            json!({"rule": name, "fired": 12, "silenced": 1, "inhibited": 2, "in_maintenance": 0,
                "flapping": 3, "opened": 4, "joined": 1, "reopened": 1, "acted_on": 1, "by_itself": 3,
                "median_seconds": 304, "pages_heard": 9, "pages_sent": 0, "pages_would_send": 4,
                "new": u64::from(name == "DiskFull")})
        };
        json!({
            "since": "2026-11-09T00:00:00Z", "until": "2026-11-23T00:00:00Z", "days": 14,
            "mode": "observe", "fired": 24, "held_back": 6, "incidents": 8, "acted_on": 2,
            "by_itself": 6, "pages_heard": 18, "pages_sent": 0, "pages_would_send": 8,
            "heard": [{"receiver": "pager", "new": 8, "changed": 5, "repeated": 3, "resolved": 2}],
            "told": [{"receiver": "hook", "occasion": "opened", "sent": 0, "would_send": 8,
                "failed": 0, "muted": 0}],
            "rules": [rule("DiskFull"), rule("=cmd|'<b>', \"x\"")],
            "alerts": [{"fingerprint": "0", "rule": "DiskFull", "fired": 7,
                "labels": {"alertname": "DiskFull", "host": "a"}}],
            "problems": [],
        })
    }

    #[test]
    fn a_report_tells_what_was_sent_and_what_would_have_been() {
        let text = table(&sections(&report(), 20));
        for part in [
            "Noise from 2026-11-09 up to 2026-11-23",
            "24 firing alerts became 8 incidents; 6 were held back.",
            "The Alertmanager sent 18 pages.",
            "We would have sent 8 notifications.",
            "9      4     12     3          3         4       1       1         1         3          5m",
            "alertname=DiskFull, host=a",
            "Kinds of alert that were never seen before\nNEW  FIRED  RULE\n1    12     DiskFull",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("We sent") && !text.contains("Problems"), "{text}");
        assert!(!table(&sections(&report(), 1)).contains("=cmd"));
    }

    #[test]
    fn what_senders_write_stays_text_in_each_form() {
        let all = sections(&report(), 20);
        let text = markdown(&all);
        assert!(text.starts_with("# Noise from"), "{text}");
        assert!(text.contains("| =cmd\\|'\\<b\\>', \"x\" |\n"), "{text}");
        assert!(
            text.contains("| new | changed | repeated | resolved | receiver |\n| --- |"),
            "{text}"
        );
        let text = html(&all);
        assert!(text.contains("<td>=cmd|&#39;&lt;b&gt;&#39;, &quot;x&quot;</td>"), "{text}");
        let text = csv(&report());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "DiskFull,12,1,2,0,3,4,1,1,1,3,304,9,0,4,1");
        assert!(lines[2].starts_with("\"'=cmd|'<b>', \"\"x\"\"\",12,"), "{text}");
    }

    #[test]
    fn a_time_or_a_duration_says_since_when() {
        assert_eq!(parse_since("7d"), Ok(Since::Ago(SignedDuration::from_hours(168))));
        let time = "2026-01-01T00:00:00Z";
        assert_eq!(parse_since(time), Ok(Since::Time(time.parse().unwrap())));
        assert!(parse_since("yesterday").is_err());
    }
}
