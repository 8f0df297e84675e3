//! Writes down a guess as a mapping, for somebody to paste under `sources:` and to correct.

use super::Places;
use std::fmt::Write as _;

/// What nearly all tools call it when an alert is over.
const OVER: &str = "['ok', 'resolved', 'recovered', 'recovery', 'closed', 'cleared', 'normal', 'up', \
                    'healthy', 'success', 'inactive', 'completed', '0']";

/// Writes a source with the places that a guess found; `list` is the path to a list of alerts.
pub(super) fn write(name: &str, list: Option<&str>, places: &Places) -> String {
    let root = if list.is_some() { "item" } else { "body" };
    let get = |place: &str| format!("get({root}, '{}')", place.replace('\'', ""));
    let mut text = format!("sources:\n  - name: {name}\n    map:\n");
    let mut line = |depth: usize, key: &str, value: &str| {
        // A quoted text of YAML; what is written here never needs more than this.
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        writeln!(text, "{}{key}: \"{value}\"", " ".repeat(depth)).unwrap_or_default();
    };
    match list {
        Some("") => line(6, "each", "body"),
        Some(list) => line(6, "each", &format!("get(body, '{list}', [])")),
        None => {}
    }
    let status = if places.status.is_empty() {
        "'firing'".to_owned()
    } else {
        let value = format!("get({root}, '{}', '')", places.status);
        format!("string({value}).lowerAscii() in {OVER} ? 'resolved' : 'firing'")
    };
    line(6, "status", &status);
    line(6, "title", &get(&places.title));
    if !places.fingerprint.is_empty() {
        let mut parts = vec![get(&places.fingerprint)];
        parts.extend(places.resources.values().filter(|it| !it.is_empty()).map(|it| get(it)));
        parts.dedup();
        let quoted: Vec<String> =
            parts.iter().map(|it| format!("\"string(first({it}, ''))\"")).collect();
        writeln!(text, "      fingerprint: [{}]", quoted.join(", ")).unwrap_or_default();
    }
    let mut line = |depth: usize, key: &str, value: &str| {
        writeln!(text, "{}{key}: \"{value}\"", " ".repeat(depth)).unwrap_or_default();
    };
    for (key, place) in [("starts_at", &places.starts_at), ("link", &places.link)] {
        if !place.is_empty() {
            line(6, key, &get(place));
        }
    }
    let named = places.resources.iter().filter(|(_, place)| !place.is_empty());
    let mut labels: Vec<(&str, String)> =
        named.map(|(name, place)| (name.as_str(), get(place))).collect();
    if !places.severity.is_empty() {
        labels.push(("severity", get(&places.severity)));
    }
    if !labels.is_empty() {
        text.push_str("      labels:\n");
    }
    for (name, value) in labels {
        writeln!(text, "        {name}: \"{value}\"").unwrap_or_default();
    }
    text
}
