//! What the proposer, taken from the cluster's room as it is, knows of the store: batches and their form in a log.

use bytes::Bytes;
use nightjar_shard::Op;

pub(crate) use nightjar_shard::BatchOutcome as Applied;

/// A batch's place among those of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The process that proposed it.
    pub(crate) home: u64,
    /// Its number.
    pub(crate) sequence: u64,
}

/// In the place of the store: only the form of batches. The store's own form has a checksum around it.
pub(crate) struct Store;

impl Store {
    pub(crate) fn encode_batch(batch: Batch, ops: &[Op], out: &mut Vec<u8>) {
        out.extend_from_slice(&batch.home.to_le_bytes());
        out.extend_from_slice(&batch.sequence.to_le_bytes());
        bincode::serialize_into(out, ops).expect("ops are plain values, and memory takes them");
    }

    pub(crate) fn decode_batch(entry: &Bytes) -> Vec<Op> {
        bincode::deserialize(&entry[HEAD..]).expect("only this process has made it")
    }

    pub(crate) fn head(entry: &Bytes) -> Batch {
        let number = |at: usize| entry[at..at + 8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        Batch { home: number(0), sequence: number(8) }
    }
}

const HEAD: usize = 16;
