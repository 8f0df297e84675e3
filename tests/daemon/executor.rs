//! Programs in a process of their own: the daemon starts none, and whoever of the two is gone, what was
//! being done ends, and it is told as it was.

#[path = "executor/orders.rs"]
mod orders;
#[path = "executor/steps.rs"]
mod steps;

use crate::support::{Daemon, Options, PROGRAM, SOON, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Leaves its key as a line, ignores TERM, and stays as long as it is held. Tells if it is not alone.
const DEED: &str = "#!/bin/sh
[ -e \"$1.pid\" ] && kill -0 \"$(cat \"$1.pid\")\" 2>/dev/null && echo overlap >> \"$1\"
echo $$ > \"$1.pid\"
trap '' TERM
echo \"$WATCHKEEPER_IDEMPOTENCY_KEY\" >> \"$1\"
while [ -e \"$1.hold\" ]; do sleep 0.02; done
";

/// Tells its parents, up to the first.
const PARENTS: &str = "#!/bin/sh
p=$$
while [ \"$p\" -gt 1 ]; do echo \"$1 $p\"; p=$(sed -n 's/^PPid:\t//p' /proc/$p/status); done >> \"$2\"
";

/// An executor with its socket; killed at the end of the test.
pub(crate) struct Executor {
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Executor {
    /// One that does not run yet.
    fn new(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        Self { folder, arguments, environment: Vec::new(), child: None }
    }

    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut executor = Self::new(arguments);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        executor.environment = environment.iter().map(own).collect();
        executor.launch();
        executor
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn launch(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("executor").arg("--socket").arg(self.socket()).args(&self.arguments);
        command.env("EXECUTOR_CANARY", "of the executor");
        command.envs(self.environment.iter().map(|it| (&it.0, &it.1)));
        self.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        eventually("the executor listens", SOON, || {
            self.log().contains("listening on").then_some(())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    fn end(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
        self.child.take().unwrap().wait().unwrap();
    }

    /// What a daemon's settings say of it.
    pub(crate) fn settings(&self) -> String {
        format!("executor: {{socket: '{}'}}\n", self.socket().display())
    }

    fn daemon(&self, rules: String) -> Daemon {
        let settings = self.settings();
        let environment = vec![("DAEMON_SECRET".to_owned(), "hunter2-canary".to_owned())];
        Daemon::start_with(Options { rules, settings, environment, ..Options::default() })
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn run(daemon: &Daemon, name: &str, parameters: &Value) -> String {
    let path = format!("/api/v1/runbooks/{name}/run");
    let run = daemon.done(&path, &json!({"by": "ann", "parameters": parameters}));
    run["id"].as_str().unwrap().to_owned()
}

fn becomes(daemon: &Daemon, id: &str, state: &str) -> Value {
    eventually(&format!("{id} is {state}"), SOON, || {
        let run = daemon.get(&format!("/api/v1/executions/{id}"));
        assert!(run["state"] == state || run["ended_at"].is_null(), "not {state}: {run}");
        (run["state"] == state).then_some(run)
    })
}

fn abort(daemon: &Daemon, id: &str) {
    let body = json!({"by": "bob", "reason": "I have looked"});
    daemon.done(&format!("/api/v1/executions/{id}/abort"), &body);
    becomes(daemon, id, "aborted");
}

fn detail(run: &Value) -> &str {
    run["steps"][0]["detail"].as_str().unwrap()
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A runbook for each kind of step, which leave a line for each time that they are done.
fn deeds(deed: &str) -> String {
    let books = ["idempotent", "check_then_act", "once"].map(|kind| {
        let look = match kind {
            "check_then_act" => ", look: {command: {argv: [test, -s, '{{ parameters.file }}']}}",
            _ => "",
        };
        format!(
            "  - name: {kind}
    parameters: {{file: {{value: none, pattern: '[A-Za-z0-9/._-]+'}}}}
    steps: [{{id: deed, command: {{argv: ['{deed}', '{{{{ parameters.file }}}}']}}, timeout: 60s, idempotency: {kind}{look}}}]
"
        )
    });
    format!("runbooks:\n{}", books.concat())
}

#[test]
fn the_daemon_starts_no_program_and_hears_all_of_them() {
    let executor = Executor::start(&[]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("parents");
    let parents = script(folder.path(), "parents-of", PARENTS);
    let gate = folder.path().join("gate");
    let tell = |name: &str| format!("{{argv: ['{parents}', {name}, '{}']}}", file.display());
    let talk =
        "echo begun; env; cat; echo; echo key=$KEY; while [ ! -e \"$0\" ]; do sleep 0.05; done";
    let mut daemon = executor.daemon(format!(
        "
runbooks:
  - name: all
    guards: {{precondition: {{command: {precondition}}}}}
    steps:
      - id: talk
        command: {{argv: [sh, -c, '{talk}', '{gate}'], stdin: \"from stdin\\n\", environment: {{KEY: {{env: DAEMON_SECRET}}}}}}
      - {{id: act, command: {step}, undo: {{command: {undo}}}}}
      - {{id: sure, idempotency: check_then_act, look: {{command: {look}}}, command: {{argv: ['false']}}}}
    always: [{{id: last, command: {always}}}]
    verify: {{settle: 0s, within: 4s, command: {{argv: [sh, -c, '{parents} verify {file}; false']}}, on_ineffective: [undo]}}
",
        precondition = tell("precondition"),
        step = tell("step"),
        undo = tell("undo"),
        look = tell("look"),
        always = tell("always"),
        gate = gate.display(),
        file = file.display(),
    ));
    let id = run(&daemon, "all", &json!({}));
    let mut command = Command::new(PROGRAM);
    command.args(["runbook", "logs", "-f", &id]);
    command.env("WATCHKEEPER_URL", format!("http://{}", daemon.address));
    let mut follower = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The program waits for the gate, so that this is seen while it runs.
    let before: Vec<String> = seen.by_ref().take_while(|it| !it.contains("key=")).collect();
    assert!(before.iter().any(|it| it == "  | from stdin"), "{before:?}");
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
    for task in threads {
        // A thread may be over by now.
        let children = fs::read_to_string(task.path().join("children"));
        assert_eq!(children.unwrap_or_default(), "");
    }
    fs::write(&gate, "").unwrap();
    let run = eventually("the run is over", SOON, || {
        let run = daemon.get(&format!("/api/v1/executions/{id}"));
        run["ended_at"].is_string().then_some(run)
    });
    drop((seen, follower.wait()));
    let steps = run["steps"].as_array().unwrap();
    let talk = steps.iter().find(|it| it["id"] == "talk").unwrap();
    let output = talk["output_tail"].as_str().unwrap();
    assert!(output.contains("from stdin\n") && output.contains("key=***\n"), "{run}");
    assert!(output.contains("WATCHKEEPER_IDEMPOTENCY_KEY="), "{output}");
    assert!(!output.contains("CANARY") && !output.contains("WATCHKEEPER_KEEPER"), "{output}");
    let all = [before.join("\n"), run.to_string(), executor.log(), daemon.log()].concat();
    assert!(!all.contains("hunter2"), "{all}");

    let told = lines(&file);
    for name in ["precondition", "step", "look", "verify", "undo", "always"] {
        let under = format!("{name} {}", executor.pid().as_raw_nonzero());
        assert!(told.contains(&under), "`{name}` is not the executor's: {run} {told:?}");
    }
    let under_daemon = format!(" {}", daemon.pid());
    assert!(!told.iter().any(|it| it.ends_with(&under_daemon)), "{told:?}");
    assert_eq!(daemon.cli(&["doctor"]).code, 0);
    daemon.metric_becomes("watchkeeper_executor_up", &[], 1.0);
    daemon.terminate();
}

#[test]
fn what_a_dead_daemon_was_doing_ends_and_goes_on_as_its_kind_says() {
    let executor = Executor::start(&[]);
    let folder = TempDir::new().unwrap();
    let mut daemon = executor.daemon(deeds(&script(folder.path(), "deed", DEED)));
    for (kind, state, times) in
        [("idempotent", "succeeded", 2), ("check_then_act", "succeeded", 1), ("once", "unknown", 1)]
    {
        let file = folder.path().join(kind);
        let hold = folder.path().join(format!("{kind}.hold"));
        fs::write(&hold, "").unwrap();
        let id = run(&daemon, kind, &json!({"file": file}));
        eventually("it has begun", SOON, || (!lines(&file).is_empty()).then_some(()));
        daemon.kill_9();
        daemon.restart();
        // It ignores TERM, so that it is still there for a while; nothing is done twice at once.
        eventually("what was begun first is gone or done again", SOON, || {
            let pid = fs::read_to_string(folder.path().join(format!("{kind}.pid"))).unwrap();
            let is_there = Path::new("/proc").join(pid.trim()).exists();
            (!is_there || lines(&file).len() > 1).then_some(())
        });
        fs::remove_file(&hold).unwrap();
        becomes(&daemon, &id, state);
        let keys = lines(&file);
        assert_eq!(keys.len(), times, "{kind}: {keys:?}");
        assert!(keys.iter().all(|it| *it == keys[0] && it != "overlap"), "{keys:?}");
    }
}

#[test]
fn a_step_whose_executor_dies_is_lost_and_what_it_did_ends() {
    let mut executor = Executor::start(&[]);
    let folder = TempDir::new().unwrap();
    let daemon = executor.daemon(deeds(&script(folder.path(), "deed", DEED)));
    for (signal, kind, state, times) in [
        (Signal::KILL, "idempotent", "succeeded", 2),
        (Signal::KILL, "check_then_act", "succeeded", 1),
        (Signal::KILL, "once", "unknown", 1),
        (Signal::TERM, "idempotent", "succeeded", 2),
        (Signal::TERM, "once", "unknown", 1),
    ] {
        let file = folder.path().join(format!("{kind}-{signal:?}").replace([':', '"'], ""));
        let hold = PathBuf::from(format!("{}.hold", file.display()));
        fs::write(&hold, "").unwrap();
        let id = run(&daemon, kind, &json!({"file": file}));
        eventually("it has begun", SOON, || (!lines(&file).is_empty()).then_some(()));
        let first = fs::read_to_string(format!("{}.pid", file.display())).unwrap();
        executor.end(signal);
        executor.launch();
        // It ignores TERM and is gone all the same when the next executor listens.
        let status = fs::read_to_string(format!("/proc/{}/status", first.trim()));
        assert!(status.is_err() || status.unwrap().contains("State:\tZ"), "it is still there");
        fs::remove_file(&hold).unwrap();
        becomes(&daemon, &id, state);
        if state == "unknown" {
            abort(&daemon, &id);
        }
        let keys = lines(&file);
        assert_eq!(keys.len(), times, "{kind}: {keys:?}");
        assert!(keys.iter().all(|it| *it == keys[0] && it != "overlap"), "{keys:?}");
    }
}

#[test]
fn a_program_ends_at_its_deadline_and_when_it_is_stopped() {
    let executor = Executor::start(&[]);
    let folder = TempDir::new().unwrap();
    let pids = folder.path().join("pids");
    let stubborn = format!(
        "#!/bin/sh\ntrap '' TERM\necho $$ >> {}\nwhile :; do sleep 0.1; done\n",
        pids.display()
    );
    let stubborn = script(folder.path(), "stubborn", &stubborn);
    let hidden = format!("#!/bin/sh\n(setsid {stubborn} >/dev/null 2>&1 &)\nexec {stubborn}\n");
    let hidden = script(folder.path(), "hidden", &hidden);
    let daemon = executor.daemon(format!(
        "
runbooks:
  - {{name: late, steps: [{{id: a, timeout: 2s, command: {{argv: ['{hidden}']}}}}]}}
  - {{name: stopped, steps: [{{id: a, timeout: 10m, command: {{argv: ['{hidden}']}}}}]}}
"
    ));
    let both_run = || eventually("both run", SOON, || (lines(&pids).len() == 2).then_some(()));
    let both_end = || {
        eventually("both are gone", Duration::from_secs(11), || {
            let is_there = |it: &String| Path::new("/proc").join(it).exists();
            (!lines(&pids).iter().any(is_there)).then_some(())
        });
        fs::remove_file(&pids).unwrap();
    };
    let id = run(&daemon, "late", &json!({}));
    both_run();
    let late = becomes(&daemon, &id, "failed");
    assert_eq!(detail(&late), "took longer than its time of 2 s");
    both_end();
    let id = run(&daemon, "stopped", &json!({}));
    both_run();
    abort(&daemon, &id);
    both_end();
}

#[test]
fn without_an_executor_no_step_begins_and_it_is_told_why() {
    let mut executor = Executor::new(&[]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("done");
    let deed = script(folder.path(), "deed", DEED);
    let retried = format!(
        "  - {{name: patient, steps: [{{id: a, idempotency: idempotent, retry: {{attempts: 9}}, command: {{argv: ['{deed}', '{}']}}}}]}}\n",
        file.display()
    );
    let daemon = executor.daemon(deeds(&deed) + &retried);
    let id = run(&daemon, "once", &json!({"file": file}));
    let failed = becomes(&daemon, &id, "failed");
    let told = "the step did not begin: the executor cannot be reached";
    assert!(detail(&failed).starts_with(told), "{failed}");
    let doctor = daemon.cli(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("does `watchkeeper executor` run?"));
    daemon.metric_becomes("watchkeeper_executor_up", &[], 0.0);
    let id = run(&daemon, "patient", &json!({}));
    std::thread::sleep(Duration::from_secs(1));
    executor.launch();
    becomes(&daemon, &id, "succeeded");
    assert_eq!(lines(&file).len(), 1);
}
