//! Who receives a message: topic filters to subscribers.
//!
//! [`Router`] keeps every subscription in a trie of topic levels and draws up a [`Plan`] for a topic: each subscriber
//! once, each matching group of a shared subscription once.
//!
//! ```text
//!   "dev/+/temp", "dev/#"        levels: each text once, as a number
//!
//!   root ── dev ── + ── temp     nodes: 24 bytes in a slab; "+" is a field of its parent
//!            │           │
//!          multi       exact     slots: who subscribed; "#" is a slot of its parent, not a node
//! ```
//!
//! All edges live in one hash table, keyed by (parent, level). A topic's level is hashed once, whatever the number of
//! nodes that are active at its depth, and a node is visited at most once: matching costs what the topic's levels and
//! the matching prefixes cost, not what all subscriptions cost. Nothing recurses, so neither a topic nor a filter of
//! 32,768 levels can overflow the stack.
//!
//! Hashing is seeded at random because levels come from strangers. No plan depends on the order of a hash table.

mod levels;
mod plan;
mod router;
mod slab;
mod subscribers;
mod trie;

pub use plan::{GroupPlan, Identifiers, Plan, Receiver};
pub use router::Router;
