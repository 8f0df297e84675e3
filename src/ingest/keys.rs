//! Keys that stand in a body, as PagerDuty's routing key does: whose they are.

use super::Door;
use super::webhook::Known;
use crate::domain::source::ProofStyle;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// Whether a key that stands in a body is one of our tokens that may deliver. Made by whoever knows
/// the tokens.
pub type Keys = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Why a key lets nothing in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyRefusal {
    /// It is nobody's.
    Unknown,
    /// Its source has used up its quota; how many seconds to wait.
    UsedUp(u64),
}

impl Known {
    /// Whether this is the source's token. A secret that cannot be read is nobody's.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.proof.as_ref().is_some_and(|(proof, secret)| {
            let is_token = matches!(proof.style, ProofStyle::Token { .. });
            let is_equal: bool = secret.as_bytes().ct_eq(key.as_bytes()).into();
            is_token && is_equal && !secret.is_empty()
        })
    }
}

impl Door {
    /// The name of the source that a key stands for: the declared one whose token it is, else the
    /// usual one if it is a token of ours.
    pub(super) fn source_of_key(&self, key: &str, usual: &str) -> Result<String, KeyRefusal> {
        let rules = self.handle.peek(|state| Arc::clone(&state.rules));
        if let Some((name, known)) = self.sources.find_by_key(&rules, key) {
            if let Some(quota) = known.quota {
                let wait = self.sources.quotas.take(&name, quota, Instant::now());
                wait.map_err(|it| KeyRefusal::UsedUp(super::quota::whole_seconds(it)))?;
            }
            return Ok(name);
        }
        if (self.keys)(key) { Ok(usual.to_owned()) } else { Err(KeyRefusal::Unknown) }
    }
}
