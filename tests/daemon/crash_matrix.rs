//! `kill -9` at every place around a step, of every kind, as it is, when people are asked for it, when
//! another runbook calls it, and with an executor: how often it is done, and what is told.

use crate::executor::Executor;
use crate::http;
use crate::support::{Daemon, Options, SOON, eventually};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How often each case is gone through; `WATCHKEEPER_CRASHES` says otherwise.
const ROUNDS: usize = 3;

const KINDS: [&str; 3] = ["idempotent", "check_then_act", "once"];

/// Leaves its key as a line, and stays as long as it is held.
const DEED: &str = "#!/bin/sh
echo \"$WATCHKEEPER_IDEMPOTENCY_KEY\" >> \"$1\"
while [ -e \"$1.hold\" ]; do sleep 0.02; done
";

/// Where the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BeforeIntent,
    AfterIntent,
    AfterClaim,
    AfterSpawn,
    AfterExit,
    AfterResult,
    DuringVerify,
    /// A question is open.
    BeforeAnswer,
    /// The answer was taken.
    AfterAnswer,
}

impl Place {
    /// Those around a step.
    const AROUND: [Self; 7] = [
        Self::BeforeIntent,
        Self::AfterIntent,
        Self::AfterClaim,
        Self::AfterSpawn,
        Self::AfterExit,
        Self::AfterResult,
        Self::DuringVerify,
    ];

    /// The name of the place where the daemon ends itself; at the others the test ends it.
    fn ordered(self) -> Option<&'static str> {
        match self {
            Self::BeforeIntent => Some("before_intent"),
            Self::AfterIntent => Some("after_intent"),
            Self::AfterClaim => Some("after_claim"),
            Self::AfterExit => Some("after_exit"),
            Self::AfterResult => Some("after_result"),
            Self::AfterSpawn | Self::DuringVerify | Self::BeforeAnswer | Self::AfterAnswer => None,
        }
    }
}

/// How a step comes to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Asked,
    Called,
    /// By an executor.
    Executed,
}

impl Way {
    /// How the names of its runbooks begin.
    fn word(self) -> &'static str {
        match self {
            Self::Plain | Self::Executed => "plain",
            Self::Asked => "asked",
            Self::Called => "called",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    way: Way,
    kind: &'static str,
    place: Place,
}

impl Case {
    /// How it must end, and how often the deed was done by then.
    fn expected(self) -> &'static [(&'static str, usize)] {
        match (self.place, self.kind) {
            // It was not there: it is done again, is seen to be done, or nobody knows.
            (Place::AfterSpawn | Place::AfterExit, "idempotent") => &[("succeeded", 2)],
            (Place::AfterSpawn | Place::AfterExit, "once") => &[("unknown", 1)],
            (Place::AfterClaim, "once") => &[("unknown", 0)],
            // The answer is known; how far the step is by then is left to chance.
            (Place::AfterAnswer, "idempotent") => &[("succeeded", 1), ("succeeded", 2)],
            (Place::AfterAnswer, "once") => &[("succeeded", 1), ("unknown", 0), ("unknown", 1)],
            _ => &[("succeeded", 1)],
        }
    }
}

/// All cases of a way, each as often as was asked for.
fn cases(way: Way) -> Vec<Case> {
    let rounds = std::env::var("WATCHKEEPER_CRASHES").ok();
    let rounds = rounds.map_or(ROUNDS, |it| it.parse().unwrap());
    let answers: &[Place] =
        if way == Way::Asked { &[Place::BeforeAnswer, Place::AfterAnswer] } else { &[] };
    let mut cases = Vec::new();
    for place in Place::AROUND.iter().chain(answers).copied() {
        // What may be done twice is not claimed.
        let kinds = KINDS.iter().filter(|it| place != Place::AfterClaim || **it != "idempotent");
        cases.extend(kinds.map(|kind| Case { way, kind, place }));
    }
    cases.repeat(rounds)
}

