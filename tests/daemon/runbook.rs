//! Runbooks: how far they go by themselves, what holds them back, and that they run what they say.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually, firing, over};
use serde_json::{Value, json};
use std::fs;

/// A runbook named `fix` that leaves a mark in a file each time it runs.
fn fix(folder: &tempfile::TempDir, more: &str) -> String {
    let file = folder.path().join("marks");
    format!(
        "{BY_SERVICE}
runbooks:
  - name: fix
    triggers: [{{event: incident_opened, matchers: []}}]
    steps:
      - {{id: mark, command: {{argv: [dd, if=/dev/zero, 'of={}', oflag=append, conv=notrunc, bs=1, count=1]}}, timeout: 10s, idempotency: idempotent}}
{more}",
        file.display()
    )
}

fn marks(folder: &tempfile::TempDir) -> u64 {
    fs::metadata(folder.path().join("marks")).map_or(0, |it| it.len())
}

fn folder() -> tempfile::TempDir {
    tempfile::TempDir::new().unwrap()
}

fn open_incident(daemon: &Daemon, service: &str) {
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", service)])]);
}

/// The execution for the incident of a service.
fn execution_of(daemon: &Daemon, service: &str, state: &str) -> Value {
    let incident = eventually("the incident is there", SOON, || {
        let incidents = daemon.items("/api/v1/incidents");
        incidents.into_iter().find(|it| it["services"] == json!([service]))
    });
    eventually(&format!("the execution for {service} is {state}"), SOON, || {
        let executions = daemon.items("/api/v1/executions");
        executions.into_iter().find(|it| it["incident"] == incident["id"] && it["state"] == state)
    })
}

fn decide(daemon: &Daemon, execution: &Value, verb: &str) -> Value {
    let id = execution["id"].as_str().unwrap();
    let body = match verb {
        "approve" => json!({"by": "ann"}),
        _ => json!({"by": "ann", "reason": "as I say"}),
    };
    daemon.done(&format!("/api/v1/executions/{id}/{verb}"), &body)
}

#[test]
fn without_a_mode_a_runbook_is_only_proposed() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, ""));
    open_incident(&daemon, "shop");
    let execution = execution_of(&daemon, "shop", "proposed");
    assert_eq!(marks(&folder), 0);
    decide(&daemon, &execution, "approve");
    execution_of(&daemon, "shop", "succeeded");
    assert_eq!(marks(&folder), 1);
}

#[test]
fn approve_waits_for_a_yes_and_tells() {
    let folder = folder();
    let receiver = Receiver::start();
    let more = format!(
        "    mode: approve
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [approval_needed], receiver: hook}}]
",
        receiver.url("/hook")
    );
    let daemon = Daemon::start(&fix(&folder, &more));
    open_incident(&daemon, "shop");
    let execution = execution_of(&daemon, "shop", "waiting_approval");
    eventually("a person is asked", SOON, || receiver.told("approval_needed").pop());
    assert_eq!(marks(&folder), 0);
    decide(&daemon, &execution, "approve");
    execution_of(&daemon, "shop", "succeeded");
    assert_eq!(marks(&folder), 1);

    open_incident(&daemon, "bank");
    let execution = execution_of(&daemon, "bank", "waiting_approval");
    decide(&daemon, &execution, "deny");
    execution_of(&daemon, "bank", "denied");
    let id = execution["id"].as_str().unwrap();
    let again = daemon.post(&format!("/api/v1/executions/{id}/approve"), &json!({"by": "ann"}));
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(marks(&folder), 1);
}

#[test]
fn shadow_and_observe_do_nothing() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: shadow\n"));
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "would_run");
    let receiver = Receiver::start();
    let more = format!(
        "    mode: auto
receivers: [{{name: hook, webhook: {{url: '{}'}}}}]
routes: [{{matchers: [], on: [opened], receiver: hook}}]
",
        receiver.url("/hook")
    );
    let settings = "mode: observe\n".to_owned();
    let options = Options { rules: fix(&folder, &more), settings, ..Options::default() };
    let daemon = Daemon::start_with(options);
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "would_run");
    assert_eq!(marks(&folder), 0);
    assert!(receiver.received().is_empty(), "nobody is told");
}

#[test]
fn the_cooldown_holds_back_and_says_so() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto\n    guards: {cooldown: 10m}\n"));
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "succeeded");
    open_incident(&daemon, "bank");
    let blocked = execution_of(&daemon, "bank", "blocked");
    let reason = blocked["blocked_by"].to_string();
    assert!(reason.contains("cooldown"), "{blocked}");
    assert_eq!(marks(&folder), 1);
    daemon.metric_becomes("watchkeeper_runbook_blocked_total", &[("guard", "cooldown")], 1.0);
}

