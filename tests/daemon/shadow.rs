//! Standing beside an Alertmanager: a generated day, of which everything is known, and the report.

use crate::http::{self, Receiver};
use crate::support::{Daemon, Options, SOON, eventually, metric};
use crate::tools::{Neighbour, alertmanager_configured};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use watchkeeper::config;
use watchkeeper::domain::State;
use watchkeeper::domain::effect::{Effect, PlannedEffect};
use watchkeeper::domain::event::{AlertBatch, Command, Ends, Event, ReceivedAlert};
use watchkeeper::domain::label::Labels;
use watchkeeper::domain::noise::{Day, RuleAccount, Summary};
use watchkeeper::domain::rules::{Mode, Occasion};

/// A rule of the day: its name, how many things it watches, how often each of them fires and for
/// about how many seconds, and of how many times somebody acts on one.
const RULES: [(&str, u64, u64, u64, u64); 5] = [
    ("DiskFull", 2, 3, 1800, 1),
    ("HighLatency", 6, 5, 240, 4),
    ("NodeDown", 3, 1, 900, 2),
    ("Flaky", 2, 6, 45, 100),
    ("Quiet", 3, 4, 300, 1),
];

/// The rule that is silenced all day, here and there.
const SILENCED: &str = "Quiet";

/// Somebody acts on an incident so long after it was opened, in seconds.
const ACTED_ON_AFTER: i64 = 10;

/// Whether the route that is mute by night tells of a rule.
fn is_mailed(rule: &str) -> bool {
    ["DiskFull", "HighLatency"].contains(&rule)
}

/// An alert fires once.
#[derive(Clone, Debug)]
struct Firing {
    rule: &'static str,
    instance: String,
    /// Seconds since midnight.
    begins: i64,
    lasts: i64,
    is_acted_on: bool,
}

impl Firing {
    fn labels(&self) -> Labels {
        Labels::from_pairs([("alertname", self.rule), ("instance", &self.instance)])
    }

    fn is_silenced(&self) -> bool {
        self.rule == SILENCED
    }
}

/// A day: no thing fires twice within half an hour, and all is over by midnight.
fn day(seed: u64) -> Vec<Firing> {
    let mut state = seed;
    let mut below = |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut firings = Vec::new();
    for (rule, things, times, seconds, one_of) in RULES {
        for (thing, time) in (0..things).flat_map(|it| (0..times).map(move |time| (it, time))) {
            let slot = 86_400 / times;
            firings.push(Firing {
                rule,
                instance: format!("{rule}-{thing}"),
                begins: (slot * time + below(slot / 3)).cast_signed(),
                lasts: (seconds / 2 + below(seconds)).cast_signed(),
                is_acted_on: below(one_of) == 0,
            });
        }
    }
    firings.sort_by_key(|it| it.begins);
    firings
}

/// What is true of a rule on a day.
#[derive(Clone, Debug, Default)]
struct Truth {
    fired: u64,
    silenced: u64,
    acted_on: u64,
    by_itself: u64,
    lasted: Vec<i64>,
}

impl Truth {
    /// Whether a median that was told is the true one, to within a sixteenth.
    fn has_median(&self, told: u64) -> bool {
        let mut lasted = self.lasted.clone();
        lasted.sort_unstable();
        let median = lasted[(lasted.len() - 1) / 2].cast_unsigned();
        told.abs_diff(median) * 16 <= median
    }

    fn incidents(&self) -> u64 {
        self.acted_on + self.by_itself
    }
}

/// Counts a day in the plainest way.
fn truth(day: &[Firing]) -> BTreeMap<&'static str, Truth> {
    let mut rules: BTreeMap<&str, Truth> = BTreeMap::new();
    for firing in day {
        let rule = rules.entry(firing.rule).or_default();
        rule.fired += 1;
        rule.lasted.push(firing.lasts);
        match (firing.is_silenced(), firing.is_acted_on) {
            (true, _) => rule.silenced += 1,
            (false, true) => rule.acted_on += 1,
            (false, false) => rule.by_itself += 1,
        }
    }
    rules
}

