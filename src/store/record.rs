//! The journal's records: what is written and synced at once, and so is there whole or not at all.
//!
//! ```text
//! record  magic u32 | body length u32 | crc u32 | entries u32 | number u64 | synced u64 | body
//! entry   shard u16 | kind u8 | 0 u8 | length u32 | index u64 | term u64 | payload
//! ```
//! All numbers are little-endian. `synced` says which records were known to be on disk when this one was written: a
//! bad record is a torn tail only if no later one claims that it had been synced. The checksum covers the segment's
//! [`Seal`], so that neither a record left over in a recycled segment nor bytes of a client can pass for a record.

use super::segment::Seal;
use nightjar_base::ShardId;
use nightjar_shard::Change;

/// Length of a record before its body.
pub(crate) const RECORD_HEADER: usize = 32;
const ENTRY_HEADER: usize = 24;
const MAGIC: u32 = u32::from_le_bytes(*b"NJR1");
const REMOVED: u32 = u32::MAX;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The voters of a Raft group: alone, this node only. Always at index 0.
    Membership = 0,
    /// Ops, in the order of their submission.
    Ops = 1,
    /// A part of a checkpoint.
    Checkpoint = 2,
    /// An entry of a Raft group that holds nothing.
    Blank = 3,
    /// An entry of a Raft group that changes its members.
    Members = 4,
    /// An entry of a Raft group: batches of ops.
    Batches = 5,
    /// The vote of a Raft group. At index 0, and so are those that follow: they are about the log, not in it.
    Vote = 6,
    /// What is behind this index was taken back.
    Truncate = 7,
    /// What is up to this index has gone from the log.
    Purged = 8,
    /// From this index on the state is that of a snapshot, which a file holds.
    Install = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Membership),
            1 => Some(Self::Ops),
            2 => Some(Self::Checkpoint),
            3 => Some(Self::Blank),
            4 => Some(Self::Members),
            5 => Some(Self::Batches),
            6 => Some(Self::Vote),
            7 => Some(Self::Truncate),
            8 => Some(Self::Purged),
            9 => Some(Self::Install),
            _ => None,
        }
    }
}

/// One shard's share of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) shard: ShardId,
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: &'a [u8],
    /// Where in the record its payload begins.
    pub(crate) offset: usize,
}

/// Builds records in one reused buffer.
#[derive(Default)]
pub(crate) struct RecordBuilder {
    buffer: Vec<u8>,
    entries: u32,
}

impl RecordBuilder {
    /// Forgets what was built.
    pub(crate) fn begin(&mut self) {
        // A record of a huge message must not hold its memory for ever.
        if self.buffer.capacity() > 8 << 20 {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER, 0);
        self.entries = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds an entry whose payload is what `write` appends. Returns where in the record that begins.
    pub(crate) fn entry(
        &mut self,
        shard: ShardId,
        kind: Kind,
        index: u64,
        term: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&shard.0.to_le_bytes());
        self.buffer.extend_from_slice(&[kind as u8, 0, 0, 0, 0, 0]);
        self.buffer.extend_from_slice(&index.to_le_bytes());
        self.buffer.extend_from_slice(&term.to_le_bytes());
        write(&mut self.buffer);
        let length = length_u32(self.buffer.len() - start - ENTRY_HEADER);
        self.buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        self.entries += 1;
        start + ENTRY_HEADER
    }

    /// Length of the record so far.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The finished record, for the place that its number and segment give it.
    pub(crate) fn finish(&mut self, number: u64, synced: u64, seal: Seal) -> &[u8] {
        let body = length_u32(self.buffer.len() - RECORD_HEADER);
        self.buffer[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&body.to_le_bytes());
        self.buffer[12..16].copy_from_slice(&self.entries.to_le_bytes());
        self.buffer[16..24].copy_from_slice(&number.to_le_bytes());
        self.buffer[24..32].copy_from_slice(&synced.to_le_bytes());
        let crc = checksum(seal, &self.buffer);
        self.buffer[8..12].copy_from_slice(&crc.to_le_bytes());
        &self.buffer
    }
}

fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a submission is a few packets of at most 256 MiB each, far below 4 GiB")
}

