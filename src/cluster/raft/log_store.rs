//! A group's log as openraft wants it, in the journal that all groups share.

use super::types::{
    RaftEntry, RaftLogId, RaftVote, Types, decode_vote, encode_vote, from_log, invalid, log_id_of, point_of, to_log,
};
use crate::store::GroupLog;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use tokio::sync::oneshot;

/// Bytes of entries that are read, and sent to a follower, at a time.
const PIECE: usize = 1 << 20;

/// The log of one group.
#[derive(Clone)]
pub(super) struct LogStore(pub(super) GroupLog);

impl LogStore {
    /// Entries of `from <= index < to`, as openraft counts, as far as they are there.
    fn read(&self, from: u64, to: u64, most: usize) -> io::Result<Vec<RaftEntry>> {
        let state = self.0.state();
        let (from, to) = (from.max(state.first.saturating_sub(1)), to.min(state.last.index));
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.0.read(from + 1, to + 1, most)?;
        entries.into_iter().map(|entry| from_log(entry).map_err(invalid)).collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<RaftEntry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(from) => from + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(to) => to.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        self.read(from, to, PIECE)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.0.state().vote.map(|vote| decode_vote(&vote).map_err(invalid)).transpose()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.0.state();
        Ok(LogState { last_purged_log_id: log_id_of(state.purged), last_log_id: log_id_of(state.last) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.save_vote(
            encode_vote(vote),
            Box::new(move || {
                let _ = sender.send(());
            }),
        )?;
        receiver.await.map_err(|_| io::Error::other("the store has stopped"))
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_log).collect();
        self.0.append(entries, Box::new(move || done.io_completed(Ok(()))))
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        // Written in the order of the log: what is appended behind it is on disk only after it.
        self.0.truncate(point_of(last).index, Box::new(|| {}))
    }

    async fn purge(&mut self, up_to: RaftLogId) -> io::Result<()> {
        self.0.purge(point_of(Some(up_to)))
    }
}
