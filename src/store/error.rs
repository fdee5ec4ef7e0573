//! What can go wrong with a data folder, said so that an operator can act on it.

use std::io;
use std::path::PathBuf;

const REMEDY: &str =
    "`nightjar store export` writes out what can still be read, `nightjar store set-aside` moves the folder away";

/// Why a store does not open, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process serves from this folder.
    #[error("the data folder {} is in use by another process{}", folder.display(), pid_text(*pid))]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it wrote down its id.
        pid: Option<u32>,
    },
    /// The journal is damaged at a place that no crash explains.
    #[error("{} is damaged at offset {offset}: {what}; {REMEDY}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// The first byte that is not as it was written.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The tables (sled) are damaged or do not belong to the journal beside them.
    #[error("the tables in {} are damaged{}: {what}; {REMEDY}", folder.display(), key_text(key.as_deref()))]
    Tables {
        /// The folder of the tables.
        folder: PathBuf,
        /// The key of the damaged row in hexadecimal, where one is known.
        key: Option<String>,
        /// What is wrong.
        what: String,
    },
    /// The folder was written by a later Nightjar.
    #[error("{} has format {found}, but this Nightjar knows formats up to {known}: use the newer version", file.display())]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest that this binary reads.
        known: u32,
    },
    /// The operating system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The settings do not make a store.
    #[error("{0}")]
    Setting(&'static str),
}

impl StoreError {
    /// Whether the folder is damaged: export and set-aside are the ways on.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Tables { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn key_text(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!(" at key {key}"))
}
