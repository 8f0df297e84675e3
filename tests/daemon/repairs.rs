//! Real repairs: something real breaks, a real Prometheus says so, a runbook mends it, and Prometheus
//! says that, too.

#[path = "repairs/crash_loop.rs"]
mod crash_loop;
#[path = "repairs/deployment.rs"]
mod deployment;
#[path = "repairs/filesystem.rs"]
mod filesystem;
#[path = "repairs/postgresql.rs"]
mod postgresql;

use crate::http::Receiver;
use crate::support::{Daemon, Options, eventually, free_port, source};
use crate::tools::{Neighbour, local, prometheus_at};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Prometheus looks each second, but two cores have more to do than these tests.
const MINUTE: Duration = Duration::from_mins(1);

/// What a test is about.
#[derive(Default)]
struct Plan {
    /// The runbook, and whatever else stands in its file.
    rules: String,
    /// When Prometheus raises the alarm: the fields of one alerting rule.
    alert: &'static str,
    /// What Prometheus scrapes.
    target: Option<SocketAddr>,
    /// A folder whose programs come before those of the machine.
    programs: Option<String>,
}

/// Prometheus, and a daemon that asks it and tells a pager.
struct Scene {
    daemon: Daemon,
    prometheus: Neighbour,
    pager: Receiver,
    _folder: TempDir,
}

impl Scene {
    fn start(plan: Plan) -> Self {
        let folder = TempDir::new().unwrap();
        let pager = Receiver::start();
        let address = local(free_port());
        let rules = format!(
            "{}
receivers: [{{name: pager, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [approval_needed, escalated], receiver: pager}}]
",
            plan.rules,
            pager.url("/page")
        );
        let settings =
            format!("prometheus: [{{name: prod, url: 'http://{address}', poll_every: 1s}}]\n");
        let mut environment = Vec::new();
        if let Some(programs) = plan.programs {
            environment.push((
                "PATH".to_owned(),
                format!("{programs}:{}", std::env::var("PATH").unwrap()),
            ));
        }
        let configuration = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: real
    static_configs: [{{targets: ['{}']}}]
",
            plan.target.unwrap()
        );
        let alerts = format!("groups: [{{name: real, rules: [{{{}}}]}}]", plan.alert);
        let prometheus = prometheus_at(address, folder.path(), &configuration, &alerts);
        let daemon =
            Daemon::start_with(Options { rules, settings, environment, ..Options::default() });
        Self { daemon, prometheus, pager, _folder: folder }
    }

    /// The value of the only series that Prometheus has for a question.
    fn asks(&self, promql: &str) -> Option<f64> {
        let address = format!("http://{}/api/v1/query", self.prometheus.address);
        let url = reqwest::Url::parse_with_params(&address, [("query", promql)]).unwrap();
        let answer = self.prometheus.get(&format!("{}?{}", url.path(), url.query().unwrap()));
        let series = answer["data"]["result"].as_array()?;
        assert!(series.len() <= 1, "{promql}: {answer}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Waits until Prometheus says that something holds.
    fn prometheus_says(&self, promql: &str) {
        eventually(promql, MINUTE, || self.asks(promql).map(drop));
    }

    /// The newest run, once it is in a state.
    fn run_becomes(&self, state: &str) -> Value {
        eventually(&format!("the run is {state}"), MINUTE, || {
            let runs = self.daemon.items("/api/v1/executions");
            let run = runs.into_iter().next().filter(|it| it["state"] == state)?;
            let id = run["id"].as_str().unwrap();
            Some(self.daemon.get(&format!("/api/v1/executions/{id}")))
        })
    }

    /// A person says yes to the newest run.
    fn approve(&self) {
        let asked = self.run_becomes("waiting_approval");
        let id = asked["id"].as_str().unwrap();
        let printed = self.daemon.cli(&["runbook", "approve", id, "--by", "ann"]);
        assert_eq!(printed.code, 0, "{printed:?}");
    }
}

/// A script of the tests in Python, with the port that it listens at.
fn script(name: &str, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(source().join("tests/repairs").join(name)).arg(port.to_string()).args(arguments);
    command
}

/// What a shell does to start something that stays; its number is in the file `pid`.
fn in_background(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|it| format!("'{}'", it.display())).collect();
    format!("setsid {} </dev/null >/dev/null 2>&1 & echo $! > pid", words.join(" "))
}

fn write_program(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What runs by the file `pid` of a folder; it ends with the test.
struct Service<'a>(&'a Path);

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.0.join("pid")) {
            // It may have died by itself.
            drop(Command::new("kill").args(["-9", pid.trim()]).output());
        }
    }
}

/// Starts what tells Prometheus of the real thing.
fn exporter(folder: &Path, arguments: &[&str]) -> Neighbour {
    let port = free_port();
    let mut command = script("exporter.py", port, arguments);
    Neighbour::start(&mut command, local(port), &folder.join("exporter.log"))
}

/// A runbook as it comes with us, with other times.
fn shipped(name: &str, times: &[(&str, &str)]) -> String {
    let file = source().join("rules/runbooks").join(name);
    let text = fs::read_to_string(file).unwrap();
    times.iter().fold(text, |text, (ours, shorter)| {
        assert!(text.contains(ours), "{name} has no `{ours}` any more");
        text.replace(ours, shorter)
    })
}
