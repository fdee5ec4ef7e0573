//! Several nodes in one process: what is submitted on any of them is applied on all, once and in order, whoever is lost.
// A test may wait by the clock.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

pub(super) mod node;

use super::engine::Ear;
use super::raft::Pace;
use super::wire::Switch;
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::{Sink, Store, StoreConfig, Waiter};
use nightjar_base::{HomeId, NodeId, Position, SessionId, ShardId, Wall};
use nightjar_control::ControlEffect;
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{Effect, NEVER, Op, QueueLimits, Target};
use node::{Door, Plan, Works};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SHARDS: u16 = 3;
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody listens.
pub(super) struct Deaf;

impl Sink for Deaf {
    fn effects(&mut self, _: ShardId, _: &mut Vec<Effect>) {}
    fn applied(&mut self, _: Position) {}
}

impl Ear for Deaf {
    fn control(&self, _: &mut Vec<ControlEffect>) {}
    fn gone(&self, _: HomeId) {}
}

/// The newest submission that was said to be applied.
#[derive(Default)]
struct Newest(AtomicU64);

impl Waiter for Newest {
    fn durable(self: Arc<Self>, position: Position) {
        let before = self.0.swap(position.0, Ordering::SeqCst);
        assert!(before < position.0, "in order, and each once");
    }
}

struct Node {
    works: Works,
    home: u64,
    acknowledged: Arc<Newest>,
    submitted: u64,
}

impl std::ops::Deref for Node {
    type Target = Works;

    fn deref(&self) -> &Works {
        &self.works
    }
}

impl Node {
    async fn start(switch: &Arc<Switch>, folder: &Path, home: u64) -> Self {
        let config = StoreConfig {
            shards: SHARDS,
            segment_bytes: 64 << 10,
            checkpoint_interval: Duration::from_millis(20),
            ..StoreConfig::new(folder)
        };
        let plan = Plan {
            opened: Store::open(config).unwrap(),
            home: HomeId(home),
            clock: Clock::machine(),
            pace: Pace { heartbeat: Duration::from_millis(30), election: Duration::from_millis(150), kept: 20 },
            most_held: 1 << 20,
            sink: Box::new(Deaf),
            ear: Arc::new(Deaf),
            door: Door::new(Box::new(|_, request| Err(request))),
            agreed: Box::new(|desk| desk),
        };
        let works = Works::start(plan, switch).await;
        Self { works, home, acknowledged: Arc::default(), submitted: 0 }
    }

    fn submit(&mut self, ops: Vec<(ShardId, Op)>) {
        let (mut ops, waiter) = (ops, Arc::clone(&self.acknowledged));
        self.submitted = self.store.submit(&mut ops, Some(waiter as _)).0;
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.0.load(Ordering::SeqCst)
    }

    async fn stop(self, switch: &Switch) {
        self.works.stop(switch).await;
    }
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "in vain: {what}");
        task::sleep(Duration::from_millis(5)).await;
    }
}

fn client(shard: u16) -> Arc<str> {
    format!("client {shard}").into()
}

fn attach(shard: u16) -> (ShardId, Op) {
    let op = Op::Attach {
        client_id: client(shard),
        user: None,
        clean_start: false,
        expiry: NEVER,
        epoch: 1,
        will: None,
        limits: QueueLimits::UNLIMITED,
        now: Wall(1),
    };
    (ShardId(shard), op)
}

/// A message for the session of a shard that says who sent it and as which.
fn enqueue(shard: u16, home: u64, number: u64) -> (ShardId, Op) {
    let message = Arc::new(Message::new("a/topic", &[], format!("{home} {number}").as_bytes()));
    let session = SessionId(1);
    let target = Target { session, qos: QoS::ExactlyOnce, retain: false, identifiers: Vec::new(), share: None };
    (ShardId(shard), Op::Enqueue { message, targets: vec![target], now: Wall(1) })
}

/// What waits for the session of a shard: by whom and as which it was sent.
fn queue(store: &Store, shard: u16) -> Vec<(u64, u64)> {
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let mut page = Vec::new();
        let shard = store.lock(ShardId(shard));
        from = shard.page(store.tables(), SessionId(1), from, 100, 1 << 20, &mut page).unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page.iter().map(|entry| {
            let text = String::from_utf8_lossy(entry.message.payload()).into_owned();
            let (home, number) = text.split_once(' ').unwrap();
            (home.parse::<u64>().unwrap(), number.parse::<u64>().unwrap())
        }));
    }
}

async fn cluster(switch: &Arc<Switch>, folders: &[tempfile::TempDir]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        nodes.push(Node::start(switch, folder.path(), number as u64 + 1).await);
    }
    let members: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        for group in node.groups.all() {
            group.found(&members).await.unwrap();
        }
    }
    let ops = (0..SHARDS).map(attach).collect();
    nodes[0].submit(ops);
    let first = &nodes[0];
    until("the sessions are there", || first.acknowledged() == first.submitted).await;
    nodes
}

