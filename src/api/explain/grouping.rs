//! Why an alert went into its incident, in a sentence, and what else could have become of it.

use super::{evidence, length};
use crate::domain::alert::{Alert, Grouping};

/// Why it went there.
pub(super) fn why_grouped(alert: &Alert) -> String {
    match &alert.decision.grouping {
        None => "no rule groups it".to_owned(),
        Some(Grouping::First) => "no open incident had the same rule and group".to_owned(),
        Some(Grouping::WindowOver { previous, gap_seconds, age_seconds }) => format!(
            "{previous} has the same group, but its last alert came {} and its first {} before, \
             which is outside the rule's window",
            length(*gap_seconds),
            length(*age_seconds)
        ),
        Some(Grouping::SameGroup { gap_seconds }) => format!(
            "it has the same rule and group, and took its last alert {} before",
            length(*gap_seconds)
        ),
        Some(Grouping::Near { gap_seconds, path }) => format!(
            "it has the same rule and group, was seen near ({}), and took its last alert {} before",
            path.join(" > "),
            length(*gap_seconds)
        ),
        Some(Grouping::Far { previous }) => format!(
            "no incident of the rule and group that takes alerts was seen near; the last is {previous}"
        ),
        Some(Grouping::Locked { previous }) => {
            format!("{previous} would have taken it, but a person locked it")
        }
        Some(Grouping::Returned) => {
            "the alert was in this incident before, and the incident is not closed".to_owned()
        }
        Some(Grouping::ReopenWindow { resolved_seconds }) => format!(
            "it has the same rule and group, and was resolved only {} before",
            length(*resolved_seconds)
        ),
        Some(Grouping::SameThing { alert }) => {
            format!("the alert {alert} tells of the same thing with another severity")
        }
        Some(Grouping::Evidence(it)) => evidence::enough(it),
        Some(Grouping::Apart { nearest }) => evidence::too_little(nearest.as_deref()),
        Some(Grouping::Moved { by }) => format!("{by} moved it there"),
        Some(Grouping::Parted { from, why }) => format!("it was split off {from}: {why}"),
    }
}

/// What else could have become of the alert.
pub(super) fn alternative(alert: &Alert) -> Option<String> {
    match alert.decision.grouping.as_ref()? {
        Grouping::WindowOver { previous, gap_seconds, .. } => Some(format!(
            "with a longer `window.gap` than {gap_seconds} s (and `window.max` to match) it would \
             have joined {previous}"
        )),
        Grouping::SameGroup { gap_seconds: gap_seconds @ 1.. } => Some(format!(
            "with a `window.gap` below {gap_seconds} s it would have opened an incident of its own"
        )),
        Grouping::ReopenWindow { resolved_seconds } => Some(format!(
            "with a `reopen_within` below {resolved_seconds} s it would have opened a new incident"
        )),
        Grouping::Locked { previous } => {
            Some(format!("without the lock (`incident unlock {previous}`) it would have joined"))
        }
        Grouping::Evidence(it) => evidence::alternative(it),
        Grouping::First
        | Grouping::Apart { .. }
        | Grouping::Far { .. }
        | Grouping::Near { .. }
        | Grouping::Returned
        | Grouping::SameGroup { .. }
        | Grouping::SameThing { .. }
        | Grouping::Moved { .. } => None,
        Grouping::Parted { from, .. } => Some(format!(
            "`incident merge` into {from} brings the two together for good, and teaches that they belong so"
        )),
    }
}
