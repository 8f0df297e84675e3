//! A run of the real binary in a folder of its own.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A history in a folder.
pub(crate) struct Run {
    folder: TempDir,
}

/// A run with its options.
pub(crate) struct Prepared<'a> {
    run: &'a Run,
    options: Vec<String>,
}

/// What was printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(events: &[String]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("events.jsonl"), events.join("\n")).unwrap();
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With these rules.
    pub(crate) fn rules(&self, rules: &str) -> Prepared<'_> {
        let folder = self.folder().join("rules");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("test.yaml"), rules).unwrap();
        self.with(&["--rules", "rules"])
    }

    pub(crate) fn with(&self, options: &[&str]) -> Prepared<'_> {
        Prepared { run: self, options: options.iter().map(|it| (*it).to_owned()).collect() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join("out").join(name)
    }

    /// The lines of a file that was written.
    pub(crate) fn written(&self, name: &str) -> Vec<Value> {
        lines(&self.file(name))
    }

    /// What was printed as JSON.
    pub(crate) fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.folder().join("summary.json")).unwrap()).unwrap()
    }

    /// All files that were written, by name.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.folder().join("out")).unwrap().map(Result::unwrap);
        let name = |it: &fs::DirEntry| it.file_name().into_string().unwrap();
        let texts = files.map(|it| (name(&it), fs::read_to_string(it.path()).unwrap()));
        let texts: BTreeMap<_, _> = texts.collect();
        assert_eq!(texts.len(), 5, "{:?}", texts.keys());
        texts
    }
}

impl Prepared<'_> {
    /// And these options.
    pub(crate) fn and(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|it| (*it).to_owned()));
        self
    }

    pub(crate) fn replay(&self) -> Printed {
        let folder = self.run.folder();
        let output = Command::new(env!("CARGO_BIN_EXE_watchkeeper"))
            .current_dir(folder)
            .args(["replay", "events.jsonl", "--out", "out"])
            .args(if self.options.iter().any(|it| it == "-o") { &[][..] } else { &["-o", "json"] })
            .args(&self.options)
            .output()
            .unwrap();
        fs::write(folder.join("summary.json"), &output.stdout).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Printed {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// The lines of a file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// The entries of a list.
pub(crate) fn values(list: &Value) -> &[Value] {
    list.as_array().unwrap()
}
