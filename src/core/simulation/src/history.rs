//! What clients did and saw, and what nodes did that clients could tell: in order, as values.

use nightjar_mqtt::QoS;
use std::fmt;
use std::sync::Arc;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client sends CONNECT to a node. Each connection has a number of its own, its link.
    Connecting {
        /// The client identifier's number.
        client: usize,
        /// The connection.
        link: u64,
        /// The node.
        node: usize,
        /// Whether CONNECT asks for a new session.
        clean: bool,
        /// The number of the will's message.
        will: Option<u64>,
    },
    /// A client sees CONNACK.
    Connected {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// Session present.
        present: bool,
    },
    /// A client sends SUBSCRIBE.
    Subscribing {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// The filter.
        filter: Arc<str>,
        /// The quality of service asked for.
        qos: QoS,
    },
    /// A client sees SUBACK.
    Subscribed {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// The filter.
        filter: Arc<str>,
        /// The quality of service granted.
        qos: QoS,
    },
    /// A client sends UNSUBSCRIBE.
    Unsubscribing {
        /// The client.
        client: usize,
        /// The filter.
        filter: Arc<str>,
    },
    /// A client sends PUBLISH, for the first time or again.
    Publishing {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// The message: every one has another number.
        number: u64,
        /// Its topic.
        topic: Arc<str>,
        /// Its quality of service.
        qos: QoS,
        /// Whether it is to be retained.
        retain: bool,
        /// Whether it is sent again.
        dup: bool,
    },
    /// A client sees the PUBACK or PUBREC of its message.
    Acknowledged {
        /// The client.
        client: usize,
        /// The message.
        number: u64,
    },
    /// A client gives a message up: its session is another.
    Abandoned {
        /// The client.
        client: usize,
        /// The message.
        number: u64,
    },
    /// A client's application gets a message. What QoS 2 tells to be a repetition it does not get.
    Received {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// The message.
        number: u64,
        /// Its topic.
        topic: Arc<str>,
        /// The quality of service of the delivery.
        qos: QoS,
        /// Whether it was sent as a retained one.
        retain: bool,
        /// Whether it was sent as a repetition.
        dup: bool,
    },
    /// A client sends DISCONNECT.
    Disconnecting {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
    },
    /// A client's connection is over for it.
    Lost {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
    },
    /// A node sends CONNACK: the client is served from here on.
    Served {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
        /// The node.
        node: usize,
        /// The run of the node, as the cluster knows it.
        home: u64,
    },
    /// A node sends an acknowledgement to a client.
    Answered {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
    },
    /// A node is done with a connection.
    Ended {
        /// The connection.
        link: u64,
    },
    /// A process is over, with all connections that it had.
    Crashed {
        /// The node.
        node: usize,
    },
    /// The cluster takes a run of a node for over.
    Over {
        /// The run.
        home: u64,
    },
    /// Something else was done to the cluster.
    Fault(String),
    /// No faults from here on.
    Calm,
    /// A client is not let in.
    Refused {
        /// The client.
        client: usize,
        /// The connection.
        link: u64,
    },
    /// Long after peace came something is still not done.
    Stuck(String),
    /// At the end: what a node's replica of a shard holds, as one number.
    Standing {
        /// The node.
        node: usize,
        /// The shard.
        shard: u16,
        /// Up to which index it has applied the log.
        index: u64,
        /// A hash of its state.
        digest: u64,
    },
    /// At the end: which message a node retains for a topic.
    Kept {
        /// The node.
        node: usize,
        /// The topic.
        topic: Arc<str>,
        /// The message.
        number: u64,
    },
}

/// All of it, each with its time in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In order.
    pub events: Vec<(u64, Event)>,
}

impl History {
    /// Adds what happens at `now`.
    pub fn note(&mut self, now: u64, event: Event) {
        self.events.push((now, event));
    }

    /// The events, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    /// One number for all of it (FNV-1a of what is printed).
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash(self.to_string().as_bytes())
    }
}

/// FNV-1a.
#[must_use]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|(at, event)| writeln!(f, "{at:>6} {event:?}"))
    }
}
