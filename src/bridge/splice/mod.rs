//! Two MQTT connections spliced into one: what one side sends is passed on to the other under *the same packet
//! identifier*, acknowledgements too.
//!
//! ```text
//! this broker ─ PUBLISH 7 ─> bridge ─ PUBLISH 7 ─> remote        (out)
//!             <─ PUBACK 7 ─         <─ PUBACK 7 ─
//! this broker <─ PUBLISH 9 ─ bridge <─ PUBLISH 9 ─ remote        (in)
//!              ─ PUBREC 9 ─>         ─ PUBREC 9 ─>
//!             <─ PUBREL 9 ─         <─ PUBREL 9 ─
//!              ─ PUBCOMP 9 ─>        ─ PUBCOMP 9 ─>
//! ```
//!
//! So nothing needs to outlive a connection here. What must outlive a crash is in the two sessions, this broker's and the
//! remote's, and each end repeats what it has to under the identifier it had: a message of QoS 2 is exactly once from end
//! to end because each half of the way is. Pure: bytes in, bytes and events out.

mod inward;
mod outward;

use super::counts::Counts;
use super::echo::Echoes;
use nightjar_base::{Tick, Wall};
use nightjar_mqtt::{
    DecodeError, Disconnect, Message, Packet, PacketType, PublishRef, QoS, ReasonCode, SubAck, Version, decode,
    encode_ack, frame,
};
use nightjar_policy::{TopicRules, Way};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What the remote takes.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub(super) version: Version,
    /// The largest packet, in bytes.
    pub(super) max_packet: usize,
    pub(super) max_qos: QoS,
    /// Whether it knows PUBREL: it does unless it said itself that it takes no QoS 2.
    pub(super) takes_pubrel: bool,
    /// Whether retain flags are sent: the remote keeps retained messages, and nobody said otherwise.
    pub(super) retain: bool,
    pub(super) max_topic_length: usize,
    pub(super) max_topic_levels: usize,
    /// Whether it may send back what it was sent, and for how many milliseconds that is remembered.
    pub(super) echoes: Option<u64>,
}

/// What this broker takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    /// The largest packet, in bytes.
    pub(super) max_packet: usize,
    /// Whether it keeps retained messages.
    pub(super) retain: bool,
}

/// Bytes for either side.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) local: Vec<u8>,
    pub(super) remote: Vec<u8>,
}

/// What does not concern messages, or needs more than bytes.
#[derive(Debug)]
pub(super) enum Event {
    /// The remote will never take a message of this broker's queue: [`Splice::settle`] is to be called when it is where
    /// it is to go.
    SetAside { packet_id: u16, qos: QoS, topic: String, why: Why, message: Option<Message> },
    /// The remote has answered SUBSCRIBE.
    Subscribed(SubAck),
    /// This broker has begun to send what is retained: what is retained from now on it sends once.
    Replays,
    /// The remote says whether a bridge of its own, with this client identifier, is connected somewhere.
    RemoteBridge { client_id: String, there: bool },
    /// The remote has answered PINGREQ.
    Pong,
    /// The remote sends what it was asked for by this filter, which no rule brings in any more.
    Unwanted(String),
    /// A message of the remote was not taken: too large, or refused here.
    NotTaken { topic: String, why: String },
}

/// Why a message is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its packet, its topic or the depth of its topic.
    TooLarge,
    /// The remote said so.
    Refused(ReasonCode),
    /// The remote has closed the connection at it, again and again.
    ClosedAt,
}

impl Why {
    pub(super) fn in_words(self) -> String {
        match self {
            Self::TooLarge => "it is larger, or its topic longer or deeper, than the remote takes".to_owned(),
            Self::Refused(reason) => format!("the remote refused it: {reason:?} (0x{:02x})", reason.as_u8()),
            Self::ClosedAt => "the remote closed the connection at it, again and again".to_owned(),
        }
    }
}

/// Why the two are not spliced any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("what the remote sent is no MQTT: {0}")]
    Remote(DecodeError),
    #[error("the remote sent {0:?}, which only a client sends")]
    Misplaced(PacketType),
    #[error("the remote closed the connection: {}{}", in_words(.0), said(.0))]
    RemoteClosed(Box<Disconnect>),
    #[error("the remote does not take messages at present: {0:?} (0x{code:02x})", code = .0.as_u8())]
    RemoteBusy(ReasonCode),
    #[error("this broker ended the bridge's connection: {0:?}")]
    LocalClosed(ReasonCode),
    #[error("this broker does not take messages at present: {0:?}")]
    LocalBusy(ReasonCode),
    #[error("within this broker: {0}")]
    Local(DecodeError),
}

