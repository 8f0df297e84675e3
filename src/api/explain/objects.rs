//! Why an incident, an execution, a problem or a notification is where it is.

use super::{Around, DECISIVE, Explanation, MINOR, Stage, counted};
use crate::domain::change::Change;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::impact::default_impact;
use crate::domain::incident::{Incident, TimelineEntry};
use crate::domain::notification::{Notification, NotificationState};
use crate::domain::problem::Problem;

/// How many entries of a timeline an explanation tells.
const ENTRIES_MAX: usize = 50;

/// Tells why an incident is where it is.
pub(super) fn incident(
    incident: &Incident,
    timeline: &[TimelineEntry],
    around: &Around,
) -> Explanation {
    let mut stages = vec![correlated(incident), incident_stage(incident)];
    stages.extend(impact(incident));
    stages.extend(service_level(incident));
    stages.extend(around.executions.iter().map(runbook_stage));
    stages.extend(around.notifications.iter().map(notify_stage));
    let skipped = timeline.len().saturating_sub(ENTRIES_MAX);
    let entries = match timeline.len() {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    let told = timeline.iter().skip(skipped).fold(Stage::new("timeline", entries), |stage, it| {
        let by = if it.by.is_empty() { String::new() } else { format!(" ({})", it.by) };
        stage.evidence(
            "entry",
            MINOR,
            format!("{:.0} {}: {}{by}", it.at, it.kind.replace('_', " "), it.text),
        )
    });
    stages.push(told);
    let mut left_out = left_out(around);
    if skipped > 0 {
        left_out.push(format!("the first {skipped} entries of the timeline"));
    }
    Explanation { id: incident.id.to_string(), stages, alternative: None, left_out }
}

fn correlated(incident: &Incident) -> Stage {
    let stage = Stage::new("correlate", format!("opened {}", incident.id))
        .rule(&incident.opened_by)
        .evidence("reason", DECISIVE, incident.why.clone())
        .evidence("alert", DECISIVE, format!("{} was the first", incident.first_alert))
        .evidence("labels", MINOR, incident.labels.to_string());
    if incident.group.is_empty() {
        stage
    } else {
        stage.evidence("group", DECISIVE, format!("its alerts share {}", incident.group))
    }
}

/// Where an incident is, and how its priority came about.
pub(super) fn incident_stage(incident: &Incident) -> Stage {
    let verdict = format!("{} is {}", incident.id, incident.state.as_str());
    let firing = match incident.firing_count {
        0 => "none fires now".to_owned(),
        1 => "1 fires now".to_owned(),
        count => format!("{count} fire now"),
    };
    let stage = Stage::new("incident", verdict)
        .evidence(
            "priority",
            DECISIVE,
            format!(
                "{} from impact {} plus urgency {} minus 1; the worst severity is {}",
                incident.priority,
                incident.impact,
                incident.urgency,
                incident.severity.as_str()
            ),
        )
        .evidence(
            "alerts",
            MINOR,
            format!("{} in all, {firing}", counted(incident.alert_count, "alert")),
        );
    let stage = match incident.parent {
        Some(it) => stage.evidence("parent", DECISIVE, format!("it is part of {it}")),
        None => stage,
    };
    let stage = incident
        .children
        .iter()
        .fold(stage, |stage, it| stage.evidence("child", DECISIVE, format!("{it} is part of it")));
    match incident.merged_into {
        Some(into) => stage.evidence("merge", DECISIVE, format!("its alerts went to {into}")),
        None => stage,
    }
}

/// Who else may suffer, and what that makes of the impact.
fn impact(incident: &Incident) -> Option<Stage> {
    const NAMED_MAX: usize = 5;
    let impacted = incident.impacted.as_ref()?;
    let count = counted(impacted.count as u64, "item");
    let (by_default, why) = default_impact(incident);
    let why = if by_default == incident.impact {
        format!("impact {by_default}: {why}")
    } else {
        format!("a rule of `priorities` says {}; else {by_default}: {why}", incident.impact)
    };
    let stage = Stage::new("impact", format!("{count} may suffer"));
    let stage = stage.evidence("impact", DECISIVE, why);
    Some(impacted.items.iter().take(NAMED_MAX).fold(stage, |stage, it| {
        let tier = it.tier.map_or_else(String::new, |it| format!(", of tier {it}"));
        let path = it.path.iter().rev().cloned().collect::<Vec<_>>().join(" needs ");
        stage.evidence("needs", MINOR, format!("{path}{tier}"))
    }))
}

fn service_level(incident: &Incident) -> Option<Stage> {
    if incident.sla.is_empty() {
        return None;
    }
    let stage = Stage::new("service_level", counted(incident.sla.len() as u64, "SLA clock"));
    Some(incident.sla.iter().fold(stage, |stage, it| {
        let due = it.due_at.map_or_else(String::new, |at| format!(", due at {at:.0}"));
        let (target, limit, now) = (it.target.as_str(), it.limit_seconds, it.state.as_str());
        let detail = format!("{target} within {limit} s (policy {}): {now}{due}", it.policy);
        stage.evidence("clock", MINOR, detail)
    }))
}

/// What an execution does or did, after the runbook's name.
fn state_words(state: ExecutionState) -> &'static str {
    match state {
        ExecutionState::Proposed => "is proposed",
        ExecutionState::WaitingApproval => "waits for approval",
        ExecutionState::Running => "is running",
        ExecutionState::Verifying => "is being verified",
        ExecutionState::Succeeded => "succeeded",
        ExecutionState::Ineffective => "ran but did not help",
        ExecutionState::Failed => "failed",
        ExecutionState::Undone => "failed and was undone",
        ExecutionState::Stuck => "is stuck: what it did could not be undone",
        ExecutionState::Blocked => "was held back",
        ExecutionState::Denied => "was denied",
        ExecutionState::Aborted => "was aborted",
        ExecutionState::Unknown => "ended in a way that is not known",
        ExecutionState::WouldRun => "would run",
    }
}

