//! Forecasts of generated series, of which it is known how they went on.

use super::*;
use crate::domain::forecast::Limit;
use crate::domain::rules::RuleRef;
use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use trend::{median, number};

/// A week, every half hour.
const READINGS: usize = 336;
/// Three days.
const HORIZON: usize = 144;
/// A day.
const DAY: usize = 48;
/// For so long it is looked how it went on.
const AFTER: usize = 1200;
/// It is full when the median of so many readings is.
const FULL: usize = 6;

/// A stream of numbers by Steele, Lea and Flood (2014), the same for a seed on every machine.
struct Lots(u64);

impl Lots {
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.even().max(1e-9).ln()).sqrt() * (TAU * self.even()).cos()
    }
}

/// How a series goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Steady,
    Following,
    Seasonal,
    Wandering,
    Stairs,
    Gaps,
    Spikes,
    Cleaned,
    Jumped,
    NoiseOnly,
    FollowingOnly,
    WalkOnly,
    SeasonOnly,
    SeasonUndeclared,
    SawTooth,
    Stopped,
}

/// Those that will be full.
const RISING: [Sort; 9] = [
    Sort::Steady,
    Sort::Following,
    Sort::Seasonal,
    Sort::Wandering,
    Sort::Stairs,
    Sort::Gaps,
    Sort::Spikes,
    Sort::Cleaned,
    Sort::Jumped,
];
/// Those that will not.
const LEVEL: [Sort; 6] = [
    Sort::NoiseOnly,
    Sort::FollowingOnly,
    Sort::WalkOnly,
    Sort::SeasonOnly,
    Sort::SeasonUndeclared,
    Sort::SawTooth,
];

/// A series as it was read, with its limit and when it came to that, in readings from the last.
struct Case {
    readings: Vec<Option<f64>>,
    limit: f64,
    season: Option<usize>,
    truth: Option<f64>,
}

fn case(sort: Sort, seed: u64) -> Case {
    let mut lots = Lots(seed.wrapping_mul(7919).wrapping_add(104_729 * (sort as u64 + 1)));
    let slope = if RISING.contains(&sort) || sort == Sort::Stopped { 1.0 } else { 0.0 };
    let lead = 5.0 + lots.even() * 200.0;
    // From a third of what it rises by in a step to sixty times as much.
    let size = 10_f64.powf(lots.even() * 2.3 - 0.5);
    let step = size.powf(0.6) * 0.4;
    let is_seasonal = [Sort::Seasonal, Sort::SeasonOnly, Sort::SeasonUndeclared].contains(&sort);
    let swing = if is_seasonal { 10.0 + lots.even() * 50.0 } else { 0.0 };
    let tooth = 20.0 + lots.even() * 100.0;
    let (mut following, mut walk) = (0.0, 0.0);
    let mut values = Vec::with_capacity(READINGS + AFTER);
    for at in 0..READINGS + AFTER {
        let time = number(at);
        following = 0.9 * following + lots.normal() * size * 0.436;
        walk += lots.normal() * step;
        let noise = lots.normal() * size;
        let line = slope * time;
        let day = TAU * time / number(DAY);
        let season = swing * (day.sin() + 0.4 * (2.0 * day).cos());
        values.push(match sort {
            Sort::Following | Sort::FollowingOnly => line + following,
            Sort::Wandering | Sort::WalkOnly => line + walk,
            Sort::Stairs => number(at / DAY * DAY) + noise * 0.1,
            Sort::Spikes if lots.even() < 0.05 => line + noise + size * 20.0 * lots.even(),
            Sort::Cleaned if time < 120.0 + lead => line + noise + 300.0,
            Sort::Jumped if at > 150 => line + noise + 100.0,
            Sort::SawTooth => time % tooth + noise.clamp(-5.0, 5.0) * 0.1,
            Sort::Stopped => time.min(number(READINGS - 30)) + following,
            _ => line + season + noise,
        });
    }
    let above = if sort == Sort::Jumped { 100.0 } else { 0.0 };
    let limit = match sort {
        Sort::SawTooth => tooth + 30.0,
        Sort::WalkOnly => values[READINGS - 1] + 10.0 * step,
        _ if slope == 0.0 => 3.0 * size + swing * 1.5 + 10.0,
        _ => number(READINGS) + lead + above + swing,
    };
    let level = |at: usize| median(&values[at..at + FULL]);
    let truth = (READINGS - FULL..READINGS + AFTER - FULL).find(|it| level(*it) >= limit);
    let truth = truth.map(|it| number(it + FULL / 2) - number(READINGS - 1));
    let is_gap = |at: usize, lots: &mut Lots| lots.even() < 0.3 || (100..150).contains(&at);
    let readings = (0..READINGS)
        .map(|at| (sort != Sort::Gaps || !is_gap(at, &mut lots)).then_some(values[at]))
        .collect();
    let season = (is_seasonal && sort != Sort::SeasonUndeclared).then_some(DAY);
    Case { readings, limit, season, truth }
}

