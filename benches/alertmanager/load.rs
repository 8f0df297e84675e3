//! The load: how much is sent in which way, and what the load generator tells of it.

use crate::server::{Kind, Running, free_address};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many alerts are active where memory is measured, and where the server is killed.
pub(crate) const ACTIVE_ALERTS: u64 = 100_000;

/// A way to send.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Alerts a request.
    pub(crate) batch: u64,
    /// How many requests are under way at once.
    pub(crate) connections: u64,
    /// How many alerts are sent in each pass.
    pub(crate) alerts: u64,
    /// Whether they are sent once more after a minute, when they must be made durable again.
    pub(crate) after_a_minute: bool,
}

impl Case {
    /// All that are measured.
    pub(crate) fn all() -> Vec<Self> {
        let case = |batch, connections, alerts, after_a_minute| Self {
            batch,
            connections,
            alerts,
            after_a_minute,
        };
        vec![
            case(1, 4, 40_000, false),
            case(1, 32, 40_000, false),
            case(10, 4, ACTIVE_ALERTS, false),
            case(64, 4, ACTIVE_ALERTS, true),
        ]
    }
}

/// Which time alerts are sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pass {
    /// For the first time.
    New,
    /// Again at once.
    Repeated,
    /// Again after a minute.
    AfterAMinute,
}

/// One measurement.
pub(crate) struct Measured {
    /// Of which server.
    pub(crate) kind: Kind,
    /// Of what.
    pub(crate) what: What,
}

/// What was measured.
pub(crate) enum What {
    /// A pass of a case.
    Ingest(Ingest),
    /// A kill.
    Restart(Restart),
}

/// What became of a pass.
pub(crate) struct Ingest {
    /// Which case.
    pub(crate) case: Case,
    /// Which pass of it.
    pub(crate) pass: Pass,
    /// Alerts a second that were answered with 2xx.
    pub(crate) rate: f64,
    /// Seconds of CPU time, of the server for 100,000 alerts.
    pub(crate) cpu_seconds: f64,
    /// Milliseconds that half of the requests took at most.
    pub(crate) p50: f64,
    /// Milliseconds that 99 of 100 requests took at most.
    pub(crate) p99: f64,
    /// The server's resident memory afterwards, in MiB.
    pub(crate) resident_mib: f64,
    /// Requests without a 2xx: their number and what was answered.
    pub(crate) refused: String,
}

/// What became of a kill.
pub(crate) struct Restart {
    /// Seconds from the start until it was ready.
    pub(crate) ready_after: f64,
    /// How many alerts were accepted before.
    pub(crate) accepted: u64,
    /// How many of those are not there afterwards.
    pub(crate) lost: u64,
}

/// One thing that was asked of the million.
pub(crate) struct Check {
    /// What was asked.
    pub(crate) what: String,
    /// What was found.
    pub(crate) figure: String,
    /// Whether that is good.
    pub(crate) is_good: bool,
}

/// The load generator, built.
pub(crate) struct Load {
    program: PathBuf,
    folder: PathBuf,
}

