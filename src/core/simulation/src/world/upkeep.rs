//! What the cluster does for itself: mirrors `cluster/upkeep.rs`, the part of `cluster/form.rs` that sees whether a node is
//! in touch, and the links of `cluster/member.rs`, with the cluster's own [`Local`](crate::local::Local) and
//! [`Outlet`](crate::forward::Outlet).

use super::process::{VERSION, node_of};
use super::raft::Payload;
use super::{Process, World};
use crate::bugs::Bug;
use bytes::Bytes;
use nightjar_base::{HomeId, ShardId};
use nightjar_control::{ControlOp, Node, Start};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// How often everything is looked at, in milliseconds.
const LOOK: u64 = 250;
/// For so long a node must be silent to be declared down.
const SILENT: u64 = 2_000;
/// How long until a connection elsewhere is certainly over.
const EVICTING: u64 = 5_000;
const ASKING: u64 = 2_000;
const AGAIN: u64 = 50;
/// How long it takes to notice that a link has lost a batch of messages.
const FORWARDING: u64 = 500;

impl Process {
    /// This run of this node, as it introduces itself.
    pub(crate) fn introduction(&self) -> Start {
        let name: Arc<str> = format!("n{}", self.node).into();
        let (id, home, address) = (self.id(), HomeId(self.home.get()), Arc::clone(&name));
        Start { id, home, name, address, hint: None, version: VERSION }
    }

    pub(crate) async fn keep_in_order(self: Rc<Self>) {
        self.spawn(Rc::clone(&self).watch_touch());
        let mut led = BTreeSet::new();
        loop {
            self.agenda.sleep(LOOK).await;
            self.come_up().await;
            if self.leads(self.control_group()) {
                self.mind_nodes().await;
            }
            let leads: BTreeSet<ShardId> = self.all_shards().filter(|shard| self.leads(usize::from(shard.0))).collect();
            self.clear_away(&leads, &led);
            led = leads;
        }
    }

    /// Connections that wait for what a node out of touch cannot say are ended.
    async fn watch_touch(self: Rc<Self>) {
        let mut is_known = false;
        loop {
            self.agenda.sleep(AGAIN).await;
            let known = self.control.borrow().node(self.id()).and_then(Node::home);
            is_known |= known == Some(HomeId(self.home.get()));
            let is_in_touch = is_known && self.may_acknowledge();
            self.broker.borrow_mut().is_ready = is_in_touch;
            if !is_in_touch {
                self.cut_off(false);
            }
        }
    }

    /// A node that is known by another home says so.
    async fn come_up(self: &Rc<Self>) {
        let known = self.control.borrow().node(self.id()).map(Node::home);
        if known.is_some_and(|home| home != Some(HomeId(self.home.get()))) {
            self.agree(ControlOp::NodeStarted { start: self.introduction(), now: self.wall() }).await;
        }
    }

    /// As the leader of the control group: nodes that are silent are down.
    async fn mind_nodes(self: &Rc<Self>) {
        let homes: Vec<(usize, HomeId)> = {
            let control = self.control.borrow();
            let others = control.members().filter(|node| node.id() != self.id());
            others.filter_map(|node| Some((node_of(node.id()), node.home()?))).collect()
        };
        for (node, home) in homes {
            if self.gives_up(node, home, SILENT) {
                let op = ControlOp::NodeDown { id: super::process::node_id(node), home, now: self.wall() };
                // Only the leader itself says so, and only as long as it is.
                self.agenda.timeout(1_000, self.agreed_own(Rc::new(op))).await;
            }
        }
    }

    /// As the leader of a shard: sessions whose connections were at processes that are over have lost them.
    fn clear_away(self: &Rc<Self>, leads: &BTreeSet<ShardId>, led: &BTreeSet<ShardId>) {
        let over: Vec<HomeId> = {
            let control = self.control.borrow();
            control.nodes().flat_map(|node| node.past().iter().copied()).collect()
        };
        for &shard in leads {
            let homes: BTreeSet<HomeId> = {
                let of = &self.shards.borrow()[usize::from(shard.0)];
                let mut homes: BTreeSet<HomeId> = over.iter().filter(|home| of.proposed(home.0) > 0).copied().collect();
                if !led.contains(&shard) {
                    let attached =
                        of.sessions().filter(|session| session.attached()).map(|session| HomeId(session.home()));
                    homes.extend(attached.filter(|home| over.contains(home)));
                }
                homes
            };
            for home in homes.into_iter().filter(|_| !self.has(Bug::ForgetDeadHomes)) {
                self.bury(home, std::iter::once(shard));
            }
        }
    }

