//! Programs that are bound to paths reach nothing else, whoever their user is.

use crate::support::{Daemon, PROGRAM, SOON, eventually, source};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const SCRIPT: &str = "cat \"$1/open\"; echo in > \"$1/kept\" && echo wrote; \
    cat \"$2/secret\" && echo LEAKED; echo out > \"$2/spoilt\" && echo SPOILT; \
    (sleep 0; echo again > \"$2/spoilt\") && echo SPOILT; true";

fn rules(paths: &[(&str, String)], folder: &Path) -> String {
    let runbooks = paths.iter().map(|(name, paths)| {
        let argv = format!("[sh, -c, '{SCRIPT}', sh, '{0}/mine', '{0}/other']", folder.display());
        format!("  - {{name: {name}, steps: [{{id: a, command: {{argv: {argv}, {paths}}}}}]}}\n")
    });
    format!("runbooks:\n{}", runbooks.collect::<String>())
}

fn run(daemon: &Daemon, name: &str) -> Value {
    let printed = daemon.cli(&["runbook", "run", name, "-o", "json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let run: Value = serde_json::from_str(&printed.stdout).unwrap();
    let path = format!("/api/v1/executions/{}", run["id"].as_str().unwrap());
    eventually("the run is over", SOON, || {
        let execution = daemon.get(&path);
        (execution["ended_at"] != Value::Null).then(|| execution["steps"][0].clone())
    })
}

#[test]
fn a_program_reads_and_writes_where_its_step_says_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mine", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("mine/open"), "opened\n").unwrap();
    fs::write(folder.path().join("other/secret"), "hidden-text\n").unwrap();
    let mine = folder.path().join("mine").display().to_string();
    let narrow = [
        ("narrow", format!("paths: {{read: ['{mine}'], write: ['{mine}']}}")),
        ("writes", format!("paths: {{write: ['{mine}']}}")),
        ("reads", "paths: {}".to_owned()),
        ("free", "stdin: x".to_owned()),
        ("absent", "paths: {write: [/there/is/no/such/folder]}".to_owned()),
        ("absent-still", "landlock: best_effort, paths: {write: [/there/is/no]}".to_owned()),
    ];
    let daemon = Daemon::start(&rules(&narrow, folder.path()));
    let check = daemon.cli(&["doctor", "-o", "json"]).stdout;
    assert!(check.contains("this kernel can bind programs"), "{check}");
    let spoilt = folder.path().join("other/spoilt");
    for (name, wrote, leaked) in
        [("narrow", true, false), ("writes", true, true), ("reads", false, true)]
    {
        let step = run(&daemon, name);
        let output = step["output_tail"].as_str().unwrap();
        assert_eq!(step["state"], "succeeded", "{name}: {step}");
        assert!(output.contains("opened"), "{name}: {output}");
        assert_eq!(output.contains("wrote"), wrote, "{name}: {output}");
        assert_eq!(output.contains("LEAKED"), leaked, "{name}: {output}");
        assert!(!output.contains("SPOILT") && !spoilt.exists(), "{name}: {output}");
    }
    let output = run(&daemon, "free")["output_tail"].to_string();
    assert!(output.contains("LEAKED") && output.contains("SPOILT"), "unbound it can: {output}");
    for name in ["absent", "absent-still"] {
        let step = run(&daemon, name);
        assert_eq!(step["state"], "failed", "{name}: {step}");
        let output = step["output_tail"].as_str().unwrap();
        assert!(output.contains("cannot reach `/there/is/no"), "{name}: {output}");
        assert!(!output.contains("opened"), "{name}: {output}");
    }
}

/// Starts a program that may write nothing, as the daemon does, on a kernel with Landlock or as on
/// one without. Returns its exit code and what was printed.
fn launch(has_landlock: bool, more: &[&str], file: &Path) -> (i32, String) {
    let script = source().join("tests/clients/without_landlock.py");
    let mut command = Command::new(if has_landlock { PROGRAM } else { "python3" });
    if !has_landlock {
        command.arg(script).arg(PROGRAM);
    }
    command.args(["launch", "--processes=64", "--files=64", "--confined"]).args(more);
    command.args(["--", "sh", "-c", "echo ran; echo x > \"$0\""]).arg(file);
    // Its standard input is its lifeline.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lifeline = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(lifeline);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn without_landlock_a_program_starts_only_if_its_step_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let best_effort = &["--best-effort"][..];
    for (has_landlock, more, code, part, is_written) in [
        (true, &[][..], 2, "ran\n", false),
        (true, best_effort, 2, "ran\n", false),
        (false, &[], 126, "this kernel cannot confine a program to `paths`", false),
        (
            false,
            best_effort,
            0,
            "this kernel has no Landlock: the program runs without `paths`",
            true,
        ),
    ] {
        let (found, printed) = launch(has_landlock, more, &file);
        assert!(
            found == code && printed.contains(part),
            "{has_landlock} {more:?}: {found} {printed}"
        );
        assert_eq!(printed.contains("ran\n"), code != 126, "{printed}");
        assert_eq!(file.exists(), is_written, "{has_landlock} {more:?}: {printed}");
    }
}
