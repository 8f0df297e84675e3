//! What holds alerts back, in the order in which it is asked: silence, inhibition, maintenance.

use super::alert::{AlertState, Decision, Disposition, Grouping, Held};
use super::execution::Occurrence;
use super::incident::TimelineEntry;
use super::label::Fingerprint;
use super::{Count, ObjectKey, State};
use jiff::Timestamp;
use std::sync::Arc;

/// Everything that holds an alert back.
pub(super) struct Holds {
    silenced_by: Vec<Arc<str>>,
    silences_checked: u32,
    held: Option<Box<Held>>,
}

impl Holds {
    /// The disposition that the first of them gives; `None` = the alert is free.
    fn disposition(&self) -> Option<Disposition> {
        match &self.held {
            _ if !self.silenced_by.is_empty() => Some(Disposition::Silenced),
            Some(it) if it.inhibited_by.is_some() => Some(Disposition::Inhibited),
            Some(_) => Some(Disposition::InMaintenance),
            None => None,
        }
    }
}

/// What held an alert back, in words.
fn told(silenced_by: &[Arc<str>], held: Option<&Held>) -> String {
    let silences = silenced_by.iter().map(|it| format!("the silence {it}"));
    let inhibition = held.and_then(|it| it.inhibited_by.as_ref());
    let inhibition = inhibition.map(|it| format!("the inhibition {}", it.rule.name));
    let maintenance = held.map_or(&[][..], |it| &it.maintenance);
    let maintenance = maintenance.iter().map(|it| format!("the maintenance {it}"));
    silences.chain(inhibition).chain(maintenance).collect::<Vec<String>>().join(", ")
}

impl State {
    /// Looks what holds an alert back. `begins` = it begins to fire.
    fn holds_on(&self, now: Timestamp, fingerprint: Fingerprint, begins: bool) -> Holds {
        let (silenced_by, silences_checked) = self.silences_for(now, fingerprint);
        let held = self.alerts.get(&fingerprint).map(|alert| Held {
            inhibited_by: self.inhibitor_of(now, alert, begins),
            maintenance: self.maintenance_for(now, alert),
        });
        let held = held.filter(|it| *it != Held::default()).map(Box::new);
        Holds { silenced_by, silences_checked, held }
    }

    /// Decides what an alert that begins to fire leads to.
    pub(super) fn decide(&mut self, now: Timestamp, fingerprint: Fingerprint) -> Disposition {
        self.begin_maintenance(now, fingerprint);
        let holds = self.holds_on(now, fingerprint, true);
        self.count_silenced(&holds.silenced_by);
        let disposition = self.go_on(now, fingerprint, holds);
        self.touch_alert(fingerprint);
        disposition
    }

    /// An alert that nothing holds back is correlated.
    fn go_on(&mut self, now: Timestamp, fingerprint: Fingerprint, holds: Holds) -> Disposition {
        let mut passed = None;
        let (disposition, rule, grouping) = if let Some(disposition) = holds.disposition() {
            self.fires_again_held(now, fingerprint);
            (disposition, None, None)
        } else {
            passed = self.passed_over(now, fingerprint);
            let (disposition, rule, grouping) = self.correlate(now, fingerprint);
            self.occurred(&Occurrence::AlertFiring(fingerprint));
            (disposition, Some(rule), Some(grouping))
        };
        let Holds { silenced_by, silences_checked, held } = holds;
        if let Some(alert) = self.alerts.get_mut(&fingerprint) {
            alert.decision = Decision {
                at: now,
                disposition,
                silenced_by,
                silences_checked,
                held,
                rule,
                passed,
                grouping,
            };
        }
        disposition
    }

    /// An alert that is held back opens and joins nothing, but one that is a member of an open
    /// incident still counts there: what is muted is not over.
    fn fires_again_held(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let incident = self.alerts.get(&fingerprint).and_then(|it| it.incident);
        if let Some(incident) = incident.filter(|it| self.incidents.contains_key(it)) {
            self.member_fires(now, incident);
        }
    }

    /// Looks again at firing alerts, because something that could hold them back began or ended.
    ///
    /// What is newly held stays where it is, and is only marked. What is no longer held goes on its
    /// way now.
    pub(super) fn look_again(
        &mut self,
        now: Timestamp,
        alerts: impl IntoIterator<Item = Fingerprint>,
    ) {
        for fingerprint in alerts {
            let Some(alert) = self.alerts.get(&fingerprint) else { continue };
            if alert.state != AlertState::Firing {
                continue;
            }
            let holds = self.holds_on(now, fingerprint, false);
            let Some(alert) = self.alerts.get_mut(&fingerprint) else { continue };
            let decision = &mut alert.decision;
            if decision.silenced_by == holds.silenced_by && decision.held == holds.held {
                continue;
            }
            let last = told(&decision.silenced_by, decision.held.as_deref());
            let known = std::mem::take(&mut decision.silenced_by);
            let new = holds.silenced_by.iter().filter(|it| !known.contains(it));
            let new: Vec<Arc<str>> = new.cloned().collect();
            match holds.disposition() {
                Some(it) if decision.disposition.is_held() => decision.disposition = it,
                _ => {}
            }
            let is_free = holds.disposition().is_none();
            decision.silenced_by = holds.silenced_by;
            decision.held = holds.held;
            alert.updated_at = now;
            self.count_silenced(&new);
            self.touch_alert(fingerprint);
            if is_free {
                self.let_go(now, fingerprint, &last);
            }
        }
    }

    /// A firing alert is no longer held back. If it belongs nowhere, it is decided about now. If its
    /// incident was resolved before it began to fire, nobody knows of it: the incident is opened
    /// again. It is counted among the firing ones there already.
    fn let_go(&mut self, now: Timestamp, fingerprint: Fingerprint, last: &str) {
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        let known = alert.incident.and_then(|it| self.incidents.get(&it));
        let Some(incident) = known else {
            let holds = self.holds_on(now, fingerprint, false);
            let disposition = self.go_on(now, fingerprint, holds);
            self.touch_alert(fingerprint);
            self.turn.counts.push(Count::Alert(disposition));
            self.account_release(now, fingerprint, disposition);
            if let Some(incident) = self.alerts.get(&fingerprint).and_then(|it| it.incident) {
                let text = format!("an alert was held back until now by {last}");
                let entry = TimelineEntry::about(now, "let_go", text, vec![fingerprint]);
                self.log(ObjectKey::Incident(incident), entry);
            }
            return;
        };
        if !alert.decision.disposition.is_held() {
            return;
        }
        let (id, is_over) = (incident.id, !incident.state.is_active());
        let disposition = if is_over { Disposition::Reopened } else { Disposition::Joined };
        alert.decision.at = now;
        alert.decision.disposition = disposition;
        alert.decision.rule = Some(incident.opened_by.clone());
        alert.decision.grouping = Some(Grouping::Returned);
        self.turn.counts.push(Count::Alert(disposition));
        self.account_release(now, fingerprint, disposition);
        if is_over {
            let reason = format!("an alert that fires is no longer held back by {last}");
            self.reopen_incident(now, id, "", &reason);
        }
    }
}
