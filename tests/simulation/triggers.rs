//! What must hold of the runs that nobody ordered.

use super::laws::{Verdict, ensure};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper::domain::State;
use watchkeeper::domain::execution::Execution;

/// The longest `late` of the rules.
const LATE: SignedDuration = SignedDuration::from_hours(1);
/// The time of all quotas of the rules, and the events that have one.
const QUOTA_TIME: SignedDuration = SignedDuration::from_mins(15);
const QUOTAS: [(&str, usize); 3] = [("alert_firing", 2), ("incident_changed", 1), ("change", 1)];

/// No time of the clock starts twice or too late, and no quota is passed.
pub(crate) fn check(state: &State) -> Verdict {
    let mut times = BTreeSet::new();
    let mut starts: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
    for execution in state.executions.values() {
        let of = |name| execution.context.trigger.get(name).map(String::as_str);
        let is_called = execution.parent.is_some();
        let Some(event) = of("event").filter(|_| !is_called) else { continue };
        if let Some(time) = of("time") {
            let id = execution.id;
            let runbook = &execution.runbook.rule.name;
            ensure(times.insert((runbook, time)), || format!("{id} is the second of {time}"))?;
            let at: Timestamp = time.parse().map_err(|_| format!("{id} began at {time}"))?;
            let late = execution.created_at.duration_since(at);
            let is_in_time = (SignedDuration::ZERO..=LATE).contains(&late);
            ensure(is_in_time, || format!("{id} began {late} after {time}"))?;
        }
        if execution.runbook.rule.name == "clocked" {
            starts.entry(event).or_default().push(execution);
        }
    }
    for (event, count) in QUOTAS {
        let runs = starts.get(event).map(Vec::as_slice).unwrap_or_default();
        let is_refused =
            |it: &Execution| it.blocked_by.as_ref().is_some_and(|it| it.guard == "quota");
        for run in runs {
            let since = run.created_at - QUOTA_TIME;
            let before =
                |it: &&&Execution| since < it.created_at && it.created_at <= run.created_at;
            // Two times of a quota may touch.
            let lately = runs.iter().filter(before).filter(|it| !is_refused(it)).count();
            ensure(lately <= 2 * count, || format!("{} passes the quota of {event}", run.id))?;
        }
    }
    Ok(())
}
