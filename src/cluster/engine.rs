//! What a node's broker submits goes through the groups, and what the groups agree on reaches the node's broker.
//!
//! ```text
//! broker ─ submit ─► Store ─► Proposer ─► leader: own group, or PROPOSE over the wire ─► Raft
//!    ▲                                                                                    │ agreed on
//!    └── waiters, in order ◄─ Proposals ◄─ Proposer ◄─ apply ◄─ every node's own replica ◄┘
//! ```
//! All of it lives on the thread that runs the groups, but for `submit`, which any thread calls.

use super::propose::Proposer;
use super::raft::{Agreed, Group, GroupError, Groups, Members};
use super::stuck::Stuck;
use super::wire::{CallError, Lane, Refusal, Request, Transport};
use crate::env::clock::Clock;
use crate::env::{entropy, task};
use crate::store::{Applied, Applier, Batch, LogEntry, Proposals};
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId, ShardId};
use nightjar_control::{Control, ControlEffect, ControlOp};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The request to have a shard's group agree on a batch.
pub(super) const PROPOSE: u8 = 16;
/// How often it is looked whether something is overdue.
const LOOK: Duration = Duration::from_millis(400);
/// How often logs are let go of, as far as the tables have what they led to.
const TRIM: Duration = Duration::from_secs(10);
/// How long to wait before a batch that was not taken is sent again.
const AGAIN: Duration = Duration::from_millis(20);
/// How long the leader has for a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Codes of refusals.
const NOT_LEADER: u32 = 64;
const NO_GROUP: u32 = 65;

/// Who is told what the control group has agreed on. Called on the thread that runs the groups.
pub trait Ear: Send + Sync {
    /// Effects of one entry.
    fn control(&self, effects: &mut Vec<ControlEffect>);

    /// This process was declared gone while it was cut off, and is `home` from now on: all its connections are over.
    fn gone(&self, home: HomeId);
}

/// The part of the engine that the groups talk to.
pub struct Desk {
    shards: u16,
    home: AtomicU64,
    clock: Clock,
    proposer: Mutex<Proposer>,
    proposals: Mutex<Proposals>,
    control: Arc<Mutex<Control>>,
    ear: Arc<dyn Ear>,
    wake: Arc<Notify>,
    /// Told whenever something was applied.
    turns: watch::Sender<()>,
}

impl Desk {
    /// For the process `home`. `wake` is notified when something was submitted.
    #[must_use]
    pub fn new(
        home: HomeId,
        shards: u16,
        proposals: Proposals,
        control: Arc<Mutex<Control>>,
        ear: Arc<dyn Ear>,
        wake: Arc<Notify>,
        clock: Clock,
    ) -> Arc<Self> {
        let proposer = Mutex::new(Proposer::new(home.0, shards));
        let (proposals, home) = (Mutex::new(proposals), AtomicU64::new(home.0));
        let turns = watch::Sender::new(());
        Arc::new(Self { shards, home, clock, proposer, proposals, control, ear, wake, turns })
    }

    /// Changes whenever something was applied here.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<()> {
        self.turns.subscribe()
    }

    fn is_control(&self, group: ShardId) -> bool {
        group.0 == self.shards
    }

    /// Takes up what was submitted.
    fn gather(&self) {
        let (mut counts, mut ops) = (Vec::new(), VecDeque::new());
        let mut proposer = self.proposer.lock();
        self.proposals.lock().take(&mut counts, &mut ops);
        proposer.take(&counts, &mut ops);
    }

    /// Tells those whose submissions are applied here.
    fn complete(&self) {
        let position = self.proposer.lock().completed();
        self.proposals.lock().complete(position);
    }

    /// This process, as the cluster knows it.
    #[must_use]
    pub fn home(&self) -> HomeId {
        HomeId(self.home.load(Ordering::SeqCst))
    }

    /// Whether `home` is a run of a node that is over, as far as this node has heard.
    #[must_use]
    pub fn is_over(&self, home: HomeId) -> bool {
        self.control.lock().nodes().any(|node| node.past().contains(&home))
    }

    /// The process `home` was declared gone: if it is this one it goes on as another.
    pub fn give_up(&self, home: HomeId) {
        let next = HomeId(entropy::u64());
        let is_own = self.home.compare_exchange(home.0, next.0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if is_own {
            tracing::error!("this node was declared gone while it was cut off: its connections are over");
            // What they had submitted is not acknowledged any more, and only then dropped.
            self.ear.gone(next);
            self.gather();
            self.proposer.lock().begin_again(next.0);
            self.wake.notify_one();
        }
    }

    /// What became of a batch of this process.
    fn note(&self, shard: ShardId, batch: Batch, outcome: Applied) {
        let now = self.clock.tick();
        let mut proposer = self.proposer.lock();
        proposer.applied(shard, batch, outcome, now);
        if outcome == Applied::Gone && batch.home == proposer.home(shard) {
            drop(proposer);
            self.give_up(HomeId(batch.home));
        }
    }
}

