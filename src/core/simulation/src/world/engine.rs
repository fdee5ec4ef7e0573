//! From submissions to what is agreed on, and from there to the broker: mirrors `cluster/engine.rs`, with the cluster's own
//! [`Proposer`](crate::propose::Proposer), and the control half of `cluster/member.rs`.

use super::Process;
use super::raft::Payload;
use crate::bugs::Bug;
use crate::store::{Applied, Batch, Store};
use bytes::Bytes;
use nightjar_base::{HomeId, ShardId};
use nightjar_control::{ControlEffect, ControlOp};
use nightjar_shard::{Op, Shard};
use std::rc::Rc;

impl Process {
    /// Submits ops; returns the position up to which to wait for them.
    pub(crate) fn submit(&self, ops: &mut Vec<(ShardId, Op)>) -> u64 {
        self.submitted.set(self.submitted.get() + 1);
        let (count, mut ops) = (ops.len(), std::mem::take(ops).into());
        self.proposer.borrow_mut().take(&[count], &mut ops);
        self.wake.notify();
        self.submitted.get()
    }

    /// Returns when everything up to `position` is applied here.
    pub(crate) async fn wait(&self, position: u64) {
        self.turns.until(|| self.completed.get() >= position).await;
    }

    /// Sends batches to the leaders, for ever.
    pub(crate) async fn propose(self: Rc<Self>) {
        loop {
            self.agenda.timeout(100, self.wake.next()).await;
            // What happens in the same moment is looked at together.
            self.agenda.sleep(1).await;
            let now = self.now_tick();
            let late: Vec<ShardId> = self.proposer.borrow().overdue(now).collect();
            late.into_iter().for_each(|shard| self.proposer.borrow_mut().send_again(shard));
            let ready: Vec<ShardId> = self.proposer.borrow().ready().collect();
            for shard in ready {
                let Some(leader) = self.leader_of(usize::from(shard.0)) else { continue };
                let batches = self.proposer.borrow_mut().next_batches(shard, now);
                for batch in batches {
                    self.spawn(Rc::clone(&self).propose_batch(shard, leader, batch));
                }
            }
        }
    }

    async fn propose_batch(self: Rc<Self>, shard: ShardId, leader: usize, batch: Bytes) {
        let group = usize::from(shard.0);
        let taken = if leader == self.node {
            self.append_own(group, vec![Payload::Batch(batch)]).is_some()
        } else {
            let ask = move |world: &Rc<super::World>, answer: Box<dyn FnOnce(bool)>| {
                if let Some(process) = world.process(leader) {
                    answer(process.append_own(group, vec![Payload::Batch(batch.clone())]).is_some());
                }
            };
            match self.world.call(self.node, leader, 5_000, ask).await {
                Some(taken) => taken,
                // Nothing is known: it is overdue when it is not applied.
                None => return,
            }
        };
        if !taken {
            self.agenda.sleep(20).await;
            self.proposer.borrow_mut().send_again(shard);
            self.wake.notify();
        }
    }

    /// Proposes an op of the control group to whoever leads it; its index, if it was taken.
    pub(crate) async fn propose_control(self: &Rc<Self>, op: &Rc<ControlOp>) -> Option<u64> {
        let (group, op) = (self.control_group(), Rc::clone(op));
        let leader = self.leader_of(group)?;
        if leader == self.node {
            return self.agreed_own(Rc::clone(&op)).await;
        }
        let ask = move |world: &Rc<super::World>, answer: Box<dyn FnOnce(Option<u64>)>| {
            if let Some(process) = world.process(leader) {
                let (op, of) = (Rc::clone(&op), Rc::clone(&process));
                process.spawn(async move { answer(of.agreed_own(op).await) });
            }
        };
        self.world.call(self.node, leader, 2_000, ask).await.flatten()
    }

    /// As the leader: the op's index when it is applied here, none if another leads before that.
    pub(crate) async fn agreed_own(self: &Rc<Self>, op: Rc<ControlOp>) -> Option<u64> {
        let group = self.control_group();
        let index = self.append_own(group, vec![Payload::Control(op)])?;
        let reign = self.groups.borrow()[group].reign();
        let mut still = true;
        self.turns
            .until(|| {
                let of = &self.groups.borrow()[group];
                still = of.reign() == reign;
                !still || of.applied >= index
            })
            .await;
        still.then_some(index)
    }

    /// Somebody else leads a group, or this node does, or nobody.
    pub(crate) fn see_leader(self: &Rc<Self>, group: usize) {
        if group == self.control_group() {
            let keeper = self.leads(group).then(|| crate::lease::Keeper::new(self.now_tick()));
            *self.keeper.borrow_mut() = keeper;
        } else {
            let shard = ShardId(u16::try_from(group).expect("shards are few"));
            self.proposer.borrow_mut().send_again(shard);
        }
        self.wake.notify();
        self.turns.notify();
        self.answers.notify();
    }

