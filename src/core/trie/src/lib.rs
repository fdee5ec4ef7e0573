//! Which topic filters match a topic: filters to numbered slots. What is in a slot is its owner's.
//!
//! ```text
//!   "dev/+/temp", "dev/#"        levels: each text once, as a number
//!
//!   root ── dev ── + ── temp     nodes: 24 bytes in a slab; "+" is a field of its parent
//!            │           │
//!          multi       exact     slots: numbers of the owner; "#" is a slot of its parent, not a node
//! ```
//!
//! All edges live in one hash table, keyed by (parent, level). A topic's level is hashed once, whatever the number of
//! nodes that are active at its depth, and a node is visited at most once: matching costs what the topic's levels and
//! the matching prefixes cost, not what all filters cost. Nothing recurses, so neither a topic nor a filter of
//! 32,768 levels can overflow the stack.
//!
//! Hashing is seeded at random because levels come from strangers. What is found does not depend on the order of a hash
//! table.

mod levels;
mod slab;
mod trie;

pub use slab::{NONE, Slab};
pub use trie::{Place, Trie};
