//! The configuration: one checked struct, made from a TOML file, the environment and flags.
//!
//! ```text
//! file    ─┐
//! overlay ─┤
//! env     ─┤ layers ──> one value per key, with where it came from ──> reader ──> Config, or every mistake at once
//! flags   ─┘
//! ```
//!
//! Flags win over `--set`, that over the environment, that over what was changed while the broker ran (bridges alone),
//! that over the file, that over the defaults. Nothing is guessed and
//! nothing is silently ignored: an unknown key, a wrong type, an impossible value or a file that cannot be read is a
//! mistake, and a mistake anywhere means that nothing starts.

pub mod access;
mod bridge;
mod cluster;
mod doors;
mod effective;
mod files;
mod kinds;
mod layers;
mod limits;
mod listener;
mod mistake;
mod more_kinds;
mod overlay;
mod preset;
mod reader;
mod remote;
mod sections;

pub use bridge::{Bridge, Mode, QueueOverflow, Start, Version};
pub use cluster::{Cluster, is_host};
pub use doors::{Access, Admin, Auth, DeniedPublish, OtherUser, TokenIn};
pub use effective::Changes;
pub use layers::Sources;
pub use limits::{Limits, RatePolicy};
pub use listener::{Identity, Listener};
pub use mistake::{Mistake, Mistakes};
pub use more_kinds::{ListenAddress, Secret};
pub use overlay::{Overlaid, Overlay, typed};
pub use preset::Preset;
pub use reader::Origin;
pub use remote::{Remote, Scheme};
pub use sections::{Durability, Format, Level, Log, Mqtt, Node, Overflow, Session, Store, Sys};

use reader::Reader;
use sections::Section;
use std::collections::BTreeMap;

/// Everything that can be configured, checked. The default is what a broker without any configuration runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The process itself.
    pub node: Node,
    /// Where clients come in; at least one.
    pub listeners: Vec<Listener>,
    /// Bridges to other brokers.
    pub bridges: Vec<Bridge>,
    /// What makes data durable.
    pub store: Store,
    /// Sessions and their queues.
    pub session: Session,
    /// What clients may ask of the protocol.
    pub mqtt: Mqtt,
    /// What one client, or all together, may cost.
    pub limits: Limits,
    /// Who may come in.
    pub auth: Auth,
    /// What each may do.
    pub access: Access,
    /// The admin door.
    pub admin: Admin,
    /// Several nodes as one broker.
    pub cluster: Cluster,
    /// The `$SYS` topics.
    pub sys: Sys,
    /// The log.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: Node::default(),
            listeners: vec![Listener::default()],
            bridges: Vec::new(),
            store: Store::default(),
            session: Session::default(),
            mqtt: Mqtt::default(),
            limits: Limits::default(),
            auth: Auth::default(),
            access: Access::default(),
            admin: Admin::default(),
            cluster: Cluster::default(),
            sys: Sys::default(),
            log: Log::default(),
        }
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where the values came from that are not defaults, by `section.key`.
    pub origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads and checks everything that `sources` name. Nothing is started, made or changed.
    ///
    /// # Errors
    /// With every mistake that could be found, not the first alone.
    pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
        let mut reader = Reader::new(layers::gather(sources)?);
        let config = Self::read(&mut reader);
        config.check(&mut reader);
        let (origins, mistakes) = reader.finish();
        if mistakes.is_empty() { Ok(Loaded { config, origins }) } else { Err(Mistakes(mistakes)) }
    }

    fn read(reader: &mut Reader) -> Self {
        let mut listeners: Vec<Listener> =
            reader.names("listeners").iter().map(|name| Listener::read(name, reader)).collect();
        if listeners.is_empty() {
            listeners.push(Listener::default());
        }
        let auth = Auth::read(reader);
        let authentication = auth.is_configured(listeners.iter().any(Listener::names_by_certificate));
        listeners.iter_mut().for_each(|listener| listener.settle_anonymous(reader, authentication));
        Self {
            node: Node::read(reader),
            listeners,
            bridges: reader.names("bridges").iter().map(|name| Bridge::read(name, reader)).collect(),
            store: Store::read(reader),
            session: Session::read(reader),
            mqtt: Mqtt::read(reader),
            limits: Limits::read(reader),
            auth,
            access: Access::read(reader),
            admin: Admin::read(reader),
            cluster: Cluster::read(reader),
            sys: Sys::read(reader),
            log: Log::read(reader),
        }
    }

    /// Whether there is any way to prove who one is.
    #[must_use]
    pub fn has_authentication(&self) -> bool {
        self.auth.is_configured(self.listeners.iter().any(Listener::names_by_certificate))
    }

    /// What no value shows by itself: settings that cannot stand together.
    fn check(&self, reader: &mut Reader) {
        let authentication = self.has_authentication();
        for (position, listener) in self.listeners.iter().enumerate() {
            listener.check(reader);
            let key = format!("listeners.{}.address", listener.name);
            if !listener.anonymous && !authentication && !listener.address.is_local() {
                reader.mistake(
                    &format!("listeners.{}.anonymous", listener.name),
                    format!(
                        "{} can be reached from other machines and there is no authentication: set auth.password_file \
                         or another way to prove who one is, or set this to true (or start with --anonymous) to let \
                         everyone in, or listen on a loopback address",
                        listener.address
                    ),
                );
            }
            let has_port = !matches!(listener.address, ListenAddress::Ip(address) if address.port() == 0);
            let same = |other: &&Listener| other.address == listener.address && has_port;
            if let Some(other) = self.listeners[..position].iter().find(same) {
                reader.mistake(&key, format!("{} is taken by listeners.{}", listener.address, other.name));
            }
        }
        self.bridges.iter().for_each(|bridge| bridge.check(reader));
        self.cluster.check(self, reader);
        if self.access.rules.is_some() && self.access.mosquitto_acl.is_some() {
            reader.mistake("access.mosquitto_acl", "expected one of access.rules and access.mosquitto_acl".to_owned());
        }
        if self.auth.backoff_first > self.auth.backoff_max {
            reader.mistake("auth.backoff_first", "expected at most the value of auth.backoff_max".to_owned());
        }
        // One record of the journal holds what all shards make durable at once, and its length has four bytes.
        let record = u64::from(self.store.shards) * u64::from(self.mqtt.max_packet_size);
        if record > u64::from(u32::MAX) {
            reader.mistake(
                "mqtt.max_packet_size",
                format!("times store.shards it comes to {record} bytes, expected less than 4 GiB: lower one of them"),
            );
        }
        if self.limits.outbox_high > self.limits.outbox_max {
            reader.mistake("limits.outbox_high", "expected at most the value of limits.outbox_max".to_owned());
        }
        // Segments are the grain in which journal is given back: with fewer than these there is nothing to give.
        if self.store.journal_budget < self.store.segment_size.saturating_mul(4) {
            reader.mistake("store.journal_budget", "expected at least four times store.segment_size".to_owned());
        }
        // In memory alone the folder is never touched, so it may be anything.
        if self.store.durability != Durability::Memory
            && let Err(problem) = access::check_folder(&self.node.data)
        {
            reader.mistake("node.data", problem);
        }
    }
}
