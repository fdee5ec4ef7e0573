//! Which nodes keep which shards: the wish, and how a balanced one is found with little movement.

use crate::control::Control;
use crate::node::{Node, Stage};
use nightjar_base::{NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::VecDeque;

/// The most voters of the control group; what they must all agree on is little, but each costs a copy of every vote.
const CONTROL_VOTERS: usize = 5;

/// The voters of every group. All other nodes are learners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// For each shard its voters; the first is the preferred leader.
    pub shards: Vec<Vec<NodeId>>,
    /// The voters of the control group.
    pub control: Vec<NodeId>,
}

impl Placement {
    /// The voters of a shard's group, or of the control group, which is the one behind them.
    #[must_use]
    pub fn of(&self, group: ShardId) -> &[NodeId] {
        self.shards.get(usize::from(group.0)).unwrap_or(&self.control)
    }

    /// Puts `new` where `old` is; whether it was anywhere.
    pub(crate) fn replace(&mut self, old: NodeId, new: NodeId) -> bool {
        let mut found = false;
        for voters in self.shards.iter_mut().chain([&mut self.control]) {
            let Some(at) = voters.iter().position(|&id| id == old) else { continue };
            found = true;
            if voters.contains(&new) {
                voters.remove(at);
            } else {
                voters[at] = new;
            }
        }
        found
    }
}

impl Control {
    /// The placement that should be: that of now, changed where it must be so that every active node has as many voters
    /// and preferred leaders as the others, give or take one; as long as there are so few that each shard has one voter
    /// though it should have more, nothing is moved for that. Nodes that are down keep their places until they leave or
    /// are replaced; draining ones have none. Without an active node nothing can be better than it is.
    #[must_use]
    pub fn plan(&self) -> Placement {
        let active: Vec<&Node> = self.nodes.values().filter(|node| node.stage == Stage::Active).collect();
        let Some(settings) = self.settings.filter(|_| !active.is_empty()) else { return self.placement.clone() };
        let ids: Vec<NodeId> = active.iter().map(|node| node.id).collect();
        let voters = odd(ids.len().min(usize::from(settings.replicas)));
        let planner = Planner::new(&ids, usize::from(settings.shards), &self.placement.shards);
        // More nodes are to come, or to come back: moving the one voter of a shard now would be in vain, and in its way.
        let waits = voters == 1 && settings.replicas > 1;
        Placement {
            shards: planner.plan(voters, !waits, &ids),
            control: control_voters(&active, &self.placement.control),
        }
    }
}

/// The largest odd number that is at most `count`: an even number of voters bears no more failures than the odd one
/// below, and loses its majority sooner.
fn odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

/// Those of now as far as they are active, then nodes that are up, then by id.
fn control_voters(active: &[&Node], now: &[NodeId]) -> Vec<NodeId> {
    let count = odd(active.len().min(CONTROL_VOTERS));
    let mut voters: Vec<NodeId> =
        now.iter().copied().filter(|&id| active.iter().any(|node| node.id == id)).take(count).collect();
    let mut others: Vec<&&Node> = active.iter().filter(|node| !voters.contains(&node.id)).collect();
    others.sort_by_key(|node| (node.home.is_none(), node.id));
    voters.extend(others.iter().map(|node| node.id).take(count - voters.len()));
    voters
}

/// A placement under way; nodes are known by their place in the ordered list of ids.
struct Planner {
    /// The voters of each shard, the preferred leader first.
    shards: Vec<Vec<usize>>,
    /// How many shards each node votes in.
    load: Vec<usize>,
    /// How many shards each node is to lead.
    leads: Vec<usize>,
}

impl Planner {
    /// What of `now` can stay: `ids` are the nodes that may have shards, in order.
    fn new(ids: &[NodeId], shards: usize, now: &[Vec<NodeId>]) -> Self {
        let mut planner =
            Self { shards: vec![Vec::new(); shards], load: vec![0; ids.len()], leads: vec![0; ids.len()] };
        for (kept, voters) in planner.shards.iter_mut().zip(now) {
            kept.extend(voters.iter().filter_map(|id| ids.binary_search(id).ok()));
            for &node in &*kept {
                planner.load[node] += 1;
            }
        }
        planner
    }

    fn plan(mut self, voters: usize, balances: bool, ids: &[NodeId]) -> Vec<Vec<NodeId>> {
        self.trim(voters);
        self.fill(voters);
        if balances {
            self.balance();
            self.spread_leaders();
        }
        self.shards.iter().map(|shard| shard.iter().map(|&node| ids[node]).collect()).collect()
    }

    /// Takes the busiest voters from shards that have too many, leaders last.
    fn trim(&mut self, voters: usize) {
        for shard in &mut self.shards {
            while shard.len() > voters {
                let followers = shard.iter().enumerate().skip(1);
                let Some((at, &node)) = followers.max_by_key(|&(at, &node)| (self.load[node], at)) else { break };
                shard.remove(at);
                self.load[node] -= 1;
            }
        }
    }

