//! Signatures in the form in which they are compared: folded once more, without what differs from
//! one time to the next, and each with its tokens.

use super::history::{History, Record, Signature, TextId};
use super::mask::{mask, words};
use crate::domain::incident::IncidentId;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A label with more values than this is dropped if it also differs in most incidents.
const VALUES_FEW: usize = 8;

/// A text by its place in the alphabet, so that no order depends on what came in first.
type Rank = u32;

/// One trait of an incident, by what it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// A word of an alert's name, and the place that the alert speaks of.
    Symptom(Rank, Rank),
    /// Where it began.
    Place(Rank),
    /// A word of the name of an alert there.
    Name(Rank),
    /// A word of the title or the summary.
    Text(Rank),
    /// A label.
    Label(Rank),
    /// Something was changed shortly before.
    Change,
}

impl Token {
    /// The number of its field.
    pub(super) fn field(self) -> usize {
        match self {
            Self::Symptom(..) => 0,
            Self::Place(_) => 1,
            Self::Name(_) => 2,
            Self::Text(_) => 3,
            Self::Label(_) => 4,
            Self::Change => 5,
        }
    }

    /// The word of an alert's name in it.
    fn word_of_name(self) -> Option<Rank> {
        match self {
            Self::Symptom(word, _) | Self::Name(word) => Some(word),
            Self::Place(_) | Self::Text(_) | Self::Label(_) | Self::Change => None,
        }
    }
}

/// Incidents that are alike in every token.
#[derive(Debug)]
pub(super) struct Point<'a> {
    /// Sorted, each once.
    pub(super) tokens: Vec<Token>,
    /// The signatures that were folded into it, the first for all of them.
    pub(super) signature: &'a Signature,
    /// In order of number.
    pub(super) members: Vec<IncidentId>,
}

impl Point<'_> {
    /// Whether texts and labels are all that is known of it.
    pub(super) fn is_plain(&self) -> bool {
        self.tokens.iter().all(|it| it.field() > 2)
    }
}

/// All points of a time, in an order that follows from the incidents alone.
pub(super) struct Points<'a> {
    pub(super) history: &'a History,
    pub(super) all: Vec<Point<'a>>,
    /// How many of the names of alerts have each word, by its rank.
    names_with: BTreeMap<Rank, usize>,
    names: usize,
}

