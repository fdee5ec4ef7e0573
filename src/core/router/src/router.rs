//! The router: the trie, the subscribers in its slots, and the counts.

use crate::plan::Plan;
use crate::subscribers::{Subscribers, Subscription};
use nightjar_mqtt::SubscriptionOptions;
use nightjar_trie::{Place, Slab, Trie};
use smallvec::SmallVec;
use std::ops::ControlFlow;

/// All subscriptions, by topic filter.
///
/// `H` is the broker's handle of a subscriber; it is cloned into plans, so it should be cheap to clone (an `Arc`).
/// Who a subscriber is, its id says. Filters and topics must be valid; the codec has checked them.
pub struct Router<H> {
    trie: Trie,
    slots: Slab<Subscribers<H>>,
    subscriptions: usize,
    shared: usize,
}

impl<H: Clone> Default for Router<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Clone> Router<H> {
    /// No subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self { trie: Trie::new(), slots: Slab::new(), subscriptions: 0, shared: 0 }
    }

    /// Adds the subscription of `id` with `filter`, or replaces its handle and options if there is one. Returns whether
    /// it is new.
    ///
    /// `share` is the share name of a shared subscription: `g` of `$share/g/filter`.
    pub fn subscribe(
        &mut self,
        filter: &str,
        share: Option<&str>,
        id: u64,
        handle: &H,
        options: SubscriptionOptions,
    ) -> bool {
        let place = self.trie.make(filter);
        let slot = self.trie.slot(place).unwrap_or_else(|| {
            let slot = self.slots.insert(Subscribers::None);
            self.trie.set_slot(place, slot);
            slot
        });
        let subscription = Subscription::new(id, handle.clone(), options);
        let new = match share {
            None => self.slots[slot].insert(subscription),
            Some(share) => self.slots[slot].insert_shared(share, filter, subscription),
        };
        self.subscriptions += usize::from(new);
        self.shared += usize::from(new && share.is_some());
        new
    }

    /// Removes the subscription of `id` with `filter` under `share`. Returns whether it was there.
    pub fn unsubscribe(&mut self, filter: &str, share: Option<&str>, id: u64) -> bool {
        let Some(place) = self.trie.find(filter) else { return false };
        let Some(slot) = self.trie.slot(place) else { return false };
        let removed = match share {
            None => self.slots[slot].remove(id),
            Some(share) => self.slots[slot].remove_shared(share, id),
        };
        self.subscriptions -= usize::from(removed);
        self.shared -= usize::from(removed && share.is_some());
        if self.slots[slot].is_empty() {
            self.discard(place, slot);
        }
        removed
    }

    fn discard(&mut self, place: Place, slot: u32) {
        self.slots.remove(slot);
        self.trie.prune(place);
        let (live, occupied) = self.trie.fill();
        let (live, occupied) = (live + self.slots.live(), occupied + self.slots.occupied());
        // The work is what is left, a quarter of what was removed since the last time: constant for each removal.
        let sparse = occupied > 64 && live < occupied / 4;
        if sparse || self.subscriptions == 0 {
            let slots = self.slots.compact();
            self.trie.compact(&slots);
        }
    }

    /// All who receive a message that `publisher` (a subscriber's id, or any number that is none) published on `topic`.
    ///
    /// A subscriber with several matching subscriptions is in the plan once; see [`Receiver`](crate::Receiver) for what
    /// it gets. Its own messages do not count where it said No Local.
    #[must_use]
    pub fn plan(&self, topic: &str, publisher: u64) -> Plan<H> {
        let mut matched: SmallVec<[&Subscribers<H>; 8]> = SmallVec::new();
        let _ = self.trie.walk(topic, |slot| {
            matched.push(&self.slots[slot]);
            ControlFlow::Continue(())
        });
        Plan::draw(&matched, publisher)
    }

    /// Whether any subscription, plain or shared, matches `topic`.
    #[must_use]
    pub fn has_match(&self, topic: &str) -> bool {
        self.trie.walk(topic, |_| ControlFlow::Break(())).is_break()
    }

    /// The number of subscriptions, shared ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there is no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// The number of subscriptions that are shared.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        self.shared
    }

    /// The number of different topic filters, those of shared subscriptions without their share name.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.slots.live()
    }

    /// The number of nodes in the trie, its root included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.trie.nodes()
    }

    /// About how many bytes all this takes, without what the handles point to. Visits every filter.
    #[must_use]
    pub fn memory(&self) -> usize {
        let outside: usize = self.slots.iter().map(Subscribers::memory).sum();
        self.trie.memory() + self.slots.memory() + outside
    }
}
