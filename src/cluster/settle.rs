//! Settling: what this node has been told is applied everywhere where it matters.
//!
//! ```text
//! SUBACK waits ─► settled ─┬─► every other member: applied what is applied here? ─► yes       ─┬─► what the leaders have
//!                          └─► no answer: control's leader: has its lease ended? ─► yes ─┘     agreed on: applied here
//! ```
//! A member that answers routes to the new subscription, and what it had routed before has been applied; one whose lease
//! has ended acknowledges nothing that it might fail to route.

use super::engine::Desk;
use super::lease::{Keeper, LEASE, Lease, RENEWAL};
use super::raft::{Group, Groups, Reign};
use super::wire::{Lane, Refusal, Request, Transport};
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::Store;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::future::join_all;
use nightjar_base::{HomeId, NodeId, ShardId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Asks the leader of the control group for a lease.
pub(super) const RENEW: u8 = 17;
/// Asks it whether a node's lease has ended.
pub(super) const ENDED: u8 = 18;
/// Asks a member to answer when it has applied so much.
pub(super) const APPLIED: u8 = 19;
/// Asks the leader of a group up to where it has agreed on something.
pub(super) const AGREED: u8 = 20;

/// How long a renewal may take: two are tried within a lease.
const RENEWING: Duration = Duration::from_millis(600);
/// How long a member is waited for before the control group is asked about it, again and again.
const ASKING: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(50);
/// How soon a lease that was not granted is asked for again.
const SOON: Duration = Duration::from_millis(100);
/// How many milliseconds a client waits until it is clear that a group has no leader.
const PATIENCE: u64 = 2_000;

const MALFORMED: u32 = 80;
const NOT_LEADER: u32 = 81;
const OVER: u32 = 82;

/// Groups with an index in each.
type Points = BTreeMap<ShardId, u64>;

/// Leases and barriers of a node.
pub struct Settling {
    node: NodeId,
    store: Store,
    groups: Arc<Groups>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    lease: Mutex<Lease>,
    /// As long as this node leads the control group.
    keeper: Mutex<Option<(Reign, Keeper)>>,
    waiters: Mutex<Vec<oneshot::Sender<()>>>,
    wake: Notify,
    desk: Arc<Desk>,
}

impl Settling {
    /// For the node that these groups are of, and whose desk they tell what they have agreed on.
    #[must_use]
    pub fn new(
        node: NodeId,
        store: Store,
        groups: Arc<Groups>,
        transport: Arc<dyn Transport>,
        clock: Clock,
        desk: Arc<Desk>,
    ) -> Arc<Self> {
        let (lease, keeper, waiters, wake) = (Mutex::default(), Mutex::new(None), Mutex::default(), Notify::new());
        Arc::new(Self { node, store, groups, transport, clock, lease, keeper, waiters, wake, desk })
    }

    /// Whether this node may acknowledge.
    #[must_use]
    pub fn may_acknowledge(&self) -> bool {
        self.lease.lock().is_held(self.clock.tick())
    }

    /// Ready when every node that may acknowledge has applied all that is applied here now, and this node all that anybody
    /// was told of until then.
    pub fn settled(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.lock().push(sender);
        self.wake.notify_one();
        receiver
    }

    /// Applies all that anybody was told of `group`; whether it could be found out.
    pub async fn latest(&self, group: ShardId) -> bool {
        let Some(group) = self.groups.get(group) else { return false };
        let begin = self.clock.tick();
        while self.clock.tick().since(begin) < PATIENCE {
            if let Some(index) = self.agreed(group).await {
                self.wait_applied(&Points::from([(group.id(), index)])).await;
                return true;
            }
            task::sleep(AGAIN).await;
        }
        false
    }

    /// Whether the leader of the control group, if it is this node, gives up this run of `node`, of which nothing was heard
    /// for `patience` milliseconds: it certainly has no lease, and gets none any more.
    #[must_use]
    pub fn gives_up(&self, node: NodeId, home: HomeId, patience: u64) -> bool {
        let (mut keeper, now) = (self.keeper.lock(), self.clock.tick());
        keeper.as_mut().is_some_and(|(_, keeper)| keeper.gives_up(node, home, patience, now))
    }

    /// Renews the lease and settles what is asked for, until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.renew(), self.keep(), self.settle());
    }

    async fn renew(&self) {
        let (control, mut again) = (self.groups.control(), task::interval(Duration::from_millis(RENEWAL)));
        loop {
            let reign = control.reign();
            let renewed = async {
                while !self.renew_once().await {
                    task::sleep(SOON).await;
                }
                again.tick().await;
            };
            tokio::select! {
                () = renewed => {}
                // Who leads now may answer at once.
                _ = control.next_reign(reign) => {}
            }
        }
    }

    /// Whether the lease was renewed.
    async fn renew_once(&self) -> bool {
        let asked = self.clock.tick();
        let home = Bytes::copy_from_slice(&self.desk.home().0.to_le_bytes());
        let answer = self.ask_control(RENEW, home, RENEWING).await;
        let Some(age) = answer.and_then(|mut answer| answer.try_get_u64_le().ok()) else { return false };
        let spell = self.lease.lock().granted(asked, age, self.clock.tick());
        if let Some(spell) = spell
            && task::timeout(RENEWING, self.catch_up()).await == Ok(true)
        {
            self.lease.lock().caught_up(spell);
        }
        true
    }

    /// Applies what every group had agreed on by now; whether it could be found out.
    pub async fn catch_up(&self) -> bool {
        let asked = self.groups.all().map(|group| async move { Some((group.id(), self.agreed(group).await?)) });
        let found: Option<Points> = join_all(asked).await.into_iter().collect();
        let Some(points) = found else { return false };
        self.wait_applied(&points).await;
        true
    }

    /// Up to where a group has agreed on something, as its leader says who is one.
    async fn agreed(&self, group: &Group) -> Option<u64> {
        let leader = group.leader()?;
        if leader == self.node {
            return group.read_index().await.ok();
        }
        let request = Request { group: group.id().0, kind: AGREED, payload: Bytes::new() };
        let answer = self.transport.call(leader, Lane::Beat, request, RENEWING).await.ok()?;
        answer.clone().try_get_u64_le().ok()
    }

    async fn wait_applied(&self, points: &Points) {
        let mut applied = self.desk.turns();
        let is_there = || points.iter().all(|(group, index)| self.store.standing(*group).point.index >= *index);
        while !is_there() {
            if applied.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Keeps leases as long as this node leads the control group.
    async fn keep(&self) {
        let control = self.groups.control();
        let mut reign = control.reign();
        loop {
            // Of each term anew: another may have led in between.
            *self.keeper.lock() = None;
            let begin = async {
                // What another had agreed on says who is over.
                while reign.leader != Some(self.node) || !self.latest(control.id()).await {
                    task::sleep(AGAIN).await;
                }
                *self.keeper.lock() = Some((reign, Keeper::new(self.clock.tick())));
                std::future::pending().await
            };
            reign = tokio::select! {
                next = control.next_reign(reign) => next,
                () = begin => return,
            };
        }
    }

    async fn settle(self: &Arc<Self>) {
        loop {
            self.wake.notified().await;
            let waiters = std::mem::take(&mut *self.waiters.lock());
            if waiters.is_empty() {
                continue;
            }
            let standing = |group: &Arc<Group>| (group.id(), self.store.standing(group.id()).point.index);
            let points: Points = self.groups.all().map(standing).collect();
            let members = self.groups.control().members();
            let others = members.voters.iter().chain(&members.learners).copied().map(NodeId);
            let asked: Vec<_> = others
                .filter(|node| *node != self.node)
                .map(|node| task::spawn(Arc::clone(self).settle_with(node, encode(&points))))
                .collect();
            for asked in asked {
                // A panic in there was reported when it happened; nobody is told that it is settled.
                if asked.await.is_err() {
                    return;
                }
            }
            while !self.catch_up().await {
                task::sleep(AGAIN).await;
            }
            for waiter in waiters {
                // Whoever waited may have gone.
                let _ = waiter.send(());
            }
        }
    }

    /// Returns when `node` has applied so much, or has no lease.
    async fn settle_with(self: Arc<Self>, node: NodeId, points: Bytes) {
        loop {
            let request = Request { group: 0, kind: APPLIED, payload: points.clone() };
            if self.transport.call(node, Lane::Bulk, request, ASKING).await.is_ok() {
                return;
            }
            let question = Bytes::copy_from_slice(&node.0.to_le_bytes());
            if self.ask_control(ENDED, question, ASKING).await.is_some_and(|answer| answer[..] == [1]) {
                return;
            }
            task::sleep(AGAIN).await;
        }
    }

    /// Asks whoever leads the control group.
    async fn ask_control(&self, kind: u8, payload: Bytes, patience: Duration) -> Option<Bytes> {
        let leader = self.groups.control().leader()?;
        if leader == self.node {
            return self.answer_as_keeper(self.node, kind, &payload).await.ok();
        }
        let request = Request { group: self.groups.control().id().0, kind, payload };
        self.transport.call(leader, Lane::Beat, request, patience).await.ok()
    }

    /// Whether requests of this kind are answered here.
    #[must_use]
    pub fn takes(kind: u8) -> bool {
        (RENEW..=AGREED).contains(&kind)
    }

    /// Answers another node.
    ///
    /// # Errors
    /// When it cannot be understood, or this node is not the one to say.
    pub async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        match request.kind {
            APPLIED => {
                let points = decode(request.payload).ok_or_else(malformed)?;
                if points.keys().any(|group| self.groups.get(*group).is_none()) {
                    return Err(malformed());
                }
                self.wait_applied(&points).await;
                // What was published here by the routes of before is done with, too.
                self.store.wait(self.store.submitted()).await;
                Ok(Bytes::new())
            }
            AGREED => {
                let group = self.groups.get(ShardId(request.group)).ok_or_else(malformed)?;
                let index = group.read_index().await.map_err(|error| Refusal::new(NOT_LEADER, error.to_string()))?;
                Ok(Bytes::copy_from_slice(&index.to_le_bytes()))
            }
            kind => self.answer_as_keeper(from, kind, &request.payload).await,
        }
    }

    async fn answer_as_keeper(&self, from: NodeId, kind: u8, payload: &Bytes) -> Result<Bytes, Refusal> {
        // Whoever says something of leases must have been the leader when it was asked. A renewal that counts from when it
        // last certainly was says the same, and asks nobody.
        let control = self.groups.control();
        let known = control.proved().filter(|age| kind == RENEW && *age <= LEASE / 3);
        if known.is_none() {
            control.read_index().await.map_err(|error| Refusal::new(NOT_LEADER, error.to_string()))?;
        }
        let mut keeper = self.keeper.lock();
        // In another reign others may have kept leases in between.
        let keeper = keeper.as_mut().filter(|(reign, _)| *reign == control.reign()).map(|(_, keeper)| keeper);
        let keeper = keeper.ok_or_else(|| Refusal::new(NOT_LEADER, "this node has only begun to lead"))?;
        let now = self.clock.tick();
        let about = payload.clone().try_get_u64_le().map_err(|_| malformed())?;
        match kind {
            RENEW => {
                let home = HomeId(about);
                if self.desk.is_over(home) || !keeper.grants(from, home, now) {
                    return Err(Refusal::new(OVER, "this run of the node is over"));
                }
                Ok(Bytes::copy_from_slice(&known.unwrap_or(0).to_le_bytes()))
            }
            _ => Ok(Bytes::copy_from_slice(&[keeper.has_ended(NodeId(about), now).into()])),
        }
    }
}

fn malformed() -> Refusal {
    Refusal::new(MALFORMED, "this cannot be understood")
}

const POINT: usize = 10;

fn encode(points: &Points) -> Bytes {
    let mut out = BytesMut::with_capacity(points.len() * POINT);
    for (group, index) in points {
        out.put_u16_le(group.0);
        out.put_u64_le(*index);
    }
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Option<Points> {
    let mut points = Points::new();
    while bytes.len() >= POINT {
        points.insert(ShardId(bytes.get_u16_le()), bytes.get_u64_le());
    }
    bytes.is_empty().then_some(points)
}
