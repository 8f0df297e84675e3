//! Correlation: which incident an alert belongs to. A grouping rule decides where one matches; else
//! the evidence does, and where an alert tells nothing of its place, its name.

mod bonds;
mod bridge;
mod evidence;
mod experience;
mod learned;
mod lesson;
mod parting;
mod place;
pub mod requirement;
mod returning;
mod rule;
mod sighting;

pub use evidence::Evidence;
use evidence::Weighed;
pub use experience::{Chance, Experience};
pub use learned::{LearnedPlace, LearnedPlaces};
pub use lesson::{Lesson, Taught};
pub use place::Way;
pub(super) use place::{Place, Places, Spoken};
pub(super) use sighting::{Sightings, Told};

use super::alert::{Disposition, Grouping};
use super::flapping::FlappingRule;
use super::incident::{Incident, IncidentId, IncidentState, Opening};
use super::label::{Fingerprint, Labels};
use super::rules::{Correlation, RuleRef};
use super::{ObjectKey, State, seconds_between};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What the alerts of one incident share: the rule and the values of its `group_by` labels.
pub(super) type GroupKey = (String, Labels);

/// The incidents that stand for each group, by the number of the incident that was opened for it.
/// The two differ after a merge. The last one decides about new alerts.
pub(super) type Groups = BTreeMap<GroupKey, BTreeMap<IncidentId, IncidentId>>;

/// A group whose incident was merged into another one: its new alerts follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// The incident that takes them.
    pub into: IncidentId,
    /// The rule's name.
    pub rule: String,
    /// The values of the rule's `group_by` labels.
    pub group: Labels,
}

impl State {
    /// Puts an alert into an incident, and says into which way and why. Always finds one.
    pub(super) fn correlate(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
    ) -> (Disposition, Arc<RuleRef>, Grouping) {
        let rules = self.rules.clone();
        let labels = self.alerts.get(&fingerprint).map(|it| &it.labels);
        let found = self.rule_for(now, fingerprint, &rules);
        let spoken = labels.map(|it| self.spoken(it)).unwrap_or_default();
        let evident = Some(&spoken).filter(|it| found.is_none() && !it.is_of_no_place());
        let fallback = if evident.is_some() { &*BY_EVIDENCE } else { &*LAST_RESORT };
        let rule = found.unwrap_or(fallback);
        let group = (rule.rule.name.clone(), self.group_of(fingerprint, rule));
        let own = self.own_incident(now, fingerprint, evident.is_some());
        let (incident, grouping) = match own {
            Some(own) => (Some(own), Grouping::Returned),
            None => match (self.same_thing(fingerprint, rule), evident) {
                (Some((incident, alert)), _) => (Some(incident), Grouping::SameThing { alert }),
                (None, Some(spoken)) => self.group_by_evidence(now, fingerprint, spoken),
                (None, None) => self.open_incident_of(now, rule, &group, fingerprint),
            },
        };
        let disposition = match incident.and_then(|it| self.incidents.get(&it)).map(|it| it.state) {
            Some(IncidentState::Open | IncidentState::Acknowledged) => Disposition::Joined,
            Some(IncidentState::Resolved) => Disposition::Reopened,
            Some(IncidentState::Closed) | None => Disposition::Opened,
        };
        if evident.is_some() {
            self.learn_places_of(now, (fingerprint, incident), &spoken);
        }
        let reference = rule.rule.clone();
        if let Some(incident) = incident {
            if disposition == Disposition::Reopened {
                self.reopen_incident(now, incident, "", "an alert fires again");
            }
            self.join_incident(now, incident, fingerprint, &spoken);
        } else {
            let opening = Opening { rule, group: &group.1, grouping: &grouping, spoken: &spoken };
            let incident = self.open_incident(now, fingerprint, &opening);
            self.groups.entry(group).or_default().insert(incident, incident);
        }
        (disposition, reference, grouping)
    }

    /// The incident for which there is enough evidence, and what there is of it.
    fn group_by_evidence(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        spoken: &Spoken,
    ) -> (Option<IncidentId>, Grouping) {
        let ways = self.ways(spoken);
        self.learn_from(now, fingerprint, spoken, &ways);
        let Weighed { best, also, locked } = self.weigh(now, fingerprint, spoken, ways);
        if let (Some(best), Some(also)) = (&best, also) {
            self.note_bridge(fingerprint, best.incident, also);
        }
        match (best, locked) {
            (Some(best), _) if best.is_enough() => {
                (Some(best.incident), Grouping::Evidence(Box::new(best)))
            }
            (_, Some(previous)) => (None, Grouping::Locked { previous }),
            (best, None) => (None, Grouping::Apart { nearest: best.map(Box::new) }),
        }
    }

    /// The open incident of an alert that tells of the same thing with another severity. Where the
    /// rule does not group by severity they meet in one group anyway.
    fn same_thing(
        &self,
        fingerprint: Fingerprint,
        rule: &Correlation,
    ) -> Option<(IncidentId, Fingerprint)> {
        if !rule.group_by.iter().any(|it| it == "severity" || it == "...") {
            return None;
        }
        let labels = &self.alerts.get(&fingerprint)?.labels;
        let severity = labels.get("severity")?;
        SEVERITIES.iter().filter(|it| **it != severity).find_map(|other| {
            let with =
                |(name, value)| if name == "severity" { (name, *other) } else { (name, value) };
            let sibling = Labels::from_pairs(labels.iter().map(with)).fingerprint();
            let alert = self.alerts.get(&sibling).filter(|it| it.counts_as_firing())?;
            let incident = self.incidents.get(&alert.incident?)?;
            let takes_more = incident.state.is_active() && incident.locked_by.is_none();
            takes_more.then_some((incident.id, sibling))
        })
    }

