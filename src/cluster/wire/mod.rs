//! The wire between the nodes of a cluster.
//!
//! ```text
//!  node A                                                   node B
//!  call, tell ─> Link (A to B, one lane) ─ requests ──────> Host ─> Service
//!                     Line: queue, calls  <─────── answers ─ queue <─┘
//!  Service <─ Host <───────────────────────────── requests ─ Link (B to A) <─ call, tell
//! ```
//!
//! A node dials every other node once for each [`Lane`] and asks over what it dialled; so heartbeats never wait behind
//! bulk, and each direction fails by itself. What waits is written together, several requests to a message.
//!
//! | file | its story |
//! | --- | --- |
//! | `ports` | what the rest of the cluster sees: [`Transport`], [`Service`], requests, errors |
//! | `wire` | [`Wire`]: the transport over sockets, as a whole |
//! | `link` | one lane to one node: dialled, lost, dialled again |
//! | `line` | the calls under way on one connection |
//! | `outbox` | what waits to be written, within bounds |
//! | `dial`, `door` | from an address, or an accepted socket, to HTTP/2 |
//! | `host` | the other end of the links: hears hellos, hands requests over |
//! | `hello` | who may speak to whom |
//! | `socket`, `tls` | a byte stream, plain or within TLS; certificates |
//! | `switch` | [`Switch`]: the transport within one process, which can be cut and slowed down |
//!
//! Only this room names tonic and prost.

mod dial;
mod door;
mod hello;
mod host;
mod line;
mod link;
mod outbox;
mod ports;
mod socket;
mod switch;
#[cfg(test)]
mod tests;
mod tls;
#[expect(clippy::module_inception, reason = "the room is named after it")]
mod wire;

#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "made from cluster.proto")]
mod proto {
    tonic::include_proto!("nightjar.cluster.v1");
}

pub use ports::{BoxFuture, CallError, LARGEST_PAYLOAD, Lane, Peer, Refusal, Request, Service, Transport};
pub use switch::{Port, Switch, Weather};
pub use tls::{Security, Tls, TlsFiles};
pub use wire::{Settings, Wire};
