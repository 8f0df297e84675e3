//! Why: the stages that led to a verdict, as sentences with the rule that decided.

mod evidence;
mod grouping;
mod holds;
mod objects;

use super::Context;
use super::error::ApiError;
use super::input::{Params, parse_id};
use super::routes::{Answer, Operation};
use super::{alerts, changes, executions, incidents, listing, problems};
use crate::domain::State as Domain;
use crate::domain::alert::{Alert, AlertState, Disposition, Grouping};
use crate::domain::execution::Execution;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::notification::{Notification, NotificationId};
use crate::domain::rules::RuleRef;
use crate::store::Kind;
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use grouping::{alternative, why_grouped};

/// The weight of a fact that decided by itself.
const DECISIVE: i32 = 1000;
/// The weight of a fact that is told for completeness.
const MINOR: i32 = 0;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    vec![Operation::read(
        "/api/v1/explain/{id}",
        "Tells why an alert (by fingerprint), INC-, EXE-, PRB-, CHG- or NTF- is where it is",
        Answer::Json("Explanation"),
        show,
    )]
}

/// Why something is where it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Explanation {
    id: String,
    stages: Vec<Stage>,
    alternative: Option<String>,
    left_out: Vec<String>,
}

/// One stage of its way.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the contract of `explain -o json` names it so")]
struct Stage {
    stage: &'static str,
    verdict: String,
    rule: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    evidence: Vec<Evidence>,
}

/// A fact that counted.
#[derive(Clone, Debug, Serialize)]
struct Evidence {
    kind: &'static str,
    points: i32,
    detail: String,
}

impl Stage {
    fn new(stage: &'static str, verdict: impl Into<String>) -> Self {
        let verdict = verdict.into();
        Self { stage, verdict, rule: None, file: None, line: None, evidence: Vec::new() }
    }

    fn rule(mut self, rule: &RuleRef) -> Self {
        self.rule = Some(rule.name.clone());
        if rule.line > 0 {
            self.file = Some(rule.file.clone());
            self.line = Some(rule.line);
        }
        self
    }

