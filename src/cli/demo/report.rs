//! What became of the shop's alerts, as the daemon tells it over its REST API.

use super::player::Sent;
use super::shop::DAY_SECONDS;
use crate::cli::client::{Client, Listing};
use crate::cli::failure::Result;
use crate::cli::output::{counted, entries, field, items, seconds, table};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most objects of a kind that are looked at; a day has about fifty incidents.
const OBJECTS_MAX: usize = 1000;

/// The daemon's own account at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Incidents, newest first.
    pub incidents: Vec<Value>,
    /// Executions, newest first.
    pub executions: Vec<Value>,
    /// Problems, newest first.
    pub problems: Vec<Value>,
}

impl Picture {
    /// Asks the daemon.
    pub async fn take(client: &Client) -> Result<Self> {
        let all = async |kind: &str| -> Result<Vec<Value>> {
            let path = [kind];
            let listing = Listing { path: &path, query: &[], limit: OBJECTS_MAX };
            Ok(items(&client.list(&listing).await?).to_vec())
        };
        Ok(Self {
            incidents: all("incidents").await?,
            executions: all("executions").await?,
            problems: all("problems").await?,
        })
    }

    /// How many incidents are in one of these states.
    pub fn incidents_in(&self, states: &[&str]) -> usize {
        self.incidents.iter().filter(|it| states.contains(&field(it, "state").as_str())).count()
    }

    /// Whether something still goes on that ends by itself.
    pub fn is_busy(&self) -> bool {
        let runs = |it: &Value| matches!(field(it, "state").as_str(), "running" | "verifying");
        self.incidents_in(&["open", "acknowledged"]) > 0 || self.executions.iter().any(runs)
    }

    /// How many executions there are by state, and SLA clocks by state.
    fn counts(&self) -> (String, String) {
        let clocks = self.incidents.iter().flat_map(|it| entries(it, "sla"));
        (count_states(self.executions.iter()), count_states(clocks))
    }
}

/// `3 met, 1 breached`, in order of the state's name.
fn count_states<'a>(objects: impl Iterator<Item = &'a Value>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for object in objects {
        *counts.entry(field(object, "state")).or_default() += 1;
    }
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts = counts.iter().map(|(state, count)| format!("{count} {}", state.replace('_', " ")));
    parts.collect::<Vec<_>>().join(", ")
}

/// What is on the screen while the day runs.
pub fn live(
    picture: &Picture,
    clock_seconds: u32,
    (sent, notifications): (Sent, u64),
    happenings: &[String],
) -> Vec<String> {
    let (runs, clocks) = picture.counts();
    let mut lines = vec![
        format!("  shop time      {}", clock(clock_seconds)),
        format!("  alerts         {} sent, {} different", sent.alerts, sent.series),
        format!("  incidents      {}", incidents(picture)),
        format!("  runbook runs   {runs}"),
        format!("  SLA clocks     {clocks}"),
        format!("  problems       {}", count_states(picture.problems.iter())),
        format!("  notifications  {notifications}"),
        String::new(),
    ];
    lines.extend(happenings.iter().map(|it| format!("  · {it}")));
    lines
}

/// The same in one line, for a screen that is no terminal.
pub fn live_line(picture: &Picture, clock_seconds: u32, sent: Sent) -> String {
    let (runs, clocks) = picture.counts();
    format!(
        "{}  {} alerts; incidents: {}; runbook runs: {runs}; SLA clocks: {clocks}",
        clock(clock_seconds),
        sent.alerts,
        incidents(picture),
    )
}

fn incidents(picture: &Picture) -> String {
    let over = picture.incidents_in(&["resolved", "closed"]);
    let open = picture.incidents_in(&["open"]);
    let acknowledged = picture.incidents_in(&["acknowledged"]);
    let opened = picture.incidents.len();
    format!("{opened} opened: {over} resolved, {acknowledged} acknowledged, {open} open")
}

