//! The body of a webhook of any tool: JSON, a form, plain text, JSON as text inside of JSON.

mod multipart;

use serde_json::{Map, Value};

/// The longest text that may hold further JSON, in bytes.
const NESTED_BYTES_MAX: usize = 256 * 1024;

/// The types of bodies that are a text for people.
const TEXTS: [&str; 2] = ["text/plain", "text/markdown"];

/// Reads a body. What looks like an object or a list is JSON, whatever its sender calls it. A form becomes an
/// object of its fields; if its only field is JSON, that is the body. A text becomes an object with the
/// field `text`. Fails with a reason.
pub(super) fn read(body: &[u8], content_type: &str) -> Result<Value, String> {
    if let Some(boundary) = multipart::boundary(content_type) {
        return form_body(multipart::read(body, boundary)?);
    }
    let text =
        std::str::from_utf8(body).map_err(|error| format!("the body is no text: {error}"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("the body is empty".to_owned());
    }
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    if is_markup(text, &media_type) {
        return Err("the body is XML or HTML, which is not read: send JSON, a form or plain text"
            .to_owned());
    }
    let is_structured = text.starts_with(['{', '[']);
    if media_type == "application/x-www-form-urlencoded" {
        // `curl -d` calls everything a form.
        return match serde_json::from_str(text) {
            Ok(value) if is_structured => Ok(value),
            _ if is_sentence(text) => Ok(text_body(text)),
            _ => read_form(text),
        };
    }
    match serde_json::from_str(text) {
        // `[DOWN] web` is no list.
        Err(_) if TEXTS.contains(&media_type.as_str()) && !looks_like_json(text) => {
            Ok(text_body(text))
        }
        read => read.map_err(|error| format!("the body is no JSON: {error}")),
    }
}

fn text_body(text: &str) -> Value {
    Value::Object(Map::from_iter([("text".to_owned(), Value::String(text.to_owned()))]))
}

/// Whether a text was meant to be JSON: an object, or a list that does not begin with a word.
fn looks_like_json(text: &str) -> bool {
    let list = text.strip_prefix('[').map(str::trim_start);
    text.starts_with('{')
        || list.is_some_and(|it| !it.starts_with(char::is_alphabetic) && !is_time(it))
}

/// Whether a bracket holds a number, and words stand behind it: `[2026-11-20 09:15] web is down`.
fn is_time(inside: &str) -> bool {
    let behind = inside.split_once(']').map_or("", |it| it.1);
    inside.starts_with(|it: char| it.is_ascii_digit())
        && behind.starts_with(char::is_whitespace)
        && behind.trim_start().starts_with(char::is_alphabetic)
}

/// Whether this is no form but a text as people write it.
fn is_sentence(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default();
    name.contains(char::is_whitespace) && name.contains(char::is_alphabetic)
}

fn is_markup(text: &str, media_type: &str) -> bool {
    let is_named = ["/xml", "+xml", "/html", "+html"].iter().any(|it| media_type.ends_with(it));
    let is_tag = text.strip_prefix('<').is_some_and(|it| {
        it.starts_with(|it: char| it.is_ascii_alphabetic() || matches!(it, '?' | '!'))
    });
    is_tag && (is_named || text.ends_with('>'))
}

fn read_form(text: &str) -> Result<Value, String> {
    let mut fields = Map::new();
    for part in text.trim().split('&').filter(|it| !it.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        fields.insert(decoded(name)?, Value::String(decoded(value)?));
    }
    form_body(fields)
}

/// A form is the object of its fields, or what one of them holds.
fn form_body(fields: Map<String, Value>) -> Result<Value, String> {
    for name in ["payload", "json", "data", "body"] {
        if let Some(Value::String(text)) = fields.get(name)
            && let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text)
        {
            return Ok(inner);
        }
    }
    if fields.is_empty() {
        Err("the form has no fields".to_owned())
    } else {
        Ok(Value::Object(fields))
    }
}

