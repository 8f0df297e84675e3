//! Groups of signatures that are alike: DBSCAN by linfa, a tolerance from the data, and a guard.

use super::features::{Corpus, Signature, Token, host};
use super::vectors::{CosineIndex, Vectors, number, similarity};
use crate::domain::incident::Incident;
use linfa::ParamGuard;
use linfa::traits::Transformer;
use linfa_clustering::Dbscan;
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A tolerance that is chosen from the data lies between these. Below, wordings of one fault fall
/// apart; above, faults of one service run together.
const TOLERANCE_MIN: f64 = 0.55;
/// See `TOLERANCE_MIN`.
const TOLERANCE_MAX: f64 = 0.70;
/// Below so many signatures a histogram says nothing, and the middle is taken.
const SIGNATURES_FEW: usize = 20;
/// How many signatures the histogram is made from at most.
const SAMPLE_MAX: usize = 1000;
/// The bins of the histogram over distances 0 to 1.
const BINS: usize = 50;
/// A group whose members are on average less alike than this to its middle is split.
const COHESION_MIN: f64 = 0.62;
/// Splitting makes the tolerance this much smaller each time.
const SPLIT_FACTOR: f64 = 0.8;
/// Splitting ends below this tolerance; what is still not alike is noise.
const TOLERANCE_LAST: f64 = 0.1;
/// A trait that a group shares: so many percent of its incidents have it,
const SHARED_PERCENT: usize = 90;
/// and at most this part of all others.
const ELSEWHERE_MAX: f64 = 0.25;
/// By how many standard deviations a group must be more frequent than chance.
const DEVIATIONS_MIN: f64 = 4.0;
/// A machine is a problem of its own from so many incidents on,
const HOST_INCIDENTS_MIN: usize = 5;
/// and from so many times the mean of the group's machines on.
const HOST_SHARE: usize = 3;
/// How important the rare traits must be together.
const IMPORTANCE_MIN: f64 = 2.0;

/// What makes a group.
pub(super) struct Limits {
    /// The fewest incidents, by weight; at least 2.
    pub(super) incidents_min: usize,
    /// The largest cosine distance of neighbours; `None` = chosen from the data.
    pub(super) tolerance: Option<f64>,
}

/// A group of signatures.
pub(super) struct Cluster {
    /// Indices of signatures, ascending.
    pub(super) signatures: Vec<usize>,
    /// How alike the members are to their middle, 0 to 1.
    pub(super) cohesion: f64,
    /// How far the nearest signature outside is from the middle, 0 to 1.
    pub(super) separation: f64,
    /// Which incidents of these signatures belong to it.
    pub(super) hosts: Hosts,
}

/// Some of the machines. Names of machines are masked in signatures, since a fault wanders; but
/// when it keeps coming back to one machine, that is a problem of its own.
#[derive(Clone)]
pub(super) enum Hosts {
    /// All but these.
    AllBut(BTreeSet<String>),
    /// This one.
    Only(String),
}

impl Hosts {
    fn include(&self, incident: &Incident) -> bool {
        match (self, host(incident)) {
            (Self::AllBut(hosts), Some(host)) => !hosts.contains(host),
            (Self::AllBut(_), None) => true,
            (Self::Only(only), host) => host == Some(only),
        }
    }
}

impl Cluster {
    /// Its incidents among those of a signature.
    pub(super) fn members<'a>(
        &self,
        signature: &'a Signature<'a>,
    ) -> impl Iterator<Item = &'a Incident> {
        signature.incidents.iter().copied().filter(|it| self.hosts.include(it))
    }
}

/// Finds the groups, in order of their first signature.
pub(super) fn find(
    corpus: &Corpus<'_>,
    everywhere: &TokenCounts<'_>,
    limits: &Limits,
) -> Vec<Cluster> {
    let vectors = Vectors::of(corpus);
    let all: Vec<_> = (0..vectors.len()).collect();
    let tolerance = limits.tolerance.unwrap_or_else(|| tolerance_of(&vectors));
    let search =
        Search { vectors: &vectors, everywhere, corpus, incidents_min: limits.incidents_min };
    let mut clusters = Vec::new();
    // Groups to look at, each with the tolerance that made it.
    let mut waiting = search.groups(&all, tolerance);
    while let Some((group, tolerance)) = waiting.pop() {
        if search.cohesion(&group) >= COHESION_MIN && search.is_one_fault(&group) {
            if search.beats_chance(&group) {
                clusters.extend(search.by_host(&search.cluster(group)));
            }
        } else if tolerance > TOLERANCE_LAST {
            waiting.extend(search.groups(&group, tolerance * SPLIT_FACTOR));
        }
    }
    clusters.sort_by(|a, b| a.signatures.cmp(&b.signatures));
    clusters
}

