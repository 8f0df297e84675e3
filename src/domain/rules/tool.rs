//! Programs that reach further, `ssh`, `kubectl`, `ansible-playbook`, and the argument lists they get.

use super::{Bounds, arguments};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A program that does something elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Starts a program on another machine, which has a POSIX shell.
    Ssh {
        /// The machine, a template.
        host: String,
        /// Whom to be there; a template, and empty = as `ssh` is set up.
        #[serde(default)]
        user: String,
        /// The port; `None` = as `ssh` is set up.
        #[serde(default)]
        port: Option<u16>,
        /// Program and arguments there; templates.
        argv: Vec<String>,
    },
    /// Tells a Kubernetes cluster something.
    Kubernetes {
        /// The context of its configuration, a template; empty = the current one.
        #[serde(default)]
        context: String,
        /// The namespace, a template; empty = that of the context.
        #[serde(default)]
        namespace: String,
        /// What is told: `[rollout, restart, deployment/web]`; templates.
        arguments: Vec<String>,
    },
    /// Plays a playbook.
    Ansible {
        /// Its file.
        playbook: String,
        /// The file or folder that names the machines; empty = as `ansible` is set up.
        #[serde(default)]
        inventory: String,
        /// To which machines it is limited, a template; empty = all that the playbook names.
        #[serde(default)]
        limit: String,
        /// What the playbook knows beside its own variables; templates.
        #[serde(default)]
        variables: BTreeMap<String, String>,
        /// Whether it only says what it would change.
        #[serde(default)]
        check: bool,
    },
}

/// A tool with where and how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRun {
    /// What it does.
    pub tool: Tool,
    /// Where it runs, and what it may use.
    #[serde(default)]
    pub bounds: Bounds,
}

