//! Whose turn it is to lead a group that has lost its leader. Pure.
//!
//! All voters come to the same order, so that one stands at a time; if nothing comes of it the next one does.

use crate::cluster::raft::Reign;
use nightjar_base::{NodeId, ShardId, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// How many milliseconds a voter has to become leader before it is the next one's turn.
const TURN: u64 = 400;

/// A group without a leader.
#[derive(Debug)]
struct Vacancy {
    reign: Reign,
    since: Tick,
    /// The turn that this node has stood in.
    stood: Option<u64>,
}

/// Groups without a leader, and since when.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<ShardId, Vacancy>);

impl Turns {
    /// `group` has a leader.
    pub(super) fn filled(&mut self, group: ShardId) {
        self.0.remove(&group);
    }

    /// `group` has none since `reign`, which is taken for true after `grace` milliseconds. Whether `own` is to stand now:
    /// once in each of its turns among `candidates`.
    pub(super) fn is_due(
        &mut self,
        group: ShardId,
        reign: Reign,
        grace: u64,
        candidates: &[NodeId],
        own: NodeId,
        now: Tick,
    ) -> bool {
        let new = || Vacancy { reign, since: now, stood: None };
        let vacancy = self.0.entry(group).or_insert_with(new);
        if vacancy.reign != reign {
            *vacancy = new();
        }
        let Some(waited) = now.since(vacancy.since).checked_sub(grace) else { return false };
        let turn = waited / TURN;
        let count = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
        let Some(at) = turn.checked_rem(count).and_then(|at| usize::try_from(at).ok()) else { return false };
        let is_due = candidates.get(at) == Some(&own) && vacancy.stood != Some(turn);
        if is_due {
            vacancy.stood = Some(turn);
        }
        is_due
    }
}

/// Those who may lead next, in the order of their turns: voters that are not lost, as the placement wishes them first.
pub(super) fn candidates(
    wished: &[NodeId],
    voters: &BTreeSet<NodeId>,
    leader: Option<NodeId>,
    lost: &BTreeSet<NodeId>,
) -> Vec<NodeId> {
    let others = voters.iter().filter(|node| !wished.contains(node));
    let all = wished.iter().filter(|node| voters.contains(node)).chain(others);
    all.filter(|node| Some(**node) != leader && !lost.contains(node)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: ShardId = ShardId(5);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn reign(term: u64) -> Reign {
        Reign { term, leader: Some(A) }
    }

    #[test]
    fn voters_stand_one_after_the_other_and_once_in_a_turn() {
        let (mut ours, mut theirs) = (Turns::default(), Turns::default());
        let order = [B, C];
        for round in 0..3 {
            let begin = round * 2 * TURN;
            for now in (begin..begin + 2 * TURN).step_by(50) {
                let (b, c) = (
                    ours.is_due(GROUP, reign(1), 0, &order, B, Tick(now)),
                    theirs.is_due(GROUP, reign(1), 0, &order, C, Tick(now)),
                );
                assert_eq!(b, now == begin, "{now}");
                assert_eq!(c, now == begin + TURN, "{now}");
            }
        }
        assert!(!ours.is_due(GROUP, reign(1), 0, &[], B, Tick(9_000)), "nobody can");
        // Each reign begins the turns anew, and so does a leader in between.
        assert!(ours.is_due(GROUP, reign(2), 0, &order, B, Tick(9_000)));
        assert!(!ours.is_due(GROUP, reign(2), 0, &order, B, Tick(9_010)));
        ours.filled(GROUP);
        assert!(ours.is_due(GROUP, reign(2), 0, &order, B, Tick(9_020)));
    }

    #[test]
    fn what_is_not_certain_is_waited_for() {
        let mut turns = Turns::default();
        assert!(!turns.is_due(GROUP, reign(1), 600, &[B], B, Tick(1_000)));
        assert!(!turns.is_due(GROUP, reign(1), 600, &[B], B, Tick(1_599)));
        assert!(turns.is_due(GROUP, reign(1), 600, &[B], B, Tick(1_600)));
        assert!(!turns.is_due(GROUP, reign(2), 600, &[B], B, Tick(1_700)), "another reign has only begun");
    }

    #[test]
    fn the_placement_says_who_is_first() {
        let voters = [A, B, C].into();
        assert_eq!(candidates(&[C, A], &voters, Some(A), &[].into()), [C, B]);
        assert_eq!(candidates(&[C, A], &voters, Some(A), &[C].into()), [B]);
        assert_eq!(candidates(&[NodeId(9), B], &voters, None, &[].into()), [B, A, C]);
    }
}
