//! What a step does, as it is written: programs, requests, questions, calls, and their bounds.

use super::{Approval, Parameter, SecretText, ToolRun};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Starts a program with an argument list, never a shell.
    Command {
        /// Program and arguments; each entry is a template and stays one argument.
        argv: Vec<String>,
        /// Where it runs, and what it may use.
        #[serde(default, skip_serializing_if = "Bounds::is_usual")]
        bounds: Box<Bounds>,
    },
    /// Sends a request.
    Http {
        /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        method: String,
        /// A template; its host must be allow-listed.
        url: String,
        /// Extra headers; values are templates.
        headers: BTreeMap<String, String>,
        /// A template; `None` sends no body.
        body: Option<String>,
        /// The statuses that count as success; empty = any 2xx.
        expect_status: Vec<u16>,
    },
    /// Asks a Prometheus.
    Query {
        /// The name of a server in the settings.
        source: String,
        /// What is asked; a template.
        promql: String,
        /// A CEL condition over `value` (of the first series), `values` and `count`; empty = there
        /// is an answer.
        assert: String,
    },
    /// Waits.
    Wait {
        /// How long.
        seconds: u32,
    },
    /// Takes values over as parameters of the steps that follow.
    Set {
        /// Each must match its pattern: what a step printed is as hostile as a label.
        values: BTreeMap<String, Parameter>,
    },
    /// Tells a receiver something.
    Notify {
        /// The receiver's name.
        receiver: String,
        /// What it is told; a template.
        text: String,
    },
    /// Asks people, and goes on when they say yes.
    Approval(Box<Approval>),
    /// Runs another runbook to its end.
    Runbook {
        /// Its name.
        runbook: String,
        /// Values for its parameters, templates; their patterns still hold.
        parameters: BTreeMap<String, String>,
    },
    /// Tells of a change.
    Change(Box<ChangeNote>),
    /// Starts a program that does something elsewhere; it becomes a [`Self::Command`] when its texts
    /// are filled in.
    Tool(Box<ToolRun>),
}

/// A change as a step tells of it; templates, and all but the title may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeNote {
    /// What people call it.
    pub title: String,
    /// What was changed; empty = what the run acts on.
    #[serde(default)]
    pub service: String,
    /// Where, for example `production`.
    #[serde(default)]
    pub environment: String,
    /// To what.
    #[serde(default)]
    pub version: String,
}

/// That a step is done for each of some things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForEach {
    /// Templates; what they give is split at commas and white space.
    pub list: Vec<String>,
    /// The parameter that the step knows each thing by.
    pub name: String,
    /// What each thing must match.
    pub pattern: String,
    /// How many are done at a time.
    pub concurrency: u32,
}

/// Where a program runs, and what it may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The folder that it starts in, a template; `None` = that of the daemon.
    #[serde(default)]
    pub directory: Option<String>,
    /// Variables beside the few that every program gets; a [`SecretText::Text`] is a template.
    #[serde(default)]
    pub environment: BTreeMap<String, SecretText>,
    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,
    /// As which user of this machine it runs, for a daemon that is root; `None` = as the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it reads, a template; `None` = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Where it may read and write; `None` = where its user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Paths>,
}

/// Where a program may read and write, as far as its user may; the kernel's Landlock sees to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// What it may read and start, with all that is beneath, beside the system's own programs and
    /// libraries; empty = everything.
    pub read: Vec<String>,
    /// What it may read and write, with all that is beneath; empty = nothing.
    pub write: Vec<String>,
    /// Whether it is started all the same where the kernel cannot see to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
}

impl Bounds {
    #[expect(clippy::borrowed_box, reason = "serde asks so")]
    fn is_usual(it: &Box<Self>) -> bool {
        **it == Self::default()
    }
}

/// How much a program and what it starts may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most processes at a time.
    pub processes: u32,
    /// The most files that one of them may have open.
    pub files: u32,
    /// The most memory of one of them, in bytes.
    pub memory_bytes: Option<u64>,
    /// The longest file that one of them may write, in bytes.
    pub file_bytes: Option<u64>,
    /// The processor time of one of them, in seconds.
    pub cpu_seconds: Option<u32>,
    /// Whether it may become another user, as `sudo` does.
    pub new_privileges: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 256,
            files: 1024,
            memory_bytes: None,
            file_bytes: None,
            cpu_seconds: None,
            new_privileges: false,
        }
    }
}

impl Action {
    /// Starts a program with the usual bounds.
    pub fn command(argv: Vec<String>) -> Self {
        Self::Command { argv, bounds: Box::default() }
    }

    /// The argument list, if it starts a program.
    pub fn argv(&self) -> Option<&[String]> {
        if let Self::Command { argv, .. } = self { Some(argv) } else { None }
    }

    /// Where its program runs and what it may use, if it starts one.
    pub fn bounds(&self) -> Option<&Bounds> {
        match self {
            Self::Command { bounds, .. } => Some(bounds),
            Self::Tool(run) => Some(&run.bounds),
            Self::Http { .. }
            | Self::Query { .. }
            | Self::Wait { .. }
            | Self::Set { .. }
            | Self::Notify { .. }
            | Self::Approval(_)
            | Self::Runbook { .. }
            | Self::Change(_) => None,
        }
    }

    /// Method and address, if it sends a request.
    pub fn request(&self) -> Option<(&str, &str)> {
        if let Self::Http { method, url, .. } = self { Some((method, url)) } else { None }
    }

    /// The question, if it asks a Prometheus.
    pub fn promql(&self) -> Option<&str> {
        if let Self::Query { promql, .. } = self { Some(promql) } else { None }
    }

    /// What it does beside starting a program, sending a request or asking a Prometheus, in a line.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Wait { seconds } => Some(format!("waits {seconds} s")),
            Self::Set { values } => {
                let names: Vec<&str> = values.keys().map(String::as_str).collect();
                Some(format!("sets {}", names.join(", ")))
            }
            Self::Notify { receiver, text } => Some(format!("tells {receiver}: {text}")),
            Self::Approval(approval) => Some(format!("asks {}", approval.text)),
            Self::Runbook { runbook, .. } => Some(format!("runs {runbook}")),
            Self::Change(note) => Some(format!("tells of the change {}", note.title)),
            Self::Tool(run) => Some(format!("runs {}", run.tool.as_str())),
            Self::Query { source, assert, .. } if assert.is_empty() => {
                Some(format!("asks {source}"))
            }
            Self::Query { source, assert, .. } => Some(format!("asks {source}: {assert}")),
            Self::Command { .. } | Self::Http { .. } => None,
        }
    }

    /// The word for it in rules and in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Command { .. } => "command",
            Self::Http { .. } => "http",
            Self::Query { .. } => "query",
            Self::Wait { .. } => "wait",
            Self::Set { .. } => "set",
            Self::Notify { .. } => "notify",
            Self::Approval(_) => "approval",
            Self::Runbook { .. } => "runbook",
            Self::Change(_) => "change",
            Self::Tool(run) => run.tool.as_str(),
        }
    }
}
