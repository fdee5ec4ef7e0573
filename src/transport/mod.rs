//! Transports: from a fresh socket to a stream of MQTT bytes, whatever it is wrapped in.
//!
//! ```text
//! accept ─> PROXY header ─> first byte ─┬─ 0x16 ─> TLS ─> first byte ─┐
//!                                       └─────────────────────────────┴─ 0x10 ──> MQTT
//!                                                                     └─ letter ─> HTTP ─> WebSocket ─> MQTT
//! ```
//!
//! | file | its story |
//! | --- | --- |
//! | `acceptor` | listening sockets of either family |
//! | `arrive` | the way above, from a fresh socket to a [`Socket`] |
//! | `proxy`, `http` | the PROXY header; the WebSocket handshake, and answers at the wrong door |
//! | `socket`, `layers`, `frames` | reading and writing MQTT bytes, plain or through layers |
//! | `dial`, `dial_tls` | the other way: from an address to MQTT bytes |
//! | `wrapping` | the layers put on, either way |
//! | `tls`, `certificate` | what a listener's certificates come to, and what is in one |
//! | `dev` | certificates for trying out |
//! | `remote` | who is at the other end, by which transport |

mod acceptor;
mod arrive;
pub mod certificate;
pub mod dev;
mod dial;
mod dial_tls;
mod frames;
mod http;
mod layers;
mod proxy;
mod remote;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod wrapping;

pub use acceptor::{Acceptor, Bound, Fresh};
pub use arrive::{Arrived, Options, Refused, WebSocket, accept};
pub use dial::{DialError, Target, dial};
pub use dial_tls::{DialTls, DialTlsSettings};
pub use remote::{Kind, Remote};
pub use socket::Socket;
pub use tls::{CertificateUser, Renewal, Shown, Tls, TlsInfo, TlsProblem, TlsSettings};
pub(crate) use tls::{certificates, private_key, problem};
