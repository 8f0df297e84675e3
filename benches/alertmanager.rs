//! Measures Watchkeeper beside a real Alertmanager, in one run, under the same load.
//!
//! `cargo bench --bench alertmanager` runs everything; `-- --help` tells how to run a part of it.
//! What is measured, and the figures, stand in BENCHMARKS.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to stdout")]

#[path = "alertmanager/load.rs"]
mod load;
#[path = "alertmanager/machine.rs"]
mod machine;
#[path = "alertmanager/report.rs"]
mod report;
#[path = "alertmanager/server.rs"]
mod server;

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use load::{Case, Load};
use machine::Machine;
use server::{Peer, Running};
use std::path::{Path, PathBuf};

/// Measures Watchkeeper beside a real Alertmanager.
#[derive(Parser)]
struct Options {
    /// Runs only this part; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Measures only requests with so many alerts; may be repeated.
    #[arg(long)]
    batch: Vec<u64>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many alerts are sent, whatever the case says.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    alerts: Option<u64>,
    /// Leaves out the wait of a minute after which repeated alerts must be made durable again.
    #[arg(long)]
    no_minute: bool,
    /// The Alertmanager to measure.
    #[arg(long, default_value = "prometheus-alertmanager")]
    alertmanager: PathBuf,
    /// Where the servers keep their data; not in memory.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// Writes the report into BENCHMARKS.md.
    #[arg(long)]
    write: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rates, latencies, CPU time and memory.
    Ingest,
    /// What is left after `kill -9` with all alerts active.
    Restart,
    /// A million alerts in a minute, from a sender that behaves as a Prometheus; Watchkeeper alone.
    Million,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Case::all();
        cases.retain(|it| self.batch.is_empty() || self.batch.contains(&it.batch));
        for case in &mut cases {
            case.alerts = self.alerts.unwrap_or(case.alerts);
            case.after_a_minute &= !self.no_minute;
        }
        cases
    }
}

/// A peer while it is measured, in a folder that is removed afterwards.
struct Stand<'a> {
    folder: &'a Path,
    sink: &'a str,
    peer: &'a Peer,
}

impl Stand<'_> {
    /// Starts the peer on nothing and gives it to `measure`.
    fn with_fresh<T>(
        &self,
        measure: impl FnOnce(&mut Running<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let folder = tempfile::TempDir::new_in(self.folder)?;
        let mut running = Running::start(self.peer, folder.path(), self.sink)?;
        measure(&mut running).with_context(|| format!("while `{}` ran", self.peer.name()))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    std::fs::create_dir_all(&options.folder)?;
    let machine = Machine::look(&options.folder)?;
    if machine.file_system == "tmpfs" {
        bail!("`{}` is in memory; name a folder on a disk by --folder", options.folder.display());
    }
    let peers = [Peer::watchkeeper()?, Peer::alertmanager(&options.alertmanager)?];
    let load = Load::build(&options.folder)?;
    let sink = load.start_sink()?;
    let cases = options.cases();
    if cases.is_empty() {
        bail!("there is no case with such a --batch");
    }
    let mut measured = Vec::new();
    for round in 1..=options.rounds {
        // Whoever is second finds a warmer machine: they take turns.
        let mut order: Vec<&Peer> = peers.iter().collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for case in cases.iter().filter(|_| options.wants(Part::Ingest)) {
            for peer in &order {
                eprintln!("round {round}: {} × {}, {}", case.batch, case.connections, peer.name());
                let stand = Stand { folder: &options.folder, sink: &sink.address, peer };
                let passes = stand.with_fresh(|it| load.ingest(case, it))?;
                measured.extend(passes);
            }
        }
        if options.wants(Part::Restart) {
            for peer in &order {
                eprintln!("round {round}: kill -9 of {}", peer.name());
                let stand = Stand { folder: &options.folder, sink: &sink.address, peer };
                let alerts = options.alerts.unwrap_or(load::ACTIVE_ALERTS);
                measured.push(stand.with_fresh(|it| load.restart(alerts, it))?);
            }
        }
    }
    let mut checks = Vec::new();
    if options.wants(Part::Million) {
        eprintln!("a million alerts in a minute");
        let [ours, _] = &peers;
        let stand = Stand { folder: &options.folder, sink: &sink.address, peer: ours };
        checks = stand.with_fresh(|it| load.million(options.alerts, it))?;
    }
    tell(&options, &(report::markdown(&machine, &peers, &measured) + &report::million(&checks)))?;
    if checks.iter().any(|it| !it.is_good) {
        bail!("the million did not go well");
    }
    Ok(())
}

fn tell(options: &Options, report: &str) -> anyhow::Result<()> {
    println!("{report}");
    if options.write {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCHMARKS.md");
        let text = std::fs::read_to_string(&file)?;
        let text = report::replace_between_markers(&text, "figures", report)
            .context("BENCHMARKS.md has no markers to write between")?;
        std::fs::write(&file, text)?;
    }
    Ok(())
}
