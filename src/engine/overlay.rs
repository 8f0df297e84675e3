//! Reading while the store takes nothing: what is decided but not written yet stands in memory.

use super::persist;
use crate::domain::{ObjectKey, State};
use crate::store::{Kind, Object};
use std::cmp::Ordering;

/// Puts the open objects of a kind, as they are in memory, over a page of a listing.
pub(super) fn over_page(
    state: &State,
    kind: Kind,
    before: Option<&str>,
    limit: usize,
    mut page: Vec<Object>,
) -> Vec<Object> {
    let is_full = page.len() >= limit;
    let lowest = page.last().map(|it| it.id.clone());
    for object in keys(state, kind).iter().filter_map(|it| persist::open_object(state, it)) {
        let in_reach = before.is_none_or(|it| by_number(&object.id, it).is_lt())
            && (!is_full || lowest.as_ref().is_none_or(|it| by_number(&object.id, it).is_ge()));
        if !in_reach {
            continue;
        }
        match page.iter_mut().find(|it| it.id == object.id) {
            Some(stored) => *stored = object,
            None => page.push(object),
        }
    }
    page.sort_by(|one, other| by_number(&other.id, &one.id));
    page.truncate(limit);
    page
}

/// One open object, as it is in memory.
pub(super) fn get(state: &State, kind: Kind, id: &str) -> Option<Object> {
    let key = keys(state, kind).into_iter().find(|it| persist::name_of(it).1 == id)?;
    persist::open_object(state, &key)
}

fn keys(state: &State, kind: Kind) -> Vec<ObjectKey> {
    match kind {
        Kind::Incident => state.incidents.keys().map(|it| ObjectKey::Incident(*it)).collect(),
        Kind::Execution => state.executions.keys().map(|it| ObjectKey::Execution(*it)).collect(),
        Kind::Problem => state.problems.keys().map(|it| ObjectKey::Problem(*it)).collect(),
        Kind::Silence => state.silences.keys().map(|it| ObjectKey::Silence(it.clone())).collect(),
        Kind::Notification => {
            state.notifications.keys().map(|it| ObjectKey::Notification(*it)).collect()
        }
        Kind::Heartbeat => {
            state.heartbeats.keys().map(|it| ObjectKey::Heartbeat(it.clone())).collect()
        }
        Kind::Change => state.change_log.open.keys().map(|it| ObjectKey::Change(*it)).collect(),
        Kind::Article => state.articles.keys().map(|it| ObjectKey::Article(it.clone())).collect(),
        Kind::Feedback => state.feedback.keys().map(|it| ObjectKey::Feedback(it.clone())).collect(),
        Kind::Freeze => state.freezes.keys().map(|it| ObjectKey::Freeze(*it)).collect(),
        Kind::Noise => state.noise.keys().into_iter().map(ObjectKey::Noise).collect(),
        Kind::Experience => {
            state.experiences.keys().map(|it| ObjectKey::Experience(it.clone())).collect()
        }
        Kind::LearnedPlace => {
            state.learned.keys().map(|it| ObjectKey::LearnedPlace(it.clone())).collect()
        }
        Kind::Habit => state.habits.all().map(|it| ObjectKey::Habit(it.name.clone())).collect(),
        Kind::AlertPage | Kind::Alert | Kind::Audit | Kind::Memory | Kind::Rules => Vec::new(),
    }
}

/// The store's order: ids that end in a number are ordered by it.
fn by_number(one: &str, other: &str) -> Ordering {
    let parts = |id: &str| -> (String, u64) {
        let name = id.trim_end_matches(|it: char| it.is_ascii_digit());
        let number = id.get(name.len()..).and_then(|it| it.parse().ok()).unwrap_or(0);
        (name.to_owned(), number)
    };
    parts(one).cmp(&parts(other)).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
    use crate::domain::label::Labels;
    use jiff::Timestamp;

    fn state_with_incidents(count: u64) -> State {
        let mut state = State::default();
        for number in 0..count {
            let name = format!("Alert{number}");
            let alert = ReceivedAlert {
                labels: Labels::from_pairs([("alertname", name)]),
                annotations: Labels::default(),
                starts_at: None,
                ends: Ends::WhenTold,
                generator_url: "".into(),
                identity: None,
            };
            let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
            drop(state.apply(Timestamp::UNIX_EPOCH, &Event::AlertsReceived(batch)));
        }
        state
    }

    fn stored(id: &str) -> Object {
        Object { kind: Kind::Incident, id: id.to_owned(), body: b"old".to_vec() }
    }

    fn ids(page: &[Object]) -> Vec<&str> {
        page.iter().map(|it| it.id.as_str()).collect()
    }

    #[test]
    fn a_page_has_what_is_in_memory_in_the_stores_order() {
        let state = state_with_incidents(11);
        let page = over_page(&state, Kind::Incident, None, 4, vec![]);
        assert_eq!(ids(&page), ["INC-11", "INC-10", "INC-9", "INC-8"]);
        let page = vec![stored("INC-9"), stored("INC-7")];
        let page = over_page(&state, Kind::Incident, Some("INC-10"), 2, page);
        assert_eq!(ids(&page), ["INC-9", "INC-8"]);
        assert!(page.iter().all(|it| it.body != b"old"));
        assert!(get(&state, Kind::Incident, "INC-3").is_some());
        assert_eq!(get(&state, Kind::Incident, "INC-12"), None);
    }
}
