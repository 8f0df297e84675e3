//! What a process spends, read from `/proc` (Linux): CPU time and memory.

use serde_json::{Value, json};
use std::fs;

/// Ticks of the kernel's clock a second in `/proc/PID/stat`: 100 on every Linux build in use.
const TICKS: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

/// What a process has spent until now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub(crate) resident_bytes: f64,
}

/// Reads it; a process that is gone has spent nothing.
pub(crate) fn usage(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Usage { cpu_seconds: cpu_seconds(&stat), resident_bytes: resident_bytes(&status) }
}

/// `utime` and `stime` are the 12th and 13th field after the `)` that ends the program's name.
fn cpu_seconds(stat: &str) -> f64 {
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks.filter_map(|it| it.parse::<f64>().ok()).sum::<f64>() / TICKS
}

fn resident_bytes(status: &str) -> f64 {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or_default() * 1024.0
}

/// In MiB.
pub(crate) fn mebibytes(bytes: f64) -> f64 {
    bytes / MIB
}

/// What was spent between two looks, in which so many alerts were accepted.
pub(crate) fn report(before: Usage, after: Usage, alerts: u64) -> Value {
    let seconds = after.cpu_seconds - before.cpu_seconds;
    let per_alert = if alerts == 0 { 0.0 } else { seconds / alerts as f64 };
    json!({
        "cpu_seconds": seconds,
        "cpu_seconds_per_100k": per_alert * 1e5,
        "resident_mib_before": mebibytes(before.resident_bytes),
        "resident_mib_after": mebibytes(after.resident_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_is_no_field() {
        let stat = "7 (a ) b) S 1 1 1 0 -1 4194560 10 0 0 0 250 150 0 0 20 0 4 0 99 1 2";
        assert!((cpu_seconds(stat) - 4.0).abs() < 1e-9);
        assert!(cpu_seconds("").abs() < 1e-9);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  2048 kB\n";
        assert!((mebibytes(resident_bytes(status)) - 2.0).abs() < 1e-9);
        assert!(usage(std::process::id()).resident_bytes > 0.0);
    }
}
