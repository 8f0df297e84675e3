//! What starts runbooks without a person: something happens, a trigger waits for it, and its quota is
//! not used up.

use super::start::{Wish, context_of};
use super::{Blocked, Context, Execution};
use crate::domain::alert::Alert;
use crate::domain::change::{Change, ChangeId, RUNS};
use crate::domain::incident::IncidentId;
use crate::domain::label::{Fingerprint, Labels};
use crate::domain::problem::{Problem, ProblemId};
use crate::domain::rules::{Mode, Quota, Runbook, RunbookMode, Trigger, TriggerEvent};
use crate::domain::{Count, Fact, ObjectKey, State, condition, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that a trigger may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Occurrence {
    /// An incident was opened, or opened again.
    IncidentOpened(IncidentId),
    /// These of its fields changed.
    IncidentChanged(IncidentId, Vec<&'static str>),
    /// An alert began to fire, and nothing holds it back.
    AlertFiring(Fingerprint),
    /// An incident of a known problem began.
    ProblemRecurring(ProblemId, IncidentId),
    /// A change was told of, or is in another state.
    Change(ChangeId),
    /// It is time.
    Schedule(Timestamp),
}

impl Occurrence {
    fn event(&self) -> TriggerEvent {
        match self {
            Self::IncidentOpened(_) => TriggerEvent::IncidentOpened,
            Self::IncidentChanged(..) => TriggerEvent::IncidentChanged,
            Self::AlertFiring(_) => TriggerEvent::AlertFiring,
            Self::ProblemRecurring(..) => TriggerEvent::ProblemRecurring,
            Self::Change(_) => TriggerEvent::Change,
            Self::Schedule(_) => TriggerEvent::Schedule,
        }
    }

    /// What it happened to, by the name that people know; of one thing a runbook does one run at a time.
    fn id(&self) -> String {
        match self {
            Self::IncidentOpened(id) | Self::IncidentChanged(id, _) => id.to_string(),
            Self::AlertFiring(fingerprint) => fingerprint.to_string(),
            Self::ProblemRecurring(id, _) => id.to_string(),
            Self::Change(id) => id.to_string(),
            Self::Schedule(_) => String::new(),
        }
    }
}

/// How often a trigger started its runbook within the time of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// Since when this is counted.
    pub since: Timestamp,
    /// How often it did, and once more if it has been refused since.
    pub count: u32,
}

/// What a quota says.
enum Room {
    /// There is some.
    Left,
    /// There is none, and that is told.
    JustUsedUp,
    /// There is none, as was told before.
    UsedUp,
}

impl State {
    /// Something happened: each runbook that waits for it is asked for after all else in this turn.
    pub(in crate::domain) fn occurred(&mut self, what: &Occurrence) {
        let rules = self.rules.clone();
        for runbook in &rules.runbooks {
            self.occurred_for(runbook, what);
        }
    }

    /// The same, for one runbook.
    pub(super) fn occurred_for(&mut self, runbook: &Runbook, what: &Occurrence) {
        let event = what.event();
        if runbook.triggers.iter().any(|it| it.event == event && self.matches(it, what)) {
            let runbook = runbook.rule.name.clone();
            self.facts.push_back(Fact::RunbookTriggered { runbook, by: what.clone() });
        }
    }

    fn matches(&self, trigger: &Trigger, what: &Occurrence) -> bool {
        let matches = |labels: &Labels| trigger.matchers.matches(labels);
        match what {
            Occurrence::IncidentOpened(id)
            | Occurrence::IncidentChanged(id, _)
            | Occurrence::ProblemRecurring(_, id) => {
                self.incidents.get(id).is_some_and(|it| matches(&it.labels))
            }
            Occurrence::AlertFiring(it) => {
                self.alerts.get(it).is_some_and(|it| matches(&it.labels))
            }
            Occurrence::Change(id) => {
                self.change_log.open.get(id).is_some_and(|it| matches(&labels_of(it)))
            }
            Occurrence::Schedule(_) => true,
        }
    }

    /// A trigger wants a runbook to run.
    pub(in crate::domain) fn runbook_triggered(
        &mut self,
        now: Timestamp,
        name: &str,
        by: &Occurrence,
    ) {
        let rules = self.rules.clone();
        let Some(runbook) = rules.runbook(name) else { return };
        let Some((context, incident)) = self.told_by(by) else { return };
        if self.is_at_it(name, by, &context) {
            return;
        }
        let Some((index, mut refused)) = self.chosen(runbook, by, &context) else { return };
        let Some(trigger) = runbook.triggers.get(index) else { return };
        let quota = runbook.quota(trigger);
        match self.use_trigger(now, (name, index), quota) {
            Room::Left => {}
            Room::JustUsedUp => {
                let reason = format!(
                    "its trigger `{}` started it {} times within {} s; further ones are only counted",
                    by.event().as_str(),
                    quota.count,
                    quota.per_seconds
                );
                refused = Some(Blocked { guard: "quota".to_owned(), reason });
            }
            Room::UsedUp => {
                self.turn.counts.push(Count::RunbookBlocked("quota".to_owned()));
                return;
            }
        }
        let mode = if rules.mode == Mode::Observe { RunbookMode::Shadow } else { runbook.mode };
        let context = Some(context);
        let wish = Wish { incident, refused, context, ..Wish::new(runbook, mode) };
        self.make_execution(now, &wish);
    }

    /// The first trigger that wants a runbook to run, by its place; else one that cannot be decided, which
    /// holds the runbook back.
    fn chosen(
        &self,
        runbook: &Runbook,
        by: &Occurrence,
        context: &Context,
    ) -> Option<(usize, Option<Blocked>)> {
        let mut undecided = None;
        for (index, trigger) in runbook.triggers.iter().enumerate() {
            if trigger.event != by.event() || !self.matches(trigger, by) {
                continue;
            }
            match condition::holds(&trigger.when, context) {
                Ok(true) => return Some((index, None)),
                Err(error) if undecided.is_none() => {
                    let reason = format!("its `when` cannot be decided: {error}");
                    undecided = Some((index, Some(Blocked { guard: "when".to_owned(), reason })));
                }
                Ok(false) | Err(_) => {}
            }
        }
        undecided
    }

    /// Whether a run of the runbook for the same thing is not over.
    fn is_at_it(&self, runbook: &str, by: &Occurrence, context: &Context) -> bool {
        match by {
            Occurrence::IncidentOpened(incident) | Occurrence::IncidentChanged(incident, _) => {
                self.is_at_work(runbook, *incident)
            }
            Occurrence::AlertFiring(_)
            | Occurrence::ProblemRecurring(..)
            | Occurrence::Change(_)
            | Occurrence::Schedule(_) => {
                let is_same = |it: &Execution| {
                    ["event", "id"]
                        .iter()
                        .all(|name| it.context.trigger.get(*name) == context.trigger.get(*name))
                };
                self.executions.values().any(|it| {
                    !it.state.is_final() && it.runbook.rule.name == runbook && is_same(it)
                })
            }
        }
    }

    /// Counts a use of a trigger, if its quota has room for it.
    fn use_trigger(&mut self, now: Timestamp, (name, index): (&str, usize), quota: Quota) -> Room {
        let fresh = Uses { since: now, count: 0 };
        let uses = self.memory.triggered.entry(format!("{name}/{index}")).or_insert(fresh);
        if seconds_between(uses.since, now) >= u64::from(quota.per_seconds) {
            *uses = fresh;
        }
        if uses.count > quota.count {
            return Room::UsedUp;
        }
        uses.count += 1;
        let is_left = uses.count <= quota.count;
        self.changes.objects.insert(ObjectKey::Memory);
        if is_left { Room::Left } else { Room::JustUsedUp }
    }

    /// What templates and conditions may use of what happened, and the incident that it belongs to.
    fn told_by(&self, by: &Occurrence) -> Option<(Context, Option<IncidentId>)> {
        let of_incident = |id: &IncidentId| {
            let incident = self.incidents.get(id)?;
            Some((context_of(Some(incident)), Some(*id)))
        };
        let (mut context, incident, more) = match by {
            Occurrence::IncidentOpened(id) => {
                let (context, incident) = of_incident(id)?;
                (context, incident, Vec::new())
            }
            Occurrence::IncidentChanged(id, changed) => {
                let (context, incident) = of_incident(id)?;
                (context, incident, vec![("changed", changed.join(","))])
            }
            Occurrence::AlertFiring(fingerprint) => {
                let alert = self.alerts.get(fingerprint)?;
                let (context, incident) = self.told_by_alert(alert);
                (context, incident, Vec::new())
            }
            Occurrence::ProblemRecurring(problem, id) => {
                let (context, incident) = of_incident(id)?;
                (context, incident, fields_of(self.problems.get(problem)?))
            }
            Occurrence::Change(id) => {
                let change = self.change_log.open.get(id)?;
                let context = Context { labels: labels_of(change), ..Context::default() };
                let told = &change.told;
                let more = [("title", &told.title), ("link", &told.link)];
                (context, None, more.map(|(name, it)| (name, it.clone())).into())
            }
            Occurrence::Schedule(at) => (Context::default(), None, vec![("time", at.to_string())]),
        };
        let known = [("event", by.event().as_str().to_owned()), ("id", by.id())];
        let fields = known.into_iter().chain(more);
        context.trigger = fields.map(|(name, value)| (name.to_owned(), value)).collect();
        Some((context, incident))
    }

    fn told_by_alert(&self, alert: &Alert) -> (Context, Option<IncidentId>) {
        let incident = alert.incident.and_then(|it| self.incidents.get(&it));
        let context = Context {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            ..context_of(incident)
        };
        (context, incident.map(|it| it.id))
    }

    /// A change is told of, or is in another state. The runs of runbooks are changes, too, and start no
    /// further ones: two runbooks would start each other for ever.
    pub(in crate::domain) fn change_occurred(&mut self, id: ChangeId) {
        if self.change_log.open.get(&id).is_some_and(|it| *it.source != *RUNS) {
            self.occurred(&Occurrence::Change(id));
        }
    }
}

/// What a change tells, as labels.
fn labels_of(change: &Change) -> Labels {
    let told = &change.told;
    Labels::from_pairs([
        ("source", &*change.source),
        ("service", &told.service),
        ("environment", &told.environment),
        ("version", &told.version),
        ("author", &told.author),
        ("kind", told.kind.as_str()),
        ("state", told.state.as_str()),
    ])
}

/// What is known of a problem that recurs.
fn fields_of(problem: &Problem) -> Vec<(&'static str, String)> {
    vec![
        ("title", problem.title.clone()),
        ("state", problem.state.as_str().to_owned()),
        ("count", problem.incidents.len().to_string()),
        ("cause", problem.cause.clone()),
    ]
}
