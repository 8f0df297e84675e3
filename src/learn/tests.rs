//! Detection over small histories that are made here.

use super::*;
use crate::domain::event::CorrelationDomain;
use crate::domain::incident::Incident;
use crate::domain::incident::{IncidentState, Priority, Severity, Symptom};
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::problem::How;
use crate::domain::rules::{Algorithm, FieldWeights};
use std::collections::{BTreeMap, BTreeSet};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const NONE: [usize; 0] = [];
/// 2026-01-05, a Monday.
const START: i64 = 1_767_571_200;

fn detection() -> ProblemDetection {
    ProblemDetection {
        rule: std::sync::Arc::default(),
        cron: "0 */6 * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        look_back_seconds: 90 * 86_400,
        algorithm: Algorithm::Dbscan,
        incidents_min: 3,
        tolerance_thousandths: None,
        weights: FieldWeights::default(),
        seed: 7,
    }
}

fn found_in(
    detection: &ProblemDetection,
    incidents: &[Incident],
    now: Timestamp,
) -> Vec<Recurrence> {
    let mut history = History::default();
    for it in incidents {
        history.put(it);
    }
    recurrences(detection, &history, now)
}

pub(super) fn incident(id: u64, at: i64, title: &str, labels: &[(&str, &str)]) -> Incident {
    let labels = Labels::from_pairs(labels.iter().copied());
    let opened_at = Timestamp::from_second(START + at).unwrap();
    Incident {
        id: IncidentId(id),
        correlation_domain: CorrelationDomain::default(),
        title: title.to_owned(),
        severity: Severity::Warning,
        impact: 3,
        urgency: 3,
        priority: Priority::new(3, 3),
        state: IncidentState::Closed,
        services: labels.get("service").map(str::to_owned).into_iter().collect(),
        owner: None,
        opened_at,
        acknowledged_at: None,
        resolved_at: None,
        closed_at: None,
        last_joined_at: opened_at,
        alert_count: 1,
        firing_count: 0,
        reopen_count: 0,
        paused_milliseconds: 0,
        paused_before_acknowledged_milliseconds: 0,
        labels,
        annotations: Labels::default(),
        first_alert: Fingerprint(id),
        group: Labels::default(),
        opened_by: std::sync::Arc::default(),
        reopen_within_seconds: 900,
        why: String::new(),
        symptoms: Vec::new(),
        root_causes: Vec::new(),
        suspect_changes: Vec::new(),
        impacted: None,
        sla: Vec::new(),
        executions: Vec::new(),
        problem: None,
        acted_on: false,
        parent: None,
        children: BTreeSet::new(),
        merged_into: None,
        locked_by: None,
        is_split: false,
        is_arranged: false,
        look_for_parts_at: None,
        bridges: BTreeMap::new(),
    }
}

/// Numbers that look random and are always the same (a linear congruential generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[usize::try_from(self.roll(texts.len() as u64)).unwrap()]
    }
}

struct Fault {
    alertnames: &'static [&'static str],
    titles: &'static [&'static str],
    service: &'static str,
    job: &'static str,
    /// Begins again after so long, and how exactly.
    every: i64,
    jitter: u64,
}

const FAULTS: [Fault; 3] = [
    Fault {
        alertnames: &["DiskFull", "DiskFull", "DiskFullSoon"],
        titles: &["Disk of N full", "N: disk is full to 9N%", "DiskFull"],
        service: "orders-db",
        job: "node",
        every: 7 * DAY,
        jitter: 1500,
    },
    Fault {
        alertnames: &["ContainerOomKilled"],
        titles: &["ContainerOomKilled", "checkout-7d9f8b6c5d-x2xN4 was killed: out of memory"],
        service: "checkout",
        job: "kubelet",
        every: 2 * DAY + 5 * HOUR,
        jitter: 7000,
    },
    Fault {
        alertnames: &["GatewayTimeout"],
        titles: &["Payment gateway times out after Ns", "payment gateway latency p99 is N.2s"],
        service: "payments",
        job: "blackbox",
        every: 3 * DAY,
        jitter: 250_000,
    },
];

