//! This node as a member of its cluster: what the other rooms see of all the others.
//!
//! ```text
//! broker ─ Others ─► Member ─► Running: wire, groups, engine, settling      (on the cluster's thread)
//!    ▲                  ▲ Ear: what the control group agreed on
//!    └── forwarded, ────┘ Service: what other nodes ask
//!        evicted
//! ```

use super::bridges::Bridges;
use super::command::Orders;
use super::engine::{Desk, Ear, Engine};
use super::forward::{Inlets, Outlet};
use super::identity::Identity;
use super::local::Local;
use super::raft::{Groups, Pace};
use super::sentry::{self, Sentry};
use super::settle::{RENEW, Settling};
use super::wire::{BoxFuture, Lane, Peer, Refusal, Request, Security, Service, Transport, Wire};
use super::{form, upkeep};
use crate::broker::{Broker, Others as _};
use crate::env::clock::Clock;
use crate::env::{entropy, task};
use crate::store::{Opened, Store};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use nightjar_base::{ClientId, HomeId, NodeId, ShardId};
use nightjar_control::{Control, ControlEffect, ControlOp, Node, Stage, Start};
use nightjar_shard::Op;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Messages for connections here.
const FORWARD: u8 = 21;
/// Ends a connection here, because its client comes in elsewhere.
const EVICT: u8 = 22;
/// Has the control group agree on something.
const CONTROL: u8 = 23;

/// The newest version of what nodes say to each other that this program knows.
pub(super) const VERSION: u16 = 1;

const NOT_YET: u32 = 96;
const ANOTHER_HOME: u32 = 97;
const MALFORMED: u32 = 98;
const NOT_LEADER: u32 = 99;
const GONE: u32 = 100;

/// How long another node has for one request.
pub(super) const ASKING: Duration = Duration::from_secs(2);
/// How long messages may be under way before they are sent again.
const FORWARDING: Duration = Duration::from_secs(5);
pub(super) const AGAIN: Duration = Duration::from_millis(50);
/// How long a client waits, in milliseconds, until its connection elsewhere is certainly over.
const EVICTING: u64 = 5_000;
/// How long something that the control group is to agree on is tried, in milliseconds.
const AGREEING: u64 = 10_000;

/// What a configuration says of this node and its cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The door for other nodes.
    pub listen: SocketAddr,
    /// `host:port` by which they reach it.
    pub address: Arc<str>,
    /// What people call this node.
    pub name: Arc<str>,
    /// `host:port` that clients are told which are to use this node.
    pub hint: Option<Arc<str>>,
    /// Who forms the cluster.
    pub first: First,
    /// Voters of each shard.
    pub replicas: u8,
    /// How the links are secured.
    pub security: Security,
    /// Heartbeats and elections.
    pub pace: Pace,
    /// The folder of this node's data.
    pub folder: PathBuf,
}

/// The first members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// These `host:port`, this node's own among them.
    Named(Vec<String>),
    /// So many, found by one name.
    Found {
        /// `host:port`.
        name: String,
        /// How many.
        count: usize,
    },
    /// This node waits to be told.
    Unknown,
}

/// What runs once it is known which cluster this is.
pub(super) struct Running {
    pub(super) wire: Arc<Wire>,
    pub(super) groups: Arc<Groups>,
    pub(super) engine: Arc<Engine>,
    pub(super) settling: Arc<Settling>,
    pub(super) desk: Arc<Desk>,
}

/// The way to one process of another node.
pub(super) struct Way {
    node: NodeId,
    pub(super) outlet: Mutex<Outlet>,
    pub(super) wake: Notify,
}

/// This node in its cluster.
pub struct Member {
    pub(super) node: NodeId,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) control: Arc<Mutex<Control>>,
    /// The process, until it runs; then the desk knows.
    pub(super) home: AtomicU64,
    /// Whether a node alone has left something in the folder.
    pub(super) has_state: bool,
    pub(super) identity: Mutex<Option<Identity>>,
    pub(super) running: OnceLock<Running>,
    broker: OnceLock<Arc<Broker>>,
    pub(super) local: Mutex<Local>,
    pub(super) local_changed: Notify,
    /// Up to which version of `local` all is told.
    pub(super) told: watch::Sender<u64>,
    /// The ways to all processes there are, each with the task that sends what waits.
    pub(super) ways: Mutex<HashMap<HomeId, (Arc<Way>, task::Held)>>,
    inlets: Mutex<Inlets>,
    /// Nodes came, changed or went; homes are over.
    pub(super) nodes_changed: Notify,
    /// Whether clients can be served.
    pub(super) ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    pub(super) myself: Weak<Self>,
    pub(super) bridges: Bridges,
    /// What this node saw of the first members, for them to compare.
    pub(super) seen: Mutex<Vec<NodeId>>,
    /// What operators have told this node.
    pub(super) orders: Orders,
    /// Who is there.
    pub(super) sentry: Sentry,
}

