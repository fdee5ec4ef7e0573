//! Three nodes in one process, each with a store of its own.

use super::super::{Agreed, Group, Groups, Members, Pace, Parts};
use super::retained_value;
use crate::cluster::tests::{Deaf, PATIENCE, folders, run, until};
use crate::cluster::wire::{BoxFuture, Lane, Peer, Port, Refusal, Request, Service, Switch};
use crate::env::task;
use crate::store::{Applier, Batch, LogEntry, Replication, State, Store, StoreConfig};
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{Op, Shard};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SHARD: ShardId = ShardId(0);

fn pace() -> Pace {
    Pace { heartbeat: Duration::from_millis(30), election: Duration::from_millis(150), kept: 0 }
}

/// Counts snapshots.
#[derive(Default)]
struct Ear {
    replaced: AtomicUsize,
}

impl Agreed for Ear {
    fn apply(&self, group: ShardId, entry: &LogEntry, applier: &mut Applier) -> io::Result<()> {
        applier.batches(group, entry, |_, _| {})
    }

    fn members(&self, _: ShardId, _: &Members) {}

    fn end_turn(&self, _: ShardId, applier: &mut Applier) {
        applier.end_turn();
    }

    fn replaced(&self, _: ShardId, _: &dyn Fn(u64) -> u64) {
        self.replaced.fetch_add(1, Ordering::SeqCst);
    }
}

/// Hands requests to groups that may not be there yet.
#[derive(Default)]
struct Desk(Mutex<Option<Arc<Groups>>>);

impl Service for Desk {
    fn handle(&self, _: &Peer, _: Lane, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let groups = self.0.lock().clone();
        Box::pin(async move {
            match groups {
                Some(groups) => groups.handle(request).await,
                None => Err(Refusal::new(9, "not yet")),
            }
        })
    }

    fn probe(&self, _: u8, _: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async { Err(Refusal::new(9, "no")) })
    }

    fn connected(&self, _: &Peer, _: Lane) {}
    fn lost(&self, _: &Peer, _: Lane) {}
}

struct Node {
    id: NodeId,
    store: Store,
    groups: Arc<Groups>,
    ear: Arc<Ear>,
    _port: Arc<Port>,
}

impl Node {
    async fn start(switch: &Arc<Switch>, folder: &Path) -> Self {
        let config = StoreConfig {
            shards: 1,
            segment_bytes: 64 << 10,
            checkpoint_interval: Duration::from_millis(20),
            ..StoreConfig::new(folder)
        };
        let opened = Store::open(config).unwrap();
        let id = NodeId(opened.store().node());
        let mut control = Shard::new(ShardId(1));
        control.reload(opened.store().tables()).unwrap();
        let control: Arc<Mutex<dyn State>> = Arc::new(Mutex::new(control));
        let replication = Replication { control, submitted: Box::new(|| {}), most_held: 1 << 20, founding: None };
        let (store, applier, _) = opened.start_replicated(Box::new(Deaf), replication).unwrap();
        let (desk, ear) = (Arc::new(Desk::default()), Arc::new(Ear::default()));
        let peer = Peer { node: id, home: HomeId(id.0), name: "node".into() };
        let port = Arc::new(switch.join(peer, Arc::clone(&desk) as _));
        let parts = Parts {
            store: store.clone(),
            applier: Arc::new(Mutex::new(applier)),
            agreed: Arc::clone(&ear) as _,
            transport: Arc::clone(&port) as _,
            pace: pace(),
            shards: pace(),
        };
        let groups = Arc::new(Groups::start(parts).await.unwrap());
        *desk.0.lock() = Some(Arc::clone(&groups));
        Self { id, store, groups, ear, _port: port }
    }

    fn shard(&self) -> &Arc<Group> {
        self.groups.get(SHARD).unwrap()
    }

    /// As when the process is killed, but that the store is whole.
    async fn stop(self, switch: &Switch) {
        switch.leave(self.id);
        self.groups.stop().await;
        self.store.stop();
    }
}

fn entry(sequence: u64) -> Bytes {
    let message = Arc::new(Message::new("the/last", &[], &sequence.to_be_bytes()));
    let mut entry = Vec::new();
    Store::encode_batch(Batch { home: 5, sequence }, &[Op::Retain { message, now: Wall(1) }], &mut entry);
    entry.into()
}

/// The one of these that leads the shard.
async fn leader<'a>(nodes: &'a [&'a Node]) -> &'a Node {
    until("one leads", || nodes.iter().any(|node| node.shard().leads())).await;
    nodes.iter().find(|node| node.shard().leads()).unwrap()
}

/// Has the shard agree on `sequence`, whoever leads it meanwhile.
async fn agree(nodes: &[&Node], sequence: u64) {
    let begin = Instant::now();
    while leader(nodes).await.shard().propose(entry(sequence)).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "{sequence} is not agreed on");
        task::sleep(Duration::from_millis(5)).await;
    }
}

async fn all_have(nodes: &[&Node], sequence: u64) {
    until(&format!("all have {sequence}"), || nodes.iter().all(|node| retained_value(&node.store, SHARD) == sequence))
        .await;
}

async fn three(switch: &Arc<Switch>, folders: &[tempfile::TempDir]) -> [Node; 3] {
    let nodes = [
        Node::start(switch, folders[0].path()).await,
        Node::start(switch, folders[1].path()).await,
        Node::start(switch, folders[2].path()).await,
    ];
    let members: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        for group in node.groups.all() {
            group.found(&members).await.unwrap();
        }
    }
    nodes
}

