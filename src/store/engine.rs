//! The tables' engine as the store sees it, and the rows in it that are the store's own.

use super::log::Point;
use super::writer::TERM;
use bytes::Bytes;
use nightjar_base::ShardId;
use nightjar_shard::{Change, Tables, TablesError};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Ordered rows that outlive the process. Only checkpoint and recovery write.
pub(crate) trait Engine: Tables + Send + Sync {
    /// Applies `chunk` as a whole or not at all; it is on disk when this returns.
    fn write(&self, chunk: &[Change]) -> Result<(), EngineError>;
    /// Closes and opens again, after an error.
    fn revive(&self) -> Result<(), TablesError>;
}

/// Why a chunk was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// After `revive` all may be written again.
    #[error(transparent)]
    Retry(#[from] TablesError),
    /// A sync failed: what was written before is in doubt, and only the journal of the next start knows it.
    #[error("{0}")]
    Lost(String),
}

/// Most rows, and most bytes, that go into the engine at once: what hard power cuts were survived with, and what keeps
/// its memory small.
const CHUNK_ROWS: usize = 256;
const CHUNK_BYTES: usize = 64 << 10;

/// Cuts `changes` into chunks that the engine takes at once.
pub(crate) fn chunks(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |change: &&Change| {
            bytes += change.key.len() + change.value.as_ref().map_or(0, Vec::len);
            bytes <= CHUNK_BYTES
        };
        let count = rest.iter().take(CHUNK_ROWS).take_while(fits).count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(count);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Keys of shards begin with the shard's number; those of the store with this, which is above every shard's.
const OWN: [u8; 2] = [0xff, 0xff];
/// Format of the store's own rows.
const ROW_FORMAT: u8 = 1;
/// Format of the row that says where a replicated group's rows stand.
const STAND_FORMAT: u8 = 2;

/// What the tables say of the folder that they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: u64,
    pub(crate) shards: u16,
}

fn identity_key() -> Vec<u8> {
    [OWN.as_slice(), b"identity"].concat()
}

fn checkpoint_key(shard: ShardId) -> Vec<u8> {
    [OWN.as_slice(), b"checkpoint", &shard.0.to_be_bytes()].concat()
}

impl Identity {
    pub(crate) fn change(self) -> Change {
        let value = [&[ROW_FORMAT], self.node.to_le_bytes().as_slice(), &self.shards.to_le_bytes()].concat();
        Change { key: identity_key(), value: Some(value) }
    }

    pub(crate) fn read(tables: &dyn Tables) -> Result<Option<Self>, TablesError> {
        let key = identity_key();
        let Some(value) = tables.get(&key)? else { return Ok(None) };
        let fields = fields::<10>(&key, &value)?;
        let (node, shards) = fields.split_at(8);
        Ok(Some(Self { node: number(node), shards: u16::from_le_bytes([shards[0], shards[1]]) }))
    }
}

/// Where a group's state stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// What was applied last.
    pub(crate) point: Point,
    /// The group's members as of then; empty on a node alone.
    pub(crate) members: Bytes,
}

impl Stand {
    /// Of a node alone.
    pub(crate) fn alone(index: u64) -> Self {
        Self { point: Point { term: TERM, index }, members: Bytes::new() }
    }

    /// The row that says where a group's rows stand; written with the last chunk of a checkpoint. A node alone writes it
    /// as it did before there were clusters.
    pub(crate) fn change(&self, group: ShardId) -> Change {
        let mut value = vec![ROW_FORMAT];
        value.extend_from_slice(&self.point.index.to_le_bytes());
        if !self.members.is_empty() || self.point.term != TERM {
            value[0] = STAND_FORMAT;
            value.extend_from_slice(&self.point.term.to_le_bytes());
            value.extend_from_slice(&self.members);
        }
        Change { key: checkpoint_key(group), value: Some(value) }
    }

    /// Where a group's rows stand; at the beginning if it was never checkpointed.
    pub(crate) fn read(tables: &dyn Tables, group: ShardId) -> Result<Self, TablesError> {
        let key = checkpoint_key(group);
        let Some(value) = tables.get(&key)? else { return Ok(Self::default()) };
        if value.first() != Some(&STAND_FORMAT) {
            return Ok(Self::alone(number(&fields::<8>(&key, &value)?)));
        }
        let fields = value.get(1..17).ok_or_else(|| TablesError::corrupt(&key, "wrong length"))?;
        let point = Point { index: number(&fields[..8]), term: number(&fields[8..]) };
        Ok(Self { point, members: Bytes::copy_from_slice(&value[17..]) })
    }

