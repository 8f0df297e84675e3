//! What a figure depends on: the machine, its disk, and what else was running.

use anyhow::Context as _;
use std::fs;
use std::path::Path;

/// Where it was measured.
pub(crate) struct Machine {
    /// The model of its processors.
    pub(crate) processor: String,
    /// How many processors there are.
    pub(crate) processors: usize,
    /// Memory, in GiB.
    pub(crate) memory_gib: u64,
    /// The release of Linux.
    pub(crate) kernel: String,
    /// The kind of file system under the data.
    pub(crate) file_system: String,
    /// Processes that ran or waited in the last minute before the run, on average.
    pub(crate) load_before: String,
}

impl Machine {
    /// Looks around; `folder` is where the data will be.
    pub(crate) fn look(folder: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("`{path}`"));
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
        };
        let memory = value(&read("/proc/meminfo")?, "MemTotal");
        let kibibytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = read("/proc/loadavg")?;
        Ok(Self {
            processor: value(&read("/proc/cpuinfo")?, "model name"),
            processors: std::thread::available_parallelism()?.get(),
            memory_gib: (kibibytes + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(&read("/proc/mounts")?, &folder.canonicalize()?),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// The kind of the file system that a path is on: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> String {
    let mut found = (0, "unknown");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if path.starts_with(point) && point.len() >= found.0 {
            found = (point.len(), kind);
        }
    }
    found.1.to_owned()
}
