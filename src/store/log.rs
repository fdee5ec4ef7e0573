//! The logs of a cluster's groups, as they lie in the journal: what is there, and where.
//!
//! ```text
//!   purged │ kept: checkpointed │ kept: applied │ committed │ appended, perhaps to be truncated
//!          └ the first index that a follower can still be given
//! ```
//! A log is what its group says it is from the moment of `append` on; that it is on disk is told later. What was written
//! long ago is not held in memory, only its place is.

use super::files::Files;
use super::record::{Kind, u64_at};
use super::segment;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;

/// A place in a log: an index, and the term in which its entry was made. Index 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The term.
    pub term: u64,
    /// The index, from 1.
    pub index: u64,
}

impl Point {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 16).then_some(Self { term: u64_at(bytes, 0)?, index: u64_at(bytes, 8)? })
    }
}

/// What an entry of a group's log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A change of the group's members, as whoever runs the group encodes it.
    Members,
    /// What the group's state machine applies.
    Batches,
}

impl Content {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Blank => Kind::Blank,
            Self::Members => Kind::Members,
            Self::Batches => Kind::Batches,
        }
    }

    pub(crate) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Blank => Some(Self::Blank),
            Kind::Members => Some(Self::Members),
            Kind::Batches => Some(Self::Batches),
            _ => None,
        }
    }
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub point: Point,
    /// What it holds.
    pub content: Content,
    /// Its bytes.
    pub payload: Bytes,
}

/// Where a payload lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first record of its segment.
    pub(crate) segment: u64,
    /// Where in that file.
    pub(crate) offset: u64,
}

#[derive(Debug)]
struct Kept {
    term: u64,
    content: Content,
    length: u32,
    place: Option<Place>,
    payload: Payload,
}

/// The bytes of an entry. They are in memory at least until they have a place on disk.
#[derive(Debug)]
enum Payload {
    Held(Bytes),
    /// With the checksum that they had.
    GivenUp(u32),
}

impl Payload {
    fn held(&self) -> usize {
        match self {
            Self::Held(bytes) => bytes.len(),
            Self::GivenUp(_) => 0,
        }
    }
}

impl Kept {
    fn read(&self, files: &dyn Files) -> io::Result<Bytes> {
        let (checksum, place) = match (&self.payload, self.place) {
            (Payload::Held(bytes), _) => return Ok(bytes.clone()),
            (Payload::GivenUp(checksum), Some(place)) => (*checksum, place),
            (Payload::GivenUp(_), None) => return Err(io::Error::other("an entry was given up before it was written")),
        };
        let name = segment::name(place.segment);
        let mut buffer = vec![0; self.length as usize];
        files.open(&name)?.read_at(place.offset, &mut buffer)?;
        if crc32fast::hash(&buffer) != checksum {
            let what = format!("{name}, offset {}: an entry is not what was written", place.offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(buffer.into())
    }
}

/// What a log says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Everything up to here is gone from the log.
    pub purged: Point,
    /// The index of the first entry that can be read, if there is one.
    pub first: u64,
    /// The newest entry; `purged` if there is none.
    pub last: Point,
    /// The last vote, as whoever runs the group encodes it.
    pub vote: Option<Bytes>,
}

/// The log of one group.
#[derive(Debug, Default)]
pub(crate) struct Log {
    purged: Point,
    /// Up to where it is on disk that it was purged.
    surely_purged: u64,
    /// The index of the first of `entries`, if there are any. It follows `purged`, but in a log that nothing was purged of
    /// and that did not begin at 1.
    first: u64,
    /// Without a gap.
    entries: VecDeque<Kept>,
    vote: Option<Bytes>,
    /// Bytes of payloads that are held in memory.
    held: usize,
    /// All entries before this place in `entries` have given up their payloads.
    given_up: usize,
}

impl Log {
    /// A log that begins behind `purged`.
    pub(crate) fn behind(purged: Point, vote: Option<Bytes>) -> Self {
        Self { purged, surely_purged: purged.index, vote, ..Self::default() }
    }

