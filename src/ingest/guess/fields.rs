//! Takes a body apart: every single value with the words of the keys that lead to it.

use super::keys::MONITORS;
use super::place::Place;
use super::words::{words_of, words_of_key};
use serde_json::{Map, Value};
use std::rc::Rc;

/// The most values that are looked at.
const FIELDS_MAX: usize = 2000;
/// The most keys and entries of lists that are looked at, whether a value stands behind them or not.
const STEPS_MAX: usize = 8000;
/// The most entries of a list that are looked at before it is taken for one of alerts.
const JUDGED_MAX: usize = 50;
/// The most values of such an entry that are looked at.
const JUDGED_FIELDS_MAX: usize = 100;
/// The most lists that are judged.
const LISTS_MAX: usize = 64;
/// The most lines of a text that are looked at for fields.
const LINES_MAX: usize = 40;
/// The fewest lines of a text that look like fields before they are taken for such.
const PAIRS_MIN: usize = 2;
/// How deep objects are looked into.
const DEPTH_MAX: usize = 12;
/// Keys that only wrap what matters: they count neither as depth nor as owner.
const WRAPPERS: &[&str] = &[
    "attributes",
    "body",
    "content",
    "context",
    "data",
    "details",
    "detail",
    "essentials",
    "event",
    "message",
    "metadata",
    "output",
    "object",
    "payload",
    "properties",
    "result",
    "results",
    "values",
];
/// Keys below which every key is a label of the sender's own choice.
const LABELS: &[&str] =
    &["dimension", "dimensions", "label", "labels", "tag", "tags", "facets", "customdetails"];
/// Keys that say nothing of their own: what they mean stands above them.
const BARE: &[&str] = &[
    "current", "display", "id", "key", "label", "name", "new", "status", "text", "to", "type",
    "value",
];

/// A single value.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// The words of its own key.
    pub(super) own: Vec<String>,
    /// The words of the key above it that says what it belongs to.
    pub(super) owner: Rc<[String]>,
    /// The words of all keys above it.
    pub(super) above: Rc<[String]>,
    /// The words that say what it is: its own, or those above where its own say nothing.
    pub(super) meaning: Vec<String>,
    /// The key as it was written, for labels.
    pub(super) key: String,
    /// How many keys above it matter.
    pub(super) depth: u32,
    /// Whether it stands among labels of the sender's own choice.
    pub(super) is_label: bool,
    /// Whether its key is the sender's own choice in a list of tags.
    pub(super) is_tag: bool,
    /// Whether it stands in an entry of a list, as what was measured does.
    pub(super) is_listed: bool,
    /// Where it stands.
    pub(super) place: Place,
    pub(super) value: Leaf<'a>,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf<'a> {
    Text(std::borrow::Cow<'a, str>),
    Number(f64),
    Bool(bool),
    Null,
}

impl Field<'_> {
    /// The text, if it is one that is not blank.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Leaf::Text(text) => Some(text.trim()).filter(|it| !it.is_empty()),
            _ => None,
        }
    }

    /// The text, or the number as text.
    pub(super) fn plain(&self) -> Option<String> {
        match &self.value {
            Leaf::Number(number) => Some(number.to_string()),
            _ => self.text().map(str::to_owned),
        }
    }

    /// The last word of its own key.
    pub(super) fn head(&self) -> &str {
        self.own.last().map_or("", String::as_str)
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.own.iter().any(|it| it == word)
    }
}

/// What is above a value while a body is walked through.
#[derive(Clone, Default)]
struct Above {
    words: Rc<[String]>,
    owner: Rc<[String]>,
    depth: u32,
    levels: usize,
    is_label: bool,
    is_listed: bool,
    is_button: bool,
    place: String,
}

/// Takes a value apart, until so many fields were found. `skip` is a list that is looked at by itself.
pub(super) fn fields<'a>(body: &'a Value, skip: Option<&Value>, most: usize) -> Vec<Field<'a>> {
    let most = most.min(FIELDS_MAX);
    let mut found = Found { fields: Vec::new(), most, steps: 0, is_around: skip.is_some() };
    walk(body, skip, &Above::default(), &mut found);
    found.fields
}

/// What was found so far, and how much was looked at: bodies without an end are not walked to theirs.
struct Found<'a> {
    fields: Vec<Field<'a>>,
    most: usize,
    steps: usize,
    /// Whether this is what stands beside a list.
    is_around: bool,
}

impl Found<'_> {
    fn is_enough(&mut self) -> bool {
        self.steps += 1;
        self.fields.len() >= self.most || self.steps > STEPS_MAX
    }
}

