//! Groups of points that are alike: DBSCAN by linfa, a tolerance from the data, and a guard that
//! splits what was only chained together.

use super::points::{Point, Points, Token, number};
use super::vectors::{CosineIndex, Vectors, similarity};
use crate::domain::rules::ProblemDetection;
use linfa::ParamGuard;
use linfa::traits::Transformer;
use linfa_clustering::Dbscan;
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tolerance that is chosen from the data lies between these, where places or names of alerts are
/// known. Below, the same fault falls apart by its wording and its labels; above, two faults of one
/// place run together.
const TOLERANCES: (f64, f64) = (0.20, 0.25);
/// The same where nothing but texts and labels is known.
const TOLERANCES_PLAIN: (f64, f64) = (0.55, 0.70);
/// Below so many points a histogram says nothing, and the middle is taken.
const POINTS_FEW: usize = 20;
/// How many points the histogram is made from at most.
const SAMPLE_MAX: usize = 1000;
/// The bins of the histogram over distances 0 to 1.
const BINS: usize = 50;
/// Neighbours farther than this are all the same to the histogram.
const DISTANCE_FAR: f64 = 0.8;
/// A group whose members are on average less alike than this to its middle is split.
const COHESION_MIN: f64 = 0.62;
/// Splitting makes the tolerance this much smaller each time.
const SPLIT_FACTOR: f64 = 0.8;
/// Splitting ends below this tolerance; what is still not alike is noise.
const TOLERANCE_LAST: f64 = 0.1;
/// What lies outside is looked for up to this likeness to the middle.
const OUTSIDE_SIMILARITY_MIN: f64 = 0.4;

/// A group of points.
pub(super) struct Cluster {
    /// Indices of points, ascending.
    pub(super) points: Vec<usize>,
    /// How alike each of them is to the middle, 0 to 1.
    pub(super) likeness: Vec<f64>,
    /// How alike the members are to their middle, 0 to 1.
    pub(super) cohesion: f64,
    /// How far the nearest point outside is from the middle, 0 to 1.
    pub(super) separation: f64,
}

/// Finds the groups, in order of their first point. Those of which nothing but texts and labels is
/// known are looked at by themselves: their likeness means something else.
pub(super) fn find(points: &Points<'_>, detection: &ProblemDetection) -> Vec<Cluster> {
    let (plain, placed): (Vec<usize>, Vec<usize>) =
        (0..points.all.len()).partition(|it| points.all.get(*it).is_some_and(Point::is_plain));
    let mut clusters = Vec::new();
    for (among, tolerances) in [(placed, TOLERANCES), (plain, TOLERANCES_PLAIN)] {
        let vectors = Vectors::of(points, &among, detection.weights);
        let told = detection.tolerance_thousandths.map(|it| f64::from(it) / 1000.0);
        let tolerance = told.unwrap_or_else(|| tolerance_of(&vectors, tolerances));
        let incidents_min = usize::try_from(detection.incidents_min.max(2)).unwrap_or(usize::MAX);
        let search = Search { points, among: &among, vectors: &vectors, incidents_min };
        clusters.extend(search.find(tolerance));
    }
    clusters.sort_by(|a, b| a.points.cmp(&b.points));
    clusters
}

struct Search<'a> {
    points: &'a Points<'a>,
    /// The points that the vectors stand for.
    among: &'a [usize],
    vectors: &'a Vectors,
    incidents_min: usize,
}

impl Search<'_> {
    fn find(&self, tolerance: f64) -> Vec<Cluster> {
        let all: Vec<usize> = (0..self.vectors.len()).collect();
        let mut clusters = Vec::new();
        // Groups to look at, each with the tolerance that made it.
        let mut waiting = self.groups(&all, tolerance);
        while let Some((group, tolerance)) = waiting.pop() {
            let cohesion = self.cohesion(&group);
            if cohesion >= COHESION_MIN {
                if self.says_what(&group) {
                    clusters.push(self.cluster(&group, cohesion));
                }
            } else if tolerance > TOLERANCE_LAST {
                waiting.extend(self.groups(&group, tolerance * SPLIT_FACTOR));
            }
        }
        clusters
    }

    /// One pass of DBSCAN over some of the vectors.
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
        for (row, group) in among.iter().zip(parameters.transform(&numbers)) {
            if let Some(group) = group {
                groups.entry(group).or_default().push(*row);
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

    /// Whether most incidents of a group say what happened, and not only where.
    fn says_what(&self, group: &[usize]) -> bool {
        let is_telling =
            |it: &&Token| matches!(it, Token::Symptom(..) | Token::Name(_) | Token::Text(_));
        let tells = |row: &&usize| {
            let point = self.among.get(**row).and_then(|it| self.points.all.get(*it));
            point.is_some_and(|it| it.tokens.iter().any(|it| is_telling(&it)))
        };
        let telling: Vec<usize> = group.iter().filter(tells).copied().collect();
        self.size(&telling) * 2 >= self.size(group)
    }

    fn size(&self, group: &[usize]) -> usize {
        group.iter().map(|it| self.vectors.weight(*it)).sum()
    }

    fn cluster(&self, group: &[usize], cohesion: f64) -> Cluster {
        let centroid = self.vectors.centroid(group);
        let nearest = self
            .vectors
            .near(&centroid, OUTSIDE_SIMILARITY_MIN)
            .into_iter()
            .filter(|(it, _)| group.binary_search(it).is_err())
            .map(|(_, similarity)| similarity)
            .fold(OUTSIDE_SIMILARITY_MIN, f64::max);
        let points = group.iter().filter_map(|it| self.among.get(*it).copied()).collect();
        let alike = |it: &usize| similarity(&centroid, self.vectors.row(*it));
        let likeness = group.iter().map(alike).collect();
        Cluster { points, likeness, cohesion, separation: (1.0 - nearest).max(0.0) }
    }
}

/// The tolerance that best parts points with near neighbours from those without: Otsu's threshold
/// (1979) on the histogram of distances to the second nearest neighbour.
fn tolerance_of(vectors: &Vectors, (least, most): (f64, f64)) -> f64 {
    if vectors.len() < POINTS_FEW {
        return f64::midpoint(least, most);
    }
    let step = vectors.len().div_ceil(SAMPLE_MAX);
    let mut histogram = [0_usize; BINS];
    for index in (0..vectors.len()).step_by(step) {
        let distance = vectors.distance_to_neighbour(index, 2, DISTANCE_FAR);
        let bin = (1..BINS).take_while(|it| number(*it) <= distance * number(BINS)).count();
        if let Some(count) = histogram.get_mut(bin) {
            *count += 1;
        }
    }
    otsu(&histogram).clamp(least, most)
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
