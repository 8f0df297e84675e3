//! Silences: when not to act, because a person said so.

use super::alert::{Alert, AlertState, Disposition, Grouping};
use super::label::Fingerprint;
use super::matcher::Matchers;
use super::timer::TimerKey;
use super::{Accepted, Closed, Count, ObjectKey, Refusal, Reply, State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A person muted matching alerts until a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// A UUID, or the name of the rule for a silence written in a file.
    pub id: Arc<str>,
    /// All must hold.
    pub matchers: Matchers,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Whether a file says so; then the API cannot change it.
    pub from_file: bool,
}

/// Where a silence is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SilenceState {
    /// Not yet.
    Pending,
    /// Now.
    Active,
    /// Over.
    Expired,
}

impl SilenceState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    /// Where it is in its life at a time. The end is not part of it.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now < self.starts_at {
            SilenceState::Pending
        } else if now < self.ends_at {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }
}

/// How long a silence that is over stays in listings, in seconds: five days, as in Alertmanager.
pub(super) const KEPT_SECONDS: i64 = 5 * 24 * 3600;

impl State {
    /// The active silences that hold an alert back, and how many were looked at.
    pub(super) fn silences_for(
        &self,
        now: Timestamp,
        fingerprint: Fingerprint,
    ) -> (Vec<Arc<str>>, u32) {
        let Some(alert) = self.alerts.get(&fingerprint) else { return (Vec::new(), 0) };
        let mut checked = 0;
        let mut holding = Vec::new();
        for silence in self.silences.values() {
            if silence.state(now) == SilenceState::Active {
                checked += 1;
                if silence.matchers.matches(&alert.labels) {
                    holding.push(silence.id.clone());
                }
            }
        }
        (holding, checked)
    }

    /// Silences begin, end, or need not be remembered any more.
    pub(super) fn silences_due(&mut self, now: Timestamp, due: &BTreeSet<TimerKey>) {
        let mut concerned = BTreeSet::new();
        for key in due {
            if let TimerKey::Silence(id) = key {
                concerned.insert(id.clone());
            }
        }
        if concerned.is_empty() {
            return;
        }
        self.look_at_silenced_again(now, &concerned);
        self.memory.silences_seen_at = Some(now);
        self.changes.objects.insert(ObjectKey::Memory);
        for id in concerned {
            let Some(silence) = self.silences.get(&id) else { continue };
            if later(silence.ends_at, KEPT_SECONDS) <= now
                && let Some(silence) = self.silences.remove(&id)
            {
                self.changes.closed.push(Closed::Silence(Box::new(silence)));
            }
            self.touch(now, ObjectKey::Silence(id));
        }
    }

    /// Looks again at the firing alerts that some silences hold or could hold, because those were
    /// made or changed, began or ended.
    ///
    /// What is newly silenced stays where it is, and is only marked. What is no longer silenced
    /// goes on its way now.
    fn look_at_silenced_again(&mut self, now: Timestamp, concerned: &BTreeSet<Arc<str>>) {
        let silences: Vec<&Silence> =
            concerned.iter().filter_map(|it| self.silences.get(it)).collect();
        let is_concerned = |alert: &Alert| {
            alert.decision.silenced_by.iter().any(|it| concerned.contains(it))
                || silences.iter().any(|it| it.matchers.matches(&alert.labels))
        };
        let alerts: Vec<Fingerprint> = (self.alerts.values())
            .filter(|it| it.state == AlertState::Firing && is_concerned(it))
            .map(|it| it.fingerprint)
            .collect();
        for fingerprint in alerts {
            let (silenced_by, _) = self.silences_for(now, fingerprint);
            let Some(alert) = self.alerts.get_mut(&fingerprint) else { continue };
            if alert.decision.silenced_by == silenced_by {
                continue;
            }
            let is_free = silenced_by.is_empty();
            alert.updated_at = now;
            alert.decision.silenced_by = silenced_by;
            self.touch_alert(now, fingerprint);
            if is_free {
                self.let_go(now, fingerprint);
            }
        }
    }

    /// A firing alert is no longer silenced. If it belongs nowhere, it is decided about now. If its
    /// incident was resolved before it began to fire, nobody knows of it: the incident is opened
    /// again. It is counted among the firing ones there already.
    fn let_go(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let Some(alert) = self.alerts.get_mut(&fingerprint) else { return };
        let known = alert.incident.and_then(|it| self.incidents.get(&it));
        let Some(incident) = known else {
            let disposition = self.decide(now, fingerprint);
            self.turn.counts.push(Count::Alert(disposition));
            return;
        };
        if alert.decision.disposition != Disposition::Silenced {
            return;
        }
        let (id, is_over) = (incident.id, !incident.state.is_active());
        let disposition = if is_over { Disposition::Reopened } else { Disposition::Joined };
        alert.decision.at = now;
        alert.decision.disposition = disposition;
        alert.decision.rule = Some(incident.opened_by.clone());
        alert.decision.grouping = Some(Grouping::Returned);
        self.turn.counts.push(Count::Alert(disposition));
        if is_over {
            self.reopen_incident(now, id, "", "an alert that fires is no longer silenced");
        }
    }

