//! The retained messages: all topics in memory, in order; small messages too, large ones in the tables once frozen.

mod matching;

use crate::codec::{self, RetainedV1};
use crate::keys;
use crate::rows::RowReader;
use matching::Verdict;
use nightjar_base::{Change, ShardId, TablesError, Wall, parts};
use nightjar_mqtt::Message;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Messages of more bytes do not stay in memory.
const RESIDENT: usize = 1024;

/// Topics to walk over before seeking is cheaper.
const WALK: u32 = 8;

/// Small messages are packed into rows of about this many bytes: the tables' cost is per row.
const ROW: u32 = 8 * 1024;

/// One topic's retained message.
#[derive(Debug)]
struct Retained {
    index: u64,
    /// Since which index the topic has had one without a break; since the load, if that is later.
    since: u64,
    /// When it was retained.
    at: Wall,
    expires: Option<Wall>,
    /// The number of its row.
    row: u64,
    /// `None` when it is in the tables (or among the frozen changes) only: a large one, alone in its row.
    message: Option<Arc<Message>>,
    bytes: u32,
}

/// Topics that a load has found, and when their messages expire.
pub(crate) type Restored = Vec<(Arc<str>, Option<Wall>)>;

/// A row of the tables: one large message, or some small ones.
#[derive(Debug, Default)]
struct Row {
    topics: Vec<Arc<str>>,
    bytes: u32,
    /// How many parts it has in the tables; 0 while it is not there.
    parts: u16,
    dirty: bool,
}

/// A retained message that was found: in memory, or where to read it.
pub(crate) struct Found {
    pub(crate) index: u64,
    pub(crate) since: u64,
    pub(crate) at: Wall,
    message: Option<Arc<Message>>,
    row: u64,
    parts: u16,
}

/// The retained messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct Index {
    topics: BTreeMap<Arc<str>, Retained>,
    bytes: u64,
    rows: BTreeMap<u64, Row>,
    last_row: u64,
    /// The row that takes the next small message, if it has room.
    filling: u64,
    /// Rows that are out of date in the tables.
    dirty: Vec<u64>,
    dirty_bytes: usize,
    /// Rows (number, parts) that are to go.
    removed: Vec<(u64, u16)>,
}

impl Index {
    /// Makes `message` the retained one of its topic. Returns the topic, as the index holds it, and when the message
    /// before it would have expired.
    pub(crate) fn put(&mut self, message: Arc<Message>, index: u64, at: Wall) -> (Arc<str>, Option<Wall>) {
        let bytes = size_of_message(&message);
        self.bytes += u64::from(bytes);
        self.dirty_bytes += message.size();
        let known = self.topics.get_key_value(message.topic());
        let known = known.map(|(topic, old)| (topic.clone(), old.row, old.bytes, old.since, old.expires));
        let (topic, since, old_expires, row) = match known {
            Some((topic, row, old_bytes, since, expires)) => {
                self.bytes -= u64::from(old_bytes);
                (topic.clone(), since, expires, self.stay_or_move(&topic, row, old_bytes, bytes))
            }
            None => {
                let topic: Arc<str> = message.topic().into();
                (topic.clone(), index, None, self.join(&topic, bytes))
            }
        };
        let expires = message.expires;
        let retained = Retained { index, since, at, expires, row, message: Some(message), bytes };
        self.topics.insert(topic.clone(), retained);
        (topic, old_expires)
    }

    /// The row for a topic's next message: its own, if that fits.
    fn stay_or_move(&mut self, topic: &Arc<str>, number: u64, old: u32, new: u32) -> u64 {
        let row = self.rows.entry(number).or_default();
        let fits = if is_large(new) { is_large(old) } else { !is_large(old) && row.bytes - old + new <= 2 * ROW };
        if fits {
            row.bytes = row.bytes - old + new;
            self.touch(number);
            return number;
        }
        self.leave(topic, number, old);
        self.join(topic, new)
    }

