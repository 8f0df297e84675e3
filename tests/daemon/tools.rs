//! The real neighbours: Prometheus, Alertmanager, and a shop that can die and be restarted.

use crate::http;
use crate::support::{SOON, eventually, free_port};
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A program of somebody else; killed at the end of the test.
pub(crate) struct Neighbour {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Neighbour {
    pub(crate) fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{name}`: {error}; see tests/run"));
        let neighbour = Self { address, child };
        eventually(&format!("{name} is ready"), SOON, || ready(address).then_some(()));
        neighbour
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        http::send(self.address, "GET", path, &[], b"").unwrap().json()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn ready(address: SocketAddr) -> bool {
    http::send(address, "GET", "/-/ready", &[], b"").is_ok_and(|it| it.status == 200)
}

/// This machine, at a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Starts a Prometheus that looks every second, re-sends every two, and delivers to `targets`.
pub(crate) fn prometheus(folder: &Path, shop: &Shop, targets: &[SocketAddr]) -> Neighbour {
    let targets: Vec<String> = targets.iter().map(|it| format!("'{it}'")).collect();
    let configuration = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ['{}'], labels: {{service: shop}}}}]
alerting:
  alertmanagers:
    - static_configs: [{{targets: [{}]}}]
      timeout: 5s
",
        shop.address,
        targets.join(", ")
    );
    let alerts = "
groups:
  - name: shop
    rules:
      - alert: ShopDown
        expr: up{job=\"shop\"} == 0
        labels: {severity: critical}
        annotations: {summary: the shop does not answer}
";
    prometheus_at(local(free_port()), folder, &configuration, alerts)
}

/// Starts a Prometheus with this configuration and these rules; again on the data of one before.
pub(crate) fn prometheus_at(
    address: SocketAddr,
    folder: &Path,
    configuration: &str,
    alerts: &str,
) -> Neighbour {
    fs::write(folder.join("prometheus.yml"), configuration).unwrap();
    fs::write(folder.join("alerts.yml"), alerts).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--rules.alert.resend-delay=2s", "--log.level=warn"]);
    Neighbour::start(&mut command, address, &folder.join("prometheus.log"))
}

/// Waits until Prometheus sees the shop as `up` or not.
pub(crate) fn wait_for_up(prometheus: &Neighbour, up: &str) {
    eventually(&format!("Prometheus sees up = {up}"), SOON, || {
        let answer = prometheus.get("/api/v1/query?query=up");
        (answer["data"]["result"][0]["value"][1] == up).then_some(())
    });
}

/// Starts an Alertmanager that tells a webhook at once.
pub(crate) fn alertmanager(folder: &Path, webhook: &str) -> Neighbour {
    alertmanager_with(folder, &Receivers { webhook: webhook.to_owned(), pagerduty: None })
}

/// Whom an Alertmanager tells.
pub(crate) struct Receivers {
    pub(crate) webhook: String,
    /// The address of `/v2/enqueue` of whoever takes its pages.
    pub(crate) pagerduty: Option<String>,
}

/// Starts an Alertmanager that tells all of these at once.
pub(crate) fn alertmanager_with(folder: &Path, receivers: &Receivers) -> Neighbour {
    let webhook = &receivers.webhook;
    let pages = receivers.pagerduty.iter().map(|url| {
        format!(
            "pagerduty_configs: [{{url: '{url}', routing_key: a-routing-key, send_resolved: true}}]"
        )
    });
    let pages: String = pages.collect();
    let configuration = format!(
        "
route: {{receiver: next, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: next
    webhook_configs: [{{url: '{webhook}', send_resolved: true}}]
    {pages}
"
    );
    fs::write(folder.join("alertmanager.yml"), configuration).unwrap();
    let address = local(free_port());
    let mut command = alertmanager_command(folder, &folder.join("alertmanager.yml"), address);
    Neighbour::start(&mut command, address, &folder.join("alertmanager.log"))
}

/// Starts an Alertmanager that tells nobody, with these `inhibit_rules`.
pub(crate) fn alertmanager_inhibiting(folder: &Path, rules: &str) -> Neighbour {
    let configuration =
        format!("route: {{receiver: x}}\nreceivers: [{{name: x}}]\ninhibit_rules: {rules}");
    alertmanager_configured(folder, &configuration)
}

/// Starts an Alertmanager with a configuration.
pub(crate) fn alertmanager_configured(folder: &Path, configuration: &str) -> Neighbour {
    fs::write(folder.join("alertmanager.yml"), configuration).unwrap();
    let address = local(free_port());
    let mut command = alertmanager_command(folder, &folder.join("alertmanager.yml"), address);
    Neighbour::start(&mut command, address, &folder.join("alertmanager.log"))
}

fn alertmanager_command(folder: &Path, configuration: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=");
    command
}

/// A small real process with `/metrics`, its process id in a file, and a script that starts it
/// when it does not run. (It is an Alertmanager without work: a real program that is there anyway.)
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    pub(crate) script: PathBuf,
    folder: TempDir,
}

impl Shop {
    /// Starts it. The script writes a line into its journal, takes `delay_seconds`, then does its
    /// work and writes another.
    pub(crate) fn start(delay_seconds: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let address = local(free_port());
        let path = folder.path();
        fs::write(path.join("shop.yml"), "route: {receiver: x}\nreceivers: [{name: x}]\n").unwrap();
        let program = find_program("prometheus-alertmanager");
        let text = format!(
            "#!/bin/sh
cd '{folder}' || exit 1
echo begun >> journal
sleep \"${{1:-{delay_seconds}}}\"
alive() {{ grep -q '^State:.[^ZX]' \"/proc/$(cat pid)/status\"; }}
if [ -e pid ] && alive 2>/dev/null; then echo done >> journal; exit 0; fi
setsid '{program}' --config.file=shop.yml --storage.path=shop \\
    --web.listen-address={address} --cluster.listen-address= </dev/null >/dev/null 2>&1 &
echo $! > pid
echo done >> journal
",
            folder = path.display(),
        );
        let script = path.join("restart-shop");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let shop = Self { address, script, folder };
        assert!(Command::new(&shop.script).arg("0").status().unwrap().success());
        eventually("the shop is ready", SOON, || shop.is_ready().then_some(()));
        fs::remove_file(shop.folder.path().join("journal")).unwrap();
        shop
    }

    /// Whether it answers.
    pub(crate) fn is_ready(&self) -> bool {
        ready(self.address)
    }

    fn pid(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("pid")).ok().map(|it| it.trim().to_owned())
    }

    /// Ends it in the hardest way.
    pub(crate) fn kill(&self) {
        let pid = self.pid().unwrap();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    /// How often the script began (`begun`) or ended (`done`) since the start.
    pub(crate) fn journal(&self, word: &str) -> usize {
        let text = fs::read_to_string(self.folder.path().join("journal")).unwrap_or_default();
        text.lines().filter(|it| *it == word).count()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            drop(Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status());
        }
    }
}

fn find_program(name: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    path.split(':')
        .map(|it| format!("{it}/{name}"))
        .find(|it| Path::new(it).exists())
        .unwrap_or_else(|| panic!("`{name}` is not installed; see tests/run"))
}
