//! Writes down a guess as a mapping, for somebody to paste under `sources:` and to correct.

use super::Places;
use super::fields::{Field, Leaf};
use super::place::Place;
use super::words::{Said, words_of};
use crate::ingest::moment_text;
use std::fmt::Write as _;

/// What nearly all tools call it when an alert is over. Every third one is looked for after other words as
/// well, as in `incident.resolved`.
const OVER: [&str; 25] = [
    "ok",
    "good",
    "clear",
    "resolved",
    "resolve",
    "recover",
    "recovered",
    "normal",
    "healthy",
    "closed",
    "close",
    "inactive",
    "cleared",
    "fixed",
    "online",
    "recovery",
    "available",
    "passed",
    "completed",
    "success",
    "ended",
    "up",
    "successful",
    "succeeded",
    "reset",
];
/// So long may what stands before be, in bytes: an expression must not grow without end.
const BEFORE_BYTES_MAX: usize = 40;
/// The same in sentences.
const OVER_IN_TEXT: [&str; 16] = [
    "resolved",
    "recovered",
    "recovery",
    "cleared",
    "restored",
    "closed",
    "back to normal",
    "is ok",
    "is up",
    "ok:",
    "[ok]",
    "up:",
    "went ok",
    "succeeded",
    "successful",
    "is fine",
];

/// A state as it stands in a body.
#[derive(Clone, Debug)]
pub(super) struct Spoken {
    place: Place,
    value: String,
    form: Form,
    pub(super) is_over: bool,
}

/// How a state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `true`, or `false`.
    Truth,
    /// When it was over; empty while it fires.
    Time,
    /// A word made for it.
    Word,
    /// A sentence that tells it.
    Sentence,
}

impl Spoken {
    /// How a field says what was understood.
    pub(super) fn new(field: &Field<'_>, said: Said) -> Self {
        let text = field.plain().unwrap_or_default().to_lowercase();
        let (form, value) = match &field.value {
            Leaf::Bool(it) => (Form::Truth, it.to_string()),
            Leaf::Null => (Form::Time, text),
            _ if matches!(text.as_str(), "true" | "false") => (Form::Truth, text),
            _ if moment_text::read(&text).is_some() => (Form::Time, text),
            _ if text.split_whitespace().count() > 2 => (Form::Sentence, text),
            _ => (Form::Word, text),
        };
        let is_over = said == Said::Resolved;
        Self { place: field.place.clone(), value, form, is_over }
    }

    /// An expression that says so of this body, and of others that its tool may send.
    fn expression(&self, root: &str) -> String {
        let value = format!("string(first({}, ''))", get(&self.place, root));
        let [over, firing] = ["'resolved'", "'firing'"];
        match self.form {
            Form::Truth => {
                let (yes, no) = if self.is_over { (over, firing) } else { (firing, over) };
                format!("{value}.lowerAscii() == '{}' ? {yes} : {no}", self.value)
            }
            Form::Time => format!("{value} in ['', '0'] ? {firing} : {over}"),
            Form::Word => {
                format!("{value}.lowerAscii() in {} ? {over} : {firing}", list(&self.over_words()))
            }
            Form::Sentence => {
                let mut words: Vec<String> =
                    OVER_IN_TEXT.iter().map(|it| (*it).to_owned()).collect();
                let is_said = words.iter().any(|it| self.value.contains(it));
                if self.is_over && !is_said {
                    let first: String = self.value.chars().take(60).collect();
                    words.push(plain(&first));
                } else if !self.is_over {
                    words.retain(|it| !self.value.contains(it));
                }
                let words = list(&words);
                format!("{words}.exists(it, {value}.lowerAscii().contains(it)) ? {over} : {firing}")
            }
        }
    }

    /// The words for what is over, as this tool would write them: `incident.triggered` becomes
    /// `incident.resolved`.
    fn over_words(&self) -> Vec<String> {
        let last = words_of(&self.value).pop().unwrap_or_default();
        let before = self.value.strip_suffix(&last);
        let before = before.filter(|it| {
            !it.is_empty() && it.len() <= BEFORE_BYTES_MAX && !it.contains(char::is_whitespace)
        });
        let mut words: Vec<String> = OVER.iter().map(|it| (*it).to_owned()).collect();
        words.push("0".to_owned());
        words.extend(before.into_iter().flat_map(|before| {
            OVER.iter().step_by(3).map(move |it| plain(&format!("{before}{it}")))
        }));
        let own = plain(&self.value);
        words.retain(|it| *it != own);
        words.extend(self.is_over.then_some(own));
        words
    }
}

/// An expression that reads what stands at a place; `root` is what the entries of the list are called.
fn get(place: &Place, root: &str) -> String {
    let root = if place.is_around { "body" } else { root };
    format!("get({root}, '{}')", plain(&place.path))
}

/// A text that can stand in quotes.
fn plain(text: &str) -> String {
    text.chars().filter(|it| !matches!(it, '\'' | '\\') && !it.is_control()).collect()
}

fn list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|it| format!("'{it}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Writes a source with the places that a guess found; `list` is the path to a list of alerts.
pub(super) fn write(name: &str, list: Option<&str>, places: &Places) -> String {
    let root = if list.is_some() { "item" } else { "body" };
    let get = |place: &Place| get(place, root);
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
    if places.is_change {
        line(6, "change", "true");
    }
    let status = places.status.as_ref().map(|it| it.expression(root));
    let usual = if places.is_change { "'resolved'" } else { "'firing'" };
    line(6, "status", &status.unwrap_or_else(|| usual.to_owned()));
    line(6, "title", &get(&places.title));
    if !places.fingerprint.is_empty() {
        let mut parts = vec![get(&places.fingerprint)];
        parts.extend(places.resources.values().filter(|it| !it.is_empty()).map(get));
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
