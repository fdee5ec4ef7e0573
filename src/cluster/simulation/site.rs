//! A node that serves clients, as far as the cluster is concerned: what `broker` submits for them, and what it tells the
//! other nodes. There are no packets here; a connection is a number.

use super::bugs::{Bug, Doubling};
use super::ledger::{Ledger, Publication};
use crate::cluster::engine::{Desk, Ear};
use crate::cluster::raft::{Agreed, Pace};
use crate::cluster::tests::node::{Door, More, Plan, Works};
use crate::cluster::wire::{Refusal, Request, Switch};
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::{Opened, Sink};
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId, Position, SessionId, ShardId};
use nightjar_control::{ControlEffect, ControlOp};
use nightjar_shard::{Effect, Holder, Op};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Ends a connection here.
pub(super) const EVICT: u8 = 200;
/// Has the control group agree on something.
pub(super) const CONTROL: u8 = 201;

/// What came of an attach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) before: Option<Holder>,
}

/// A client's connection at a site.
pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) shard: ShardId,
    pub(super) session: SessionId,
    /// Its number in the cluster, by which the shard knows it.
    pub(super) epoch: u64,
    /// Its number by the order of CONNACKs.
    pub(super) order: u64,
    pub(super) open: AtomicBool,
    /// What waits for an acknowledgement.
    pub(super) pending: AtomicU64,
    /// Packet identifiers of QoS 2 messages that it brought, or one before it did.
    pub(super) inbound: Mutex<BTreeSet<u16>>,
    /// Those of `inbound` that all shards may not have.
    pub(super) unsure: Mutex<BTreeSet<u16>>,
    /// The sequence from which its queue is sent on.
    pub(super) cursor: AtomicU64,
}

impl Connection {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

/// What attaches have come to, by epoch: of those that are under way here. And which of them were ended meanwhile.
#[derive(Default)]
pub(super) struct Expected(HashMap<u64, Option<Came>>);

/// A node with its clients.
pub(super) struct Site {
    pub(super) works: Works,
    pub(super) clock: Clock,
    pub(super) ledger: Arc<Ledger>,
    pub(super) bug: Bug,
    pub(super) connections: Mutex<BTreeMap<usize, Arc<Connection>>>,
    expected: Arc<Mutex<Expected>>,
    /// By client: whoever lets it in holds this.
    claims: Mutex<HashMap<usize, Arc<tokio::sync::Mutex<()>>>>,
    /// Cleared at a crash: nobody hears of it any more.
    alive: AtomicBool,
}

/// What the groups tell a site before it is there.
struct Hearing {
    site: Arc<OnceLock<Weak<Site>>>,
    expected: Arc<Mutex<Expected>>,
}

impl Hearing {
    fn site(&self) -> Option<Arc<Site>> {
        self.site.get().and_then(Weak::upgrade)
    }
}

impl Sink for Hearing {
    fn effects(&mut self, _: ShardId, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            let Effect::Attached { session: _, client_id, home, epoch, before, .. } = effect else { continue };
            let before = before.map(|before| *before);
            if let Some(expected) = self.expected.lock().0.get_mut(&epoch) {
                *expected = Some(Came { before });
            }
            let Some(site) = self.site() else { continue };
            let own = site.home().0;
            if home != own
                && let Some(before) = before.filter(|before| before.home == own)
            {
                site.end_connection(number_of(&client_id), before.epoch);
            }
        }
    }

    fn applied(&mut self, _: Position) {}

    fn replaced(&mut self, shard: ShardId) {
        if let Some(site) = self.site() {
            site.look_at(shard);
        }
    }
}

impl Ear for Hearing {
    fn control(&self, effects: &mut Vec<ControlEffect>) {
        for effect in effects.drain(..) {
            if let (ControlEffect::HomeDown { home, .. }, Some(site)) = (effect, self.site()) {
                site.works.desk.give_up(home);
            }
        }
    }

    fn gone(&self, _: HomeId) {
        if let Some(site) = self.site() {
            site.ledger.note(|| format!("{} hears that it was declared gone", site.works.id));
            site.close_all();
        }
    }
}

/// The client identifier of a client.
pub(super) fn client_id(client: usize) -> Arc<str> {
    format!("client {client}").into()
}

