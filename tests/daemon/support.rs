//! The daemon as a test sees it: started on a free port, asked over HTTP, killed, started again.

use crate::http::{self, Reply};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_watchkeeper");

/// How long a test waits for what must happen soon; far more than it takes on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// One correlation rule by `service`, which most tests use.
pub(crate) const BY_SERVICE: &str = "
correlations:
  - name: by-service
    matchers: []
    group_by: [service]
    window: {gap: 5m, max: 4h}
    incident: {title: '{{ labels.alertname }} on {{ labels.service }}', severity: from_label, reopen_within: 15m}
";

/// Asks again and again until there is an answer; panics with `what` after `within`.
pub(crate) fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How a daemon is started.
#[derive(Default)]
pub(crate) struct Options {
    /// Contents of `rules/test.yaml`.
    pub(crate) rules: String,
    /// Contents of `watchkeeper.yaml`; empty = none.
    pub(crate) settings: String,
    /// The data folder; `None` = in the test's own folder.
    pub(crate) data: Option<PathBuf>,
    /// The rules folder; `None` = one of the test's own with `rules` in it.
    pub(crate) rules_folder: Option<PathBuf>,
    /// A token that the test's own requests carry.
    pub(crate) token: Option<String>,
    /// Variables beside those of the test.
    pub(crate) environment: Vec<(String, String)>,
}

/// A running daemon with its folders; killed and removed at the end of the test.
pub(crate) struct Daemon {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    options: Options,
    child: Option<Child>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Daemon {
    /// Starts with these rules and waits until it is ready.
    pub(crate) fn start(rules: &str) -> Self {
        Self::start_with(Options { rules: rules.to_owned(), ..Options::default() })
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join("rules/test.yaml"), &options.rules).unwrap();
        if !options.settings.is_empty() {
            fs::write(folder.path().join("watchkeeper.yaml"), &options.settings).unwrap();
        }
        let address = "127.0.0.1:0".parse().unwrap();
        let mut daemon = Self { folder, address, options, child: None };
        daemon.launch();
        daemon
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    pub(crate) fn rules(&self) -> PathBuf {
        self.options.rules_folder.clone().unwrap_or_else(|| self.folder.path().join("rules"))
    }

    /// Replaces the rules, as an editor that writes in place does.
    pub(crate) fn write_rules(&self, rules: &str) {
        fs::write(self.rules().join("test.yaml"), rules).unwrap();
    }

    /// Starts the process on the address it had before, if any.
    fn launch(&mut self) {
        let listen = self.data().join("listen");
        drop(fs::remove_file(&listen));
        self.spawn();
        self.address = eventually("the daemon listens", SOON, || {
            self.assert_alive();
            parse_listen(&fs::read_to_string(&listen).ok()?)
        });
        self.answers_well("/-/ready");
    }

    fn spawn(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").args(["--listen", &self.address.to_string()]);
        command.arg("--data").arg(self.data()).arg("--rules").arg(self.rules());
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        let settings = self.folder.path().join("watchkeeper.yaml");
        if settings.exists() {
            command.arg("--config").arg(settings);
        }
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    fn answers_well(&mut self, path: &str) {
        eventually(&format!("the daemon answers well at {path}"), SOON, || {
            self.assert_alive();
            let reply = http::send(self.address, "GET", path, &[], b"").ok()?;
            (reply.status == 200).then_some(())
        });
    }

    fn assert_alive(&mut self) {
        if let Some(child) = &mut self.child {
            assert_eq!(child.try_wait().unwrap(), None, "the daemon ended");
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// What it said on stderr so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends the process in the hardest way.
    pub(crate) fn kill_9(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same data and address.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.launch();
    }

    /// Starts it again, with other variables beside those of the test.
    pub(crate) fn restart_with(&mut self, environment: Vec<(String, String)>) {
        self.options.environment = environment;
        self.restart();
    }

    /// Waits until it has been killed.
    pub(crate) fn dies(&mut self) {
        let mut child = self.child.take().unwrap();
        let status = eventually("the daemon dies", SOON, || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Starts it again where it cannot become ready, nor write anything.
    pub(crate) fn restart_unready(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.spawn();
        self.answers_well("/-/healthy");
    }

    /// Asks it to end and waits; tells how it ended and how long it took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child.take().unwrap();
        let begun = Instant::now();
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).unwrap();
        let status = eventually("the daemon ends", SOON, || child.try_wait().unwrap());
        (status, begun.elapsed())
    }

    /// Sends a request with the test's own token, if it has one.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let bearer = self.options.token.as_ref().map(|it| format!("Bearer {it}"));
        let mut all = Vec::from(headers);
        if let Some(bearer) = &bearer {
            all.push(("authorization", bearer));
        }
        http::send(self.address, method, path, &all, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Sends JSON that must be accepted, and gives the answer.
    pub(crate) fn done(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "POST {path} {body}: {}", reply.body);
        if reply.body.is_empty() { Value::Null } else { reply.json() }
    }

    /// Reads JSON that must be there.
    pub(crate) fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, &[], b"");
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.body);
        reply.json()
    }

    /// Reads the first page of a listing.
    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        let listing = self.get(path);
        listing["items"].as_array().unwrap_or_else(|| panic!("no items: {listing}")).clone()
    }

