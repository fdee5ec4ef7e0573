//! What goes to a client, and what it says of it: mirrors `broker/sending.rs`, `feed.rs`, `sink.rs`, and of `packets.rs`
//! the acknowledgements, with the real [`Outbound`](nightjar_session::Outbound).

use super::Process;
use super::broker::{Peer, Waiting};
use super::moves::AttachedSession;
use super::packet::{Packet, Publish};
use super::publish::{End, number_of};
use crate::bugs::Bug;
use crate::history::Event;
use nightjar_base::{SessionId, ShardId};
use nightjar_mqtt::{Message, QoS};
use nightjar_session::{Acked, Offer};
use nightjar_shard::{Effect, Entry, Op};
use std::rc::Rc;
use std::sync::Arc;

/// Entries of a queue that are read together: few, so that queues are often read in parts.
const PAGE: usize = 5;

/// How late a batch may be that somebody else had proposed, in milliseconds.
const LATE: u64 = 10_000;

/// The position of what waits for more than `position`: none that is ever reached.
pub(crate) const fn held(position: u64) -> u64 {
    position | 1 << 63
}

/// What became of an entry that was offered.
#[derive(PartialEq)]
enum Fed {
    Sent,
    Later,
}

fn publish(message: &Message, qos: QoS, retain: bool, dup: bool, id: u16) -> Packet {
    let topic = message.topic().into();
    Packet::Publish(Publish { topic, qos, retain, dup, id, number: number_of(message) })
}

