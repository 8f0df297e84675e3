//! Groups of points that are alike: DBSCAN by linfa, a tolerance from the data, and a guard that
//! splits what was only chained together; or communities, where the model says so.

use super::communities;
use super::points::{Point, Points, Token, number};
use super::vectors::{CosineIndex, Row, Vectors, similarity};
use crate::domain::rules::{Algorithm, ProblemDetection};
use linfa::ParamGuard;
use linfa::traits::Transformer;
use linfa_clustering::Dbscan;
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use std::cmp::Reverse;
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
/// Dense parts of a group whose middles are less alike than this are groups of their own.
const APART: f64 = 0.5;
/// Splitting makes the tolerance this much smaller each time.
const SPLIT_FACTOR: f64 = 0.8;
/// Splitting ends below this tolerance; what is still not alike is noise.
const TOLERANCE_LAST: f64 = 0.1;
/// What lies outside is looked for up to this likeness to the middle.
const OUTSIDE_SIMILARITY_MIN: f64 = 0.4;

/// The most different points that are clustered at once; bounds the time.
const POINTS_MAX: usize = 30_000;
/// So often are points taken that belong to no group yet.
const ROUNDS_MAX: usize = 2;

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
    centroid: Row,
}

/// Finds the groups, in order of their first point. Those of which nothing but texts and labels is
/// known are looked at by themselves: their likeness means something else.
pub(super) fn find(points: &Points<'_>, detection: &ProblemDetection) -> Vec<Cluster> {
    let (plain, placed): (Vec<usize>, Vec<usize>) =
        (0..points.all.len()).partition(|it| points.all.get(*it).is_some_and(Point::is_plain));
    let mut clusters = Vec::new();
    for (among, tolerances) in [(placed, TOLERANCES), (plain, TOLERANCES_PLAIN)] {
        clusters.extend(find_among(points, &among, (detection, tolerances)));
    }
    clusters.sort_by(|a, b| a.points.cmp(&b.points));
    clusters
}

/// Finds the groups among some of the points. Of very many the heaviest are clustered, and what is
/// left goes to the group of its nearest neighbour there, or is clustered after them.
fn find_among(
    points: &Points<'_>,
    among: &[usize],
    (detection, tolerances): (&ProblemDetection, (f64, f64)),
) -> Vec<Cluster> {
    let vectors = Vectors::of(points, among, detection.weights);
    let incidents_min = usize::try_from(detection.incidents_min.max(2)).unwrap_or(usize::MAX);
    let told = detection.tolerance_thousandths.map(|it| f64::from(it) / 1000.0);
    let mut left: Vec<usize> = (0..vectors.len()).collect();
    if left.len() > POINTS_MAX {
        left.sort_by_key(|it| (Reverse(vectors.weight(*it)), mixed(*it)));
    }
    let mut clusters = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let rest = left.split_off(left.len().min(POINTS_MAX));
        left.sort_unstable();
        let core = vectors.subset(&left);
        let core_points: Vec<usize> =
            left.iter().filter_map(|it| among.get(*it).copied()).collect();
        let search = Search { points, among: &core_points, vectors: &core, incidents_min };
        let tolerance = || told.unwrap_or_else(|| tolerance_of(&core, tolerances));
        let mut found = match detection.algorithm {
            Algorithm::Dbscan => search.find(tolerance()),
            Algorithm::Communities => search.communities(),
        };
        left = rest;
        if !left.is_empty() {
            attach(&mut left, (&vectors, among), (&search, &mut found));
        }
        clusters.extend(found);
    }
    clusters
}

