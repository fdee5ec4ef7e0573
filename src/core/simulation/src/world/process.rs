//! One run of a node: replicas, groups, lease and broker, as values; it ends with a crash, and the disk is left.

use super::World;
use super::broker::Broker;
use super::disk::{Disk, Rows};
use super::raft::{Group, Word};
use super::settle::Settling;
use crate::agenda::{Agenda, Signal};
use crate::broker::Forwarded;
use crate::bugs::Bug;
use crate::forward::{Inlets, Outlet};
use crate::lease::{Keeper, Lease};
use crate::local::Local;
use crate::propose::Proposer;
use nightjar_base::{Change, HomeId, NodeId, ShardId, Tick, Wall};
use nightjar_control::{Control, ControlOp};
use nightjar_shard::Shard;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

/// The version of what nodes say to each other.
pub(crate) const VERSION: u16 = 1;

/// One run of a node.
pub(crate) struct Process {
    pub(crate) world: Rc<World>,
    pub(crate) agenda: Rc<Agenda>,
    pub(crate) node: usize,
    pub(crate) scope: u64,
    /// By how much its clocks are ahead.
    skew: u64,
    pub(crate) home: Cell<u64>,
    pub(crate) groups: RefCell<Vec<Group>>,
    pub(crate) shards: RefCell<Vec<Shard>>,
    pub(crate) control: RefCell<Control>,
    pub(crate) proposer: RefCell<Proposer>,
    pub(crate) submitted: Cell<u64>,
    pub(crate) completed: Cell<u64>,
    pub(crate) lease: RefCell<Lease>,
    pub(crate) keeper: RefCell<Option<Keeper>>,
    pub(crate) settling: Settling,
    pub(crate) local: RefCell<Local>,
    /// Up to which version of `local` the control group was told.
    pub(crate) told: Cell<u64>,
    pub(crate) outlets: RefCell<BTreeMap<HomeId, Outlet>>,
    pub(crate) inlets: RefCell<Inlets>,
    pub(crate) broker: RefCell<Broker>,
    /// Told whenever anything has changed that somebody may wait for.
    pub(crate) turns: Signal,
    /// Told when something is to be proposed.
    pub(crate) wake: Signal,
    /// Told when something is to be handed on to another process.
    pub(crate) handed: Signal,
    /// Told when transient subscribers have others than before.
    pub(crate) local_changed: Signal,
    /// Told when somebody has answered a leader.
    pub(crate) answers: Signal,
}

/// The id of a node.
pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

/// The node of an id.
pub(crate) fn node_of(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("ids of nodes are small here")
}

impl Process {
    /// Starts from what the disk has.
    pub(crate) fn start(world: &Rc<World>, node: usize, scope: u64) -> Rc<Self> {
        let (agenda, shards) = (Rc::clone(&world.agenda), world.shards);
        let home = agenda.any() | 1;
        let disk = &world.disks[node];
        let load = |shard: u16| {
            let mut loaded = disk
                .look(usize::from(shard), |kept| Shard::load(ShardId(shard), &kept.rows))
                .expect("rows that a freeze made can be loaded");
            loaded.set_replicated(true);
            loaded
        };
        let loaded: Vec<Shard> = (0..shards).map(load).collect();
        let applied: Vec<u64> = loaded.iter().map(Shard::applied).chain([0]).collect();
        let process = Rc::new(Self {
            world: Rc::clone(world),
            node,
            scope,
            skew: world.skews[node],
            home: Cell::new(home),
            groups: RefCell::default(),
            shards: RefCell::new(loaded),
            control: RefCell::new(Control::new(shards)),
            proposer: RefCell::new(Proposer::new(home, shards)),
            submitted: Cell::new(0),
            completed: Cell::new(0),
            lease: RefCell::default(),
            keeper: RefCell::new(None),
            settling: Settling::default(),
            local: RefCell::default(),
            told: Cell::new(0),
            outlets: RefCell::default(),
            inlets: RefCell::default(),
            broker: RefCell::new(Broker::new(agenda.any())),
            turns: Signal::default(),
            wake: Signal::default(),
            handed: Signal::default(),
            local_changed: Signal::default(),
            answers: Signal::default(),
            agenda,
        });
        let groups: Vec<Group> =
            applied.into_iter().enumerate().map(|(group, applied)| Group::load(&process, group, applied)).collect();
        *process.groups.borrow_mut() = groups;
        (0..shards).for_each(|shard| process.take_up_sessions(ShardId(shard)));
        process.run();
        process
    }

    fn run(self: &Rc<Self>) {
        self.spawn(Rc::clone(self).sync());
        self.spawn(Rc::clone(self).beat());
        self.spawn(Rc::clone(self).propose());
        self.spawn(Rc::clone(self).renew());
        self.spawn(Rc::clone(self).settle());
        self.spawn(Rc::clone(self).keep_in_order());
        self.spawn(Rc::clone(self).tell_routes());
        self.spawn(Rc::clone(self).see_to_what_is_due());
        self.spawn(Rc::clone(self).checkpoints());
    }

