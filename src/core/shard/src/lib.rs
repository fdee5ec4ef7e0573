//! The shard: one deterministic state machine of durable state.
//!
//! [`Shard::apply`] takes ops in order and says what follows from each. The same ops in the same order give the same
//! state on any node, whenever each of them froze its changes into the tables. It knows no clock, no disk, no chance.

mod effect;
mod op;
mod queue;
mod session;
mod shard;
mod tables;

pub use effect::{DropReason, Due, Effect, Entry};
pub use op::{NEVER, Op, Overflow, QueueLimits, Replayed, Subscription, Target, Will};
pub use session::{Cursor, Session, Subscribed};
pub use shard::Shard;
pub use tables::{Change, Tables, TablesError};
