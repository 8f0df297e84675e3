//! A declared source at work: a body, by the expressions of its mapping, into alerts.

use super::mapped::{Kind, Mapped};
use super::moment_text;
use crate::config::mapping::{self, Wanted};
use crate::domain::source::Mapping;
use cel::{Context, ExecutionError, Program, Value};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The most entries of one body.
const ENTRIES_MAX: usize = 10_000;
/// How deep JSON that stands as text inside of JSON is read.
const NESTED_MAX: usize = 3;

/// A mapping, compiled.
pub(super) struct Mapper {
    each: Option<Program>,
    when: Option<Program>,
    change: Option<Program>,
    status: Program,
    title: Option<Program>,
    fingerprint: Vec<Program>,
    starts_at: Option<Program>,
    ends_at: Option<Program>,
    link: Option<Program>,
    labels: Vec<(String, Program)>,
    labels_from: Option<Program>,
    annotations: Vec<(String, Program)>,
    annotations_from: Option<Program>,
}

/// Each entry of a body in its order: what it is, or why it is refused.
pub(super) type Entries = Vec<Result<Mapped, String>>;

impl Mapper {
    /// Compiles a mapping. Fails with a message; a mapping of a checked file never does.
    pub(super) fn compile(map: &Mapping) -> Result<Self, String> {
        let is_each = !map.each.is_empty();
        let one = |text: &str, wanted| {
            mapping::compile(text, wanted, is_each).map_err(|(message, _)| message)
        };
        let optional =
            |text: &str, wanted| (!text.is_empty()).then(|| one(text, wanted)).transpose();
        let many = |pairs: &BTreeMap<String, String>| {
            let compiled =
                pairs.iter().map(|(name, text)| Ok((name.clone(), one(text, Wanted::Text)?)));
            compiled.collect::<Result<Vec<_>, String>>()
        };
        Ok(Self {
            each: optional(&map.each, Wanted::List)?,
            when: optional(&map.when, Wanted::Truth)?,
            change: optional(&map.change, Wanted::Truth)?,
            status: one(&map.status, Wanted::State)?,
            title: optional(&map.title, Wanted::Text)?,
            fingerprint: map
                .fingerprint
                .iter()
                .map(|it| one(it, Wanted::Text))
                .collect::<Result<_, _>>()?,
            starts_at: optional(&map.starts_at, Wanted::Time)?,
            ends_at: optional(&map.ends_at, Wanted::Time)?,
            link: optional(&map.link, Wanted::Text)?,
            labels: many(&map.labels)?,
            labels_from: optional(&map.labels_from, Wanted::Map)?,
            annotations: many(&map.annotations)?,
            annotations_from: optional(&map.annotations_from, Wanted::Map)?,
        })
    }

    /// Maps a body. Fails with a reason when it is not what the source sends at all.
    pub(super) fn map(
        &self,
        body: &serde_json::Value,
        headers: &BTreeMap<String, String>,
    ) -> Result<Entries, String> {
        let mut body = body.clone();
        super::body::unwrap_texts(&mut body, NESTED_MAX);
        let mut scope = mapping::scope();
        for (name, value) in [("body", cel::to_value(&body)), ("headers", cel::to_value(headers))] {
            let value = value.map_err(|error| format!("the body cannot be read: {error}"))?;
            scope.add_variable_from_value(name, value);
        }
        let Some(each) = &self.each else {
            return Ok(vec![self.entry(&scope)]);
        };
        let items = match each.execute(&scope) {
            Ok(Value::List(items)) => items,
            Ok(Value::Null) => return Err("the body has no list of entries: `each`".to_owned()),
            Ok(other) => return Err(format!("`each` gives {}, not a list", other.type_of())),
            Err(error) => return Err(format!("`each`: {}", plain(&error))),
        };
        if items.len() > ENTRIES_MAX {
            let count = items.len();
            return Err(format!("{count} entries in one body, at most {ENTRIES_MAX} are taken"));
        }
        let entry = |it: &Value| {
            let mut inner = scope.new_inner_scope();
            inner.add_variable_from_value("item", it.clone());
            self.entry(&inner)
        };
        Ok(items.iter().map(entry).collect())
    }

