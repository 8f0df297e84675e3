//! What deciding about an alert costs while many are inhibited: `cargo bench --bench inhibition`.
//!
//! One rule, and for each hundred targets one source, all in one group: each target is held by every
//! source. It prints microseconds for each alert, which should not grow with their number.
#![expect(clippy::print_stdout, reason = "the figures are for people")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded for reading")]

use jiff::Timestamp;
use std::ops::Range;
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

const RULES: &str = "
correlations: [{name: all, matchers: [], group_by: [cluster], window: {gap: 5m, max: 4h}}]
inhibitions:
  - {name: one, source_matchers: ['side=\"source\"'], target_matchers: ['side=\"target\"'], equal: [cluster]}
";
/// How many alerts come at once.
const BATCH: usize = 500;

struct Watch {
    state: State,
    now: Timestamp,
}

impl Watch {
    fn new() -> Self {
        let now = Timestamp::constant(1_800_000_000, 0);
        let mut state = State::default();
        let checked = config::rules_from_texts(&[("rules.yaml", RULES)], Mode::Act);
        let rules = checked.value.expect("the rules of this file are sound");
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        drop(state.take_changes());
        Self { state, now }
    }

    /// Tells of so many alerts, so many at once. Gives the microseconds that each took.
    fn tell(&mut self, side: &str, numbers: Range<usize>, (ends, batch): (Ends, usize)) -> f64 {
        let began = Instant::now();
        for first in numbers.clone().step_by(batch) {
            let alerts = (first..numbers.end.min(first + batch)).map(|number| ReceivedAlert {
                labels: Labels::from_pairs([
                    ("alertname", "Down"),
                    ("cluster", "eu"),
                    ("instance", &number.to_string()),
                    ("side", side),
                ]),
                annotations: Labels::default(),
                starts_at: None,
                ends,
                generator_url: "".into(),
                identity: None,
            });
            let alerts = alerts.collect();
            let batch = AlertBatch { source: "prometheus".into(), alerts, rejected: Vec::new() };
            drop(self.state.apply(self.now, &Event::AlertsReceived(batch)));
            drop(self.state.take_changes());
        }
        began.elapsed().as_secs_f64() * 1e6 / numbers.len() as f64
    }
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|it| it == "--bench");
    let sizes = if is_test { &[1_000][..] } else { &[1_000, 10_000, 100_000] };
    println!(
        "| targets | sources | source begins | target begins | repeated | source ends | let go |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &targets in sizes {
        let (mut watch, sources) = (Watch::new(), targets / 100);
        let (lasting, over) = (Ends::WhenTold, Ends::At(watch.now));
        let figures = [
            watch.tell("source", 0..sources, (lasting, BATCH)),
            watch.tell("target", 0..targets, (lasting, BATCH)),
            watch.tell("target", 0..targets, (lasting, BATCH)),
            // One by one, as they come.
            watch.tell("source", 0..sources - 1, (over, 1)),
            // With the last of them all targets go on their way, so that it is shared among them.
            watch.tell("source", sources - 1..sources, (over, 1)) / targets as f64,
        ];
        let [begins, held, repeated, ends, let_go] = figures.map(|it| format!("{it:.1} us"));
        println!("| {targets} | {sources} | {begins} | {held} | {repeated} | {ends} | {let_go} |");
    }
}