fn look_at(case: &Case) -> Finding {
    trend::look(&Series {
        readings: &case.readings,
        limit: case.limit,
        season: case.season,
        horizon: number(HORIZON),
        is_held: false,
    })
}

/// What came of the forecasts of a sort.
#[derive(Default)]
struct Account {
    /// How many were full within the horizon,
    due: u32,
    /// how many were foretold,
    told: u32,
    /// how many of these with the truth in the interval,
    inside: u32,
    /// and how far their middles were from the truth, in readings.
    error: f64,
    half_width: f64,
}

/// Looks at so many series that no number here was chosen by.
fn account(sort: Sort, count: u64) -> Account {
    let mut account = Account::default();
    for seed in 900_000..900_000 + count {
        let case = case(sort, seed);
        let is_due = case.truth.is_some_and(|it| it > number(FULL / 2) && it <= number(HORIZON));
        account.due += u32::from(is_due);
        if let Finding::Foreseen(crossing) = look_at(&case) {
            account.told += 1;
            // Times are those of readings: one more or less is no error.
            let range = crossing.from - 1.0..=crossing.until + 1.0;
            account.inside += u32::from(case.truth.is_some_and(|it| range.contains(&it)));
            account.error += case.truth.map_or(0.0, |it| (it - crossing.middle).abs());
            account.half_width += (crossing.until - crossing.from) / 2.0;
        }
    }
    account
}

/// How many series of each sort: some, or as many as somebody wants to see.
fn count() -> u64 {
    std::env::var("WATCHKEEPER_SERIES").ok().and_then(|it| it.parse().ok()).unwrap_or(40)
}

fn told_line(table: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(table, "{line}").unwrap();
}

#[test]
fn nine_in_ten_times_the_truth_lies_in_the_interval() {
    let (mut told, mut inside) = (0, 0);
    let mut table = String::new();
    for sort in RISING {
        let it = account(sort, count());
        let share = f64::from(it.inside) / f64::from(it.told.max(1));
        let hours = |readings: f64| readings / f64::from(it.told.max(1)) / 2.0;
        told_line(
            &mut table,
            format_args!(
                "{sort:?}: due {}, told {}, inside {share:.3}, error {:.1} h, half width {:.1} h",
                it.due,
                it.told,
                hours(it.error),
                hours(it.half_width)
            ),
        );
        assert!(it.told * 4 >= it.due && it.told > 0, "it says something:\n{table}");
        // Fewer than 85 in 100, and not by the chance of one in a hundred.
        let chance = 2.33 * (0.85 * 0.15 / f64::from(it.told)).sqrt();
        assert!(share >= 0.85 - chance, "{table}");
        (told, inside) = (told + it.told, inside + it.inside);
    }
    std::io::stderr().write_all(table.as_bytes()).unwrap();
    assert!(f64::from(inside) >= 0.85 * f64::from(told), "{inside} of {told}:\n{table}");
}

#[test]
fn what_does_not_rise_is_hardly_ever_foretold() {
    let mut table = String::new();
    for sort in LEVEL {
        let it = account(sort, count());
        told_line(&mut table, format_args!("{sort:?}: told {} of {}", it.told, count()));
        assert!(u64::from(it.told) * 50 <= count(), "{table}");
    }
    let stopped = account(Sort::Stopped, count());
    let told = format_args!("Stopped 15 h ago: told {} of {}", stopped.told, count());
    told_line(&mut table, told);
    std::io::stderr().write_all(table.as_bytes()).unwrap();
    assert!(u64::from(stopped.told) * 7 <= count(), "{table}");
}