    /// Gives a topic a place in a row.
    fn join(&mut self, topic: &Arc<str>, bytes: u32) -> u64 {
        let has_room = |row: &Row| row.bytes + bytes <= ROW;
        let number = if !is_large(bytes) && self.rows.get(&self.filling).is_some_and(has_room) {
            self.filling
        } else {
            self.last_row += 1;
            if !is_large(bytes) {
                self.filling = self.last_row;
            }
            self.last_row
        };
        let row = self.rows.entry(number).or_default();
        row.topics.push(topic.clone());
        row.bytes += bytes;
        self.touch(number);
        number
    }

    /// Takes a topic out of its row.
    fn leave(&mut self, topic: &Arc<str>, number: u64, bytes: u32) {
        let Some(row) = self.rows.get_mut(&number) else { return };
        if let Some(place) = row.topics.iter().position(|other| Arc::ptr_eq(other, topic)) {
            row.topics.swap_remove(place);
        }
        row.bytes -= bytes;
        if row.topics.is_empty() {
            if row.parts > 0 {
                self.removed.push((number, row.parts));
            }
            self.rows.remove(&number);
            return;
        }
        if row.bytes < ROW / 2 {
            self.filling = number;
        }
        self.touch(number);
    }

    /// The row is to be written at the next freeze.
    fn touch(&mut self, number: u64) {
        if let Some(row) = self.rows.get_mut(&number)
            && !std::mem::replace(&mut row.dirty, true)
        {
            self.dirty.push(number);
        }
    }

    /// The index at which the topic's message was retained.
    pub(crate) fn index_of(&self, topic: &str) -> Option<u64> {
        self.topics.get(topic).map(|retained| retained.index)
    }

    /// Removes the topic's message. Returns the topic, as the index held it, and when the message would have expired.
    pub(crate) fn remove(&mut self, topic: &str) -> Option<(Arc<str>, Option<Wall>)> {
        let (topic, old) = self.topics.remove_entry(topic)?;
        self.bytes -= u64::from(old.bytes);
        self.leave(&topic, old.row, old.bytes);
        Some((topic, old.expires))
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is held since the last freeze, roughly.
    pub(crate) fn overlay_bytes(&self) -> usize {
        self.dirty_bytes + self.dirty.len() * 8 + self.removed.len() * 16
    }

    /// The topic's message.
    pub(crate) fn get(&self, topic: &str) -> Option<Found> {
        self.topics.get(topic).map(|retained| self.found(retained))
    }

    /// Calls `found` with what matches `filter` behind `after`, in order, at most `max_found` times, looking at no more
    /// than `max_scanned` topics, and until `found` says that it has enough. Returns the last topic looked at; `None` at
    /// the end.
    pub(crate) fn scan(
        &self,
        filter: &str,
        after: Option<&str>,
        max_scanned: usize,
        max_found: usize,
        found: &mut dyn FnMut(Found) -> Result<bool, TablesError>,
    ) -> Result<Option<Arc<str>>, TablesError> {
        if !matching::has_wildcard(filter) {
            if let Some(retained) = self.topics.get(filter).filter(|_| after.is_none_or(|after| after < filter)) {
                found(self.found(retained))?;
            }
            return Ok(None);
        }
        let start = matching::start(filter);
        let from = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let mut topics = self.topics.range::<str, _>((from, Bound::Unbounded));
        let mut target: Option<String> = None;
        let mut walked = 0;
        let (mut scanned_left, mut found_left) = (max_scanned.max(1), max_found.max(1));
        while let Some((topic, retained)) = topics.next() {
            scanned_left -= 1;
            if let Some(to) = target.as_deref().filter(|to| &**topic < *to) {
                walked += 1;
                if walked == WALK {
                    topics = self.topics.range::<str, _>((Bound::Included(to), Bound::Unbounded));
                    target = None;
                }
            } else {
                match matching::judge(filter, topic) {
                    Verdict::Match => {
                        let enough = found(self.found(retained))?;
                        found_left = if enough { 0 } else { found_left - 1 };
                    }
                    Verdict::Mismatch => {}
                    Verdict::Seek(to) => (target, walked) = (Some(to), 0),
                    Verdict::End => return Ok(None),
                }
            }
            if scanned_left == 0 || found_left == 0 {
                return Ok(Some(topic.clone()));
            }
        }
        Ok(None)
    }

    fn is_large(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|retained| is_large(retained.bytes))
    }

