//! A node that is being drained: it hands over what it leads, and its clients move to others.
//!
//! What it votes for goes by itself: the placement has no room for it any more, see `upkeep`.

use super::hand_over;
use super::member::Member;
use crate::env::task;
use nightjar_base::NodeId;
use nightjar_control::{Control, Node, Stage};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked, and how many clients are told at each look: a hundred a second, so that those who take them
/// up are not overrun.
const LOOK: Duration = Duration::from_millis(100);
const CLIENTS: usize = 10;
/// How often it is looked whether it is to be drained.
const BEGIN: Duration = Duration::from_millis(1_000);
/// At every so many looks what is still led is handed over: it takes a moment.
const HAND_OVER: u32 = 10;

/// Empties this node whenever it is being drained, for ever.
pub(super) async fn run(member: Arc<Member>) {
    let mut look = 0_u32;
    loop {
        let elsewhere = elsewhere(&member.control.lock(), member.node);
        let rest = if elsewhere.is_some() { LOOK } else { BEGIN };
        match (elsewhere, member.broker()) {
            (Some(elsewhere), Some(broker)) => {
                broker.begin_emptying(elsewhere);
                broker.move_clients(CLIENTS);
                if look.is_multiple_of(HAND_OVER)
                    && let Some(running) = member.running.get()
                {
                    hand_over::all(&member, running).await;
                }
                look = look.wrapping_add(1);
            }
            (None, Some(broker)) => {
                broker.end_emptying();
                look = 0;
            }
            (_, None) => {}
        }
        task::sleep(rest).await;
    }
}

/// Where clients of `node` are to go; `None` unless it is being drained.
fn elsewhere(control: &Control, node: NodeId) -> Option<Vec<Arc<str>>> {
    control.node(node).filter(|node| node.stage() == Stage::Draining)?;
    Some(control.members().filter(|node| node.is_serving()).filter_map(Node::hint).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightjar_base::{HomeId, Wall};
    use nightjar_control::{ControlOp, Settings, Start};

    #[test]
    fn clients_of_a_draining_node_go_to_those_that_serve() {
        let start = |id: u64, hint: Option<&str>| Start {
            id: NodeId(id),
            home: HomeId(id),
            name: format!("n{id}").into(),
            address: format!("n{id}:1").into(),
            hint: hint.map(Arc::from),
            version: 1,
        };
        let members = vec![start(1, Some("a:1")), start(2, Some("b:1")), start(3, None), start(4, Some("d:1"))];
        let settings = Settings { cluster: 1, shards: 1, replicas: 3 };
        let mut control = Control::new(1);
        let now = Wall(0);
        for op in [
            ControlOp::Form { settings, protocol: 1, members, now },
            ControlOp::NodeDown { id: NodeId(4), home: HomeId(4), now },
        ] {
            control.apply(1, op, &mut Vec::new());
        }
        assert_eq!(elsewhere(&control, NodeId(1)), None);
        control.apply(2, ControlOp::NodeDraining { id: NodeId(1), now }, &mut Vec::new());
        assert_eq!(elsewhere(&control, NodeId(1)), Some(vec!["b:1".into()]));
        assert_eq!(elsewhere(&control, NodeId(9)), None);
    }
}
