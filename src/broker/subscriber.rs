//! Who can receive: the router's handle of a session, connected or not.

use super::peer::Peer;
use nightjar_base::{ClientId, SessionId, ShardId};
use nightjar_mqtt::SubscriptionOptions;
use nightjar_policy::Rights;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Subscriptions by their filters, as sent.
pub(crate) type Filters = HashMap<Arc<str>, SubscriptionOptions, foldhash::fast::RandomState>;

/// A session as the router knows it. A transient session's lives as long as its connection, a persistent one's as long
/// as the session.
pub(crate) struct Subscriber {
    /// Unique in this process, and never used again: nothing done late for one can touch another.
    pub(crate) id: u64,
    pub(crate) client_id: ClientId,
    /// Where the queue is, if the session is persistent.
    pub(crate) session: Option<(ShardId, SessionId)>,
    /// What its owner may do.
    rights: Mutex<Rights>,
    /// Whose session it is, if anybody's.
    user: Mutex<Option<Arc<str>>>,
    /// The subscriptions of the present connection; when there is none, those of a persistent session are in the store.
    filters: Mutex<Filters>,
    peer: Mutex<Option<Arc<Peer>>>,
    sent: AtomicU64,
}

impl Subscriber {
    pub(crate) fn new(
        id: u64,
        client_id: ClientId,
        session: Option<(ShardId, SessionId)>,
        user: Option<Arc<str>>,
        rights: Rights,
    ) -> Self {
        let (rights, user) = (Mutex::new(rights), Mutex::new(user));
        let filters = Mutex::default();
        Self { id, client_id, session, rights, user, filters, peer: Mutex::new(None), sent: AtomicU64::new(0) }
    }

    /// What the present connection has subscribed to. Held only while it is looked up or changed.
    pub(crate) fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock()
    }

    /// What its owner may do.
    pub(crate) fn rights(&self) -> Rights {
        self.rights.lock().clone()
    }

    pub(crate) fn set_rights(&self, rights: Rights) {
        *self.rights.lock() = rights;
    }

    /// Whose session it is, if anybody's.
    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.user.lock().clone()
    }

    /// Another connection takes the session.
    pub(crate) fn belongs_to(&self, user: Option<Arc<str>>, rights: Rights) {
        *self.user.lock() = user;
        self.set_rights(rights);
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
        self.note_sent(sent);
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

    pub(crate) fn note_sent(&self, sent: u64) {
        self.sent.fetch_max(sent, Ordering::Relaxed);
    }
}