/// A daemon that dies and is started again, and what its steps leave behind.
struct Scene {
    folder: TempDir,
    daemon: Daemon,
    /// Who starts the programs, if not the daemon.
    _executor: Option<Executor>,
    /// How many runs there were.
    runs: usize,
}

fn rules(folder: &Path) -> String {
    let mut rules = vec!["runbooks:\n".to_owned()];
    let deed = folder.join("deed");
    let deed = deed.display();
    for kind in KINDS {
        let look = match kind {
            "check_then_act" => {
                ", look: {command: {argv: [test, -s, '{{ parameters.file }}']}}".to_owned()
            }
            _ => String::new(),
        };
        let head = "
    parameters: {file: {value: none, pattern: '[A-Za-z0-9/._-]+'}}
    lock: '{{ parameters.file }}'
    guards: {max_runs: {count: 100000, per: 1h}, breaker: {after: 0}}";
        let steps = format!(
            "{head}
    steps:
      - {{id: deed, command: {{argv: ['{deed}', '{{{{ parameters.file }}}}']}}, timeout: 30s, idempotency: {kind}{look}}}
    verify: {{settle: 0s, within: 30s, command: {{argv: ['{deed}', '{{{{ parameters.file }}}}.verify']}}}}
"
        );
        rules.push(format!("  - name: plain-{kind}{steps}"));
        rules.push(format!("  - name: asked-{kind}\n    approval: {{}}{steps}"));
        rules.push(format!(
            "  - name: called-{kind}{head}
    steps:
      - {{id: call, runbook: {{name: plain-{kind}, parameters: {{file: '{{{{ parameters.file }}}}'}}}}}}
"
        ));
    }
    rules.concat()
}

