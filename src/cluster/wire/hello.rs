//! Who may speak to whom. Both ends of a link say who they are before anything else, and both look at what they hear.

use super::ports::{Lane, Peer};
use super::proto;
use crate::telemetry::escape;
use nightjar_base::{HomeId, NodeId};
use std::sync::Arc;

/// Raised when what is sent would not be understood by an older node.
pub(super) const PROTOCOL: u32 = 1;
/// The most bytes of a node's name.
const LONGEST_NAME: usize = 256;

/// Why a node is not spoken to. Each of these lasts until an operator mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("it said no hello")]
    Silent,
    #[error("it speaks version {0} of the cluster's protocol, this node {PROTOCOL}")]
    Protocol(u32),
    #[error("it belongs to the cluster {0}, this node to {1:?}")]
    Cluster(String, Arc<str>),
    #[error("it looks for node {0}, and this is {1}: the address is now another node's")]
    NotMe(NodeId, NodeId),
    #[error("it is node {0}, and {1} is expected there: the address is now another node's")]
    Another(NodeId, NodeId),
    #[error("it has this node's own id, {0}: the address is this node's own, or its data folder a copy")]
    Myself(NodeId),
    #[error("its name is longer than {LONGEST_NAME} bytes")]
    Name,
    #[error("it is on another lane")]
    Lane,
}

/// What this node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Introduction<'a> {
    pub(super) me: &'a Peer,
    pub(super) cluster: &'a Arc<str>,
}

impl Introduction<'_> {
    /// The hello to `to`.
    pub(super) fn hello(&self, to: NodeId, lane: Lane) -> proto::Hello {
        proto::Hello {
            protocol: PROTOCOL,
            cluster: self.cluster.as_ref().to_owned(),
            node: self.me.node.0,
            home: self.me.home.0,
            name: self.me.name.as_ref().to_owned(),
            lane: lane.into(),
            to: to.0,
        }
    }

    /// Looks at a hello; one is `expected` to come from a certain node, if we dialled that.
    pub(super) fn check(
        &self,
        hello: Option<proto::Hello>,
        expected: Option<(NodeId, Lane)>,
    ) -> Result<(Peer, Lane), Mismatch> {
        let hello = hello.ok_or(Mismatch::Silent)?;
        let node = NodeId(hello.node);
        if hello.protocol != PROTOCOL {
            return Err(Mismatch::Protocol(hello.protocol));
        }
        if hello.cluster != **self.cluster {
            return Err(Mismatch::Cluster(escape(&hello.cluster).to_string(), Arc::clone(self.cluster)));
        }
        if node == self.me.node {
            return Err(Mismatch::Myself(node));
        }
        if let Some((expected, _)) = expected.filter(|(expected, _)| *expected != node) {
            return Err(Mismatch::Another(node, expected));
        }
        if hello.to != self.me.node.0 {
            return Err(Mismatch::NotMe(NodeId(hello.to), self.me.node));
        }
        let lane = lane(hello.lane()).ok_or(Mismatch::Lane)?;
        if expected.is_some_and(|(_, expected)| expected != lane) {
            return Err(Mismatch::Lane);
        }
        if hello.name.len() > LONGEST_NAME {
            return Err(Mismatch::Name);
        }
        Ok((Peer { node, home: HomeId(hello.home), name: hello.name.into() }, lane))
    }
}

impl From<Lane> for i32 {
    fn from(lane: Lane) -> Self {
        let lane = match lane {
            Lane::Beat => proto::Lane::Beat,
            Lane::Bulk => proto::Lane::Bulk,
            Lane::Snapshot => proto::Lane::Snapshot,
        };
        lane.into()
    }
}

fn lane(lane: proto::Lane) -> Option<Lane> {
    match lane {
        proto::Lane::Beat => Some(Lane::Beat),
        proto::Lane::Bulk => Some(Lane::Bulk),
        proto::Lane::Snapshot => Some(Lane::Snapshot),
        proto::Lane::Unspecified => None,
    }
}

/// What was logged already, so that each cause is logged once however often it is met.
#[derive(Debug, Default)]
pub(super) struct Told(std::collections::HashSet<String>);

impl Told {
    /// Beyond this many causes it begins anew.
    const MOST: usize = 64;

    /// Whether `cause` is to be logged.
    pub(super) fn is_news(&mut self, cause: &str) -> bool {
        if self.0.contains(cause) {
            return false;
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(cause.to_owned())
    }
}
