//! The part of the journal's thread that writes the logs of a cluster's groups.
//!
//! All groups share one journal and one sync: what gathered while the last batch was synced is one record, whichever
//! groups it is of, in the order in which they asked.

use super::core::{Core, Done, LogJob, LogWrite};
use super::journal::{AppendError, Journal};
use super::log::{Log, Place, Point};
use super::record::{Kind, RecordBuilder};
use super::writer::RECORD_BYTES;
use nightjar_base::ShardId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Deref;

/// The jobs of the batch at hand.
#[derive(Default)]
pub(crate) struct Jobs {
    dones: Vec<Done>,
    /// Where in the record the entries are.
    entries: Vec<(ShardId, Point, usize)>,
    preamble: RecordBuilder,
}

impl Jobs {
    /// Moves jobs into the record until it is full; whether it must be synced.
    pub(crate) fn encode(
        &mut self,
        jobs: &mut VecDeque<LogJob>,
        builder: &mut RecordBuilder,
        touched: &mut Vec<(ShardId, u64)>,
    ) -> bool {
        let mut must_sync = false;
        while let Some(job) = jobs.pop_front() {
            must_sync |= job.what.must_sync();
            self.dones.extend(job.done);
            self.write(job.group, &job.what, builder, touched);
            if jobs.front().is_some_and(|next| builder.len() + next.what.size() > RECORD_BYTES) {
                break;
            }
        }
        must_sync
    }

    fn write(
        &mut self,
        group: ShardId,
        what: &LogWrite,
        builder: &mut RecordBuilder,
        touched: &mut Vec<(ShardId, u64)>,
    ) {
        let entries = match what {
            LogWrite::Append(entries) => entries,
            LogWrite::Truncate(index) => return about(builder, group, Kind::Truncate, &index.to_le_bytes()),
            LogWrite::Vote(vote) => return about(builder, group, Kind::Vote, vote),
            LogWrite::Purge(point) => return about(builder, group, Kind::Purged, &point.encode()),
            LogWrite::Install(install) => return about(builder, group, Kind::Install, &install.encode()),
        };
        for entry in entries {
            let Point { term, index } = entry.point;
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&entry.payload);
            let offset = builder.entry(group, entry.content.kind(), index, term, write);
            self.entries.push((group, entry.point, offset));
            touched.push((group, index));
        }
    }

    /// Appends the record. A new segment begins with what must outlive the one before: votes, and where the logs begin.
    pub(crate) fn append(
        &mut self,
        core: &Core,
        journal: &mut Journal,
        builder: &mut RecordBuilder,
        touched: &[(ShardId, u64)],
        small: bool,
    ) -> Result<Place, AppendError> {
        let size = builder.len() as u64;
        if let Some(replicated) = core.replicated.get().filter(|_| journal.is_first(size)) {
            self.preamble.begin();
            preamble(replicated.logs.iter().map(Mutex::lock), &mut self.preamble);
            journal.append(&mut self.preamble, &[], small, size)?;
        }
        journal.append(builder, touched, small, 0)
    }

    /// The record was written to `place`.
    pub(crate) fn placed(&mut self, core: &Core, place: Place) {
        let Some(replicated) = core.replicated.get() else { return };
        for (group, point, offset) in self.entries.drain(..) {
            let mut log = replicated.logs[usize::from(group.0)].lock();
            log.placed(point, Place { offset: place.offset + offset as u64, ..place });
            log.give_up(replicated.most_held / replicated.logs.len());
        }
    }

    /// The record is as durable as is promised.
    pub(crate) fn report(&mut self) {
        self.dones.drain(..).for_each(|done| done());
    }
}

/// What a segment begins with: of each group's log what must outlive the segments before.
pub(crate) fn preamble(logs: impl IntoIterator<Item = impl Deref<Target = Log>>, builder: &mut RecordBuilder) {
    for (number, log) in logs.into_iter().enumerate() {
        let group = ShardId(u16::try_from(number).expect("there are at most 1025 groups"));
        if let Some(vote) = log.vote() {
            about(builder, group, Kind::Vote, vote);
        }
        if log.purged() != Point::default() {
            about(builder, group, Kind::Purged, &log.purged().encode());
        }
    }
}

/// Adds something about a group's log that is not an entry of it.
fn about(builder: &mut RecordBuilder, group: ShardId, kind: Kind, payload: &[u8]) {
    builder.entry(group, kind, 0, 0, |out| out.extend_from_slice(payload));
}
