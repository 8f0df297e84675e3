//! Replay equals live: the history, applied again, gives the same objects, byte for byte.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, PROGRAM, SOON, eventually, firing, over, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use watchkeeper::store::{Kind, Object, Options, Scope, Store, redb};

type Objects = BTreeMap<(Kind, String), String>;

const KINDS: [Kind; 19] = [
    Kind::AlertPage,
    Kind::Alert,
    Kind::Incident,
    Kind::Execution,
    Kind::Problem,
    Kind::Silence,
    Kind::Notification,
    Kind::Heartbeat,
    Kind::Change,
    Kind::Freeze,
    Kind::Article,
    Kind::Feedback,
    Kind::Noise,
    Kind::Experience,
    Kind::LearnedPlace,
    Kind::Habit,
    Kind::Audit,
    Kind::Memory,
    Kind::Rules,
];

fn by_name(objects: Vec<Object>) -> Objects {
    let text = |it: &Object| String::from_utf8_lossy(&it.body).into_owned();
    objects.into_iter().map(|it| ((it.kind, it.id.clone()), text(&it))).collect()
}

fn stored(store: &dyn Store) -> Objects {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(store.list(kind, Scope::All, None, usize::MAX).unwrap());
    }
    by_name(all)
}

fn rules(receiver: &Receiver, runbook: &str) -> String {
    let targets = "P5: {acknowledge: 1s, resolve: 1h}";
    format!(
        "{BY_SERVICE}
sla_policies: [{{name: gold, matchers: [], warn_at: [50], targets: {{{targets}}}}}]
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [opened, resolved, breached, approval_needed], receiver: hook}}]
runbooks:
  - name: {runbook}
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps: [{{id: a, command: {{argv: ['true']}}, idempotency: idempotent}}]
",
        receiver.url("/hook")
    )
}

/// A bit of everything that a day brings, with a crash in the middle.
fn live(daemon: &mut Daemon, receiver: &Receiver) {
    daemon.done("/api/v1/changes", &json!({"by": "ada", "title": "shop 1.2", "external_id": "7"}));
    for number in 0..40 {
        let service = format!("service-{}", number % 8);
        let instance = number.to_string();
        let labels =
            [("alertname", "Down"), ("service", service.as_str()), ("instance", instance.as_str())];
        daemon.deliver(&[firing(&labels)]);
        if number % 3 == 0 {
            daemon.deliver(&[over(&labels)]);
        }
    }
    let silence = json!({"matchers": [{"name": "service", "value": "quiet", "isRegex": false}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "ann", "comment": "work"});
    let silence = daemon.done("/api/v2/silences", &silence);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "quiet")])]);
    let act =
        |id: &str, verb: &str, body| daemon.done(&format!("/api/v1/incidents/{id}/{verb}"), &body);
    act("INC-1", "ack", json!({"by": "ann"}));
    act("INC-2", "note", json!({"by": "ann", "text": "a word"}));
    act("INC-3", "resolve", json!({"by": "ann", "reason": "over"}));
    act("INC-4", "merge", json!({"by": "ann", "from": ["INC-5"]}));
    let id = silence["silenceID"].as_str().unwrap();
    assert_eq!(daemon.send("DELETE", &format!("/api/v2/silence/{id}"), &[], b"").status, 200);
    assert_eq!(daemon.post("/api/v2/alerts", &json!([{"labels": {}}])).status, 400);

    daemon.write_rules(&rules(receiver, "another"));
    eventually("the new rules are taken", SOON, || {
        (daemon.items("/api/v1/runbooks")[0]["name"] == "another").then_some(())
    });
    eventually("a breach is told", SOON, || receiver.told("breached").pop());
    daemon.kill_9();
    daemon.restart();
    daemon.deliver(&[firing(&[("alertname", "Slow"), ("service", "late")])]);
    assert_eq!(daemon.cli(&["problem", "detect"]).code, 0);
}

#[test]
fn replay_equals_live() {
    let receiver = Receiver::start();
    let mut daemon = Daemon::start(&rules(&receiver, "first"));
    live(&mut daemon, &receiver);
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");

    let store = redb::open(&daemon.data().join("store"), Options::default()).unwrap();
    let stored = stored(&store);
    let replayed = by_name(watchkeeper::engine::replay::run(&store).unwrap());
    assert!(stored.len() > 20, "there is something to compare: {}", stored.len());
    for (name, body) in &stored {
        assert_eq!(replayed.get(name), Some(body), "{name:?}");
    }
    for name in replayed.keys() {
        assert!(stored.contains_key(name), "replay made up {name:?}");
    }
}

#[test]
fn what_a_daemon_came_to_know_can_be_run_through_other_rules() {
    let receiver = Receiver::start();
    let mut daemon = Daemon::start(&rules(&receiver, "first"));
    live(&mut daemon, &receiver);
    let folder = daemon.folder.path().to_owned();
    let (data, out) = (daemon.data(), folder.join("out"));
    let replay = || {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(["replay", "--data"]).arg(&data).arg("--out").arg(&out);
        run(command.args(["--no-rules", "-o", "json"]).current_dir(&folder))
    };
    let in_use = replay();
    assert_eq!(in_use.code, 1, "{in_use:?}");
    assert!(in_use.stderr.contains("in use"), "{in_use:?}");
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");

    let told = receiver.told("opened").len();
    let printed = replay();
    assert_eq!(printed.code, 0, "{printed:?}");
    let lines = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let assignments = lines("assignments.jsonl");
    assert_eq!(assignments.len(), 42, "40 alerts, one silenced, one after the crash");
    let quiet = assignments.iter().find(|it| it["labels"]["service"] == "quiet").unwrap();
    assert_ne!(quiet["incident"], Value::Null, "the silence was ended while it fired");
    let incidents = lines("incidents.jsonl");
    assert!(!incidents.is_empty());
    for it in incidents {
        assert!(it["acknowledged_at"].is_null() && it["rule"] != "by-service", "{it}");
    }
    assert_eq!(lines("executions.jsonl"), Vec::<Value>::new(), "these rules have no runbook");
    assert_eq!(receiver.told("opened").len(), told, "nobody is told again");
}
