//! What must survive: the inbox, the open and closed objects, their timelines, the history.
//!
//! One value of [`Batch`] is one write: its records, then the rest, each of them whole or not at all. The
//! committer (in `engine`) is the only writer; any thread may read. Nothing of an engine leaks through:
//! no trees, no transactions, no clock.

pub mod archive;
pub mod care;
mod embedded;
pub mod redb;
pub mod sled;
pub mod snapshot;

use crate::domain::effect::{EffectKey, PlannedEffect};
use crate::domain::event::{CorrelationDomain, Event};
use crate::domain::incident::TimelineEntry;
pub use embedded::{EmbeddedStore, Stats};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::str::FromStr;

/// What keeps the bytes. Of 100,000 images of a power loss each, 41 of sled were bad, and none of redb:
/// that is why a new store is made with redb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// sled 0.34, behind guards that make its acknowledgement durable.
    Sled,
    /// redb: what a new store is made with.
    #[default]
    Redb,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// Its name in settings and in the file `STORE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl FromStr for Engine {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| {
            Error::Unusable(format!("not an engine of the store; take sled or redb: `{name}`"))
        })
    }
}

/// How a store in a folder is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much memory the engine's page cache may take, in bytes.
    pub cache_bytes: u64,
    /// Below this much free space nothing new is taken in, in bytes. Results of turns and removals
    /// go on in the space that the store has taken before; where the file system gives none ahead,
    /// down to half and to a quarter of this.
    pub free_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 16 * 1024 * 1024, free_bytes_min: 4 * 1024 * 1024 }
    }
}

/// Opens the store in `folder`, or makes it. Fails with [`Error::Damaged`] when something of it is
/// lost, with [`Error::Unusable`] when a person must act, with [`Error::Full`] when there is no space even to open it.
pub fn open(engine: Engine, folder: &Path, options: Options) -> Result<EmbeddedStore, Error> {
    match engine {
        Engine::Sled => sled::open(folder, options),
        Engine::Redb => redb::open(folder, options),
    }
}

/// Facts that were accepted together: the unit of durability and of order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the order, from 1; given by the committer.
    pub seq: u64,
    /// The part of the key space that it belongs to.
    pub correlation_domain: CorrelationDomain,
    /// The facts, in order.
    pub events: Vec<Event>,
}

/// The facts of a record in the form in which they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(pub(crate) Vec<u8>);

/// Brings facts into the form in which they are stored. It takes long enough to be done before
/// they come to the one writer.
pub fn pack(events: &[Event]) -> Result<Packed, Error> {
    embedded::pack(events).map(Packed)
}

/// Reads a value as it is stored, unless it is in pieces. Fails when it is damaged.
pub fn decode_value(stored: &[u8]) -> Result<Vec<u8>, Error> {
    embedded::encode::unpack(b"", stored)
}

/// Reads the records of a file of the inbox, up to its end or to the first damage.
pub fn decode_records(file: &[u8]) -> Result<Vec<Record>, Error> {
    embedded::decode_records(file)
}

/// One turn of the watch, as it was decided: what replay runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The time that the turn was given.
    pub now: Timestamp,
    /// The record that was applied; `None` = a timer ([`Event::Woken`]).
    pub seq: Option<u64>,
    /// The record was set aside, because applying it panics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poisoned: bool,
}

/// What an object is; with its id the name of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Open alerts, a page of them each. Id: the page number.
    AlertPage,
    /// A closed alert. Id: the fingerprint.
    Alert,
    /// Id: `INC-42`.
    Incident,
    /// Id: `EXE-9`.
    Execution,
    /// Id: `PRB-7`.
    Problem,
    /// Id: a UUID or a name.
    Silence,
    /// Id: `NTF-12`.
    Notification,
    /// Id: its name.
    Heartbeat,
    /// Id: `CHG-3`.
    Change,
    /// Id: `FRZ-2`.
    Freeze,
    /// An article that somebody made. Id: its name.
    Article,
    /// What people said of something. Id: what they spoke of.
    Feedback,
    /// An account of noise. Id: `2026-11-23/rule/DiskFull`.
    Noise,
    /// What was learned of alerts of a name. Id: the name and the severity.
    Experience,
    /// What was learned of a place that is in no catalog. Id: `service/cart`.
    LearnedPlace,
    /// How often something usually begins. Id: `alert/DiskFull`.
    Habit,
    /// An entry of the audit trail, always closed. Id: `AUD-7`.
    Audit,
    /// The one small object of things to remember. Id: `memory`.
    Memory,
    /// The rules in force. Id: `rules`.
    Rules,
}

