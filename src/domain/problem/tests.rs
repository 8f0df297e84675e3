//! Problems over detections and in people's hands.

use super::*;
use crate::domain::event::{Command, Event};
use crate::domain::rules::{ProblemDetection, RuleSet};
use std::sync::Arc;

const NONE: [u64; 0] = [];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn state_with_detection(now: Timestamp) -> State {
    let detection = ProblemDetection {
        rule: Arc::default(),
        cron: "0 */6 * * *".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        look_back_seconds: 86_400,
        algorithm: Algorithm::Dbscan,
        incidents_min: 3,
        tolerance_thousandths: None,
        weights: FieldWeights::default(),
        seed: 7,
    };
    let rules = RuleSet { problem_detection: vec![detection], ..RuleSet::default() };
    let mut state = State::default();
    drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
    state
}

#[test]
fn problems_are_looked_for_on_schedule_and_a_missed_slot_is_made_up_for_once() {
    let mut state = state_with_detection(at("2026-11-22T10:30:00Z"));
    // Noon in Berlin.
    assert_eq!(state.next_wakeup(), Some(at("2026-11-22T11:00:00Z")));
    let turn = state.apply(at("2026-11-22T11:00:00Z"), &Event::Woken);
    let [planned] = turn.effects.as_slice() else { panic!("{:?}", turn.effects) };
    assert!(matches!(planned.effect, Effect::DetectProblems { .. }) && planned.idempotent);
    assert_eq!(state.next_wakeup(), Some(at("2026-11-22T17:00:00Z")));
    // Nobody watched for a day.
    let turn = state.apply(at("2026-11-23T18:00:00Z"), &Event::Woken);
    assert_eq!(turn.effects.len(), 1);
    assert_eq!(state.next_wakeup(), Some(at("2026-11-23T23:00:00Z")));
}

fn recurrence(incidents: impl IntoIterator<Item = u64>) -> Recurrence {
    let seen = at("2026-11-22T10:00:00Z");
    Recurrence {
        title: "DiskFull on database".to_owned(),
        incidents: incidents.into_iter().map(IncidentId).collect(),
        first_seen: seen,
        last_seen: seen,
        period_seconds: None,
        next_expected_at: None,
        confidence: 500,
        by_chance: false,
        why: Vec::new(),
        figures: Figures::default(),
    }
}

fn found(incidents: impl IntoIterator<Item = u64>) -> Event {
    all_found(None, vec![recurrence(incidents)])
}

fn all_found(looked_at: Option<(u64, u64)>, recurrences: Vec<Recurrence>) -> Event {
    Event::RecurrencesFound {
        detection: "default".to_owned(),
        incidents_seen: 10,
        looked_at: looked_at.map(|(first, last)| (IncidentId(first), IncidentId(last))),
        recurrences,
    }
}

fn members(state: &State, problem: u64) -> Vec<u64> {
    state.problems[&ProblemId(problem)].incidents.iter().map(|it| it.0).collect()
}

#[test]
fn a_later_detection_takes_incidents_away_but_for_those_that_people_added() {
    let now = at("2026-11-22T10:30:00Z");
    let mut state = state_with_detection(now);
    state.memory.incident = 20;
    drop(state.apply(now, &all_found(Some((1, 9)), vec![recurrence([1, 2, 3, 4])])));
    let link = Command::LinkProblem { problem: ProblemId(1), incident: IncidentId(7) };
    drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: link }));
    // The look-back has moved on to 2, and 4 is something else now.
    drop(state.apply(now, &all_found(Some((2, 12)), vec![recurrence([2, 3, 11])])));
    assert_eq!(members(&state, 1), [1, 2, 3, 7, 11]);
}

#[test]
fn a_problem_keeps_its_number_while_others_are_born_merge_part_and_end() {
    let now = at("2026-11-22T10:30:00Z");
    let mut state = state_with_detection(now);
    let groups = |groups: &[&[u64]]| {
        let groups = groups.iter().map(|it| recurrence(it.iter().copied())).collect();
        all_found(Some((1, 99)), groups)
    };
    drop(state.apply(now, &groups(&[&[1, 2, 3, 4, 5], &[10, 11, 12], &[20, 21, 22]])));
    // The first has parted; the third has taken the second's; 30 to 32 are new.
    let turn = state.apply(
        now,
        &groups(&[&[4, 5, 6], &[1, 2, 3, 7], &[10, 11, 12, 20, 21, 22, 23], &[30, 31, 32]]),
    );
    let told: Vec<String> =
        turn.timeline.iter().map(|(key, it)| format!("{key:?} {}: {}", it.kind, it.text)).collect();
    assert_eq!(members(&state, 1), [1, 2, 3, 7]);
    assert_eq!(members(&state, 2), [10, 11, 12, 20, 21, 22, 23]);
    let third = &state.problems[&ProblemId(3)];
    assert_eq!((third.state, third.merged_into), (ProblemState::Resolved, Some(ProblemId(2))));
    assert_eq!((members(&state, 3), members(&state, 4)), (vec![], vec![4, 5, 6]));
    for part in ["split: PRB-4 was split off", "merged: merged into PRB-2", "merged: PRB-3 was"] {
        assert!(told.iter().any(|it| it.contains(part)), "{part} in {told:#?}");
    }
    // Nothing binds 30 to 32 together any more; a person has judged about 1.
    let accept = Command::AcceptProblem { problem: ProblemId(1) };
    drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: accept }));
    drop(state.apply(now, &groups(&[&[4, 5, 6], &[10, 11, 12, 20, 21, 22, 23]])));
    assert_eq!(members(&state, 1), [1, 2, 3, 7]);
    assert_eq!(members(&state, 5), NONE);
    assert!(state.problems[&ProblemId(5)].reason.starts_with("withdrawn"));
    assert_eq!(state.problems[&ProblemId(1)].state, ProblemState::Accepted);
}

#[test]
fn what_is_found_again_feeds_its_problem_and_what_was_rejected_is_not_proposed_again() {
    let now = at("2026-11-22T10:30:00Z");
    let mut state = state_with_detection(now);
    drop(state.apply(now, &found([1, 2, 3])));
    drop(state.apply(now, &found([2, 3, 4])));
    let problem = &state.problems[&ProblemId(1)];
    assert_eq!((state.problems.len(), problem.incidents.len()), (1, 4));
    let reject = Command::RejectProblem { problem: ProblemId(1), reason: "a drill".to_owned() };
    drop(state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command: reject }));
    drop(state.apply(now, &found([3, 4, 5])));
    assert_eq!(state.problems.len(), 1);
    assert_eq!(state.problems[&ProblemId(1)].state, ProblemState::Rejected);
    drop(state.apply(now, &found([7, 8, 9])));
    assert_eq!(state.problems.len(), 2);
}