fn rule() -> ForecastRule {
    ForecastRule {
        rule: Arc::new(RuleRef { name: "disk".to_owned(), ..RuleRef::default() }),
        source: "prod".to_owned(),
        promql: "disk".to_owned(),
        limit: Limit { value: "95".to_owned(), is_falling: false },
        horizon_seconds: 72 * 3600,
        look_back_seconds: 7 * 86_400,
        every_seconds: 600,
        season_seconds: None,
        critical_seconds: 6 * 3600,
        error_seconds: 86_400,
        labels: Vec::new(),
        annotations: Vec::new(),
    }
}

fn at() -> Timestamp {
    "2026-11-22T17:00:00Z".parse().unwrap()
}

fn line(from: f64, step: f64, count: usize) -> Vec<Option<f64>> {
    (0..count).map(|it| Some(from + step * number(it))).collect()
}

#[test]
fn a_disk_that_fills_is_told_of_with_its_time() {
    // 87 at the end, and a quarter more each half hour: 95 is 32 readings away.
    let rising = line(87.0 - 335.0 * 0.25, 0.25, 336);
    let Outlook::Foreseen(foreseen) = outlook(&rule(), &rising, false, at()) else {
        panic!("it is not foreseen");
    };
    assert_eq!(foreseen.at, "2026-11-23T09:00:00Z".parse().unwrap());
    assert!(foreseen.when.starts_with("in 16 h ± "), "{}", foreseen.when);
    assert!(foreseen.why.starts_with("+12.0 a day, by the median"), "{}", foreseen.why);
    // The same from the other side.
    let empty = Limit { value: "-95".to_owned(), is_falling: true };
    let falling: Vec<_> = rising.iter().map(|it| it.map(|it| -it)).collect();
    let rule = ForecastRule { limit: empty, ..rule() };
    let Outlook::Foreseen(other) = outlook(&rule, &falling, false, at()) else {
        panic!("it is not foreseen");
    };
    assert_eq!((other.at, other.from, other.until), (foreseen.at, foreseen.from, foreseen.until));
    assert!(other.why.starts_with("-12.0 a day"), "{}", other.why);
}

#[test]
fn it_is_said_why_nothing_is_foretold() {
    let rising = |count: usize| line(80.0, 0.02, count);
    let mut stale = rising(336);
    stale[325..].fill(None);
    let mut cleaned = line(60.0, 0.1, 336);
    cleaned[320..].iter_mut().for_each(|it| *it = it.map(|it| it - 50.0));
    let teeth: Vec<_> = (0..336).map(|it| Some(60.0 + number(it % 100) * 0.3)).collect();
    let mut sparse = rising(336);
    sparse.iter_mut().enumerate().filter(|(at, _)| at % 3 != 2).for_each(|(_, it)| *it = None);
    for (readings, expected) in [
        (Vec::new(), "stale"),
        (vec![None; 336], "stale"),
        (rising(23), "too_few"),
        (sparse, "too_few"),
        (stale, "stale"),
        (cleaned, "too_few"),
        (teeth, "saw_tooth"),
        (line(90.0, 0.0, 336), "no_trend"),
        // A series that began a while ago is young, and not full of gaps.
        ([vec![None; 300], line(90.0, 0.0, 36)].concat(), "no_trend"),
        (line(90.0, -0.01, 336), "no_trend"),
        (line(50.0, 0.01, 336), "later"),
        // 24 readings tell no further than a day.
        (line(80.0, 0.1, 30), "later"),
        (line(90.0, 0.02, 336), "reached"),
    ] {
        assert_eq!(outlook(&rule(), &readings, false, at()).as_str(), expected);
    }
}

#[test]
fn what_was_told_is_not_taken_back_because_it_is_a_little_later() {
    let looked = |slope: f64, is_held: bool| {
        let rising = line(92.0 - 335.0 * slope, slope, 336);
        outlook(&rule(), &rising, is_held, at()).as_str()
    };
    // 143, 150 and 250 readings are left; the horizon is 144.
    for (slope, new, known) in
        [(0.021, "foreseen", "foreseen"), (0.02, "later", "foreseen"), (0.012, "later", "later")]
    {
        assert_eq!((looked(slope, false), looked(slope, true)), (new, known), "{slope}");
    }
}

#[test]
fn numbers_are_shown_with_three_places() {
    for (value, text) in [
        (0.0, "+0.00"),
        (-1.234, "-1.23"),
        (12.34, "+12.3"),
        (123.4, "+123"),
        (1234.0, "+1.23 k"),
        (-5.6e10, "-56.0 G"),
        (7e15, "+7000 T"),
    ] {
        assert_eq!(shown(value), text);
    }
}
