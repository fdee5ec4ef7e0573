//! A group's state as its rows: read from the tables for a follower that is too far behind, and put in place of what the
//! follower had.
//!
//! ```text
//! leader    checkpoint held ─► rows, a piece at a time ─► released
//! follower  pieces ─► a file, synced ─► an `Install` entry in the journal, synced ─► old rows out, new rows in ─► loaded
//! ```
//! Up to the entry in the journal the follower has what it had, and behind it what the file holds: a crash in between is
//! finished by the recovery.

use super::engine::{Engine, EngineError, Stand, chunks};
use super::files::{File, Files};
use super::log::Point;
use super::record::{u32_at, u64_at};
use nightjar_base::ShardId;
use nightjar_shard::Change;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of rows in a piece, as long as no row alone is larger.
const PIECE: usize = 512 << 10;
/// Bytes that are read of a file at a time.
const READ: usize = 256 << 10;
/// Rows that are removed at a time.
const REMOVED: usize = 4096;

/// A snapshot that lies in a file, and is to replace a group's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Install {
    point: Point,
    length: u64,
    checksum: u32,
    file: String,
}

impl Install {
    /// What the state is that of.
    pub(crate) fn point(&self) -> Point {
        self.point
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.point.encode().to_vec();
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.checksum.to_le_bytes());
        bytes.extend_from_slice(self.file.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let point = Point::decode(bytes.get(..16)?)?;
        let file = std::str::from_utf8(bytes.get(28..)?).ok()?.to_owned();
        Some(Self { point, length: u64_at(bytes, 16)?, checksum: u32_at(bytes, 24)?, file })
    }
}

/// The name of the file that a group's snapshot is gathered in.
pub(crate) fn file_name(group: ShardId) -> String {
    format!("snapshot-{:04x}", group.0)
}

fn bounds(group: ShardId) -> (Vec<u8>, Vec<u8>) {
    let from = group.0.to_be_bytes().to_vec();
    let to = [from.as_slice(), &[u8::MAX]].concat();
    (from, to)
}

/// Rows on their way.
#[derive(Default)]
pub(crate) struct Piece {
    pub(crate) rows: Vec<u8>,
    /// The key of the last of them.
    pub(crate) last: Vec<u8>,
}

/// The rows of a group behind the key `after`, from the first on if that is empty; none at the end.
pub(crate) fn piece(engine: &dyn Engine, group: ShardId, after: &[u8]) -> Result<Piece, String> {
    let (mut from, to) = bounds(group);
    if !after.is_empty() {
        // The next key in the order of bytes.
        from = [after, &[0]].concat();
    }
    let mut piece = Piece::default();
    let read = engine.range(&from, &to, &mut |key, value| {
        let Piece { rows, last } = &mut piece;
        if !rows.is_empty() && rows.len() + key.len() + value.len() > PIECE {
            return ControlFlow::Break(());
        }
        push_row(rows, key, value);
        last.clear();
        last.extend_from_slice(key);
        ControlFlow::Continue(())
    });
    read.map_err(|error| error.to_string())?;
    Ok(piece)
}

/// The last piece: where the state stands.
pub(crate) fn last_piece(group: ShardId, stand: &Stand) -> Vec<u8> {
    let mut piece = Vec::new();
    let Change { key, value } = stand.change(group);
    push_row(&mut piece, &key, &value.unwrap_or_default());
    piece
}

fn push_row(piece: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("rows are split at some 16 KiB").to_le_bytes();
    piece.extend_from_slice(&length(key));
    piece.extend_from_slice(&length(value));
    piece.extend_from_slice(key);
    piece.extend_from_slice(value);
}

/// A snapshot that is coming in.
pub(crate) struct Incoming {
    file: Arc<dyn File>,
    name: String,
    length: u64,
    hasher: crc32fast::Hasher,
}

impl Incoming {
    pub(crate) fn begin(files: &dyn Files, group: ShardId) -> io::Result<Self> {
        let name = file_name(group);
        Ok(Self { file: files.create(&name)?, name, length: 0, hasher: crc32fast::Hasher::new() })
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_at(self.length, piece)?;
        self.length += piece.len() as u64;
        self.hasher.update(piece);
        Ok(())
    }

    /// The snapshot is whole; it is on disk when this returns.
    pub(crate) fn end(self, files: &dyn Files, point: Point) -> io::Result<Install> {
        self.file.sync()?;
        files.sync_folder()?;
        Ok(Install { point, length: self.length, checksum: self.hasher.finalize(), file: self.name })
    }
}

/// Puts the rows of a snapshot in place of those that the tables hold. May be done again from the beginning.
pub(crate) fn finish(files: &dyn Files, engine: &dyn Engine, group: ShardId, install: &Install) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", install.file);
    let file = files.open(&install.file).map_err(failed)?;
    let mut hasher = crc32fast::Hasher::new();
    read(&*file, install.length, |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    if hasher.finalize() != install.checksum {
        return Err(format!("{}: the snapshot is not what was received", install.file));
    }
    clear(engine, group)?;
    let (mut rest, mut stand) = (Vec::new(), None);
    read(&*file, install.length, |bytes| {
        rest.extend_from_slice(bytes);
        let mut changes = Vec::new();
        let taken = rows(&rest, &mut changes);
        rest.drain(..taken);
        // The row that says where the state stands goes last, so that what was cut short is begun again.
        if changes.last().is_some_and(|last| Stand::is_row(last, group)) {
            stand = changes.pop();
        }
        if changes.iter().any(|change| !change.key.starts_with(&group.0.to_be_bytes())) {
            return Err(format!("{}: the snapshot holds rows of another group", install.file));
        }
        write(engine, &changes)
    })?;
    let stand = stand.filter(|_| rest.is_empty());
    let stand = stand.ok_or_else(|| format!("{}: the snapshot has no known shape", install.file))?;
    write(engine, &[stand])
}

fn read(file: &dyn File, length: u64, mut each: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut buffer = vec![0; READ];
    let mut at = 0;
    while at < length {
        let count = usize::try_from(length - at).unwrap_or(READ).min(READ);
        file.read_at(at, &mut buffer[..count]).map_err(|error| error.to_string())?;
        each(&buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Appends the whole rows at the beginning of `bytes` to `out`; how many bytes they are.
fn rows(bytes: &[u8], out: &mut Vec<Change>) -> usize {
    let mut at = 0;
    while let (Some(key), Some(value)) = (u32_at(bytes, at), u32_at(bytes, at + 4)) {
        let (key_at, value_at) = (at + 8, at + 8 + key as usize);
        let end = value_at + value as usize;
        let Some(value) = bytes.get(value_at..end) else { break };
        out.push(Change { key: bytes[key_at..value_at].to_vec(), value: Some(value.to_vec()) });
        at = end;
    }
    at
}

/// Removes all rows of a group.
fn clear(engine: &dyn Engine, group: ShardId) -> Result<(), String> {
    let (from, to) = bounds(group);
    loop {
        let mut changes = Vec::new();
        let read = engine.range(&from, &to, &mut |key, _| {
            changes.push(Change { key: key.to_vec(), value: None });
            if changes.len() < REMOVED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        read.map_err(|error| error.to_string())?;
        if changes.is_empty() {
            return Ok(());
        }
        write(engine, &changes)?;
    }
}

fn write(engine: &dyn Engine, changes: &[Change]) -> Result<(), String> {
    chunks(changes).try_for_each(|chunk| engine.write(chunk)).map_err(|error: EngineError| error.to_string())
}
