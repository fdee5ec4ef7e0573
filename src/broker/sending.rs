//! What waits to be sent to one client, and when it may go: the part of a peer that its lock guards.

mod acks;
mod figures;
mod fresh;
mod parts;

use fresh::Fresh;

pub(crate) use acks::held;
pub(crate) use figures::Figures;
pub(crate) use parts::{Copy, Fed, Pending, Readiness, SendLimits, SharedUnderWay};

use super::drops::{Drops, Reason};
use super::outbox::{Outbox, SHARE_FROM};
use super::peer::{Close, Peer};
use super::replay::Replay;
use super::source::Source;
use super::waiting::{Waiting, WaitingQueue};
use super::{stats, trace};
use crate::env::clock;
use crate::store::Store;
use nightjar_base::{Position, SessionId, ShardId, Tick, Wall};
use nightjar_mqtt::{
    Delivery, Message, PacketType, PublishParts, QoS, ReasonCode, Version, encode_ack, encode_publish,
    encode_publish_head, publish_size,
};
use nightjar_policy::Rights;
use nightjar_session::{Aliases, Offer, Outbound};
use nightjar_shard::Entry;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// The sending state of one connection.
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) outbox: Outbox,
    /// Noted by some thread, to be flushed at the end of its turn.
    pub(crate) scheduled: bool,
    /// Some thread is in a system call with the outbox's bytes.
    pub(crate) writing: bool,
    /// The socket was full; the connection's task waits for it.
    pub(crate) blocked: bool,
    /// Since when, as the connection's timer first saw it.
    pub(crate) blocked_since: Option<Tick>,
    /// The socket failed; nothing more is written.
    pub(crate) broken: bool,
    /// The connection is over: nothing more is appended.
    pub(crate) closed: bool,
    pub(crate) close: Option<Close>,
    pub(crate) out: Outbound,
    /// Most clients allow none.
    aliases: Option<Box<Aliases>>,
    limits: SendLimits,
    /// What the client may be sent, where that is not everything.
    rights: Option<Box<(Rights, u64)>>,
    pending: VecDeque<(Position, Pending)>,
    pending_pubacks: usize,
    /// The persistent session that feeds this connection; a transient one has `waiting` instead.
    pub(crate) session: Option<(ShardId, SessionId)>,
    /// The queue of a transient session; idle and persistent ones have none.
    waiting: Option<Box<WaitingQueue>>,
    /// The session's queue holds messages that were not offered yet.
    pub(crate) lagging: bool,
    /// Somebody reads the queue for this connection now.
    pub(crate) feeding: bool,
    pub(crate) replays: VecDeque<Replay>,
    /// The filter of the replay that the feeder has in hand; `None` once another request has made it void.
    pub(crate) stepping: Option<Arc<str>>,
    /// Messages of shared subscriptions under way on a transient session: they go to another member if this one leaves.
    #[allow(clippy::box_collection, reason = "most connections have none: eight bytes in each, not thirty-two")]
    shared: Option<Box<VecDeque<(u64, SharedUnderWay)>>>,
    /// PUBLISH packets sent on this connection.
    pub(crate) sent: u64,
    pub(crate) drops: Drops,
    /// Messages that were retained while retained messages are replayed: they stand for what the replay still finds.
    fresh: Option<Box<Fresh>>,
    /// Whose state this is; set once, when its peer is made.
    pub(crate) peer: Weak<Peer>,
}

impl State {
    pub(crate) fn new(
        version: Version,
        out: Outbound,
        aliases: Option<Aliases>,
        limits: SendLimits,
        session: Option<(ShardId, SessionId)>,
    ) -> Self {
        Self {
            version,
            outbox: Outbox::default(),
            scheduled: false,
            writing: false,
            blocked: false,
            blocked_since: None,
            broken: false,
            closed: false,
            close: None,
            out,
            aliases: aliases.map(Box::new),
            limits,
            rights: None,
            pending: VecDeque::new(),
            pending_pubacks: 0,
            session,
            waiting: None,
            lagging: false,
            feeding: false,
            replays: VecDeque::new(),
            stepping: None,
            shared: None,
            sent: 0,
            drops: Drops::default(),
            fresh: None,
            peer: Weak::new(),
        }
    }

