//! What finding problems costs: `cargo bench --bench problems -- [--incidents N] [--kinds N] [--noise PERCENT]
//! [--places N] [--seed N]`.
//!
//! A history of incidents of kinds that come again and again (often and rarely, by Zipf's law; each kind
//! with its own alerts, of which each shows now and then, at one or more services, in several wordings)
//! and of accidents; detection over it, and how much of the truth it finds; then new incidents, each a
//! turn of its own.
#![expect(clippy::print_stdout, reason = "the figures are for people")]

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use watchkeeper::config;
use watchkeeper::domain::State;
use watchkeeper::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
use watchkeeper::domain::incident::{Incident, IncidentId, Symptom};
use watchkeeper::domain::label::Labels;
use watchkeeper::domain::problem::{ProblemId, Recurrence};
use watchkeeper::domain::rules::{Mode, ProblemDetection};
use watchkeeper::learn::{self, History};

/// The program's own, which is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Incidents are this far apart, in milliseconds, over a quarter.
const QUARTER_MILLISECONDS: u64 = 90 * 86_400_000;
/// A problem is found if its Jaccard index with a group is at least so many hundredths.
const JACCARD_MIN: usize = 80;
/// How often the history is looked at anew while it grows,
const WEEKS: u64 = 12;
/// where it has at most so many incidents.
const REFITS_MAX: u64 = 50_000;
/// How many new incidents are timed.
const TIMED: u64 = 5_000;

/// Numbers that look random and are always the same (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll(100) < chance
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.roll(all.len() as u64)).unwrap_or_default();
        all.get(index).cloned().expect("there is at least one")
    }
}

/// What comes again and again.
struct Kind {
    /// Names of alerts, each with how often it shows, in percent.
    alerts: Vec<(String, u64)>,
    services: Vec<String>,
    titles: Vec<String>,
}

struct World {
    kinds: Vec<Kind>,
    /// The sums of how frequent each kind is.
    cumulated: Vec<u64>,
    names: Vec<String>,
    services: Vec<String>,
    words: Vec<String>,
}

impl World {
    fn of(kinds: u64, dice: &mut Dice) -> Self {
        let parts = [
            "Disk",
            "Queue",
            "Cache",
            "Login",
            "Index",
            "Mail",
            "Price",
            "Certificate",
            "Pod",
            "Kernel",
        ];
        let ends = [
            "Full",
            "Slow",
            "Down",
            "Errors",
            "Stale",
            "Late",
            "Restarts",
            "Throttled",
            "Skew",
            "Leak",
        ];
        let names: Vec<String> = (0..kinds / 2 + 8)
            .map(|it| format!("{}{}{}", dice.of(&parts), dice.of(&ends), it % 37))
            .collect();
        let services: Vec<String> =
            (0..kinds / 3 + 6).map(|it| format!("service-{it}-{}", word(it))).collect();
        let words: Vec<String> = (0..400).map(|it| word(it * 7919)).collect();
        let most = argument("--places").unwrap_or(3);
        let (mut all, mut cumulated, mut sum) = (Vec::new(), Vec::new(), 0);
        for number in 0..kinds {
            let alerts =
                (0..=dice.roll(5)).map(|_| (dice.of(&names), 25 + dice.roll(70))).collect();
            let places = (0..=dice.roll(most)).map(|_| dice.of(&services)).collect();
            let titles = (0..=dice.roll(3))
                .map(|_| (0..4).map(|_| dice.of(&words)).collect::<Vec<_>>().join(" "))
                .collect();
            all.push(Kind { alerts, services: places, titles });
            sum += 1_000_000_000 / (number + 1);
            cumulated.push(sum);
        }
        Self { kinds: all, cumulated, names, services, words }
    }

    /// An incident, and its kind; `None` = an accident.
    fn incident(&self, noise: u64, dice: &mut Dice) -> (Vec<Symptom>, String, Option<usize>) {
        let at = |name: String, place: &str| Symptom { alertname: name, place: place.to_owned() };
        if dice.percent(noise) {
            let title = (0..5).map(|_| dice.of(&self.words)).collect::<Vec<_>>().join(" ");
            let place = dice.of(&self.services);
            let told = (0..=dice.roll(2)).map(|_| at(dice.of(&self.names), &place)).collect();
            return (told, title, None);
        }
        let drawn = dice.roll(self.cumulated.last().copied().unwrap_or(1));
        let number = self.cumulated.partition_point(|it| *it <= drawn);
        let kind = self.kinds.get(number).expect("the last sum is larger than what is drawn");
        let place = dice.of(&kind.services);
        let mut told: Vec<Symptom> = Vec::new();
        for (name, chance) in &kind.alerts {
            if dice.percent(*chance) {
                told.push(at(name.clone(), &place));
            }
        }
        if told.is_empty() {
            told.push(at(kind.alerts.first().map(|it| it.0.clone()).unwrap_or_default(), &place));
        }
        let swapped = usize::try_from(dice.roll(told.len() as u64)).unwrap_or_default();
        told.swap(0, swapped);
        // Now and then an alert that has nothing to do with it.
        if dice.percent(12) {
            told.push(at(dice.of(&self.names), &place));
        }
        let title = format!("{} {} after {} s", dice.of(&kind.titles), place, dice.roll(9000));
        (told, title, Some(number))
    }
}

