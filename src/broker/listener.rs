//! A listener: where clients come in, what that door allows, and how many are in.

use super::limits::Limits;
use crate::auth::Identity;
use crate::config::ListenAddress;
use crate::transport::{self, Kind, Remote, Tls};
use arc_swap::{ArcSwap, Guard};
use nightjar_base::Tick;
use nightjar_policy::Bucket;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// A listener as the configuration describes it. A reload may replace it as long as the address stays.
pub struct ListenerSettings {
    /// Where it listens.
    pub address: ListenAddress,
    /// Whether clients need not say who they are.
    pub anonymous: bool,
    /// Who comes in here, having proved it elsewhere.
    pub known: Option<Arc<Identity>>,
    /// Whether it is a bridge's own, by which nobody else comes in.
    pub bridge: bool,
    /// Connections at a time.
    pub max_connections: usize,
    /// New connections a second; 0 for any number.
    pub connection_rate: u64,
    /// Whether clients are held to the letter where brokers are usually lenient.
    pub strict: bool,
    /// What is spoken here.
    pub transport: transport::Options,
    /// The ways to prove who one is that count here; `None`: those of the node.
    pub methods: Option<Vec<String>>,
    /// What its clients may cost.
    pub limits: Arc<Limits>,
}

/// A listener that is open, shared by the threads that accept for it and by all who came in by it.
pub struct Listener {
    /// Its name in the configuration.
    pub name: Arc<str>,
    settings: ArcSwap<ListenerSettings>,
    connections: AtomicUsize,
    rate: Mutex<Option<Bucket>>,
    closed: AtomicBool,
    closing: Notify,
}

impl Listener {
    /// A listener that nobody came in by yet.
    #[must_use]
    pub fn new(name: Arc<str>, settings: ListenerSettings) -> Arc<Self> {
        let rate = Mutex::new(bucket(settings.connection_rate));
        Arc::new(Self {
            name,
            settings: ArcSwap::from_pointee(settings),
            connections: AtomicUsize::new(0),
            rate,
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        })
    }

    /// What it allows now.
    pub fn settings(&self) -> Guard<Arc<ListenerSettings>> {
        self.settings.load()
    }

    /// What the connections that came in by it may cost now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.settings.load().limits)
    }

    /// Replaces what it allows; who came in before stays in.
    pub fn replace(&self, settings: ListenerSettings) {
        if self.settings.load().connection_rate != settings.connection_rate {
            *self.rate.lock() = bucket(settings.connection_rate);
        }
        self.settings.store(Arc::new(settings));
    }

    /// Lets nobody in any more. Who came in before stays in.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    /// Waits until nobody is to be let in any more.
    pub(crate) async fn closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.closed.load(Ordering::Acquire) {
            closing.await;
        }
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Its TLS side, if it has one.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.settings.load().transport.tls.clone()
    }

    /// Counts one more connection in, unless there are too many, or too many at once.
    pub(crate) fn admit(self: &Arc<Self>, now: Tick) -> Result<Place, &'static str> {
        let place = Place(Arc::clone(self));
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.settings.load().max_connections {
            return Err("too many connections of this listener");
        }
        if self.rate.lock().as_mut().is_some_and(|rate| !rate.try_take(1, now)) {
            return Err("too many new connections of this listener at once");
        }
        Ok(place)
    }
}

fn bucket(rate: u64) -> Option<Bucket> {
    (rate > 0).then(|| Bucket::new(rate, rate))
}

/// One of a listener's connections, until it is dropped.
pub(crate) struct Place(Arc<Listener>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a connection came in, and what that door allows.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) at: Arc<Listener>,
    pub(crate) strict: bool,
    pub(crate) remote: Remote,
    pub(crate) kind: Kind,
}
