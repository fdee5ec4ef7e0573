//! The admin door: health, metrics, the API and the page, over HTTP.
//!
//! It has a thread of its own, so that nothing that is asked here makes a client wait, and it sees the broker through
//! [`Handle`] alone. What only the node can do comes in as an [`Operator`].
//!
//! | file | its story |
//! | --- | --- |
//! | `server` | sockets, and how much of everything there may be |
//! | `access`, `token`, `login` | who may ask what |
//! | `routes`, `answer` | the paths, and what all answers have in common |
//! | `health`, `status`, `rates`, `metrics`, `exposition` | how the broker is |
//! | `clients`, `subscriptions`, `retained`, `publish` | who is there, and what is kept |
//! | `bridges` | bridges to other brokers |
//! | `cluster` | the nodes that are one broker |
//! | `operate` | configuration, log, rules |
//! | `watch`, `console` | what happens; the page's own MQTT connection |
//! | `patient` | a socket whose reader may not keep it for ever |
//! | `page`, `assets` | the files of the page, and how they are served |

mod access;
mod answer;
mod assets;
mod bridges;
mod clients;
mod cluster;
mod console;
mod exposition;
mod health;
mod login;
mod metrics;
mod operate;
pub mod page;
mod patient;
mod publish;
mod rates;
mod retained;
mod routes;
mod server;
mod status;
mod subscriptions;
mod token;
mod watch;

pub use bridges::{
    BRIDGE_STATES, BridgeChange, BridgeQueue, BridgeRefused, BridgeRule, BridgeStatus, Carried, Mapped, MappedTopic,
    NotTaken, SetAside,
};
pub use metrics::{Kind, METRICS, Metric, manual};
pub use routes::document;
pub use server::{Server, start};
pub use token::file_token;

use crate::broker::inspect::Time;
use crate::broker::{Adopted, BoxFuture};
use crate::cluster::{Command, Refused, Status};
use nightjar_policy::Rights;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use utoipa::ToSchema;

/// Where the admin door is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The TCP address.
    pub address: Option<SocketAddr>,
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// What a reload may change.
    pub rules: Rules,
}

/// What a reload may change.
#[derive(Clone)]
pub struct Rules {
    /// The token for everything; without one, only the Unix socket lets anybody in.
    pub token: Option<String>,
    /// The token for looking without touching.
    pub read_token: Option<String>,
    /// Whether `/metrics` needs no token.
    pub open_metrics: bool,
    /// Whether the page is served.
    pub page: bool,
    /// The largest body of a request.
    pub max_body: usize,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens are nobody's business.
        f.debug_struct("Rules").field("page", &self.page).finish_non_exhaustive()
    }
}

/// What only the node can do.
pub trait Operator: Send + Sync {
    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// With every mistake; everything stays as it was.
    fn reload(&self) -> Result<Reloaded, Vec<String>>;

    /// The configuration in force as a file, with secrets masked.
    fn effective(&self) -> String;

    /// How much is logged.
    fn log_level(&self) -> &'static str;

    /// Logs this much from now on; false if there is no such level.
    fn set_log_level(&self, level: &str) -> bool;

    /// What a client may do.
    fn rights(&self, user: Option<&str>, client_id: &str, groups: &[Arc<str>]) -> Rights;

    /// Takes a WebSocket that the admin door has let in as a client that may do everything.
    fn adopt(&self, adopted: Adopted);

    /// The listeners that are open.
    fn listeners(&self) -> Vec<ListenerStatus>;

    /// All bridges, by name.
    fn bridges(&self) -> Vec<BridgeStatus>;

    /// One bridge.
    fn bridge(&self, name: &str) -> Option<BridgeStatus>;

    /// What becomes of a topic, by the rules in force; none if there is no such bridge.
    fn map_topic(&self, bridge: &str, topic: &str) -> Option<MappedTopic>;

    /// Changes a bridge, for good.
    ///
    /// # Errors
    /// With every mistake that there would be, or what is in the way; everything stays as it was.
    fn change_bridge(&self, name: &str, change: BridgeChange) -> Result<(), BridgeRefused>;

    /// The cluster as this node sees it; none if it is alone.
    fn cluster(&self) -> Option<Status>;

    /// Does what an operator wants of the cluster, or says why not; none if this node is alone.
    fn command_cluster(&self, command: Command) -> Option<BoxFuture<Result<Status, Refused>>>;
}

/// What a reload came to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// Settings that have changed and are in force.
    pub applied: Vec<String>,
    /// Settings that have changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// A listener that is open.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ListenerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// What is spoken there: `mqtt`, `websocket`.
    pub transports: Vec<&'static str>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether clients need not say who they are.
    pub anonymous: bool,
    /// Connections now.
    pub connections: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// When the first of its certificates expires.
    pub certificate_expires: Option<Time>,
}
