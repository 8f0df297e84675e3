//! What becomes of heartbeats: tables of cases, each with its own times.

use super::*;
use crate::domain::alert::AlertState;
use crate::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use crate::domain::rules::RuleSet;
use crate::domain::{Refusal, State};
use jiff::SignedDuration;
use std::collections::BTreeMap;

const NAME: &str = "backup";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rule(rhythm: Rhythm, grace_seconds: u32) -> HeartbeatRule {
    HeartbeatRule {
        rule: Arc::new(RuleRef { name: NAME.to_owned(), ..RuleRef::default() }),
        rhythm,
        grace_seconds,
        labels: Labels::from_pairs([("alertname", ALERT_NAME), ("heartbeat", NAME)]),
        annotations: Labels::from_pairs([("runbook_url", "http://wiki/")]),
        feed: None,
        token: None,
    }
}

fn load(state: &mut State, now: Timestamp, rules: Vec<HeartbeatRule>) {
    let rules = RuleSet { heartbeats: rules, ..RuleSet::default() };
    drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
}

/// A state with one heartbeat, and its time.
struct World {
    state: State,
    now: Timestamp,
}

impl World {
    fn new(rule: HeartbeatRule, start: &str) -> Self {
        let mut world = Self { state: State::default(), now: time(start) };
        load(&mut world.state, world.now, vec![rule]);
        world
    }

    fn wait(&mut self, seconds: i64) {
        let end = later(self.now, seconds);
        while let Some(at) = self.state.next_wakeup().filter(|it| *it <= end) {
            self.now = self.now.max(at);
            drop(self.state.apply(self.now, &Event::Woken));
        }
        self.now = end;
    }

    fn ping(&mut self, signal: &str, run: &str) {
        let ping = HeartbeatPing {
            heartbeat: NAME.to_owned(),
            signal: if signal.is_empty() {
                Signal::Success
            } else {
                Signal::parse(signal).unwrap()
            },
            run: (!run.is_empty()).then(|| run.to_owned()),
            output: format!("said {signal}"),
        };
        drop(self.state.apply(self.now, &Event::HeartbeatPinged(ping)));
    }

    fn away(&mut self, seconds: i64) {
        let last_seen = Some(self.now);
        self.now = later(self.now, seconds);
        drop(self.state.apply(self.now, &Event::WatchStarted { last_seen }));
    }

    fn heartbeat(&self) -> &Heartbeat {
        &self.state.heartbeats[NAME]
    }

    fn is(&self) -> &'static str {
        self.heartbeat().state(self.now).as_str()
    }

    /// What its alert tells, while it fires.
    fn told(&self) -> BTreeMap<String, String> {
        let mut firing = self.state.alerts.values().filter(|it| it.state == AlertState::Firing);
        let alert = firing.next();
        assert!(firing.next().is_none(), "one thing is one alert");
        let pairs = alert.into_iter().flat_map(|it| it.annotations.iter());
        pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
    }
}

#[test]
fn a_period_goes_by() {
    let mut world = World::new(rule(Rhythm::Every(60), 30), "2026-01-01T00:00:00Z");
    // What was never heard from is not missed.
    world.wait(1_000_000);
    assert_eq!((world.is(), world.told().len()), ("new", 0));
    world.ping("", "");
    for (seconds, is) in [(0, "up"), (59, "up"), (1, "late"), (29, "late"), (1, "down")] {
        world.wait(seconds);
        assert_eq!(world.is(), is, "after {seconds} s more");
    }
    assert_eq!(world.told()["reason"], "missed");
    assert_eq!(world.told()["runbook_url"], "http://wiki/");
    world.wait(100_000);
    world.ping("", "");
    assert_eq!((world.is(), world.told().len()), ("up", 0));
    world.wait(90);
    assert_eq!(world.is(), "down", "it is missed again");
    assert_eq!(world.state.incidents.len(), 1, "the same incident");
}

