//! Between the state and the store: objects as JSON, alerts packed into pages of `MessagePack`.

use crate::domain::alert::Alert;
use crate::domain::restore::Stored;
use crate::domain::{Changes, Closed, ObjectKey, State};
use crate::store::{Error, Kind, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::num::NonZero;

/// How long an alert is, more or less: room that is taken at once need not be taken bit by bit.
const ALERT_BYTES: usize = 1280;
/// How long most other objects are at most, in bytes.
const OBJECT_BYTES: usize = 2048;
/// So many objects are worth a thread.
const AT_ONCE_MIN: usize = 256;

/// What must be written for a set of changes.
#[derive(Default)]
pub(super) struct Written {
    /// Open objects.
    pub(super) puts: Vec<Object>,
    /// Closed objects.
    pub(super) closes: Vec<Object>,
    /// Pages that are empty.
    pub(super) deletes: Vec<(Kind, String)>,
}

/// Turns changes into what the store writes, in an order that depends on nothing else.
pub(super) fn write_down(state: &State, changes: &Changes) -> Written {
    let mut written = Written::default();
    for page in &changes.pages {
        match state.pages.get(page) {
            Some(members) => {
                let alerts: Vec<&Alert> =
                    members.iter().filter_map(|it| state.alerts.get(it).map(Box::as_ref)).collect();
                let mut body = Vec::with_capacity(alerts.len() * ALERT_BYTES);
                rmp_serde::encode::write_named(&mut body, &alerts)
                    .expect("our own types can be written");
                let id = page.to_string();
                written.puts.push(Object { kind: Kind::AlertPage, id, body });
            }
            None => written.deletes.push((Kind::AlertPage, page.to_string())),
        }
    }
    written.puts.extend(changes.objects.iter().filter_map(|it| open_object(state, it)));
    // What is forgotten or let go leaves no trace; everything else is closed.
    let is_forgotten = |it: &&ObjectKey| match it {
        ObjectKey::Article(name) => !state.articles.contains_key(name),
        ObjectKey::Experience(name) => !state.experiences.contains_key(name),
        ObjectKey::LearnedPlace(key) => state.learned.get(key).is_none(),
        ObjectKey::Habit(name) => state.habits.get(name).is_none(),
        ObjectKey::Audit(_) => true,
        _ => false,
    };
    written.deletes.extend(changes.objects.iter().filter(is_forgotten).map(name_of));
    // What a file declares may come back under its name before its end was written.
    let is_back = |it: &Closed| match it {
        Closed::Silence(it) => state.silences.contains_key(&it.id),
        Closed::Heartbeat(it) => state.heartbeats.contains_key(&it.name),
        _ => false,
    };
    written.closes.extend(changes.closed.iter().filter(|it| !is_back(it)).map(closed_object));
    written
}

/// The store's name of an object.
pub fn name_of(key: &ObjectKey) -> (Kind, String) {
    match key {
        ObjectKey::Alert(it) => (Kind::Alert, it.to_string()),
        ObjectKey::Incident(it) => (Kind::Incident, it.to_string()),
        ObjectKey::Execution(it) => (Kind::Execution, it.to_string()),
        ObjectKey::Problem(it) => (Kind::Problem, it.to_string()),
        ObjectKey::Silence(it) => (Kind::Silence, it.to_string()),
        ObjectKey::Notification(it) => (Kind::Notification, it.to_string()),
        ObjectKey::Heartbeat(it) => (Kind::Heartbeat, it.to_string()),
        ObjectKey::Change(it) => (Kind::Change, it.to_string()),
        ObjectKey::Article(it) => (Kind::Article, it.to_string()),
        ObjectKey::Feedback(it) => (Kind::Feedback, it.to_string()),
        ObjectKey::Freeze(it) => (Kind::Freeze, it.to_string()),
        ObjectKey::Noise(it) => (Kind::Noise, it.to_string()),
        ObjectKey::Experience(it) => (Kind::Experience, it.to_string()),
        ObjectKey::LearnedPlace(it) => (Kind::LearnedPlace, it.to_string()),
        ObjectKey::Habit(it) => (Kind::Habit, it.to_string()),
        ObjectKey::Audit(it) => (Kind::Audit, it.to_string()),
        ObjectKey::Memory => (Kind::Memory, "memory".to_owned()),
        ObjectKey::Rules => (Kind::Rules, "rules".to_owned()),
    }
}

/// An open object, unless it was closed in the meantime.
pub(super) fn open_object(state: &State, key: &ObjectKey) -> Option<Object> {
    let (kind, id) = name_of(key);
    match key {
        ObjectKey::Alert(_) | ObjectKey::Audit(_) => None,
        ObjectKey::Incident(it) => state.incidents.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Execution(it) => state.executions.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Problem(it) => state.problems.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Silence(it) => state.silences.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Notification(it) => state.notifications.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Heartbeat(it) => state.heartbeats.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Change(it) => state.change_log.open.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Article(it) => state.articles.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Feedback(it) => state.feedback.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Freeze(it) => state.freezes.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Noise(it) => state.noise.get(it).map(|it| object(kind, id, &it)),
        ObjectKey::Experience(it) => state.experiences.get(it).map(|it| object(kind, id, it)),
        ObjectKey::LearnedPlace(it) => state.learned.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Habit(it) => state.habits.get(it).map(|it| object(kind, id, it)),
        ObjectKey::Memory => Some(object(kind, id, &state.memory)),
        ObjectKey::Rules => Some(object(kind, id, &*state.rules)),
    }
}

fn closed_object(closed: &Closed) -> Object {
    match closed {
        Closed::Alert(it) => object(Kind::Alert, it.fingerprint.to_string(), it),
        Closed::Incident(it) => object(Kind::Incident, it.id.to_string(), it),
        Closed::Execution(it) => object(Kind::Execution, it.id.to_string(), it),
        Closed::Silence(it) => object(Kind::Silence, it.id.to_string(), it),
        Closed::Change(it) => object(Kind::Change, it.id.to_string(), it),
        Closed::Freeze(it) => object(Kind::Freeze, it.id.to_string(), it),
        Closed::Notification(it) => object(Kind::Notification, it.id.to_string(), it),
        Closed::Noise(it) => object(Kind::Noise, it.key().to_string(), it),
        Closed::Heartbeat(it) => object(Kind::Heartbeat, it.name.to_string(), it),
        Closed::Audit(it) => object(Kind::Audit, it.id.to_string(), it),
    }
}

fn object(kind: Kind, id: String, value: &impl Serialize) -> Object {
    let mut body = Vec::with_capacity(OBJECT_BYTES);
    serde_json::to_writer(&mut body, value).expect("our own types have text keys only");
    Object { kind, id, body }
}

/// Reads open objects back. Fails with the first that this version cannot read.
pub fn read_back(objects: &[Object]) -> Result<Vec<Stored>, Error> {
    if objects.len() < AT_ONCE_MIN {
        return read_part(objects);
    }
    // Nobody else has work while the watch starts.
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let parts = objects.chunks(objects.len().div_ceil(threads));
        let readers: Vec<_> = parts.map(|part| scope.spawn(move || read_part(part))).collect();
        let mut stored = Vec::with_capacity(objects.len());
        for reader in readers {
            stored.extend(reader.join().unwrap_or_else(|it| std::panic::resume_unwind(it))?);
        }
        Ok(stored)
    })
}