fn number_of(client_id: &str) -> usize {
    client_id.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap()
}

/// What a site is made of.
pub(super) struct Ground {
    pub(super) opened: Opened,
    pub(super) home: HomeId,
    pub(super) clock: Clock,
    pub(super) pace: Pace,
    pub(super) most_held: usize,
    pub(super) ledger: Arc<Ledger>,
    pub(super) bug: Bug,
}

impl Site {
    pub(super) async fn start(ground: Ground, switch: &Arc<Switch>) -> Arc<Self> {
        let Ground { opened, home, clock, pace, most_held, ledger, bug } = ground;
        let (seat, expected) = (Arc::new(OnceLock::new()), Arc::default());
        let hearing = || Hearing { site: Arc::clone(&seat), expected: Arc::clone(&expected) };
        let shards = opened.store().shard_count();
        let agreed = move |desk: Arc<Desk>| -> Arc<dyn Agreed> {
            if bug == Bug::AppliedTwice { Arc::new(Doubling { desk, shards }) } else { desk }
        };
        let plan = Plan {
            opened,
            home,
            clock: clock.clone(),
            pace,
            most_held,
            sink: Box::new(hearing()),
            ear: Arc::new(hearing()),
            door: Door::new(asked(&seat)),
            agreed: Box::new(agreed),
        };
        let works = Works::start(plan, switch).await;
        let (connections, claims, alive) = (Mutex::default(), Mutex::default(), AtomicBool::new(true));
        let site = Arc::new(Self { works, clock, ledger, bug, connections, expected, claims, alive });
        let _ = seat.set(Arc::downgrade(&site));
        site
    }

