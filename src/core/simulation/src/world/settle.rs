//! Who may acknowledge, and what a SUBACK waits for: mirrors `cluster/settle.rs`, with the cluster's own
//! [`Lease`](crate::lease::Lease) and [`Keeper`](crate::lease::Keeper).

use super::process::node_id;
use super::{Process, World};
use crate::agenda::{Signal, Slot};
use crate::bugs::Bug;
use crate::lease::RENEWAL;
use nightjar_base::HomeId;
use std::cell::RefCell;
use std::rc::Rc;

/// How long a renewal may take, in milliseconds.
const RENEWING: u64 = 600;
/// How long a member is waited for before the control group is asked about it.
const ASKING: u64 = 500;
const AGAIN: u64 = 50;
/// How long a client waits until it is clear that a group has no leader.
const PATIENCE: u64 = 2_000;

/// Groups with an index in each.
type Points = Vec<u64>;

/// Who waits for everybody.
#[derive(Default)]
pub(crate) struct Settling {
    waiters: RefCell<Vec<Rc<Slot<()>>>>,
    wake: Signal,
}

#[derive(Clone, Copy)]
enum Question {
    Renew(HomeId),
    /// Whether this node's lease has ended.
    Ended(usize),
}

impl Process {
    /// Whether this node may acknowledge.
    pub(crate) fn may_acknowledge(&self) -> bool {
        self.has(Bug::ForgetLease) || self.lease.borrow().is_held(self.now_tick())
    }

    pub(crate) async fn renew(self: Rc<Self>) {
        loop {
            let asked = self.now_tick();
            if self.ask_control(Question::Renew(HomeId(self.home.get())), RENEWING).await.is_some() {
                let spell = self.lease.borrow_mut().granted(asked, 0, self.now_tick());
                if let Some(spell) = spell
                    && self.agenda.timeout(RENEWING, self.catch_up()).await == Some(true)
                {
                    self.lease.borrow_mut().caught_up(spell);
                }
            }
            self.agenda.sleep(RENEWAL).await;
        }
    }

    /// Applies what every group had agreed on by now; whether it could be found out.
    async fn catch_up(self: &Rc<Self>) -> bool {
        let mut points = Points::new();
        for group in 0..self.group_count() {
            let Some(index) = self.agreed(group).await else { return false };
            points.push(index);
        }
        self.wait_applied(&points).await;
        true
    }

    async fn wait_applied(&self, points: &Points) {
        let is_there = || points.iter().zip(self.groups.borrow().iter()).all(|(index, group)| group.applied >= *index);
        self.turns.until(is_there).await;
    }

    /// Up to where a group has agreed on something, as its leader says who is one.
    async fn agreed(self: &Rc<Self>, group: usize) -> Option<u64> {
        let leader = self.leader_of(group)?;
        if leader == self.node {
            return self.agenda.timeout(RENEWING, self.read_index(group)).await.flatten();
        }
        let ask = move |world: &Rc<World>, answer: Box<dyn FnOnce(Option<u64>)>| {
            if let Some(process) = world.process(leader) {
                let of = Rc::clone(&process);
                process.spawn(async move { answer(of.read_index(group).await) });
            }
        };
        self.world.call(self.node, leader, RENEWING, ask).await.flatten()
    }

    /// Applies all that anybody was told of a group; whether it could be found out.
    pub(crate) async fn latest(self: &Rc<Self>, group: usize) -> bool {
        let end = self.tick() + PATIENCE;
        while self.tick() < end {
            if let Some(index) = self.agreed(group).await {
                let is_there = || self.groups.borrow()[group].applied >= index;
                return self.agenda.timeout(PATIENCE, self.turns.until(is_there)).await.is_some();
            }
            self.agenda.sleep(AGAIN).await;
        }
        false
    }