fn read_part(objects: &[Object]) -> Result<Vec<Stored>, Error> {
    let mut stored = Vec::with_capacity(objects.len());
    for object in objects {
        match object.kind {
            Kind::AlertPage => {
                let alerts = read_page(object)?;
                stored.extend(alerts.into_iter().map(|it| Stored::Alert(Box::new(it))));
            }
            // Alerts that are not on a page are closed, and closed objects are not loaded.
            Kind::Alert | Kind::Audit => {}
            Kind::Incident => stored.push(Stored::Incident(parse(object)?)),
            Kind::Execution => stored.push(Stored::Execution(parse(object)?)),
            Kind::Problem => stored.push(Stored::Problem(parse(object)?)),
            Kind::Silence => stored.push(Stored::Silence(parse(object)?)),
            Kind::Notification => stored.push(Stored::Notification(parse(object)?)),
            Kind::Heartbeat => stored.push(Stored::Heartbeat(parse(object)?)),
            Kind::Change => stored.push(Stored::Change(parse(object)?)),
            Kind::Article => stored.push(Stored::Article(parse(object)?)),
            Kind::Feedback => stored.push(Stored::Feedback(parse(object)?)),
            Kind::Freeze => stored.push(Stored::Freeze(parse(object)?)),
            Kind::Noise => stored.push(Stored::Noise(parse(object)?)),
            Kind::Experience => stored.push(Stored::Experience(parse(object)?)),
            Kind::LearnedPlace => stored.push(Stored::LearnedPlace(parse(object)?)),
            Kind::Habit => stored.push(Stored::Habit(parse(object)?)),
            Kind::Memory => stored.push(Stored::Memory(parse(object)?)),
            Kind::Rules => stored.push(Stored::Rules(parse(object)?)),
        }
    }
    Ok(stored)
}

/// Reads a page of alerts: `MessagePack`, or a JSON list, as this program once wrote it.
fn read_page(object: &Object) -> Result<Vec<Alert>, Error> {
    if object.body.first() == Some(&b'[') {
        return parse(object);
    }
    rmp_serde::from_slice(&object.body).map_err(|error| unreadable(object, &error))
}

pub(super) fn parse<T: DeserializeOwned>(object: &Object) -> Result<T, Error> {
    serde_json::from_slice(&object.body).map_err(|error| unreadable(object, &error))
}

fn unreadable(object: &Object, error: &dyn std::fmt::Display) -> Error {
    Error::Unusable(format!(
        "the store holds a {:?} `{}` that this version cannot read: {error}",
        object.kind, object.id
    ))
}
