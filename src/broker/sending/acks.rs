//! Acknowledgements that wait until what they say is true.

use super::State;
use super::parts::Pending;
use nightjar_base::Position;
use nightjar_mqtt::PacketType;

/// The position of what waits for more than `position`: none that is ever reached.
pub(crate) fn held(position: Position) -> Position {
    Position(position.0 | 1 << 63)
}

impl State {
    /// An acknowledgement to be sent when `position` is durable, after those before it: acknowledgements keep the
    /// order of what they acknowledge [MQTT-4.6.0-2], [MQTT-4.6.0-3]. `None`: as soon as those before it are sent.
    pub(crate) fn pend(&mut self, position: Option<Position>, pending: Pending) {
        let position = match (position, self.pending.back()) {
            (Some(position), _) => position,
            (None, Some((last, _))) => *last,
            (None, None) => return self.send_pending(&pending),
        };
        if matches!(pending, Pending::Ack { kind: PacketType::PubAck, .. }) {
            self.pending_pubacks += 1;
        }
        self.pending.push_back((position, pending));
    }

    /// What waits to be acknowledged never will be.
    pub(crate) fn withdraw(&mut self) {
        self.pending.clear();
        self.pending_pubacks = 0;
    }

    /// Whether anything waits to be acknowledged.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What was held at `position` waits for nothing but that any more.
    pub(crate) fn open(&mut self, position: Position) {
        let held = held(position);
        self.pending.iter_mut().filter(|(at, _)| *at == held).for_each(|(at, _)| *at = position);
    }

    /// QoS 1 messages of the client that are not acknowledged yet.
    pub(crate) fn pending_pubacks(&self) -> usize {
        self.pending_pubacks
    }

    /// Appends the acknowledgements that waited for `applied` or less; returns whether there were any.
    pub(crate) fn release(&mut self, applied: Position) -> bool {
        let mut any = false;
        while self.pending.front().is_some_and(|(position, _)| *position <= applied) {
            let Some((_, pending)) = self.pending.pop_front() else { break };
            if matches!(pending, Pending::Ack { kind: PacketType::PubAck, .. }) {
                self.pending_pubacks -= 1;
            }
            self.send_pending(&pending);
            any = true;
        }
        any
    }

    fn send_pending(&mut self, pending: &Pending) {
        match pending {
            Pending::Ack { kind, packet_id, reason } => self.acknowledge(*kind, *packet_id, *reason),
            Pending::Packet(bytes) => self.packet(bytes),
        }
    }
}