impl Tool {
    /// The word for it in rules.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ssh { .. } => "ssh",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Ansible { .. } => "ansible",
        }
    }

    /// The argument list, filled in. Values stay values: what would be read as an option, a second
    /// machine, a file or a template of the tool's own is refused.
    pub fn argv(
        &self,
        fill: &dyn Fn(&String) -> Result<String, String>,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, String> {
        match self {
            Self::Ssh { host, user, port, argv } => {
                // Nobody is there to answer a question, nor to look at a key.
                let fixed = ["ssh", "-T", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"];
                let more =
                    ["-oConnectTimeout=10", "-oClearAllForwardings=yes", "-oForwardAgent=no"];
                let mut all: Vec<String> =
                    fixed.into_iter().chain(more).map(str::to_owned).collect();
                all.extend(port.map(|it| format!("-p{it}")));
                let user = name("user", &fill(user)?, "._-")?;
                if !user.is_empty() {
                    all.push(format!("-l{user}"));
                }
                let host = name("host", &fill(host)?, "._:-")?;
                if host.is_empty() {
                    return Err("`host` is empty".to_owned());
                }
                let words = arguments(argv, fill, parameters)?;
                let line: Vec<String> = words.iter().map(|it| quoted(it)).collect();
                all.extend(["--".to_owned(), host, line.join(" ")]);
                Ok(all)
            }
            Self::Kubernetes { context, namespace, arguments: told } => {
                let mut all = vec!["kubectl".to_owned()];
                for (option, text) in [("context", context), ("namespace", namespace)] {
                    let value = fill(text)?;
                    if !value.is_empty() {
                        all.push(format!("--{option}={value}"));
                    }
                }
                all.extend(arguments(told, fill, parameters)?);
                Ok(all)
            }
            Self::Ansible { playbook, inventory, limit, variables, check } => {
                let mut all = vec!["ansible-playbook".to_owned()];
                if *check {
                    all.extend(["--check", "--diff"].map(str::to_owned));
                }
                if !inventory.is_empty() {
                    all.push(format!("--inventory={inventory}"));
                }
                let limit = name("limit", &fill(limit)?, "._:,&!*-")?;
                if !limit.is_empty() {
                    all.push(format!("--limit={limit}"));
                }
                if !variables.is_empty() {
                    let filled =
                        variables.iter().map(|(key, text)| Ok((key, variable(&fill(text)?)?)));
                    let filled: BTreeMap<&String, String> =
                        filled.collect::<Result<_, String>>()?;
                    let json = serde_json::to_string(&filled).map_err(|it| it.to_string())?;
                    all.push(format!("--extra-vars={json}"));
                }
                all.extend(["--".to_owned(), playbook.clone()]);
                Ok(all)
            }
        }
    }
}

/// A name of letters, digits and some signs, that is no option; or nothing.
fn name(what: &str, text: &str, signs: &str) -> Result<String, String> {
    let is_good = |it: char| it.is_ascii_alphanumeric() || signs.contains(it);
    if text.starts_with('-') || !text.chars().all(is_good) {
        return Err(format!("this is no `{what}`: `{text}`"));
    }
    Ok(text.to_owned())
}

/// A word as a POSIX shell takes it for itself: the shell on the other side reads one line.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A value that Ansible does not read as a template of its own.
fn variable(value: &str) -> Result<String, String> {
    if ["{{", "{%", "{#"].iter().any(|it| value.contains(it)) {
        return Err(format!("Ansible would read the value as a template: `{value}`"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn argv(tool: &Tool, value: &str) -> Result<Vec<String>, String> {
        tool.argv(&|text| Ok(text.replace("VALUE", value)), &BTreeMap::new())
    }

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    fn ssh(host: &str, argv: &[&str]) -> Tool {
        Tool::Ssh { host: host.to_owned(), user: String::new(), port: Some(22), argv: texts(argv) }
    }

    fn kubernetes(arguments: &[&str]) -> Tool {
        let arguments = texts(arguments);
        Tool::Kubernetes { context: "eu".to_owned(), namespace: "VALUE".to_owned(), arguments }
    }

    fn ansible(limit: &str) -> Tool {
        Tool::Ansible {
            playbook: "site.yaml".to_owned(),
            inventory: "hosts".to_owned(),
            limit: limit.to_owned(),
            variables: [("unit".to_owned(), "VALUE".to_owned())].into(),
            check: true,
        }
    }

    #[test]
    fn each_tool_gets_its_arguments() {
        let got = argv(&ssh("VALUE", &["systemctl", "restart", "it's"]), "web-1").unwrap();
        assert_eq!(got[7..], ["-p22", "--", "web-1", r"'systemctl' 'restart' 'it'\''s'"]);
        let got = argv(&kubernetes(&["delete", "pod", "--wait=false", "VALUE"]), "web-1").unwrap();
        let told =
            ["kubectl", "--context=eu", "--namespace=web-1", "delete", "pod", "--wait=false"];
        assert_eq!(got, [&told[..], &["web-1"]].concat());
        let got = argv(&ansible("VALUE"), "web-1").unwrap();
        let told = ["ansible-playbook", "--check", "--diff", "--inventory=hosts", "--limit=web-1"];
        assert_eq!(
            got,
            [&told[..], &[r#"--extra-vars={"unit":"web-1"}"#, "--", "site.yaml"]].concat()
        );
    }

    #[test]
    fn what_would_be_more_than_a_value_is_refused() {
        for bad in ["-oProxyCommand=x", "a b", "a@b", "", "a/b", "a;b", "a\nb", "%h"] {
            assert!(argv(&ssh("VALUE", &["true"]), bad).is_err(), "{bad}");
        }
        for bad in ["--all", "-A", "a\0b"] {
            assert!(argv(&kubernetes(&["get", "VALUE"]), bad).is_err(), "{bad}");
            assert!(argv(&ssh("web-1", &["x", "VALUE"]), bad).is_err(), "{bad}");
        }
        for bad in ["@/etc/passwd", "a;b", "-a"] {
            assert!(argv(&ansible("VALUE"), bad).is_err(), "{bad}");
        }
        assert!(argv(&ansible("web"), "{{ lookup('pipe', 'x') }}").is_err());
    }

    proptest! {
        #[test]
        fn a_value_stays_one_argument(value in "\\PC{1,30}") {
            if let Ok(got) = argv(&kubernetes(&["get", "VALUE"]), &value) {
                prop_assert_eq!(got.last(), Some(&value));
                prop_assert_eq!(got.len(), 5);
            }
            if let Ok(got) = argv(&ansible("web"), &value) {
                let json = got[5].strip_prefix("--extra-vars=").unwrap();
                let variables: BTreeMap<String, String> = serde_json::from_str(json).unwrap();
                prop_assert_eq!(&variables["unit"], &value);
            }
        }
    }
}
