//! What an incident is like: tokens of its title, services and labels, with the accidental masked.

use crate::domain::incident::Incident;
use regex::{Captures, Regex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Labels that name the same thing: which service it is about.
const SERVICE_LABELS: [&str; 4] = ["app", "application", "component", "service"];
/// Labels that say nothing about the cause: how bad it is, and who scraped it.
const LABELS_IGNORED: [&str; 5] =
    ["severity", "priority", "prometheus", "prometheus_replica", "replica"];
/// A label with more values than this is dropped if it also differs in most incidents.
const VALUES_FEW: usize = 8;
/// The most different signatures that are looked at, the most frequent first; bounds the time.
const SIGNATURES_MAX: usize = 40_000;

/// One trait of an incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// A label and its masked value; also the incident's services.
    Label(String, String),
    /// A word of the title or of the alert's name.
    Word(String),
}

impl Token {
    /// How much more than a plain word it tells: the fields that name the fault and its place
    /// outweigh the wording.
    pub(super) fn importance(&self) -> f64 {
        match self {
            Self::Label(name, _) if name == "alertname" || name == "service" => 2.0,
            Self::Label(..) | Self::Word(_) => 1.0,
        }
    }

    /// Whether it says what happened, and not only where.
    pub(super) fn says_what(&self) -> bool {
        match self {
            Self::Label(name, _) => name == "alertname",
            Self::Word(_) => true,
        }
    }
}

/// Prints `alertname=DiskFull`, or `the word "disk"`.
impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(name, value) => write!(f, "{name}={value}"),
            Self::Word(word) => write!(f, "the word \"{word}\""),
        }
    }
}

/// Incidents with equal tokens.
pub(super) struct Signature<'a> {
    /// Sorted, each once.
    pub(super) tokens: Vec<Token>,
    /// In order of number.
    pub(super) incidents: Vec<&'a Incident>,
}

/// All incidents that are looked at, by signature, in a fixed order.
pub(super) struct Corpus<'a> {
    pub(super) signatures: Vec<Signature<'a>>,
}

impl<'a> Corpus<'a> {
    /// Sorts incidents by their signature.
    pub(super) fn of(history: &[&'a Incident]) -> Self {
        let mut token_sets: Vec<_> = history.iter().map(|it| tokens(it)).collect();
        let varied = varied_labels(&token_sets);
        let mut by_tokens: BTreeMap<Vec<Token>, Vec<&Incident>> = BTreeMap::new();
        for (incident, tokens) in history.iter().zip(&mut token_sets) {
            tokens.retain(|it| !matches!(it, Token::Label(name, _) if varied.contains(name)));
            let key = std::mem::take(tokens).into_iter().collect();
            by_tokens.entry(key).or_default().push(incident);
        }
        let mut signatures: Vec<_> = by_tokens
            .into_iter()
            .map(|(tokens, incidents)| Signature { tokens, incidents })
            .collect();
        if signatures.len() > SIGNATURES_MAX {
            signatures.sort_by_key(|it| std::cmp::Reverse(it.incidents.len()));
            signatures.truncate(SIGNATURES_MAX);
            signatures.sort_by(|a, b| a.tokens.cmp(&b.tokens));
        }
        Self { signatures }
    }

    /// How many incidents there are.
    pub(super) fn incident_count(&self) -> usize {
        self.signatures.iter().map(|it| it.incidents.len()).sum()
    }
}

/// Labels that name a machine, the plainest first.
const HOST_LABELS: [&str; 5] = ["host", "hostname", "node", "nodename", "instance"];

/// The machine that an incident is about, without its port.
pub(super) fn host(incident: &Incident) -> Option<&str> {
    let value = HOST_LABELS.iter().find_map(|it| incident.labels.get(it))?;
    Some(match value.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => value,
    })
}

