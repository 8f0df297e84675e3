//! What recurs, what is alike, and what fits: history in, verdicts out.
//!
//! Of each incident it is kept what its alerts tell of the place where it began, that place, texts and
//! labels with everything masked that differs from one time to the next; equals are one point with a
//! weight; linfa's DBSCAN finds the dense regions; a guard splits what was only chained together; what
//! follows in the wake of a fault is counted to it; and each group is described by what its members share.

mod articles;
mod capacity;
mod chance;
mod clusters;
mod communities;
mod features;
mod figures;
mod history;
mod index;
mod mask;
mod points;
mod rate;
mod rhythm;
mod similar;
mod terms;
mod vectors;
mod verdict;
mod wake;

pub use articles::{Articles, Feedbacks};
pub use capacity::{Readings, look_ahead};
pub use history::History;
pub use rate::unusual_rates;
pub use similar::Past;

use crate::domain::incident::IncidentId;
use crate::domain::problem::Recurrence;
use crate::domain::rules::ProblemDetection;
use jiff::{SignedDuration, Timestamp};
use points::Points;
use std::cmp::Reverse;
use verdict::{Group, Verdicts};
use wake::Wakes;

/// Finds incidents that recur, among those opened within the look-back before `now`. Deterministic:
/// the same history gives the same answer, in the same order, however it was put together.
pub fn recurrences(
    detection: &ProblemDetection,
    history: &History,
    now: Timestamp,
) -> Vec<Recurrence> {
    let span = (since(detection, now), now);
    let incidents_min = usize::try_from(detection.incidents_min.max(2)).unwrap_or(usize::MAX);
    let points = Points::of(history, span, incidents_min);
    let clusters = clusters::find(&points, detection);
    let members = |cluster: &clusters::Cluster| {
        let points = cluster.points.iter().filter_map(|it| points.all.get(*it));
        points.flat_map(|it| it.members.iter().copied()).collect::<Vec<IncidentId>>()
    };
    let alike: Vec<Vec<IncidentId>> = clusters.iter().map(members).collect();
    let moves = Wakes::of(history, span, &alike).moves(&alike);
    let mut wakes: Vec<Vec<(IncidentId, f64)>> = vec![Vec::new(); alike.len()];
    for (id, (group, sure)) in &moves {
        if let Some(wake) = wakes.get_mut(*group) {
            wake.push((*id, *sure));
        }
    }
    let groups = clusters.iter().zip(alike).zip(wakes).map(|((cluster, mut members), wake)| {
        members.retain(|it| !moves.contains_key(it));
        Group { cluster, members, wake }
    });
    let verdicts = Verdicts::of(&points, incidents_min, span);
    let mut found: Vec<_> = groups.filter_map(|it| verdicts.recurrence(&it)).collect();
    found.sort_by(|a, b| {
        let order = |it: &Recurrence| Reverse(it.incidents.len());
        (order(a), &a.title, &a.incidents).cmp(&(order(b), &b.title, &b.incidents))
    });
    found
}

/// Incidents that were opened before this time are not looked at.
pub fn since(detection: &ProblemDetection, now: Timestamp) -> Timestamp {
    let look_back = SignedDuration::from_secs(i64::from(detection.look_back_seconds));
    now.saturating_sub(look_back).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