fn rules(receiver: &str, reopen_within: &str) -> String {
    format!(
        "
correlations:
  - {{name: pairs, matchers: ['alertname=\"Pair\"'], group_by: [alertname],
     incident: {{reopen_within: {reopen_within}}}}}
  - {{name: each, matchers: [], group_by: ['...'], flapping: {{start_changes: 0}},
     incident: {{title: '{{{{ labels.instance }}}}', reopen_within: {reopen_within}}}}}
silences: [{{name: quiet, matchers: ['alertname=\"{SILENCED}\"'], owner: ann, reason: known,
  starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z}}]
time_intervals: [{{name: nights, time_intervals: [{{times: [{{start_time: '00:00', end_time: '06:00'}}]}}]}}]
receivers: [{{name: pager, webhook: {{url: '{receiver}'}}}}, {{name: mail, webhook: {{url: '{receiver}'}}}}]
routes:
  - {{matchers: [], on: [opened, resolved], receiver: pager}}
  - {{matchers: ['alertname=~\"DiskFull|HighLatency\"'], on: [opened, resolved], receiver: mail, mute_time_intervals: [nights]}}
"
    )
}

/// A step of the day under the virtual clock, in the order in which steps at one time are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Ends,
    Begins,
    IsActedOn,
}

/// Lives through a day under the virtual clock.
fn live(state: &mut State, midnight: Timestamp, firings: &[Firing]) {
    let at = |seconds: i64| midnight + SignedDuration::from_secs(seconds);
    let mut steps = Vec::new();
    for (index, it) in firings.iter().enumerate() {
        steps.push((it.begins, Step::Begins, index));
        steps.push((it.begins + it.lasts, Step::Ends, index));
        if it.is_acted_on && !it.is_silenced() {
            steps.push((it.begins + ACTED_ON_AFTER, Step::IsActedOn, index));
        }
    }
    steps.sort_unstable();
    for (seconds, step, index) in steps {
        wake_until(state, at(seconds));
        let firing = &firings[index];
        let event = match step {
            Step::Begins | Step::Ends => {
                let end = if step == Step::Ends { at(seconds) } else { at(seconds + 40_000) };
                let alert = ReceivedAlert {
                    labels: firing.labels(),
                    annotations: Labels::default(),
                    starts_at: Some(at(firing.begins)),
                    ends: Ends::At(end),
                    generator_url: "".into(),
                    identity: None,
                };
                let (source, alerts) = ("prometheus".into(), vec![alert]);
                Event::AlertsReceived(AlertBatch { source, alerts, rejected: Vec::new() })
            }
            Step::IsActedOn => {
                let alert = &state.alerts[&firing.labels().fingerprint()];
                let command = Command::AcknowledgeIncident { incident: alert.incident.unwrap() };
                Event::CommandGiven { by: "ann".to_owned(), command }
            }
        };
        apply(state, at(seconds), &event);
    }
    wake_until(state, at(86_399));
}

fn wake_until(state: &mut State, until: Timestamp) {
    while let Some(due) = state.next_wakeup().filter(|it| *it <= until) {
        apply(state, due, &Event::Woken);
    }
}

fn apply(state: &mut State, now: Timestamp, event: &Event) {
    let effects = state.apply(now, event).effects;
    let looks = |it: &PlannedEffect| matches!(it.effect, Effect::DetectProblems { .. });
    assert!(effects.iter().all(looks), "we only observe: {effects:?}");
}

/// What the route that is mute by night tells: begun and ended by night nothing, begun by night and
/// still open in the morning both, unless somebody looked after it by then.
fn mail(day: &[Firing]) -> (u64, u64, u64) {
    let morning = 6 * 3600;
    let (mut opened, mut resolved, mut muted) = (0, 0, 0);
    for it in day.iter().filter(|it| is_mailed(it.rule)) {
        let is_over = it.begins + it.lasts < morning;
        let is_looked_after = it.is_acted_on && it.begins + ACTED_ON_AFTER < morning;
        let is_muted = it.begins < morning && (is_over || is_looked_after);
        muted += u64::from(is_muted);
        opened += u64::from(!is_muted);
        resolved += u64::from(!(is_muted && is_over));
    }
    (opened, resolved, muted)
}