fn tokens(incident: &Incident) -> BTreeSet<Token> {
    let mut tokens = BTreeSet::new();
    let mut label = |name: &str, value: &str| {
        // What rules and people named stays as it is: `auth-2` is not `auth-1`.
        let is_name = matches!(name, "alertname" | "service");
        let value = if is_name { value.to_owned() } else { mask(value) };
        tokens.insert(Token::Label(name.to_owned(), value));
    };
    for service in &incident.services {
        label("service", service);
    }
    for (name, value) in incident.labels.iter() {
        if SERVICE_LABELS.contains(&name) {
            label("service", value);
        } else if !LABELS_IGNORED.contains(&name) {
            label(name, value);
        }
    }
    let alertname = incident.labels.get("alertname").unwrap_or_default();
    for text in [incident.title.as_str(), alertname] {
        tokens.extend(words(&mask(text)).map(Token::Word));
    }
    tokens
}

/// The labels that nearly always differ, as an address or a trace id does: they would only make
/// equal faults look different. The alert's name and service always count.
fn varied_labels(token_sets: &[BTreeSet<Token>]) -> BTreeSet<String> {
    let mut values: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for token in token_sets.iter().flatten() {
        if let Token::Label(name, value) = token {
            let (different, count) = values.entry(name).or_default();
            different.insert(value);
            *count += 1;
        }
    }
    values
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "alertname" | "service"))
        .filter(|(_, (different, count))| {
            different.len() > VALUES_FEW && different.len() * 2 > *count
        })
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What differs from one time to the next: a pattern and what stands for it. In this order.
static MASKS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    [
        (r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "#"),
        (r"\b\d{1,3}(\.\d{1,3}){3}\b", "#"),
        (r"\b([0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}\b", "#"),
        // What Kubernetes adds to the name of a pod; its alphabet has no vowels.
        (r"(-[bcdf-hj-np-tv-xz2456789]{6,10})?-[bcdf-hj-np-tv-xz2456789]{5}\b", ""),
        (r"\b(0x)?[0-9a-fA-F]{6,}\b", "#"),
        (r"\d+(\.\d+)?((ms|us|ns|s|m|h|d|[kKMGT]i?B?)\b|%)?", "#"),
    ]
    .map(|(pattern, mask)| (Regex::new(pattern).expect("the patterns are tested"), mask))
});

/// Replaces numbers, hexadecimal ids, addresses, durations and the suffixes of pods. A word that
/// only looks like one of them, because it has no digit, stays.
pub(super) fn mask(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.bytes().any(|it| it.is_ascii_digit()) {
        return text;
    }
    for (pattern, mask) in MASKS.iter() {
        text = pattern
            .replace_all(&text, |found: &Captures<'_>| {
                let found = found.get(0).map_or("", |it| it.as_str());
                let has_digit = found.bytes().any(|it| it.is_ascii_digit());
                if has_digit { *mask } else { found }.to_owned()
            })
            .into_owned();
    }
    text
}

/// The words of a text, in lower case; `DiskFull` is two.
fn words(text: &str) -> impl Iterator<Item = String> + use<'_> {
    text.split(|it: char| !it.is_alphanumeric()).flat_map(|part| {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut after_lower = false;
        for character in part.chars() {
            if character.is_uppercase() && after_lower {
                words.push(std::mem::take(&mut word));
            }
            after_lower = character.is_lowercase();
            word.extend(character.to_lowercase());
        }
        words.push(word);
        words.retain(|it| it.chars().count() > 1);
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_leave_what_matters() {
        for (text, expected) in [
            ("disk of db-17 at 97.5% for 10m", "disk of db-# at # for #"),
            ("checkout-7d9f8b6c5d-x2x4q", "checkout"),
            ("fluentd-x2x4q is down", "fluentd is down"),
            ("10.0.3.17:9100", "#:#"),
            ("[fe80::1ff:fe23:4567:890a]:80", "[#]:#"),
            ("request 550e8400-e29b-41d4-a716-446655440000 failed", "request # failed"),
            ("commit deadbeef12 in 0xffa012", "commit # in #"),
            ("node-042", "node-#"),
            ("payments", "payments"),
            ("face-lifts of the facade 1", "face-lifts of the facade #"),
            ("web-https to rhythm 5", "web-https to rhythm #"),
            ("", ""),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }

    #[test]
    fn words_come_apart() {
        let all: Vec<_> = words("HostDiskFull: db_main/a is 100% FULL über").collect();
        assert_eq!(all, ["host", "disk", "full", "db", "main", "is", "100", "full", "über"]);
    }
}
