//! Takes the keys of a map one by one, so that what nobody asked for is reported.

use super::code::Code;
use super::reader::Reader;
use super::yaml::{Key, Node, Place, Value};

/// The keys of a map, taken one by one; what was not asked for is unknown.
pub(super) struct Fields<'n> {
    /// Where the map begins.
    pub(super) place: Place,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Begins to read a map; anything else is reported and read as an empty one.
    pub(super) fn open(reader: &mut Reader<'_>, node: &'n Node) -> Option<Self> {
        let is_map = matches!(&node.value, Value::Map(_));
        let entries = reader.map(node);
        is_map.then_some(Self { place: node.place, entries, known: Vec::new() })
    }

    /// The same; where it is no map, the hint tells what could stand in it.
    pub(super) fn open_like(reader: &mut Reader<'_>, node: &'n Node, inside: &str) -> Option<Self> {
        if matches!(&node.value, Value::Map(_)) {
            return Self::open(reader, node);
        }
        reader.report_no_map(node, inside);
        None
    }

    /// The value of a key that may be left out.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    /// The value of a key that must be there.
    pub(super) fn required(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<&'n Node> {
        let node = self.optional(name);
        if node.is_none() {
            let message = format!("missing field `{name}`");
            reader.report(self.place, Code::MissingField, message);
        }
        node
    }

    /// A key that a later version will know. An empty list there asks for nothing.
    pub(super) fn later(&mut self, reader: &mut Reader<'_>, name: &'static str) {
        self.known.push(name);
        let Some((key, node)) = self.entries.iter().find(|(key, _)| key.text == name) else {
            return;
        };
        if !matches!(&node.value, Value::List(items) if items.is_empty()) {
            reader.report_hint(
                key.place,
                Code::NotSupported,
                format!("not supported yet by this version: `{name}`"),
                "take it out; it is refused because a rule that does nothing would deceive you",
            );
        }
    }

    /// Reports keys that belong into a map below this one; `finish` adds nothing to that.
    pub(super) fn misplaced(
        &mut self,
        reader: &mut Reader<'_>,
        names: &[&'static str],
        below: &str,
    ) {
        for (key, _) in self.entries.iter().filter(|(key, _)| names.contains(&key.text.as_str())) {
            let (message, hint) = (
                format!("unknown field `{}`", key.text),
                format!("write `{below}: {{{}: …}}`", key.text),
            );
            reader.report_hint(key.place, Code::UnknownField, message, hint);
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for (key, _) in self.entries {
            if self.known.contains(&key.text.as_str()) {
                continue;
            }
            let hint = if key.text == "<<" {
                "merge keys are not supported; an alias `*name` for a whole value is".to_owned()
            } else {
                closest(&key.text, &self.known)
                    .map_or_else(|| one_of(&self.known), |it| format!("did you mean `{it}`?"))
            };
            let message = format!("unknown field `{}`", key.text);
            reader.report_hint(key.place, Code::UnknownField, message, hint);
        }
    }
}

/// The known word that is most like a text, if one is.
pub(super) fn closest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    // strsim's time is the product of the lengths, and nobody mistypes that much.
    if text.len() > 100 {
        return None;
    }
    words
        .iter()
        .map(|word| (strsim::damerau_levenshtein(text, word), *word))
        .filter(|(distance, word)| *distance <= 1.max(word.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// A hint that names what is allowed.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|it| format!("`{it}`")).collect();
    format!("expected one of {}", quoted.join(", "))
}
