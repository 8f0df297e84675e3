//! Objects with every field filled, for the tests of the views.

use crate::domain::Stop;
use crate::domain::alert::{Alert, AlertState, Decision, Disposition, Grouping, Report};
use crate::domain::change::{Change, ChangeId, ReceivedChange};
use crate::domain::event::CorrelationDomain;
use crate::domain::execution::{
    Answer, Blocked, Check, Context, Execution, ExecutionId, ExecutionState, Item, Part, Question,
    StepRun, StepState,
};
use crate::domain::freeze::InFreeze;
use crate::domain::impact::{Impacted, ImpactedItem};
use crate::domain::incident::{
    Incident, IncidentId, IncidentState, Priority, Severity, Symptom, TimelineEntry,
};
use crate::domain::item::ItemKind;
use crate::domain::label::Labels;
use crate::domain::notification::{Notification, NotificationId, NotificationState};
use crate::domain::problem::{
    Figures, How, Interval, Membership, Opening, Problem, ProblemId, ProblemState, Recent, Rhythm,
    SharedTrait, Trend,
};
use crate::domain::rules::{
    Action, Approval, ApprovalRole, Guards, Idempotency, Occasion, Parameter, RuleRef, Runbook,
    RunbookMode, SecretText, Step, Trigger, TriggerEvent, Verify,
};
use crate::domain::service_level::{ClockState, SlaClock, TargetKind};
use crate::domain::silence::Silence;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Timestamp::from_second(start.as_second() + minutes * 60).unwrap()
}

fn rule(name: &str, line: u32) -> Arc<RuleRef> {
    Arc::new(RuleRef { name: name.to_owned(), file: "shop.yaml".to_owned(), line })
}

fn labels() -> Labels {
    Labels::from_pairs([("alertname", "Down"), ("service", "shop"), ("severity", "critical")])
}

pub(super) fn alert() -> Alert {
    Alert {
        fingerprint: labels().fingerprint(),
        labels: labels(),
        annotations: Labels::from_pairs([("summary", "<b>it is down</b>")]),
        generator_url: "http://prometheus/graph".into(),
        state: AlertState::Firing,
        starts_at: at(0),
        ends_at: Some(at(5)),
        received_at: at(0),
        updated_at: at(1),
        reports: vec![Report {
            source: "prometheus".into(),
            firing: true,
            expires_at: Some(at(5)),
            received_at: at(1),
        }],
        count: 1,
        incident: Some(IncidentId(42)),
        joined_at: None,
        has_led: false,
        is_new: false,
        decision: Decision {
            at: at(0),
            disposition: Disposition::Opened,
            silenced_by: vec!["5e1f".into()],
            silences_checked: 2,
            held: None,
            rule: Some(rule("web", 7)),
            passed: None,
            grouping: Some(Grouping::First),
        },
        unrest: None,
        page: 1,
        due_at: None,
    }
}

pub(super) fn incident() -> Incident {
    Incident {
        id: IncidentId(42),
        correlation_domain: CorrelationDomain(0),
        title: "Web is down".to_owned(),
        severity: Severity::Critical,
        impact: 3,
        urgency: 1,
        priority: Priority::new(3, 1),
        state: IncidentState::Acknowledged,
        services: BTreeSet::from(["shop".to_owned()]),
        owner: Some("Ada".to_owned()),
        opened_at: at(0),
        acknowledged_at: Some(at(1)),
        resolved_at: Some(at(9)),
        closed_at: Some(at(30)),
        last_joined_at: at(0),
        alert_count: 1,
        firing_count: 1,
        reopen_count: 0,
        paused_milliseconds: 0,
        paused_before_acknowledged_milliseconds: 0,
        labels: labels(),
        annotations: Labels::from_pairs([("summary", "down")]),
        first_alert: labels().fingerprint(),
        group: Labels::from_pairs([("cluster", "eu")]),
        opened_by: rule("web", 7),
        reopen_within_seconds: 900,
        why: "no open incident had this group".to_owned(),
        symptoms: Vec::new(),
        root_causes: Vec::new(),
        suspect_changes: Vec::new(),
        impacted: Some(Box::new(Impacted {
            count: 6,
            items: vec![ImpactedItem {
                item: "web".to_owned(),
                kind: ItemKind::Component,
                hops: 1,
                path: vec!["shop".to_owned(), "web".to_owned()],
                owner: Some("ada".to_owned()),
                tier: Some(2),
            }],
            is_in_use: true,
            ..Impacted::default()
        })),
        sla: vec![SlaClock {
            policy: "gold".into(),
            target: TargetKind::Resolve,
            state: ClockState::Running,
            limit_seconds: 3600,
            elapsed_milliseconds: 90_000,
            running_since: Some(Timestamp::from_second(at(1).as_second() + 30).unwrap()),
            warned_percent: vec![50],
            warn_at_percent: vec![50, 80],
            due_at: Some(at(60)),
            ended_at: Some(at(60)),
        }],
        executions: vec![ExecutionId(9)],
        problem: Some(ProblemId(7)),
        acted_on: false,
        parent: Some(IncidentId(40)),
        children: BTreeSet::new(),
        merged_into: Some(IncidentId(41)),
        locked_by: None,
        is_split: false,
        is_arranged: false,
        look_for_parts_at: None,
        bridges: BTreeMap::new(),
    }
}

