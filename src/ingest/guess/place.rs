//! Where a value stands in a body, for a mapping that reads it there.

/// Where a value stands; empty where no path leads to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// As `get(body, …)` takes it: `data.0.id`.
    pub(super) path: String,
    /// Whether it stands beside the list of alerts, not in an entry of it.
    pub(super) is_around: bool,
}

impl Place {
    pub(super) fn is_empty(&self) -> bool {
        self.path.is_empty()
    }

    /// The path to the object that the value stands in.
    pub(super) fn object(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |it| it.0)
    }
}
