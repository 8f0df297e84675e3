//! Settings and rules: raw to checked, all errors at once, hot reload.
//!
//! ```text
//!   files ─► yaml (a tree with places) ─► reader (values, names, findings) ─► settings or rules
//!                                           ▲ one file here for each kind of list
//! ```

mod approval;
mod article;
mod built_in;
mod catalog;
mod code;
mod command;
mod correlation;
mod cron_line;
mod detection;
mod duration;
mod each;
mod expression;
mod fields;
mod files;
mod forecast;
mod freeze;
mod heartbeat;
mod import;
mod inhibition;
mod maintenance;
pub mod mapping;
mod notification;
mod rate;
mod reader;
mod rule_files;
mod rule_test;
mod runbook;
mod secret;
mod service_level;
mod settings;
mod silence;
mod source;
mod step;
mod time_interval;
mod tool;
mod topology;
mod trigger;
mod verify;
mod watch;
mod watched;
mod yaml;

#[cfg(test)]
mod tests;

pub use article::read_article;
pub use built_in::built_in_sources;
pub use code::Code;
pub use import::{ImportNote, Imported, import_alertmanager};
pub use rule_test::{
    ExpectedAlert, ExpectedChange, ExpectedExecution, ExpectedHeartbeat, ExpectedIncident,
    ExpectedNotification, ExpectedProblem, ExpectedStep, Measurement, RuleTest, TestDeed,
    TestExpectation, TestFact, TestInput,
};
pub use secret::{read_secret, read_token};
pub use watch::{Watcher, watch};
pub use watched::{Credentials, HeartbeatOut, PrometheusServer, read_prometheus_configuration};

use crate::domain::item::Catalog;
use crate::domain::rules::{Mode, RuleSet, SecretText};
use crate::domain::source::Quota;
use files::Files;
use jiff::Timestamp;
use reader::Source;
use rule_files::Surroundings;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What `watchkeeper.yaml` says, checked, with defaults for what it leaves out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; `127.0.0.1:9377` by default.
    pub listen: SocketAddr,
    /// The address under which people reach us; links in notifications start with it.
    pub external_url: Option<String>,
    /// The data folder; `./data` by default.
    pub data: PathBuf,
    /// The rules folder; `./rules` by default. `models/` is looked for beside it.
    pub rules: PathBuf,
    /// What keeps the data: `redb` or `sled`; `None` = what keeps them now, redb if there are none.
    pub engine: Option<String>,
    /// How long history and closed objects are kept, in seconds; 30 d by default.
    pub retention_seconds: u64,
    /// How long the audit trail is kept, in seconds; see [`Settings::audit_retention`].
    pub audit_retention_seconds: Option<u64>,
    /// Whether to act.
    pub mode: Mode,
    /// Static tokens.
    pub tokens: Vec<Token>,
    /// Destinations that http steps may reach, and ranges of addresses to which their names may lead.
    pub http_allow: Vec<String>,
    /// Servers that are asked what fires.
    pub prometheus: Vec<PrometheusServer>,
    /// The watch outside that is told that we live.
    pub heartbeat_out: Option<HeartbeatOut>,
    /// The socket of the executor that starts all programs; `None` = the daemon starts them.
    pub executor: Option<PathBuf>,
    /// The version that `/api/v2/status` reports, because amtool compares it with its own.
    pub alertmanager_version: String,
    /// With so many alerts in memory no new one is taken; each takes two to three kilobytes.
    pub alerts_max: usize,
    /// How many bodies a source may send, by its name, also where nobody declared it.
    pub quotas: BTreeMap<String, Quota>,
}

/// What a token's bearer may do. Each role includes those before it, but `Ingest`, which may only
/// deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Deliver alerts.
    Ingest,
    /// Look.
    Viewer,
    /// Acknowledge, silence, approve, run.
    Responder,
    /// Reload, stop.
    Admin,
}

/// A static token.
#[derive(Clone, Debug)]
pub struct Token {
    /// The bearer's name: the `by` of what he does.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The token itself, at a place that only the daemon reads.
    pub token: SecretText,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The files can be used.
    Warning,
    /// The files cannot be used.
    Error,
}

/// Something about a file that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as given or relative to the folder given.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// How bad.
    pub level: Level,
    /// A stable code, for example `WK0103`.
    pub code: &'static str,
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
    /// The line of the file and where in it, for people.
    pub snippet: String,
}

/// The result of reading files: all findings, and the rules if no finding is an error.
#[derive(Clone, Debug, Default)]
pub struct Checked<T> {
    /// What was read; `None` when a finding is an error.
    pub value: Option<T>,
    /// In order of file and line.
    pub findings: Vec<Finding>,
    /// How many files were read.
    pub files: usize,
}

impl<T> Checked<T> {
    /// Puts findings in order and drops the value if one of them is an error.
    fn new(value: T, mut findings: Vec<Finding>, files: usize) -> Self {
        findings.sort_by(|one, other| {
            (&one.file, one.line, one.column).cmp(&(&other.file, other.line, other.column))
        });
        let bad = findings.iter().any(|it| it.level == Level::Error);
        Self { value: (!bad).then_some(value), findings, files }
    }

    /// Takes a part of the value.
    fn map<U>(self, part: impl FnOnce(T) -> U) -> Checked<U> {
        Checked { value: self.value.map(part), findings: self.findings, files: self.files }
    }
}