    pub(crate) fn state(&self) -> LogState {
        LogState { purged: self.purged, first: self.first, last: self.last(), vote: self.vote.clone() }
    }

    pub(crate) fn last(&self) -> Point {
        let last = |kept: &Kept| Point { term: kept.term, index: self.first + self.entries.len() as u64 - 1 };
        self.entries.back().map_or(self.purged, last)
    }

    pub(crate) fn vote(&self) -> Option<&Bytes> {
        self.vote.as_ref()
    }

    pub(crate) fn purged(&self) -> Point {
        self.purged
    }

    /// Up to which index nothing of the log is needed any more, whatever happens.
    pub(crate) fn surely_purged(&self) -> u64 {
        self.surely_purged
    }

    /// It is on disk that everything up to `index` was purged.
    pub(crate) fn note_purged(&mut self, index: u64) {
        self.surely_purged = index.max(self.surely_purged);
    }

    pub(crate) fn set_vote(&mut self, vote: Bytes) {
        self.vote = Some(vote);
    }

    /// Adds an entry, which must be the next one, or the first at all; false if it is not.
    pub(crate) fn push(&mut self, entry: &LogEntry, place: Option<Place>) -> bool {
        let is_first = self.entries.is_empty() && self.purged == Point::default();
        if entry.point.index != self.last().index + 1 && !is_first {
            return false;
        }
        if self.entries.is_empty() {
            self.first = entry.point.index;
        }
        let length = u32::try_from(entry.payload.len()).expect("an entry is bounded far below 4 GiB");
        self.held += entry.payload.len();
        let payload = Payload::Held(entry.payload.clone());
        self.entries.push_back(Kept { term: entry.point.term, content: entry.content, length, place, payload });
        true
    }

    /// The entry at `index` of `term` was written to `place`; nothing if it was truncated meanwhile.
    pub(crate) fn placed(&mut self, point: Point, place: Place) {
        if let Some(kept) = self.at_mut(point.index).filter(|kept| kept.term == point.term) {
            kept.place = Some(place);
        }
    }

