//! Groups of texts that share their nearest neighbours: for histories in which density tells little,
//! since everything is about as far from everything else.

use super::points::number;
use super::vectors::Vectors;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// So many neighbours of each row are looked at.
const NEIGHBOURS: usize = 10;
/// A gain below this is rounding.
const GAIN_MIN: f64 = 1e-12;
/// The most times that all nodes are looked at on one level; bounds the time.
const PASSES_MAX: usize = 50;

/// The neighbours of each node, with the weight of the edge; loops are at the node itself.
type Graph = Vec<BTreeMap<usize, f64>>;

/// Parts the rows: those that share many of their nearest neighbours (Jarvis and Patrick 1973) are
/// joined by edges, and the graph is cut where it is thin, by the method of Louvain (Blondel and
/// others 2008). Rows are visited in their order, so that the same rows give the same groups. In
/// order of their first row; what shares nothing with anything is a group of its own.
pub(super) fn find(vectors: &Vectors) -> Vec<Vec<usize>> {
    let mut graph = shared_neighbours(vectors);
    let mut groups: Vec<Vec<usize>> = (0..vectors.len()).map(|it| vec![it]).collect();
    loop {
        let community = communities(&graph);
        let count = community.iter().max().map_or(0, |it| it + 1);
        if count == graph.len() {
            return groups;
        }
        let mut next: Graph = vec![BTreeMap::new(); count];
        let mut joined = vec![Vec::new(); count];
        let of = |node: usize| community.get(node).copied().unwrap_or_default();
        for (node, (edges, rows)) in graph.iter().zip(groups).enumerate() {
            if let (Some(to), Some(all)) = (next.get_mut(of(node)), joined.get_mut(of(node))) {
                for (other, weight) in edges {
                    *to.entry(of(*other)).or_default() += weight;
                }
                all.extend(rows);
            }
        }
        for it in &mut joined {
            it.sort_unstable();
        }
        (graph, groups) = (next, joined);
    }
}

/// An edge joins a row and its near neighbours, as heavy as the part of both neighbourhoods that
/// they share.
fn shared_neighbours(vectors: &Vectors) -> Graph {
    let near: Vec<BTreeSet<usize>> =
        (0..vectors.len()).map(|it| nearest(vectors, it).into_iter().collect()).collect();
    let mut graph: Graph = vec![BTreeMap::new(); near.len()];
    for (row, own) in near.iter().enumerate() {
        for other in own {
            let Some(theirs) = near.get(*other) else { continue };
            let shared = own.intersection(theirs).count();
            let weight = number(shared) / number(own.len() + theirs.len() - shared);
            if shared > 0 {
                for (from, to) in [(row, *other), (*other, row)] {
                    graph.get_mut(from).and_then(|it| it.insert(to, weight));
                }
            }
        }
    }
    graph
}

/// The rows most alike to a row, those that share nothing with it left out.
fn nearest(vectors: &Vectors, row: usize) -> Vec<usize> {
    let mut alike = vectors.sharing(vectors.row(row));
    alike.retain(|(it, _)| *it != row);
    let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if alike.len() > NEIGHBOURS {
        alike.select_nth_unstable_by(NEIGHBOURS - 1, order);
        alike.truncate(NEIGHBOURS);
    }
    alike.into_iter().map(|(it, _)| it).collect()
}

/// The community of each node, numbered in order of appearance: nodes go to the neighbouring one
/// that raises the modularity most, until none gains by moving.
fn communities(graph: &Graph) -> Vec<usize> {
    let degree: Vec<f64> = graph.iter().map(|it| it.values().sum()).collect();
    let all = degree.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut own: Vec<usize> = (0..graph.len()).collect();
    let mut total = degree.clone();
    let mut passes = 0;
    let mut has_moved = true;
    while has_moved && passes < PASSES_MAX {
        (passes, has_moved) = (passes + 1, false);
        for (node, edges) in graph.iter().enumerate() {
            let before = own.get(node).copied().unwrap_or_default();
            let degree = degree.get(node).copied().unwrap_or_default();
            let mut towards: BTreeMap<usize, f64> = BTreeMap::from([(before, 0.0)]);
            for (other, weight) in edges.iter().filter(|(it, _)| **it != node) {
                let it = own.get(*other).copied().unwrap_or_default();
                *towards.entry(it).or_default() += weight;
            }
            let gain = |it: usize, weight: f64| {
                let others = total.get(it).copied().unwrap_or_default();
                let others = if it == before { others - degree } else { others };
                weight - others * degree / all
            };
            let stay = gain(before, towards.get(&before).copied().unwrap_or_default());
            let best = towards.iter().map(|(it, weight)| (gain(*it, *weight), Reverse(*it)));
            let best = best.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some((_, Reverse(best))) = best.filter(|(it, _)| *it > stay + GAIN_MIN) else {
                continue;
            };
            has_moved = true;
            for (community, change) in [(before, -degree), (best, degree)] {
                if let Some(sum) = total.get_mut(community) {
                    *sum += change;
                }
            }
            if let Some(it) = own.get_mut(node) {
                *it = best;
            }
        }
    }
    let mut numbers = BTreeMap::new();
    own.into_iter()
        .map(|it| {
            let next = numbers.len();
            *numbers.entry(it).or_insert(next)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_here_and_there_come_together() {
        // Three subjects of six words each; each text has three of them and one that is anywhere.
        let rows = (0..60_usize).map(|it| {
            let (subject, turn) = (it % 3, it / 3);
            let word = |step: usize| (subject * 6 + (turn + step * step) % 6, 1.0);
            let mut row: BTreeMap<usize, f64> = (0..3).map(word).collect();
            row.insert(18 + it % 7, 0.5);
            row.into_iter().collect()
        });
        let vectors = Vectors::of_rows(rows.collect(), vec![1; 60]);
        let groups = find(&vectors);
        let subject = |start: usize| (start..60).step_by(3).collect::<Vec<_>>();
        assert_eq!(groups, [subject(0), subject(1), subject(2)]);
    }

    #[test]
    fn what_shares_nothing_stays_alone() {
        let rows = vec![vec![(0, 1.0)], vec![(1, 1.0)], Vec::new()];
        let groups = find(&Vectors::of_rows(rows, vec![1; 3]));
        assert_eq!(groups, [vec![0], vec![1], vec![2]]);
        assert!(find(&Vectors::of_rows(Vec::new(), Vec::new())).is_empty());
    }
}
