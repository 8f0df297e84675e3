//! What the repository ships for a start is good: rules, models, units, alerts about ourselves.

use crate::support::{Daemon, Options, SOON, eventually, program, run, source};
use std::process::Command;

#[test]
fn check_accepts_the_rules_and_models() {
    let rules = source().join("rules");
    let models = source().join("models");
    let printed = program(&["check", rules.to_str().unwrap(), models.to_str().unwrap()]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let printed = program(&["check", rules.to_str().unwrap(), "-o", "json"]);
    assert_eq!(printed.stdout.trim(), "[]", "no warnings either: {printed:?}");
}

#[test]
fn the_rules_pass_their_own_tests() {
    let rules = source().join("rules");
    let printed = program(&["test", rules.to_str().unwrap()]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let text = format!("{}{}", printed.stdout, printed.stderr);
    assert!(!text.contains(" 0 tests"), "there are tests: {text}");
}

#[test]
fn the_daemon_takes_them_and_has_ten_runbooks() {
    let rules_folder = Some(source().join("rules"));
    let daemon = Daemon::start_with(Options { rules_folder, ..Options::default() });
    let runbooks = daemon.items("/api/v1/runbooks");
    assert!(runbooks.len() >= 10, "{runbooks:?}");
    for runbook in runbooks {
        assert!(!runbook["description"].as_str().unwrap().is_empty(), "{runbook}");
        let mode = runbook["mode"].as_str().unwrap();
        assert_ne!(mode, "auto", "a starting set does nothing by itself: {runbook}");
    }
}

#[test]
fn promtool_accepts_the_alerts_about_ourselves() {
    let file = source().join("deploy/watchkeeper-alerts.yml");
    let printed = run(Command::new("promtool").args(["check", "rules"]).arg(file));
    assert_eq!(printed.code, 0, "{printed:?}");
    let file = source().join("deploy/prometheus.yml");
    let mut command = Command::new("promtool");
    let printed = run(command.args(["check", "config", "--syntax-only"]).arg(file));
    assert_eq!(printed.code, 0, "{printed:?}");
}

#[test]
fn the_alerts_about_ourselves_name_metrics_that_exist() {
    let file = source().join("deploy/watchkeeper-alerts.yml");
    let text = std::fs::read_to_string(file).unwrap();
    // What is told of an executor is there with one only, be it up or not.
    let settings = "executor: {socket: /nowhere/socket}\n".to_owned();
    let daemon = Daemon::start_with(Options { settings, ..Options::default() });
    let page = eventually("the executor was looked for", SOON, || {
        Some(daemon.metrics()).filter(|it| it.contains("# TYPE watchkeeper_executor_up "))
    });
    let word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let names: std::collections::BTreeSet<&str> = text
        .split(|it| !word(it))
        .filter(|it| it.starts_with("watchkeeper_"))
        .map(|it| it.strip_suffix("_bucket").unwrap_or(it))
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("# TYPE {name} ")), "no metric `{name}`");
    }
}

/// The blocks of a Markdown text that are marked as YAML.
fn yaml_blocks(text: &str) -> Vec<&str> {
    text.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap()).collect()
}

#[test]
fn the_readme_shows_configuration_that_is_good() {
    let readme = std::fs::read_to_string(source().join("README.md")).unwrap();
    let blocks = yaml_blocks(&readme);
    let rules = blocks.iter().find(|it| it.starts_with("correlations:")).unwrap();
    assert!(rules.lines().count() <= 25, "it is meant to be short");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, rules).unwrap();
    let printed = program(&["check", file.to_str().unwrap()]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let lines = blocks.iter().find(|it| it.starts_with("alerting:")).unwrap();
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, lines).unwrap();
    let printed = run(Command::new("promtool").args(["check", "config"]).arg(file));
    assert_eq!(printed.code, 0, "{printed:?}");
}

#[test]
fn the_documents_name_commands_that_exist() {
    let readme = std::fs::read_to_string(source().join("README.md")).unwrap();
    let commands = readme.lines().filter_map(|it| it.strip_prefix("    watchkeeper "));
    let mut seen = 0;
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().take(2).collect();
        let mut arguments = vec![words[0]];
        // A word of small letters is the name of a command, but for what `check` and `explain` take.
        if !matches!(words[0], "check" | "explain") {
            arguments.push(words[1]);
        }
        arguments.push("--help");
        let printed = program(&arguments);
        assert_eq!(printed.code, 0, "`watchkeeper {command}`: {printed:?}");
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} commands");
}
