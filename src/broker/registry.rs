//! Who is connected under which client identifier: at most one connection each.
//!
//! Whatever changes a client's session from outside its connection (a new connection, the firing of a delayed will,
//! expiry) first takes the client's *turn*, so that these never run into each other. A connection that ends needs no
//! turn: whoever has it waits until the old connection is gone.

use super::peer::Peer;
use nightjar_base::{ClientId, Tick};
use nightjar_policy::Bucket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

const PARTS: usize = 64;

/// The connections, by client identifier.
pub(crate) struct Registry {
    parts: Vec<Mutex<HashMap<ClientId, Arc<Slot>>>>,
    hasher: std::hash::RandomState,
    connected: AtomicUsize,
    maximum: AtomicUsize,
}

struct Slot {
    /// One permit: the turn.
    turn: Semaphore,
    current: Mutex<Option<Arc<Peer>>>,
    /// Made at the first takeover.
    takeovers: Mutex<Option<Box<Bucket>>>,
}

/// The exclusive right to change a client's session from outside its connection.
pub(crate) struct Claim<'a> {
    registry: &'a Registry,
    client_id: ClientId,
    slot: Arc<Slot>,
    /// Whether the turn has come.
    turn: bool,
}

impl Default for Slot {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), current: Mutex::default(), takeovers: Mutex::default() }
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: std::hash::RandomState::new(),
            connected: AtomicUsize::new(0),
            maximum: AtomicUsize::new(0),
        }
    }

    fn part(&self, client_id: &str) -> &Mutex<HashMap<ClientId, Arc<Slot>>> {
        use std::hash::BuildHasher;
        let hash = usize::try_from(self.hasher.hash_one(client_id) % PARTS as u64).unwrap_or_default();
        &self.parts[hash]
    }

    /// Waits for the client's turn.
    pub(crate) async fn claim(&self, client_id: &ClientId) -> Claim<'_> {
        let slot = Arc::clone(self.part(client_id).lock().entry(Arc::clone(client_id)).or_default());
        let mut claim = Claim { registry: self, client_id: Arc::clone(client_id), slot, turn: false };
        // Given back when the claim is dropped. The semaphore is never closed.
        if let Ok(turn) = claim.slot.turn.acquire().await {
            turn.forget();
        }
        claim.turn = true;
        claim
    }

    /// The connection `peer` of this client is over.
    pub(crate) fn disconnected(&self, peer: &Arc<Peer>) {
        let mut part = self.part(&peer.client_id).lock();
        let Some(slot) = part.get(&peer.client_id) else { return };
        let mut current = slot.current.lock();
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, peer)) {
            return;
        }
        *current = None;
        drop(current);
        self.connected.fetch_sub(1, Ordering::Relaxed);
        // Nobody else holds the slot: no claim waits, and none can come while the part is locked.
        if Arc::strong_count(slot) == 1 {
            part.remove(&peer.client_id);
        }
    }

    /// Connections now.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// The most connections there ever were at a time.
    pub(crate) fn maximum(&self) -> usize {
        self.maximum.load(Ordering::Relaxed)
    }

    /// The client's connection.
    pub(crate) fn find(&self, client_id: &str) -> Option<Arc<Peer>> {
        self.part(client_id).lock().get(client_id).and_then(|slot| slot.current.lock().clone())
    }

    /// Shows every connection to `look`, which must lock nothing.
    pub(crate) fn each(&self, mut look: impl FnMut(&Arc<Peer>)) {
        for part in &self.parts {
            for slot in part.lock().values() {
                if let Some(peer) = &*slot.current.lock() {
                    look(peer);
                }
            }
        }
    }

    /// All connections there are now.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        let of = |part: &Mutex<HashMap<ClientId, Arc<Slot>>>| -> Vec<_> {
            part.lock().values().filter_map(|slot| slot.current.lock().clone()).collect()
        };
        self.parts.iter().flat_map(of).collect()
    }
}

impl Claim<'_> {
    /// The client's connection.
    pub(crate) fn current(&self) -> Option<Arc<Peer>> {
        self.slot.current.lock().clone()
    }

    /// Whether the connection may be taken over once more, at so many times a minute.
    pub(crate) fn may_take_over(&self, a_minute: u64, now: Tick) -> bool {
        let mut takeovers = self.slot.takeovers.lock();
        // The bucket counts sixtieths, since its rate is by the second.
        let bucket = takeovers.get_or_insert_with(|| Box::new(Bucket::new(a_minute, a_minute * 60)));
        bucket.try_take(60, now)
    }

    /// Makes `peer` the client's connection. The one before must be gone.
    pub(crate) fn connect(&self, peer: &Arc<Peer>) {
        let before = self.slot.current.lock().replace(Arc::clone(peer));
        if before.is_none() {
            let now = self.registry.connected.fetch_add(1, Ordering::Relaxed) + 1;
            self.registry.maximum.fetch_max(now, Ordering::Relaxed);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.turn {
            self.slot.turn.add_permits(1);
        }
        let mut part = self.registry.part(&self.client_id).lock();
        // The map's own and this one's: no connection, nobody waiting.
        if self.slot.current.lock().is_none() && Arc::strong_count(&self.slot) == 2 {
            part.remove(&self.client_id);
        }
    }
}
