//! One history: senders, people, machines and mishaps around a watch, in virtual time.

mod deeds;
mod heal;
mod machines;
mod mishaps;
mod traffic;

use super::checks::Checks;
use super::disk::{Disk, Mood};
use super::faults::{Fault, Lots};
use super::laws;
use super::outside::Outside;
use super::random::{Hash, Random};
use super::senders::{self, Delivery, Sender};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;
use watchkeeper::domain::Accepted;
use watchkeeper::domain::effect::{EffectKey, Outcome};
use watchkeeper::engine::stepped::{Answer, Options, SteppedWatch, VirtualTime};
use watchkeeper::engine::{CommandError, SubmitError};
use watchkeeper::telemetry::Metrics;

/// Every history begins here, by the wall clock.
const START: i64 = 1_893_456_000;
/// More rounds than this without time going on are a watch that never sleeps.
const ROUNDS_AT_ONCE_MAX: u32 = 500;
/// What strikes by itself, again and again.
const STRIKING: [Fault; 15] = [
    Fault::Crash,
    Fault::Restart,
    Fault::FailedOpen,
    Fault::FullDisk,
    Fault::Partition,
    Fault::ReceiverDown,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::Reload,
    Fault::BadReload,
    Fault::IncidentOrders,
    Fault::MergeAndSplit,
    Fault::Silences,
    Fault::RunbookOrders,
    Fault::LongDowntime,
];

/// Which history it is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything follows from it.
    pub(crate) seed: u64,
    /// How long it lasts until everything is healed.
    pub(crate) milliseconds: u64,
    /// What may go wrong.
    pub(crate) faults: BTreeSet<Fault>,
    /// How many of a thousand series there are.
    pub(crate) series: u64,
}

/// What happened in a history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) rounds: u64,
    pub(crate) deliveries: u64,
    pub(crate) effects: u64,
    pub(crate) crashes: u64,
    pub(crate) turns: u64,
    pub(crate) milliseconds: u64,
}

/// Something that is going to happen.
enum Happening {
    /// A sender looks at its series.
    Look(usize),
    /// A delivery arrives.
    Arrive { sender: usize, delivery: Delivery, is_double: bool },
    /// We learn what came of an effect, if the process that began it still lives.
    Done { key: EffectKey, outcome: Outcome, generation: u64, is_double: bool },
    /// A job pings.
    Ping,
    /// Something is deployed, or told of again.
    Change,
    /// A fault strikes.
    Strike(Fault),
    /// The disk is well again.
    Mend,
    /// The process is started.
    Start,
}

/// When something happens; what happens at one time happens in random order.
type Due = (u64, u64, u64);

/// An answer that somebody waits for.
enum Waiting {
    Delivery {
        sender: usize,
        number: u64,
        from_seq: u64,
        answer: Answer<(), SubmitError>,
    },
    /// With the answer to the question, asked after it, whether everything is decided and durable.
    Command {
        since: u64,
        answer: Answer<Accepted, CommandError>,
        settled: Answer<(), SubmitError>,
    },
    Fact(Answer<(), SubmitError>),
}

/// The world of one history.
pub(crate) struct World {
    plan: Plan,
    metrics: Metrics,
    time: VirtualTime,
    disk: Disk,
    lots: Lots,
    ties: Random,
    ways: Random,
    machines: Random,
    /// How many changes were made.
    changes: u64,
    due: BinaryHeap<Reverse<(Due, usize)>>,
    happenings: Vec<Option<Happening>>,
    watch: Option<SteppedWatch>,
    patience: Duration,
    generation: u64,
    senders: Vec<Sender>,
    outside: Outside,
    waiting: Vec<Waiting>,
    deliveries: u64,
    /// Deliveries up to this number were made before the wall clock was last set back.
    told_anew_from: u64,
    /// The variant of the rules that the files hold.
    variant: usize,
    checks: Checks,
    figures: Figures,
    trace: Hash,
    history: Option<Vec<String>>,
}

impl World {
    /// A world in which nothing has happened yet. With `tells` it writes its history down.
    pub(crate) fn new(plan: &Plan, metrics: &Metrics, tells: bool) -> Self {
        let start = Timestamp::from_second(START).unwrap_or_default();
        let time = VirtualTime::starting_at(start);
        let lots = || Lots::new(plan.seed, &plan.faults);
        let kinds = [senders::Kind::Prometheus, senders::Kind::Alertmanager];
        let mut world = Self {
            plan: plan.clone(),
            metrics: metrics.clone(),
            disk: Disk::new(lots(), time.clone()),
            time,
            lots: lots(),
            ties: Random::stream(plan.seed, "ties"),
            ways: Random::stream(plan.seed, "ways"),
            machines: Random::stream(plan.seed, "machines"),
            changes: 0,
            due: BinaryHeap::new(),
            happenings: Vec::new(),
            watch: None,
            patience: Duration::ZERO,
            generation: 0,
            senders: kinds.map(|it| Sender::new(plan.seed, it, plan.series)).into(),
            outside: Outside::new(plan.seed),
            waiting: Vec::new(),
            deliveries: 0,
            told_anew_from: 0,
            variant: 0,
            checks: Checks::default(),
            figures: Figures::default(),
            trace: Hash::default(),
            history: tells.then(Vec::new),
        };
        world.schedule(0, Happening::Start);
        world.schedule(20_000, Happening::Ping);
        world.schedule(60_000, Happening::Change);
        for sender in 0..world.senders.len() {
            let offset = world.ways.below(senders::LOOK_MILLISECONDS);
            world.schedule(offset, Happening::Look(sender));
        }
        for fault in STRIKING.into_iter().filter(|it| plan.faults.contains(it)) {
            let wait = world.lots.wait(fault);
            world.schedule(wait, Happening::Strike(fault));
        }
        world
    }

