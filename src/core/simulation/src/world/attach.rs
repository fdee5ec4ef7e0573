//! CONNECT: binding a connection to its session. Mirrors `broker/attach.rs`.

use super::Process;
use super::broker::{Claim, Durable, Peer};
use super::leave::DueWill;
use super::moves::Refused;
use super::network::Link;
use super::packet::{Connect, Packet};
use super::publish::message;
use crate::bugs::Bug;
use crate::history::Event;
use nightjar_mqtt::SubscriptionOptions;
use nightjar_session::{Inbound, Outbound};
use nightjar_shard::{NEVER, Op, Origin, QueueLimits, Session, Will};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// How long a client that comes in waits for the cluster to agree on it.
const AGREEING: u64 = 2_000;
/// How often a client that comes in waits for a will.
const TRIES: usize = 4;
/// Messages under way to a client: few, so that the window is often full.
const WINDOW: u16 = 4;

/// What the store knows of a session at attach.
struct Taken {
    durable: Durable,
    present: bool,
    subscriber: u64,
    head: u64,
    sent: u64,
    inbound: Vec<u16>,
    unsure: BTreeSet<u16>,
    filters: BTreeMap<Arc<str>, SubscriptionOptions>,
}

impl Process {
    /// Takes a connection from its CONNECT to the point where packets can flow.
    pub(crate) async fn take_in(self: Rc<Self>, link: Rc<Link>, connect: Connect) {
        if !self.broker.borrow().is_ready {
            return self.refuse(&link);
        }
        let claim = self.claim(&connect.client_id).await;
        let old = self.broker.borrow().current.get(&connect.client_id).copied();
        if let Some(old) = old {
            self.close(old);
            self.turns.until(|| !self.broker.borrow().peers.contains_key(&old)).await;
        }
        match self.take_session(&connect).await {
            Ok(taken) => self.connect(link, &connect, taken, &claim),
            Err(Refused) => self.refuse(&link),
        }
        drop(claim);
    }

    fn refuse(&self, link: &Rc<Link>) {
        self.world.to_client(link, Packet::ConnAck { present: false, accepted: false });
        self.world.close_by_node(link);
    }

    /// Finds or makes the session, durably.
    async fn take_session(self: &Rc<Self>, connect: &Connect) -> Result<Taken, Refused> {
        for _ in 0..TRIES {
            if let Some(taken) = self.try_session(connect).await? {
                return Ok(taken);
            }
        }
        Err(Refused)
    }

    /// [`Self::take_session`], unless a will is to be published first: then it is to be tried again.
    async fn try_session(self: &Rc<Self>, connect: &Connect) -> Result<Option<Taken>, Refused> {
        let client_id = &connect.client_id;
        let shard = self.shard_of(client_id);
        let was_known = self.shards.borrow()[usize::from(shard.0)].client(client_id).is_some() && !connect.clean;
        self.make_ours(client_id).await?;
        let existing = self.shards.borrow()[usize::from(shard.0)].session_of(client_id);
        let (clean_start, expiry) = (connect.clean, if connect.clean { 0 } else { NEVER });
        let resumes = existing.is_some() && !clean_start;
        let mut ops = Vec::new();
        if let Some(session) = existing {
            if !resumes || !self.has(Bug::ForgetOldConnection) {
                // What the old connection did last must be applied before its session can be settled.
                self.wait(self.submitted.get()).await;
            }
            if let Some(due) = self.due_will(shard, session, resumes) {
                self.publish_due_will(&due).await;
                ops.push((shard, Op::WillDone { session, epoch: due.epoch }));
            }
        }
        let (epoch, home, now) = (self.broker.borrow_mut().new_epoch(), self.home.get(), self.wall());
        let will = connect.will.as_ref().map(|will| {
            Box::new(Will { message: message(&will.topic, will.qos, false, will.number), delay: will.delay })
        });
        let (client_id, user, limits) = (Arc::clone(client_id), None, QueueLimits::UNLIMITED);
        ops.push((shard, Op::AttachFrom { home, client_id, user, clean_start, expiry, epoch, will, limits, now }));
        self.broker.borrow_mut().moves.insert(epoch, None);
        let position = self.submit(&mut ops);
        let in_time = self.agenda.timeout(AGREEING, self.wait(position)).await.is_some();
        let came = self.broker.borrow_mut().moves.remove(&epoch).flatten();
        if !in_time {
            self.detach_when_attached(&connect.client_id, epoch, position);
            return Err(Refused);
        }
        let is_ours = |session: &&Session| session.epoch() == epoch;
        let client_id = &connect.client_id;
        if came.is_none() && self.shards.borrow()[usize::from(shard.0)].client(client_id).filter(is_ours).is_none() {
            return Ok(None);
        }
        self.end_before(came.unwrap_or_default(), client_id).await?;
        let of = &self.shards.borrow()[usize::from(shard.0)];
        let session = of.client(client_id).filter(is_ours).ok_or(Refused)?;
        // What the log says counts: this node's replica may have been behind when it was looked at.
        let mut present = came.map_or(existing == Some(session.id()), |came| came.present);
        if self.has(Bug::PresentBeforeDurable) {
            present = was_known;
        }
        let durable = Durable { shard, session: session.id(), epoch, queue: expiry > 0 || present };
        let mut broker = self.broker.borrow_mut();
        if !durable.queue {
            let subscriber = broker.add_subscriber(None);
            let (inbound, unsure, filters) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
            let taken = Taken { durable, present: false, subscriber, head: 1, sent: 0, inbound, unsure, filters };
            return Ok(Some(taken));
        }
        let subscriber = broker.add_session((shard, session.id()));
        let place = (shard, session.id());
        let noted = |id: &u16| of.has_origin(Origin { session: place, token: u64::from(*id) });
        Ok(Some(Taken {
            durable,
            present,
            subscriber,
            head: session.head(),
            sent: session.sent(),
            inbound: session.inbound().to_vec(),
            unsure: session.inbound().iter().copied().filter(noted).collect(),
            filters: session.subscriptions().map(|(filter, of)| (Arc::clone(filter), of.options)).collect(),
        }))
    }

