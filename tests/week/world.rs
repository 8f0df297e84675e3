//! One week: alerts, people, machines and crashes around a watch, in virtual time.

use super::disk::Disk;
use super::faults::{Fault, Lots};
use super::laws::{self, Verdict, ensure};
use super::ledger::Ledger;
use super::outside::{self, Outside};
use super::people;
use super::random::{Hash, Random};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use watchkeeper::config;
use watchkeeper::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use watchkeeper::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use watchkeeper::domain::label::Labels;
use watchkeeper::domain::rules::{Mode, RuleSet};
use watchkeeper::engine::replay;
use watchkeeper::engine::stepped::{Options, SteppedWatch, VirtualTime};
use watchkeeper::store::Store;
use watchkeeper::telemetry::Metrics;

/// Every week begins here, by the wall clock.
const START: i64 = 1_893_456_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const WEEK: u64 = 7 * 24 * HOUR;
/// By so long after everything is healed all runs are over: the longest question takes 3 hours.
const OVER_AFTER: u64 = 10 * HOUR;
/// More rounds than this without time going on are a watch that never sleeps.
const ROUNDS_AT_ONCE_MAX: u32 = 500;
/// So much of a history is shown.
const LINES_SHOWN: usize = 30;
const ALERTS: [&str; 4] = ["Down", "Old", "Risky", "Big"];
const HOSTS: u64 = 4;

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    let checked =
        config::rules_from_texts(&[("rules.yaml", include_str!("rules.yaml"))], Mode::Act);
    let findings = checked.findings;
    Arc::new(checked.value.unwrap_or_else(|| panic!("the rules of the week: {findings:?}")))
});

/// What there was of everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    turns: u64,
    effects: u64,
    crashes: u64,
    blocked: BTreeMap<String, u64>,
    ends: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// Adds those of another week.
    pub(crate) fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.effects += other.effects;
        self.crashes += other.crashes;
        for (guard, count) in &other.blocked {
            *self.blocked.entry(guard.clone()).or_default() += count;
        }
        for (state, count) in &other.ends {
            *self.ends.entry(state).or_default() += count;
        }
    }

    /// A law that nothing came near to says nothing.
    pub(crate) fn check_that_all_happened(&self, weeks: u64) {
        assert!(self.crashes >= weeks, "{self}");
        for guard in [
            "lock",
            "cooldown",
            "max_runs",
            "at_once",
            "breaker",
            "blast_radius",
            "precondition",
            "stopped",
        ] {
            assert!(self.blocked.contains_key(guard), "{guard} held nothing back: {self}");
        }
        for state in ["succeeded", "ineffective", "failed", "undone", "denied", "aborted"] {
            assert!(self.ends.contains_key(state), "no run was {state}: {self}");
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, effects, crashes, blocked, ends } = self;
        let runs: u64 = ends.values().sum();
        write!(
            f,
            "{runs} runs ({ends:?}), held back by {blocked:?}; {turns} turns, {effects} effects, \
             {crashes} crashes"
        )
    }
}

/// Something that is going to happen.
enum Happening {
    /// An alert of a host begins, or ends.
    Turn(usize, bool),
    Done {
        key: EffectKey,
        outcome: Outcome,
        generation: u64,
    },
    People,
    Crash,
    Start,
}

/// The world of one week.
pub(crate) struct World {
    time: VirtualTime,
    metrics: Metrics,
    disk: Disk,
    random: Random,
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    watch: Option<SteppedWatch>,
    patience: Duration,
    generation: u64,
    outside: Outside,
    ledger: Ledger,
    figures: Figures,
    is_healed: bool,
    checked_turns: usize,
    trace: Hash,
    history: VecDeque<String>,
}

impl World {
    /// A week in which nothing has happened yet.
    pub(crate) fn new(seed: u64, metrics: &Metrics) -> Self {
        let time = VirtualTime::starting_at(Timestamp::from_second(START).unwrap_or_default());
        let on = BTreeSet::from([Fault::CrashInWrite, Fault::FailedWrite]);
        let mut world = Self {
            disk: Disk::new(Lots::new(seed, &on), time.clone()),
            time,
            metrics: metrics.clone(),
            random: Random::stream(seed, "week"),
            due: BinaryHeap::new(),
            happenings: Vec::new(),
            watch: None,
            patience: Duration::ZERO,
            generation: 0,
            outside: Outside::new(seed),
            ledger: Ledger::default(),
            figures: Figures::default(),
            is_healed: false,
            checked_turns: 0,
            trace: Hash::default(),
            history: VecDeque::new(),
        };
        world.schedule(0, Happening::Start);
        world.schedule(HOUR, Happening::Crash);
        world.schedule(10 * MINUTE, Happening::People);
        for series in 0..ALERTS.len() * usize::try_from(HOSTS).unwrap_or(1) {
            let wait = world.random.around(12 * HOUR);
            world.schedule(wait, Happening::Turn(series, true));
        }
        world
    }

