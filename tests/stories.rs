//! The stories in `tests/stories/`: run by the command that users run their own tests with.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use watchkeeper::domain::execution::GUARD_NAMES;

fn test(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_watchkeeper")).arg("test").arg(file).output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

#[test]
fn every_story_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    let mut failed = Vec::new();
    for file in files {
        let output = test(&file);
        if !output.status.success() {
            failed.push(format!("{}\n{}", file.display(), text(&output)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_story_that_does_not_hold_is_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("wrong.yaml");
    let story = "tests:
  - name: never true
    start: 2026-01-01T00:00:00Z
    input: [{at: 0s, alert: {alertname: Down, service: shop}}]
    expect: [{at: 10s, incidents: [{alert_count: 2}]}]
";
    fs::write(&file, story).unwrap();
    let output = test(&file);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("never true"), "{}", text(&output));
    let input = "input: at 0 s: alert {alertname=\"Down\", service=\"shop\"}";
    assert!(text(&output).contains(input), "what had happened is told: {}", text(&output));
    for (wrong, told) in [
        ("{sla: {resolve: met}}", "no incident is resolve met"),
        ("{alert_count: 1}], executions: [{runbook: x}", "there is no runbook `x`"),
        (
            "{}], alerts: [{labels: {alertname: Down, service: shop}, held_by: maintenance}",
            "is held back by none, not by maintenance",
        ),
        ("{sla: {resolved: met}}", "unknown field `resolved`"),
        ("{impacted: [db]}", "no incident is impacted [db]; there are: INC-1"),
        ("{parent: INC-7, children: [INC-8]}", "no incident is part of INC-7 children [INC-8]"),
        ("{alert_count: 1}], changes: [{id: CHG-1}", "there is no change CHG-1"),
    ] {
        fs::write(&file, story.replace("{alert_count: 2}", wrong)).unwrap();
        let output = test(&file);
        assert!(!output.status.success(), "{wrong}: {}", text(&output));
        assert!(text(&output).contains(told), "{wrong}: {}", text(&output));
    }
    fs::write(&file, story.replace("alert_count: 2", "alert_count: 1")).unwrap();
    let output = test(&file);
    assert!(output.status.success(), "{}", text(&output));
}

/// Which stories of a guard are missing in the file that has one of each.
fn missing_stories(text: &str, guard: &str) -> Vec<String> {
    let story = |what: &str| {
        let name = format!("{guard} {what}");
        text.split("\n  - name: ").find(|it| it.lines().next() == Some(&name))
    };
    let held = format!("{{runbook: {guard}, state: blocked, blocked_by: {guard}");
    let holds = story("holds back").is_some_and(|it| it.contains(&held));
    let went = format!("{{runbook: {guard}, state: ");
    let lets = story("lets go").is_some_and(|it| it.contains(&went) && !it.contains("blocked"));
    let both = [(holds, "holds back"), (lets, "lets go")];
    both.iter().filter(|it| !it.0).map(|(_, what)| format!("{guard} {what}")).collect()
}

#[test]
fn every_guard_has_a_story_where_it_holds_back_and_one_where_it_lets_go() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories/every_guard.yaml");
    let text = fs::read_to_string(file).unwrap();
    let missing: Vec<String> =
        GUARD_NAMES.iter().flat_map(|it| missing_stories(&text, it)).collect();
    assert_eq!(missing, Vec::<String>::new());
    assert_eq!(missing_stories(&text, "a-new-guard").len(), 2);
    let without = text.replace("name: lock lets go", "name: something else");
    assert_eq!(missing_stories(&without, "lock"), ["lock lets go"]);
    let wrong = text.replace("blocked_by: lock}", "blocked_by: freeze}");
    assert_eq!(missing_stories(&wrong, "lock"), ["lock holds back"]);
}