#[test]
fn three_runs_an_hour_are_enough() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto\n    lock: '{{ incident.id }}'\n"));
    for service in ["a", "b", "c"] {
        open_incident(&daemon, service);
        execution_of(&daemon, service, "succeeded");
    }
    open_incident(&daemon, "d");
    let blocked = execution_of(&daemon, "d", "blocked");
    assert!(blocked["blocked_by"].to_string().contains("max_runs"), "{blocked}");
    assert_eq!(marks(&folder), 3);
    daemon.metric_becomes("watchkeeper_runbook_blocked_total", &[("guard", "max_runs")], 1.0);
}

#[test]
fn stop_all_stops_all_until_resumed() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto\n"));
    let stopped = daemon.cli(&["runbook", "stop-all", "--reason", "something is wrong"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    open_incident(&daemon, "shop");
    let blocked = execution_of(&daemon, "shop", "blocked");
    assert!(blocked["blocked_by"].to_string().contains("stopped"), "{blocked}");
    assert_eq!(marks(&folder), 0);
    let resumed = daemon.cli(&["runbook", "resume-all"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    open_incident(&daemon, "bank");
    execution_of(&daemon, "bank", "succeeded");
    assert_eq!(marks(&folder), 1);
}

#[test]
fn hostile_labels_stay_arguments() {
    let folder = folder();
    let canary = folder.path().join("canary");
    let copy = folder.path().join("copy");
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: literal
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    parameters: {{text: {{value: '{{{{ labels.text }}}}', pattern: '.*'}}}}
    steps:
      - {{id: echo, command: {{argv: [printf, '%s', '{{{{ parameters.text }}}}']}}, idempotency: idempotent}}
  - name: strict
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    parameters: {{text: {{value: '{{{{ labels.text }}}}', pattern: '^[a-z]+$'}}}}
    steps:
      - {{id: copy, command: {{argv: [touch, '{}', '{{{{ parameters.text }}}}']}}, idempotency: idempotent}}
",
        copy.display()
    );
    let daemon = Daemon::start(&rules);
    let text = format!("$(touch {0}); touch {0} `touch {0}` {{{{ 7*7 }}}}", canary.display());
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop"), ("text", &text)])]);
    let executions = eventually("both runbooks were decided", SOON, || {
        let executions = daemon.items("/api/v1/executions");
        let ended = |state: &str| executions.iter().any(|it| it["state"] == state);
        (ended("succeeded") && ended("blocked")).then_some(executions)
    });
    let literal = executions.iter().find(|it| it["runbook"] == "literal").unwrap();
    let id = literal["id"].as_str().unwrap();
    let literal = daemon.get(&format!("/api/v1/executions/{id}"));
    assert_eq!(literal["steps"][0]["output_tail"], text, "{literal}");
    let strict = executions.iter().find(|it| it["runbook"] == "strict").unwrap();
    assert!(strict["blocked_by"].to_string().contains("parameter"), "{strict}");
    assert!(!canary.exists() && !copy.exists());
}

#[test]
fn http_steps_reach_only_what_is_allowed() {
    let receiver = Receiver::start();
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: call
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps: [{{id: a, http: {{method: POST, url: '{}', body: '{{\"a\": 1}}'}}, idempotency: once}}]
",
        receiver.url("/called")
    );
    let daemon = Daemon::start(&rules);
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "failed");
    assert!(receiver.received().is_empty());

    let settings = format!("http_allow: ['{}']\n", receiver.address);
    let daemon = Daemon::start_with(Options { rules, settings, ..Options::default() });
    open_incident(&daemon, "shop");
    let execution = execution_of(&daemon, "shop", "succeeded");
    let called = receiver.received_at("/called");
    assert_eq!(called.len(), 1);
    assert_eq!(called[0].body, json!({"a": 1}));
    assert!(called[0].key().starts_with(execution["id"].as_str().unwrap()), "{called:?}");
}

#[test]
fn a_fix_that_does_not_help_is_ineffective() {
    let folder = folder();
    let more = "    mode: auto\n    verify: {settle: 0s, within: 2s, alerts_resolved: true}\n";
    let daemon = Daemon::start(&fix(&folder, more));
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "ineffective");
    assert_eq!(daemon.items("/api/v1/incidents")[0]["state"], "open");
    let outcome = [("runbook", "fix"), ("outcome", "ineffective")];
    daemon.metric_becomes("watchkeeper_executions_total", &outcome, 1.0);
    daemon.deliver(&[over(&[("alertname", "Down"), ("service", "shop")])]);
    daemon.incident_becomes("resolved", SOON);
}