fn in_words(disconnect: &Disconnect) -> String {
    format!("{:?} (0x{:02x})", disconnect.reason, disconnect.reason.as_u8())
}

fn said(disconnect: &Disconnect) -> String {
    disconnect.properties.reason_string.as_ref().map(|said| format!(": {}", said.escape_debug())).unwrap_or_default()
}

/// The splice of one connection to the remote with one to this broker.
pub(super) struct Splice {
    rules: Arc<TopicRules>,
    counts: Arc<Counts>,
    remote: Remote,
    local: Local,
    echoes: Option<Echoes>,
    /// Packet identifiers of messages that the remote has not acknowledged, in the order in which they were sent.
    unacknowledged: VecDeque<u16>,
    /// The message at which the remote closes the connection.
    condemned: Option<u16>,
    /// Copies of what is under way, where what the remote refuses is to be kept.
    copies: Option<HashMap<u16, Message>>,
    /// QoS 2 messages of this broker that were sent at QoS 1, since the remote takes no more.
    lowered: HashSet<u16>,
    /// Filters of rules that only carry out by which the remote sends all the same.
    unwanted: HashSet<String>,
    /// PUBCOMP of this broker that the remote has not asked for.
    unasked: HashSet<u16>,
    /// Bytes of a packet of the remote's that is too large to be held.
    skip: usize,
    acknowledged: bool,
    /// A message that the remote has not acknowledged, by which is measured how long it takes, and when it was sent.
    timed: Option<(u16, Tick)>,
    /// How many milliseconds the last that was measured took.
    pub(super) round_trip: Option<u64>,
    /// Messages of the remote's are among what waits for this broker.
    pub(super) brought: bool,
    pub(super) events: Vec<Event>,
    pub(super) now: Tick,
    /// The time on the wall, for what expires.
    pub(super) wall: Wall,
    scratch: Vec<u8>,
}

impl Splice {
    pub(super) fn new(rules: Arc<TopicRules>, counts: Arc<Counts>, remote: Remote, local: Local) -> Self {
        Self {
            rules,
            counts,
            echoes: remote.echoes.map(Echoes::new),
            remote,
            local,
            unacknowledged: VecDeque::new(),
            condemned: None,
            copies: None,
            lowered: HashSet::new(),
            unwanted: HashSet::new(),
            unasked: HashSet::new(),
            skip: 0,
            acknowledged: false,
            timed: None,
            round_trip: None,
            brought: false,
            events: Vec::new(),
            now: Tick::default(),
            wall: Wall::default(),
            scratch: Vec::new(),
        }
    }

    /// What is spoken with the remote.
    pub(super) fn version(&self) -> Version {
        self.remote.version
    }

    /// Keeps copies of what is under way, for what the remote refuses.
    pub(super) fn keep_copies(&mut self) {
        self.copies = Some(HashMap::new());
    }

    /// The message with this identifier is not to be sent any more.
    pub(super) fn condemn(&mut self, packet_id: u16) {
        self.condemned = Some(packet_id);
    }

    /// Whether the message that is not to be sent any more has not come yet.
    pub(super) fn waits_for_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    /// The oldest message that the remote has not acknowledged.
    pub(super) fn suspect(&self) -> Option<u16> {
        self.unacknowledged.front().copied()
    }

    /// Whether the remote has acknowledged anything on this connection.
    pub(super) fn has_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// How many messages the remote has not acknowledged.
    pub(super) fn under_way(&self) -> usize {
        self.unacknowledged.len()
    }

    /// The remote does not know the session any more: what this broker holds of it as received is released, or a new
    /// message under the same identifier would be taken for the old one.
    pub(super) fn release(&mut self, packet_ids: &[u16], out: &mut Buffers) {
        for &packet_id in packet_ids {
            encode_ack(PacketType::PubRel, Version::V5, packet_id, ReasonCode::Success, &mut out.local);
            self.unasked.insert(packet_id);
        }
    }

