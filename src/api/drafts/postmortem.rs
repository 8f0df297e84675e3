//! The draft of a post-mortem: what is known of an incident in the order in which people tell it. What nobody wrote
//! down is left to fill in, and nothing is made up.

use super::Story;
use super::markdown::{counted, duration, list, plain};
use crate::domain::execution::ExecutionState;
use crate::domain::incident::TimelineEntry;
use crate::domain::problem::ProblemState;
use crate::domain::seconds_between;
use crate::domain::service_level::{ClockState, SlaClock, TargetKind};

/// So many entries of a timeline are told.
const ENTRIES_MAX: usize = 200;
/// What a person has to write.
const TO_FILL_IN: &str = "_To fill in:_";

/// Writes the draft.
pub(super) fn draft(story: &Story) -> String {
    let incident = &story.incident;
    let mut out = vec![
        format!("# Post-mortem: {}, {}\n\n", incident.id, plain(&incident.title)),
        "A draft, made from what Watchkeeper wrote down. Check it; what it cannot know is marked\n\
         with \"to fill in\".\n\n## Summary\n\n| | |\n|---|---|\n"
            .to_owned(),
    ];
    for (name, value) in summary(story) {
        out.push(format!("| {name} | {value} |\n"));
    }
    for (heading, lines, otherwise) in [
        ("Impact", impact(story), "nothing is known of what it meant for others"),
        ("Detection", detection(story), ""),
    ] {
        out.push(format!("\n## {heading}\n\n"));
        list(&mut out, &lines, otherwise);
    }
    out.push("\n## Timeline\n\n| when (UTC) | who | what |\n|---|---|---|\n".to_owned());
    for it in story.timeline.iter().take(ENTRIES_MAX) {
        let by = if it.by.is_empty() { "Watchkeeper".to_owned() } else { plain(&it.by) };
        out.push(format!("| {:.0} | {by} | {} |\n", it.at, told(it)));
    }
    if story.timeline.len() > ENTRIES_MAX {
        let more = story.timeline.len() - ENTRIES_MAX;
        out.push(format!("\n{more} more entries stand in the timeline.\n"));
    }
    let (well, badly) = judgement(story);
    for (heading, lines, otherwise) in [
        ("Cause", cause(story), "no cause was found by Watchkeeper"),
        ("What was done", done(story), "nobody and nothing did anything that was written down"),
        ("What went well", well, "nothing that the data tells"),
        ("What went badly", badly, "nothing that the data tells"),
        ("Actions", actions(story), ""),
    ] {
        out.push(format!("\n## {heading}\n\n"));
        list(&mut out, &lines, otherwise);
    }
    out.concat()
}

fn summary(story: &Story) -> Vec<(&'static str, String)> {
    let it = &story.incident;
    let time = |at: Option<jiff::Timestamp>| {
        let after = |at| duration(seconds_between(it.opened_at, at));
        at.map_or_else(|| "never".to_owned(), |at| format!("{at:.0}, after {}", after(at)))
    };
    let services: Vec<String> = it.services.iter().map(|it| plain(it)).collect();
    let owner = it.owner.as_deref().map_or_else(|| "nobody".to_owned(), plain);
    vec![
        ("priority", format!("{} ({})", it.priority, it.severity.as_str())),
        (
            "services",
            if services.is_empty() { "none named".to_owned() } else { services.join(", ") },
        ),
        ("owner", owner),
        ("opened", format!("{:.0}", it.opened_at)),
        ("acknowledged", time(it.acknowledged_at)),
        ("resolved", time(it.resolved_at)),
        ("alerts", it.alert_count.to_string()),
        ("opened again", counted(u64::from(it.reopen_count), "time")),
    ]
}

fn impact(story: &Story) -> Vec<String> {
    let it = &story.incident;
    let over = it.resolved_at.unwrap_or(story.now);
    let lasted = duration(seconds_between(it.opened_at, over));
    let state =
        if it.resolved_at.is_some() { "It lasted" } else { "It is not over, and has lasted" };
    let mut lines = vec![format!("{state} {lasted}.")];
    if let Some(impacted) = &it.impacted {
        let named: Vec<String> = impacted.items.iter().map(|it| plain(&it.item)).collect();
        if !named.is_empty() {
            let things = counted(impacted.count as u64, "thing");
            lines.push(format!("{things} needed what was in trouble: {}.", named.join(", ")));
        }
    }
    lines.extend(it.sla.iter().map(clock));
    lines.push(format!("{TO_FILL_IN} what users noticed, and how many of them."));
    lines
}

