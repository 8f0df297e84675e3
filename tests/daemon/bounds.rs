//! Programs of steps stay within their bounds and end in time, whatever they try.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually};
use rustix::process::Pid;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// The time that a program has in these tests, in seconds.
const TIMEOUT_SECONDS: u64 = 3;
/// Within this after its time a program must be gone, with all that it started.
const GRACE: Duration = Duration::from_secs(11);

/// Runbooks of one command each, by name. All that they start can be known by a variable.
struct Scene {
    daemon: Daemon,
    mark: String,
}

fn scene(commands: &[(&str, &str)]) -> Scene {
    let now = jiff::Timestamp::now().as_nanosecond();
    let mark = format!("{}-{now}", std::process::id());
    let books = commands.iter().map(|(name, command)| {
        format!(
            "  - name: {name}
    mode: auto
    steps:
      - {{id: a, timeout: {TIMEOUT_SECONDS}s, command: {{environment: {{TEST_MARK: '{mark}'}}, {command}}}}}
"
        )
    });
    let rules = format!("{BY_SERVICE}\nrunbooks:\n{}", books.collect::<String>());
    Scene { daemon: Daemon::start(&rules), mark }
}

impl Scene {
    fn run(&self, name: &str) -> String {
        let run = self.daemon.cli(&["runbook", "run", name, "-o", "json"]);
        assert_eq!(run.code, 0, "{run:?}");
        let run: Value = serde_json::from_str(&run.stdout).unwrap();
        run["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a run is over, and gives its only step.
    fn step_of(&self, id: &str) -> Value {
        eventually(&format!("{id} is over"), SOON, || {
            let execution = self.daemon.get(&format!("/api/v1/executions/{id}"));
            (execution["ended_at"] != Value::Null).then(|| execution["steps"][0].clone())
        })
    }

    /// What was started by steps and still runs.
    fn family(&self) -> Vec<Pid> {
        let wanted = format!("TEST_MARK={}", self.mark);
        let is_ours = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|it| *it == 0).any(|it| it == wanted.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
        numbers.filter(is_ours).filter_map(Pid::from_raw).collect()
    }

    fn ends_within(&self, time: Duration) {
        eventually("all that steps started is gone", time, || {
            self.family().is_empty().then_some(())
        });
    }
}

fn shell(script: &str) -> String {
    format!("argv: [sh, -c, {}]", Value::from(script))
}

#[test]
fn what_does_not_end_is_ended_in_time() {
    let stubborn = "trap '' TERM; i=0; while [ $i -lt 400 ]; do sleep 0.1; i=$((i+1)); done";
    let hidden = "(setsid sh -c 'trap \"\" TERM; (setsid sleep 40 &) ; sleep 41' >/dev/null 2>&1 </dev/null &); sleep 42";
    let failing = "(setsid sleep 43 >/dev/null 2>&1 </dev/null &); exit 4";
    let scene = scene(&[
        ("stubborn", &shell(stubborn)),
        ("hidden", &shell(hidden)),
        ("failing", &shell(failing)),
    ]);
    let runs = ["stubborn", "hidden", "failing"].map(|it| scene.run(it));
    let begun = Instant::now();
    eventually("they run", SOON, || (scene.family().len() >= 5).then_some(()));
    let [stubborn, hidden, failing] = runs.map(|it| scene.step_of(&it));
    for step in [stubborn, hidden] {
        assert_eq!(step["detail"], format!("took longer than its time of {TIMEOUT_SECONDS} s"));
    }
    assert_eq!(failing["exit_code"], 4, "{failing}");
    let left = Duration::from_secs(TIMEOUT_SECONDS) + GRACE;
    scene.ends_within(left.saturating_sub(begun.elapsed()));
}

#[test]
fn a_fork_bomb_and_a_flood_of_output_are_bounded() {
    // Each is bounded by itself, so that a fault here does not take the machine with it.
    let bomb = "b() { [ $1 -gt 10 ] && exec sleep 20; b $(($1+1)) & b $(($1+1)) & wait; }; b 0";
    // Root has no limit of its own, so that the bomb becomes somebody else if it can.
    let user = "setpriv, --reuid=65534, --clear-groups, ";
    let user = if rustix::process::getuid().is_root() { user } else { "" };
    let bomb = format!("argv: [{user}sh, -c, {}], limits: {{processes: 60}}", Value::from(bomb));
    let many = "i=0; while [ $i -lt 2000 ]; do sleep 20 & i=$((i+1)); done; wait";
    let many = format!("argv: [sh, -c, {}], limits: {{processes: 60}}", Value::from(many));
    let flood = "argv: [head, -c, '10737418240', /dev/zero]";
    let scene = scene(&[("bomb", &bomb), ("many", &many), ("flood", flood)]);
    let memory = || scene.daemon.metric("process_resident_memory_bytes", &[]);
    let before = memory();
    let runs = ["bomb", "many", "flood"].map(|it| scene.run(it));
    let begun = Instant::now();
    let [bomb, many, flood] = runs.map(|it| scene.step_of(&it));
    assert_eq!(bomb["state"], "failed", "{bomb}");
    assert!(many["output_tail"].as_str().unwrap().contains("more than 60 processes"), "{many}");
    assert!(flood["detail"].as_str().unwrap().contains("in the middle of its output were cut"));
    let grown = (memory() - before) / f64::from(1 << 20);
    assert!(grown < 16.0, "{grown} MiB more");
    let left = Duration::from_secs(TIMEOUT_SECONDS) + GRACE;
    scene.ends_within(left.saturating_sub(begun.elapsed()));
}

#[test]
fn what_a_dead_daemon_was_doing_ends_with_it() {
    let stubborn = "trap '' TERM; sleep 46";
    let hidden = "(setsid sleep 44 >/dev/null 2>&1 </dev/null &); sleep 45";
    let mut scene = scene(&[("hidden", &shell(hidden)), ("stubborn", &shell(stubborn))]);
    scene.run("hidden");
    eventually("it runs", SOON, || (scene.family().len() >= 3).then_some(()));
    scene.daemon.kill_9();
    scene.ends_within(Duration::from_secs(10));

    // What takes its time to end is not there any more when the next daemon begins to work.
    scene.daemon.restart();
    scene.run("stubborn");
    eventually("it runs", SOON, || (scene.family().len() >= 3).then_some(()));
    scene.daemon.kill_9();
    scene.daemon.restart();
    assert_eq!(scene.family(), []);
}

#[test]
fn a_program_gets_what_it_may_have_and_no_more() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "correct horse battery").unwrap();
    let look = "ulimit -c; ulimit -n; grep NoNewPrivs /proc/self/status; ls -m /proc/$$/fd; pwd; env | grep -c WATCHKEEPER_KEEPER";
    let look = format!(
        "argv: [sh, -c, {}], directory: '{}', limits: {{files: 77}}",
        Value::from(look),
        folder.path().display()
    );
    let tell = shell("echo \"$PASSWORD\"; printf %s \"$PASSWORD\" | base64");
    let scene = Scene {
        mark: String::new(),
        daemon: Daemon::start(&format!(
            "{BY_SERVICE}
runbooks:
  - name: look
    mode: auto
    steps: [{{id: a, command: {{{look}}}}}]
  - name: tell
    mode: auto
    steps: [{{id: a, command: {{{tell}, environment: {{PASSWORD: {{file: '{}'}}}}}}}}]
  - name: gone
    mode: auto
    steps: [{{id: a, command: {{argv: [no-such-program]}}}}]
  - name: killed
    mode: auto
    steps: [{{id: a, command: {{argv: [sh, -c, 'kill -9 $$']}}}}]
",
            secret.display()
        )),
    };
    let looked = scene.step_of(&scene.run("look"));
    let folder = folder.path().canonicalize().unwrap();
    let expected = format!("0\n77\nNoNewPrivs:\t1\n0, 1, 2\n{}\n0\n", folder.display());
    assert_eq!(looked["output_tail"], expected, "{looked}");
    let told = scene.step_of(&scene.run("tell"));
    assert_eq!(told["output_tail"], "***\n***\n", "{told}");
    let gone = scene.step_of(&scene.run("gone"));
    assert!(gone["detail"].as_str().unwrap().contains("program not found"), "{gone}");
    let killed = scene.step_of(&scene.run("killed"));
    assert_eq!(killed["detail"], "ended by signal SIGKILL");
}
