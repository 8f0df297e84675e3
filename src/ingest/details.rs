//! Fields that a sender may call as he likes: texts about an alert, and among them its labels.

use super::guess::label_of_thing;
use super::mapped::label_name;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest text that becomes a label, in bytes.
const LABEL_BYTES_MAX: usize = 256;
/// The most free fields that are looked at.
const FIELDS_MAX: usize = 48;

/// A value as a text: nothing is an empty one, and a list or an object is its JSON.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

/// The text of a field of an object; empty when it is not there.
pub(super) fn field(object: &Value, name: &str) -> String {
    object.get(name).map(text_of).unwrap_or_default()
}

/// The texts of a list, in a line.
pub(super) fn words_of(object: &Value, name: &str) -> String {
    let words = object.get(name).and_then(Value::as_array).into_iter().flatten().map(text_of);
    words.filter(|it| !it.is_empty()).take(FIELDS_MAX).collect::<Vec<_>>().join(", ")
}

/// A text as a label may hold it: a line of it, not too long.
pub(super) fn label_text(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    line.get(..line.floor_char_boundary(LABEL_BYTES_MAX)).unwrap_or_default().to_owned()
}

/// Free fields as texts by name. What is no object becomes the field `details`.
pub(super) fn texts_of(details: &Value) -> BTreeMap<String, String> {
    let Value::Object(fields) = details else {
        let text = text_of(details);
        return (!text.is_empty()).then(|| ("details".to_owned(), text)).into_iter().collect();
    };
    let texts = fields.iter().take(FIELDS_MAX);
    texts
        .map(|(key, value)| (label_name(key), text_of(value)))
        .filter(|(name, text)| !name.is_empty() && !text.is_empty())
        .collect()
}

/// Those of some texts that name a thing, a service or a host, say: by these alerts are brought
/// together.
pub(super) fn labels_among(texts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let labels = texts.iter().filter_map(|(name, text)| {
        let label = label_of_thing(&name.to_ascii_lowercase())?;
        let is_name = text.len() <= LABEL_BYTES_MAX && !text.contains(['\n', '{', '[']);
        is_name.then(|| (label.to_owned(), text.clone()))
    });
    labels.collect()
}

/// Sets a label unless its text is empty.
pub(super) fn set(labels: &mut BTreeMap<String, String>, name: &str, text: &str) {
    let text = label_text(text);
    if !text.is_empty() {
        labels.insert(name.to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn free_fields_become_texts_and_some_of_them_labels() {
        let details = json!({"Service": "shop", "ping time": "1500ms", "load": 0.75, "none": null,
            "host": "a\nb", "nested": {"a": [1]}, "\u{1f600}": "x", "env": "prod"});
        let texts = texts_of(&details);
        assert_eq!(texts["ping_time"], "1500ms");
        assert_eq!(texts["load"], "0.75");
        assert_eq!(texts["nested"], r#"{"a":[1]}"#);
        assert_eq!(texts.len(), 6, "{texts:?}");
        let labels = labels_among(&texts);
        let expected = [("environment", "prod"), ("service", "shop")];
        assert_eq!(labels, expected.map(|it| (it.0.to_owned(), it.1.to_owned())).into());
        assert_eq!(texts_of(&json!("free words"))["details"], "free words");
        assert!(texts_of(&json!(null)).is_empty());
    }

    #[test]
    fn a_label_is_a_line_of_a_length() {
        assert_eq!(label_text("  a\nb"), "a");
        assert_eq!(label_text(&"\u{e4}".repeat(300)).len(), 256);
    }
}
