//! Notifications: telling a receiver what happened, again and again until it has heard.

mod mute;

pub use mute::Mute;

use super::effect::{Effect, EffectKey, Outcome, OutcomeKind, PlannedEffect};
use super::incident::{Incident, IncidentId, TimelineEntry};
use super::label::Labels;
use super::rules::{Mode, Occasion, Receiver, RuleRef, SecretText};
use super::{Closed, Count, ObjectKey, State, later};
use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::cell::LazyCell;
use std::sync::Arc;

super::numbered_id!(
    /// The number of a notification; printed `NTF-12`.
    NotificationId,
    "NTF"
);

/// Where a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationState {
    /// Being sent, or waiting for the next attempt.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Dead,
    /// A route was mute, and when it was so no longer there was nothing to tell.
    Muted,
    /// It was time to send it, but we only observe.
    WouldSend,
}

/// One message to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Its number.
    pub id: NotificationId,
    /// The route that asked for it.
    pub route: Arc<RuleRef>,
    /// The receiver's name.
    pub receiver: String,
    /// Where it goes.
    pub url: SecretText,
    /// What it is about.
    pub occasion: Occasion,
    /// The incident, if it is about one.
    pub incident: Option<IncidentId>,
    /// The name of the alert that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertname: Option<Box<str>>,
    /// The JSON body.
    pub body: Arc<str>,
    /// Where it is.
    pub state: NotificationState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
    /// What happened last, in a line.
    pub detail: String,
    /// Why and until when it is, or was, held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Mute>,
}

/// Seconds before the second attempt; doubles with each further one.
const RETRY_SECONDS_MIN: i64 = 1;
/// The longest time between two attempts, in seconds.
const RETRY_SECONDS_MAX: i64 = 300;
/// After this long a notification is given up, in seconds.
const GIVEN_UP_SECONDS: i64 = 24 * 3600;

impl State {
    /// Tells every receiver whose route wants to know. In `observe` mode it is only noted that
    /// they would have been.
    pub(super) fn notify(
        &mut self,
        now: Timestamp,
        occasion: Occasion,
        incident: &Incident,
        text: &str,
    ) {
        let body = || Message { version: "1", occasion, text, at: now, incident }.to_text();
        self.send(now, occasion, Some(incident), &body);
    }

    /// Tells about something that is not an incident.
    pub(super) fn notify_plainly(&mut self, now: Timestamp, occasion: Occasion, body: &Value) {
        self.send(now, occasion, None, &|| body.to_string());
    }

    fn send(
        &mut self,
        now: Timestamp,
        occasion: Occasion,
        incident: Option<&Incident>,
        body: &dyn Fn() -> String,
    ) {
        let no_labels = Labels::default();
        let labels = incident.map_or(&no_labels, |it| &it.labels);
        let incident = incident.map(|it| it.id);
        let rules = self.rules.clone();
        // Most of what happens nobody wants to be told.
        let body = LazyCell::new(body);
        let asked = rules.occasion_asked(occasion);
        for route in &rules.routes {
            if !route.on.contains(&asked) || !route.matchers.matches(labels) {
                continue;
            }
            let Some(receiver) = rules.receiver(&route.receiver) else { continue };
            if self.settle_muted(now, route, occasion, incident) {
                continue;
            }
            let about = (occasion, incident, labels.get("alertname"));
            let id = self.make_notification(now, (&route.rule, receiver), about, &body);
            self.send_unless_muted(now, id, route.hold(now, occasion));
        }
    }

    /// Tells one receiver something about an incident, whatever the routes say. Fails when there is
    /// no such receiver.
    pub(super) fn notify_receiver(
        &mut self,
        now: Timestamp,
        (receiver, by): (&str, &Arc<RuleRef>),
        incident: Option<&Incident>,
        text: &str,
    ) -> Result<NotificationId, String> {
        let occasion = Occasion::RunbookNote;
        let rules = self.rules.clone();
        let receiver =
            rules.receiver(receiver).ok_or_else(|| format!("there is no receiver `{receiver}`"))?;
        let body = if let Some(incident) = incident {
            Message { version: "1", occasion, text, at: now, incident }.to_text()
        } else {
            let word = occasion.as_str();
            serde_json::json!({"version": "1", "occasion": word, "text": text, "at": now})
                .to_string()
        };
        let name = incident.and_then(|it| it.labels.get("alertname"));
        let about = (occasion, incident.map(|it| it.id), name);
        let id = self.make_notification(now, (by, receiver), about, &body);
        self.send_unless_muted(now, id, None);
        Ok(id)
    }

