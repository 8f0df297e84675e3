//! `watchkeeper replay`: the real binary over histories that are made here, and what must hold of its files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "replay/grouping.rs"]
mod grouping;
#[path = "replay/history.rs"]
mod history;
#[path = "replay/run.rs"]
mod run;
#[path = "replay/world.rs"]
mod world;

use history::{Storm, line, many, over};
use run::{Run, lines, values};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const BY_SERVICE: &str = "
correlations:
  - name: by-service
    matchers: []
    group_by: [service]
    window: {gap: 15m, max: 4h}
    incident: {title: '{{ labels.alertname }}', severity: from_label, reopen_within: 15m}
";

/// For each beginning the number of its incident in order of appearance, so that two runs can be
/// compared whatever ids they gave.
fn partition(assignments: &[Value]) -> Vec<Option<usize>> {
    let mut known = BTreeMap::new();
    let mut number = |it: &str| {
        let next = known.len();
        *known.entry(it.to_owned()).or_insert(next)
    };
    assignments.iter().map(|it| it["incident"].as_str().map(&mut number)).collect()
}

#[test]
fn each_beginning_has_a_line_and_each_incident_and_problem_a_body() {
    let storm = Storm { seed: 1, hours: 30, ..Storm::default() };
    let run = Run::of(&storm.events());
    let printed = run.rules(BY_SERVICE).replay();
    assert_eq!(printed.code, 0, "{printed:?}");

    let assignments = run.written("assignments.jsonl");
    let beginnings = storm.beginnings();
    assert_eq!(assignments.len(), beginnings.len());
    for (found, (labels, starts_at)) in assignments.iter().zip(&beginnings) {
        assert_eq!(found["labels"], *labels, "in order of their beginning");
        assert_eq!(found["starts_at"], *starts_at, "as received");
    }
    let incidents = run.written("incidents.jsonl");
    let ids: BTreeSet<&str> = incidents.iter().map(|it| it["incident"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), incidents.len(), "each once");
    for it in &assignments {
        assert!(ids.contains(it["incident"].as_str().unwrap()), "{it}");
        assert!(!it["why"].as_str().unwrap().is_empty(), "{it}");
        let known = ["opened", "joined", "reopened", "flapping"];
        assert!(known.contains(&it["disposition"].as_str().unwrap()), "{it}");
    }
    let opened = assignments.iter().filter(|it| it["disposition"] == "opened").count();
    assert_eq!(opened, incidents.len());
    for it in &incidents {
        assert_eq!((&it["incident"], &it["rule"]), (&it["id"], &json!("by-service")));
        assert!(it["root_cause"].is_array() && it.get("suspect_change").is_some(), "{it}");
        let kinds: Vec<&Value> = values(&it["timeline"]).iter().map(|it| &it["kind"]).collect();
        assert_eq!(kinds[0], "opened", "{it}");
        let members = values(&it["alerts"]);
        assert_eq!(it["alert_count"], json!(members.len()), "{it}");
        let told = assignments.iter().filter(|line| line["incident"] == it["incident"]);
        let told: BTreeSet<&str> = told.filter_map(|it| it["fingerprint"].as_str()).collect();
        assert_eq!(told, members.iter().filter_map(Value::as_str).collect(), "{it}");
    }
    let problems = run.written("problems.jsonl");
    let nightly = problems.iter().find(|it| it["period_seconds"].is_u64()).unwrap();
    assert_eq!(nightly["problem"], nightly["id"]);
    assert!(values(&nightly["incidents"]).len() >= 3, "{nightly}");
    assert_eq!(run.written("executions.jsonl"), Vec::<Value>::new());

    let summary = run.summary();
    assert_eq!(summary["events"], json!(storm.events().len()));
    assert_eq!(summary["alerts"], json!(assignments.len()));
    assert_eq!(summary["incidents"], json!(incidents.len()));
    assert_eq!(summary["problems"], json!(problems.len()));
    assert_eq!(summary["dispositions"]["opened"], json!(incidents.len()));
}

#[test]
fn the_same_history_gives_the_same_bytes_in_whatever_order_its_lines_stand() {
    let storm = Storm { seed: 2, hours: 12, ..Storm::default() };
    let events = storm.events();
    let first = Run::of(&events);
    assert_eq!(first.rules(BY_SERVICE).replay().code, 0);
    let again = Run::of(&events);
    assert_eq!(again.rules(BY_SERVICE).replay().code, 0);
    assert_eq!(first.texts(), again.texts());

    let mut turned = events.clone();
    turned.reverse();
    let turned = Run::of(&turned);
    assert_eq!(turned.rules(BY_SERVICE).replay().code, 0);
    assert_eq!(turned.texts(), first.texts());
}

