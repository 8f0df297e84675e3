//! An index of documents by their terms: which are most like a question, field by field.
//!
//! Each field is a vector of TF-IDF with a logarithm of the frequency (Salton and Buckley 1988), and two fields
//! are as like as the cosine of their vectors. Adding a document costs its terms. A question costs the postings
//! of its terms, the rarest first and not more than [`POSTINGS_MAX`], whatever the number of documents;
//! lengths are worked out anew each time that the index has grown by a tenth.

use super::points::number;
use std::collections::BTreeMap;

/// The fields of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    /// What it is called, and its first words.
    Head,
    /// All its words.
    Text,
    /// The names of its alerts.
    Alerts,
    /// Services, hosts and other items.
    Places,
    /// Labels, `name=value`.
    Labels,
}

const FIELDS: [Field; 5] = [Field::Head, Field::Text, Field::Alerts, Field::Places, Field::Labels];

/// A question looks at so many postings at most: some milliseconds.
const POSTINGS_MAX: usize = 400_000;

/// The terms of a document or a question, by field, with the words that stand for them.
#[derive(Debug, Default)]
pub(super) struct Terms(BTreeMap<Field, BTreeMap<String, (u32, String)>>);

impl Terms {
    /// Adds a term as it is compared, and as people read it.
    pub(super) fn add(&mut self, field: Field, term: String, shown: String) {
        self.0.entry(field).or_default().entry(term).or_insert((0, shown)).0 += 1;
    }

    /// Adds the words of a text.
    pub(super) fn add_text(&mut self, field: Field, text: &str) {
        for (term, word) in super::terms::terms(text) {
            self.add(field, term, word);
        }
    }

