//! Signatures as sparse vectors, and an exact index over them that linfa's DBSCAN can ask.

use super::points::{Points, Token, number};
use crate::domain::rules::FieldWeights;
use linfa::Float;
use linfa_nn::distance::Distance;
use linfa_nn::{BuildError, NearestNeighbour, NearestNeighbourIndex, NnError};
use ndarray::{ArrayBase, ArrayView1, ArrayView2, Data, Ix2};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What rounding may cost; two equal vectors are not always 1 alike to the last bit.
const SLACK: f64 = 1e-9;

/// A vector of length 1: token numbers, ascending, and their parts.
pub(super) type Row = Vec<(usize, f64)>;

/// Vectors, and which of them hold a token. Tokens are numbered by rarity, the rarest first.
#[derive(Debug)]
pub(super) struct Vectors {
    rows: Vec<Row>,
    /// How many incidents a row stands for.
    weights: Vec<usize>,
    /// The rows of each token.
    postings: Vec<Vec<usize>>,
}

impl Vectors {
    /// Each field has its share of a vector, whatever it holds: text alone must not swallow structure,
    /// nor structure text. The share of a field that is empty goes to the others.
    pub(super) fn of(points: &Points<'_>, among: &[usize], weights: FieldWeights) -> Self {
        let points_of = || among.iter().filter_map(|it| points.all.get(*it));
        let mut all: Vec<Token> = points_of().flat_map(|it| it.tokens.iter().copied()).collect();
        all.sort_unstable();
        let mut frequencies: Vec<(usize, Token)> = Vec::new();
        for token in all {
            match frequencies.last_mut() {
                Some((count, last)) if *last == token => *count += 1,
                _ => frequencies.push((1, token)),
            }
        }
        let rarity = |(count, token): &(usize, Token)| points.rarity(*token, *count);
        let rarities: Vec<f64> = frequencies.iter().map(rarity).collect();
        let mut order: Vec<usize> = (0..frequencies.len()).collect();
        order.sort_by_key(|it| frequencies.get(*it));
        let mut number_of = vec![0; order.len()];
        for (number, index) in order.into_iter().enumerate() {
            if let Some(slot) = number_of.get_mut(index) {
                *slot = number;
            }
        }
        let find = |token: &Token| {
            let index = frequencies.binary_search_by(|(_, it)| it.cmp(token)).ok()?;
            Some((*token, *number_of.get(index)?, *rarities.get(index)?))
        };
        let rows = points_of().map(|point| {
            let known: Vec<_> = point.tokens.iter().filter_map(find).collect();
            let mut lengths = [0.0_f64; FieldWeights::FIELDS];
            for (token, _, rarity) in &known {
                if let Some(length) = lengths.get_mut(token.field()) {
                    *length += rarity * rarity;
                }
            }
            let part = |(token, number, rarity): &(Token, usize, f64)| {
                let length = lengths.get(token.field()).copied().unwrap_or(1.0).sqrt();
                let weight = f64::from(weights.of(token.field())).sqrt();
                (*number, rarity / length * weight)
            };
            let mut row: Row = known.iter().map(part).filter(|(_, it)| *it > 0.0).collect();
            row.sort_by_key(|(token, _)| *token);
            normalised(row)
        });
        let weights = points_of().map(|it| it.members.len()).collect();
        Self::build(rows.collect(), weights)
    }

    /// Of rows of any length.
    #[cfg(test)]
    pub(super) fn of_rows(rows: Vec<Row>, weights: Vec<usize>) -> Self {
        Self::build(rows.into_iter().map(normalised).collect(), weights)
    }

    fn build(rows: Vec<Row>, weights: Vec<usize>) -> Self {
        let tokens = rows.iter().flatten().map(|(token, _)| token + 1).max().unwrap_or(0);
        let mut postings = vec![Vec::new(); tokens];
        for (index, row) in rows.iter().enumerate() {
            for (token, _) in row {
                if let Some(posting) = postings.get_mut(*token) {
                    posting.push(index);
                }
            }
        }
        Self { rows, weights, postings }
    }

