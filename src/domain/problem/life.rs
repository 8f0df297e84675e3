//! The life of a problem in people's hands: accepted or rejected, a known error, a fix planned,
//! resolved, and back when it recurs.

use super::{Opening, Problem, ProblemId, ProblemState, Recurrence};
use crate::domain::change::ChangeId;
use crate::domain::execution::Occurrence;
use crate::domain::incident::{IncidentId, Symptom, TimelineEntry};
use crate::domain::problem::{How, Membership};
use crate::domain::rules::Occasion;
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Which problem an incident is most likely one of, by what its first alert tells.
pub(in crate::domain) type Openings = BTreeMap<Symptom, (ProblemId, Opening)>;

/// What is known of a problem's cause.
pub(in crate::domain) struct KnownError<'a> {
    pub(in crate::domain) cause: &'a str,
    pub(in crate::domain) workaround: &'a str,
    /// The runbook that carries the workaround out.
    pub(in crate::domain) runbook: Option<&'a str>,
}

impl State {
    /// A person says that it is a problem.
    pub(in crate::domain) fn accept_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
    ) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Accepted, "accepted", ""))
    }

    /// A person says that it is none.
    pub(in crate::domain) fn reject_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        reason: &str,
    ) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Rejected, "rejected", reason))
    }

    /// A person says that its cause is gone. It is watched from here on.
    pub(in crate::domain) fn close_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        reason: &str,
    ) -> Reply {
        self.move_problem(now, by, id, (ProblemState::Resolved, "resolved", reason))
    }

    /// A person knows its cause, or how to live with it. Its open incidents are told at once.
    pub(in crate::domain) fn declare_known_error(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        known: &KnownError<'_>,
    ) -> Reply {
        let KnownError { cause, workaround, runbook } = known;
        if cause.is_empty() && workaround.is_empty() {
            let text = "a known error needs a cause or a workaround".to_owned();
            return Err(Refusal::Invalid(text));
        }
        if let Some(name) = runbook
            && self.rules.runbook(name).is_none()
        {
            return Err(Refusal::NotFound(format!("there is no runbook `{name}`")));
        }
        let planned = self.problems.get(&id).is_some_and(|it| it.state == ProblemState::FixPlanned);
        let state = if planned { ProblemState::FixPlanned } else { ProblemState::KnownError };
        let reply = self.move_problem(now, by, id, (state, "known_error", workaround))?;
        if let Some(problem) = self.problems.get_mut(&id) {
            (*cause).clone_into(&mut problem.cause);
            (*workaround).clone_into(&mut problem.workaround);
            problem.runbook = runbook.map(str::to_owned);
        }
        let open: Vec<IncidentId> = (self.incidents.values())
            .filter(|it| it.problem == Some(id) && it.state.is_active())
            .map(|it| it.id)
            .collect();
        for incident in open {
            self.offer_workaround(now, id, incident);
        }
        Ok(reply)
    }

    /// A person says which change will remove the cause.
    pub(in crate::domain) fn plan_fix(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        change: ChangeId,
    ) -> Reply {
        if change.0 == 0 || change.0 > self.memory.change {
            return Err(Refusal::NotFound(format!("there is no change {change}")));
        }
        let text = format!("by {change}");
        let reply =
            self.move_problem(now, by, id, (ProblemState::FixPlanned, "fix_planned", &text))?;
        if let Some(problem) = self.problems.get_mut(&id) {
            problem.fix = Some(change);
        }
        Ok(reply)
    }

    fn move_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        (state, kind, text): (ProblemState, &str, &str),
    ) -> Reply {
        let problem = self.problems.get_mut(&id).ok_or_else(|| no_problem(id))?;
        let is_open = !matches!(problem.state, ProblemState::Resolved | ProblemState::Rejected);
        let allowed = match state {
            ProblemState::Accepted => problem.state == ProblemState::Proposed,
            ProblemState::Rejected => {
                matches!(problem.state, ProblemState::Proposed | ProblemState::Accepted)
            }
            ProblemState::Proposed
            | ProblemState::KnownError
            | ProblemState::FixPlanned
            | ProblemState::Resolved => is_open,
        };
        if !allowed {
            return Err(Refusal::WrongState(format!("{id} is {}", problem.state.as_str())));
        }
        problem.state = state;
        problem.updated_at = now;
        if matches!(state, ProblemState::Resolved | ProblemState::Rejected) {
            text.clone_into(&mut problem.reason);
        }
        problem.resolved_at = (state == ProblemState::Resolved).then_some(now);
        let text = if text.is_empty() { kind.to_owned() } else { format!("{kind}: {text}") };
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, kind, by, text));
        self.touch(now, ObjectKey::Problem(id));
        Ok(Accepted::Object(ObjectKey::Problem(id)))
    }

    /// A person says that an incident belongs to it.
    pub(in crate::domain) fn link_problem(
        &mut self,
        now: Timestamp,
        by: &str,
        id: ProblemId,
        incident: IncidentId,
    ) -> Reply {
        if incident.0 == 0 || incident.0 > self.memory.incident {
            return Err(Refusal::NotFound(format!("there is no incident {incident}")));
        }
        let opened = self.incidents.get(&incident).map(|it| it.opened_at);
        let problem = self.problems.get_mut(&id).ok_or_else(|| no_problem(id))?;
        problem.incidents.insert(incident);
        problem.linked.insert(incident);
        let membership = Membership { how: How::Linked, points: 1000 };
        problem.figures.members.insert(incident, membership);
        problem.last_seen = opened.map_or(problem.last_seen, |it| problem.last_seen.max(it));
        problem.updated_at = now;
        self.log(
            ObjectKey::Problem(id),
            TimelineEntry::new(now, "linked", by, format!("{incident} belongs to it")),
        );
        self.name_problem(now, id);
        self.offer_workaround(now, id, incident);
        Ok(Accepted::Object(ObjectKey::Problem(id)))
    }

    /// Fills the index of how incidents begin, after loading and after each detection.
    pub(in crate::domain) fn rebuild_openings(&mut self) {
        let mut openings = Openings::new();
        for problem in self.problems.values() {
            let telling = problem.figures.openings.iter().filter(|it| it.is_telling());
            for opening in telling {
                let known = openings.get(&opening.symptom);
                if known.is_none_or(|(_, it)| it.count < opening.count) {
                    openings.insert(opening.symptom.clone(), (problem.id, opening.clone()));
                }
            }
        }
        self.openings = openings;
    }

    /// An incident began: if most that began so were of one problem, it is one of it until the next
    /// detection looks at it closer.
    pub(in crate::domain) fn recognise(&mut self, now: Timestamp, incident: IncidentId) {
        let Some(opened) = self.incidents.get(&incident) else { return };
        let Some((id, opening)) = opened.symptoms.first().and_then(|it| self.openings.get(it))
        else {
            return;
        };
        let (id, Opening { count, of, symptom }) = (*id, opening.clone());
        let Some(problem) = self.problems.get_mut(&id) else { return };
        if problem.state == ProblemState::Rejected || problem.merged_into.is_some() {
            return;
        }
        let points = u16::try_from(u64::from(count) * 1000 / u64::from(of.max(1))).unwrap_or(1000);
        problem.incidents.insert(incident);
        let membership = Membership { how: How::Opening, points: points.min(1000) };
        problem.figures.members.insert(incident, membership);
        problem.last_seen = problem.last_seen.max(now);
        problem.came(now);
        let place =
            if symptom.place.is_empty() { String::new() } else { format!(" at {}", symptom.place) };
        let began = format!(
            "{incident} began with {}{place}, as {count} of its incidents did, of {of} of all",
            symptom.alertname
        );
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "recurred", "", began.clone()));
        if let Some(opened) = self.incidents.get_mut(&incident) {
            opened.problem = Some(id);
        }
        let told = TimelineEntry::new(now, "problem", "", format!("seems to be {id}: {began}"));
        self.log(ObjectKey::Incident(incident), told);
        self.touch(now, ObjectKey::Incident(incident));
        self.touch(now, ObjectKey::Problem(id));
        self.is_back(now, id, &began);
        let is_known = self.problems.get(&id).is_some_and(|it| it.state != ProblemState::Proposed);
        if is_known {
            self.occurred(&Occurrence::ProblemRecurring(id, incident));
        }
        self.offer_workaround(now, id, incident);
    }

    /// A detection found a problem again that was resolved, with incidents since.
    pub(in crate::domain) fn was_found_again(
        &mut self,
        now: Timestamp,
        id: ProblemId,
        found: &Recurrence,
    ) {
        let resolved_at = self.problems.get(&id).and_then(|it| it.resolved_at);
        if resolved_at.is_some_and(|it| found.last_seen > it) {
            let count = found.incidents.len();
            let last = found.last_seen;
            let text = format!("the last of {count} incidents that are alike began at {last:.0}");
            self.is_back(now, id, &text);
        }
    }

    /// A problem that was resolved has recurred: it is open again, and people are told.
    fn is_back(&mut self, now: Timestamp, id: ProblemId, evidence: &str) {
        let Some(problem) = self.problems.get_mut(&id) else { return };
        let Some(resolved_at) = problem.resolved_at.take() else { return };
        problem.state = problem.state_when_back();
        problem.reopen_count += 1;
        problem.updated_at = now;
        let fix = problem.fix.map(|it| format!(", fixed by {it}")).unwrap_or_default();
        let text = format!("resolved at {resolved_at:.0}{fix}, and back: {evidence}");
        let body = serde_json::json!({
            "version": "1",
            "occasion": Occasion::ProblemProposed.as_str(),
            "text": format!("{id} is back: {}; {text}", problem.title),
            "at": now,
            "problem": {"id": id, "title": problem.title, "state": problem.state},
        });
        self.log(ObjectKey::Problem(id), TimelineEntry::new(now, "reopened", "", text));
        self.touch(now, ObjectKey::Problem(id));
        self.notify_plainly(now, Occasion::ProblemProposed, &body);
    }

    /// Tells an open incident of a known error how to live with it, and asks for the runbook.
    fn offer_workaround(&mut self, now: Timestamp, id: ProblemId, incident: IncidentId) {
        let Some(problem) = self.problems.get(&id).filter(|it| it.is_known_error()) else { return };
        if !self.incidents.get(&incident).is_some_and(|it| it.state.is_active()) {
            return;
        }
        let told = [("cause", &problem.cause), ("workaround", &problem.workaround)];
        let told = told.into_iter().filter(|(_, it)| !it.is_empty());
        let told: Vec<String> = told.map(|(what, it)| format!("{what}: {it}")).collect();
        let text = format!("{id} is a known error; {}", told.join("; "));
        let runbook = problem.runbook.clone();
        self.log(ObjectKey::Incident(incident), TimelineEntry::new(now, "known_error", "", text));
        self.touch(now, ObjectKey::Incident(incident));
        if let Some(runbook) = runbook {
            self.offer_runbook(now, (&runbook, &id.to_string()), incident);
        }
    }
}

impl Problem {
    /// Whether its cause or a workaround is known, and it is not over.
    pub fn is_known_error(&self) -> bool {
        matches!(self.state, ProblemState::KnownError | ProblemState::FixPlanned)
            && !(self.cause.is_empty() && self.workaround.is_empty())
    }

    fn state_when_back(&self) -> ProblemState {
        if self.cause.is_empty() && self.workaround.is_empty() {
            ProblemState::Accepted
        } else {
            ProblemState::KnownError
        }
    }
}

fn no_problem(id: ProblemId) -> Refusal {
    Refusal::NotFound(format!("there is no problem {id}"))
}
