//! Changes out of mapped entries: what a deployment, a release or a run of a pipeline tells.

use super::details;
use super::mapped::Mapped;
use crate::domain::change::{ChangeKind, ChangeState, ReceivedChange};
use jiff::Timestamp;

/// The longest title of a change, in bytes.
const TITLE_BYTES_MAX: usize = 512;
/// The longest name by which a source knows a change, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// A longer link is dropped; half a link leads nowhere. In bytes.
const LINK_BYTES_MAX: usize = 2048;

/// Reads a word as the kind of a change. Fails with a reason.
pub(super) fn kind(word: &str) -> Result<ChangeKind, String> {
    let word = word.trim().to_ascii_lowercase();
    if word.is_empty() {
        return Ok(ChangeKind::Normal);
    }
    let known = ChangeKind::ALL.into_iter().find(|it| it.as_str() == word);
    known.ok_or_else(|| {
        format!("a change is standard, normal or emergency, not `{}`", word.escape_debug())
    })
}

/// Reads a word as the state of a change; a word that is none is left to what is told besides.
fn state(word: &str) -> Option<ChangeState> {
    let word = word.trim().to_ascii_lowercase();
    ChangeState::ALL.into_iter().find(|it| it.as_str() == word)
}

/// Cuts the texts of a change, so that a stored value stays small, and drops what no browser should
/// follow.
pub(super) fn fit(change: ReceivedChange, now: Timestamp) -> ReceivedChange {
    let cut = |text: &str, bytes: usize| {
        let text = text.trim();
        text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
    };
    let is_link = ["http://", "https://"].iter().any(|it| change.link.starts_with(it));
    ReceivedChange {
        external_id: cut(&change.external_id, NAME_BYTES_MAX),
        // The clocks of two machines differ; what is told was made.
        time: change.time.map(|it| it.min(now)),
        title: cut(&change.title, TITLE_BYTES_MAX),
        service: details::label_text(&change.service),
        environment: details::label_text(&change.environment),
        version: details::label_text(&change.version),
        author: details::label_text(&change.author),
        link: if is_link && change.link.len() <= LINK_BYTES_MAX {
            change.link
        } else {
            String::new()
        },
        ..change
    }
}

impl Mapped {
    /// The change that an entry tells, by its labels `service`, `environment`, `version`, `author`,
    /// `kind` and `state`. Fails with a reason.
    pub(super) fn change(&self, now: Timestamp) -> Result<ReceivedChange, String> {
        let label = |name: &str| self.labels.get(name).cloned().unwrap_or_default();
        let begun = if self.is_firing { ChangeState::Running } else { ChangeState::Done };
        let parts = self.known_by.values().filter(|it| !it.is_empty());
        let change = ReceivedChange {
            external_id: parts.cloned().collect::<Vec<_>>().join(" "),
            time: self.starts_at.or(self.ends_at),
            title: self.title.clone(),
            service: label("service"),
            environment: label("environment"),
            version: label("version"),
            author: label("author"),
            kind: kind(&label("kind"))?,
            state: state(&label("state")).unwrap_or(begun),
            link: self.link.clone(),
        };
        Ok(fit(change, now))
    }
}