#[test]
fn failures_and_exit_codes_are_told_at_once() {
    let mut world = World::new(rule(Rhythm::Every(60), 30), "2026-01-01T00:00:00Z");
    world.ping("3", "");
    assert_eq!(world.is(), "down");
    assert_eq!((&*world.told()["reason"], &*world.told()["exit_code"]), ("failed", "3"));
    assert_eq!(world.told()["output"], "said 3");
    world.ping("fail", "");
    assert!(!world.told().contains_key("exit_code"), "{:?}", world.told());
    world.ping("log", "");
    assert_eq!((world.is(), &*world.heartbeat().last_output), ("down", "said log"));
    world.ping("0", "");
    assert_eq!((world.is(), world.told().len()), ("up", 0));
    assert_eq!(world.heartbeat().pings, 4);
}

#[test]
fn a_run_is_measured_and_must_end() {
    let mut world = World::new(rule(Rhythm::Every(600), 30), "2026-01-01T00:00:00Z");
    world.ping("start", "");
    world.wait(20);
    assert_eq!(world.is(), "started");
    world.ping("start", "");
    world.wait(5);
    world.ping("", "");
    // Of several starts of a run the first counts.
    assert_eq!(world.heartbeat().last_duration_milliseconds, Some(25_000));
    world.ping("start", "");
    world.wait(29);
    assert_eq!(world.is(), "started");
    world.wait(1);
    assert_eq!((world.is(), &*world.told()["reason"]), ("down", "took_too_long"));
    world.wait(30);
    world.ping("", "");
    assert_eq!((world.is(), world.told().len()), ("up", 0));
    assert_eq!(world.heartbeat().last_duration_milliseconds, Some(60_000));
    world.ping("", "");
    assert_eq!(world.heartbeat().last_duration_milliseconds, None, "nobody told its start");
}

#[test]
fn overlapping_runs_are_measured_apart() {
    let mut world = World::new(rule(Rhythm::Every(600), 300), "2026-01-01T00:00:00Z");
    for (wait, signal, run, duration) in [
        (0, "start", "a", None),
        (10, "start", "b", None),
        (10, "", "a", Some(20)),
        (30, "", "b", Some(40)),
        (0, "start", "c", None),
        (5, "", "d", None),
    ] {
        world.wait(wait);
        world.ping(signal, run);
        if !signal.is_empty() {
            continue;
        }
        let took = world.heartbeat().last_duration_milliseconds.map(|it| it / 1000);
        assert_eq!(took, duration, "{run}");
    }
    // The one run that did not end is told of, also when others end well.
    world.wait(200);
    world.ping("", "e");
    world.wait(95);
    assert_eq!((world.is(), &*world.told()["reason"]), ("down", "took_too_long"));
    world.ping("", "f");
    assert_eq!(world.is(), "started", "it is told of once");
    // An end that names no run ends all.
    world.ping("", "");
    assert_eq!(world.is(), "up");
    for number in 0..200 {
        world.ping("start", &number.to_string());
    }
    assert_eq!(world.heartbeat().runs.len(), RUNS_MAX);
}

#[test]
fn the_calendar_counts_in_its_time_zone() {
    let berlin =
        |line: &str| Rhythm::Cron { line: line.to_owned(), time_zone: "Europe/Berlin".to_owned() };
    for (line, pinged, expected) in [
        // Winter, summer, and both changes of the clocks.
        ("0 2 * * *", "2026-01-10T01:05:00Z", "2026-01-11T01:00:00Z"),
        ("0 2 * * *", "2026-07-10T00:05:00Z", "2026-07-11T00:00:00Z"),
        ("30 2 * * *", "2026-03-28T01:35:00Z", "2026-03-29T01:30:00Z"),
        ("30 2 * * *", "2026-03-29T01:31:00Z", "2026-03-30T00:30:00Z"),
        ("30 2 * * *", "2026-10-24T00:31:00Z", "2026-10-25T00:30:00Z"),
        ("30 2 * * *", "2026-10-25T00:31:00Z", "2026-10-26T01:30:00Z"),
        ("15 * * * *", "2026-10-25T00:16:00Z", "2026-10-25T01:15:00Z"),
        ("0 9 * * mon-fri", "2026-11-20T08:01:00Z", "2026-11-23T08:00:00Z"),
    ] {
        let mut world = World::new(rule(berlin(line), 600), pinged);
        world.ping("", "");
        let heartbeat = world.heartbeat();
        assert_eq!(heartbeat.expected_at, Some(time(expected)), "{line} after {pinged}");
        world.wait(time(expected).duration_since(world.now).as_secs() + 599);
        assert_eq!(world.is(), "late", "{line} after {pinged}");
        world.wait(1);
        assert_eq!(world.is(), "down", "{line} after {pinged}");
    }
}

