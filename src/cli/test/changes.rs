//! Changes in a test: whether they are marked as they should be.

use crate::cli::virtual_watch::VirtualWatch;
use crate::config::ExpectedChange;
use std::collections::BTreeSet;

/// What is not as expected of a change.
pub(super) fn compare(watch: &VirtualWatch, wanted: &ExpectedChange) -> Option<String> {
    let Some(change) = watch.state.change_log.open.get(&wanted.id) else {
        return Some(format!("there is no change {}", wanted.id));
    };
    let freezes: BTreeSet<String> = change.freezes.iter().map(|it| it.freeze.clone()).collect();
    let is_right = wanted.state.is_none_or(|it| it == change.told.state)
        && wanted.freezes.as_ref().is_none_or(|it| *it == freezes)
        && wanted.forbidden.is_none_or(|it| it == change.is_forbidden());
    let (state, forbidden) = (change.told.state.as_str(), change.is_forbidden());
    let freezes = super::list(freezes.into_iter());
    (!is_right).then(|| {
        format!("change {} is {state}, freezes {freezes}, forbidden {forbidden}", wanted.id)
    })
}
