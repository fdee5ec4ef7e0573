//! Others lead what this node leads: because it goes, because it is drained, or because the placement wishes so.

use super::member::{Member, Running};
use super::raft::{Group, Reign};
use crate::env::task;
use futures_util::future::join_all;
use nightjar_base::{NodeId, ShardId, Tick};
use nightjar_control::{Control, Node};
use std::collections::BTreeMap;
use std::sync::Arc;

/// For how many milliseconds a leader stays where an election has put it, at least: whoever came back may go again.
const SETTLED: u64 = 10_000;
/// How many milliseconds lie between two groups that are handed over because the placement wishes so: a moment of each
/// group is lost by it.
const PAUSE: u64 = 1_000;
/// How many milliseconds lie between two attempts to have others lead who reach more nodes.
const AGAIN: u64 = 2_000;
/// By how many entries the next leader may be behind.
const BEHIND: u64 = 256;

/// Everything that this node leads.
pub(super) async fn all(member: &Member, running: &Running) {
    let led = running.groups.all().filter(|group| group.leads());
    let next = led.filter_map(|group| Some((group, successor(&member.control.lock(), group, member.node)?)));
    let handed: Vec<_> = next.map(|(group, next)| group.hand_over(next)).collect();
    // In vain: then it is asked for again, or an election finds out who leads.
    join_all(handed).await;
}

/// Who leads `group` instead of `own`: the first voter that serves, as the placement has them; none while the voters change.
fn successor(control: &Control, group: &Group, own: NodeId) -> Option<NodeId> {
    let members = group.members();
    let wished = control.placement().of(group.id());
    let mut all = wished.iter().copied().chain(members.voters.iter().copied().map(NodeId));
    let is_fit = |node: &NodeId| *node != own && members.voters.contains(&node.0);
    all.find(|node| !members.is_joint && is_fit(node) && control.node(*node).is_some_and(Node::is_serving))
}

/// Gives groups to those that the placement wishes to lead them, one at a time and not soon after an election; but at once
/// where this node does not reach all nodes and another voter does.
#[derive(Debug, Default)]
pub(super) struct Spreading {
    since: BTreeMap<ShardId, (Reign, Tick)>,
    last: Tick,
    /// When groups were last given away because this node does not reach all others.
    deaf: Tick,
}

impl Spreading {
    /// Looks whether there is a group to be given away.
    pub(super) fn look(&mut self, member: &Member, running: &Running) {
        let now = member.clock.tick();
        self.since.retain(|group, _| running.groups.get(*group).is_some_and(|group| group.leads()));
        for group in running.groups.all().filter(|group| group.leads()) {
            let reign = group.reign();
            let since = self.since.entry(group.id()).or_insert((reign, now));
            if since.0 != reign {
                *since = (reign, now);
            }
        }
        if now.since(self.deaf) >= AGAIN && give_to_better(member, running, now) {
            self.deaf = now;
            return;
        }
        if now.since(self.last) < PAUSE {
            return;
        }
        let settled = self.since.iter().filter(|(_, (_, since))| now.since(*since) >= SETTLED);
        let mut groups = settled.filter_map(|(group, _)| running.groups.get(*group));
        let Some((group, next)) = groups.find_map(|group| Some((group, wished(member, group)?))) else { return };
        self.last = now;
        self.since.remove(&group.id());
        give(Arc::clone(group), next);
    }
}

fn give(group: Arc<Group>, to: NodeId) {
    // In vain: then it is looked at again.
    drop(task::spawn(async move { group.hand_over(to).await }));
}

/// A member that the leader does not reach gets nothing of what is agreed on. Gives all groups that this node leads to voters
/// that reach more nodes than it does; whether there was one.
fn give_to_better(member: &Member, running: &Running, now: Tick) -> bool {
    let is_better = |next: &NodeId| member.sentry.hears_more(*next, now);
    let led = running.groups.all().filter(|group| group.leads());
    let next = led.filter_map(|group| {
        let voters = group.members().voters;
        let serving = |node: &&Node| voters.contains(&node.id().0) && node.is_serving();
        let serving: Vec<NodeId> = member.control.lock().members().filter(serving).map(Node::id).collect();
        Some((Arc::clone(group), serving.into_iter().find(is_better)?))
    });
    let next: Vec<_> = next.collect();
    if let Some((_, to)) = next.first() {
        tracing::warn!(node = %to, groups = next.len(), "another node reaches more of the others: it leads instead");
    }
    let is_any = !next.is_empty();
    next.into_iter().for_each(|(group, to)| give(group, to));
    is_any
}

/// Whom `group` is to be given to, if its first wish is another than this node and can lead at once.
fn wished(member: &Member, group: &Group) -> Option<NodeId> {
    let first = {
        let control = member.control.lock();
        let first = control.placement().of(group.id()).first().copied()?;
        successor(&control, group, member.node).filter(|next| *next == first)?
    };
    let (_, last, _) = group.progress();
    let is_behind = group.behind().iter().any(|(node, index)| *node == first && index + BEHIND < last);
    let is_worse = member.sentry.is_worse(first, member.clock.tick());
    (!is_behind && !is_worse).then_some(first)
}