/// A quarter of a shop's history: three faults that recur and noise that does not. The second
/// part is the number of each incident's fault.
fn shop(seed: u64, noise: u64) -> (Vec<Incident>, BTreeMap<IncidentId, usize>) {
    let mut dice = Dice(seed);
    let (mut incidents, mut truth) = (Vec::new(), BTreeMap::new());
    let mut add = |dice: &mut Dice, at, title: &str, labels: [&str; 3]| {
        let [alertname, service, job] = labels;
        let number = dice.roll(900) + 10;
        let instance = format!("10.0.{}.{}:9100", number % 7, number % 250);
        let id = incidents.len() as u64 + 1;
        let title = title.replace('N', &number.to_string());
        let pairs = [
            ("alertname", alertname),
            ("service", service),
            ("job", job),
            ("instance", &instance),
            ("env", "prod"),
            ("cluster", dice.of(&["eu", "us"])),
            ("severity", dice.of(&["critical", "warning"])),
        ];
        incidents.push(incident(id, at, &title, &pairs));
        IncidentId(id)
    };
    for (number, fault) in FAULTS.iter().enumerate() {
        let mut due = 3 * HOUR;
        while due < 84 * DAY {
            let at = due + i64::try_from(dice.roll(fault.jitter)).unwrap();
            let labels = [dice.of(fault.alertnames), fault.service, fault.job];
            let title = dice.of(fault.titles);
            truth.insert(add(&mut dice, at, title, labels), number);
            due += fault.every;
        }
    }
    let things = [
        "Queue", "Cache", "Index", "Login", "Mail", "Search", "Price", "Stock", "Image", "Export",
        "Import", "Cart", "Coupon", "Fraud", "Ledger", "Report", "Session", "Tax",
    ];
    let ends = [
        "Slow",
        "Down",
        "Errors",
        "Stale",
        "Unreachable",
        "Restarting",
        "Backlog",
        "Skew",
        "Throttled",
        "Saturated",
        "Flapping",
        "Unbalanced",
        "Missing",
        "Corrupt",
        "Late",
    ];
    for _ in 0..noise {
        let at = i64::try_from(dice.roll(84 * 86_400)).unwrap();
        let alertname = format!("{}{}", dice.of(&things), dice.of(&ends));
        let service = format!(
            "{}-{}",
            dice.of(&things).to_lowercase(),
            dice.of(&["api", "web", "db", "job"])
        );
        let job = dice.of(&["node", "kubelet", "blackbox", "app"]);
        add(&mut dice, at, &alertname, [&alertname, &service, job]);
    }
    (incidents, truth)
}

fn end() -> Timestamp {
    Timestamp::from_second(START + 84 * DAY).unwrap()
}

#[test]
fn three_faults_are_found_in_a_shops_history() {
    for seed in 1..=5 {
        let (incidents, truth) = shop(seed, 60);
        let found = found_in(&detection(), &incidents, end());
        let titles: Vec<_> =
            found.iter().map(|it| (it.title.as_str(), it.incidents.len())).collect();
        for (number, fault) in FAULTS.iter().enumerate() {
            let all: BTreeSet<_> =
                truth.iter().filter(|(_, it)| **it == number).map(|(id, _)| *id).collect();
            let best = found
                .iter()
                .map(|it| (it.incidents.intersection(&all).count(), it))
                .max_by_key(|it| it.0);
            let (hits, best) = best.unwrap();
            assert!(hits * 10 >= all.len() * 9, "seed {seed}, fault {number}: {titles:?}");
            assert!(
                hits * 10 >= best.incidents.len() * 9,
                "seed {seed}, fault {number}: {titles:?}"
            );
            assert!(best.title.contains(fault.service), "{}", best.title);
        }
        assert_eq!(found.len(), FAULTS.len(), "seed {seed}: {titles:?}");
    }
}

