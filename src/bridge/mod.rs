//! Bridges: MQTT clients on the inside, which join this broker to others.
//!
//! ```text
//!            Bridges (manager) ─ orders ─> Link (a task for each bridge: reach, splice, lose, wait, again)
//!                                            │
//!   this broker <─ pair of sockets ─> Splice <─ TCP, TLS, WebSocket ─> remote
//! ```
//!
//! | file | its story |
//! | --- | --- |
//! | `manager` | the bridges of a node: started, changed, stopped; the thread that they live on |
//! | `link`, `meet` | the life of one bridge; where its two connections meet and part |
//! | `remote`, `local` | the connections to the two brokers |
//! | `pump` | the time while both are there: bytes through the splice, keep alive, events |
//! | `splice`, `echo` | what becomes of each packet; pure |
//! | `poison` | the message at which the remote closes the connection |
//! | `status`, `counts` | what those see who look |

mod counts;
mod echo;
mod link;
mod local;
mod manager;
mod meet;
mod poison;
mod pump;
mod remote;
mod splice;
mod status;
mod wire;

pub use counts::{Carried, Count, Counts, RuleCounts};
pub use manager::{Bridges, Shown};
pub use remote::tls_settings;
pub use status::{Now, State};

use crate::broker::{Limits, Listener};
use crate::config::Bridge;
use nightjar_policy::TopicRules;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A bridge as it is to be.
#[derive(Clone)]
pub struct Plan {
    /// Its settings.
    pub bridge: Bridge,
    /// Its rules, understood.
    pub rules: Arc<TopicRules>,
    /// The limits of its session here.
    pub limits: Arc<Limits>,
}

/// What bridges need of the node.
pub trait Host: Send + Sync {
    /// Takes `pair` in as a connection that came by `listener`.
    fn adopt(&self, pair: UnixStream, listener: &Arc<Listener>);
}
