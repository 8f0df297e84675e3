//! What can go wrong: each seed switches some of it on, each at a rate of its own.

use super::random::Random;
use std::collections::BTreeSet;

/// Something that goes wrong, or that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process dies between two rounds.
    Crash,
    /// The process dies in a write, which then is there or is lost.
    CrashInWrite,
    /// The process is down for long.
    LongDowntime,
    /// The process is told to stop, and started again.
    Restart,
    /// A write fails, and nobody knows whether it is there.
    FailedWrite,
    /// The store cannot be opened or read for a while.
    FailedOpen,
    /// There is no room for new facts, and sometimes none for results.
    FullDisk,
    /// Writes take long.
    SlowDisk,
    /// Deliveries are lost on their way.
    LostDelivery,
    /// A delivery is taken, and its sender does not learn of it.
    LostAnswer,
    /// Deliveries come twice.
    DoubledDelivery,
    /// Deliveries overtake each other.
    LateDelivery,
    /// A sender is cut off for a while.
    Partition,
    /// A record cannot be decided about.
    Poison,
    /// Steps fail or take too long.
    FailingStep,
    /// Steps take long.
    SlowStep,
    /// Results are told twice.
    DoubledResult,
    /// Receivers are down for a while.
    ReceiverDown,
    /// A receiver takes a notification, and we do not learn of it.
    ReceiverTimeout,
    /// A receiver refuses a notification for good.
    ReceiverRefuses,
    /// The wall clock is set forward.
    ClockForward,
    /// The wall clock is set back.
    ClockBack,
    /// Rules change.
    Reload,
    /// Somebody writes rules that cannot be right.
    BadReload,
    /// People acknowledge, resolve, reopen, note.
    IncidentOrders,
    /// People merge and split.
    MergeAndSplit,
    /// People silence.
    Silences,
    /// People run, approve, deny, abort, stop all runbooks.
    RunbookOrders,
    /// Facts are written while the watch is busy with something else.
    BusyWatch,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 29] = [
        Self::Crash,
        Self::CrashInWrite,
        Self::LongDowntime,
        Self::Restart,
        Self::FailedWrite,
        Self::FailedOpen,
        Self::FullDisk,
        Self::SlowDisk,
        Self::LostDelivery,
        Self::LostAnswer,
        Self::DoubledDelivery,
        Self::LateDelivery,
        Self::Partition,
        Self::Poison,
        Self::FailingStep,
        Self::SlowStep,
        Self::DoubledResult,
        Self::ReceiverDown,
        Self::ReceiverTimeout,
        Self::ReceiverRefuses,
        Self::ClockForward,
        Self::ClockBack,
        Self::Reload,
        Self::BadReload,
        Self::IncidentOrders,
        Self::MergeAndSplit,
        Self::Silences,
        Self::RunbookOrders,
        Self::BusyWatch,
    ];

    /// What its rate means: how often of a thousand cases at least and at most, or, where it comes
    /// by itself, the mean seconds from one to the next.
    fn rate_bounds(self) -> (u64, u64) {
        match self {
            Self::Crash | Self::Restart => (300, 1800),
            Self::LongDowntime => (100, 500),
            Self::CrashInWrite => (1, 10),
            Self::FailedWrite => (1, 20),
            Self::SlowDisk => (5, 200),
            Self::LostDelivery | Self::LostAnswer | Self::DoubledDelivery => (10, 300),
            Self::LateDelivery => (20, 500),
            Self::BusyWatch => (10, 200),
            Self::Poison => (5, 30),
            Self::FailingStep | Self::SlowStep | Self::DoubledResult => (50, 600),
            Self::ReceiverDown => (300, 1500),
            Self::ReceiverTimeout => (50, 400),
            Self::ReceiverRefuses => (10, 100),
            Self::FailedOpen
            | Self::FullDisk
            | Self::Partition
            | Self::ClockForward
            | Self::ClockBack => (400, 1800),
            Self::Reload | Self::BadReload => (200, 1500),
            Self::IncidentOrders | Self::Silences | Self::RunbookOrders => (60, 600),
            Self::MergeAndSplit => (120, 900),
        }
    }
}

/// What goes wrong in one history, and how often.
pub(crate) struct Lots {
    on: BTreeSet<Fault>,
    streams: Vec<(u64, Random)>,
}

impl Lots {
    /// The lots of a seed, for the faults that are switched on.
    pub(crate) fn new(seed: u64, on: &BTreeSet<Fault>) -> Self {
        let stream = |fault: &Fault| {
            let mut random = Random::stream(seed, &format!("{fault:?}"));
            let (least, most) = fault.rate_bounds();
            (random.between(least, most), random)
        };
        Self { on: on.clone(), streams: Fault::ALL.iter().map(stream).collect() }
    }

    /// The faults that a seed switches on: about half of them, sometimes nearly none or all.
    pub(crate) fn drawn(seed: u64) -> BTreeSet<Fault> {
        let mut random = Random::stream(seed, "swarm");
        let share = *random.pick(&[150, 400, 500, 600, 850]).unwrap_or(&500);
        Fault::ALL.into_iter().filter(|_| random.chance(share)).collect()
    }

    /// Whether a fault may happen at all.
    pub(crate) fn is_on(&self, fault: Fault) -> bool {
        self.on.contains(&fault)
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.on.clear();
    }

    /// Whether it happens in this case.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        if !self.on.contains(&fault) {
            return false;
        }
        let (rate, random) = self.stream(fault);
        random.chance(rate)
    }

    /// The milliseconds until it happens next by itself.
    pub(crate) fn wait(&mut self, fault: Fault) -> u64 {
        let (seconds, random) = self.stream(fault);
        random.around(seconds * 1000)
    }

    /// The fault's own random numbers.
    pub(crate) fn random(&mut self, fault: Fault) -> &mut Random {
        self.stream(fault).1
    }

    fn stream(&mut self, fault: Fault) -> (u64, &mut Random) {
        let (rate, random) =
            self.streams.get_mut(fault as usize).expect("there is a stream for every fault");
        (*rate, random)
    }
}