fn clock(seconds: u32) -> String {
    let minutes = seconds.min(DAY_SECONDS) / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The account of the whole day.
pub fn summary(picture: &Picture, (sent, notifications): (Sent, u64), taken: Duration) -> String {
    let (runs, clocks) = picture.counts();
    let posted = format!("{} in {} requests", sent.alerts, sent.requests);
    let mut rows = vec![
        ("alerts sent", posted),
        ("alerts accepted", sent.accepted.to_string()),
        ("different alerts", sent.series.to_string()),
        ("incidents", incidents(picture)),
        ("notifications", notifications.to_string()),
        ("runbook runs", runs),
        ("SLA clocks", clocks),
        ("problems", count_states(picture.problems.iter())),
    ];
    for problem in &picture.problems {
        rows.push(("", problem_line(problem)));
    }
    rows.push(("time taken", format!("{} s", taken.as_secs())));
    let rows = rows.into_iter().map(|(name, value)| {
        let name = if name.is_empty() { " " } else { name };
        vec![name.to_owned(), value]
    });
    table(&["THE SHOP'S DAY", ""], rows.collect())
}

/// What a problem is called, how often it came, its rhythm, and what is known of it.
fn problem_line(problem: &Value) -> String {
    let count = entries(problem, "incidents").len();
    let period = problem.get("period_seconds").and_then(Value::as_i64);
    let rhythm = period.map(|it| format!(", every {}", seconds(it))).unwrap_or_default();
    let known = match field(problem, "workaround") {
        it if it.is_empty() => it,
        it => format!("; known error, workaround: {it}"),
    };
    let of = |name: &str| field(problem, name);
    format!("{}: {} ({}{rhythm}{known})", of("id"), of("title"), counted(count, "incident"))
}

/// What to try next in another terminal.
pub fn next_commands(picture: &Picture, server: &str) -> String {
    let storm = picture
        .incidents
        .iter()
        .max_by_key(|it| it.get("alert_count").and_then(Value::as_u64).unwrap_or_default());
    let storm = storm.map_or_else(|| "INC-1".to_owned(), |it| field(it, "id"));
    let waits = |it: &&Value| field(it, "state") == "waiting_approval";
    let waiting = picture.executions.iter().find(waits).map(|it| field(it, "id"));
    let known = |it: &&Value| field(it, "state") == "known_error";
    let known_error = picture.problems.iter().find(known);
    let problem = known_error.or(picture.problems.first()).map(|it| field(it, "id"));
    let mut commands = vec![
        "incident list --all".to_owned(),
        format!("incident show {storm}"),
        format!("explain {storm}"),
        "runbook executions".to_owned(),
    ];
    commands.extend(waiting.map(|it| format!("runbook approve {it}")));
    commands.extend(problem.map(|it| format!("problem show {it}")));
    // Its incident is told the workaround, and the runbook is offered.
    commands.extend(known_error.map(|_| {
        "alert send DiskSpaceLow service=orders-db severity=warning volume=orders-db-1".to_owned()
    }));
    commands.push("alert send Down service=checkout severity=critical".to_owned());
    let lines: Vec<String> =
        commands.iter().map(|it| format!("  watchkeeper --server {server} {it}")).collect();
    format!("try in another terminal\n{}\n\nor open {server}/", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn picture() -> Picture {
        let clock = |state: &str| json!({"target": "resolve", "state": state});
        Picture {
            incidents: vec![
                json!({"id": "INC-2", "state": "open", "alert_count": 91, "sla": [clock("breached")]}),
                json!({"id": "INC-1", "state": "closed", "alert_count": 1, "sla": [clock("met")]}),
            ],
            executions: vec![json!({"id": "EXE-4", "state": "waiting_approval"})],
            problems: vec![json!({
                "id": "PRB-1", "state": "known_error", "title": "disk\u{1b}", "incidents": ["INC-1"],
                "period_seconds": 3600, "workaround": "empty it",
            })],
        }
    }

    #[test]
    fn the_summary_tells_what_became_of_all() {
        let sent = Sent { alerts: 400, accepted: 399, series: 130, requests: 50 };
        let text = summary(&picture(), (sent, 12), Duration::from_secs(121));
        for line in [
            "alerts sent       400 in 50 requests",
            "alerts accepted   399",
            "incidents         2 opened: 1 resolved, 0 acknowledged, 1 open",
            "runbook runs      1 waiting approval",
            "SLA clocks        1 breached, 1 met",
            "PRB-1: disk\\u{1b} (1 incident, every 1h; known error, workaround: empty it)",
            "time taken        121 s",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn what_to_try_names_real_things() {
        let text = next_commands(&picture(), "http://127.0.0.1:1");
        for command in [
            "explain INC-2",
            "runbook approve EXE-4",
            "problem show PRB-1",
            "alert send DiskSpaceLow",
        ] {
            assert!(text.contains(&format!("--server http://127.0.0.1:1 {command}")), "{text}");
        }
        let text = next_commands(&Picture::default(), "http://127.0.0.1:1");
        assert!(!text.contains("approve") && !text.contains("DiskSpaceLow"), "{text}");
    }

    #[test]
    fn the_screen_shows_the_shops_time() {
        let lines = live(&picture(), 50_430, (Sent::default(), 0), &["opened INC-2".to_owned()]);
        assert_eq!(lines[0], "  shop time      14:00");
        assert_eq!(lines.last().unwrap(), "  · opened INC-2");
        assert!(live_line(&picture(), 60, Sent::default()).starts_with("00:01  0 alerts"));
        assert!(picture().is_busy() && !Picture::default().is_busy());
    }
}
