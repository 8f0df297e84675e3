//! The rules of the simulation in three variants, and some that cannot be right.

use std::sync::{Arc, LazyLock};
use watchkeeper::config;
use watchkeeper::domain::rules::{Mode, RuleSet};

/// How many variants there are.
pub(crate) const VARIANTS: usize = 3;

const TEXT: &str = include_str!("rules.yaml");

/// What stands in the places of the text, for each variant.
const PLACES: [[(&str, &str); 7]; VARIANTS] = [
    [
        ("@fixed@", "c"),
        ("@reopen@", "5m"),
        ("@gap@", "5m"),
        ("@ack@", "6m"),
        ("@until@", "2030-01-01T00:25:00Z"),
        ("@runs@", "5"),
        ("@clocked@", "severity=\"none\""),
    ],
    [
        ("@fixed@", "d"),
        ("@reopen@", "0s"),
        ("@gap@", "90s"),
        ("@ack@", "6m"),
        ("@until@", "2030-01-01T00:40:00Z"),
        ("@runs@", "2"),
        ("@clocked@", "severity=~\".*\""),
    ],
    [
        ("@fixed@", "none"),
        ("@reopen@", "15m"),
        ("@gap@", "20m"),
        ("@ack@", "1m"),
        ("@until@", "2030-01-01T00:40:00Z"),
        ("@runs@", "5"),
        ("@clocked@", "severity=\"none\""),
    ],
];

/// What somebody writes by mistake: for a part of the text another one.
const MISTAKES: [(&str, &str); 4] = [
    ("group_by: [service]", "group_bye: [service]"),
    ("receiver: ticket", "receiver: nobody"),
    ("mode: approve", "mode: perhaps"),
    ("matchers: ['service!=\"c\"']", "matchers: ['service!=\"c']"),
];

static GOOD: LazyLock<Vec<Arc<RuleSet>>> = LazyLock::new(|| {
    let read = |variant: usize| {
        let checked = config::rules_from_texts(&[("rules.yaml", &text(variant))], Mode::Act);
        let findings = checked.findings;
        Arc::new(checked.value.unwrap_or_else(|| panic!("the simulation's rules: {findings:?}")))
    };
    (0..VARIANTS).map(read).collect()
});

/// What comes of the rules with each mistake. Read once: it depends on nothing else.
static BAD: LazyLock<Vec<Option<Arc<RuleSet>>>> = LazyLock::new(|| {
    let read = |(right, wrong): &(&str, &str)| {
        let text = text(0).replace(right, wrong);
        config::rules_from_texts(&[("rules.yaml", &text)], Mode::Act).value.map(Arc::new)
    };
    MISTAKES.iter().map(read).collect()
});

fn text(variant: usize) -> String {
    let places = PLACES.get(variant % VARIANTS).into_iter().flatten();
    places.fold(TEXT.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// The rules of a variant without heartbeats: in the end nobody need be heard from any more.
pub(crate) fn without_heartbeats(variant: usize) -> Arc<RuleSet> {
    let mut rules = RuleSet::clone(&self::variant(variant));
    rules.heartbeats.clear();
    rules.revision.push_str("-quiet");
    Arc::new(rules)
}

/// The rules of a variant.
pub(crate) fn variant(variant: usize) -> Arc<RuleSet> {
    GOOD.get(variant % VARIANTS).cloned().expect("every variant is there")
}

/// Rules with a mistake in them, as a reload reads them; none come of it.
pub(crate) fn mistaken(mistake: usize) -> Option<Arc<RuleSet>> {
    BAD.get(mistake % BAD.len()).cloned().flatten()
}
