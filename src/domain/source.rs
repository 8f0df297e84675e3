//! Declared sources: how the bodies of a tool's webhook become alerts, and who may send them.

use super::rules::{RuleRef, SecretText};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A webhook that a file declares, at `POST /ingest/{name}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Name and place.
    pub rule: Arc<RuleRef>,
    /// What its bodies mean.
    pub map: Mapping,
    /// How a sender shows that he may send; `None` = by the daemon's own tokens.
    pub proof: Option<Proof>,
    /// How many bodies are taken in a time; `None` = any number.
    pub quota: Option<Quota>,
}

/// What a body means. Each text is an expression in CEL over `body`, `headers` and, where `each`
/// is given, `item`; an empty one was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Gives the list whose entries are one `item` each.
    pub each: String,
    /// Gives `true` for what is an alert; the rest is left out.
    pub when: String,
    /// Gives `true` for what is a change, for example a deployment.
    pub change: String,
    /// Gives `firing` or `resolved`.
    pub status: String,
    /// What people call it.
    pub title: String,
    /// Give what the fired and the resolved body of one alert have in common; none = the labels.
    pub fingerprint: Vec<String>,
    /// Since when it is true.
    pub starts_at: String,
    /// When it ended.
    pub ends_at: String,
    /// Where it can be looked at.
    pub link: String,
    /// The labels, by name.
    pub labels: BTreeMap<String, String>,
    /// Gives a map of further labels; those of `labels` win.
    pub labels_from: String,
    /// Texts about it, by name.
    pub annotations: BTreeMap<String, String>,
    /// Gives a map of further texts.
    pub annotations_from: String,
}

/// How a sender shows that he may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// In which form.
    pub style: ProofStyle,
    /// The secret that both know.
    pub secret: SecretText,
    /// How old a signed time may be, in seconds; 0 = not looked at.
    pub replay_window_seconds: u32,
}

/// The form of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofStyle {
    /// The secret itself, as `Authorization: Bearer`, or as the value of a header of this name.
    Token {
        /// The header; empty = `Authorization`.
        header: String,
    },
    /// HMAC-SHA256 over the body, in hexadecimal, as GitHub signs: `X-Hub-Signature-256`.
    Github {
        /// The header, in small letters.
        header: String,
    },
    /// HMAC-SHA256 over `v0:TIME:BODY`, as Slack signs.
    Slack,
    /// HMAC-SHA256 over `ID.TIME.BODY`, as GitLab signs, and whoever keeps to the standard that is
    /// called Standard Webhooks.
    Standard,
    /// The signature of Amazon SNS, by the certificate at the address that the message names. There
    /// is no secret.
    Sns {
        /// The topics whose messages are taken: SNS signs those of everybody.
        topics: Vec<String>,
        /// The address of a service that is used as SNS; empty = Amazon's own.
        endpoint: String,
    },
    /// HMAC-SHA256 over `TIME.BODY`, as Stripe signs.
    Stripe {
        /// The header, in small letters.
        header: String,
    },
}

/// How many bodies are taken in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// How many.
    pub count: u32,
    /// In how many seconds.
    pub per_seconds: u32,
}
