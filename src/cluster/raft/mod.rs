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

/// What a node alone that has data becomes the first of a cluster with.
#[must_use]
pub fn founding(node: nightjar_base::NodeId) -> crate::store::Founding {
    types::founding(node.0)
}

/// What makes `node` the only voter of a group whose log is this: a vote, and the entry behind all others.
///
/// # Errors
/// When the vote that is there cannot be understood.
pub(super) fn alone(
    node: nightjar_base::NodeId,
    log: &crate::store::LogState,
) -> std::io::Result<(bytes::Bytes, crate::store::LogEntry)> {
    types::alone(node.0, log).map_err(types::invalid)
}

/// Whether an entry says who the group's members are.
pub(super) fn is_members_entry(entry: &crate::store::LogEntry) -> bool {
    entry.content == crate::store::Content::Members
}

pub use group::{Group, GroupError, Pace, Reign};
pub use groups::{Groups, Parts};
pub use machine::Agreed;
pub use members::Members;
