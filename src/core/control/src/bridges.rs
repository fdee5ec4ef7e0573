//! Which node runs which bridge: exactly one at a time.
//!
//! ```text
//!               somebody who wants it serves
//!   nobody's ────────────────────────────────▶ owned ◀──┐ nobody else can, or the owner serves again
//!      ▲                                         │      │
//!      │◀──── HomeDown, BridgeReleased ──────────┤      │
//!      │                                         ▼      │
//!      └◀──── HomeDown, BridgeReleased ── owned, to be released: the owner drains, or wants it no more
//! ```
//!
//! An owner keeps a bridge until its home is over or it says that it has stopped: two must never run at once.

use crate::control::Control;
use crate::effect::{ControlEffect, Refusal};
use crate::node::{Node, NodeSet, Seat};
use nightjar_base::{HomeId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who runs a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// The run of it.
    pub home: HomeId,
    /// The index at which it became the owner.
    pub since: u64,
}

/// One bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    pub(crate) wanted: NodeSet,
    pub(crate) owner: Option<Owner>,
    pub(crate) release: bool,
}

impl Bridge {
    /// The nodes that have it in their configuration.
    #[must_use]
    pub fn wanted(&self) -> NodeSet {
        self.wanted
    }

    /// Who runs it.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Whether the owner is to stop it and release it.
    #[must_use]
    pub fn release(&self) -> bool {
        self.release
    }
}

impl Control {
    pub(crate) fn bridge_wanted(&mut self, name: Arc<str>, home: HomeId) -> Result<(), Refusal> {
        let seat = self.node_of(home).and_then(Node::seat).ok_or(Refusal::DeadHome(home))?;
        self.bridges.entry(name).or_default().wanted.insert(seat);
        Ok(())
    }

    pub(crate) fn bridge_unwanted(&mut self, name: &str, home: HomeId) {
        let Some(seat) = self.node_of(home).and_then(Node::seat) else { return };
        if let Some(bridge) = self.bridges.get_mut(name) {
            bridge.wanted.remove(seat);
        }
    }

    /// Takes the bridge from its owner, who gets it again only if nobody else can have it.
    pub(crate) fn bridge_released(&mut self, name: &str, home: HomeId) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let Some(owner) = bridge.owner.filter(|owner| owner.home == home) else { return };
        bridge.owner = None;
        bridge.release = false;
        let wanted = bridge.wanted;
        let others = self.nodes.get(&owner.node).and_then(Node::seat).map_or(wanted, |seat| wanted.without(seat));
        let next = self.choose(others, &self.bridge_loads());
        if let Some(bridge) = self.bridges.get_mut(name) {
            bridge.owner = next;
        }
    }

    /// Takes all bridges from a home that is over.
    pub(crate) fn bridges_lose(&mut self, home: HomeId, seat: Seat) {
        for bridge in self.bridges.values_mut() {
            bridge.wanted.remove(seat);
            if bridge.owner.is_some_and(|owner| owner.home == home) {
                bridge.owner = None;
                bridge.release = false;
            }
        }
    }

    /// Gives every bridge that is nobody's to somebody, asks owners that should not have theirs to release them, and
    /// forgets what nobody wants.
    pub(crate) fn settle_bridges(&mut self) {
        let mut loads = self.bridge_loads();
        let mut bridges = std::mem::take(&mut self.bridges);
        for bridge in bridges.values_mut() {
            let Some(owner) = bridge.owner else {
                bridge.owner = self.choose(bridge.wanted, &loads);
                if let Some(owner) = bridge.owner {
                    *loads.entry(owner.node).or_default() += 1;
                }
                continue;
            };
            let seat = self.nodes.get(&owner.node).and_then(Node::seat);
            let unwanted = seat.is_none_or(|seat| !bridge.wanted.contains(seat));
            // A draining owner keeps it as long as nobody else can have it: better there than nowhere.
            bridge.release = unwanted || (!self.is_serving(owner.node) && self.choose(bridge.wanted, &loads).is_some());
        }
        bridges.retain(|_, bridge| bridge.owner.is_some() || !bridge.wanted.is_empty());
        self.bridges = bridges;
    }

    /// How many bridges each node runs.
    fn bridge_loads(&self) -> BTreeMap<NodeId, usize> {
        let mut loads = BTreeMap::new();
        for owner in self.bridges.values().filter_map(|bridge| bridge.owner) {
            *loads.entry(owner.node).or_default() += 1;
        }
        loads
    }

    /// The serving node of `wanted` with the fewest bridges, of these the one with the lowest id.
    fn choose(&self, wanted: NodeSet, loads: &BTreeMap<NodeId, usize>) -> Option<Owner> {
        let serving = self.nodes_in(wanted).filter(|node| node.is_serving());
        let best = serving.min_by_key(|node| (loads.get(&node.id).copied().unwrap_or(0), node.id))?;
        best.home.map(|home| Owner { node: best.id, home, since: self.applied })
    }

    fn is_serving(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(Node::is_serving)
    }

    /// Tells what is different from `before`.
    pub(crate) fn tell_bridges(&mut self, before: &BTreeMap<Arc<str>, Bridge>, effects: &mut Vec<ControlEffect>) {
        self.rows.bridges |= *before != self.bridges;
        let mut tell = |name: &Arc<str>, owner, release| {
            effects.push(ControlEffect::BridgesChanged { name: name.clone(), owner, release });
        };
        for (name, now) in &self.bridges {
            let told = before.get(name).map_or((None, false), |bridge| (bridge.owner, bridge.release));
            if told != (now.owner, now.release) {
                tell(name, now.owner, now.release);
            }
        }
        for (name, _) in before.iter().filter(|(name, old)| old.owner.is_some() && !self.bridges.contains_key(*name)) {
            tell(name, None, false);
        }
    }
}
