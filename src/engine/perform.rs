//! Letting effects go: bounded many at once, each result a fact.

use super::failpoint::{self, Point};
use super::{Message, Options, Shared};
use crate::act::Performer;
use crate::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use crate::domain::event::Event;
use crate::domain::incident::Incident;
use crate::learn;
use crate::store::{Kind, Scope};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How many steps are done at once: each may be a process.
const STEPS_MAX: usize = 16;
/// How many requests to receivers are under way at once.
const DELIVERIES_MAX: usize = 64;
/// How many closed incidents a detection run reads at once.
const PAGE: usize = 500;

/// Which effects share a limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Steps,
    Deliveries,
    /// Detections and stop orders: few, and never to wait behind the others.
    Free,
}

/// Who does the deeds. Each result comes back as [`Message::EffectDone`].
pub(super) trait Hand: Send {
    /// Begins a deed, and does not wait for it.
    fn begin(&self, effect: PlannedEffect);

    /// Ends everything that is under way.
    fn stop(&self);
}

/// Lets effects go, as many at once as their lanes allow.
pub(super) struct Runner {
    hand: Box<dyn Hand>,
    waiting: BTreeMap<Lane, VecDeque<PlannedEffect>>,
    under_way: BTreeMap<EffectKey, Lane>,
}

impl Runner {
    pub(super) fn new(hand: Box<dyn Hand>) -> Self {
        Self { hand, waiting: BTreeMap::new(), under_way: BTreeMap::new() }
    }

    /// Whether an effect is waiting or under way in this process.
    pub(super) fn knows(&self, key: &EffectKey) -> bool {
        self.under_way.contains_key(key) || self.waiting.values().flatten().any(|it| it.key == *key)
    }

    /// How many effects wait or are under way.
    pub(super) fn pending(&self) -> u64 {
        let waiting: usize = self.waiting.values().map(VecDeque::len).sum();
        (waiting + self.under_way.len()) as u64
    }

    /// Forgets what has not begun; the store brings it back. Returns what it was.
    pub(super) fn forget_waiting(&mut self) -> BTreeSet<EffectKey> {
        std::mem::take(&mut self.waiting).into_values().flatten().map(|it| it.key).collect()
    }

    /// Does not begin effects whose results are known.
    pub(super) fn forget(&mut self, finished: &BTreeSet<&EffectKey>) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|it| !finished.contains(&it.key));
        }
    }

    /// Takes a step out of those that have not begun. Tells whether it was there.
    pub(super) fn give_up(&mut self, step: &EffectKey) -> bool {
        let Some(waiting) = self.waiting.get_mut(&Lane::Steps) else { return false };
        let before = waiting.len();
        waiting.retain(|it| it.key != *step);
        waiting.len() < before
    }

    /// Performs an effect as soon as there is room.
    pub(super) fn perform(&mut self, effect: PlannedEffect) {
        self.waiting.entry(lane_of(&effect.effect)).or_default().push_back(effect);
    }

    /// Begins what there is room for.
    pub(super) fn begin_waiting(&mut self) {
        for lane in [Lane::Steps, Lane::Deliveries, Lane::Free] {
            let room = match lane {
                Lane::Steps => STEPS_MAX,
                Lane::Deliveries => DELIVERIES_MAX,
                Lane::Free => usize::MAX,
            };
            let used = self.under_way.values().filter(|it| **it == lane).count();
            for _ in used..room {
                let next = self.waiting.get_mut(&lane).and_then(VecDeque::pop_front);
                let Some(effect) = next else { break };
                self.under_way.insert(effect.key.clone(), lane);
                self.hand.begin(effect);
            }
        }
    }

    /// An effect's result has arrived.
    pub(super) fn ended(&mut self, key: &EffectKey) {
        self.under_way.remove(key);
    }

    /// Ends everything that is under way.
    pub(super) fn stop(&self) {
        self.hand.stop();
    }
}

/// Does deeds on the current tokio runtime.
pub(super) struct RuntimeHand {
    runtime: tokio::runtime::Handle,
    performer: Performer,
    metrics: Metrics,
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl RuntimeHand {
    pub(super) fn new(
        options: &Options,
        messages: SyncSender<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            performer: options.performer.clone(),
            metrics: options.metrics.clone(),
            messages,
            shared,
        }
    }
}