    fn found(&self, retained: &Retained) -> Found {
        let Retained { index, since, at, row, .. } = *retained;
        let message = retained.message.clone();
        let parts = if message.is_some() { 0 } else { self.rows.get(&row).map_or(0, |row| row.parts) };
        Found { index, since, at, message, row, parts }
    }

    /// Adds what a freeze must write, and lets go of large messages.
    pub(crate) fn freeze(&mut self, shard: ShardId, changes: &mut Vec<Change>) {
        for (row, parts) in self.removed.drain(..) {
            parts::remove(changes, &keys::retained(shard, row), parts);
        }
        for number in self.dirty.drain(..) {
            let Some(row) = self.rows.get_mut(&number).filter(|row| row.dirty) else { continue };
            row.dirty = false;
            let mut packed = Vec::with_capacity(row.topics.len());
            for topic in &row.topics {
                let Some(retained) = self.topics.get_mut(topic) else { continue };
                // A message leaves memory only here, when its row becomes clean, and a large one is alone in its row.
                let Some(message) = retained.message.clone() else { continue };
                if row.topics.len() == 1 && is_large(retained.bytes) {
                    retained.message = None;
                }
                packed.push(RetainedV1 { index: retained.index, at: retained.at, message });
            }
            row.parts = parts::put(changes, &keys::retained(shard, number), codec::encode(&packed), row.parts);
        }
        self.dirty_bytes = 0;
    }

    /// During a load: one row. Returns its topics and when they expire.
    pub(crate) fn restore(
        &mut self,
        number: u64,
        parts: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<Restored, TablesError> {
        let packed: Vec<RetainedV1> = codec::decode(key, value)?;
        let alone = packed.len() == 1;
        let mut row = Row { parts, ..Row::default() };
        let mut restored = Vec::with_capacity(packed.len());
        for RetainedV1 { index, at, message } in packed {
            let topic: Arc<str> = message.topic().into();
            let (expires, bytes) = (message.expires, size_of_message(&message));
            // Only one that is alone in its row can be read back by itself.
            let message = (!alone || !is_large(bytes)).then_some(message);
            let retained = Retained { index, since: index, at, expires, row: number, message, bytes };
            if self.topics.insert(topic.clone(), retained).is_some() {
                return Err(TablesError::corrupt(key, "its topic is in another row too"));
            }
            self.bytes += u64::from(bytes);
            row.bytes += bytes;
            row.topics.push(topic.clone());
            restored.push((topic, expires));
        }
        // A large message stays alone in its row.
        if row.bytes < ROW / 2 && !row.topics.first().is_some_and(|topic| self.is_large(topic)) {
            self.filling = number;
        }
        self.rows.insert(number, row);
        self.last_row = self.last_row.max(number);
        Ok(restored)
    }
}

fn size_of_message(message: &Message) -> u32 {
    u32::try_from(message.size()).unwrap_or(u32::MAX)
}

fn is_large(bytes: u32) -> bool {
    bytes as usize > RESIDENT
}

impl Found {
    /// The message, from the tables if need be.
    pub(crate) fn message(self, shard: ShardId, reader: &RowReader<'_>) -> Result<Arc<Message>, TablesError> {
        if let Some(message) = self.message {
            return Ok(message);
        }
        let base = keys::retained(shard, self.row);
        let value = reader.row(&base, self.parts)?;
        let packed: Vec<RetainedV1> = codec::decode(&base, &value)?;
        match packed.into_iter().next() {
            Some(RetainedV1 { message, .. }) => Ok(message),
            None => Err(TablesError::corrupt(&base, "it holds no message")),
        }
    }
}
