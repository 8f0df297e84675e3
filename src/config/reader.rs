//! Reads typed values from YAML nodes and collects every finding on the way.
//!
//! A value that is wrong is reported and replaced by a default, so that the next one is read too;
//! nothing of a set with an error is ever used.

use super::code::Code;
use super::each;
use super::fields::{Fields, closest, one_of};
use super::rule_files::{Collected, read_source};
use super::yaml::{Key, Node, Place, SyntaxError, Value};
use super::{Finding, Level, duration, expression};
use crate::domain::matcher::{Matcher, Matchers, compile_anchored};
use crate::domain::rules::RuleRef;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The most findings that are kept.
const FINDINGS_MAX: usize = 500;

/// A file's text under the name that people know it by.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// The path as given.
    pub(super) name: String,
    /// The path within its folder, for the revision.
    pub(super) relative: String,
    pub(super) text: String,
}

/// Where something is written: the number of the source, and the place in it.
pub(super) type Position = (usize, Place);

/// The sources, what was found in them, and the names they gave.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a [Source],
    /// The source that is being read.
    pub(super) current: usize,
    pub(super) findings: Vec<Finding>,
    /// What bears each name, by kind and name.
    names: BTreeMap<(&'static str, String), Position>,
    /// Names that something must bear, looked up when all files are read.
    pub(super) references: Vec<(&'static str, String, Position)>,
    /// Destinations of http steps that are not templates: `host:port`.
    pub(super) destinations: Vec<(String, Position)>,
    /// Steps that call runbooks.
    pub(super) calls: Vec<each::Call>,
    /// The time at which it is read.
    pub(super) now: Timestamp,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a [Source], now: Timestamp) -> Self {
        Self {
            sources,
            current: 0,
            findings: Vec::new(),
            names: BTreeMap::new(),
            references: Vec::new(),
            destinations: Vec::new(),
            calls: Vec::new(),
            now,
        }
    }

    /// Notes that something of a kind and name must exist.
    pub(super) fn refer(&mut self, kind: &'static str, name: &str, place: Place) {
        self.references.push((kind, name.to_owned(), (self.current, place)));
    }

    /// Reports something in the source that is being read.
    pub(super) fn report(&mut self, place: Place, code: Code, message: impl Into<String>) {
        self.report_at((self.current, place), code, &message.into(), None);
    }

    /// The same, with what to try.
    pub(super) fn report_hint(
        &mut self,
        place: Place,
        code: Code,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report_at((self.current, place), code, &message.into(), Some(hint.into()));
    }

    /// Reports something anywhere.
    pub(super) fn report_at(
        &mut self,
        (source, place): Position,
        code: Code,
        message: &str,
        hint: Option<String>,
    ) {
        // Nobody reads more, but an error must stay one.
        if self.is_full() && (code.level() == Level::Warning || self.has_error()) {
            return;
        }
        let (file, text) =
            self.sources.get(source).map_or(("", ""), |it| (it.name.as_str(), it.text.as_str()));
        // A file may hold anything, and the message goes to a terminal.
        let message: String =
            message.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect();
        let is_same = |it: &Finding| {
            (it.line, it.column, it.code) == (place.line, place.column, code.as_str())
                && it.message == message
                && it.file.as_os_str() == file
        };
        // What is read twice is wrong only once.
        if self.findings.iter().any(is_same) {
            return;
        }
        self.findings.push(Finding {
            file: PathBuf::from(file),
            line: place.line,
            column: place.column,
            level: code.level(),
            code: code.as_str(),
            message,
            hint,
            snippet: snippet(text, place),
        });
    }

    /// Reports what is no YAML.
    pub(super) fn report_syntax(&mut self, errors: Vec<SyntaxError>) {
        for error in errors {
            let message = format!("not valid YAML: {}", error.message);
            let hint = syntax_hint(&error.message).map(str::to_owned);
            self.report_at((self.current, error.place), Code::Syntax, &message, hint);
        }
    }

    /// Whether there are more findings than anybody reads.
    pub(super) fn is_full(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX
    }

    /// Whether something is wrong.
    pub(super) fn has_error(&self) -> bool {
        self.findings.iter().any(|it| it.level == Level::Error)
    }

    /// Notes that something of a kind and name stands in the source that is being read.
    pub(super) fn note_name(&mut self, kind: &'static str, name: &str, place: Place) {
        self.names.insert((kind, name.to_owned()), (self.current, place));
    }

    /// Where something of a kind and name is written.
    pub(super) fn position_of(&self, kind: &'static str, name: &str) -> Option<Position> {
        self.names.get(&(kind, name.to_owned())).copied()
    }

    /// Takes over the names, and nothing else, of files that are not checked.
    pub(super) fn borrow_names(&mut self, neighbours: &[Source], now: Timestamp) {
        let mut other = Reader::new(neighbours, now);
        let mut ignored = Collected::default();
        for (number, source) in neighbours.iter().enumerate() {
            other.current = number;
            read_source(&mut other, &source.text, &mut ignored);
        }
        for (name, _) in other.names {
            // Nobody asks for the position of these, only whether they are there.
            self.names.entry(name).or_insert((usize::MAX, Place::START));
        }
    }

    /// The names of a kind.
    pub(super) fn names_of(&self, kind: &'static str) -> Vec<&str> {
        self.names.keys().filter(|(it, _)| *it == kind).map(|(_, name)| name.as_str()).collect()
    }

    /// A reference to a place in the source that is being read.
    pub(super) fn rule_ref(&self, name: String, place: Place) -> Arc<RuleRef> {
        let file = self.sources.get(self.current).map(|it| it.name.clone()).unwrap_or_default();
        Arc::new(RuleRef { name, file, line: place.line })
    }

    /// The `name` of an entry, unique within its kind.
    pub(super) fn name(&mut self, kind: &'static str, fields: &mut Fields<'_>) -> Arc<RuleRef> {
        let place = fields.place;
        let Some(node) = fields.required(self, "name") else {
            return self.rule_ref(String::new(), place);
        };
        let name = self.text(node);
        if !matches!(&node.value, Value::Scalar { .. }) || node.is_null() {
            return self.rule_ref(name, place);
        }
        self.take_name(kind, &name, node.place);
        self.rule_ref(name, place)
    }

    /// Takes a name that nothing else of its kind may bear; what bears it stands at the same place.
    pub(super) fn take_name(&mut self, kind: &'static str, name: &str, at: Place) -> Arc<RuleRef> {
        if !is_name(name) {
            self.report_hint(
                at,
                Code::BadName,
                format!("bad {kind} name: `{name}`"),
                "a name has 1 to 100 characters, no `/`, no blank at its ends, no line break",
            );
        }
        if let Some((source, first)) = self.position_of(kind, name) {
            let file = self.sources.get(source).map_or("", |it| it.name.as_str());
            let hint = format!("the other one is at {file}:{}:{}", first.line, first.column);
            let message = format!("a {kind} of this name is there already: `{name}`");
            self.report_hint(at, Code::DuplicateName, message, hint);
        } else {
            self.note_name(kind, name, at);
        }
        self.rule_ref(name.to_owned(), at)
    }

    /// A text: any single value, as it is written.
    pub(super) fn text(&mut self, node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => text.clone(),
            _ => {
                let message = format!("expected a text, found {}", node.kind());
                self.report(node.place, Code::WrongKind, message);
                String::new()
            }
        }
    }

    /// A text that is not blank.
    pub(super) fn filled_text(&mut self, node: &Node) -> String {
        let text = self.text(node);
        if text.trim().is_empty() && matches!(&node.value, Value::Scalar { .. }) && !node.is_null()
        {
            self.report(node.place, Code::BadValue, "an empty text says nothing");
        }
        text
    }

    /// The entries of a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.report_hint(
            node.place,
            Code::WrongKind,
            format!("expected a list, found {}", node.kind()),
            "write `[a, b]`, or a line `- a` for each entry",
        );
        &[]
    }

    /// The entries of a list that is meant to be short, because each is compared with each.
    pub(super) fn short_list<'n>(&mut self, node: &'n Node, most: usize) -> &'n [Node] {
        let items = self.list(node);
        if items.len() > most {
            let message = format!("more than {most} entries");
            self.report(node.place, Code::BadValue, message);
        }
        items.get(..most).unwrap_or(items)
    }

    /// The entries of a map.
    pub(super) fn map<'n>(&mut self, node: &'n Node) -> &'n [(Key, Node)] {
        if let Value::Map(entries) = &node.value {
            return entries;
        }
        self.report_no_map(node, "name: value");
        &[]
    }

    /// Reports what should be a map; `inside` is what could stand in it.
    pub(super) fn report_no_map(&mut self, node: &Node, inside: &str) {
        let message = format!("expected a map, found {}", node.kind());
        self.report_hint(node.place, Code::WrongKind, message, format!("write `{{{inside}}}`"));
    }

    /// A whole number from a range, both ends included.
    pub(super) fn integer(&mut self, node: &Node, least: u64, most: u64) -> u64 {
        let text = self.text(node);
        if node.is_null() || !matches!(&node.value, Value::Scalar { .. }) {
            return least;
        }
        match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => number,
            Ok(_) => {
                let message = format!("expected a number from {least} to {most}: `{text}`");
                self.report(node.place, Code::BadValue, message);
                least
            }
            Err(_) => {
                let message = format!("expected a whole number: `{text}`");
                self.report(node.place, Code::WrongKind, message);
                least
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> bool {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => true,
            Value::Scalar { text, plain: true } if text == "false" => false,
            _ => {
                self.report(node.place, Code::WrongKind, "expected `true` or `false`");
                false
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node);
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        if matches!(&node.value, Value::Scalar { .. }) && !node.is_null() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = closest(&text, &all)
                .map_or_else(|| one_of(&all), |it| format!("did you mean `{it}`?"));
            self.report_hint(node.place, Code::BadValue, format!("unknown value `{text}`"), hint);
        }
        None
    }

    /// A duration such as `1h30m`, in seconds.
    pub(super) fn duration(&mut self, node: &Node) -> u32 {
        let text = self.text(node);
        if node.is_null() || !matches!(&node.value, Value::Scalar { .. }) {
            return 0;
        }
        duration::parse(&text).unwrap_or_else(|(message, hint)| {
            self.report_hint(node.place, Code::BadDuration, message, hint);
            0
        })
    }

    /// The same, but not nothing.
    pub(super) fn positive_duration(&mut self, node: &Node) -> u32 {
        let before = self.findings.len();
        let seconds = self.duration(node);
        if seconds == 0 && self.findings.len() == before {
            self.report(node.place, Code::BadDuration, "this cannot be zero");
        }
        seconds
    }

    /// A point in time, RFC 3339.
    pub(super) fn timestamp(&mut self, node: &Node) -> Timestamp {
        let text = self.text(node);
        if node.is_null() || !matches!(&node.value, Value::Scalar { .. }) {
            return Timestamp::UNIX_EPOCH;
        }
        text.parse().unwrap_or_else(|_| {
            self.report_hint(
                node.place,
                Code::BadTime,
                format!("not a point in time: `{text}`"),
                "write it as `2026-01-31T08:00:00Z`, or with an offset such as `+02:00`",
            );
            Timestamp::UNIX_EPOCH
        })
    }

    /// The name of a time zone.
    pub(super) fn time_zone(&mut self, node: &Node) -> String {
        let name = self.text(node);
        if jiff::tz::TimeZone::get(&name).is_err() {
            self.report_hint(
                node.place,
                Code::UnknownTimeZone,
                format!("unknown time zone: `{name}`"),
                "use a name of the IANA database, for example `Europe/Berlin` or `UTC`",
            );
        }
        name
    }

    /// A list of matchers.
    pub(super) fn matchers(&mut self, node: Option<&Node>) -> Matchers {
        let Some(node) = node else { return Matchers::default() };
        let mut matchers = Vec::new();
        for item in self.list(node) {
            let text = self.text(item);
            if !matches!(&item.value, Value::Scalar { .. }) || item.is_null() {
                continue;
            }
            match text.parse::<Matcher>() {
                Ok(matcher) => matchers.push(matcher),
                Err(reason) => {
                    let code = if reason.starts_with("bad regular expression")
                        || reason.starts_with("the pattern")
                    {
                        Code::BadPattern
                    } else {
                        Code::BadMatcher
                    };
                    self.report_hint(
                        item.place,
                        code,
                        on_one_line(&reason),
                        "write a matcher as `'name=\"value\"'`, with `=`, `!=`, `=~` or `!~`",
                    );
                }
            }
        }
        Matchers(matchers)
    }

    /// A regular expression for a whole value.
    pub(super) fn pattern(&mut self, node: &Node) -> String {
        let text = self.text(node);
        if let Err(reason) = compile_anchored(&text) {
            self.report(node.place, Code::BadPattern, on_one_line(&reason));
        }
        text
    }

    /// A template over some names; `known` are the names, or `name.field` for each field of a map
    /// whose fields are known.
    pub(super) fn template(&mut self, node: &Node, known: &expression::Names) -> String {
        let text = self.text(node);
        if let Err((message, hint)) = expression::check_template(&text, known) {
            self.report_at((self.current, node.place), Code::BadTemplate, &message, hint);
        }
        text
    }

    /// A map of names to values, for labels and headers.
    pub(super) fn pairs<'n>(&mut self, node: &'n Node) -> Vec<(&'n str, String)> {
        self.map(node).iter().map(|(key, value)| (key.text.as_str(), self.text(value))).collect()
    }
}

