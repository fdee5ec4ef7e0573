//! A node without a broker and without an operator: its store, its groups, and what goes through them, at a switch. Built as
//! a node's own thread builds it.

use crate::cluster::engine::{Desk, Ear, Engine};
use crate::cluster::raft::{Agreed, Groups, Pace, Parts};
use crate::cluster::settle::Settling;
use crate::cluster::wire::{BoxFuture, Lane, Peer, Port, Refusal, Request, Service, Switch, Transport};
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::{Opened, Replication, Sink, Store};
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId};
use nightjar_control::Control;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a node is asked that is neither the engine's nor about leases.
pub(in crate::cluster) type More =
    Box<dyn Fn(NodeId, Request) -> Result<BoxFuture<'static, Result<Bytes, Refusal>>, Request> + Send + Sync>;

/// Hands requests to a node that may not be there yet.
pub(in crate::cluster) struct Door {
    parts: Mutex<Option<(Arc<Engine>, Arc<Settling>)>>,
    more: More,
}

impl Door {
    /// One that asks `more` first, which gives back what it does not know.
    pub(in crate::cluster) fn new(more: More) -> Arc<Self> {
        Arc::new(Self { parts: Mutex::default(), more })
    }
}

impl Service for Door {
    fn handle(&self, from: &Peer, _: Lane, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let (parts, from) = (self.parts.lock().clone(), from.node);
        let Some((engine, settling)) = parts else {
            return Box::pin(async { Err(Refusal::new(9, "not yet")) });
        };
        match (self.more)(from, request) {
            Ok(answer) => answer,
            Err(request) if Settling::takes(request.kind) => {
                Box::pin(async move { settling.handle(from, request).await })
            }
            Err(request) => Box::pin(async move { engine.handle(request).await }),
        }
    }

    fn probe(&self, _: u8, _: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async { Err(Refusal::new(9, "no")) })
    }

    fn connected(&self, _: &Peer, _: Lane) {}
    fn lost(&self, _: &Peer, _: Lane) {}
}

/// What a node is built of.
pub(in crate::cluster) struct Plan {
    pub(in crate::cluster) opened: Opened,
    /// This run of it.
    pub(in crate::cluster) home: HomeId,
    pub(in crate::cluster) clock: Clock,
    pub(in crate::cluster) pace: Pace,
    /// The most bytes of its logs that are held in memory.
    pub(in crate::cluster) most_held: usize,
    pub(in crate::cluster) sink: Box<dyn Sink>,
    pub(in crate::cluster) ear: Arc<dyn Ear>,
    pub(in crate::cluster) door: Arc<Door>,
    /// What the groups tell of what they agreed on, in the place of the desk.
    pub(in crate::cluster) agreed: Box<dyn FnOnce(Arc<Desk>) -> Arc<dyn Agreed> + Send>,
}

/// A node that runs.
pub(in crate::cluster) struct Works {
    pub(in crate::cluster) id: NodeId,
    pub(in crate::cluster) store: Store,
    pub(in crate::cluster) control: Arc<Mutex<Control>>,
    pub(in crate::cluster) desk: Arc<Desk>,
    pub(in crate::cluster) groups: Arc<Groups>,
    pub(in crate::cluster) settling: Arc<Settling>,
    pub(in crate::cluster) port: Arc<Port>,
    runs: [task::Task<()>; 2],
}

impl Works {
    pub(in crate::cluster) async fn start(plan: Plan, switch: &Arc<Switch>) -> Self {
        let Plan { opened, home, clock, pace, most_held, sink, ear, door, agreed } = plan;
        let (id, shards) = (NodeId(opened.store().node()), opened.store().shard_count());
        let control = Arc::new(Mutex::new(Control::load(shards, opened.store().tables()).unwrap()));
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let replication = Replication {
            control: Arc::clone(&control) as _,
            submitted: Box::new(move || waker.notify_one()),
            most_held,
            founding: None,
        };
        let (store, applier, proposals) = opened.start_replicated(sink, replication).unwrap();
        let peer = Peer { node: id, home, name: "node".into() };
        let port = Arc::new(switch.join(peer, Arc::clone(&door) as _));
        let desk = Desk::new(home, shards, proposals, Arc::clone(&control), ear, wake, clock.clone());
        let parts = Parts {
            store: store.clone(),
            applier: Arc::new(Mutex::new(applier)),
            agreed: agreed(Arc::clone(&desk)),
            transport: Arc::clone(&port) as _,
            pace,
            shards: pace,
        };
        let groups = Arc::new(Groups::start(parts).await.unwrap());
        let transport: Arc<dyn Transport> = Arc::clone(&port) as _;
        let engine = Engine::new(id, Arc::clone(&desk), Arc::clone(&groups), Arc::clone(&transport));
        let settling = Settling::new(id, store.clone(), Arc::clone(&groups), transport, clock, Arc::clone(&desk));
        *door.parts.lock() = Some((Arc::clone(&engine), Arc::clone(&settling)));
        let runs = [task::spawn(engine.run()), task::spawn(Arc::clone(&settling).run())];
        Self { id, store, control, desk, groups, settling, port, runs }
    }

    /// As when the process is killed, but that the store is whole, unless its disk has gone before.
    pub(in crate::cluster) async fn stop(&self, switch: &Switch) {
        switch.leave(self.id);
        self.runs.iter().for_each(task::Task::abort);
        self.groups.stop().await;
        self.store.clone().stop();
    }
}
