//! Reading a session's queue in order: received sequences, pages, tail.

use crate::effect::Entry;
use crate::keys;
use crate::page;
use crate::queue::Queue;
use crate::rows::RowReader;
use crate::session::Session;
use crate::shared::SharedMessages;
use nightjar_base::{ShardId, TablesError};
use nightjar_mqtt::{Message, QoS};
use std::sync::Arc;

/// Takes entries in order until a bound is reached.
pub(crate) struct Taker<'a> {
    queue: &'a Queue,
    from: u64,
    position: u64,
    entries_left: usize,
    bytes_left: usize,
    empty: &'a Arc<Message>,
    out: &'a mut Vec<Entry>,
}

impl<'a> Taker<'a> {
    pub(crate) fn new(
        queue: &'a Queue,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        empty: &'a Arc<Message>,
        out: &'a mut Vec<Entry>,
    ) -> Self {
        Self { queue, from, position: from, entries_left: max_entries, bytes_left: max_bytes.max(1), empty, out }
    }

    /// The sequence from which to go on.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    fn is_full(&self) -> bool {
        self.entries_left == 0 || self.bytes_left == 0
    }

    fn take(&mut self, entry: Entry, size: usize) {
        self.position = entry.sequence + 1;
        self.entries_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(size);
        self.out.push(entry);
    }

    /// Takes the received sequences before `sequence`; whether there is room for more.
    fn take_received(&mut self, sequence: u64) -> bool {
        let queue = self.queue;
        for received in queue.received_from(self.position).take_while(|&received| received < sequence) {
            if self.is_full() {
                return false;
            }
            let entry = Entry {
                sequence: received,
                message: self.empty.clone(),
                qos: QoS::ExactlyOnce,
                retain: false,
                identifiers: None,
                share: None,
                received: true,
            };
            self.take(entry, 0);
        }
        !self.is_full()
    }

    /// Takes what is in memory, and with it the end; returns the sequence from which to go on.
    pub(crate) fn take_tail(mut self) -> u64 {
        let queue = self.queue;
        for entry in queue.tail_from(self.from) {
            if !self.take_received(entry.sequence) || !self.fits(entry.message.size()) {
                return self.position;
            }
            self.take(entry.clone(), entry.message.size());
        }
        if self.take_received(u64::MAX) || self.queue.received_from(self.position).next().is_none() {
            return self.from.max(queue.next());
        }
        self.position
    }

    /// Whether `size` more bytes fit; the first entry always does.
    fn fits(&self, size: usize) -> bool {
        self.position == self.from || size <= self.bytes_left
    }
}

/// Takes what is in pages; whether there is room for more.
pub(crate) fn take_pages(
    taker: &mut Taker<'_>,
    shard: ShardId,
    session: &Session,
    shared: &SharedMessages,
    reader: &RowReader<'_>,
) -> Result<bool, TablesError> {
    for page in session.queue.pages_from(taker.from) {
        if taker.is_full() {
            return Ok(false);
        }
        let key = keys::page(shard, session.id, page.first);
        let value = reader.row(&key, page.parts)?;
        for record in page::records(&key, page.first, &value)? {
            let record = record?;
            if record.sequence < taker.from || !session.queue.is_live(record.sequence) {
                continue;
            }
            if !taker.take_received(record.sequence) || !taker.fits(record.size()) {
                return Ok(false);
            }
            let entry = record.entry(&key, |id| shared.read(shard, &key, id, reader))?;
            let size = entry.message.size();
            taker.take(entry, size);
        }
    }
    Ok(true)
}