    fn evidence(mut self, kind: &'static str, points: i32, detail: impl Into<String>) -> Self {
        self.evidence.push(Evidence { kind, points, detail: detail.into() });
        self
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Explanation>, ApiError> {
    let explanation = match id.split_once('-').map(|(kind, _)| kind) {
        Some("INC") => {
            let incident = incidents::load(&context, parse_id(&id)?).await?;
            let timeline = incidents::timeline(&context, incident.id).await?;
            let around = around(&context, incident.id).await?;
            objects::incident(&incident, &timeline, &around)
        }
        Some("EXE") => {
            let execution = executions::load(&context, parse_id(&id)?).await?;
            objects::execution(&execution)
        }
        Some("PRB") => objects::problem(&problems::load(&context, parse_id(&id)?).await?),
        Some("CHG") => objects::change(&changes::load(&context, parse_id(&id)?).await?),
        Some("NTF") => {
            let number: NotificationId = parse_id(&id)?;
            objects::notification(&load_notification(&context, number).await?)
        }
        Some(_) => return Err(unknown(&id)),
        None => {
            let fingerprint = id.parse().map_err(|_| unknown(&id))?;
            let alert = alerts::load(&context, fingerprint).await?;
            let incident = match alert.incident {
                Some(incident) => Some(incidents::load(&context, incident).await?),
                None => None,
            };
            let mut around = match alert.incident {
                Some(incident) => around(&context, incident).await?,
                None => Around::default(),
            };
            around.silences = holds_in_files(&context, &alert).await?;
            explain_alert(&alert, incident.as_ref(), &around)
        }
    };
    Ok(Json(explanation))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("there is nothing to explain with the id `{id}`"))
        .hint("an alert's fingerprint, INC-1, EXE-1, PRB-1, CHG-1 or NTF-1")
}

/// What happened for an incident.
#[derive(Default)]
struct Around {
    executions: Vec<Execution>,
    notifications: Vec<Notification>,
    /// The places of silences and maintenance windows that files declare.
    silences: Vec<Arc<RuleRef>>,
}

/// Where the silences and maintenance windows of an alert are written, as far as files declare them.
async fn holds_in_files(context: &Context, alert: &Alert) -> Result<Vec<Arc<RuleRef>>, ApiError> {
    if !alert.decision.is_held() {
        return Ok(Vec::new());
    }
    let all = || alert.decision.silenced_by.iter().chain(alert.decision.maintenance());
    let holds = |name: &str| all().any(|it| **it == *name);
    let look = |state: &Domain| {
        let rules = state.rules.silences.iter().map(|it| it.rule.clone());
        let rules = rules.chain(state.rules.maintenance.iter().map(|it| it.rule.clone()));
        rules.filter(|it| holds(&it.name)).collect()
    };
    Ok(context.handle.read(look).await?)
}

/// Finds what happened for an incident, as far as it is still open.
async fn around(context: &Context, incident: IncidentId) -> Result<Around, ApiError> {
    let look = |state: &Domain| Around {
        executions: state
            .executions
            .values()
            .filter(|it| it.incident == Some(incident))
            .cloned()
            .collect(),
        notifications: state
            .notifications
            .values()
            .filter(|it| it.incident == Some(incident))
            .cloned()
            .collect(),
        silences: Vec::new(),
    };
    Ok(context.handle.read(look).await?)
}

async fn load_notification(
    context: &Context,
    id: NotificationId,
) -> Result<Notification, ApiError> {
    let open = context.handle.read(|state| state.notifications.get(&id).cloned()).await?;
    match open {
        Some(notification) => Ok(notification),
        None => listing::find(context, Kind::Notification, &id.to_string()).await,
    }
}

/// What became of an alert and why, in a sentence.
pub(super) fn why_alert(alert: &Alert) -> String {
    why_of(alert, alert.disposition())
}

/// Why an alert's way ended so, in a sentence.
pub(super) fn why_of(alert: &Alert, disposition: Disposition) -> String {
    let incident = incident_name(alert);
    let silences = || alert.decision.silenced_by.join(", ");
    let rule = || match &alert.decision.rule {
        Some(rule) => format!(" by the rule {rule}"),
        None => String::new(),
    };
    match disposition {
        Disposition::Refreshed => "it was known already, and nothing about it is new".to_owned(),
        Disposition::Silenced => format!("held back by the silence {}", silences()),
        Disposition::Inhibited => match alert.decision.inhibited_by() {
            Some(it) => holds::why_inhibited(it),
            None => "held back by another alert".to_owned(),
        },
        Disposition::InMaintenance => {
            format!("held back by the maintenance {}", alert.decision.maintenance().join(", "))
        }
        Disposition::Flapping => {
            format!("comes and goes; {incident} stays open for it: {}", why_grouped(alert))
        }
        Disposition::Joined => format!("joined {incident}{}: {}", rule(), why_grouped(alert)),
        Disposition::Opened => format!("opened {incident}{}: {}", rule(), why_grouped(alert)),
        Disposition::Reopened => {
            format!("opened {incident} again{}: {}", rule(), why_grouped(alert))
        }
        Disposition::Resolved => "its sources said that it is over".to_owned(),
        Disposition::Expired => "its sources fell silent about it".to_owned(),
        Disposition::Rejected => "it was refused".to_owned(),
    }
}

fn incident_name(alert: &Alert) -> String {
    alert.incident.map_or_else(|| "no incident".to_owned(), |it| it.to_string())
}

/// Tells an alert's way through the stages.
fn explain_alert(alert: &Alert, incident: Option<&Incident>, around: &Around) -> Explanation {
    let mut stages =
        vec![received(alert), deduplicated(alert), holds::silenced(alert, &around.silences)];
    stages.extend(alert.decision.inhibited_by().map(holds::inhibited));
    stages.extend(
        alert.decision.maintenance().iter().map(|it| holds::in_maintenance(it, &around.silences)),
    );
    let is_held = alert.decision.disposition.is_held();
    if !is_held {
        stages.push(correlated(alert));
        stages.extend(incident.map(objects::incident_stage));
        stages.extend(around.executions.iter().map(objects::runbook_stage));
        stages.extend(around.notifications.iter().map(objects::notify_stage));
    }
    stages.extend(holds::restless(alert));
    stages.extend(ended(alert));
    let left_out = if is_held {
        vec!["an alert that is held back is not correlated, and nobody is told of it".to_owned()]
    } else {
        objects::left_out(around)
    };
    let id = alert.fingerprint.to_string();
    Explanation { id, stages, alternative: alternative(alert), left_out }
}

fn received(alert: &Alert) -> Stage {
    let sources: Vec<&str> = alert.sources().collect();
    let verdict = format!("at {:.0} from {}", alert.received_at, sources.join(", "));
    alert.reports.iter().fold(Stage::new("received", verdict), |stage, it| {
        let word = if it.firing { "fires" } else { "is over" };
        let until = it.expires_at.map_or_else(String::new, |at| format!(", good until {at:.0}"));
        let detail =
            format!("{} last said at {:.0} that it {word}{until}", it.source, it.received_at);
        stage.evidence("source", MINOR, detail)
    })
}

fn deduplicated(alert: &Alert) -> Stage {
    let verdict = match alert.count {
        0 | 1 => "it is new: no alert with these labels was known".to_owned(),
        count => format!("known by its labels; it began to fire {count} times"),
    };
    let detail = format!("the fingerprint {} of {}", alert.fingerprint, alert.labels);
    let stage = Stage::new("deduplicate", verdict).evidence("labels", DECISIVE, detail);
    if !alert.is_new {
        return stage;
    }
    stage.evidence("new_kind", MINOR, "the first of its kind since rates have been watched")
}

fn correlated(alert: &Alert) -> Stage {
    let verdict = match alert.decision.disposition {
        Disposition::Opened => format!("opened {}", incident_name(alert)),
        Disposition::Reopened => format!("opened {} again", incident_name(alert)),
        Disposition::Joined => format!("joined {}", incident_name(alert)),
        Disposition::Refreshed
        | Disposition::Silenced
        | Disposition::Inhibited
        | Disposition::InMaintenance
        | Disposition::Flapping
        | Disposition::Resolved
        | Disposition::Expired
        | Disposition::Rejected => format!("in {}", incident_name(alert)),
    };
    let stage = Stage::new("correlate", verdict);
    let stage = match &alert.decision.grouping {
        Some(Grouping::Evidence(it)) => evidence::pieces(stage, it),
        Some(Grouping::Apart { nearest: Some(it) }) => {
            evidence::pieces(stage, it).evidence("apart", MINOR, why_grouped(alert))
        }
        _ => stage.evidence("grouping", DECISIVE, why_grouped(alert)),
    };
    let stage = match &alert.decision.passed {
        Some(it) => {
            let detail = format!(
                "the rule {} would say {}, but `require`: {}",
                it.rule, it.incident, it.why
            );
            stage.evidence("require", MINOR, detail)
        }
        None => stage,
    };
    match &alert.decision.rule {
        Some(rule) if rule.name == "by evidence" => stage.rule(rule),
        Some(rule) => {
            stage.rule(rule).evidence("rule", DECISIVE, "it is the first rule whose matchers hold")
        }
        None => stage,
    }
}

fn ended(alert: &Alert) -> Option<Stage> {
    let when = alert.ends_at.map_or_else(String::new, |it| format!(" at {it:.0}"));
    match alert.state {
        AlertState::Firing => None,
        AlertState::Resolved => {
            Some(Stage::new("end", format!("resolved{when}: the last of its sources said so")))
        }
        AlertState::Expired => {
            Some(Stage::new("end", format!("expired{when}: its sources fell silent")))
        }
    }
}

/// A length of time in words.
fn length(seconds: u64) -> String {
    match seconds {
        0 => "less than a second".to_owned(),
        seconds => format!("{seconds} s"),
    }
}

/// A count with its noun.
fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::super::samples;
    use super::*;