/// What a runbook did.
pub(super) fn runbook_stage(execution: &Execution) -> Stage {
    let runbook = &execution.runbook.rule;
    let verdict = format!("{} {} ({})", runbook.name, state_words(execution.state), execution.id);
    let stage = Stage::new("runbook", verdict).rule(runbook);
    let stage = if execution.why.is_empty() {
        stage
    } else {
        stage.evidence("reason", DECISIVE, execution.why.clone())
    };
    match &execution.blocked_by {
        Some(it) => stage.evidence("guard", DECISIVE, format!("{}: {}", it.guard, it.reason)),
        None => stage,
    }
}

/// Whom a notification told. Its address is not shown: it is often a secret.
pub(super) fn notify_stage(notification: &Notification) -> Stage {
    let word = match notification.state {
        NotificationState::Pending => "being sent",
        NotificationState::Delivered => "delivered",
        NotificationState::Dead => "given up",
        NotificationState::WouldSend => "would have been sent, but we only observe,",
        NotificationState::Muted => "not told, as it was over when the route was no longer mute",
    };
    let verdict = format!(
        "{} ({}) to {}: {word} after {}",
        notification.id,
        notification.occasion.as_str().replace('_', " "),
        notification.receiver,
        counted(notification.attempts, "attempt")
    );
    let stage = Stage::new("notify", verdict).rule(&notification.route);
    let stage = if notification.detail.is_empty() {
        stage
    } else {
        stage.evidence("answer", DECISIVE, notification.detail.clone())
    };
    match notification.retry_at {
        Some(at) => stage.evidence("retry", MINOR, format!("tried again at {at:.0}")),
        None => stage,
    }
}

/// What an explanation does not tell.
pub(super) fn left_out(around: &Around) -> Vec<String> {
    let mut left_out = Vec::new();
    if around.executions.is_empty() {
        left_out.push(
            "no run of a runbook for it is open; the timeline tells of earlier ones".to_owned(),
        );
    }
    if around.notifications.is_empty() {
        left_out.push("no notification waits; the timeline tells of delivered ones".to_owned());
    }
    left_out
}

/// Tells why an execution is where it is.
pub(super) fn execution(execution: &Execution) -> Explanation {
    let asked = if execution.requested_by.is_empty() {
        let of = |name| execution.context.trigger.get(name).filter(|it| !it.is_empty());
        let event = of("event").map(|it| format!(" `{it}`")).unwrap_or_default();
        let id = of("id").or_else(|| of("time")).map(|it| format!(" of {it}")).unwrap_or_default();
        format!("its trigger{event}{id} asked for it")
    } else {
        let how = if execution.is_emergency { " in an emergency" } else { "" };
        format!("{} asked for it{how}", execution.requested_by)
    };
    let requested = Stage::new("requested", asked)
        .rule(&execution.runbook.rule)
        .evidence("time", MINOR, format!("{:.0}", execution.created_at))
        .evidence("lock", MINOR, execution.lock.clone());
    let requested = match execution.incident {
        Some(incident) => requested.evidence("incident", DECISIVE, incident.to_string()),
        None => requested,
    };
    let mut stages = vec![requested];
    stages.extend(execution.answers.iter().map(|it| {
        let said = if it.yes { "yes" } else { "no" };
        let to = it.step.as_ref().map_or_else(String::new, |it| format!(" to step {it}"));
        Stage::new("approval", format!("{} said {said}{to}", it.by)).evidence(
            "time",
            MINOR,
            format!("{:.0}", it.at),
        )
    }));
    if execution.answers.is_empty() && !execution.decided_by.is_empty() {
        stages.push(Stage::new("approval", format!("{} decided", execution.decided_by)));
    }
    stages.push(runbook_stage(execution));
    stages.extend(execution.steps.iter().map(|it| {
        let now = format!("{:?}", it.state).to_lowercase();
        let verdict = match it.attempts {
            0 => format!("{}: {now}", it.id),
            tries => format!("{}: {now} after {}", it.id, counted(tries, "attempt")),
        };
        let stage = Stage::new("step", verdict);
        if it.detail.is_empty() {
            stage
        } else {
            stage.evidence("result", DECISIVE, it.detail.clone())
        }
    }));
    if execution.steps_done_at.is_some() && execution.runbook.verify.is_some() {
        let verdict = if execution.alerts_resolved {
            "the alerts are over"
        } else {
            "the alerts are not over, or not known to be"
        };
        stages.push(Stage::new("verify", verdict));
    }
    let left_out = vec!["what the steps printed: see the execution's logs".to_owned()];
    Explanation { id: execution.id.to_string(), stages, alternative: None, left_out }
}