fn check_day(summary: &Summary, day: &[Firing]) {
    let truth = truth(day);
    assert_eq!(summary.days, 1);
    assert_eq!(summary.rules.len(), truth.len());
    for (rule, true_) in &truth {
        let told: &RuleAccount = &summary.rules[*rule];
        assert_eq!((told.fired, told.held_back()), (true_.fired, true_.silenced), "{rule}");
        assert_eq!((told.acted_on, told.by_itself), (true_.acted_on, true_.by_itself), "{rule}");
        assert!(true_.has_median(told.lasted.median_seconds().unwrap()), "{rule}: {told:?}");
    }
    let (total, incidents) = (&summary.total, truth.values().map(Truth::incidents).sum::<u64>());
    assert_eq!(total.incidents_opened, incidents);
    assert_eq!(total.acted_on + total.by_itself, incidents);
    let told = |receiver: &str, occasion| {
        let pages = total.told[receiver].get(&occasion).copied().unwrap_or_default();
        (pages.would_send, pages.muted, pages.sent + pages.failed)
    };
    assert_eq!(told("pager", Occasion::Opened), (incidents, 0, 0));
    assert_eq!(told("pager", Occasion::Resolved), (incidents, 0, 0));
    let (opened, resolved, muted) = mail(day);
    assert_eq!(told("mail", Occasion::Opened), (opened, muted, 0));
    assert_eq!(told("mail", Occasion::Resolved), (resolved, 0, 0));
    for it in day {
        let often = day.iter().filter(|other| other.instance == it.instance).count() as u64;
        assert_eq!(summary.series[&it.labels().fingerprint()].1, often, "{it:?}");
    }
}

#[test]
fn two_whole_days_are_accounted_for_exactly() {
    let text = rules("http://127.0.0.1:9/", "15m");
    let checked = config::rules_from_texts(&[("a.yaml", &text)], Mode::Observe);
    let rules = checked.value.unwrap_or_else(|| panic!("{:?}", checked.findings));
    let mut state = State::default();
    let midnight: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    drop(state.apply(midnight, &Event::RulesLoaded(rules.into())));
    let days = [day(1), day(2)];
    for (number, firings) in (0..).zip(&days) {
        live(&mut state, midnight + SignedDuration::from_hours(24 * number), firings);
    }
    // The first day is closed, the second one under way.
    let closed = state.take_changes().closed.into_iter().filter_map(|it| match it {
        watchkeeper::domain::Closed::Noise(account) => Some(*account),
        _ => None,
    });
    let open = state.noise.keys().into_iter().map(|it| state.noise.get(&it).unwrap());
    let accounts: Vec<_> = closed.chain(open).collect();
    let first = Day::of(midnight);
    for (day, from) in days.iter().zip([first, first.next()]) {
        let mut summary = Summary::default();
        for it in &accounts {
            summary.add(it, from, from.next());
        }
        check_day(&summary, day);
    }
}

/// A day of which each hour lasts no longer than it takes the Alertmanager to tell: the first times
/// that things fire happen together, then the second times, and so on. When each began and ended is
/// told as it was, `since` a time in the past.
struct Compressed<'a> {
    daemon: &'a Daemon,
    real: &'a Neighbour,
    since: Timestamp,
}

