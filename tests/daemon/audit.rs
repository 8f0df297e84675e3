//! The audit trail: it tells who changed what, and cannot be changed without that being found.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, PROGRAM, Printed, SOON, firing, program, run, source};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use watchkeeper::store::{Batch, Commit, Kind, Object, Options, Store, redb};

const RUNBOOK: &str = "
runbooks:
  - name: restart
    mode: auto
    triggers: [{event: incident_opened, matchers: []}]
    guards: {cooldown: 0s}
    steps: [{id: a, command: {argv: ['true', '{{ labels.service }}'], environment: {KEY: {env: AUDIT_CANARY}}}}]
";

fn start() -> Daemon {
    let environment = vec![("AUDIT_CANARY".to_owned(), "hunter2-canary".to_owned())];
    let rules = format!("{BY_SERVICE}{RUNBOOK}");
    let options = crate::support::Options { rules, environment, ..Default::default() };
    let daemon = Daemon::start_with(options);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    daemon.execution_becomes("succeeded", SOON);
    daemon
}

/// Reads a list of the trail, oldest first.
fn listed(daemon: &Daemon, narrowed: &[&str]) -> Vec<Value> {
    let printed = daemon.cli(&[&["audit", "list", "-o", "json"], narrowed].concat());
    assert_eq!(printed.code, 0, "{printed:?}");
    let mut listing: Value = serde_json::from_str(&printed.stdout).unwrap();
    let Value::Array(mut items) = listing["items"].take() else { panic!("{printed:?}") };
    items.reverse();
    items
}

