//! The checkpointed state of a machine, seen from inside: rows of bytes, ordered by their keys.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use thiserror::Error;

/// Is called with one row's key and value after another until it breaks.
pub type RowVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Checkpointed rows. A machine only reads them; whoever owns them applies the [`Change`]s of a freeze.
pub trait Tables {
    /// The row's value.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError>;

    /// Calls `each` with the rows of `from <= key < to`, in order, until it breaks.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn range(&self, from: &[u8], to: &[u8], each: RowVisitor<'_>) -> Result<(), TablesError>;
}

/// One absolute change to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row.
    pub key: Vec<u8>,
    /// Its new value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// `newer` laid over `older`; both are ordered by key, and so is the result.
    #[must_use]
    pub fn overlay(older: &[Self], newer: Vec<Self>) -> Vec<Self> {
        if older.is_empty() {
            return newer;
        }
        let mut merged = Vec::with_capacity(older.len() + newer.len());
        let mut older = older.iter().peekable();
        for change in newer {
            while let Some(before) = older.next_if(|old| old.key < change.key) {
                merged.push(before.clone());
            }
            older.next_if(|old| old.key == change.key);
            merged.push(change);
        }
        merged.extend(older.cloned());
        merged
    }
}

/// Why rows could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TablesError {
    /// A row is not what was written.
    #[error("row {key} is damaged: {what}")]
    Corrupt {
        /// The row's key, in hex.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A row was written by a newer program.
    #[error("row {key} has format {found}, this program knows formats up to {known}")]
    Newer {
        /// The row's key, in hex.
        key: String,
        /// Its format version.
        found: u8,
        /// The newest version that is known here.
        known: u8,
    },
    /// The store below failed.
    #[error("the tables cannot be read: {0}")]
    Unavailable(String),
}

impl TablesError {
    /// Damage at `key`.
    #[must_use]
    pub fn corrupt(key: &[u8], what: impl std::fmt::Display) -> Self {
        Self::Corrupt { key: hex(key), what: what.to_string() }
    }

    /// Format `found` at `key`, where formats up to `known` are known.
    #[must_use]
    pub fn newer(key: &[u8], found: u8, known: u8) -> Self {
        Self::Newer { key: hex(key), found, known }
    }
}

/// `bytes` in hex.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Rows in memory: for tests, and for a node that keeps nothing.
impl Tables for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], each: RowVisitor<'_>) -> Result<(), TablesError> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in BTreeMap::range::<[u8], _>(self, (Bound::Included(from), Bound::Excluded(to))) {
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
