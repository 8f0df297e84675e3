//! Simulated histories: the real watch in virtual time, and everything that can go wrong around it.

#[path = "simulation/trial.rs"]
mod trial;

use std::time::Instant;
use trial::Series;

/// The program's own, which is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many histories are run; a build without optimization is many times slower.
const HISTORIES: u64 = if cfg!(debug_assertions) { 16 } else { 10_000 };

fn series(count: u64) -> Series {
    Series { first: 0, count, hours: 1, bug: None, shortens: true }
}

#[test]
fn no_history_breaks_a_law() {
    let began = Instant::now();
    let report = trial::run(series(HISTORIES), &|_| {});
    println!("{report}; {:.1} s", began.elapsed().as_secs_f64());
    if let Some(failure) = report.failure {
        panic!("{failure}");
    }
    assert_eq!(report.histories, HISTORIES);
    assert!(report.crashes > HISTORIES && report.effects > HISTORIES, "{report}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let traces: Vec<u64> = (0..4).map(|seed| trial::trace(seed, 1)).collect();
    for (seed, trace) in (0..).zip(&traces) {
        assert_eq!(trial::trace(seed, 1), *trace, "seed {seed}");
    }
    assert!(traces.windows(2).all(|it| it.first() != it.last()), "{traces:?}");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_found() {
    use watchkeeper::domain::planted::Bug;

    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let series = Series { bug: Some(bug), shortens: false, ..series(HISTORIES.min(1000)) };
        match trial::run(series, &|_| {}).failure {
            Some(it) => println!("{}: found in history {}: {it}", bug.as_str(), it.seed + 1),
            None => missed.push(bug.as_str()),
        }
    }
    assert!(missed.is_empty(), "nobody found {missed:?}");
}
