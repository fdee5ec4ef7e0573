//! Who can receive: the router's handle of a session, connected or not.

use super::bridges::Keeping;
use super::peer::Peer;
use crate::auth::Identity;
use nightjar_base::{ClientId, HomeId, SessionId, ShardId};
use nightjar_mqtt::SubscriptionOptions;
use nightjar_policy::Rights;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Subscriptions by their filters, as sent.
pub(crate) type Filters = HashMap<Arc<str>, SubscriptionOptions, foldhash::fast::RandomState>;

/// Whose a session is, and what its owner may do.
struct Held {
    user: Option<Arc<str>>,
    rights: Rights,
    /// Credentials may have granted more than the rules do. Nobody can tell while they are not shown.
    granted: bool,
    /// The rights are those of the rules alone.
    away: bool,
}

/// A session as the router knows it. A transient session's lives as long as its connection, a persistent one's as long
/// as the session.
pub(crate) struct Subscriber {
    /// Unique in this process, and never used again: nothing done late for one can touch another.
    pub(crate) id: u64,
    pub(crate) client_id: ClientId,
    /// Where the queue is, if the session is persistent.
    pub(crate) session: Option<(ShardId, SessionId)>,
    held: Mutex<Held>,
    /// The subscriptions of the present connection; when there is none, those of a persistent session are in the store.
    filters: Mutex<Filters>,
    peer: Mutex<Option<Arc<Peer>>>,
    /// The process that has the session's connection, if it is another; else 0.
    home: AtomicU64,
    sent: AtomicU64,
    certainly_sent: AtomicU64,
    /// How its queue is kept, if it is a bridge's.
    keeping: OnceLock<Box<Keeping>>,
    /// Whether it is a bridge's, of our own or of another broker.
    link: AtomicBool,
}

impl Subscriber {
    pub(crate) fn new(
        id: u64,
        client_id: ClientId,
        session: Option<(ShardId, SessionId)>,
        user: Option<Arc<str>>,
        rights: Rights,
        granted: bool,
    ) -> Self {
        let held = Mutex::new(Held { user, rights, granted, away: true });
        let filters = Mutex::default();
        let (sent, certainly_sent) = (AtomicU64::new(0), AtomicU64::new(0));
        let (peer, keeping) = (Mutex::new(None), OnceLock::new());
        let (home, link) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { id, client_id, session, held, filters, peer, home, sent, certainly_sent, keeping, link }
    }

    /// The process of another node that has its connection.
    pub(crate) fn elsewhere(&self) -> Option<HomeId> {
        Some(HomeId(self.home.load(Ordering::Relaxed))).filter(|home| home.0 != 0)
    }

    /// Another process has its connection, or none has any more.
    pub(crate) fn set_elsewhere(&self, home: Option<HomeId>) {
        self.home.store(home.map_or(0, |home| home.0), Ordering::Relaxed);
    }

    /// Whether it is a bridge's.
    pub(crate) fn is_link(&self) -> bool {
        self.link.load(Ordering::Relaxed)
    }

    /// What it gets, a bridge carries away; whether that is news.
    pub(crate) fn set_link(&self, is_link: bool) -> bool {
        self.link.swap(is_link, Ordering::Relaxed) != is_link
    }

    /// How its queue is kept, if it is a bridge's.
    #[inline]
    pub(crate) fn keeping(&self) -> Option<&Keeping> {
        self.keeping.get().map(|keeping| &**keeping)
    }

    pub(crate) fn keeping_or_default(&self) -> &Keeping {
        self.keeping.get_or_init(Box::default)
    }

    /// What the present connection has subscribed to. Held only while it is looked up or changed.
    pub(crate) fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock()
    }

    /// What its owner may do.
    pub(crate) fn rights(&self) -> Rights {
        self.held.lock().rights.clone()
    }

    /// Whether its owner may be sent what is published on `topic`.
    pub(crate) fn may_receive(&self, topic: &str) -> bool {
        self.held.lock().rights.receive(topic)
    }

    /// Whether its owner, who is away, may come back with credentials that grant more than the rights that are known.
    pub(crate) fn may_have_more_rights(&self) -> bool {
        let held = self.held.lock();
        self.session.is_some() && held.granted && held.away
    }

    pub(crate) fn set_rights(&self, rights: Rights) {
        let mut held = self.held.lock();
        held.rights = rights;
        held.away = false;
    }

    /// The rules have changed: what they say of the owner, unless it is connected.
    pub(crate) fn set_rights_while_away(&self, rights: Rights) {
        let peer = self.peer.lock();
        if peer.is_none() {
            let mut held = self.held.lock();
            held.rights = rights;
            held.away = true;
        }
    }

    /// Whose session it is, if anybody's.
    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.held.lock().user.clone()
    }

    /// Another connection takes the session.
    pub(crate) fn belongs_to(&self, identity: &Identity, rights: Rights) {
        let granted = identity.grants.is_some() || !identity.groups.is_empty();
        *self.held.lock() = Held { user: identity.owner().cloned(), rights, granted, away: false };
    }

    /// The connection, if there is one. Held only while something is appended to its outbox.
    #[inline]
    pub(crate) fn peer(&self) -> MutexGuard<'_, Option<Arc<Peer>>> {
        self.peer.lock()
    }

    pub(crate) fn connected(&self, peer: Arc<Peer>) {
        *self.peer.lock() = Some(peer);
    }

    /// The connection `peer` is over. `sent` is the first sequence of the queue that was never sent.
    pub(crate) fn disconnected(&self, peer: &Arc<Peer>, sent: u64) {
        self.note_sent(sent, sent);
        let mut current = self.peer.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, peer)) {
            if self.session.is_some() {
                *self.filters.lock() = Filters::default();
            }
            *current = None;
        }
    }

    /// Messages before this sequence may have been sent before: sent again, they carry DUP [MQTT-3.3.1-1].
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Messages before this sequence were sent before, whatever a crash has left behind.
    pub(crate) fn certainly_sent(&self) -> u64 {
        self.certainly_sent.load(Ordering::Relaxed)
    }

    pub(crate) fn note_sent(&self, sent: u64, certainly: u64) {
        self.sent.fetch_max(sent, Ordering::Relaxed);
        self.certainly_sent.fetch_max(certainly, Ordering::Relaxed);
    }
}
