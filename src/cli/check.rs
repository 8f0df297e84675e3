//! `watchkeeper check`: says everything that is wrong with settings and rules, with its place.

use crate::config::{Checked, Code, Finding, Level, SETTINGS_FILE, check_paths};
use crate::domain::rules::RuleSet;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: each with its line of the file, then a summary.
    #[default]
    Table,
    /// A JSON array.
    Json,
    /// The same as YAML.
    Yaml,
}

const FINDINGS: u8 = 1;
const USAGE: u8 = 2;

/// Checks files and folders; none = `watchkeeper.yaml`, `rules` and `models` here, as far as they
/// are there. Exits with 0 when no finding is an error, 1 when one is, 2 when something cannot be
/// read.
pub fn run(paths: &[PathBuf], output: Output) -> ExitCode {
    let paths = if paths.is_empty() { default_paths() } else { paths.to_vec() };
    let problem = if paths.is_empty() {
        Some(format!("nothing to check: no `{SETTINGS_FILE}`, `rules` or `models` in this folder"))
    } else {
        let missing = paths.iter().find(|it| !it.exists());
        missing.map(|it| format!("no such file or folder: `{}`", it.display()))
    };
    if let Some(problem) = problem {
        // When stderr is gone too, the exit code still tells.
        return write(std::io::stderr(), &format!("error: {problem}\n"), USAGE);
    }
    let checked = check_paths(&paths);
    let code = exit_code(&checked.findings);
    match output {
        Output::Table => write(std::io::stdout(), &table(&checked), code),
        Output::Json | Output::Yaml => {
            let data = if output == Output::Json { json(&checked) } else { yaml(&checked) };
            match data {
                Ok(text) => write(std::io::stdout(), &text, code),
                Err(reason) => write(std::io::stderr(), &format!("error: {reason}\n"), USAGE),
            }
        }
    }
}

fn default_paths() -> Vec<PathBuf> {
    [SETTINGS_FILE, "rules", "models"]
        .map(PathBuf::from)
        .into_iter()
        .filter(|it| it.exists())
        .collect()
}

fn exit_code(findings: &[Finding]) -> u8 {
    if findings.iter().any(|it| it.code == Code::Unreadable.as_str()) {
        USAGE
    } else if findings.iter().any(|it| it.level == Level::Error) {
        FINDINGS
    } else {
        0
    }
}

/// A reader that goes away early (`| head`) has seen what it wanted.
fn write(mut to: impl Write, text: &str, code: u8) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(USAGE),
        _ => ExitCode::from(code),
    }
}

/// Findings for people, each with its line of the file, and the summary.
fn table(checked: &Checked<RuleSet>) -> String {
    let mut text = String::new();
    for finding in &checked.findings {
        text.push_str(&picture(finding));
        text.push('\n');
    }
    text.push_str(&summary(checked));
    text
}

/// Findings for people, each with its line of the file.
pub fn text(findings: &[Finding]) -> String {
    findings.iter().map(picture).collect::<Vec<_>>().join("\n")
}

fn picture(finding: &Finding) -> String {
    let Finding { file, line, column, code, message, .. } = finding;
    let level = level_word(finding.level);
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let mut lines = vec![
        format!("{level}[{code}]: {message}"),
        format!("{margin} --> {}:{line}:{column}", file.display()),
    ];
    if let Some((source, mark)) = finding.snippet.split_once('\n') {
        lines.push(format!("{margin}  |"));
        lines.push(format!(" {number} | {source}"));
        lines.push(format!("{margin}  | {mark}"));
    }
    lines.extend(finding.hint.iter().map(|it| format!("{margin}  hint: {it}")));
    lines.join("\n") + "\n"
}

fn summary(checked: &Checked<RuleSet>) -> String {
    let count = |level| checked.findings.iter().filter(|it| it.level == level).count();
    let plural = |number: usize, word: &str| {
        format!("{number} {word}{}", if number == 1 { "" } else { "s" })
    };
    format!(
        "checked {}: {}, {}\n",
        plural(checked.files, "file"),
        plural(count(Level::Error), "error"),
        plural(count(Level::Warning), "warning"),
    )
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}

/// A finding for programs.
#[derive(Serialize)]
struct Row<'a> {
    file: String,
    line: u32,
    column: u32,
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

fn rows(checked: &Checked<RuleSet>) -> Vec<Row<'_>> {
    fn row(it: &Finding) -> Row<'_> {
        Row {
            file: it.file.display().to_string(),
            line: it.line,
            column: it.column,
            severity: level_word(it.level),
            code: it.code,
            message: &it.message,
            hint: it.hint.as_deref(),
        }
    }
    checked.findings.iter().map(row).collect()
}

fn json(checked: &Checked<RuleSet>) -> Result<String, String> {
    serde_json::to_string_pretty(&rows(checked))
        .map(|it| it + "\n")
        .map_err(|error| format!("cannot print the findings: {error}"))
}

fn yaml(checked: &Checked<RuleSet>) -> Result<String, String> {
    serde_saphyr::to_string(&rows(checked))
        .map_err(|error| format!("cannot print the findings: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked() -> (tempfile::TempDir, Checked<RuleSet>) {
        let folder = tempfile::tempdir().unwrap();
        let text = "correlations:\n  - name: a\n    treshold: 3\n    window: {gap: x}\n";
        std::fs::write(folder.path().join("storm.yaml"), text).unwrap();
        let mut checked = check_paths(&[folder.path().to_owned()]);
        for finding in &mut checked.findings {
            finding.file = PathBuf::from("rules/storm.yaml");
        }
        (folder, checked)
    }

    #[test]
    fn people_see_the_line_and_a_hint() {
        let (_folder, checked) = checked();
        let text = table(&checked);
        let first = "error[WK0103]: unknown field `treshold`
  --> rules/storm.yaml:3:5
   |
 3 |     treshold: 3
   |     ^^^^^^^^
   hint: expected one of";
        assert!(text.starts_with(first), "{text}");
        assert!(text.ends_with("\nchecked 1 file: 2 errors, 0 warnings\n"), "{text}");
        assert_eq!(exit_code(&checked.findings), FINDINGS);
    }

    #[test]
    fn programs_see_the_fields_of_the_contract() {
        let (_folder, mut checked) = checked();
        checked.findings.truncate(1);
        checked.findings[0].hint = None;
        let data: serde_json::Value = serde_json::from_str(&json(&checked).unwrap()).unwrap();
        let expected = serde_json::json!([{
            "file": "rules/storm.yaml", "line": 3, "column": 5, "severity": "error",
            "code": "WK0103", "message": "unknown field `treshold`", "hint": null
        }]);
        assert_eq!(data, expected);
        let data: serde_json::Value = serde_saphyr::from_str(&yaml(&checked).unwrap()).unwrap();
        assert_eq!(data, expected);
    }

    #[test]
    fn the_exit_code_tells_findings_from_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let code = |paths: &[PathBuf]| exit_code(&check_paths(paths).findings);
        let good = folder.path().join("good.yaml");
        std::fs::write(&good, "correlations: []\n").unwrap();
        assert_eq!(code(std::slice::from_ref(&good)), 0);
        assert_eq!(code(&[folder.path().join("nothing.yaml")]), USAGE);
        let missing = [folder.path().join("nothing")];
        assert_eq!(run(&missing, Output::Json), ExitCode::from(USAGE));
    }
}
