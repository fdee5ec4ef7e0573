//! What the rest of the cluster sees of the wire, whether there are sockets below it or not.

use bytes::Bytes;
use nightjar_base::{HomeId, NodeId};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future of any kind.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The largest payload of a request or an answer, in bytes. It leaves room for what is around it within the largest
/// message, 16 MiB.
pub const LARGEST_PAYLOAD: usize = 16 * 1024 * 1024 - 64 * 1024;

/// A node, as it introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which node it is.
    pub node: NodeId,
    /// Which run of it.
    pub home: HomeId,
    /// What its operator calls it.
    pub name: Arc<str>,
}

/// What a connection is for. Each has a connection of its own, so none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Votes, heartbeats, leases: small, and soon too late.
    Beat,
    /// Everything else.
    Bulk,
    /// Snapshots: as much as fits through.
    Snapshot,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Beat, Self::Bulk, Self::Snapshot];
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Beat => "beat",
            Self::Bulk => "bulk",
            Self::Snapshot => "snapshot",
        })
    }
}

/// Something that one node asks of another, or tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom it concerns there.
    pub group: u16,
    /// What kind of thing it is.
    pub kind: u8,
    /// The thing. One that was received shares its memory with what came in the same message: copy what is kept for
    /// long.
    pub payload: Bytes,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node is not there, or went away during the call: it may have done what was asked, or not.
    #[error("the node cannot be reached")]
    Unreachable,
    /// No answer came in time: it may have done what was asked, or not.
    #[error("no answer came in time")]
    TimedOut,
    /// Too much is under way or waiting on this link; the request was not sent.
    #[error("too much is waiting for this node")]
    Full,
    /// The payload, or the answer's, is larger than [`LARGEST_PAYLOAD`].
    #[error("larger than the wire carries")]
    TooLarge,
    /// The other node says no.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Why a node does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code})")]
pub struct Refusal {
    /// The reason, by a number of whoever speaks over the wire; the wire's own are those from [`Refusal::WIRE`] on.
    pub code: u32,
    /// The reason in words.
    pub text: String,
}

impl Refusal {
    /// From here on the codes are the wire's own.
    pub const WIRE: u32 = 1 << 16;
    /// The answer is larger than [`LARGEST_PAYLOAD`]. Whoever called sees [`CallError::TooLarge`].
    pub const TOO_LARGE: u32 = Self::WIRE;
    /// A group or kind is out of range, or a probe is of another protocol version.
    pub const NOT_UNDERSTOOD: u32 = Self::WIRE + 1;

    /// A refusal.
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// The way to the other nodes.
pub trait Transport: Send + Sync {
    /// Sends one request and waits for its answer, at most for `patience`. The request has its place in the order when
    /// this returns, before the future is polled; if the future is dropped the answer is.
    ///
    /// The future gives [`CallError::Unreachable`] at once while the link is known to be down, and when it is lost.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Sends a message that has no answer, in order with the other requests to that node on that lane. It may be lost
    /// with the link.
    ///
    /// # Errors
    /// When it was dropped right here: the link is down, its queue is full, or the payload is too large.
    fn tell(&self, to: NodeId, lane: Lane, request: Request) -> Result<(), CallError>;

    /// Asks whoever is at `address` and may not know yet which cluster it belongs to.
    fn probe(
        &self,
        address: &str,
        kind: u8,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// What a node does for the others.
pub trait Service: Send + Sync + 'static {
    /// Takes one request. Those of one node on one lane are handed over in the order in which they were sent, one
    /// after the other; the futures then run side by side, to their end even if the link is lost meanwhile. The outcome
    /// of a request that was only told goes nowhere.
    fn handle(&self, from: &Peer, lane: Lane, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Answers a probe. The asker has shown a certificate of the cluster's authority, and nothing else.
    fn probe(&self, kind: u8, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Our link to `peer` on `lane` is up: what is sent from now on reaches this run of the node.
    fn connected(&self, peer: &Peer, lane: Lane);

    /// That link is lost. What was under way on it has failed, and may have been done or not.
    fn lost(&self, peer: &Peer, lane: Lane);
}