impl Kind {
    /// Whether closed objects stay until [`Commit::deletes`] names them: [`Store::retain`] leaves
    /// these alone.
    pub fn outlives_retention(self) -> bool {
        self == Self::Audit
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Unique within the kind. Ids that end in a number are ordered by it, so that `INC-10` comes
    /// after `INC-9`.
    pub id: String,
    /// JSON; of a page of alerts `MessagePack`.
    pub body: Vec<u8>,
}

/// What one durable step writes.
#[derive(Default)]
pub struct Batch {
    /// New records for the inbox, with rising `seq`.
    pub appends: Vec<Record>,
    /// For each of them its facts in the form in which they are stored, where somebody has prepared
    /// it; may be empty.
    pub packed: Vec<Option<Packed>>,
    /// The results of turns, if any are ready.
    pub commit: Option<Commit>,
    /// Effects that are about to begin and must not begin twice.
    pub claims: Vec<EffectKey>,
}

/// The results of turns: all of it is written, or nothing.
#[derive(Default)]
pub struct Commit {
    /// The turns, in order; the last `seq` among them is the new watermark.
    pub turns: Vec<Turn>,
    /// Objects that are new or changed, and open.
    pub puts: Vec<Object>,
    /// Objects that are closed: written for the last time, no longer loaded at start.
    pub closes: Vec<Object>,
    /// Objects that are gone without a trace: open ones (an emptied page of alerts), and closed
    /// ones of kinds that outlive the retention.
    pub deletes: Vec<(Kind, String)>,
    /// New entries of timelines, by the object's id.
    pub timeline: Vec<(String, TimelineEntry)>,
    /// New effects.
    pub effects: Vec<PlannedEffect>,
    /// Effects whose result is known.
    pub finished: Vec<EffectKey>,
}

/// What a start needs.
#[derive(Default)]
pub struct Loaded {
    /// All open objects.
    pub objects: Vec<Object>,
    /// Effects without a result; the flag tells whether they were claimed.
    pub effects: Vec<(PlannedEffect, bool)>,
    /// The `seq` of the last record that was applied; 0 = none.
    pub watermark: u64,
    /// The `seq` of the last record in the inbox; 0 = none.
    pub last_seq: u64,
    /// The time of the last turn.
    pub last_turn_at: Option<Timestamp>,
}

/// Which objects a listing looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Open ones only.
    Open,
    /// Closed ones only.
    Closed,
    /// Both.
    All,
}

/// How the store does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The engine's name.
    pub engine: &'static str,
    /// The size of its files, in bytes.
    pub disk_bytes: u64,
    /// The space left for it, in bytes.
    pub free_bytes: u64,
}

/// Why the store could not do it; variants by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was written; senders must wait. Tried again when there is space.
    #[error("the store is full: {0}")]
    Full(String),
    /// Something may have been written; open again and load.
    #[error("the store failed: {0}")]
    Failed(String),
    /// What was read is not what was written; heal it ([`care::open_healing`]) or restore a backup.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be opened by this program. A person must act.
    #[error("{0}")]
    Unusable(String),
}

/// The one way to what must survive.
///
/// Every engine passes the contract suite in `tests/store.rs`.
pub trait Store: Send + Sync {
    /// Writes a batch; durable against power loss when it returns. One writer at a time.
    ///
    /// Its records are durable before the rest: a crash may leave them without it, never the other
    /// way round. [`Error::Full`] means that nothing was written.
    fn write(&self, batch: &Batch) -> Result<(), Error>;

    /// Reads what a start needs.
    fn load(&self) -> Result<Loaded, Error>;

    /// Reads records of the inbox with `seq` greater than `after`, in order, at most `limit`.
    /// Consumed records stay until [`Store::retain`] removes them.
    fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, Error>;

    /// Reads turns in order, from the `after`-th on (0 = from the first kept one), at most about
    /// `limit`; each with its number.
    fn turns(&self, after: u64, limit: usize) -> Result<Vec<(u64, Turn)>, Error>;

    /// Reads one object, open or closed.
    fn get(&self, kind: Kind, id: &str) -> Result<Option<Object>, Error>;

    /// Lists objects of a kind in falling order of id, below `before`, at most `limit`.
    fn list(
        &self,
        kind: Kind,
        scope: Scope,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error>;

    /// Reads an object's timeline in order of time, after the `after`-th entry (0 = from the
    /// first), at most `limit`; each with its number.
    fn timeline(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TimelineEntry)>, Error>;

    /// Removes history, closed objects and their timelines from before a time, at most `budget`
    /// of them. Returns how many were removed.
    fn retain(&self, before: Timestamp, budget: usize) -> Result<usize, Error>;

    /// How it does.
    fn health(&self) -> Health;
}