fn clock(it: &SlaClock) -> String {
    let target = match it.target {
        TargetKind::Acknowledge => "acknowledge",
        TargetKind::Resolve => "resolve",
    };
    let promised = duration(u64::from(it.limit_seconds));
    let state = match it.state {
        ClockState::Breached => "was missed",
        ClockState::Met => "was kept",
        ClockState::Running => "is open",
    };
    format!("The promise of {} to {target} within {promised} {state}.", plain(&it.policy))
}

fn detection(story: &Story) -> Vec<String> {
    let it = &story.incident;
    let name = it.labels.get("alertname").unwrap_or("an alert without a name");
    let mut lines = vec![
        format!("The alert {} opened it at {:.0}: {}.", plain(name), it.opened_at, plain(&it.why)),
        format!("The rule was {}.", plain(&it.opened_by.to_string())),
    ];
    let summary = it.annotations.get("summary").or(it.annotations.get("description"));
    lines.extend(summary.map(|it| format!("It said: {}", plain(it))));
    lines.push(match it.acknowledged_at {
        Some(at) => {
            let after = duration(seconds_between(it.opened_at, at));
            format!("Somebody looked after it {after} later.")
        }
        None => "Nobody said that they look after it.".to_owned(),
    });
    lines.push(format!("{TO_FILL_IN} whether users noticed before the alert did."));
    lines
}

fn told(entry: &TimelineEntry) -> String {
    let kind = entry.kind.replace('_', " ");
    if entry.text.is_empty() || entry.text == kind {
        return plain(&kind);
    }
    format!("{}: {}", plain(&kind), plain(&entry.text))
}

fn cause(story: &Story) -> Vec<String> {
    let it = &story.incident;
    let mut lines: Vec<String> = (it.root_causes.iter())
        .map(|it| {
            format!("Likely in {} ({} of 1000): {}", plain(&it.item), it.score, plain(&it.why))
        })
        .collect();
    lines.extend(it.suspect_changes.iter().map(|it| {
        format!("Suspect is the change {} ({} of 1000): {}", it.id, it.score, plain(&it.why))
    }));
    if let Some(problem) = &story.problem {
        let count = counted(problem.incidents.len() as u64, "incident");
        let title = plain(&problem.title);
        lines.push(format!("It is one of {count} of the problem {}: {title}.", problem.id));
        if !problem.cause.is_empty() {
            lines.push(format!("The known cause of that is: {}", plain(&problem.cause)));
        }
    }
    if !lines.is_empty() {
        lines.push(format!("{TO_FILL_IN} what people found."));
    }
    lines
}

fn done(story: &Story) -> Vec<String> {
    let people = story.timeline.iter().filter(|it| !it.by.is_empty() && it.kind != "execution");
    let people = people.map(|it| format!("{:.0} {}, {}", it.at, plain(&it.by), told(it)));
    let runs = story.runs.iter().map(|it| {
        let by = if it.requested_by.is_empty() {
            "by itself".to_owned()
        } else {
            plain(&it.requested_by)
        };
        let steps = counted(it.steps.len() as u64, "step");
        let name = plain(&it.runbook.rule.name);
        let state = it.state.as_str().replace('_', " ");
        format!(
            "{:.0} {} ran {name} ({by}, {steps}): {state}, {}",
            it.created_at,
            it.id,
            plain(&it.why)
        )
    });
    people.chain(runs).collect()
}