#[test]
fn what_was_agreed_on_survives_the_loss_of_any_node() {
    run(async {
        let (switch, folders) = (Switch::new(1), folders(3));
        let [a, b, c] = three(&switch, &folders).await;
        for sequence in 1..=20 {
            agree(&[&a, &b, &c], sequence).await;
        }
        all_have(&[&a, &b, &c], 20).await;
        let lost = leader(&[&a, &b, &c]).await.id;
        let (lost, rest): (Vec<Node>, Vec<Node>) = [a, b, c].into_iter().partition(|node| node.id == lost);
        let folder = folders.iter().find(|folder| lost[0].store.folder() == folder.path()).unwrap();
        for node in lost {
            node.stop(&switch).await;
        }
        for sequence in 21..=40 {
            agree(&[&rest[0], &rest[1]], sequence).await;
        }
        let again = Node::start(&switch, folder.path()).await;
        all_have(&[&rest[0], &rest[1], &again], 40).await;
        // A batch that comes twice does nothing.
        agree(&[&rest[0], &rest[1], &again], 3).await;
        agree(&[&rest[0], &rest[1], &again], 41).await;
        all_have(&[&rest[0], &rest[1], &again], 41).await;
        for node in rest.into_iter().chain([again]) {
            node.stop(&switch).await;
        }
    });
}

#[test]
fn who_is_far_behind_gets_a_snapshot() {
    run(async {
        let (switch, folders) = (Switch::new(2), folders(3));
        let [a, b, c] = three(&switch, &folders).await;
        agree(&[&a, &b, &c], 1).await;
        all_have(&[&a, &b, &c], 1).await;
        let lost = [&a, &b, &c].into_iter().find(|node| !node.shard().leads()).unwrap().id;
        let (lost, rest): (Vec<Node>, Vec<Node>) = [a, b, c].into_iter().partition(|node| node.id == lost);
        let folder = folders.iter().find(|folder| lost[0].store.folder() == folder.path()).unwrap();
        for node in lost {
            node.stop(&switch).await;
        }
        for sequence in 2..=60 {
            agree(&[&rest[0], &rest[1]], sequence).await;
        }
        // Both let go of their logs: whichever leads later has nothing but its state to give.
        for node in &rest {
            let log = node.store.group_log(SHARD);
            until("the log is trimmed", || {
                let group = Arc::clone(node.shard());
                drop(task::spawn(async move { group.trim().await }));
                log.state().purged.index > 50
            })
            .await;
        }
        let again = Node::start(&switch, folder.path()).await;
        all_have(&[&again], 60).await;
        until("it was a snapshot", || again.ear.replaced.load(Ordering::SeqCst) == 1).await;
        agree(&[&rest[0], &rest[1], &again], 61).await;
        all_have(&[&again], 61).await;
        // The snapshot is its own state now, which another start finds.
        let folder = folder.path();
        again.stop(&switch).await;
        let again = Node::start(&switch, folder).await;
        all_have(&[&again], 61).await;
        assert_eq!(again.ear.replaced.load(Ordering::SeqCst), 0);
        for node in rest.into_iter().chain([again]) {
            node.stop(&switch).await;
        }
    });
}

#[test]
fn a_minority_agrees_on_nothing_and_joins_the_rest_when_it_can() {
    run(async {
        let (switch, folders) = (Switch::new(3), folders(3));
        let [a, b, c] = three(&switch, &folders).await;
        agree(&[&a, &b, &c], 1).await;
        let all = [&a, &b, &c];
        let old = leader(&all).await;
        let others: Vec<&Node> = all.into_iter().filter(|node| node.id != old.id).collect();
        for other in &others {
            switch.cut(old.id, other.id);
            switch.cut(other.id, old.id);
        }
        // It does not know yet that it leads nobody.
        let alone = Arc::clone(old.shard());
        let attempt = task::spawn(async move { alone.propose(entry(9)).await });
        agree(&others, 2).await;
        all_have(&others, 2).await;
        assert!(old.shard().read_index().await.is_err());
        assert_eq!(retained_value(&old.store, SHARD), 1);
        for other in &others {
            switch.mend(old.id, other.id);
            switch.mend(other.id, old.id);
        }
        all_have(&[&a, &b, &c], 2).await;
        assert!(attempt.await.unwrap().is_err());
        // Nine did not follow two: it is a gap in any case, and was taken back in this one.
        agree(&[&a, &b, &c], 3).await;
        all_have(&[&a, &b, &c], 3).await;
        for node in [a, b, c] {
            node.stop(&switch).await;
        }
    });
}

#[test]
fn members_and_leaders_change_under_way() {
    run(async {
        let (switch, folders) = (Switch::new(4), folders(3));
        let first = Node::start(&switch, folders[0].path()).await;
        for group in first.groups.all() {
            group.found(&BTreeSet::from([first.id])).await.unwrap();
        }
        agree(&[&first], 1).await;
        let (second, third) =
            (Node::start(&switch, folders[1].path()).await, Node::start(&switch, folders[2].path()).await);
        for node in [&second, &third] {
            first.shard().add_learner(node.id, true).await.unwrap();
        }
        all_have(&[&second, &third], 1).await;
        first.shard().change(&BTreeSet::from([first.id, second.id, third.id]), &BTreeSet::new()).await.unwrap();
        agree(&[&first, &second, &third], 2).await;
        first.shard().hand_over(second.id).await.unwrap();
        until("the second leads", || second.shard().leads()).await;
        agree(&[&second], 3).await;
        // Whoever leaves leaves nothing behind that the rest would miss.
        second.shard().change(&BTreeSet::from([second.id]), &BTreeSet::from([first.id, third.id])).await.unwrap();
        agree(&[&second], 4).await;
        assert_eq!(second.shard().members().voters, BTreeSet::from([second.id.0]));
        assert_eq!(second.shard().members().learners, BTreeSet::new());
        for node in [first, second, third] {
            node.stop(&switch).await;
        }
    });
}
