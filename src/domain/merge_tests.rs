//! A law: the same alerts, told in any order and any number of times, come to the same state.

use super::State;
use super::alert::AlertState;
use super::event::{AlertBatch, Ends, Event, ReceivedAlert};
use super::label::{Fingerprint, Labels};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;

const START: i64 = 1_800_000_000;

/// What a source says of an alert: how long ago it began, and when it ends, in seconds from now.
#[derive(Clone, Debug)]
struct Word {
    began: i64,
    ends: Option<i64>,
}

fn word() -> impl Strategy<Value = Word> {
    let ends = prop_oneof![Just(None), (-400_i64..0).prop_map(Some), (1_i64..400).prop_map(Some)];
    (400_i64..900, ends).prop_map(|(began, ends)| Word { began, ends })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn tell(state: &mut State, (source, alert): (u8, u8), word: &Word) {
    let received = ReceivedAlert {
        labels: Labels::from_pairs([("alertname", format!("A{alert}"))]),
        annotations: Labels::default(),
        starts_at: Some(at(-word.began)),
        ends: word.ends.map_or(Ends::WhenTold, |it| Ends::At(at(it))),
        generator_url: "".into(),
        identity: None,
    };
    let source = format!("source-{source}").into();
    let batch = AlertBatch { source, alerts: vec![received], rejected: Vec::new() };
    drop(state.apply(at(0), &Event::AlertsReceived(batch)));
}

/// Whether each alert fires, until when, and who says so.
type Outcome = BTreeMap<Fingerprint, (AlertState, BTreeMap<String, Option<Timestamp>>)>;

fn outcome(state: &State) -> Outcome {
    let told = |alert: &super::alert::Alert| {
        let firing = alert.reports.iter().filter(|it| it.firing);
        firing.map(|it| (it.source.to_string(), it.expires_at)).collect()
    };
    state.alerts.values().map(|it| (it.fingerprint, (it.state, told(it)))).collect()
}

/// Lets time pass, with every timer at its time.
fn wait(state: &mut State, seconds: i64) {
    let end = at(0) + SignedDuration::from_secs(seconds);
    while let Some(next) = state.next_wakeup().filter(|it| *it <= end) {
        drop(state.apply(next.max(at(0)), &Event::Woken));
    }
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_come_to_the_same(
        words in prop::collection::btree_map((0_u8..3, 0_u8..4), word(), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        later in 0_i64..500,
    ) {
        let (mut plain, mut mixed) = (State::default(), State::default());
        for (key, word) in &words {
            tell(&mut plain, *key, word);
        }
        // Any of them any number of times, and at last those that were left out, backwards.
        let all: Vec<_> = words.iter().collect();
        let again = order.iter().map(|it| *it.get(&all));
        for (key, word) in again.chain(all.iter().rev().copied()) {
            tell(&mut mixed, *key, word);
        }
        prop_assert_eq!(outcome(&plain), outcome(&mixed));
        for state in [&mut plain, &mut mixed] {
            wait(state, later);
        }
        prop_assert_eq!(outcome(&plain), outcome(&mixed), "after {} s", later);
    }
}
