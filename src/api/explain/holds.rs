//! What holds an alert back, for `explain`.

use super::{DECISIVE, Stage};
use crate::domain::alert::{Alert, Disposition, Inhibitor};
use crate::domain::rules::RuleRef;
use std::sync::Arc;

/// Which alert inhibits, by which rule.
pub(super) fn why_inhibited(it: &Inhibitor) -> String {
    let until = it.until.map(|at| format!("{at:.0}")).unwrap_or_default();
    match (it.source, it.until) {
        (Some(source), None) => format!("held back while {source} fires, by the rule {}", it.rule),
        (Some(source), Some(_)) => format!(
            "held back until {until}, because {source} fired shortly before, by the rule {}",
            it.rule
        ),
        (None, _) => format!(
            "held back until {until}, should an alert fire that explains it, by the rule {}",
            it.rule
        ),
    }
}

/// Whether silences hold the alert back.
pub(super) fn silenced(alert: &Alert, in_files: &[Arc<RuleRef>]) -> Stage {
    let decision = &alert.decision;
    let checked = decision.silences_checked;
    if decision.silenced_by.is_empty() {
        let verdict = match checked {
            0 => "not silenced: no silence was active".to_owned(),
            1 => "not silenced: the only active silence does not match".to_owned(),
            _ => format!("not silenced: none of {checked} active silences matches"),
        };
        return Stage::new("silence", verdict);
    }
    let held = decision.disposition == Disposition::Silenced;
    let verdict = if held { "silenced" } else { "matched by a silence, but not held back" };
    let stage = Stage::new("silence", verdict);
    let mut places =
        in_files.iter().filter(|it| decision.silenced_by.iter().any(|id| **id == *it.name));
    let stage = places.next().into_iter().fold(stage, |stage, it| stage.rule(it));
    decision.silenced_by.iter().fold(stage, |stage, it| {
        stage.evidence("silence", DECISIVE, format!("the silence {it} matches its labels"))
    })
}

/// Which alert holds it back.
pub(super) fn inhibited(by: &Inhibitor) -> Stage {
    let stage = Stage::new("inhibit", "inhibited").rule(&by.rule);
    stage.evidence("alert", DECISIVE, why_inhibited(by))
}

/// Which maintenance window holds it back.
pub(super) fn in_maintenance(name: &str, in_files: &[Arc<RuleRef>]) -> Stage {
    let stage = Stage::new("maintenance", format!("in the maintenance {name}"));
    let rule = in_files.iter().find(|it| it.name == name);
    let stage = rule.into_iter().fold(stage, |stage, it| stage.rule(it));
    stage.evidence("maintenance", DECISIVE, "it is active, and its matchers hold")
}
