//! One incident that holds two: its alerts fall into parts that no fault can explain together, or a rule keeps
//! them apart.
//!
//! What held the parts together is over by then, or the catalog in force shows it in another light. All is left
//! as it is where there is any doubt: about places that nobody wrote down, in a storm, and where people had a
//! hand in it.

use super::BY_EVIDENCE;
use crate::domain::alert::{Alert, AlertState, Grouping};
use crate::domain::execution::{ExecutionId, ExecutionState};
use crate::domain::incident::{Incident, IncidentId, Parting, TimelineEntry};
use crate::domain::label::Fingerprint;
use crate::domain::matcher::Matchers;
use crate::domain::rules::NeverTogether;
use crate::domain::{ObjectKey, State, later, seconds_between};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What is over holds parts together for so many seconds more, and so long an incident is left as it is.
const SETTLE_SECONDS: i64 = 300;
/// An incident with more alerts is a storm, which is not taken to pieces by itself.
const MEMBERS_MAX: usize = 512;
/// More parts than that tell that the catalog knows too little.
const PARTS_MAX: usize = 4;
/// So many places are named on each side.
const NAMED_MAX: usize = 3;
/// Who splits, as it stands in the timelines.
const BY: &str = "correlation";

/// What a look at an incident found.
enum Found<'s> {
    /// It holds these, and nothing holds them together; what stays comes first.
    Parts(Vec<Part<'s>>),
    /// What is over only just holds it together, or what fires is too young.
    NotYet,
    /// It is one.
    One,
}

/// Alerts that one fault may explain.
struct Part<'s> {
    alerts: Vec<&'s Alert>,
    /// The first of those that fire, and since when it is in the incident.
    first: (Timestamp, Fingerprint),
}

impl<'s> Part<'s> {
    /// `None` = none of them fires.
    fn new(alerts: Vec<&'s Alert>) -> Option<Self> {
        let firing = alerts.iter().filter(|it| it.state == AlertState::Firing);
        let joined = |it: &&Alert| (it.joined_at.unwrap_or(it.received_at), it.fingerprint);
        let first = firing.map(joined).min()?;
        Some(Self { alerts, first })
    }

    /// What the incident began with keeps its number; else what was there first does.
    fn rank(&self, incident: &Incident) -> (bool, Timestamp, Fingerprint) {
        let has_first = self.alerts.iter().any(|it| it.fingerprint == incident.first_alert);
        (!has_first, self.first.0, self.first.1)
    }
}

/// Alerts that leave an incident: the first of them, all of them, and why.
type Leaving = (Fingerprint, BTreeSet<Fingerprint>, String);

impl State {
    /// An alert of an incident ended: what it held together is looked at when that has settled.
    pub(in crate::domain) fn may_fall_apart(&mut self, now: Timestamp, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let is_wanted = incident.look_for_parts_at.is_none()
            && may_be_split(incident)
            && self.sightings.of(id).nth(1).is_some();
        if is_wanted && let Some(incident) = self.incidents.get_mut(&id) {
            incident.look_for_parts_at = Some(later(now, SETTLE_SECONDS));
        }
    }

    /// The graph is another one: what it held together may have nothing to do with each other.
    pub(in crate::domain) fn all_may_fall_apart(&mut self, now: Timestamp) {
        for id in self.incidents.keys().copied().collect::<Vec<_>>() {
            self.may_fall_apart(now, id);
            self.touch(now, ObjectKey::Incident(id));
        }
    }

