//! What goes wrong by itself, and what people do.

use super::super::disk::Mood;
use super::super::faults::Fault;
use super::super::{laws, people, rules};
use super::{Happening, Waiting, World};
use watchkeeper::domain::event::{Command, Event};

impl World {
    /// Something goes wrong, or people do something.
    pub(super) fn strike(&mut self, fault: Fault) -> laws::Verdict {
        if !self.lots.is_on(fault) {
            return Ok(());
        }
        let wait = self.lots.wait(fault);
        self.schedule(wait, Happening::Strike(fault));
        self.tell("strike", fault as u64, || format!("{fault:?}"));
        let now = self.now();
        let random = self.lots.random(fault);
        match fault {
            Fault::Crash if self.watch.is_some() => self.crash(),
            Fault::Restart => {
                if let Some(watch) = self.watch.take() {
                    watch.stop();
                    self.look_at_answers()?;
                    self.crash();
                }
            }
            Fault::FailedOpen | Fault::FullDisk => {
                let lasts = random.between(100, 90_000);
                let moods = [Mood::Full, Mood::FullForFacts];
                let mood = if fault == Fault::FailedOpen {
                    Mood::Broken
                } else {
                    random.pick(&moods).copied().unwrap_or_default()
                };
                self.disk.lock().mood = mood;
                self.schedule(lasts, Happening::Mend);
            }
            Fault::Partition => {
                let (lasts, which) = (random.between(10_000, 600_000), random.below(2));
                if let Some(sender) = self.senders.get_mut(usize::from(which == 1)) {
                    sender.cut_off_until = now + lasts;
                }
            }
            Fault::ReceiverDown => self.outside.down_until = now + random.between(5000, 900_000),
            Fault::ClockForward => {
                let by = random.between(1000, 7_200_000);
                self.time.set_wall_clock(i64::try_from(by).unwrap_or(0));
            }
            Fault::ClockBack => {
                let by = random.between(1000, 7_200_000);
                self.time.set_wall_clock(-i64::try_from(by).unwrap_or(0));
                // Times that were told before would now look far off; see `arrive`.
                self.told_anew_from = self.deliveries;
            }
            Fault::Reload => {
                self.variant = usize::try_from(random.below(3)).unwrap_or(0);
                self.load_rules();
            }
            Fault::BadReload => {
                let mistake = usize::try_from(random.below(4)).unwrap_or(0);
                let read = rules::mistaken(mistake);
                laws::ensure(read.is_none(), || "bad rules were read".to_owned())?;
            }
            _ => self.give_order(fault),
        }
        Ok(())
    }

    /// A person orders something that fits what he sees.
    fn give_order(&mut self, fault: Fault) {
        let Some(watch) = &self.watch else { return };
        let now = self.time.wall();
        let random = self.lots.random(fault);
        let order = watch.peek(|state| people::order(fault, state, random, now));
        if let Some(order) = order {
            self.order(order);
        }
    }

    /// Hands a person's order in.
    pub(super) fn order(&mut self, order: Command) {
        let Some(watch) = &self.watch else { return };
        let text = format!("{order:?}");
        // A detection is answered when it is done, and that takes its time.
        let is_awaited = !matches!(order, Command::DetectProblems);
        let answers = (watch.command("ann".to_owned(), order), watch.settle());
        if let (Ok(answer), Ok(settled), true) = (answers.0, answers.1, is_awaited) {
            let since = self.now();
            self.waiting.push(Waiting::Command { since, answer, settled });
        }
        self.tell("asks for", text.len() as u64, || text);
    }

    /// Hands the rules of the files in, if others are in force.
    pub(super) fn load_rules(&mut self) {
        let Some(watch) = &self.watch else { return };
        let wanted = rules::variant(self.variant);
        if watch.peek(|state| state.rules.revision == wanted.revision) {
            return;
        }
        if let Ok(answer) = watch.submit(vec![Event::RulesLoaded(wanted)]) {
            self.waiting.push(Waiting::Fact(answer));
        }
        let variant = self.variant;
        self.tell("rules", variant as u64, || format!("variant {variant}"));
    }
}
