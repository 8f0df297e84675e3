//! How an execution comes to be: asked for, filled in, held back by guards or let go.

use super::{Blocked, Context, Execution, ExecutionId, ExecutionState, Part, StepRun};
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::label::Labels;
use crate::domain::matcher::compile_anchored;
use crate::domain::rules::{Approval, Mode, Occasion, Runbook, RunbookMode};
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State, template};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest value of a parameter, in bytes.
const PARAMETER_BYTES_MAX: usize = 1024;

/// A wish for a run.
pub(super) struct Wish<'a> {
    pub(super) runbook: &'a Runbook,
    pub(super) mode: RunbookMode,
    pub(super) incident: Option<IncidentId>,
    pub(super) given: &'a BTreeMap<String, String>,
    pub(super) by: &'a str,
    pub(super) is_emergency: bool,
    /// The run that calls for it.
    pub(super) parent: Option<ExecutionId>,
    /// What holds it back before it is filled in.
    pub(super) refused: Option<Blocked>,
    /// What its templates may use; `None` = what the incident tells.
    pub(super) context: Option<Context>,
}

impl<'a> Wish<'a> {
    /// The wish that a runbook runs as it is written, on nobody's word.
    pub(super) fn new(runbook: &'a Runbook, mode: RunbookMode) -> Self {
        static NOTHING: BTreeMap<String, String> = BTreeMap::new();
        Self {
            runbook,
            mode,
            incident: None,
            given: &NOTHING,
            by: "",
            is_emergency: false,
            parent: None,
            refused: None,
            context: None,
        }
    }
}

impl State {
    /// A known error has a runbook that helps: it is chosen for the incident in its own mode, whatever
    /// its triggers say.
    pub(in crate::domain) fn offer_runbook(
        &mut self,
        now: Timestamp,
        (runbook, by): (&str, &str),
        incident: IncidentId,
    ) {
        let rules = self.rules.clone();
        let Some(runbook) = rules.runbook(runbook) else { return };
        if self.is_at_work(&runbook.rule.name, incident) {
            return;
        }
        let mode = if rules.mode == Mode::Observe { RunbookMode::Shadow } else { runbook.mode };
        let wish = Wish { incident: Some(incident), by, ..Wish::new(runbook, mode) };
        self.make_execution(now, &wish);
    }

    /// Whether a run of a runbook for an incident is not over.
    pub(super) fn is_at_work(&self, runbook: &str, incident: IncidentId) -> bool {
        self.executions.values().any(|it| {
            it.incident == Some(incident) && it.runbook.rule.name == runbook && !it.state.is_final()
        })
    }

