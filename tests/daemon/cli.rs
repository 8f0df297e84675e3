//! The command line: its commands, its exit codes, and what goes to which stream.

use crate::support::{BY_SERVICE, Daemon, Options, free_port, program};
use std::fs;
use tempfile::TempDir;

#[test]
fn help_names_every_command() {
    let bare = program(&[]);
    let help = program(&["help"]);
    assert_eq!(help.code, 0, "{help:?}");
    let commands = [
        "serve",
        "demo",
        "check",
        "test",
        "alert",
        "silence",
        "incident",
        "problem",
        "runbook",
        "explain",
        "completions",
    ];
    for command in commands {
        let line = format!("  {command} ");
        for text in [&help.stdout, &format!("{}{}", bare.stdout, bare.stderr)] {
            assert!(text.contains(&line), "`{command}` is not in: {text}");
        }
        let own = program(&[command, "--help"]);
        assert_eq!(own.code, 0, "{command}: {own:?}");
        assert!(own.stdout.contains("Usage"), "{command}: {own:?}");
    }
    assert!(program(&["--version"]).stdout.starts_with("watchkeeper "));
    assert!(program(&["completions", "bash"]).stdout.contains("watchkeeper"));
}

#[test]
fn exit_codes_tell_what_happened() {
    let folder = TempDir::new().unwrap();
    let good = folder.path().join("good.yaml");
    let bad = folder.path().join("bad.yaml");
    fs::write(&good, BY_SERVICE).unwrap();
    fs::write(&bad, "correlations:\n  - name: x\n    matcher: []\n").unwrap();
    let good = good.to_str().unwrap();
    let bad = bad.to_str().unwrap();
    assert_eq!(program(&["check", good]).code, 0);
    assert_eq!(program(&["check", bad]).code, 1);
    assert_eq!(program(&["no-such-command"]).code, 2);
    assert_eq!(program(&["incident", "show"]).code, 2);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let unreached = program(&["incident", "list", "--server", &nobody]);
    assert_eq!(unreached.code, 3, "{unreached:?}");
    assert!(unreached.stdout.is_empty() && unreached.stderr.contains("127.0.0.1"), "{unreached:?}");

    let file = folder.path().join("token");
    fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let viewer = format!("{{name: v, role: viewer, token: {{file: '{}'}}}}", file.display());
    let daemon = Daemon::start_with(Options {
        settings: format!("auth: {{tokens: [{viewer}]}}\n"),
        token: Some("0123456789abcdef0123456789abcdef".to_owned()),
        ..Options::default()
    });
    assert_eq!(daemon.cli(&["incident", "list"]).code, 0);
    assert_eq!(
        daemon.cli(&["silence", "add", "a=b", "--duration", "1h", "--comment", "x"]).code,
        4
    );
    let server = format!("http://{}", daemon.address);
    assert_eq!(program(&["incident", "list", "--server", &server]).code, 4);
}

#[test]
fn check_tells_all_errors_with_their_places() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.yaml");
    let rules = "correlations:
  - name: web
    matcher: ['a=\"b\"']
sla_policies:
  - {name: gold, matchers: ['not a matcher'], targets: {P9: {acknowledge: 5m}}}
";
    fs::write(&file, rules).unwrap();
    let file = file.to_str().unwrap();
    let printed = program(&["check", file]);
    assert_eq!(printed.code, 1);
    let text = format!("{}{}", printed.stdout, printed.stderr);
    assert!(text.contains("rules.yaml:3:5"), "the place: {text}");
    assert!(text.contains("matchers"), "what to try: {text}");
    let printed = program(&["check", file, "-o", "json"]);
    let findings: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    assert!(findings.len() >= 2, "all errors at once: {findings:?}");
    for finding in findings {
        for key in ["file", "line", "column", "severity", "code", "message", "hint"] {
            assert!(finding.get(key).is_some(), "{key}: {finding}");
        }
    }
}

#[test]
fn alerts_incidents_and_silences_from_the_command_line() {
    let daemon = Daemon::start(BY_SERVICE);
    let good = |arguments: &[&str]| {
        let printed = daemon.cli(arguments);
        assert_eq!(printed.code, 0, "{arguments:?}: {printed:?}");
        printed.stdout
    };
    let json = |arguments: &[&str]| -> serde_json::Value {
        let mut all = Vec::from(arguments);
        all.extend(["-o", "json"]);
        serde_json::from_str(&good(&all)).unwrap()
    };
    good(&["alert", "send", "alertname=Down", "service=shop", "severity=critical"]);
    let alerts = json(&["alert", "list"]);
    let fingerprint = alerts["items"][0]["fingerprint"].as_str().unwrap();
    assert_eq!(json(&["alert", "show", fingerprint])["fingerprint"], fingerprint);
    let incidents = json(&["incident", "list"]);
    assert_eq!(incidents["items"][0]["id"], "INC-1", "{incidents}");
    assert!(good(&["incident", "list"]).contains("INC-1"));
    assert!(good(&["incident", "list", "-o", "yaml"]).contains("id: INC-1"));
    good(&["incident", "ack", "INC-1"]);
    assert_eq!(json(&["incident", "show", "INC-1"])["state"], "acknowledged");
    good(&["incident", "note", "INC-1", "I look at it"]);
    good(&["incident", "assign", "INC-1", "ann"]);
    good(&["incident", "resolve", "INC-1", "--reason", "it was me"]);
    assert_eq!(json(&["incident", "show", "INC-1"])["state"], "resolved");
    good(&["silence", "add", "service=bank", "--duration", "1h", "--comment", "work"]);
    let silences = json(&["silence", "list"]);
    let id = silences["items"][0]["id"].as_str().unwrap();
    good(&["silence", "expire", id]);
    assert_eq!(json(&["runbook", "list"])["items"].as_array().unwrap().len(), 0);
    assert_eq!(json(&["problem", "list"])["items"].as_array().unwrap().len(), 0);
    assert_ne!(daemon.cli(&["incident", "ack", "INC-99"]).code, 0);
}

#[test]
fn the_demo_plays_its_day_and_ends_well() {
    use crate::support::{SOON, eventually};
    let folder = TempDir::new().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = std::process::Command::new(crate::support::PROGRAM)
        .args(["demo", "--headless", "--seed", "7", "--speed", "3600"])
        .stdin(std::process::Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let text = || {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        format!("{}{}", read(&out), read(&err))
    };
    let url = eventually("the demo listens", SOON, || {
        let text = text();
        let (_, rest) = text.split_once("listening on http://")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    let address = url.parse().unwrap();
    let played = eventually("the day has incidents and a run", SOON * 4, || {
        let get = |path: &str| {
            let reply = crate::http::send(address, "GET", path, &[], b"").ok()?;
            let items = reply.json()["items"].as_array()?.len();
            (items > 0).then_some(items)
        };
        Some((get("/api/v1/incidents")?, get("/api/v1/executions")?))
    });
    assert!(played.0 > 0 && played.1 > 0);
    assert!(child.try_wait().unwrap().is_none(), "it stays up: {}", text());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = eventually("the demo ends", SOON, || child.try_wait().unwrap());
    assert!(status.success(), "{status}: {}", text());
}
