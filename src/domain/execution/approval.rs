//! Questions to people: whose yes a run waits for, the answers, reminders, and what silence means.

use super::{Blocked, Execution, ExecutionId, ExecutionState, StepState};
use crate::domain::incident::IncidentId;
use crate::domain::rules::{Approval, ApprovalRole};
use crate::domain::{Accepted, ObjectKey, Refusal, Reply, State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A question that waits for its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Whose yes is needed; its text is filled in.
    pub approval: Approval,
    /// The step that asks, by its place; `None` = it is asked whether the run may begin.
    #[serde(default)]
    pub step: Option<usize>,
    /// When it counts as a no.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When people are told again.
    #[serde(default)]
    pub remind_at: Option<Timestamp>,
    /// Who has said yes so far.
    #[serde(default)]
    pub yes: Vec<String>,
}

/// What somebody said to a question of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who.
    pub by: String,
    /// What his token allows him; `None` = no tokens are configured, and nobody's name is proven.
    pub role: Option<ApprovalRole>,
    /// When.
    pub at: Timestamp,
    /// Whether he said yes.
    pub yes: bool,
    /// The id of the step that asked; `None` = the question was whether the run may begin.
    pub step: Option<String>,
}

/// Who answers.
pub(in crate::domain) struct Person<'a> {
    pub(in crate::domain) by: &'a str,
    pub(in crate::domain) role: Option<ApprovalRole>,
}

impl Question {
    fn new(now: Timestamp, approval: Approval, step: Option<usize>) -> Self {
        let after = |it: Option<u32>| it.map(|it| later(now, i64::from(it)));
        Self {
            expires_at: after(approval.expires_seconds),
            remind_at: after(approval.remind_seconds),
            yes: Vec::new(),
            approval,
            step,
        }
    }

    /// What it waits for, in words.
    fn text(&self) -> String {
        let Approval { text, role, people, .. } = &self.approval;
        let who = match (people, role) {
            (1, ApprovalRole::Responder) => String::new(),
            (1, ApprovalRole::Admin) => " of an admin".to_owned(),
            (people, ApprovalRole::Responder) => format!(" of {people} people"),
            (people, ApprovalRole::Admin) => format!(" of {people} admins"),
        };
        let what = if text.is_empty() { String::new() } else { format!(": {text}") };
        format!("waits for approval{who}{what}")
    }

    /// Why somebody's yes does not count; `None` = it does.
    fn refuses(&self, execution: &Execution, person: &Person<'_>) -> Option<Refusal> {
        let Approval { role, people, two_person, .. } = self.approval;
        if person.role.is_some_and(|it| it < role) {
            let text = format!("{} waits for the yes of an {}", execution.id, role.as_str());
            return Some(Refusal::NotAllowed(text));
        }
        // Whoever sends a command without a token may call himself as he likes.
        if person.role.is_none() && (people > 1 || two_person) {
            let text = format!(
                "{} asks for different people, and without tokens nobody's name is proven",
                execution.id
            );
            return Some(Refusal::NotAllowed(text));
        }
        if two_person && execution.requested_by == person.by {
            let text = format!(
                "{} asked for {}, and so somebody else must say yes",
                person.by, execution.id
            );
            return Some(Refusal::NotAllowed(text));
        }
        self.yes
            .iter()
            .any(|it| it == person.by)
            .then(|| Refusal::WrongState(format!("{} has said yes already", person.by)))
    }
}

impl State {
    /// Asks people; what the run waits for becomes its state.
    pub(super) fn ask(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        approval: Approval,
        step: Option<usize>,
    ) {
        let question = Question::new(now, approval, step);
        let text = question.text();
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.state = ExecutionState::WaitingApproval;
        execution.question = Some(question);
        execution.why.clone_from(&text);
        self.log_execution(now, id, "", &text);
        self.tell_of_question(now, id, &text);
        self.touch(now, ObjectKey::Execution(id));
    }

    fn tell_of_question(&mut self, now: Timestamp, id: ExecutionId, text: &str) {
        self.ask_for_approval(now, id, text);
        let question = self.executions.get(&id).and_then(|it| it.question.as_ref());
        let Some(receiver) = question.and_then(|it| it.approval.receiver.clone()) else { return };
        let text = format!("{id} {text}; `watchkeeper runbook approve {id}`");
        if let Err(error) = self.tell_receiver(now, id, &receiver, &text) {
            self.log_execution(now, id, "", &format!("cannot tell {receiver}: {error}"));
        }
    }

