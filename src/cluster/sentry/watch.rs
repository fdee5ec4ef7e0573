//! What a node knows of who is there. Pure: times are read by whoever calls.

use nightjar_base::{NodeId, ShardId, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// What a node says of itself, again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Nodes that it takes for lost.
    pub(super) lost: BTreeSet<NodeId>,
    /// Groups that it leads.
    pub(super) leads: BTreeSet<ShardId>,
}

/// What is known of another node.
#[derive(Debug, Default)]
struct Seen {
    /// When it last answered, once it has.
    answered: Option<Tick>,
    /// When it last asked, once it has. Either way may be cut.
    asked: Option<Tick>,
    /// Nothing can be sent to it.
    broken: bool,
    word: Word,
}

/// The other nodes.
#[derive(Debug)]
pub(super) struct Watch {
    own: NodeId,
    /// For how many milliseconds a node may be silent.
    patience: u64,
    seen: BTreeMap<NodeId, Seen>,
}

impl Watch {
    /// What node `own` knows, to whom others are lost after `patience` milliseconds of silence.
    pub(super) fn new(own: NodeId, patience: u64) -> Self {
        Self { own, patience, seen: BTreeMap::new() }
    }

    /// These are all the others. One that is new may take its time until something is heard of it.
    pub(super) fn set_nodes(&mut self, nodes: &BTreeSet<NodeId>) {
        self.seen.retain(|node, _| nodes.contains(node));
        for node in nodes.iter().filter(|node| **node != self.own) {
            self.seen.entry(*node).or_default();
        }
    }