impl Agreed for Desk {
    fn apply(&self, group: ShardId, entry: &LogEntry, applier: &mut Applier) -> io::Result<()> {
        if !self.is_control(group) {
            return applier.batches(group, entry, |batch, outcome| self.note(group, batch, outcome));
        }
        let op =
            ControlOp::decode(&entry.payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut effects = Vec::new();
        let apply = |control: &mut Control| control.apply(entry.point.index, op, &mut effects);
        applier.control(&self.control, entry.point, apply);
        self.ear.control(&mut effects);
        Ok(())
    }

    fn members(&self, _: ShardId, _: &Members) {}

    fn end_turn(&self, group: ShardId, applier: &mut Applier) {
        if !self.is_control(group) {
            self.complete();
            // There may be room for more of this shard.
            self.wake.notify_one();
        }
        applier.end_turn();
        self.turns.send_replace(());
    }

    fn replaced(&self, group: ShardId, applied: &dyn Fn(u64) -> u64) {
        if self.is_control(group) {
            let mut effects = changes(&self.control.lock());
            return self.ear.control(&mut effects);
        }
        let home = self.proposer.lock().home(group);
        let sequence = applied(home);
        self.proposer.lock().caught_up(group, sequence, self.clock.tick());
    }
}

/// All that may have changed when the control group's state came as a whole: that this process is over, above all.
fn changes(control: &Control) -> Vec<ControlEffect> {
    let over = control.nodes().flat_map(|node| node.past().iter().map(|home| (*home, node.id())));
    let over = over.map(|(home, node)| ControlEffect::HomeDown { home, node });
    let bridges = control.bridges().map(|(name, of)| ControlEffect::BridgesChanged {
        name: Arc::clone(name),
        owner: of.owner(),
        release: of.release(),
    });
    let others = [
        ControlEffect::SettingsChanged,
        ControlEffect::NodesChanged,
        ControlEffect::PlacementChanged,
        ControlEffect::RoutesChanged,
    ];
    over.chain(others).chain(bridges).collect()
}

/// Runs the proposals of a node.
pub struct Engine {
    node: NodeId,
    desk: Arc<Desk>,
    groups: Arc<Groups>,
    transport: Arc<dyn Transport>,
}

impl Engine {
    /// For the node that these groups are of.
    #[must_use]
    pub fn new(node: NodeId, desk: Arc<Desk>, groups: Arc<Groups>, transport: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(Self { node, desk, groups, transport })
    }

    /// Sees to it that what is submitted is proposed, until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        let watch = |group: &Arc<Group>| task::hold(Arc::clone(&self).watch(Arc::clone(group)));
        let _watches: Vec<task::Held> = self.groups.shards().map(watch).collect();
        let (mut look, mut trim) = (task::interval(LOOK), task::interval(TRIM));
        let mut stuck = Stuck::default();
        loop {
            tokio::select! {
                () = self.desk.wake.notified() => {}
                _ = look.tick() => stuck.look(&self.groups, &self.desk.control),
                _ = trim.tick() => self.trim(),
            }
            self.desk.gather();
            // What touches no shard is done when all before it is.
            self.desk.complete();
            self.send();
        }
    }

    /// Has what is under way sent to whoever leads now.
    async fn watch(self: Arc<Self>, group: Arc<Group>) {
        let mut reign = group.reign();
        loop {
            reign = group.next_reign(reign).await;
            self.desk.proposer.lock().send_again(group.id());
            self.desk.wake.notify_one();
        }
    }

