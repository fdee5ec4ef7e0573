//! The store of a node of a cluster: what its groups were told is on disk is there after any power cut, and the state is
//! that of a place in the log.

use super::disk::{Random, SimDisk, SimTables};
use super::*;
use crate::store::{Applied, Applier, Batch, Content, Founding, LogEntry, Point, Replication, State};
use bytes::Bytes;
use nightjar_shard::Shard;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

const GROUPS: u16 = 3;

/// What a node of a cluster has open.
struct Node {
    store: Store,
    applier: Mutex<Applier>,
}

fn start(opened: Opened, founding: Option<Founding>) -> Node {
    let control: Arc<Mutex<dyn State>> = Arc::new(Mutex::new(Shard::new(ShardId(GROUPS))));
    let replication = Replication { control, submitted: Box::new(|| {}), most_held: 2000, founding };
    let (store, applier, _) = opened.start_replicated(Box::new(Ear::default()), replication).unwrap();
    Node { store, applier: Mutex::new(applier) }
}

/// Large enough that segments are left behind all the time.
fn retain_op(value: u64) -> Op {
    let mut payload = value.to_be_bytes().to_vec();
    payload.resize(8 + (value * 37 % 2000) as usize, 7);
    Op::Retain { message: Arc::new(Message::new("the/last", &[], &payload)), now: Wall(1) }
}

fn entry(point: Point, value: u64) -> LogEntry {
    let mut payload = Vec::new();
    let batch = Batch { home: 9, sequence: point.index };
    Store::encode_batch(batch, &[retain_op(value), retain_op(value)], &mut payload);
    LogEntry { point, content: Content::Batches, payload: payload.into() }
}

fn value(store: &Store, group: ShardId) -> u64 {
    let found = store.lock(group).retained(store.tables(), "the/last").unwrap();
    found.map_or(0, |(message, _)| u64::from_be_bytes(message.payload()[..8].try_into().unwrap()))
}

/// One group as whoever runs it knows it.
#[derive(Default)]
struct Known {
    /// What was appended, by index.
    entries: BTreeMap<u64, (u64, u64)>,
    term: u64,
    applied: u64,
    purged: u64,
    /// Up to which index `entries` may lack what is still in the journal: it was purged, but not on disk yet.
    forgotten: u64,
    /// Up to which index it was said to be on disk, and the last vote of which that was said.
    durable: Arc<AtomicU64>,
    voted: Arc<AtomicU64>,
}

