//! Plans: balanced, moving little, and at rest once they are followed.
#![allow(clippy::unwrap_used, missing_docs)]

use nightjar_base::{HomeId, NodeId, Wall};
use nightjar_control::{Control, ControlOp, Placement, Settings, Start};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NOW: Wall = Wall(1);

/// A cluster whose placement follows its plan.
struct Cluster {
    control: Control,
    index: u64,
    next: u64,
}

impl Cluster {
    fn new(nodes: u64, shards: u16, replicas: u8) -> Self {
        let mut cluster = Self { control: Control::new(7), index: 0, next: nodes };
        let settings = Settings { cluster: 1, shards, replicas };
        let members = (0..nodes).map(start).collect();
        cluster.apply(ControlOp::Form { settings, protocol: 1, members, now: NOW });
        cluster
    }

    fn apply(&mut self, op: ControlOp) {
        self.index += 1;
        self.control.apply(self.index, op, &mut Vec::new());
    }

    /// Follows the plan; returns what was wished before, and what is now.
    fn follow(&mut self) -> (Placement, Placement) {
        let (before, placement) = (self.control.placement().clone(), self.control.plan());
        self.apply(ControlOp::PlacementSet { placement: placement.clone() });
        assert_eq!(self.control.placement(), &placement);
        (before, placement)
    }

    fn join(&mut self) -> NodeId {
        let start = start(self.next);
        self.next += 1;
        let (id, home) = (start.id, start.home);
        self.apply(ControlOp::NodeJoined { start, now: NOW });
        assert_eq!(&self.control.plan(), self.control.placement(), "a joining node gets nothing yet");
        self.apply(ControlOp::NodeUp { id, home, now: NOW });
        id
    }

    fn active(&self) -> Vec<NodeId> {
        self.control.members().filter(|node| node.is_serving()).map(nightjar_control::Node::id).collect()
    }
}

/// Ids in no order of their making.
fn start(number: u64) -> Start {
    let id = NodeId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let text = format!("node{number}");
    Start { id, home: HomeId(number), name: text.as_str().into(), address: text.into(), hint: None, version: 1 }
}

fn counts(nodes: &[NodeId], of: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> = nodes.iter().map(|&id| (id, 0)).collect();
    of.for_each(|id| *counts.get_mut(&id).expect("only active nodes have places") += 1);
    counts
}

fn spread(counts: &BTreeMap<NodeId, usize>) -> usize {
    counts.values().max().unwrap() - counts.values().min().unwrap()
}

fn places(placement: &Placement) -> BTreeSet<(usize, NodeId)> {
    let shards = placement.shards.iter().enumerate();
    shards.flat_map(|(shard, voters)| voters.iter().map(move |&id| (shard, id))).collect()
}

fn voters(nodes: usize, most: usize) -> usize {
    let count = nodes.min(most);
    if count.is_multiple_of(2) { count - 1 } else { count }
}