impl Member {
    /// For the node whose store was opened.
    ///
    /// # Errors
    /// When what the store has of the control group, or the folder's note of its cluster, cannot be read.
    pub fn new(opened: &Opened, settings: Settings, clock: Clock) -> std::io::Result<Arc<Self>> {
        let store = opened.store().clone();
        let control = Control::load(store.shard_count(), store.tables()).map_err(std::io::Error::other)?;
        let identity = Identity::read(&settings.folder)?;
        Ok(Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            node: NodeId(store.node()),
            sentry: Sentry::new(NodeId(store.node()), settings.pace.heartbeat),
            settings,
            clock,
            store,
            control: Arc::new(Mutex::new(control)),
            home: AtomicU64::new(entropy::u64()),
            has_state: opened.has_state(),
            identity: Mutex::new(identity),
            running: OnceLock::new(),
            broker: OnceLock::new(),
            local: Mutex::default(),
            local_changed: Notify::new(),
            told: watch::Sender::new(0),
            ways: Mutex::default(),
            inlets: Mutex::default(),
            nodes_changed: Notify::new(),
            ready: watch::Sender::new(false),
            bridges: Bridges::default(),
            stop: watch::Sender::new(false),
            seen: Mutex::default(),
            orders: Orders::default(),
        }))
    }

    /// Lives as a member of the cluster, until [`Self::stop`]: on a thread of its own.
    ///
    /// # Errors
    /// When the door cannot be opened, or the store does not start.
    pub fn run(self: &Arc<Self>, opened: Opened, broker: &Arc<Broker>) -> std::io::Result<()> {
        // Once: nobody else sets it.
        let _ = self.broker.set(Arc::clone(broker));
        crate::broker::Handle::new(Arc::clone(broker)).enter_thread();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut stopped = self.stop.subscribe();
            let ended = tokio::select! {
                ended = form::live(Arc::clone(self), opened) => ended,
                _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
            };
            self.end().await;
            ended
        })
    }

    /// Ends it. What was submitted before is agreed on first, if that can be had soon.
    pub fn stop(&self) {
        if self.running.get().is_some() && self.may_acknowledge() {
            // The ends of connections are submitted when what was before them is applied.
            for _ in 0..2 {
                // In vain: then nobody was told that it is.
                let _ = self.store.wait_blocking(self.store.submitted(), ASKING);
            }
        }
        self.stop.send_replace(true);
    }

    async fn end(&self) {
        self.ready.send_replace(false);
        self.ways.lock().clear();
        if let Some(running) = self.running.get() {
            // In vain where there is no majority: then the others find out by themselves.
            let _ = task::timeout(ASKING, upkeep::take_leave(self, running)).await;
            running.groups.stop().await;
            running.wire.stop();
        }
    }

    /// Whether clients can be served, and changes of that.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(super) fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.get()
    }

    /// This run of this node, as it introduces itself.
    pub(super) fn start(&self) -> Start {
        let Settings { name, address, hint, .. } = &self.settings;
        let (id, home) = (self.node, self.home());
        let (name, address, hint) = (Arc::clone(name), Arc::clone(address), hint.clone());
        Start { id, home, name, address, hint, version: VERSION }
    }

    pub(super) fn me(&self) -> Peer {
        Peer { node: self.node, home: self.home(), name: Arc::clone(&self.settings.name) }
    }

    /// Has the control group agree on `op`; returns when that is applied here. False if it takes too long.
    pub(super) async fn agree(&self, op: &ControlOp) -> bool {
        let (Some(running), Ok(bytes)) = (self.running.get(), op.encode()) else { return false };
        let (bytes, begin) = (Bytes::from(bytes), self.clock.tick());
        while self.clock.tick().since(begin) < AGREEING {
            if let Some(index) = self.propose(running, &bytes).await {
                self.applied(running, index).await;
                return true;
            }
            task::sleep(AGAIN).await;
        }
        false
    }

    async fn propose(&self, running: &Running, bytes: &Bytes) -> Option<u64> {
        let control = running.groups.control();
        let leader = control.leader()?;
        if leader == self.node {
            return control.propose(bytes.clone()).await.ok().map(|point| point.index);
        }
        let request = Request { group: control.id().0, kind: CONTROL, payload: bytes.clone() };
        let answer = running.wire.call(leader, Lane::Bulk, request, ASKING).await.ok()?;
        answer.clone().try_get_u64_le().ok()
    }

    async fn applied(&self, running: &Running, index: u64) {
        let mut turns = running.desk.turns();
        while self.store.standing(running.groups.control().id()).point.index < index {
            if turns.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Sees to it that no session has a connection at `home`, which is over, and that nothing of it comes any more.
    pub(super) fn bury(&self, home: HomeId, shards: impl Iterator<Item = ShardId>) -> nightjar_base::Position {
        let now = self.clock.now();
        let mut ops = shards.map(|shard| (shard, Op::DetachHome { home: home.0, now })).collect();
        self.store.submit(&mut ops, None)
    }

    /// Tells the control group of this node's transient subscribers, for ever.
    pub(super) async fn tell_routes(self: Arc<Self>) {
        loop {
            let home = self.home();
            let (op, now) = {
                let local = self.local.lock();
                (local.op(home), local.version())
            };
            let Some((op, version)) = op else {
                self.told.send_replace(now);
                self.local_changed.notified().await;
                continue;
            };
            // They would be refused before the control group knows this process, which it may not for a while if it took
            // the one before for gone.
            if self.control.lock().node_of(home).is_none() {
                task::sleep(AGAIN).await;
                continue;
            }
            let was_taken = self.agree(&op).await && self.control.lock().node_of(home).is_some();
            if was_taken && self.home() == home {
                self.local.lock().told(&op);
                if let Some(version) = version {
                    self.told.send_replace(version);
                }
            }
        }
    }

    /// Makes ways to all processes there are, and lets go of those to processes that are over.
    pub(super) fn set_ways(self: &Arc<Self>, nodes: &[(NodeId, HomeId)]) {
        let mut ways = self.ways.lock();
        ways.retain(|home, _| nodes.iter().any(|(_, of)| of == home));
        for &(node, home) in nodes.iter().filter(|(node, _)| *node != self.node) {
            ways.entry(home).or_insert_with(|| {
                let way = Arc::new(Way { node, outlet: Mutex::default(), wake: Notify::new() });
                let pump = task::hold(pump_way(Arc::clone(self), Arc::clone(&way), home));
                (way, pump)
            });
        }
    }

    async fn answer(self: Arc<Self>, from: Peer, request: Request) -> Result<Bytes, Refusal> {
        let running = self.running.get().ok_or_else(|| Refusal::new(NOT_YET, "this node is only starting"))?;
        match request.kind {
            FORWARD => self.take_forwarded(request.payload),
            EVICT => self.take_eviction(request.payload).await,
            sentry::BEAT => sentry::answer(&self, from.node, request.payload),
            CONTROL => {
                let entry = Bytes::copy_from_slice(&request.payload);
                ControlOp::decode(&entry).map_err(|error| Refusal::new(MALFORMED, error.to_string()))?;
                let agreed = running.groups.control().propose(entry).await;
                let point = agreed.map_err(|error| Refusal::new(NOT_LEADER, error.to_string()))?;
                Ok(Bytes::copy_from_slice(&point.index.to_le_bytes()))
            }
            // It would go on as if it were a member.
            RENEW if self.control.lock().node(from.node).is_some_and(|node| node.stage() == Stage::Gone) => {
                Err(Refusal::new(GONE, "this node has left the cluster or was replaced"))
            }
            kind if Settling::takes(kind) => running.settling.handle(from.node, request).await,
            _ => running.engine.handle(request).await,
        }
    }

    fn take_forwarded(&self, payload: Bytes) -> Result<Bytes, Refusal> {
        let taken = self.inlets.lock().take(self.home(), payload);
        let messages = taken.ok_or_else(|| Refusal::new(ANOTHER_HOME, "not for this process"))?;
        if let Some(broker) = self.broker() {
            let now = self.clock.now();
            messages.iter().for_each(|message| broker.deliver_forwarded(message, now));
            crate::broker::end_turn();
        }
        Ok(Bytes::new())
    }

    async fn take_eviction(&self, mut payload: Bytes) -> Result<Bytes, Refusal> {
        let malformed = |_| Refusal::new(MALFORMED, "this cannot be understood");
        let home = HomeId(payload.try_get_u64_le().map_err(malformed)?);
        let epoch = payload.try_get_u64_le().map_err(malformed)?;
        let client_id = std::str::from_utf8(&payload).map_err(|_| Refusal::new(MALFORMED, "no client identifier"))?;
        if home != self.home() {
            return Err(Refusal::new(ANOTHER_HOME, "this is another process"));
        }
        if let Some(broker) = self.broker() {
            broker.evicted(client_id, epoch).await;
        }
        Ok(Bytes::new())
    }

    /// The process `home`'s connection of a client is over, and nothing of it can come any more; false if that is not so
    /// in time.
    pub(super) async fn see_evicted(self: Arc<Self>, home: HomeId, client_id: ClientId, epoch: u64) -> bool {
        let Some(running) = self.running.get() else { return false };
        let begin = self.clock.tick();
        let mut payload = BytesMut::new();
        payload.put_u64_le(home.0);
        payload.put_u64_le(epoch);
        payload.extend_from_slice(client_id.as_bytes());
        let payload = payload.freeze();
        while self.clock.tick().since(begin) < EVICTING {
            let node = self.control.lock().node_of(home).map(Node::id);
            let Some(node) = node else {
                let shards = (0..self.store.shard_count()).map(ShardId);
                let buried = self.bury(home, shards);
                return task::timeout(ASKING, self.store.wait(buried)).await.is_ok();
            };
            let request = Request { group: 0, kind: EVICT, payload: payload.clone() };
            if running.wire.call(node, Lane::Bulk, request, ASKING).await.is_ok() {
                return running.settling.latest(self.store.shard_of(&client_id)).await;
            }
            task::sleep(AGAIN).await;
        }
        false
    }
}

/// Sends what waits for one process, a batch at a time, as long as it is held.
async fn pump_way(member: Arc<Member>, way: Arc<Way>, home: HomeId) {
    loop {
        let batch = way.outlet.lock().batch(member.home(), home);
        let (Some(batch), Some(running)) = (batch, member.running.get()) else {
            way.wake.notified().await;
            continue;
        };
        let request = Request { group: 0, kind: FORWARD, payload: batch };
        match running.wire.call(way.node, Lane::Bulk, request, FORWARDING).await {
            Ok(_) => drop(way.outlet.lock().answered()),
            Err(_) => task::sleep(AGAIN).await,
        }
    }
}

impl Ear for Member {
    fn control(&self, effects: &mut Vec<ControlEffect>) {
        for effect in effects.drain(..) {
            match effect {
                ControlEffect::RoutesChanged => {
                    if let Some(broker) = self.broker() {
                        broker.routes_changed();
                    }
                }
                ControlEffect::HomeDown { home, node } => {
                    tracing::info!(%node, %home, "a run of a node is over");
                    self.inlets.lock().forget(home);
                    if let Some(running) = self.running.get() {
                        running.desk.give_up(home);
                    }
                    self.nodes_changed.notify_one();
                }
                ControlEffect::NodesChanged | ControlEffect::PlacementChanged => self.nodes_changed.notify_one(),
                ControlEffect::Refused(refusal) => tracing::debug!(%refusal, "the control group refused something"),
                ControlEffect::BridgesChanged { .. } => self.see_bridges(),
                ControlEffect::SettingsChanged => {}
            }
        }
    }

    fn gone(&self, _: HomeId) {
        self.local.lock().forget_told();
        self.local_changed.notify_one();
        self.nodes_changed.notify_one();
        if let Some(broker) = self.broker() {
            broker.cut_off(true);
        }
    }
}

/// What other nodes ask, as the wire hands it over.
pub(super) struct Desktop(pub(super) Arc<Member>);

impl Service for Desktop {
    fn handle(&self, from: &Peer, _: Lane, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(Arc::clone(&self.0).answer(from.clone(), request))
    }

    fn probe(&self, kind: u8, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(form::answer(Arc::clone(&self.0), kind, payload))
    }

    fn connected(&self, _: &Peer, _: Lane) {}

    fn lost(&self, _: &Peer, lane: Lane) {
        if lane == Lane::Beat {
            self.0.sentry.alarm();
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Member {
    /// Bytes of messages that wait to be sent to other processes.
    pub(super) fn forward_waiting(&self) -> u64 {
        self.ways.lock().values().map(|(way, _)| way.outlet.lock().waiting() as u64).sum()
    }
}
