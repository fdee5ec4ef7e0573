//! Ops as bytes.

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