pub(super) fn timeline_entry() -> TimelineEntry {
    TimelineEntry {
        at: at(0),
        kind: "opened".to_owned(),
        by: "ada".to_owned(),
        text: "opened by rule web".to_owned(),
        alerts: vec![labels().fingerprint()],
    }
}

pub(super) fn silence() -> Silence {
    Silence {
        id: "5e1f".into(),
        matchers: "host=\"a\"".parse().unwrap(),
        starts_at: at(0),
        ends_at: at(60),
        updated_at: at(0),
        created_by: "ada".to_owned(),
        comment: "planned work".to_owned(),
        from_file: false,
        time_intervals: Vec::new(),
        alert_count: 3,
        warned_at: None,
    }
}

pub(super) fn problem() -> Problem {
    Problem {
        id: ProblemId(7),
        title: "Web goes down".to_owned(),
        state: ProblemState::Proposed,
        incidents: BTreeSet::from([IncidentId(42), IncidentId(3)]),
        first_seen: at(0),
        last_seen: at(10),
        detected_at: at(20),
        updated_at: at(20),
        period_seconds: Some(600),
        next_expected_at: Some(at(30)),
        confidence: 820,
        by_chance: false,
        why: vec!["alertname=Down in 2 of 2".to_owned()],
        detection: "default".to_owned(),
        reason: "known".to_owned(),
        linked: BTreeSet::from([IncidentId(3)]),
        merged_into: None,
        cause: "the log is never rotated".to_owned(),
        workaround: "empty it".to_owned(),
        runbook: Some("empty-log".to_owned()),
        fix: Some(ChangeId(3)),
        resolved_at: Some(at(40)),
        reopen_count: 1,
        warned_after: None,
        figures: figures(),
    }
}

/// All figures, so that each is shown.
fn figures() -> Figures {
    let symptom = Symptom { alertname: "Down".to_owned(), place: "web".to_owned() };
    Figures {
        occurrences: 2,
        recent: Recent { days_7: 1, days_30: 2, days_90: 2 },
        rhythm: Some(Rhythm {
            text: "daily around 03:00 UTC".to_owned(),
            spread_minutes: 9,
            chance_ppm: 20,
        }),
        next_expected: Some(Interval { from: at(29), until: at(31) }),
        trend: Some(Trend { earlier: 1, later: 1, chance_ppm: 1_000_000 }),
        impact_minutes: 12,
        places: vec![("web".to_owned(), 2)],
        traits: vec![SharedTrait {
            text: "the alert Down".to_owned(),
            inside: 2,
            of: 2,
            elsewhere_ppm: 50_000,
        }],
        openings: vec![Opening { symptom, count: 2, of: 2 }],
        members: BTreeMap::from([(IncidentId(42), Membership { how: How::Alike, points: 930 })]),
        ..Figures::default()
    }
}

pub(super) fn change() -> Change {
    Change {
        id: ChangeId(3),
        source: "github".into(),
        received_at: at(5),
        updated_at: at(6),
        heard_at: at(6),
        freezes: vec![InFreeze { freeze: "christmas".to_owned(), allowed: false }],
        told: ReceivedChange {
            external_id: "deployment 7".to_owned(),
            time: Some(at(4)),
            title: "deployment of shop to production".to_owned(),
            service: "shop".to_owned(),
            version: "1.2".to_owned(),
            author: "ada".to_owned(),
            ..ReceivedChange::default()
        },
    }
}

