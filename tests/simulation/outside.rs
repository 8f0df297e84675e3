//! The world that effects reach: machines that steps work on, and receivers of notifications.

use super::faults::{Fault, Lots};
use super::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};

/// The most steps and the most deliveries that may be under way at once.
const UNDER_WAY_MAX: [usize; 2] = [16, 64];

/// A step that is being done.
struct Deed {
    lock: String,
    is_delivery: bool,
}

/// What effects have reached so far.
pub(crate) struct Outside {
    random: Random,
    under_way: BTreeMap<EffectKey, Deed>,
    /// Steps that must not be done twice, and were begun.
    begun_once: BTreeSet<EffectKey>,
    /// Notifications that a receiver has.
    received: BTreeSet<String>,
    /// Receivers answer with 503 until this.
    pub(crate) down_until: u64,
}

/// What comes of an effect, and in how many milliseconds we learn of it.
pub(crate) struct Result {
    pub(crate) key: EffectKey,
    pub(crate) outcome: Outcome,
    pub(crate) after: u64,
}

impl Outside {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::stream(seed, "outside"),
            under_way: BTreeMap::new(),
            begun_once: BTreeSet::new(),
            received: BTreeSet::new(),
            down_until: 0,
        }
    }

    /// An effect begins. Says what comes of it, or what must not be.
    pub(crate) fn begin(
        &mut self,
        planned: &PlannedEffect,
        lock: String,
        (now, lots): (u64, &mut Lots),
    ) -> std::result::Result<Result, String> {
        let key = &planned.key;
        let (result, after) = match &planned.effect {
            Effect::RunStep { timeout_seconds, .. } => {
                self.check_step(planned, &lock)?;
                self.step(u64::from(*timeout_seconds) * 1000, lots)
            }
            Effect::Deliver { .. } => self.delivery(key, now, lots),
            Effect::StopStep { .. } | Effect::DetectProblems { .. } => {
                (OutcomeKind::Succeeded, self.random.between(0, 50))
            }
        };
        let is_delivery = matches!(planned.effect, Effect::Deliver { .. });
        let deed = Deed { lock, is_delivery };
        if self.under_way.insert(key.clone(), deed).is_some() {
            return Err(format!("{key} is begun while it is being done"));
        }
        self.check_lanes()?;
        Ok(Result { key: key.clone(), outcome: outcome(result), after })
    }

    fn check_step(
        &mut self,
        planned: &PlannedEffect,
        lock: &str,
    ) -> std::result::Result<(), String> {
        let key = &planned.key;
        if !planned.idempotent && !self.begun_once.insert(key.clone()) {
            return Err(format!("{key} must not be done twice, and is"));
        }
        let other = self.under_way.iter().find(|(_, it)| it.lock == lock && !it.is_delivery);
        match other.filter(|_| !lock.is_empty()) {
            Some((other, _)) => Err(format!("{key} and {other} are done under one lock, {lock}")),
            None => Ok(()),
        }
    }

    fn check_lanes(&self) -> std::result::Result<(), String> {
        let deliveries = self.under_way.values().filter(|it| it.is_delivery).count();
        let steps = self.under_way.values().filter(|it| !it.lock.is_empty()).count();
        let is_right = [steps, deliveries].iter().zip(UNDER_WAY_MAX).all(|(it, max)| *it <= max);
        is_right.then_some(()).ok_or_else(|| format!("{steps} steps, {deliveries} deliveries"))
    }

    fn step(&mut self, timeout: u64, lots: &mut Lots) -> (OutcomeKind, u64) {
        let quick = self.random.between(10, 2000);
        let after = if lots.strikes(Fault::SlowStep) {
            lots.random(Fault::SlowStep).between(quick, timeout)
        } else {
            quick
        };
        if !lots.strikes(Fault::FailingStep) {
            return (OutcomeKind::Succeeded, after);
        }
        match lots.random(Fault::FailingStep).below(4) {
            0 => (OutcomeKind::Failed, after),
            1 => (OutcomeKind::TimedOut, timeout),
            _ => (OutcomeKind::FailedRetryable, after),
        }
    }

    fn delivery(&mut self, key: &EffectKey, now: u64, lots: &mut Lots) -> (OutcomeKind, u64) {
        let after = self.random.between(5, 1000);
        if lots.strikes(Fault::ReceiverRefuses) {
            return (OutcomeKind::Failed, after);
        }
        if now < self.down_until {
            return (OutcomeKind::FailedRetryable, after);
        }
        self.received.insert(owner(key));
        if lots.strikes(Fault::ReceiverTimeout) {
            return (OutcomeKind::FailedRetryable, 10_000);
        }
        (OutcomeKind::Succeeded, after)
    }

    /// Whether an effect is being done.
    pub(crate) fn is_under_way(&self, key: &EffectKey) -> bool {
        self.under_way.contains_key(key)
    }

    /// An effect is done.
    pub(crate) fn end(&mut self, key: &EffectKey) {
        self.under_way.remove(key);
    }

    /// The daemon died, and with it everything that it was doing.
    pub(crate) fn end_all(&mut self) {
        self.under_way.clear();
    }

    /// Whether a receiver has a notification.
    pub(crate) fn has(&self, notification: &str) -> bool {
        self.received.contains(notification)
    }
}

/// An outcome.
pub(crate) fn outcome(result: OutcomeKind) -> Outcome {
    Outcome {
        result,
        detail: "as the simulation wants".to_owned(),
        output_tail: String::new(),
        code: None,
        duration_milliseconds: 1,
    }
}

/// Whose effect it is: the part of its key before the first `/`.
fn owner(key: &EffectKey) -> String {
    key.0.split('/').next().unwrap_or_default().to_owned()
}
