//! What a body becomes, whoever mapped it: the general mapper or a declared mapping.

use super::payload::{RawAlert, Value};
use super::validate::{self, EndsBy};
use crate::domain::event::ReceivedAlert;
use crate::domain::incident::Severity;
use crate::domain::label::{Fingerprint, Labels};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What an entry of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An alert.
    Alert,
    /// A change to something, for example a deployment.
    Change,
    /// Neither: taken note of and left out.
    Other,
}

/// One entry of a body, mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// What it is.
    pub kind: Kind,
    /// What people call it.
    pub title: String,
    /// Whether it fires; else it is over.
    pub is_firing: bool,
    /// What its fingerprint is made of; empty = of its labels.
    pub known_by: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Texts about it.
    pub annotations: BTreeMap<String, String>,
    /// Since when it is true, if told.
    pub starts_at: Option<Timestamp>,
    /// When it ended, if told.
    pub ends_at: Option<Timestamp>,
    /// Where it can be looked at; may be empty.
    pub link: String,
    /// How sure the mapper is, 0 to 1000.
    pub confidence: u32,
}

impl Mapped {
    /// What is neither an alert nor a change.
    pub(super) fn left_out(title: String) -> Self {
        Self {
            kind: Kind::Other,
            title,
            is_firing: true,
            known_by: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            starts_at: None,
            ends_at: None,
            link: String::new(),
            confidence: 1000,
        }
    }

    /// How bad it is, by its label.
    pub fn severity(&self) -> Severity {
        Severity::from_label(self.labels.get("severity").map(String::as_str))
    }

    /// Its identity.
    pub fn fingerprint(&self) -> Fingerprint {
        let pairs = if self.known_by.is_empty() { &self.labels } else { &self.known_by };
        Labels::from_pairs(pairs).fingerprint()
    }

    /// The alert as the engine takes it, checked as those of other senders are. Fails with a reason.
    pub(super) fn receive(&self, now: Timestamp) -> Result<ReceivedAlert, String> {
        let time = |time: Option<Timestamp>| {
            time.map_or(Value::Absent, |it| Value::Text(it.to_string().into()))
        };
        // A start after the end cannot be: the clocks of two machines differ.
        let ends_at = self.ends_at.filter(|_| !self.is_firing);
        let starts_at = self.starts_at.filter(|it| ends_at.is_none_or(|end| *it <= end));
        let raw = RawAlert {
            labels: pairs_of(&self.labels),
            annotations: pairs_of(&self.annotations),
            starts_at: time(starts_at.map(|it| it.min(now))),
            ends_at: time(ends_at),
            generator_url: Value::Text(text_of(&self.link)),
            status: Value::Text(if self.is_firing { "firing" } else { "resolved" }.into()),
        };
        let mut received = validate::check(&raw, EndsBy::Status, now)?;
        received.identity = (!self.known_by.is_empty()).then(|| self.fingerprint());
        Ok(received)
    }
}

pub(super) fn pairs_of(pairs: &BTreeMap<String, String>) -> Value<'_> {
    let pairs = pairs.iter();
    Value::Pairs(pairs.map(|(name, text)| (text_of(name), Value::Text(text_of(text)))).collect())
}

fn text_of(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// A key as a label may be called: letters, digits and underlines.
pub(super) fn label_name(key: &str) -> String {
    let name: String =
        key.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).take(64).collect();
    let name = name.trim_matches('_');
    if name.starts_with(|it: char| it.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name.to_owned()
    }
}
