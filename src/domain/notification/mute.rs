//! Routes that tell nobody at some times: what is still true when such a time ends is told then.

use super::{Notification, NotificationId, NotificationState};
use crate::domain::incident::{IncidentId, IncidentState};
use crate::domain::rules::{Occasion, Route};
use crate::domain::time_interval::{self, TimeIntervals};
use crate::domain::{State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why and until when a notification is held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mute {
    /// The time intervals, or `decide_after`.
    pub by: Vec<Arc<str>>,
    /// When they are over.
    pub until: Timestamp,
}

/// Why a notification is held back that waits what becomes of its incident.
pub(super) const DECIDE_AFTER: &str = "decide_after";

impl Route {
    /// The time intervals that keep it from telling at a moment, by name, as Alertmanager has it:
    /// those to be mute in that contain the moment, or all to be active in when none does.
    pub fn muted_by(&self, at: Timestamp) -> Vec<Arc<str>> {
        let contains =
            |it: &&Arc<TimeIntervals>| time_interval::contains(std::slice::from_ref(*it), at);
        let name = |it: &Arc<TimeIntervals>| Arc::from(it.rule.name.as_str());
        let mut names: Vec<Arc<str>> =
            self.mute_time_intervals.iter().filter(contains).map(name).collect();
        if !self.active_time_intervals.is_empty()
            && !self.active_time_intervals.iter().any(|it| contains(&it))
        {
            names.extend(self.active_time_intervals.iter().map(name));
        }
        names
    }

    /// Why it does not tell of an occasion now, and until when.
    pub(super) fn hold(&self, now: Timestamp, occasion: Occasion) -> Option<Mute> {
        let waits = occasion == Occasion::Opened && self.decide_after_seconds > 0;
        self.mute(now).or_else(|| {
            waits.then(|| Mute {
                by: vec![DECIDE_AFTER.into()],
                until: later(now, i64::from(self.decide_after_seconds)),
            })
        })
    }

    /// Why it tells nobody now, and until when.
    fn mute(&self, now: Timestamp) -> Option<Mute> {
        /// So many changes are followed to the end of a mute; a longer one is looked at again then.
        const CHANGES_MAX: usize = 100;
        let by = self.muted_by(now);
        if by.is_empty() {
            return None;
        }
        let mut until = now;
        for _ in 0..CHANGES_MAX {
            let next = [&self.mute_time_intervals, &self.active_time_intervals]
                .into_iter()
                .filter_map(|it| time_interval::next_change(it, until))
                .min();
            until = next.unwrap_or(Timestamp::MAX);
            if next.is_none() || self.muted_by(until).is_empty() {
                break;
            }
        }
        Some(Mute { by, until })
    }
}

impl State {
    /// A muted route is asked to tell. Takes back what need not be told any more; returns whether
    /// the new one need not be told either: what nobody heard of need not be told to be over, nor
    /// twice to be open.
    pub(super) fn settle_muted(
        &mut self,
        now: Timestamp,
        route: &Route,
        occasion: Occasion,
        incident: Option<IncidentId>,
    ) -> bool {
        let waits = |it: &&Notification| {
            it.muted.is_some()
                && it.attempts == 0
                && it.incident == incident
                && it.route == route.rule
                && it.occasion == Occasion::Opened
        };
        let Some(opened) = self.notifications.values().find(waits).map(|it| it.id) else {
            return false;
        };
        match occasion {
            Occasion::Opened => true,
            Occasion::Resolved => {
                self.end_notification(now, opened, NotificationState::Muted);
                true
            }
            Occasion::FlappingStarted
            | Occasion::FlappingEnded
            | Occasion::Warned
            | Occasion::Breached
            | Occasion::ApprovalNeeded
            | Occasion::ProblemProposed
            | Occasion::ProblemExpected
            | Occasion::SilenceExpiring
            | Occasion::Escalated
            | Occasion::RunbookNote => false,
        }
    }

    /// Whether a notification that was held back need not be sent: its incident is over, or somebody
    /// looks after what it would say is open.
    pub(super) fn is_moot(&self, id: NotificationId) -> bool {
        let Some(notification) = self.notifications.get(&id) else { return false };
        let is_held = notification.muted.is_some() && notification.attempts == 0;
        let state = notification.incident.map(|it| self.incidents.get(&it).map(|it| it.state));
        match (notification.occasion, state) {
            _ if !is_held => false,
            (Occasion::Resolved, _) | (_, None) => false,
            (Occasion::Opened, Some(state)) => state != Some(IncidentState::Open),
            (_, Some(state)) => !state.is_some_and(IncidentState::is_active),
        }
    }
}
