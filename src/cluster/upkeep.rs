//! What a cluster does for itself: nodes that are silent are declared down, every group has the members and the
//! leader that it should, and what died with a process is cleared away.
//!
//! Every node looks at its own part again and again: the leader of the control group at nodes and placement, the leader of
//! each other group at its members and at sessions of processes that are over.

use super::hand_over::{self, Spreading};
use super::member::{Member, Running};
use super::raft::{Group, GroupError};
use crate::broker::Others as _;
use crate::env::task;
use nightjar_base::{HomeId, NodeId, ShardId, Wall};
use nightjar_control::{ControlOp, Node, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How often everything is looked at, if nothing happens that is known to matter.
const LOOK: Duration = Duration::from_millis(400);
/// For how many milliseconds a node must be silent to be declared down; its lease is over by then.
const SILENT: u64 = 2_000;
/// How long a member may take to catch up before others are looked at.
const CATCHING_UP: Duration = Duration::from_secs(30);
/// How long the members of a group may take to be what they should.
const MINDING: Duration = Duration::from_secs(60);
/// How long the control group may take to agree that a node is down.
const DECLARING: Duration = Duration::from_secs(1);

/// For how many milliseconds a node that has gone is still told what is agreed on: that it has gone, above all. It gets no
/// lease any more, and the last one is over by then.
const PARTING: u64 = 3_000;

/// Whether a node has gone just now. The clocks of two nodes may differ by anything.
fn is_parting(node: &Node, now: Wall) -> bool {
    node.stage() == Stage::Gone && now.0.abs_diff(node.since().0) < PARTING
}

/// Keeps the cluster in order, for ever.
pub(super) async fn run(member: Arc<Member>) {
    let busy: Arc<Mutex<HashSet<ShardId>>> = Arc::default();
    let (mut led, mut spreading) = (HashSet::new(), Spreading::default());
    let mut look = task::interval(LOOK);
    loop {
        tokio::select! {
            () = member.nodes_changed.notified() => {}
            _ = look.tick() => {}
        }
        let Some(running) = member.running.get() else { continue };
        see_nodes(&member);
        come_up(&member).await;
        member.tell_bridges().await;
        if running.groups.control().leads() {
            mind_nodes(&member).await;
        }
        for group in running.groups.all().filter(|group| group.leads()) {
            if busy.lock().insert(group.id()) {
                let (member, group, busy) = (Arc::clone(&member), Arc::clone(group), Arc::clone(&busy));
                drop(task::spawn(async move {
                    // It is tried again at the next look; what has lost its majority meanwhile would be waited for for ever.
                    match task::timeout(MINDING, mind_members(&member, &group)).await {
                        Ok(Err(error)) => tracing::debug!(%error, "members of a group cannot be changed now"),
                        Err(_) => tracing::debug!(group = group.id().0, "members of a group were not changed in time"),
                        Ok(Ok(())) => {}
                    }
                    busy.lock().remove(&group.id());
                }));
            }
        }
        let leads: HashSet<ShardId> = running.groups.shards().filter(|of| of.leads()).map(|of| of.id()).collect();
        clear_away(&member, &leads, &led);
        led = leads;
        spreading.look(&member, running);
    }
}

/// Links go to all nodes there are, and the folder notes them.
fn see_nodes(member: &Arc<Member>) {
    let (addresses, homes) = {
        let (control, now) = (member.control.lock(), member.clock.now());
        let linked = control.nodes().filter(|node| node.stage() != Stage::Gone || is_parting(node, now));
        let addresses: BTreeMap<NodeId, String> = linked.map(|node| (node.id(), node.address().to_string())).collect();
        let homes: Vec<_> = control.members().filter_map(|node| Some((node.id(), node.home()?))).collect();
        (addresses, homes)
    };
    let Some(running) = member.running.get().filter(|_| addresses.contains_key(&member.node)) else { return };
    member.set_ways(&homes);
    let mut identity = member.identity.lock();
    let Some(identity) = identity.as_mut().filter(|identity| identity.nodes != addresses) else { return };
    running.wire.set_peers(&addresses);
    identity.nodes = addresses;
    if let Err(error) = identity.write(&member.settings.folder) {
        tracing::error!(%error, "the nodes of the cluster cannot be noted in the data folder");
    }
}

/// A node that has joined is up when it has what the others have; one that is known by another home says so.
async fn come_up(member: &Arc<Member>) {
    let Some(running) = member.running.get() else { return };
    let known = member.control.lock().node(member.node).map(|node| (node.stage(), node.home()));
    let (id, home, now) = (member.node, member.home(), member.clock.now());
    match known {
        Some((Stage::Gone, _)) | None => {}
        Some((_, of)) if of != Some(home) => {
            let start = member.start();
            member.agree(&ControlOp::NodeStarted { start, now }).await;
        }
        Some((Stage::Joining, _)) => {
            let is_member = |group: &Arc<Group>| group.members().contains(id.0);
            if running.groups.all().all(is_member) && running.settling.catch_up().await {
                member.agree(&ControlOp::NodeUp { id, home, now }).await;
            }
        }
        _ => {}
    }
}

/// As the leader of the control group: nodes that are silent are down, and the placement is as it should be.
async fn mind_nodes(member: &Arc<Member>) {
    let Some(running) = member.running.get() else { return };
    let (homes, plan, now) = {
        let control = member.control.lock();
        let others = control.members().filter(|node| node.id() != member.node);
        let homes: Vec<(NodeId, HomeId)> = others.filter_map(|node| Some((node.id(), node.home()?))).collect();
        let plan = control.settings().map(|_| control.plan()).filter(|plan| plan != control.placement());
        (homes, plan, member.clock.now())
    };
    for (id, home) in homes {
        if running.settling.gives_up(id, home, SILENT) {
            tracing::warn!(node = %id, "nothing is heard of this node: it is taken for down");
            declare_down(running, &ControlOp::NodeDown { id, home, now }).await;
        }
    }
    if let Some(placement) = plan.filter(|plan| !plan.control.is_empty()) {
        member.agree(&ControlOp::PlacementSet { placement }).await;
    }
}

/// Only the leader itself may say so, and only as long as it is: one that is cut off hears nothing of anybody, and must not
/// say it to the next leader once it is back.
async fn declare_down(running: &Running, op: &ControlOp) {
    if let Ok(bytes) = op.encode() {
        // Whoever leads next looks, too.
        let _ = task::timeout(DECLARING, running.groups.control().propose(bytes.into())).await;
    }
}

/// As the leader of a group: it has all nodes, of which those that should do vote.
async fn mind_members(member: &Arc<Member>, group: &Arc<Group>) -> Result<(), GroupError> {
    let (nodes, up, wished, parting) = {
        let (control, now) = (member.control.lock(), member.clock.now());
        let parting: BTreeSet<NodeId> = control.nodes().filter(|node| is_parting(node, now)).map(Node::id).collect();
        let nodes: BTreeSet<NodeId> = control.members().map(Node::id).collect();
        let up: BTreeSet<NodeId> = control.members().filter(|node| node.home().is_some()).map(Node::id).collect();
        let wished = control.placement().of(group.id()).to_vec();
        (nodes, up, wished.into_iter().collect::<BTreeSet<_>>(), parting)
    };
    let members = group.members();
    if members.is_joint || nodes.is_empty() || !nodes.contains(&member.node) {
        return Ok(());
    }
    for node in nodes.iter().filter(|node| !members.contains(node.0) && up.contains(node)) {
        group.add_learner(*node, false).await?;
    }
    let voters: BTreeSet<NodeId> = members.voters.iter().copied().map(NodeId).collect();
    let known = members.voters.iter().chain(&members.learners).copied().map(NodeId);
    let gone: BTreeSet<NodeId> = known.filter(|node| !nodes.contains(node) && !parting.contains(node)).collect();
    let wished = if wished.is_empty() { voters.clone() } else { wished };
    if wished == voters && gone.is_empty() {
        return Ok(());
    }
    for node in wished.difference(&voters) {
        // A voter that is behind would hold up everybody.
        let caught_up = up.contains(node) && task::timeout(CATCHING_UP, group.add_learner(*node, true)).await.is_ok();
        if !caught_up {
            return Ok(());
        }
    }
    group.change(&wished, &gone).await
}

/// As the leader of a shard: sessions whose connections were at processes that are over have lost them.
fn clear_away(member: &Arc<Member>, leads: &HashSet<ShardId>, led: &HashSet<ShardId>) {
    let over: Vec<HomeId> = {
        let control = member.control.lock();
        control.nodes().flat_map(|node| node.past().iter().copied()).collect()
    };
    for &shard in leads {
        let is_new = !led.contains(&shard);
        let homes: BTreeSet<HomeId> = {
            let store = member.store.lock(shard);
            let proposed = over.iter().filter(|home| store.proposed(home.0) > 0).copied();
            let mut homes: BTreeSet<HomeId> = proposed.collect();
            if is_new {
                // Whoever led it before may have gone before it saw to this.
                let attached =
                    store.sessions().filter(|session| session.attached()).map(|session| HomeId(session.home()));
                homes.extend(attached.filter(|home| over.contains(home)));
            }
            homes
        };
        for home in homes {
            member.bury(home, std::iter::once(shard));
        }
    }
}

/// This process ends: others lead what it leads, and what lived in it is over, at once rather than when it is missed.
pub(super) async fn take_leave(member: &Member, running: &Running) {
    hand_over::all(member, running).await;
    let (id, home, now) = (member.node, member.home(), member.clock.now());
    member.agree(&ControlOp::NodeDown { id, home, now }).await;
}