    /// Only some of the rows, in the order given.
    pub(super) fn subset(&self, indices: &[usize]) -> Self {
        let rows = indices.iter().map(|it| self.row(*it).to_vec()).collect();
        Self::build(rows, indices.iter().map(|it| self.weight(*it)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn row(&self, index: usize) -> &[(usize, f64)] {
        self.rows.get(index).map_or(&[], Vec::as_slice)
    }

    pub(super) fn weight(&self, index: usize) -> usize {
        self.weights.get(index).copied().unwrap_or_default()
    }

    /// The sum of some rows by weight, as a vector of length 1.
    pub(super) fn centroid(&self, indices: &[usize]) -> Row {
        let mut sum: BTreeMap<usize, f64> = BTreeMap::new();
        for index in indices {
            for (token, part) in self.row(*index) {
                *sum.entry(*token).or_default() += part * number(self.weight(*index));
            }
        }
        normalised(sum.into_iter().collect())
    }

    /// The rows that are at least so alike, in order, with how alike they are. Exact: a row that
    /// shares only the tokens that are left cannot be nearer than the length of what is left
    /// (Cauchy-Schwarz), so common tokens need not be looked up.
    pub(super) fn near(&self, row: &[(usize, f64)], similarity_min: f64) -> Vec<(usize, f64)> {
        let mut candidates: Vec<usize> = Vec::new();
        let mut left = 1.0_f64;
        for (token, part) in row {
            if left.max(0.0).sqrt() < similarity_min {
                break;
            }
            candidates.extend(self.postings.get(*token).into_iter().flatten());
            left -= part * part;
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates
            .into_iter()
            .map(|index| (index, similarity(row, self.row(index))))
            .filter(|(_, similarity)| *similarity >= similarity_min)
            .collect()
    }

    /// All rows that share a token with a row, in no order, with how alike they are.
    pub(super) fn sharing(&self, row: &[(usize, f64)]) -> Vec<(usize, f64)> {
        let mut scores: Vec<f64> = vec![0.0; self.rows.len()];
        let mut found = Vec::new();
        for (token, part) in row {
            for index in self.postings.get(*token).into_iter().flatten() {
                let Some(score) = scores.get_mut(*index) else { continue };
                if *score == 0.0 {
                    found.push(*index);
                }
                let other = self.row(*index).binary_search_by_key(token, |(it, _)| *it);
                let other = other.ok().and_then(|it| self.row(*index).get(it));
                *score += part * other.map_or(0.0, |(_, it)| *it);
            }
        }
        let score = |it: usize| (it, scores.get(it).copied().unwrap_or_default());
        found.into_iter().map(score).collect()
    }

    /// The distance from a row to the `rank`-th nearest of the others; 1 when none is within the
    /// distance that is looked at.
    pub(super) fn distance_to_neighbour(&self, index: usize, rank: usize, distance: f64) -> f64 {
        let mut alike: Vec<_> = self
            .near(self.row(index), 1.0 - distance)
            .into_iter()
            .filter(|(other, _)| *other != index)
            .map(|(_, similarity)| similarity)
            .collect();
        alike.sort_by(|a, b| b.total_cmp(a));
        alike.get(rank.saturating_sub(1)).map_or(1.0, |it| (1.0 - it).max(0.0))
    }
}

fn normalised(mut row: Row) -> Row {
    let length = row.iter().map(|(_, part)| part * part).sum::<f64>().sqrt();
    if length > 0.0 {
        for (_, part) in &mut row {
            *part /= length;
        }
    }
    row
}

/// The cosine of two vectors of length 1.
pub(super) fn similarity(a: &[(usize, f64)], b: &[(usize, f64)]) -> f64 {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut sum = 0.0;
    while let (Some((left, part)), Some((right, other))) = (a.peek(), b.peek()) {
        match left.cmp(right) {
            std::cmp::Ordering::Less => drop(a.next()),
            std::cmp::Ordering::Greater => drop(b.next()),
            std::cmp::Ordering::Equal => {
                sum += part * other;
                a.next();
                b.next();
            }
        }
    }
    sum
}

/// The index as linfa asks for it. The rows that linfa sees hold nothing but their own number.
#[derive(Clone, Debug)]
pub(super) struct CosineIndex {
    pub(super) vectors: Arc<Vectors>,
    /// DBSCAN's `min_points`: more weight than this makes no difference.
    pub(super) points_min: usize,
}

impl NearestNeighbour for CosineIndex {
    fn from_batch_with_leaf_size<'a, F: Float, DT: Data<Elem = F>, D: 'a + Distance<F>>(
        &self,
        batch: &'a ArrayBase<DT, Ix2>,
        _leaf_size: usize,
        _distance: D,
    ) -> Result<Box<dyn 'a + Send + Sync + NearestNeighbourIndex<F>>, BuildError> {
        Ok(Box::new(Query { numbers: batch.view(), index: self.clone() }))
    }
}

struct Query<'a, F> {
    numbers: ArrayView2<'a, F>,
    index: CosineIndex,
}

/// Which row linfa asks about.
fn number_of<F: Float>(point: &ArrayView1<'_, F>) -> Result<usize, NnError> {
    let number = point.first().ok_or(NnError::WrongDimension)?;
    number.to_usize().ok_or(NnError::WrongDimension)
}

impl<F: Float> Query<'_, F> {
    fn find(&self, point: &ArrayView1<'_, F>, range: F) -> Result<Vec<(usize, f64)>, NnError> {
        let number = number_of(point)?;
        let range = range.to_f64().ok_or(NnError::WrongDimension)?;
        let vectors = &self.index.vectors;
        let mut found = vectors.near(vectors.row(number), 1.0 - range - SLACK);
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(found)
    }

    fn with_points(&self, indices: impl Iterator<Item = usize>) -> Vec<(ArrayView1<'_, F>, usize)> {
        indices.map(|it| (self.numbers.row(it), it)).collect()
    }
}

impl<F: Float> NearestNeighbourIndex<F> for Query<'_, F> {
    fn k_nearest(
        &self,
        point: ArrayView1<'_, F>,
        k: usize,
    ) -> Result<Vec<(ArrayView1<'_, F>, usize)>, NnError> {
        let found = self.find(&point, F::one())?;
        Ok(self.with_points(found.into_iter().map(|it| it.0).take(k)))
    }

