//! The protocol state of one connection, as pure state machines: no socket, no clock, no disk.
//!
//! - [`Inbound`]: what the client sends us: QoS 2 identifiers, receive quota, topic aliases.
//! - [`Outbound`]: what we send the client: window, packet identifiers, the order of re-sending.
//! - [`Aliases`]: the topic aliases that we use towards the client.
//! - [`KeepAlive`]: when silence has lasted too long.

mod alias;
mod inbound;
mod keepalive;
mod outbound;
mod packet_id;

pub use alias::Aliases;
pub use inbound::{Arrival, Inbound, Violation};
pub use keepalive::KeepAlive;
pub use outbound::{Acked, Offer, Outbound};
pub use packet_id::packet_id;
