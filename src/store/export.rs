//! What can be saved from a damaged folder: everything that can still be read, as text; and the folder itself, moved
//! away so that a fresh one can take its place.

use super::StoreError;
use super::engine::hex;
use super::files::{DiskFiles, Files, FolderLock, sync_folder};
use super::record::{Kind, Record};
use super::recovery::segments;
use super::segment::{self, HEADER_BLOCK, Header};
use super::sled::SledEngine;
use nightjar_shard::Tables;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Writes all that can be read of the data folder to `out`, a line for each:
///
/// ```text
/// row KEY VALUE CRC                                     the tables' rows, sorted by key
/// entry RECORD SHARD KIND INDEX TERM PAYLOAD CRC        the journal's entries, in order
/// damage FILE OFFSET WHAT                               what could not be read
/// ```
/// Keys, values and payloads are in hexadecimal; the crc is that of the line before it.
///
/// # Errors
/// When the folder is in use or is none, or `out` does not take more. Damage is not an error here.
pub fn export(folder: &Path, out: &mut dyn Write) -> Result<(), StoreError> {
    let (files, _lock) = enter(folder)?;
    let failed = |source| StoreError::io("cannot export", folder, source);
    writeln!(out, "# nightjar export 1").map_err(failed)?;
    rows(&folder.join("sled"), out).map_err(failed)?;
    for first in segments(&files)? {
        entries(&files, first, out).map_err(failed)?;
    }
    writeln!(out, "# end").and_then(|()| out.flush()).map_err(failed)
}

/// Renames the data folder to `<folder>.damaged-<n>` and returns that name.
///
/// # Errors
/// When the folder is in use or is none, or cannot be renamed.
pub fn set_aside(folder: &Path) -> Result<PathBuf, StoreError> {
    let (_, _lock) = enter(folder)?;
    let failed = |source| StoreError::io("cannot set aside", folder, source);
    let name = folder.canonicalize().map_err(failed)?;
    let free = (1..u32::MAX).map(|number| {
        let mut to = name.clone().into_os_string();
        to.push(format!(".damaged-{number}"));
        PathBuf::from(to)
    });
    let to = free.into_iter().find(|to| !to.exists()).ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
    std::fs::rename(&name, &to).map_err(failed)?;
    if let Some(parent) = name.parent() {
        sync_folder(parent).map_err(failed)?;
    }
    Ok(to)
}

/// The folder, if it is a data folder, locked.
fn enter(folder: &Path) -> Result<(DiskFiles, FolderLock), StoreError> {
    if !folder.join("lock").exists() {
        let source = io::Error::new(io::ErrorKind::NotFound, "this is no data folder");
        return Err(StoreError::io("cannot read", folder, source));
    }
    Ok((DiskFiles::new(folder)?, FolderLock::take(folder)?))
}

fn line(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text} {:08x}", crc32fast::hash(text.as_bytes()))
}

fn rows(folder: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut failed = None;
    let read = SledEngine::open(folder, 16 << 20).and_then(|tables| {
        let mut each = |key: &[u8], value: &[u8]| match line(out, &format!("row {} {}", hex(key), hex(value))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        // Above every key: kinds and shards are far from the highest byte.
        Ok(tables.range(&[], &[0xff; 64], &mut each)?)
    });
    if let Some(error) = failed {
        return Err(error);
    }
    read.or_else(|error| writeln!(out, "damage {} 0 {error}", folder.display()))
}

/// The entries of one segment: what is damaged is passed over, and reading goes on at the next whole record.
fn entries(files: &dyn Files, first: u64, out: &mut dyn Write) -> io::Result<()> {
    let name = segment::name(first);
    let path = files.folder().join(&name);
    let content = match files.open(&name).and_then(|file| file.read_all()) {
        Ok(content) => content,
        Err(error) => return writeln!(out, "damage {} 0 {error}", path.display()),
    };
    let header = match readable_header(&content, &path) {
        Ok(header) => header,
        Err(error) => return writeln!(out, "damage {} 0 {error}", path.display()),
    };
    if header.length != content.len() as u64 {
        let what = format!("{} bytes of {} are there", content.len(), header.length);
        writeln!(out, "damage {} {} {what}", path.display(), content.len())?;
    }
    let mut offset = HEADER_BLOCK;
    while let Some((at, record)) = Record::find(&content, offset, header.seal) {
        if at != offset {
            writeln!(out, "damage {} {offset} {} bytes", path.display(), at - offset)?;
        }
        record_lines(&record, out)?;
        offset = at + record.len();
    }
    Ok(())
}

/// A header whose own bytes are right, whatever the length of the file.
fn readable_header(content: &[u8], path: &Path) -> Result<Header, StoreError> {
    let mut whole = content.to_vec();
    let length = super::record::u64_at(content, 32).filter(|&length| length < 8 << 30).unwrap_or_default();
    whole.resize(usize::try_from(length).unwrap_or_default(), 0);
    Header::parse(&whole, path)
}

fn record_lines(record: &Record<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Vec::new();
    let read = record.entries(|entry| {
        let kind = match entry.kind {
            Kind::Membership => "membership",
            Kind::Ops => "ops",
            Kind::Checkpoint => "checkpoint",
            Kind::Blank => "blank",
            Kind::Members => "members",
            Kind::Batches => "batches",
            Kind::Vote => "vote",
            Kind::Truncate => "truncate",
            Kind::Purged => "purged",
            Kind::Install => "install",
        };
        let (shard, index, term) = (entry.shard, entry.index, entry.term);
        lines.push(format!("entry {} {shard} {kind} {index} {term} {}", record.number, hex(entry.payload)));
        Ok(())
    });
    for text in lines {
        line(out, &text)?;
    }
    read.or_else(|what| writeln!(out, "damage record {} {what}", record.number))
}
