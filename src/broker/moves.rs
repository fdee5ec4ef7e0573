//! Sessions between nodes: each is at one connection, wherever that is.
//!
//! ```text
//! CONNECT ─► what the shard says ─► another process has it: evict ─► attach ─► who had it until then: evict ─► CONNACK
//! ```
//! Whoever attaches last, by the order of the shard's log, has the session; every node hears of it by its own store, and
//! closes what it has of an older connection.

use super::Broker;
use super::peer::Close;
use super::ports::Others;
use super::subscriber::Subscriber;
use crate::env::task;
use crate::store::Store;
use nightjar_base::{ClientId, HomeId, Position, SessionId, ShardId, Wall};
use nightjar_mqtt::ReasonCode;
use nightjar_shard::{Holder, Op, QueueLimits, Session, Will};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a client that comes in waits for the cluster to agree on it.
const AGREEING: Duration = Duration::from_secs(2);
/// How often a session that somebody else takes meanwhile is taken from him.
pub(super) const TRIES: usize = 4;

/// How long it may take until every node has heard of a connection.
const SETTLING: Duration = Duration::from_secs(5);
/// Processes that went last, of which something may still be under way.
const GRAVES: usize = 32;

/// What a client is told that cannot be let in here and now.
pub(super) const CUT_OFF: (ReasonCode, &str) =
    (ReasonCode::ServerUnavailable, "this node cannot reach the rest of the cluster");
pub(super) const IN_USE: (ReasonCode, &str) = (ReasonCode::ServerBusy, "others use the client id");

/// A connection of this node that is about to have its session.
pub(super) struct Attaching {
    pub(super) client_id: ClientId,
    pub(super) user: Option<Arc<str>>,
    pub(super) clean_start: bool,
    pub(super) expiry: u32,
    pub(super) epoch: u64,
    pub(super) will: Option<Will>,
    pub(super) limits: QueueLimits,
}

/// What an attachment of this node came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    /// Whether there was a session to go on with.
    pub(super) present: bool,
    /// Who had it until then.
    pub(super) before: Option<Holder>,
}

/// Attachments that are under way, by their epochs.
#[derive(Default)]
pub(crate) struct Moves(Mutex<HashMap<u64, Option<Came>>>);

/// An attachment that is waited for.
pub(super) struct Expected<'a> {
    moves: &'a Moves,
    epoch: u64,
}

impl Moves {
    pub(super) fn expect(&self, epoch: u64) -> Expected<'_> {
        self.0.lock().insert(epoch, None);
        Expected { moves: self, epoch }
    }
}

impl Expected<'_> {
    /// What came of it, if it was applied.
    pub(super) fn came(&self) -> Option<Came> {
        self.moves.0.lock().get(&self.epoch).copied().flatten()
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.moves.0.lock().remove(&self.epoch);
    }
}

/// Whether a session may outlive its connection; others are there so that a client has one connection in all the cluster.
pub(super) fn is_persistent(session: &Session) -> bool {
    session.expiry() > 0 || session.subscription_count() > 0
}

/// A session as one shard's log has it at one point.
pub(super) struct AttachedSession<'a> {
    pub(super) shard: ShardId,
    pub(super) session: SessionId,
    pub(super) client_id: &'a ClientId,
    pub(super) at: Holder,
    pub(super) came: Came,
}

/// A process that `shard` knows to be over may not be so for another shard yet, which would still take what it had proposed
/// for a client: this node says so there, before it proposes anything of that client's itself.
pub(crate) fn bury_everywhere(store: &Store, shard: ShardId, now: Wall) {
    let known: Vec<u64> = store.lock(shard).buried().take(GRAVES).collect();
    if known.is_empty() {
        return;
    }
    let mut ops = Vec::new();
    for of in (0..store.shard_count()).map(ShardId).filter(|of| *of != shard) {
        let state = store.lock(of);
        let missing = known.iter().filter(|home| !state.is_buried(**home));
        ops.extend(missing.map(|home| (of, Op::DetachHome { home: *home, now })));
    }
    if !ops.is_empty() {
        store.submit(&mut ops, None);
    }
}

impl Broker {
    /// The op for it.
    pub(super) fn attach_op(&self, attaching: Attaching) -> Op {
        let Attaching { client_id, user, clean_start, expiry, epoch, will, limits } = attaching;
        let now = self.clock.now();
        match &self.others {
            None => Op::Attach { client_id, user, clean_start, expiry, epoch, will, limits, now },
            Some(others) => {
                let (home, will) = (others.home().0, will.map(Box::new));
                Op::AttachFrom { home, client_id, user, clean_start, expiry, epoch, will, limits, now }
            }
        }
    }

    /// Waits until `position` is applied. In a cluster that may take too long for a client.
    pub(super) async fn attached_in_time(&self, position: Position) -> bool {
        let applied = self.store.wait(position);
        if self.others.is_none() {
            applied.await;
            return true;
        }
        task::timeout(AGREEING, applied).await.is_ok()
    }

    /// Waits until what an old connection here did last is applied, so that its session can be settled; whether that was in
    /// time. On a node alone the connection itself has seen to all that a session which is resumed needs.
    pub(super) async fn old_is_over(&self, resumes: bool) -> bool {
        if self.others.is_none() && resumes {
            return true;
        }
        // In a cluster the end of a connection is submitted when all before it is applied.
        self.attached_in_time(self.store.submitted()).await && self.attached_in_time(self.store.submitted()).await
    }

