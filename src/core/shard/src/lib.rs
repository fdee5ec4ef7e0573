//! The shard: one deterministic state machine of durable state.
//!
//! [`Shard::apply`] takes ops in order and says what follows from each. The same ops in the same order give the same
//! state on any node, whenever each of them froze its changes into the tables. It knows no clock, no disk, no chance.

mod apply;
mod codec;
mod deadlines;
mod effect;
mod freeze;
mod keys;
mod load;
mod op;
mod page;
mod queue;
mod queue_reader;
mod retained;
mod rows;
mod session;
mod shard;
mod shared;

pub use nightjar_base::{Change, RowVisitor, Tables, TablesError};

pub use effect::{DropReason, Due, Effect, Entry};
pub use op::{NEVER, Op, Overflow, QueueLimits, Replayed, Subscription, Target, Will};
pub use session::{Cursor, Session, Subscribed};
pub use shard::{RetainedMessage, Shard};
