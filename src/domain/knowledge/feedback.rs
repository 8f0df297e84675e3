//! What people said of whether something helped: an article, or what was done about a past incident.

use crate::domain::incident::IncidentId;
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Of so many things it is kept what people said.
const SUBJECTS_MAX: usize = 10_000;
/// So many words about a thing are kept one by one; older ones are only counted.
const VOTES_MAX: usize = 100;
/// What all the words of the world may move, in points: an article that always helped gains nearly so much, one
/// that never did loses it.
const POINTS_MAX: i64 = 150;

/// A word of somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub by: String,
    /// For which incident; `None` = in general.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// Whether it helped.
    pub helped: bool,
    /// When.
    pub at: Timestamp,
}

/// What people said of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The name of an article, or the number of an incident.
    pub subject: Arc<str>,
    /// How often it helped.
    pub helped: u64,
    /// How often it was of no use.
    pub no_use: u64,
    /// The last words, in their order.
    #[serde(default)]
    pub votes: VecDeque<Vote>,
}

impl Feedback {
    /// Takes a word in; it replaces what the same person said before about the same incident.
    fn take(&mut self, vote: Vote) {
        let is_same = |it: &Vote| (&it.by, it.incident) == (&vote.by, vote.incident);
        if let Some(index) = self.votes.iter().position(is_same)
            && let Some(before) = self.votes.remove(index)
        {
            let count = if before.helped { &mut self.helped } else { &mut self.no_use };
            *count = count.saturating_sub(1);
        }
        *if vote.helped { &mut self.helped } else { &mut self.no_use } += 1;
        self.votes.push_back(vote);
        if self.votes.len() > VOTES_MAX {
            self.votes.pop_front();
        }
    }

    /// What this adds to, or takes from, the score of an offer: the share of those whom it helped, drawn
    /// towards the middle by one word on each side (Laplace's rule of succession), so that a single word
    /// moves little.
    pub fn points(&self) -> i64 {
        let of = |count: u64| i64::try_from(count.min(1_000_000)).unwrap_or(1_000_000);
        let (helped, no_use) = (of(self.helped), of(self.no_use));
        POINTS_MAX * (helped - no_use) / (helped + no_use + 2)
    }
}

impl State {
    /// Somebody says whether something helped.
    pub(in crate::domain) fn rate_knowledge(
        &mut self,
        now: Timestamp,
        by: &str,
        subject: &str,
        (incident, helped): (Option<IncidentId>, bool),
    ) -> Reply {
        if !self.is_known(subject) {
            return Err(Refusal::NotFound(format!("there is no `{subject}` to speak of")));
        }
        if let Some(id) = incident.filter(|it| it.0 == 0 || it.0 > self.memory.incident) {
            return Err(Refusal::NotFound(format!("there is no incident {id}")));
        }
        if self.feedback.len() >= SUBJECTS_MAX && !self.feedback.contains_key(subject) {
            let text = format!("what people say is kept of {SUBJECTS_MAX} things, and no more");
            return Err(Refusal::WrongState(text));
        }
        let subject: Arc<str> = subject.into();
        let feedback = self
            .feedback
            .entry(subject.clone())
            .or_insert_with(|| Feedback { subject: subject.clone(), ..Feedback::default() });
        feedback.take(Vote { by: by.to_owned(), incident, helped, at: now });
        self.touch(now, ObjectKey::Feedback(subject));
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_words_weigh_more_than_one() {
        for (helped, no_use, points) in
            [(0, 0, 0), (1, 0, 50), (8, 0, 120), (1000, 0, 149), (0, 3, -90), (5, 5, 0)]
        {
            let feedback = Feedback { helped, no_use, ..Feedback::default() };
            assert_eq!(feedback.points(), points, "{helped} helped, {no_use} did not");
        }
    }
}
