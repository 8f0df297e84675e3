//! From text to a tree of YAML values, each of which knows its place.
//!
//! Serde stops at the first error; a person wants all of them. So the tree is built from the events
//! of serde-saphyr's own parser, and the files beside this one read it key by key. Scalars stay
//! text until somebody asks for a type: a label `007` stays `007`, and `no` is no boolean.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How deep lists and maps may nest.
const DEPTH_MAX: usize = 32;
/// How many values a file may hold, those that aliases repeat included.
const NODES_MAX: usize = 200_000;

/// A place in a file. Lines and columns count from 1, columns and lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) length: u32,
}

impl Place {
    /// The beginning of a file.
    pub(super) const START: Self = Self { line: 1, column: 1, length: 1 };
}

/// A value and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text; `plain` = written without quotes, so that it may mean a number, a boolean or nothing.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Rc<Vec<Node>>),
    /// A map, in the order of the file.
    Map(Rc<Vec<(Key, Node)>>),
}

/// A key of a map and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Node {
    /// Whether nothing is written: `key:` or `key: null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entries, if it is a map.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar { .. } | Value::List(_) => &[],
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Why a text is no YAML, and where.
#[derive(Clone, Debug)]
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Parses all documents of a text. What is whole before a syntax error is returned with it: the
/// documents, and the entries of the lists of the last one.
pub(super) fn parse(text: &str) -> (Vec<Node>, Vec<SyntaxError>) {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        last: Place::START,
        anchors: BTreeMap::new(),
        nodes: 0,
        errors: Vec::new(),
        broken: false,
    };
    let mut documents = Vec::new();
    while !builder.broken {
        let document = match builder.next() {
            Ok(Some((Event::DocumentStart(..), _))) => builder.document(),
            Ok(Some(_)) => continue,
            Ok(None) => break,
            Err(error) => Err(error),
        };
        match document {
            Ok(node) => documents.extend(node),
            Err(error) => builder.give_up(error),
        }
    }
    (documents, builder.errors)
}

/// Builds nodes from events.
struct Builder<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    /// Where the last event was, for an error at the end of the file.
    last: Place,
    /// Nodes that can be repeated, by the parser's number for them, with their size.
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    errors: Vec<SyntaxError>,
    /// The parser cannot go on.
    broken: bool,
}

impl<'a> Builder<'a> {
    /// The next event that is no comment; `None` at the end.
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, SyntaxError> {
        loop {
            let Some(next) = self.parser.next_event() else { return Ok(None) };
            let (event, span) = next.map_err(|error| SyntaxError {
                place: place(error.marker().line(), error.marker().col(), 1),
                message: error.info(),
            })?;
            self.last = place_of(span);
            if !matches!(event, Event::Comment(..)) {
                return Ok(Some((event, self.last)));
            }
        }
    }