#[test]
fn a_step_that_hangs_or_fails_is_ended() {
    for (argv, detail) in [("[sleep, '60']", "longer"), ("['false']", "exit"), ("[no-such-x]", "")]
    {
        let daemon = Daemon::start(&format!(
            "{BY_SERVICE}
runbooks:
  - name: bad
    mode: auto
    triggers: [{{event: incident_opened, matchers: []}}]
    steps: [{{id: a, command: {{argv: {argv}}}, timeout: 1s, idempotency: idempotent}}]
"
        ));
        open_incident(&daemon, "shop");
        let execution = execution_of(&daemon, "shop", "failed");
        let id = execution["id"].as_str().unwrap();
        let execution = daemon.get(&format!("/api/v1/executions/{id}")).to_string();
        assert!(execution.contains(detail), "{execution}");
    }
}

#[test]
fn a_dry_run_shows_and_does_nothing() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto\n"));
    let printed = daemon.cli(&["runbook", "dry-run", "fix", "-o", "json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.stdout.contains("would_run") && printed.stdout.contains("dd"), "{printed:?}");
    assert_eq!(marks(&folder), 0);
    let printed = daemon.cli(&["runbook", "run", "fix"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    eventually("it ran", SOON, || (marks(&folder) == 1).then_some(()));
    assert_ne!(daemon.cli(&["runbook", "run", "no-such-runbook"]).code, 0);
}

#[test]
fn a_dry_run_tells_of_every_guard_command_and_destination() {
    let folder = folder();
    let more = "      - {id: each, for_each: {in: 'a b', as: host, pattern: '[a-z]'}, command: {argv: [echo, '{{ parameters.host }}']}, undo: {command: {argv: [back, '{{ parameters.host }}']}}}
      - {id: call, http: {url: 'http://127.0.0.1:1/x'}}
      - {id: rest, wait: 5s, if: \"labels.env == 'prod'\"}
    mode: auto
";
    let daemon = Daemon::start(&fix(&folder, more));
    let printed = daemon.cli(&["runbook", "dry-run", "fix", "-o", "json"]);
    let run: Value = serde_json::from_str(&printed.stdout).unwrap();
    let steps = run["steps"].as_array().unwrap();
    let argvs: Vec<&Value> =
        steps.iter().map(|it| &it["argv"]).filter(|it| it.is_array()).collect();
    for wanted in [["echo", "a"], ["echo", "b"], ["back", "a"], ["back", "b"]] {
        assert!(argvs.contains(&&json!(wanted)), "{wanted:?}: {run}");
    }
    assert!(steps.iter().any(|it| it["destination"] == "127.0.0.1:1"), "{run}");
    assert!(steps.iter().any(|it| it["detail"] == "if labels.env == 'prod'"), "{run}");
    assert!(steps.iter().all(|it| it["state"] == "skipped"), "{run}");
    let guards: Vec<&Value> =
        run["checks"].as_array().unwrap().iter().map(|it| &it["guard"]).collect();
    assert!(guards.len() >= 9 && guards.contains(&&json!("freeze")), "{run}");
    assert_eq!(daemon.cli(&["runbook", "stop", "fix", "--reason", "no"]).code, 0);
    let printed = daemon.cli(&["runbook", "dry-run", "fix"]);
    assert!(printed.stdout.contains("stopped  would hold it back: "), "{}", printed.stdout);
    assert!(printed.stdout.contains("lock  lets it go"), "{}", printed.stdout);
    assert_eq!(marks(&folder), 0);
}

#[test]
fn a_run_can_be_followed_and_its_record_tells_how_far_it_should_go() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto"));
    open_incident(&daemon, "shop");
    execution_of(&daemon, "shop", "succeeded");
    let path = "/api/v1/executions/EXE-1/stream";
    let told = crate::http::send(daemon.address, "GET", path, &[], b"").unwrap();
    assert!(told.body.contains("event: execution") && told.body.contains("succeeded"), "{told:?}");
    let printed = daemon.cli(&["runbook", "promote", "fix", "-o", "json"]);
    let record: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(record["outcomes"], json!({"succeeded": 1}), "{record}");
    assert_eq!((&record["mode"], &record["success_percent"]), (&json!("auto"), &json!(100)));
    let printed = daemon.cli(&["runbook", "promote", "fix"]);
    assert!(printed.stdout.contains("mode: auto"), "{}", printed.stdout);
}

#[test]
fn each_run_is_a_change_and_both_know_each_other() {
    let folder = folder();
    let daemon = Daemon::start(&fix(&folder, "    mode: auto"));
    open_incident(&daemon, "shop");
    let run = execution_of(&daemon, "shop", "succeeded");
    let listed = daemon.cli(&["change", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let change = &listed["items"][0];
    assert_eq!((&change["id"], &change["execution"]), (&run["change"], &run["id"]), "{listed}");
    assert_eq!((&change["kind"], &change["state"]), (&json!("standard"), &json!("done")));
    assert_eq!((&change["service"], &change["title"]), (&json!("shop"), &json!("runbook fix")));
    let incident = &daemon.items("/api/v1/incidents")[0];
    assert_eq!(incident["suspect_changes"], json!([]), "what was done about it did not begin it");
}