    /// Tells the control group of this node's transient subscribers, for ever.
    pub(crate) async fn tell_routes(self: Rc<Self>) {
        loop {
            let home = self.home.get();
            let (op, now) = {
                let local = self.local.borrow();
                (local.op(HomeId(home)), local.version())
            };
            let Some((op, version)) = op else {
                self.told.set(now);
                self.turns.notify();
                self.local_changed.next().await;
                continue;
            };
            let is_known = self.control.borrow().node_of(HomeId(home)).is_some();
            if !is_known && !self.has(Bug::TellRoutesOfUnknownHome) {
                // Nothing is taken of a process that the cluster does not know.
                self.agenda.sleep(AGAIN).await;
                continue;
            }
            if self.agree(op.clone()).await && self.home.get() == home {
                self.local.borrow_mut().told(&op);
                if let Some(version) = version {
                    self.told.set(version);
                    self.turns.notify();
                }
            }
        }
    }

    /// Makes ways to all processes there are, and lets go of those to processes that are over.
    pub(crate) fn set_ways(self: &Rc<Self>) {
        let homes: Vec<(usize, HomeId)> = {
            let control = self.control.borrow();
            control.members().filter_map(|node| Some((node_of(node.id()), node.home()?))).collect()
        };
        let mut outlets = self.outlets.borrow_mut();
        outlets.retain(|home, _| homes.iter().any(|(_, of)| of == home));
        self.handed.notify();
        for (node, home) in homes.into_iter().filter(|(node, _)| *node != self.node) {
            if let std::collections::btree_map::Entry::Vacant(place) = outlets.entry(home) {
                place.insert(crate::forward::Outlet::default());
                self.spawn(Rc::clone(self).pump(node, home));
            }
        }
    }

    /// Sends what waits for one process, a batch at a time.
    async fn pump(self: Rc<Self>, node: usize, home: HomeId) {
        loop {
            let batch = {
                let mut outlets = self.outlets.borrow_mut();
                let Some(outlet) = outlets.get_mut(&home) else { return };
                outlet.batch(HomeId(self.home.get()), home)
            };
            let Some(batch) = batch else {
                self.handed.next().await;
                continue;
            };
            let ask = move |world: &Rc<World>, answer: Box<dyn FnOnce(bool)>| {
                if let Some(process) = world.process(node) {
                    answer(process.take_forwarded(batch.clone()));
                }
            };
            if self.world.call(self.node, node, FORWARDING, ask).await == Some(true) {
                if let Some(outlet) = self.outlets.borrow_mut().get_mut(&home) {
                    outlet.answered();
                }
            } else {
                self.agenda.sleep(AGAIN).await;
            }
        }
    }

    fn take_forwarded(self: &Rc<Self>, payload: Bytes) -> bool {
        let taken = self.inlets.borrow_mut().take(HomeId(self.home.get()), payload);
        let Some(messages) = taken else { return false };
        messages.iter().for_each(|message| self.deliver_forwarded(message));
        true
    }

    /// The process `home`'s connection of a client is over, and nothing of it can come any more; false if that is not so
    /// in time.
    pub(crate) async fn see_evicted(self: &Rc<Self>, home: HomeId, client_id: &Arc<str>, epoch: u64) -> bool {
        let end = self.tick() + EVICTING;
        while self.tick() < end {
            let node = self.control.borrow().node_of(home).map(|node| node_of(node.id()));
            let Some(node) = node else {
                let buried = self.bury(home, self.all_shards());
                return self.agenda.timeout(ASKING, self.wait(buried)).await.is_some();
            };
            let client = Arc::clone(client_id);
            let ask = move |world: &Rc<World>, answer: Box<dyn FnOnce(bool)>| {
                if let Some(process) = world.process(node) {
                    if home.0 != process.home.get() {
                        return answer(false);
                    }
                    let (of, client) = (Rc::clone(&process), Arc::clone(&client));
                    process.spawn(async move {
                        of.evicted(&client, epoch).await;
                        answer(true);
                    });
                }
            };
            if self.world.call(self.node, node, ASKING, ask).await == Some(true) {
                let shard = usize::from(self.shard_of(client_id).0);
                return self.latest(shard).await;
            }
            self.agenda.sleep(AGAIN).await;
        }
        false
    }

    /// Ends the connection that a client has here since `epoch`; returns when all that it did is applied here.
    async fn evicted(self: &Rc<Self>, client_id: &str, epoch: u64) {
        if let Some(link) = self.end_connection(client_id, epoch) {
            self.turns.until(|| !self.broker.borrow().peers.contains_key(&link)).await;
        }
        self.wait(self.submitted.get()).await;
    }
}

/// The first entry of the control group: who there is. The nodes have agreed on it before the world begins.
pub(crate) fn form(shards: u16, homes: &[Start]) -> Payload {
    let settings = nightjar_control::Settings { cluster: 7, shards, replicas: 3 };
    let now = nightjar_base::Wall(1_000_000_000);
    Payload::Control(Rc::new(ControlOp::Form { settings, protocol: VERSION, members: homes.to_vec(), now }))
}
