//! How well the evidence alone groups: histories with their truth, judged as the documentation tells.

use crate::run::Run;
use crate::world::{Plan, World};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What a history must reach at least; shares are of 1.
struct Goal {
    f1: f64,
    rand: f64,
    incidents_a_fault: f64,
    mixed: f64,
    root_first: f64,
    change: f64,
}

/// How well some histories were grouped: means, and of causes the share over all of them.
#[derive(Default, Debug)]
struct Found {
    f1: f64,
    rand: f64,
    incidents_a_fault: f64,
    mixed: f64,
    roots: (f64, f64),
    changes: (f64, f64),
}

/// Pairs out of so many.
fn pairs(count: usize) -> f64 {
    let count = count_of(count);
    count * (count - 1.0) / 2.0
}

fn count_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn counts<K: Ord>(all: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    all.for_each(|it| *counts.entry(it).or_default() += 1);
    counts
}

/// The incident of each alert of the world, by its index; what has none stands alone.
fn incidents(world: &World, run: &Run) -> Vec<String> {
    let mut known = BTreeMap::new();
    for it in run.written("assignments.jsonl") {
        let key = (it["labels"].to_string(), it["starts_at"].as_str().unwrap().to_owned());
        known.insert(key, it["incident"].as_str().map(str::to_owned));
    }
    let of = |(index, it): (usize, &crate::world::Told)| {
        let key = (it.labels.to_string(), crate::history::time(it.from));
        known[&key].clone().unwrap_or_else(|| format!("alone {index}"))
    };
    world.told.iter().enumerate().map(of).collect()
}

/// Adds what a history shows. F1 and the adjusted Rand index are over pairs of alerts; *mixed* are incidents of
/// two alerts or more that hold more than one fault.
fn judge(world: &World, run: &Run, found: &mut Found) {
    let incidents = incidents(world, run);
    let faults: Vec<usize> = world.told.iter().map(|it| it.fault).collect();
    let both: Vec<(usize, &String)> = faults.iter().copied().zip(&incidents).collect();
    let all = |it: &BTreeMap<_, usize>| it.values().map(|it| pairs(*it)).sum::<f64>();
    let together = counts(both.iter().copied()).values().map(|it| pairs(*it)).sum::<f64>();
    let (of_fault, of_incident) = (counts(faults.iter()), counts(incidents.iter()));
    let truth = of_fault.values().map(|it| pairs(*it)).sum::<f64>();
    let guess = all(&of_incident);
    found.f1 += 2.0 * together / (truth + guess);
    let by_chance = truth * guess / pairs(faults.len());
    found.rand += (together - by_chance) / (f64::midpoint(truth, guess) - by_chance);

    let wide = of_fault.iter().filter(|(_, count)| **count > 1).map(|it| **it.0);
    let parts = |fault: usize| {
        both.iter().filter(|it| it.0 == fault).map(|it| it.1).collect::<BTreeSet<_>>().len()
    };
    let parts: Vec<usize> = wide.clone().map(parts).collect();
    found.incidents_a_fault += count_of(parts.iter().sum()) / count_of(parts.len());
    let large = of_incident.iter().filter(|(_, count)| **count > 1).map(|it| *it.0);
    let is_mixed = |incident: &&String| {
        both.iter().filter(|it| it.1 == *incident).map(|it| it.0).collect::<BTreeSet<_>>().len() > 1
    };
    let mixed = large.clone().filter(is_mixed).count();
    found.mixed += count_of(mixed) / count_of(large.count());

    let told: BTreeMap<String, Value> = (run.written("incidents.jsonl").into_iter())
        .map(|it| (it["incident"].as_str().unwrap().to_owned(), it))
        .collect();
    for fault in wide.filter(|it| !world.faults[*it].root.is_empty()) {
        let of_it = counts(both.iter().filter(|it| it.0 == fault).map(|it| it.1));
        let most = of_it.iter().max_by_key(|(_, count)| **count).unwrap().0;
        let incident = told.get(most.as_str());
        let root = incident.and_then(|it| it["root_cause"][0].as_str());
        found.roots.1 += 1.0;
        found.roots.0 += f64::from(u8::from(root == Some(&world.faults[fault].root)));
        if let Some(change) = &world.faults[fault].change {
            let suspect = incident.and_then(|it| it["suspect_change"].as_str());
            found.changes.1 += 1.0;
            found.changes.0 += f64::from(u8::from(suspect == Some(change)));
        }
    }
}

/// Three seeds of a kind of history, without any rule.
#[expect(clippy::print_stderr, reason = "the figures are for people")]
fn check(plan: Plan, goal: &Goal) {
    const SEEDS: [u64; 3] = [11, 12, 13];
    let mut found = Found::default();
    for seed in SEEDS {
        let world = World::new(Plan { seed, ..plan });
        let run = Run::of(&world.events());
        fs::write(run.folder().join("catalog.yaml"), world.catalog()).unwrap();
        fs::write(run.folder().join("changes.jsonl"), world.changes()).unwrap();
        let options = ["--no-rules", "--catalog", "catalog.yaml", "--changes", "changes.jsonl"];
        let printed = run.with(&options).replay();
        assert_eq!(printed.code, 0, "{printed:?}");
        judge(&world, &run, &mut found);
    }
    let share = |it: (f64, f64)| it.0 / it.1;
    for mean in [&mut found.f1, &mut found.rand, &mut found.incidents_a_fault, &mut found.mixed] {
        *mean /= count_of(SEEDS.len());
    }
    eprintln!("{found:?} root first {:.2} change {:.2}", share(found.roots), share(found.changes));
    assert!(found.f1 >= goal.f1 && found.rand >= goal.rand, "{found:?}");
    assert!(found.incidents_a_fault <= goal.incidents_a_fault, "{found:?}");
    assert!(found.mixed <= goal.mixed, "{found:?}");
    assert!(share(found.roots) >= goal.root_first, "{found:?}");
    assert!(share(found.changes) >= goal.change, "{found:?}");
}

#[test]
fn a_quiet_day_is_grouped_by_its_faults() {
    let plan = Plan { seed: 0, services: 60, hours: 8, faults: 24, noise_per_hour: 12 };
    let goal = Goal {
        f1: 0.90,
        rand: 0.90,
        incidents_a_fault: 1.20,
        mixed: 0.12,
        root_first: 0.85,
        change: 0.85,
    };
    check(plan, &goal);
}

#[test]
fn faults_that_overlap_stay_apart() {
    let plan = Plan { seed: 0, services: 120, hours: 3, faults: 24, noise_per_hour: 60 };
    let goal = Goal {
        f1: 0.82,
        rand: 0.82,
        incidents_a_fault: 1.25,
        mixed: 0.30,
        root_first: 0.85,
        change: 0.85,
    };
    check(plan, &goal);
}

#[test]
fn faults_are_found_in_much_noise() {
    let plan = Plan { seed: 0, services: 90, hours: 8, faults: 24, noise_per_hour: 60 };
    let goal = Goal {
        f1: 0.88,
        rand: 0.88,
        incidents_a_fault: 1.20,
        mixed: 0.35,
        root_first: 0.85,
        change: 0.85,
    };
    check(plan, &goal);
}
