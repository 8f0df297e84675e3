//! A naive account of every run that there ever was, and what the guards must have held back by it.

use super::disk::Contents;
use super::laws::{Verdict, ensure};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use watchkeeper::domain::State;
use watchkeeper::domain::execution::{Execution, ExecutionId, ExecutionState};
use watchkeeper::store::Kind;

/// What is known of a run.
#[derive(Clone, Debug)]
struct Run {
    runbook: String,
    lock: String,
    host: Option<String>,
    parent: Option<ExecutionId>,
    state: ExecutionState,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// The guard that held it back.
    guard: Option<String>,
}

/// Every run that there ever was.
#[derive(Default)]
pub(crate) struct Ledger {
    runs: BTreeMap<ExecutionId, Run>,
    /// The first that may still change.
    first_open: u64,
}

impl Run {
    fn of(execution: &Execution) -> Self {
        Self {
            runbook: execution.runbook.rule.name.clone(),
            lock: execution.lock.clone(),
            host: execution.parameters.get("host").cloned(),
            parent: execution.parent,
            state: execution.state,
            started_at: execution.started_at,
            ended_at: execution.ended_at,
            guard: execution.blocked_by.as_ref().map(|it| it.guard.clone()),
        }
    }

    /// Whether it had begun by then, and was not over.
    fn is_at_work(&self, at: Timestamp) -> bool {
        self.started_at.is_some_and(|it| it <= at) && self.ended_at.is_none_or(|it| it > at)
    }

    fn began_within(&self, seconds: u32, before: Timestamp) -> bool {
        let from = before - SignedDuration::from_secs(seconds.into());
        self.started_at.is_some_and(|it| from < it && it < before)
    }
}

impl Ledger {
    /// Takes in what is durable, and checks each run that has begun since.
    pub(crate) fn check(&mut self, state: &State, disk: &Contents) -> Verdict {
        let mut begun = Vec::new();
        for number in self.first_open.max(1)..=state.memory.execution {
            let id = ExecutionId(number);
            let before = self.runs.get(&id);
            if before.is_some_and(|it| it.state.is_final()) {
                continue;
            }
            let was_begun = before.is_some_and(|it| it.started_at.is_some());
            let execution = match state.executions.get(&id) {
                Some(execution) => execution.clone(),
                None => closed(disk, id)?,
            };
            let run = Run::of(&execution);
            if run.started_at.is_some() && !was_begun {
                begun.push(execution);
            }
            self.runs.insert(id, run);
        }
        let is_open = |it: &(&ExecutionId, &Run)| !it.1.state.is_final();
        let first_open = self.runs.iter().find(is_open).map(|(id, _)| id.0);
        self.first_open = first_open.unwrap_or(state.memory.execution + 1);
        begun.iter().try_for_each(|it| self.check_start(state, it))
    }

    /// No run has begun that a guard should have held back.
    fn check_start(&self, state: &State, execution: &Execution) -> Verdict {
        let id = execution.id;
        let Some(at) = execution.started_at else { return Ok(()) };
        if let Some(stop) = &state.memory.stopped {
            ensure(at <= stop.at, || format!("{id} begins while all runbooks are stopped"))?;
        }
        let guards = &execution.runbook.guards;
        let others = || self.runs.iter().filter(|(it, _)| **it != id);
        let same = || others().filter(|(_, it)| it.runbook == execution.runbook.rule.name);
        let own = || same().filter(|(_, it)| it.lock == execution.lock);
        let holder = others().find(|(other, it)| {
            it.lock == execution.lock && it.is_at_work(at) && !self.are_related(id, **other)
        });
        ensure(holder.is_none(), || format!("{id} begins beside {holder:?} under one lock"))?;
        let count = same().filter(|(_, it)| it.began_within(guards.runs_per_seconds, at)).count();
        ensure(count < guards.runs_max as usize, || format!("{id} is one run too many"))?;
        let at_work = same().filter(|(_, it)| it.is_at_work(at)).count();
        let most = guards.at_once.unwrap_or(u32::MAX) as usize;
        ensure(at_work < most, || format!("{id} is one too many at once"))?;
        let useless = |seconds: u32| {
            let is_known = |it: &Run| it.ended_at.is_some_and(|it| it <= at);
            let is_useless = |it: &Run| it.state == ExecutionState::Ineffective && is_known(it);
            own().filter(|(_, it)| is_useless(it) && it.began_within(seconds, at)).count()
        };
        let most = guards.cooldown_seconds_max.max(guards.cooldown_seconds);
        let doubled = u32::try_from(useless(most * 2)).unwrap_or(0).min(20);
        let cooldown = guards.cooldown_seconds.saturating_mul(1 << doubled).min(most);
        let warm = own().find(|(_, it)| it.began_within(cooldown, at));
        ensure(warm.is_none(), || format!("{id} begins within {cooldown} s of {warm:?}"))?;
        let is_by_person = !(execution.requested_by.is_empty() && execution.decided_by.is_empty());
        let breaker = guards.breaker_after as usize;
        let is_open = breaker > 0 && useless(guards.breaker_per_seconds) >= breaker;
        ensure(is_by_person || !is_open, || format!("{id} begins though the breaker is open"))?;
        let Some(most) = guards.blast_radius.as_ref().and_then(|it| it.items) else {
            return Ok(());
        };
        let mut hosts: Vec<&String> = others()
            .filter(|(_, it)| it.is_at_work(at) && it.started_at != Some(at))
            .filter_map(|(_, it)| it.host.as_ref())
            .chain(execution.parameters.get("host"))
            .collect();
        hosts.sort();
        hosts.dedup();
        ensure(hosts.len() <= most as usize, || format!("{id} begins beside {hosts:?}"))
    }

    /// Whether one of two runs called the other, be it by way of more.
    pub(crate) fn are_related(&self, one: ExecutionId, other: ExecutionId) -> bool {
        let calls = |caller: ExecutionId, called: ExecutionId| {
            let mut next = self.runs.get(&called).and_then(|it| it.parent);
            while let Some(id) = next {
                if id == caller {
                    return true;
                }
                next = self.runs.get(&id).and_then(|it| it.parent);
            }
            false
        };
        one == other || calls(one, other) || calls(other, one)
    }

    /// How many runs each guard held back.
    pub(crate) fn blocked(&self) -> BTreeMap<String, u64> {
        let mut blocked = BTreeMap::new();
        for guard in self.runs.values().filter_map(|it| it.guard.as_ref()) {
            *blocked.entry(guard.clone()).or_default() += 1;
        }
        blocked
    }

    /// How many runs ended in each state.
    pub(crate) fn ends(&self) -> BTreeMap<&'static str, u64> {
        let mut ends = BTreeMap::new();
        for run in self.runs.values() {
            *ends.entry(run.state.as_str()).or_default() += 1;
        }
        ends
    }
}

/// A run that has left memory: it is over, and kept.
fn closed(disk: &Contents, id: ExecutionId) -> Result<Execution, String> {
    let object = disk.closed(Kind::Execution, &id.to_string());
    let object = object.ok_or_else(|| format!("{id} is neither open nor closed"))?;
    let execution: Execution =
        serde_json::from_slice(&object.body).map_err(|error| format!("{id}: {error}"))?;
    ensure(execution.state.is_final(), || format!("{id} is closed and not over: {execution:?}"))?;
    Ok(execution)
}
