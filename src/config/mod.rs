//! The configuration: one checked struct, made from a TOML file, the environment and flags.
//!
//! ```text
//! file ─┐
//! env  ─┤ layers ──> one value per key, with where it came from ──> reader ──> Config, or every mistake at once
//! flags ┘
//! ```
//!
//! Flags win over `--set`, that over the environment, that over the file, that over the defaults. Nothing is guessed and
//! nothing is silently ignored: an unknown key, a wrong type, an impossible value or a file that cannot be read is a
//! mistake, and a mistake anywhere means that nothing starts.

pub mod access;
mod effective;
mod kinds;
mod layers;
mod listener;
mod mistake;
mod reader;
mod sections;

pub use layers::Sources;
pub use listener::Listener;
pub use mistake::{Mistake, Mistakes};
pub use reader::Origin;
pub use sections::{Durability, Format, Level, Limits, Log, Mqtt, Node, Overflow, Session, Store, Sys};

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
    /// What makes data durable.
    pub store: Store,
    /// Sessions and their queues.
    pub session: Session,
    /// What clients may ask of the protocol.
    pub mqtt: Mqtt,
    /// What one client, or all together, may cost.
    pub limits: Limits,
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
            store: Store::default(),
            session: Session::default(),
            mqtt: Mqtt::default(),
            limits: Limits::default(),
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
        let names = reader.listener_names();
        let mut listeners: Vec<Listener> = names.iter().map(|name| Listener::read(name, reader)).collect();
        if listeners.is_empty() {
            listeners.push(Listener::default());
        }
        Self {
            node: Node::read(reader),
            listeners,
            store: Store::read(reader),
            session: Session::read(reader),
            mqtt: Mqtt::read(reader),
            limits: Limits::read(reader),
            sys: Sys::read(reader),
            log: Log::read(reader),
        }
    }

    /// What no value shows by itself: settings that cannot stand together.
    fn check(&self, reader: &mut Reader) {
        for (position, listener) in self.listeners.iter().enumerate() {
            let key = format!("listeners.{}.address", listener.name);
            if !listener.anonymous && !listener.address.ip().is_loopback() {
                reader.mistake(
                    &format!("listeners.{}.anonymous", listener.name),
                    format!(
                        "{} can be reached from other machines and there is no authentication: set it to true (or \
                         start with --anonymous) to let everyone in, or listen on a loopback address",
                        listener.address
                    ),
                );
            }
            let same = |other: &&Listener| other.address == listener.address && listener.address.port() != 0;
            if let Some(other) = self.listeners[..position].iter().find(same) {
                reader.mistake(&key, format!("{} is taken by listeners.{}", listener.address, other.name));
            }
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
