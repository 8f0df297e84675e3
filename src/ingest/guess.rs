//! The general mapper: what a body of a tool that nobody declared most likely means.
//!
//! It knows no tool. `fields` takes a body apart into single values and the words of their keys;
//! `verdict` weighs who speaks of a state and of a severity, `naming` titles and links, `start` times,
//! `identity` what an alert is known again by. In everything the heaviest word wins, and the sum of the
//! weights is the confidence that goes with the alert.

mod change;
mod evidence;
mod fields;
mod identity;
mod keys;
mod naming;
mod place;
mod start;
mod suggestion;
mod things;
mod times;
mod verdict;
mod vocabulary;
mod words;

use super::mapped::{Kind, Mapped};
use fields::Field;
use identity::Identity;
use jiff::Timestamp;
use naming::Named;
use place::Place;
use serde_json::Value;
use std::collections::BTreeMap;
use suggestion::Spoken;
use verdict::{Found, Verdict};
use words::Said;

/// What the label `mapped_by` says.
pub(super) const NAME: &str = "guess";
/// The most alerts that one body may have.
const ALERTS_MAX: usize = 1000;
/// The most values of an entry of a list that are looked at.
const ENTRY_FIELDS_MAX: usize = 300;
/// The most values of all entries of a list together.
const ALL_FIELDS_MAX: usize = 60_000;
/// The most values beside a list that are looked at.
const AROUND_MAX: usize = 100;
/// A body below this evidence is no alert, see [`evidence::weigh`].
const EVIDENCE_MIN: i32 = 2;
/// From this weight on an identity is the name of something that raises alerts.
const MONITOR_WEIGHT: u32 = 88;
/// From this weight on it is a key that the sender made to be known again by.
const KEY_WEIGHT: u32 = 105;

/// What was guessed, and from where.
struct Guessed {
    mapped: Mapped,
    places: Places,
}

/// Where the parts of a guess stand in the body, or in an entry of its list.
#[derive(Clone, Debug, Default)]
struct Places {
    title: Place,
    status: Option<Spoken>,
    is_change: bool,
    severity: Place,
    fingerprint: Place,
    starts_at: Place,
    link: Place,
    resources: BTreeMap<String, Place>,
}

/// The label that names a thing of this kind, a host or a service, say; `word` in small letters.
pub(super) fn label_of_thing(word: &str) -> Option<&'static str> {
    words::resource(word)
}

/// Guesses what a body means: each of its alerts, or one `other` where it seems to be none.
/// Fails with a reason when nothing in it can be named.
pub(super) fn guess(body: &Value, now: Timestamp) -> Result<Vec<Mapped>, String> {
    let (_, found) = all(body, now)?;
    Ok(found.into_iter().map(|it| it.mapped).collect())
}

/// A mapping that does what the guess did, to paste under `sources:` and to correct.
pub(super) fn suggest(body: &Value, name: &str, now: Timestamp) -> Result<String, String> {
    let (list, found) = all(body, now)?;
    let first = found.first().ok_or("there is nothing in the list")?;
    Ok(suggestion::write(name, list.as_deref(), &first.places))
}

/// Guesses each alert, and tells the path to their list if they come in one.
fn all(body: &Value, now: Timestamp) -> Result<(Option<String>, Vec<Guessed>), String> {
    let mut body = body.clone();
    super::body::unwrap_texts(&mut body, 4);
    if !body.is_object() && !body.is_array() {
        return Err("the body is neither an object nor a list".to_owned());
    }
    let Some((place, list)) = fields::list_of_alerts(&body) else {
        return one(&fields::fields(&body, None, usize::MAX), &[], now).map(|it| (None, vec![it]));
    };
    let Value::Array(items) = list else { return Err("the list is none".to_owned()) };
    if items.len() > ALERTS_MAX {
        return Err(format!("{} alerts in one body, at most {ALERTS_MAX} are taken", items.len()));
    }
    // What stands beside the list holds for each of its entries that says nothing of its own. All of it is
    // looked at for each of them, so that it must be little.
    let most = if body.is_object() { AROUND_MAX } else { 0 };
    let around = fields::fields(&body, Some(list), most);
    let most = (ALL_FIELDS_MAX / items.len().max(1)).min(ENTRY_FIELDS_MAX);
    let found =
        items.iter().filter_map(|it| one(&fields::fields(it, None, most), &around, now).ok());
    let found: Vec<Guessed> = found.collect();
    if found.is_empty() {
        return Err("nothing in the list can be told from the rest by a name".to_owned());
    }
    Ok((Some(place), found))
}

/// What the parts of a body tell of one alert.
struct Told {
    title: Named,
    identity: Identity,
    state: Option<Found<Verdict>>,
    spoken: Option<Spoken>,
    severity: Option<Found<u8>>,
    link: Option<Named>,
    starts_at: Option<(Timestamp, Place)>,
    resources: BTreeMap<String, Named>,
    labels: BTreeMap<String, String>,
}

