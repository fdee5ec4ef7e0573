//! The ops: every change to the control group's state, as plain values that carry their own time.
//!
//! They are what the log holds, so variants and fields are only ever appended, never changed or reordered.

use crate::placement::Placement;
use bincode::Options;
use nightjar_base::{HomeId, NodeId, Wall};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

/// The format of ops that is written here.
const VERSION: u8 = 1;

/// No op is longer; well below what links between nodes take at once.
pub const MAX_OP: u64 = 4 * 1024 * 1024;

/// One change to the control group's state.
///
/// An op for a home that is over is ignored or answered by [`Refused`](crate::ControlEffect::Refused), never half done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlOp {
    /// The cluster begins, with these members, all active.
    Form {
        /// What stays as it is now.
        settings: Settings,
        /// The version of the protocol that is spoken at first.
        protocol: u16,
        /// The first members.
        members: Vec<Start>,
        /// When.
        now: Wall,
    },
    /// Changes how many voters each shard has.
    ReplicasSet {
        /// How many.
        replicas: u8,
    },
    /// From now on this version of the protocol is spoken; every node that has not gone must speak it.
    ProtocolRaised {
        /// The version, one more than before.
        to: u16,
    },
    /// A node that was not known joins; it is to learn the state first.
    NodeJoined {
        /// Its process.
        start: Start,
        /// When.
        now: Wall,
    },
    /// A known node's process begins; a home that it had before is over.
    NodeStarted {
        /// Its process.
        start: Start,
        /// When.
        now: Wall,
    },
    /// A joining node has the state and is given shards; or a draining one is to stay after all.
    NodeUp {
        /// The node.
        id: NodeId,
        /// Its present home; ignored if it is another.
        home: HomeId,
        /// When.
        now: Wall,
    },
    /// A node's process is over, or was cut off for so long that it must be taken so.
    NodeDown {
        /// The node.
        id: NodeId,
        /// Its present home; ignored if it is another.
        home: HomeId,
        /// When.
        now: Wall,
    },
    /// A node is to give up its shards and bridges.
    NodeDraining {
        /// The node.
        id: NodeId,
        /// When.
        now: Wall,
    },
    /// A node is gone for good.
    NodeLeft {
        /// The node.
        id: NodeId,
        /// When.
        now: Wall,
    },
    /// A node is gone for good, and another takes its places.
    NodeReplaced {
        /// Who is gone.
        old: NodeId,
        /// Who takes its places: a known node.
        new: NodeId,
        /// When.
        now: Wall,
    },
    /// What is wished from now on.
    PlacementSet {
        /// The wish.
        placement: Placement,
    },
    /// Transient subscribers at a home: filters that got their first one there, and filters that lost their last.
    /// What is in both is added.
    Routes {
        /// The home; ignored if it is over.
        home: HomeId,
        /// Filters as sent, `$share/group/filter` included.
        added: Vec<Arc<str>>,
        /// The same.
        removed: Vec<Arc<str>>,
    },
    /// A home has this bridge in its configuration and can run it.
    BridgeWanted {
        /// The bridge.
        name: Arc<str>,
        /// The home; ignored if it is over.
        home: HomeId,
    },
    /// A home does not have this bridge in its configuration any more. If it owns it, it is to stop and release it.
    BridgeUnwanted {
        /// The bridge.
        name: Arc<str>,
        /// The home.
        home: HomeId,
    },
    /// The owner has stopped the bridge.
    BridgeReleased {
        /// The bridge.
        name: Arc<str>,
        /// The owner; ignored if it is another.
        home: HomeId,
    },
}

/// What is fixed when the cluster forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's identity.
    pub cluster: u128,
    /// The number of shards.
    pub shards: u16,
    /// Voters of each shard, where there are nodes enough; may be changed. An even number counts as the odd one below.
    pub replicas: u8,
}

/// A process of a node, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The node.
    pub id: NodeId,
    /// This run of it.
    pub home: HomeId,
    /// What people call it.
    pub name: Arc<str>,
    /// Host and port of its door for other nodes.
    pub address: Arc<str>,
    /// What clients are told that should use this node instead of another.
    pub hint: Option<Arc<str>>,
    /// The newest version of the protocol that it speaks; it also speaks the one before.
    pub version: u16,
}

/// Why bytes are no op.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpError {
    /// A newer program wrote it.
    #[error("an op of format {0}, this program knows formats up to {VERSION}")]
    Newer(u8),
    /// It is not what was written.
    #[error("a damaged op: {0}")]
    Corrupt(String),
    /// It is longer than [`MAX_OP`].
    #[error("an op of more than {MAX_OP} bytes")]
    TooLarge,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(MAX_OP)
}

impl ControlOp {
    /// The op's bytes.
    ///
    /// # Errors
    /// [`OpError::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, OpError> {
        let mut bytes = vec![VERSION];
        // Writing to a Vec fails at the limit only.
        options().serialize_into(&mut bytes, self).map_err(|_| OpError::TooLarge)?;
        Ok(bytes)
    }

    /// The inverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// When the bytes are no op that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => options().deserialize(rest).map_err(|error| OpError::Corrupt(error.to_string())),
            Some((&found, _)) if found > VERSION => Err(OpError::Newer(found)),
            Some((found, _)) => Err(OpError::Corrupt(format!("format {found} does not exist"))),
            None => Err(OpError::Corrupt("it is empty".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_whole_ops_of_a_known_format_are_read() {
        let op = ControlOp::Routes { home: HomeId(7), added: vec!["a/+".into()], removed: vec![] };
        let mut bytes = op.encode().unwrap();
        assert_eq!(ControlOp::decode(&bytes), Ok(op));
        for cut in 1..bytes.len() {
            assert!(matches!(ControlOp::decode(&bytes[..cut]), Err(OpError::Corrupt(_))));
        }
        bytes.push(0);
        assert!(matches!(ControlOp::decode(&bytes), Err(OpError::Corrupt(_))));
        bytes[0] = 2;
        assert_eq!(ControlOp::decode(&bytes), Err(OpError::Newer(2)));
        assert!(matches!(ControlOp::decode(&[]), Err(OpError::Corrupt(_))));
    }

    #[test]
    fn an_op_has_a_limit() {
        let filter: Arc<str> = "x".repeat(65_000).into();
        let op = ControlOp::Routes { home: HomeId(7), added: vec![filter; 100], removed: vec![] };
        assert_eq!(op.encode(), Err(OpError::TooLarge));
    }

    /// The bytes are a format: this test fails when a variant is moved or a field changed.
    #[test]
    fn the_format_stays() {
        let op = ControlOp::BridgeReleased { name: "b".into(), home: HomeId(1) };
        let bytes = [&[1, 14, 0, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0, b'b'], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(op.encode().unwrap(), bytes);
    }
}
