//! Which problem a recurrence is: the same over all detections, and told where two became one, one
//! became two, or nothing is left.

use super::{Figures, Problem, ProblemId, ProblemState, Recurrence};
use crate::domain::incident::{IncidentId, TimelineEntry};
use crate::domain::{ObjectKey, State};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What a detection found.
pub(in crate::domain) struct Found<'a> {
    /// The name of the detection in `models/`.
    pub(in crate::domain) detection: &'a str,
    /// The first and the last incident that was looked at.
    pub(in crate::domain) looked_at: Option<(IncidentId, IncidentId)>,
    /// The groups.
    pub(in crate::domain) recurrences: &'a [Recurrence],
}

impl Found<'_> {
    /// Whether it was looked at an incident.
    fn saw(&self, incident: IncidentId) -> bool {
        self.looked_at.is_some_and(|(first, last)| (first..=last).contains(&incident))
    }
}

impl ProblemState {
    /// Whether a person has said something about it.
    fn is_judged(self) -> bool {
        self != Self::Proposed
    }
}

impl State {
    /// A detection run found what recurs: feeds the problems that are known, proposes the others.
    pub(in crate::domain) fn recurrences_found(&mut self, now: Timestamp, found: &Found<'_>) {
        let overlaps = self.overlaps(found);
        let same = assign(&self.problems, &overlaps, found.recurrences);
        let mut names = Vec::with_capacity(found.recurrences.len());
        for (index, recurrence) in found.recurrences.iter().enumerate() {
            if let Some(id) = same.get(&index) {
                self.feed_problem(now, *id, (found, recurrence));
                names.push(*id);
                continue;
            }
            let id = self.propose_problem(now, found.detection, recurrence);
            // Half of it was one problem's before, which is another recurrence now.
            let shared = overlaps.get(&index);
            if let Some((parent, count)) = shared.and_then(largest)
                && count * 2 >= recurrence.incidents.len()
            {
                self.tell_split(now, parent, id);
            }
            names.push(id);
        }
        self.end_what_was_not_found(now, (found, &names));
        self.rebuild_openings();
    }

    /// How many incidents each recurrence shares with each problem.
    fn overlaps(&self, found: &Found<'_>) -> BTreeMap<usize, BTreeMap<ProblemId, usize>> {
        let mut problems_of: BTreeMap<IncidentId, Vec<ProblemId>> = BTreeMap::new();
        for problem in self.problems.values() {
            for incident in &problem.incidents {
                problems_of.entry(*incident).or_default().push(problem.id);
            }
        }
        let mut overlaps: BTreeMap<usize, BTreeMap<ProblemId, usize>> = BTreeMap::new();
        for (index, recurrence) in found.recurrences.iter().enumerate() {
            for problem in
                recurrence.incidents.iter().filter_map(|it| problems_of.get(it)).flatten()
            {
                *overlaps.entry(index).or_default().entry(*problem).or_default() += 1;
            }
        }
        overlaps
    }