struct Search<'a> {
    corpus: &'a Corpus<'a>,
    vectors: &'a Vectors,
    /// How many incidents have each token.
    everywhere: &'a TokenCounts<'a>,
    incidents_min: usize,
}

impl Search<'_> {
    /// One pass of DBSCAN over some of the signatures.
    fn groups(&self, among: &[usize], tolerance: f64) -> Vec<(Vec<usize>, f64)> {
        let vectors = Arc::new(self.vectors.subset(among));
        let numbers = Array2::from_shape_fn((among.len(), 1), |(row, _)| number(row));
        let index = CosineIndex { vectors, points_min: self.incidents_min };
        // The index measures by itself, so the distance given here is never asked.
        let parameters = Dbscan::params_with(self.incidents_min, L2Dist, index);
        let Ok(parameters) = parameters.tolerance(tolerance).check() else {
            return Vec::new();
        };
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (signature, group) in among.iter().zip(parameters.transform(&numbers)) {
            if let Some(group) = group {
                groups.entry(group).or_default().push(*signature);
            }
        }
        groups
            .into_values()
            .filter(|it| self.size(it) >= self.incidents_min)
            .map(|it| (it, tolerance))
            .collect()
    }

    /// The mean likeness of a group's incidents to its middle.
    fn cohesion(&self, group: &[usize]) -> f64 {
        let centroid = self.vectors.centroid(group);
        let (mut sum, mut count) = (0.0, 0.0);
        for index in group {
            let weight = number(self.vectors.weight(*index));
            sum += weight * similarity(&centroid, self.vectors.row(*index));
            count += weight;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// What nearly all members have in common, with its share of all others, 0 to 1.
    fn shared(&self, group: &[usize]) -> Vec<(&Token, f64)> {
        let size = self.size(group);
        let others = number(self.corpus.incident_count().saturating_sub(size).max(1));
        token_counts(self.corpus, group)
            .into_iter()
            .filter(|(_, count)| count * 100 >= size * SHARED_PERCENT)
            .map(|(token, count)| {
                let everywhere = self.everywhere.get(token).copied().unwrap_or_default();
                (token, number(everywhere.saturating_sub(count)) / others)
            })
            .collect()
    }

    /// Whether what nearly all members share is rare elsewhere and says what happened: the alert's
    /// name, or a word and the service, or two words. A chain from one fault to the next has
    /// nothing like it, and all that ever happened to one service is no problem of its own.
    fn is_one_fault(&self, group: &[usize]) -> bool {
        let telling: Vec<_> =
            self.shared(group).into_iter().filter(|(_, share)| *share <= ELSEWHERE_MAX).collect();
        telling.iter().any(|(token, _)| token.says_what())
            && telling.iter().map(|(token, _)| token.importance()).sum::<f64>() >= IMPORTANCE_MIN
    }

    /// Whether it came more often than chance alone would bring this alert and this service
    /// together, if among all others the one had nothing to do with the other: by more than four
    /// standard deviations of a Poisson distribution.
    fn beats_chance(&self, group: &[usize]) -> bool {
        let shared = self.shared(group);
        let odds = |says_what: bool| {
            let traits = shared.iter().filter(|(token, _)| token.says_what() == says_what);
            // Odds, because the group itself is not counted among the others.
            traits.map(|(_, share)| share / (1.0 - share).max(0.5)).fold(1.0, f64::min)
        };
        let size = self.size(group);
        let others = self.corpus.incident_count().saturating_sub(size);
        let expected = number(others) * odds(true) * odds(false);
        number(size) > expected + DEVIATIONS_MIN * expected.sqrt()
    }

    fn size(&self, group: &[usize]) -> usize {
        group.iter().map(|it| self.vectors.weight(*it)).sum()
    }

    fn cluster(&self, signatures: Vec<usize>) -> Cluster {
        let centroid = self.vectors.centroid(&signatures);
        let nearest = (0..self.vectors.len())
            .filter(|it| signatures.binary_search(it).is_err())
            .map(|it| similarity(&centroid, self.vectors.row(it)))
            .fold(0.0, f64::max);
        let cohesion = self.cohesion(&signatures);
        let hosts = Hosts::AllBut(BTreeSet::new());
        Cluster { signatures, cohesion, separation: (1.0 - nearest).max(0.0), hosts }
    }

    /// Takes out the machines that have far more than their share of a group.
    fn by_host(&self, cluster: &Cluster) -> Vec<Cluster> {
        let signatures =
            || cluster.signatures.iter().filter_map(|it| self.corpus.signatures.get(*it));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in signatures().flat_map(|it| &it.incidents).filter_map(|it| host(it)) {
            *counts.entry(name).or_default() += 1;
        }
        let total: usize = counts.values().sum();
        let heavy: BTreeSet<_> = counts
            .iter()
            .filter(|(_, count)| **count >= self.incidents_min.max(HOST_INCIDENTS_MIN))
            .filter(|(_, count)| **count * counts.len() >= HOST_SHARE * total && counts.len() > 1)
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let part = |hosts| Cluster { signatures: cluster.signatures.clone(), hosts, ..*cluster };
        heavy
            .iter()
            .map(|it| part(Hosts::Only(it.clone())))
            .chain([part(Hosts::AllBut(heavy.clone()))])
            .collect()
    }
}

/// How many incidents have each token.
pub(super) type TokenCounts<'a> = BTreeMap<&'a Token, usize>;

/// How many incidents of all signatures have each token.
pub(super) fn counts_everywhere<'a>(corpus: &'a Corpus<'_>) -> TokenCounts<'a> {
    let all: Vec<_> = (0..corpus.signatures.len()).collect();
    token_counts(corpus, &all)
}

/// How many incidents of some signatures have each token.
fn token_counts<'a>(corpus: &'a Corpus<'_>, signatures: &[usize]) -> TokenCounts<'a> {
    let mut counts = BTreeMap::new();
    for signature in signatures.iter().filter_map(|it| corpus.signatures.get(*it)) {
        for token in &signature.tokens {
            *counts.entry(token).or_default() += signature.incidents.len();
        }
    }
    counts
}

/// The tolerance that best parts signatures with near neighbours from those without: Otsu's
/// threshold (1979) on the histogram of distances to the second nearest neighbour.
fn tolerance_of(vectors: &Vectors) -> f64 {
    if vectors.len() < SIGNATURES_FEW {
        return f64::midpoint(TOLERANCE_MIN, TOLERANCE_MAX);
    }
    let step = vectors.len().div_ceil(SAMPLE_MAX);
    let mut histogram = [0_usize; BINS];
    for index in (0..vectors.len()).step_by(step) {
        let distance = vectors.distance_to_neighbour(index, 2);
        let bin = (1..BINS).take_while(|it| number(*it) <= distance * number(BINS)).count();
        if let Some(count) = histogram.get_mut(bin) {
            *count += 1;
        }
    }
    otsu(&histogram).clamp(TOLERANCE_MIN, TOLERANCE_MAX)
}

/// The upper edge of the bin after which the variance between the two sides is largest.
fn otsu(histogram: &[usize]) -> f64 {
    let mass = |bins: &[(usize, f64)]| {
        bins.iter()
            .fold((0.0, 0.0), |(count, sum), (bin, it)| (count + it, sum + it * number(*bin)))
    };
    let bins: Vec<_> = histogram.iter().map(|it| number(*it)).enumerate().collect();
    let mut best = (0.0, 0);
    for cut in 1..bins.len() {
        let (left, right) = bins.split_at(cut);
        let ((left, left_sum), (right, right_sum)) = (mass(left), mass(right));
        if left > 0.0 && right > 0.0 {
            let apart = left_sum / left - right_sum / right;
            let variance = left * right * apart * apart;
            if variance > best.0 {
                best = (variance, cut);
            }
        }
    }
    number(best.1) / number(histogram.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otsu_parts_two_hills() {
        for (histogram, expected) in [
            (&[0, 9, 8, 0, 0, 0, 0, 7, 9, 1][..], 0.3),
            (&[5, 0, 0, 0, 0, 0, 0, 0, 0, 5], 0.1),
            (&[0, 0, 0, 0, 9, 0, 0, 0, 0, 0], 0.0),
            (&[], 0.0),
        ] {
            assert!((otsu(histogram) - expected).abs() < 1e-9, "{histogram:?} {}", otsu(histogram));
        }
    }
}