    fn entry(&self, scope: &Context<'_, '_>) -> Result<Mapped, String> {
        let is_alert = truth("when", self.when.as_ref(), scope, true)?;
        let is_change = is_alert && truth("change", self.change.as_ref(), scope, false)?;
        let kind = match (is_alert, is_change) {
            (false, _) => Kind::Other,
            (true, true) => Kind::Change,
            (true, false) => Kind::Alert,
        };
        let mut labels = map("labels_from", self.labels_from.as_ref(), scope)?;
        labels.extend(texts("labels", &self.labels, scope)?);
        let mut annotations = map("annotations_from", self.annotations_from.as_ref(), scope)?;
        annotations.extend(texts("annotations", &self.annotations, scope)?);
        let title = match text("title", self.title.as_ref(), scope) {
            // What is left out needs no name.
            Err(_) if kind == Kind::Other => String::new(),
            other => other?,
        };
        if kind != Kind::Other {
            name(&title, &mut labels, &mut annotations)?;
        }
        let link = text("link", self.link.as_ref(), scope)?;
        let mut mapped = Mapped {
            kind,
            title: if title.is_empty() {
                labels.get("alertname").cloned().unwrap_or_default()
            } else {
                title
            },
            is_firing: true,
            known_by: BTreeMap::new(),
            labels,
            annotations,
            starts_at: None,
            ends_at: None,
            link,
            confidence: 1000,
        };
        if kind == Kind::Other {
            return Ok(mapped);
        }
        mapped.is_firing = self.is_firing(scope)?;
        mapped.starts_at = time("starts_at", self.starts_at.as_ref(), scope)?;
        mapped.ends_at = time("ends_at", self.ends_at.as_ref(), scope)?;
        for (index, program) in self.fingerprint.iter().enumerate() {
            let part = text("fingerprint", Some(program), scope)?;
            mapped.known_by.insert(format!("part_{index}"), part);
        }
        if !self.fingerprint.is_empty() && mapped.known_by.values().all(String::is_empty) {
            return Err(
                "`fingerprint` gives nothing, so that its end would not be known".to_owned()
            );
        }
        Ok(mapped)
    }

    fn is_firing(&self, scope: &Context<'_, '_>) -> Result<bool, String> {
        match self.status.execute(scope) {
            Ok(Value::String(word)) if *word == "firing" => Ok(true),
            Ok(Value::String(word)) if *word == "resolved" => Ok(false),
            Ok(Value::Null) => Err("its `status` is not known".to_owned()),
            Ok(other) => Err(format!("`status` gives {other:?}, not `firing` or `resolved`")),
            Err(error) => Err(format!("`status`: {}", plain(&error))),
        }
    }
}

/// The title stands where people look for it, unless the mapping says otherwise.
fn name(
    title: &str,
    labels: &mut BTreeMap<String, String>,
    annotations: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    if !labels.contains_key("alertname") {
        if title.trim().is_empty() {
            return Err("nothing names it: no `title` and no label `alertname`".to_owned());
        }
        labels.insert("alertname".to_owned(), title.to_owned());
    }
    if !title.is_empty() {
        annotations.entry("summary".to_owned()).or_insert_with(|| title.to_owned());
    }
    Ok(())
}

fn truth(
    name: &str,
    program: Option<&Program>,
    scope: &Context<'_, '_>,
    usual: bool,
) -> Result<bool, String> {
    match program.map(|it| it.execute(scope)) {
        None => Ok(usual),
        Some(Ok(Value::Bool(it))) => Ok(it),
        Some(Ok(other)) => Err(format!("`{name}` gives {}, not true or false", other.type_of())),
        Some(Err(error)) => Err(format!("`{name}`: {}", plain(&error))),
    }
}

fn text(name: &str, program: Option<&Program>, scope: &Context<'_, '_>) -> Result<String, String> {
    match program.map(|it| it.execute(scope)) {
        None => Ok(String::new()),
        Some(Ok(value)) => {
            written(&value).ok_or_else(|| format!("`{name}` gives {}, not a text", value.type_of()))
        }
        Some(Err(error)) => Err(format!("`{name}`: {}", plain(&error))),
    }
}

/// A value as a text; nothing is an empty one.
fn written(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => String::new(),
        Value::String(text) => (**text).clone(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(it) => it.to_string(),
        _ => return None,
    })
}

/// Labels and annotations: what is not there is left out.
fn texts(
    name: &str,
    programs: &[(String, Program)],
    scope: &Context<'_, '_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for (key, program) in programs {
        let value = match program.execute(scope) {
            // The last is a key of nothing: `body.a.b` where `a` is `null`.
            Err(
                ExecutionError::NoSuchKey(_)
                | ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::NoSuchOverload(_),
            ) => continue,
            Err(error) => return Err(format!("`{name}.{key}`: {}", plain(&error))),
            Ok(value) => value,
        };
        match written(&value) {
            Some(text) if text.is_empty() => {}
            Some(text) => {
                found.insert(key.clone(), text);
            }
            None => return Err(format!("`{name}.{key}` gives {}, not a text", value.type_of())),
        }
    }
    Ok(found)
}

