//! Proposers: how far the batches of each home have come, so that none is applied twice.
//!
//! A home numbers its batches for a shard from 1 on and sends them in order, again and again until it sees them applied:
//! whichever leader it asked may be no leader any more, and may have had them committed all the same.
//!
//! A home that is gone is remembered for a while, since a batch of it may still be under way and be committed behind its
//! `DetachHome`. It must not be applied then. As the first of its home here it would attach sessions to a process that
//! nobody declares gone a second time: their wills would never come, and they would never expire. As one that was applied
//! long ago it would be applied twice. A later one of a forgotten home is a gap in any case.

use crate::codec::{self, ProposerV1};
use crate::effect::Effect;
use crate::keys;
use crate::op::{ALONE, Op};
use crate::shard::Shard;
use nightjar_base::{Change, ShardId, TablesError, parts};
use std::collections::{BTreeMap, BTreeSet};

/// How many homes that are gone are remembered: more processes than die while a batch is under way.
const GRAVES: usize = 1000;

/// What became of a batch.
#[must_use = "a batch that was not applied may have to be sent again"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// It was applied.
    Applied,
    /// It had been applied before; nothing was done.
    Repeated,
    /// One before it was not applied yet; nothing was done. Once all from `expected` on are sent again, in order, it will
    /// be. A home that is told to begin anew though it did not is gone, and so long that it was forgotten.
    Gap {
        /// The sequence that the home is to go on with.
        expected: u64,
    },
    /// Its home is gone; nothing was done, and never will be. The process needs a new home.
    Gone,
}

/// One home.
#[derive(Clone, Copy, Debug, Default)]
struct Proposer {
    /// The sequence of the last batch that was applied.
    last: u64,
    /// The index at which it was declared gone, if it was.
    gone: Option<u64>,
}

/// All homes that are known to a shard.
#[derive(Debug, Default)]
pub(crate) struct Proposers {
    homes: BTreeMap<u64, Proposer>,
    /// Those that are gone, oldest first: index and home.
    graves: BTreeSet<(u64, u64)>,
    /// Homes that differ from their rows.
    dirty: BTreeSet<u64>,
    /// Homes that have rows.
    stored: BTreeSet<u64>,
}

impl Shard {
    /// Applies the batch `sequence` of `home`, all of its ops or none; `index` counts as applied in any case.
    ///
    /// A node alone repeats nothing: batches of [`ALONE`] are always applied, whatever their sequence.
    pub fn apply_batch(
        &mut self,
        index: u64,
        home: u64,
        sequence: u64,
        ops: impl IntoIterator<Item = Op>,
        effects: &mut Vec<Effect>,
    ) -> BatchOutcome {
        self.note_index(index);
        let outcome = if home == ALONE { BatchOutcome::Applied } else { self.proposers.admit(home, sequence) };
        if outcome == BatchOutcome::Applied {
            ops.into_iter().for_each(|op| self.apply(index, op, effects));
        }
        outcome
    }

    /// The entry `index` had no ops.
    pub fn note_index(&mut self, index: u64) {
        self.applied = index;
    }

    /// The sequence of the last batch of `home` that was applied; 0 if none was, or the home is gone.
    #[must_use]
    pub fn proposed(&self, home: u64) -> u64 {
        self.proposers.homes.get(&home).filter(|proposer| proposer.gone.is_none()).map_or(0, |proposer| proposer.last)
    }

    /// The homes that are gone, as far as they are remembered: those that went last come first.
    pub fn buried(&self) -> impl Iterator<Item = u64> {
        self.proposers.graves.iter().rev().map(|(_, home)| *home)
    }

    /// Whether `home` is gone, and nothing of it will be applied.
    #[must_use]
    pub fn is_buried(&self, home: u64) -> bool {
        self.proposers.homes.get(&home).is_some_and(|proposer| proposer.gone.is_some())
    }

    /// How many homes propose batches.
    #[must_use]
    pub fn proposer_count(&self) -> usize {
        self.proposers.homes.len() - self.proposers.graves.len()
    }
}

impl Proposers {
    /// Whether a batch is the next of its home; counts it if so.
    fn admit(&mut self, home: u64, sequence: u64) -> BatchOutcome {
        let Proposer { last, gone } = self.homes.get(&home).copied().unwrap_or_default();
        if gone.is_some() {
            return BatchOutcome::Gone;
        }
        if sequence <= last {
            return BatchOutcome::Repeated;
        }
        let expected = last + 1;
        if sequence != expected {
            return BatchOutcome::Gap { expected };
        }
        self.homes.insert(home, Proposer { last: sequence, gone });
        self.dirty.insert(home);
        BatchOutcome::Applied
    }

    /// The home is gone, as the entry `index` says: nothing of it is applied from now on.
    pub(crate) fn bury(&mut self, home: u64, index: u64) {
        if home == ALONE {
            return;
        }
        let proposer = self.homes.entry(home).or_default();
        if proposer.gone.is_some() {
            return;
        }
        proposer.gone = Some(index);
        self.graves.insert((index, home));
        self.dirty.insert(home);
        while self.graves.len() > GRAVES {
            let Some((_, oldest)) = self.graves.pop_first() else { break };
            self.homes.remove(&oldest);
            self.dirty.insert(oldest);
        }
    }

    /// What is held since the last freeze, roughly.
    pub(crate) fn overlay_bytes(&self) -> usize {
        self.dirty.len() * 48
    }

    /// Adds what a freeze must write.
    pub(crate) fn freeze(&mut self, shard: ShardId, changes: &mut Vec<Change>) {
        for home in std::mem::take(&mut self.dirty) {
            let base = keys::proposer(shard, home);
            if let Some(&Proposer { last, gone }) = self.homes.get(&home) {
                parts::put(changes, &base, codec::encode(&ProposerV1 { last, gone }), 0);
                self.stored.insert(home);
            } else if self.stored.remove(&home) {
                parts::remove(changes, &base, 1);
            }
        }
    }

    /// During a load: one row.
    pub(crate) fn restore(&mut self, home: u64, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let ProposerV1 { last, gone } = codec::decode(key, value)?;
        self.homes.insert(home, Proposer { last, gone });
        self.graves.extend(gone.map(|index| (index, home)));
        self.stored.insert(home);
        Ok(())
    }
}
