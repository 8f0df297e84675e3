//! The `process_*` metrics, read from `/proc/self` as Prometheus' own client libraries do.

use prometheus::proto::MetricFamily;
use prometheus::{Gauge, core::Collector};
use std::fs;

/// Clock ticks a second in `/proc`: `USER_HZ`, which is 100 on every Linux that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel knows of this process. A part that cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    virtual_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

/// The metrics of this process, for an exposition. Empty where there is no `/proc`.
pub(super) fn gather() -> Vec<MetricFamily> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut process =
        parse(&read("/proc/self/stat"), &read("/proc/stat"), &read("/proc/self/limits"));
    process.resident_bytes = resident_bytes(&read("/proc/self/status"));
    process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|it| count(it.count()));
    families(&process)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

/// Reads the text of `/proc/self/status`, which tells the resident size without pages.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Reads the texts of `/proc/self/stat`, `/proc/stat` and `/proc/self/limits`. Field numbers as in
/// proc(5).
fn parse(own: &str, system: &str, limits: &str) -> Process {
    // The program's name stands in brackets and may hold spaces, so count from the last bracket.
    let fields: Vec<f64> = own
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().map(|it| it.parse().unwrap_or(0.0)))
        .map(Iterator::collect)
        .unwrap_or_default();
    let field = |number: usize| fields.get(number.saturating_sub(3)).copied();
    let booted = system
        .lines()
        .find_map(|it| it.strip_prefix("btime "))
        .and_then(|it| it.trim().parse::<f64>().ok());
    let max_fds = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"))
        .and_then(|it| it.split_ascii_whitespace().next()?.parse().ok());
    Process {
        cpu_seconds: field(14).zip(field(15)).map(|(user, own)| (user + own) / TICKS_PER_SECOND),
        start_time_seconds: booted.zip(field(22)).map(|(at, ticks)| at + ticks / TICKS_PER_SECOND),
        virtual_bytes: field(23),
        resident_bytes: None,
        open_fds: None,
        max_fds,
    }
}

fn families(process: &Process) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let gauges = [
        ("process_start_time_seconds", "Start time since the epoch", process.start_time_seconds),
        ("process_virtual_memory_bytes", "Size of the address space", process.virtual_bytes),
        ("process_resident_memory_bytes", "Memory in RAM", process.resident_bytes),
        ("process_open_fds", "Open file descriptors", process.open_fds),
        ("process_max_fds", "The most file descriptors that may be open", process.max_fds),
    ];
    for (name, help, value) in gauges {
        if let (Ok(gauge), Some(value)) = (Gauge::new(name, help), value) {
            gauge.set(value);
            families.extend(gauge.collect());
        }
    }
    if let (Ok(counter), Some(seconds)) = (
        prometheus::Counter::new("process_cpu_seconds_total", "Time spent on a processor"),
        process.cpu_seconds,
    ) {
        counter.inc_by(seconds);
        families.extend(counter.collect());
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let own = "7 (a (b) c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 9 0 1200 8192 3 0";
        let system = "cpu 1 2\nbtime 1000\n";
        let limits = "Limit  Soft Hard\nMax open files            1024   4096   files\n";
        let expected = Process {
            cpu_seconds: Some(3.0),
            start_time_seconds: Some(1012.0),
            virtual_bytes: Some(8192.0),
            resident_bytes: None,
            open_fds: None,
            max_fds: Some(1024.0),
        };
        assert_eq!(parse(own, system, limits), expected);
        assert_eq!(parse("", "btime x", "Max open files unlimited"), Process::default());
        assert_eq!(resident_bytes("Name: a\nVmRSS:\t     12 kB\n"), Some(12_288.0));
        assert_eq!(resident_bytes("VmRSS: much"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let names: Vec<String> = gather().iter().map(|it| it.name().to_owned()).collect();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes"] {
            assert!(names.iter().any(|it| it == name), "{name} is not among {names:?}");
        }
    }
}