impl Hand for RuntimeHand {
    fn stop(&self) {
        self.runtime.block_on(self.performer.stop_all());
    }

    fn begin(&self, effect: PlannedEffect) {
        let messages = self.messages.clone();
        let key = effect.key.clone();
        if let Effect::DetectProblems { detection } = &effect.effect {
            let detection = detection.clone();
            let (shared, metrics) = (self.shared.clone(), self.metrics.clone());
            self.runtime.spawn(async move {
                let (shared, name) = (shared.clone(), detection.clone());
                let run = move || detect(&shared, &metrics, &name);
                let events = tokio::task::spawn_blocking(run).await.unwrap_or_default();
                report(&messages, key, events).await;
            });
            return;
        }
        // From here on, not only once it is polled, the deed can be stopped.
        let deed = self.performer.perform(effect);
        self.runtime.spawn(async move {
            let event = match deed.await {
                Ok(outcome) => Event::EffectFinished { key: key.clone(), outcome },
                Err(_) => Event::EffectLost { key: key.clone() },
            };
            failpoint::reach(Point::AfterExit, [&key]);
            report(&messages, key, vec![event]).await;
        });
    }
}

fn lane_of(effect: &Effect) -> Lane {
    match effect {
        Effect::RunStep { .. } => Lane::Steps,
        Effect::Deliver { .. } => Lane::Deliveries,
        Effect::StopStep { .. } | Effect::DetectProblems { .. } => Lane::Free,
    }
}

/// An outcome of what was not done by `act`.
pub(super) fn outcome(result: OutcomeKind, detail: &str) -> Outcome {
    Outcome {
        result,
        detail: detail.to_owned(),
        output_tail: String::new(),
        code: None,
        duration_milliseconds: 0,
    }
}

/// Sends a result to the watch. It must not be lost, so this waits while there is no room, and
/// ends when the watch has ended: then the next start finds the effect without a result.
async fn report(messages: &SyncSender<Message>, key: EffectKey, events: Vec<Event>) {
    let mut message = Message::EffectDone { key, events };
    while let Err(TrySendError::Full(back)) = messages.try_send(message) {
        message = back;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks for what recurs. Every end is a fact, so that the effect has a result.
fn detect(shared: &Shared, metrics: &Metrics, name: &str) -> Vec<Event> {
    let begun = Instant::now();
    let mut history = learn::History::default();
    let detection = {
        let state = shared.state.read().unwrap_or_else(PoisonError::into_inner);
        for incident in state.incidents.values() {
            history.put(incident);
        }
        state.rules.problem_detection.iter().find(|it| it.rule.name == name).cloned()
    };
    let Some(detection) = detection else { return Vec::new() };
    let now = Timestamp::now();
    if let Err(error) = add_closed(shared, learn::since(&detection, now), &mut history) {
        tracing::warn!(detection = name, %error, "could not read the history of incidents");
        return Vec::new();
    }
    let recurrences = learn::recurrences(&detection, &history, now);
    metrics.detection_seconds(begun.elapsed().as_secs_f64());
    let incidents_seen = history.len() as u64;
    tracing::info!(
        detection = name,
        incidents_seen,
        found = recurrences.len(),
        "looked for problems"
    );
    vec![Event::RecurrencesFound {
        detection: name.to_owned(),
        incidents_seen,
        looked_at: history.first_and_last(),
        recurrences,
    }]
}

/// Adds the closed incidents that were opened since a time.
fn add_closed(
    shared: &Shared,
    since: Timestamp,
    history: &mut learn::History,
) -> Result<(), String> {
    let store = shared.store().ok_or("the store is being opened again")?;
    let mut before: Option<String> = None;
    loop {
        let page = store
            .list(Kind::Incident, Scope::Closed, before.as_deref(), PAGE)
            .map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.id.clone());
        for object in &page {
            let incident: Incident = serde_json::from_slice(&object.body)
                .map_err(|error| format!("incident `{}`: {error}", object.id))?;
            // Numbers rise with time, so that the first one that is too old is the last to read.
            if incident.opened_at < since {
                return Ok(());
            }
            history.put(&incident);
        }
    }
}