fn checksum(seal: Seal, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seal.node.to_le_bytes());
    hasher.update(&seal.first.to_le_bytes());
    hasher.update(&record[4..8]);
    hasher.update(&record[12..]);
    hasher.finalize()
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) number: u64,
    pub(crate) synced: u64,
    entries: u32,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, if it is whole and belongs to this segment.
    pub(crate) fn parse(bytes: &'a [u8], seal: Seal) -> Option<Self> {
        let number = Self::claimed_number(bytes)?;
        let length = RECORD_HEADER.checked_add(u32_at(bytes, 4)? as usize)?;
        // Cheaper than a checksum, and true of every record left over in a recycled segment.
        if number < seal.first {
            return None;
        }
        let bytes = bytes.get(..length)?;
        if u32_at(bytes, 8)? != checksum(seal, bytes) {
            return None;
        }
        Some(Self { number, synced: u64_at(bytes, 24)?, entries: u32_at(bytes, 12)?, bytes })
    }

    /// The number that a record at the start of `bytes` would have, if something that looks like one begins there.
    pub(crate) fn claimed_number(bytes: &[u8]) -> Option<u64> {
        if u32_at(bytes, 0)? != MAGIC {
            return None;
        }
        u64_at(bytes, 16)
    }

    /// The first place at or after `from` where a whole record of this segment begins.
    pub(crate) fn find(bytes: &'a [u8], from: usize, seal: Seal) -> Option<(usize, Self)> {
        let magic = MAGIC.to_le_bytes();
        let mut at = from;
        while let Some(skip) = bytes.get(at..)?.iter().position(|&byte| byte == magic[0]) {
            at += skip;
            if let Some(record) = Self::parse(&bytes[at..], seal) {
                return Some((at, record));
            }
            at += 1;
        }
        None
    }

    /// Its length with its header.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Calls `each` with every entry; an error text if the body is not made of entries.
    pub(crate) fn entries(&self, mut each: impl FnMut(Entry<'a>) -> Result<(), String>) -> Result<(), String> {
        let mut rest = &self.bytes[RECORD_HEADER..];
        for _ in 0..self.entries {
            let at = self.bytes.len() - rest.len();
            let (entry, after) = split_entry(rest, at).ok_or("an entry has no known shape")?;
            each(entry)?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err("bytes follow the last entry".into()) }
    }
}

fn split_entry(bytes: &[u8], at: usize) -> Option<(Entry<'_>, &[u8])> {
    let head = bytes.get(..ENTRY_HEADER)?;
    let length = u32_at(head, 4)? as usize;
    let payload = bytes.get(ENTRY_HEADER..ENTRY_HEADER.checked_add(length)?)?;
    let entry = Entry {
        shard: ShardId(u16::from_le_bytes([head[0], head[1]])),
        kind: Kind::from_byte(head[2])?,
        index: u64_at(head, 8)?,
        term: u64_at(head, 16)?,
        payload,
        offset: at + ENTRY_HEADER,
    };
    Some((entry, &bytes[ENTRY_HEADER + length..]))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A part of a checkpoint: its changes make, of the tables as they were at `base`, what they are at the entry's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The index that the tables stand at before.
    pub(crate) base: u64,
    /// Which part this is, from 0.
    pub(crate) part: u32,
    /// How many there are.
    pub(crate) parts: u32,
    changes: &'a [u8],
}

/// Cuts `changes` into the payloads of checkpoint entries of about `limit` bytes each; at least one.
pub(crate) fn encode_parts<'a>(base: u64, changes: impl IntoIterator<Item = &'a Change>, limit: usize) -> Vec<Vec<u8>> {
    let mut bodies = vec![Vec::new()];
    for change in changes {
        let size = 8 + change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        if bodies.last().is_some_and(|body: &Vec<u8>| !body.is_empty() && body.len() + size > limit) {
            bodies.push(Vec::new());
        }
        if let Some(body) = bodies.last_mut() {
            encode_change(body, change);
        }
    }
    let parts = length_u32(bodies.len());
    let number = |(part, body): (usize, Vec<u8>)| {
        let mut payload = Vec::with_capacity(16 + body.len());
        payload.extend_from_slice(&base.to_le_bytes());
        payload.extend_from_slice(&length_u32(part).to_le_bytes());
        payload.extend_from_slice(&parts.to_le_bytes());
        payload.extend_from_slice(&body);
        payload
    };
    bodies.into_iter().enumerate().map(number).collect()
}

