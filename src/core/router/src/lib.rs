//! Who receives a message: topic filters to subscribers.
//!
//! [`Router`] keeps every subscription in the trie of `nightjar-trie` and draws up a [`Plan`] for a topic: each
//! subscriber once, each matching group of a shared subscription once.

mod plan;
mod router;
mod subscribers;

pub use plan::{GroupPlan, Identifiers, Plan, Receiver};
pub use router::Router;
