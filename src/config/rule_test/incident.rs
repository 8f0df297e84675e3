//! Incidents in a test: what people do with them, and what is expected of them.

use super::labels;
use super::problem::number;
use crate::config::fields::Fields;
use crate::config::reader::Reader;
use crate::config::yaml::Node;
use crate::domain::event::Command;
use crate::domain::incident::{IncidentId, IncidentState, Priority, Severity};
use crate::domain::problem::ProblemId;
use crate::domain::service_level::{ClockState, TargetKind};
use std::collections::BTreeSet;

/// The inputs about what belongs together.
pub(super) const ORDERS: [&str; 6] = ["link", "unlink", "merge", "split", "lock", "unlock"];

/// An incident in a test; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedIncident {
    /// Its number.
    pub id: Option<IncidentId>,
    /// Where it is in its life.
    pub state: Option<IncidentState>,
    /// How many alerts it has.
    pub alert_count: Option<u64>,
    /// The name of the correlation that opened it.
    pub rule: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// How soon to act.
    pub priority: Option<Priority>,
    /// Where its SLA clocks are.
    pub sla: Vec<(TargetKind, ClockState)>,
    /// The problem that it is an instance of.
    pub problem: Option<ProblemId>,
    /// What may suffer from it, all of the items that it names.
    pub impacted: Option<BTreeSet<String>>,
    /// The major incident that it is part of.
    pub parent: Option<IncidentId>,
    /// The incidents that are part of it, all of them.
    pub children: Option<BTreeSet<IncidentId>>,
    /// The likeliest of its root causes.
    pub root_cause: Option<String>,
}

/// Reads an order about incidents.
pub(super) fn order(reader: &mut Reader<'_>, kind: &str, node: &Node) -> Option<Command> {
    let reason = String::new();
    match kind {
        "unlink" => return Some(Command::UnlinkIncident { incident: number(reader, node)? }),
        "lock" => return Some(Command::LockIncident { incident: number(reader, node)?, reason }),
        "unlock" => return Some(Command::UnlockIncident { incident: number(reader, node)? }),
        _ => {}
    }
    let mut fields = Fields::open(reader, node)?;
    let mut one = |reader: &mut Reader<'_>, name: &'static str| {
        fields.required(reader, name).and_then(|it| number(reader, it))
    };
    let order = match kind {
        "link" => {
            let (incident, parent) = (one(reader, "incident"), one(reader, "parent"));
            incident
                .zip(parent)
                .map(|(incident, parent)| Command::LinkIncident { incident, parent })
        }
        "merge" => {
            let into = one(reader, "into");
            let from = fields.required(reader, "from").map(|it| numbers(reader, it));
            into.zip(from).map(|(into, from)| Command::MergeIncidents { into, from })
        }
        _ => {
            let incident = one(reader, "incident");
            let alerts = fields.required(reader, "alerts").map(|it| reader.list(it).to_vec());
            let alerts = alerts
                .map(|it| it.iter().map(|it| labels(reader, it).fingerprint()).collect::<Vec<_>>());
            incident
                .zip(alerts)
                .map(|(incident, alerts)| Command::SplitIncident { incident, alerts })
        }
    };
    fields.finish(reader);
    order
}

fn numbers(reader: &mut Reader<'_>, node: &Node) -> Vec<IncidentId> {
    reader.list(node).iter().filter_map(|it| number(reader, it)).collect()
}

/// An incident that is expected.
pub(super) fn incident(reader: &mut Reader<'_>, node: &Node) -> Option<ExpectedIncident> {
    let mut fields = Fields::open(reader, node)?;
    let states = [
        IncidentState::Open,
        IncidentState::Acknowledged,
        IncidentState::Resolved,
        IncidentState::Closed,
    ]
    .map(|it| (it.as_str(), it));
    let severities = [Severity::Critical, Severity::Error, Severity::Warning, Severity::Info]
        .map(|it| (it.as_str(), it));
    let priorities = [1, 2, 3].map(|it| Priority::new(1, it)).into_iter();
    let priorities: Vec<_> = priorities
        .chain([2, 3].map(|it| Priority::new(3, it)))
        .map(|it| (it.as_str(), it))
        .collect();
    let expected = ExpectedIncident {
        id: fields.optional("id").and_then(|it| number(reader, it)),
        state: fields.optional("state").and_then(|it| reader.word(it, &states)),
        alert_count: fields.optional("alert_count").map(|it| reader.integer(it, 0, 1_000_000)),
        rule: fields.optional("rule").map(|it| reader.text(it)),
        title: fields.optional("title").map(|it| reader.text(it)),
        severity: fields.optional("severity").and_then(|it| reader.word(it, &severities)),
        priority: fields.optional("priority").and_then(|it| reader.word(it, &priorities)),
        sla: fields.optional("sla").map(|it| clocks(reader, it)).unwrap_or_default(),
        problem: fields.optional("problem").and_then(|it| number(reader, it)),
        impacted: fields
            .optional("impacted")
            .map(|it| reader.list(it).iter().map(|it| reader.text(it)).collect()),
        parent: fields.optional("parent").and_then(|it| number(reader, it)),
        children: fields.optional("children").map(|it| numbers(reader, it).into_iter().collect()),
        root_cause: fields.optional("root_cause").map(|it| reader.text(it)),
    };
    fields.finish(reader);
    Some(expected)
}

/// Where the clocks for some targets are.
fn clocks(reader: &mut Reader<'_>, node: &Node) -> Vec<(TargetKind, ClockState)> {
    let states = ClockState::ALL.map(|it| (it.as_str(), it));
    let Some(mut fields) = Fields::open(reader, node) else { return Vec::new() };
    let mut clocks = Vec::new();
    for target in [TargetKind::Acknowledge, TargetKind::Resolve] {
        let state = fields.optional(target.as_str()).and_then(|it| reader.word(it, &states));
        clocks.extend(state.map(|it| (target, it)));
    }
    fields.finish(reader);
    clocks
}
