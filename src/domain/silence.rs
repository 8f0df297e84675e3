//! Silences: when not to act, because a person said so.

use super::alert::{Alert, AlertState};
use super::incident::TimelineEntry;
use super::label::Fingerprint;
use super::matcher::Matchers;
use super::rules::Occasion;
use super::time_interval::{self, TimeIntervals};
use super::timer::TimerKey;
use super::{Accepted, Closed, ObjectKey, Refusal, Reply, State, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
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
    /// If any, it holds only within them; only files say that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<Arc<TimeIntervals>>,
    /// How many alerts it has matched while it was active; one that fires again counts again.
    #[serde(default)]
    pub alert_count: u64,
    /// When it was told that it ends soon while its alerts fire.
    #[serde(default)]
    pub warned_at: Option<Timestamp>,
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
    /// Where it is in its life at a time. The end is not part of it. One that comes again and again
    /// is pending in between.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now >= self.ends_at {
            SilenceState::Expired
        } else if now < self.starts_at
            || !(self.time_intervals.is_empty()
                || time_interval::contains(&self.time_intervals, now))
        {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// When people who wait for its end should be told: 15 minutes before, or when three quarters
    /// of it are over.
    pub fn warns_at(&self) -> Timestamp {
        const WARNING_SECONDS: i64 = 15 * 60;
        let length = self.ends_at.duration_since(self.starts_at).as_secs();
        later(self.ends_at, -WARNING_SECONDS.min(length / 4))
    }

    /// The first moment strictly after another at which its state, or what is told of it, changes.
    fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let forgotten_at = later(self.ends_at, KEPT_SECONDS);
        let warns_at = self.warned_at.is_none().then(|| self.warns_at());
        let edges = [Some(self.starts_at), warns_at, Some(self.ends_at), Some(forgotten_at)];
        let recurring = (!self.time_intervals.is_empty())
            .then(|| time_interval::next_change(&self.time_intervals, self.starts_at.max(after)))
            .flatten()
            .filter(|it| *it < self.ends_at);
        edges.into_iter().flatten().filter(|it| *it > after).chain(recurring).min()
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
        holding.extend(self.heartbeats_fed_by(&alert.labels));
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
            self.warn_of_end(now, &id);
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
    pub(super) fn look_at_silenced_again(
        &mut self,
        now: Timestamp,
        concerned: &BTreeSet<Arc<str>>,
    ) {
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
        self.look_again(now, alerts);
    }

    /// Counts an alert for the silences that match it now.
    pub(super) fn count_silenced(&mut self, silences: &[Arc<str>]) {
        for id in silences {
            if let Some(silence) = self.silences.get_mut(id) {
                silence.alert_count += 1;
                self.changes.objects.insert(ObjectKey::Silence(id.clone()));
            }
        }
    }

    /// How many firing alerts each active silence matches, if any.
    pub fn firing_alerts_by_silence(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        let firing = self.alerts.values().filter(|it| it.state == AlertState::Firing);
        for id in firing.flat_map(|it| &it.decision.silenced_by) {
            *counts.entry(&**id).or_default() += 1;
        }
        counts
    }

    /// Tells, once, that a silence ends soon while alerts that it holds fire: they will be heard.
    fn warn_of_end(&mut self, now: Timestamp, id: &Arc<str>) {
        let Some(silence) = self.silences.get(id) else { return };
        let is_time = silence.warns_at() <= now && now < silence.ends_at;
        if !is_time || silence.warned_at.is_some() {
            return;
        }
        let firing = self.firing_alerts_by_silence().get(&**id).copied().unwrap_or(0);
        let Some(silence) = self.silences.get_mut(id) else { return };
        silence.warned_at = Some(now);
        if firing == 0 {
            return;
        }
        let text = format!(
            "the silence {id} ends at {:.0}, and {firing} of its alerts fire",
            silence.ends_at
        );
        let body = json!({
            "occasion": Occasion::SilenceExpiring.as_str(),
            "at": now,
            "text": text,
            "silence": {
                "id": id,
                "matchers": silence.matchers,
                "ends_at": silence.ends_at,
                "created_by": silence.created_by,
                "comment": silence.comment,
                "firing_alerts": firing,
            },
        });
        let entry = TimelineEntry::new(now, "silence_expiring", "", text);
        self.log(ObjectKey::Silence(id.clone()), entry);
        self.notify_plainly(now, Occasion::SilenceExpiring, &body);
    }

    /// The first of its times that has not had its effect, also when that time is past: a silence
    /// that ended while nobody watched has still to let its alerts go.
    pub(super) fn silence_wants(&self, id: &str) -> Option<Timestamp> {
        let seen_at = self.memory.silences_seen_at.unwrap_or(Timestamp::MIN);
        self.silences.get(id)?.next_change(seen_at)
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
        let wanted_start = silence.starts_at;
        let mut silence = Silence { starts_at: wanted_start.max(now), ..silence };
        let mut concerned = BTreeSet::new();
        if let Some(old) = old {
            let known = self.silences.get(old).ok_or_else(|| no_silence(old))?;
            if known.from_file {
                return Err(written_in_file(old));
            }
            let is_over = known.state(now) == SilenceState::Expired;
            concerned.insert(known.id.clone());
            // Listings tell whole milliseconds, so no more comes back.
            let starts_alike = if known.starts_at <= now {
                known.starts_at.as_millisecond() == wanted_start.as_millisecond()
            } else {
                wanted_start >= now
            };
            if !is_over && starts_alike && known.matchers == silence.matchers {
                silence.id = known.id.clone();
                silence.alert_count = known.alert_count;
                if known.starts_at <= now {
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
                time_intervals: rule.time_intervals.clone(),
                alert_count: 0,
                warned_at: None,
            };
            let same = |it: &Silence| {
                let written =
                    Silence { updated_at: now, alert_count: 0, warned_at: None, ..it.clone() };
                written == silence
            };
            if !self.silences.get(&id).is_some_and(same) {
                // What it did stays known while the file around it is edited.
                let alert_count = self.silences.get(&id).map_or(0, |it| it.alert_count);
                self.silences.insert(id.clone(), Silence { alert_count, ..silence });
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