    /// Linfa's DBSCAN knows no weights, but counts what is found here and skips the point itself
    /// afterwards. So the point is repeated until the count is the weight of its neighbourhood.
    fn within_range(
        &self,
        point: ArrayView1<'_, F>,
        range: F,
    ) -> Result<Vec<(ArrayView1<'_, F>, usize)>, NnError> {
        let found = self.find(&point, range)?;
        let weight: usize = found.iter().map(|it| self.index.vectors.weight(it.0)).sum();
        let missing = weight.min(self.index.points_min).saturating_sub(found.len());
        let itself = number_of(&point)?;
        let repeated = std::iter::repeat_n(itself, missing);
        Ok(self.with_points(found.into_iter().map(|it| it.0).chain(repeated)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_index_is_exact(
            rows in proptest::collection::vec(proptest::collection::btree_map(0..12_usize, 0.1..5.0_f64, 1..6), 1..30),
            similarity_min in 0.05..0.95_f64,
        ) {
            let rows: Vec<Row> = rows.into_iter().map(|it| normalised(it.into_iter().collect())).collect();
            let weights = vec![1; rows.len()];
            let vectors = Vectors::build(rows, weights);
            for index in 0..vectors.len() {
                let row = vectors.row(index);
                let naive: Vec<_> = (0..vectors.len())
                    .map(|it| (it, similarity(row, vectors.row(it))))
                    .filter(|(_, it)| *it >= similarity_min)
                    .collect();
                prop_assert_eq!(vectors.near(row, similarity_min), naive);
            }
        }
    }
}
