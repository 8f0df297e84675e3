//! The audit trail on the disk is a whole chain, from its anchor to what the state calls its end.

use super::disk::Contents;
use super::laws::{Verdict, ensure};
use watchkeeper::domain::State;
use watchkeeper::domain::audit::{AuditEntry, AuditId, Chain, Link, Verifier};
use watchkeeper::store::Kind;

/// How far the chain was looked at.
#[derive(Default)]
pub(crate) struct Trail {
    reached: Link,
}

impl Trail {
    /// Looks at the entries that are new since the last look.
    pub(crate) fn check(&mut self, state: &State, disk: &Contents) -> Verdict {
        let chain = state.memory.audit;
        if self.reached.id < chain.anchor.id {
            self.reached = chain.anchor;
        }
        let stored = |number: u64| disk.closed(Kind::Audit, &AuditId(number).to_string());
        let is_gone = chain.anchor.id.0 == 0 || stored(chain.anchor.id.0).is_none();
        ensure(is_gone, || format!("{} was let go and is there", chain.anchor.id))?;
        let mut verifier = Verifier::new(Chain { anchor: self.reached, ..chain });
        for number in self.reached.id.0 + 1..=chain.last.id.0 {
            let Some(object) = stored(number) else { break };
            let entry: AuditEntry =
                serde_json::from_slice(&object.body).map_err(|error| error.to_string())?;
            verifier.take(&entry).map_err(|it| it.to_string())?;
        }
        self.reached = verifier.reached();
        verifier.finish().map_err(|it| it.to_string())
    }
}