    /// A person wants a runbook to run.
    pub(in crate::domain) fn run_runbook(
        &mut self,
        now: Timestamp,
        by: &str,
        order: (&str, Option<IncidentId>, bool, bool),
        given: &BTreeMap<String, String>,
    ) -> Reply {
        let (name, incident, dry_run, is_emergency) = order;
        let rules = self.rules.clone();
        let runbook = rules
            .runbook(name)
            .ok_or_else(|| Refusal::NotFound(format!("there is no runbook `{name}`")))?;
        if let Some(unknown) = given.keys().find(|it| !runbook.parameters.contains_key(*it)) {
            let text = format!("runbook `{name}` has no parameter `{unknown}`");
            return Err(Refusal::Invalid(text));
        }
        if let Some(incident) = incident {
            self.known_incident(incident)?;
        }
        let only_look = dry_run || rules.mode == Mode::Observe;
        // Who orders a run himself has said yes, unless the runbook says whose yes it needs.
        let mode = match (only_look, &runbook.approval) {
            (true, _) => RunbookMode::Shadow,
            (false, Some(_)) => RunbookMode::Approve,
            (false, None) => RunbookMode::Auto,
        };
        let wish = Wish { incident, given, by, is_emergency, ..Wish::new(runbook, mode) };
        let id = self.make_execution(now, &wish);
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    pub(super) fn make_execution(&mut self, now: Timestamp, wish: &Wish<'_>) -> ExecutionId {
        self.memory.execution += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        let id = ExecutionId(self.memory.execution);
        let incident = wish.incident.and_then(|it| self.incidents.get(&it));
        let context = wish.context.clone().unwrap_or_else(|| context_of(incident));
        let alerts_resolved = incident.is_none_or(|it| it.firing_count == 0);
        let mut execution = Execution {
            id,
            runbook: Arc::new(wish.runbook.clone()),
            mode: wish.mode,
            incident: wish.incident,
            parent: wish.parent,
            change: None,
            state: ExecutionState::Proposed,
            blocked_by: None,
            is_emergency: wish.is_emergency,
            parameters: BTreeMap::new(),
            context,
            lock: wish.runbook.rule.name.clone(),
            steps: runs_of(wish.runbook),
            requested_by: wish.by.to_owned(),
            decided_by: String::new(),
            question: None,
            answers: Vec::new(),
            checks: Vec::new(),
            created_at: now,
            started_at: None,
            ended_at: None,
            // It ends with the run that calls it, also while it asks whether it may begin.
            deadline: wish
                .parent
                .and_then(|it| self.executions.get(&it))
                .and_then(|it| it.deadline),
            steps_done_at: None,
            look_at: None,
            holding_since: None,
            ending: None,
            alerts_resolved,
            why: String::new(),
        };
        let filled = match &wish.refused {
            Some(blocked) => Err(blocked.clone()),
            None => execution.fill_in(wish.given),
        };
        self.executions.insert(id, execution);
        if let Some(incident) = wish.incident.and_then(|it| self.incidents.get_mut(&it)) {
            incident.executions.push(id);
            let incident = incident.id;
            self.touch(now, ObjectKey::Incident(incident));
        }
        match filled {
            Err(blocked) => self.block(now, id, blocked),
            Ok(()) => self.choose_way(now, id, wish.mode),
        }
        id
    }

    /// Goes as far as the mode allows.
    fn choose_way(&mut self, now: Timestamp, id: ExecutionId, mode: RunbookMode) {
        match mode {
            RunbookMode::Auto => self.try_start(now, id),
            RunbookMode::Shadow => {
                let why = match self.guard_that_holds(now, id) {
                    Some(blocked) => {
                        format!("would be held back by {}: {}", blocked.guard, blocked.reason)
                    }
                    None if self.executions.get(&id).is_some_and(Execution::must_look) => {
                        "would have run if its preconditions hold".to_owned()
                    }
                    None => "would have run; nothing holds it back".to_owned(),
                };
                let checks = self.checks(now, id);
                self.show_plan(id, checks);
                self.end_execution(now, id, ExecutionState::WouldRun, &why);
            }
            RunbookMode::Suggest => {
                self.propose(now, id);
            }
            RunbookMode::Approve => {
                self.show_rendered_steps(id);
                let Some(execution) = self.executions.get(&id) else { return };
                match execution.approval() {
                    Ok(approval) => self.ask(now, id, approval, None),
                    Err(blocked) => self.block(now, id, blocked),
                }
            }
        }
    }

    fn propose(&mut self, now: Timestamp, id: ExecutionId) {
        let why = "proposed; a person may start it";
        self.show_rendered_steps(id);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.state = ExecutionState::Proposed;
            why.clone_into(&mut execution.why);
        }
        self.log_execution(now, id, "", why);
        self.touch(now, ObjectKey::Execution(id));
    }

    /// Tells people that an execution needs one of them.
    pub(in crate::domain) fn ask_for_approval(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        why: &str,
    ) {
        let Some(execution) = self.executions.get(&id) else { return };
        let text = format!("runbook {} ({id}): {why}", execution.runbook.rule.name);
        self.tell_of_execution(now, id, Occasion::ApprovalNeeded, &text);
    }

    /// Tells people something about an execution.
    pub(super) fn tell_of_execution(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        occasion: Occasion,
        text: &str,
    ) {
        let Some(execution) = self.executions.get(&id) else { return };
        let incident = execution.incident.and_then(|it| self.incidents.get(&it)).cloned();
        if let Some(incident) = incident {
            self.notify(now, occasion, &incident, text);
        } else {
            let body = serde_json::json!({
                "version": "1",
                "occasion": occasion.as_str(),
                "text": text,
                "at": now,
                "execution": id,
            });
            self.notify_plainly(now, occasion, &body);
        }
    }

    /// A step tells a receiver something. Fails when the rules do not know it any more.
    pub(super) fn tell_receiver(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        receiver: &str,
        text: &str,
    ) -> Result<String, String> {
        let execution = self.executions.get(&id).ok_or("the run is gone")?;
        let incident = execution.incident.and_then(|it| self.incidents.get(&it)).cloned();
        let by = execution.runbook.rule.clone();
        let notification = self.notify_receiver(now, (receiver, &by), incident.as_ref(), text)?;
        Ok(format!("{receiver} is told ({notification})"))
    }
}