    /// The root of a document; `None` for an empty one.
    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        self.anchors.clear();
        match self.next()? {
            None | Some((Event::DocumentEnd, _)) => Ok(None),
            Some((event, place)) => {
                let node = self.node(event, place, 0)?;
                Ok(Some(node).filter(|it| !it.is_null()))
            }
        }
    }

    /// The node that begins with an event.
    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(refuse(place, format!("lists and maps nest deeper than {DEPTH_MAX}")));
        }
        let before = self.nodes;
        self.count(place, 1)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (Value::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => {
                let (node, size) = self.anchors.get(&id).cloned().ok_or_else(|| {
                    refuse(place, "an alias cannot stand within what it repeats".to_owned())
                })?;
                self.count(place, size)?;
                return Ok(Node { place, value: node.value });
            }
            _ => return Err(refuse(place, "a value is missing".to_owned())),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    /// The rest of a list.
    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        while !self.broken {
            match self.item(depth) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => self.salvage(error, depth)?,
            }
        }
        Ok(Value::List(Rc::new(items)))
    }

    /// The next entry of a list; `None` at its end.
    fn item(&mut self, depth: usize) -> Result<Option<Node>, SyntaxError> {
        match self.next()? {
            Some((Event::SequenceEnd, _)) => Ok(None),
            Some((event, place)) => self.node(event, place, depth + 1).map(Some),
            None => Err(refuse(self.last, "the file ends within a list".to_owned())),
        }
    }

    /// The rest of a map.
    fn map(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = BTreeMap::new();
        while !self.broken {
            match self.entry(depth) {
                Ok(Some((key, node))) => {
                    if let Some(line) = seen.insert(key.text.clone(), key.place.line) {
                        let Key { text, place } = key;
                        let message =
                            format!("the key `{text}` stands twice, first in line {line}");
                        self.errors.push(refuse(place, message));
                    } else {
                        entries.push((key, node));
                    }
                }
                Ok(None) => break,
                Err(error) => self.salvage(error, depth)?,
            }
        }
        Ok(Value::Map(Rc::new(entries)))
    }

    /// The next key and value of a map; `None` at its end.
    fn entry(&mut self, depth: usize) -> Result<Option<(Key, Node)>, SyntaxError> {
        let ended = "the file ends within a map";
        let (event, place) = match self.next()? {
            Some((Event::MappingEnd, _)) => return Ok(None),
            Some(it) => it,
            None => return Err(refuse(self.last, ended.to_owned())),
        };
        let Node { place, value: Value::Scalar { text, .. } } =
            self.node(event, place, depth + 1)?
        else {
            return Err(refuse(place, "a key must be a single value".to_owned()));
        };
        let Some((event, value_place)) = self.next()? else {
            return Err(refuse(self.last, ended.to_owned()));
        };
        let mut node = self.node(event, value_place, depth + 1)?;
        if node.is_null() {
            // Nothing is written there, so the key is the best place to point at.
            node.place = place;
        }
        Ok(Some((Key { text, place }, node)))
    }

    /// Keeps what is whole when the root, or a list right below it, breaks off. Deeper down the
    /// half would only give rise to findings that the other half answers.
    fn salvage(&mut self, error: SyntaxError, depth: usize) -> Result<(), SyntaxError> {
        if depth > 1 {
            return Err(error);
        }
        self.give_up(error);
        Ok(())
    }

    fn give_up(&mut self, error: SyntaxError) {
        self.errors.push(error);
        self.broken = true;
    }

    /// Keeps a small file from standing for a huge one.
    fn count(&mut self, place: Place, more: usize) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            return Err(refuse(place, format!("the file holds more than {NODES_MAX} values")));
        }
        Ok(())
    }
}

fn refuse(place: Place, message: String) -> SyntaxError {
    SyntaxError { place, message }
}

/// The place of an event; what spans lines is pointed at by its first character.
fn place_of(span: Span) -> Place {
    let length = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    place(span.start.line(), span.start.col(), length)
}

fn place(line: usize, column_from_0: usize, length: usize) -> Place {
    let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Place {
        line: number(line).max(1),
        column: number(column_from_0).saturating_add(1),
        length: number(length).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: &Node) -> &[(Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("no map: {other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let (documents, errors) = parse("# comment\na:\n  - {b: 007}\n---\nc: ~\n");
        assert!(errors.is_empty());
        assert_eq!(documents.len(), 2);
        let Value::List(items) = &entries(&documents[0])[0].1.value else { panic!("no list") };
        let (key, value) = &entries(&items[0])[0];
        assert_eq!(key.place, Place { line: 3, column: 6, length: 1 });
        assert_eq!(value.place, Place { line: 3, column: 9, length: 3 });
        assert!(matches!(&value.value, Value::Scalar { text, plain: true } if text == "007"));
        assert!(entries(&documents[1])[0].1.is_null());
    }

    #[test]
    fn an_alias_repeats_its_anchor() {
        let (documents, errors) = parse("a: &x [1, 2]\nb: *x\n");
        assert!(errors.is_empty());
        let Value::List(items) = &entries(&documents[0])[1].1.value else { panic!("no list") };
        assert_eq!(items.len(), 2);
    }

    #[test]
    fn what_is_whole_before_an_error_is_kept() {
        let (documents, errors) = parse("a: [1, 2]\nb:\n- {c: 1}\n- {d: [\ne: 3\n");
        assert_eq!(errors.len(), 1);
        let entries = entries(&documents[0]);
        assert_eq!(entries.len(), 2);
        assert!(matches!(&entries[1].1.value, Value::List(items) if items.len() == 1));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        let repeat = |i: usize| format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(5));
        let bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(1..40).map(repeat).collect::<Vec<_>>().concat();
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (text, line, part) in [
            ("a: 1\na: 2\n", 2, "stands twice"),
            ("a: [1\n", 1, ""),
            ("a: *nobody\n", 1, ""),
            ("? [x]\n: 1\n", 1, "single value"),
            ("a: &a [*a]\n", 1, ""),
            (bomb.as_str(), 7, "more than"),
            (deep.as_str(), 1, "deeper"),
        ] {
            let (_, errors) = parse(text);
            let error = errors.first().unwrap_or_else(|| panic!("taken: {text}"));
            assert_eq!(error.place.line, line, "{text}: {}", error.message);
            assert!(error.message.contains(part), "{text}: {}", error.message);
        }
    }
}
