//! Ops as bytes.

use super::record::{u32_at, u64_at};
use super::replica::Batch;
use bincode::Options;
use nightjar_shard::Op;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes()
}

/// Appends `ops` to `out`: their number, then each.
pub(crate) fn encode_ops(ops: &[Op], out: &mut Vec<u8>) {
    options().serialize_into(out, ops).expect("ops hold only what bincode can write, and memory does not refuse");
}

/// Reads what [`encode_ops`] wrote.
pub(crate) fn decode_ops(bytes: &[u8]) -> Result<Vec<Op>, bincode::Error> {
    options().with_limit(bytes.len() as u64).deserialize(bytes)
}

/// Format of a batch within an entry of a shard's log.
const BATCH_FORMAT: u8 = 1;
/// Format, length of the ops, home, sequence.
const BATCH_HEADER: usize = 1 + 4 + 8 + 8;

/// Appends a batch of ops: what is agreed on together, and who proposed it.
pub(crate) fn encode_batch(batch: Batch, ops: &[Op], out: &mut Vec<u8>) {
    out.push(BATCH_FORMAT);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&batch.home.to_le_bytes());
    out.extend_from_slice(&batch.sequence.to_le_bytes());
    let begin = out.len();
    encode_ops(ops, out);
    let length = u32::try_from(out.len() - begin).expect("a batch is bounded far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads what [`encode_batch`] wrote, one or several times.
pub(crate) fn decode_batches(mut bytes: &[u8]) -> Result<Vec<(Batch, Vec<Op>)>, bincode::Error> {
    let shape = |what: &str| Err(bincode::ErrorKind::Custom(what.to_owned()).into());
    let mut batches = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<BATCH_HEADER>() {
        if header[0] != BATCH_FORMAT {
            return shape("a batch has an unknown format");
        }
        let length = u32_at(header, 1).unwrap_or_default() as usize;
        let home = u64_at(header, 5).unwrap_or_default();
        let sequence = u64_at(header, 13).unwrap_or_default();
        let Some((ops, behind)) = rest.split_at_checked(length) else { return shape("a batch is cut off") };
        batches.push((Batch { home, sequence }, decode_ops(ops)?));
        bytes = behind;
    }
    if bytes.is_empty() { Ok(batches) } else { shape("bytes follow the last batch") }
}