impl Told {
    /// Listens to an alert; `around` speaks where it is silent.
    fn listen(own: &[Field<'_>], around: &[Field<'_>], now: Timestamp) -> Result<Self, String> {
        let state = verdict::state(own, now).or_else(|| verdict::state(around, now));
        let spoken = state.as_ref().and_then(|found| {
            let mut all = own.iter().chain(around);
            let field = all.find(|it| !it.place.is_empty() && it.place == found.place)?;
            Some(Spoken::new(field, found.verdict.said))
        });
        let is_firing = state.as_ref().is_none_or(|it| it.verdict.said == Said::Firing);
        let resources = things::resources(own);
        let of = state.as_ref().and_then(|it| it.verdict.of);
        let title = naming::title(own).or_else(|| naming::title(around));
        let title = title.or_else(|| naming::address(own));
        let title = title.or_else(|| naming::happening(own));
        let title = naming::with_thing(title, of, &resources, own);
        let identity = identity::find(own, title.as_ref());
        let identity = identity.or_else(|| identity::find(around, title.as_ref()));
        // An end may tell no more than the key that its beginning had.
        let title = title
            .or_else(|| identity.clone().map(|it| it.named).filter(|it| it.weight >= KEY_WEIGHT));
        let (Some(title), Some(identity)) = (title, identity) else {
            let message = "nothing in the body names an alert: no title, no name, no message";
            return Err(message.to_owned());
        };
        Ok(Self {
            title,
            identity,
            state,
            spoken,
            severity: verdict::severity(own).or_else(|| verdict::severity(around)),
            link: naming::link(own).or_else(|| naming::link(around)),
            starts_at: start::find(own, is_firing, now),
            resources,
            labels: things::labels(own),
        })
    }

    fn places(&self) -> Places {
        let place = |it: Option<&Place>| it.cloned().unwrap_or_default();
        let resources = self.resources.iter();
        Places {
            title: self.title.place.clone(),
            status: self.spoken.clone(),
            is_change: false,
            severity: place(self.severity.as_ref().map(|it| &it.place)),
            fingerprint: self.identity.named.place.clone(),
            starts_at: place(self.starts_at.as_ref().map(|it| &it.1)),
            link: place(self.link.as_ref().map(|it| &it.place)),
            resources: resources.map(|(name, it)| (name.clone(), it.place.clone())).collect(),
        }
    }

    /// How sure all this is, 0 to 1000. Of most alerts nobody says how bad they are.
    fn confidence(&self) -> u32 {
        let weights = [
            self.title.weight,
            self.state.as_ref().map_or(0, |it| it.weight),
            self.severity.as_ref().map_or(30, |it| it.weight),
            self.identity.named.weight,
        ];
        weights.iter().map(|it| it.min(&100)).sum::<u32>() * 1000 / 400
    }

    fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.extend(self.resources.iter().map(|(name, it)| (name.clone(), it.text.clone())));
        let severity = self.severity.as_ref().map_or(1, |it| usize::from(it.verdict));
        let severity = SEVERITIES.get(severity).copied().unwrap_or("warning");
        labels.insert("alertname".to_owned(), identity::lasting_title(&self.title.text));
        labels.insert("severity".to_owned(), severity.to_owned());
        labels.insert("mapped_by".to_owned(), NAME.to_owned());
        labels
    }
}

/// Guesses one alert.
fn one(own: &[Field<'_>], around: &[Field<'_>], now: Timestamp) -> Result<Guessed, String> {
    let told = Told::listen(own, around, now)?;
    let mut annotations = BTreeMap::from([("summary".to_owned(), told.title.text.clone())]);
    if let Some(text) = naming::description(own, &told.title.text) {
        annotations.insert("description".to_owned(), text.to_owned());
    }
    let is_alert = evidence::weigh(own, around, &told) >= EVIDENCE_MIN;
    let mapped = Mapped {
        kind: if is_alert { Kind::Alert } else { Kind::Other },
        title: told.title.text.clone(),
        is_firing: told.state.as_ref().is_none_or(|it| it.verdict.said == Said::Firing),
        known_by: known_by(&told.identity, &told.labels, &told.resources),
        labels: told.all_labels(),
        annotations,
        starts_at: told.starts_at.as_ref().map(|it| it.0),
        ends_at: None,
        link: told.link.as_ref().map(|it| it.text.clone()).unwrap_or_default(),
        confidence: told.confidence(),
    };
    let guessed = Guessed { mapped, places: told.places() };
    Ok(if is_alert { guessed } else { change::clear(own, around, guessed) })
}

/// What the fingerprint is made of. A key that the sender made for that stands alone; the name of a
/// rule says only with its labels and things which of its alerts it is.
fn known_by(
    identity: &Identity,
    labels: &BTreeMap<String, String>,
    resources: &BTreeMap<String, Named>,
) -> BTreeMap<String, String> {
    let mut known_by = BTreeMap::new();
    if !identity.is_whole {
        known_by.extend(labels.clone());
        known_by.extend(resources.iter().map(|(name, it)| (name.clone(), it.text.clone())));
        known_by.retain(|name, _| !matches!(name.as_str(), "severity" | "priority" | "level"));
    }
    known_by.insert("known_by".to_owned(), identity.named.text.clone());
    known_by
}

const SEVERITIES: [&str; 4] = ["info", "warning", "error", "critical"];
