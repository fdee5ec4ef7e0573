//! A node's disk: what was synced outlives a crash, and of what was not as much as chance leaves.
//!
//! Stands for the store's journal and tables (`store/log.rs`, `writer.rs`, `checkpoint.rs`, `snapshot.rs`): records are
//! gathered while the sync before is under way, and a crash cuts them off from some record on.

use super::raft::Entry;
use crate::agenda::Signal;
use nightjar_base::Change;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A shard's checkpointed rows.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A place in a log: index and term.
pub(crate) type Point = (u64, u64);

/// What a disk has of one group.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    pub(crate) term: u64,
    pub(crate) voted: Option<usize>,
    /// The point behind which the log begins.
    pub(crate) base: Point,
    pub(crate) entries: Vec<Entry>,
    pub(crate) rows: Rows,
    /// The point that the rows stand for.
    pub(crate) standing: Point,
}

/// One record of the journal.
pub(crate) enum Record {
    Vote {
        group: usize,
        term: u64,
        voted: Option<usize>,
    },
    /// At this index; what was there and behind goes.
    Append {
        group: usize,
        index: u64,
        entry: Entry,
    },
    /// The rows change to what they are at `standing`, and the log begins behind `base`.
    Checkpoint {
        group: usize,
        changes: Arc<Vec<Change>>,
        standing: Point,
        base: Point,
    },
    /// The rows are those of another node.
    Snapshot {
        group: usize,
        rows: Rc<Rows>,
        standing: Point,
    },
}

/// A node's disk.
pub(crate) struct Disk {
    groups: RefCell<Vec<Kept>>,
    unsynced: RefCell<VecDeque<Record>>,
    written: Cell<u64>,
    synced: Cell<u64>,
    /// Something was written, or synced.
    pub(crate) signal: Signal,
}

impl Disk {
    pub(crate) fn new(groups: usize) -> Self {
        Self {
            groups: RefCell::new(vec![Kept::default(); groups]),
            unsynced: RefCell::default(),
            written: Cell::new(0),
            synced: Cell::new(0),
            signal: Signal::default(),
        }
    }

    /// Writes a record; returns its place.
    pub(crate) fn write(&self, record: Record) -> u64 {
        self.unsynced.borrow_mut().push_back(record);
        self.written.set(self.written.get() + 1);
        self.signal.notify();
        self.written.get()
    }

    /// The place of the last record.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.borrow().len()
    }

    /// Up to which place everything is synced.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.get()
    }

    /// The oldest `count` records are synced.
    pub(crate) fn sync(&self, count: usize) {
        let records: Vec<Record> = self.unsynced.borrow_mut().drain(..count).collect();
        self.synced.set(self.synced.get() + records.len() as u64);
        let mut groups = self.groups.borrow_mut();
        records.into_iter().for_each(|record| keep(&mut groups, record));
        drop(groups);
        self.signal.notify();
    }

    /// The process dies, or the power goes: the oldest `left` records had reached the disk nevertheless.
    pub(crate) fn crash(&self, left: usize) {
        self.sync(left);
        self.unsynced.borrow_mut().clear();
        self.synced.set(self.written.get());
    }

    /// Looks at what is kept of a group.
    pub(crate) fn look<R>(&self, group: usize, look: impl FnOnce(&Kept) -> R) -> R {
        look(&self.groups.borrow()[group])
    }
}

fn keep(groups: &mut [Kept], record: Record) {
    match record {
        Record::Vote { group, term, voted } => (groups[group].term, groups[group].voted) = (term, voted),
        Record::Append { group, index, entry } => {
            let kept = &mut groups[group];
            kept.entries.truncate(place(kept.base.0, index));
            kept.entries.push(entry);
        }
        Record::Checkpoint { group, changes, standing, base } => {
            let kept = &mut groups[group];
            for change in changes.iter() {
                match &change.value {
                    Some(value) => drop(kept.rows.insert(change.key.clone(), value.clone())),
                    None => drop(kept.rows.remove(&change.key)),
                }
            }
            kept.standing = standing;
            kept.entries.drain(..place(kept.base.0, base.0 + 1));
            kept.base = base;
        }
        Record::Snapshot { group, rows, standing } => {
            let kept = &mut groups[group];
            (kept.rows, kept.standing, kept.base) = ((*rows).clone(), standing, standing);
            kept.entries.clear();
        }
    }
}

/// Where in a log that begins behind `base` the entry with `index` is.
pub(crate) fn place(base: u64, index: u64) -> usize {
    usize::try_from(index - base - 1).expect("a log in memory has few entries")
}