    fn make_notification(
        &mut self,
        now: Timestamp,
        (route, receiver): (&Arc<RuleRef>, &Receiver),
        (occasion, incident, alertname): (Occasion, Option<IncidentId>, Option<&str>),
        body: &str,
    ) -> NotificationId {
        self.memory.notification += 1;
        self.changes.objects.insert(ObjectKey::Memory);
        let id = NotificationId(self.memory.notification);
        let name = Value::from(receiver.rule.name.as_str());
        let rest = body.strip_prefix('{').unwrap_or(body);
        let body = format!("{{\"notification\":\"{id}\",\"receiver\":{name},{rest}");
        let notification = Notification {
            id,
            route: route.clone(),
            receiver: receiver.rule.name.clone(),
            url: receiver.webhook_url.clone(),
            occasion,
            incident,
            alertname: alertname.map(Box::from),
            body: body.into(),
            state: NotificationState::Pending,
            attempts: 0,
            created_at: now,
            retry_at: None,
            ended_at: None,
            detail: String::new(),
            muted: None,
        };
        self.notifications.insert(id, notification);
        id
    }

    fn send_unless_muted(&mut self, now: Timestamp, id: NotificationId, muted: Option<Mute>) {
        if muted.is_none() {
            return self.attempt(now, id);
        }
        if let Some(notification) = self.notifications.get_mut(&id) {
            notification.retry_at = muted.as_ref().map(|it| it.until);
            notification.muted = muted;
        }
        self.touch(now, ObjectKey::Notification(id));
    }

    fn attempt(&mut self, now: Timestamp, id: NotificationId) {
        let Some(notification) = self.notifications.get_mut(&id) else { return };
        if self.rules.mode == Mode::Observe {
            "we only observe".clone_into(&mut notification.detail);
            self.end_notification(now, id, NotificationState::WouldSend);
            return;
        }
        notification.attempts += 1;
        notification.retry_at = None;
        self.turn.effects.push(PlannedEffect {
            key: attempt_key(id, notification.attempts),
            idempotent: true,
            effect: Effect::Deliver {
                receiver: notification.receiver.clone(),
                url: notification.url.clone(),
                occasion: notification.occasion,
                incident: notification.incident,
                body: notification.body.clone(),
            },
        });
        self.touch(now, ObjectKey::Notification(id));
    }

    /// A delivery was tried.
    pub(super) fn delivery_finished(
        &mut self,
        now: Timestamp,
        id: NotificationId,
        key: &EffectKey,
        outcome: &Outcome,
    ) {
        let Some(notification) = self.notifications.get_mut(&id) else { return };
        // A result that is told twice changes nothing.
        if notification.retry_at.is_some() || attempt_key(id, notification.attempts) != *key {
            return;
        }
        notification.detail.clone_from(&outcome.detail);
        let begun_at = notification.muted.as_ref().map_or(notification.created_at, |it| it.until);
        let too_old = later(begun_at, GIVEN_UP_SECONDS) <= now;
        match outcome.result {
            OutcomeKind::Succeeded => self.end_notification(now, id, NotificationState::Delivered),
            OutcomeKind::FailedRetryable | OutcomeKind::TimedOut | OutcomeKind::Stopped
                if !too_old =>
            {
                notification.retry_at = Some(retry_time(now, id, notification.attempts));
                self.touch(now, ObjectKey::Notification(id));
            }
            OutcomeKind::Failed
            | OutcomeKind::FailedRetryable
            | OutcomeKind::TimedOut
            | OutcomeKind::Stopped => self.end_notification(now, id, NotificationState::Dead),
        }
    }