    /// Gives the idlest nodes to shards that have too few voters, as evenly as can be without moving any that was there.
    fn fill(&mut self, voters: usize) {
        let kept: Vec<usize> = self.shards.iter().map(Vec::len).collect();
        for shard in &mut self.shards {
            while shard.len() < voters {
                let others = (0..self.load.len()).filter(|node| !shard.contains(node));
                let Some(node) = others.min_by_key(|&node| (self.load[node], node)) else { break };
                shard.push(node);
                self.load[node] += 1;
            }
        }
        while let Some(path) = unburdening(&self.load, |node| self.new_places(node, &kept)) {
            for Step { shard, at, to } in path {
                let from = std::mem::replace(&mut self.shards[shard][at], to);
                self.load[from] -= 1;
                self.load[to] += 1;
            }
        }
    }

    /// The places that `node` was given anew, each with all who could have it instead.
    fn new_places(&self, node: usize, kept: &[usize]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, (shard, &kept)) in self.shards.iter().zip(kept).enumerate() {
            let Some(at) = shard.iter().skip(kept).position(|&voter| voter == node) else { continue };
            let others = (0..self.load.len()).filter(|other| !shard.contains(other));
            steps.extend(others.map(|to| Step { shard: number, at: kept + at, to }));
        }
        steps
    }

    /// Moves single places from the busiest node to the idlest until they differ by one at most. Each move brings both
    /// nearer to where they end, so no more is moved than must be.
    fn balance(&mut self) {
        let nodes = 0..self.load.len();
        loop {
            let Some(busiest) = nodes.clone().max_by_key(|&node| (self.load[node], Reverse(node))) else { return };
            let Some(idlest) = nodes.clone().min_by_key(|&node| (self.load[node], node)) else { return };
            if self.load[busiest] <= self.load[idlest] + 1 {
                return;
            }
            let movable = self.shards.iter_mut().filter(|shard| !shard.contains(&idlest));
            let place = |shard: &mut Vec<usize>| shard.iter().position(|&node| node == busiest);
            let places = movable.filter_map(|shard| place(shard).map(|at| (at == 0, at, shard)));
            // The busiest votes in more shards than the idlest, so in one that the idlest does not vote in. Best one
            // that it does not lead.
            let Some((_, at, shard)) = places.min_by_key(|(leads, ..)| *leads) else { return };
            shard[at] = idlest;
            self.load[busiest] -= 1;
            self.load[idlest] += 1;
        }
    }

    /// Has voters change places with their leaders until the nodes lead as many shards as each other, give or take one.
    ///
    /// With balanced voters that is always possible: each shard's leadership, cut into equal shares for its voters, gives
    /// every node its load over the voters of a shard, and shares can be rounded to whole leaderships.
    fn spread_leaders(&mut self) {
        for &leader in self.shards.iter().filter_map(|shard| shard.first()) {
            self.leads[leader] += 1;
        }
        while let Some(path) = unburdening(&self.leads, |node| self.leaderships(node)) {
            for Step { shard, at, to } in path {
                let voters = &mut self.shards[shard];
                self.leads[voters[0]] -= 1;
                self.leads[to] += 1;
                voters.swap(0, at);
            }
        }
    }

    /// The shards that `node` leads, each with its other voters.
    fn leaderships(&self, node: usize) -> Vec<Step> {
        let led = self.shards.iter().enumerate().filter(|(_, shard)| shard.first() == Some(&node));
        let others = |(number, shard)| {
            let shard: &Vec<usize> = shard;
            shard.iter().enumerate().skip(1).map(move |(at, &to)| Step { shard: number, at, to })
        };
        led.flat_map(others).collect()
    }
}

/// Something that a node can give to another: what is at a place of a shard.
#[derive(Clone, Copy)]
struct Step {
    shard: usize,
    at: usize,
    to: usize,
}

/// A chain of steps, each from the node that the one before it leads to, from a node to one that has less by two at
/// least. When there is none, no distribution of `loads` that steps can reach is more even.
fn unburdening(loads: &[usize], steps: impl Fn(usize) -> Vec<Step>) -> Option<Vec<Step>> {
    let mut sources: Vec<usize> = (0..loads.len()).filter(|&node| loads[node] >= 2).collect();
    sources.sort_by_key(|&node| (Reverse(loads[node]), node));
    sources.into_iter().find_map(|source| path_from(source, loads, &steps))
}

fn path_from(source: usize, loads: &[usize], steps: &impl Fn(usize) -> Vec<Step>) -> Option<Vec<Step>> {
    // How each node was reached, and from which.
    let mut from: Vec<Option<(usize, Step)>> = vec![None; loads.len()];
    let mut queue = VecDeque::from([source]);
    while let Some(node) = queue.pop_front() {
        if loads[node] + 2 <= loads[source] {
            let mut path = Vec::new();
            let mut node = node;
            while let Some((before, step)) = from[node] {
                path.push(step);
                node = before;
            }
            return Some(path);
        }
        for step in steps(node) {
            if step.to != source && from[step.to].is_none() {
                from[step.to] = Some((node, step));
                queue.push_back(step.to);
            }
        }
    }
    None
}
