//! Simulated weeks of runs: the real watch, random outcomes, crashes, and people who answer late or never.
//! No lock is broken, no guard exceeded, no answer counted twice, no run unaccounted for.

#[expect(dead_code, reason = "the histories of an hour use the rest")]
#[path = "simulation/disk.rs"]
mod disk;
#[expect(dead_code, reason = "the histories of an hour use the rest")]
#[path = "simulation/faults.rs"]
mod faults;
#[path = "week/laws.rs"]
mod laws;
#[path = "week/ledger.rs"]
mod ledger;
#[path = "week/outside.rs"]
mod outside;
#[path = "week/people.rs"]
mod people;
#[path = "simulation/random.rs"]
mod random;
#[path = "week/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use watchkeeper::domain::planted::Bug;
use watchkeeper::telemetry::Metrics;
use world::{Figures, World};

/// The program's own, which is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many weeks are gone through; `WATCHKEEPER_WEEKS` says otherwise. A build without optimization is
/// many times slower.
const WEEKS: u64 = if cfg!(debug_assertions) { 2 } else { WEEKS_OF_ALL };
/// In so many weeks everything happens that can happen.
const WEEKS_OF_ALL: u64 = 20;

/// Goes through weeks on all cores until the first that breaks a law.
fn go_through(weeks: u64, bug: Option<Bug>) -> (Figures, Option<String>) {
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Figures::default(), None));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                choose(bug);
                let metrics = Metrics::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= weeks {
                        break;
                    }
                    let mut world = World::new(seed, &metrics);
                    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
                    let law = run.unwrap_or_else(|_| Err("it panics".to_owned())).err();
                    let mut sum = sum.lock().expect("nobody panics with it");
                    sum.0.add(&world.figures());
                    if let Some(law) = law {
                        next.store(weeks, Ordering::Relaxed);
                        let last = world.last_lines();
                        sum.1.get_or_insert(format!("seed {seed}: {law}\n{last}"));
                    }
                }
            });
        }
    });
    sum.into_inner().expect("nobody panics with it")
}

/// Chooses a planted bug for this thread, where the build has them.
fn choose(bug: Option<Bug>) {
    #[cfg(feature = "planted-bugs")]
    watchkeeper::domain::planted::choose(bug);
    #[cfg(not(feature = "planted-bugs"))]
    assert!(bug.is_none(), "this build has no planted bugs: add `--features planted-bugs`");
}

#[test]
fn no_week_breaks_a_law() {
    let weeks = std::env::var("WATCHKEEPER_WEEKS").ok().and_then(|it| it.parse().ok());
    let weeks = weeks.unwrap_or(WEEKS);
    let began = Instant::now();
    let (figures, failure) = go_through(weeks, None);
    println!("{weeks} weeks: {figures}; {:.1} s", began.elapsed().as_secs_f64());
    if let Some(failure) = failure {
        panic!("{failure}");
    }
    if weeks >= WEEKS_OF_ALL {
        figures.check_that_all_happened(weeks);
    }
}

#[test]
fn the_same_seed_gives_the_same_week() {
    let trace = |seed| {
        let mut world = World::new(seed, &Metrics::new());
        let law = world.run();
        assert_eq!(law, Ok(()), "{}", world.last_lines());
        world.trace()
    };
    let first = trace(1);
    assert_eq!(trace(1), first);
    assert_ne!(trace(2), first);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::LockIgnored, Bug::ClaimAfterEffect, Bug::EffectBeforeCommit] {
        let (_, failure) = go_through(WEEKS, Some(bug));
        println!("{}: {}", bug.as_str(), failure.as_deref().unwrap_or("nobody found it"));
        assert!(failure.is_some(), "nobody found {}", bug.as_str());
    }
}