/// Takes out of the rows that are left those that are near to a group, and gives them to it: to that of
/// the nearest point, if they are as alike to its middle as a group's members must be.
fn attach(
    left: &mut Vec<usize>,
    (vectors, among): (&Vectors, &[usize]),
    (search, clusters): (&Search<'_>, &mut [Cluster]),
) {
    let groups = clusters.iter().enumerate();
    let group_of: BTreeMap<usize, usize> =
        groups.flat_map(|(number, it)| it.points.iter().map(move |it| (*it, number))).collect();
    let mut joined: Vec<Vec<(usize, f64)>> = vec![Vec::new(); clusters.len()];
    left.retain(|row| {
        let near = search.vectors.near(vectors.row(*row), COHESION_MIN).into_iter();
        let grouped = near.filter_map(|(core, similarity)| {
            let group = group_of.get(search.among.get(core)?)?;
            Some((similarity, Reverse(core), *group))
        });
        let best = grouped.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let joins = best.and_then(|(_, _, group)| {
            let likeness = similarity(&clusters.get(group)?.centroid, vectors.row(*row));
            let point = among.get(*row).filter(|_| likeness >= COHESION_MIN)?;
            joined.get_mut(group).map(|it| it.push((*point, likeness)))
        });
        joins.is_none()
    });
    for (cluster, joined) in clusters.iter_mut().zip(joined) {
        let own = cluster.points.drain(..).zip(cluster.likeness.drain(..));
        let mut all: Vec<(usize, f64)> = own.chain(joined).collect();
        all.sort_by_key(|(point, _)| *point);
        (cluster.points, cluster.likeness) = all.into_iter().unzip();
    }
}

/// Mixes the bits of a number (splitmix64), so that what is taken of equals does not depend on the
/// alphabet.
fn mixed(row: usize) -> u64 {
    let mut mixed = (row as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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
                let parts = self.parted(group, tolerance).into_iter();
                clusters.extend(
                    parts
                        .filter(|it| self.says_what(it))
                        .map(|it| self.cluster(&it, self.cohesion(&it))),
                );
            } else if tolerance > TOLERANCE_LAST {
                waiting.extend(self.groups(&group, tolerance * SPLIT_FACTOR));
            }
        }
        clusters
    }

    /// The communities that are large enough, however loose.
    fn communities(&self) -> Vec<Cluster> {
        let groups = communities::find(self.vectors).into_iter();
        groups
            .filter(|it| self.size(it) >= self.incidents_min && self.says_what(it))
            .map(|it| self.cluster(&it, self.cohesion(&it)))
            .collect()
    }

    /// One pass of DBSCAN over some of the vectors.
    fn groups(&self, among: &[usize], tolerance: f64) -> Vec<(Vec<usize>, f64)> {
        let labels = dbscan(self.vectors.subset(among), self.incidents_min, tolerance);
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, group) in among.iter().zip(labels) {
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

    /// A large group may have swallowed a small one that a few incidents chain to it, without being much
    /// less cohesive: what is dense within it and far from the rest is parted, and each of the others goes
    /// to the part that it is most alike to.
    fn parted(&self, group: Vec<usize>, tolerance: f64) -> Vec<Vec<usize>> {
        let dense = self.groups(&group, tolerance * SPLIT_FACTOR * SPLIT_FACTOR);
        let mut cores: Vec<(Row, Vec<usize>)> = Vec::new();
        for (mut core, _) in dense {
            let mut middle = self.vectors.centroid(&core);
            // Cores that are alike are one; the joined core may be alike to further ones.
            while let Some(at) = cores.iter().position(|(it, _)| similarity(it, &middle) >= APART) {
                core.extend(cores.swap_remove(at).1);
                middle = self.vectors.centroid(&core);
            }
            cores.push((middle, core));
        }
        if cores.len() < 2 {
            return vec![group];
        }
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); cores.len()];
        for row in group {
            let alike = cores.iter().map(|(it, _)| similarity(it, self.vectors.row(row)));
            let best = alike.enumerate().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            if let Some(part) = best.and_then(|(it, _)| parts.get_mut(it)) {
                part.push(row);
            }
        }
        parts.retain(|it| self.size(it) >= self.incidents_min);
        parts
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
        Cluster { points, likeness, cohesion, separation: (1.0 - nearest).max(0.0), centroid }
    }
}

