//! Finds and reads the files of the rules and models folders.

use super::code::Code;
use super::reader::Source;
use super::{Finding, Level};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most files that are read.
const FILES_MAX: usize = 10_000;
/// The most files that are read only for the names in them.
const NEIGHBOURS_MAX: usize = 200;
/// How deep folders may nest.
const DEPTH_MAX: usize = 16;

/// Files that were found, in order of name, and those that could not be read.
#[derive(Default)]
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    pub(super) findings: Vec<Finding>,
}

impl Files {
    /// Reads every YAML file below a folder, and the articles below its `knowledge/`. A folder that does
    /// not exist is an empty one.
    pub(super) fn add_folder(&mut self, folder: &Path) {
        let mut paths = Vec::new();
        let mut seen = BTreeSet::new();
        if folder.exists() {
            self.walk(folder, 0, &mut seen, &mut paths);
        }
        paths.retain(|it| is_yaml(it) || is_article(it.strip_prefix(folder).unwrap_or(it)));
        paths.sort();
        for path in paths.iter().take(FILES_MAX) {
            let relative = path.strip_prefix(folder).unwrap_or(path);
            let root = folder.file_name().unwrap_or_default();
            self.add_file(path, &Path::new(root).join(relative));
        }
        if paths.len() > FILES_MAX {
            self.refuse(folder, &format!("more than {FILES_MAX} files"));
        }
    }

    /// Reads the YAML files beside a file, as far as it is a small folder; what cannot be read
    /// there is nobody's concern.
    pub(super) fn add_neighbours(&mut self, file: &Path) {
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
        let mut paths = Vec::new();
        // Nearly at the greatest depth, so that only the folders right below are looked into.
        let folder = folder.unwrap_or(Path::new("."));
        self.walk(folder, DEPTH_MAX - 1, &mut BTreeSet::new(), &mut paths);
        paths.retain(|it| is_yaml(it));
        paths.sort();
        for path in paths.iter().take(NEIGHBOURS_MAX) {
            self.add_file(path, path);
        }
    }

    /// Reads one file. `relative` is its name for the revision.
    pub(super) fn add_file(&mut self, path: &Path, relative: &Path) {
        match read(path) {
            Ok(text) => self.sources.push(Source {
                name: shown(path),
                relative: relative.display().to_string(),
                text,
            }),
            Err(reason) => self.refuse(path, &reason),
        }
    }

    /// Collects the YAML and Markdown files below a folder. Names that begin with a dot are left out: editors'
    /// temporary files, and the `..data` folders behind a ConfigMap's links.
    fn walk(
        &mut self,
        folder: &Path,
        depth: usize,
        seen: &mut BTreeSet<PathBuf>,
        paths: &mut Vec<PathBuf>,
    ) {
        let entries = match std::fs::read_dir(folder) {
            Ok(it) => it,
            Err(error) => return self.refuse(folder, &error.to_string()),
        };
        // A link to a folder above would lead round in circles.
        let is_new = folder.canonicalize().map_or(true, |it| seen.insert(it));
        if !is_new || depth > DEPTH_MAX {
            return;
        }
        for entry in entries {
            let path = match entry {
                Ok(it) => it.path(),
                Err(error) => return self.refuse(folder, &error.to_string()),
            };
            let hidden = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with('.'));
            if hidden || paths.len() > FILES_MAX {
                continue;
            }
            if path.is_dir() {
                self.walk(&path, depth + 1, seen, paths);
            } else if is_yaml(&path) || is_markdown(&path) {
                paths.push(path);
            }
        }
    }

    /// Reports a file or folder that cannot be read.
    pub(super) fn refuse(&mut self, path: &Path, reason: &str) {
        self.findings.push(Finding {
            file: PathBuf::from(shown(path)),
            line: 1,
            column: 1,
            level: Level::Error,
            code: Code::Unreadable.as_str(),
            message: format!("cannot read the file: {reason}"),
            hint: None,
            snippet: String::new(),
        });
    }

    /// A short hash of all names and contents: the upper 48 bits of FNV-1a with 64.
    pub(super) fn revision(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for source in &self.sources {
            for byte in [&source.relative, &source.text]
                .into_iter()
                .flat_map(|it| it.bytes().chain(std::iter::once(0xff)))
            {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{:012x}", hash >> 16)
    }
}

/// Whether a name is that of a YAML file.
pub(super) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml")
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "md")
}

/// Whether a file, by its path within the rules folder, is an article.
fn is_article(path: &Path) -> bool {
    let is_below = path.components().next().is_some_and(|it| it.as_os_str() == "knowledge");
    let tells_of_others = path.file_name().is_some_and(|it| it == "README.md");
    is_below && is_markdown(path) && !tells_of_others
}

/// A path as people would type it.
fn shown(path: &Path) -> String {
    path.strip_prefix("./").unwrap_or(path).display().to_string()
}

/// The text of a file, without a byte-order mark.
fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_yaml_file_and_article_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rules");
        std::fs::create_dir_all(root.join("sub/..2026")).unwrap();
        std::fs::create_dir_all(root.join("knowledge/db")).unwrap();
        for name in ["knowledge/db/disk.md", "knowledge/README.md", "knowledge/n.txt"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        for name in ["b.yaml", "a.yml", "sub/c.yaml", ".x.yaml", "n.md", "sub/..2026/d.yaml"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(&root, root.join("sub/round")).unwrap();
        std::fs::write(root.join("bad.yaml"), [0xff, 0xfe]).unwrap();
        let mut files = Files::default();
        files.add_folder(&root);
        let names: Vec<_> = files.sources.iter().map(|it| it.relative.as_str()).collect();
        let expected =
            ["rules/a.yml", "rules/b.yaml", "rules/knowledge/db/disk.md", "rules/sub/c.yaml"];
        assert_eq!(names, expected);
        assert_eq!(files.findings.len(), 1);
        assert_eq!(files.findings[0].code, "WK0101");
        files.add_folder(&folder.path().join("nothing"));
        assert_eq!(files.sources.len(), 4);
    }

    #[test]
    fn the_revision_depends_on_names_and_contents_only() {
        let revision = |relative: &str, text: &str| {
            let source =
                Source { name: String::new(), relative: relative.into(), text: text.into() };
            Files { sources: vec![source], findings: Vec::new() }.revision()
        };
        assert_eq!(revision("a", "b"), revision("a", "b"));
        assert_ne!(revision("a", "b"), revision("ab", ""));
        assert_eq!(revision("a", "b").len(), 12);
    }
}
