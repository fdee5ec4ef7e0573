//! Who is in a group.

use super::types::RaftStanding;
use std::collections::BTreeSet;

/// The members of a group, as its log has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that decide; while they change, those of both sets.
    pub voters: BTreeSet<u64>,
    /// Those that follow.
    pub learners: BTreeSet<u64>,
    /// Whether the voters are being changed.
    pub is_joint: bool,
}

impl Members {
    pub(super) fn of(standing: &RaftStanding) -> Self {
        let members = standing.membership();
        Self {
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
            is_joint: members.get_joint_config().len() > 1,
        }
    }

    /// Whether `node` is one.
    #[must_use]
    pub fn contains(&self, node: u64) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}
