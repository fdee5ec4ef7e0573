//! The words that every room shares: ids and time as plain values, checkpointed rows as a trait.
//!
//! Nothing here reads a clock or a random number; `env` does, and passes values in.

mod ids;
pub mod parts;
mod tables;
mod time;

pub use ids::{ClientId, HomeId, NodeId, Position, SessionId, ShardId};
pub use tables::{Change, RowVisitor, Tables, TablesError};
pub use time::{Tick, Wall, millis};
