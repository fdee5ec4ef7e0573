//! Sessions between nodes: each is at one connection, wherever that is. Mirrors `broker/moves.rs`.

use super::Process;
use super::broker::{Came, is_persistent};
use crate::bugs::Bug;
use nightjar_base::{HomeId, SessionId, ShardId};
use nightjar_shard::{Holder, Op};
use std::rc::Rc;
use std::sync::Arc;

/// How often a session that somebody else takes meanwhile is taken from him.
const TRIES: usize = 4;

/// A client that cannot be let in here and now.
pub(crate) struct Refused;

/// A session as one shard's log has it at one point.
pub(crate) struct AttachedSession {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) client_id: Arc<str>,
    pub(crate) home: u64,
    pub(crate) epoch: u64,
    pub(crate) present: bool,
    pub(crate) before: Option<Holder>,
}

impl Process {
    /// Sees to it that no other node has a connection of this client, as of now.
    pub(crate) async fn make_ours(self: &Rc<Self>, client_id: &Arc<str>) -> Result<(), Refused> {
        let shard = usize::from(self.shard_of(client_id).0);
        for _ in 0..TRIES {
            if !self.may_acknowledge() || self.agenda.timeout(2_000, self.latest(shard)).await != Some(true) {
                return Err(Refused);
            }
            let holder = {
                let of = &self.shards.borrow()[shard];
                let session = of.client(client_id).filter(|of| of.attached() && of.home() != self.home.get());
                session.map(|session| Holder { home: session.home(), epoch: session.epoch() })
            };
            let Some(holder) = holder.filter(|_| !self.has(Bug::ForgetEviction)) else { return Ok(()) };
            if !self.see_evicted(HomeId(holder.home), client_id, holder.epoch).await {
                return Err(Refused);
            }
        }
        Err(Refused)
    }

    /// Who had the session when this node took it is to be gone before its client is told that it has it.
    pub(crate) async fn end_before(self: &Rc<Self>, came: Came, client_id: &Arc<str>) -> Result<(), Refused> {
        let before = came.before.filter(|before| before.home != self.home.get() && !self.has(Bug::ForgetEviction));
        let Some(before) = before else { return Ok(()) };
        let is_gone = self.see_evicted(HomeId(before.home), client_id, before.epoch).await;
        if is_gone { Ok(()) } else { Err(Refused) }
    }

    /// The client was sent away: if its session is attached after all, nobody has it.
    pub(crate) fn detach_when_attached(self: &Rc<Self>, client_id: &Arc<str>, epoch: u64, position: u64) {
        let (process, client_id) = (Rc::clone(self), Arc::clone(client_id));
        self.spawn(async move {
            process.wait(position).await;
            let shard = process.shard_of(&client_id);
            let session = {
                let of = &process.shards.borrow()[usize::from(shard.0)];
                let ours = of.client(&client_id).filter(|session| session.epoch() == epoch);
                ours.map(|session| (session.id(), session.sent()))
            };
            if let Some((session, sent)) = session {
                let now = process.wall();
                let detach = Op::Detach { session, epoch, expiry: None, discard_will: true, sent, now };
                process.submit(&mut vec![(shard, detach)]);
            }
        });
    }

    /// Whether a connection still has its session.
    pub(crate) fn has_still(&self, shard: ShardId, session: SessionId, epoch: u64) -> bool {
        let of = &self.shards.borrow()[usize::from(shard.0)];
        of.session(session).is_some_and(|session| session.attached() && session.epoch() == epoch)
    }

    /// The subscriber of a persistent session; made if there is none yet.
    pub(crate) fn subscriber_of(&self, place: (ShardId, SessionId)) -> Option<u64> {
        if let Some(id) = self.broker.borrow().sessions.get(&place) {
            return Some(*id);
        }
        let of = &self.shards.borrow()[usize::from(place.0.0)];
        let session = of.session(place.1)?;
        let elsewhere = (session.attached() && session.home() != self.home.get()).then(|| HomeId(session.home()));
        let mut broker = self.broker.borrow_mut();
        let id = broker.add_session(place);
        if let Some(subscriber) = broker.subscribers.get_mut(&id) {
            subscriber.elsewhere = elsewhere;
        }
        Some(id)
    }

    fn set_elsewhere(&self, subscriber: u64, elsewhere: Option<HomeId>) {
        if let Some(subscriber) = self.broker.borrow_mut().subscribers.get_mut(&subscriber) {
            subscriber.elsewhere = elsewhere;
        }
    }

    /// A connection, of whichever node, has its session.
    pub(crate) fn attached(self: &Rc<Self>, at: &AttachedSession) {
        let (own, place) = (self.home.get(), (at.shard, at.session));
        let known = self.broker.borrow().sessions.get(&place).copied();
        if at.home == own {
            if let Some(expected) = self.broker.borrow_mut().moves.get_mut(&at.epoch) {
                *expected = Some(Came { present: at.present, before: at.before });
            }
            if let Some(subscriber) = known {
                self.set_elsewhere(subscriber, None);
            }
            return;
        }
        if let Some(before) = at.before.filter(|before| before.home == own) {
            self.end_connection(&at.client_id, before.epoch);
        }
        let is_kept = {
            let of = &self.shards.borrow()[usize::from(at.shard.0)];
            of.session(at.session).is_some_and(is_persistent)
        };
        let subscriber = known.or_else(|| is_kept.then(|| self.subscriber_of(place)).flatten());
        if let Some(subscriber) = subscriber {
            self.set_elsewhere(subscriber, Some(HomeId(at.home)));
        }
    }

    /// A session's connection at `home` is over.
    pub(crate) fn detached(&self, place: (ShardId, SessionId), home: u64) {
        let known = self.broker.borrow().sessions.get(&place).copied();
        let mut broker = self.broker.borrow_mut();
        if let Some(subscriber) = known.and_then(|id| broker.subscribers.get_mut(&id))
            && subscriber.elsewhere == Some(HomeId(home))
        {
            subscriber.elsewhere = None;
        }
    }

    /// Has the connection of a client end, if it is the one with this epoch.
    pub(crate) fn end_connection(self: &Rc<Self>, client_id: &str, epoch: u64) -> Option<u64> {
        let link = {
            let broker = self.broker.borrow();
            let link = *broker.current.get(client_id)?;
            broker.peers.get(&link).filter(|peer| peer.durable.epoch == epoch).map(|_| link)?
        };
        self.close(link);
        Some(link)
    }

    /// Ends the connections that wait for an acknowledgement which this node cannot give, or all of them.
    pub(crate) fn cut_off(self: &Rc<Self>, all: bool) {
        let links: Vec<u64> = {
            let mut broker = self.broker.borrow_mut();
            let ended = broker.peers.iter_mut().filter(|(_, peer)| all || !peer.pending.is_empty());
            ended
                .map(|(link, peer)| {
                    if all {
                        peer.pending.clear();
                    }
                    *link
                })
                .collect()
        };
        links.into_iter().for_each(|link| self.close(link));
    }
}