    /// Has the groups let go of what no follower is likely to ask for.
    fn trim(&self) {
        for group in self.groups.all() {
            let group = Arc::clone(group);
            drop(task::spawn(async move {
                // A group that has stopped is nothing to trim.
                let _ = group.trim().await;
            }));
        }
    }

    fn send(self: &Arc<Self>) {
        let now = self.desk.clock.tick();
        let mut proposer = self.desk.proposer.lock();
        let late: Vec<ShardId> = proposer.overdue(now).collect();
        late.into_iter().for_each(|shard| proposer.send_again(shard));
        let ready: Vec<ShardId> = proposer.ready().collect();
        for shard in ready {
            let Some(group) = self.groups.get(shard) else { continue };
            let Some(leader) = group.leader() else { continue };
            let round = proposer.round(shard);
            for batch in proposer.next_batches(shard, now) {
                drop(task::spawn(Arc::clone(self).propose(Arc::clone(group), leader, batch, round)));
            }
        }
    }

    /// Sends one batch to `leader`. What becomes of it shows when it is applied here.
    async fn propose(self: Arc<Self>, group: Arc<Group>, leader: NodeId, batch: Bytes, round: u64) {
        let taken = if leader == self.node {
            group.propose(batch).await.is_ok()
        } else {
            let request = Request { group: group.id().0, kind: PROPOSE, payload: batch };
            match self.transport.call(leader, Lane::Bulk, request, PATIENCE).await {
                Ok(_) => true,
                // Nothing is known: it is overdue when it is not applied.
                Err(CallError::TimedOut) => return,
                Err(_) => false,
            }
        };
        if !taken {
            task::sleep(AGAIN).await;
            self.desk.proposer.lock().refused(group.id(), round);
            self.desk.wake.notify_one();
        }
    }

    /// Whether requests of this kind are the engine's.
    #[must_use]
    pub fn takes(kind: u8) -> bool {
        kind == PROPOSE || Groups::takes(kind)
    }

    /// Answers another node.
    ///
    /// # Errors
    /// When it cannot be done here.
    pub async fn handle(&self, request: Request) -> Result<Bytes, Refusal> {
        if request.kind != PROPOSE {
            return self.groups.handle(request).await;
        }
        let group = self.groups.get(ShardId(request.group)).filter(|group| !self.desk.is_control(group.id()));
        let group = group.ok_or_else(|| Refusal::new(NO_GROUP, "there is no such shard"))?;
        // Kept in the log for long, unlike what else came in the same message.
        match group.propose(Bytes::copy_from_slice(&request.payload)).await {
            Ok(_) => Ok(Bytes::new()),
            Err(error @ GroupError::NotLeader { .. }) => Err(Refusal::new(NOT_LEADER, error.to_string())),
            Err(error) => Err(Refusal::new(NO_GROUP, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nightjar_base::Wall;
    use nightjar_control::{Settings, Start};

    #[test]
    fn a_state_that_comes_as_a_whole_says_who_is_over_and_that_all_else_may_have_changed() {
        let start = |id: u64| {
            let (id, home, name) = (NodeId(id), HomeId(10 + id), Arc::<str>::from(format!("n{id}")));
            Start { id, home, address: Arc::clone(&name), name, hint: None, version: 1 }
        };
        let (id, home, now) = (NodeId(2), HomeId(12), Wall(1));
        let settings = Settings { cluster: 1, shards: 1, replicas: 1 };
        let (mut control, mut effects) = (Control::new(1), Vec::new());
        let form = ControlOp::Form { settings, protocol: 1, members: vec![start(1), start(2)], now };
        let wanted = ControlOp::BridgeWanted { name: "b".into(), home: HomeId(11) };
        for (index, op) in (1..).zip([form, wanted, ControlOp::NodeDown { id, home, now }]) {
            control.apply(index, op, &mut effects);
        }
        let told = changes(&control);
        assert_eq!(told[0], ControlEffect::HomeDown { home, node: id });
        assert!(told.contains(&ControlEffect::RoutesChanged) && told.contains(&ControlEffect::NodesChanged));
        assert!(told.iter().any(|effect| matches!(effect, ControlEffect::BridgesChanged { .. })));
    }
}
