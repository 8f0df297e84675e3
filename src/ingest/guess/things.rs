//! What an alert is about, and the labels that its sender chose.

use super::fields::{Field, Leaf};
use super::keys::{MONITORS, OCCURRENCES, PAST, STRANGERS};
use super::naming::{NAME_BYTES_MAX, Named};
use super::words::{any, is_strange, resource, words_of};
use crate::ingest::mapped::label_name;
use crate::ingest::moment_text;
use std::collections::BTreeMap;

/// What an alert is about: names of things that can be broken, by label.
pub(super) fn resources(fields: &[Field<'_>]) -> BTreeMap<String, Named> {
    let mut best: BTreeMap<String, Named> = BTreeMap::new();
    for field in fields {
        let Some((label, weight)) = resource_weight(field).filter(|_| !field.is_listed) else {
            continue;
        };
        let Some(text) = field.plain() else { continue };
        let is_name = text.len() <= NAME_BYTES_MAX
            && !text.contains('\n')
            && !text.starts_with("{{")
            && moment_text::read(&text).is_none();
        let known = best.get(label).map_or(0, |it| it.weight);
        if is_name && weight > known {
            let place = field.place.clone();
            best.insert(label.to_owned(), Named { text, weight, place });
        }
    }
    if let Some((kind, named)) = object(fields) {
        let label = resource(&kind.to_lowercase()).unwrap_or("resource");
        best.entry(label.to_owned()).or_insert(named);
    }
    best
}

/// The first object that says itself of what kind it is, what it is called, and where it belongs, with that
/// kind: `{"kind": "Pod", "namespace": "shop", "name": "web-1"}`.
pub(super) fn object(fields: &[Field<'_>]) -> Option<(String, Named)> {
    fields.iter().filter(|it| it.own == ["name"] && !it.is_listed).find_map(|named| {
        let beside = |own: &[&str]| {
            let mut all = fields.iter().filter(|it| !it.place.is_empty() && it.own == own);
            all.find(|it| it.place.object() == named.place.object())?.text()
        };
        let kind = beside(&["kind"])?;
        let belongs = beside(&["namespace"]).or_else(|| beside(&["uid"]));
        let is_thing = !any(&words_of(kind), MONITORS) && !any(&words_of(kind), OCCURRENCES);
        let is_thing = is_thing && !is_strange(&named.owner) && belongs.is_some();
        let text = named.text().filter(|it| is_thing && it.len() <= NAME_BYTES_MAX)?.to_owned();
        let named = Named { text, weight: 45, place: named.place.clone() };
        Some((kind.to_owned(), named))
    })
}

fn resource_weight(field: &Field<'_>) -> Option<(&'static str, u32)> {
    if any(&field.own, PAST)
        || any(
            &field.owner,
            &[
                "actor",
                "author",
                "user",
                "sender",
                "integration",
                "creator",
                "webhook",
                "client",
                "sdk",
                "browser",
                "os",
            ],
        )
    {
        return None;
    }
    let own: Vec<&str> = field.own.iter().map(String::as_str).collect();
    let (label, form): (&str, u32) = match own.as_slice() {
        [word] if resource(word).is_some() => (resource(word)?, 80),
        [.., word]
            if resource(word).is_some() && field.own.len() <= 3 && !any(&field.own, STRANGERS) =>
        {
            (resource(word)?, 55)
        }
        [word, "name" | "desc" | "description"] => (resource(word)?, 90),
        [.., word, "name"] => (resource(word)?, 60),
        [word, "id" | "key" | "alias" | "address"] => (resource(word)?, 50),
        ["name" | "display" | "hostname"] => (resource(field.owner.last()?)?, 70),
        // The id of an instance may be that of one occurrence.
        ["id" | "key" | "url"] if !any(&field.owner, &["instance"]) => {
            (resource(field.owner.last()?)?, 40)
        }
        _ => return None,
    };
    let is_title = label == "resource" && own == ["subject"];
    if is_title || matches!(field.value, Leaf::Bool(_) | Leaf::Null) {
        return None;
    }
    Some((label, (form + 20).saturating_sub(field.depth * 3)))
}

/// Labels of the sender's own choice that stay the same from one message to the next.
pub(super) fn labels(fields: &[Field<'_>]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for field in fields.iter().filter(|it| it.is_label && !it.is_listed) {
        let name = label_name(&field.key);
        let meaning = &field.meaning;
        let Some(text) = field.plain() else { continue };
        let is_fit = !name.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && !text.contains('\n')
            && !any(
                meaning,
                &[
                    "value",
                    "time",
                    "timestamp",
                    "date",
                    "count",
                    "duration",
                    "url",
                    "message",
                    "state",
                    "status",
                ],
            );
        if is_fit && found.len() < 24 {
            found.entry(name).or_insert(text);
        }
    }
    found
}
