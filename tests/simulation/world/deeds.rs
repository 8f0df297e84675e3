//! Effects that leave the process, and what comes of them.

use super::super::faults::Fault;
use super::super::random::Random;
use super::super::{laws, outside};
use super::{Happening, World};
use jiff::Timestamp;
use watchkeeper::domain::State;
use watchkeeper::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use watchkeeper::domain::event::Event;
use watchkeeper::domain::incident::IncidentId;
use watchkeeper::domain::problem::{Figures, Recurrence};

impl World {
    /// An effect leaves the process.
    pub(super) fn begin(&mut self, planned: &PlannedEffect) -> laws::Verdict {
        let key = &planned.key;
        self.figures.effects += 1;
        self.tell("effect", self.figures.effects, || format!("{key} begins"));
        let claimed = self.disk.lock().planned(key);
        let claimed = claimed.ok_or_else(|| format!("{key} begins before its turn is durable"))?;
        laws::ensure(claimed || planned.idempotent, || format!("{key} begins unclaimed"))?;
        let Some(watch) = &self.watch else { return Ok(()) };
        let mut lock = String::new();
        if let Effect::RunStep { execution, .. } = &planned.effect {
            let of = |state: &State| state.executions.get(execution).map(|it| it.lock.clone());
            lock = watch.peek(of).ok_or_else(|| format!("{key} belongs to nothing"))?;
        }
        if let Effect::StopStep { step } = &planned.effect
            && self.outside.is_under_way(step)
        {
            let (key, after) = (step.clone(), self.ways.between(5, 2500));
            self.schedule_done(after, key, outside::outcome(OutcomeKind::Stopped), false);
        }
        let now = self.time.steady_milliseconds();
        let result = self.outside.begin(planned, lock, (now, &mut self.lots))?;
        if self.lots.strikes(Fault::DoubledResult) {
            let after = result.after + self.lots.random(Fault::DoubledResult).below(60_000);
            self.schedule_done(after, result.key.clone(), result.outcome.clone(), true);
        }
        self.schedule_done(result.after, result.key, result.outcome, false);
        Ok(())
    }

    fn schedule_done(&mut self, after: u64, key: EffectKey, outcome: Outcome, is_double: bool) {
        let generation = self.generation;
        self.schedule(after, Happening::Done { key, outcome, generation, is_double });
    }

    pub(super) fn done(
        &mut self,
        key: &EffectKey,
        outcome: &Outcome,
        generation: u64,
        is_double: bool,
    ) {
        let is_told = is_double || self.outside.is_under_way(key);
        if generation != self.generation || !is_told {
            return;
        }
        self.outside.end(key);
        let now = self.time.wall();
        let Some(watch) = &self.watch else { return };
        let events = if key.0.starts_with("DET-") {
            vec![found(watch.peek(|it| it.memory.incident), &mut self.ways, now)]
        } else {
            vec![Event::EffectFinished { key: key.clone(), outcome: outcome.clone() }]
        };
        drop(watch.effect_done(key.clone(), events));
        let result = outcome.result;
        self.tell("result", result as u64, || format!("{key}: {result:?}"));
    }
}

/// What a detection finds: some of the last incidents, or nothing.
fn found(last: u64, random: &mut Random, now: Timestamp) -> Event {
    let from = last.saturating_sub(5).max(1);
    let incidents = (from..=last).map(IncidentId).filter(|_| random.chance(600)).collect();
    let recurrence = Recurrence {
        title: "it comes back".to_owned(),
        incidents,
        first_seen: now,
        last_seen: now,
        period_seconds: None,
        next_expected_at: None,
        confidence: 700,
        by_chance: false,
        why: Vec::new(),
        figures: Figures::default(),
    };
    let recurrences = if recurrence.incidents.len() < 2 { vec![] } else { vec![recurrence] };
    Event::RecurrencesFound {
        detection: "default".to_owned(),
        incidents_seen: last,
        looked_at: None,
        recurrences,
    }
}