    /// The others.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.seen.keys().copied()
    }

    /// `node` has answered.
    pub(super) fn answered(&mut self, node: NodeId, word: Word, now: Tick) {
        if let Some(seen) = self.seen.get_mut(&node) {
            (seen.answered, seen.broken, seen.word) = (Some(now), false, word);
        }
    }

    /// `node` has asked. Whether anything can be sent to it shows when it answers.
    pub(super) fn asked(&mut self, node: NodeId, word: Word, now: Tick) {
        if let Some(seen) = self.seen.get_mut(&node) {
            (seen.asked, seen.word) = (Some(now), word);
        }
    }

    /// Nothing can be sent to `node`.
    pub(super) fn broken(&mut self, node: NodeId) {
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.broken = true;
        }
    }

    fn is_lost(&self, seen: &Seen, now: Tick) -> bool {
        let mut heard = [seen.answered, seen.asked].into_iter().flatten();
        seen.broken || heard.any(|last| now.since(last) >= self.patience)
    }

    /// Nodes that this one takes for lost.
    pub(super) fn lost(&self, now: Tick) -> BTreeSet<NodeId> {
        self.seen.iter().filter(|(_, seen)| self.is_lost(seen, now)).map(|(node, _)| *node).collect()
    }

    /// Whether most of `voters` take `node` for lost: one that only this node cannot reach goes on.
    pub(super) fn is_over(&self, node: NodeId, voters: &BTreeSet<NodeId>, now: Tick) -> bool {
        let says_so = |voter: &&NodeId| match self.seen.get(voter) {
            Some(seen) => !self.is_lost(seen, now) && seen.word.lost.contains(&node),
            None => **voter == self.own && self.lost(now).contains(&node),
        };
        voters.iter().filter(says_so).count() * 2 > voters.len()
    }

    /// Whether `node`, which is there, misses fewer nodes than this one does, and none that this one does not.
    pub(super) fn hears_more(&self, node: NodeId, now: Tick) -> bool {
        let lost = self.lost(now);
        let seen = self.seen.get(&node).filter(|seen| !self.is_lost(seen, now) && seen.answered.is_some());
        seen.is_some_and(|seen| seen.word.lost.len() < lost.len() && seen.word.lost.is_subset(&lost))
    }

    /// Whether `node`, which is there, misses nodes that this one does not.
    pub(super) fn misses_more(&self, node: NodeId, now: Tick) -> bool {
        let lost = self.lost(now);
        self.seen.get(&node).is_some_and(|seen| !seen.word.lost.is_subset(&lost))
    }

    /// Whether `node`, which is there, says that it does not lead `group`.
    pub(super) fn denies(&self, node: NodeId, group: ShardId, now: Tick) -> bool {
        self.seen.get(&node).is_some_and(|seen| !self.is_lost(seen, now) && !seen.word.leads.contains(&group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u64 = 600;
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn three() -> BTreeSet<NodeId> {
        [A, B, C].into()
    }

    fn watch() -> Watch {
        let mut watch = Watch::new(A, PATIENCE);
        watch.set_nodes(&three());
        watch
    }

    fn lost(nodes: &[NodeId]) -> Word {
        Word { lost: nodes.iter().copied().collect(), ..Word::default() }
    }

    fn hear(watch: &mut Watch, node: NodeId, word: &Word, now: Tick) {
        watch.answered(node, word.clone(), now);
        watch.asked(node, word.clone(), now);
    }

    #[test]
    fn a_node_is_lost_when_it_is_silent_in_either_direction() {
        let mut watch = watch();
        assert_eq!(watch.lost(Tick(9 * PATIENCE)), [].into(), "nothing was heard of them yet");
        hear(&mut watch, B, &Word::default(), Tick(0));
        watch.asked(C, Word::default(), Tick(0));
        assert_eq!(watch.lost(Tick(PATIENCE - 1)), [].into());
        assert_eq!(watch.lost(Tick(PATIENCE)), [B, C].into());
        hear(&mut watch, B, &Word::default(), Tick(500));
        watch.answered(C, Word::default(), Tick(500));
        assert_eq!(watch.lost(Tick(PATIENCE)), [C].into(), "it answers, but nothing comes from it");
        watch.asked(C, Word::default(), Tick(700));
        assert_eq!(watch.lost(Tick(700)), [].into());
        watch.broken(C);
        assert_eq!(watch.lost(Tick(700)), [C].into(), "at once");
        watch.asked(C, Word::default(), Tick(701));
        assert_eq!(watch.lost(Tick(701)), [C].into(), "it asks, but cannot be reached");
        watch.answered(C, Word::default(), Tick(702));
        assert_eq!(watch.lost(Tick(702)), [].into());
    }

    #[test]
    fn a_leader_is_over_when_most_voters_say_so() {
        let mut watch = watch();
        let now = Tick(100);
        watch.broken(C);
        assert!(!watch.is_over(C, &three(), now), "this node alone");
        hear(&mut watch, B, &lost(&[C]), now);
        assert!(watch.is_over(C, &three(), now));
        assert!(!watch.is_over(B, &three(), now));
        // What was said by one that is lost itself counts no more, nor what is said by one that does not vote.
        assert!(!watch.is_over(C, &three(), Tick(100 + PATIENCE)));
        let mut watch = Watch::new(A, PATIENCE);
        watch.set_nodes(&[A, B, C, NodeId(4)].into());
        watch.broken(C);
        hear(&mut watch, NodeId(4), &lost(&[C]), now);
        assert!(!watch.is_over(C, &three(), now));
        // It is one of its own voters, and does not say so of itself.
        hear(&mut watch, C, &lost(&[C]), now);
        watch.broken(C);
        assert!(!watch.is_over(C, &three(), now));
    }

    #[test]
    fn one_link_that_is_broken_is_seen_from_both_ends_and_from_outside() {
        let mut watch = watch();
        let now = Tick(0);
        hear(&mut watch, B, &Word::default(), now);
        assert!(!watch.hears_more(B, now) && !watch.misses_more(B, now));
        watch.broken(C);
        assert!(watch.hears_more(B, now), "B reaches C, and we do not");
        hear(&mut watch, B, &lost(&[C]), now);
        assert!(!watch.hears_more(B, now), "neither does");
        hear(&mut watch, B, &lost(&[A]), now);
        assert!(!watch.hears_more(B, now) && watch.misses_more(B, now), "each misses another");
        assert!(!watch.hears_more(C, now), "nothing is known of one that is lost");
    }

    #[test]
    fn a_node_that_is_there_may_say_that_it_does_not_lead() {
        let mut watch = watch();
        let leads = Word { leads: [ShardId(3)].into(), ..Word::default() };
        hear(&mut watch, B, &leads, Tick(10));
        assert!(!watch.denies(B, ShardId(3), Tick(10)) && watch.denies(B, ShardId(4), Tick(10)));
        assert!(!watch.denies(B, ShardId(4), Tick(10 + PATIENCE)), "nothing is known of it then");
        assert!(!watch.denies(A, ShardId(4), Tick(10)));
    }

    #[test]
    fn nodes_come_and_go() {
        let mut watch = watch();
        watch.broken(B);
        watch.set_nodes(&[A, B].into());
        assert!(watch.nodes().eq([B]));
        watch.set_nodes(&three());
        assert_eq!(watch.lost(Tick(PATIENCE)), [B].into(), "what is known stays, and who is new has time");
    }
}
