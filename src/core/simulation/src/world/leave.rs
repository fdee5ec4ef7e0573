//! The end of a connection, and what becomes due by itself: mirrors `broker/leave.rs` and `housekeeping.rs`.

use super::Process;
use super::network::Link;
use super::packet::Packet;
use super::publish::{End, Source, publication};
use crate::bugs::Bug;
use crate::history::Event;
use nightjar_base::{SessionId, ShardId};
use nightjar_mqtt::Message;
use nightjar_shard::{Due, Op};
use std::rc::Rc;
use std::sync::Arc;

/// How often deadlines are looked at, in milliseconds.
const PERIOD: u64 = 200;
/// Among the numbers of a session's publications, wills have this bit; with it, what is left of their epoch.
const WILL: u64 = 1 << 63;

/// A will whose time has come.
pub(crate) struct DueWill {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    pub(crate) message: Arc<Message>,
}

impl Process {
    /// A packet of a client.
    pub(crate) fn arrived(self: &Rc<Self>, link: &Rc<Link>, packet: Packet) {
        let number = link.number;
        if let Packet::Connect(connect) = packet {
            self.spawn(Rc::clone(self).take_in(Rc::clone(link), connect));
            return;
        }
        let is_open = self.broker.borrow().peers.get(&number).is_some_and(|peer| !peer.is_closing);
        if !is_open {
            return;
        }
        let handled = match packet {
            Packet::Publish(publish) => self.published(number, &publish),
            Packet::PubRel(id) => self.pubrel(number, id),
            Packet::PubAck(id) => self.acked(number, |peer| peer.out.puback(super::sending::unshifted(id, peer.shift))),
            Packet::PubRec(id) => self.pubrec(number, id),
            Packet::PubComp(id) => {
                self.acked(number, |peer| peer.out.pubcomp(super::sending::unshifted(id, peer.shift)))
            }
            Packet::Subscribe { id, filter, qos } => self.subscribe(number, id, &filter, qos),
            Packet::Unsubscribe { id, filter } => self.unsubscribe(number, id, &filter),
            Packet::Disconnect => {
                self.leave(number, true);
                Ok(())
            }
            _ => Err(End),
        };
        if handled.is_err() {
            self.close(number);
        }
    }

    /// The client's end of a connection is gone.
    pub(crate) fn lost(self: &Rc<Self>, link: &Rc<Link>) {
        self.close(link.number);
    }

    /// Has a connection end, as soon as its task has its turn.
    pub(crate) fn close(self: &Rc<Self>, link: u64) {
        {
            let mut broker = self.broker.borrow_mut();
            let Some(peer) = broker.peers.get_mut(&link) else { return };
            if std::mem::replace(&mut peer.is_closing, true) {
                return;
            }
        }
        let process = Rc::clone(self);
        self.spawn(async move {
            process.agenda.sleep(process.agenda.between(0, 4)).await;
            process.leave(link, false);
        });
    }

    /// Does all that follows from the end of a connection, when all that it did is applied: of what went to other shards
    /// nobody could tell who finds the session without a connection.
    fn leave(self: &Rc<Self>, link: u64, has_said_so: bool) {
        let before = self.submitted.get();
        if self.completed.get() >= before || self.has(Bug::DetachTooSoon) {
            return self.detach(link, has_said_so);
        }
        if let Some(peer) = self.broker.borrow_mut().peers.get_mut(&link) {
            peer.is_closing = true;
            peer.pending.clear();
        }
        let process = Rc::clone(self);
        self.spawn(async move {
            process.wait(before).await;
            process.detach(link, has_said_so);
        });
    }