/// A word that is no other's.
fn word(number: u64) -> String {
    let mut dice = Dice(number ^ 0xabcd);
    let syllables =
        ["ka", "lo", "mi", "ter", "sun", "vo", "pra", "den", "qui", "bel", "fro", "gam"];
    (0..4).map(|_| dice.of(&syllables)).collect()
}

struct Made {
    history: History,
    /// The kind of each incident.
    truth: HashMap<IncidentId, usize>,
    world: World,
    /// How many percent are accidents.
    noise: u64,
    dice: Dice,
    template: Incident,
    /// The time from one incident to the next.
    step: SignedDuration,
    end: Timestamp,
}

impl Made {
    /// Nothing yet, of a quarter with so many incidents.
    fn of(incidents: u64, kinds: u64, noise: u64) -> Self {
        let mut dice = Dice(argument("--seed").unwrap_or(7));
        let world = World::of(kinds, &mut dice);
        let begin = Timestamp::constant(1_767_571_200, 0);
        let step = i64::try_from(QUARTER_MILLISECONDS / incidents.max(1)).unwrap_or(1);
        let template = json!({
            "id": "INC-1", "correlation_domain": 0, "title": "", "severity": "warning",
            "impact": 3, "urgency": 3, "priority": "P5", "state": "closed", "services": [],
            "owner": null, "opened_at": begin, "acknowledged_at": null, "resolved_at": null,
            "closed_at": null, "last_joined_at": begin, "alert_count": 1, "firing_count": 0,
            "reopen_count": 0, "labels": {}, "annotations": {},
            "first_alert": "0000000000000000", "group": {},
            "opened_by": {"name": "", "file": "", "line": 0}, "reopen_within_seconds": 0,
            "why": "", "sla": [], "executions": [], "problem": null, "merged_into": null,
        });
        Self {
            history: History::default(),
            truth: HashMap::new(),
            world,
            noise,
            dice,
            template: serde_json::from_value(template).expect("an incident has these fields"),
            step: SignedDuration::from_millis(step),
            end: begin,
        }
    }

    fn add(&mut self, incidents: u64) {
        for _ in 0..incidents {
            // Far from the numbers that the watch gives to new ones.
            let id = IncidentId(1_000_000_000 + self.history.len() as u64);
            let (symptoms, title, kind) = self.world.incident(self.noise, &mut self.dice);
            self.truth.extend(kind.map(|it| (id, it)));
            self.end += self.step;
            self.history.put(&Incident {
                id,
                title,
                symptoms,
                opened_at: self.end,
                resolved_at: Some(self.end + self.step / 2),
                ..self.template.clone()
            });
        }
    }

    /// What a detection tells.
    fn told(&self, recurrences: Vec<Recurrence>) -> Event {
        Event::RecurrencesFound {
            detection: "default".to_owned(),
            incidents_seen: self.history.len() as u64,
            looked_at: self.history.first_and_last(),
            recurrences,
        }
    }

    /// How many incidents there are of each kind that came often enough to judge by.
    fn sizes(&self) -> BTreeMap<usize, usize> {
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for kind in self.truth.values().collect::<Vec<_>>() {
            *sizes.entry(*kind).or_default() += 1;
        }
        sizes.retain(|_, size| *size >= 5);
        sizes
    }

