//! What holds alerts back: shown, told by `explain`, kept over a crash, changed by a reload.

use crate::http;
use crate::support::{Daemon, PROGRAM, Printed, SOON, eventually, firing, over, run};
use serde_json::{Value, json};
use std::process::Command;

const RULES: &str = "
inhibitions:
  - {name: parent, source_matchers: ['alertname=Parent'], target_matchers: ['alertname=Child'], equal: [dc]}
maintenance:
  - {name: disks, matchers: ['alertname=Disk'], owner: ann, reason: new disks,
     starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z}
  - {name: later, matchers: ['alertname=Net'], owner: ann, reason: new net, flexible: 1h,
     starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z}
";

fn watchkeeper(daemon: &Daemon, arguments: &[&str]) -> Printed {
    let server = format!("http://{}", daemon.address);
    run(Command::new(PROGRAM).args(arguments).args(["--server", &server]))
}

fn json_of(daemon: &Daemon, arguments: &[&str]) -> Value {
    let printed = watchkeeper(daemon, &[arguments, &["-o", "json"]].concat());
    assert_eq!(printed.code, 0, "{printed:?}");
    serde_json::from_str(&printed.stdout).unwrap()
}

fn send(daemon: &Daemon, alerts: &[Value]) {
    let headers = [("content-type", "application/json")];
    let body = json!(alerts).to_string();
    let path = "/api/v2/alerts";
    let reply = http::send(daemon.address, "POST", path, &headers, body.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// The disposition of each firing alert, by its name.
fn dispositions(daemon: &Daemon) -> Vec<(String, String)> {
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let alerts = daemon.items("/api/v1/alerts?state=firing");
    let mut all: Vec<(String, String)> = alerts
        .iter()
        .map(|it| (text(&it["labels"]["alertname"]), text(&it["disposition"])))
        .collect();
    all.sort();
    all
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect()
}

#[test]
fn what_holds_alerts_survives_a_crash_and_follows_the_rules() {
    let mut daemon = Daemon::start(RULES);
    let names = ["Child", "Parent", "Disk", "Net"];
    send(&daemon, &names.map(|it| firing(&[("alertname", it), ("dc", "a")])));
    let held = pairs(&[
        ("Child", "inhibited"),
        ("Disk", "in_maintenance"),
        ("Net", "in_maintenance"),
        ("Parent", "opened"),
    ]);
    assert_eq!(dispositions(&daemon), held);
    let child = daemon.items("/api/v1/alerts?filter=alertname=Child")[0].clone();
    let parent = daemon.items("/api/v1/alerts?filter=alertname=Parent")[0].clone();
    assert_eq!(child["inhibited_by"], parent["fingerprint"]);
    let why = watchkeeper(&daemon, &["explain", child["fingerprint"].as_str().unwrap()]).stdout;
    assert!(why.contains("parent") && why.contains("test.yaml:3"), "{why}");

    let windows = json_of(&daemon, &["maintenance", "list"]);
    let states: Vec<&str> = windows["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["active", "active"], "the second was begun by its alert");
    assert_eq!(windows["items"][1]["held_alerts"], 1);

    daemon.kill_9();
    daemon.restart();
    assert_eq!(dispositions(&daemon), held);
    // Without the rules nothing is held any more, and what fires is told.
    daemon.write_rules("correlations: []\n");
    eventually("all are let go", SOON, || {
        let all = dispositions(&daemon);
        all.iter().all(|(_, it)| it == "opened").then_some(())
    });
    assert_eq!(daemon.items("/api/v1/incidents").len(), 4);
}

#[test]
fn a_silence_is_previewed_and_its_uselessness_told() {
    let daemon = Daemon::start("");
    send(&daemon, &["a", "b", "c"].map(|it| firing(&[("alertname", "Down"), ("host", it)])));
    send(&daemon, &[over(&[("alertname", "Down"), ("host", "a")])]);
    let preview = json_of(&daemon, &["silence", "preview", "alertname=Down", "host=~a|b"]);
    assert_eq!((&preview["alerts"], &preview["firing"]), (&json!(2), &json!(1)), "{preview}");
    assert_eq!(preview["complete"], true);
    let dry = ["silence", "add", "host=b", "-d", "1h", "-c", "work", "--dry-run"];
    let dry = watchkeeper(&daemon, &dry);
    assert!(dry.stdout.contains("held back 1 alerts, of which 1 fire now"), "{dry:?}");
    assert!(daemon.items("/api/v1/silences").is_empty());

    let add = |matcher: &str| {
        let arguments = ["silence", "add", matcher, "-d", "1h", "-c", "work"];
        assert_eq!(watchkeeper(&daemon, &arguments).code, 0);
    };
    add("host=b");
    add("host=z");
    let silences = daemon.items("/api/v1/silences");
    for silence in &silences {
        let is_useless = silence["matchers"][0] == "host=\"z\"";
        assert_eq!(silence["alert_count"], u32::from(!is_useless), "{silence}");
        assert_eq!(silence["firing_alerts"], u32::from(!is_useless), "{silence}");
        assert_eq!(silence["warnings"].as_array().unwrap().len(), usize::from(is_useless));
    }
    let metrics = http::send(daemon.address, "GET", "/metrics", &[], b"").unwrap().body;
    for line in [
        "watchkeeper_silences{state=\"active\"} 2",
        "watchkeeper_silences{state=\"matching_nothing\"} 1",
        "watchkeeper_silences{state=\"expiring\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
    let nameless = ["silence", "add", "host=b", "-d", "1h", "-c", " "];
    assert_eq!(watchkeeper(&daemon, &nameless).code, 2, "a silence needs a reason");
}