pub(super) fn runbook() -> Runbook {
    Runbook {
        rule: rule("restart", 20),
        description: "Restarts a unit".to_owned(),
        mode: RunbookMode::Approve,
        approval: None,
        triggers: vec![Trigger {
            when: "true".to_owned(),
            ..Trigger::new(TriggerEvent::IncidentOpened, "alertname=\"Down\"".parse().unwrap())
        }],
        parameters: BTreeMap::from([(
            "unit".to_owned(),
            Parameter { value: "{{ labels.service }}".to_owned(), pattern: "^[a-z]+$".to_owned() },
        )]),
        lock: Some("{{ parameters.unit }}".to_owned()),
        guards: Guards::default(),
        steps: vec![Step {
            idempotency: Idempotency::Idempotent,
            ..Step::new("restart", command())
        }],
        timeout_seconds: None,
        manual_seconds: Some(900),
        always: vec![Step::new("tidy", command())],
        verify: Some(Verify { within_seconds: 60, alerts_resolved: true, ..Verify::default() }),
    }
}

fn command() -> Action {
    Action::command(["systemctl", "restart", "web"].map(str::to_owned).to_vec())
}

pub(super) fn execution() -> Execution {
    let step = StepRun {
        id: "restart".to_owned(),
        part: Part::Step,
        item: Some(Item { name: "host".to_owned(), value: "web-1".to_owned(), place: 1 }),
        child: Some(ExecutionId(10)),
        state: StepState::Succeeded,
        action: Some(command()),
        attempts: 1,
        effect: None,
        retry_at: Some(at(2)),
        looking: false,
        output_tail: "done".to_owned(),
        detail: "exit code 0".to_owned(),
        exit_code: Some(0),
        started_at: Some(at(1)),
        ended_at: Some(at(2)),
    };
    let request = Action::Http {
        method: "POST".to_owned(),
        url: "http://127.0.0.1:8080/check".to_owned(),
        headers: BTreeMap::from([("authorization".to_owned(), "sesame".to_owned())]),
        body: None,
        expect_status: vec![200],
    };
    let check = StepRun { id: "check".to_owned(), action: Some(request), ..step.clone() };
    Execution {
        id: ExecutionId(9),
        runbook: Arc::new(runbook()),
        mode: RunbookMode::Approve,
        incident: Some(IncidentId(42)),
        parent: Some(ExecutionId(8)),
        change: Some(ChangeId(3)),
        state: ExecutionState::Blocked,
        blocked_by: Some(Blocked {
            guard: "cooldown".to_owned(),
            reason: "it ran 3 minutes ago".to_owned(),
        }),
        is_emergency: false,
        parameters: BTreeMap::from([("unit".to_owned(), "web".to_owned())]),
        context: Context::default(),
        lock: "web".to_owned(),
        steps: vec![step, check],
        requested_by: "ada".to_owned(),
        decided_by: "bob".to_owned(),
        checks: vec![Check { guard: "lock".to_owned(), reason: None }],
        question: Some(Question {
            approval: Approval { people: 2, ..Approval::default() },
            step: Some(0),
            expires_at: Some(at(9)),
            remind_at: None,
            yes: vec!["bob".to_owned()],
        }),
        answers: vec![Answer {
            by: "bob".to_owned(),
            role: Some(ApprovalRole::Admin),
            at: at(1),
            yes: true,
            step: Some("restart".to_owned()),
        }],
        created_at: at(0),
        started_at: Some(at(1)),
        ended_at: Some(at(2)),
        deadline: None,
        steps_done_at: Some(at(2)),
        look_at: None,
        holding_since: None,
        ending: None,
        alerts_resolved: false,
        why: "a guard held it back".to_owned(),
    }
}

pub(super) fn notification() -> Notification {
    Notification {
        id: NotificationId(4),
        route: rule("routes[0]", 30),
        receiver: "hook".to_owned(),
        url: SecretText::Text("http://hook/sesame".to_owned()),
        occasion: Occasion::Opened,
        incident: Some(IncidentId(42)),
        alertname: Some("Down".into()),
        body: "{}".into(),
        muted: None,
        state: NotificationState::Pending,
        attempts: 2,
        created_at: at(0),
        retry_at: Some(at(3)),
        ended_at: None,
        detail: "status 500".to_owned(),
    }
}

pub(super) fn stop() -> Stop {
    Stop { by: "ada".to_owned(), at: at(0), reason: "it goes in circles".to_owned() }
}
