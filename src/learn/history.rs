//! Past incidents, folded: what is alike in every field is one signature, and of each incident little
//! more is kept than when it was and which signature it has.

use super::features::Features;
use crate::domain::incident::{Incident, IncidentId, Symptom};
use crate::domain::service_level::ClockState;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// A text that is kept once, by its number.
pub(super) type TextId = u32;

/// A symptom by the numbers of its texts: the alert's name, the place.
pub(super) type SymptomId = (TextId, TextId);

/// What incidents are like that are alike in every field. Numbers ascend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Signature {
    pub(super) place: TextId,
    pub(super) alerts: Vec<TextId>,
    pub(super) text: Vec<TextId>,
    pub(super) labels: Vec<TextId>,
    pub(super) changed: bool,
}

/// What is kept of an incident.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Which signature it has.
    pub(super) signature: u32,
    pub(super) opened_at: Timestamp,
    /// When it was over; `None` = it is not.
    pub(super) over_at: Option<Timestamp>,
    /// Its title, masked.
    pub(super) title: TextId,
    /// What its first alert tells of.
    pub(super) opening: SymptomId,
    /// What its alerts tell of other places.
    pub(super) effects: Box<[SymptomId]>,
    /// How many of its SLA clocks were breached.
    pub(super) breaches: u8,
    /// Whether somebody did something about it.
    pub(super) acted_on: bool,
}

/// The incidents that detections look at. What was put in stays until it is forgotten.
#[derive(Debug, Default)]
pub struct History {
    numbers: HashMap<Box<str>, TextId>,
    texts: Vec<Box<str>>,
    known: HashMap<Signature, u32>,
    signatures: Vec<Signature>,
    records: BTreeMap<IncidentId, Record>,
}

impl History {
    /// Adds an incident, or what has become of it. One that was merged into another is left out.
    pub fn put(&mut self, incident: &Incident) {
        if incident.merged_into.is_some() {
            self.records.remove(&incident.id);
            return;
        }
        let features = Features::of(incident);
        let mut numbers = |texts: &mut dyn Iterator<Item = &String>| {
            let mut numbers: Vec<TextId> = texts.map(|it| self.number(it)).collect();
            numbers.sort_unstable();
            numbers
        };
        let alerts = numbers(&mut features.alerts.iter());
        let text = numbers(&mut features.text.iter());
        let labels = numbers(&mut features.labels.iter());
        let place = self.number(&features.place);
        let signature = Signature { place, alerts, text, labels, changed: features.changed };
        let effects = features.effects.iter().map(|it| self.symptom(it)).collect();
        let breached = incident.sla.iter().filter(|it| it.state == ClockState::Breached);
        let record = Record {
            signature: self.signature(signature),
            opened_at: incident.opened_at,
            over_at: incident.resolved_at.or(incident.closed_at),
            title: self.number(&features.title),
            opening: self.symptom(&features.opening),
            effects,
            breaches: u8::try_from(breached.count()).unwrap_or(u8::MAX),
            acted_on: incident.acted_on,
        };
        self.records.insert(incident.id, record);
    }

    /// Forgets the incidents that were opened before a time.
    pub fn forget_before(&mut self, time: Timestamp) {
        self.records.retain(|_, it| it.opened_at >= time);
    }

    /// The numbers of the first and the last of them.
    pub fn first_and_last(&self) -> Option<(IncidentId, IncidentId)> {
        self.records
            .first_key_value()
            .map(|it| *it.0)
            .zip(self.records.last_key_value().map(|it| *it.0))
    }

    /// How many incidents there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A text by its number.
    pub(super) fn text(&self, number: TextId) -> &str {
        self.texts.get(number as usize).map_or("", |it| it)
    }

    /// What an incident is like.
    pub(super) fn signature_of(&self, record: &Record) -> Option<&Signature> {
        self.signatures.get(record.signature as usize)
    }

    /// Those that were opened between two times, in order of number.
    pub(super) fn between(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = (IncidentId, &Record)> {
        let records = self.records.iter().map(|(id, it)| (*id, it));
        records.filter(move |(_, it)| it.opened_at >= since && it.opened_at <= until)
    }

    /// One of them.
    pub(super) fn record(&self, id: IncidentId) -> Option<&Record> {
        self.records.get(&id)
    }

    fn symptom(&mut self, symptom: &Symptom) -> SymptomId {
        (self.number(&symptom.alertname), self.number(&symptom.place))
    }

    fn number(&mut self, text: &str) -> TextId {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = TextId::try_from(self.texts.len()).unwrap_or(TextId::MAX);
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn signature(&mut self, signature: Signature) -> u32 {
        if let Some(known) = self.known.get(&signature) {
            return *known;
        }
        let number = u32::try_from(self.signatures.len()).unwrap_or(u32::MAX);
        self.signatures.push(signature.clone());
        self.known.insert(signature, number);
        number
    }
}