impl Compressed<'_> {
    /// Tells both of alerts, as Prometheus does.
    fn deliver(&self, alerts: &[Value]) {
        let body = json!(alerts).to_string();
        for address in [self.daemon.address, self.real.address] {
            let headers = [("content-type", "application/json")];
            let path = "/api/v2/alerts";
            let reply = http::send(address, "POST", path, &headers, body.as_bytes()).unwrap();
            assert_eq!(reply.status, 200, "{address}: {}", reply.body);
        }
    }

    /// An alert as Prometheus tells it; `None` = it fires.
    fn alert(&self, labels: &Value, begins: i64, lasts: Option<i64>) -> Value {
        let at = |seconds| self.since + SignedDuration::from_secs(seconds);
        let far = Timestamp::now() + SignedDuration::from_hours(1);
        let end = lasts.map_or(far, |it| at(begins + it));
        json!({"labels": labels, "annotations": {},
            "startsAt": at(begins).to_string(), "endsAt": end.to_string()})
    }

    fn of(&self, firing: &Firing, is_over: bool) -> Value {
        let labels = json!({"alertname": firing.rule, "instance": firing.instance});
        self.alert(&labels, firing.begins, is_over.then_some(firing.lasts))
    }

    fn report(&self) -> Value {
        self.daemon.get("/api/v1/reports/noise")
    }

    /// Waits until so many pages of a kind to a receiver were heard.
    fn heard(&self, receiver: &str, kind: &str, count: u64) {
        eventually(&format!("{count} {kind} pages to {receiver}"), SOON, || {
            let report = self.report();
            let entries = report["heard"].as_array().unwrap();
            let found = entries.iter().find(|it| it["receiver"] == receiver)?;
            (found[kind] == count).then_some(())
        });
    }

    /// Waits until so many incidents are closed.
    fn closed(&self, count: u64) {
        eventually(&format!("{count} incidents are closed"), SOON, || {
            let report = self.report();
            let number = |name: &str| report[name].as_u64().unwrap();
            (number("acted_on") + number("by_itself") == count).then_some(())
        });
    }

    fn acknowledge(&self, firings: &[&Firing]) {
        let open = self.daemon.items("/api/v1/incidents?state=open&limit=1000");
        for firing in firings {
            let found = open.iter().find(|it| it["title"] == firing.instance.as_str()).unwrap();
            let id = found["id"].as_str().unwrap();
            self.daemon.done(&format!("/api/v1/incidents/{id}/ack"), &json!({"by": "ann"}));
        }
    }

    /// Lives through the day; gives how many groups the Alertmanager told of.
    fn live(&self, day: &[Firing]) -> u64 {
        let mut often: BTreeMap<&str, usize> = BTreeMap::new();
        let mut waves: Vec<Vec<&Firing>> = Vec::new();
        for firing in day {
            let nth = often.entry(&firing.instance).or_default();
            if waves.len() <= *nth {
                waves.push(Vec::new());
            }
            waves[*nth].push(firing);
            *nth += 1;
        }
        let mut groups = 0;
        for wave in waves {
            let told: Vec<&Firing> = wave.iter().copied().filter(|it| !it.is_silenced()).collect();
            groups += told.len() as u64;
            self.deliver(&wave.iter().map(|it| self.of(it, false)).collect::<Vec<_>>());
            self.heard("pager", "new", groups);
            let acted_on: Vec<&Firing> = told.iter().copied().filter(|it| it.is_acted_on).collect();
            self.acknowledge(&acted_on);
            self.deliver(&wave.iter().map(|it| self.of(it, true)).collect::<Vec<_>>());
            self.heard("pager", "resolved", groups);
            self.closed(groups);
        }
        groups
    }
}

