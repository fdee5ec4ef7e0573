//! The cluster as one of its nodes sees it, for operators.

use super::member::{Member, Running};
use super::raft::Members;
use crate::broker::inspect::Time;
use crate::broker::{Census, Others as _};
use nightjar_base::{NodeId, ShardId};
use nightjar_control::{Control, Node, Stage};
use serde::Serialize;
use utoipa::ToSchema;

/// The cluster as one of its nodes sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ClusterStatus)]
pub struct Status {
    /// The cluster's id; null while this node belongs to none.
    pub cluster: Option<String>,
    /// This node's id.
    pub node: String,
    /// What people call it.
    pub name: String,
    /// Where other nodes reach it.
    pub address: String,
    /// How far it is: `waiting` (for its cluster), `starting`, `joining`, `active`, `draining` or `gone`.
    pub state: &'static str,
    /// What it waits for, while it does.
    pub waiting_for: Option<String>,
    /// Whether it may acknowledge: it has heard from a majority lately.
    pub in_touch: bool,
    /// The node that leads the control group, as far as this one knows.
    pub control_leader: Option<String>,
    /// How many nodes are to keep each shard.
    pub replicas: u8,
    /// How many shards there are.
    pub shards: u16,
    /// The version of the protocol that the nodes speak.
    pub protocol: u16,
    /// The nodes, by id; those that have gone are left out.
    pub nodes: Vec<NodeStatus>,
    /// Shards that this node leads.
    pub shards_led: usize,
    /// Shards of which this node knows no leader.
    pub shards_without_leader: Vec<u16>,
    /// Entries of all groups that have come to this node and are not applied here yet.
    pub behind_entries: u64,
    /// Bytes of messages that wait to be sent to other nodes.
    pub forward_waiting_bytes: u64,
}

/// A node of a cluster.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeStatus {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where other nodes reach it.
    pub address: String,
    /// Where clients reach it, if its configuration says so.
    pub clients: Option<String>,
    /// Whether it is the one that was asked.
    pub this: bool,
    /// How far it is: `joining`, `active` or `draining`.
    pub stage: &'static str,
    /// Whether it is there.
    pub up: bool,
    /// Since when it is at this stage, and up or down.
    pub since: Time,
    /// The newest version of the protocol that its program speaks.
    pub version: u16,
    /// What it is in the control group: `leader`, `voter` or `follower`.
    pub control: &'static str,
    /// Shards that it leads.
    pub leads: usize,
    /// Shards that it votes for; those whose voters are being changed are left out.
    pub votes: usize,
    /// Whether it is draining and has nothing left to give up but clients: it can leave.
    pub drained: bool,
    /// Whether a fresh node may take its place, as this node was told.
    pub replaceable: bool,
}

/// A group as this node sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: ShardId,
    pub(super) leader: Option<NodeId>,
    pub(super) members: Members,
    behind: u64,
}

impl Seen {
    /// All groups, that of control last.
    pub(super) fn all(running: &Running) -> Vec<Self> {
        let of = |group: &std::sync::Arc<super::raft::Group>| {
            let (_, last, applied) = group.progress();
            let behind = last.saturating_sub(applied);
            Self { id: group.id(), leader: group.leader(), members: group.members(), behind }
        };
        running.groups.all().map(of).collect()
    }

    /// Whether `node` has a say in it.
    pub(super) fn needs(&self, node: NodeId) -> bool {
        self.leader == Some(node) || self.members.voters.contains(&node.0)
    }
}

pub(super) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Joining => "joining",
        Stage::Active => "active",
        Stage::Draining => "draining",
        Stage::Gone => "gone",
    }
}

/// Whether `node` has nothing left to give up.
pub(super) fn is_drained(node: &Node, groups: &[Seen]) -> bool {
    node.stage() == Stage::Draining && !groups.iter().any(|group| group.needs(node.id()))
}

fn node_status(node: &Node, own: NodeId, groups: &[Seen], replaceable: bool) -> NodeStatus {
    let id = node.id();
    let (control, shards) = groups.split_last().map_or((None, groups), |(control, shards)| (Some(control), shards));
    let in_control = match control {
        Some(control) if control.leader == Some(id) => "leader",
        Some(control) if control.needs(id) => "voter",
        _ => "follower",
    };
    NodeStatus {
        id: id.to_string(),
        name: node.name().to_string(),
        address: node.address().to_string(),
        clients: node.hint().map(ToString::to_string),
        this: id == own,
        stage: stage(node.stage()),
        up: node.home().is_some(),
        since: Time(node.since()),
        version: node.version(),
        control: in_control,
        leads: shards.iter().filter(|group| group.leader == Some(id)).count(),
        votes: shards.iter().filter(|of| !of.members.is_joint && of.members.voters.contains(&id.0)).count(),
        drained: is_drained(node, groups),
        replaceable,
    }
}

/// What this node does in its cluster.
fn state(control: &Control, own: NodeId, has_cluster: bool) -> &'static str {
    match control.node(own) {
        Some(node) => stage(node.stage()),
        None if has_cluster => "starting",
        None => "waiting",
    }
}