/// Why something beside the files' contents failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret's file cannot be read.
    #[error("cannot read the secret of `{name}` from `{path}`: {source}")]
    SecretFile {
        /// Whose secret.
        name: String,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret's environment variable is not set, or is no text.
    #[error("cannot read the secret of `{name}` from the environment variable `{variable}`")]
    SecretVariable {
        /// Whose secret.
        name: String,
        /// The variable.
        variable: String,
    },
    /// There is a place for the secret, but nothing is in it.
    #[error("the secret is empty: `{name}`")]
    SecretEmpty {
        /// Whose secret.
        name: String,
    },
    /// Watching files needs a tokio runtime.
    #[error("files can be watched within a tokio runtime only")]
    NoRuntime,
}

/// The name under which settings are looked for in the working folder.
pub const SETTINGS_FILE: &str = "watchkeeper.yaml";

/// Reads settings. Without a file, `watchkeeper.yaml` in the working folder is read if it is
/// there; else the defaults hold. Secrets are not read, only where they are.
pub fn read_settings(file: Option<&Path>) -> Checked<Settings> {
    let mut files = Files::default();
    let path = file.unwrap_or(Path::new(SETTINGS_FILE));
    if file.is_some() || path.exists() {
        files.add_file(path, path);
    }
    settings::collect(files, Timestamp::now())
}

/// Reads every `*.yaml` and `*.yml` below the rules folder and the models folder beside it, and the articles
/// in `knowledge/`.
/// A folder that does not exist is an empty one. Built-in rules are added where the files say
/// nothing: one correlation, one problem detection.
pub fn read_rules(rules: &Path, models: &Path, mode: Mode) -> Checked<RuleSet> {
    read_folders(&[rules, models], mode, None).map(|it| it.rules)
}

/// Reads the rules for some settings, and warns of http steps that these would refuse.
pub fn read_rules_for(settings: &Settings) -> Checked<RuleSet> {
    let models = models_beside(&settings.rules);
    read_folders(&[&settings.rules, &models], settings.mode, Some(&settings.http_allow))
        .map(|it| it.rules)
}

/// The models folder that belongs to a rules folder.
pub fn models_beside(rules: &Path) -> PathBuf {
    rules.with_file_name("models")
}

fn read_folders(
    folders: &[&Path],
    mode: Mode,
    http_allow: Option<&[String]>,
) -> Checked<rule_files::Collected> {
    let mut files = Files::default();
    for folder in folders {
        files.add_folder(folder);
    }
    let now = Timestamp::now();
    rule_files::collect(files, &Surroundings { mode, now, http_allow, neighbours: &[] })
}

/// Reads settings that are in memory. For tests.
pub fn settings_from_text(text: &str) -> Checked<Settings> {
    let name = SETTINGS_FILE.to_owned();
    let source = Source { relative: name.clone(), name, text: text.to_owned() };
    settings::collect(Files { sources: vec![source], findings: Vec::new() }, Timestamp::now())
}

/// Reads rules that are in memory: names of files and their texts. For the demo, and for tests.
pub fn rules_from_texts(texts: &[(&str, &str)], mode: Mode) -> Checked<RuleSet> {
    let sources = texts.iter().map(|(name, text)| Source {
        name: (*name).to_owned(),
        relative: (*name).to_owned(),
        text: (*text).to_owned(),
    });
    let files = Files { sources: sources.collect(), findings: Vec::new() };
    let now = Timestamp::now();
    let surroundings = Surroundings { mode, now, http_allow: None, neighbours: &[] };
    rule_files::collect(files, &surroundings).map(|it| it.rules)
}

/// Reads the catalog of one file, in Backstage's format. Broken references are warnings.
pub fn read_catalog(file: &Path) -> Checked<Catalog> {
    catalog::read(file)
}

/// Reads the `tests:` of some files and folders.
pub fn read_tests(paths: &[PathBuf]) -> Checked<Vec<RuleTest>> {
    read_paths(paths).1.map(|it| it.tests)
}

/// Checks everything that some files and folders hold: rules, models, tests, and settings (by name
/// or by their keys). Names that a file refers to may stand in other files of its folder.
pub fn check_paths(paths: &[PathBuf]) -> Checked<RuleSet> {
    let (settings, rules) = read_paths(paths);
    let files = settings.files + rules.files;
    let mut findings = rules.findings;
    findings.extend(settings.findings);
    let checked = Checked::new(rules.value.map(|it| it.rules), findings, files);
    Checked { value: checked.value.flatten(), findings: checked.findings, files }
}

fn read_paths(paths: &[PathBuf]) -> (Checked<Settings>, Checked<rule_files::Collected>) {
    let (mut files, mut around) = (Files::default(), Files::default());
    for path in paths {
        if path.is_dir() {
            files.add_folder(path);
        } else {
            files.add_file(path, path);
            around.add_neighbours(path);
        }
    }
    let now = Timestamp::now();
    let (settings, rules) = files.sources.into_iter().partition(settings::is_settings);
    let settings = settings::collect(Files { sources: settings, findings: Vec::new() }, now);
    let http_allow = settings.value.as_ref().filter(|_| settings.files > 0);
    let surroundings = Surroundings {
        mode: Mode::Act,
        now,
        http_allow: http_allow.map(|it| it.http_allow.as_slice()),
        neighbours: &around.sources,
    };
    let rules = Files { sources: rules, findings: files.findings };
    let rules = rule_files::collect(rules, &surroundings);
    (settings, rules)
}