/// Sends each page to us as its receiver; one receiver is told again each second.
fn beside(daemon: &Daemon) -> Neighbour {
    let url = format!("http://{}/ingest/alertmanager", daemon.address);
    let configuration = format!(
        "
route:
  receiver: pager
  group_by: [alertname, instance]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 1h
  routes:
    - {{matchers: ['alertname=\"Pair\"'], group_by: [alertname]}}
    - {{matchers: ['alertname=\"Stuck\"'], receiver: desk, repeat_interval: 1s}}
receivers:
  - {{name: pager, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}
  - {{name: desk, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}
"
    );
    let real = alertmanager_configured(daemon.folder.path(), &configuration);
    let silence = json!({"matchers": [{"name": "alertname", "value": SILENCED, "isRegex": false}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "ann", "comment": "known"});
    let headers = [("content-type", "application/json")];
    let body = silence.to_string();
    let path = "/api/v2/silences";
    let reply = http::send(real.address, "POST", path, &headers, body.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    real
}

fn check_report(report: &Value, day: &[Firing]) {
    let rules = report["rules"].as_array().unwrap();
    for (rule, true_) in truth(day) {
        let told = rules.iter().find(|it| it["rule"] == rule).unwrap();
        let of = |name: &str| told[name].as_u64().unwrap();
        assert_eq!((of("fired"), of("silenced")), (true_.fired, true_.silenced), "{told}");
        assert_eq!(of("opened"), true_.incidents(), "{told}");
        let verdicts = (of("acted_on"), of("by_itself"));
        assert_eq!(verdicts, (true_.acted_on, true_.by_itself), "{told}");
        assert!(true_.has_median(of("median_seconds")), "{told}");
        // A group of the Alertmanager is an alert here: one page when it begins, one when it ends.
        assert_eq!(of("pages_heard"), 2 * true_.incidents(), "{told}");
        // By night the mail is mute.
        let (pager, both) = (2 * true_.incidents(), 4 * true_.incidents());
        let most = if is_mailed(rule) { both } else { pager };
        assert!((pager..=most).contains(&of("pages_would_send")), "{told}");
    }
}

#[test]
fn a_day_beside_a_real_alertmanager_is_reported_as_it_was() {
    let receiver = Receiver::start();
    let settings = "mode: observe\n".to_owned();
    let rules = rules(&receiver.url("/hook"), "0s");
    let mut daemon = Daemon::start_with(Options { rules, settings, ..Options::default() });
    let real = beside(&daemon);
    let since = Timestamp::now() - SignedDuration::from_hours(24);
    let firings = day(3);
    let play = Compressed { daemon: &daemon, real: &real, since };
    let stuck = json!({"alertname": "Stuck"});
    play.deliver(&[play.alert(&stuck, 0, None)]);
    play.heard("desk", "new", 1);
    let groups = play.live(&firings);
    check_report(&play.report(), &firings);

    // Two alerts of one group, one after the other, are told twice, and once when they are over.
    let pair = ["a", "b"].map(|it| json!({"alertname": "Pair", "instance": it}));
    play.deliver(&[play.alert(&pair[0], 100, None)]);
    play.heard("pager", "new", groups + 1);
    play.deliver(&[play.alert(&pair[1], 160, None)]);
    play.heard("pager", "changed", 1);
    play.deliver(&pair.clone().map(|it| play.alert(&it, 160, Some(60))));
    play.heard("pager", "resolved", groups + 1);
    play.deliver(&[play.alert(&stuck, 0, Some(86_000))]);
    play.heard("desk", "resolved", 1);
    play.closed(groups + 2);

    let report = play.report();
    let desk = report["heard"].as_array().unwrap().iter().find(|it| it["receiver"] == "desk");
    assert!(desk.unwrap()["repeated"].as_u64().unwrap() >= 1, "{report}");
    let theirs = http::send(real.address, "GET", "/metrics", &[], b"").unwrap().body;
    let theirs = metric(&theirs, "alertmanager_notifications_total", &[("integration", "webhook")]);
    assert_eq!(report["pages_heard"].as_f64(), Some(theirs), "as it counts itself");
    assert_eq!((&report["incidents"], &report["pages_sent"]), (&json!(groups + 2), &json!(0)));
    assert!(receiver.received().is_empty(), "nobody is told");

    daemon.kill_9();
    daemon.restart();
    assert_eq!(daemon.get("/api/v1/reports/noise"), report, "nothing is lost in a crash");
    let printed = daemon.cli(&["report", "noise", "-o", "markdown"]);
    let line = format!("The Alertmanager sent {theirs} pages.");
    assert!(printed.code == 0 && printed.stdout.contains(&line), "{printed:?}");
    for form in ["table", "html", "csv", "json", "yaml"] {
        let printed = daemon.cli(&["report", "noise", "--since", "2d", "-o", form]);
        assert!(printed.code == 0 && printed.stdout.contains("HighLatency"), "{printed:?}");
    }
}

#[test]
fn a_page_alone_is_counted_and_changes_no_alert() {
    let daemon = Daemon::start("");
    let page = |status: &str| {
        json!({"receiver": "pager", "groupKey": "{}", "status": status, "alerts": [
            {"status": status, "labels": {"alertname": "Down"}, "startsAt": "2026-01-01T00:00:00Z",
             "endsAt": "0001-01-01T00:00:00Z"}]})
    };
    for status in ["firing", "firing", "resolved"] {
        daemon.done("/ingest/alertmanager?pages_only=true", &page(status));
    }
    assert!(daemon.items("/api/v1/alerts").is_empty());
    daemon.done("/ingest/alertmanager", &page("firing"));
    assert_eq!(daemon.items("/api/v1/alerts").len(), 1);
    let report = daemon.get("/api/v1/reports/noise");
    let expected =
        json!([{"receiver": "pager", "new": 2, "changed": 0, "repeated": 1, "resolved": 1}]);
    assert_eq!(report["heard"], expected);
    assert_eq!((&report["fired"], &report["rules"][0]["pages_heard"]), (&json!(1), &json!(4)));
    let refused = daemon.send("GET", "/api/v1/reports/noise?since=2030-01-01T00:00:00Z", &[], b"");
    assert_eq!(refused.status, 400, "{}", refused.body);
}
