//! Forms whose fields are parts (RFC 7578), as browsers and `curl -F` post them.

use serde_json::{Map, Value};

/// More parts than this are no form of an alert.
const PARTS_MAX: usize = 256;

/// The text between the parts, which the type of the body names; `None` = it is no such form.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (media_type, parameters) = content_type.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|it| !it.is_empty())
}

/// Reads the fields that are texts; files are left out. Fails with a reason.
pub(super) fn read(body: &[u8], boundary: &str) -> Result<Map<String, Value>, String> {
    let delimiter = format!("--{boundary}");
    let mut fields = Map::new();
    let mut parts = Parts { rest: body, delimiter: delimiter.as_bytes() };
    // What stands before the first delimiter belongs to no part.
    parts.next().ok_or("the form does not have the boundary that its type names")?;
    for _ in 0..PARTS_MAX {
        let is_last = parts.rest.starts_with(b"--");
        let Some(part) = parts.next().filter(|_| !is_last) else {
            return if is_last { Ok(fields) } else { Err("the form has no end".to_owned()) };
        };
        if let Some((name, value)) = field(part)? {
            fields.insert(name, Value::String(value));
        }
    }
    Err(format!("the form has more than {PARTS_MAX} parts"))
}

/// What stands between delimiters, one after the other; the rest is what follows the last of them.
struct Parts<'a> {
    rest: &'a [u8],
    delimiter: &'a [u8],
}

impl<'a> Parts<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let begins = |at: &usize| {
            let is_first_in_line = *at == 0 || self.rest.get(at - 1) == Some(&b'\n');
            is_first_in_line
                && self.rest.get(*at..).is_some_and(|it| it.starts_with(self.delimiter))
        };
        let at = (0..self.rest.len()).find(begins)?;
        let (part, rest) = self.rest.split_at(at);
        self.rest = rest.get(self.delimiter.len()..).unwrap_or_default();
        Some(part)
    }
}

/// A part's name and its text; `None` if it is a file, or has no name.
fn field(part: &[u8]) -> Result<Option<(String, String)>, String> {
    let broken = "a part of the form is no text";
    let Some(end) = part.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Err("a part of the form has no end of its head".to_owned());
    };
    let (head, value) = part.split_at(end);
    let head = std::str::from_utf8(head).map_err(|_| broken)?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let Some((_, parameters)) = disposition.and_then(|it| it.split_once(';')) else {
        return Ok(None);
    };
    let (Some(name), None) = (parameter(parameters, "name"), parameter(parameters, "filename"))
    else {
        return Ok(None);
    };
    let value = value.get(4..).unwrap_or_default();
    let value = value.strip_suffix(b"\r\n").unwrap_or(value);
    let value = std::str::from_utf8(value).map_err(|_| broken)?;
    Ok(Some((name.to_owned(), value.to_owned())))
}

/// The value of a parameter of a header, without its quotes.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|it| {
        let (key, value) = it.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parts_are_fields_and_files_are_left_out() {
        let body = b"preamble\r\n--x y\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n\
            Disk full --x y\r\non web\r\n--x y\r\ncontent-disposition: form-data; \
            name=\"log\"; filename=\"a.log\"\r\nContent-Type: text/plain\r\n\r\n\xff\r\n\
            --x y\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--x y--\r\n";
        let kind = "Multipart/Form-Data; charset=utf-8; boundary=\"x y\"";
        let fields = read(body, boundary(kind).unwrap()).unwrap();
        let expected = json!({"title": "Disk full --x y\r\non web", "empty": ""});
        assert_eq!(Value::Object(fields), expected);
    }

    #[test]
    fn what_is_broken_is_refused_with_a_reason() {
        for (body, reason) in [
            (&b"--y\r\n"[..], "the form does not have the boundary"),
            (b"--x\r\nA: b\r\n\r\nc", "the form has no end"),
            (b"--x\r\nA: b\r\n--x--", "a part of the form has no end of its head"),
            (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--x--", "a part of"),
        ] {
            let found = read(body, "x").unwrap_err();
            assert!(found.starts_with(reason), "{found}, not {reason}");
        }
        assert_eq!(boundary("multipart/form-data"), None);
        assert_eq!(boundary("application/json; boundary=x"), None);
    }

    proptest! {
        #[test]
        fn every_field_comes_back(fields in prop::collection::btree_map("[a-z]{1,8}", "[ -~\\n]{0,40}", 1..6)) {
            prop_assume!(!fields.values().any(|it| it.contains("~~")));
            let part = |(name, value): (&String, &String)| {
                let head = format!("Content-Disposition: form-data; name=\"{name}\"");
                format!("--~~limit~~\r\n{head}\r\n\r\n{value}\r\n")
            };
            let mut body: String = fields.iter().map(part).collect();
            body += "--~~limit~~--\r\n";
            let found = read(body.as_bytes(), "~~limit~~").unwrap();
            let expected: Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
