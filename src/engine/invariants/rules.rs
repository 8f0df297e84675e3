//! The rules of the simulation, in five variants.

use crate::domain::flapping::FlappingRule;
use crate::domain::incident::Severity;
use crate::domain::matcher::Matchers;
use crate::domain::rules::{
    Action, Algorithm, Correlation, FieldWeights, Guards, Idempotency, Inhibition, MaintenanceRule,
    Mode, Occasion, PriorityRule, ProblemDetection, Receiver, Route, RuleRef, RuleSet, Runbook,
    RunbookMode, SecretText, SilenceRule, SlaPolicy, Step, Trigger, TriggerEvent, Verify,
};
use crate::domain::service_level::TargetKind;
use crate::domain::time_interval::{Range, TimeInterval, TimeIntervals};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn rule(name: &str, variant: u8) -> Arc<RuleRef> {
    Arc::new(RuleRef {
        name: name.to_owned(),
        file: "a.yaml".to_owned(),
        line: u32::from(variant) + 1,
    })
}

pub(super) fn matchers(text: &str) -> Matchers {
    text.parse().unwrap()
}

/// The rules, as they are or as they are changed to.
pub(super) fn variant(variant: u8) -> Arc<RuleSet> {
    let targets = |seconds: u32| {
        BTreeMap::from([(TargetKind::Acknowledge, seconds), (TargetKind::Resolve, seconds * 3)])
    };
    Arc::new(RuleSet {
        revision: variant.to_string(),
        mode: Mode::Act,
        resolve_timeout_seconds: 120,
        correlations: correlations(variant),
        ignored_evidence: BTreeSet::new(),
        priorities: vec![PriorityRule {
            rule: rule("one", variant),
            matchers: matchers("service=\"a\""),
            impact: Some(1),
            urgency: None,
        }],
        sla_policies: vec![SlaPolicy {
            rule: rule("gold", variant),
            matchers: matchers("service!=\"c\""),
            warn_at_percent: vec![50, 80],
            targets: BTreeMap::from([(1, targets(60)), (2, targets(120)), (3, targets(300))]),
        }],
        silences: file_silences(variant),
        receivers: vec![Receiver {
            rule: rule("hook", variant),
            webhook_url: SecretText::Text("http://localhost/".to_owned()),
        }],
        routes: vec![route(variant)],
        runbooks: (0..4).map(runbook).collect(),
        problem_detection: vec![ProblemDetection {
            rule: rule("default", variant),
            cron: "0 */6 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            look_back_seconds: 86_400,
            algorithm: Algorithm::Dbscan,
            incidents_min: 3,
            tolerance_thousandths: None,
            weights: FieldWeights::default(),
            seed: 7,
        }],
        inhibitions: inhibitions(variant),
        maintenance: maintenance(variant),
        heartbeats: super::beats::declared(variant),
        ..RuleSet::default()
    })
}

/// One receiver is told of everything; the last variants are mute at times.
fn route(variant: u8) -> Route {
    Route {
        rule: rule("all", variant),
        matchers: matchers(""),
        // The step of a runbook names its receiver itself.
        on: Occasion::ALL.into_iter().filter(|it| *it != Occasion::RunbookNote).collect(),
        receiver: "hook".to_owned(),
        mute_time_intervals: if variant < 3 {
            Vec::new()
        } else {
            vec![minutes(variant, 485, 500)]
        },
        active_time_intervals: Vec::new(),
        decide_after_seconds: u32::from(variant % 2) * 30,
    }
}

/// The rules of the last variant have alerts that stand on both sides.
fn inhibitions(variant: u8) -> Vec<Inhibition> {
    let inhibition = |name: &str, source: &str, target: &str, wait_seconds| Inhibition {
        rule: rule(name, variant),
        source_matchers: matchers(source),
        target_matchers: matchers(target),
        equal: vec![("service".to_owned(), "service".to_owned())],
        topology: None,
        wait_seconds,
    };
    match variant {
        0..3 => Vec::new(),
        3 => vec![inhibition("severe", "severity=\"critical\"", "severity!=\"critical\"", 0)],
        _ => vec![
            inhibition("names", "alertname=~\"A|B\"", "alertname!=\"C\"", 30),
            Inhibition {
                equal: vec![("alertname".to_owned(), "severity".to_owned())],
                ..inhibition("waits", "alertname=\"C\"", "service=\"c\"", 10)
            },
        ],
    }
}

/// Some minutes of each day; the histories begin in minute 480.
fn minutes(variant: u8, first: i16, last: i16) -> Arc<TimeIntervals> {
    let times = vec![Range { first, last }];
    let intervals = vec![TimeInterval { times, ..TimeInterval::default() }];
    Arc::new(TimeIntervals { rule: rule("minutes", variant), intervals })
}