fn assert_balanced(cluster: &Cluster, placement: &Placement) {
    let (nodes, settings) = (cluster.active(), cluster.control.settings().unwrap());
    let count = voters(nodes.len(), settings.replicas.into());
    assert_eq!(placement.shards.len(), usize::from(settings.shards));
    for shard in &placement.shards {
        assert_eq!(shard.len(), count);
        assert_eq!(shard.iter().collect::<BTreeSet<_>>().len(), count);
    }
    if count > 1 || settings.replicas == 1 {
        assert!(spread(&counts(&nodes, placement.shards.iter().flatten().copied())) <= 1);
        assert!(spread(&counts(&nodes, placement.shards.iter().map(|shard| shard[0]))) <= 1);
    }
    assert_eq!(placement.control.iter().collect::<BTreeSet<_>>().len(), voters(nodes.len(), 5));
    assert!(placement.control.iter().all(|id| nodes.contains(id)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_balanced_and_at_rest(
        nodes in 1_u64..9,
        shards in 1_u16..70,
        replicas in 1_u8..8,
        steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..12),
    ) {
        let mut cluster = Cluster::new(nodes, shards, replicas);
        let (_, first) = cluster.follow();
        assert_balanced(&cluster, &first);
        for (what, which) in steps {
            let active = cluster.active();
            let id = active[which.index(active.len())];
            match what {
                0 | 1 => drop(cluster.join()),
                2 => cluster.apply(ControlOp::NodeLeft { id, now: NOW }),
                _ if active.len() > 1 => cluster.apply(ControlOp::NodeDraining { id, now: NOW }),
                _ => cluster.apply(ControlOp::ReplicasSet { replicas: 1 + which.index(7) as u8 }),
            }
            let (_, placement) = cluster.follow();
            assert_balanced(&cluster, &placement);
            prop_assert_eq!(cluster.control.plan(), placement);
        }
    }

    #[test]
    fn a_node_that_joins_takes_its_share_and_nothing_else_moves(nodes in 3_u64..12, shards in 1_u16..70) {
        let mut cluster = Cluster::new(nodes, shards, 3);
        cluster.follow();
        let id = cluster.join();
        let (before, after) = cluster.follow();
        let added: Vec<_> = places(&after).difference(&places(&before)).copied().collect();
        prop_assert!(added.iter().all(|&(_, node)| node == id));
        prop_assert_eq!(added.len(), usize::from(shards) * 3 / (nodes as usize + 1));
    }

    #[test]
    fn no_balanced_placement_is_nearer(
        nodes in 4_u64..7,
        start in prop::collection::vec(prop::sample::subsequence((0..6).collect::<Vec<usize>>(), 3), 1..5),
        leaves in 0..3_usize,
    ) {
        let mut cluster = Cluster::new(nodes, start.len() as u16, 3);
        let active = cluster.active();
        let shard = |voters: &Vec<usize>| {
            let voters: BTreeSet<NodeId> = voters.iter().map(|&node| active[node % active.len()]).collect();
            voters.into_iter().collect::<Vec<_>>()
        };
        let before = Placement { shards: start.iter().map(shard).collect(), control: active[..3].to_vec() };
        cluster.apply(ControlOp::PlacementSet { placement: before.clone() });
        if leaves > 0 && active.len() > 4 {
            cluster.apply(ControlOp::NodeLeft { id: active[leaves], now: NOW });
        }
        let after = cluster.control.plan();
        assert_balanced(&cluster, &after);
        let added = places(&after).difference(&places(&before)).count();
        prop_assert_eq!(added, least_added(&cluster.active(), &before.shards));
    }
}

/// How many places at least are new in a balanced placement of three voters each, by trying all.
fn least_added(nodes: &[NodeId], before: &[Vec<NodeId>]) -> usize {
    fn search(nodes: &[NodeId], before: &[Vec<NodeId>], loads: &mut Vec<usize>, added: usize, best: &mut usize) {
        let Some((shard, rest)) = before.split_first() else {
            if loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1 {
                *best = added.min(*best);
            }
            return;
        };
        for bits in (0..1_u32 << nodes.len()).filter(|bits| bits.count_ones() == 3) {
            let chosen: Vec<usize> = (0..nodes.len()).filter(|at| bits >> at & 1 == 1).collect();
            let new = chosen.iter().filter(|&&at| !shard.contains(&nodes[at])).count();
            if added + new < *best {
                chosen.iter().for_each(|&at| loads[at] += 1);
                search(nodes, rest, loads, added + new, best);
                chosen.iter().for_each(|&at| loads[at] -= 1);
            }
        }
    }
    let mut best = usize::MAX;
    search(nodes, before, &mut vec![0; nodes.len()], 0, &mut best);
    best
}

#[test]
fn a_node_that_is_down_keeps_its_places() {
    let mut cluster = Cluster::new(4, 16, 3);
    let (_, placement) = cluster.follow();
    let (id, home) = (start(2).id, start(2).home);
    cluster.apply(ControlOp::NodeDown { id, home, now: NOW });
    assert_eq!(cluster.control.plan(), placement);
}

#[test]
fn a_node_takes_the_places_of_the_one_that_it_replaces() {
    let mut cluster = Cluster::new(3, 16, 3);
    let (_, placement) = cluster.follow();
    let (old, new) = (start(0).id, start(3));
    let id = new.id;
    cluster.apply(ControlOp::NodeJoined { start: new, now: NOW });
    cluster.apply(ControlOp::NodeReplaced { old, new: id, now: NOW });
    let renamed = |ids: &Vec<NodeId>| ids.iter().map(|&node| if node == old { id } else { node }).collect();
    let wanted =
        Placement { shards: placement.shards.iter().map(renamed).collect(), control: renamed(&placement.control) };
    assert_eq!(cluster.control.placement(), &wanted);
    assert_eq!(cluster.control.plan(), wanted);
}

#[test]
fn two_nodes_have_one_voter_and_none_none() {
    let mut cluster = Cluster::new(2, 4, 3);
    let (_, placement) = cluster.follow();
    assert!(placement.shards.iter().all(|shard| shard.len() == 1));
    assert_eq!(placement.control.len(), 1);
    // What one node has stays there until there are three.
    let mut grown = Cluster::new(1, 4, 3);
    let (_, before) = grown.follow();
    grown.join();
    let (_, with_two) = grown.follow();
    assert_eq!(with_two, before);
    grown.join();
    let (_, with_three) = grown.follow();
    assert!(with_three.shards.iter().all(|shard| shard.len() == 3));
    for id in cluster.active() {
        cluster.apply(ControlOp::NodeDraining { id, now: NOW });
    }
    assert_eq!(cluster.control.plan(), placement);
    assert_eq!(Control::new(0).plan(), Placement::default());
}
