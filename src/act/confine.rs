//! Landlock: a program reads and writes only where its step says, whoever its user is.

use crate::domain::rules::Paths;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, path_beneath_rules,
};

/// What a kernel must know where a step requires Landlock: Linux 5.13.
const LEAST: ABI = ABI::V1;
/// What is asked of a kernel that knows more.
const NEWEST: ABI = ABI::V5;
/// What nearly every program needs to start at all.
const PROGRAMS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/dev/urandom"];
/// Where everything may be written, because nothing is kept.
const NOWHERE: &str = "/dev/null";

/// Confines this process, and whatever it becomes or starts. Tells whether the kernel could; fails
/// where it could not and must, or where a path is not there.
pub(super) fn confine(paths: &Paths) -> Result<bool, String> {
    for path in paths.read.iter().chain(&paths.write) {
        std::fs::metadata(path).map_err(|error| format!("cannot reach `{path}`: {error}"))?;
    }
    let readable: Vec<&str> = if paths.read.is_empty() {
        vec!["/"]
    } else {
        PROGRAMS.into_iter().chain(paths.read.iter().map(String::as_str)).collect()
    };
    let writable: Vec<&str> = paths.write.iter().map(String::as_str).chain([NOWHERE]).collect();
    let level =
        if paths.best_effort { CompatLevel::BestEffort } else { CompatLevel::HardRequirement };
    let restrict = || {
        Ruleset::default()
            .set_compatibility(level)
            .handle_access(AccessFs::from_all(LEAST))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(NEWEST)))?
            .add_rules(path_beneath_rules(writable, AccessFs::from_all(NEWEST)))?
            .restrict_self()
    };
    let status = restrict().map_err(|error: RulesetError| {
        format!("this kernel cannot confine a program to `paths`: {error}")
    })?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Whether this kernel can confine programs.
pub fn is_possible() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))
        .and_then(Ruleset::create)
        .is_ok()
}
