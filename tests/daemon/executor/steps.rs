//! Steps of every kind through an executor, also where it hangs, or where a program never stops to talk.

use super::{DEED, abort};
use super::{Executor, becomes, deeds, detail, lines, run, script};
use crate::support::{Daemon, SOON, eventually};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Tells who started it, what it was given, and what it reads.
const STUB: &str = r#"#!/bin/sh
name=${0##*/}
{
    p=$$
    while [ "$p" -gt 1 ]; do echo "$name under $p"; p=$(sed -n 's/^PPid:\t//p' /proc/$p/status); done
    for it in "$@"; do echo "$name got $it"; done
    sed "s/^/$name read /"
    echo
    echo "$name is $(id -u)"
} >> "FILE"
"#;

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn what_reaches_further_goes_through_it_too() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("told");
    let text = STUB.replace("FILE", &file.display().to_string());
    fs::write(&file, "").unwrap();
    // Another user may write there, too.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["ssh", "kubectl", "ansible-playbook", "other"] {
        script(folder.path(), name, &text);
    }
    let other = folder.path().join("other").display().to_string();
    let is_root = rustix::process::getuid().is_root();
    let user = if is_root { ", user: nobody" } else { "" };
    // Programs are looked for where the executor looks, not where the daemon does.
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let executor = Executor::start_with(&[], &[("PATH", &path)]);
    let daemon = executor.daemon(format!(
        "
runbooks:
  - name: far
    parameters: {{x: {{value: none, pattern: '(?s).*'}}}}
    steps:
      - {{id: a, ssh: {{host: web-1, argv: [restart, '{{{{ parameters.x }}}}']}}}}
      - {{id: b, kubernetes: {{namespace: shop, arguments: [delete, pod, web, 'x={{{{ parameters.x }}}}'], stdin: 'says {{{{ parameters.x }}}}'}}}}
      - {{id: c, ansible: {{playbook: site.yaml, inventory: hosts, variables: {{x: '{{{{ parameters.x }}}}'}}}}}}
      - {{id: d, command: {{argv: ['{other}', '{{{{ parameters.x }}}}']{user}}}}}
"
    ));
    let hostile = "$(touch canary); `id` 'x'";
    let id = run(&daemon, "far", &json!({"x": hostile}));
    becomes(&daemon, &id, "succeeded");
    let told = lines(&file);
    for name in ["ssh", "kubectl", "ansible-playbook", "other"] {
        let under = |pid: i64| format!("{name} under {pid}");
        assert!(told.contains(&under(executor.pid().as_raw_nonzero().get().into())), "{told:?}");
        assert!(!told.contains(&under(daemon.pid().into())), "{told:?}");
    }
    for line in [
        "ssh got web-1",
        &format!("kubectl got x={hostile}"),
        &format!("kubectl read says {hostile}"),
        "ansible-playbook got site.yaml",
        &format!("other got {hostile}"),
    ] {
        assert!(told.iter().any(|it| it == line), "`{line}` is not in {told:?}");
    }
    if is_root {
        assert!(told.iter().any(|it| it == "other is 65534"), "{told:?}");
        assert!(told.iter().any(|it| it == "ssh is 0"), "{told:?}");
    }
}

#[test]
fn an_executor_that_hangs_holds_up_nothing_else() {
    let executor = Executor::start(&[]);
    let folder = TempDir::new().unwrap();
    let deed = script(folder.path(), "deed", DEED);
    let brief = format!(
        "  - {{name: brief, steps: [{{id: deed, command: {{argv: ['{deed}', '{{{{ parameters.file }}}}']}}, timeout: 1s, idempotency: once}}], parameters: {{file: {{value: none, pattern: '.*'}}}}}}\n"
    );
    let daemon = executor.daemon(deeds(&deed) + &brief);
    let file = folder.path().join("middle");
    let hold = folder.path().join("middle.hold");
    fs::write(&hold, "").unwrap();
    let middle = run(&daemon, "brief", &json!({"file": file}));
    eventually("it has begun", SOON, || (!lines(&file).is_empty()).then_some(()));
    kill_process(executor.pid(), Signal::STOP).unwrap();

    // What comes now has not begun, whatever kind it is, and is told so in a moment.
    let late = folder.path().join("late");
    let asked = Instant::now();
    let before = run(&daemon, "once", &json!({"file": late}));
    let failed = becomes(&daemon, &before, "failed");
    assert!(detail(&failed).starts_with("the step did not begin"), "{failed}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    daemon.metric_becomes("watchkeeper_executor_up", &[], 0.0);
    let alert = json!([{"labels": {"alertname": "Meanwhile", "service": "shop"}}]);
    daemon.post("/api/v2/alerts", &alert);
    assert!(daemon.get("/api/v1/alerts").to_string().contains("Meanwhile"));

    // Of what had begun nobody knows, so that a person is asked.
    let lost = eventually("the run is over", 2 * SOON, || {
        let run = daemon.get(&format!("/api/v1/executions/{middle}"));
        (run["state"] != "running").then_some(run)
    });
    assert_eq!(lost["state"], "unknown", "{lost}");
    abort(&daemon, &middle);

    // It goes on: what ran beyond its time is ended before anything else begins.
    let pid = fs::read_to_string(folder.path().join("middle.pid")).unwrap();
    kill_process(executor.pid(), Signal::CONT).unwrap();
    eventually("it is heard again", SOON, || {
        let id = run(&daemon, "idempotent", &json!({"file": late}));
        let run = over(&daemon, &id);
        (run["state"] == "succeeded").then_some(())
    });
    eventually("the program is gone", SOON, || {
        (!Path::new("/proc").join(pid.trim()).exists()).then_some(())
    });
    assert_eq!((lines(&file).len(), lines(&late).len()), (1, 1));
}

fn over(daemon: &Daemon, id: &str) -> Value {
    eventually(&format!("{id} is over"), SOON, || {
        let run = daemon.get(&format!("/api/v1/executions/{id}"));
        run["ended_at"].is_string().then_some(run)
    })
}

#[test]
fn a_flood_through_the_socket_fills_nobodys_memory() {
    let executor = Executor::start(&[]);
    let daemon = executor.daemon(
        "
runbooks:
  - name: flood
    guards: {breaker: {after: 0}, max_runs: {count: 9, per: 1h}}
    lock: '{{ parameters.n }}'
    parameters: {n: {value: none, pattern: '[0-9]'}}
    steps: [{id: a, timeout: 3s, command: {argv: [head, -c, '10737418240', /dev/zero]}}]
"
        .to_owned(),
    );
    let executor_pid = u32::try_from(executor.pid().as_raw_nonzero().get()).unwrap();
    let memory = || [daemon.pid(), executor_pid].map(resident_bytes);
    let before = memory();
    let ids = ["1", "2", "3"].map(|n| run(&daemon, "flood", &json!({"n": n})));
    let runs = ids.map(|id| over(&daemon, &id));
    let after = memory();
    for run in runs {
        assert!(detail(&run).contains("in the middle of its output were cut"), "{run}");
    }
    for (before, after) in before.into_iter().zip(after) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 16, "{grown} MiB more");
    }
}
