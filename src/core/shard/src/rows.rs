//! Reading rows: the frozen changes above the tables.

use crate::keys;
use crate::tables::{Change, Tables, TablesError};

/// Reads rows as they will be when the frozen changes are in the tables.
#[derive(Clone, Copy)]
pub(crate) struct RowReader<'a> {
    pub(crate) tables: &'a dyn Tables,
    /// Ordered by key.
    pub(crate) frozen: &'a [Change],
}

impl RowReader<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        match self.frozen.binary_search_by(|change| change.key.as_slice().cmp(key)) {
            Ok(at) => Ok(self.frozen[at].value.clone()),
            Err(_) => self.tables.get(key),
        }
    }

    /// The value of the row `base`, which has `parts` parts.
    pub(crate) fn row(&self, base: &[u8], parts: u16) -> Result<Vec<u8>, TablesError> {
        let mut whole = Vec::new();
        for part in 0..parts {
            let key = keys::part(base, part);
            let value = self.get(&key)?.ok_or_else(|| TablesError::corrupt(&key, "it is missing"))?;
            if whole.is_empty() {
                whole = value;
            } else {
                whole.extend_from_slice(&value);
            }
        }
        Ok(whole)
    }
}

/// `newer` laid over `older`; both are ordered by key, and so is the result.
pub(crate) fn overlay(older: &[Change], newer: Vec<Change>) -> Vec<Change> {
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
