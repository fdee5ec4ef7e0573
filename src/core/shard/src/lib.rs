//! The shard: one deterministic state machine of durable state.
//!
//! [`Shard::apply`] takes ops in order and says what follows from each. The same ops in the same order give the same
//! state on any node, whenever each of them froze its changes into the tables. It knows no clock, no disk, no chance.
//!
//! In a cluster ops come in batches that may come again: [`Shard::apply_batch`].

mod apply;
mod attach;
mod codec;
mod deadlines;
mod effect;
mod freeze;
mod keys;
mod load;
mod op;
mod origins;
mod page;
mod proposers;
mod queue;
mod queue_reader;
mod retained;
mod rows;
mod session;
mod shard;
mod shared;

pub use nightjar_base::{Change, RowVisitor, Tables, TablesError};

pub use effect::{DropReason, Due, Effect, Entry, Holder};
pub use op::{ALONE, NEVER, Op, Origin, Overflow, QueueLimits, Replayed, Subscription, Target, Will};
pub use proposers::BatchOutcome;
pub use session::{Cursor, Session, Subscribed};
pub use shard::{RetainedMessage, Shard};
