//! Takes keys and values apart into words, and looks them up in the vocabulary.

use super::keys::{MONITORS, OCCURRENCES, PARTS, RESOURCES, STRANGERS};
use super::vocabulary::{
    BEFORE_UP, COMPLAINTS, FIRING, FIRING_IN_TEXT, IS, NEGATIONS, RESOLVED, RESOLVED_IN_TEXT, WEAK,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The longest word that a compound is made of, in bytes.
const PART_BYTES_MAX: usize = 12;
/// How much of a key or value is taken apart, in bytes: what an alert is stands at its beginning.
const WORDS_BYTES_MAX: usize = 1000;

/// What a word says about an alert's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It fires.
    Firing,
    /// It is over.
    Resolved,
}

/// What the words of a value say, the last one first: tools write `incident.resolved`. Names of
/// things and severities are listened to only where nothing else speaks.
pub(super) fn state_of(words: &[String]) -> Option<Said> {
    strong_state_of(words).or_else(|| last_state_of(words, |_| true))
}

/// What the words of a value say without those that are names and severities as well.
pub(super) fn strong_state_of(words: &[String]) -> Option<Said> {
    // `completed_with_errors` is not well.
    let is_with = words.iter().skip_while(|it| *it != "with").any(|it| it.starts_with("error"));
    if is_with { Some(Said::Firing) } else { last_state_of(words, |it| !WEAK.contains(&it)) }
}

fn last_state_of(words: &[String], is_heard: fn(&str) -> bool) -> Option<Said> {
    let is_in = |list: &[&str], word: &str| list.contains(&word);
    for (index, word) in words.iter().enumerate().rev() {
        let before = index.checked_sub(1).and_then(|it| words.get(it));
        let is_turned = before.is_some_and(|it| is_in(NEGATIONS, it));
        // `is back`, and not `back off`; `is up`, and not `follow up`; `reporting`, and not an error.
        let is_cut = match word.as_str() {
            "back" | "reporting" => index + 1 < words.len(),
            "up" => before.is_some_and(|it| is_in(BEFORE_UP, it)),
            _ => false,
        };
        if !is_heard(word) || is_cut {
            continue;
        }
        if is_in(RESOLVED, word) {
            return Some(if is_turned { Said::Firing } else { Said::Resolved });
        }
        if is_in(FIRING, word) {
            return Some(if is_turned && word != "data" { Said::Resolved } else { Said::Firing });
        }
        if word == "data" && is_turned {
            return Some(Said::Firing);
        }
    }
    None
}

/// What a sentence says, by words that are plain even there. What is over was before.
pub(super) fn state_of_text(words: &[String]) -> Option<Said> {
    let has = |list: &[&str]| {
        words.iter().enumerate().any(|(index, word)| {
            let before = index.checked_sub(1).and_then(|it| words.get(it));
            list.contains(&word.as_str())
                && !before.is_some_and(|it| NEGATIONS.contains(&it.as_str()))
        })
    };
    let pair = |one: &str, list: &[&str]| {
        words.windows(2).any(|it| match it {
            [first, second] => first == one && list.contains(&second.as_str()),
            _ => false,
        })
    };
    let is_well = ["is", "are", "now", "back", "returned", "to", "came", "went"]
        .iter()
        .any(|it| pair(it, &["ok", "up", "normal", "healthy", "online", "closed", "available"]));
    // `No client is available.`
    let is_well = is_well && !words.first().is_some_and(|it| NEGATIONS.contains(&it.as_str()));
    // `The disk is full`, `the queue was too long`.
    let is_complaint = IS.iter().any(|it| pair(it, COMPLAINTS) || pair(it, &["too"]));
    if has(RESOLVED_IN_TEXT) || is_well {
        Some(Said::Resolved)
    } else if has(FIRING_IN_TEXT) || is_complaint {
        Some(Said::Firing)
    } else {
        None
    }
}

/// How bad a word says it is: 0 information to 3 critical.
pub(super) fn severity_of_word(word: &str) -> Option<u8> {
    Some(match word {
        "critical" | "crit" | "fatal" | "emergency" | "emerg" | "disaster" | "page" | "high"
        | "highest" | "blocker" | "urgent" | "severe" | "catastrophic" | "danger" | "p0" | "p1"
        | "sev0" | "panic" | "outage" => 3,
        "error" | "err" | "major" | "average" | "p2" | "errors" | "failure" | "serious" => 2,
        "warning" | "warn" | "warnings" | "minor" | "medium" | "moderate" | "degraded" | "p3"
        | "normal" | "elevated" => 1,
        "info" | "information" | "informational" | "notice" | "debug" | "low" | "lowest"
        | "none" | "trivial" | "p4" | "p5" | "verbose" | "negligible" | "minimal" => 0,
        _ => return None,
    })
}

/// Of state words only these tell how bad it is.
pub(super) fn severity_of_state(word: &str) -> Option<u8> {
    match word {
        "critical" | "crit" | "fatal" | "disaster" | "emergency" => Some(3),
        "major" | "error" | "err" => Some(2),
        "warning" | "warn" | "minor" | "unknown" | "degraded" => Some(1),
        "info" | "notice" => Some(0),
        _ => None,
    }
}