struct Run {
    disk: SimDisk,
    tables: Arc<SimTables>,
    random: Random,
    known: Vec<Known>,
    values: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let tables = Arc::new(SimTables::new(&disk, 0));
        let known = (0..GROUPS).map(|_| Known { term: 1, ..Known::default() }).collect();
        Self { disk, tables, random: Random(seed), known, values: 0 }
    }

    fn open(&self) -> Node {
        start(open(small(Durability::Sync), &self.disk, &self.tables).unwrap(), None)
    }

    /// One thing that a group does.
    fn step(&mut self, node: &Node) {
        let number = usize::try_from(self.random.below(GROUPS.into())).unwrap();
        let group = ShardId(number as u16);
        let log = node.store.group_log(group);
        let known = &mut self.known[number];
        let last = known.entries.last_key_value().map_or(known.purged, |(index, _)| *index);
        match self.random.below(60) {
            0 => {
                known.term += 1;
                let (term, voted) = (known.term, Arc::clone(&known.voted));
                let vote = Bytes::copy_from_slice(&term.to_be_bytes());
                let done = Box::new(move || {
                    voted.fetch_max(term, Ordering::SeqCst);
                });
                let _ = log.save_vote(vote, done);
            }
            1..=4 if last > known.applied => {
                // Another leader: what was not agreed on is taken back.
                let keep = known.applied + self.random.below(last - known.applied);
                known.term += 1;
                known.entries.split_off(&(keep + 1));
                // Nothing behind it counts as durable any more, whenever the word of it comes.
                known.durable = Arc::new(AtomicU64::new(known.durable.load(Ordering::SeqCst).min(keep)));
                let _ = log.truncate(keep, Box::new(|| {}));
            }
            5..=10 => {
                let checkpointed = log.checkpointed();
                if checkpointed > known.purged {
                    let term = log.term_at(checkpointed).unwrap();
                    let _ = log.purge(Point { term, index: checkpointed });
                    (known.purged, known.forgotten) = (checkpointed, checkpointed.max(known.forgotten));
                    known.entries = known.entries.split_off(&(checkpointed + 1));
                }
            }
            11..=30 => {
                // Whatever is on disk here counts as agreed on; the order of the log is that of the journal.
                let durable = known.durable.load(Ordering::SeqCst);
                while known.applied < durable {
                    let next = known.applied + 1;
                    let entry = log.read(next, next + 1, 0).unwrap().remove(0);
                    node.applier
                        .lock()
                        .batches(group, &entry, |_, applied| assert_eq!(applied, Applied::Applied))
                        .unwrap();
                    known.applied = next;
                }
                node.applier.lock().end_turn();
            }
            _ => {
                let count = 1 + self.random.below(3);
                let mut entries = Vec::new();
                for index in last + 1..=last + count {
                    self.values += 1;
                    known.entries.insert(index, (known.term, self.values));
                    entries.push(entry(Point { term: known.term, index }, self.values));
                }
                let durable = Arc::clone(&known.durable);
                let done = Box::new(move || {
                    durable.fetch_max(last + count, Ordering::SeqCst);
                });
                let _ = log.append(entries, done);
            }
        }
    }

    /// Works until the power goes off, cuts it, opens again, and compares.
    fn round(&mut self, steps: u64, calls: u64) {
        let node = self.open();
        self.disk.fail_in(calls);
        for _ in 0..steps {
            self.step(&node);
        }
        node.store.stop();
        self.disk.power_cut();
        let node = self.open();
        for number in 0..usize::from(GROUPS) {
            self.compare(&node, number);
        }
        node.store.stop();
    }

    fn compare(&mut self, node: &Node, number: usize) {
        let group = ShardId(number as u16);
        let (log, known) = (node.store.group_log(group), &mut self.known[number]);
        let state = log.state();
        let vote = state.vote.map_or(0, |vote| u64::from_be_bytes(vote[..].try_into().unwrap()));
        assert!(vote >= known.voted.load(Ordering::SeqCst) && vote <= known.term, "vote {vote} of {}", known.term);
        let (durable, last) = (known.durable.load(Ordering::SeqCst), state.last.index);
        assert!(last >= durable, "group {number}: {durable} were on disk, {last} are there");
        // What had not been confirmed may be there or not, and may be of before it was taken back.
        known.entries.split_off(&(last + 1));
        for found in log.read(state.purged.index + 1, last + 1, usize::MAX).unwrap() {
            let index = found.point.index;
            match known.entries.get(&index) {
                Some(&(term, value)) if found.point.term == term => {
                    assert_eq!(found, entry(found.point, value), "group {number}, entry {index}");
                }
                expected => {
                    assert!(
                        index > durable || index <= known.forgotten,
                        "entry {index}: {expected:?}, {:?}",
                        found.point
                    );
                    // A truncation that did not reach the disk: whoever leads takes it back again.
                    if index > durable {
                        log.truncate(index - 1, Box::new(|| {})).unwrap();
                        known.entries.split_off(&index);
                        break;
                    }
                }
            }
        }
        let standing = node.store.standing(group);
        assert!(standing.point.index <= known.applied && standing.point.index >= state.purged.index);
        assert_eq!(node.store.lock(group).applied(), standing.point.index);
        for index in standing.point.index + 1..=known.applied {
            let found = log.read(index, index + 1, 0).unwrap().remove(0);
            node.applier.lock().batches(group, &found, |_, applied| assert_eq!(applied, Applied::Applied)).unwrap();
        }
        if let Some((_, value_of_it)) = known.entries.get(&known.applied) {
            assert_eq!(value(&node.store, group), *value_of_it, "group {number} at {}", known.applied);
        }
        known.purged = state.purged.index;
        let voted = known.voted.load(Ordering::SeqCst).max(vote);
        known.voted = Arc::new(AtomicU64::new(voted));
        let last = known.entries.last_key_value().map_or(known.purged, |(index, _)| *index);
        known.durable = Arc::new(AtomicU64::new(durable.min(last)));
    }
}

#[test]
fn logs_votes_and_states_survive_power_cuts() {
    for seed in 0..30 {
        let mut run = Run::new(seed);
        for _ in 0..8 {
            let calls = 5 + run.random.below(120);
            run.round(150, calls);
        }
    }
}

#[test]
fn an_entry_without_batches_counts_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(StoreConfig { folder: folder.path().to_owned(), ..small(Durability::Sync) }).unwrap();
    let node = start(open(), None);
    let (group, point) = (ShardId(0), Point { term: 1, index: 1 });
    let empty = LogEntry { point, content: Content::Batches, payload: Bytes::new() };
    node.applier.lock().batches(group, &empty, |_, _| panic!("there is none")).unwrap();
    assert_eq!((node.store.lock(group).applied(), node.store.standing(group).point), (1, point));
    node.store.stop();
}

#[test]
fn the_folder_of_a_node_of_a_cluster_is_not_opened_for_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(StoreConfig { folder: folder.path().to_owned(), ..small(Durability::Sync) }).unwrap();
    start(open(), None).store.stop();
    assert!(open().is_replicated());
    assert!(matches!(open().start(Box::new(Ear::default())), Err(StoreError::Setting(_))));
    start(open(), None).store.stop();
}