    /// The kinds that a group of incidents is to so many hundredths.
    fn kinds_of(
        &self,
        group: &BTreeSet<IncidentId>,
        (sizes, jaccard_min): (&BTreeMap<usize, usize>, usize),
    ) -> Vec<usize> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for kind in group.iter().filter_map(|it| self.truth.get(it)) {
            *counts.entry(*kind).or_default() += 1;
        }
        let is_found = |(kind, count): &(usize, usize)| {
            let union = sizes.get(kind).map(|size| size + group.len() - count);
            union.is_some_and(|it| count * 100 >= it * jaccard_min)
        };
        counts.into_iter().filter(is_found).map(|(kind, _)| kind).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn percent(part: u128, whole: u128) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Of a hundred true problems so many are found; and how many of a hundred pairs of one group are right.
fn judge(made: &Made, found: &[Recurrence]) -> (f64, f64) {
    let sizes = made.sizes();
    let pairs = |count: usize| (count * count.saturating_sub(1) / 2) as u128;
    let (mut hits, mut right, mut all) = (BTreeSet::new(), 0, 0);
    for it in found {
        hits.extend(made.kinds_of(&it.incidents, (&sizes, JACCARD_MIN)));
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for kind in it.incidents.iter().filter_map(|it| made.truth.get(it)) {
            *counts.entry(*kind).or_default() += 1;
        }
        all += pairs(it.incidents.len());
        right += counts.into_values().map(pairs).sum::<u128>();
    }
    (percent(hits.len() as u128, sizes.len() as u128), percent(right, all))
}

/// A state with the built-in rules.
fn state_at(now: Timestamp) -> State {
    let mut state = State::default();
    let checked = config::rules_from_texts(&[], Mode::Act);
    let rules = checked.value.expect("the built-in rules are sound");
    drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
    state
}

/// Detections over a history that grows week by week: how many problems that are there before and after
/// one, judged by what their incidents are, keep their number.
fn refits(incidents: u64, kinds: u64, noise: u64) {
    let detection = detection();
    let mut made = Made::of(incidents, kinds, noise);
    let mut state = state_at(made.end);
    let mut before: BTreeMap<usize, ProblemId> = BTreeMap::new();
    let (mut kept, mut survived) = (0, 0);
    for _ in 0..WEEKS {
        made.add(incidents / WEEKS);
        let found = learn::recurrences(&detection, &made.history, made.end);
        drop(state.apply(made.end, &made.told(found)));
        drop(state.take_changes());
        let sizes = made.sizes();
        let mut after = BTreeMap::new();
        for (id, problem) in &state.problems {
            let kinds = made.kinds_of(&problem.incidents, (&sizes, 50));
            after.extend(kinds.into_iter().map(|it| (it, *id)));
        }
        for (kind, id) in &before {
            if let Some(now) = after.get(kind) {
                survived += 1;
                kept += u128::from(now == id);
            }
        }
        before = after;
    }
    let share = percent(kept, survived);
    println!(
        "{WEEKS} weekly detections: {kept} of {survived} problems kept their number, {share:.1} %"
    );
}

fn detection() -> ProblemDetection {
    let rules = config::rules_from_texts(&[], Mode::Act).value;
    let first = rules.and_then(|it| it.problem_detection.first().cloned());
    first.expect("a detection is built in")
}

/// New incidents, each a turn of its own, while so much is known: the median and the 99th percentile,
/// in microseconds.
fn join(made: &Made, found: Vec<Recurrence>) -> (f64, f64, u64) {
    let mut now = made.end;
    let mut state = state_at(now);
    drop(state.apply(now, &made.told(found)));
    drop(state.take_changes());
    let (mut dice, mut micros, mut joined) = (Dice(99), Vec::new(), 0);
    for _ in 0..TIMED {
        now += SignedDuration::from_secs(1800);
        let (symptoms, title, _) = made.world.incident(5, &mut dice);
        let Some(first) = symptoms.first() else { continue };
        let labels = [("alertname", first.alertname.as_str()), ("service", &first.place)];
        let alert = ReceivedAlert {
            labels: Labels::from_pairs(labels),
            annotations: Labels::from_pairs([("summary", title.as_str())]),
            starts_at: None,
            ends: Ends::At(now + SignedDuration::from_secs(300)),
            generator_url: "".into(),
            identity: None,
        };
        let batch =
            AlertBatch { source: "prometheus".into(), alerts: vec![alert], rejected: Vec::new() };
        let event = Event::AlertsReceived(batch);
        drop(state.apply(now, &Event::Woken));
        let began = Instant::now();
        drop(state.apply(now, &event));
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        joined +=
            u64::from(state.incidents.values().next_back().is_some_and(|it| it.problem.is_some()));
        drop(state.take_changes());
    }
    micros.sort_by(f64::total_cmp);
    let at = |part: usize| micros.get(micros.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99), joined * 100 / TIMED)
}

/// The most memory that this process has taken, in MiB; 0 where that is not told.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kib =
        line.and_then(|it| it.split_whitespace().next()).and_then(|it| it.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn argument(name: &str) -> Option<u64> {
    let mut all = std::env::args().skip_while(|it| it != name);
    all.nth(1).and_then(|it| it.parse().ok())
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|it| it == "--bench");
    let default = if is_test { 500 } else { 20_000 };
    let incidents = argument("--incidents").unwrap_or(default);
    let kinds = argument("--kinds").unwrap_or(if is_test { 10 } else { 150 });
    let noise = argument("--noise").unwrap_or(20);
    let began = Instant::now();
    let mut made = Made::of(incidents, kinds, noise);
    made.add(incidents);
    let seconds = began.elapsed().as_secs_f64();
    println!("{incidents} incidents of {kinds} kinds, made and taken in within {seconds:.1} s");
    let began = Instant::now();
    let found = learn::recurrences(&detection(), &made.history, made.end);
    let seconds = began.elapsed().as_secs_f64();
    let memory = memory_mib();
    let (recovered, precision) = judge(&made, &found);
    println!("found {} problems in {seconds:.2} s, {memory} MiB at most", found.len());
    println!(
        "{recovered:.1} % of the true problems recovered, {precision:.1} % of the pairs right"
    );
    let (median, slow, joined) = join(&made, found);
    println!(
        "a new incident: median {median:.0} us, 99 % within {slow:.0} us; {joined} % known at once"
    );
    if incidents <= REFITS_MAX {
        refits(incidents, kinds, noise);
    }
}