impl Process {
    fn send(&self, peer: &Peer, packet: Packet) {
        if let Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) | Packet::SubAck { .. } = packet {
            self.world.note(Event::Answered { client: peer.link.client, link: peer.link.number });
        }
        self.world.to_client(&peer.link, packet);
    }

    /// An acknowledgement to be sent when `position` is applied, after those before it [MQTT-4.6.0-2]. `None`: as soon as
    /// those before it are sent.
    pub(crate) fn pend(&self, link: u64, position: Option<u64>, packet: Packet) {
        let mut broker = self.broker.borrow_mut();
        let Some(peer) = broker.peers.get_mut(&link).filter(|peer| !peer.is_closing) else { return };
        match position.or(peer.pending.back().map(|(last, _)| *last)) {
            Some(position) => peer.pending.push_back((position, packet)),
            None => self.send(peer, packet),
        }
    }

    /// Sends the acknowledgements whose time has come.
    pub(crate) fn release(&self, link: u64) {
        let (mut broker, completed) = (self.broker.borrow_mut(), self.completed.get());
        let Some(peer) = broker.peers.get_mut(&link) else { return };
        while let Some((_, packet)) = peer.pending.pop_front_if(|(position, _)| *position <= completed) {
            self.send(peer, packet);
        }
    }

    pub(crate) fn release_all(&self) {
        let links: Vec<u64> = self.broker.borrow().peers.keys().copied().collect();
        links.into_iter().for_each(|link| self.release(link));
    }

    /// What was held at `position` waits for nothing but that any more.
    pub(crate) fn open(&self, link: u64, position: u64) {
        let mut broker = self.broker.borrow_mut();
        let Some(peer) = broker.peers.get_mut(&link) else { return };
        peer.pending.iter_mut().filter(|(at, _)| *at == held(position)).for_each(|(at, _)| *at = position);
    }

    /// A message for a connection that is fed live: any at QoS 0, all of a transient session.
    pub(crate) fn deliver_live(&self, link: u64, message: &Arc<Message>, qos: QoS, retain: bool) {
        let mut broker = self.broker.borrow_mut();
        let Some(peer) = broker.peers.get_mut(&link).filter(|peer| !peer.is_closing) else { return };
        if qos == QoS::AtMostOnce {
            return self.send(peer, publish(message, qos, retain, false, 0));
        }
        peer.waiting.push_back(Waiting { message: Arc::clone(message), qos, retain });
        self.send_waiting(peer);
    }

    /// Sends what waits for a transient connection, as far as its window allows.
    fn send_waiting(&self, peer: &mut Peer) {
        while peer.out.has_room() {
            let Some(Waiting { message, qos, retain }) = peer.waiting.pop_front() else { return };
            let (_, id) = peer.out.assign(qos);
            self.send(peer, publish(&message, qos, retain, false, id));
        }
    }

    /// Offers the next entry of the persistent session's queue.
    fn feed_entry(&self, peer: &mut Peer, entry: &Entry) -> Fed {
        if peer.is_closing {
            return Fed::Later;
        }
        match peer.out.offer(entry.sequence, entry.qos, entry.received) {
            Offer::Publish { packet_id, dup } => {
                let id = shifted(packet_id, peer.shift);
                self.send(peer, publish(&entry.message, entry.qos, entry.retain, dup, id));
                Fed::Sent
            }
            Offer::Release { packet_id } => {
                self.send(peer, Packet::PubRel(shifted(packet_id, peer.shift)));
                Fed::Sent
            }
            Offer::Known => Fed::Sent,
            Offer::Later => Fed::Later,
        }
    }

    /// Feeds a connection from its session's queue, as far as its window allows.
    pub(crate) fn feed(&self, link: u64) {
        loop {
            let mut broker = self.broker.borrow_mut();
            let Some(peer) = broker.peers.get_mut(&link).filter(|peer| !peer.is_closing) else { return };
            let Some((shard, session)) = peer.session().filter(|_| peer.lagging && peer.out.has_room()) else { return };
            let (from, most) = (peer.out.next(), peer.out.room().min(PAGE));
            let mut page = Vec::new();
            let (end, next) = self.with_rows(usize::from(shard.0), |of, rows| {
                let end = of.page(rows, session, from, most, 1 << 20, &mut page).expect("rows in memory can be read");
                (end, of.session(session).map_or(0, nightjar_shard::Session::next_sequence))
            });
            let is_whole = page.iter().all(|entry| self.feed_entry(peer, entry) == Fed::Sent);
            if is_whole {
                peer.out.skip_to(end);
            }
            peer.lagging = !is_whole || end < next;
        }
    }

    /// What the shards' ops lead to (`broker/sink.rs`).
    pub(crate) fn effects(self: &Rc<Self>, shard: ShardId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Queued { session, entry } => self.queued((shard, session), &entry),
                Effect::Received { session, sequence } => self.received_durably((shard, session), sequence),
                Effect::Ended { session, subscriptions, .. } => {
                    self.remove_session((shard, session), &subscriptions);
                    self.forget_publisher(shard, session);
                }
                Effect::Attached { session, client_id, home, epoch, present, before } => {
                    let before = before.map(|before| *before);
                    self.attached(&AttachedSession { shard, session, client_id, home, epoch, present, before });
                }
                Effect::Detached { session, home, .. } => self.detached((shard, session), home),
                Effect::Subscribed { session, filter, options } => {
                    if let Some(subscriber) = self.subscriber_of((shard, session)) {
                        self.add_route(subscriber, &filter, options);
                    }
                }
                Effect::Unsubscribed { session, filter } => {
                    let subscriber = self.broker.borrow().sessions.get(&(shard, session)).copied();
                    if let Some(subscriber) = subscriber {
                        self.remove_route(subscriber, &filter);
                    }
                }
                Effect::Dropped { .. } | Effect::InboundReleased { .. } => {}
            }
        }
    }

    fn peer_of(&self, place: (ShardId, SessionId)) -> Option<u64> {
        let broker = self.broker.borrow();
        broker.subscribers.get(broker.sessions.get(&place)?)?.peer
    }

    /// Sends a message that has just been queued, if the connection is not behind.
    fn queued(&self, place: (ShardId, SessionId), entry: &Entry) {
        let Some(link) = self.peer_of(place) else { return };
        let mut broker = self.broker.borrow_mut();
        let Some(peer) = broker.peers.get_mut(&link) else { return };
        if peer.lagging || self.feed_entry(peer, entry) == Fed::Later {
            peer.lagging = true;
        }
    }

    fn received_durably(&self, place: (ShardId, SessionId), sequence: u64) {
        let Some(link) = self.peer_of(place) else { return };
        let mut broker = self.broker.borrow_mut();
        let Some(peer) = broker.peers.get_mut(&link) else { return };
        if let Some(id) = peer.out.released(sequence) {
            let id = shifted(id, peer.shift);
            self.send(peer, Packet::PubRel(id));
        }
    }

    /// What is remembered of an ended session's publications is nothing to anybody any more, once nobody can be publishing
    /// its will any more.
    fn forget_publisher(self: &Rc<Self>, shard: ShardId, session: SessionId) {
        if !self.leads(usize::from(shard.0)) {
            return;
        }
        let process = Rc::clone(self);
        self.spawn(async move {
            let delay = if process.has(Bug::ForgetOriginsAtOnce) { 0 } else { LATE };
            process.agenda.sleep(delay).await;
            let session = (shard, session);
            let known = |of: &ShardId| process.shards.borrow()[usize::from(of.0)].has_publisher(session);
            let forget = |of| (of, Op::ForgetOrigins { session, tokens: Vec::new() });
            let mut ops: Vec<_> = process.all_shards().filter(known).map(forget).collect();
            if !ops.is_empty() {
                process.submit(&mut ops);
            }
        });
    }

    /// PUBACK or PUBCOMP of a client.
    pub(crate) fn acked(&self, link: u64, ack: impl FnOnce(&mut Peer) -> Acked) -> Result<(), End> {
        let acked = {
            let mut broker = self.broker.borrow_mut();
            ack(broker.peers.get_mut(&link).ok_or(End)?)
        };
        self.follow(link, acked)
    }

    /// PUBREC of a client.
    pub(crate) fn pubrec(&self, link: u64, id: u16) -> Result<(), End> {
        let acked = {
            let mut broker = self.broker.borrow_mut();
            let peer = broker.peers.get_mut(&link).ok_or(End)?;
            let acked = peer.out.pubrec(unshifted(id, peer.shift));
            match acked {
                Acked::Received(sequence) if peer.session().is_none() || self.has(Bug::PubrelBeforeDurable) => {
                    peer.out.released(sequence);
                    self.send(peer, Packet::PubRel(id));
                }
                Acked::Again(_) | Acked::Unknown => self.send(peer, Packet::PubRel(id)),
                _ => {}
            }
            acked
        };
        self.follow(link, acked)
    }

    /// Makes durable what an acknowledgement of the client means, and uses the room that it made.
    fn follow(&self, link: u64, acked: Acked) -> Result<(), End> {
        let durable = self.broker.borrow().peers.get(&link).ok_or(End)?.durable;
        let session = durable.session;
        let op = match acked {
            Acked::Complete(sequence) => Op::Acknowledge { session, sequences: vec![sequence] },
            Acked::Received(sequence) => Op::Received { session, sequences: vec![sequence] },
            Acked::Misplaced => return Err(End),
            _ => return Ok(()),
        };
        if durable.queue {
            self.submit(&mut vec![(durable.shard, op)]);
            self.feed(link);
        } else if let Some(peer) = self.broker.borrow_mut().peers.get_mut(&link) {
            self.send_waiting(peer);
        }
        Ok(())
    }
}

pub(crate) fn shifted(id: u16, shift: u16) -> u16 {
    if shift == 0 { id } else { id.wrapping_add(shift).max(1) }
}

pub(crate) fn unshifted(id: u16, shift: u16) -> u16 {
    if shift == 0 { id } else { id.wrapping_sub(shift) }
}