    /// Returns when every node that may acknowledge routes to all that is subscribed here now, and all that anybody was
    /// told of until then is applied here.
    pub(crate) async fn settled(self: &Rc<Self>) {
        if self.has(Bug::RouteAfterSuback) {
            return;
        }
        let version = self.local.borrow().version();
        self.turns.until(|| self.told.get() >= version).await;
        let slot = Slot::new();
        self.settling.waiters.borrow_mut().push(Rc::clone(&slot));
        self.settling.wake.notify();
        slot.take().await;
    }

    pub(crate) async fn settle(self: Rc<Self>) {
        loop {
            self.settling.wake.until(|| !self.settling.waiters.borrow().is_empty()).await;
            let waiters = std::mem::take(&mut *self.settling.waiters.borrow_mut());
            let points: Points = self.groups.borrow().iter().map(|group| group.applied).collect();
            let mut asked = Vec::new();
            for node in self.others() {
                let (slot, process, points) = (Slot::new(), Rc::clone(&self), points.clone());
                asked.push(Rc::clone(&slot));
                self.spawn(async move {
                    process.settle_with(node, points).await;
                    slot.put(());
                });
            }
            for slot in asked {
                slot.take().await;
            }
            while !self.catch_up().await {
                self.agenda.sleep(AGAIN).await;
            }
            waiters.into_iter().for_each(|waiter| waiter.put(()));
        }
    }

    /// Returns when `node` has applied so much, or has no lease.
    async fn settle_with(self: &Rc<Self>, node: usize, points: Points) {
        loop {
            let points = points.clone();
            let ask = move |world: &Rc<World>, answer: Box<dyn FnOnce(())>| {
                if let Some(process) = world.process(node) {
                    let (of, points) = (Rc::clone(&process), points.clone());
                    process.spawn(async move {
                        of.wait_applied(&points).await;
                        // What was published here by the routes of before is done with, too.
                        of.wait(of.submitted.get()).await;
                        answer(());
                    });
                }
            };
            if self.world.call(self.node, node, ASKING, ask).await.is_some() {
                return;
            }
            if self.ask_control(Question::Ended(node), ASKING).await == Some(true) {
                return;
            }
            self.agenda.sleep(AGAIN).await;
        }
    }

    /// Asks whoever leads the control group.
    async fn ask_control(self: &Rc<Self>, question: Question, patience: u64) -> Option<bool> {
        let (leader, from) = (self.leader_of(self.control_group())?, self.node);
        if leader == self.node {
            return self.agenda.timeout(patience, self.answer_as_keeper(from, question)).await.flatten();
        }
        let ask = move |world: &Rc<World>, answer: Box<dyn FnOnce(Option<bool>)>| {
            if let Some(process) = world.process(leader) {
                let of = Rc::clone(&process);
                process.spawn(async move { answer(of.answer_as_keeper(from, question).await) });
            }
        };
        self.world.call(from, leader, patience, ask).await.flatten()
    }

    async fn answer_as_keeper(self: &Rc<Self>, from: usize, question: Question) -> Option<bool> {
        // Whoever says something of leases must have been the leader when it was asked.
        let agreed = self.read_index(self.control_group()).await?;
        // Who is over is known then.
        self.turns.until(|| self.groups.borrow()[self.control_group()].applied >= agreed).await;
        let mut keeper = self.keeper.borrow_mut();
        let (keeper, now) = (keeper.as_mut()?, self.now_tick());
        match question {
            Question::Renew(home) => {
                let is_over = self.control.borrow().nodes().any(|node| node.past().contains(&home));
                (!is_over && keeper.grants(node_id(from), home, now)).then_some(true)
            }
            Question::Ended(node) => Some(keeper.has_ended(node_id(node), now)),
        }
    }

    /// Whether this node, as the keeper, gives up this run of a node.
    pub(crate) fn gives_up(&self, node: usize, home: HomeId, patience: u64) -> bool {
        let (mut keeper, now) = (self.keeper.borrow_mut(), self.now_tick());
        keeper.as_mut().is_some_and(|keeper| keeper.gives_up(node_id(node), home, patience, now))
    }
}
