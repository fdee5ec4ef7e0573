//! A node that is being emptied: its clients are told which other one to use, a few at a time, and no new one is let in.
//!
//! Bridges of our own stay: they go with whoever runs them.

use super::Broker;
use super::handshake::{Refusal, client_maximum, send_connack};
use super::peer::{Close, Peer};
use super::stats;
use crate::transport::Socket;
use nightjar_mqtt::property::DisconnectProperties;
use nightjar_mqtt::{ConnAck, Connect, Disconnect, Packet, ReasonCode, Version, encode};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Whether a node is being emptied, and where its clients are to go.
#[derive(Default)]
pub(crate) struct Emptying {
    on: AtomicBool,
    /// `host:port` of other nodes, as clients reach them.
    elsewhere: Mutex<Vec<Arc<str>>>,
    turn: AtomicUsize,
    /// Those who are to be told next.
    next: Mutex<Vec<Weak<Peer>>>,
}

impl Emptying {
    /// One of the other nodes, each in its turn.
    fn another(&self) -> Option<Arc<str>> {
        let elsewhere = self.elsewhere.lock();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        elsewhere.get(turn % elsewhere.len().max(1)).cloned()
    }
}

impl Broker {
    /// From now on no client is let in, and those that are here are moved by [`move_clients`](Self::move_clients).
    /// `elsewhere` is `host:port` of the nodes that they are to use, as far as that is known.
    pub fn begin_emptying(&self, elsewhere: Vec<Arc<str>>) {
        *self.emptying.elsewhere.lock() = elsewhere;
        self.emptying.on.store(true, Ordering::Release);
    }

    /// Clients are let in again, and stay.
    pub fn end_emptying(&self) {
        self.emptying.on.store(false, Ordering::Release);
        self.emptying.next.lock().clear();
    }

    /// Whether clients are to use another node.
    pub(crate) fn is_emptying(&self) -> bool {
        self.emptying.on.load(Ordering::Acquire)
    }

    /// Tells up to `most` clients to use another node.
    pub fn move_clients(&self, most: usize) {
        let mut next = self.emptying.next.lock();
        if next.is_empty() {
            let peers = self.registry.peers();
            let movable = peers.iter().filter(|peer| !peer.about.door.at.settings().bridge);
            next.extend(movable.map(Arc::downgrade));
        }
        let from = next.len().saturating_sub(most);
        for peer in next.drain(from..).filter_map(|peer| peer.upgrade()) {
            peer.close(Close::Moved);
        }
    }

    /// Refuses a client that is to use another node.
    pub(super) async fn send_elsewhere(&self, socket: &Socket, connect: &Connect) -> Refusal {
        stats::add(|s| &s.refused_connect, 1);
        let (version, maximum) = (connect.version, client_maximum(connect));
        let mut connack = ConnAck::new(false, ReasonCode::UseAnotherServer);
        if version == Version::V5 {
            connack.properties.server_reference = self.emptying.another().map(|another| another.to_string());
            let mut bytes = Vec::new();
            encode(&Packet::ConnAck(Box::new(connack.clone())), version, &mut bytes);
            if bytes.len() > maximum {
                connack.properties.server_reference = None;
            }
        }
        send_connack(socket, version, maximum, &connack).await;
        Refusal::Refused("this node is being drained")
    }

    /// The DISCONNECT by which a v5 client is told to use another node.
    pub(super) fn farewell_elsewhere(&self) -> Vec<u8> {
        let server_reference = self.emptying.another().map(|another| another.to_string());
        let properties = DisconnectProperties { server_reference, ..DisconnectProperties::default() };
        let mut bytes = Vec::new();
        let packet = Packet::Disconnect(Disconnect { reason: ReasonCode::UseAnotherServer, properties });
        encode(&packet, Version::V5, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_turn() {
        let emptying = Emptying::default();
        assert_eq!(emptying.another(), None);
        *emptying.elsewhere.lock() = vec!["a:1".into(), "b:1".into()];
        let turns: Vec<_> = (0..4).filter_map(|_| emptying.another()).collect();
        assert_eq!(turns[0], turns[2]);
        assert_eq!(turns[1], turns[3]);
        assert_ne!(turns[0], turns[1]);
    }
}