    /// Takes over what was found anew. Incidents that were looked at and are not in it any more are
    /// taken away, but for those that people added.
    fn feed_problem(
        &mut self,
        now: Timestamp,
        id: ProblemId,
        (all, found): (&Found<'_>, &Recurrence),
    ) {
        let Some(problem) = self.problems.get_mut(&id) else { return };
        let new = found.incidents.difference(&problem.incidents).count();
        let mut fed = problem.clone();
        fed.incidents.retain(|it| !all.saw(*it) || found.incidents.contains(it));
        fed.incidents.extend(found.incidents.iter().chain(&problem.linked));
        let gone: Vec<IncidentId> = problem.incidents.difference(&fed.incidents).copied().collect();
        fed.first_seen = fed.first_seen.min(found.first_seen);
        fed.last_seen = fed.last_seen.max(found.last_seen);
        fed.period_seconds = found.period_seconds;
        fed.next_expected_at = found.next_expected_at;
        fed.confidence = found.confidence;
        fed.by_chance = found.by_chance;
        fed.why.clone_from(&found.why);
        fed.figures = found.figures.clone();
        for (incident, membership) in &problem.figures.members {
            if fed.incidents.contains(incident) {
                fed.figures.members.entry(*incident).or_insert(*membership);
            }
        }
        if fed.state == ProblemState::Proposed {
            fed.title.clone_from(&found.title);
        }
        if fed == *problem {
            return;
        }
        fed.updated_at = now;
        *problem = fed;
        if new > 0 {
            let text = format!("{new} more incidents belong to it");
            self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "recurred", "", text));
        }
        self.unname_problem(now, id, &gone);
        self.name_problem(now, id);
        self.was_found_again(now, id, found);
    }

    /// Takes the problem's id out of incidents that are not closed.
    fn unname_problem(&mut self, now: Timestamp, id: ProblemId, gone: &[IncidentId]) {
        for incident in gone {
            if let Some(known) = self.incidents.get_mut(incident)
                && known.problem == Some(id)
            {
                known.problem = None;
                self.touch(now, ObjectKey::Incident(*incident));
            }
        }
    }

    fn tell_split(&mut self, now: Timestamp, from: ProblemId, id: ProblemId) {
        let parted = format!("{id} was split off");
        self.log(ObjectKey::Problem(from), TimelineEntry::new(now, "split", "", parted));
        let born = format!("split off {from}, where its incidents were before");
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "split", "", born));
        self.touch(now, ObjectKey::Problem(from));
    }

    /// Of the proposals that were not found again: those whose incidents are most of another's now
    /// are merged into it, and what else was looked at in vain loses the incidents that nothing
    /// binds together any more. What people have judged stays as it is.
    fn end_what_was_not_found(
        &mut self,
        now: Timestamp,
        (found, names): (&Found<'_>, &[ProblemId]),
    ) {
        let mut taken_by: BTreeMap<IncidentId, ProblemId> = BTreeMap::new();
        for (recurrence, id) in found.recurrences.iter().zip(names) {
            taken_by.extend(recurrence.incidents.iter().map(|it| (*it, *id)));
        }
        let fed: BTreeSet<ProblemId> = names.iter().copied().collect();
        let left: Vec<ProblemId> = (self.problems.values())
            .filter(|it| it.state == ProblemState::Proposed && !fed.contains(&it.id))
            .filter(|it| it.detection == found.detection)
            .filter(|it| it.incidents.iter().any(|it| found.saw(*it)))
            .map(|it| it.id)
            .collect();
        for id in left {
            let Some(problem) = self.problems.get(&id) else { continue };
            let mut shared: BTreeMap<ProblemId, usize> = BTreeMap::new();
            for other in problem.incidents.iter().filter_map(|it| taken_by.get(it)) {
                *shared.entry(*other).or_default() += 1;
            }
            let heir = largest(&shared).filter(|(_, it)| it * 2 >= problem.incidents.len());
            self.end_proposal(now, id, (found, heir.map(|(id, _)| id)));
        }
    }

    /// A proposal ends, since its incidents belong to another or to none.
    fn end_proposal(
        &mut self,
        now: Timestamp,
        id: ProblemId,
        (found, heir): (&Found<'_>, Option<ProblemId>),
    ) {
        let Some(problem) = self.problems.get_mut(&id) else { return };
        let linked = problem.linked.clone();
        let gone: Vec<IncidentId> =
            problem.incidents.iter().filter(|it| found.saw(**it)).copied().collect();
        problem.incidents.retain(|it| !found.saw(*it) || linked.contains(it));
        if !problem.incidents.is_empty() {
            problem.updated_at = now;
            self.unname_problem(now, id, &gone);
            self.touch(now, ObjectKey::Problem(id));
            return;
        }
        let (kind, text) = match heir {
            Some(heir) => ("merged", format!("merged into {heir}: its incidents are of one kind")),
            None => (
                "withdrawn",
                "withdrawn: seen with more history, nothing binds its incidents together"
                    .to_owned(),
            ),
        };
        problem.state = ProblemState::Resolved;
        problem.merged_into = heir;
        problem.figures = Figures::default();
        problem.next_expected_at = None;
        problem.updated_at = now;
        problem.reason.clone_from(&text);
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, kind, "", text));
        if let Some(heir) = heir {
            let text = format!("{id} was merged into it");
            self.log(ObjectKey::Problem(heir), TimelineEntry::new(now, kind, "", text));
            self.touch(now, ObjectKey::Problem(heir));
        }
        self.unname_problem(now, id, &gone);
        self.touch(now, ObjectKey::Problem(id));
    }
}

/// The problem with the largest count, of equals the older one, and its count.
fn largest(counts: &BTreeMap<ProblemId, usize>) -> Option<(ProblemId, usize)> {
    counts.iter().max_by_key(|(id, count)| (**count, Reverse(**id))).map(|(id, it)| (*id, *it))
}

/// Which problem each recurrence is, by its index. One is the same as the other if at least half of
/// the smaller of the two is in both; where several are, what people have judged goes first, then
/// what shares most. No problem is two recurrences.
fn assign(
    problems: &BTreeMap<ProblemId, Problem>,
    overlaps: &BTreeMap<usize, BTreeMap<ProblemId, usize>>,
    recurrences: &[Recurrence],
) -> BTreeMap<usize, ProblemId> {
    let mut candidates = Vec::new();
    for (index, shared) in overlaps {
        let Some(recurrence) = recurrences.get(*index) else { continue };
        for (id, shared) in shared {
            let Some(problem) = problems.get(id) else { continue };
            let smaller = problem.incidents.len().min(recurrence.incidents.len());
            if shared * 2 >= smaller {
                let is_most_of_it = shared * 2 >= problem.incidents.len();
                let is_judged = problem.state.is_judged() && is_most_of_it;
                candidates.push((Reverse(is_judged), Reverse(*shared), *id, *index));
            }
        }
    }
    candidates.sort_unstable();
    let (mut same, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (_, _, id, index) in candidates {
        if !taken.contains(&id) && !same.contains_key(&index) {
            taken.insert(id);
            same.insert(index, id);
        }
    }
    same
}
