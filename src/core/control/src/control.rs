//! The state, and what can be read of it.

use crate::bridges::Bridge;
use crate::freeze::Rows;
use crate::node::{Node, NodeSet, Seat, Stage};
use crate::op::Settings;
use crate::placement::Placement;
use crate::routes::{GroupRoute, Routes};
use nightjar_base::{HomeId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The deterministic state machine of the control group.
#[derive(Debug)]
pub struct Control {
    /// The group's number, with which its rows' keys begin.
    pub(crate) group: u16,
    pub(crate) applied: u64,
    pub(crate) settings: Option<Settings>,
    pub(crate) protocol: u16,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) placement: Placement,
    pub(crate) routes: Routes,
    pub(crate) bridges: BTreeMap<Arc<str>, Bridge>,
    pub(crate) rows: Rows,
}

impl Control {
    /// A cluster that has not been formed; `group` is the number of its Raft group.
    #[must_use]
    pub fn new(group: u16) -> Self {
        Self {
            group,
            applied: 0,
            settings: None,
            protocol: 0,
            nodes: BTreeMap::new(),
            placement: Placement::default(),
            routes: Routes::default(),
            bridges: BTreeMap::new(),
            rows: Rows::default(),
        }
    }

    /// The group's number.
    #[must_use]
    pub fn group(&self) -> u16 {
        self.group
    }

    /// The entry `index` had no op.
    pub fn note_index(&mut self, index: u64) {
        self.applied = index;
    }

    /// The index of the last applied op.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What was fixed when the cluster formed; none before.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The version of the protocol that is spoken.
    #[must_use]
    pub fn protocol(&self) -> u16 {
        self.protocol
    }

    /// The version that [`ProtocolRaised`](crate::ControlOp::ProtocolRaised) can raise it to now, if any.
    #[must_use]
    pub fn next_protocol(&self) -> Option<u16> {
        let next = self.protocol.checked_add(1)?;
        self.settings?;
        self.members().all(|node| node.version >= next).then_some(next)
    }

    /// All nodes, those that have gone too, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The nodes that have not gone.
    pub fn members(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.stage != Stage::Gone)
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The node whose present run this is.
    #[must_use]
    pub fn node_of(&self, home: HomeId) -> Option<&Node> {
        self.nodes.values().find(|node| node.home == Some(home))
    }

    /// The node that has this seat.
    #[must_use]
    pub fn node_at(&self, seat: Seat) -> Option<&Node> {
        self.nodes.values().find(|node| node.seat == Some(seat))
    }

    /// The seats of all nodes that have not gone.
    #[must_use]
    pub fn seats(&self) -> NodeSet {
        let seats = self.nodes.values().filter_map(|node| node.seat);
        seats.fold(NodeSet::default(), |set, seat| set.union(NodeSet::only(seat)))
    }

    /// The nodes of a set.
    pub fn nodes_in(&self, set: NodeSet) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.seat.is_some_and(|seat| set.contains(seat)))
    }

    /// What is wished; empty until it was set first. [`plan`](Self::plan) says what should be.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The nodes that have transient subscribers, other than by shared subscriptions, whose filters match `topic`.
    #[must_use]
    pub fn nodes_for(&self, topic: &str) -> NodeSet {
        self.routes.nodes_for(topic)
    }

    /// Adds the shared subscriptions whose filters match `topic`, each with the nodes that have transient members.
    pub fn groups_for(&self, topic: &str, out: &mut Vec<GroupRoute>) {
        self.routes.groups_for(topic, out);
    }

    /// The filters that a node has transient subscribers for, as they were sent, in order. Visits every filter.
    #[must_use]
    pub fn routes_of(&self, seat: Seat) -> Vec<String> {
        self.routes.of(seat)
    }

    /// Counts changes of the routes: what was drawn up at one epoch is true as long as it stands.
    #[must_use]
    pub fn routes_epoch(&self) -> u64 {
        self.routes.epoch
    }

    /// How many different filters have a route, those of shared subscriptions without their share name.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// About how many bytes the routes take. Visits every filter.
    #[must_use]
    pub fn routes_memory(&self) -> usize {
        self.routes.memory()
    }

    /// All bridges, in the order of their names.
    pub fn bridges(&self) -> impl Iterator<Item = (&Arc<str>, &Bridge)> {
        self.bridges.iter()
    }

    /// One bridge.
    #[must_use]
    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.bridges.get(name)
    }
}
