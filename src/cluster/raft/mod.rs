//! Raft: a group agrees on the entries of a log, and each node applies them.
//!
//! | file | its story |
//! | --- | --- |
//! | `groups`, `group` | all groups of this node; one of them |
//! | `log_store` | a group's log in the journal that all groups share |
//! | `machine` | applying what was agreed on; snapshots |
//! | `network`, `messages` | what members say to each other |
//! | `types`, `members` | openraft's types as they are used here, and as bytes |
//!
//! Only this room names openraft.

mod group;
mod groups;
mod log_store;
mod machine;
mod members;
mod messages;
mod network;
#[cfg(test)]
mod tests;
mod types;

pub use group::{Group, GroupError, Pace, Reign};
pub use groups::{Groups, Parts};
pub use machine::Agreed;
pub use members::Members;