impl<'a> Points<'a> {
    /// Folds the incidents that were opened between two times. A place that hardly any incident
    /// began at, as the machines of a fleet that comes and goes, stands for its kind.
    pub(super) fn of(
        history: &'a History,
        (since, until): (Timestamp, Timestamp),
        incidents_min: usize,
    ) -> Self {
        let mut by_signature: BTreeMap<u32, Vec<IncidentId>> = BTreeMap::new();
        for (id, record) in history.between(since, until) {
            by_signature.entry(record.signature).or_default().push(id);
        }
        let signature = |id: &Vec<IncidentId>| {
            let record: &Record = history.record(*id.first()?)?;
            history.signature_of(record)
        };
        let folded: Vec<(&'a Signature, Vec<IncidentId>)> =
            by_signature.into_values().filter_map(|it| Some((signature(&it)?, it))).collect();
        let folding = Folding::of(history, &folded, incidents_min);
        let mut by_tokens: BTreeMap<Vec<Token>, Point<'a>> = BTreeMap::new();
        for (signature, members) in folded {
            let tokens = folding.tokens(signature);
            let point = by_tokens.entry(tokens.clone()).or_insert_with(|| Point {
                tokens,
                signature,
                members: Vec::new(),
            });
            point.members.extend(members);
        }
        let mut all: Vec<Point<'a>> = by_tokens.into_values().collect();
        for point in &mut all {
            point.members.sort_unstable();
        }
        let (names_with, names) = folding.names_with();
        Self { history, all, names_with, names }
    }

    /// How many incidents there are.
    pub(super) fn incident_count(&self) -> usize {
        self.all.iter().map(|it| it.members.len()).sum()
    }

    /// How much a token tells, beside others of its field: words of alerts' names by their rarity
    /// among the names, not among incidents, so that a frequent fault does not make its own traits
    /// common; texts and labels by their rarity among points (Sparck Jones 1972).
    pub(super) fn rarity(&self, token: Token, points_with: usize) -> f64 {
        let of = |all: usize, with: usize| (1.0 + number(all) / number(with.max(1))).ln();
        match (token.word_of_name(), token) {
            (Some(word), _) => {
                of(self.names, self.names_with.get(&word).copied().unwrap_or_default())
            }
            (None, Token::Text(_) | Token::Label(_)) => of(self.all.len(), points_with),
            (None, _) => 1.0,
        }
    }
}

/// A count as a number to reckon with. Counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of incidents are far below 2^53")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}

/// What becomes of the texts of signatures in tokens.
struct Folding {
    /// The words of each alert's name.
    names: BTreeMap<TextId, Vec<Rank>>,
    /// What stands for each place; nothing for the empty one.
    places: BTreeMap<TextId, Rank>,
    texts: BTreeMap<TextId, Rank>,
    /// Without those that nearly always differ.
    labels: BTreeMap<TextId, Rank>,
}

impl Folding {
    fn of(
        history: &History,
        folded: &[(&Signature, Vec<IncidentId>)],
        incidents_min: usize,
    ) -> Self {
        let (mut names, mut texts) = (BTreeSet::new(), BTreeSet::new());
        let (mut places, mut labels) = (BTreeMap::new(), BTreeMap::new());
        for (signature, members) in folded {
            names.extend(signature.alerts.iter().copied());
            texts.extend(signature.text.iter().copied());
            *places.entry(signature.place).or_insert(0_usize) += members.len();
            for label in &signature.labels {
                *labels.entry(*label).or_insert(0_usize) += members.len();
            }
        }
        drop_varied(history, &mut labels);
        let name_words = |id: &TextId| words(history.text(*id)).collect::<BTreeSet<String>>();
        let names: BTreeMap<TextId, BTreeSet<String>> =
            names.iter().map(|it| (*it, name_words(it))).collect();
        places.retain(|it, _| !history.text(*it).is_empty());
        let places: BTreeMap<TextId, String> = places
            .into_iter()
            .map(|(id, count)| {
                let name = history.text(id);
                (id, if count < incidents_min { mask(name) } else { name.to_owned() })
            })
            .collect();
        let mut alphabet: BTreeSet<&str> = BTreeSet::new();
        alphabet.extend(names.values().flatten().map(String::as_str));
        alphabet.extend(places.values().map(String::as_str));
        alphabet.extend(texts.iter().chain(labels.keys()).map(|it| history.text(*it)));
        let alphabet: BTreeMap<&str, Rank> = alphabet.into_iter().zip(0..).collect();
        let rank = |text: &str| alphabet.get(text).copied().unwrap_or_default();
        let ranks = |words: &BTreeSet<String>| words.iter().map(|it| rank(it)).collect();
        Self {
            names: names.iter().map(|(id, words)| (*id, ranks(words))).collect(),
            places: places.iter().map(|(id, name)| (*id, rank(name))).collect(),
            texts: texts.iter().map(|it| (*it, rank(history.text(*it)))).collect(),
            labels: labels.keys().map(|it| (*it, rank(history.text(*it)))).collect(),
        }
    }

    fn tokens(&self, signature: &Signature) -> Vec<Token> {
        let place = self.places.get(&signature.place).copied();
        let mut tokens: Vec<Token> = place.map(Token::Place).into_iter().collect();
        for word in signature.alerts.iter().filter_map(|it| self.names.get(it)).flatten() {
            tokens.push(Token::Name(*word));
            tokens.push(Token::Symptom(*word, place.unwrap_or(Rank::MAX)));
        }
        tokens.extend(
            signature.text.iter().filter_map(|it| self.texts.get(it)).map(|it| Token::Text(*it)),
        );
        let labels = signature.labels.iter().filter_map(|it| self.labels.get(it));
        tokens.extend(labels.map(|it| Token::Label(*it)));
        if signature.changed {
            tokens.push(Token::Change);
        }
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// How many names have each word, and how many names there are.
    fn names_with(&self) -> (BTreeMap<Rank, usize>, usize) {
        let mut counts = BTreeMap::new();
        for word in self.names.values().flatten() {
            *counts.entry(*word).or_default() += 1;
        }
        (counts, self.names.len())
    }
}

/// Leaves out the labels that nearly always differ, as an address or a trace id does: they would
/// only make equal faults look different.
fn drop_varied(history: &History, labels: &mut BTreeMap<TextId, usize>) {
    let name_of = |it: TextId| history.text(it).split_once('=').map_or("", |(name, _)| name);
    let mut values: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (label, count) in labels.iter() {
        let (different, total) = values.entry(name_of(*label)).or_default();
        *different += 1;
        *total += count;
    }
    labels.retain(|it, _| {
        let (different, total) = values.get(name_of(*it)).copied().unwrap_or_default();
        different <= VALUES_FEW || different * 2 <= total
    });
}
