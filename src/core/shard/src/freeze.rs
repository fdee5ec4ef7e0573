//! Freezing: the net result of what was applied, as absolute changes to rows.

use crate::codec::{self, IdentityV1, MetaV1, QueueV1, SubscriptionV1};
use crate::keys;
use crate::page::{self, Packer};
use crate::queue::{PageRef, Weight};
use crate::rows::RowReader;
use crate::session::{Cursor, Session};
use crate::shard::Shard;
use crate::shared::THRESHOLD;
use nightjar_base::{Change, SessionId, ShardId, Tables, TablesError, parts};
use nightjar_mqtt::Message;
use std::collections::HashMap;
use std::sync::Arc;

/// What the tables still hold of sessions that are gone.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    /// Bases of rows with their number of parts.
    rows: Vec<(Row, u16)>,
    pages: Vec<(SessionId, PageRef)>,
}

#[derive(Debug)]
enum Row {
    Identity(SessionId),
    Queue(SessionId),
    Subscription(SessionId, u32),
}

impl Graves {
    /// Notes what of a session is to be removed.
    pub(crate) fn bury(&mut self, session: &Session) {
        let (id, rows) = (session.id, &session.rows);
        let mut add = |row, parts: u16| {
            if parts != 0 {
                self.rows.push((row, parts));
            }
        };
        add(Row::Identity(id), rows.identity_parts);
        add(Row::Queue(id), rows.queue_parts);
        for &(row, parts) in &rows.removed_subscriptions {
            add(Row::Subscription(id, row), parts);
        }
        for subscribed in session.subscriptions.values() {
            add(Row::Subscription(id, subscribed.row), subscribed.parts);
        }
        self.pages.extend(session.queue.pages.iter().map(|&page| (id, page)));
    }

    /// What is held here, roughly.
    pub(crate) fn memory(&self) -> usize {
        self.rows.len() * size_of::<(Row, u16)>() + self.pages.len() * size_of::<(SessionId, PageRef)>()
    }

    fn remove_rows(&mut self, shard: ShardId, changes: &mut Vec<Change>) {
        for (row, parts) in self.rows.drain(..) {
            let base = match row {
                Row::Identity(id) => keys::identity(shard, id),
                Row::Queue(id) => keys::queue(shard, id),
                Row::Subscription(id, row) => keys::subscription(shard, id, row),
            };
            parts::remove(changes, &base, parts);
        }
        for (id, page) in self.pages.drain(..) {
            parts::remove(changes, &keys::page(shard, id, page.first), page.parts);
        }
    }
}

impl Shard {
    /// The net absolute changes since the last freeze, ordered by key, the position they stand for among them.
    ///
    /// Until [`thaw`](Self::thaw) reads look at them above the tables. A freeze before that gives the union of both.
    ///
    /// # Errors
    /// When the tables cannot be read; nothing has changed then.
    pub fn freeze(&mut self, tables: &dyn Tables) -> Result<Arc<Vec<Change>>, TablesError> {
        if !self.is_dirty() {
            return Ok(self.frozen.clone());
        }
        // All reads come first, so that an error leaves everything as it was.
        self.listed.sort_unstable();
        let released = self.released_messages(&self.reader(tables))?;

        let shard = self.id;
        let mut changes = Vec::new();
        self.graves.remove_rows(shard, &mut changes);
        let shared = self.share_messages(&mut changes);
        for id in std::mem::take(&mut self.listed) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.rows.listed = false;
            freeze_identity(shard, session, &mut changes);
            freeze_subscriptions(shard, session, &mut changes);
            freeze_queue(shard, session, &shared, &mut changes);
        }
        self.totals.young_bytes = 0;
        for id in released {
            self.shared.release(shard, id, &mut changes);
        }
        self.retained.freeze(shard, &mut changes);
        self.proposers.freeze(shard, &mut changes);
        self.origins.freeze(shard, &mut changes);
        let meta = MetaV1 { applied: self.applied, next_session: self.next_session, next_message: self.shared.last() };
        parts::put(&mut changes, &keys::meta(shard), codec::encode(&meta), 1);
        self.frozen_applied = self.applied;

        changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        debug_assert!(changes.windows(2).all(|pair| pair[0].key < pair[1].key), "one change a row");
        self.frozen = Arc::new(Change::overlay(&self.frozen, changes));
        Ok(self.frozen.clone())
    }

    /// The frozen changes are in the tables now.
    pub fn thaw(&mut self) {
        self.frozen = Arc::default();
    }

    /// The messages with rows of their own that are named by pages which are to go, once for each entry that does.
    fn released_messages(&self, reader: &RowReader<'_>) -> Result<Vec<u64>, TablesError> {
        let mut released = Vec::new();
        let mut read = |id: SessionId, page: &PageRef| -> Result<(), TablesError> {
            if page.shared {
                let key = keys::page(self.id, id, page.first);
                let value = reader.row(&key, page.parts)?;
                for record in page::records(&key, page.first, &value)? {
                    released.extend(Some(record?.shared).filter(|&id| id != 0));
                }
            }
            Ok(())
        };
        for (id, page) in &self.graves.pages {
            read(*id, page)?;
        }
        for session in self.listed.iter().filter_map(|id| self.sessions.get(id)) {
            for page in session.queue.passed_pages() {
                read(session.id, page)?;
            }
        }
        Ok(released)
    }

    /// Gives rows of their own to the large messages that several entries of the tails have in common.
    fn share_messages(&mut self, changes: &mut Vec<Change>) -> Shared {
        let mut seen: HashMap<usize, (Arc<Message>, u64)> = HashMap::new();
        let mut order = Vec::new();
        for session in self.listed.iter().filter_map(|id| self.sessions.get(id)) {
            for entry in session.queue.tail_from(0).filter(|entry| entry.message.size() > THRESHOLD) {
                let key = address(&entry.message);
                let (_, references) = seen.entry(key).or_insert_with(|| {
                    order.push(key);
                    (entry.message.clone(), 0)
                });
                *references += 1;
            }
        }
        // In the order of sessions and sequences, so that the same state gives the same rows.
        let mut shared = Shared::new();
        for key in order {
            if let Some((message, references)) = seen.get(&key).filter(|(_, references)| *references > 1) {
                shared.insert(key, self.shared.add(self.id, message, *references, changes));
            }
        }
        shared
    }
}

/// Ids of messages with rows of their own, by their address in memory. Never iterated.
type Shared = HashMap<usize, u64>;

fn address(message: &Arc<Message>) -> usize {
    Arc::as_ptr(message) as usize
}

fn freeze_identity(shard: ShardId, session: &mut Session, changes: &mut Vec<Change>) {
    if !std::mem::take(&mut session.rows.identity_dirty) {
        return;
    }
    let identity = IdentityV1 {
        client_id: session.client_id.clone(),
        user: session.user.clone(),
        epoch: session.epoch,
        attached: session.attached,
        expiry: session.expiry,
        expires: session.expires,
        sent: session.sent,
        will: session.will.as_deref().cloned(),
        will_due: session.will_due,
        limits: session.limits,
    };
    let value = codec::encode_identity(identity, session.home);
    let base = keys::identity(shard, session.id);
    session.rows.identity_parts = parts::put(changes, &base, value, session.rows.identity_parts);
}

fn freeze_subscriptions(shard: ShardId, session: &mut Session, changes: &mut Vec<Change>) {
    for (row, parts) in std::mem::take(&mut session.rows.removed_subscriptions) {
        parts::remove(changes, &keys::subscription(shard, session.id, row), parts);
    }
    for filter in std::mem::take(&mut session.rows.dirty_subscriptions) {
        let Some(subscribed) = session.subscriptions.get_mut(&filter).filter(|subscribed| subscribed.dirty) else {
            continue;
        };
        subscribed.dirty = false;
        if subscribed.row == 0 {
            session.rows.last_subscription += 1;
            subscribed.row = session.rows.last_subscription;
        }
        let value = codec::encode(&SubscriptionV1 {
            filter,
            options: subscribed.options,
            replaying: subscribed.replay.is_some(),
            since: subscribed.since,
            after: match &subscribed.replay {
                Some(Cursor::After(topic)) => Some(topic.clone()),
                _ => None,
            },
        });
        let base = keys::subscription(shard, session.id, subscribed.row);
        subscribed.parts = parts::put(changes, &base, value, subscribed.parts);
    }
}

fn freeze_queue(shard: ShardId, session: &mut Session, shared: &Shared, changes: &mut Vec<Change>) {
    if !std::mem::take(&mut session.rows.queue_dirty) {
        return;
    }
    let queue = &mut session.queue;
    for page in queue.passed_pages() {
        parts::remove(changes, &keys::page(shard, session.id, page.first), page.parts);
    }
    queue.drop_passed_pages();

    let mut packer = Packer::default();
    let mut packed = Vec::new();
    for entry in queue.tail_from(0) {
        let weight = queue.weight(entry.sequence).unwrap_or(Weight::GONE);
        let shared = shared.get(&address(&entry.message)).copied().unwrap_or(0);
        packed.extend(packer.add(entry, weight, shared));
    }
    packed.extend(packer.finish());
    for (mut page, value) in packed {
        page.parts = parts::put(changes, &keys::page(shard, session.id, page.first), value, 0);
        queue.pages.push_back(page);
    }
    queue.clear_tail();

    let value = codec::encode(&QueueV1 {
        head: queue.head(),
        next: queue.next(),
        gone: queue.gone(),
        received: queue.received().collect(),
        inbound: session.inbound.clone(),
    });
    let base = keys::queue(shard, session.id);
    session.rows.queue_parts = parts::put(changes, &base, value, session.rows.queue_parts);
}