/// What went well, and what went badly, as far as the data tells.
fn judgement(story: &Story) -> (Vec<String>, Vec<String>) {
    let it = &story.incident;
    let (mut well, mut badly) = (Vec::new(), Vec::new());
    for one in &it.sla {
        match one.state {
            ClockState::Met => well.push(clock(one)),
            ClockState::Breached => badly.push(clock(one)),
            ClockState::Running => {}
        }
    }
    for run in &story.runs {
        let name = plain(&run.runbook.rule.name);
        let line = format!("The runbook {name} ended as {}.", run.state.as_str().replace('_', " "));
        match run.state {
            ExecutionState::Succeeded => well.push(line),
            ExecutionState::Ineffective
            | ExecutionState::Failed
            | ExecutionState::Undone
            | ExecutionState::Stuck
            | ExecutionState::Blocked
            | ExecutionState::Unknown => badly.push(line),
            ExecutionState::Proposed
            | ExecutionState::WaitingApproval
            | ExecutionState::Running
            | ExecutionState::Verifying
            | ExecutionState::Denied
            | ExecutionState::Aborted
            | ExecutionState::WouldRun => {}
        }
    }
    if it.alert_count > 1 {
        well.push(format!("{} alerts were one incident.", it.alert_count));
    }
    if it.reopen_count > 0 {
        badly.push(format!(
            "It was over and came back {}.",
            counted(u64::from(it.reopen_count), "time")
        ));
    }
    if it.acknowledged_at.is_none() {
        badly.push("Nobody said that they look after it.".to_owned());
    }
    if let Some(problem) = story.problem.as_ref().filter(|it| it.state != ProblemState::Rejected) {
        let line = format!("It had happened before: {}, {}.", problem.id, plain(&problem.title));
        badly.push(line);
        if !problem.workaround.is_empty() {
            well.push(format!("A workaround was known: {}", plain(&problem.workaround)));
        }
    }
    (well, badly)
}

fn actions(story: &Story) -> Vec<String> {
    let mut lines: Vec<String> =
        ["so that it does not happen again", "to see it sooner", "to end it sooner"]
            .iter()
            .map(|it| format!("[ ] {TO_FILL_IN} {it} (who, until when)"))
            .collect();
    if let Some(problem) = &story.problem {
        if problem.cause.is_empty() && problem.workaround.is_empty() {
            lines.push(format!("[ ] Say what is behind {}, or how to live with it.", problem.id));
        }
        if problem.fix.is_none() && problem.state != ProblemState::Resolved {
            lines.push(format!("[ ] Plan the change that removes the cause of {}.", problem.id));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    fn story() -> Story {
        let entry = |kind: &str, by: &str, text: &str| TimelineEntry {
            kind: kind.to_owned(),
            by: by.to_owned(),
            text: text.to_owned(),
            ..samples::timeline_entry()
        };
        let incident = samples::incident();
        let now = incident.closed_at.unwrap();
        Story {
            timeline: vec![
                entry("opened", "", "opened by rule web"),
                entry("note", "bob", "the <b>log</b> was full"),
                entry("resolved", "ada", "emptied it"),
            ],
            runs: vec![samples::execution()],
            problem: Some(samples::problem()),
            incident,
            now,
        }
    }

    #[test]
    fn all_that_is_known_is_told_and_the_rest_is_left_to_people() {
        let text = draft(&story());
        for part in [
            "# Post-mortem: INC-42, Web is down",
            "| resolved | 2026-01-01T00:09:00Z, after 9 min |",
            "- It lasted 9 min.",
            "6 things needed what was in trouble: web.",
            "The alert Down opened it",
            "| 2026-01-01T00:00:00Z | bob | note: the \\<b\\>log\\</b\\> was full |",
            "The known cause of that is: the log is never rotated",
            "ada, resolved: emptied it",
            "A workaround was known: empty it",
            "It had happened before: PRB-7",
            "_To fill in:_ what people found.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("<b>"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let mut bare = story();
        bare.incident.impacted = None;
        bare.incident.sla.clear();
        bare.incident.acknowledged_at = None;
        bare.incident.resolved_at = None;
        (bare.timeline, bare.runs, bare.problem) = (Vec::new(), Vec::new(), None);
        let text = draft(&bare);
        for part in [
            "It is not over, and has lasted 30 min.",
            "no cause was found by Watchkeeper",
            "nobody and nothing did anything",
            "Nobody said that they look after it.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
