//! The watch under a virtual clock: the same core, each timer at its time, each deed answered at once.

use crate::domain::effect::{Effect, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::event::Event;
use crate::domain::{Closed, State, Turn};
use jiff::Timestamp;
use std::collections::VecDeque;

/// So many turns at one time mean that a rule asks for itself again and again.
const TURNS_MAX: usize = 100_000;

/// The core with a clock of its own. Nothing is performed.
#[derive(Default)]
pub(super) struct VirtualWatch {
    /// The time.
    pub(super) now: Timestamp,
    /// What is true.
    pub(super) state: State,
}

/// Who looks on.
pub(super) trait Witness {
    /// A turn was made. Its effects were not performed: each counts as done.
    fn saw(&mut self, watch: &VirtualWatch, turn: Turn);

    /// Something left the state.
    fn saw_closed(&mut self, watch: &VirtualWatch, closed: Closed);

    /// What comes of a deed; `None` = it counts as done.
    fn outcome(&mut self, _: &VirtualWatch, _: &PlannedEffect) -> Option<Outcome> {
        None
    }

    /// What follows from a deed beside its result.
    fn consequences(&mut self, watch: &VirtualWatch, effect: &Effect) -> Vec<Event>;
}

impl VirtualWatch {
    /// Applies a fact and, at the same time, the results of what it orders.
    pub(super) fn apply(&mut self, event: &Event, witness: &mut impl Witness) {
        let mut effects = VecDeque::from(self.turn(event, witness));
        for _ in 0..TURNS_MAX {
            let Some(planned) = effects.pop_front() else { break };
            let mut results = witness.consequences(self, &planned.effect);
            let outcome = witness.outcome(self, &planned);
            let outcome = outcome.unwrap_or_else(|| done(&planned.effect));
            results.push(Event::EffectFinished { key: planned.key, outcome });
            for result in &results {
                effects.extend(self.turn(result, witness));
            }
        }
    }

    /// One turn; gives the deeds that it orders.
    fn turn(&mut self, event: &Event, witness: &mut impl Witness) -> Vec<PlannedEffect> {
        let mut turn = self.state.apply(self.now, event);
        let effects = std::mem::take(&mut turn.effects);
        witness.saw(self, turn);
        if self.state.has_changes() {
            for closed in self.state.take_changes().closed {
                witness.saw_closed(self, closed);
            }
        }
        effects
    }

    /// Lets time pass, with every timer at its time. Time does not go back.
    pub(super) fn go_to(&mut self, until: Timestamp, witness: &mut impl Witness) {
        let mut turns = 0;
        while let Some(at) = self.state.next_wakeup().filter(|it| *it <= until) {
            turns = if at > self.now { 0 } else { turns + 1 };
            if turns > TURNS_MAX {
                break;
            }
            self.now = self.now.max(at);
            self.apply(&Event::Woken, witness);
        }
        self.now = self.now.max(until);
    }
}

/// The result that every deed has.
fn done(effect: &Effect) -> Outcome {
    let detail = match effect {
        Effect::RunStep { .. } => "not performed",
        Effect::StopStep { .. } | Effect::Deliver { .. } | Effect::DetectProblems { .. } => "",
    };
    Outcome {
        result: OutcomeKind::Succeeded,
        detail: detail.to_owned(),
        output_tail: String::new(),
        code: None,
        duration_milliseconds: 0,
    }
}