    /// The values of the rule's labels. An absent label counts as empty, so it is left out.
    fn group_of(&self, fingerprint: Fingerprint, rule: &Correlation) -> Labels {
        let Some(alert) = self.alerts.get(&fingerprint) else { return Labels::default() };
        if rule.group_by.iter().any(|it| it == "...") {
            return alert.labels.clone();
        }
        Labels::from_pairs(
            rule.group_by.iter().filter_map(|it| Some((it.as_str(), alert.labels.get(it)?))),
        )
    }

    /// The incident of a group that still takes alerts, or why there is none.
    fn open_incident_of(
        &self,
        now: Timestamp,
        rule: &Correlation,
        group: &GroupKey,
        fingerprint: Fingerprint,
    ) -> (Option<IncidentId>, Grouping) {
        if let Some(topology) = rule.topology {
            return self.near_incident_of(now, (rule, topology), group, fingerprint);
        }
        let last = self.groups.get(group).and_then(|it| it.last_key_value());
        let Some(incident) = last.and_then(|(_, it)| self.incidents.get(it)) else {
            return (None, Grouping::First);
        };
        let (takes_more, grouping) = takes(now, rule, incident);
        (takes_more.then_some(incident.id), grouping)
    }

    /// Fills the index of groups, after loading.
    pub(super) fn rebuild_groups(&mut self) {
        self.groups = Groups::default();
        for incident in self.incidents.values().filter(|it| !it.is_split) {
            self.groups.entry(group_key(incident)).or_default().insert(incident.id, incident.id);
        }
        for (id, followed) in &self.memory.followed {
            let group = (followed.rule.clone(), followed.group.clone());
            self.groups.entry(group).or_default().insert(*id, followed.into);
        }
    }

    /// Lets the new alerts of an incident's groups go into another one from now on.
    pub(super) fn follow(&mut self, incident: &Incident, into: IncidentId) {
        if !incident.is_split {
            let (rule, group) = group_key(incident);
            self.memory.followed.insert(incident.id, Followed { into, rule, group });
        }
        for (id, followed) in &mut self.memory.followed {
            if followed.into == incident.id || *id == incident.id {
                followed.into = into;
                let group = (followed.rule.clone(), followed.group.clone());
                self.groups.entry(group).or_default().insert(*id, into);
            }
        }
        self.changes.objects.insert(ObjectKey::Memory);
    }

    /// Takes an incident that is closed out of the index of groups.
    pub(super) fn leave_groups(&mut self, incident: &Incident) {
        let mut left = vec![(group_key(incident), incident.id)];
        self.memory.followed.retain(|id, it| {
            let stays = it.into != incident.id;
            if !stays {
                left.push(((it.rule.clone(), it.group.clone()), *id));
            }
            stays
        });
        if left.len() > 1 {
            self.changes.objects.insert(ObjectKey::Memory);
        }
        for (group, id) in left {
            if let Some(holders) = self.groups.get_mut(&group) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }
}

/// Whether an incident of a rule and group takes one more alert, and why.
fn takes(now: Timestamp, rule: &Correlation, incident: &Incident) -> (bool, Grouping) {
    if incident.locked_by.is_some() {
        return (false, Grouping::Locked { previous: incident.id });
    }
    let gap_seconds = seconds_between(incident.last_joined_at, now);
    let age_seconds = seconds_between(incident.opened_at, now);
    if let (IncidentState::Resolved, Some(at)) = (incident.state, incident.resolved_at) {
        let resolved_seconds = seconds_between(at, now);
        if resolved_seconds <= u64::from(incident.reopen_within_seconds) {
            return (true, Grouping::ReopenWindow { resolved_seconds });
        }
    }
    let takes_more = incident.state.is_active()
        && gap_seconds <= u64::from(rule.gap_seconds)
        && age_seconds <= u64::from(rule.max_seconds);
    if takes_more {
        (true, Grouping::SameGroup { gap_seconds })
    } else {
        (false, Grouping::WindowOver { previous: incident.id, gap_seconds, age_seconds })
    }
}

fn group_key(incident: &Incident) -> GroupKey {
    (incident.opened_by.name.clone(), incident.group.clone())
}

/// How alerts that tell of one thing name how bad it is.
const SEVERITIES: [&str; 10] =
    ["critical", "error", "warning", "info", "page", "major", "minor", "high", "medium", "low"];

/// The rule that holds for alerts that tell nothing of their place, when there is no other.
pub(super) static LAST_RESORT: LazyLock<Correlation> =
    LazyLock::new(|| built_in("by name", &["alertname", "cluster"]));

/// The rule that holds for all other alerts, when there is none of the users' own.
static BY_EVIDENCE: LazyLock<Correlation> = LazyLock::new(|| built_in("by evidence", &[]));

fn built_in(name: &str, group_by: &[&str]) -> Correlation {
    Correlation {
        rule: Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() }),
        matchers: super::matcher::Matchers::default(),
        group_by: group_by.iter().map(|it| (*it).to_owned()).collect(),
        topology: None,
        require: String::new(),
        gap_seconds: 300,
        max_seconds: 4 * 3600,
        title: "{{ labels.alertname|default('alert without a name') }}".to_owned(),
        severity: None,
        reopen_within_seconds: 900,
        flapping: FlappingRule::default(),
        hold_open_seconds: 0,
        auto_resolve_seconds: 0,
    }
}