    /// The will that an earlier connection left behind and that is due, or that ends with its session.
    fn due_will(
        &self,
        shard: nightjar_base::ShardId,
        session: nightjar_base::SessionId,
        resumes: bool,
    ) -> Option<DueWill> {
        let (of, now) = (&self.shards.borrow()[usize::from(shard.0)], self.wall());
        let session = of.session(session).filter(|session| !session.attached())?;
        let will = session.will()?;
        let is_due = match self.has(Bug::AskClockForWill) {
            true => !resumes || session.will_due().is_some_and(|due| due <= now),
            false => session.owes_will(resumes, now),
        };
        if !is_due {
            return None;
        }
        let message = Arc::clone(&will.message);
        Some(DueWill { shard, session: session.id(), epoch: session.epoch(), message })
    }

    /// Makes the connection, sends CONNACK, and lets the session's messages follow it [MQTT-3.2.0-1].
    fn connect(self: &Rc<Self>, link: Rc<Link>, connect: &Connect, taken: Taken, _claim: &Claim) {
        let Taken { durable, present, subscriber, head, sent, inbound, unsure, filters } = taken;
        let number = link.number;
        let is_resumed = present && head < sent;
        let shift = if self.has(Bug::NewPacketId) && is_resumed { 1 + (durable.epoch % 1_000) as u16 } else { 0 };
        let head = if self.has(Bug::DropAtTakeover) { head.max(sent) } else { head };
        {
            let mut broker = self.broker.borrow_mut();
            let sent = broker.subscribers.get(&subscriber).map_or(0, |of| of.sent).max(sent);
            let peer = Peer {
                link: Rc::clone(&link),
                client_id: Arc::clone(&connect.client_id),
                subscriber,
                durable,
                expiry: if connect.clean { 0 } else { NEVER },
                inbound: Inbound::new(65_535, 0, inbound),
                unsure,
                out: Outbound::new(WINDOW, head, sent),
                pending: VecDeque::new(),
                lagging: durable.queue,
                waiting: VecDeque::new(),
                is_closing: false,
                shift,
            };
            broker.peers.insert(number, peer);
            broker.current.insert(Arc::clone(&connect.client_id), number);
            if let Some(subscriber) = broker.subscribers.get_mut(&subscriber) {
                (subscriber.filters, subscriber.peer) = (filters, Some(number));
            }
        }
        let home = self.home.get();
        self.world.note(Event::Served { client: link.client, link: number, node: self.node, home });
        self.world.to_client(&link, Packet::ConnAck { present, accepted: true });
        let is_lost = !self.has_still(durable.shard, durable.session, durable.epoch);
        if is_lost || !link.is_open_for_node() {
            self.close(number);
        }
        self.feed(number);
    }
}
