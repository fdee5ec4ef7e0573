//! The life of a PUBLISH on its node: mirrors `broker/publish.rs`, `durable.rs`, and of `packets.rs` what clients publish.

use super::Process;
use super::broker::Durable;
use super::packet::{Packet, Publish};
use crate::broker::Publication;
use crate::bugs::Bug;
use nightjar_base::{HomeId, SessionId, ShardId};
use nightjar_mqtt::{Message, QoS};
use nightjar_session::Arrival;
use nightjar_shard::{Op, Origin, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Why a connection ends at once.
pub(crate) struct End;

/// A message on its way to its receivers.
pub(crate) struct Source {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) publication: Option<Publication>,
}

/// Ops and acknowledgements of one read, which is of one packet here.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) ops: Vec<(ShardId, Op)>,
    pub(crate) acks: Vec<(bool, Packet)>,
    /// Something was submitted already that the acknowledgements wait for.
    pub(crate) waits: bool,
}

impl Read {
    /// An acknowledgement, which waits for what is submitted if it is `durable`.
    pub(crate) fn acknowledge(&mut self, durable: bool, packet: Packet) {
        self.acks.push((durable, packet));
    }
}

/// What tells a message from another one of the same packet identifier.
pub(crate) fn publication(session: (ShardId, SessionId), token: u64, message: &Message, again: bool) -> Publication {
    let digest = crate::history::hash(&[message.topic_bytes(), &[0], message.payload()].concat());
    Publication { origin: Origin { session, token }, digest, again }
}

/// A message whose payload is its number.
pub(crate) fn message(topic: &str, qos: QoS, retain: bool, number: u64) -> Arc<Message> {
    let mut message = Message::new(topic, &[], &number.to_le_bytes());
    (message.qos, message.retain) = (qos, retain);
    Arc::new(message)
}

