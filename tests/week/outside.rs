//! The machines that steps work on: what comes of each deed, and what must not be done twice.

use super::ledger::Ledger;
use super::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use watchkeeper::domain::execution::ExecutionId;

/// The most that is done for one run at a time: what `concurrency` says.
const AT_ONCE_MAX: usize = 2;

/// What is being done.
struct Deed {
    run: ExecutionId,
    lock: String,
    name: String,
}

/// The machines.
pub(crate) struct Outside {
    random: Random,
    under_way: BTreeMap<EffectKey, Deed>,
    /// What must not be done twice, and was begun.
    begun_once: BTreeSet<String>,
    /// What has had its effect.
    effective: BTreeSet<String>,
}

/// What comes of a deed, and after how many milliseconds.
pub(crate) struct Result {
    pub(crate) outcome: Outcome,
    pub(crate) after: u64,
}

/// What is done, whichever attempt it is: `EXE-1/roll.2`.
fn name(key: &EffectKey) -> String {
    let name = key.0.rsplit_once('/').map_or(&*key.0, |(name, _)| name);
    name.replace("/look/", "/")
}

impl Outside {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::stream(seed, "outside"),
            under_way: BTreeMap::new(),
            begun_once: BTreeSet::new(),
            effective: BTreeSet::new(),
        }
    }

    /// A deed begins. Says what comes of it, or what must not be.
    pub(crate) fn begin(
        &mut self,
        planned: &PlannedEffect,
        lock: String,
        ledger: &Ledger,
    ) -> std::result::Result<Result, String> {
        let key = &planned.key;
        let Effect::RunStep { execution, timeout_seconds, .. } = &planned.effect else {
            return Ok(Result { outcome: outcome(OutcomeKind::Succeeded), after: 1000 });
        };
        let (run, name) = (*execution, name(key));
        if self.under_way.contains_key(key) {
            return Err(format!("{key} is begun while it is being done"));
        }
        let of_run = self.under_way.values().filter(|it| it.run == run).count();
        if of_run >= AT_ONCE_MAX {
            return Err(format!("{key} is one too many at a time"));
        }
        let rival = self
            .under_way
            .iter()
            .find(|(_, it)| it.lock == lock && !ledger.are_related(it.run, run));
        if let Some((rival, _)) = rival {
            return Err(format!("{key} and {rival} are done under one lock, {lock}"));
        }
        let result = self.result(planned, &name, u64::from(*timeout_seconds) * 1000)?;
        self.under_way.insert(key.clone(), Deed { run, lock, name });
        Ok(result)
    }

    fn result(
        &mut self,
        planned: &PlannedEffect,
        name: &str,
        timeout: u64,
    ) -> std::result::Result<Result, String> {
        let key = &planned.key;
        let after = self.random.between(100, timeout / 2);
        if key.0.contains("/look/") {
            // It tells the truth, when it answers.
            let mut outcome = match (self.random.below(10), self.effective.contains(name)) {
                (0, _) => outcome(OutcomeKind::TimedOut),
                (_, true) => outcome(OutcomeKind::Succeeded),
                (_, false) => outcome(OutcomeKind::FailedRetryable),
            };
            outcome.code = (outcome.result != OutcomeKind::TimedOut).then_some(1);
            return Ok(Result { outcome, after });
        }
        let is_new = planned.idempotent || self.begun_once.insert(key.0.to_string());
        if !is_new || (name.contains("/look-") && self.effective.contains(name)) {
            return Err(format!("{key} must not be done twice, and is"));
        }
        Ok(match self.random.below(20) {
            0 => Result { outcome: outcome(OutcomeKind::TimedOut), after: timeout },
            1 => Result { outcome: outcome(OutcomeKind::Failed), after },
            2 | 3 => Result { outcome: outcome(OutcomeKind::FailedRetryable), after },
            _ => Result { outcome: outcome(OutcomeKind::Succeeded), after },
        })
    }

    /// Whether a deed is being done.
    pub(crate) fn is_under_way(&self, key: &EffectKey) -> bool {
        self.under_way.contains_key(key)
    }

    /// A deed is over; one that failed may have had its effect all the same.
    pub(crate) fn end(&mut self, key: &EffectKey, result: OutcomeKind) {
        if let Some(deed) = self.under_way.remove(key)
            && !key.0.contains("/look/")
            && (result == OutcomeKind::Succeeded || self.random.chance(500))
        {
            self.effective.insert(deed.name);
        }
    }

    /// The daemon died, and with it everything that it was doing: some of it had its effect.
    pub(crate) fn end_all(&mut self) {
        let keys: Vec<EffectKey> = self.under_way.keys().cloned().collect();
        for key in keys {
            self.end(&key, OutcomeKind::Failed);
        }
    }
}

/// An outcome.
pub(crate) fn outcome(result: OutcomeKind) -> Outcome {
    Outcome {
        result,
        detail: "as the week wants".to_owned(),
        output_tail: String::new(),
        code: Some(i32::from(result != OutcomeKind::Succeeded)),
        duration_milliseconds: 1,
    }
}