fn encode_change(body: &mut Vec<u8>, change: &Change) {
    body.extend_from_slice(&length_u32(change.key.len()).to_le_bytes());
    match &change.value {
        Some(value) => body.extend_from_slice(&length_u32(value.len()).to_le_bytes()),
        None => body.extend_from_slice(&REMOVED.to_le_bytes()),
    }
    body.extend_from_slice(&change.key);
    body.extend_from_slice(change.value.as_deref().unwrap_or_default());
}

impl<'a> Part<'a> {
    /// Reads a checkpoint entry's payload.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let part = Self {
            base: u64_at(payload, 0)?,
            part: u32_at(payload, 8)?,
            parts: u32_at(payload, 12)?,
            changes: payload.get(16..)?,
        };
        (part.part < part.parts).then_some(part)
    }

    /// Its changes.
    pub(crate) fn changes(&self, out: &mut Vec<Change>) -> Option<()> {
        let mut rest = self.changes;
        while !rest.is_empty() {
            let (key_length, value_length) = (u32_at(rest, 0)? as usize, u32_at(rest, 4)?);
            let key = rest.get(8..8usize.checked_add(key_length)?)?.to_vec();
            rest = &rest[8 + key_length..];
            let value = if value_length == REMOVED {
                None
            } else {
                let value = rest.get(..value_length as usize)?.to_vec();
                rest = &rest[value_length as usize..];
                Some(value)
            };
            out.push(Change { key, value });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SEAL: Seal = Seal { node: 7, first: 100 };

    fn sample(builder: &mut RecordBuilder) -> Vec<u8> {
        builder.begin();
        builder.entry(ShardId(3), Kind::Ops, 41, 1, |out| out.extend_from_slice(b"ops"));
        builder.entry(ShardId(9), Kind::Membership, 0, 1, |_| {});
        builder.finish(101, 100, SEAL).to_vec()
    }

    fn entries(record: Record<'_>) -> Vec<Entry<'_>> {
        let mut found = Vec::new();
        let keep = |entry| {
            found.push(entry);
            Ok(())
        };
        record.entries(keep).unwrap();
        found
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample(&mut RecordBuilder::default());
        let record = Record::parse(&bytes, SEAL).unwrap();
        assert_eq!((record.number, record.synced, record.len()), (101, 100, bytes.len()));
        let found = entries(record);
        assert_eq!(found.len(), 2);
        let offset = RECORD_HEADER + ENTRY_HEADER;
        assert_eq!(found[0], Entry { shard: ShardId(3), kind: Kind::Ops, index: 41, term: 1, payload: b"ops", offset });
        assert_eq!(&bytes[offset..offset + 3], b"ops");
        assert_eq!(found[1].kind, Kind::Membership);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = sample(&mut RecordBuilder::default());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::parse(&damaged, SEAL), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length], SEAL), None, "length {length}");
        }
    }

    #[test]
    fn a_record_of_another_segment_or_node_is_none() {
        let bytes = sample(&mut RecordBuilder::default());
        assert_eq!(Record::parse(&bytes, Seal { node: 7, first: 99 }), None);
        assert_eq!(Record::parse(&bytes, Seal { node: 8, first: 100 }), None);
    }

    #[test]
    fn a_record_is_found_behind_garbage() {
        let bytes = sample(&mut RecordBuilder::default());
        let mut file = b"NJR1 this is none NNJ".to_vec();
        let at = file.len();
        file.extend_from_slice(&bytes);
        assert_eq!(Record::find(&file, 0, SEAL).unwrap().0, at);
        assert_eq!(Record::find(&file, at + 1, SEAL), None);
    }

    #[test]
    fn a_checkpoint_is_cut_into_parts_and_joined_again() {
        let put =
            |n: u8| Change { key: vec![n; 3], value: (!n.is_multiple_of(3)).then(|| vec![n; 10 * usize::from(n)]) };
        let changes: Vec<Change> = (0..20).map(put).collect();
        let parts = encode_parts(5, &changes, 300);
        assert!(parts.len() > 3);
        let mut joined = Vec::new();
        for (number, payload) in parts.iter().enumerate() {
            let part = Part::parse(payload).unwrap();
            assert_eq!((part.base, part.part as usize, part.parts as usize), (5, number, parts.len()));
            part.changes(&mut joined).unwrap();
        }
        let plain = |list: &[Change]| list.iter().map(|c| (c.key.clone(), c.value.clone())).collect::<Vec<_>>();
        assert_eq!(plain(&joined), plain(&changes));
        assert_eq!(encode_parts(5, &[], 300).len(), 1);
    }
}