fn walk<'a>(value: &'a Value, skip: Option<&Value>, above: &Above, found: &mut Found<'a>) {
    if above.levels > DEPTH_MAX || skip.is_some_and(|it| std::ptr::eq(it, value)) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if found.is_enough() {
                    return;
                }
                step(key, value, skip, above, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().take(50) {
                if found.is_enough() {
                    return;
                }
                let mut inside = above.clone();
                inside.levels += 1;
                inside.place = path_to(&above.place, &index.to_string());
                match item {
                    Value::Object(map) => {
                        if let Some((key, value)) = pair_of(map) {
                            pair(&key, value, &inside, found);
                        } else {
                            inside.is_listed = true;
                            walk(item, skip, &inside, found);
                        }
                    }
                    Value::String(text) => tags(text, &inside, found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn step<'a>(
    key: &str,
    value: &'a Value,
    skip: Option<&Value>,
    above: &Above,
    found: &mut Found<'a>,
) {
    let own = words_of_key(key);
    if matches!(value, Value::Object(_) | Value::Array(_)) {
        let joined = own.concat();
        let is_wrapper = WRAPPERS.contains(&joined.as_str());
        let mut inside = above.clone();
        inside.levels += 1;
        inside.place = path_to(&above.place, key);
        inside.words = above.words.iter().chain(&own).cloned().collect();
        inside.is_button |= is_button(&own);
        inside.is_label |=
            LABELS.contains(&joined.as_str()) || own.last().is_some_and(|it| it == "labels");
        if !is_wrapper {
            inside.owner = own.into();
            inside.depth += 1;
        }
        return walk(value, skip, &inside, found);
    }
    if let Value::String(text) = value
        && own.iter().any(|it| it == "tags")
        && text.contains([':', '='])
    {
        let mut inside = above.clone();
        inside.is_label = true;
        for part in text.split(',') {
            tags(part, &inside, found);
        }
        return;
    }
    if let Value::String(text) = value {
        lines(text, above, found);
    }
    add(key, own, leaf(value), above, found);
}

/// The lines `Severity: High` of a longer text, as mails and chats tell their fields.
fn lines<'a>(text: &'a str, above: &Above, found: &mut Found<'a>) {
    let pairs = text.lines().take(LINES_MAX).filter_map(|line| {
        let (key, value) = line.split_once(": ")?;
        let (key, value) = (key.trim_matches(|it: char| !it.is_alphanumeric()), value.trim());
        let is_key = (1..=3).contains(&key.split_whitespace().count()) && key.len() <= 32;
        let is_key = is_key && key.starts_with(char::is_alphabetic) && !key.contains(['[', '(']);
        (is_key && !value.is_empty() && value.len() <= 250).then_some((key, value))
    });
    let pairs: Vec<(&str, &str)> = pairs.collect();
    if pairs.len() >= PAIRS_MIN && text.lines().nth(PAIRS_MIN - 1).is_some() {
        // A field of the body's own goes before.
        let inside = Above { depth: above.depth + 1, ..above.clone() };
        for (key, value) in pairs {
            pair_text(key, value, &inside, found);
        }
    }
}

/// Whether this is the key of what people can press below a message.
fn is_button(own: &[String]) -> bool {
    let last = own.last().map_or("", String::as_str);
    matches!(last, "actions" | "button" | "buttons") || own == ["potential", "action"]
}

fn add<'a>(key: &str, own: Vec<String>, value: Leaf<'a>, above: &Above, found: &mut Found<'a>) {
    // What stands on a button says nothing of the alert; where it leads to may.
    let is_web = matches!(&value, Leaf::Text(it) if it.starts_with("http"));
    if found.fields.len() < found.most && (is_web || !above.is_button) {
        let is_bare = own.iter().all(|it| BARE.contains(&it.as_str()));
        let of = if is_bare { &*above.owner } else { &[] };
        let meaning = of.iter().chain(&own).cloned().collect();
        found.fields.push(Field {
            own,
            owner: Rc::clone(&above.owner),
            above: Rc::clone(&above.words),
            meaning,
            key: key.to_owned(),
            depth: above.depth,
            is_label: above.is_label,
            is_tag: false,
            is_listed: above.is_listed,
            place: Place { path: path_to(&above.place, key), is_around: found.is_around },
            value,
        });
    }
}

/// `{"name": "env", "value": "prod"}`, as many tools write labels and columns.
fn pair_of(map: &Map<String, Value>) -> Option<(String, &Value)> {
    if map.len() > 6 {
        return None;
    }
    let find = |names: &[&str]| {
        map.iter()
            .find(|(key, _)| names.contains(&key.to_ascii_lowercase().as_str()))
            .map(|it| it.1)
    };
    let name = find(&["name", "key", "tag", "title", "label", "field"])?.as_str()?;
    let value = find(&["value", "val"])?;
    (!value.is_object() && !value.is_array() && name.len() <= 64).then(|| (name.to_owned(), value))
}

/// A path and one key more.
fn path_to(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

/// What was added last has a key out of a value, so that there is no path to it.
fn mark_tag(found: &mut Found<'_>) {
    if let Some(field) = found.fields.last_mut() {
        field.is_tag = true;
        field.place = Place::default();
    }
}

fn pair<'a>(key: &str, value: &'a Value, above: &Above, found: &mut Found<'a>) {
    let own = words_of_key(key);
    add(key, own, leaf(value), above, found);
    mark_tag(found);
}

/// `env:prod` or `env=prod`, as many tools write tags.
fn tags<'a>(text: &'a str, above: &Above, found: &mut Found<'a>) {
    let Some((key, value)) = text.split_once([':', '=']) else { return };
    let (key, value) = (key.trim(), value.trim());
    let is_key = !key.is_empty() && key.len() <= 64 && !key.contains([' ', '/', '{']);
    if is_key && !value.is_empty() && !value.starts_with("//") && !text.starts_with("arn:") {
        pair_text(key, value, above, found);
    }
}

