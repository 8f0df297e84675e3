//! Making it durable: the last turns' results, then their answers and effects.

use super::{Watch, answer_settles, not_begun, write_lock};
use crate::domain::effect::{Effect, EffectKey, PlannedEffect};
use crate::domain::incident::TimelineEntry;
use crate::domain::planted::{self, Bug};
use crate::domain::{Accepted, ObjectKey};
use crate::engine::failpoint;
use crate::engine::persist::{self, Written};
use crate::engine::watch::{COMMIT_ALERTS_MAX, COMMIT_EVERY};
use crate::store::{Batch, Commit, Error, Kind};
use std::collections::BTreeSet;

impl Watch {
    /// If it is time, writes what was decided before and lets effects go. Tells whether to go on
    /// deciding: not if the store must be read back first.
    pub(super) fn write_and_release(&mut self, now_please: bool) -> bool {
        if self.store.is_none() {
            return false;
        }
        let overdue = self.undurable.alerts >= COMMIT_ALERTS_MAX
            || self.undurable.since.is_some_and(|it| self.clock.since(it) >= COMMIT_EVERY);
        let ready = !self.undurable.is_empty()
            && (now_please || overdue || self.undurable.is_urgent() || !self.to_claim.is_empty());
        // Where records found no room nothing new begins; what was decided may still find some.
        let may_begin = self.trouble.is_none();
        let claimed = if may_begin { std::mem::take(&mut self.to_claim) } else { Vec::new() };
        if ready || !claimed.is_empty() {
            match self.write_decisions(ready, claimed) {
                Ok(()) | Err(Error::Full(_)) => {}
                Err(_) => return false,
            }
        }
        self.runner.begin_waiting();
        true
    }

    /// Writes what was decided, if it is `ready`, and what is about to begin; then lets it go.
    fn write_decisions(
        &mut self,
        ready: bool,
        mut claimed: Vec<PlannedEffect>,
    ) -> Result<(), Error> {
        if ready {
            self.fill_commit();
        }
        let claims = claimed.iter().map(|it| it.key.clone()).collect();
        let commit = ready.then(|| std::mem::take(&mut self.undurable.commit));
        if planted::is(Bug::ClaimAfterEffect) {
            claimed.drain(..).for_each(|it| self.runner.perform(it));
            self.runner.begin_waiting();
        }
        let mut batch = Batch { commit, claims, ..Batch::default() };
        if let Err(error) = self.write(&batch) {
            if let (Error::Full(_), Some(commit)) = (&error, batch.commit.take()) {
                self.undurable.commit = commit;
            }
            self.to_claim.extend(claimed);
            self.fail(&error);
            return Err(error);
        }
        // What was claimed in this step may begin; what the step releases is claimed in the next
        // one. An order to stop among that must find what it is about.
        for effect in claimed {
            self.runner.perform(effect);
        }
        if ready {
            self.release();
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let Some(store) = self.store.clone() else {
            return Err(Error::Failed("the store is not open".to_owned()));
        };
        let begun = self.clock.steady();
        failpoint::before_write(batch);
        let result = store.write(batch);
        if result.is_ok() {
            failpoint::after_write(batch);
        }
        self.metrics.log_append_seconds(self.clock.since(begun).as_secs_f64());
        result
    }

    /// Moves what changed into the commit under construction.
    pub(super) fn fill_commit(&mut self) {
        let mut state = write_lock(&self.shared);
        let changes = state.take_changes();
        let written = persist::write_down(&state, &changes);
        drop(state);
        append(&mut self.undurable.commit, written);
    }

    /// What was decided is durable: answers, and lets effects go.
    pub(super) fn release(&mut self) {
        let durable = std::mem::take(&mut self.undurable);
        for (_, done, reply) in durable.replies {
            match reply {
                Ok(Accepted::AfterEffect(key)) => drop(self.after_effect.insert(key, done)),
                other => drop(done.send(other)),
            }
        }
        for effect in durable.effects {
            if let Effect::StopStep { step } = &effect.effect {
                self.give_up(step);
            }
            if effect.idempotent {
                self.runner.perform(effect);
            } else {
                self.to_claim.push(effect);
            }
        }
        answer_settles(durable.settles, &Ok(()));
        self.changed.send_modify(|it| *it += 1);
    }

    /// A step that has not begun, and is told to stop, does not begin.
    fn give_up(&mut self, step: &EffectKey) {
        let unclaimed = self.to_claim.len();
        self.to_claim.retain(|it| it.key != *step);
        if self.runner.give_up(step) || self.to_claim.len() < unclaimed {
            self.own_facts.push(vec![not_begun(step.clone())]);
        }
    }
}

/// Adds what changed to a commit, which holds something already if it could not be written before.
/// A commit puts first, then deletes, then closes: what was to go and is back must not go after all.
fn append(commit: &mut Commit, later: Written) {
    if !(commit.deletes.is_empty() && commit.closes.is_empty()) {
        let back: BTreeSet<(Kind, &str)> =
            later.puts.iter().map(|it| (it.kind, it.id.as_str())).collect();
        commit.deletes.retain(|(kind, id)| !back.contains(&(*kind, id)));
        commit.closes.retain(|it| !back.contains(&(it.kind, &it.id)));
    }
    commit.puts.extend(later.puts);
    commit.closes.extend(later.closes);
    commit.deletes.extend(later.deletes);
}

/// Puts into the log what people should see also where no receiver is told: a silence that ends
/// while its alerts fire.
pub(super) fn log_warnings(timeline: &[(ObjectKey, TimelineEntry)]) {
    for (_, entry) in timeline.iter().filter(|(_, it)| it.kind == "silence_expiring") {
        tracing::warn!(reason = entry.text, "a silence ends soon");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Object;

    fn object(id: &str) -> Object {
        Object { kind: Kind::AlertPage, id: id.to_owned(), body: Vec::new() }
    }

    #[test]
    fn what_is_back_does_not_go_with_an_older_commit() {
        let page = |id: &str| (Kind::AlertPage, id.to_owned());
        let mut commit = Commit {
            deletes: vec![page("1"), page("2")],
            closes: vec![object("3"), object("4")],
            ..Commit::default()
        };
        let puts = vec![object("1"), object("3")];
        append(&mut commit, Written { puts: puts.clone(), ..Written::default() });
        assert_eq!(commit.puts, puts);
        assert_eq!(commit.deletes, [page("2")]);
        assert_eq!(commit.closes, [object("4")]);
    }
}
