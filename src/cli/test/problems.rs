//! Problems in tests: what is found among the incidents so far, and whether it is as expected.

use crate::cli::virtual_watch::VirtualWatch;
use crate::config::ExpectedProblem;
use crate::domain::event::Event;
use crate::domain::incident::Incident;
use crate::domain::problem::Problem;
use crate::learn;

/// Looks for what recurs, as the daemon would.
pub(super) fn detect<'a>(
    watch: &'a VirtualWatch,
    closed: impl Iterator<Item = &'a Incident>,
    name: &str,
) -> Option<Event> {
    let detection = watch.state.rules.problem_detection.iter().find(|it| it.rule.name == name)?;
    let mut history = learn::History::default();
    for incident in closed.chain(watch.state.incidents.values()) {
        history.put(incident);
    }
    Some(Event::RecurrencesFound {
        detection: name.to_owned(),
        incidents_seen: history.len() as u64,
        looked_at: history.first_and_last(),
        recurrences: learn::recurrences(detection, &history, watch.now),
    })
}

/// What is not as expected of the problems.
pub(super) fn compare(watch: &VirtualWatch, wanted: &[ExpectedProblem]) -> Option<String> {
    let all = &watch.state.problems;
    let fits = |wanted: &ExpectedProblem| all.get(&wanted.id).is_some_and(|it| fits(wanted, it));
    let is_right = all.len() == wanted.len() && wanted.iter().all(fits);
    let there = || super::list(all.values().map(shown));
    (!is_right).then(|| format!("the problems are not as expected; there are: {}", there()))
}

fn fits(wanted: &ExpectedProblem, it: &Problem) -> bool {
    wanted.state.is_none_or(|state| state == it.state)
        && wanted.count.is_none_or(|count| count == it.incidents.len() as u64)
        && wanted.title.as_ref().is_none_or(|title| *title == it.title)
        && wanted.reopen_count.is_none_or(|count| count == u64::from(it.reopen_count))
}

fn shown(problem: &Problem) -> String {
    format!(
        "{} {} `{}` count {} reopen_count {}",
        problem.id,
        problem.state.as_str(),
        problem.title,
        problem.incidents.len(),
        problem.reopen_count
    )
}
