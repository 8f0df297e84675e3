//! What a program prints is seen while it runs, without secrets, and is no fact for each line.

use crate::support::{Daemon, Options, PROGRAM, SOON, eventually, program};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const SCRIPT: &str = "echo begun; echo key=$KEY; \
    while [ ! -e \"$0\" ]; do sleep 0.05; done; \
    i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf 'the end'";

fn start(gate: &str) -> Daemon {
    let rules = format!(
        "
runbooks:
  - name: slow
    steps:
      - id: talk
        command: {{argv: [sh, -c, '{}', '{gate}'], environment: {{KEY: {{env: LIVE_CANARY}}}}}}
      - {{id: last, command: {{argv: [echo, done]}}}}
",
        SCRIPT.replace('\'', "''")
    );
    let environment = vec![("LIVE_CANARY".to_owned(), "hunter2-canary".to_owned())];
    Daemon::start_with(Options { rules, environment, ..Options::default() })
}

#[test]
fn what_a_program_prints_is_followed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let mut daemon = start(gate.to_str().unwrap());
    assert_eq!(daemon.cli(&["runbook", "run", "slow"]).code, 0);
    let mut command = Command::new(PROGRAM);
    command.args(["runbook", "logs", "-f", "EXE-1"]);
    command.env("WATCHKEEPER_URL", format!("http://{}", daemon.address));
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The program waits for the gate, so that what comes before it is seen while it runs.
    let before: Vec<String> =
        lines.by_ref().map(Result::unwrap).take_while(|it| !it.starts_with("  | key=")).collect();
    assert!(before.iter().any(|it| it == "  | begun"), "{before:?}");
    fs::write(&gate, "").unwrap();
    let after: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for line in ["  | line 0", "  | line 1999", "  | the end"] {
        let seen = after.iter().filter(|it| *it == line).count();
        assert_eq!(seen, 1, "{line} in {after:?}");
    }
    assert_eq!(after.last().map(String::as_str), Some("EXE-1  succeeded"));
    let all = [before, after].concat().join("\n");
    assert!(!all.contains("hunter2"), "{all}");

    let stored = daemon.get("/api/v1/executions/EXE-1")["steps"][0]["output_tail"].clone();
    let stored = stored.as_str().unwrap();
    assert!(stored.contains("key=***") && stored.len() <= 4096, "{stored}");
    daemon.terminate();
    let data = daemon.data();
    let printed = program(&["store", "stats", "--data", data.to_str().unwrap(), "-o", "json"]);
    let stats: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert!(stats["records"].as_u64().unwrap() < 20, "{stats}");
}

#[test]
fn who_comes_late_sees_what_was_printed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let daemon = start(gate.to_str().unwrap());
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.cli(&["runbook", "run", "slow"]).code, 0);
    eventually("the run is over", SOON, || {
        (daemon.get("/api/v1/executions/EXE-1")["state"] == "succeeded").then_some(())
    });
    let printed = daemon.cli(&["runbook", "logs", "-f", "EXE-1"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let stream = printed.stdout;
    assert!(stream.contains("| key=***\n") && stream.contains("| done"), "{stream}");
    assert!(!stream.contains("hunter2"), "{stream}");
}

#[test]
fn who_follows_goes_on_when_the_daemon_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let mut daemon = Daemon::start(&format!(
        "
runbooks:
  - name: slow
    steps:
      - id: talk
        idempotency: idempotent
        command: {{argv: [sh, -c, 'echo begun; while [ ! -e \"$0\" ]; do sleep 0.05; done; echo ended', '{}']}}
",
        gate.display()
    ));
    assert_eq!(daemon.cli(&["runbook", "run", "slow"]).code, 0);
    let mut command = Command::new(PROGRAM);
    command.args(["runbook", "logs", "-f", "EXE-1"]);
    command.env("WATCHKEEPER_URL", format!("http://{}", daemon.address));
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|it| it == "  | begun"));
    daemon.kill_9();
    daemon.restart();
    // The step is done again, and so it is seen again.
    assert!(lines.by_ref().any(|it| it == "  | begun"));
    fs::write(&gate, "").unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(
        (rest[0].as_str(), rest[rest.len() - 1].as_str()),
        ("  | ended", "EXE-1  succeeded")
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
