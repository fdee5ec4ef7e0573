//! The shard as its users see it.

use crate::effect::{Due, Effect, Entry};
use crate::op::Op;
use crate::session::Session;
use crate::tables::{Change, Tables, TablesError};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::Message;
use std::sync::Arc;

/// One deterministic state machine of durable state.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    applied: u64,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(id: ShardId) -> Self {
        Self { id, applied: 0 }
    }

    /// The shard that the tables hold: one scan.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn load(id: ShardId, _tables: &dyn Tables) -> Result<Self, TablesError> {
        Ok(Self::new(id))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The index of the last applied batch of ops.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Applies one op of the batch `index`; the ops of one batch share it, and nothing may be frozen between them.
    pub fn apply(&mut self, index: u64, _op: Op, _effects: &mut Vec<Effect>) {
        self.applied = index;
    }

    /// The net absolute changes since the last freeze, ordered by key, the position they stand for among them.
    ///
    /// Until [`thaw`](Self::thaw) reads look at them above the tables. A second freeze before that gives the union.
    ///
    /// # Errors
    /// When the tables cannot be read; nothing has changed then.
    pub fn freeze(&mut self, _tables: &dyn Tables) -> Result<Arc<Vec<Change>>, TablesError> {
        Ok(Arc::new(Vec::new()))
    }

    /// The frozen changes are in the tables now.
    pub fn thaw(&mut self) {}

    /// Whether there is anything to freeze.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        false
    }

    /// What is held in memory since the last freeze, roughly.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        0
    }

    /// The session of a client.
    #[must_use]
    pub fn session_of(&self, _client_id: &str) -> Option<SessionId> {
        None
    }

    /// A session's head.
    #[must_use]
    pub fn session(&self, _id: SessionId) -> Option<&Session> {
        None
    }

    /// All sessions in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        std::iter::empty()
    }

    /// Live entries of a queue from sequence `from` on, in order, received ones included; at most `max_entries` and,
    /// after the first, `max_bytes`. Returns the sequence from which to go on.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn page(
        &self,
        _tables: &dyn Tables,
        _session: SessionId,
        from: u64,
        _max_entries: usize,
        _max_bytes: usize,
        _out: &mut Vec<Entry>,
    ) -> Result<u64, TablesError> {
        Ok(from)
    }

    /// The same without the tables; `None` when they would be needed (`out` is untouched then).
    pub fn page_from_memory(
        &self,
        _session: SessionId,
        _from: u64,
        _max_entries: usize,
        _max_bytes: usize,
        _out: &mut Vec<Entry>,
    ) -> Option<u64> {
        None
    }

    /// The retained message of a topic, and the index at which it was retained.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn retained(&self, _tables: &dyn Tables, _topic: &str) -> Result<Option<(Arc<Message>, u64)>, TablesError> {
        Ok(None)
    }

    /// Retained messages that match `filter` (without `$share`), in the order of their topics, behind `after`: at most
    /// `max_found`, looking at no more than `max_scanned` topics. Returns the last topic looked at; `None` at the end.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn retained_page(
        &self,
        _tables: &dyn Tables,
        _filter: &str,
        _after: Option<&str>,
        _max_scanned: usize,
        _max_found: usize,
        _out: &mut Vec<(Arc<Message>, u64)>,
    ) -> Result<Option<Arc<str>>, TablesError> {
        Ok(None)
    }

    /// How many messages are retained.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        0
    }

    /// Their bytes.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        0
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        0
    }

    /// How many entries wait in all queues.
    #[must_use]
    pub fn queued_messages(&self) -> u64 {
        0
    }

    /// Their bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        0
    }

    /// What is due at `now`. Each is handed out once (again only after a load, or when it is set anew); a session's will
    /// comes before its end.
    pub fn due(&mut self, _now: Wall, _out: &mut Vec<Due>) {}

    /// When `due` has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Wall> {
        None
    }
}