/// The number of a message.
pub(crate) fn number_of(message: &Message) -> u64 {
    message.payload().iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl Process {
    /// PUBLISH of a client.
    pub(crate) fn published(self: &Rc<Self>, link: u64, publish: &Publish) -> Result<(), End> {
        let mut read = Read::default();
        let (durable, subscriber, is_repeat) = {
            let mut broker = self.broker.borrow_mut();
            let peer = broker.peers.get_mut(&link).ok_or(End)?;
            let arrives = publish.qos == QoS::ExactlyOnce && peer.inbound.exactly_once(publish.id) == Arrival::Repeat;
            let is_repeat = arrives && !peer.unsure.remove(&publish.id);
            (peer.durable, peer.subscriber, is_repeat)
        };
        if is_repeat {
            // Behind whatever still waits for the first one's durability.
            read.acknowledge(false, Packet::PubRec(publish.id));
            self.finish(link, read, false);
            return Ok(());
        }
        if publish.qos > QoS::AtMostOnce && !self.may_acknowledge() {
            return Err(End);
        }
        self.accept(durable, subscriber, publish, &mut read);
        let durably = (!read.ops.is_empty() || read.waits) && !self.has(Bug::PubackBeforeDurable);
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => read.acknowledge(durably, Packet::PubAck(publish.id)),
            QoS::ExactlyOnce => {
                if durable.queue {
                    self.note_publication(durable, publish.id, &mut read);
                    let op = Op::InboundReceived { session: durable.session, packet_id: publish.id };
                    read.ops.push((durable.shard, op));
                }
                let durably = (durably || durable.queue) && !self.has(Bug::PubackBeforeDurable);
                read.acknowledge(durably, Packet::PubRec(publish.id));
            }
        }
        self.finish(link, read, false);
        Ok(())
    }

    /// Routes a message that is accepted.
    fn accept(self: &Rc<Self>, durable: Durable, subscriber: u64, publish: &Publish, read: &mut Read) {
        let message = message(&publish.topic, publish.qos, publish.retain, publish.number);
        let place = (durable.shard, durable.session);
        let is_known = durable.queue && publish.qos == QoS::ExactlyOnce && !self.has(Bug::ForgetOrigin);
        let publication = is_known.then(|| publication(place, publish.id.into(), &message, publish.dup));
        let source = Source { message, qos: publish.qos, publication };
        if publish.retain {
            // Submitted first and routed after: whoever subscribes in between finds it among the retained ones.
            self.submit(&mut vec![self.retain(&source)]);
            read.waits = true;
        }
        self.deliver(&source, subscriber, &mut read.ops);
    }

    /// The session's own shard knows of the publication, too, if only by its origin.
    fn note_publication(&self, of: Durable, packet_id: u16, read: &mut Read) {
        let origin = Origin { session: (of.shard, of.session), token: packet_id.into() };
        let is_noted = |op: &(ShardId, Op)| {
            op.0 == of.shard && matches!(&op.1, Op::EnqueueFrom { origin: noted, .. } if *noted == origin)
        };
        if !self.has(Bug::ForgetOrigin) && !read.ops.iter().any(is_noted) {
            let message = Arc::new(Message::new("", &[], &[]));
            let (targets, variants, now) = (Vec::new(), Box::default(), self.wall());
            read.ops.push((of.shard, Op::EnqueueFrom { origin, digest: 0, message, targets, variants, now }));
        }
    }

    /// The op that makes a message its topic's retained one.
    fn retain(&self, source: &Source) -> (ShardId, Op) {
        let (message, now) = (Arc::clone(&source.message), self.wall());
        let op = match source.publication {
            Some(Publication { origin, digest, .. }) => Op::RetainFrom { origin, digest, message, now },
            None => Op::Retain { message, now },
        };
        (self.shard_of(source.message.topic()), op)
    }

    /// Publishes from inside the broker.
    pub(crate) fn publish_as(self: &Rc<Self>, source: &Source, ops: &mut Vec<(ShardId, Op)>) {
        if source.message.retain {
            self.submit(&mut vec![self.retain(source)]);
        }
        self.deliver(source, 0, ops);
    }

    /// Routes one message: delivers what goes live, and appends to `ops` what must be durable.
    fn deliver(self: &Rc<Self>, source: &Source, publisher: u64, ops: &mut Vec<(ShardId, Op)>) {
        let topic = source.message.topic();
        let had_live = source.publication.is_some() && !self.broker.borrow_mut().recent.admit(source.publication);
        let plan = self.broker.borrow().router.plan(topic, publisher);
        let mut away: BTreeSet<HomeId> = self.far(topic).into_iter().collect();
        let mut shards: BTreeMap<ShardId, Vec<Target>> = BTreeMap::new();
        for receiver in &plan.receivers {
            let qos = source.qos.min(receiver.qos);
            let retain = source.message.retain && receiver.retain_as_published;
            let (session, peer, elsewhere) = {
                let broker = self.broker.borrow();
                let Some(subscriber) = broker.subscribers.get(&receiver.id) else { continue };
                (subscriber.session, subscriber.peer, subscriber.elsewhere)
            };
            match (session.filter(|_| qos > QoS::AtMostOnce), peer, elsewhere) {
                (Some((shard, session)), ..) => {
                    let target = Target { session, qos, retain, identifiers: Vec::new(), share: None };
                    shards.entry(shard).or_default().push(target);
                }
                (None, Some(link), _) if !had_live => self.deliver_live(link, &source.message, qos, retain),
                (None, None, Some(home)) => drop(away.insert(home)),
                _ => {}
            }
        }
        self.send_away(source, &away);
        let (message, now) = (&source.message, self.wall());
        for (shard, targets) in shards {
            let message = Arc::clone(message);
            let op = match source.publication {
                Some(Publication { origin, digest, .. }) => {
                    Op::EnqueueFrom { origin, digest, message, targets, variants: Box::default(), now }
                }
                None => Op::Enqueue { message, targets, now },
            };
            ops.push((shard, op));
        }
    }

    /// PUBREL of a client.
    pub(crate) fn pubrel(self: &Rc<Self>, link: u64, packet_id: u16) -> Result<(), End> {
        let mut read = Read::default();
        let (durable, known, unsure) = {
            let mut broker = self.broker.borrow_mut();
            let peer = broker.peers.get_mut(&link).ok_or(End)?;
            let known = peer.inbound.release(packet_id);
            (peer.durable, known, peer.unsure.remove(&packet_id) || !known)
        };
        let session = (durable.shard, durable.session);
        if durable.queue {
            for shard in self.all_shards() {
                if unsure || self.shards.borrow()[usize::from(shard.0)].has_publisher(session) {
                    read.ops.push((shard, Op::ForgetOrigins { session, tokens: vec![packet_id.into()] }));
                }
            }
        }
        if durable.queue && known {
            read.ops.push((durable.shard, Op::InboundReleased { session: durable.session, packet_id }));
        }
        let durably = !read.ops.is_empty();
        read.acknowledge(durably, Packet::PubComp(packet_id));
        self.finish(link, read, false);
        Ok(())
    }

    /// Submits the ops of a read together, and lines up its acknowledgements. `settles`: the last one is held until all
    /// nodes know. Returns the position of what was submitted.
    pub(crate) fn finish(self: &Rc<Self>, link: u64, mut read: Read, settles: bool) -> u64 {
        let position = if read.ops.is_empty() { self.submitted.get() } else { self.submit(&mut read.ops) };
        for (durable, packet) in read.acks {
            let position =
                (durable || settles).then(|| if settles { super::sending::held(position) } else { position });
            self.pend(link, position, packet);
        }
        self.release(link);
        position
    }
}