fn pair_text<'a>(key: &str, value: &'a str, above: &Above, found: &mut Found<'a>) {
    add(key, words_of_key(key), Leaf::Text(value.into()), above, found);
    mark_tag(found);
}

fn leaf(value: &Value) -> Leaf<'_> {
    match value {
        Value::String(text) if text == "null" || text == "None" => Leaf::Null,
        Value::String(text) => Leaf::Text(text.as_str().into()),
        Value::Number(number) => Leaf::Number(number.as_f64().unwrap_or_default()),
        Value::Bool(it) => Leaf::Bool(*it),
        Value::Null | Value::Array(_) | Value::Object(_) => Leaf::Null,
    }
}

/// Keys under which several alerts come in one body.
const LISTS: &[&str] = &[
    "alarms",
    "alert",
    "alerts",
    "data",
    "entries",
    "events",
    "incidents",
    "issues",
    "items",
    "messages",
    "notifications",
    "problems",
    "records",
    "results",
    "value",
    "monitors",
];

/// Keys of these under which what was found stands just as well.
const SAMPLES: &[&str] =
    &["data", "entries", "events", "items", "messages", "records", "results", "value"];

/// Whether this is an object that raises alerts and has a name: a rule, a saved search.
fn is_named_monitor(key: &str, value: &Value) -> bool {
    let name = ["name", "title"].iter().find_map(|it| value.get(it)).and_then(Value::as_str);
    name.is_some_and(|it| !it.is_empty())
        && words_of_key(key).last().is_some_and(|it| MONITORS.contains(&it.as_str()))
}

/// Finds a list of alerts, objects that tell more than one thing each, and the path to it.
pub(super) fn list_of_alerts(body: &Value) -> Option<(String, &Value)> {
    find_list(body, (4, true), "", &mut 0)
}

fn find_list<'a>(
    value: &'a Value,
    (levels, is_named): (usize, bool),
    place: &str,
    judged: &mut usize,
) -> Option<(String, &'a Value)> {
    match value {
        Value::Array(items) if is_named && !items.is_empty() && *judged < LISTS_MAX => {
            *judged += 1;
            let looked_at = items.len().min(JUDGED_MAX);
            let tell = items.iter().take(looked_at).filter(|it| tells(it)).count();
            (tell * 2 > looked_at).then(|| (place.to_owned(), value))
        }
        Value::Object(map) if levels > 0 => {
            // What a rule found is not what it says: beside the rule the list is one of samples.
            let has_rule = map.iter().any(|(key, it)| is_named_monitor(key, it));
            let named = |key: &str| {
                let key = key.to_ascii_lowercase();
                LISTS.contains(&key.as_str()) && !(has_rule && SAMPLES.contains(&key.as_str()))
            };
            let lists = map.iter().filter(|(key, it)| it.is_array() && named(key));
            let objects = map.iter().filter(|(_, it)| it.is_object());
            let mut inside =
                lists.map(|it| (it, true)).chain(objects.map(|it| (it, false))).take(STEPS_MAX);
            inside.find_map(|((key, it), is_named)| {
                find_list(it, (levels - 1, is_named), &path_to(place, key), judged)
            })
        }
        _ => None,
    }
}

/// Whether an entry of a list looks like an alert of its own: it has a state or a severity.
fn tells(value: &Value) -> bool {
    const WORDS: &[&str] = &["severity", "status", "state", "priority", "level"];
    if !value.is_object() {
        return false;
    }
    let all = fields(value, None, JUDGED_FIELDS_MAX);
    let has_state = all
        .iter()
        .any(|it| it.depth <= 2 && it.meaning.iter().any(|word| WORDS.contains(&word.as_str())));
    has_state && all.len() >= 3
}

/// The lower-case words of a value.
pub(super) fn words(field: &Field<'_>) -> Vec<String> {
    field.text().map(words_of).unwrap_or_default()
}
