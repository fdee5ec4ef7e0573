//! Loading: one scan of a shard's rows.

use crate::codec::{self, MetaV1, QueueV1, SubscriptionV1};
use crate::deadlines::Deadline;
use crate::keys::{self, Kind};
use crate::page;
use crate::queue::{PageRef, Queue};
use crate::session::{Cursor, Rows, Session, Subscribed};
use crate::shard::Shard;
use nightjar_base::{SessionId, ShardId, Tables, TablesError, parts};
use std::collections::BTreeMap;

impl Shard {
    /// The shard that the tables hold: one scan.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn load(id: ShardId, tables: &dyn Tables) -> Result<Self, TablesError> {
        let mut loader = Loader { shard: Self::new(id), gone: Vec::new(), parts: 0 };
        let (from, to) = keys::bounds(id);
        parts::scan(tables, &from, &to, &mut |base, value, parts| loader.row(base, value, parts))?;
        loader.finish()
    }

    /// Becomes what the tables hold now, as after a snapshot of another replica; says no less than before.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged; nothing has changed then.
    pub fn reload(&mut self, tables: &dyn Tables) -> Result<(), TablesError> {
        let mut loaded = Self::load(self.id, tables)?;
        loaded.replicated = self.replicated;
        *self = loaded;
        Ok(())
    }
}

/// Puts rows into the shard.
struct Loader {
    shard: Shard,
    /// What was done with out of order, for each session that has some.
    gone: Vec<(SessionId, Vec<u64>)>,
    /// How many parts the row has that is taken in.
    parts: u16,
}

impl Loader {
    fn row(&mut self, base: &[u8], value: &[u8], parts: u16) -> Result<(), TablesError> {
        self.parts = parts;
        let kind = base.get(2).and_then(|&kind| Kind::from_u8(kind));
        let Some(kind) = kind.filter(|kind| kind.base_length() == base.len()) else {
            return Err(TablesError::corrupt(base, "no row has such a key"));
        };
        match kind {
            Kind::Meta => self.meta(base, value)?,
            Kind::Identity => self.identity(base, value)?,
            Kind::Queue => self.queue(base, value)?,
            Kind::Subscription => self.subscription(base, value)?,
            Kind::Page => self.page(base, value)?,
            Kind::Message => self.shard.shared.restore_row(keys::number(base, 3), parts),
            Kind::Proposer => self.shard.proposers.restore(keys::number(base, 3), base, value)?,
            Kind::Origin => self.shard.origins.restore(keys::publisher(base), parts, base, value)?,
            Kind::Retained => {
                let row = keys::number(base, 3);
                for (topic, expires) in self.shard.retained.restore(row, parts, base, value)? {
                    if let Some(at) = expires {
                        self.shard.deadlines.set(at, Deadline::Retained(topic));
                    }
                }
            }
        }
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let meta: MetaV1 = codec::decode(key, value)?;
        self.shard.applied = meta.applied;
        self.shard.frozen_applied = meta.applied;
        self.shard.next_session = meta.next_session;
        self.shard.shared.restore(meta.next_message);
        Ok(())
    }

    fn identity(&mut self, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let id = SessionId(keys::number(key, 3));
        let (identity, home) = codec::decode_identity(key, value)?;
        if let Some(at) = identity.will_due {
            self.shard.deadlines.set(at, Deadline::Will(id));
        }
        if let Some(at) = identity.expires.filter(|_| identity.expiry != 0) {
            self.shard.deadlines.set(at, Deadline::Expiry(id));
        }
        if self.shard.by_client.insert(identity.client_id.clone(), id).is_some() {
            return Err(TablesError::corrupt(key, "its client has another session"));
        }
        let session = Session {
            id,
            client_id: identity.client_id,
            user: identity.user,
            epoch: identity.epoch,
            attached: identity.attached,
            home,
            expiry: identity.expiry,
            expires: identity.expires,
            sent: identity.sent,
            will: identity.will.map(Box::new),
            will_due: identity.will_due,
            limits: identity.limits,
            subscriptions: BTreeMap::new(),
            queue: Queue::new(),
            inbound: Vec::new(),
            rows: Rows { identity_parts: self.parts, ..Rows::default() },
        };
        self.shard.sessions.insert(id, Box::new(session));
        Ok(())
    }

    fn session(&mut self, key: &[u8]) -> Result<&mut Session, TablesError> {
        let session = self.shard.sessions.get_mut(&SessionId(keys::number(key, 3)));
        session.map(|session| &mut **session).ok_or_else(|| TablesError::corrupt(key, "its session does not exist"))
    }

    fn queue(&mut self, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let parts = self.parts;
        let queue: QueueV1 = codec::decode(key, value)?;
        if queue.head > queue.next {
            return Err(TablesError::corrupt(key, "its head lies behind its end"));
        }
        let session = self.session(key)?;
        session.queue = Queue::restore(queue.head, queue.next, queue.received.into());
        session.inbound = queue.inbound;
        session.rows.queue_parts = parts;
        let id = session.id;
        self.gone.push((id, queue.gone));
        Ok(())
    }

    fn subscription(&mut self, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let row: SubscriptionV1 = codec::decode(key, value)?;
        let (parts, number) = (self.parts, keys::number32(key, 11));
        let session = self.session(key)?;
        let replay = row.replaying.then(|| row.after.map_or(Cursor::Start, Cursor::After));
        let subscribed =
            Subscribed { options: row.options, replay, since: row.since, row: number, parts, dirty: false };
        if session.subscriptions.insert(row.filter, subscribed).is_some() {
            return Err(TablesError::corrupt(key, "its filter has another row"));
        }
        session.rows.last_subscription = session.rows.last_subscription.max(number);
        Ok(())
    }

    fn page(&mut self, key: &[u8], value: &[u8]) -> Result<(), TablesError> {
        let (parts, first) = (self.parts, keys::number(key, 11));
        let session = self.shard.sessions.get_mut(&SessionId(keys::number(key, 3)));
        let session = session.ok_or_else(|| TablesError::corrupt(key, "its session does not exist"))?;
        if session.queue.pages.back().is_some_and(|before| before.end() > first) {
            return Err(TablesError::corrupt(key, "it overlaps the page before it"));
        }
        let mut page = PageRef { first, span: 0, parts, shared: false };
        for record in page::records(key, first, value)? {
            let record = record?;
            if record.sequence < page.end() || record.sequence >= session.queue.next() {
                return Err(TablesError::corrupt(key, "its entries are out of order"));
            }
            session.queue.restore_weight(record.sequence, record.weight);
            if record.shared != 0 {
                self.shard.shared.restore_reference(record.shared);
                page.shared = true;
            }
            page.span = (record.sequence - first) as u32 + 1;
        }
        session.queue.pages.push_back(page);
        Ok(())
    }

    fn finish(mut self) -> Result<Shard, TablesError> {
        for (id, gone) in &self.gone {
            let Some(session) = self.shard.sessions.get_mut(id) else { continue };
            session.queue.restore_gone(gone);
            self.shard.totals.messages += session.queue.len();
            self.shard.totals.bytes += session.queue.bytes();
        }
        if let Some(id) = self.shard.shared.missing() {
            return Err(TablesError::corrupt(&keys::message(self.shard.id, id), "it is missing"));
        }
        Ok(self.shard)
    }
}
