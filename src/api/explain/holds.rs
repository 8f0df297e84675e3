//! What holds an alert back, for `explain`.

use super::{DECISIVE, Stage};
use crate::domain::alert::{Alert, Disposition, Inhibitor};
use crate::domain::rules::RuleRef;
use std::sync::Arc;

/// Which alert inhibits, by which rule.
pub(super) fn why_inhibited(it: &Inhibitor) -> String {
    let until = it.until.map(|at| format!("{at:.0}")).unwrap_or_default();
    let path = match it.path.as_slice() {
        [] => String::new(),
        path => format!("; the way to it is {}", path.join(" > ")),
    };
    match (it.source, it.until) {
        (Some(source), None) => {
            format!("held back while {source} fires, by the rule {}{path}", it.rule)
        }
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
    let stage = stage.evidence("alert", DECISIVE, why_inhibited(by));
    match by.path.as_slice() {
        [] => stage,
        path => stage.evidence("path", DECISIVE, path.join(" > ")),
    }
}

/// Which maintenance window holds it back.
pub(super) fn in_maintenance(name: &str, in_files: &[Arc<RuleRef>]) -> Stage {
    let stage = Stage::new("maintenance", format!("in the maintenance {name}"));
    let rule = in_files.iter().find(|it| it.name == name);
    let stage = rule.into_iter().fold(stage, |stage, it| stage.rule(it));
    stage.evidence("maintenance", DECISIVE, "it is active, and its matchers hold")
}

/// Whether it comes and goes, and whether its incident waits for it.
pub(super) fn restless(alert: &Alert) -> Option<Stage> {
    let flapping = alert.flapping_since().map(|it| format!("it flaps since {it:.0}"));
    let held = alert.held_until().map(|it| format!("its incident waits for it until {it:.0}"));
    let verdict = flapping.iter().chain(&held).cloned().collect::<Vec<_>>().join(", and ");
    let changes = alert.unrest.as_ref()?.changes_ppm / 1_000_000;
    let detail = format!("it began or ended {changes} times of late, older times counting less");
    (!verdict.is_empty())
        .then(|| Stage::new("flapping", verdict).evidence("changes", DECISIVE, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use crate::domain::alert::Held;
    use crate::domain::label::Fingerprint;

    #[test]
    fn what_inhibits_is_told_with_its_place() {
        let place = RuleRef { name: "down".to_owned(), file: "a.yaml".to_owned(), line: 3 };
        let source = Some(Fingerprint(0xab));
        let until = "2026-01-01T00:00:30Z".parse().ok();
        for (source, until, words) in [
            (source, None, "while 00000000000000ab fires"),
            (source, until, "until 2026-01-01T00:00:30Z, because 00000000000000ab fired"),
            (None, until, "should an alert fire that explains it"),
        ] {
            let stage = inhibited(&Inhibitor {
                rule: Arc::new(place.clone()),
                source,
                path: vec!["web".to_owned(), "cart".to_owned()],
                until,
            });
            assert!(stage.evidence.iter().any(|it| it.detail == "web > cart"));
            let json = serde_json::to_value(&stage).unwrap();
            assert_eq!((&json["file"], &json["line"]), (&"a.yaml".into(), &3.into()));
            let detail = json["evidence"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(words), "{detail}");
        }
    }

    #[test]
    fn a_window_is_told_with_its_place() {
        let mut alert = samples::alert();
        alert.decision.disposition = Disposition::InMaintenance;
        let held = Held { inhibited_by: None, maintenance: vec!["disks".into()] };
        alert.decision.held = Some(Box::new(held));
        let place = RuleRef { name: "disks".to_owned(), file: "a.yaml".to_owned(), line: 7 };
        let stage = in_maintenance("disks", &[Arc::new(place)]);
        assert_eq!(serde_json::to_value(&stage).unwrap()["line"], 7);
        assert_eq!(super::super::why_alert(&alert), "held back by the maintenance disks");
    }
}