/// The number of each row's group by linfa's DBSCAN; none is noise. A row counts by its weight.
fn dbscan(vectors: Vectors, points_min: usize, tolerance: f64) -> Vec<Option<usize>> {
    let numbers = Array2::from_shape_fn((vectors.len(), 1), |(row, _)| number(row));
    let index = CosineIndex { vectors: Arc::new(vectors), points_min };
    // The index measures by itself, so the distance given here is never asked.
    let parameters = Dbscan::params_with(points_min, L2Dist, index).tolerance(tolerance);
    parameters.check().map_or_else(|_| Vec::new(), |it| it.transform(&numbers).to_vec())
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
    use crate::learn::history::History;
    use jiff::Timestamp;
    use linfa_nn::CommonNearestNeighbour;
    use serde::Deserialize;

    /// What `tests/evaluation/dbscan_labels.py` writes.
    #[derive(Deserialize)]
    struct Golden {
        points: Vec<[i32; 2]>,
        rows: Vec<Vec<(usize, f64)>>,
        weights: Vec<usize>,
        plane: Vec<Labelled>,
        sparse: Vec<Labelled>,
    }

    #[derive(Deserialize)]
    struct Labelled {
        tolerance: f64,
        min_points: usize,
        labels: Vec<i32>,
    }

    fn numbers(labels: &[Option<usize>]) -> Vec<i32> {
        labels.iter().map(|it| it.map_or(-1, |it| i32::try_from(it).unwrap())).collect()
    }

    #[test]
    fn labels_are_those_of_scikit_learn() {
        let golden = include_str!("../../tests/golden/dbscan.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let points = Array2::from_shape_fn((golden.points.len(), 2), |(row, column)| {
            f64::from(golden.points[row][column]) / 1000.0
        });
        assert_eq!((golden.plane.len(), golden.sparse.len()), (3, 3));
        for it in golden.plane {
            for index in [CommonNearestNeighbour::KdTree, CommonNearestNeighbour::LinearSearch] {
                let parameters = Dbscan::params_with(it.min_points, L2Dist, index);
                let found = parameters.tolerance(it.tolerance).check().unwrap().transform(&points);
                assert_eq!(numbers(&found.to_vec()), it.labels, "tolerance {}", it.tolerance);
            }
        }
        for it in golden.sparse {
            let vectors = Vectors::of_rows(golden.rows.clone(), golden.weights.clone());
            let found = dbscan(vectors, it.min_points, it.tolerance);
            assert_eq!(numbers(&found), it.labels, "tolerance {}", it.tolerance);
        }
    }

    #[test]
    fn what_a_large_group_swallowed_is_parted() {
        let history = History::default();
        let points = Points::of(&history, (Timestamp::MIN, Timestamp::MAX), 3);
        let row = |degrees: f64| {
            let angle = degrees.to_radians();
            vec![(0, angle.cos()), (1, angle.sin())]
        };
        // Two heavy points and, between them, two that make a chain, or hang together densely.
        for (angles, expected) in [
            ([5.0, 30.0, 55.0, 80.0], vec![vec![0, 1], vec![2, 3]]),
            ([5.0, 20.0, 35.0, 50.0], vec![vec![0, 1, 2, 3]]),
        ] {
            let vectors = Vectors::of_rows(angles.map(row).to_vec(), vec![10, 1, 1, 10]);
            let search =
                Search { points: &points, among: &[], vectors: &vectors, incidents_min: 3 };
            let tolerance = 0.12;
            let whole = search.groups(&[0, 1, 2, 3], tolerance);
            assert_eq!(whole, [(vec![0, 1, 2, 3], tolerance)]);
            assert_eq!(search.parted(vec![0, 1, 2, 3], tolerance), expected);
        }
    }

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