    /// A person says yes.
    pub(in crate::domain) fn approve(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        person: &Person<'_>,
    ) -> Reply {
        let question = self.asked(id)?;
        if let Some(refusal) = self.executions.get(&id).and_then(|it| question.refuses(it, person))
        {
            return Err(refusal);
        }
        self.note_answer(now, id, person, (&question, true));
        self.log_execution(now, id, person.by, "approved");
        let Some(execution) = self.executions.get_mut(&id) else {
            return Ok(Accepted::Object(ObjectKey::Execution(id)));
        };
        let mut question = question;
        question.yes.push(person.by.to_owned());
        let (given, people) = (question.yes.len(), question.approval.people as usize);
        let (step, names) = (question.step, question.yes.join(", "));
        if given < people {
            execution.why = format!("{}; {given} of {people} said yes", question.text());
            execution.question = Some(question);
            self.touch(now, ObjectKey::Execution(id));
        } else if let Some(index) = step {
            self.answered(now, id, index, (StepState::Succeeded, &format!("{names} said yes")));
        } else {
            execution.question = None;
            execution.decided_by = names;
            self.try_start(now, id);
        }
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    /// A person says no: one is enough.
    pub(in crate::domain) fn deny(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        person: &Person<'_>,
        reason: &str,
    ) -> Reply {
        let question = self.asked(id)?;
        self.note_answer(now, id, person, (&question, false));
        let why = super::answer::with_reason(person.by, "denied it", reason);
        if let Some(index) = question.step {
            self.answered(now, id, index, (StepState::Failed, &why));
        } else {
            if let Some(execution) = self.executions.get_mut(&id) {
                person.by.clone_into(&mut execution.decided_by);
            }
            self.end_execution(now, id, ExecutionState::Denied, &why);
        }
        Ok(Accepted::Object(ObjectKey::Execution(id)))
    }

    /// The question that a run waits with.
    fn asked(&self, id: ExecutionId) -> Result<Question, Refusal> {
        let execution = self.known_execution(id)?;
        if !matches!(execution.state, ExecutionState::Proposed | ExecutionState::WaitingApproval) {
            return Err(super::answer::wrong_state(execution));
        }
        // What was stored before questions were has none.
        let usual = || Question::new(execution.created_at, Approval::default(), None);
        Ok(execution.question.clone().unwrap_or_else(usual))
    }

    fn note_answer(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        person: &Person<'_>,
        (question, yes): (&Question, bool),
    ) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let step = question.step.and_then(|it| execution.steps.get(it)).map(|it| it.id.clone());
        let by = person.by.to_owned();
        execution.answers.push(Answer { by, role: person.role, at: now, yes, step });
    }

    /// A step that asked has its answer: the run goes on, or turns round.
    fn answered(
        &mut self,
        now: Timestamp,
        id: ExecutionId,
        index: usize,
        result: (StepState, &str),
    ) {
        let Some(execution) = self.executions.get_mut(&id) else { return };
        execution.question = None;
        execution.state = ExecutionState::Running;
        "running".clone_into(&mut execution.why);
        self.step_over(now, id, index, result);
        self.proceed(now, id);
    }

    /// The time of a question has come: people are reminded, or it was waited long enough.
    pub(super) fn question_due(&mut self, now: Timestamp, id: ExecutionId) {
        let held_until = self.memory.hold_until;
        let Some(execution) = self.executions.get_mut(&id) else { return };
        let Some(question) = &mut execution.question else { return };
        let expires_at = question.expires_at.map(|it| held_until.map_or(it, |hold| it.max(hold)));
        if expires_at.is_some_and(|it| it <= now) {
            self.question_expired(now, id);
            return;
        }
        let every = question.approval.remind_seconds;
        let (Some(_), Some(seconds)) = (question.remind_at.filter(|it| *it <= now), every) else {
            return;
        };
        question.remind_at = Some(later(now, i64::from(seconds)));
        let text = format!("still {}", question.text());
        self.tell_of_question(now, id, &text);
        self.touch(now, ObjectKey::Execution(id));
    }

    /// Nobody said yes in time, or not enough people: that is a no.
    fn question_expired(&mut self, now: Timestamp, id: ExecutionId) {
        let Some(execution) = self.executions.get(&id) else { return };
        let Some(question) = &execution.question else { return };
        let Approval { people, expires_seconds, escalate, .. } = question.approval;
        let within = expires_seconds.unwrap_or_default();
        let why = match question.yes.len() {
            0 => format!("nobody said yes within {within} s"),
            given => format!("{given} of {people} people said yes within {within} s"),
        };
        let step = question.step;
        if let Some(index) = step {
            self.answered(now, id, index, (StepState::Failed, &why));
        } else {
            self.end_execution(now, id, ExecutionState::Denied, &why);
        }
        if escalate {
            self.escalate(now, id, &format!("was not approved: {why}"));
        }
    }

    /// An incident is closed: nobody is asked about it any more.
    pub(in crate::domain) fn end_questions(&mut self, now: Timestamp, incident: IncidentId) {
        let asked: Vec<(ExecutionId, Option<usize>)> = (self.executions.values())
            .filter(|it| it.incident == Some(incident))
            .filter(|it| {
                matches!(it.state, ExecutionState::Proposed | ExecutionState::WaitingApproval)
            })
            .map(|it| (it.id, it.question.as_ref().and_then(|it| it.step)))
            .collect();
        for (id, step) in asked {
            let reason = format!("{incident} was closed before anybody said yes");
            if let Some(index) = step {
                self.answered(now, id, index, (StepState::Failed, &reason));
            } else {
                let guard = "incident_closed".to_owned();
                self.block(now, id, Blocked { guard, reason });
            }
        }
    }
}

impl Execution {
    /// Whether it has begun, and a step of it asks people.
    pub(super) fn is_asking(&self) -> bool {
        self.state == ExecutionState::WaitingApproval && self.started_at.is_some()
    }
}
