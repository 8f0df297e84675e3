//! Runs simulated histories for as long as one likes.
#![expect(clippy::print_stdout, reason = "it tells how far it is")]

#[path = "trial.rs"]
mod trial;

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use watchkeeper::domain::planted::Bug;

/// The program's own, which is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the watch through random histories with faults, and stops at the first broken promise.
#[derive(Parser)]
struct Arguments {
    /// How many histories.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// How long each lasts, in virtual hours.
    #[arg(long, default_value_t = 1)]
    hours: u64,
    /// One history only: the one of this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed of many.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// A mistake that the watch has; needs a build with `--features planted-bugs`.
    #[arg(long)]
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let series = trial::Series {
        first: arguments.seed.unwrap_or(arguments.first),
        count: arguments.seed.map_or(arguments.seeds, |_| 1),
        hours: arguments.hours,
        bug: arguments.bug,
        shortens: true,
    };
    let began = Instant::now();
    let step = (series.count / 10).max(1);
    let report = trial::run(series, &|done| {
        if done % step == 0 {
            println!("{done} of {} after {} s", series.count, began.elapsed().as_secs());
        }
    });
    if let Some(seed) = arguments.seed {
        let trace = || trial::trace(seed, arguments.hours);
        println!("the trace of seed {seed} is {:016x}, and {:016x} once more", trace(), trace());
    }
    let seconds = began.elapsed().as_secs_f64();
    if let Some(failure) = &report.failure {
        println!("{failure}");
    }
    let verdict = if report.failure.is_some() { "FAILED" } else { "no law broken" };
    println!("{report}; {seconds:.1} s; {verdict}");
    if report.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
