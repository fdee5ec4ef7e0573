//! Faults that are put in on purpose: a checker that finds nothing must be known to find these.

use crate::cluster::engine::Desk;
use crate::cluster::raft::{Agreed, Members};
use crate::store::{Applier, Batch, Content, LogEntry, Store};
use nightjar_base::ShardId;
use std::io;
use std::sync::Arc;

/// What is wrong with all nodes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bug {
    #[default]
    None,
    /// The disk says that it has what it has not: acknowledgements come before the sync.
    LyingDisk,
    /// The end of a connection ends whichever has the session by then.
    NoEpoch,
    /// Nodes acknowledge whether they have a lease or not.
    NoLease,
    /// SUBACK does not wait for the other nodes.
    NoSettling,
    /// A node comes back with its id and without its log.
    Wiped,
    /// Some batches are applied once more, by every node.
    AppliedTwice,
    /// QoS 2 publications carry no origin.
    NoOrigins,
    /// A session is let go of while what its connection submitted is under way.
    EarlyDetach,
    /// Who comes in leaves it to the leaders of all shards to hear that its last process is over.
    LateBurial,
    /// Who comes in does not see to it that its connection elsewhere is over.
    NoEviction,
}

/// Those that are found soon.
pub(super) const FOUND: [Bug; 6] =
    [Bug::LyingDisk, Bug::NoEpoch, Bug::Wiped, Bug::AppliedTwice, Bug::NoOrigins, Bug::EarlyDetach];
/// It takes more seeds than a test has time for: that two moments meet, or that the log does not tell of it as well.
pub(super) const RARE: [Bug; 4] = [Bug::NoLease, Bug::NoSettling, Bug::LateBurial, Bug::NoEviction];

/// A home that is no process's.
const NOBODY: u64 = 0;

/// Applies every so many entries twice.
pub(super) struct Doubling {
    pub(super) desk: Arc<Desk>,
    pub(super) shards: u16,
}

impl Agreed for Doubling {
    fn apply(&self, group: ShardId, entry: &LogEntry, applier: &mut Applier) -> io::Result<()> {
        self.desk.apply(group, entry, applier)?;
        if group.0 < self.shards && entry.content == Content::Batches && entry.point.index.is_multiple_of(23) {
            let ops = Store::decode_batch(&entry.payload);
            let mut payload = Vec::new();
            Store::encode_batch(Batch { home: NOBODY, sequence: 1 }, &ops, &mut payload);
            let again = LogEntry { payload: payload.into(), ..entry.clone() };
            // Nobody proposed it, so nobody is told.
            applier.batches(group, &again, |_, _| {})?;
        }
        Ok(())
    }

    fn members(&self, group: ShardId, members: &Members) {
        self.desk.members(group, members);
    }

    fn end_turn(&self, group: ShardId, applier: &mut Applier) {
        self.desk.end_turn(group, applier);
    }

    fn replaced(&self, group: ShardId, proposed: &dyn Fn(u64) -> u64) {
        self.desk.replaced(group, proposed);
    }
}