    /// The client was sent away: if its session is attached after all, nobody has it.
    pub(super) fn detach_when_attached(
        self: &Arc<Self>,
        client_id: &ClientId,
        shard: ShardId,
        epoch: u64,
        position: Position,
    ) {
        let (broker, client_id) = (Arc::clone(self), Arc::clone(client_id));
        task::spawn(async move {
            broker.store.wait(position).await;
            let session = {
                let store = broker.store.lock(shard);
                let ours = store.client(&client_id).filter(|session| session.epoch() == epoch);
                ours.map(|session| (session.id(), session.sent()))
            };
            if let Some((session, sent)) = session {
                let now = broker.clock.now();
                let detach = Op::Detach { session, epoch, expiry: None, discard_will: true, sent, now };
                broker.store.submit(&mut vec![(shard, detach)], None);
            }
        });
    }

    /// Sees to it that no other node has a connection of this client, as of now.
    pub(super) async fn make_ours(&self, client_id: &ClientId) -> Result<(), (ReasonCode, &'static str)> {
        let Some(others) = &self.others else { return Ok(()) };
        let shard = self.store.shard_of(client_id);
        for _ in 0..TRIES {
            if !others.may_acknowledge() || !others.latest(shard).await {
                return Err(CUT_OFF);
            }
            let holder = {
                let store = self.store.lock(shard);
                let elsewhere = |session: &&Session| session.attached() && session.home() != others.home().0;
                let session = store.client(client_id).filter(elsewhere);
                session.map(|session| Holder { home: session.home(), epoch: session.epoch() })
            };
            let Some(holder) = holder else {
                bury_everywhere(&self.store, shard, self.clock.now());
                return Ok(());
            };
            if !self.evict(others, holder, client_id).await {
                return Err(CUT_OFF);
            }
        }
        Err(IN_USE)
    }

    async fn evict(&self, others: &Arc<dyn Others>, holder: Holder, client_id: &ClientId) -> bool {
        others.evict(HomeId(holder.home), Arc::clone(client_id), holder.epoch).await
    }

    /// Who had the session when this node took it is to be gone before its client is told that it has it; whether it is.
    pub(super) async fn end_before(&self, came: Option<Came>, client_id: &ClientId) -> bool {
        let Some(others) = &self.others else { return true };
        let Some(came) = came else {
            // The shard came as a whole, which does not say who that was. Whoever it was closes its connection when it
            // applies that this one has come, and all have applied it when it is settled.
            return task::timeout(SETTLING, others.settled()).await.is_ok();
        };
        match came.before.filter(|before| before.home != others.home().0) {
            Some(before) => self.evict(others, before, client_id).await,
            None => true,
        }
    }

    /// Whether this connection still has its session.
    pub(super) fn has_still(&self, shard: ShardId, session: SessionId, epoch: u64) -> bool {
        let store = self.store.lock(shard);
        store.session(session).is_some_and(|session| session.attached() && session.epoch() == epoch)
    }

    /// Notes which other process has the session's connection.
    pub(super) fn note_place(&self, subscriber: &Subscriber, session: &Session) {
        let Some(others) = &self.others else { return };
        let elsewhere = session.attached() && session.home() != others.home().0;
        subscriber.set_elsewhere(elsewhere.then(|| HomeId(session.home())));
    }

    /// A connection, of whichever node, has its session.
    pub(super) fn attached(&self, attached: &AttachedSession<'_>) {
        let Some(others) = &self.others else { return };
        let AttachedSession { shard, session, client_id, at, came } = *attached;
        let own = others.home().0;
        if at.home == own {
            if let Some(expected) = self.moves.0.lock().get_mut(&at.epoch) {
                *expected = Some(came);
            }
            if let Some(subscriber) = self.session(shard, session) {
                subscriber.set_elsewhere(None);
            }
            return;
        }
        if let Some(before) = came.before.filter(|before| before.home == own) {
            self.end_connection(client_id, before.epoch);
        }
        let subscriber = self.session(shard, session).or_else(|| {
            let store = self.store.lock(shard);
            let session = store.session(session).filter(|session| is_persistent(session))?;
            Some(self.add_session(shard, session.id(), client_id, session.user()))
        });
        if let Some(subscriber) = subscriber {
            subscriber.set_elsewhere(Some(HomeId(at.home)));
        }
    }

    /// A session's connection at `home` is over.
    pub(super) fn detached(&self, shard: ShardId, session: SessionId, home: u64) {
        if let Some(subscriber) = self.session(shard, session)
            && subscriber.elsewhere() == Some(HomeId(home))
        {
            subscriber.set_elsewhere(None);
        }
    }

    fn end_connection(&self, client_id: &str, epoch: u64) -> Option<Arc<super::peer::Peer>> {
        let peer = self.registry.find(client_id).filter(|peer| peer.about.epoch == epoch)?;
        peer.close(Close::TakenOver);
        Some(peer)
    }

    /// Ends the connection that a client has here since `epoch`, because it comes in elsewhere. Returns when all that it
    /// did is in the store, and that it is over.
    pub async fn evicted(&self, client_id: &str, epoch: u64) {
        if let Some(peer) = self.end_connection(client_id, epoch) {
            peer.wait_gone().await;
        }
        // Only when all is applied is it submitted that the connection is over.
        for _ in 0..2 {
            self.store.wait(self.store.submitted()).await;
        }
    }

    /// Ends the connections that wait for an acknowledgement which this node cannot give, or all of them.
    pub fn cut_off(&self, all: bool) {
        for peer in self.registry.peers() {
            let mut state = peer.lock();
            if all {
                state.withdraw();
            }
            let waits = state.has_pending();
            drop(state);
            if all || waits {
                peer.close(Close::CutOff);
            }
        }
    }
}