    /// Reads all pages of a listing.
    pub(crate) fn all_items(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=100{cursor}"));
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Waits until the only incident is in a state, and gives it.
    pub(crate) fn incident_becomes(&self, state: &str, within: Duration) -> Value {
        eventually(&format!("the incident is {state}"), within, || {
            let incidents = self.items("/api/v1/incidents");
            assert!(incidents.len() <= 1, "more than one incident: {incidents:?}");
            incidents.into_iter().find(|it| it["state"] == state)
        })
    }

    /// Waits until the only execution is in a state, and gives it.
    pub(crate) fn execution_becomes(&self, state: &str, within: Duration) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            let executions = self.items("/api/v1/executions");
            assert!(executions.len() <= 1, "more than one execution: {executions:?}");
            if let Some(execution) = executions.into_iter().next() {
                if execution["state"] == state {
                    let id = execution["id"].as_str().unwrap();
                    return self.get(&format!("/api/v1/executions/{id}"));
                }
                last = execution;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the execution is not {state} within {within:?}: {last}");
    }

    /// The whole page of metrics.
    pub(crate) fn metrics(&self) -> String {
        let reply = self.send("GET", "/metrics", &[], b"");
        assert_eq!(reply.status, 200, "GET /metrics: {}", reply.body);
        reply.body
    }

    /// The sum of all samples of a metric that carry these labels, now.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metric(&self.metrics(), name, labels)
    }

    /// Waits until a metric has a value.
    pub(crate) fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            last = self.metric(name, labels);
            if (last - value).abs() < 1e-9 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{name}{labels:?} is {last}, not {value}");
    }

    /// Delivers alerts as Prometheus does; they must be taken.
    pub(crate) fn deliver(&self, alerts: &[Value]) {
        let reply = self.post("/api/v2/alerts", &json!(alerts));
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Runs a command of the program against this daemon.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Printed {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("WATCHKEEPER_URL", format!("http://{}", self.address));
        match &self.options.token {
            Some(token) => command.env("WATCHKEEPER_TOKEN", token),
            None => command.env_remove("WATCHKEEPER_TOKEN"),
        };
        run(&mut command)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- what the daemon said ---");
            eprintln!("{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Printed {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Printed {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command of the program that needs no daemon.
pub(crate) fn program(arguments: &[&str]) -> Printed {
    let mut command = Command::new(PROGRAM);
    run(command.args(arguments).env_remove("WATCHKEEPER_URL").env_remove("WATCHKEEPER_TOKEN"))
}

/// The folder of the source.
pub(crate) fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn parse_listen(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let text = text.strip_prefix("listening on ").unwrap_or(text);
    text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/').parse().ok()
}

/// An alert that fires for the next hour.
pub(crate) fn firing(labels: &[(&str, &str)]) -> Value {
    let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    json!({"labels": labels, "annotations": {}, "endsAt": ends.to_string()})
}

/// The same alert when it is over.
pub(crate) fn over(labels: &[(&str, &str)]) -> Value {
    let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
    json!({"labels": labels, "endsAt": jiff::Timestamp::now().to_string()})
}

/// The sum of all samples of a metric that carry these labels.
pub(crate) fn metric(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |line: &&str| {
        let Some(rest) = line.strip_prefix(name) else { return false };
        (rest.starts_with('{') || rest.starts_with(' '))
            && labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
    };
    page.lines()
        .filter(matches)
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
