//! The words that every room shares: ids and time as plain values.
//!
//! Nothing here reads a clock or a random number; `env` does, and passes values in.

mod ids;
mod time;

pub use ids::{ClientId, Home, NodeId, Position, SessionId, ShardId};
pub use time::{Tick, Wall};
