//! Texts without what differs from one time to the next, and their words.

use regex::{Captures, Regex};
use std::sync::LazyLock;

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
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + use<'_> {
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