fn export(daemon: &Daemon) -> (PathBuf, Vec<String>) {
    let path = daemon.folder.path().join("trail.jsonl");
    let printed = daemon.cli(&["audit", "export", path.to_str().unwrap()]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (path, lines)
}

fn verify_lines(path: &Path, lines: &[String]) -> Printed {
    fs::write(path, lines.join("\n") + "\n").unwrap();
    program(&["audit", "verify", path.to_str().unwrap()])
}

#[test]
fn the_trail_tells_who_changed_what() {
    let mut daemon = start();
    daemon.done("/api/v1/incidents/INC-1/ack", &json!({"by": "ann"}));
    let silence = ["silence", "add", "service=cart", "--duration", "1h", "--comment", "move"];
    assert_eq!(daemon.cli(&[&silence[..], &["--author", "bob"]].concat()).code, 0);
    let stop = ["runbook", "stop-all", "--reason", "storm", "--by", "eve"];
    assert_eq!(daemon.cli(&stop).code, 0);
    assert_eq!(daemon.cli(&["freeze", "end", "FRZ-9", "--by", "eve"]).code, 1);
    let entries = listed(&daemon, &[]);
    let told: Vec<String> = (entries.iter())
        .map(|it| {
            let of = |name: &str| it[name].as_str().unwrap().split(':').next().unwrap().to_owned();
            format!("{} {} {} {}", of("by"), of("action"), of("subject"), of("outcome"))
        })
        .collect();
    let expected = [
        "watchkeeper rules_loaded  done",
        "runbook restart step_begun EXE-1 done",
        "runbook restart step_ended EXE-1 succeeded",
        "ann acknowledge_incident INC-1 done",
        "eve stop_runbooks  done",
        "eve end_freeze FRZ-9 refused",
    ];
    for line in expected {
        assert!(told.iter().any(|it| it == line), "{line} in {told:#?}");
    }
    assert!(told.iter().any(|it| it.contains(" set_silence ")), "{told:#?}");
    let begun = entries.iter().find(|it| it["action"] == "step_begun").unwrap();
    assert_eq!(begun["details"]["does"], r#"["true","shop"]"#);
    assert!(!entries.iter().any(|it| it.to_string().contains("canary")), "no secret");
    let of_eve = listed(&daemon, &["--by", "eve", "--action", "stop_runbooks"]);
    assert_eq!(of_eve.len(), 1);
    assert_eq!(of_eve[0]["details"]["reason"], "storm");
    assert!(listed(&daemon, &["--until", "2020-01-01T00:00:00Z"]).is_empty());

    let (path, lines) = export(&daemon);
    assert_eq!(lines.len(), entries.len() + 1);
    let printed = daemon.cli(&["audit", "verify"]);
    assert!(printed.code == 0 && printed.stdout.contains("each as it was written"), "{printed:?}");
    let noted = printed.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    daemon.kill_9();
    daemon.restart();
    // More was done since; what was noted elsewhere must still be in it.
    daemon.done("/api/v1/incidents/INC-1/note", &json!({"by": "ann", "text": "é\u{7f}\u{1}\""}));
    assert_eq!(daemon.cli(&["audit", "verify", "--expect", &noted]).code, 0);
    let other = format!("{}:{}", noted.split(':').next().unwrap(), "0".repeat(64));
    assert_eq!(daemon.cli(&["audit", "verify", "--expect", &other]).code, 1);

    export(&daemon);
    let script = source().join("tests/clients/audit.py");
    let printed = run(Command::new("python3").arg(script).arg(&path));
    assert!(printed.stdout.trim().parse::<usize>().unwrap() >= lines.len(), "{printed:?}");
}

#[test]
fn what_was_changed_removed_or_moved_in_an_export_is_named() {
    let daemon = start();
    for number in 0..20 {
        let body = json!({"by": "ann", "text": number.to_string()});
        daemon.done("/api/v1/incidents/INC-1/note", &body);
    }
    let (path, lines) = export(&daemon);
    assert_eq!(verify_lines(&path, &lines).code, 0);
    // The first line is the header, so that a line's place is its entry's number.
    for place in 1..lines.len() {
        let mut changed = lines.clone();
        changed[place] = changed[place].replacen("\"by\":\"", "\"by\":\"x", 1);
        let mut removed = lines.clone();
        removed.remove(place);
        let mut unreadable = lines.clone();
        unreadable[place].truncate(40);
        let mut ways = vec![changed, removed, unreadable];
        if place + 1 < lines.len() {
            let mut moved = lines.clone();
            moved.swap(place, place + 1);
            ways.push(moved);
        }
        for way in ways {
            let printed = verify_lines(&path, &way);
            let named = printed.stdout.starts_with(&format!("AUD-{place} "));
            assert!(printed.code == 1 && named, "{place}: {printed:?}");
        }
    }
    let printed = program(&["audit", "verify", PROGRAM]);
    assert!(printed.code == 2 && printed.stderr.contains("not an export"), "{printed:?}");
}

#[test]
fn what_was_changed_in_the_store_is_named() {
    let mut daemon = start();
    for text in ["one", "two", "three"] {
        daemon.done("/api/v1/incidents/INC-1/note", &json!({"by": "ann", "text": text}));
    }
    let last = daemon.get("/api/v1/audit/chain")["last"]["id"].as_str().unwrap().to_owned();
    let last: u64 = last.trim_start_matches("AUD-").parse().unwrap();
    daemon.terminate();
    let data = daemon.data();
    let store = || redb::open(&data.join("store"), Options::default()).unwrap();
    let id = |number: u64| format!("AUD-{number}");
    let body = |number: u64| store().get(Kind::Audit, &id(number)).unwrap().unwrap().body;
    let write = |commit: Commit| {
        store().write(&Batch { commit: Some(commit), ..Batch::default() }).unwrap();
        program(&["audit", "verify", "--data", data.to_str().unwrap()])
    };
    let put = |number: u64, body: Vec<u8>| Object { kind: Kind::Audit, id: id(number), body };
    let (one, two) = (body(last - 1), body(last));
    let good = |printed: Printed| assert_eq!(printed.code, 0, "{printed:?}");
    let bad = |printed: Printed, number: u64| {
        let named = printed.stdout.starts_with(&format!("{} ", id(number)));
        assert!(printed.code == 1 && named, "{printed:?}");
    };
    good(program(&["audit", "verify", "--data", data.to_str().unwrap()]));
    let changed = String::from_utf8(one.clone()).unwrap().replace("\"two\"", "\"2\"").into_bytes();
    assert_ne!(changed, one);
    let closes = |objects: Vec<Object>| Commit { closes: objects, ..Commit::default() };
    bad(write(closes(vec![put(last - 1, changed)])), last - 1);
    bad(write(closes(vec![put(last - 1, two.clone()), put(last, one.clone())])), last - 1);
    good(write(closes(vec![put(last - 1, one.clone()), put(last, two.clone())])));
    for number in [1, last - 1, last] {
        let was = body(number);
        let deletes = vec![(Kind::Audit, id(number))];
        bad(write(Commit { deletes, ..Commit::default() }), number);
        good(write(closes(vec![put(number, was)])));
    }
}

#[test]
fn after_a_kill_the_chain_is_whole_and_holds_what_was_answered() {
    let mut daemon = start();
    let answered = Arc::new(AtomicU64::new(0));
    let before = listed(&daemon, &["--action", "note_incident"]).len() as u64;
    for _ in 0..5 {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (address, counter, goes) = (daemon.address, answered.clone(), goes_on.clone());
        let writer = std::thread::spawn(move || {
            while goes.load(Ordering::SeqCst) {
                let path = "/api/v1/incidents/INC-1/note";
                let headers = [("content-type", "application/json")];
                let body = json!({"by": "ann", "text": "under way"}).to_string();
                let sent = http::send(address, "POST", path, &headers, body.as_bytes());
                if sent.is_ok_and(|it| it.status == 200) {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let wanted = answered.load(Ordering::SeqCst) + 5;
        crate::support::eventually("notes are taken", SOON, || {
            (answered.load(Ordering::SeqCst) >= wanted).then_some(())
        });
        daemon.kill_9();
        goes_on.store(false, Ordering::SeqCst);
        writer.join().unwrap();
        daemon.restart();
        let printed = daemon.cli(&["audit", "verify"]);
        assert_eq!(printed.code, 0, "{printed:?}");
    }
    let notes = listed(&daemon, &["--action", "note_incident", "--limit", "100000"]);
    let count = notes.len() as u64 - before;
    let answered = answered.load(Ordering::SeqCst);
    assert!((answered..=answered + 5).contains(&count), "{count} of {answered} answered");
}