    /// Runs the whole history, and heals it.
    pub(crate) fn run(&mut self) -> laws::Verdict {
        self.go_on(self.plan.milliseconds)?;
        self.converge()
    }

    /// What happened so far, the last thing last.
    pub(crate) fn history(&self) -> &[String] {
        self.history.as_deref().unwrap_or_default()
    }

    /// What there was of everything.
    pub(crate) fn figures(&self) -> Figures {
        let turns = self.disk.lock().turn_count() as u64;
        let milliseconds = self.now();
        Figures { turns, milliseconds, deliveries: self.deliveries, ..self.figures }
    }

    /// The hash of everything that happened.
    pub(crate) fn trace(&self) -> Hash {
        self.trace
    }

    /// The steady clock, in milliseconds from the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.time.steady_milliseconds()
    }

    fn schedule(&mut self, after: u64, happening: Happening) {
        let number = self.happenings.len();
        self.happenings.push(Some(happening));
        let due = (self.now() + after, self.ties.next(), number as u64);
        self.due.push(Reverse((due, number)));
    }

    /// Writes down that something happened.
    fn tell(&mut self, what: &'static str, number: u64, detail: impl FnOnce() -> String) {
        self.trace.add(what.as_bytes());
        self.trace.add(&number.to_le_bytes());
        self.trace.add(&self.now().to_le_bytes());
        let seconds = self.now();
        if let Some(history) = &mut self.history {
            let (seconds, rest) = (seconds / 1000, seconds % 1000);
            history.push(format!("{seconds:>6}.{rest:03} s  {what} {}", detail()));
        }
    }

    /// Lets time go on until then.
    fn go_on(&mut self, until: u64) -> laws::Verdict {
        let mut at_once = 0;
        loop {
            let now = self.now();
            let event = self.due.peek().map_or(u64::MAX, |Reverse(((at, _, _), _))| *at);
            let patience = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
            let round = if self.watch.is_some() { now.saturating_add(patience) } else { u64::MAX };
            let next = event.min(round).max(now);
            if next >= until {
                self.time.advance(until.saturating_sub(now));
                return Ok(());
            }
            at_once = if next > now { 0 } else { at_once + 1 };
            laws::ensure(at_once <= ROUNDS_AT_ONCE_MAX, || "the watch never sleeps".to_owned())?;
            self.time.advance(next - now);
            self.let_happen()?;
            self.go_round()?;
        }
    }

    fn let_happen(&mut self) -> laws::Verdict {
        while let Some(Reverse(((at, _, _), number))) = self.due.peek().copied() {
            if at > self.now() {
                break;
            }
            self.due.pop();
            let happening = self.happenings.get_mut(number).and_then(Option::take);
            match happening {
                Some(Happening::Look(sender)) => self.look(sender),
                Some(Happening::Arrive { sender, delivery, is_double }) => {
                    self.arrive(sender, &delivery, is_double);
                }
                Some(Happening::Done { key, outcome, generation, is_double }) => {
                    self.done(&key, &outcome, generation, is_double);
                }
                Some(Happening::Ping) => self.ping(),
                Some(Happening::Change) => self.change(),
                Some(Happening::Strike(fault)) => self.strike(fault)?,
                Some(Happening::Mend) => self.disk.lock().mood = Mood::Good,
                Some(Happening::Start) => self.start(),
                None => {}
            }
        }
        Ok(())
    }

    /// Goes round once, and looks at everything that came of it.
    fn go_round(&mut self) -> laws::Verdict {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let began = watch.now();
        self.checks.check_time(began, &self.time, &self.disk)?;
        if self.lots.strikes(Fault::BusyWatch) {
            watch.write();
            self.checks.passed_over();
            self.patience = Duration::from_millis(self.lots.random(Fault::BusyWatch).around(100));
        } else {
            self.patience = watch.round();
        }
        self.figures.rounds += 1;
        for planned in watch.take_begun() {
            self.begin(&planned)?;
        }
        self.look_at_answers()?;
        let Some(watch) = &mut self.watch else { return Ok(()) };
        self.checks.after_round(watch, began, &self.disk, &self.outside)?;
        if self.disk.lock().died {
            self.tell("crash", 1, || "in a write".to_owned());
            self.crash();
        }
        Ok(())
    }

    fn start(&mut self) {
        if self.watch.is_some() {
            return;
        }
        self.disk.lock().died = false;
        let disk = self.disk.clone();
        let options = Options {
            open: Box::new(move || disk.open()),
            time: self.time.clone(),
            metrics: self.metrics.clone(),
            retention_seconds: 30 * 24 * 3600,
            // So short that it begins to go in a history of an hour.
            audit_retention_seconds: 20 * 60,
        };
        self.checks.restarted();
        match SteppedWatch::open(options) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.patience = Duration::ZERO;
                self.tell("start", self.generation, String::new);
                self.load_rules();
            }
            Err(_) => self.schedule(1000, Happening::Start),
        }
    }

    /// The process is gone.
    fn crash(&mut self) {
        self.watch = None;
        self.generation += 1;
        self.figures.crashes += 1;
        self.outside.end_all();
        for waiting in std::mem::take(&mut self.waiting) {
            if let Waiting::Delivery { sender, number, .. } = waiting {
                self.answer(sender, number, false);
            }
        }
        let mut downtime = self.ways.between(50, 4000);
        if self.lots.strikes(Fault::LongDowntime) {
            downtime += self.lots.random(Fault::LongDowntime).below(20 * 60_000);
        }
        self.schedule(downtime, Happening::Start);
    }
}