/// Tells why a problem was proposed.
pub(super) fn problem(problem: &Problem) -> Explanation {
    let verdict = format!(
        "{} alike, found by the detection {} with a confidence of {} in 1000",
        counted(problem.incidents.len() as u64, "incident"),
        problem.detection,
        problem.confidence
    );
    let found = problem.why.iter().fold(Stage::new("detect", verdict), |stage, it| {
        stage.evidence("likeness", DECISIVE, it.clone())
    });
    let ids: Vec<String> = problem.incidents.iter().map(ToString::to_string).collect();
    let found = found.evidence("incidents", MINOR, ids.join(", "));
    let state = Stage::new(
        "problem",
        format!("{} is {}", problem.id, problem.state.as_str().replace('_', " ")),
    );
    let state = if problem.reason.is_empty() {
        state
    } else {
        state.evidence("reason", DECISIVE, problem.reason.clone())
    };
    let stages = vec![found, state];
    Explanation { id: problem.id.to_string(), stages, alternative: None, left_out: Vec::new() }
}

/// Tells how a change came to be known. It is told, not decided; there is nothing to weigh.
pub(super) fn change(change: &Change) -> Explanation {
    let told = &change.told;
    let received = Stage::new("received", format!("the source {} told of it", change.source))
        .evidence("time", MINOR, format!("first at {:.0}", change.received_at))
        .evidence("time", MINOR, format!("last at {:.0}", change.updated_at));
    let received = if told.external_id.is_empty() {
        received
    } else {
        let name = format!("the source knows it as {}", told.external_id);
        received.evidence("external_id", DECISIVE, name)
    };
    let verdict = format!("{} is {}", change.id, told.state.as_str());
    let mut stage = Stage::new("change", verdict).evidence("kind", DECISIVE, told.kind.as_str());
    let facts = [
        ("service", &told.service),
        ("environment", &told.environment),
        ("version", &told.version),
        ("author", &told.author),
    ];
    for (kind, text) in facts.into_iter().filter(|it| !it.1.is_empty()) {
        stage = stage.evidence(kind, DECISIVE, text.clone());
    }
    for it in &change.freezes {
        stage = stage.evidence("freeze", DECISIVE, it.text(told.kind));
    }
    let stages = vec![received, stage];
    Explanation { id: change.id.to_string(), stages, alternative: None, left_out: Vec::new() }
}

/// Tells what became of a notification.
pub(super) fn notification(notification: &Notification) -> Explanation {
    let about = match notification.incident {
        Some(incident) => {
            format!("a route asks for `{}` of {incident}", notification.occasion.as_str())
        }
        None => format!("a route asks for `{}`", notification.occasion.as_str()),
    };
    let routed = Stage::new("route", about).rule(&notification.route);
    let stages = vec![routed, notify_stage(notification)];
    let left_out = vec!["the receiver's address, because it may be a secret".to_owned()];
    Explanation { id: notification.id.to_string(), stages, alternative: None, left_out }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn everything_can_be_explained() {
        let around = Around::default();
        let entries = vec![samples::timeline_entry(); ENTRIES_MAX + 3];
        for (told, stages, words) in [
            (
                incident(&samples::incident(), &entries, &around),
                vec!["correlate", "incident", "impact", "service_level", "timeline"],
                "the first 3 entries",
            ),
            (
                execution(&samples::execution()),
                vec!["requested", "approval", "runbook", "step", "step", "verify"],
                "cooldown: it ran 3 minutes ago",
            ),
            (problem(&samples::problem()), vec!["detect", "problem"], "INC-3, INC-42"),
            (change(&samples::change()), vec!["received", "change"], "knows it as deployment 7"),
            (notification(&samples::notification()), vec!["route", "notify"], "status 500"),
        ] {
            let names: Vec<&str> = told.stages.iter().map(|it| it.stage).collect();
            assert_eq!(names, stages, "{}", told.id);
            let text = serde_json::to_string(&told).unwrap();
            assert!(text.contains(words), "{words} is not in {text}");
            assert!(!text.contains("sesame"), "a secret is told: {text}");
        }
    }
}