    fn detach(self: &Rc<Self>, link: u64, has_said_so: bool) {
        let (durable, filters, subscriber, expiry, sent) = {
            let mut broker = self.broker.borrow_mut();
            let Some(peer) = broker.peers.remove(&link) else { return };
            if broker.current.get(&peer.client_id) == Some(&link) {
                broker.current.remove(&peer.client_id);
            }
            self.world.close_by_node(&peer.link);
            let sent = peer.out.sent();
            let mut filters = Vec::new();
            if let Some(subscriber) = broker.subscribers.get_mut(&peer.subscriber) {
                if subscriber.peer == Some(link) {
                    subscriber.peer = None;
                    subscriber.sent = subscriber.sent.max(sent);
                }
                if !peer.durable.queue {
                    filters.extend(std::mem::take(&mut subscriber.filters).into_keys());
                }
            }
            (peer.durable, filters, peer.subscriber, peer.expiry, sent)
        };
        for filter in filters {
            self.remove_route(subscriber, &filter);
        }
        let (session, epoch, now) = (durable.session, durable.epoch, self.wall());
        // Whoever leads the session's shard sees to the will, as if this node had died.
        let detach = Op::Detach { session, epoch, expiry: Some(expiry), discard_will: has_said_so, sent, now };
        self.submit(&mut vec![(durable.shard, detach)]);
        self.world.note(Event::Ended { link });
        self.turns.notify();
    }

    pub(crate) async fn see_to_what_is_due(self: Rc<Self>) {
        loop {
            self.agenda.sleep(PERIOD).await;
            for shard in self.all_shards() {
                // Who is not up to date may not know yet who is to have a will.
                if !self.leads(usize::from(shard.0)) || !self.may_acknowledge() {
                    continue;
                }
                let mut due = Vec::new();
                self.shards.borrow_mut()[usize::from(shard.0)].due(self.wall(), &mut due);
                for due in due {
                    let process = Rc::clone(&self);
                    self.spawn(async move { process.handle_due(shard, due).await });
                }
            }
        }
    }

    async fn handle_due(self: Rc<Self>, shard: ShardId, due: Due) {
        match due {
            Due::Will { session, client_id, epoch, .. } => self.fire_will(shard, session, &client_id, epoch).await,
            Due::Expired { session, client_id, .. } => {
                let _claim = self.claim(&client_id).await;
                let position = self.submit(&mut vec![(shard, Op::Expire { session, now: self.wall() })]);
                self.wait(position).await;
            }
            Due::Retained { topic, index } => drop(self.submit(&mut vec![(shard, Op::Forget { topic, index })])),
        }
    }

    /// Publishes a delayed will, if its client has not come back meanwhile.
    async fn fire_will(self: &Rc<Self>, shard: ShardId, session: SessionId, client_id: &Arc<str>, epoch: u64) {
        let _claim = self.claim(client_id).await;
        let message = {
            let (of, now) = (&self.shards.borrow()[usize::from(shard.0)], self.wall());
            let session = of.session(session).filter(|session| {
                session.epoch() == epoch && !session.attached() && session.will_due().is_some_and(|due| due <= now)
            });
            session.and_then(|session| Some(Arc::clone(&session.will()?.message)))
        };
        let Some(message) = message else { return };
        self.publish_due_will(&DueWill { shard, session, epoch, message }).await;
        let position = self.submit(&mut vec![(shard, Op::WillDone { session, epoch })]);
        self.wait(position).await;
    }

    /// Publishes a will; the note that it is done comes when all shards have it, which know it again if it comes twice.
    pub(crate) async fn publish_due_will(self: &Rc<Self>, due: &DueWill) {
        let DueWill { shard, session, epoch, message } = due;
        let publication = publication((*shard, *session), WILL | epoch >> 1, message, true);
        let publication = Some(publication).filter(|_| !self.has(Bug::ForgetWillOrigin));
        let source = Source { message: Arc::clone(message), qos: message.qos, publication };
        let mut ops = Vec::new();
        self.publish_as(&source, &mut ops);
        let position = if ops.is_empty() { self.submitted.get() } else { self.submit(&mut ops) };
        self.wait(position).await;
    }
}