/// The label for a thing that can be broken.
pub(super) fn resource(word: &str) -> Option<&'static str> {
    static LABELS: LazyLock<BTreeMap<&str, &str>> =
        LazyLock::new(|| RESOURCES.iter().copied().collect());
    LABELS.get(word).copied()
}

/// Whether a compound key may be made of this word.
fn is_part(word: &str) -> bool {
    static KNOWN: LazyLock<BTreeSet<&str>> = LazyLock::new(|| PARTS.iter().copied().collect());
    word.len() <= PART_BYTES_MAX && (KNOWN.contains(word) || resource(word).is_some())
}

/// Splits a key or value into lower-case words: at signs, at humps, and `SERVICESTATE` by what it
/// is made of.
pub(super) fn words_of_key(key: &str) -> Vec<String> {
    words_of(key).into_iter().flat_map(split_compound).collect()
}

/// Splits a text into lower-case words, at signs and at humps.
pub(super) fn words_of(text: &str) -> Vec<String> {
    let text = text.get(..text.floor_char_boundary(WORDS_BYTES_MAX)).unwrap_or(text);
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let characters: Vec<char> = text.chars().collect();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|it| characters.get(it));
        let is_hump = character.is_uppercase()
            && before.is_some_and(|it| {
                it.is_lowercase()
                    || it.is_uppercase()
                        && characters.get(index + 1).is_some_and(|it| it.is_lowercase())
            });
        if is_hump || !character.is_alphanumeric() {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Splits `servicestate` into `service` and `state`, if it is made of known words only.
fn split_compound(word: String) -> Vec<String> {
    if word.len() < 6 || word.len() > 40 || is_part(&word) || !word.is_ascii() {
        return vec![word];
    }
    // For each length of a beginning: where the last word of it starts, if it can be split.
    let mut starts: Vec<Option<usize>> = vec![None; word.len() + 1];
    for end in 1..=word.len() {
        let start = (end.saturating_sub(PART_BYTES_MAX)..end).find(|start| {
            let splits = *start == 0 || starts.get(*start).copied().flatten().is_some();
            splits && word.get(*start..end).is_some_and(is_part)
        });
        if let Some(it) = starts.get_mut(end) {
            *it = start;
        }
    }
    let mut parts = Vec::new();
    let mut end = word.len();
    while end > 0 {
        let Some(start) = starts.get(end).copied().flatten() else { return vec![word] };
        parts.push(word.get(start..end).unwrap_or_default().to_owned());
        end = start;
    }
    parts.reverse();
    parts
}

/// Whether words name something whose titles and states are not those of an alert.
pub(super) fn is_strange(words: &[String]) -> bool {
    any(words, STRANGERS) && !any(words, MONITORS) && !any(words, OCCURRENCES)
}

/// Whether a word stands in a list.
pub(super) fn any(words: &[String], list: &[&str]) -> bool {
    words.iter().any(|it| list.contains(&it.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_compound_is_too_long() {
        let words = PARTS.iter().chain(RESOURCES.iter().map(|(word, _)| word));
        let long: Vec<_> = words.filter(|it| it.len() > PART_BYTES_MAX).collect();
        assert!(long.is_empty(), "{long:?}");
    }

    #[test]
    fn keys_are_split_into_words() {
        for (key, expected) in [
            ("alertName", "alert name"),
            ("NewStateValue", "new state value"),
            ("LASTSERVICESTATE", "last service state"),
            ("ruleURL", "rule url"),
            ("event-type", "event type"),
            ("URLCheckName", "url check name"),
            ("hostname", "hostname"),
            ("xyzzyname", "xyzzyname"),
            ("$RESOURCE_ID", "resource id"),
        ] {
            assert_eq!(words_of_key(key).join(" "), expected, "{key}");
        }
    }

    #[test]
    fn values_say_a_state() {
        for (value, expected) in [
            ("incident.resolved", Some(Said::Resolved)),
            ("OK", Some(Said::Resolved)),
            ("Not OK", Some(Said::Firing)),
            ("No Data", Some(Said::Firing)),
            ("Triggered", Some(Said::Firing)),
            ("in progress", Some(Said::Firing)),
            ("PROBLEM", Some(Said::Firing)),
            ("POLICY_CLOSE_CRITICAL", Some(Said::Resolved)),
            ("ResolvedWarning", Some(Said::Resolved)),
            ("inactive alert", Some(Said::Resolved)),
            ("completed_with_errors", Some(Said::Firing)),
            ("Not Responding", Some(Said::Firing)),
            ("BackOff", None),
            ("OneMinuteFollowUp", None),
            ("Reporting Error", Some(Said::Firing)),
            ("banana", None),
        ] {
            assert_eq!(state_of(&words_of(value)), expected, "{value}");
        }
        for (text, expected) in [
            ("the service is up again", Some(Said::Resolved)),
            ("web is down", Some(Said::Firing)),
            ("Recovered after being down for 5 min", Some(Said::Resolved)),
            ("not resolved yet: outage goes on", Some(Said::Firing)),
            ("The disk of web is full", Some(Said::Firing)),
            ("The queue was too long", Some(Said::Firing)),
            ("The disk is not full", None),
            ("A full backup of the long list", None),
            ("No client is available", None),
            ("hello", None),
        ] {
            assert_eq!(state_of_text(&words_of(text)), expected, "{text}");
        }
    }
}
