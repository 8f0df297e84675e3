//! What deciding about one alert costs while many fire: `cargo bench --bench correlation`.
//!
//! A catalog of services that call each other and of machines; alerts on all of them fire and stay, in
//! incidents that evidence made. Then single alerts come, each a turn of its own, and each is timed.
#![expect(clippy::print_stdout, reason = "the figures are for people")]

use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper::config;
use watchkeeper::domain::State;
use watchkeeper::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
use watchkeeper::domain::label::Labels;
use watchkeeper::domain::rules::Mode;

/// The program's own, which is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many services there are; a third as many machines.
const SERVICES: u64 = 1_000;
/// How many alerts are timed.
const TIMED: u64 = 20_000;

/// A catalog: each service needs up to four others with a lower number, and runs on three machines.
fn catalog() -> String {
    let mut text = String::new();
    for number in 0..SERVICES {
        let needs = (0..mixed(number) % 5).map(|it| mixed(number * 7 + it) % number.max(1));
        let needs = needs.filter(|_| number > 0).map(|it| format!("service-{it:04}"));
        let hosts = (0..3).map(|it| mixed(number * 11 + it) % (SERVICES / 3));
        let hosts = hosts.map(|it| format!("resource:default/node-{it:03}"));
        let all: Vec<String> = needs.chain(hosts).collect();
        let written = write!(
            text,
            "---\napiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {{name: \
             service-{number:04}}}\nspec: {{type: service, owner: x, dependsOn: [{}]}}\n",
            all.join(", ")
        );
        written.expect("writing into a string does not fail");
    }
    for number in 0..SERVICES / 3 {
        let written = write!(
            text,
            "---\napiVersion: backstage.io/v1alpha1\nkind: Resource\nmetadata: {{name: \
             node-{number:03}, labels: {{zone: zone-{}}}}}\nspec: {{type: host, owner: x}}\n",
            number % 3
        );
        written.expect("writing into a string does not fail");
    }
    text
}

/// Mixes the bits of a number (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn alert(number: u64) -> ReceivedAlert {
    let service = mixed(number) % SERVICES;
    let host = mixed(service * 11 + number % 3) % (SERVICES / 3);
    ReceivedAlert {
        labels: Labels::from_pairs([
            ("alertname", format!("Alert{:02}", number % 40).as_str()),
            ("severity", "warning"),
            ("service", &format!("service-{service:04}")),
            ("instance", &format!("node-{host:03}:9100")),
            ("pod", &format!("service-{service:04}-{number:07}")),
        ]),
        annotations: Labels::default(),
        starts_at: None,
        ends: Ends::WhenTold,
        generator_url: "".into(),
        identity: None,
    }
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|it| it == "--bench");
    let sizes = if is_test { &[1_000][..] } else { &[1_000, 10_000, 100_000] };
    println!("| alerts that fire | incidents | median | 99 % | slowest |\n|---|---|---|---|---|");
    for &firing in sizes {
        let mut now = Timestamp::constant(1_800_000_000, 0);
        let mut state = State::default();
        let catalog = catalog();
        let checked = config::rules_from_texts(&[("catalog.yaml", &catalog)], Mode::Act);
        let rules = checked.value.expect("the catalog of this file is sound");
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        let mut micros = Vec::new();
        for number in 0..firing + if is_test { 100 } else { TIMED } {
            // Some alerts a second, as in a storm that does not end.
            now += SignedDuration::from_millis(20);
            let alerts = vec![alert(number)];
            let batch = AlertBatch { source: "prometheus".into(), alerts, rejected: Vec::new() };
            let event = Event::AlertsReceived(batch);
            let began = Instant::now();
            drop(state.apply(now, &event));
            if number >= firing {
                micros.push(began.elapsed().as_secs_f64() * 1e6);
            }
            drop(state.take_changes());
        }
        micros.sort_by(f64::total_cmp);
        let at = |thousandths: usize| {
            let place = (micros.len() - 1) * thousandths / 1000;
            micros.get(place).copied().unwrap_or_default()
        };
        println!(
            "| {firing} | {} | {:.1} us | {:.1} us | {:.0} us |",
            state.incidents.len(),
            at(500),
            at(990),
            at(1000)
        );
    }
}
