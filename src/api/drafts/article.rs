//! The draft of an article from a problem: what is known of it, with front matter, ready to be kept.

use super::Story;
use super::markdown::{counted, duration, list, plain};
use crate::domain::problem::Problem;
use serde_json::json;
use std::collections::BTreeSet;

/// So many alerts and places stand in the front matter.
const ENTRIES_MAX: usize = 10;

/// Writes the draft. Texts in the front matter are JSON, which YAML reads.
pub(super) fn draft(problem: &Problem, stories: &[Story]) -> String {
    let openings = problem.figures.openings.iter().map(|it| it.symptom.alertname.as_str());
    let alerts: BTreeSet<&str> = openings.filter(|it| !it.is_empty()).take(ENTRIES_MAX).collect();
    let places = problem.figures.places.iter().map(|(place, _)| place.as_str());
    let items: BTreeSet<&str> = places.filter(|it| !it.is_empty()).take(ENTRIES_MAX).collect();
    let mut out = vec!["---\n".to_owned()];
    out.push(format!("title: {}\n", json!(problem.title)));
    out.push(format!("alerts: {}\n", json!(alerts)));
    out.push(format!("items: {}\n", json!(items)));
    if let Some(runbook) = &problem.runbook {
        out.push(format!("runbook: {}\n", json!(runbook)));
    }
    out.push(format!("---\n\n# {}\n\n", plain(&problem.title)));
    out.push(format!("A draft from {}: check it, and fill in what is missing.\n", problem.id));
    for (heading, lines, otherwise) in [
        ("How it shows", shows(problem), ""),
        ("Cause", told(&problem.cause), "_To fill in:_ what is behind it."),
        ("What to do", told(&problem.workaround), "_To fill in:_ how to live with it."),
        ("What was done before", done(stories), "nothing that was written down"),
    ] {
        out.push(format!("\n## {heading}\n\n"));
        list(&mut out, &lines, otherwise);
    }
    out.concat()
}

fn told(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|it| !it.trim().is_empty());
    lines.map(plain).collect()
}

fn shows(problem: &Problem) -> Vec<String> {
    let figures = &problem.figures;
    let count = counted(problem.incidents.len() as u64, "incident");
    let mut lines = vec![format!(
        "{count} from {:.0} to {:.0}, {} in the last 30 days, {} of impact.",
        problem.first_seen,
        problem.last_seen,
        figures.recent.days_30,
        duration(figures.impact_minutes * 60)
    )];
    lines.extend(figures.rhythm.as_ref().map(|it| format!("It comes {}.", plain(&it.text))));
    lines.extend(problem.why.iter().map(|it| plain(it)));
    lines
}

/// What people and runbooks did about its incidents.
fn done(stories: &[Story]) -> Vec<String> {
    let of = |story: &Story| {
        let id = story.incident.id;
        let words = story.timeline.iter().filter(|it| {
            !it.by.is_empty()
                && matches!(it.kind.as_str(), "note" | "resolved")
                && !it.text.is_empty()
        });
        let words = words.map(|it| format!("{id}: {} ({})", plain(&it.text), plain(&it.by)));
        let runs = story.runs.iter().map(|it| {
            let name = plain(&it.runbook.rule.name);
            format!("{id}: the runbook {name} ended as {}", it.state.as_str().replace('_', " "))
        });
        words.chain(runs).collect::<Vec<_>>()
    };
    stories.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;
    use crate::config;
    use crate::domain::incident::TimelineEntry;

    #[test]
    fn a_draft_can_be_kept_as_it_is() {
        let resolved = TimelineEntry {
            kind: "resolved".to_owned(),
            by: "ada".to_owned(),
            text: "emptied it".to_owned(),
            ..samples::timeline_entry()
        };
        let incident = samples::incident();
        let now = incident.opened_at;
        let story =
            Story { incident, timeline: vec![resolved], runs: Vec::new(), problem: None, now };
        let mut problem = samples::problem();
        problem.title = "it's \"down\": web".to_owned();
        let text = draft(&problem, &[story]);
        let article = config::read_article(None, &text).value.expect("it can be read");
        assert_eq!(article.title, problem.title);
        assert_eq!((article.alerts, article.items), (vec!["Down".into()], vec!["web".into()]));
        assert_eq!(article.runbook.as_deref(), Some("empty-log"));
        for part in ["the log is never rotated", "empty it", "INC-42: emptied it (ada)"] {
            assert!(article.text.contains(part), "{part} in {text}");
        }
    }
}