    /// Makes a silence, or changes one. As in Alertmanager, a change of matchers or of a start
    /// that is past makes a new silence and ends the old one; a new end keeps the id.
    pub(super) fn set_silence(
        &mut self,
        now: Timestamp,
        silence: Silence,
        old: Option<&str>,
    ) -> Reply {
        if silence.matchers.0.is_empty() {
            return Err(Refusal::Invalid("a silence needs at least one matcher".to_owned()));
        }
        if silence.matchers.0.iter().all(|it| it.matches_value("")) {
            let text = "at least one matcher must not match the empty string";
            return Err(Refusal::Invalid(text.to_owned()));
        }
        if silence.ends_at <= silence.starts_at || silence.ends_at <= now {
            return Err(Refusal::Invalid(
                "a silence must end after its start and after now".to_owned(),
            ));
        }
        let mut silence = Silence { starts_at: silence.starts_at.max(now), ..silence };
        let mut concerned = BTreeSet::new();
        if let Some(old) = old {
            let known = self.silences.get(old).ok_or_else(|| no_silence(old))?;
            if known.from_file {
                return Err(written_in_file(old));
            }
            let is_over = known.state(now) == SilenceState::Expired;
            concerned.insert(known.id.clone());
            if !is_over && known.matchers == silence.matchers {
                silence.id = known.id.clone();
                if known.state(now) == SilenceState::Active {
                    silence.starts_at = known.starts_at;
                }
            } else if !is_over {
                self.end_silence(now, old);
            }
        }
        let id = silence.id.clone();
        let key = ObjectKey::Silence(id.clone());
        self.silences.insert(id.clone(), silence);
        self.touch(now, key.clone());
        concerned.insert(id);
        self.look_at_silenced_again(now, &concerned);
        Ok(Accepted::Object(key))
    }

    /// Ends a silence because a person said so.
    pub(super) fn expire_silence(&mut self, now: Timestamp, id: &str) -> Reply {
        let silence = self.silences.get(id).ok_or_else(|| no_silence(id))?;
        if silence.from_file {
            return Err(written_in_file(id));
        }
        if silence.state(now) == SilenceState::Expired {
            return Err(Refusal::WrongState(format!("silence {id} has already expired")));
        }
        let concerned = BTreeSet::from([silence.id.clone()]);
        let key = ObjectKey::Silence(silence.id.clone());
        self.end_silence(now, id);
        self.look_at_silenced_again(now, &concerned);
        Ok(Accepted::Object(key))
    }

    fn end_silence(&mut self, now: Timestamp, id: &str) {
        let Some(silence) = self.silences.get_mut(id) else { return };
        silence.ends_at = now;
        silence.starts_at = silence.starts_at.min(now);
        silence.updated_at = now;
        let key = ObjectKey::Silence(silence.id.clone());
        self.touch(now, key);
    }

    /// Makes the silences that files declare the ones that are there.
    pub(super) fn load_file_silences(&mut self, now: Timestamp) {
        let rules = self.rules.clone();
        // One that is over already says nothing.
        let written = rules.silences.iter().filter(|it| it.ends_at > now);
        let gone: Vec<Arc<str>> = (self.silences.values())
            .filter(|it| it.from_file && it.state(now) != SilenceState::Expired)
            .filter(|it| !written.clone().any(|rule| *rule.rule.name == *it.id))
            .map(|it| it.id.clone())
            .collect();
        for id in &gone {
            self.end_silence(now, id);
        }
        let mut concerned: BTreeSet<Arc<str>> = gone.into_iter().collect();
        for rule in written {
            let id: Arc<str> = rule.rule.name.as_str().into();
            let silence = Silence {
                id: id.clone(),
                matchers: rule.matchers.clone(),
                starts_at: rule.starts_at,
                ends_at: rule.ends_at,
                updated_at: now,
                created_by: rule.owner.clone(),
                comment: rule.reason.clone(),
                from_file: true,
            };
            let same = |it: &Silence| Silence { updated_at: now, ..it.clone() } == silence;
            if !self.silences.get(&id).is_some_and(same) {
                self.silences.insert(id.clone(), silence);
                self.touch(now, ObjectKey::Silence(id.clone()));
                concerned.insert(id);
            }
        }
        self.look_at_silenced_again(now, &concerned);
    }
}

fn no_silence(id: &str) -> Refusal {
    Refusal::NotFound(format!("there is no silence `{id}`"))
}

fn written_in_file(id: &str) -> Refusal {
    Refusal::WrongState(format!("silence `{id}` is written in a rules file; change it there"))
}
