//! How much in a body speaks for an alert, and how much against.

use super::fields::{self, Field};
use super::verdict::{Found, Verdict};
use super::{MONITOR_WEIGHT, Told, words};
use std::collections::BTreeSet;

/// From this weight on a state stands in a sentence, from the next under a key of its own.
const SPOKEN_WEIGHT: u32 = 40;
const TOLD_WEIGHT: u32 = 60;

/// Words that bodies with alerts have.
const FOR: &[&str] = &[
    "alarm",
    "alarms",
    "alert",
    "alerts",
    "check",
    "critical",
    "down",
    "downtime",
    "firing",
    "incident",
    "monitor",
    "outage",
    "problem",
    "recovered",
    "recovery",
    "resolved",
    "sensor",
    "severity",
    "threshold",
    "triggered",
    "unhealthy",
    "violation",
    "warning",
    "degraded",
    "disruption",
    "error",
    "failed",
    "failure",
    "health",
    "intrusion",
    "issue",
    "maintenance",
    "malware",
    "unavailable",
];
/// Words that bodies of repositories have.
const AGAINST: &[&str] = &[
    "branch",
    "commit",
    "commits",
    "fork",
    "forkee",
    "merge",
    "milestone",
    "pull",
    "push",
    "pusher",
    "repository",
    "review",
    "star",
    "wiki",
];
/// What calls itself so is one.
const NAMED: &[&str] = &[
    "alarm",
    "alarms",
    "alert",
    "alerts",
    "incident",
    "incidents",
    "intrusion",
    "malware",
    "monitor",
    "problem",
];

/// What the kind of a message says where it is about something else.
const OTHER_KINDS: &[&str] = &[
    "branch",
    "build",
    "card",
    "comment",
    "commit",
    "deploy",
    "deployment",
    "fork",
    "file",
    "form",
    "invoice",
    "meeting",
    "merge",
    "note",
    "order",
    "payment",
    "pipeline",
    "pull",
    "push",
    "release",
    "review",
    "sale",
    "user",
    "wiki",
];
/// What happens to anything: it speaks for no alert.
const HAPPENING: &[&str] = &[
    "complete",
    "completed",
    "create",
    "created",
    "delete",
    "deleted",
    "end",
    "ended",
    "new",
    "start",
    "started",
];
/// A body of so few values is a message, whose text is all that can be asked.
const MESSAGE_FIELDS_MAX: usize = 4;
/// How long a value is that is asked for its words, in bytes.
const VALUE_BYTES_MAX: usize = 80;
/// How long the text of a message is, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// How much speaks for an alert, and against: a push to a repository has titles and states as well.
pub(super) fn weigh(own: &[Field<'_>], around: &[Field<'_>], told: &Told) -> i32 {
    let is_message = own.len() + around.len() <= MESSAGE_FIELDS_MAX;
    let long = if is_message { MESSAGE_BYTES_MAX } else { VALUE_BYTES_MAX };
    let (mut found, mut against) = (BTreeSet::new(), BTreeSet::new());
    let (mut kinds, mut is_named) = (BTreeSet::new(), false);
    for field in own.iter().chain(around) {
        let is_short = field.text().is_some_and(|it| it.len() <= long);
        let values = if is_short { fields::words(field) } else { Vec::new() };
        let all = field.own.iter().chain(field.owner.iter()).chain(&values);
        found.extend(all.filter(|it| FOR.contains(&it.as_str())).cloned());
        is_named |= words::any(&field.own, NAMED) || words::any(&field.owner, NAMED);
        // `"topic": "alarms"`, `"kind": "incident"`.
        let is_whole = values.len() == 1 && (is_kind(field) || field.head() == "topic");
        is_named |= is_whole && words::any(&values, NAMED);
        // Backups have a repository, too, and call it by its name.
        let own = field.own.iter().filter(|it| *it != "repository");
        let keys = own.chain(field.above.iter());
        against.extend(keys.filter(|it| AGAINST.contains(&it.as_str())).cloned());
        // Beside many an alert stands a comment; one that is an object is what the message is about.
        against.extend(field.above.iter().filter(|it| *it == "comment").cloned());
        // `@type` says of what kind the format is.
        let says_kind =
            is_kind(field) && !field.key.starts_with('@') && !words::is_strange(&field.owner);
        if says_kind && !words::any(&values, NAMED) {
            kinds.extend(values.into_iter().filter(|it| OTHER_KINDS.contains(&it.as_str())));
        }
    }
    let count = |it: &BTreeSet<String>| i32::try_from(it.len()).unwrap_or(i32::MAX);
    is_named |= words::any(&words::words_of(&told.title.text), NAMED);
    let happens = told.state.as_ref().is_some_and(|it| own.iter().any(|field| happens(field, it)));
    let state = told.state.as_ref().filter(|_| !happens).map_or(0, |it| it.weight);
    count(&found).min(4)
        + i32::from(is_named)
        + i32::from(state >= SPOKEN_WEIGHT) * if is_message { 2 } else { 1 }
        + i32::from(state >= TOLD_WEIGHT)
        + i32::from(told.severity.is_some()) * 2
        + i32::from(told.identity.named.weight >= MONITOR_WEIGHT) * 2
        - count(&against) * 3
        - count(&kinds) * 4
}

/// Whether a value says of what kind the message is.
fn is_kind(field: &Field<'_>) -> bool {
    matches!(field.head(), "action" | "event" | "kind" | "type")
}

/// Whether a state was read from no more than that something happened: `movie.deleted`.
fn happens(field: &Field<'_>, state: &Found<Verdict>) -> bool {
    let words = fields::words(field);
    !field.place.is_empty()
        && field.place == state.place
        && is_kind(field)
        && words.iter().any(|it| HAPPENING.contains(&it.as_str()))
        && !words::any(&words, FOR)
}
