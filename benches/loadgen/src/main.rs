//! Loads a receiver of alerts and measures what becomes of it: rate, latency, CPU time, memory.
//!
//! Everything that is sent follows from `--seed`, is serialised before the clock starts, and is
//! sent from one thread, so that the rest of a small machine is the server's. Reports are JSON on
//! stdout. Any server that takes `POST /api/v2/alerts` or the webhook of an Alertmanager can be
//! measured, and servers be compared side by side in one run.
#![expect(clippy::print_stdout, reason = "reports go to stdout")]

mod alerts;
mod connection;
mod latency;
mod list;
mod process;
mod prometheus;
mod send;
mod sink;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send alerts as fast as they are taken, or at a fixed rate.
    Send(send::Options),
    /// Send as a Prometheus does, ask the server meanwhile how it is, and look for what it took.
    Prometheus(prometheus::Options),
    /// Read the whole list of alerts and look for those that were accepted.
    List(list::Options),
    /// Receive notifications and report how long each alert took to arrive.
    Sink(sink::Options),
}

fn main() -> anyhow::Result<()> {
    let command_line = CommandLine::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Connections are spawned with `spawn_local`: the whole tool is one thread.
    let report = tokio::task::LocalSet::new().block_on(&runtime, async {
        match command_line.command {
            Command::Send(options) => send::run(options).await,
            Command::Prometheus(options) => prometheus::run(options).await,
            Command::List(options) => list::run(options).await,
            Command::Sink(options) => sink::run(options).await,
        }
    })?;
    println!("{report}");
    Ok(())
}
