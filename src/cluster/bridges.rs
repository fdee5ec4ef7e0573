//! The bridges of a cluster: each is run by one node at a time, and this node runs those that the control group gives it.
//!
//! ```text
//! configured here ─► BridgeWanted ─► control: owner ─► `owned` ─► the node runs it ─► stopped here ─► BridgeReleased
//! ```

use super::member::Member;
use crate::broker::Others as _;
use nightjar_control::ControlOp;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// What this node has to do with the bridges of its cluster.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    /// Those in its configuration.
    wanted: Mutex<BTreeSet<String>>,
    /// Those that it is to run.
    owned: watch::Sender<BTreeSet<String>>,
    /// Those that it was asked to stop, and has stopped.
    stopped: Mutex<BTreeSet<String>>,
}

impl Member {
    /// This node has these bridges in its configuration, and can run them.
    pub fn want_bridges(&self, names: BTreeSet<String>) {
        *self.bridges.wanted.lock() = names;
        self.nodes_changed.notify_one();
    }

    /// The bridges that this node is to run, and changes of that.
    #[must_use]
    pub fn owned_bridges(&self) -> watch::Receiver<BTreeSet<String>> {
        self.bridges.owned.subscribe()
    }

    /// A bridge that this node was not to run any more has stopped here.
    pub fn bridge_stopped(&self, name: String) {
        self.bridges.stopped.lock().insert(name);
        self.nodes_changed.notify_one();
    }

    /// Whether nobody has this bridge in its configuration any more.
    #[must_use]
    pub fn is_unwanted_bridge(&self, name: &str) -> bool {
        self.control.lock().bridge(name).is_none()
    }

    /// What the control group says of owners is what this node does.
    pub(super) fn see_bridges(&self) {
        let home = self.home();
        let owned = {
            let control = self.control.lock();
            let ours =
                control.bridges().filter(|(_, of)| of.owner().is_some_and(|owner| owner.home == home) && !of.release());
            ours.map(|(name, _)| name.to_string()).collect::<BTreeSet<_>>()
        };
        self.bridges.owned.send_if_modified(|before| {
            let changed = *before != owned;
            *before = owned;
            changed
        });
        self.nodes_changed.notify_one();
    }

    /// Tells the control group what this node wants, and what it has stopped.
    pub(super) async fn tell_bridges(&self) {
        for op in self.bridge_ops() {
            self.agree(&op).await;
        }
    }

    fn bridge_ops(&self) -> Vec<ControlOp> {
        let (home, wanted) = (self.home(), self.bridges.wanted.lock().clone());
        let control = self.control.lock();
        let Some(seat) = control.node_of(home).and_then(nightjar_control::Node::seat) else { return Vec::new() };
        let told = |name: &str| control.bridge(name).is_some_and(|bridge| bridge.wanted().contains(seat));
        let new = wanted.iter().filter(|name| !told(name)).map(|name| Arc::from(name.as_str()));
        let mut ops: Vec<ControlOp> = new.map(|name| ControlOp::BridgeWanted { name, home }).collect();
        for (name, bridge) in control.bridges() {
            if bridge.wanted().contains(seat) && !wanted.contains(&**name) {
                ops.push(ControlOp::BridgeUnwanted { name: Arc::clone(name), home });
            }
        }
        let mut stopped = self.bridges.stopped.lock();
        stopped.retain(|name| {
            let is_ours = |bridge: &nightjar_control::Bridge| bridge.owner().is_some_and(|owner| owner.home == home);
            let asked = control.bridge(name).is_some_and(|bridge| is_ours(bridge) && bridge.release());
            if asked {
                ops.push(ControlOp::BridgeReleased { name: name.as_str().into(), home });
            }
            asked
        });
        ops
    }
}
