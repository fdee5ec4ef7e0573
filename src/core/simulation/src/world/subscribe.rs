//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that follow: mirrors `broker/subscribe.rs` and, in one step where
//! that takes many, `replay.rs`.

use super::Process;
use super::packet::Packet;
use super::publish::{End, Read};
use nightjar_base::ShardId;
use nightjar_mqtt::{QoS, SubscriptionOptions, topic};
use nightjar_shard::{Op, Replayed, RetainedMessage, Subscription};
use std::rc::Rc;
use std::sync::Arc;

impl Process {
    pub(crate) fn subscribe(self: &Rc<Self>, link: u64, id: u16, filter: &Arc<str>, qos: QoS) -> Result<(), End> {
        let mut read = Read::default();
        if !self.may_acknowledge() {
            read.acknowledge(false, Packet::SubAck { id, granted: false });
            self.finish(link, read, false);
            return Ok(());
        }
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let (durable, subscriber) = {
            let mut broker = self.broker.borrow_mut();
            let peer = broker.peers.get(&link).ok_or(End)?;
            let (durable, subscriber) = (peer.durable, peer.subscriber);
            if let Some(subscriber) = broker.subscribers.get_mut(&subscriber) {
                subscriber.filters.insert(Arc::clone(filter), options);
            }
            (durable, subscriber)
        };
        self.add_route(subscriber, filter, options);
        if durable.queue {
            let subscriptions = vec![Subscription { filter: Arc::clone(filter), options, replay: true }];
            let op = Op::Subscribe { session: durable.session, subscriptions, now: self.wall() };
            read.ops.push((durable.shard, op));
        }
        read.acknowledge(true, Packet::SubAck { id, granted: true });
        let position = self.finish(link, read, true);
        let (process, filter) = (Rc::clone(self), Arc::clone(filter));
        self.spawn(async move { process.settle_subscription(link, position, &filter, options).await });
        Ok(())
    }

    /// The present index of each shard.
    fn ceilings(&self) -> Vec<u64> {
        self.shards.borrow().iter().map(nightjar_shard::Shard::applied).collect()
    }

    /// Sees to it that all nodes know of what was subscribed at `position`; then SUBACK goes, and the retained messages.
    async fn settle_subscription(
        self: &Rc<Self>,
        link: u64,
        position: u64,
        filter: &Arc<str>,
        options: SubscriptionOptions,
    ) {
        self.wait(position).await;
        self.settled().await;
        // What was retained before any node knew of the subscription is here by now: what is newer comes live.
        let ceilings = self.ceilings();
        self.open(link, position);
        self.release(link);
        self.replay(link, filter, options, &ceilings);
    }

    fn replay(&self, link: u64, filter: &Arc<str>, options: SubscriptionOptions, ceilings: &[u64]) {
        let (durable, has_filter) = {
            let broker = self.broker.borrow();
            let Some(peer) = broker.peers.get(&link).filter(|peer| !peer.is_closing) else { return };
            let filters = broker.subscribers.get(&peer.subscriber).map(|of| &of.filters);
            (peer.durable, filters.is_some_and(|filters| filters.contains_key(filter)))
        };
        if !has_filter {
            return;
        }
        let mut entries = Vec::new();
        for shard in self.all_shards().map(|ShardId(shard)| usize::from(shard)) {
            let mut found: Vec<RetainedMessage> = Vec::new();
            let looked =
                self.with_rows(shard, |of, rows| of.retained_page(rows, filter, None, 1_000, 1_000, &mut found));
            looked.expect("rows in memory can be read");
            for RetainedMessage { message, since, .. } in found {
                let qos = message.qos.min(options.qos);
                if since > ceilings[shard] {
                    continue;
                }
                if durable.queue && qos > QoS::AtMostOnce {
                    entries.push(Replayed { message, qos, identifiers: Vec::new() });
                } else {
                    self.deliver_live(link, &message, qos, true);
                }
            }
        }
        if durable.queue {
            let op = Op::Replay { session: durable.session, filter: Arc::clone(filter), entries, after: None };
            self.submit(&mut vec![(durable.shard, op)]);
        }
    }

    pub(crate) fn unsubscribe(self: &Rc<Self>, link: u64, id: u16, filter: &Arc<str>) -> Result<(), End> {
        debug_assert!(!topic::is_shared(filter), "nobody shares here");
        let mut read = Read::default();
        let (durable, subscriber, was_there) = {
            let mut broker = self.broker.borrow_mut();
            let peer = broker.peers.get(&link).ok_or(End)?;
            let (durable, id) = (peer.durable, peer.subscriber);
            let subscriber = broker.subscribers.get_mut(&id).ok_or(End)?;
            (durable, id, subscriber.filters.remove(filter).is_some())
        };
        if was_there {
            self.remove_route(subscriber, filter);
            if durable.queue {
                let op = Op::Unsubscribe { session: durable.session, filters: vec![Arc::clone(filter)] };
                read.ops.push((durable.shard, op));
            }
        }
        read.acknowledge(true, Packet::UnsubAck(id));
        self.finish(link, read, false);
        Ok(())
    }
}
