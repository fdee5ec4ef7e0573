//! Rows longer than a store takes at once: a row's *base* is its key without the number of the part behind it.

use crate::{Change, Tables, TablesError};
use std::ops::ControlFlow;

/// The longest part of a value; sled keeps values up to 16 KiB in its pages, and syncs nothing else.
pub const LENGTH: usize = 12 * 1024;

/// The key of one part of a row.
#[must_use]
pub fn key(base: &[u8], part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(base.len() + 2);
    key.extend_from_slice(base);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Puts `bytes` as the row `base`, which had `old` parts; returns how many it has now.
///
/// # Panics
/// When `bytes` are longer than 65,535 parts.
pub fn put(changes: &mut Vec<Change>, base: &[u8], bytes: Vec<u8>, old: u16) -> u16 {
    let parts = if bytes.len() <= LENGTH {
        changes.push(Change { key: key(base, 0), value: Some(bytes) });
        1
    } else {
        let mut parts = 0_u16;
        for chunk in bytes.chunks(LENGTH) {
            changes.push(Change { key: key(base, parts), value: Some(chunk.to_vec()) });
            parts = parts.checked_add(1).expect("no value of ours is longer than 65,535 parts of 12 KiB");
        }
        parts
    };
    changes.extend((parts..old).map(|part| Change { key: key(base, part), value: None }));
    parts
}

/// Removes the row `base`, which has `parts` parts.
pub fn remove(changes: &mut Vec<Change>, base: &[u8], parts: u16) {
    changes.extend((0..parts).map(|part| Change { key: key(base, part), value: None }));
}

/// Is called with base, whole value and number of parts of one row after another.
pub type Taker<'a> = &'a mut dyn FnMut(&[u8], &[u8], u16) -> Result<(), TablesError>;

/// Calls `each` with every row of `from <= key < to`, in order.
///
/// # Errors
/// When the tables cannot be read, a part is missing, or `each` says so.
pub fn scan(tables: &dyn Tables, from: &[u8], to: &[u8], each: Taker<'_>) -> Result<(), TablesError> {
    let mut row = Row::default();
    let mut failure = None;
    tables.range(from, to, &mut |key, value| match row.add(key, value, each) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failure {
        Some(error) => Err(error),
        None => row.end(each),
    }
}

/// The row whose parts are under way.
#[derive(Default)]
struct Row {
    base: Vec<u8>,
    value: Vec<u8>,
    parts: u16,
}

impl Row {
    fn add(&mut self, key: &[u8], value: &[u8], each: Taker<'_>) -> Result<(), TablesError> {
        let Some((base, part)) = key.split_last_chunk::<2>() else {
            return Err(TablesError::corrupt(key, "no row has such a short key"));
        };
        if self.parts == 0 || base != self.base {
            self.end(each)?;
            self.base.clear();
            self.base.extend_from_slice(base);
            self.value.clear();
            self.parts = 0;
        }
        if u16::from_be_bytes(*part) != self.parts {
            return Err(TablesError::corrupt(key, format_args!("part {} before it is missing", self.parts)));
        }
        self.value.extend_from_slice(value);
        self.parts = self.parts.checked_add(1).ok_or_else(|| TablesError::corrupt(key, "too many parts"))?;
        Ok(())
    }

    fn end(&self, each: Taker<'_>) -> Result<(), TablesError> {
        if self.parts == 0 { Ok(()) } else { each(&self.base, &self.value, self.parts) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_long_value_comes_back_whole() {
        let mut rows = BTreeMap::new();
        let long: Vec<u8> = (0..LENGTH * 2 + 5).map(|n| n as u8).collect();
        let mut changes = Vec::new();
        assert_eq!(put(&mut changes, b"ab", long.clone(), 0), 3);
        assert_eq!(put(&mut changes, b"b", vec![1], 0), 1);
        rows.extend(changes.drain(..).map(|change| (change.key, change.value.unwrap())));
        let mut seen = Vec::new();
        let mut each = |base: &[u8], value: &[u8], parts| {
            seen.push((base.to_vec(), value.to_vec(), parts));
            Ok(())
        };
        scan(&rows, b"a", b"c", &mut each).unwrap();
        assert_eq!(seen, [(b"ab".to_vec(), long, 3), (b"b".to_vec(), vec![1], 1)]);

        rows.remove(&key(b"ab", 1));
        let error = scan(&rows, b"a", b"c", &mut |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error, TablesError::corrupt(&key(b"ab", 2), "part 1 before it is missing"));
    }

    #[test]
    fn a_shorter_value_takes_the_old_parts_away() {
        let mut changes = Vec::new();
        assert_eq!(put(&mut changes, b"a", vec![1], 3), 1);
        let removed: Vec<_> = changes[1..].iter().map(|change| (change.key.clone(), change.value.clone())).collect();
        assert_eq!(removed, [(key(b"a", 1), None), (key(b"a", 2), None)]);
    }
}