/// As many events as `WATCHKEEPER_EVENTS` says, 20,000 if it says nothing.
#[test]
fn a_long_history_gives_the_same_bytes_twice() {
    let count = std::env::var("WATCHKEEPER_EVENTS").map_or(20_000, |it| it.parse().unwrap());
    let run = Run::of(&many(count));
    let mut texts = Vec::new();
    for _ in 0..2 {
        let printed = run.rules(BY_SERVICE).replay();
        assert_eq!(printed.code, 0, "{printed:?}");
        assert_eq!(run.summary()["events"], json!(count));
        eprintln!("{count} events in {} s", run.summary()["seconds"]);
        texts.push(run.texts());
    }
    assert!(texts[0] == texts[1], "the bytes differ");
}

#[test]
fn a_history_with_resends_gives_the_same_incidents() {
    let storm = Storm { seed: 3, hours: 12, ..Storm::default() };
    let told_once = Run::of(&storm.events());
    assert_eq!(told_once.rules(BY_SERVICE).replay().code, 0);
    let resent = Storm { resend_seconds: Some(60), ..storm };
    assert!(resent.events().len() > 3 * storm.events().len());
    let resent = Run::of(&resent.events());
    assert_eq!(resent.rules(BY_SERVICE).replay().code, 0);
    let (once, again) =
        (told_once.written("assignments.jsonl"), resent.written("assignments.jsonl"));
    assert_eq!(partition(&once), partition(&again));
    assert_eq!(once.len(), again.len());
}

#[test]
fn a_bad_line_is_named_and_its_neighbours_are_kept() {
    let mut events = Storm { seed: 4, hours: 2, ..Storm::default() }.events();
    let count = events.len();
    events.insert(1, "{\"ts\":\"2026-03-02T00:00:00Z\"}".to_owned());
    events.insert(5, "no json".to_owned());
    let run = Run::of(&events);
    let printed = run.rules(BY_SERVICE).replay();
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("events.jsonl:2: "), "{printed:?}");
    assert!(printed.stderr.contains("missing field `alert`"), "{printed:?}");
    assert!(printed.stderr.contains("events.jsonl:6: "), "{printed:?}");
    let summary = run.summary();
    assert_eq!((&summary["refused"], &summary["events"]), (&json!(2), &json!(count)));
    assert!(!run.written("assignments.jsonl").is_empty());
}

#[test]
fn what_is_held_back_names_no_incident_and_what_is_told_is_not_sent() {
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    receiver.set_nonblocking(true).unwrap();
    let address = receiver.local_addr().unwrap();
    let marker = tempfile::tempdir().unwrap();
    let marker = marker.path().join("done");
    let rules = format!(
        "{BY_SERVICE}
silences:
  - {{name: quiet, matchers: ['service=\"quiet\"'], owner: o, reason: r,
      starts_at: 2026-01-01T00:00:00Z, ends_at: 2027-01-01T00:00:00Z}}
receivers: [{{name: hook, webhook: {{url: 'http://{address}/'}}}}]
routes: [{{matchers: [], on: [opened, resolved], receiver: hook}}]
runbooks:
  - name: restart
    mode: auto
    triggers: [{{event: incident_opened, matchers: ['alertname=\"Down\"']}}]
    lock: one
    guards: {{cooldown: 10m, max_runs: {{count: 9, per: 1h}}}}
    steps: [{{id: a, command: {{argv: [touch, '{}']}}, timeout: 9s}}]
    verify: {{settle: 10s, within: 5m, alerts_resolved: true}}
  - name: ask
    mode: approve
    triggers: [{{event: incident_opened, matchers: ['alertname=\"Slow\"']}}]
    steps: [{{id: a, command: {{argv: [touch, x]}}, timeout: 9s}}]
",
        marker.display()
    );
    let down = |service| json!({"alertname": "Down", "service": service});
    let events = [
        line(0, &down("quiet")),
        line(10, &down("cart")),
        line(70, &down("order")),
        over(100, &down("cart"), 10),
        line(1200, &down("mail")),
        line(1300, &json!({"alertname": "Slow", "service": "web"})),
    ];
    let run = Run::of(&events);
    let printed = run.rules(&rules).replay();
    assert_eq!(printed.code, 0, "{printed:?}");
    let assignments = run.written("assignments.jsonl");
    assert_eq!(assignments[0]["disposition"], "silenced");
    assert_eq!(assignments[0]["incident"], Value::Null);
    let executions = run.written("executions.jsonl");
    let told: Vec<(&str, &str)> = (executions.iter())
        .map(|it| (it["incident"].as_str().unwrap(), it["state"].as_str().unwrap()))
        .collect();
    let expected = [
        ("INC-1", "would_run"),
        ("INC-2", "blocked"),
        ("INC-3", "would_run"),
        ("INC-4", "waiting_approval"),
    ];
    assert_eq!(told, expected, "guards hold as they would have: {executions:?}");
    assert_eq!(executions[0]["execution"], "EXE-1");
    assert_eq!(executions[0]["why"], "would have run: verified: all alerts are over");
    assert_eq!(executions[0]["steps"][0]["argv"][0], "touch");
    assert_eq!(executions[2]["why"], "would have run: looking whether it helped");
    let told = run.written("notifications.jsonl");
    let told: Vec<&Value> = told.iter().map(|it| &it["occasion"]).collect();
    assert_eq!(told, ["opened", "opened", "resolved", "opened", "opened"]);
    assert!(!marker.exists() && receiver.accept().is_err(), "something was done");
}