    /// Looks whether an incident holds two, if it is time.
    pub(in crate::domain) fn look_for_parts(&mut self, now: Timestamp, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if incident.look_for_parts_at.is_none_or(|it| self.held(it) > now) {
            return;
        }
        let found = self.parts_of(now, incident);
        let again = matches!(found, Found::NotYet).then(|| later(now, SETTLE_SECONDS));
        let leaving = match found {
            Found::Parts(parts) => self.leaving(now, id, &parts),
            Found::NotYet | Found::One => Vec::new(),
        };
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.look_for_parts_at = again;
        }
        for part in leaving {
            self.split_by_evidence(now, id, part);
        }
    }

    /// What an incident falls into, if that is known.
    fn parts_of(&self, now: Timestamp, incident: &Incident) -> Found<'_> {
        let alerts = self.alerts_of(incident.id);
        if !may_be_split(incident) || alerts.len() > MEMBERS_MAX {
            return Found::One;
        }
        if incident.executions.iter().any(|it| self.runs_now(*it)) {
            return Found::NotYet;
        }
        let Some(bonds) = self.bonds(now, incident.id, &alerts) else { return Found::One };
        let holding: Vec<&Alert> =
            alerts.into_iter().filter(|it| over_seconds(now, it) < SETTLE_SECONDS).collect();
        let mut parts: Vec<Part<'_>> =
            bonds.together(&holding).into_iter().filter_map(Part::new).collect();
        match parts.len() {
            0 | 1 if holding.iter().any(|it| !it.counts_as_firing()) => return Found::NotYet,
            0 | 1 => return Found::One,
            count if count > PARTS_MAX => return Found::One,
            _ => {}
        }
        if parts.iter().any(|it| seconds_between(it.first.0, now) < SETTLE_SECONDS.cast_unsigned())
        {
            return Found::NotYet;
        }
        parts.sort_by_key(|it| it.rank(incident));
        Found::Parts(parts)
    }

    fn runs_now(&self, execution: ExecutionId) -> bool {
        let state = self.executions.get(&execution).map(|it| it.state);
        matches!(state, Some(ExecutionState::Running | ExecutionState::Verifying))
    }

    fn alerts_of(&self, id: IncidentId) -> Vec<&Alert> {
        let members = self.members.get(&id).into_iter().flatten();
        members.filter_map(|it| self.alerts.get(it)).map(Box::as_ref).collect()
    }

    /// What leaves with each part but the first. What is over goes with the one part that it has to do with.
    fn leaving(&self, now: Timestamp, id: IncidentId, parts: &[Part<'_>]) -> Vec<Leaving> {
        let all = self.alerts_of(id);
        let Some(bonds) = self.bonds(now, id, &all) else { return Vec::new() };
        let in_parts: BTreeSet<Fingerprint> =
            parts.iter().flat_map(|it| &it.alerts).map(|it| it.fingerprint).collect();
        let past: Vec<(&Alert, Vec<usize>)> = (all.iter())
            .filter(|it| !in_parts.contains(&it.fingerprint))
            .map(|it| {
                let holds = |(_, part): &(usize, &Part<'_>)| bonds.hold(it, &part.alerts);
                (*it, parts.iter().enumerate().filter(holds).map(|(at, _)| at).collect())
            })
            .collect();
        let Some(stays) = parts.first() else { return Vec::new() };
        let leaves = parts.iter().enumerate().skip(1).map(|(at, part)| {
            let own = past.iter().filter(|(_, of)| *of == [at]).map(|(it, _)| it);
            let alerts = part.alerts.iter().chain(own).map(|it| it.fingerprint).collect();
            let links = past.iter().filter(|(_, of)| of.len() > 1 && of.contains(&at));
            let links: Vec<&Alert> = links.map(|(it, _)| *it).collect();
            let (one, other) = (self.places_of(&part.alerts), self.places_of(&stays.alerts));
            let why = format!(
                "no fault explains the alerts of both {one} and {other}, {}",
                what_held(now, &links)
            );
            (part.first.1, alerts, why)
        });
        leaves.collect()
    }

    /// What people call the places that some alerts are about.
    fn places_of(&self, alerts: &[&Alert]) -> String {
        let mut names: Vec<String> = Vec::new();
        for alert in alerts {
            let place = self.kind_of(alert).place;
            if !names.contains(&place) {
                names.push(place);
            }
        }
        let more = names.len().saturating_sub(NAMED_MAX);
        names.truncate(NAMED_MAX);
        let names = names.join(", ");
        if more > 0 { format!("{names} and {more} more") } else { names }
    }

    /// Moves a part of an incident into one of its own, with the reason on both sides.
    fn split_by_evidence(&mut self, now: Timestamp, from: IncidentId, leaving: Leaving) {
        let (first, alerts, reason) = leaving;
        let why = format!("split off {from}: {reason}");
        let parting = Parting { by: BY, why, is_by_hand: false, first, alerts };
        let new = self.part(now, from, &parting);
        for fingerprint in &parting.alerts {
            if let Some(alert) = self.alerts.get_mut(fingerprint) {
                alert.decision.grouping = Some(Grouping::Parted { from, why: reason.clone() });
            }
        }
        let text = format!("{new} is other trouble: {reason}");
        self.log(ObjectKey::Incident(from), TimelineEntry::new(now, "split", BY, text));
    }

    /// The rules that keep alerts apart are others: incidents that hold both sides of one are split.
    pub(in crate::domain) fn keep_apart(&mut self, now: Timestamp) {
        let rules = self.rules.clone();
        for id in self.incidents.keys().copied().collect::<Vec<_>>() {
            for rule in &rules.never_together {
                if let Some(leaving) = self.kept_apart_in(id, rule) {
                    self.split_by_evidence(now, id, leaving);
                }
            }
        }
    }

    /// The one side of a rule in an incident that holds both, if both fire.
    fn kept_apart_in(&self, id: IncidentId, rule: &NeverTogether) -> Option<Leaving> {
        let incident = self.incidents.get(&id).filter(|it| may_be_split(it))?;
        let side = |matchers: &Matchers| {
            let alerts = self.alerts_of(id);
            Part::new(alerts.into_iter().filter(|it| matchers.matches(&it.labels)).collect())
        };
        let (one, other) = (side(&rule.one)?, side(&rule.other)?);
        if one.alerts.iter().any(|it| rule.other.matches(&it.labels)) {
            return None;
        }
        let leaves = if one.rank(incident) < other.rank(incident) { other } else { one };
        let alerts = leaves.alerts.iter().map(|it| it.fingerprint).collect();
        Some((leaves.first.1, alerts, format!("the rule {} keeps them apart", rule.rule)))
    }

    /// Whether rules or people keep an alert of the one incident apart from one of the other.
    pub(super) fn are_kept_apart(
        &self,
        now: Timestamp,
        one: IncidentId,
        other: IncidentId,
    ) -> bool {
        let (ones, others) = (self.alerts_of(one), self.alerts_of(other));
        let holds =
            |alerts: &[&Alert], it: &Matchers| alerts.iter().any(|at| it.matches(&at.labels));
        let by_rule = self.rules.never_together.iter().any(|it| {
            holds(&ones, &it.one) && holds(&others, &it.other)
                || holds(&ones, &it.other) && holds(&others, &it.one)
        });
        by_rule || self.are_taught_apart(now, one, other)
    }
}

/// Whether an incident may be split without asking: evidence made it, and no people had a hand in it.
fn may_be_split(incident: &Incident) -> bool {
    let is_arranged = incident.is_split
        || incident.is_arranged
        || incident.locked_by.is_some()
        || incident.parent.is_some()
        || !incident.children.is_empty();
    let is_by_evidence = incident.opened_by == BY_EVIDENCE.rule;
    incident.state.is_active() && incident.firing_count > 1 && is_by_evidence && !is_arranged
}

/// For how long an alert is over; 0 = it is not.
fn over_seconds(now: Timestamp, alert: &Alert) -> i64 {
    let ended = alert.ends_at.map_or(alert.updated_at, |it| it.max(alert.updated_at));
    let over = i64::try_from(seconds_between(ended, now)).unwrap_or(i64::MAX);
    if alert.counts_as_firing() { 0 } else { over }
}

/// What held two parts together until it was over.
fn what_held(now: Timestamp, links: &[&Alert]) -> String {
    let Some(last) = links.iter().min_by_key(|it| over_seconds(now, it)) else {
        return "and nothing holds them together".to_owned();
    };
    let name = last.labels.get("alertname").unwrap_or("the alert");
    let more = match links.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let over = over_seconds(now, last);
    format!(
        "and {name} ({}){more}, which held them together, is over since {over} s",
        last.fingerprint
    )
}