impl Load {
    /// Builds it from `benches/loadgen`; what it leaves behind goes into a folder.
    pub(crate) fn build(folder: &Path) -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/loadgen/Cargo.toml");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loadgen");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()?;
        if !status.success() {
            bail!("the load generator cannot be built");
        }
        Ok(Self { program: target.join("release/loadgen"), folder: folder.to_owned() })
    }

    /// Starts a receiver for Alertmanager's notifications.
    pub(crate) fn start_sink(&self) -> anyhow::Result<Sink> {
        let address = free_address()?;
        let mut command = Command::new(&self.program);
        command.arg("sink").arg("--listen").arg(address.to_string()).stdout(Stdio::null());
        let sink = Sink { address: address.to_string(), child: command.spawn()? };
        let begin = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if begin.elapsed() > Duration::from_secs(10) {
                bail!("the sink does not listen on `{address}`");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(sink)
    }

    fn run(&self, arguments: &[String]) -> anyhow::Result<Value> {
        let output = Command::new(&self.program).args(arguments).output()?;
        if !output.status.success() {
            bail!("loadgen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Sends all passes of a case.
    pub(crate) fn ingest(
        &self,
        case: &Case,
        server: &mut Running<'_>,
    ) -> anyhow::Result<Vec<Measured>> {
        let mut arguments = sending(case, server);
        arguments.extend(["--again-after", "0"].map(str::to_owned));
        if case.after_a_minute {
            arguments.extend(["--again-after", "61"].map(str::to_owned));
        }
        let report = self.run(&arguments)?;
        let passes = report
            .pointer("/passes")
            .and_then(Value::as_array)
            .context("a report without passes")?;
        let names = [Pass::New, Pass::Repeated, Pass::AfterAMinute];
        let measured = names.into_iter().zip(passes).map(|(pass, report)| Measured {
            kind: server.peer.kind(),
            what: What::Ingest(read_pass(*case, pass, report)),
        });
        Ok(measured.collect())
    }

    /// Sends alerts, kills the server, and looks for them.
    pub(crate) fn restart(
        &self,
        alerts: u64,
        server: &mut Running<'_>,
    ) -> anyhow::Result<Measured> {
        let accepted = tempfile::NamedTempFile::new_in(&self.folder)?;
        let path = accepted.path().display().to_string();
        let case = Case { batch: 64, connections: 4, alerts, after_a_minute: false };
        let mut arguments = sending(&case, server);
        arguments.extend(["--accepted".to_owned(), path.clone()]);
        self.run(&arguments)?;
        let ready_after = server.kill_and_restart()?.as_secs_f64();
        let target = format!("http://{}/api/v2/alerts", server.address);
        let list = ["list", "--target", &target, "--accepted", &path].map(str::to_owned);
        let report = self.run(&list)?;
        let count = |key: &str| {
            report.get(key).and_then(Value::as_u64).with_context(|| format!("no `{key}`"))
        };
        let restart = Restart { ready_after, accepted: count("accepted")?, lost: count("lost")? };
        Ok(Measured { kind: server.peer.kind(), what: What::Restart(restart) })
    }

    /// Sends a million alerts of a hundred thousand series, or ten times as many as are told.
    pub(crate) fn million(
        &self,
        series: Option<u64>,
        server: &mut Running<'_>,
    ) -> anyhow::Result<Vec<Check>> {
        let target = format!("http://{}", server.address);
        let series = series.unwrap_or(ACTIVE_ALERTS).to_string();
        let pid = server.pid().to_string();
        let arguments = ["prometheus", "--target", &target, "--series", &series, "--pid", &pid];
        let report = self.run(&arguments.map(str::to_owned))?;
        let checks = report.get("checks").and_then(Value::as_array).context("no `checks`")?;
        if checks.iter().any(|it| it.get("is_good") != Some(&Value::Bool(true))) {
            eprintln!("{report:#}");
        }
        let text = |it: &Value, key: &str| {
            it.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let read = |it: &Value| Check {
            what: text(it, "what"),
            figure: text(it, "figure"),
            is_good: it.get("is_good") == Some(&Value::Bool(true)),
        };
        Ok(checks.iter().map(read).collect())
    }
}

fn sending(case: &Case, server: &Running<'_>) -> Vec<String> {
    let target = format!("http://{}/api/v2/alerts", server.address);
    let mut arguments = vec!["send".to_owned(), "--target".to_owned(), target];
    for (name, value) in [
        ("--alerts", case.alerts),
        ("--batch", case.batch),
        ("--connections", case.connections),
        ("--pid", server.pid().into()),
    ] {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    arguments
}

fn read_pass(case: Case, pass: Pass, report: &Value) -> Ingest {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let entries = |key: &str| report.get(key).and_then(Value::as_object).into_iter().flatten();
    let statuses = entries("statuses");
    let bad = statuses.filter(|it| !it.0.starts_with('2'));
    let errors = entries("errors");
    let refused: Vec<String> = bad.chain(errors).map(|it| format!("{} × {}", it.1, it.0)).collect();
    Ingest {
        case,
        pass,
        rate: number("/accepted_per_second"),
        cpu_seconds: number("/server/cpu_seconds_per_100k"),
        p50: number("/latency_milliseconds/p50"),
        p99: number("/latency_milliseconds/p99"),
        resident_mib: number("/server/resident_mib_after"),
        refused: refused.join(", "),
    }
}

/// A receiver of notifications; killed when this is dropped.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: String,
    child: Child,
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
