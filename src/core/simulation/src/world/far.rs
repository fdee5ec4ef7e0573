//! What of a message goes to connections of other nodes: mirrors `broker/far.rs`.

use super::Process;
use super::publish::Source;
use crate::broker::{Forwarded, Publication};
use nightjar_base::HomeId;
use nightjar_control::Node;
use nightjar_mqtt::QoS;
use nightjar_shard::Origin;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// Publications that live subscribers of this node have had, as far as they may be made again.
#[derive(Default)]
pub(crate) struct Recent(BTreeSet<(Origin, u64)>);

impl Recent {
    /// Whether live subscribers are to get it: not if it is made again and they had it.
    pub(crate) fn admit(&mut self, publication: Option<Publication>) -> bool {
        let Some(Publication { origin, digest, again }) = publication else { return true };
        self.0.insert((origin, digest)) || !again
    }
}

impl Process {
    /// The processes of other nodes that have transient subscribers for `topic` (`cluster/others.rs`).
    pub(crate) fn far(&self, topic: &str) -> Vec<HomeId> {
        let control = self.control.borrow();
        let others = control.nodes_in(control.nodes_for(topic)).filter(|node| node.id() != self.id());
        others.filter_map(Node::home).collect()
    }

    /// Hands a message on to those of other nodes.
    pub(crate) fn send_away(&self, source: &Source, away: &BTreeSet<HomeId>) {
        let mut message = Arc::clone(&source.message);
        if message.qos != source.qos {
            Arc::make_mut(&mut message).qos = source.qos;
        }
        for home in away {
            let message = Arc::clone(&message);
            let forwarded = Forwarded { message, plain: true, groups: Vec::new(), hops: 0, origin: source.publication };
            self.forward(*home, &forwarded);
        }
    }

    /// Gives a message that another node has handed on to the connections of this one.
    pub(crate) fn deliver_forwarded(self: &Rc<Self>, forwarded: &Forwarded) {
        let Forwarded { message, origin, .. } = forwarded;
        if !self.broker.borrow_mut().recent.admit(*origin) {
            return;
        }
        let source = Source { message: Arc::clone(message), qos: message.qos, publication: *origin };
        let plan = self.broker.borrow().router.plan(message.topic(), 0);
        for receiver in &plan.receivers {
            let qos = source.qos.min(receiver.qos);
            let peer = {
                let broker = self.broker.borrow();
                let subscriber = broker.subscribers.get(&receiver.id);
                let is_live = |of: &&super::broker::Subscriber| of.session.is_none() || qos == QoS::AtMostOnce;
                subscriber.filter(is_live).and_then(|of| of.peer)
            };
            if let Some(link) = peer {
                self.deliver_live(link, &source.message, qos, source.message.retain && receiver.retain_as_published);
            }
        }
    }
}
