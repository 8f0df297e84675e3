//! Past incidents that are like one at hand, and why: by their alerts, places, labels and words.
//!
//! Incidents that are alike in every term are one document, so that what comes every night is kept once with a
//! list of numbers. Adding one costs its terms; a question costs what `index` says. Nothing compares all with all.

use super::articles::{Feedbacks, in_common, rounded, said_so, score};
use super::index::{Field, Index, Terms};
use super::mask::mask;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::knowledge::{Feedback, Offer, Question};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What each field counts.
const FIELDS: [(Field, f64); 5] = [
    (Field::Head, 0.15),
    (Field::Text, 0.35),
    (Field::Alerts, 0.2),
    (Field::Places, 0.2),
    (Field::Labels, 0.1),
];
/// What is less alike than this, in thousandths, is not like it: all incidents of a place share some labels.
const POINTS_MIN: i64 = 200;
/// Labels that say nothing of what happened.
const LABELS_IGNORED: [&str; 5] = ["alertname", "severity", "prometheus", "uid", "fingerprint"];
/// A text takes part with so many bytes: a log that somebody put in an annotation must not fill the memory.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Of incidents that are alike in everything so many are offered: the rest would say the same.
const ALIKE_MAX: usize = 3;

/// Past incidents by their terms.
#[derive(Debug, Default)]
pub struct Past {
    index: Index,
    documents: BTreeMap<Vec<(Field, String, u32)>, u32>,
    incidents: BTreeMap<u32, Vec<IncidentId>>,
    known: BTreeSet<IncidentId>,
}

impl Past {
    /// Adds an incident that is over. One that was merged into another is left out.
    pub fn add(&mut self, incident: &Incident) {
        if !self.known.insert(incident.id) || incident.merged_into.is_some() {
            return;
        }
        let terms = terms(&Question::of(incident));
        let index = &mut self.index;
        let document =
            *self.documents.entry(terms.signature()).or_insert_with(|| index.add(&terms));
        self.incidents.entry(document).or_default().push(incident.id);
    }

    /// Whether it has, or had, an incident.
    pub fn knows(&self, id: IncidentId) -> bool {
        self.known.contains(&id)
    }

    /// How many incidents it has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The numbers of distinct documents; what is alike in everything is one.
    pub fn distinct(&self) -> u32 {
        self.index.len()
    }

    /// Those that are most like one at hand, the likest first, of equals the latest.
    pub fn like(
        &mut self,
        incident: &Incident,
        said: &Feedbacks,
        most: usize,
    ) -> Vec<Offer<IncidentId>> {
        self.index.measure();
        let terms = terms(&Question::of(incident));
        let likenesses = self.index.likenesses(&terms, &FIELDS);
        let mut found: Vec<(i64, IncidentId, u32)> = Vec::new();
        for (document, likeness) in likenesses {
            let points = rounded(likeness * 1000.0);
            if points < POINTS_MIN {
                continue;
            }
            let mut ids = self.incidents.get(&document).cloned().unwrap_or_default();
            ids.sort_unstable();
            let others = ids.into_iter().rev().filter(|it| *it != incident.id).map(|id| {
                let moved = said.get(id.to_string().as_str()).map_or(0, Feedback::points);
                (points + moved, id, document)
            });
            let mut others: Vec<_> = others.take(ALIKE_MAX * 10).collect();
            others.sort_by_key(|it| (Reverse(it.0), Reverse(it.1)));
            found.extend(others.into_iter().take(ALIKE_MAX));
        }
        found.sort_by_key(|it| (Reverse(it.0), Reverse(it.1)));
        found.truncate(most);
        let offer = |(points, id, document): (i64, IncidentId, u32)| {
            let mut why = reasons(self.index.shared(&terms, document));
            why.extend(said.get(id.to_string().as_str()).map(said_so));
            Offer { id, score: score(points), why }
        };
        found.into_iter().map(offer).collect()
    }
}

