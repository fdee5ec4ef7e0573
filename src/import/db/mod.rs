//! mosquitto's database, `mosquitto.db`: what it wrote when it saved its state.
//!
//! | chunk | holds |
//! | --- | --- |
//! | 1 configuration | the last message's number, whether mosquitto was stopping |
//! | 2 message | topic, payload, properties, who published it |
//! | 3 client message | that a message waits for, or comes from, a client, and how far it has come |
//! | 4 retained | that a message is its topic's retained one |
//! | 5 subscription | of a client |
//! | 6 client | a session: when it ends, whose it is |
//!
//! Numbers of 16 and 32 bits are big-endian; those of 64 bits are as the machine had them, which is little-endian on
//! all that mosquitto is known to run on. Formats 5 and 6 differ in the client chunk alone: 6 has the port and the user
//! name.

mod fields;
mod read;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use fields::Damage;
pub(crate) use read::{Failure, read};

use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use std::collections::HashMap;
use std::sync::Arc;

/// All that a database holds.
#[derive(Debug, Default)]
pub(crate) struct Database {
    /// Its format, 5 or 6.
    pub(crate) version: u32,
    /// Whether mosquitto was stopping when it wrote it: nothing has come since.
    pub(crate) complete: bool,
    /// Messages by their number.
    pub(crate) messages: HashMap<u64, Arc<Message>>,
    /// Sessions, in the order of the file.
    pub(crate) clients: Vec<Client>,
    /// Numbers of retained messages.
    pub(crate) retained: Vec<u64>,
    /// Records of clients that have no session in the file.
    pub(crate) orphans: u64,
}

/// A session.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) user: Option<String>,
    /// When it ends, in seconds since 1970; 0 if that is not known.
    pub(crate) expiry_time: i64,
    /// Its session expiry interval in seconds.
    pub(crate) expiry: u32,
    /// The port of the listener that it came in by; 0 if that is not known.
    pub(crate) port: u16,
    /// Messages for it: those under way first, then those that wait.
    pub(crate) outgoing: Vec<ClientMessage>,
    /// Messages from it that are not done with.
    pub(crate) incoming: Vec<ClientMessage>,
    pub(crate) subscriptions: Vec<(String, SubscriptionOptions)>,
}

/// A message on its way to or from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientMessage {
    /// The message's number.
    pub(crate) message: u64,
    pub(crate) packet_id: u16,
    pub(crate) qos: QoS,
    pub(crate) state: State,
    pub(crate) retain: bool,
    /// Whether it was sent before.
    pub(crate) dup: bool,
    /// The subscription identifier to send along.
    pub(crate) identifier: Option<u32>,
}

/// How far a message has come; mosquitto's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not sent yet, but under way as far as the window is concerned (1, 2, 4).
    Publish,
    /// Sent; PUBACK or PUBREC has not come (3, 5).
    Sent,
    /// PUBREC has come, PUBCOMP has not (6, 9).
    Released,
    /// From the client: PUBREC was sent, PUBREL has not come (7, 8).
    AwaitsRelease,
    /// It waits for a place in the window (11), or, from the client, PUBREC was not sent yet (10, 11).
    Queued,
}
