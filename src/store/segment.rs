//! A journal segment: one file of a fixed length, a header block and then records up to its end.
//!
//! A file bears a segment's name only when its header is on disk, so that a bad header is always damage. Records of a
//! segment that has a successor were synced before that was begun, so that only the last one can have a torn tail.

use super::StoreError;
use super::record::{Record, u32_at, u64_at};
use std::path::Path;

/// Records begin behind the header block, which has room for an index of each of 1024 shards.
pub(crate) const HEADER_BLOCK: usize = 12 << 10;
/// The format of a node alone.
const ALONE: u32 = 1;
/// The format of a node of a cluster, whose journal holds the logs of Raft groups: one a shard, and the control group's.
const REPLICATED: u32 = 2;
const MAGIC: &[u8; 8] = b"NIGHTJAR";
const HEADER: usize = 64;
const FLOORS_CRC: usize = 40;

/// What the checksum of every record of a segment covers besides the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The node, a random number.
    pub(crate) node: u64,
    /// The number of the segment's first record.
    pub(crate) first: u64,
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) seal: Seal,
    pub(crate) shards: u16,
    pub(crate) length: u64,
    /// Whether it was written by a node of a cluster.
    pub(crate) replicated: bool,
}

/// The file name of the segment that begins with record `first`.
pub(crate) fn name(first: u64) -> String {
    format!("journal-{first:016x}")
}

/// The first record's number, if this is a segment's name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

impl Header {
    /// The header block. `floors` says, by shard, at which index the journal stood when the segment was begun: tables
    /// below it cannot be carried on from here.
    pub(crate) fn encode(&self, floors: &[u64]) -> Vec<u8> {
        let mut block = vec![0; HEADER_BLOCK];
        block[0..8].copy_from_slice(MAGIC);
        let format = if self.replicated { REPLICATED } else { ALONE };
        block[8..12].copy_from_slice(&format.to_le_bytes());
        block[12..14].copy_from_slice(&self.shards.to_le_bytes());
        block[16..24].copy_from_slice(&self.seal.node.to_le_bytes());
        block[24..32].copy_from_slice(&self.seal.first.to_le_bytes());
        block[32..40].copy_from_slice(&self.length.to_le_bytes());
        let table = HEADER..HEADER + 8 * floors.len();
        let floors: Vec<u8> = floors.iter().flat_map(|index| index.to_le_bytes()).collect();
        block[table].copy_from_slice(&floors);
        block[FLOORS_CRC..FLOORS_CRC + 4].copy_from_slice(&crc32fast::hash(&floors).to_le_bytes());
        let crc = crc32fast::hash(&block[..HEADER - 4]);
        block[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads and checks the header of `file`.
    pub(crate) fn parse(content: &[u8], file: &Path) -> Result<Self, StoreError> {
        let corrupt = |offset, what: &str| StoreError::Corrupt { file: file.to_owned(), offset, what: what.to_owned() };
        if content.get(0..8) != Some(MAGIC.as_slice()) {
            return Err(corrupt(0, "this is not a journal segment"));
        }
        // The place of format and checksum is the same in every format.
        let crc = u32_at(content, HEADER - 4).ok_or_else(|| corrupt(0, "the header is cut off"))?;
        if crc != crc32fast::hash(&content[..HEADER - 4]) {
            return Err(corrupt(0, "the header's checksum is wrong"));
        }
        let format = u32_at(content, 8).unwrap_or_default();
        if format > REPLICATED {
            return Err(StoreError::NewerFormat { file: file.to_owned(), found: format, known: REPLICATED });
        }
        let number = |at| u64_at(content, at).unwrap_or_default();
        let header = Self {
            seal: Seal { node: number(16), first: number(24) },
            shards: u16::from_le_bytes([content[12], content[13]]),
            length: number(32),
            replicated: format == REPLICATED,
        };
        if header.length != content.len() as u64 {
            let what = format!("the segment is {} bytes long, its header says {}", content.len(), header.length);
            return Err(corrupt(header.length.min(content.len() as u64), &what));
        }
        if content.len() < HEADER_BLOCK {
            return Err(corrupt(0, "the segment is shorter than a header block"));
        }
        Ok(header)
    }

    /// How many groups have entries in it: the shards, and in a cluster the control group behind them.
    pub(crate) fn groups(&self) -> usize {
        usize::from(self.shards) + usize::from(self.replicated)
    }

    /// By group: the index at which the journal stood when the segment was begun.
    pub(crate) fn floors(&self, content: &[u8], file: &Path) -> Result<Vec<u64>, StoreError> {
        let table = content.get(HEADER..HEADER + 8 * self.groups()).unwrap_or_default();
        if u32_at(content, FLOORS_CRC) != Some(crc32fast::hash(table)) {
            let what = "the checksum of the header's indexes is wrong".to_owned();
            return Err(StoreError::Corrupt { file: file.to_owned(), offset: HEADER as u64, what });
        }
        Ok((0..self.groups()).filter_map(|group| u64_at(table, 8 * group)).collect())
    }
}

/// Where a segment's records end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Behind the last whole record.
    pub(crate) offset: usize,
    /// The number that comes next.
    pub(crate) next: u64,
    /// The last record was cut by a crash before anyone relied on it: its remains must be wiped before more is written.
    pub(crate) torn: bool,
}

/// Calls `each` with every record of the segment in order, and tells where they end.
pub(crate) fn scan<'a>(
    content: &'a [u8],
    header: &Header,
    file: &Path,
    mut each: impl FnMut(usize, Record<'a>) -> Result<(), StoreError>,
) -> Result<End, StoreError> {
    let corrupt =
        |offset: usize, what: String| StoreError::Corrupt { file: file.to_owned(), offset: offset as u64, what };
    let (mut offset, mut next) = (HEADER_BLOCK, header.seal.first);
    while let Some(record) = content.get(offset..).and_then(|rest| Record::parse(rest, header.seal)) {
        if record.number != next {
            return Err(corrupt(offset, format!("record {next} is missing, record {} follows", record.number)));
        }
        each(offset, record)?;
        offset += record.len();
        next += 1;
    }
    let rest = content.get(offset..).unwrap_or_default();
    let mut torn = Record::claimed_number(rest) == Some(next);
    let mut from = 1;
    while let Some((at, later)) = Record::find(rest, from, header.seal) {
        // A later record vouches for this one having been on disk: then no crash explains what is seen here.
        if later.number > next && later.synced >= next {
            let what = format!("record {next} is damaged: record {} follows at offset {}", later.number, offset + at);
            return Err(corrupt(offset, what));
        }
        torn = true;
        from = at + later.len();
    }
    Ok(End { offset, next, torn })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::record::{Kind, RecordBuilder};
    use super::*;
    use nightjar_base::ShardId;

    const SEAL: Seal = Seal { node: 3, first: 50 };
    const LENGTH: usize = HEADER_BLOCK + 2000;

    fn header() -> Header {
        Header { seal: SEAL, shards: 4, length: LENGTH as u64, replicated: false }
    }

    /// A segment of records `numbers`, each saying that all up to `number - lag` were synced; and where each begins.
    fn segment(numbers: &[u64], lag: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut content, mut starts, mut builder) =
            (header().encode(&[4, 5, 6, 7]), Vec::new(), RecordBuilder::default());
        for &number in numbers {
            starts.push(content.len());
            builder.begin();
            builder.entry(ShardId(1), Kind::Ops, number, 1, |out| out.extend_from_slice(&[number as u8; 40]));
            content.extend_from_slice(builder.finish(number, number - lag, SEAL));
        }
        content.resize(LENGTH, 0);
        (content, starts)
    }

