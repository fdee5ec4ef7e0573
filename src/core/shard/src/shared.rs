//! Messages with rows of their own: large ones that several sessions have in their queues, stored once.

use crate::codec;
use crate::keys;
use crate::rows::RowReader;
use nightjar_base::{Change, ShardId, TablesError, parts};
use nightjar_mqtt::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Smaller messages are written into every queue: a read more costs more than the bytes.
pub(crate) const THRESHOLD: usize = 1024;

/// Which messages have rows, and how many entries in pages name each.
#[derive(Debug, Default)]
pub(crate) struct SharedMessages {
    rows: BTreeMap<u64, Row>,
    /// The id that the next message gets, less one; ids begin at 1, since 0 in a page means "inline".
    last: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    parts: u16,
    references: u64,
}

impl SharedMessages {
    /// During a load: the id given last.
    pub(crate) fn restore(&mut self, last: u64) {
        self.last = last;
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// During a load: a page names this message.
    pub(crate) fn restore_reference(&mut self, id: u64) {
        self.rows.entry(id).or_default().references += 1;
    }

    /// During a load, after all pages: its row has so many parts.
    pub(crate) fn restore_row(&mut self, id: u64, parts: u16) {
        self.rows.entry(id).or_default().parts = parts;
    }

    /// At the end of a load: a message that is named but has no row.
    pub(crate) fn missing(&self) -> Option<u64> {
        self.rows.iter().find(|(_, row)| row.parts == 0).map(|(&id, _)| id)
    }

    /// Writes a message that `references` entries of new pages name; returns its id.
    pub(crate) fn add(&mut self, shard: ShardId, message: &Message, references: u64, changes: &mut Vec<Change>) -> u64 {
        self.last += 1;
        let parts = parts::put(changes, &keys::message(shard, self.last), codec::encode(message), 0);
        self.rows.insert(self.last, Row { parts, references });
        self.last
    }

    /// One entry that named it is gone with its page; with the last one the row goes.
    pub(crate) fn release(&mut self, shard: ShardId, id: u64, changes: &mut Vec<Change>) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.references = row.references.saturating_sub(1);
        if row.references == 0 {
            parts::remove(changes, &keys::message(shard, id), row.parts);
            self.rows.remove(&id);
        }
    }

    /// Reads the message that `key` names.
    pub(crate) fn read(
        &self,
        shard: ShardId,
        key: &[u8],
        id: u64,
        reader: &RowReader<'_>,
    ) -> Result<Arc<Message>, TablesError> {
        let Some(row) = self.rows.get(&id) else {
            return Err(TablesError::corrupt(key, format_args!("it names message {id}, which does not exist")));
        };
        let base = keys::message(shard, id);
        codec::decode(&base, &reader.row(&base, row.parts)?).map(Arc::new)
    }
}
