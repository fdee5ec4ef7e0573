//! The journal's writing end: records into segments, one after the other.

use super::files::{File, Files, is_full};
use super::log::Place;
use super::record::RecordBuilder;
use super::segment::{self, HEADER_BLOCK, Header, Seal};
use super::spares::Spares;
use nightjar_base::ShardId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Why a record could not be written.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The disk is full: nothing of the record is to be seen, and it may be written again.
    Full(io::Error),
    /// Nobody knows what is on disk now: the journal must not be used any more.
    Broken(io::Error),
}

impl AppendError {
    fn from_create(error: io::Error) -> Self {
        if is_full(&error) { Self::Full(error) } else { Self::Broken(error) }
    }
}

/// A segment that the journal still needs.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) length: u64,
    /// Up to where it has records.
    pub(crate) used: u64,
    /// Whether a record of it is on disk: the first of them says again what the segments before said of the logs.
    pub(crate) begun: bool,
    /// By group: the newest index that an entry in here has.
    pub(crate) newest: Vec<u64>,
}

/// The segments that are needed, oldest first; the last one is being written.
#[derive(Default)]
pub(crate) struct Shelf {
    segments: Mutex<VecDeque<Segment>>,
}

impl Shelf {
    pub(crate) fn push(&self, segment: Segment) {
        self.segments.lock().push_back(segment);
    }

    /// Undoes `take_passed`.
    pub(crate) fn put_back(&self, segment: Segment) {
        self.segments.lock().push_front(segment);
    }

    /// Bytes of journal that a recovery would read.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.lock().iter().map(|segment| segment.used).sum()
    }

    /// Notes that an entry was written to the last segment.
    fn note(&self, used: u64, entries: &[(ShardId, u64)]) {
        if let Some(last) = self.segments.lock().back_mut() {
            last.used = used;
            for &(shard, index) in entries {
                let newest = &mut last.newest[usize::from(shard.0)];
                *newest = index.max(*newest);
            }
        }
    }

    /// The last segment, which has no record, makes way for another that begins with the same one.
    fn drop_last(&self) {
        self.segments.lock().pop_back();
    }

    /// What the last segment holds is on disk.
    fn note_synced(&self) {
        if let Some(last) = self.segments.lock().back_mut() {
            last.begun = last.used > HEADER_BLOCK as u64;
        }
    }

    /// Takes the oldest segment, if all that it holds is at or below the index that `passed` gives for each group, and a
    /// later one has taken over what it says of their logs.
    pub(crate) fn take_passed(&self, passed: &[u64]) -> Option<Segment> {
        let mut segments = self.segments.lock();
        if !segments.iter().skip(1).any(|segment| segment.begun) {
            return None;
        }
        let all_passed = segments.front()?.newest.iter().zip(passed).all(|(newest, passed)| newest <= passed);
        if all_passed { segments.pop_front() } else { None }
    }
}

/// Writes records. Owned by the journal's thread.
pub(crate) struct Journal {
    files: Arc<dyn Files>,
    spares: Arc<Spares>,
    shelf: Arc<Shelf>,
    node: u64,
    replicated: bool,
    segment_bytes: u64,
    current: Option<Current>,
    /// By group: the newest index that was written.
    indexes: Vec<u64>,
    /// The number of the next record.
    next: u64,
    /// All records up to this number are on disk.
    synced: u64,
}

struct Current {
    file: Arc<dyn File>,
    seal: Seal,
    length: u64,
    offset: u64,
}

/// Where a recovered journal goes on.
pub(crate) struct Resume {
    pub(crate) next: u64,
    /// The last segment's first record, length and end.
    pub(crate) last: Option<(u64, u64, u64)>,
}