impl Scene {
    /// Starts a daemon that is ready to die in the first case.
    fn start(first: Case) -> Self {
        let folder = TempDir::new().unwrap();
        let deed = folder.path().join("deed");
        fs::write(&deed, DEED).unwrap();
        fs::set_permissions(&deed, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = order(first, 0);
        let rules = rules(folder.path());
        let executor = (first.way == Way::Executed).then(|| Executor::start(&[]));
        let settings = executor.as_ref().map(Executor::settings).unwrap_or_default();
        let options = Options { rules, settings, environment, ..Options::default() };
        Self { folder, daemon: Daemon::start_with(options), _executor: executor, runs: 0 }
    }

    /// Goes through a case, and then gets ready for the next.
    fn go_through(&mut self, case: Case, next: Case) -> Vec<String> {
        let file = self.folder.path().join(format!("case-{}", self.runs));
        let hold = match case.place {
            Place::AfterSpawn => Some(beside(&file, ".hold")),
            Place::DuringVerify => Some(beside(&file, ".verify.hold")),
            _ => None,
        };
        if let Some(hold) = &hold {
            fs::write(hold, "").unwrap();
        }
        self.runs += 1;
        let id = format!("EXE-{}", self.runs);
        self.ask_for_run(case, &file);
        if case.way == Way::Asked && case.place != Place::BeforeAnswer {
            self.becomes(&id, &["waiting_approval"]);
            self.say(&id, "approve");
        }
        match case.place {
            Place::AfterSpawn => has_lines(&file),
            Place::DuringVerify => has_lines(&beside(&file, ".verify")),
            Place::BeforeAnswer => drop(self.becomes(&id, &["waiting_approval"])),
            _ => {}
        }
        if case.place.ordered().is_some() {
            self.daemon.dies();
        } else {
            self.daemon.kill_9();
        }
        if let Some(hold) = &hold {
            fs::remove_file(hold).unwrap();
        }
        self.runs += usize::from(case.way == Way::Called);
        self.daemon.restart_with(order(next, self.runs));
        if case.place == Place::BeforeAnswer {
            assert!(lines(&file).is_empty(), "{case:?}: nobody has said yes");
            self.becomes(&id, &["waiting_approval"]);
            self.say(&id, "approve");
        }
        self.check(case, &id, &file)
    }

    fn ask_for_run(&self, case: Case, file: &Path) {
        let path = format!("/api/v1/runbooks/{}-{}/run", case.way.word(), case.kind);
        let body = json!({"by": "ann", "parameters": {"file": file}});
        // It may die before it answers.
        drop(self.post(&path, &body));
    }

    /// Says yes, or stops it; it may die before it answers.
    fn say(&self, id: &str, verb: &str) {
        let body = json!({"by": "bob", "reason": "I have looked"});
        drop(self.post(&format!("/api/v1/executions/{id}/{verb}"), &body));
    }

    fn post(&self, path: &str, body: &Value) -> std::io::Result<http::Reply> {
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        http::send(self.daemon.address, "POST", path, &headers, body.as_bytes())
    }

    fn becomes(&self, id: &str, states: &[&str]) -> Value {
        eventually(&format!("{id} is one of {states:?}"), SOON, || {
            let reply = self.daemon.send("GET", &format!("/api/v1/executions/{id}"), &[], b"");
            let run = (reply.status == 200).then(|| reply.json())?;
            states.iter().any(|it| run["state"] == *it).then_some(run)
        })
    }

    /// How the run ended, and what was done. Returns what the deed left behind.
    fn check(&self, case: Case, id: &str, file: &Path) -> Vec<String> {
        let run = self.becomes(id, &["succeeded", "unknown", "failed", "ineffective"]);
        let state = run["state"].as_str().unwrap();
        let keys = lines(file);
        let found = (state, keys.len());
        assert!(case.expected().contains(&found), "{case:?} is {found:?}: {run}");
        // What is done again is done under the same name.
        assert!(keys.windows(2).all(|it| it[0] == it[1]), "{case:?}: {keys:?}");
        if case.way == Way::Asked {
            assert_eq!(run["answers"].as_array().map(Vec::len), Some(1), "{case:?}: {run}");
        }
        if state == "unknown" {
            if case.way == Way::Called {
                let called = format!("EXE-{}", self.runs);
                assert_eq!(self.becomes(&called, &["unknown"])["steps"][0]["state"], "unknown");
                self.say(&called, "abort");
            }
            self.say(id, "abort");
            self.becomes(id, &["aborted"]);
        }
        keys
    }
}

/// What the daemon must be told to die in a case, after so many runs.
fn order(case: Case, runs: usize) -> Vec<(String, String)> {
    let id = runs + 1 + usize::from(case.way == Way::Called);
    let order = case.place.ordered().map(|it| format!("{it} EXE-{id}/deed/1"));
    order.into_iter().map(|it| ("WATCHKEEPER_DIE_AT".to_owned(), it)).collect()
}

fn beside(file: &Path, more: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(more);
    name.into()
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn has_lines(file: &Path) {
    eventually("the program has begun", SOON, || (!lines(file).is_empty()).then_some(()));
}

fn go_through_all(way: Way) {
    let cases = cases(way);
    let mut scene = Scene::start(cases[0]);
    let mut left = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let next = cases.get(index + 1).unwrap_or(case);
        let file = scene.folder.path().join(format!("case-{}", scene.runs));
        left.push((file.clone(), scene.go_through(*case, *next)));
    }
    // Nothing was done late, and nothing hangs.
    for (file, keys) in left {
        assert_eq!(lines(&file), keys);
    }
    let runs = scene.daemon.all_items("/api/v1/executions");
    assert_eq!(runs.len(), scene.runs);
    let is_over = |it: &Value| it["ended_at"].is_string();
    assert!(runs.iter().all(is_over), "{:?}", runs.iter().find(|it| !is_over(it)));
}

#[test]
fn a_step_is_done_as_its_kind_says_wherever_the_daemon_dies() {
    go_through_all(Way::Plain);
}

#[test]
fn an_answer_counts_once_wherever_the_daemon_dies() {
    go_through_all(Way::Asked);
}

#[test]
fn a_called_run_and_its_caller_end_alike_wherever_the_daemon_dies() {
    go_through_all(Way::Called);
}

#[test]
fn with_an_executor_a_step_is_done_as_its_kind_says_wherever_the_daemon_dies() {
    go_through_all(Way::Executed);
}
