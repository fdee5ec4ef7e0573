//! The retained messages: all topics in memory, in order; small messages too, large ones in the tables once frozen.

mod matching;

use crate::codec::{self, RetainedV1};
use crate::keys;
use crate::rows::RowReader;
use crate::tables::{Change, TablesError};
use matching::Verdict;
use nightjar_base::{ShardId, Wall};
use nightjar_mqtt::Message;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Messages of more bytes do not stay in memory.
const RESIDENT: usize = 1024;

/// Topics to walk over before seeking is cheaper.
const WALK: u32 = 8;

/// One topic's retained message.
#[derive(Debug)]
struct Retained {
    index: u64,
    /// Since which index the topic has had one without a break; since the load, if that is later.
    since: u64,
    /// When it was retained.
    at: Wall,
    expires: Option<Wall>,
    /// The number of its row; 0 while it has none.
    row: u64,
    /// `None` when it is in the tables (or among the frozen changes) only.
    message: Option<Arc<Message>>,
    bytes: u32,
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
    last_row: u64,
    /// Topics whose rows are out of date.
    dirty: Vec<Arc<str>>,
    dirty_bytes: usize,
    /// Rows (number, parts) that are to go.
    removed: Vec<(u64, u16)>,
}

impl Index {
    /// Makes `message` the retained one of its topic. Returns the topic, as the index holds it, and when the message
    /// before it would have expired.
    pub(crate) fn put(&mut self, message: Arc<Message>, index: u64, at: Wall) -> (Arc<str>, Option<Wall>) {
        let expires = message.expires;
        let size = message.size();
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        self.bytes += u64::from(bytes);
        self.dirty_bytes += size;
        let name = message.topic();
        if let Some((topic, old)) = self.entry(name) {
            let topic = topic.clone();
            let (old_bytes, was_dirty, old_expires) = (old.bytes, old.dirty, old.expires);
            *old = Retained { index, at, expires, message: Some(message), bytes, dirty: true, ..*old };
            self.bytes -= u64::from(old_bytes);
            if was_dirty {
                self.dirty_bytes = self.dirty_bytes.saturating_sub(old_bytes as usize);
            } else {
                self.dirty.push(topic.clone());
            }
            return (topic, old_expires);
        }
        let topic: Arc<str> = name.into();
        let new =
            Retained { index, since: index, at, expires, row: 0, message: Some(message), bytes, parts: 0, dirty: true };
        self.topics.insert(topic.clone(), new);
        self.dirty.push(topic.clone());
        (topic, None)
    }

    fn entry(&mut self, topic: &str) -> Option<(&Arc<str>, &mut Retained)> {
        self.topics.range_mut::<str, _>((Bound::Included(topic), Bound::Included(topic))).next()
    }

    /// The index at which the topic's message was retained.
    pub(crate) fn index_of(&self, topic: &str) -> Option<u64> {
        self.topics.get(topic).map(|retained| retained.index)
    }

    /// Removes the topic's message. Returns the topic, as the index held it, and when the message would have expired.
    pub(crate) fn remove(&mut self, topic: &str) -> Option<(Arc<str>, Option<Wall>)> {
        let (topic, old) = self.topics.remove_entry(topic)?;
        self.bytes -= u64::from(old.bytes);
        if old.dirty {
            self.dirty_bytes = self.dirty_bytes.saturating_sub(old.bytes as usize);
        }
        if old.row != 0 {
            self.removed.push((old.row, old.parts));
        }
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
        self.dirty_bytes + self.dirty.len() * 64 + self.removed.len() * 16
    }

    /// The topic's message.
    pub(crate) fn get(&self, topic: &str) -> Option<Found> {
        self.topics.get(topic).map(Found::of)
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
                found(Found::of(retained))?;
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
                        let enough = found(Found::of(retained))?;
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

    /// Adds what a freeze must write, and lets go of large messages.
    pub(crate) fn freeze(&mut self, shard: ShardId, changes: &mut Vec<Change>) {
        for (row, parts) in self.removed.drain(..) {
            codec::remove(changes, &keys::retained(shard, row), parts);
        }
        for topic in self.dirty.drain(..) {
            let Some(retained) = self.topics.get_mut(&topic).filter(|retained| retained.dirty) else { continue };
            retained.dirty = false;
            // A message leaves memory only here, when it becomes clean; what is dirty is there.
            let Some(message) = retained.message.clone() else { continue };
            if retained.row == 0 {
                self.last_row += 1;
                retained.row = self.last_row;
            }
            if message.size() > RESIDENT {
                retained.message = None;
            }
            let value = codec::encode(&RetainedV1 { index: retained.index, at: retained.at, message });
            retained.parts = codec::put(changes, &keys::retained(shard, retained.row), value, retained.parts);
        }
        self.dirty_bytes = 0;
    }

    /// During a load: one row. Returns its topic and when it expires.
    pub(crate) fn restore(
        &mut self,
        row: u64,
        parts: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(Arc<str>, Option<Wall>), TablesError> {
        let RetainedV1 { index, at, message } = codec::decode(key, value)?;
        let topic: Arc<str> = message.topic().into();
        let expires = message.expires;
        let size = message.size();
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        let message = (size <= RESIDENT).then_some(message);
        let retained = Retained { index, since: index, at, expires, row, message, bytes, parts, dirty: false };
        if self.topics.insert(topic.clone(), retained).is_some() {
            return Err(TablesError::corrupt(key, "its topic has another row"));
        }
        self.bytes += u64::from(bytes);
        self.last_row = self.last_row.max(row);
        Ok((topic, expires))
    }
}

impl Found {
    fn of(retained: &Retained) -> Self {
        let Retained { index, since, at, row, parts, .. } = *retained;
        Self { index, since, at, message: retained.message.clone(), row, parts }
    }

    /// The message, from the tables if need be.
    pub(crate) fn message(self, shard: ShardId, reader: &RowReader<'_>) -> Result<Arc<Message>, TablesError> {
        if let Some(message) = self.message {
            return Ok(message);
        }
        let base = keys::retained(shard, self.row);
        let value = reader.row(&base, self.parts)?;
        let RetainedV1 { message, .. } = codec::decode(&base, &value)?;
        Ok(message)
    }
}