#[test]
fn without_rules_the_built_in_ones_hold_and_changes_are_taken_in() {
    let run = Run::of(&Storm { seed: 5, hours: 3, ..Storm::default() }.events());
    let changes = run.folder().join("changes.jsonl");
    fs::write(
        &changes,
        concat!(
            r#"{"ts":"2026-03-02T01:00:00Z","id":"C1","kind":"deployment","service":"cart","version":"v2","author":"a"}"#,
            "\n",
            r#"{"ts":"2026-03-02T00:10:00Z","id":"C0","kind":"emergency","service":"mail"}"#,
            "\nnonsense\n"
        ),
    )
    .unwrap();
    fs::write(run.folder().join("rules.yaml"), "not: rules").unwrap();
    let printed = run.with(&["--no-rules", "--changes", changes.to_str().unwrap()]).replay();
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("changes.jsonl:3: "), "{printed:?}");
    assert_eq!(run.summary()["refused"], 1);
    assert!(run.written("incidents.jsonl").iter().all(|it| it["rule"] != "by-service"));
}

#[test]
fn a_baseline_tells_what_differs_and_the_exit_code_tells_that_something_does() {
    let run = Run::of(&Storm { seed: 6, hours: 12, ..Storm::default() }.events());
    assert_eq!(run.rules(BY_SERVICE).replay().code, 0);
    let baseline = run.folder().join("baseline");
    fs::rename(run.folder().join("out"), &baseline).unwrap();
    let options = ["--baseline", "baseline"];
    let same = run.rules(BY_SERVICE).and(&options).replay();
    assert_eq!(same.code, 0, "{same:?}");
    let none = &run.summary()["difference"];
    assert!(none.as_object().unwrap().values().all(|it| it["count"] == 0), "{none}");

    let by_name = format!(
        "{}receivers: [{{name: hook, webhook: {{url: 'http://127.0.0.1:9/'}}}}]
routes: [{{matchers: [], on: [opened], receiver: hook}}]
",
        BY_SERVICE.replace("[service]", "[service, alertname]")
    );
    let other = run.rules(&by_name).and(&options).replay();
    assert_eq!(other.code, 1, "{other:?}");
    let difference = &run.summary()["difference"];
    let split = &difference["split"];
    assert!(split["count"].as_u64().unwrap() > 0, "{difference}");
    assert!(split["worst"][0].as_str().unwrap().contains(" is now INC-"), "{difference}");
    assert_eq!(difference["merged"]["count"], 0, "{difference}");
    assert!(difference["alerts_moved"]["count"].as_u64().unwrap() > 0, "{difference}");
    let opened = run.written("incidents.jsonl").len();
    assert_eq!(difference["notifications"]["count"], json!(opened), "{difference}");
    assert!(values(&difference["notifications"]["worst"]).len() <= 20, "{difference}");

    // The other way round, for people.
    fs::remove_dir_all(&baseline).unwrap();
    fs::rename(run.folder().join("out"), &baseline).unwrap();
    let back = run.rules(BY_SERVICE).and(&options).and(&["-o", "table"]).replay();
    assert_eq!(back.code, 1, "{back:?}");
    assert!(back.stdout.contains("incidents merged: "), "{back:?}");
    assert!(back.stdout.contains(" holds what was in INC-"), "{back:?}");
}

