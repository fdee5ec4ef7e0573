//! sled, and everything that must be known about it; no other file names it.
//!
//! Version 0.34.7 answers `flush` before the disk has anything: every chunk is therefore also synced through a handle of
//! our own on its file. A crash while it starts can leave a snapshot that keeps it from opening; a damaged file can make
//! it panic; and after one failed write it answers every call with that error until it is opened again.

use super::engine::{Engine, EngineError};
use super::files::{is_full, sync_folder};
use nightjar_shard::{Change, Tables, TablesError};
use parking_lot::RwLock;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The length of sled's segments, for two reasons that a power cut shows. A page above a quarter of it goes to a file of
/// its own that sled never syncs, and a page holds more than 16 rows, the longest of which have a topic of 64 KiB. And a
/// segment is written over once its rows have been written elsewhere *and* the log has gone on for a whole segment
/// since: that those rows are on the disk by then is certain only if each chunk, with all that sled moves for its sake,
/// is less than a segment, since only then is there a sync between the two.
const SEGMENT: usize = 8 << 20;

/// sled's one default tree in a folder of its own.
pub(crate) struct SledEngine {
    folder: PathBuf,
    cache_bytes: u64,
    open: RwLock<Option<Open>>,
}

struct Open {
    database: sled::Db,
    /// The same file as sled's own handle: syncing either syncs both.
    file: std::fs::File,
}

impl SledEngine {
    /// Opens what is in `folder`, or makes it.
    pub(crate) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        let open = open(folder, cache_bytes)?;
        Ok(Self { folder: folder.to_owned(), cache_bytes, open: RwLock::new(Some(open)) })
    }

    fn read<T>(&self, work: impl FnOnce(&Open) -> Result<T, sled::Error>) -> Result<T, TablesError> {
        // A reader may read again from within a range, while the checkpoint waits to write.
        let open = self.open.read_recursive();
        guarded(|| work(open.as_ref().ok_or_else(closed)?))
    }
}

/// Why sled does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// There is no space for what sled writes when it opens; what it has is not to blame.
    #[error("{0}")]
    Full(std::io::Error),
    /// Anything else.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { Self::Full(error) } else { Self::Tables(unavailable(error)) }
    }
}

fn closed() -> sled::Error {
    sled::Error::Io(std::io::Error::other("closed after an error"))
}

/// Some of sled's answers to damage and to a full disk are panics: here they become errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, TablesError> {
    caught(work)?.map_err(|error| TablesError::Unavailable(error.to_string()))
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, TablesError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Ok(result),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            Err(TablesError::Unavailable(format!("sled panicked: {text}")))
        }
    }
}

fn open(folder: &Path, cache_bytes: u64) -> Result<Open, OpenError> {
    remove_leftovers(folder)?;
    // Without a flusher thread: only a checkpoint writes, and it waits for what it wrote.
    let config = sled::Config::new().path(folder).cache_capacity(cache_bytes);
    let config = config.segment_size(SEGMENT).flush_every_ms(None);
    let database = match caught(|| config.open())? {
        Ok(database) => database,
        Err(sled::Error::Io(error)) => return Err(error.into()),
        Err(error) => return Err(TablesError::Unavailable(error.to_string()).into()),
    };
    let file = std::fs::OpenOptions::new().read(true).write(true).open(folder.join("db"))?;
    file.sync_all()?;
    sync_folder(folder)?;
    if let Some(parent) = folder.parent() {
        sync_folder(parent)?;
    }
    Ok(Open { database, file })
}

fn unavailable(error: std::io::Error) -> TablesError {
    TablesError::Unavailable(error.to_string())
}

/// A snapshot that a crash cut sorts last among the snapshots, fails its checksum, and sled refuses to open.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(%name, "removing a snapshot of the tables that was never finished");
            std::fs::remove_file(entry.path())?;
        }
    }
    sync_folder(folder)
}

impl Tables for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.read(|open| Ok(open.database.get(key)?.map(|value| value.to_vec())))
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TablesError> {
        if from >= to {
            return Ok(());
        }
        self.read(|open| {
            for row in open.database.range(from..to) {
                let (key, value) = row?;
                if each(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Engine for SledEngine {
    fn write(&self, chunk: &[Change]) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for change in chunk {
            match &change.value {
                Some(value) => batch.insert(change.key.as_slice(), value.as_slice()),
                None => batch.remove(change.key.as_slice()),
            }
        }
        {
            // Readers wait meanwhile: concurrent reads and writes are where sled has deadlocked.
            let open = self.open.write();
            guarded(|| open.as_ref().ok_or_else(closed)?.database.apply_batch(batch))?;
        }
        self.read(|open| open.database.flush())?;
        let open = self.open.read_recursive();
        let open = open.as_ref().ok_or_else(|| TablesError::Unavailable(closed().to_string()))?;
        open.file.sync_data().map_err(|error| EngineError::Lost(format!("the tables could not be synced: {error}")))
    }

    fn revive(&self) -> Result<(), TablesError> {
        let mut current = self.open.write();
        // Closing tries to flush what it has, with the sticky error or even a panic again: of no interest.
        let old = current.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(old)));
        let opened = open(&self.folder, self.cache_bytes).map_err(|error| match error {
            OpenError::Full(error) => unavailable(error),
            OpenError::Tables(error) => error,
        });
        *current = Some(opened?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Change {
        Change { key: key.to_vec(), value: Some(value.to_vec()) }
    }

    #[test]
    fn rows_outlive_a_reopening_and_a_leftover_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sled");
        {
            let engine = SledEngine::open(&path, 1 << 20).unwrap();
            engine.write(&[put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"3")]).unwrap();
            engine.write(&[Change { key: b"b".to_vec(), value: None }]).unwrap();
            engine.revive().unwrap();
        }
        std::fs::write(path.join("snap.0000000000000FFF.generating"), b"half").unwrap();
        let engine = SledEngine::open(&path, 1 << 20).unwrap();
        let mut found = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        engine.range(b"a", b"z", &mut each).unwrap();
        assert_eq!(found, [(b"a".to_vec(), b"1".to_vec()), (b"c".to_vec(), b"3".to_vec())]);
        assert_eq!(engine.get(b"b").unwrap(), None);
    }

    #[test]
    fn a_damaged_folder_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        drop(SledEngine::open(folder.path(), 1 << 20).unwrap());
        std::fs::write(folder.path().join("conf"), [0; 40]).unwrap();
        assert!(SledEngine::open(folder.path(), 1 << 20).is_err());
    }
}
