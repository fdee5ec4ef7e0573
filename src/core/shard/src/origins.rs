//! Origins: which publications were taken here already, that their publishers' nodes may have to make again.
//!
//! A QoS 2 publication touches several shards, and a crash may come when only some of them have it. It is then made again
//! under the same origin, and who has it already drops it. The origin is forgotten when the publisher's own shard has
//! recorded that the publication is complete, since nobody makes it again from then on.

use crate::codec::{self, OriginsV1};
use crate::keys;
use crate::op::Origin;
use crate::shard::Shard;
use nightjar_base::{Change, SessionId, ShardId, TablesError, parts};
use std::collections::{BTreeMap, BTreeSet};

/// A session, seen from any shard: its shard, and its number there.
type Publisher = (ShardId, SessionId);

/// What was taken: a message may be both for queues and to be retained, in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    Enqueued,
    Retained,
}

/// The publications of one session that were taken: digests by token.
#[derive(Debug, Default)]
struct Notes {
    enqueued: BTreeMap<u64, u64>,
    retained: BTreeMap<u64, u64>,
}

/// The publications of all sessions that were taken and are not complete.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    notes: BTreeMap<Publisher, Notes>,
    /// How many notes there are.
    count: usize,
    /// How many were made since the last freeze.
    fresh: usize,
    /// Publishers that differ from their rows.
    dirty: BTreeSet<Publisher>,
    /// How many parts the publishers' rows have.
    rows: BTreeMap<Publisher, u16>,
}

impl Shard {
    /// How many publications are remembered lest they be taken again.
    #[must_use]
    pub fn origin_count(&self) -> usize {
        self.origins.count
    }

    /// The sessions, with their shards, that such publications are of, in order: some may have ended, and are to be
    /// forgotten.
    pub fn publishers(&self) -> impl Iterator<Item = (ShardId, SessionId)> {
        self.origins.notes.keys().copied()
    }

    /// Whether a publication for queues is remembered under this origin.
    #[must_use]
    pub fn has_origin(&self, origin: Origin) -> bool {
        self.origins.notes.get(&origin.session).is_some_and(|notes| notes.enqueued.contains_key(&origin.token))
    }

    /// Whether anything of this session, which may be of another shard, is remembered so.
    #[must_use]
    pub fn has_publisher(&self, session: (ShardId, SessionId)) -> bool {
        self.origins.notes.contains_key(&session)
    }
}

impl Origins {
    /// Whether the publication is to be taken: its origin was not noted, or of another message; it is noted now.
    pub(crate) fn note(&mut self, origin: Origin, taken: Taken, digest: u64) -> bool {
        let notes = self.notes.entry(origin.session).or_default();
        let before = notes.of(taken).insert(origin.token, digest);
        if before == Some(digest) {
            return false;
        }
        self.count += usize::from(before.is_none());
        self.fresh += 1;
        self.dirty.insert(origin.session);
        true
    }

    /// Nobody makes these publications again: those of all tokens if none is named.
    pub(crate) fn forget(&mut self, publisher: Publisher, tokens: &[u64]) {
        let Some(notes) = self.notes.get_mut(&publisher) else { return };
        self.count -= notes.len();
        for token in tokens {
            notes.enqueued.remove(token);
            notes.retained.remove(token);
        }
        if tokens.is_empty() || notes.len() == 0 {
            self.notes.remove(&publisher);
        } else {
            self.count += notes.len();
        }
        self.dirty.insert(publisher);
    }

    /// What is held since the last freeze, roughly.
    pub(crate) fn overlay_bytes(&self) -> usize {
        self.dirty.len() * 48 + self.fresh * 24
    }

    /// Adds what a freeze must write.
    pub(crate) fn freeze(&mut self, shard: ShardId, changes: &mut Vec<Change>) {
        self.fresh = 0;
        for publisher in std::mem::take(&mut self.dirty) {
            let base = keys::origin(shard, publisher);
            let parts = self.rows.remove(&publisher).unwrap_or(0);
            if let Some(notes) = self.notes.get(&publisher) {
                let parts = parts::put(changes, &base, codec::encode(&notes.row()), parts);
                self.rows.insert(publisher, parts);
            } else {
                parts::remove(changes, &base, parts);
            }
        }
    }

    /// During a load: one row, in so many parts.
    pub(crate) fn restore(
        &mut self,
        publisher: Publisher,
        parts: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), TablesError> {
        let OriginsV1 { enqueued, retained } = codec::decode(key, value)?;
        let notes = Notes { enqueued: enqueued.into_iter().collect(), retained: retained.into_iter().collect() };
        self.count += notes.len();
        self.notes.insert(publisher, notes);
        self.rows.insert(publisher, parts);
        Ok(())
    }
}

impl Notes {
    fn of(&mut self, taken: Taken) -> &mut BTreeMap<u64, u64> {
        match taken {
            Taken::Enqueued => &mut self.enqueued,
            Taken::Retained => &mut self.retained,
        }
    }

    fn len(&self) -> usize {
        self.enqueued.len() + self.retained.len()
    }

    fn row(&self) -> OriginsV1 {
        let listed = |notes: &BTreeMap<u64, u64>| notes.iter().map(|(&token, &digest)| (token, digest)).collect();
        OriginsV1 { enqueued: listed(&self.enqueued), retained: listed(&self.retained) }
    }
}