    /// Begins a task of this run.
    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + 'static) {
        self.agenda.spawn(self.scope, job);
    }

    /// Whether a fault was put in here.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.world.bug == Some(bug)
    }

    pub(crate) fn id(&self) -> NodeId {
        node_id(self.node)
    }

    /// Milliseconds by this node's clock, which began at another time than those of others.
    pub(crate) fn tick(&self) -> u64 {
        self.agenda.now() + self.skew
    }

    pub(crate) fn now_tick(&self) -> Tick {
        Tick(self.tick())
    }

    /// This node's wall clock.
    pub(crate) fn wall(&self) -> Wall {
        Wall(1_000_000_000 + self.agenda.now() + self.skew % 50)
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.world.disks[self.node]
    }

    pub(crate) fn group_count(&self) -> usize {
        usize::from(self.world.shards) + 1
    }

    pub(crate) fn control_group(&self) -> usize {
        usize::from(self.world.shards)
    }

    pub(crate) fn node_count(&self) -> usize {
        self.world.disks.len()
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.node;
        (0..self.node_count()).filter(move |&node| node != own)
    }

    /// The shard that a client identifier or a topic belongs to.
    pub(crate) fn shard_of(&self, name: &str) -> ShardId {
        let hash = crate::history::hash(name.as_bytes());
        ShardId(u16::try_from((hash >> 32) % u64::from(self.world.shards)).expect("shards are few"))
    }

    pub(crate) fn leader_of(&self, group: usize) -> Option<usize> {
        self.groups.borrow()[group].leader
    }

    pub(crate) fn leads(&self, group: usize) -> bool {
        self.groups.borrow()[group].leads()
    }

    /// Says something to another member of a group.
    pub(crate) fn say(self: &Rc<Self>, to: usize, group: usize, word: Word) {
        let from = self.node;
        self.world.carry(from, to, move |world| {
            if let Some(process) = world.process(to) {
                process.hear(from, group, word.clone());
            }
        });
    }

    /// Returns when what the journal has up to `place` is synced.
    pub(crate) async fn synced(&self, place: u64) {
        if self.has(Bug::AcknowledgeBeforeSync) {
            return;
        }
        self.disk().signal.until(|| self.disk().synced() >= place).await;
    }

    /// The journal's thread: gathers while it syncs.
    async fn sync(self: Rc<Self>) {
        loop {
            self.disk().signal.until(|| self.disk().unsynced() > 0).await;
            let count = self.disk().unsynced();
            let stall = if self.agenda.chance(10) { self.world.stall } else { 0 };
            self.agenda.sleep(self.agenda.between(1, 3 + stall)).await;
            self.disk().sync(count);
        }
    }

    async fn beat(self: Rc<Self>) {
        loop {
            self.agenda.sleep(50).await;
            self.look_at_groups();
        }
    }

    /// Puts what shards hold into the tables now and then.
    async fn checkpoints(self: Rc<Self>) {
        loop {
            self.agenda.sleep(self.agenda.between(300, 4_000)).await;
            let group = self.agenda.place(usize::from(self.world.shards));
            let keep = self.agenda.between(0, 40);
            self.checkpoint(group, keep).await;
        }
    }

    pub(crate) fn freeze(&self, group: usize) -> Option<Arc<Vec<Change>>> {
        self.with_rows(group, |shard, rows| {
            shard.is_dirty().then(|| shard.freeze(rows).expect("rows in memory can be read"))
        })
    }

    pub(crate) fn thaw(&self, group: usize) {
        self.shards.borrow_mut()[group].thaw();
    }

    /// A shard, and the tables below it.
    pub(crate) fn with_rows<R>(&self, group: usize, look: impl FnOnce(&mut Shard, &Rows) -> R) -> R {
        let shard = &mut self.shards.borrow_mut()[group];
        self.disk().look(group, |kept| look(shard, &kept.rows))
    }

    /// Has the control group agree on something, and waits until it is applied here; false if that takes too long.
    pub(crate) async fn agree(self: &Rc<Self>, op: ControlOp) -> bool {
        let (op, group) = (Rc::new(op), self.control_group());
        let end = self.tick() + 10_000;
        while self.tick() < end {
            if let Some(index) = self.propose_control(&op).await {
                self.turns.until(|| self.groups.borrow()[group].applied >= index).await;
                return true;
            }
            self.agenda.sleep(50).await;
        }
        false
    }

    /// Hands a message on to the process `to` (`cluster/others.rs`).
    pub(crate) fn forward(&self, to: HomeId, forwarded: &Forwarded) {
        if let Some(outlet) = self.outlets.borrow_mut().get_mut(&to) {
            outlet.push(forwarded);
            self.handed.notify();
        }
    }
}