    fn check(content: &[u8]) -> Result<(Vec<u64>, End), StoreError> {
        let file = Path::new("journal-x");
        let mut numbers = Vec::new();
        let end = scan(content, &Header::parse(content, file)?, file, |_, record| {
            numbers.push(record.number);
            Ok(())
        })?;
        Ok((numbers, end))
    }

    #[test]
    fn records_are_read_up_to_the_end() {
        let (content, _) = segment(&[50, 51, 52], 1);
        let (numbers, end) = check(&content).unwrap();
        assert_eq!((numbers, end.next, end.torn), (vec![50, 51, 52], 53, false));
    }

    #[test]
    fn the_indexes_of_the_header_are_kept_and_checked() {
        let (mut content, _) = segment(&[50], 1);
        assert_eq!(header().floors(&content, Path::new("x")).unwrap(), [4, 5, 6, 7]);
        content[HEADER + 9] ^= 1;
        assert!(header().floors(&content, Path::new("x")).is_err());
    }

    #[test]
    fn every_cut_of_the_last_record_is_a_torn_tail() {
        let (content, starts) = segment(&[50, 51, 52], 1);
        let end = starts[2] + (starts[2] - starts[1]);
        for cut in starts[2]..end {
            let mut torn = content.clone();
            torn[cut..].fill(0);
            // The last bytes of a record can be zero themselves; here none is.
            let (numbers, found) = check(&torn).unwrap();
            assert_eq!((numbers, found.offset, found.next), (vec![50, 51], starts[2], 52), "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_last_record_is_refused_with_its_place() {
        let (content, starts) = segment(&[50, 51, 52], 1);
        for byte in starts[0]..starts[2] {
            let mut damaged = content.clone();
            damaged[byte] ^= 0x10;
            let expected = if byte < starts[1] { starts[0] } else { starts[1] };
            match check(&damaged) {
                Err(StoreError::Corrupt { offset, .. }) => assert_eq!(offset, expected as u64, "byte {byte}"),
                other => panic!("byte {byte}: {other:?}"),
            }
        }
    }

    #[test]
    fn damage_among_records_that_nobody_synced_is_a_torn_tail() {
        let (mut content, starts) = segment(&[50, 51, 52, 53], 3);
        content[starts[1] + 40] ^= 1;
        let (numbers, end) = check(&content).unwrap();
        assert_eq!((numbers, end.next, end.torn), (vec![50], 51, true));
    }

    #[test]
    fn a_gap_is_refused() {
        let (content, _) = segment(&[50, 52], 1);
        assert!(matches!(check(&content), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_wrong_length_is_refused() {
        let (content, _) = segment(&[50, 51], 1);
        for length in [0, 7, 63, 64, HEADER_BLOCK - 1, HEADER_BLOCK, LENGTH / 2, LENGTH - 1] {
            assert!(matches!(check(&content[..length]), Err(StoreError::Corrupt { .. })), "{length}");
        }
        let mut longer = content.clone();
        longer.push(0);
        assert!(matches!(check(&longer), Err(StoreError::Corrupt { .. })));
        assert!(matches!(check(&vec![0; LENGTH]), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let (mut content, _) = segment(&[50], 1);
        content[8] = 3;
        assert!(matches!(check(&content), Err(StoreError::Corrupt { .. })));
        let crc = crc32fast::hash(&content[..HEADER - 4]);
        content[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(check(&content), Err(StoreError::NewerFormat { found: 3, known: 2, .. })));
    }

    #[test]
    fn names_sort_as_their_numbers() {
        assert_eq!(first_of(&name(0x1f)), Some(0x1f));
        assert_eq!(first_of("journal-1f"), None);
        assert_eq!(first_of("spare-0000000000000000"), None);
        assert!(name(9) < name(10) && name(255) < name(256));
    }
}
