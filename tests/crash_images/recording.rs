//! Runs a workload in a process of its own and reads what it did to its folder, step by step.

use crate::room;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Tells the child process what it shall run.
pub(crate) const WORKLOAD: &str = "WATCHKEEPER_TEST_WORKLOAD";
const FOLDER: &str = "CRASH_IMAGES_FOLDER";
const TRACE: &str = "CRASH_IMAGES_TRACE";

/// A step that changed the folder or made it durable. Files and folders are named by inode.
#[derive(Debug)]
pub(crate) enum Step {
    /// A new folder; the first is the root, with an empty path.
    MakeFolder { inode: u64, path: String },
    /// A new, empty file.
    MakeFile { inode: u64, path: String },
    /// Bytes went into a file.
    Write { inode: u64, offset: u64, bytes: Vec<u8> },
    /// A file was cut or made longer with zeros.
    Resize { inode: u64, length: u64 },
    /// A file with its size, or a folder's names, became durable.
    Sync { inode: u64, length: u64 },
    /// `sync_file_range`: a file's bytes were handed to the disk, which may still forget them.
    WriteBack,
    /// A name moved, within its folder.
    Rename { from: String, to: String },
    /// A name went away.
    Remove { path: String },
    /// The workload said something.
    Remark(Remark),
}

/// What a workload tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Remark {
    /// The store is about to be opened or made.
    Opening,
    /// It is open.
    Opened,
    /// A step begins, counted from 1.
    Begun(u64),
    /// It was acknowledged; what the store holds since.
    Acknowledged(u64, String),
}

/// The kind of a step that a workload adds to the trace itself; the others are in `record.c`.
const REMARK: u64 = 100;

/// A workload that was run to its end.
pub(crate) struct Recording {
    /// First what makes the folder as the workload found it.
    pub(crate) steps: Vec<Step>,
    /// How many steps that is.
    pub(crate) found: usize,
    folder: TempDir,
}

impl Recording {
    /// The folder that the workload really left behind.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

/// Runs a workload in this test binary, in a child that is watched, on a folder that is prepared.
pub(crate) fn record(workload: &str, prepare: impl FnOnce(&Path)) -> Recording {
    let folder = room();
    // A folder in memory may be one that nothing is run from.
    let built = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let shim = built.path().join("record.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash_images/record.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([shim.as_path(), Path::new(source)])
        .arg("-lpthread")
        .status();
    assert!(
        compiled.expect("a C compiler is installed").success(),
        "the recorder does not compile"
    );
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    prepare(&root);
    let mut steps = Vec::new();
    find(&root, "", &mut steps);
    let found = steps.len();
    let trace = folder.path().join("trace");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["a_recorded_workload_adds_up_to_its_folder", "--exact", "--nocapture"])
        .env(WORKLOAD, workload)
        .env(FOLDER, root.canonicalize().unwrap())
        .env(TRACE, &trace)
        .env("LD_PRELOAD", &shim)
        .stdout(Stdio::null())
        .status();
    assert!(ended.unwrap().success(), "the workload `{workload}` failed");
    steps.extend(read(&trace));
    Recording { steps, found, folder }
}

/// The steps that make a folder as it is, durable.
fn find(folder: &Path, path: &str, steps: &mut Vec<Step>) {
    let inode = fs::metadata(folder).unwrap().ino();
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    steps.push(Step::MakeFolder { inode, path: path.to_owned() });
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = below(entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            find(&entry.path(), &path, steps);
            continue;
        }
        let inode = entry.metadata().unwrap().ino();
        let bytes = fs::read(entry.path()).unwrap();
        let length = bytes.len() as u64;
        steps.push(Step::MakeFile { inode, path });
        steps.push(Step::Write { inode, offset: 0, bytes });
        steps.push(Step::Sync { inode, length });
    }
    steps.push(Step::Sync { inode, length: 0 });
}

/// The folder of a workload, in the child.
pub(crate) fn watched_folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("the parent tells the folder"))
}

/// Writes a workload's remarks into the trace, in the order of what happens.
pub(crate) struct Remarks(File);

impl Remarks {
    /// Opens the trace, in the child.
    pub(crate) fn new() -> Self {
        let path = std::env::var_os(TRACE).expect("the parent tells the trace");
        Self(File::options().append(true).open(path).unwrap())
    }

    /// Adds one, in one write.
    pub(crate) fn add(&mut self, remark: &Remark) {
        let text = serde_json::to_vec(remark).unwrap();
        let header = [REMARK, 0, 0, text.len() as u64];
        let mut bytes: Vec<u8> = header.iter().flat_map(|it| it.to_ne_bytes()).collect();
        bytes.extend(text);
        assert_eq!(self.0.write(&bytes).unwrap(), bytes.len());
    }
}

/// Reads a trace.
fn read(trace: &Path) -> Vec<Step> {
    let bytes = fs::read(trace).unwrap();
    let mut rest = bytes.as_slice();
    let mut steps = Vec::new();
    while let Some((header, more)) = rest.split_first_chunk::<32>() {
        let (words, _) = header.as_chunks::<8>();
        let [kind, inode, number, length] = <[[u8; 8]; 4]>::try_from(words).unwrap();
        let length = usize::try_from(u64::from_ne_bytes(length)).unwrap();
        let (content, more) = more.split_at(length);
        let [kind, inode, number] = [kind, inode, number].map(u64::from_ne_bytes);
        steps.push(step(kind, inode, number, content));
        rest = more;
    }
    assert!(rest.is_empty(), "the trace is cut short");
    steps
}

fn step(kind: u64, inode: u64, number: u64, content: &[u8]) -> Step {
    let path = || String::from_utf8(content.to_vec()).unwrap();
    match kind {
        1 => Step::MakeFolder { inode, path: path() },
        2 => Step::MakeFile { inode, path: path() },
        3 => Step::Write { inode, offset: number, bytes: content.to_vec() },
        4 => Step::Resize { inode, length: number },
        5 => Step::Sync { inode, length: number },
        6 => Step::WriteBack,
        7 => {
            let both = path();
            let (from, to) = both.split_once('\0').unwrap();
            Step::Rename { from: from.to_owned(), to: to.to_owned() }
        }
        8 => Step::Remove { path: path() },
        REMARK => Step::Remark(serde_json::from_slice(content).unwrap()),
        other => panic!("a step of the unknown kind `{other}`"),
    }
}
