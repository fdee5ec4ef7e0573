//! The other nodes, as the broker sees them.

use super::member::{AGAIN, ASKING, Member};
use crate::broker::{BoxFuture, Census, Far, Forwarded, Others};
use crate::env::task;
use nightjar_base::{ClientId, HomeId, ShardId};
use nightjar_control::{Node, NodeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Others for Member {
    fn home(&self) -> HomeId {
        self.running.get().map_or(HomeId(self.home.load(Ordering::Relaxed)), |running| running.desk.home())
    }

    fn cluster(&self) -> u64 {
        let cluster = self.identity.lock().as_ref().map_or(0, |identity| identity.cluster);
        u64::try_from(cluster & u128::from(u64::MAX)).unwrap_or_default()
    }

    fn may_acknowledge(&self) -> bool {
        self.running.get().is_some_and(|running| running.settling.may_acknowledge())
    }

    fn leads(&self, shard: ShardId) -> bool {
        self.running.get().and_then(|running| running.groups.get(shard)).is_some_and(|group| group.leads())
    }

    fn added(&self, filter: &str) {
        if self.local.lock().added(filter) {
            self.local_changed.notify_one();
        }
    }

    fn removed(&self, filter: &str) {
        if self.local.lock().removed(filter) {
            self.local_changed.notify_one();
        }
    }

    fn settled(&self) -> BoxFuture<()> {
        let Some(running) = self.running.get() else { return Box::pin(std::future::pending()) };
        let (settling, mut told) = (Arc::clone(&running.settling), self.told.subscribe());
        let version = self.local.lock().version();
        Box::pin(async move {
            if told.wait_for(|told| *told >= version).await.is_err() {
                return std::future::pending().await;
            }
            while settling.settled().await.is_err() {
                task::sleep(AGAIN).await;
            }
        })
    }

    fn latest(&self, shard: ShardId) -> BoxFuture<bool> {
        let Some(running) = self.running.get() else { return Box::pin(std::future::ready(false)) };
        // Nobody would ever say of a home that the control group has not heard of that it is over.
        if self.control.lock().node(self.node).and_then(Node::home) != Some(self.home()) {
            return Box::pin(std::future::ready(false));
        }
        let settling = Arc::clone(&running.settling);
        Box::pin(async move { task::timeout(ASKING, settling.latest(shard)).await.unwrap_or(false) })
    }

    fn far(&self, topic: &str) -> Far {
        let control = self.control.lock();
        let homes = |set: NodeSet| {
            let others = control.nodes_in(set).filter(|node| node.id() != self.node);
            others.filter_map(Node::home).collect::<Vec<_>>()
        };
        let mut groups = Vec::new();
        control.groups_for(topic, &mut groups);
        let groups = groups.into_iter().map(|group| (group.key, homes(group.nodes)));
        Far { plain: homes(control.nodes_for(topic)), groups: groups.filter(|(_, homes)| !homes.is_empty()).collect() }
    }

    fn forward(&self, to: HomeId, message: Forwarded) {
        let way = self.ways.lock().get(&to).map(|(way, _)| Arc::clone(way));
        let taken = way.is_some_and(|way| {
            let taken = way.outlet.lock().push(&message);
            way.wake.notify_one();
            taken
        });
        if !taken {
            crate::broker::count_dropped();
        }
    }

    fn census(&self) -> Census {
        self.count()
    }

    fn is_behind(&self) -> bool {
        self.ways.lock().values().any(|(way, _)| way.outlet.lock().is_behind())
    }

    fn evict(&self, home: HomeId, client_id: ClientId, epoch: u64) -> BoxFuture<bool> {
        match self.myself.upgrade() {
            Some(member) => Box::pin(member.see_evicted(home, client_id, epoch)),
            None => Box::pin(std::future::ready(false)),
        }
    }
}