    /// An entry was agreed on.
    pub(crate) fn apply(self: &Rc<Self>, group: usize, index: u64, payload: Payload) {
        match payload {
            Payload::Nothing if group == self.control_group() => self.control.borrow_mut().note_index(index),
            Payload::Nothing => self.shards.borrow_mut()[group].note_index(index),
            Payload::Batch(entry) => self.apply_batch(group, index, &entry),
            Payload::Control(op) => {
                let mut effects = Vec::new();
                self.control.borrow_mut().apply(index, (*op).clone(), &mut effects);
                self.hear_control(effects);
            }
        }
    }

    fn apply_batch(self: &Rc<Self>, group: usize, index: u64, entry: &Bytes) {
        let (batch, mut ops) = (Store::head(entry), Store::decode_batch(entry));
        let (shard, mut effects) = (ShardId(u16::try_from(group).expect("shards are few")), Vec::new());
        let outcome = {
            let of = &mut self.shards.borrow_mut()[group];
            if self.has(Bug::SkipEpochCheck) {
                ops.iter_mut().for_each(|op| detach_whoever(of, op));
            }
            if self.has(Bug::ForgetDeadHomes) {
                ops.retain(|op| !matches!(op, Op::DetachHome { .. }));
            }
            let again = self.has(Bug::ApplyBatchTwice).then(|| ops.clone());
            let outcome = of.apply_batch(index, batch.home, batch.sequence, ops, &mut effects);
            if outcome == Applied::Repeated {
                again.into_iter().flatten().for_each(|op| of.apply(index, op, &mut effects));
            }
            outcome
        };
        self.note_batch(shard, batch, outcome);
        self.effects(shard, effects);
    }

    /// What became of a batch, if it is of this process.
    fn note_batch(self: &Rc<Self>, shard: ShardId, batch: Batch, outcome: Applied) {
        self.proposer.borrow_mut().applied(shard, batch, outcome, self.now_tick());
        if outcome == Applied::Gone && batch.home == self.proposer.borrow().home(shard) {
            self.give_up(batch.home);
        }
    }

    /// Everything of an entry is applied.
    pub(crate) fn end_turn(self: &Rc<Self>) {
        self.complete();
        if self.proposer.borrow().ready().next().is_some() {
            self.wake.notify();
        }
        self.turns.notify();
    }

    /// Tells those whose submissions are applied here.
    fn complete(self: &Rc<Self>) {
        let position = self.proposer.borrow_mut().completed().0;
        if position > self.completed.get() {
            self.completed.set(position);
            self.release_all();
        }
    }

    /// The process `home` was declared gone: if it is this one it goes on as another.
    fn give_up(self: &Rc<Self>, home: u64) {
        if self.home.get() != home {
            return;
        }
        self.home.set(self.agenda.any() | 1);
        self.local.borrow_mut().forget_told();
        self.local_changed.notify();
        self.cut_off(true);
        self.proposer.borrow_mut().begin_again(self.home.get());
        self.wake.notify();
        self.turns.notify();
    }

    fn hear_control(self: &Rc<Self>, effects: Vec<ControlEffect>) {
        for effect in effects {
            if let ControlEffect::HomeDown { home, .. } = effect {
                self.inlets.borrow_mut().forget(home);
                self.world.note_over(home);
                self.give_up(home.0);
            }
        }
        self.set_ways();
    }

    /// The state of a shard was replaced by that of another node.
    pub(crate) fn replaced(self: &Rc<Self>, group: usize) {
        let shard = ShardId(u16::try_from(group).expect("only shards have checkpoints"));
        self.forget_sessions(shard);
        self.with_rows(group, |of, rows| of.reload(rows)).expect("rows of a node can be loaded by another");
        self.take_up_sessions(shard);
        let sequence = {
            let home = self.proposer.borrow().home(shard);
            self.shards.borrow()[group].proposed(home)
        };
        self.proposer.borrow_mut().caught_up(shard, sequence, self.now_tick());
        self.end_turn();
    }

    /// Sees to it that no session has a connection at `home`, which is over, and that nothing of it comes any more.
    pub(crate) fn bury(&self, home: HomeId, shards: impl Iterator<Item = ShardId>) -> u64 {
        let now = self.wall();
        self.submit(&mut shards.map(|shard| (shard, Op::DetachHome { home: home.0, now })).collect())
    }

    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.world.shards).map(ShardId)
    }
}

/// What [`Bug::SkipEpochCheck`] makes of the end of a connection.
fn detach_whoever(shard: &Shard, op: &mut Op) {
    if let Op::Detach { session, epoch, .. } = op
        && let Some(session) = shard.session(*session)
    {
        *epoch = session.epoch();
    }
}