#[test]
fn what_could_have_come_while_we_were_away_is_not_missed() {
    // (waits before, away, is it down after what time since the return)
    for (every, grace, before, away, down_after) in [
        // Due while we were away: expected anew from then on.
        (60, 30, 50, 1200, 90),
        (3600, 300, 3000, 1200, 3900),
        // Its grace began before, or would have ended after.
        (3600, 300, 3700, 20, 3900),
        (3600, 300, 3500, 99, 3900),
        // Due long after: nothing changes.
        (3600, 300, 600, 1200, 2100),
        // A short absence long before counts for nothing either.
        (3600, 300, 600, 2, 3298),
        // Down right after the return, but for the hold.
        (100, 10, 0, 80, 90),
    ] {
        let case = format!("every {every} s, {grace} s grace, away {away} s after {before} s");
        let mut world = World::new(rule(Rhythm::Every(every), grace), "2026-01-01T00:00:00Z");
        world.ping("", "");
        world.wait(before);
        world.away(away);
        assert!(world.told().is_empty(), "{case}");
        world.wait(down_after - 1);
        assert_ne!(world.is(), "down", "{case}");
        world.wait(1);
        assert_eq!(world.is(), "down", "{case}");
    }
    // By the calendar nothing comes early: at two, away from one to a quarter to two.
    let cron = Rhythm::Cron { line: "0 2 * * *".to_owned(), time_zone: "UTC".to_owned() };
    let mut world = World::new(rule(cron, 3600), "2026-01-01T01:00:00Z");
    world.ping("", "");
    world.away(2700);
    assert_eq!(world.heartbeat().expected_at, Some(time("2026-01-01T02:00:00Z")));
    // A jump of the clock is an absence as well: we were suspended.
    world.wait(100);
    world.now = later(world.now, 7200);
    drop(world.state.apply(world.now, &Event::ClockJumped { milliseconds: 7_200_000 }));
    assert_eq!(world.heartbeat().expected_at, Some(time("2026-01-02T02:00:00Z")));
    // A run that was under way may have ended.
    world.ping("start", "");
    world.away(10);
    assert_eq!(world.is(), "up");
}

#[test]
fn a_person_says_not_to_wait() {
    let mut world = World::new(rule(Rhythm::Every(60), 30), "2026-01-01T00:00:00Z");
    let give = |world: &mut World, command: Command| {
        let event = Event::CommandGiven { by: "ann".to_owned(), command };
        world.state.apply(world.now, &event).reply.unwrap()
    };
    let pause = || Command::PauseHeartbeat { heartbeat: NAME.to_owned() };
    let resume = || Command::ResumeHeartbeat { heartbeat: NAME.to_owned() };
    world.ping("1", "");
    assert!(give(&mut world, pause()).is_ok());
    assert_eq!((world.is(), world.told().len()), ("paused", 0));
    assert!(matches!(give(&mut world, pause()), Err(Refusal::WrongState(_))));
    world.wait(100_000);
    assert!(give(&mut world, resume()).is_ok());
    assert_eq!(world.is(), "up");
    assert!(matches!(give(&mut world, resume()), Err(Refusal::WrongState(_))));
    world.wait(90);
    assert_eq!(world.is(), "down");
    assert!(give(&mut world, pause()).is_ok());
    world.ping("", "");
    assert_eq!(world.is(), "up", "whoever is heard from is waited for");
    let unknown = Command::PauseHeartbeat { heartbeat: "x".to_owned() };
    assert!(matches!(give(&mut world, unknown), Err(Refusal::NotFound(_))));
}

