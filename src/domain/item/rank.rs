//! The order of items in which what is needed comes before what needs it, cycles as one.

use super::ItemId;
use super::graph::Graph;

/// The place of each item in that order, for what is needed and for what belongs to what.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    pub(super) needs: Vec<u32>,
    pub(super) wholes: Vec<u32>,
}

impl Ranks {
    pub(super) fn new(count: usize, graph: &Graph) -> Self {
        let needs = |it: ItemId| [graph.dependencies.of(it), graph.hosts.of(it)].concat();
        let wholes = |it: ItemId| graph.wholes.of(it).to_vec();
        Self { needs: ranks(count, &needs), wholes: ranks(count, &wholes) }
    }
}

const UNSEEN: u32 = u32::MAX;

/// An item on the way, with what of its neighbours has still to be looked at.
struct Frame {
    item: usize,
    next: std::vec::IntoIter<ItemId>,
}

/// Finds the strongly connected components (Tarjan, 1972, without recursion: catalogs are written by
/// others, and deep ones must not overflow the stack). They come out in the order that is wanted.
fn ranks(count: usize, needs: &dyn Fn(ItemId) -> Vec<ItemId>) -> Vec<u32> {
    let number = |it: usize| u32::try_from(it).unwrap_or(UNSEEN);
    let mut seen_as = vec![UNSEEN; count];
    let mut lowest = vec![UNSEEN; count];
    let mut rank = vec![UNSEEN; count];
    let (mut seen, mut done) = (0_u32, 0_u32);
    let mut open: Vec<usize> = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    for start in 0..count {
        if seen_as.get(start) != Some(&UNSEEN) {
            continue;
        }
        let mut begin = Some(start);
        loop {
            if let Some(item) = begin.take() {
                put(&mut seen_as, item, seen);
                put(&mut lowest, item, seen);
                seen += 1;
                open.push(item);
                let next = needs(ItemId(number(item))).into_iter();
                frames.push(Frame { item, next });
            }
            let Some(frame) = frames.last_mut() else { break };
            let here = frame.item;
            if let Some(next) = frame.next.next().map(|it| it.0 as usize) {
                if at(&seen_as, next) == UNSEEN {
                    begin = Some(next);
                } else if at(&rank, next) == UNSEEN {
                    let low = at(&lowest, here).min(at(&seen_as, next));
                    put(&mut lowest, here, low);
                }
                continue;
            }
            frames.pop();
            if let Some(above) = frames.last() {
                let low = at(&lowest, above.item).min(at(&lowest, here));
                put(&mut lowest, above.item, low);
            }
            if at(&lowest, here) == at(&seen_as, here) {
                while let Some(member) = open.pop() {
                    put(&mut rank, member, done);
                    if member == here {
                        break;
                    }
                }
                done += 1;
            }
        }
    }
    rank
}

fn at(all: &[u32], place: usize) -> u32 {
    all.get(place).copied().unwrap_or(0)
}

fn put(all: &mut [u32], place: usize, value: u32) {
    if let Some(it) = all.get_mut(place) {
        *it = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(count: usize, edges: &[(u32, u32)]) -> Vec<u32> {
        let needs = |it: ItemId| -> Vec<ItemId> {
            edges.iter().filter(|(from, _)| *from == it.0).map(|(_, to)| ItemId(*to)).collect()
        };
        ranks(count, &needs)
    }

    #[test]
    fn what_is_needed_comes_first_and_cycles_are_one() {
        assert_eq!(check(3, &[(0, 1), (1, 2)]), [2, 1, 0]);
        assert_eq!(check(4, &[(0, 1), (1, 2), (2, 1), (3, 0)]), [1, 0, 0, 2]);
        assert_eq!(check(2, &[(0, 0)]), [0, 1]);
        let deep: Vec<(u32, u32)> = (0..20_000).map(|it| (it, it + 1)).collect();
        assert_eq!(ranks_of_chain(&deep), 20_000, "no stack overflows");
    }

    fn ranks_of_chain(edges: &[(u32, u32)]) -> u32 {
        let needs =
            |it: ItemId| edges.get(it.0 as usize).map(|(_, to)| ItemId(*to)).into_iter().collect();
        ranks(edges.len() + 1, &needs)[0]
    }

    proptest! {
        #[test]
        fn ranks_fall_along_edges_and_are_equal_in_cycles(
            edges in proptest::collection::vec((0_u32..8, 0_u32..8), 0..24)
        ) {
            let found = check(8, &edges);
            let mut reaches = [[false; 8]; 8];
            for (from, to) in &edges {
                reaches[*from as usize][*to as usize] = true;
            }
            for over in 0..8 {
                for from in 0..8 {
                    for to in 0..8 {
                        reaches[from][to] |= reaches[from][over] && reaches[over][to];
                    }
                }
            }
            for from in 0..8 {
                for to in 0..8 {
                    if reaches[from][to] {
                        let is_cycle = reaches[to][from];
                        prop_assert!(found[to] < found[from] || (is_cycle && found[to] == found[from]));
                    }
                    if from != to && found[from] == found[to] {
                        prop_assert!(reaches[from][to] && reaches[to][from]);
                    }
                }
            }
        }
    }
}
