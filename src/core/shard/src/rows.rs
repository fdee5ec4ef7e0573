//! Reading rows: the frozen changes above the tables.

use nightjar_base::{Change, Tables, TablesError, parts};

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
            let key = parts::key(base, part);
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
