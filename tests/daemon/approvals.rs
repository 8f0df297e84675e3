//! Approvals: by token, by two people, over the command line and REST, and through a `kill -9`.

use crate::http::{self, Reply};
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, firing};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

const PEOPLE: [(&str, &str); 3] = [("ann", "responder"), ("bob", "admin"), ("eve", "admin")];

fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef0123456789abcdef")
}

fn guarded(folder: &TempDir, rules: String) -> Daemon {
    let mut tokens = Vec::new();
    for (name, role) in PEOPLE {
        let file = folder.path().join(name);
        fs::write(&file, format!("{}\n", token(name))).unwrap();
        tokens
            .push(format!("{{name: {name}, role: {role}, token: {{file: '{}'}}}}", file.display()));
    }
    let settings = format!("auth: {{tokens: [{}]}}\n", tokens.join(", "));
    Daemon::start_with(Options { rules, settings, token: Some(token("bob")), ..Options::default() })
}

fn mark(folder: &TempDir, more: &str) -> String {
    let file = folder.path().join("marks");
    format!(
        "{BY_SERVICE}
runbooks:
  - name: fix
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps:
{more}
      - {{id: mark, command: {{argv: [dd, if=/dev/zero, 'of={}', oflag=append, conv=notrunc, bs=1, count=1]}}}}
",
        file.display()
    )
}

fn marks(folder: &TempDir) -> u64 {
    fs::metadata(folder.path().join("marks")).map_or(0, |it| it.len())
}

fn say(daemon: &Daemon, name: &str, verb: &str) -> Reply {
    let bearer = format!("Bearer {}", token(name));
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    // What a caller calls himself counts for nothing beside his token.
    let body = json!({"by": "somebody else"}).to_string();
    let path = format!("/api/v1/executions/EXE-1/{verb}");
    http::send(daemon.address, "POST", &path, &headers, body.as_bytes()).unwrap()
}

fn run_is(daemon: &Daemon, state: &str) -> Value {
    eventually(&format!("the run is {state}"), SOON, || {
        let runs = daemon.items("/api/v1/executions");
        runs.into_iter().find(|it| it["id"] == "EXE-1" && it["state"] == state)
    })
}

#[test]
fn two_admins_say_yes_and_a_crash_in_between_forgets_nothing() {
    let folder = TempDir::new().unwrap();
    let ask = "      - {id: ask, approval: {text: 'go on?', people: 2, role: admin}}";
    let mut daemon = guarded(&folder, mark(&folder, ask));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let asked = run_is(&daemon, "waiting_approval");
    assert_eq!(asked["question"]["text"], "go on?", "{asked}");
    assert_eq!(asked["question"]["step"], "ask");
    let refused = say(&daemon, "ann", "approve");
    assert_eq!(refused.status, 403, "a responder is no admin");
    assert_eq!(say(&daemon, "bob", "approve").status, 200);
    assert_eq!(say(&daemon, "bob", "approve").status, 409, "he counts once");
    daemon.kill_9();
    daemon.restart();
    let asked = run_is(&daemon, "waiting_approval");
    assert_eq!(asked["question"]["yes"], json!(["bob"]));
    assert_eq!(marks(&folder), 0);
    assert_eq!(say(&daemon, "eve", "approve").status, 200);
    let done = run_is(&daemon, "succeeded");
    assert_eq!(marks(&folder), 1);
    let answers = done["answers"].as_array().unwrap();
    let who: Vec<&Value> = answers.iter().map(|it| &it["by"]).collect();
    assert_eq!(who, ["bob", "eve"]);
    assert!(answers.iter().all(|it| it["role"] == "admin" && it["step"] == "ask"), "{done}");
    let told = daemon.get("/api/v1/explain/EXE-1").to_string();
    assert!(told.contains("eve said yes to step ask"), "{told}");
}

#[test]
fn without_tokens_nobody_is_two_people() {
    let folder = TempDir::new().unwrap();
    let ask = "      - {id: ask, approval: {people: 2}}";
    let daemon = Daemon::start(&mark(&folder, ask));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    run_is(&daemon, "waiting_approval");
    let refused = daemon.cli(&["runbook", "approve", "EXE-1", "--by", "ann"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("without tokens"), "{}", refused.stderr);
    let denied = daemon.cli(&["runbook", "deny", "EXE-1", "--by", "ann", "--reason", "no"]);
    assert_eq!(denied.code, 0, "{}", denied.stderr);
    run_is(&daemon, "failed");
    assert_eq!(marks(&folder), 0);
}
