//! The wire over real sockets, and the switch.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod bounds;
mod links;
mod refused;
mod switch;

use super::tls::Security;
use super::{BoxFuture, CallError, LARGEST_PAYLOAD, Lane, Peer, Refusal, Request, Service, Settings, Transport, Wire};
use crate::env::net;
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longer than anything takes that is not broken.
const LONG: Duration = Duration::from_secs(20);

/// What the service of the tests does with a request of this kind.
const ECHO: u8 = 1;
const REFUSE: u8 = 2;
const ANSWER_TOO_LARGE: u8 = 3;
/// Answers once it is let go.
const WAIT: u8 = 4;

fn request(kind: u8, payload: impl Into<Bytes>) -> Request {
    Request { group: 7, kind, payload: payload.into() }
}

#[derive(Debug)]
struct Clerk {
    received: Mutex<Vec<(NodeId, Lane, Request)>>,
    /// Links that came up and went down, in order.
    events: Mutex<Vec<(NodeId, Lane, bool)>>,
    gate: Arc<Semaphore>,
}

impl Clerk {
    fn new() -> Arc<Self> {
        Arc::new(Self { received: Mutex::default(), events: Mutex::default(), gate: Arc::new(Semaphore::new(0)) })
    }

    fn count(&self, node: NodeId, lane: Lane, up: bool) -> usize {
        self.events.lock().iter().filter(|event| **event == (node, lane, up)).count()
    }
}

impl Service for Clerk {
    fn handle(&self, from: &Peer, lane: Lane, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        self.received.lock().push((from.node, lane, request.clone()));
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            match request.kind {
                REFUSE => Err(Refusal::new(42, "not today")),
                ANSWER_TOO_LARGE => Ok(vec![0; LARGEST_PAYLOAD + 1].into()),
                WAIT => {
                    gate.acquire().await.unwrap().forget();
                    Ok(request.payload)
                }
                _ => Ok(request.payload),
            }
        })
    }

    fn probe(&self, kind: u8, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async move { if kind == REFUSE { Err(Refusal::new(42, "not today")) } else { Ok(payload) } })
    }

    fn connected(&self, peer: &Peer, lane: Lane) {
        self.events.lock().push((peer.node, lane, true));
    }

    fn lost(&self, peer: &Peer, lane: Lane) {
        self.events.lock().push((peer.node, lane, false));
    }
}

struct Node {
    id: NodeId,
    address: SocketAddr,
    wire: Wire,
    clerk: Arc<Clerk>,
}

fn peer(id: u64) -> Peer {
    Peer { node: NodeId(id), home: HomeId(id + 1000), name: format!("node-{id}").into() }
}

/// How a node of the tests is started.
struct Start {
    id: u64,
    address: SocketAddr,
    cluster: &'static str,
    security: Security,
    settings: Settings,
}

impl Start {
    fn node(id: u64) -> Self {
        let address = ([127, 0, 0, 1], 0).into();
        Self { id, address, cluster: "flock", security: Security::Plain, settings: Settings::default() }
    }

    async fn go(self) -> Node {
        let clerk = Clerk::new();
        // A node that comes back waits until the one before has let go of the address.
        let mut listener = net::bind(self.address, false, 64);
        while listener.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            listener = net::bind(self.address, false, 64);
        }
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::<Clerk>::clone(&clerk);
        let wire = Wire::start(listener, peer(self.id), self.security, self.settings, service);
        wire.join(self.cluster.into());
        Node { id: NodeId(self.id), address, wire, clerk }
    }
}

impl Node {
    /// Tells this node where others are.
    fn knows(&self, others: &[(NodeId, SocketAddr)]) {
        let peers: BTreeMap<_, _> = others.iter().map(|(id, address)| (*id, address.to_string())).collect();
        self.wire.set_peers(&peers);
    }

    async fn ask(&self, to: NodeId, kind: u8, payload: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.wire.call(to, Lane::Bulk, request(kind, payload), LONG).await
    }

    async fn linked(&self, to: NodeId, lane: Lane, times: usize) {
        until("linked", || self.clerk.count(to, lane, true) >= times).await;
    }
}

/// Two nodes, the first of which has links to the second.
async fn pair() -> (Node, Node) {
    let (a, b) = (Start::node(1).go().await, Start::node(2).go().await);
    a.knows(&[(b.id, b.address)]);
    for lane in Lane::ALL {
        a.linked(b.id, lane, 1).await;
    }
    (a, b)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} in time");
}