fn maintenance(variant: u8) -> Vec<MaintenanceRule> {
    let interval = TimeInterval {
        times: vec![Range { first: 0, last: 600 }, Range { first: 605, last: 1440 }],
        ..TimeInterval::default()
    };
    let named = TimeIntervals { rule: rule("mostly", variant), intervals: vec![interval] };
    let window = |name: &str, over: &str, flexible_seconds| MaintenanceRule {
        rule: rule(name, variant),
        matchers: matchers(over),
        owner: "ann".to_owned(),
        reason: "a test".to_owned(),
        starts_at: None,
        ends_at: Timestamp::from_second(1_800_000_000 + 5000 * i64::from(variant)).ok(),
        time_intervals: vec![Arc::new(named.clone())],
        flexible_seconds,
    };
    match variant {
        0..3 => Vec::new(),
        3 => vec![window("fixed", "alertname=\"B\"", None)],
        _ => vec![window("flexible", "service=\"b\"", Some(90))],
    }
}

fn correlations(variant: u8) -> Vec<Correlation> {
    let correlation = |name: &str, over: &str, group_by: &str, severity| Correlation {
        rule: rule(name, variant),
        matchers: matchers(over),
        group_by: vec![group_by.to_owned()],
        topology: None,
        require: String::new(),
        gap_seconds: 60,
        max_seconds: 300,
        title: "{{ labels.alertname }}".to_owned(),
        severity,
        reopen_within_seconds: 120 * u32::from(variant),
        flapping: FlappingRule { start_changes: 4, stop_changes: 2, half_life_seconds: 90 },
        hold_open_seconds: 20 * u32::from(variant > 1),
        auto_resolve_seconds: 300 * u32::from(variant % 3),
    };
    let fixed = correlation("fixed", "service=\"c\"", "alertname", Some(Severity::Info));
    let rest = correlation("rest", "", "service", None);
    match variant {
        0 | 1 => vec![fixed, rest],
        _ => vec![rest],
    }
}

fn file_silences(variant: u8) -> Vec<SilenceRule> {
    let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
    if variant == 0 {
        return Vec::new();
    }
    vec![SilenceRule {
        rule: rule("file", variant),
        matchers: matchers("alertname=\"A\""),
        owner: "ann".to_owned(),
        reason: "a test".to_owned(),
        starts_at: at(100),
        ends_at: at(500 * i64::from(variant)),
        time_intervals: if variant < 3 { Vec::new() } else { vec![minutes(variant, 482, 490)] },
    }]
}

fn runbook(number: u8) -> Runbook {
    let (mode, idempotency) = match number {
        0 => (RunbookMode::Auto, Idempotency::Idempotent),
        1 => (RunbookMode::Auto, Idempotency::Once),
        2 => (RunbookMode::Approve, Idempotency::CheckThenAct),
        _ => (RunbookMode::Suggest, Idempotency::Idempotent),
    };
    let command = || Action::command(vec!["true".to_owned()]);
    let tried = |step: Step| Step {
        timeout_seconds: 10,
        attempts: 3,
        backoff_seconds: 5,
        idempotency,
        ..step
    };
    let step = |id: &str| Step {
        undo: (number != 1).then(|| Box::new(tried(Step::new(id, command())))),
        look: (number == 2).then(command),
        continue_on_error: number == 3 && id == "one",
        ..tried(Step::new(id, command()))
    };
    Runbook {
        rule: rule(&format!("runbook-{number}"), 0),
        description: String::new(),
        mode,
        approval: None,
        triggers: vec![Trigger::new(
            TriggerEvent::IncidentOpened,
            matchers(["service=\"a\"", "service=\"b\"", "", ""][usize::from(number)]),
        )],
        parameters: BTreeMap::new(),
        lock: number.is_multiple_of(2).then(|| "shared".to_owned()),
        guards: Guards {
            cooldown_seconds: 30,
            cooldown_seconds_max: 120,
            runs_max: 5,
            runs_per_seconds: 600,
            breaker_per_seconds: 900,
            at_once: Some(1),
            ..Guards::default()
        },
        timeout_seconds: (number == 3).then_some(20),
        manual_seconds: None,
        steps: if number == 1 {
            vec![step("one"), step("two")]
        } else {
            vec![step("one"), Step::new("wait", Action::Wait { seconds: 15 }), step("two")]
        },
        always: if number == 0 { vec![step("last")] } else { Vec::new() },
        verify: (number < 3).then(|| Verify {
            settle_seconds: 20,
            within_seconds: 120,
            alerts_resolved: number < 2,
            looks: if number == 1 { Vec::new() } else { vec![command()] },
            every_seconds: 15,
            hold_seconds: 10,
            undo: number == 0,
            escalate: true,
        }),
    }
}