/// Takes the escapes out of a part of a form.
fn decoded(part: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|it| it.map(char::from));
                let digit = |it: Option<char>| it.and_then(|it| it.to_digit(16));
                let [Some(high), Some(low)] = digits.map(digit) else {
                    return Err("the form has a broken escape".to_owned());
                };
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "the form is no text".to_owned())
}

/// Reads JSON that stands as text inside of JSON, in place: SNS and some forms wrap it so, `levels`
/// deep at most.
pub(super) fn unwrap_texts(value: &mut Value, levels: usize) {
    match value {
        Value::String(text) if levels > 0 && text.len() <= NESTED_BYTES_MAX => {
            let trimmed = text.trim_start();
            if trimmed.starts_with(['{', '['])
                && let Ok(mut inner) = serde_json::from_str::<Value>(trimmed)
                && holds_objects(&inner)
            {
                unwrap_texts(&mut inner, levels - 1);
                *value = inner;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|it| unwrap_texts(it, levels)),
        Value::Object(map) => map.values_mut().for_each(|it| unwrap_texts(it, levels)),
        _ => {}
    }
}

fn holds_objects(value: &Value) -> bool {
    value.is_object() || value.as_array().is_some_and(|it| it.iter().any(Value::is_object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_come_in_several_wrappings() {
        const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
        const PARTS: &str = "multipart/form-data; boundary=x";
        for (body, content_type, expected) in [
            (r#"{"a": 1}"#, "application/json", Ok(json!({"a": 1}))),
            (r#"{"a": 1}"#, "text/plain; charset=UTF-8", Ok(json!({"a": 1}))),
            ("payload=%7B%22a%22%3A+1%7D", FORM, Ok(json!({"a": 1}))),
            ("a=b+c&d=%C3%A4", FORM, Ok(json!({"a": "b c", "d": "\u{e4}"}))),
            ("a=%zz", FORM, Err("the form has a broken escape")),
            ("&&", FORM, Err("the form has no fields")),
            (
                "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--",
                PARTS,
                Ok(json!({"a": "b"})),
            ),
            ("--x--", PARTS, Err("the form has no fields")),
            (" ", "application/json", Err("the body is empty")),
            ("{", "application/json", Err("the body is no JSON")),
            (r#"{"a": 1}"#, FORM, Ok(json!({"a": 1}))),
            ("web-1 is down: rate=7", FORM, Ok(json!({"text": "web-1 is down: rate=7"}))),
            ("web is down\n", "text/plain", Ok(json!({"text": "web is down"}))),
            ("[DOWN] web", "Text/Plain; charset=utf-8", Ok(json!({"text": "[DOWN] web"}))),
            ("[9:15] web", "text/plain", Ok(json!({"text": "[9:15] web"}))),
            ("[1, ", "text/plain", Err("the body is no JSON")),
            ("[1, 2], 3", "text/plain", Err("the body is no JSON")),
            (r#"{"a": "#, "text/plain", Err("the body is no JSON")),
            ("web is down", "application/json", Err("the body is no JSON")),
            ("web is down", "", Err("the body is no JSON")),
            ("<?xml version=\"1.0\"?><a>b</a>", "text/xml", Err("the body is XML or HTML")),
            ("<alarm id=\"1\"/>", "text/plain", Err("the body is XML or HTML")),
            ("<!channel> web is down", "text/plain", Ok(json!({"text": "<!channel> web is down"}))),
        ] {
            match (read(body.as_bytes(), content_type), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{body}"),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, expected) => panic!("{body}: {found:?}, not {expected:?}"),
            }
        }
        assert!(read(b"\xff", "").is_err());
    }

    #[test]
    fn json_in_json_is_read_to_a_depth() {
        let mut body = json!({"Message": "{\"a\": \"[{}]\"}", "text": "{no json", "list": ["[1]"]});
        unwrap_texts(&mut body, 3);
        assert_eq!(body, json!({"Message": {"a": [{}]}, "text": "{no json", "list": ["[1]"]}));
    }
}