#[test]
fn rules_change_and_nothing_is_missed_or_left_behind() {
    let mut world = World::new(rule(Rhythm::Every(86_400), 600), "2026-01-01T00:00:00Z");
    world.ping("", "");
    world.wait(36_000);
    let now = world.now;
    load(&mut world.state, now, vec![rule(Rhythm::Every(3600), 600)]);
    assert_eq!(world.is(), "up");
    world.wait(4200);
    assert_eq!(world.is(), "down");
    let mut other = rule(Rhythm::Every(3600), 600);
    other.labels = Labels::from_pairs([("alertname", "NoBackup")]);
    let now = world.now;
    load(&mut world.state, now, vec![other]);
    assert_eq!(world.told()["reason"], "missed", "only the new alert fires");
    load(&mut world.state, now, Vec::new());
    assert!(world.told().is_empty() && world.state.heartbeats.is_empty());
    world.ping("", "");
    assert!(world.state.heartbeats.is_empty());
}

fn delivery(source: &str, alerts: &[(&str, bool)], now: Timestamp) -> Event {
    let alert = |(name, fires): &(&str, bool)| ReceivedAlert {
        labels: Labels::from_pairs([("alertname", *name)]),
        annotations: Labels::default(),
        starts_at: None,
        ends: if *fires { Ends::WhenTold } else { Ends::At(now) },
        generator_url: "".into(),
        identity: None,
    };
    let alerts = alerts.iter().map(alert).collect();
    Event::AlertsReceived(AlertBatch { source: source.into(), alerts, rejected: Vec::new() })
}

#[test]
fn alerts_and_sources_feed() {
    let by = |matchers: &str, source: Option<&str>| Feed {
        matchers: matchers.parse().unwrap(),
        source: source.map(str::to_owned),
        open_incidents: false,
    };
    let watchdog = "alertname=\"Watchdog\"";
    for (feed, source, alerts, fed) in [
        (by(watchdog, None), "prometheus", &[("Watchdog", true)][..], true),
        (by(watchdog, None), "prometheus", &[("Watchdog", false)], false),
        (by(watchdog, None), "prometheus", &[("Down", true)], false),
        (by(watchdog, Some("prod")), "prometheus", &[("Watchdog", true)], false),
        (by(watchdog, Some("prod")), "prod", &[("Watchdog", true)], true),
        (by("", Some("zabbix")), "zabbix", &[], true),
        (by("", Some("zabbix")), "zabbix", &[("Down", false)], true),
        (by("", Some("zabbix")), "nagios", &[("Down", true)], false),
        (by("heartbeat!=\"x\"", None), SOURCE, &[("Down", true)], false),
    ] {
        let case = format!("{feed:?} by {source} with {alerts:?}");
        let rule = HeartbeatRule { feed: Some(feed), ..rule(Rhythm::Every(60), 30) };
        let mut world = World::new(rule, "2026-01-01T00:00:00Z");
        drop(world.state.apply(world.now, &delivery(source, alerts, world.now)));
        assert_eq!(world.is(), if fed { "up" } else { "new" }, "{case}");
    }
}

#[test]
fn what_feeds_opens_no_incident_until_it_feeds_no_more() {
    let feed = Feed {
        matchers: "alertname=\"Watchdog\"".parse().unwrap(),
        source: None,
        open_incidents: false,
    };
    let watchdog = HeartbeatRule { feed: Some(feed), ..rule(Rhythm::Every(60), 30) };
    let mut world = World::new(watchdog, "2026-01-01T00:00:00Z");
    drop(world.state.apply(world.now, &delivery("prometheus", &[("Watchdog", true)], world.now)));
    let alert = world.state.alerts.values().next().unwrap();
    assert_eq!(alert.disposition().as_str(), "silenced");
    assert_eq!(&*alert.decision.silenced_by[0], "heartbeat/backup");
    assert!(world.state.incidents.is_empty());
    world.wait(89);
    assert_eq!(world.is(), "late");
    world.wait(1);
    assert_eq!(world.state.incidents.len(), 1, "the watchdog's silence is one");
    let now = world.now + SignedDuration::from_secs(1);
    load(&mut world.state, now, Vec::new());
    let firing = world.state.alerts.values().filter(|it| it.state == AlertState::Firing);
    let firing: Vec<_> = firing.map(|it| it.disposition().as_str()).collect();
    assert_ne!(firing, ["silenced"], "nothing holds it any more");
}
