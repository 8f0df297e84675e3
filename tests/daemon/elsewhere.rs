//! Steps that reach further through `ssh`, `kubectl` and `ansible-playbook`: programs in their place
//! write down what they were given.

use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

/// Writes its arguments into a file, each with a NUL behind it, and what it reads into another.
const STUB: &str = r#"#!/bin/sh
for it in "$0" "$@"; do printf '%s\0' "$it"; done > "FOLDER/argv.tmp"
cat > "FOLDER/stdin"
mv "FOLDER/argv.tmp" "FOLDER/argv"
"#;

struct Scene {
    folder: TempDir,
    daemon: Daemon,
}

fn scene(steps: &str) -> Scene {
    let folder = TempDir::new().unwrap();
    for name in ["ssh", "kubectl", "ansible-playbook"] {
        let file = folder.path().join(name);
        fs::write(&file, STUB.replace("FOLDER", &folder.path().display().to_string())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path().display());
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: far
    mode: auto
    guards: {{max_runs: {{count: 100, per: 1h}}, breaker: {{after: 0}}}}
    parameters: {{x: {{value: web-1, pattern: '(?s).*'}}}}
    steps:
{steps}
"
    );
    let environment = vec![("PATH".to_owned(), path)];
    let daemon = Daemon::start_with(Options { rules, environment, ..Options::default() });
    Scene { folder, daemon }
}

impl Scene {
    /// Runs the runbook with a value, and gives the run when it is over.
    fn run(&self, value: &str) -> Value {
        drop(fs::remove_file(self.folder.path().join("argv")));
        let parameter = format!("x={value}");
        let printed = self.daemon.cli(&["runbook", "run", "far", "-p", &parameter, "-o", "json"]);
        assert_eq!(printed.code, 0, "{printed:?}");
        let run: Value = serde_json::from_str(&printed.stdout).unwrap();
        let path = format!("/api/v1/executions/{}", run["id"].as_str().unwrap());
        eventually("the run is over", SOON, || {
            let run = self.daemon.get(&path);
            (run["ended_at"] != Value::Null).then_some(run)
        })
    }

    /// What the program was given, its own name without the folder.
    fn argv(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("argv")).unwrap_or_default();
        let mut argv: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        if let Some(name) = argv.first_mut() {
            *name = name.rsplit('/').next().unwrap().to_owned();
        }
        argv
    }
}

/// What may stand in a value and stays what it is.
const LITERAL: [&str; 8] = [
    "$(touch canary)",
    "`touch canary`",
    "a; touch canary",
    "a' ; touch canary ; '",
    "a\" && touch canary \"",
    "a | touch canary",
    "${IFS}x",
    "{{ 7 * 7 }}",
];

#[test]
fn ssh_gets_one_line_that_a_shell_takes_apart_as_it_was_written() {
    let steps = "      - {id: a, ssh: {host: web-1, as: deploy, port: 2222, argv: [systemctl, restart, '{{ parameters.x }}']}}";
    let scene = scene(steps);
    for value in LITERAL {
        let run = scene.run(value);
        assert_eq!(run["state"], "succeeded", "{run}");
        let argv = scene.argv();
        let fixed = ["-p2222", "-ldeploy", "--", "web-1"];
        assert_eq!(argv[0], "ssh");
        assert_eq!(argv[argv.len() - 5..argv.len() - 1], fixed, "{argv:?}");
        // What a shell makes of the line: each word as it was.
        let line = argv.last().unwrap().replacen("'systemctl'", "printf '%s\\n'", 1);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&line).current_dir(scene.folder.path());
        let printed = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        assert_eq!(printed, format!("restart\n{value}\n"), "{line}");
    }
    assert!(!scene.folder.path().join("canary").exists(), "something was executed");
    let run = scene.run("-oProxyCommand=x");
    assert_eq!(run["blocked_by"], "parameter", "{run}");
}

#[test]
fn a_host_that_is_none_is_refused() {
    let scene = scene("      - {id: a, ssh: {host: '{{ parameters.x }}', argv: [x]}}");
    assert_eq!(scene.run("web-1.example.org")["state"], "succeeded");
    for value in ["a b", "root@web-1", "a;b", "a/b", "$(x)"] {
        let run = scene.run(value);
        assert_eq!(run["state"], "failed", "{run}");
        assert!(run["steps"][0]["detail"].as_str().unwrap().contains("this is no `host`"), "{run}");
        assert!(scene.argv().is_empty(), "it was started");
    }
}

#[test]
fn kubectl_gets_each_argument_as_it_is_and_reads_what_it_is_told() {
    let steps = "      - {id: a, kubernetes: {context: eu, namespace: shop, arguments: [annotate, pod, web, 'note={{ parameters.x }}', --overwrite], stdin: 'says {{ parameters.x }}'}}";
    let scene = scene(steps);
    for value in LITERAL {
        let run = scene.run(value);
        assert_eq!(run["state"], "succeeded", "{run}");
        let note = format!("note={value}");
        let told = ["kubectl", "--context=eu", "--namespace=shop", "annotate", "pod", "web"];
        assert_eq!(scene.argv(), [&told[..], &[note.as_str(), "--overwrite"]].concat());
        let read = fs::read_to_string(scene.folder.path().join("stdin")).unwrap();
        assert_eq!(read, format!("says {value}"));
    }
}

#[test]
fn ansible_gets_values_that_are_no_templates_of_its_own() {
    let steps = "      - {id: a, ansible: {playbook: site.yaml, inventory: hosts, limit: web, variables: {x: '{{ parameters.x }}'}, check: true}}";
    let scene = scene(steps);
    for value in LITERAL.iter().filter(|it| !it.contains("{{")) {
        let run = scene.run(value);
        assert_eq!(run["state"], "succeeded", "{run}");
        let argv = scene.argv();
        let told = ["ansible-playbook", "--check", "--diff", "--inventory=hosts", "--limit=web"];
        assert_eq!(argv[..5], told);
        let variables = argv[5].strip_prefix("--extra-vars=").unwrap();
        let variables: Value = serde_json::from_str(variables).unwrap();
        assert_eq!(variables, serde_json::json!({"x": value}));
        assert_eq!(argv[6..], ["--", "site.yaml"]);
    }
    let run = scene.run("{{ lookup('pipe', 'touch canary') }}");
    assert_eq!(run["state"], "failed", "{run}");
    assert!(scene.argv().is_empty());
}

#[test]
fn a_program_runs_as_the_user_that_is_told() {
    let steps = "      - {id: a, command: {argv: [id, -un], user: nobody}}\n      - {id: b, command: {argv: [id, -un], user: no-such-user}, continue_on_error: true}";
    let scene = scene(steps);
    let run = scene.run("x");
    let (known, unknown) = (&run["steps"][0], &run["steps"][1]);
    if rustix::process::getuid().is_root() {
        assert_eq!(known["output_tail"].as_str().unwrap().trim(), "nobody", "{run}");
        assert!(
            unknown["output_tail"].as_str().unwrap().contains("no user `no-such-user`"),
            "{run}"
        );
    } else {
        assert_eq!(known["state"], "failed", "only root becomes somebody else: {run}");
    }
}