    pub(super) fn home(&self) -> HomeId {
        self.works.desk.home()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    pub(super) fn may_acknowledge(&self) -> bool {
        self.bug == Bug::NoLease || self.works.settling.may_acknowledge()
    }

    /// The process is killed: nothing of it reaches anybody from here on.
    pub(super) fn die(&self) {
        self.alive.store(false, Ordering::SeqCst);
        for connection in self.connections.lock().values() {
            connection.open.store(false, Ordering::SeqCst);
        }
    }

    /// The right to let in a client, one at a time.
    pub(super) fn claim(&self, client: usize) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.claims.lock().entry(client).or_default())
    }

    pub(super) fn expect(&self, epoch: u64) {
        self.expected.lock().0.insert(epoch, None);
    }

    pub(super) fn came(&self, epoch: u64) -> Option<Came> {
        self.expected.lock().0.remove(&epoch).flatten()
    }

    /// Ends a connection, whoever asks for it: its session is left.
    pub(super) fn close(self: &Arc<Self>, connection: &Arc<Connection>) {
        if !connection.open.swap(false, Ordering::SeqCst) || !self.is_alive() {
            return;
        }
        {
            let mut connections = self.connections.lock();
            if connections.get(&connection.client).is_some_and(|of| of.epoch == connection.epoch) {
                connections.remove(&connection.client);
            }
        }
        self.ledger.note(|| format!("connection {} of client {} ends", connection.order, connection.client));
        let Connection { shard, session, epoch, .. } = **connection;
        let detach =
            move |epoch, now| (shard, Op::Detach { session, epoch, expiry: None, discard_will: true, sent: 0, now });
        if self.bug == Bug::NoEpoch {
            // For whichever connection has the session when it comes to it.
            let site = Arc::clone(self);
            task::spawn(async move {
                task::sleep(std::time::Duration::from_millis(150)).await;
                let found = site.works.store.lock(shard).session(session).map(nightjar_shard::Session::epoch);
                let now = site.clock.now();
                site.works.store.submit(&mut vec![detach(found.unwrap_or(epoch), now)], None);
            });
            return;
        }
        let (store, mut last) = (&self.works.store, vec![detach(epoch, self.clock.now())]);
        if self.bug == Bug::EarlyDetach || store.applied() >= store.submitted() {
            store.submit(&mut last, None);
        } else {
            // As `broker/leave.rs` has it.
            store.submit_in_turn(last);
        }
    }

    fn end_connection(self: &Arc<Self>, client: usize, epoch: u64) {
        let found = self.connections.lock().get(&client).filter(|found| found.epoch == epoch).cloned();
        if let Some(found) = found {
            self.close(&found);
        }
    }

    /// The state of a shard is another: connections may have lost their sessions to others.
    fn look_at(self: &Arc<Self>, shard: ShardId) {
        let lost: Vec<_> = {
            let (connections, state) = (self.connections.lock(), self.works.store.lock(shard));
            let has = |of: &Arc<Connection>| {
                state.session(of.session).is_some_and(|session| session.attached() && session.epoch() == of.epoch)
            };
            connections.values().filter(|of| of.shard == shard && !has(of)).cloned().collect()
        };
        lost.iter().for_each(|connection| self.close(connection));
    }

    /// This process was declared gone.
    fn close_all(self: &Arc<Self>) {
        let all: Vec<_> = self.connections.lock().values().cloned().collect();
        all.iter().for_each(|connection| self.close(connection));
    }

    /// Ends the connections that wait for an acknowledgement that cannot be given.
    pub(super) fn cut_off(self: &Arc<Self>) {
        let all: Vec<_> = self.connections.lock().values().cloned().collect();
        for connection in all.iter().filter(|connection| connection.pending.load(Ordering::SeqCst) > 0) {
            self.close(connection);
        }
    }

    async fn evicted(self: Arc<Self>, client: usize, epoch: u64) {
        self.end_connection(client, epoch);
        let store = &self.works.store;
        for _ in 0..2 {
            store.wait(store.submitted()).await;
        }
    }

    /// Has the control group agree on `op`, and waits until it is applied here.
    pub(super) async fn agree(&self, op: &ControlOp) -> bool {
        let bytes = Bytes::from(op.encode().unwrap());
        let control = self.works.groups.control();
        let index = match control.leader() {
            Some(leader) if leader == self.works.id => control.propose(bytes).await.ok().map(|point| point.index),
            Some(leader) => {
                let request = Request { group: control.id().0, kind: CONTROL, payload: bytes };
                super::asking::number(&self.works, leader, request).await
            }
            None => None,
        };
        let Some(index) = index else { return false };
        let mut turns = self.works.desk.turns();
        while self.works.store.standing(control.id()).point.index < index {
            if turns.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    /// The ops that a publication needs so that all who are subscribed here, as far as is known here, get it: how many
    /// those are, and which.
    pub(super) fn matching(&self, topic: usize) -> BTreeMap<ShardId, Vec<SessionId>> {
        let (store, name) = (&self.works.store, super::client::topic(topic));
        let mut found = BTreeMap::new();
        for shard in (0..store.shard_count()).map(ShardId) {
            let state = store.lock(shard);
            let sessions = state.sessions().filter(|session| session.subscription(&name).is_some());
            let sessions: Vec<SessionId> = sessions.map(nightjar_shard::Session::id).collect();
            if !sessions.is_empty() {
                found.insert(shard, sessions);
            }
        }
        found
    }

    /// A message that waits for a session, by the text that it carries.
    pub(super) fn publication(payload: &[u8]) -> Publication {
        let text = std::str::from_utf8(payload).unwrap();
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().unwrap());
        (usize::try_from(numbers.next().unwrap()).unwrap(), numbers.next().unwrap())
    }
}

/// What other nodes ask a site.
fn asked(seat: &Arc<OnceLock<Weak<Site>>>) -> More {
    let seat = Arc::clone(seat);
    Box::new(move |_: NodeId, request: Request| {
        let Some(site) = seat.get().and_then(Weak::upgrade).filter(|_| matches!(request.kind, EVICT | CONTROL)) else {
            return Err(request);
        };
        Ok(Box::pin(async move {
            if request.kind == CONTROL {
                let agreed = site.works.groups.control().propose(request.payload).await;
                let point = agreed.map_err(|error| Refusal::new(99, error.to_string()))?;
                return Ok(Bytes::copy_from_slice(&point.index.to_le_bytes()));
            }
            let number = |at: usize| u64::from_le_bytes(request.payload[at..at + 8].try_into().unwrap());
            if HomeId(number(0)) != site.home() {
                return Err(Refusal::new(97, "this is another process"));
            }
            site.evicted(usize::try_from(number(16)).unwrap(), number(8)).await;
            Ok(Bytes::new())
        }))
    })
}
