//! Much that waits at once: little of it is to be decided again after a crash.

use super::{Place, VirtualTime, check_replay, stepped};
use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
use crate::domain::label::Labels;
use crate::engine::stepped::SteppedWatch;
use crate::store::Store as _;
use crate::telemetry::Metrics;
use jiff::Timestamp;

/// So many alerts are in a record.
const EACH: u64 = 1000;
/// So many records are written at once, while nothing is decided.
const AT_ONCE: u64 = 8;
const RECORDS: u64 = 2 * AT_ONCE;

fn record(number: u64) -> Vec<Event> {
    let alert = |it: u64| ReceivedAlert {
        labels: Labels::from_pairs([("alertname", format!("A{number}-{it}").as_str())]),
        annotations: Labels::default(),
        starts_at: None,
        ends: Ends::WhenTold,
        generator_url: "".into(),
        identity: None,
    };
    let alerts = (0..EACH).map(alert).collect();
    vec![Event::AlertsReceived(AlertBatch { source: "test".into(), alerts, rejected: vec![] })]
}

fn open(place: &Place, time: &VirtualTime) -> SteppedWatch {
    let options = stepped::Options {
        open: place.opener(),
        time: time.clone(),
        metrics: Metrics::new(),
        retention_seconds: 3600,
        audit_retention_seconds: 3600,
    };
    SteppedWatch::open(options).unwrap()
}

#[test]
fn a_round_that_decides_much_commits_on_its_way() {
    let place = Place::new();
    let time = VirtualTime::starting_at(Timestamp::now());
    let mut watch = open(&place, &time);
    watch.round();
    for number in 0..RECORDS {
        drop(watch.submit(record(number)).unwrap());
        if number + 1 == AT_ONCE {
            watch.write();
        }
    }
    // No time goes on, so that nothing is committed for its age.
    watch.round();
    drop(watch);
    let loaded = place.open().unwrap().load().unwrap();
    assert_eq!(loaded.last_seq, RECORDS + 1, "all is durable, after the start of the watch");
    let left = loaded.last_seq - loaded.watermark;
    assert!((1..RECORDS / 2).contains(&left), "{left} records would be decided again");
    let watch = open(&place, &time);
    assert_eq!(watch.peek(|state| state.alerts.len() as u64), RECORDS * EACH);
    watch.stop();
    check_replay(&place);
}