    fn end_notification(&mut self, now: Timestamp, id: NotificationId, state: NotificationState) {
        let Some(mut notification) = self.notifications.remove(&id) else { return };
        notification.state = state;
        notification.ended_at = Some(now);
        let (kind, word) = match state {
            NotificationState::Delivered | NotificationState::Pending => {
                self.turn.counts.push(Count::NotificationDelivered);
                ("notified", "was told")
            }
            NotificationState::Dead => {
                self.turn.counts.push(Count::NotificationDead);
                ("not_notified", "could not be told")
            }
            NotificationState::Muted => {
                self.turn.counts.push(Count::NotificationMuted);
                ("not_notified", "was not told, as it was over by then")
            }
            NotificationState::WouldSend => {
                self.turn.counts.push(Count::NotificationWouldSend);
                ("would_notify", "would have been told")
            }
        };
        if let Some(incident) = notification.incident {
            let text = format!(
                "{} {word}: {} ({id}, attempt {}: {})",
                notification.receiver,
                notification.occasion.as_str().replace('_', " "),
                notification.attempts,
                notification.detail
            );
            self.log(ObjectKey::Incident(incident), TimelineEntry::new(now, kind, "", text));
        }
        self.account_told(now, &notification);
        self.changes.closed.push(Closed::Notification(Box::new(notification)));
        self.touch(now, ObjectKey::Notification(id));
    }

    /// A notification's time has come: the next attempt.
    pub(super) fn notification_due(&mut self, now: Timestamp, id: NotificationId) {
        if self.is_moot(id) {
            self.end_notification(now, id, NotificationState::Muted);
        } else {
            self.tell_as_it_is(id);
            self.attempt(now, id);
        }
    }

    /// What was held back tells of the incident as it is now, and not as it was.
    fn tell_as_it_is(&mut self, id: NotificationId) {
        let Some(notification) = self.notifications.get_mut(&id) else { return };
        let is_held = notification.muted.is_some() && notification.attempts == 0;
        let incident = notification.incident.and_then(|it| self.incidents.get(&it));
        let Some(incident) = incident.filter(|_| is_held) else { return };
        // The incident is the last field, and no text before it can hold such a key: its marks
        // would be escaped.
        let Some((before, _)) = notification.body.split_once(INCIDENT_FIELD) else { return };
        let view = serde_json::to_string(&View(incident)).expect("our own types have text keys");
        notification.body = format!("{before}{INCIDENT_FIELD}{view}}}").into();
    }
}

fn attempt_key(id: NotificationId, attempt: u32) -> EffectKey {
    EffectKey(format!("{id}/{attempt}").into())
}

/// Exponential backoff. Half of it is spread by the number, so that receivers that come back are
/// not met by everything at once; the spread is no drawn lot, so that replay gives the same.
fn retry_time(now: Timestamp, id: NotificationId, attempts: u32) -> Timestamp {
    let full = RETRY_SECONDS_MIN.saturating_mul(1 << attempts.min(16)).min(RETRY_SECONDS_MAX);
    let spread = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let part = i64::try_from(spread).unwrap_or(0) * full * 500 / 65_536;
    let wait = jiff::SignedDuration::from_millis(full * 500 + part);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// How the last field of a message begins.
const INCIDENT_FIELD: &str = ",\"incident\":";

/// An incident as a receiver sees it.
struct View<'a>(&'a Incident);

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        incident_view(self.0, serializer)
    }
}

/// What a receiver gets: what happened, and the incident as it is.
#[derive(Serialize)]
struct Message<'a> {
    version: &'a str,
    occasion: Occasion,
    text: &'a str,
    at: Timestamp,
    #[serde(serialize_with = "incident_view")]
    incident: &'a Incident,
}

impl Message<'_> {
    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("our own types have text keys only")
    }
}

fn incident_view<S: Serializer>(it: &Incident, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    fields.serialize_entry("id", &it.id)?;
    fields.serialize_entry("title", &it.title)?;
    fields.serialize_entry("state", &it.state)?;
    fields.serialize_entry("severity", &it.severity)?;
    fields.serialize_entry("priority", &it.priority)?;
    fields.serialize_entry("services", &it.services)?;
    fields.serialize_entry("owner", &it.owner)?;
    fields.serialize_entry("labels", &it.labels)?;
    fields.serialize_entry("annotations", &it.annotations)?;
    fields.serialize_entry("alert_count", &it.alert_count)?;
    fields.serialize_entry("opened_at", &it.opened_at)?;
    fields.serialize_entry("acknowledged_at", &it.acknowledged_at)?;
    fields.serialize_entry("resolved_at", &it.resolved_at)?;
    fields.serialize_entry("why", &it.why)?;
    fields.end()
}