impl Status {
    /// Why clients are not to be sent to this node, if they are not.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        match self.state {
            "active" if self.in_touch => None,
            "active" => Some("out of touch with the cluster: nothing can be acknowledged".to_owned()),
            "draining" => Some("being drained".to_owned()),
            "joining" => Some("learning the cluster's state".to_owned()),
            "gone" => Some("it has left the cluster, or was replaced".to_owned()),
            _ => Some(self.waiting_for.clone().unwrap_or_else(|| "waiting for the cluster".to_owned())),
        }
    }

    /// Nodes that are there.
    #[must_use]
    pub fn nodes_up(&self) -> usize {
        self.nodes.iter().filter(|node| node.up).count()
    }
}

impl Member {
    /// How the cluster is, as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        let groups = self.running.get().map(Seen::all).unwrap_or_default();
        let cluster = self.identity.lock().as_ref().map(super::identity::Identity::name);
        let (in_touch, forward_waiting_bytes) = (self.may_acknowledge(), self.forward_waiting());
        let control = self.control.lock();
        let shards = groups.split_last().map_or(&[][..], |(_, shards)| shards);
        let state = state(&control, self.node, cluster.is_some());
        Status {
            cluster,
            node: self.node.to_string(),
            name: self.settings.name.to_string(),
            address: self.settings.address.to_string(),
            state,
            waiting_for: self.orders.waiting_for().filter(|_| state == "waiting"),
            in_touch,
            control_leader: groups.last().and_then(|control| control.leader).map(|leader| leader.to_string()),
            replicas: control.settings().map_or(self.settings.replicas, |settings| settings.replicas),
            shards: self.store.shard_count(),
            protocol: control.protocol(),
            nodes: control
                .members()
                .map(|node| node_status(node, self.node, &groups, self.orders.is_replaceable(node.id())))
                .collect(),
            shards_led: shards.iter().filter(|group| group.leader == Some(self.node)).count(),
            shards_without_leader: shards.iter().filter(|of| of.leader.is_none()).map(|of| of.id.0).collect(),
            behind_entries: groups.iter().map(|group| group.behind).sum(),
            forward_waiting_bytes,
        }
    }

    /// A few figures for `$SYS`.
    pub(super) fn count(&self) -> Census {
        let leads = self.running.get().map_or(0, |running| running.groups.shards().filter(|of| of.leads()).count());
        let control = self.control.lock();
        let up = control.members().filter(|node| node.home().is_some()).count();
        Census { nodes: control.members().count(), up, leads }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nightjar_base::{HomeId, Wall};
    use nightjar_control::{ControlOp, Settings, Start};

    /// Nodes 1 to `count`, all active, each `n1` at `n1:1` and so on.
    pub(crate) fn formed(count: u64) -> Control {
        let start = |id: u64| Start {
            id: NodeId(id),
            home: HomeId(id),
            name: format!("n{id}").into(),
            address: format!("n{id}:1").into(),
            hint: None,
            version: 1,
        };
        let mut control = Control::new(2);
        let settings = Settings { cluster: 1, shards: 2, replicas: 3 };
        let members = (1..=count).map(start).collect();
        apply(&mut control, ControlOp::Form { settings, protocol: 1, members, now: Wall(0) });
        control
    }

    pub(crate) fn apply(control: &mut Control, op: ControlOp) {
        let index = control.applied() + 1;
        control.apply(index, op, &mut Vec::new());
    }

    /// A group with these voters, led by the first.
    pub(crate) fn group(id: u16, voters: &[u64]) -> Seen {
        let members = Members { voters: voters.iter().copied().collect(), ..Members::default() };
        Seen { id: ShardId(id), leader: voters.first().copied().map(NodeId), members, behind: 0 }
    }

    #[test]
    fn a_node_is_drained_when_no_group_needs_it() {
        let mut control = formed(3);
        let groups = [group(0, &[1, 2, 3]), group(1, &[2]), group(2, &[1])];
        let drained = |control: &Control, id: u64, groups: &[Seen]| {
            is_drained(control.node(NodeId(id)).expect("it is there"), groups)
        };
        assert!(!drained(&control, 3, &[]), "it is not even draining");
        apply(&mut control, ControlOp::NodeDraining { id: NodeId(3), now: Wall(0) });
        assert!(!drained(&control, 3, &groups));
        assert!(drained(&control, 3, &groups[1..]));
        let shown = node_status(control.node(NodeId(2)).expect("it is there"), NodeId(1), &groups, false);
        assert_eq!((shown.leads, shown.votes, shown.control, shown.up), (1, 2, "follower", true));
        let shown = node_status(control.node(NodeId(1)).expect("it is there"), NodeId(1), &groups, false);
        assert_eq!((shown.leads, shown.votes, shown.control, shown.this), (1, 1, "leader", true));
        assert_eq!(state(&control, NodeId(3), true), "draining");
        assert_eq!((state(&control, NodeId(9), true), state(&control, NodeId(9), false)), ("starting", "waiting"));
    }
}
