//! Others lead what this node leads: because it goes, because it is drained, or because the placement wishes so.

use super::member::{Member, Running};
use super::raft::{Group, Reign};
use crate::env::task;
use futures_util::future::join_all;
use nightjar_base::{NodeId, ShardId, Tick};
use nightjar_control::{Control, Node};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For how many milliseconds a leader stays where an election has put it, at least: whoever came back may go again.
const SETTLED: u64 = 10_000;
/// How many milliseconds lie between two groups that are handed over because the placement wishes so: a moment of each
/// group is lost by it.
const PAUSE: u64 = 1_000;
/// By how many entries the next leader may be behind.
const BEHIND: u64 = 256;
/// How long it is tried to hand a group over.
const TRYING: Duration = Duration::from_secs(5);

/// Everything that this node leads.
pub(super) async fn all(member: &Member, running: &Running) {
    let led = running.groups.all().filter(|group| group.leads());
    let orders = led.map(|group| (group, successors(&member.control.lock(), group, member.node)));
    let handed: Vec<_> = orders.map(|(group, order)| hand_over(Arc::clone(group), order)).collect();
    join_all(handed).await;
}

async fn hand_over(group: Arc<Group>, order: Vec<NodeId>) {
    if !order.is_empty() {
        // In vain: then an election finds out who leads.
        let _ = task::timeout(TRYING, group.hand_over(&order)).await;
    }
}

/// Who may lead `group` instead of `own`: voters that serve, as the placement has them, none while the voters change.
fn successors(control: &Control, group: &Group, own: NodeId) -> Vec<NodeId> {
    let members = group.members();
    let wished = control.placement().of(group.id());
    let others = members.voters.iter().copied().map(NodeId).filter(|node| !wished.contains(node));
    let all = wished.iter().copied().chain(others);
    let fit = all.filter(|node| *node != own && members.voters.contains(&node.0));
    fit.filter(|node| !members.is_joint && control.node(*node).is_some_and(Node::is_serving)).collect()
}

/// Gives groups to those that the placement wishes to lead them, one at a time and not soon after an election.
#[derive(Debug, Default)]
pub(super) struct Spreading {
    since: BTreeMap<ShardId, (Reign, Tick)>,
    last: Tick,
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
        if now.since(self.last) < PAUSE {
            return;
        }
        let settled = self.since.iter().filter(|(_, (_, since))| now.since(*since) >= SETTLED);
        let mut groups = settled.filter_map(|(group, _)| running.groups.get(*group));
        let Some((group, order)) = groups.find_map(|group| Some((group, wished(member, group)?))) else { return };
        self.last = now;
        self.since.remove(&group.id());
        drop(task::spawn(hand_over(Arc::clone(group), order)));
    }
}

/// Whom `group` is to be given to, if its first wish is another than this node and can lead at once; behind it the others,
/// should it fail after all.
fn wished(member: &Member, group: &Group) -> Option<Vec<NodeId>> {
    let order = {
        let control = member.control.lock();
        let first = control.placement().of(group.id()).first().copied()?;
        let order = successors(&control, group, member.node);
        order.first().is_some_and(|next| *next == first).then_some(order)?
    };
    let (_, last, _) = group.progress();
    let first = order.first()?;
    let is_behind = group.behind().iter().any(|(node, index)| node == first && index + BEHIND < last);
    let is_lost = member.sentry.lost(member.clock.tick()).contains(first);
    (!is_behind && !is_lost).then_some(order)
}
