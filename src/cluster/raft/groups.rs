//! All groups of this node.

use super::Agreed;
use super::group::{Group, GroupError, Pace, config};
use super::messages::Kind;
use crate::cluster::wire::{Refusal, Request, Transport};
use crate::store::{Applier, Store};
use bytes::Bytes;
use nightjar_base::{NodeId, ShardId};
use parking_lot::Mutex;
use std::sync::Arc;

/// What the groups of a node are made of.
pub struct Parts {
    /// The store, which is replicated.
    pub store: Store,
    /// What applies entries to it.
    pub applier: Arc<Mutex<Applier>>,
    /// Who is told of what was agreed on.
    pub agreed: Arc<dyn Agreed>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// Heartbeats and elections of the control group.
    pub pace: Pace,
    /// Those of the shards' groups.
    pub shards: Pace,
}

/// The groups of this node: one for each shard, and the control group behind them.
pub struct Groups {
    groups: Vec<Arc<Group>>,
}

impl Groups {
    /// Starts them, as far as the journal says that there is something to start.
    ///
    /// # Errors
    /// When one cannot be started from what is there.
    pub async fn start(parts: Parts) -> Result<Self, GroupError> {
        let node = NodeId(parts.store.node());
        let (shards, control) = (config(parts.shards), config(parts.pace));
        let mut groups = Vec::new();
        for id in 0..=parts.store.shard_count() {
            let config = if id < parts.store.shard_count() { &shards } else { &control };
            groups.push(Arc::new(Group::start(ShardId(id), node, Arc::clone(config), &parts).await?));
        }
        Ok(Self { groups })
    }

    /// The group of a shard.
    #[must_use]
    pub fn get(&self, id: ShardId) -> Option<&Arc<Group>> {
        self.groups.get(usize::from(id.0))
    }

    /// The control group.
    #[must_use]
    pub fn control(&self) -> &Arc<Group> {
        self.groups.last().expect("there is one group more than there are shards")
    }

    /// The groups of the shards.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().take(self.groups.len() - 1)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter()
    }

    /// Whether a request of this kind is for a group.
    #[must_use]
    pub fn takes(kind: u8) -> bool {
        Kind::from_u8(kind).is_some()
    }

    /// Answers another member of a group.
    ///
    /// # Errors
    /// When there is no such group, the request cannot be understood, or the group has stopped.
    pub async fn handle(&self, request: Request) -> Result<Bytes, Refusal> {
        let group = self.get(ShardId(request.group));
        match (group, Kind::from_u8(request.kind)) {
            (Some(group), Some(kind)) => group.handle(kind, request.payload).await,
            _ => Err(Refusal::new(Refusal::NOT_UNDERSTOOD, "there is no such group or request")),
        }
    }

    /// Ends them.
    pub async fn stop(&self) {
        for group in &self.groups {
            group.stop().await;
        }
    }
}
