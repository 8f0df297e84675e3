//! Deployments and releases of tools that nobody declared: what is clearly one is a change.

use super::fields::{self, Field};
use super::naming::{self, NAME_BYTES_MAX, Named};
use super::place::Place;
use super::words::any;
use super::{Guessed, Kind};
use std::collections::BTreeMap;

/// Words for what is put into production.
const ROLLED_OUT: &[&str] = &[
    "deploy",
    "deployed",
    "deploying",
    "deployment",
    "deployments",
    "deploys",
    "release",
    "released",
    "rollback",
    "rollout",
];
/// What happens to the record of a deployment, and to nothing in production.
const ON_PAPER: &[&str] =
    &["approval", "comment", "deleted", "edited", "removed", "review", "unpublished", "updated"];
/// It could not be made.
const FAILED: &[&str] = &[
    "aborted",
    "cancelled",
    "canceled",
    "error",
    "errored",
    "fail",
    "failed",
    "failure",
    "rejected",
    "unsuccessful",
];
/// It is made.
const DONE: &[&str] = &[
    "applied",
    "complete",
    "completed",
    "deployed",
    "done",
    "finished",
    "live",
    "published",
    "ready",
    "released",
    "succeeded",
    "success",
    "successful",
];
/// It is being made.
const RUNNING: &[&str] = &[
    "building",
    "created",
    "deploying",
    "initiated",
    "pending",
    "progress",
    "queued",
    "running",
    "start",
    "started",
    "waiting",
];
/// What was changed, by the label that the mapper gives it, the nearest to a service first.
const CHANGED: &[&str] = &["service", "application", "component", "project", "site"];
/// What people call the places that they deploy to.
const ENVIRONMENTS: &[&str] =
    &["dev", "development", "live", "preview", "prod", "production", "qa", "staging", "test"];

/// The guess as a change, if it clearly is one: the body says that it is about a deployment or a release,
/// of what, and of which version or number.
pub(super) fn clear(own: &[Field<'_>], around: &[Field<'_>], mut guessed: Guessed) -> Guessed {
    let all: Vec<&Field<'_>> = own.iter().chain(around).collect();
    let Some(noun) = noun(&all) else { return guessed };
    let version = best(&all, version_weight);
    let number = best(&all, number_weight);
    let Some(service) = changed(&all, &guessed) else { return guessed };
    if version.is_none() && number.is_none() {
        return guessed;
    }
    let environment = best(&all, environment_weight);
    let author = best(&all, author_weight);
    let state = state(&all, noun);
    let text = |it: &Option<Named>| it.as_ref().map(|it| it.text.clone()).unwrap_or_default();
    let mapped = &mut guessed.mapped;
    mapped.kind = Kind::Change;
    mapped.is_firing = state == "running";
    mapped.title = [
        format!("{noun} of {}", service.text),
        text(&version).chars().take(40).collect(),
        environment.as_ref().map(|it| format!("to {}", it.text)).unwrap_or_default(),
    ]
    .join(" ");
    mapped.title = mapped.title.split_whitespace().collect::<Vec<_>>().join(" ");
    // Its beginning and its end tell one number; without one, what is put where.
    let known_by = match &number {
        Some(number) => [("1", format!("{noun} {}", number.text)), ("2", String::new())],
        None => [("1", service.text.clone()), ("2", text(&version) + " " + &text(&environment))],
    };
    mapped.known_by = known_by.map(|(name, text)| (name.to_owned(), text)).into();
    let places = &mut guessed.places;
    if !service.place.is_empty() {
        places.title.clone_from(&service.place);
    }
    if let Some(number) = number.filter(|it| !it.place.is_empty()) {
        places.fingerprint = number.place;
        places.resources = BTreeMap::new();
    }
    places.severity = Place::default();
    places.is_change = true;
    if let Some(spoken) = &mut places.status {
        spoken.is_over = state != "running";
    }
    let parts = [
        ("service", Some(service)),
        ("version", version),
        ("environment", environment),
        ("author", author),
    ];
    for (name, it) in parts {
        if let Some(it) = it {
            mapped.labels.insert(name.to_owned(), it.text);
            places.resources.insert(name.to_owned(), it.place);
        }
    }
    mapped.labels.insert("state".to_owned(), state.to_owned());
    // How bad it is, nobody asks of a change; `kind` would be how it was decided.
    mapped.labels.retain(|name, _| !matches!(name.as_str(), "severity" | "kind"));
    guessed
}

/// Whether a value says of what kind the message is, or how it stands.
fn is_kind(field: &Field<'_>) -> bool {
    matches!(field.head(), "action" | "category" | "event" | "hook" | "kind" | "trigger" | "type")
        || field.own == ["event", "name"]
}