    /// Whether `change` is a group's row of this kind.
    pub(crate) fn is_row(change: &Change, group: ShardId) -> bool {
        change.key == checkpoint_key(group)
    }
}

fn fields<const N: usize>(key: &[u8], value: &[u8]) -> Result<[u8; N], TablesError> {
    match value.split_first() {
        Some((&ROW_FORMAT, rest)) => rest.try_into().map_err(|_| TablesError::corrupt(key, "wrong length")),
        Some((&found, _)) if found > ROW_FORMAT => Err(TablesError::Newer { key: hex(key), found, known: ROW_FORMAT }),
        _ => Err(TablesError::corrupt(key, "unknown format")),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 15)] as char];
    bytes.iter().flat_map(digits).collect()
}

/// Tables that no disk stands behind: for `durability = "memory"`, and for tests.
#[derive(Default)]
pub(crate) struct MemoryEngine {
    rows: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Tables for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Tables::get(&*self.rows.read_recursive(), key)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TablesError> {
        Tables::range(&*self.rows.read_recursive(), from, to, each)
    }
}

impl Engine for MemoryEngine {
    fn write(&self, chunk: &[Change]) -> Result<(), EngineError> {
        let mut rows = self.rows.write();
        for change in chunk {
            match &change.value {
                Some(value) => rows.insert(change.key.clone(), value.clone()),
                None => rows.remove(&change.key),
            };
        }
        Ok(())
    }

    fn revive(&self) -> Result<(), TablesError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(n: usize, size: usize) -> Change {
        Change { key: n.to_be_bytes().to_vec(), value: Some(vec![0; size]) }
    }

    #[test]
    fn chunks_keep_their_bounds_and_the_order() {
        let changes: Vec<Change> = (0..1000).map(|n| change(n, n * 37 % 9000)).collect();
        let cut: Vec<&[Change]> = chunks(&changes).collect();
        assert_eq!(cut.concat(), changes);
        for chunk in cut {
            let bytes: usize = chunk.iter().map(|c| c.key.len() + c.value.as_ref().unwrap().len()).sum();
            assert!(chunk.len() <= CHUNK_ROWS && bytes <= CHUNK_BYTES);
        }
        assert_eq!(chunks(&[change(1, 100_000), change(2, 1)]).count(), 2);
        assert_eq!(chunks(&[]).count(), 0);
    }

    #[test]
    fn own_rows_are_read_back() {
        let engine = MemoryEngine::default();
        assert_eq!(Identity::read(&engine).unwrap(), None);
        assert_eq!(Stand::read(&engine, ShardId(3)).unwrap(), Stand::default());
        let identity = Identity { node: u64::MAX - 5, shards: 16 };
        let (alone, point) = (Stand::alone(0x0102_0304_0506), Point { term: 77, index: 1 << 40 });
        let replicated = Stand { point, members: Bytes::from_static(b"members") };
        engine.write(&[identity.change(), alone.change(ShardId(3)), replicated.change(ShardId(5))]).unwrap();
        assert_eq!(Identity::read(&engine).unwrap(), Some(identity));
        assert_eq!(Stand::read(&engine, ShardId(3)).unwrap(), alone);
        assert_eq!(Stand::read(&engine, ShardId(5)).unwrap(), replicated);
        assert_eq!(Stand::read(&engine, ShardId(4)).unwrap(), Stand::default());
        let row = alone.change(ShardId(3));
        assert_eq!(row.value.as_ref().map(|value| (value[0], value.len())), Some((1, 9)), "as it ever was");
    }

    #[test]
    fn a_row_of_a_newer_format_is_refused() {
        let engine = MemoryEngine::default();
        engine.write(&[Change { key: identity_key(), value: Some(vec![9, 1, 2]) }]).unwrap();
        assert!(matches!(Identity::read(&engine), Err(TablesError::Newer { found: 9, .. })));
    }
}