/// The terms of an incident.
fn terms(question: &Question) -> Terms {
    let mut terms = Terms::default();
    let text = question.text.as_str();
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    terms.add_text(Field::Head, &question.head);
    terms.add_text(Field::Text, &question.head);
    terms.add_text(Field::Text, text);
    for name in &question.alerts {
        terms.add(Field::Alerts, name.clone(), name.clone());
    }
    for place in &question.places {
        terms.add(Field::Places, place.clone(), place.clone());
        // A machine of the same kind is near.
        let kind = mask(place);
        if kind != *place {
            terms.add(Field::Places, kind.clone(), kind);
        }
    }
    for (name, value) in question.labels.iter().filter(|(it, _)| !LABELS_IGNORED.contains(it)) {
        let label = format!("{name}={}", mask(value));
        terms.add(Field::Labels, label.clone(), label);
    }
    terms
}

/// What two incidents have in common, in words.
fn reasons(mut shared: BTreeMap<Field, Vec<String>>) -> Vec<String> {
    let mut why = Vec::new();
    let mut tell = |field, one: &str, many: &str| {
        let Some(words) = shared.remove(&field) else { return };
        let noun = if words.len() == 1 { one } else { many };
        let named: Vec<&str> = words.iter().take(4).map(String::as_str).collect();
        let more = words.len().saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        why.push(format!("{noun} {}{more}", named.join(", ")));
    };
    tell(Field::Alerts, "the same alert", "the same alerts");
    tell(Field::Places, "the same place", "the same places");
    tell(Field::Labels, "the same label", "the same labels");
    why.extend(shared.remove(&Field::Text).map(|it| in_common(&it)));
    why
}

#[cfg(test)]
mod tests {
    use super::super::tests::incident;
    use super::*;

    fn disk(id: u64, host: &str) -> Incident {
        let labels = [("alertname", "DiskFull"), ("service", "shop"), ("host", host)];
        incident(id, 0, &format!("Disk full on {host}"), &labels)
    }

    fn past() -> Past {
        let mut past = Past::default();
        for id in 1..=6 {
            past.add(&disk(id, "node-1"));
        }
        past.add(&incident(7, 0, "Disk full on node-1", &[("service", "mail")]));
        past.add(&incident(8, 0, "Certificate expires", &[("service", "mail")]));
        past
    }

    fn ids(offers: &[Offer<IncidentId>]) -> Vec<u64> {
        offers.iter().map(|it| it.id.0).collect()
    }

    #[test]
    fn what_is_alike_in_all_comes_first_and_the_latest_of_it() {
        let mut past = past();
        assert_eq!((past.len(), past.distinct()), (8, 3));
        let found = past.like(&disk(9, "node-2"), &Feedbacks::new(), 9);
        assert_eq!(ids(&found), [6, 5, 4, 7], "{found:?}");
        for reason in ["the same alert DiskFull", "the same place shop"] {
            assert!(found[0].why.contains(&reason.to_owned()), "{reason} in {found:?}");
        }
        assert!(found[3].why.iter().any(|it| it.starts_with("both say")), "{found:?}");
        assert!(!ids(&past.like(&disk(6, "node-1"), &Feedbacks::new(), 9)).contains(&6));
    }

    #[test]
    fn what_helped_comes_before_what_is_as_like() {
        let said = |id: &str, helped, no_use| {
            let feedback = Feedback { subject: id.into(), helped, no_use, ..Feedback::default() };
            (feedback.subject.clone(), feedback)
        };
        let said = Feedbacks::from([said("INC-2", 2, 0), said("INC-6", 0, 1)]);
        let found = past().like(&disk(9, "node-1"), &said, 3);
        assert_eq!(ids(&found), [2, 5, 4], "{found:?}");
    }

    #[test]
    fn one_that_was_merged_is_no_past_of_its_own() {
        let mut past = Past::default();
        past.add(&Incident { merged_into: Some(IncidentId(1)), ..disk(2, "node-1") });
        assert!(past.like(&disk(9, "node-1"), &Feedbacks::new(), 9).is_empty());
        assert!(past.knows(IncidentId(2)) && !past.is_empty());
    }
}
