//! Members of a group that were not there when there was something to send may be sent nothing more until there is something
//! new. So there is, when they are behind and come no further.

use super::raft::{Group, Groups};
use crate::env::task;
use bytes::Bytes;
use nightjar_base::{NodeId, ShardId};
use nightjar_control::{Control, ControlOp, Node};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Looks at which a member that is behind was at the same place, and after which it is woken.
const LOOKS: u32 = 3;

/// Members that are behind: up to where they have the log, and at how many looks that was the same.
#[derive(Debug, Default)]
pub(super) struct Stuck(BTreeMap<(ShardId, NodeId), (u64, u32)>);

impl Stuck {
    /// Looks at the groups that this node leads.
    pub(super) fn look(&mut self, groups: &Groups, control: &Mutex<Control>) {
        let mut now = BTreeMap::new();
        let down = down(&control.lock());
        for group in groups.all().filter(|group| group.leads()) {
            let mut wake = false;
            for (node, index) in group.behind().into_iter().filter(|(node, _)| !down.contains(node)) {
                let before = self.0.get(&(group.id(), node)).filter(|(of, _)| *of == index);
                let looks = before.map_or(1, |(_, looks)| looks + 1);
                wake |= looks.is_multiple_of(LOOKS);
                now.insert((group.id(), node), (index, looks));
            }
            if wake {
                let is_control = group.id() == groups.control().id();
                let entry = if is_control { nothing(&control.lock()) } else { Bytes::new() };
                drop(task::spawn(propose(Arc::clone(group), entry)));
            }
        }
        self.0 = now;
    }
}

async fn propose(group: Arc<Group>, entry: Bytes) {
    // Whoever leads it next looks, too.
    let _ = group.propose(entry).await;
}

/// Nodes that nobody waits for.
fn down(control: &Control) -> BTreeSet<NodeId> {
    control.nodes().filter(|node| node.home().is_none()).map(Node::id).collect()
}

/// An entry of the control group that changes nothing; a shard's has no batches.
fn nothing(control: &Control) -> Bytes {
    let replicas = control.settings().map_or(0, |settings| settings.replicas);
    ControlOp::ReplicasSet { replicas }.encode().unwrap_or_default().into()
}