#[test]
fn a_verdict_is_told_with_figures() {
    let (incidents, _) = shop(1, 60);
    let found = found_in(&detection(), &incidents, end());
    let disk = found.iter().find(|it| it.title == "DiskFull on orders-db").unwrap();
    assert_eq!(disk.incidents.len(), 12);
    let period = i64::try_from(disk.period_seconds.unwrap()).unwrap();
    assert!((period - 7 * DAY).abs() < 1500, "{period}");
    assert_eq!(disk.next_expected_at.unwrap().as_second(), disk.last_seen.as_second() + period);
    let why = disk.why.join("\n");
    for part in [
        "12 of 12 incidents have begun at orders-db (0 % elsewhere)",
        "12 incidents at 12 different times within 77 d",
        "12 of 12 began on Monday between 03:00 and 04:00 UTC",
        "it comes about every ",
    ] {
        assert!(why.contains(part), "{why}");
    }
    assert!((600..=1000).contains(&disk.confidence), "{}", disk.confidence);
    let figures = &disk.figures;
    assert_eq!((figures.occurrences, figures.recent.days_7, figures.recent.days_30), (12, 1, 4));
    let rhythm = figures.rhythm.as_ref().unwrap();
    assert!(rhythm.text.starts_with("weekly around Monday 03:") && rhythm.chance_ppm < 100);
    let trend = figures.trend.unwrap();
    assert_eq!((trend.earlier, trend.later, trend.as_str()), (6, 6, "steady"));
    let (next, interval) = (disk.next_expected_at.unwrap(), figures.next_expected.unwrap());
    assert!(interval.from < next && next < interval.until);
    assert!(interval.until.duration_since(interval.from).as_secs() < 4000);
    assert_eq!(figures.places[0], ("orders-db".to_owned(), 12));
    let openings: Vec<_> = figures.openings.iter().filter(|it| it.is_telling()).collect();
    assert!(openings.iter().any(|it| it.symptom.alertname == "DiskFull" && it.count == it.of));
    assert_eq!(figures.members.keys().copied().collect::<BTreeSet<_>>(), disk.incidents);
    assert!(figures.members.values().all(|it| it.how == How::Alike && it.points > 700));
    let payments = found.iter().find(|it| it.title.contains("payments")).unwrap();
    assert_eq!(payments.period_seconds, None);
    // Long after, nobody waits for it any more.
    let later = ProblemDetection { look_back_seconds: u32::MAX, ..detection() };
    let now = Timestamp::from_second(START + 200 * DAY).unwrap();
    assert!(found_in(&later, &incidents, now).iter().all(|it| it.next_expected_at.is_none()));
}

#[test]
fn the_order_of_history_makes_no_difference() {
    let (mut incidents, _) = shop(3, 200);
    let expected = found_in(&detection(), &incidents, end());
    let mut dice = Dice(9);
    for _ in 0..5 {
        for index in (1..incidents.len()).rev() {
            incidents.swap(index, usize::try_from(dice.roll(index as u64 + 1)).unwrap());
        }
        assert_eq!(found_in(&detection(), &incidents, end()), expected);
    }
}