/// Submits on every node: each time a message for every shard.
fn submit_everywhere(nodes: &mut [Node], numbers: std::ops::Range<u64>) {
    for number in numbers {
        for node in nodes.iter_mut() {
            let home = node.home;
            node.submit((0..SHARDS).map(|shard| enqueue(shard, home, number)).collect());
        }
    }
}

/// Whether what one home sent is there once, in order, and without a gap up to `least` at least.
fn check(found: &[(u64, u64)], home: u64, least: u64) {
    let numbers: Vec<u64> = found.iter().filter(|(of, _)| *of == home).map(|(_, number)| *number).collect();
    let expected: Vec<u64> = (0..numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "of home {home}");
    assert!(numbers.len() as u64 >= least, "of home {home}: {} of {least}", numbers.len());
}

pub(super) fn folders(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

pub(super) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn what_any_node_submits_is_applied_on_all_once_and_in_order() {
    run(async {
        let (switch, folders) = (Switch::new(1), folders(3));
        let mut nodes = cluster(&switch, &folders).await;
        submit_everywhere(&mut nodes, 0..300);
        until("all is acknowledged", || nodes.iter().all(|node| node.acknowledged() == node.submitted)).await;
        until("all have it", || {
            nodes.iter().all(|node| (0..SHARDS).all(|shard| queue(&node.store, shard).len() == 900))
        })
        .await;
        for shard in 0..SHARDS {
            let found = queue(&nodes[0].store, shard);
            (1..=3).for_each(|home| check(&found, home, 300));
            assert!(nodes.iter().all(|node| queue(&node.store, shard) == found), "the same order everywhere");
        }
        for node in nodes {
            node.stop(&switch).await;
        }
    });
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_a_node_under_load() {
    run(async {
        let (switch, folders) = (Switch::new(2), folders(3));
        let mut nodes = cluster(&switch, &folders).await;
        submit_everywhere(&mut nodes, 0..200);
        // Whoever leads the first shard goes, in the middle of it.
        until("some of it is acknowledged", || nodes.iter().all(|node| node.acknowledged() > 20)).await;
        let place = nodes.iter().position(|node| node.groups.get(ShardId(0)).unwrap().leads()).unwrap_or(0);
        let lost = nodes.remove(place);
        let (lost_home, lost_acknowledged) = (lost.home, lost.acknowledged());
        lost.stop(&switch).await;
        submit_everywhere(&mut nodes, 200..400);
        until("all is acknowledged", || nodes.iter().all(|node| node.acknowledged() == node.submitted)).await;
        // It comes back as another process, and finds what it missed.
        let again = Node::start(&switch, folders[place].path(), 9).await;
        let whole = |store: &Store| (0..SHARDS).map(|shard| queue(store, shard)).collect::<Vec<_>>();
        // Each node has what it has acknowledged itself, so all of it is where all have the same.
        until("all have the same", || {
            let expected = whole(&nodes[0].store);
            nodes.iter().chain([&again]).all(|node| whole(&node.store) == expected)
        })
        .await;
        let expected = whole(&nodes[0].store);
        for found in &expected {
            for home in (1..=3).filter(|home| *home != lost_home) {
                check(found, home, 400);
            }
            // The first submission of the first node made the sessions.
            check(found, lost_home, lost_acknowledged.saturating_sub(1));
        }
        for node in nodes.into_iter().chain([again]) {
            node.stop(&switch).await;
        }
    });
}

#[test]
fn a_node_that_is_cut_off_may_not_acknowledge_and_nothing_waits_for_it_longer_than_that() {
    run(async {
        let (switch, folders) = (Switch::new(3), folders(3));
        let mut nodes = cluster(&switch, &folders).await;
        until("all have leases", || nodes.iter().all(|node| node.settling.may_acknowledge())).await;
        let index = |node: &Node| node.store.standing(ShardId(0)).point.index;
        nodes[0].settling.settled().await.unwrap();

        // Whoever leads the control group goes: leases are kept by another from then on.
        let place = nodes.iter().position(|node| node.groups.control().leads()).unwrap_or(0);
        let off = nodes.remove(place);
        for node in &nodes {
            switch.cut(off.id, node.id);
            switch.cut(node.id, off.id);
        }
        submit_everywhere(&mut nodes, 0..5);
        until("the rest goes on", || nodes.iter().all(|node| node.acknowledged() == node.submitted)).await;
        let settled = nodes[0].settling.settled().await;
        assert!(settled.is_ok() && !off.settling.may_acknowledge(), "only when it has no lease any more");
        assert!(index(&off) < index(&nodes[0]));

        for node in &nodes {
            switch.mend(off.id, node.id);
            switch.mend(node.id, off.id);
        }
        let behind = index(&nodes[0]);
        until("it may acknowledge again", || off.settling.may_acknowledge()).await;
        assert!(index(&off) >= behind, "not before it had caught up");
        nodes[1].settling.settled().await.unwrap();
        for node in nodes.into_iter().chain([off]) {
            node.stop(&switch).await;
        }
    });
}