    /// Removes the entries behind `index`.
    pub(crate) fn truncate(&mut self, index: u64) {
        let keep = usize::try_from((index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        for kept in self.entries.drain(keep.min(self.entries.len())..) {
            self.held -= kept.payload.held();
        }
        self.given_up = self.given_up.min(self.entries.len());
    }

    /// Removes the entries up to `point`, which may lie behind the last one.
    pub(crate) fn purge(&mut self, point: Point) {
        if point.index < self.purged.index {
            return;
        }
        let gone = usize::try_from((point.index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let gone = gone.min(self.entries.len());
        for kept in self.entries.drain(..gone) {
            self.held -= kept.payload.held();
        }
        self.given_up = self.given_up.saturating_sub(gone);
        self.first = self.first.max(point.index + 1);
        self.purged = point;
    }

    /// Gives up the oldest payloads that can be read again, until at most `most` bytes are held.
    pub(crate) fn give_up(&mut self, most: usize) {
        while self.held > most {
            let Some(kept) = self.entries.get_mut(self.given_up).filter(|kept| kept.place.is_some()) else { return };
            if let Payload::Held(bytes) = &kept.payload {
                self.held -= bytes.len();
                kept.payload = Payload::GivenUp(crc32fast::hash(bytes));
            }
            self.given_up += 1;
        }
    }

    /// The term of the entry at `index`, or of what was purged there.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.purged.index {
            return Some(self.purged.term);
        }
        self.at(index).map(|kept| kept.term)
    }

    /// Entries of `from <= index < to`; at most `most` bytes of them but at least one.
    ///
    /// # Errors
    /// When one is not there, or cannot be read.
    pub(crate) fn read(&self, files: &dyn Files, from: u64, to: u64, most: usize) -> io::Result<Vec<LogEntry>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in from..to {
            let kept = self.at(index).ok_or_else(|| {
                let (first, last) = (self.first, self.last().index);
                io::Error::new(io::ErrorKind::NotFound, format!("the log has {first} to {last}, not {index}"))
            })?;
            bytes += kept.length as usize;
            if bytes > most && !found.is_empty() {
                break;
            }
            let payload = kept.read(files)?;
            found.push(LogEntry { point: Point { term: kept.term, index }, content: kept.content, payload });
        }
        Ok(found)
    }

    fn at(&self, index: u64) -> Option<&Kept> {
        let place = index.checked_sub(self.first)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    fn at_mut(&mut self, index: u64) -> Option<&mut Kept> {
        let place = index.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::files::NoFiles;
    use super::*;

    fn entry(term: u64, index: u64) -> LogEntry {
        LogEntry { point: Point { term, index }, content: Content::Batches, payload: Bytes::from(vec![7; 10]) }
    }

    fn place(offset: u64) -> Place {
        Place { segment: 1, offset }
    }

    fn read(log: &Log, from: u64, to: u64) -> Vec<Point> {
        log.read(&NoFiles, from, to, usize::MAX).unwrap().iter().map(|entry| entry.point).collect()
    }

    #[test]
    fn entries_follow_each_other_and_can_be_truncated_and_written_anew() {
        let mut log = Log::default();
        assert!(log.push(&entry(1, 3), None), "openraft's own tests begin anywhere");
        assert_eq!((read(&log, 3, 4).len(), log.last().index, log.state().purged), (1, 3, Point::default()));

        let mut log = Log::behind(Point { term: 1, index: 4 }, None);
        assert_eq!(log.last(), Point { term: 1, index: 4 });
        assert!(!log.push(&entry(2, 6), None));
        assert!(log.push(&entry(2, 5), None) && log.push(&entry(2, 6), None) && log.push(&entry(2, 7), None));
        log.truncate(5);
        assert!(log.push(&entry(3, 6), None));
        assert_eq!(read(&log, 5, 7), [Point { term: 2, index: 5 }, Point { term: 3, index: 6 }]);
        assert_eq!((log.term_at(4), log.term_at(6), log.term_at(7)), (Some(1), Some(3), None));
        assert_eq!(log.held, 20);
        assert!(log.read(&NoFiles, 4, 6, 100).is_err());
    }

    #[test]
    fn a_purge_may_go_beyond_the_last_entry() {
        let mut log = Log::default();
        assert!((1..=3).all(|index| log.push(&entry(1, index), None)));
        log.purge(Point { term: 1, index: 2 });
        assert_eq!(read(&log, 3, 4).len(), 1);
        log.purge(Point { term: 4, index: 90 });
        assert_eq!((log.last(), log.held), (Point { term: 4, index: 90 }, 0));
        assert!(log.push(&entry(4, 91), None));
        log.purge(Point { term: 1, index: 2 });
        assert_eq!(log.purged().index, 90);
    }

    #[test]
    fn only_what_has_a_place_is_given_up() {
        let mut log = Log::default();
        assert!((1..=4).all(|index| log.push(&entry(1, index), None)));
        log.give_up(0);
        assert_eq!(log.held, 40);
        log.placed(Point { term: 1, index: 1 }, place(0));
        log.placed(Point { term: 9, index: 2 }, place(0));
        log.give_up(0);
        assert_eq!(log.held, 30);
        assert!(log.read(&NoFiles, 1, 2, 100).is_err(), "it is only on disk now");
        log.purge(Point { term: 1, index: 1 });
        log.placed(Point { term: 1, index: 2 }, place(0));
        log.give_up(20);
        assert_eq!(log.held, 20);
        log.truncate(1);
        assert!(log.push(&entry(2, 2), None));
        assert_eq!(read(&log, 2, 3), [Point { term: 2, index: 2 }]);
    }

    #[test]
    fn a_read_is_bounded_but_gives_one() {
        let mut log = Log::default();
        assert!((1..=5).all(|index| log.push(&entry(1, index), None)));
        assert_eq!(log.read(&NoFiles, 1, 6, 25).unwrap().len(), 2);
        assert_eq!(log.read(&NoFiles, 1, 6, 1).unwrap().len(), 1);
    }
}