    fn stages(explanation: &Explanation) -> Vec<&'static str> {
        explanation.stages.iter().map(|it| it.stage).collect()
    }

    #[test]
    fn an_alert_is_told_stage_by_stage() {
        let around = Around {
            executions: vec![samples::execution()],
            notifications: vec![samples::notification()],
            silences: Vec::new(),
        };
        let mut alert = samples::alert();
        alert.decision.silenced_by.clear();
        let told = explain_alert(&alert, Some(&samples::incident()), &around);
        let expected =
            ["received", "deduplicate", "silence", "correlate", "incident", "runbook", "notify"];
        assert_eq!(stages(&told), expected);
        let json = serde_json::to_value(&told).unwrap();
        assert_schema("Explanation", &json);
        assert_schema("Stage", &json["stages"][3]);
        assert_schema("Evidence", &json["stages"][3]["evidence"][0]);
        assert_eq!(json["stages"][3]["verdict"], "opened INC-42");
        assert_eq!(json["stages"][3]["rule"], "web");
        assert_eq!(json["stages"][3]["file"], "shop.yaml");
        assert_eq!(json["stages"][3]["line"], 7);
        assert!(!json.to_string().contains("sesame"), "a secret is told: {json}");
    }

    #[test]
    fn a_silenced_alert_goes_no_further() {
        let mut alert = samples::alert();
        alert.decision.disposition = Disposition::Silenced;
        alert.incident = None;
        let told = explain_alert(&alert, None, &Around::default());
        assert_eq!(stages(&told), ["received", "deduplicate", "silence"]);
        assert_eq!(told.left_out.len(), 1);
        let place = RuleRef { name: "5e1f".to_owned(), file: "shop.yaml".to_owned(), line: 3 };
        let around = Around { silences: vec![Arc::new(place)], ..Around::default() };
        let told = explain_alert(&alert, None, &around);
        assert_eq!(
            (told.stages[2].file.as_deref(), told.stages[2].line),
            (Some("shop.yaml"), Some(3))
        );
        assert_eq!(why_alert(&alert), "held back by the silence 5e1f");
    }

    #[test]
    fn each_grouping_has_its_sentence() {
        let cases = [
            (Grouping::First, "no open incident", false),
            (
                Grouping::WindowOver {
                    previous: IncidentId(3),
                    gap_seconds: 400,
                    age_seconds: 900,
                },
                "INC-3 has the same group, but its last alert came 400 s",
                true,
            ),
            (Grouping::SameGroup { gap_seconds: 20 }, "20 s before", true),
            (
                Grouping::Near { gap_seconds: 9, path: vec!["a".to_owned(), "b".to_owned()] },
                "near (a > b)",
                false,
            ),
            (Grouping::Far { previous: IncidentId(3) }, "the last is INC-3", false),
            (Grouping::Locked { previous: IncidentId(3) }, "INC-3 would have taken it", true),
            (Grouping::Returned, "was in this incident before", false),
            (Grouping::ReopenWindow { resolved_seconds: 60 }, "resolved only 60 s before", true),
            (Grouping::Moved { by: "ada".to_owned() }, "ada moved it", false),
            (
                Grouping::Parted { from: IncidentId(3), why: "nothing holds it".to_owned() },
                "it was split off INC-3: nothing holds it",
                true,
            ),
        ];
        for (grouping, words, has_alternative) in cases {
            let mut alert = samples::alert();
            alert.decision.grouping = Some(grouping.clone());
            let sentence = why_alert(&alert);
            assert!(sentence.contains(words), "{grouping:?}: {sentence}");
            assert!(sentence.contains("web (shop.yaml:7)"), "{sentence}");
            assert_eq!(alternative(&alert).is_some(), has_alternative, "{grouping:?}");
        }
    }

    #[test]
    fn an_end_is_told() {
        let mut alert = samples::alert();
        for (state, word) in [(AlertState::Resolved, "resolved"), (AlertState::Expired, "expired")]
        {
            alert.state = state;
            let told = explain_alert(&alert, None, &Around::default());
            assert!(told.stages.last().unwrap().verdict.starts_with(word), "{told:?}");
        }
    }
}
