//! The shard's state, and what can be read of it.

use crate::deadlines::{Deadline, Deadlines};
use crate::effect::{Due, Entry};
use crate::freeze::Graves;
use crate::origins::Origins;
use crate::proposers::Proposers;
use crate::rows::RowReader;
use crate::session::Session;
use crate::shared::SharedMessages;
use crate::{queue_reader, retained};
use nightjar_base::{Change, SessionId, ShardId, Tables, TablesError, Wall};
use nightjar_mqtt::Message;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Hashes session ids, which we number ourselves: nobody can make them collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its buckets from the low bits and its tags from the high ones; an odd factor serves both.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Sessions by id. Never iterated where the order could show.
pub(crate) type Sessions = HashMap<SessionId, Box<Session>, BuildHasherDefault<IdHasher>>;

/// Sums over all queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Bytes of the entries that are in memory.
    pub(crate) young_bytes: u64,
}

/// A retained message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    /// The message.
    pub message: Arc<Message>,
    /// The index since which its topic has had one without a break; since the load, if that is later.
    pub since: u64,
    /// When this one was retained.
    pub at: Wall,
}

/// Bytes of retained messages that are read together.
const RETAINED_PAGE: usize = 256 * 1024;

/// One deterministic state machine of durable state.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) applied: u64,
    pub(crate) sessions: Sessions,
    pub(crate) by_client: HashMap<Arc<str>, SessionId>,
    pub(crate) next_session: u64,
    pub(crate) totals: Totals,
    pub(crate) deadlines: Deadlines,
    pub(crate) retained: retained::Index,
    pub(crate) shared: SharedMessages,
    /// Sessions that the next freeze looks at; some may be gone by then.
    pub(crate) listed: Vec<SessionId>,
    pub(crate) graves: Graves,
    pub(crate) proposers: Proposers,
    pub(crate) origins: Origins,
    /// `applied` of the last freeze.
    pub(crate) frozen_applied: u64,
    /// The changes of freezes that were not thawed, ordered by key.
    pub(crate) frozen: Arc<Vec<Change>>,
    /// Whether other nodes apply the same ops.
    pub(crate) replicated: bool,
    /// What stands for the message of a received entry.
    empty: Arc<Message>,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(id: ShardId) -> Self {
        Self {
            id,
            applied: 0,
            sessions: Sessions::default(),
            by_client: HashMap::new(),
            next_session: 1,
            totals: Totals::default(),
            deadlines: Deadlines::default(),
            retained: retained::Index::default(),
            shared: SharedMessages::default(),
            listed: Vec::new(),
            graves: Graves::default(),
            proposers: Proposers::default(),
            origins: Origins::default(),
            frozen_applied: 0,
            frozen: Arc::default(),
            replicated: false,
            empty: Arc::new(Message::new("", &[], &[])),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Whether other nodes apply the same ops: then effects tell of subscriptions too, whose routes only the node that
    /// handled the SUBSCRIBE has drawn. The state is the same either way.
    pub fn set_replicated(&mut self, replicated: bool) {
        self.replicated = replicated;
    }

    /// The index of the last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether anything was applied since the last freeze.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.applied != self.frozen_applied
    }

    /// What is held in memory since the last freeze, roughly.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        usize::try_from(self.totals.young_bytes).unwrap_or(usize::MAX)
            + self.listed.len() * 256
            + self.retained.overlay_bytes()
            + self.graves.memory()
            + self.proposers.overlay_bytes()
            + self.origins.overlay_bytes()
    }

    /// The session of a client.
    #[must_use]
    pub fn session_of(&self, client_id: &str) -> Option<SessionId> {
        self.by_client.get(client_id).copied()
    }

    /// The head of a client's session.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<&Session> {
        self.session(self.session_of(client_id)?)
    }

    /// A session's head.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|session| &**session)
    }

    /// All sessions in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        let mut all: Vec<&Session> = self.sessions.values().map(|session| &**session).collect();
        all.sort_unstable_by_key(|session| session.id);
        all.into_iter()
    }

    /// The sessions whose connections are at `home`, in the order of their ids.
    pub fn sessions_at(&self, home: u64) -> impl Iterator<Item = &Session> {
        let all = self.sessions.values().map(|session| &**session);
        let mut found: Vec<&Session> = all.filter(|session| session.attached && session.home == home).collect();
        found.sort_unstable_by_key(|session| session.id);
        found.into_iter()
    }

    /// How many sessions a connection has.
    #[must_use]
    pub fn attached_count(&self) -> usize {
        self.sessions.values().filter(|session| session.attached).count()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many entries wait in all queues.
    #[must_use]
    pub fn queued_messages(&self) -> u64 {
        self.totals.messages
    }

    /// Their bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// Live entries of a queue from sequence `from` on, in order, received ones included; at most `max_entries` and,
    /// after the first, `max_bytes`. Returns the sequence from which to go on, `next_sequence` when all was given.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn page(
        &self,
        tables: &dyn Tables,
        session: SessionId,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        out: &mut Vec<Entry>,
    ) -> Result<u64, TablesError> {
        let Some(session) = self.sessions.get(&session) else { return Ok(from) };
        let mut taker = queue_reader::Taker::new(&session.queue, from, max_entries, max_bytes, &self.empty, out);
        if !queue_reader::take_pages(&mut taker, self.id, session, &self.shared, &self.reader(tables))? {
            return Ok(taker.position());
        }
        Ok(taker.take_tail())
    }

    /// The same without the tables; `None` when they would be needed (`out` is untouched then).
    pub fn page_from_memory(
        &self,
        session: SessionId,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        out: &mut Vec<Entry>,
    ) -> Option<u64> {
        let Some(session) = self.sessions.get(&session) else { return Some(from) };
        if session.queue.pages_from(from).next().is_some() {
            return None;
        }
        Some(queue_reader::Taker::new(&session.queue, from, max_entries, max_bytes, &self.empty, out).take_tail())
    }

    /// The retained message of a topic, and the index at which it was retained.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn retained(&self, tables: &dyn Tables, topic: &str) -> Result<Option<(Arc<Message>, u64)>, TablesError> {
        let Some(found) = self.retained.get(topic) else { return Ok(None) };
        let index = found.index;
        Ok(Some((found.message(self.id, &self.reader(tables))?, index)))
    }

    /// Retained messages that match `filter` (without `$share`), in the order of their topics, behind `after`: at most
    /// `max_found`, at most some 256 KiB if they are more than one, looking at no more than `max_scanned` topics. Returns
    /// the last topic looked at; `None` at the end.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn retained_page(
        &self,
        tables: &dyn Tables,
        filter: &str,
        after: Option<&str>,
        max_scanned: usize,
        max_found: usize,
        out: &mut Vec<RetainedMessage>,
    ) -> Result<Option<Arc<str>>, TablesError> {
        let reader = self.reader(tables);
        let mut bytes = 0;
        self.retained.scan(filter, after, max_scanned, max_found, &mut |found| {
            let (since, at) = (found.since, found.at);
            let message = found.message(self.id, &reader)?;
            bytes += message.size();
            out.push(RetainedMessage { message, since, at });
            Ok(bytes >= RETAINED_PAGE)
        })
    }

    /// Whether `topic` has a retained message.
    #[must_use]
    pub fn has_retained(&self, topic: &str) -> bool {
        self.retained.index_of(topic).is_some()
    }

    /// How many messages are retained.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.len()
    }

    /// Their bytes.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.retained.bytes()
    }

    /// What is due at `now`. Each is handed out once (again only after a load, or when it is set anew); a session's will
    /// comes before its end.
    pub fn due(&mut self, now: Wall, out: &mut Vec<Due>) {
        while let Some((at, deadline)) = self.deadlines.pop(now) {
            match deadline {
                Deadline::Will(id) => {
                    let Some(session) = self.sessions.get(&id) else { continue };
                    let Some(will) = &session.will else { continue };
                    let (client_id, message) = (session.client_id.clone(), will.message.clone());
                    out.push(Due::Will { session: id, client_id, epoch: session.epoch, message });
                }
                Deadline::Expiry(id) => {
                    let Some(session) = self.sessions.get(&id) else { continue };
                    out.push(Due::Expired { session: id, client_id: session.client_id.clone(), expires: at });
                }
                Deadline::Retained(topic) => {
                    let Some(index) = self.retained.index_of(&topic) else { continue };
                    out.push(Due::Retained { topic, index });
                }
            }
        }
    }

    /// When `due` has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Wall> {
        self.deadlines.next()
    }

    pub(crate) fn reader<'a>(&'a self, tables: &'a dyn Tables) -> RowReader<'a> {
        RowReader { tables, frozen: &self.frozen }
    }
}