    /// Takes a message that the remote will not have off this broker's queue.
    pub(super) fn settle(packet_id: u16, qos: QoS, out: &mut Buffers) {
        let (kind, reason) = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => (PacketType::PubAck, ReasonCode::Success),
            // An error ends the exchange with this packet [MQTT-4.3.3-9].
            QoS::ExactlyOnce => (PacketType::PubRec, ReasonCode::UnspecifiedError),
        };
        encode_ack(kind, Version::V5, packet_id, reason, &mut out.local);
    }

    /// The properties with which a message goes on that goes `way`. The answer to it comes back by the other way, from
    /// where it is expected there.
    fn passed_on<'b>(&self, way: Way, publish: &PublishRef<'b>, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        let answer_at = publish.properties.response_topic.and_then(|topic| self.rules.origin(way.back(), topic));
        match answer_at {
            Some(topic) => publish.properties.forwarded_answering_to(&topic, scratch),
            None => publish.properties.forwarded(scratch),
        }
    }

    /// Takes what this broker sent; how many bytes of it are done with.
    pub(super) fn take_local(&mut self, input: &[u8], out: &mut Buffers) -> Result<usize, Broken> {
        let mut taken = 0;
        while let Some(frame) =
            frame::peek(&input[taken..], nightjar_mqtt::MAX_PACKET_SIZE, Version::V5).map_err(Broken::Local)?
        {
            taken += frame.size;
            if frame.kind == PacketType::Publish {
                self.publish_out(&frame, out)?;
                continue;
            }
            match decode(&frame, Version::V5).map_err(Broken::Local)? {
                Packet::PubRel(ack) => self.release_out(ack.packet_id, out),
                Packet::PubAck(ack) => self.answer_in(PacketType::PubAck, ack.packet_id, ack.reason, out)?,
                Packet::PubRec(ack) => self.answer_in(PacketType::PubRec, ack.packet_id, ack.reason, out)?,
                Packet::PubComp(ack) if self.unasked.remove(&ack.packet_id) => {}
                Packet::PubComp(ack) => {
                    self.answer_in(PacketType::PubComp, ack.packet_id, ReasonCode::Success, out)?;
                }
                Packet::SubAck(_) => self.events.push(Event::Replays),
                Packet::Disconnect(disconnect) => return Err(Broken::LocalClosed(disconnect.reason)),
                _ => {}
            }
        }
        Ok(taken)
    }

    /// Takes what the remote sent; how many bytes of it are done with.
    pub(super) fn take_remote(&mut self, input: &[u8], out: &mut Buffers) -> Result<usize, Broken> {
        let mut taken = self.skip.min(input.len());
        self.skip -= taken;
        loop {
            let rest = &input[taken..];
            if let Some(done) = self.pass_over(rest, out)? {
                taken += done;
                if done == 0 || self.skip > 0 {
                    return Ok(taken);
                }
                continue;
            }
            let Some(frame) =
                frame::peek(rest, nightjar_mqtt::MAX_PACKET_SIZE, self.remote.version).map_err(Broken::Remote)?
            else {
                return Ok(taken);
            };
            taken += frame.size;
            if frame.kind == PacketType::Publish {
                self.publish_in(&frame, out)?;
                continue;
            }
            match decode(&frame, self.remote.version).map_err(Broken::Remote)? {
                Packet::PubAck(ack) => self.answer_out(PacketType::PubAck, ack.packet_id, ack.reason, out)?,
                Packet::PubRec(ack) => self.answer_out(PacketType::PubRec, ack.packet_id, ack.reason, out)?,
                Packet::PubComp(ack) => {
                    encode_ack(PacketType::PubComp, Version::V5, ack.packet_id, ReasonCode::Success, &mut out.local);
                }
                Packet::PubRel(ack) => {
                    encode_ack(PacketType::PubRel, Version::V5, ack.packet_id, ReasonCode::Success, &mut out.local);
                }
                Packet::SubAck(answer) => self.events.push(Event::Subscribed(answer)),
                Packet::PingResp => self.events.push(Event::Pong),
                Packet::UnsubAck(_) => {}
                Packet::Disconnect(disconnect) if self.remote.version == Version::V5 => {
                    return Err(Broken::RemoteClosed(Box::new(disconnect)));
                }
                other => return Err(Broken::Misplaced(other.kind())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