impl Journal {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        spares: Arc<Spares>,
        shelf: Arc<Shelf>,
        (node, replicated): (u64, bool),
        indexes: Vec<u64>,
        resume: &Resume,
    ) -> io::Result<Self> {
        let current = match resume.last {
            Some((first, length, offset)) => {
                let file = files.open(&segment::name(first))?;
                Some(Current { file, seal: Seal { node, first }, length, offset })
            }
            None => None,
        };
        let segment_bytes = spares.segment_bytes();
        let (next, synced) = (resume.next, resume.next - 1);
        Ok(Self { files, spares, shelf, node, replicated, segment_bytes, current, indexes, next, synced })
    }

    /// From here on it holds the logs of a cluster's groups: in segments of their own, with an index for the control
    /// group.
    pub(crate) fn replicate(&mut self) -> io::Result<()> {
        if !self.replicated {
            self.sync().map_err(|error| match error {
                AppendError::Full(error) | AppendError::Broken(error) => error,
            })?;
            (self.replicated, self.current) = (true, None);
            self.indexes.push(0);
        }
        Ok(())
    }

    /// Whether a record of `size` bytes would begin a new segment.
    fn begins_segment(&self, size: u64) -> bool {
        self.current.as_ref().is_none_or(|current| current.offset + size > current.length)
    }

    /// Whether a record of `size` bytes would be the first of its segment, which a crash may have left without any.
    pub(crate) fn is_first(&self, size: u64) -> bool {
        self.begins_segment(size) || self.current.as_ref().is_some_and(|current| current.offset == HEADER_BLOCK as u64)
    }

    /// Writes the record that `builder` holds, whose entries are of these shards and indexes. It is not yet on disk.
    /// Returns where it lies.
    ///
    /// With `small`, a new segment is only as long as it must be: for a disk that is nearly full. There is room for `more`
    /// bytes behind the record in its segment.
    pub(crate) fn append(
        &mut self,
        builder: &mut RecordBuilder,
        entries: &[(ShardId, u64)],
        small: bool,
        more: u64,
    ) -> Result<Place, AppendError> {
        let size = builder.len() as u64;
        if self.begins_segment(size + more) {
            self.begin_segment(size + more, small)?;
        }
        let (next, synced) = (self.next, self.synced);
        let Some(current) = &mut self.current else {
            return Err(AppendError::Broken(io::Error::other("the journal has no segment")));
        };
        let bytes = builder.finish(next, synced, current.seal);
        // A write that found the disk full has promised nothing, unlike a failed sync: the same bytes may be written
        // to the same place again.
        current.file.write_at(current.offset, bytes).map_err(AppendError::from_create)?;
        let place = Place { segment: current.seal.first, offset: current.offset };
        current.offset += size;
        self.next += 1;
        self.shelf.note(current.offset, entries);
        for &(shard, index) in entries {
            let newest = &mut self.indexes[usize::from(shard.0)];
            *newest = index.max(*newest);
        }
        Ok(place)
    }

    /// Returns when all that was appended is on disk. A sync that failed is never tried again: the system may have
    /// thrown away what it could not write, and would report success.
    pub(crate) fn sync(&mut self) -> Result<(), AppendError> {
        if self.is_synced() {
            return Ok(());
        }
        if let Some(current) = &self.current {
            current.file.sync().map_err(AppendError::Broken)?;
            self.shelf.note_synced();
        }
        self.synced = self.next - 1;
        Ok(())
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced + 1 == self.next
    }

    fn begin_segment(&mut self, record: u64, small: bool) -> Result<(), AppendError> {
        // A segment that has a successor has no torn tail.
        self.sync()?;
        let needed = HEADER_BLOCK as u64 + record;
        let wanted = if small { self.segment_bytes.min(4 << 20) } else { self.segment_bytes };
        let length = wanted.max(needed);
        let spare = if needed <= self.segment_bytes { self.spares.take() } else { None };
        let (name, length) = match spare {
            Some(name) => (name, self.segment_bytes),
            None => (self.spares.create(length).map_err(AppendError::from_create)?, length),
        };
        let seal = Seal { node: self.node, first: self.next };
        let header = Header { seal, shards: self.shards(), length, replicated: self.replicated };
        let file = self.christen(&name, header).map_err(|error| {
            // What has no segment's name means nothing yet.
            let _ = self.files.remove(&name);
            AppendError::from_create(error)
        })?;
        self.files.sync_folder().map_err(AppendError::Broken)?;
        // A crash may have left one without a record; it had the same name, and is gone.
        if self.current.as_ref().is_some_and(|current| current.seal.first == seal.first) {
            self.shelf.drop_last();
        }
        let newest = vec![0; self.indexes.len()];
        self.shelf.push(Segment { first: seal.first, length, used: HEADER_BLOCK as u64, begun: false, newest });
        self.current = Some(Current { file, seal, length, offset: HEADER_BLOCK as u64 });
        self.spares.want();
        Ok(())
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.indexes.len() - usize::from(self.replicated)).expect("there are at most 1024 shards")
    }

    /// Makes the prepared file `name` a segment. Its header is on disk before it bears a segment's name.
    fn christen(&self, name: &str, header: Header) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(name)?;
        file.write_at(0, &header.encode(&self.indexes))?;
        file.sync()?;
        self.files.rename(name, &segment::name(header.seal.first))?;
        Ok(file)
    }
}
