//! Machines that tell of themselves: a job that pings, and deployments.

use super::{Happening, Waiting, World};
use watchkeeper::domain::change::{ChangeState, ReceivedChange};
use watchkeeper::domain::event::{ChangeBatch, Event};
use watchkeeper::domain::heartbeat::{HeartbeatPing, Signal};

/// How often the job runs, more or less, in milliseconds: now and then it comes too late.
const PING_MILLISECONDS: u64 = 150_000;
/// How often something is deployed, or told of once more, in milliseconds.
const CHANGE_MILLISECONDS: u64 = 240_000;

impl World {
    /// The job tells how it does; a ping that was not taken is lost.
    pub(super) fn ping(&mut self) {
        let next = self.machines.around(PING_MILLISECONDS);
        self.schedule(next, Happening::Ping);
        let signal = match self.machines.below(10) {
            0 => Signal::Start,
            1 => Signal::Fail(None),
            2 => Signal::Fail(Some(7)),
            3 => Signal::Log,
            _ => Signal::Success,
        };
        let run = self.machines.chance(300).then(|| self.machines.below(3).to_string());
        let (heartbeat, output) = ("job".to_owned(), String::new());
        let ping = HeartbeatPing { heartbeat, signal, run, output };
        self.tell_fact("ping", Event::HeartbeatPinged(ping));
    }

    /// Something is deployed; or what is known already is told again, perhaps with another end.
    pub(super) fn change(&mut self) {
        let next = self.machines.around(CHANGE_MILLISECONDS);
        self.schedule(next, Happening::Change);
        if self.changes == 0 || self.machines.chance(500) {
            self.changes += 1;
        }
        let number = self.machines.below(self.changes) + 1;
        let states = ChangeState::ALL;
        let state = self.machines.pick(&states).copied().unwrap_or_default();
        let change = ReceivedChange {
            external_id: format!("deploy-{number}"),
            time: None,
            title: format!("deployment {number}"),
            service: "a".to_owned(),
            environment: String::new(),
            version: number.to_string(),
            author: String::new(),
            kind: watchkeeper::domain::change::ChangeKind::default(),
            state,
            link: String::new(),
        };
        let batch = ChangeBatch { source: "ci".into(), changes: vec![change] };
        self.tell_fact("change", Event::ChangesReceived(batch));
    }

    fn tell_fact(&mut self, what: &'static str, event: Event) {
        let Some(watch) = &self.watch else { return };
        let text = format!("{event:?}");
        if let Ok(answer) = watch.submit(vec![event]) {
            self.waiting.push(Waiting::Fact(answer));
        }
        self.tell(what, text.len() as u64, || text);
    }
}