#[test]
fn little_or_nothing_is_no_problem() {
    let labels = [("alertname", "Down"), ("service", "web")];
    let hourly = |count: i64| -> Vec<_> {
        (0..count).map(|it| incident(it.unsigned_abs() + 1, it * HOUR, "Down", &labels)).collect()
    };
    let count = |incidents: &[Incident]| {
        found_in(&detection(), incidents, end())
            .iter()
            .map(|it| it.incidents.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(count(&[]), NONE);
    assert_eq!(count(&hourly(2)), NONE);
    assert_eq!(count(&hourly(3)), [3]);
    let bare: Vec<_> = (1..=4).map(|it| incident(it, 0, "", &[])).collect();
    assert_eq!(count(&bare), NONE);

    // A short history, with each incident over before the next.
    let mut short: Vec<_> = (1..=5)
        .map(|it: u64| {
            let instance = format!("10.0.0.{it}:9100");
            let labels = [
                ("alertname", "DiskFull"),
                ("service", "database"),
                ("instance", instance.as_str()),
                ("mount", "/var/lib/postgresql"),
                ("severity", "critical"),
            ];
            let at = i64::try_from(it).unwrap() * 2;
            let mut incident = incident(it, at, "DiskFull on database", &labels);
            incident.resolved_at = Some(Timestamp::from_second(START + at + 1).unwrap());
            incident
        })
        .collect();
    short.push(incident(
        6,
        20,
        "CertificateExpires on edge",
        &[("alertname", "CertificateExpires"), ("service", "edge")],
    ));
    short.push(incident(
        7,
        21,
        "QueueGrows on mailer",
        &[("alertname", "QueueGrows"), ("service", "mailer")],
    ));
    assert_eq!(count(&short), [5]);

    let mut merged = hourly(5);
    merged[0].merged_into = Some(IncidentId(2));
    assert_eq!(count(&merged), [4]);

    // Twenty in ten minutes are one storm; with two later ones it has come three times.
    let mut storm: Vec<_> = (0..20)
        .map(|it| incident(it + 1, i64::try_from(it).unwrap() * 30, "Down", &labels))
        .collect();
    assert_eq!(count(&storm), NONE);
    storm.extend(
        (21..=22).map(|it| incident(it, i64::try_from(it).unwrap() * HOUR, "Down", &labels)),
    );
    assert_eq!(count(&storm), [22]);

    let short = ProblemDetection { look_back_seconds: 2 * 86_400, ..detection() };
    assert_eq!(found_in(&short, &hourly(9), end()), []);
    let strict = ProblemDetection { tolerance_thousandths: Some(0), ..detection() };
    assert_eq!(found_in(&strict, &hourly(9), end()), []);
}

#[test]
fn faults_of_one_service_stay_apart() {
    let names = ["DiskFull", "CertificateExpires", "QueueBacklog"];
    let incidents: Vec<_> = (0..30_u64)
        .map(|it| {
            let alertname = names[usize::try_from(it % 3).unwrap()];
            let labels = [("alertname", alertname), ("service", "web"), ("env", "prod")];
            incident(it + 1, i64::try_from(it).unwrap() * HOUR, alertname, &labels)
        })
        .collect();
    let found = found_in(&detection(), &incidents, end());
    assert_eq!(found.iter().map(|it| it.incidents.len()).collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_machine_with_far_more_than_its_share_is_a_problem_of_its_own() {
    // Every fifth comes from anywhere, the others from one machine.
    let incidents: Vec<_> = (0..50_u64)
        .map(|it| {
            let instance =
                if it % 5 == 0 { format!("db-{it}:9100") } else { "db-7:9100".to_owned() };
            let labels = [("alertname", "DiskFull"), ("instance", instance.as_str())];
            incident(it + 1, i64::try_from(it).unwrap() * HOUR, "DiskFull", &labels)
        })
        .collect();
    let found = found_in(&detection(), &incidents, end());
    let found: Vec<_> = found.iter().map(|it| (it.title.as_str(), it.incidents.len())).collect();
    assert_eq!(found, [("DiskFull on db-7", 40), ("DiskFull", 10)]);
}

#[test]
fn what_chance_brings_together_is_told_apart() {
    // Every alert comes from every service alike, but one that prefers one service.
    let mut dice = Dice(5);
    let alerts = ["Slow", "Down", "Stale", "Late", "Hot"];
    let services: Vec<_> = (0..40).map(|it| format!("service-{it}")).collect();
    let services: Vec<_> = services.iter().map(String::as_str).collect();
    let incidents: Vec<_> = (0..1200_u64)
        .map(|it| {
            let (alertname, service) = match it % 10 {
                0 => ("Hot", services[7]),
                _ => (dice.of(&alerts), dice.of(&services)),
            };
            let labels = [("alertname", alertname), ("service", service)];
            incident(it + 1, i64::try_from(it).unwrap() * HOUR, alertname, &labels)
        })
        .collect();
    let found = found_in(&detection(), &incidents, end());
    // There are 200 pairs, each about as often as the other; chance may let one or two through.
    let titles: Vec<_> =
        found.iter().filter(|it| !it.by_chance).map(|it| it.title.as_str()).collect();
    assert!(titles.contains(&"Hot on service-7") && titles.len() <= 3, "{titles:?}");
    let most = found.iter().max_by_key(|it| it.confidence).unwrap();
    assert_eq!(most.title, "Hot on service-7");
    assert!(found.len() > 100);
}

#[test]
fn a_long_history_is_no_burden() {
    let (incidents, truth) = shop(4, 5000);
    let found = found_in(&detection(), &incidents, end());
    let disk = found.iter().find(|it| it.title == "DiskFull on orders-db").unwrap();
    assert!(disk.incidents.iter().all(|it| truth.get(it) == Some(&0)), "{:?}", disk.why);
}

#[test]
fn what_grows_is_told_and_how_long_it_hurt() {
    // Two in the first half of the time, twelve in the second, each for an hour.
    let at = |it: u64| if it < 2 { it * 20 } else { 47 + it * 4 };
    let incidents: Vec<_> = (0..14_u64)
        .map(|it| {
            let labels = [("alertname", "QueueGrows"), ("service", "mailer")];
            let at = i64::try_from(at(it)).unwrap() * DAY / 2;
            let mut incident = incident(it + 1, at, "QueueGrows", &labels);
            incident.resolved_at = Some(Timestamp::from_second(START + at + HOUR).unwrap());
            incident
        })
        .collect();
    let now = Timestamp::from_second(START + 52 * DAY).unwrap();
    let found = found_in(&detection(), &incidents, now);
    let figures = &found[0].figures;
    let trend = figures.trend.unwrap();
    assert_eq!((trend.earlier, trend.later, trend.as_str()), (2, 12, "rising"));
    assert_eq!(figures.impact_minutes, 14 * 60);
    assert!(
        found[0].why.iter().any(|it| it.starts_with("it is rising: 2 times")),
        "{:?}",
        found[0].why
    );
}

#[test]
fn what_begins_in_the_wake_of_a_fault_is_counted_to_it() {
    // Each day the store is slow. Mostly the caller's errors are in the same incident; on every third
    // day they are one of their own, two minutes later. The caller's disk has nothing to do with it.
    let symptom = |alertname: &str, place: &str| Symptom {
        alertname: alertname.to_owned(),
        place: place.to_owned(),
    };
    let (mut incidents, mut number) = (Vec::new(), 0);
    let mut add = |at: i64, told: &[(&str, &str)]| {
        number += 1;
        let mut incident = incident(number, at, told[0].0, &[("alertname", told[0].0)]);
        incident.symptoms = told.iter().map(|(name, place)| symptom(name, place)).collect();
        incident.resolved_at = Some(Timestamp::from_second(START + at + 900).unwrap());
        incidents.push(incident);
    };
    for day in 0..30 {
        let at = day * DAY + day * 700;
        if day % 3 == 0 {
            add(at, &[("SlowQueries", "store")]);
            add(at + 120, &[("ErrorsHigh", "caller")]);
        } else {
            add(at, &[("SlowQueries", "store"), ("ErrorsHigh", "caller")]);
        }
        if day % 5 == 1 {
            add(at + 150, &[("DiskFull", "caller")]);
        }
    }
    let found = found_in(&detection(), &incidents, end());
    let counts: Vec<_> = found.iter().map(|it| (it.title.as_str(), it.incidents.len())).collect();
    assert_eq!(counts, [("SlowQueries on store", 40), ("DiskFull on caller", 6)]);
    let wake = found[0].figures.members.values().filter(|it| it.how == How::Wake);
    assert_eq!(wake.count(), 10);
}