/// A map of labels or annotations as the sender calls them; what cannot be one is left out.
fn map(
    name: &str,
    program: Option<&Program>,
    scope: &Context<'_, '_>,
) -> Result<BTreeMap<String, String>, String> {
    let value = match program.map(|it| it.execute(scope)) {
        None | Some(Ok(Value::Null)) => return Ok(BTreeMap::new()),
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(format!("`{name}`: {}", plain(&error))),
    };
    let Ok(serde_json::Value::Object(pairs)) = value.json() else {
        return Err(format!("`{name}` gives {}, not a map", value.type_of()));
    };
    let pairs = pairs.into_iter().filter_map(|(key, value)| {
        let key = super::mapped::label_name(&key);
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(it) => it.to_string(),
            _ => return None,
        };
        (!key.is_empty() && !text.is_empty()).then_some((key, text))
    });
    Ok(pairs.collect())
}

/// A time; an empty text, nothing and zero mean that it was not told.
fn time(
    name: &str,
    program: Option<&Program>,
    scope: &Context<'_, '_>,
) -> Result<Option<Timestamp>, String> {
    let text = text(name, program, scope)?;
    let is_untold = text.is_empty() || text == "0" || text.starts_with("0001-01-01");
    if is_untold {
        return Ok(None);
    }
    match moment_text::read(&text) {
        Some(time) => Ok(Some(time)),
        // It is a time, but one from before there were alerts.
        None if moment_text::is_date(&text) => Ok(None),
        None => {
            Err(format!("`{name}` is no time: `{}`", text.chars().take(64).collect::<String>()))
        }
    }
}

/// An error of CEL in our words.
fn plain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("the body has no `{key}`"),
        other => other.to_string().chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapper(change: impl FnOnce(&mut Mapping)) -> Mapper {
        let mut map = Mapping {
            status: "body.ok ? 'resolved' : 'firing'".to_owned(),
            title: "body.title".to_owned(),
            labels: BTreeMap::from([("host".to_owned(), "body.host".to_owned())]),
            ..Mapping::default()
        };
        change(&mut map);
        Mapper::compile(&map).unwrap()
    }

    fn one(mapper: &Mapper, body: &serde_json::Value) -> Result<Mapped, String> {
        mapper.map(body, &BTreeMap::new()).unwrap().pop().unwrap()
    }

    #[test]
    fn what_is_not_there_is_left_out_or_refused() {
        let mapper = mapper(|it| it.starts_at = "body.at".to_owned());
        let good = json!({"ok": false, "title": "t", "host": "h", "at": 1_795_341_600});
        let found = one(&mapper, &good).unwrap();
        assert_eq!(found.labels["alertname"], "t");
        assert_eq!(found.labels["host"], "h");
        assert_eq!(found.starts_at, "2026-11-22T10:00:00Z".parse().ok());
        assert!(found.is_firing);
        for (key, value, expected) in [
            ("host", json!(null), ""),
            ("at", json!("0001-01-01T00:00:00Z"), ""),
            ("at", json!("1969-12-31 23:59:55"), ""),
            ("at", json!("soon"), "`starts_at` is no time: `soon`"),
            ("at", json!([]), "`starts_at` gives list, not a text"),
            ("title", json!(""), "nothing names it"),
            ("ok", json!("yes"), "`status`"),
        ] {
            let mut body = good.clone();
            body[key] = value;
            let error = one(&mapper, &body).err().unwrap_or_default();
            assert!(
                error.starts_with(expected) && error.is_empty() == expected.is_empty(),
                "{error}"
            );
        }
        for key in ["at", "title", "ok"] {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(key);
            assert!(one(&mapper, &body).unwrap_err().contains(&format!("no `{key}`")), "{key}");
        }
    }

    #[test]
    fn a_bad_entry_does_not_cost_its_neighbours() {
        let mapper = mapper(|it| {
            it.each = "body.list".to_owned();
            it.title = "item.title".to_owned();
            it.status = "item.state".to_owned();
            it.when = "!has(item.noise)".to_owned();
            it.fingerprint = vec!["item.id".to_owned()];
        });
        let body = json!({"list": [{"title": "a", "state": "firing", "id": 1},
            {"title": "b", "state": "odd", "id": 2}, 7, {"noise": 1},
            {"title": "a", "state": "resolved", "id": 1}]});
        let found = mapper.map(&body, &BTreeMap::new()).unwrap();
        let [one, odd, number, other, two] = found.as_slice() else { panic!("not five") };
        assert_eq!(one.as_ref().unwrap().known_by, two.as_ref().unwrap().known_by);
        assert!(odd.as_ref().unwrap_err().contains("not `firing` or `resolved`"));
        assert!(number.is_err());
        assert_eq!(other.as_ref().unwrap().kind, Kind::Other);
        assert!(mapper.map(&json!({"list": 1}), &BTreeMap::new()).is_err());
        assert!(mapper.map(&json!({}), &BTreeMap::new()).unwrap_err().contains("no `list`"));
    }
}
