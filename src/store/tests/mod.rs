//! The store as a whole: on disks that forget, that fill up, that were damaged; and on the real one.
// A test may wait by the clock.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod crash;
mod damage;
mod disk;
mod real;
mod replica;
mod simulated;

use super::{Durability, Opened, Sink, Store, StoreConfig, StoreError, Waiter};
pub(crate) use disk::{Random, SimDisk, SimTables};
use nightjar_base::{Position, SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{Effect, NEVER, Op, QueueLimits, Target};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a listening broker heard.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) effects: Vec<(ShardId, Effect)>,
    pub(super) applied: Vec<Position>,
}

#[derive(Clone, Default)]
pub(super) struct Ear(pub(super) Arc<Mutex<Heard>>);

impl Sink for Ear {
    fn effects(&mut self, shard: ShardId, effects: &mut Vec<Effect>) {
        self.0.lock().effects.extend(effects.drain(..).map(|effect| (shard, effect)));
    }

    fn applied(&mut self, position: Position) {
        self.0.lock().applied.push(position);
    }
}

/// A waiter that notes the newest position.
#[derive(Default)]
pub(super) struct Newest(pub(super) Mutex<Position>);

impl Waiter for Newest {
    fn durable(self: Arc<Self>, position: Position) {
        let mut newest = self.0.lock();
        assert!(position > *newest, "waiters are called in the order of their positions");
        *newest = position;
    }
}

/// A store in which everything happens often.
pub(super) fn small(durability: Durability) -> StoreConfig {
    StoreConfig {
        durability,
        shards: 3,
        segment_bytes: 64 << 10,
        journal_budget: 512 << 10,
        checkpoint_interval: Duration::from_millis(3),
        free_space_floor: 0,
        reserve_bytes: 16 << 10,
        fatal: Arc::new(|_| {}),
        ..StoreConfig::new("simulated")
    }
}

/// Opens the store whose disk and tables these are.
pub(crate) fn open(config: StoreConfig, disk: &SimDisk, tables: &Arc<SimTables>) -> Result<Opened, StoreError> {
    Opened::open_with(config, Arc::new(disk.clone()), Arc::clone(tables) as _, None)
}

pub(super) fn retain(store: &Store, topic: &str, payload: &[u8]) -> (ShardId, Op) {
    let message = Arc::new(Message::new(topic, &[], payload));
    (store.shard_of(topic), Op::Retain { message, now: Wall(1) })
}

pub(super) fn attach(store: &Store, client: &str) -> (ShardId, Op) {
    let op = Op::Attach {
        client_id: client.into(),
        user: None,
        clean_start: false,
        expiry: NEVER,
        epoch: 1,
        will: None,
        limits: QueueLimits::UNLIMITED,
        now: Wall(1),
    };
    (store.shard_of(client), op)
}

pub(super) fn enqueue(shard: ShardId, session: SessionId, payload: &[u8]) -> (ShardId, Op) {
    let message = Arc::new(Message::new("a/topic", &[], payload));
    let target = Target { session, qos: QoS::AtLeastOnce, retain: false, identifiers: Vec::new(), share: None };
    (shard, Op::Enqueue { message, targets: vec![target], now: Wall(1) })
}

pub(super) fn retained(store: &Store, topic: &str) -> Option<Vec<u8>> {
    let found = store.lock(store.shard_of(topic)).retained(store.tables(), topic).unwrap();
    found.map(|(message, _)| message.payload().to_vec())
}

/// All that a session's queue holds.
pub(super) fn queue(store: &Store, shard: ShardId, session: SessionId) -> Vec<(u64, Vec<u8>)> {
    let guard = store.lock(shard);
    let (mut from, mut entries) = (0, Vec::new());
    loop {
        let mut page = Vec::new();
        let next = guard.page(store.tables(), session, from, 50, 1 << 20, &mut page).unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page.iter().map(|entry| (entry.sequence, entry.message.payload().to_vec())));
        from = next;
    }
}

pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn submit(store: &Store, ops: Vec<(ShardId, Op)>) -> Position {
    let mut ops = ops;
    store.submit(&mut ops, None)
}

pub(super) fn done(store: &Store, ops: Vec<(ShardId, Op)>) {
    let position = submit(store, ops);
    assert!(store.wait_blocking(position, PATIENCE));
}
