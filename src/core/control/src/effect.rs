//! What an applied op lets those around the control group do.

use crate::bridges::Owner;
use nightjar_base::{HomeId, NodeId};
use std::sync::Arc;
use thiserror::Error;

/// One consequence of an applied op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEffect {
    /// The settings or the spoken version of the protocol are others.
    SettingsChanged,
    /// A node came, changed or went.
    NodesChanged,
    /// This run of a node is over: so are its connections and its routes.
    HomeDown {
        /// The run.
        home: HomeId,
        /// Whose it was.
        node: NodeId,
    },
    /// Another placement is wished.
    PlacementChanged,
    /// The routes are others; so is their epoch.
    RoutesChanged,
    /// A bridge has another owner, or its owner is to stop it.
    BridgesChanged {
        /// The bridge.
        name: Arc<str>,
        /// Who runs it now.
        owner: Option<Owner>,
        /// Whether the owner is to stop it and release it.
        release: bool,
    },
    /// The op was not done.
    Refused(Refusal),
}

/// Why an op was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no cluster yet.
    #[error("the cluster has not been formed")]
    NotFormed,
    /// There is one already.
    #[error("the cluster has been formed already")]
    AlreadyFormed,
    /// Settings that no cluster can have.
    #[error("a cluster needs a shard, a replica, and members that differ from each other")]
    BadSettings,
    /// Nobody of that id is in the cluster.
    #[error("node {0} is not in the cluster")]
    UnknownNode(NodeId),
    /// The node left or was replaced.
    #[error("node {0} has left the cluster or was replaced; a fresh data folder makes a new node")]
    GoneNode(NodeId),
    /// The home is over, or another node's.
    #[error("home {0} is over")]
    DeadHome(HomeId),
    /// There are as many nodes as there can be.
    #[error("the cluster has as many nodes as it can have")]
    Full,
    /// Versions of the protocol do not meet.
    #[error("version {asked} of the protocol does not go with version {spoken} of the cluster and of its nodes")]
    Version {
        /// What was asked for.
        asked: u16,
        /// What is spoken.
        spoken: u16,
    },
    /// The cluster would have no active node.
    #[error("the last active node cannot go")]
    LastNode,
    /// Old and new are one.
    #[error("a node cannot replace itself")]
    Itself,
    /// A placement names a node that is not in the cluster, or has another number of shards.
    #[error("the placement does not fit the cluster")]
    BadPlacement,
}