    /// What the client may be sent from now on. What comes before `sent` in its session's queue was sent before, crash or
    /// no crash: it is sent again even if a right has gone since [MQTT-4.3.3-7].
    pub(crate) fn set_rights(&mut self, rights: &Rights, sent: u64) {
        self.rights = (!rights.is_open()).then(|| Box::new((rights.clone(), sent)));
    }

    /// Counts and remembers a message that the client is not sent.
    fn dropped(&mut self, reason: Reason, topic: &[u8]) {
        self.drops.note(reason, topic);
        if trace::on()
            && let Some(peer) = self.peer.upgrade()
        {
            trace::dropped(clock::wall(), &peer, topic, reason.name());
        }
    }

    /// Whether the client may have what was published on `topic`: asked again for what has waited since.
    pub(crate) fn may_receive(&mut self, topic: &str) -> bool {
        let may = self.rights.as_ref().is_none_or(|rights| rights.0.receive(topic));
        if !may {
            self.dropped(Reason::Denied, topic.as_bytes());
        }
        may
    }

    /// Whether another QoS 1 or 2 message may be sent now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.out.has_room() && !self.is_slow()
    }

    /// Whether a message of a shared subscription can go here now.
    #[inline]
    pub(crate) fn readiness(&self) -> Readiness {
        if self.is_over() {
            Readiness::Absent
        } else if self.has_room() && !self.lagging && !self.has_waiting() {
            Readiness::Ready
        } else {
            Readiness::Busy
        }
    }

    /// Whether the client reads more slowly than it is written to.
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        self.outbox.len() >= self.limits.outbox_high
    }

    /// Whether more waits than one connection may hold.
    pub(crate) fn is_overfull(&self) -> bool {
        self.outbox.len() > self.limits.outbox_max
    }

    /// Notes a message that was retained and is on its way to the client: what a replay that is going on reads of the same
    /// topic may be older.
    pub(crate) fn note_fresh(&mut self, message: &Arc<Message>, store: &Store) {
        let reading = self.stepping.is_some();
        if (reading || !self.replays.is_empty()) && !self.fresh.get_or_insert_default().note(message, store, reading) {
            self.close.get_or_insert(Close::TooSlow);
        }
    }

    /// The newest message of a topic, where a replay has read `found`.
    pub(crate) fn freshest(&self, found: &Arc<Message>) -> Arc<Message> {
        let fresh = self.fresh.as_ref().and_then(|fresh| fresh.get(found.topic()));
        Arc::clone(fresh.unwrap_or(found))
    }

    /// The last replay is over.
    pub(crate) fn end_replays(&mut self) {
        if self.replays.is_empty() && self.stepping.is_none() {
            self.fresh = None;
        }
    }

    /// Makes the replays of `filter` void.
    pub(crate) fn drop_replays(&mut self, filter: &str) {
        self.replays.retain(|replay| **replay.filter() != *filter);
        if self.stepping.as_deref() == Some(filter) {
            self.stepping = None;
        }
    }

    /// Whether nothing can be sent any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.closed || self.broken
    }

    /// Whether the feeder has something to do for this connection.
    #[inline]
    pub(crate) fn wants_feed(&self) -> bool {
        !self.is_over()
            && (self.lagging || self.has_waiting() || !self.replays.is_empty())
            && !self.feeding
            && self.has_room()
    }

    /// A message for a connection that is fed live: any at QoS 0, all of a transient session.
    /// Returns whether the outbox has grown.
    pub(crate) fn deliver(&mut self, source: &Source<'_>, copy: &Copy<'_>, many: bool) -> bool {
        if self.closed || self.broken {
            return false;
        }
        // The route of a persistent session may have been drawn while it was away, and its rights were not known.
        if self.session.is_some()
            && self.rights.is_some()
            && !std::str::from_utf8(source.parts().topic).is_ok_and(|topic| self.may_receive(topic))
        {
            return false;
        }
        if copy.qos == QoS::AtMostOnce {
            if self.is_slow() {
                self.dropped(Reason::Slow, source.parts().topic);
                return false;
            }
            return self.send(source, copy, 0, false, many);
        }
        if self.has_waiting() || !self.has_room() {
            self.wait(source.message(), copy);
            return false;
        }
        self.send_acknowledged(source, copy, many)
    }

    fn send_acknowledged(&mut self, source: &Source<'_>, copy: &Copy<'_>, many: bool) -> bool {
        if !self.fits(&source.parts(), copy) {
            return false;
        }
        let (sequence, packet_id) = self.out.assign(copy.qos);
        if let Some(share) = copy.share {
            let under_way =
                SharedUnderWay { message: Arc::clone(source.message()), qos: copy.qos, share: Arc::clone(share) };
            self.shared.get_or_insert_default().push_back((sequence, under_way));
        }
        self.send(source, copy, packet_id, false, many)
    }

    /// Puts a message of a transient session into its queue, which is bounded.
    fn wait(&mut self, message: &Arc<Message>, copy: &Copy<'_>) {
        let queue = self.waiting.get_or_insert_default();
        if !queue.push(message, copy, &self.limits.waiting, &mut self.drops) {
            self.close.get_or_insert(Close::QueueFull);
        }
    }

    /// Sends what waits in a transient session's queue, as far as the window allows. `now` for message expiry.
    /// Returns whether the outbox has grown.
    pub(crate) fn pump(&mut self, now: Wall) -> bool {
        let mut grown = false;
        while self.has_room() {
            let Some(waiting) = self.next_waiting() else { break };
            if waiting.message.is_expired(now) {
                self.dropped(Reason::Expired, waiting.message.topic_bytes());
                continue;
            }
            if !self.may_receive(waiting.message.topic()) {
                continue;
            }
            let source = Source::of_message(&waiting.message, now);
            let copy = Copy {
                qos: waiting.qos,
                retain: waiting.retain,
                identifiers: &waiting.identifiers,
                share: waiting.share.as_ref(),
            };
            grown |= self.send_acknowledged(&source, &copy, true);
        }
        grown
    }

    fn next_waiting(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.as_mut()?.pop();
        if waiting.is_none() {
            self.waiting = None;
        }
        waiting
    }

    /// Whether a transient session's queue holds messages.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    /// Offers the next entry of the persistent session's queue.
    pub(crate) fn feed(&mut self, entry: &Entry, now: Wall) -> Fed {
        if self.closed || self.broken {
            return Fed::Later;
        }
        if entry.sequence < self.out.next() {
            return Fed::Sent;
        }
        if !self.has_room() {
            return Fed::Later;
        }
        let identifiers = entry.identifiers.as_deref().unwrap_or_default();
        let copy = Copy { qos: entry.qos, retain: entry.retain, identifiers, share: None };
        if !entry.received {
            // What was sent before is never given up [MQTT-4.3.3-7].
            let expired = entry.sequence >= self.out.sent() && entry.message.is_expired(now);
            if expired {
                self.dropped(Reason::Expired, entry.message.topic_bytes());
            }
            let sent = self.rights.as_ref().is_some_and(|rights| entry.sequence < rights.1);
            let denied = !sent && !self.may_receive(entry.message.topic());
            let source = Source::of_message(&entry.message, now);
            if expired || denied || !self.fits(&source.parts(), &copy) {
                self.out.skip_to(entry.sequence + 1);
                return Fed::Done;
            }
            if entry.qos == QoS::AtMostOnce {
                self.out.skip_to(entry.sequence + 1);
                self.send(&source, &copy, 0, false, true);
                return Fed::Done;
            }
        }
        match self.out.offer(entry.sequence, entry.qos, entry.received) {
            Offer::Publish { packet_id, dup } => {
                let source = Source::of_message(&entry.message, now);
                self.send(&source, &copy, packet_id, dup, true);
                Fed::Sent
            }
            Offer::Release { packet_id } => {
                self.acknowledge(PacketType::PubRel, packet_id, ReasonCode::Success);
                Fed::Sent
            }
            Offer::Known => Fed::Sent,
            Offer::Later => Fed::Later,
        }
    }

    /// Whether the packet is within the client's Maximum Packet Size [MQTT-3.1.2-24]; what is not is never sent
    /// [MQTT-3.1.2-25].
    fn fits(&mut self, parts: &PublishParts<'_>, copy: &Copy<'_>) -> bool {
        if self.limits.packet == usize::MAX {
            return true;
        }
        let delivery = Delivery {
            qos: copy.qos,
            retain: copy.retain,
            dup: false,
            packet_id: 1,
            identifiers: copy.identifiers,
            alias: None,
        };
        let fits = publish_size(self.version, parts, &delivery) <= self.limits.packet;
        if !fits {
            self.dropped(Reason::TooLarge, parts.topic);
        }
        fits
    }

    /// The alias for the topic. A new one makes the packet larger: not where that could be too large.
    fn alias(&mut self, parts: &PublishParts<'_>, copy: &Copy<'_>) -> Option<(u16, bool)> {
        let limit = self.limits.packet;
        let aliases = self.aliases.as_mut()?;
        let most = parts.topic.len() + parts.properties.len() + parts.payload.len() + 5 * copy.identifiers.len() + 32;
        if limit != usize::MAX && most > limit && !aliases.knows(parts.topic) {
            return None;
        }
        aliases.get(parts.topic)
    }

    /// Appends one PUBLISH. `many`: the payload has other receivers too, or is held anyway.
    #[inline]
    fn send(&mut self, source: &Source<'_>, copy: &Copy<'_>, packet_id: u16, dup: bool, many: bool) -> bool {
        let parts = source.parts();
        if copy.qos == QoS::AtMostOnce && !self.fits(&parts, copy) {
            return false;
        }
        let alias = self.alias(&parts, copy);
        let delivery =
            Delivery { qos: copy.qos, retain: copy.retain, dup, packet_id, identifiers: copy.identifiers, alias };
        if many && parts.payload.len() >= SHARE_FROM {
            encode_publish_head(self.version, &parts, &delivery, self.outbox.buffer());
            self.outbox.share_payload(Arc::clone(source.message()));
        } else {
            encode_publish(self.version, &parts, &delivery, self.outbox.buffer());
        }
        self.sent += 1;
        if trace::on()
            && let Some(peer) = self.peer.upgrade()
        {
            trace::sent(clock::wall(), &peer, parts.topic, copy.qos as u8, packet_id, parts.payload.len());
        }
        stats::add(|s| &s.publish_sent, 1);
        stats::add(|s| &s.packets_sent, 1);
        stats::add(|s| &s.publish_bytes_sent, parts.payload.len() as u64);
        true
    }

    /// Appends an acknowledgement that says nothing that is not true yet.
    #[inline]
    pub(crate) fn acknowledge(&mut self, kind: PacketType, packet_id: u16, reason: ReasonCode) {
        if !self.closed {
            encode_ack(kind, self.version, packet_id, reason, self.outbox.buffer());
            stats::add(|s| &s.packets_sent, 1);
        }
    }

    /// Whether the client takes a packet of `size` bytes [MQTT-3.1.2-24].
    pub(crate) fn takes(&self, size: usize) -> bool {
        size <= self.limits.packet
    }

    /// Appends a whole packet.
    pub(crate) fn packet(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.outbox.buffer().extend_from_slice(bytes);
            stats::add(|s| &s.packets_sent, 1);
        }
    }

    /// The message with `sequence` is with the client: it need not go to another member of its group any more.
    pub(crate) fn shared_done(&mut self, sequence: u64) {
        if let Some(shared) = &mut self.shared
            && let Ok(index) = shared.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
        {
            shared.remove(index);
        }
    }

    /// Ends the state: nothing is appended any more. Returns the shared subscriptions' messages that another member
    /// is to get, in order.
    pub(crate) fn finish(&mut self) -> Vec<SharedUnderWay> {
        self.closed = true;
        self.lagging = false;
        self.replays.clear();
        // A QoS 2 message that was sent stays with this client, wherever it has got to [MQTT-4.8.2-5].
        let under_way = self.shared.take().into_iter().flat_map(|shared| *shared).map(|(_, under_way)| under_way);
        let under_way = under_way.filter(|under_way| under_way.qos == QoS::AtLeastOnce);
        let waiting = self.waiting.take().into_iter().flat_map(|queue| queue.into_messages()).filter_map(|waiting| {
            let share = waiting.share?;
            Some(SharedUnderWay { message: waiting.message, qos: waiting.qos, share })
        });
        under_way.chain(waiting).collect()
    }
}
