//! One node's copy of a shard: it freezes, writes and crashes when it likes.

use super::naive::{Batch, Naive};
use super::random::Dice;
use nightjar_base::ShardId;
use nightjar_shard::{BatchOutcome, Change, Effect, Shard};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const ID: ShardId = ShardId(3);

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A shard with its tables, and the entries since the last checkpoint.
pub struct Replica {
    pub shard: Shard,
    pub tables: Rows,
    /// Changes that are durable (in a checkpoint record) but not in the tables yet.
    unwritten: Arc<Vec<Change>>,
    /// Whether they are those of several freezes: one may remove what one before it put.
    union: bool,
    journal: Vec<(u64, Batch)>,
}

impl Replica {
    pub fn new() -> Self {
        let mut tables = Rows::new();
        // Rows of the shards beside it, which must never be seen.
        tables.insert(vec![0, 2, 1, 0, 0], vec![99]);
        tables.insert(vec![0, 4], vec![99]);
        let unwritten = Arc::default();
        Self { shard: Shard::new(ID), tables, unwritten, union: false, journal: Vec::new() }
    }

    pub fn apply(&mut self, index: u64, batch: &Batch) -> (BatchOutcome, Vec<Effect>) {
        self.journal.push((index, batch.clone()));
        apply(&mut self.shard, index, batch)
    }

    pub fn freeze(&mut self) {
        self.union = !self.unwritten.is_empty();
        self.unwritten = self.shard.freeze(&self.tables).unwrap();
        self.journal.retain(|&(index, _)| index > self.shard.applied());
    }

    /// The rest of a checkpoint.
    pub fn write(&mut self) {
        for change in self.unwritten.iter() {
            assert!(change.key.starts_with(&ID.0.to_be_bytes()));
            match &change.value {
                Some(value) => {
                    assert!(value.len() <= 16 * 1024);
                    self.tables.insert(change.key.clone(), value.clone());
                }
                None => {
                    let there = self.tables.remove(&change.key).is_some();
                    assert!(there || self.union, "only rows that are there are removed");
                }
            }
        }
        self.unwritten = Arc::default();
        self.shard.thaw();
    }

    /// The process dies; a checkpoint record that was synced is finished at recovery.
    pub fn crash(&mut self, model: &Naive, dice: &mut Dice) {
        self.write();
        self.reload();
        self.check_all(model, dice);
        self.check_due(model);
        // What was handed out is due again after a load.
        self.reload();
    }

    fn reload(&mut self) {
        self.shard = Shard::load(ID, &self.tables).unwrap();
        for (index, batch) in &self.journal {
            assert!(*index > self.shard.applied());
            let _ = apply(&mut self.shard, *index, batch);
        }
    }
}

fn apply(shard: &mut Shard, index: u64, batch: &Batch) -> (BatchOutcome, Vec<Effect>) {
    let mut effects = Vec::new();
    let outcome = shard.apply_batch(index, batch.home, batch.sequence, batch.ops.iter().cloned(), &mut effects);
    (outcome, effects)
}