impl Execution {
    /// Fills in the parameters and the lock; a value that does not fit its pattern holds the
    /// execution back.
    fn fill_in(&mut self, given: &BTreeMap<String, String>) -> Result<(), Blocked> {
        let blocked = |guard: &str, reason: String| Blocked { guard: guard.to_owned(), reason };
        for (name, parameter) in &self.runbook.parameters {
            let value = match given.get(name) {
                Some(value) => value.clone(),
                None => template::render(&parameter.value, &self.context, &BTreeMap::new())
                    .map_err(|error| blocked("parameter", format!("`{name}`: {error}")))?,
            };
            check_value(&value, &parameter.pattern)
                .map_err(|error| blocked("parameter", format!("`{name}`: {error}")))?;
            self.parameters.insert(name.clone(), value);
        }
        if let Some(lock) = &self.runbook.lock {
            self.lock = template::render(lock, &self.context, &self.parameters)
                .map_err(|error| blocked("template", format!("`lock`: {error}")))?;
        }
        Ok(())
    }
}

impl Execution {
    /// Whose yes it needs before it begins.
    fn approval(&self) -> Result<Approval, Blocked> {
        let mut approval = self.runbook.approval.clone().unwrap_or_default();
        approval.text =
            template::render(&approval.text, &self.context, &self.parameters).map_err(|it| {
                Blocked { guard: "template".to_owned(), reason: format!("`approval`: {it}") }
            })?;
        Ok(approval)
    }
}

/// Everything that a run of a runbook may do, before it is known what will be undone.
fn runs_of(runbook: &Runbook) -> Vec<StepRun> {
    let preconditions = runbook.guards.preconditions.iter();
    let preconditions = preconditions.map(|it| StepRun::new(Part::Precondition, it.as_str()));
    let looks = runbook.verify.iter().flat_map(|it| &it.looks);
    let steps = runbook.steps.iter().map(|it| StepRun::new(Part::Step, &it.id));
    let looks = looks.map(|it| StepRun::new(Part::Verify, it.as_str()));
    let always = runbook.always.iter().map(|it| StepRun::new(Part::Always, &it.id));
    preconditions.chain(steps).chain(looks).chain(always).collect()
}

/// Checks a parameter's value against its pattern. Values come from alerts and are hostile, so
/// control characters never pass, and what looks like an option passes only where the pattern
/// names the dash itself.
pub(super) fn check_value(value: &str, pattern: &str) -> Result<(), String> {
    if value.len() > PARAMETER_BYTES_MAX {
        return Err(format!("the value is longer than {PARAMETER_BYTES_MAX} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err("the value has control characters".to_owned());
    }
    if value.starts_with('-') && !pattern.trim_start_matches(['^', '(']).starts_with('-') {
        return Err(format!("the value looks like an option: `{value}`"));
    }
    if compile_anchored(pattern)?.is_match(value) {
        Ok(())
    } else {
        Err(format!("the value does not match `{pattern}`: `{value}`"))
    }
}

/// What templates and conditions may use of an incident.
pub(super) fn context_of(incident: Option<&Incident>) -> Context {
    let Some(incident) = incident else {
        return Context { labels: Labels::default(), ..Context::default() };
    };
    let fields = [
        ("id", incident.id.to_string()),
        ("title", incident.title.clone()),
        ("severity", incident.severity.as_str().to_owned()),
        ("priority", incident.priority.to_string()),
        ("state", incident.state.as_str().to_owned()),
    ];
    Context {
        labels: incident.labels.clone(),
        annotations: incident.annotations.clone(),
        incident: fields.map(|(name, value)| (name.to_owned(), value)).into(),
        ..Context::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_value_case(value: &str, pattern: &str, expected: Result<(), &str>) {
        match (check_value(value, pattern), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{value:?}: {error}"),
            (other, _) => panic!("{value:?} gave {other:?}"),
        }
    }

    #[test]
    fn values_must_fit_their_pattern_whole() {
        check_value_case("nginx", "^[a-z]+$", Ok(()));
        check_value_case("nginx", "[a-z]+", Ok(()));
        check_value_case("nginx; rm", "[a-z]+", Err("does not match"));
        check_value_case("a\nb", "(?s).*", Err("control"));
        check_value_case("--all", "[a-z-]+", Err("option"));
        check_value_case("--all", "--(all|none)", Ok(()));
        check_value_case("", "[a-z]+", Err("does not match"));
        check_value_case(&"a".repeat(2000), "a+", Err("longer"));
    }

    proptest! {
        #[test]
        fn what_passes_is_what_the_pattern_says(value in "\\PC{0,20}") {
            let fits = !value.is_empty() && value.chars().all(|it| it.is_ascii_lowercase());
            prop_assert_eq!(check_value(&value, "[a-z]+").is_ok(), fits);
        }
    }
}
