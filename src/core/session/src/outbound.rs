//! What we send the client at QoS 1 and 2: the window, the packet identifiers, the state of each message under way.
//!
//! ```text
//!  QoS 1:   Sent --PUBACK--> Done
//!  QoS 2:   Sent --PUBREC--> Received --(durable)--> Released --PUBCOMP--> Done
//! ```
//! A message in `Received` waits until the mark is durable; only then may PUBREL be sent, since after it the client
//! forgets the identifier and would take a repeated PUBLISH for a new message. Each message holds its place in the
//! window until it is `Done` [MQTT-4.9.0-2].

use crate::packet_id::{packet_id, sequence_of};
use nightjar_mqtt::QoS;
use std::collections::VecDeque;

/// Sequences that may lie between the oldest message under way and the newest: packet identifiers repeat after 65,535.
const MAX_SPAN: u64 = 65_000;

/// The sending half of one connection's protocol state.
#[derive(Debug)]
pub struct Outbound {
    window: usize,
    base: u64,
    slots: VecDeque<Slot>,
    under_way: usize,
    sent_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Sent(QoS),
    Received,
    Released,
    Done,
}

/// What to do with a message that could be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Send PUBLISH with this identifier and DUP flag.
    Publish {
        /// The packet identifier.
        packet_id: u16,
        /// Whether it may have been sent before [MQTT-3.3.1-1].
        dup: bool,
    },
    /// Send PUBREL with this identifier: the client has the message.
    Release {
        /// The packet identifier.
        packet_id: u16,
    },
    /// It was offered already on this connection.
    Known,
    /// Not now: the window is full, or an earlier message has not been offered yet.
    Later,
}

/// What an acknowledgement of the client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// The message with this sequence is complete.
    Complete(u64),
    /// The client has the message with this sequence (PUBREC): make that durable, then call [`Outbound::released`].
    Received(u64),
    /// A PUBREC came again: the client wants the PUBREL that it was sent.
    Again(u64),
    /// A PUBREC came again before the first one's mark is durable: PUBREL follows when it is.
    Awaited,
    /// No message with that identifier is under way.
    Unknown,
    /// The message under way with that identifier is of another QoS, or not that far: what came belongs to none of its
    /// exchange [MQTT-4.3.2-3], [MQTT-4.3.3-3], and waiting for what does would hold its place for ever.
    Misplaced,
}

impl Outbound {
    /// A connection on which the next message to send has sequence `next`, at most `window` are under way at a time,
    /// and messages before `sent_before` may have been sent on an earlier connection.
    #[must_use]
    pub fn new(window: u16, next: u64, sent_before: u64) -> Self {
        Self { window: usize::from(window.max(1)), base: next, slots: VecDeque::new(), under_way: 0, sent_before }
    }

    /// The sequence of the next message to send.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The highest sequence that has been sent, on this connection or before, plus one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent_before.max(self.next())
    }

    /// Whether the window has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.under_way < self.window && (self.slots.len() as u64) < MAX_SPAN
    }

    /// How many more messages the window takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.window.saturating_sub(self.under_way)
    }

    /// Messages under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Takes the next sequence, for a message of a transient session. Call only if [`Self::has_room`].
    pub fn assign(&mut self, qos: QoS) -> (u64, u16) {
        let sequence = self.next();
        self.slots.push_back(Slot::Sent(qos));
        self.under_way += 1;
        (sequence, packet_id(sequence))
    }

    /// The queue's message with `sequence` could be sent. Sequences that the queue no longer has are skipped.
    pub fn offer(&mut self, sequence: u64, qos: QoS, received: bool) -> Offer {
        let next = self.next();
        if sequence < next {
            return Offer::Known;
        }
        if !self.has_room() {
            return Offer::Later;
        }
        // Beyond the span it must wait until the oldest message under way is done; the places up to there are passed
        // over already, so that there is no room until then.
        self.skip_to(sequence.min(self.base + MAX_SPAN));
        if sequence - self.base >= MAX_SPAN {
            return Offer::Later;
        }
        self.slots.push_back(if received { Slot::Released } else { Slot::Sent(qos) });
        self.under_way += 1;
        let packet_id = packet_id(sequence);
        if received {
            Offer::Release { packet_id }
        } else {
            Offer::Publish { packet_id, dup: sequence < self.sent_before }
        }
    }

    /// The queue's message with `sequence` is not sent at all (expired, too large, QoS 0): its place is passed over.
    /// Nothing happens if it is not the next one.
    pub fn skip_to(&mut self, after: u64) {
        for _ in self.next()..after {
            self.slots.push_back(Slot::Done);
            self.trim();
        }
    }

    /// PUBACK has come.
    pub fn puback(&mut self, packet_id: u16) -> Acked {
        self.complete(packet_id, |slot| match slot {
            Slot::Sent(QoS::AtLeastOnce) => Ok(()),
            Slot::Done => Err(Acked::Unknown),
            _ => Err(Acked::Misplaced),
        })
    }

    /// PUBREC with a reason below 0x80 has come.
    pub fn pubrec(&mut self, packet_id: u16) -> Acked {
        let Some((sequence, slot)) = self.find(packet_id) else { return Acked::Unknown };
        match *slot {
            Slot::Sent(QoS::ExactlyOnce) => {
                *slot = Slot::Received;
                Acked::Received(sequence)
            }
            Slot::Released => Acked::Again(sequence),
            Slot::Received => Acked::Awaited,
            Slot::Sent(_) => Acked::Misplaced,
            Slot::Done => Acked::Unknown,
        }
    }

    /// PUBREC with a reason of 0x80 or above has come: the client refused the message, which completes it.
    pub fn pubrec_refused(&mut self, packet_id: u16) -> Acked {
        self.complete(packet_id, |slot| match slot {
            Slot::Sent(QoS::ExactlyOnce) => Ok(()),
            Slot::Sent(_) => Err(Acked::Misplaced),
            _ => Err(Acked::Unknown),
        })
    }

    /// The mark that the client has the message with `sequence` is durable: its packet identifier, for PUBREL.
    pub fn released(&mut self, sequence: u64) -> Option<u16> {
        let slot = self.slots.get_mut(usize::try_from(sequence.checked_sub(self.base)?).ok()?)?;
        if *slot != Slot::Received {
            return None;
        }
        *slot = Slot::Released;
        Some(packet_id(sequence))
    }

    /// PUBCOMP has come.
    pub fn pubcomp(&mut self, packet_id: u16) -> Acked {
        self.complete(packet_id, |slot| match slot {
            Slot::Released => Ok(()),
            Slot::Sent(_) => Err(Acked::Misplaced),
            _ => Err(Acked::Unknown),
        })
    }

    fn complete(&mut self, packet_id: u16, expected: impl Fn(Slot) -> Result<(), Acked>) -> Acked {
        let Some((sequence, slot)) = self.find(packet_id) else { return Acked::Unknown };
        if let Err(other) = expected(*slot) {
            return other;
        }
        *slot = Slot::Done;
        self.under_way -= 1;
        self.trim();
        Acked::Complete(sequence)
    }

    fn find(&mut self, packet_id: u16) -> Option<(u64, &mut Slot)> {
        let sequence = sequence_of(packet_id, self.base)?;
        let slot = self.slots.get_mut(usize::try_from(sequence - self.base).ok()?)?;
        Some((sequence, slot))
    }

    fn trim(&mut self) {
        while self.slots.front() == Some(&Slot::Done) {
            self.slots.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