    /// What documents must have in common to be the same.
    pub(super) fn signature(&self) -> Vec<(Field, String, u32)> {
        let of = |(field, terms): (&Field, &BTreeMap<String, (u32, String)>)| {
            let field = *field;
            let one =
                move |(term, (count, _)): (&String, &(u32, String))| (field, term.clone(), *count);
            terms.iter().map(one).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

#[derive(Debug, Default)]
struct Column {
    /// Of each term the documents that have it, ascending, and how often.
    postings: BTreeMap<Box<str>, Vec<(u32, u32)>>,
    /// The length of each document's vector.
    lengths: Vec<f64>,
}

/// Documents by their terms.
#[derive(Debug, Default)]
pub(super) struct Index {
    columns: BTreeMap<Field, Column>,
    documents: u32,
    /// How many documents there were when lengths were last worked out.
    measured: u32,
}

impl Index {
    /// How many documents it has.
    pub(super) fn len(&self) -> u32 {
        self.documents
    }

    /// Adds a document; returns its number, from 0.
    pub(super) fn add(&mut self, terms: &Terms) -> u32 {
        let document = self.documents;
        self.documents += 1;
        for (field, terms) in &terms.0 {
            let column = self.columns.entry(*field).or_default();
            let mut square = 0.0;
            for (term, (count, _)) in terms {
                if !column.postings.contains_key(term.as_str()) {
                    column.postings.insert(term.as_str().into(), Vec::new());
                }
                let Some(postings) = column.postings.get_mut(term.as_str()) else { continue };
                postings.push((document, *count));
                square += weight(*count, rarity(self.documents, postings.len())).powi(2);
            }
            column.lengths.resize(document as usize, 0.0);
            column.lengths.push(square.sqrt());
        }
        document
    }

    /// Works lengths out anew, once it has grown enough since the last time.
    pub(super) fn measure(&mut self) {
        let is_fresh = self.documents <= self.measured + self.measured / 10;
        if is_fresh {
            return;
        }
        self.measured = self.documents;
        for column in self.columns.values_mut() {
            let mut lengths = vec![0.0; self.documents as usize];
            for postings in column.postings.values() {
                let rarity = rarity(self.documents, postings.len());
                for (document, count) in postings {
                    if let Some(length) = lengths.get_mut(*document as usize) {
                        *length += weight(*count, rarity).powi(2);
                    }
                }
            }
            column.lengths = lengths.into_iter().map(f64::sqrt).collect();
        }
    }

    /// How like each document is to a question, for those that are at all, in order of number. What a field counts
    /// that the question leaves empty goes to the others.
    pub(super) fn likenesses(
        &self,
        question: &Terms,
        weights: &[(Field, f64)],
    ) -> BTreeMap<u32, f64> {
        let fields: Vec<(&Column, Vec<Asked<'_>>, f64)> = (weights.iter())
            .filter_map(|(field, share)| {
                let asked = self.asked(*field, question);
                (!asked.is_empty()).then_some((self.columns.get(field)?, asked, *share))
            })
            .collect();
        let all: f64 = fields.iter().map(|it| it.2).sum();
        let mut likenesses = vec![0.0_f64; self.documents as usize];
        for (column, asked, share) in fields {
            let length = asked.iter().map(|it| it.weight.powi(2)).sum::<f64>().sqrt();
            let mut left = POSTINGS_MAX;
            for it in asked {
                left = match left.checked_sub(it.postings.len()) {
                    Some(left) => left,
                    None => break,
                };
                for (document, count) in it.postings {
                    let other = column.lengths.get(*document as usize).copied().unwrap_or(0.0);
                    if let Some(likeness) =
                        likenesses.get_mut(*document as usize).filter(|_| other > 0.0)
                    {
                        let product = it.weight * weight(*count, it.rarity);
                        *likeness += share / all * product / (length * other);
                    }
                }
            }
        }
        let found = (0..).zip(likenesses).filter(|(_, it)| *it > 0.0);
        found.collect()
    }

    /// What a document and a question have in common.
    pub(super) fn shared(&self, question: &Terms, document: u32) -> BTreeMap<Field, Vec<String>> {
        let mut shared = BTreeMap::new();
        for field in FIELDS {
            let mut words: Vec<(f64, &str)> = (self.asked(field, question).into_iter())
                .filter_map(|it| {
                    let at = it.postings.binary_search_by_key(&document, |(it, _)| *it).ok()?;
                    let (_, count) = it.postings.get(at)?;
                    Some((it.weight * weight(*count, it.rarity), it.shown))
                })
                .collect();
            words.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
            if !words.is_empty() {
                shared.insert(field, words.into_iter().map(|(_, it)| it.to_owned()).collect());
            }
        }
        shared
    }

    /// The terms of a field of a question that documents have, the rarest first.
    fn asked<'a>(&'a self, field: Field, question: &'a Terms) -> Vec<Asked<'a>> {
        let (Some(column), Some(terms)) = (self.columns.get(&field), question.0.get(&field)) else {
            return Vec::new();
        };
        let found = terms.iter().filter_map(|(term, (count, shown))| {
            let postings = column.postings.get(term.as_str())?;
            let rarity = rarity(self.documents, postings.len());
            Some(Asked { postings, rarity, weight: weight(*count, rarity), shown })
        });
        let mut found: Vec<Asked<'a>> = found.collect();
        found.sort_by_key(|it| it.postings.len());
        found
    }
}

/// A term of a question.
struct Asked<'a> {
    postings: &'a [(u32, u32)],
    rarity: f64,
    weight: f64,
    shown: &'a str,
}

/// How much a term tells that so many of the documents have (Sparck Jones 1972): little, but not nothing, if all
/// have it, so that the first document of all can be found.
fn rarity(documents: u32, with: usize) -> f64 {
    (1.0 + f64::from(documents) / number(with.max(1))).ln()
}

fn weight(count: u32, rarity: f64) -> f64 {
    (1.0 + f64::from(count.max(1)).ln()) * rarity
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [(Field, f64); 1] = [(Field::Text, 1.0)];

    fn terms(text: &str) -> Terms {
        let mut terms = Terms::default();
        terms.add_text(Field::Text, text);
        terms
    }

    fn index(texts: &[&str]) -> Index {
        let mut index = Index::default();
        for text in texts {
            index.add(&terms(text));
        }
        index.measure();
        index
    }

    #[test]
    fn what_is_equal_is_wholly_alike_and_what_shares_nothing_not_at_all() {
        let index = index(&["disk full on node", "network down", "disk slow on node"]);
        let found = index.likenesses(&terms("disk full on node"), &TEXT);
        assert!((found[&0] - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found[&2] > 0.0 && found[&2] < 1.0 && !found.contains_key(&1), "{found:?}");
        let shared = index.shared(&terms("full disks"), 0);
        assert_eq!(shared[&Field::Text], ["full", "disks"], "the rarest first, as asked");
    }

    #[test]
    fn what_an_empty_field_counts_goes_to_the_others() {
        let index = index(&["disk full", "network down"]);
        let weights = [(Field::Text, 0.5), (Field::Alerts, 0.5)];
        let found = index.likenesses(&terms("disk full"), &weights);
        assert!((found[&0] - 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_term_that_all_have_tells_little() {
        let index = index(&["alert one", "alert two"]);
        let found = index.likenesses(&terms("alert two"), &TEXT);
        assert!(found[&1] > 2.0 * found[&0] && found[&0] > 0.0, "{found:?}");
    }

    #[test]
    fn what_is_added_later_is_found_at_once() {
        let mut index = index(&["disk full", "network down"]);
        index.add(&terms("certificate expires"));
        let found = index.likenesses(&terms("certificate expires"), &TEXT);
        assert!((found[&2] - 1.0).abs() < 0.2, "{found:?}");
    }
}