/// Whether a text can name a rule: it stands in URLs, metric labels and listings.
fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(|it: char| it == '/' || it.is_control())
}

/// A reason on one line: that of the regex crate is a picture over several.
fn on_one_line(reason: &str) -> String {
    let mut lines = reason.lines();
    let first = lines.next().unwrap_or_default();
    let Some(last) = lines.last() else { return first.to_owned() };
    let last = last.trim().trim_start_matches("error: ");
    format!("{}: {last}", first.trim_end_matches(':').trim_end_matches(": regex parse error"))
}

/// The line of a place with a mark under it.
fn snippet(text: &str, place: Place) -> String {
    const WIDTH_MAX: usize = 200;
    let Some(line) = text.lines().nth(place.line as usize - 1) else { return String::new() };
    let shown: String =
        line.chars().take(WIDTH_MAX).map(|it| if it.is_control() { ' ' } else { it }).collect();
    let column = (place.column as usize - 1).min(shown.chars().count());
    let length = (place.length as usize).min(shown.chars().count() - column).max(1);
    format!("{shown}\n{}{}", " ".repeat(column), "^".repeat(length))
}

/// What to try where the YAML library only says what it met.
fn syntax_hint(message: &str) -> Option<&'static str> {
    if message.contains("tabs") {
        Some("indent with spaces")
    } else if message.contains("did not find expected") {
        Some("the lines of one list or map begin in the same column")
    } else if message.contains("unclosed quote") {
        Some("close the quotation mark where the text ends")
    } else {
        None
    }
}