    /// Goes through the week, and then through the time in which everything comes to its end.
    pub(crate) fn run(&mut self) -> Verdict {
        self.go_on(WEEK)?;
        self.is_healed = true;
        self.disk.lock().lots.heal();
        self.go_on(WEEK + OVER_AFTER)?;
        self.check_over()
    }

    pub(crate) fn figures(&self) -> Figures {
        let turns = self.disk.lock().turn_count() as u64;
        let (blocked, ends) = (self.ledger.blocked(), self.ledger.ends());
        Figures { turns, blocked, ends, ..self.figures }
    }

    /// The hash of everything that happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.0
    }

    /// What happened last.
    pub(crate) fn last_lines(&self) -> String {
        self.history.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn now(&self) -> u64 {
        self.time.steady_milliseconds()
    }

    fn schedule(&mut self, after: u64, happening: Happening) {
        let number = self.happenings.len();
        self.happenings.push(Some(happening));
        self.due.push(Reverse((self.now() + after, self.random.next(), number)));
    }

    fn tell(&mut self, text: &str) {
        let seconds = self.now() / 1000;
        self.trace.add(text.as_bytes());
        self.trace.add(&self.now().to_le_bytes());
        if self.history.len() == LINES_SHOWN {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>3} h {:>4} s  {text}", seconds / 3600, seconds % 3600));
    }

    /// When the watch wants to go round: at once, soon, or when something of its own is due.
    fn next_round(&mut self) -> u64 {
        let now = self.now();
        let Some(watch) = &mut self.watch else { return u64::MAX };
        if self.patience < Duration::from_millis(900) || !watch.is_durable() {
            return now + u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        }
        let today = watch.now();
        let Some(at) = watch.peek(watchkeeper::domain::State::next_wakeup) else { return u64::MAX };
        // A timer is due when its whole millisecond is over.
        now + u64::try_from(at.duration_since(today).as_millis() + 1).unwrap_or(0)
    }

    fn go_on(&mut self, until: u64) -> Verdict {
        let mut at_once = 0;
        loop {
            let now = self.now();
            let event = self.due.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
            let next = event.min(self.next_round()).max(now);
            if next >= until {
                self.time.advance(until.saturating_sub(now));
                return Ok(());
            }
            at_once = if next > now { 0 } else { at_once + 1 };
            ensure(at_once <= ROUNDS_AT_ONCE_MAX, || "the watch never sleeps".to_owned())?;
            self.time.advance(next - now);
            self.let_happen();
            self.go_round()?;
        }
    }

    fn let_happen(&mut self) {
        while let Some(Reverse((at, _, number))) = self.due.peek().copied() {
            if at > self.now() {
                break;
            }
            self.due.pop();
            match self.happenings.get_mut(number).and_then(Option::take) {
                Some(Happening::Turn(series, fires)) => self.turn(series, fires),
                Some(Happening::Done { key, outcome, generation }) => {
                    self.done(key, &outcome, generation);
                }
                Some(Happening::People) => self.let_people_act(),
                Some(Happening::Crash) if !self.is_healed => {
                    let wait = self.random.around(6 * HOUR);
                    self.schedule(wait, Happening::Crash);
                    self.crash();
                }
                Some(Happening::Start) => self.start(),
                Some(Happening::Crash) | None => {}
            }
        }
    }

    /// An alert begins or ends; told again until it was taken.
    fn turn(&mut self, series: usize, fires: bool) {
        if self.is_healed && fires {
            return;
        }
        let (name, host) = (series % ALERTS.len(), series / ALERTS.len());
        let alertname = ALERTS.get(name).copied().unwrap_or_default();
        let labels = [("alertname", alertname.to_owned()), ("host", format!("h{host}"))];
        let ends = match &mut self.watch {
            Some(watch) if !fires => Ends::At(watch.now()),
            _ => Ends::WhenTold,
        };
        let alert = ReceivedAlert {
            labels: Labels::from_pairs(labels.iter().map(|(name, value)| (*name, value.as_str()))),
            annotations: Labels::default(),
            starts_at: None,
            ends,
            generator_url: "".into(),
            identity: None,
        };
        let batch = AlertBatch { source: "test".into(), alerts: vec![alert], rejected: Vec::new() };
        let taken = self.watch.as_ref().is_some_and(|watch| {
            watch.health().not_ready.is_none()
                && watch.submit(vec![Event::AlertsReceived(batch)]).is_ok()
        });
        self.tell(&format!("{alertname} of h{host}: fires {fires}, taken {taken}"));
        let wait = match (taken, fires) {
            (false, _) => MINUTE,
            (true, true) => self.random.around(15 * MINUTE),
            (true, false) => self.random.around(12 * HOUR),
        };
        self.schedule(wait, Happening::Turn(series, fires != taken));
    }

    fn let_people_act(&mut self) {
        let every = if self.is_healed { 10 * MINUTE } else { self.random.around(20 * MINUTE) };
        self.schedule(every, Happening::People);
        let Some(watch) = &self.watch else { return };
        let (random, is_healed) = (&mut self.random, self.is_healed);
        let orders: Vec<Command> = watch.peek(|state| {
            if is_healed { people::tidying(state) } else { people::orders(state, random) }
        });
        for order in orders {
            let text = format!("{order:?}");
            if let Some(watch) = &self.watch {
                // Whoever gets no answer looks again later.
                drop(watch.command("ann".to_owned(), order));
            }
            self.tell(&text);
        }
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
            audit_retention_seconds: 30 * 24 * 3600,
        };
        let Ok(watch) = SteppedWatch::open(options) else {
            return self.schedule(1000, Happening::Start);
        };
        if watch.peek(|state| state.rules.revision != RULES.revision) {
            drop(watch.submit(vec![Event::RulesLoaded(RULES.clone())]));
        }
        self.watch = Some(watch);
        self.patience = Duration::ZERO;
        self.tell("starts");
    }

    /// The process is gone, most often for a moment.
    fn crash(&mut self) {
        if self.watch.take().is_none() {
            return;
        }
        self.generation += 1;
        self.figures.crashes += 1;
        self.outside.end_all();
        self.tell("crash");
        let is_long = self.random.chance(150);
        let down =
            if is_long { self.random.below(3 * HOUR) } else { self.random.between(50, 5000) };
        self.schedule(down, Happening::Start);
    }

    /// Goes round once, and looks at everything that came of it.
    fn go_round(&mut self) -> Verdict {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let began = watch.now();
        self.patience = watch.round();
        for planned in watch.take_begun() {
            self.begin(&planned)?;
        }
        if self.disk.lock().died {
            self.crash();
            return Ok(());
        }
        let Some(watch) = &self.watch else { return Ok(()) };
        let contents = self.disk.lock();
        if let Some(wrong) = &contents.wrong {
            return Err(wrong.clone());
        }
        let is_news = contents.turn_count() != self.checked_turns;
        if watch.health().not_ready.is_some() || !watch.is_durable() || !is_news {
            return Ok(());
        }
        self.checked_turns = contents.turn_count();
        let ledger = &mut self.ledger;
        watch.peek(|state| {
            let next = state.next_wakeup();
            ensure(next.is_none_or(|it| it > began), || {
                format!("it is {began}, and {next:?} is due")
            })?;
            laws::check(state, &contents)?;
            ledger.check(state, &contents)
        })
    }

    /// An effect leaves the process.
    fn begin(&mut self, planned: &PlannedEffect) -> Verdict {
        let key = &planned.key;
        self.figures.effects += 1;
        self.tell(&format!("{key} begins"));
        let claimed = self.disk.lock().planned(key);
        let claimed = claimed.ok_or_else(|| format!("{key} begins before its turn is durable"))?;
        ensure(claimed || planned.idempotent, || format!("{key} begins unclaimed"))?;
        let Some(watch) = &self.watch else { return Ok(()) };
        let mut lock = String::new();
        if let Effect::RunStep { execution, .. } = &planned.effect {
            let of = |it: &watchkeeper::domain::State| {
                it.executions.get(execution).map(|it| it.lock.clone())
            };
            lock = watch.peek(of).ok_or_else(|| format!("{key} belongs to nothing"))?;
        }
        if let Effect::StopStep { step } = &planned.effect
            && self.outside.is_under_way(step)
        {
            let (outcome, generation) = (outside::outcome(OutcomeKind::Stopped), self.generation);
            self.schedule(1000, Happening::Done { key: step.clone(), outcome, generation });
        }
        let outside::Result { outcome, after } = self.outside.begin(planned, lock, &self.ledger)?;
        let generation = self.generation;
        self.schedule(after, Happening::Done { key: key.clone(), outcome, generation });
        Ok(())
    }

    fn done(&mut self, key: EffectKey, outcome: &Outcome, generation: u64) {
        if generation != self.generation {
            return;
        }
        self.outside.end(&key, outcome.result);
        self.tell(&format!("{key}: {:?}", outcome.result));
        let Some(watch) = &self.watch else { return };
        let event = Event::EffectFinished { key: key.clone(), outcome: outcome.clone() };
        // The watch that has ended is asked for nothing more.
        drop(watch.effect_done(key, vec![event]));
    }

    /// Every run is over, nothing is under way, and the history applied anew gives the same.
    fn check_over(&mut self) -> Verdict {
        let watch = self.watch.as_ref().ok_or("the watch does not start")?;
        watch.peek(|state| {
            let mut runs = state.executions.values();
            let open = runs.find(|it| !it.state.is_final());
            ensure(open.is_none(), || format!("this run never ends: {open:?}"))
        })?;
        let pending: Vec<EffectKey> = self.disk.lock().effects().map(|it| it.key.clone()).collect();
        ensure(pending.is_empty(), || format!("these have no result: {pending:?}"))?;
        let objects = replay::run(&self.disk).map_err(|error| error.to_string())?;
        for object in &objects {
            let stored = self.disk.get(object.kind, &object.id).map_err(|it| it.to_string())?;
            let is_same = stored.as_ref() == Some(object);
            ensure(is_same, || format!("replay gives another {:?} {}", object.kind, object.id))?;
        }
        Ok(())
    }
}