#[test]
fn webhook_bodies_and_a_range_of_alerts_are_histories() {
    let alert = |name: &str, from: &str, to: &str| {
        let status = if to.is_empty() { "firing" } else { "resolved" };
        json!({"status": status, "labels": {"alertname": name, "service": "cart"}, "startsAt": from,
               "endsAt": if to.is_empty() { "0001-01-01T00:00:00Z" } else { to }})
    };
    let body = |alerts: &[Value]| {
        json!({"version": "4", "status": "firing", "receiver": "hook", "alerts": alerts})
            .to_string()
    };
    let (one, two) = ("2026-03-02T00:01:00Z", "2026-03-02T00:02:00Z");
    let hooks = [
        body(&[alert("Slow", two, ""), alert("Down", one, "")]),
        body(&[alert("Down", one, "2026-03-02T00:05:00Z"), json!({"status": "gone"})]),
    ];
    let run = Run::of(&hooks);
    let printed = run.rules(BY_SERVICE).replay();
    assert_eq!(printed.code, 1, "one alert is refused: {printed:?}");
    assert!(printed.stderr.contains("events.jsonl:2: "), "{printed:?}");
    let named = |run: &Run| {
        let assignments = run.written("assignments.jsonl");
        let parts = assignments.iter().map(|it| {
            let part = |it: &Value| it.as_str().unwrap_or("-").to_owned();
            (part(&it["labels"]["alertname"]), part(&it["starts_at"]), part(&it["incident"]))
        });
        parts.collect::<Vec<_>>()
    };
    let line = |name: &str, at: &str| (name.to_owned(), at.to_owned(), "INC-1".to_owned());
    assert_eq!(named(&run), [line("Down", one), line("Slow", two)]);
    let incident = &run.written("incidents.jsonl")[0];
    assert_eq!((&incident["alert_count"], &incident["firing_count"]), (&json!(2), &json!(1)));

    let series = |name: &str, values: Value| {
        json!({"metric": {"__name__": "ALERTS", "alertname": name, "alertstate": "firing",
               "service": "cart"}, "values": values})
    };
    let down = series("Down", json!([[1_772_409_660, "1"], [1_772_409_720, "1"]]));
    let slow = series("Slow", json!([[1_772_409_720, "1"], [1_772_409_780, "1"]]));
    let data = json!({"resultType": "matrix", "result": [down, slow]});
    let answer = serde_json::to_string_pretty(&json!({"status": "success", "data": data})).unwrap();
    let run = Run::of(std::slice::from_ref(&answer));
    let printed = run.rules(BY_SERVICE).replay();
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(named(&run), [line("Down", one), line("Slow", two)]);
    let printed = run.rules(BY_SERVICE).and(&["--from", two]).replay();
    assert_eq!((printed.code, named(&run)), (0, vec![line("Slow", two)]), "{printed:?}");
    let printed = run.rules(BY_SERVICE).and(&["--to", two]).replay();
    assert_eq!((printed.code, named(&run)), (0, vec![line("Down", one)]), "{printed:?}");
    let printed = run.rules(BY_SERVICE).and(&["--format", "events"]).replay();
    assert_eq!((printed.code, named(&run).len()), (1, 0), "{printed:?}");
    let printed = run.rules(BY_SERVICE).and(&["--format", "alertmanager"]).replay();
    assert_eq!(printed.code, 1, "{printed:?}");
}

#[test]
fn wrong_usage_and_bad_rules_are_code_2() {
    let run = Run::of(&[]);
    for wrong in [
        &["--rules", "no-such-folder"][..],
        &["--catalog", "no-such-file"],
        &["--changes", "no-such-file"],
        &["--no-rules", "--rules", "."],
        &["--baseline", "no-such-folder"],
        &["--baseline", "out"],
    ] {
        let printed = run.with(wrong).replay();
        assert_eq!(printed.code, 2, "{wrong:?}: {printed:?}");
        assert!(printed.stdout.is_empty() && !printed.stderr.is_empty(), "{printed:?}");
    }
    let printed = run.rules("correlations: [{name: x, matcher: []}]").replay();
    assert_eq!(printed.code, 2, "{printed:?}");
    assert!(printed.stderr.contains("matcher"), "{printed:?}");
    let printed = run.rules(BY_SERVICE).replay();
    assert_eq!(printed.code, 0, "an empty history is one: {printed:?}");
    assert_eq!(lines(&run.folder().join("out/incidents.jsonl")), Vec::<Value>::new());
}
