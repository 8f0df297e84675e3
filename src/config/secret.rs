//! Secrets: where a text is that must not be shown, and the reading of tokens.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::{Node, Value};
use super::{Error, Finding, Token};
use crate::domain::rules::SecretText;

/// A text, `{file: …}` or `{env: …}`.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> SecretText {
    if !matches!(&node.value, Value::Map(_)) {
        return SecretText::Text(reader.filled_text(node));
    }
    let nothing = SecretText::Text(String::new());
    let Some(mut fields) = Fields::open(reader, node) else { return nothing };
    let found = match (fields.optional("file"), fields.optional("env")) {
        (Some(file), None) => SecretText::File(reader.filled_text(file)),
        (None, Some(name)) => SecretText::Env(reader.filled_text(name)),
        _ => {
            let message = "a secret is in a file or in the environment: one of the two";
            reader.report_hint(
                node.place,
                Code::BadValue,
                message,
                "write `{file: /run/secrets/name}` or `{env: NAME}`",
            );
            nothing
        }
    };
    fields.finish(reader);
    found
}

/// The same, but never the text itself: a file with tokens in it would be copied around.
pub(super) fn read_hidden(reader: &mut Reader<'_>, node: &Node) -> SecretText {
    if matches!(&node.value, Value::Map(_)) {
        return read(reader, node);
    }
    reader.report_hint(
        node.place,
        Code::PlainSecret,
        "a token must not stand in this file",
        "write `{file: /run/secrets/name}` or `{env: NAME}`",
    );
    SecretText::Text(String::new())
}

/// Takes the lines with a secret out of all findings, which go to terminals and build logs.
pub(super) fn hide(findings: &mut [Finding]) {
    let is_secret = |it: &&Finding| it.code == Code::PlainSecret.as_str();
    let lines: Vec<u32> = findings.iter().filter(is_secret).map(|it| it.line).collect();
    for finding in findings.iter_mut().filter(|it| lines.contains(&it.line)) {
        finding.snippet.clear();
    }
}

/// Reads a token's text, as [`read_secret`] does.
pub fn read_token(token: &Token) -> Result<String, Error> {
    read_secret(&token.name, &token.token)
}

/// Reads a secret's text, without the white space at its ends. Fails when the file cannot be read,
/// the variable is not set, or nothing is in it.
pub fn read_secret(name: &str, secret: &SecretText) -> Result<String, Error> {
    let name = &name.to_owned();
    let text = match secret {
        SecretText::Text(text) => text.clone(),
        SecretText::File(path) => std::fs::read_to_string(path).map_err(|source| {
            Error::SecretFile { name: name.clone(), path: path.clone(), source }
        })?,
        SecretText::Env(variable) => std::env::var(variable).map_err(|_| {
            Error::SecretVariable { name: name.clone(), variable: variable.clone() }
        })?,
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::SecretEmpty { name: name.clone() });
    }
    Ok(text.to_owned())
}
