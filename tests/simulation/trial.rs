//! Running histories: one, many at once, twice the same, and the shortest that fails.

mod audit;
mod checks;
mod disk;
mod faults;
mod holds;
mod laws;
mod oracle;
mod outside;
mod people;
mod random;
mod rules;
mod senders;
mod triggers;
mod world;

use faults::{Fault, Lots};
use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use watchkeeper::domain::planted::Bug;
use watchkeeper::telemetry::Metrics;
use world::{Figures, Plan, World};

/// How many lines of a history are shown.
const LINES_SHOWN: usize = 40;
/// A history that fails is shortened this often at most.
const SHORTENINGS_MAX: u32 = 60;

/// Which histories are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    /// The first seed.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
    /// How long each lasts until everything is healed, in hours.
    pub(crate) hours: u64,
    /// The mistake that the watch has.
    pub(crate) bug: Option<Bug>,
    /// Whether to look for a shorter history that fails as well.
    pub(crate) shortens: bool,
}

/// What came of many histories.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many there were.
    pub(crate) histories: u64,
    /// Virtual time in all, in milliseconds.
    pub(crate) milliseconds: u64,
    pub(crate) rounds: u64,
    pub(crate) turns: u64,
    pub(crate) deliveries: u64,
    pub(crate) effects: u64,
    pub(crate) crashes: u64,
    /// The failure with the lowest seed.
    pub(crate) failure: Option<Failure>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, rounds, turns, deliveries, effects, crashes, .. } = self;
        let hours = self.milliseconds / 3_600_000;
        write!(
            f,
            "{histories} histories, {hours} virtual hours: {rounds} rounds, {turns} turns, \
             {deliveries} deliveries, {effects} effects, {crashes} crashes"
        )
    }
}

/// A history that broke a law.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// What was wrong.
    pub(crate) law: String,
    /// How it came to that, shortened.
    story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\n{}", self.seed, self.law, self.story)
    }
}

/// Runs histories on all cores until the first that fails.
pub(crate) fn run(series: Series, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::default());
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let metrics = Metrics::new();
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= series.count {
                        break;
                    }
                    let seed = series.first + number;
                    let outcome = run_one(&plan(seed, series.hours), &metrics, series.bug, false);
                    failed.fetch_or(outcome.law.is_some(), Ordering::Relaxed);
                    let failure = outcome.law.map(|law| {
                        if series.shortens {
                            shorten(seed, &series, &metrics)
                        } else {
                            Failure { seed, law, story: String::new() }
                        }
                    });
                    add(&report, &outcome.figures, failure);
                    progress(number + 1);
                }
            });
        }
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn add(report: &Mutex<Report>, figures: &Figures, failure: Option<Failure>) {
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.histories += 1;
    report.milliseconds += figures.milliseconds;
    report.rounds += figures.rounds;
    report.turns += figures.turns;
    report.deliveries += figures.deliveries;
    report.effects += figures.effects;
    report.crashes += figures.crashes;
    let seed = |it: &Option<Failure>| it.as_ref().map_or(u64::MAX, |it| it.seed);
    if seed(&failure) < seed(&report.failure) {
        report.failure = failure;
    }
}

/// The hash of everything that happens with a seed.
pub(crate) fn trace(seed: u64, hours: u64) -> u64 {
    run_one(&plan(seed, hours), &Metrics::new(), None, false).trace
}

fn plan(seed: u64, hours: u64) -> Plan {
    Plan { seed, milliseconds: hours * 3_600_000, faults: Lots::drawn(seed), series: 1000 }
}

/// What came of one history.
struct Outcome {
    law: Option<String>,
    figures: Figures,
    trace: u64,
    history: Vec<String>,
    ended_at: u64,
}

fn run_one(plan: &Plan, metrics: &Metrics, bug: Option<Bug>, tells: bool) -> Outcome {
    choose(bug);
    let mut world = World::new(plan, metrics, tells);
    let law = quietly(|| world.run());
    choose(None);
    Outcome {
        law: law.err(),
        figures: world.figures(),
        trace: world.trace().0,
        history: world.history().to_vec(),
        ended_at: world.now(),
    }
}

/// Chooses a planted bug, where the build has them.
fn choose(bug: Option<Bug>) {
    #[cfg(feature = "planted-bugs")]
    watchkeeper::domain::planted::choose(bug);
    #[cfg(not(feature = "planted-bugs"))]
    assert!(bug.is_none(), "this build has no planted bugs: add `--features planted-bugs`");
}

/// Looks for a shorter history that fails as well: fewer faults, less time, fewer series.
fn shorten(seed: u64, series: &Series, metrics: &Metrics) -> Failure {
    let mut best = plan(seed, series.hours);
    let mut runs = 0;
    let mut fails = |plan: &Plan| {
        runs += 1;
        let outcome = run_one(plan, metrics, series.bug, false);
        outcome.law.filter(|_| runs <= SHORTENINGS_MAX).map(|_| outcome.ended_at)
    };
    let mut cut = |best: &mut Plan, shorter: Plan| {
        let ended_at = fails(&shorter);
        if let Some(ended_at) = ended_at {
            *best = Plan { milliseconds: shorter.milliseconds.min(ended_at + 1), ..shorter };
        }
        ended_at.is_some()
    };
    let same = best.clone();
    cut(&mut best, same);
    for fault in best.faults.clone() {
        let faults: BTreeSet<Fault> =
            best.faults.iter().copied().filter(|it| *it != fault).collect();
        let shorter = Plan { faults, ..best.clone() };
        cut(&mut best, shorter);
    }
    for _ in 0..8 {
        let shorter = Plan { series: best.series / 2, ..best.clone() };
        let less = Plan { milliseconds: best.milliseconds / 2, ..best.clone() };
        if !cut(&mut best, shorter) && !cut(&mut best, less) {
            break;
        }
    }
    let outcome = run_one(&best, metrics, series.bug, true);
    let shown = outcome.history.len().saturating_sub(LINES_SHOWN);
    let lines = outcome.history.get(shown..).unwrap_or_default().join("\n");
    let (seconds, faults) = (best.milliseconds / 1000, &best.faults);
    let bug = series.bug.map(|it| format!(" --bug {}", it.as_str())).unwrap_or_default();
    let features = if bug.is_empty() { "" } else { " --features planted-bugs" };
    let story = format!(
        "again: cargo run --release{features} --example simulate -- --seed {seed} --hours {}{bug}\n\
         shortened to {seconds} s with {faults:?}; the last {LINES_SHOWN} of {} lines:\n{lines}",
        series.hours,
        outcome.history.len()
    );
    Failure { seed, law: outcome.law.unwrap_or_default(), story }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may panic, and gives the panic's text, without printing it.
fn quietly(run: impl FnOnce() -> laws::Verdict) -> laws::Verdict {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(false);
    result.unwrap_or_else(|panic| Err(format!("it panics: {}", text_of(&*panic))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