/// What the body says that it is about; `None` = no deployment and no release.
fn noun(all: &[&Field<'_>]) -> Option<&'static str> {
    let mut found = None;
    for field in all {
        let values = fields::words(field);
        let is_short = values.len() <= 5;
        if is_kind(field) && any(&values, ON_PAPER) {
            return None;
        }
        let spoken = is_kind(field) && is_short && any(&values, ROLLED_OUT);
        let is_object = field.depth == 1 && any(&field.owner, ROLLED_OUT);
        if spoken || is_object {
            let words = if spoken { &values[..] } else { &field.owner[..] };
            let noun = if any(words, &["release", "released"]) { "release" } else { "deployment" };
            found = found.or(Some(noun));
        }
    }
    found
}

/// What was changed: the thing that the mapper found, the repository, or what the deployment is called.
fn changed(all: &[&Field<'_>], guessed: &Guessed) -> Option<Named> {
    let known = CHANGED.iter().find_map(|it| {
        let text = guessed.mapped.labels.get(*it)?.clone();
        let place = guessed.places.resources.get(*it).cloned().unwrap_or_default();
        let is_name = naming::is_readable(&text) && !text.contains("://");
        is_name.then_some(Named { text, weight: 100, place })
    });
    known.or_else(|| {
        best(all, |it| {
            let owner = it.owner.last().map_or("", String::as_str);
            match it.own.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["full", "name"] | ["name"] if owner == "repository" => Some(80),
                ["repository" | "repo"] | ["repository" | "repo", "name"] => Some(75),
                ["name"] if any(&it.owner, ROLLED_OUT) && owner != "release" => Some(60),
                ["name"] if it.depth == 0 => Some(50),
                _ => None,
            }
        })
    })
}

/// The first of the heaviest texts.
fn best(all: &[&Field<'_>], weight: impl Fn(&Field<'_>) -> Option<u32>) -> Option<Named> {
    naming::heaviest(all.iter().filter_map(|it| {
        let weight = weight(it)?.checked_sub(it.depth * 2)?;
        let text = it.plain().filter(|it| it.len() <= NAME_BYTES_MAX && !it.contains('\n'))?;
        Some(Named { text, weight, place: it.place.clone() })
    }))
}

fn version_weight(field: &Field<'_>) -> Option<u32> {
    const OF_FORMATS: &[&str] =
        &["api", "format", "hook", "payload", "schema", "spec", "previous", "webhook", "old"];
    if any(&field.own, OF_FORMATS) || any(&field.owner, OF_FORMATS) {
        return None;
    }
    let noun = field.own.iter().rev().nth(1).or_else(|| field.owner.last());
    let noun = noun.map_or("", String::as_str);
    let of_commit = any(&field.own, &["commit"]) || noun == "commit";
    match field.head() {
        "version" => Some(100),
        "name" | "number" | "tag" if matches!(noun, "release" | "version" | "tag") => Some(90),
        "tag" => Some(85),
        "revision" => Some(80),
        "sha" | "hash" => Some(70),
        "commit" | "id" | "ref" if of_commit => Some(68),
        _ => None,
    }
}

fn number_weight(field: &Field<'_>) -> Option<u32> {
    let noun = field.own.iter().rev().nth(1).or_else(|| field.owner.last());
    let is_number = matches!(field.head(), "id" | "uuid" | "uid" | "number");
    let is_own = noun.is_some_and(|it| ROLLED_OUT.contains(&it.as_str()));
    (is_number && is_own).then_some(if field.head() == "number" { 70 } else { 80 })
}

fn environment_weight(field: &Field<'_>) -> Option<u32> {
    let is_named = || field.text().is_some_and(|it| ENVIRONMENTS.contains(&it));
    let owner = field.owner.last().map_or("", String::as_str);
    match field.own.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["environment" | "env"] | ["environment" | "env", "name"] => Some(90),
        ["name" | "slug"] if matches!(owner, "environment" | "env") => Some(88),
        [.., "environment" | "env"] => Some(70),
        ["target" | "context" | "stage" | "tier"] if is_named() => Some(60),
        _ => None,
    }
}

fn author_weight(field: &Field<'_>) -> Option<u32> {
    const PEOPLE: &[&str] =
        &["actor", "author", "committer", "creator", "deployer", "pusher", "sender", "user"];
    let is_person = field.owner.last().is_some_and(|it| PEOPLE.contains(&it.as_str()));
    match field.own.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["deployer"] | ["deployed" | "released" | "created" | "triggered", "by"] => Some(90),
        [it] if PEOPLE.contains(it) => Some(85),
        ["username" | "login"] if is_person => Some(80),
        ["name" | "email"] | ["display", "name"] if is_person => Some(75),
        [it, "name" | "email" | "login"] if PEOPLE.contains(it) => Some(70),
        ["username"] => Some(60),
        _ => None,
    }
}

/// How it went, as changes have it.
fn state(all: &[&Field<'_>], noun: &str) -> &'static str {
    let mut words = Vec::new();
    for field in all {
        let tells =
            matches!(field.head(), "state" | "status" | "result" | "outcome" | "conclusion");
        if tells || is_kind(field) {
            words.extend(fields::words(field).into_iter().take(5));
        }
    }
    if any(&words, FAILED) {
        "failed"
    } else if any(&words, RUNNING) && !any(&words, DONE) && noun == "deployment" {
        "running"
    } else {
        // A release that was created is there.
        "done"
    }
}
