//! The nodes of the cluster, and sets of them.
//!
//! ```text
//!            NodeUp              NodeDraining
//!   Joining ────────▶ Active ──────────────────▶ Draining
//!      │                │  ◀────── NodeUp ────────  │
//!      └────────────────┴──── NodeLeft, ────────────┘──▶ Gone
//!                             NodeReplaced
//! ```
//!
//! Apart from that a node is up while it has a home: `NodeDown` takes it, `NodeStarted` brings another.

use nightjar_base::{HomeId, NodeId, Wall};
use std::sync::Arc;

/// The most nodes that a cluster can have; as many as a [`NodeSet`] can hold.
pub const MAX_NODES: usize = 64;

/// Homes that are over and remembered, so that an op that was delayed does not bring them back.
const REMEMBERED: usize = 16;

/// How far a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It learns the state, and has no shards yet.
    Joining,
    /// It has shards; it keeps them while it is down.
    Active,
    /// It gives up its shards.
    Draining,
    /// It left or was replaced; its id is refused for ever.
    Gone,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub(crate) id: NodeId,
    /// None once it has gone.
    pub(crate) seat: Option<Seat>,
    pub(crate) stage: Stage,
    pub(crate) home: Option<HomeId>,
    pub(crate) since: Wall,
    pub(crate) name: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) hint: Option<Arc<str>>,
    pub(crate) version: u16,
    /// Its last homes that are over, the newest last.
    pub(crate) past: Vec<HomeId>,
}

impl Node {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its small number, which another node may get once this one has gone.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        self.seat
    }

    /// How far it is in its life.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Its present run; none while it is down.
    #[must_use]
    pub fn home(&self) -> Option<HomeId> {
        self.home
    }

    /// When its stage or home last changed.
    #[must_use]
    pub fn since(&self) -> Wall {
        self.since
    }

    /// The homes that it had before, the oldest first; not more than a few.
    #[must_use]
    pub fn past(&self) -> &[HomeId] {
        &self.past
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Host and port of its door for other nodes.
    #[must_use]
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// What clients are told that should use this node.
    #[must_use]
    pub fn hint(&self) -> Option<&Arc<str>> {
        self.hint.as_ref()
    }

    /// The newest version of the protocol that it speaks.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Whether it may be given something to do now.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.stage == Stage::Active && self.home.is_some()
    }

    /// Ends its home, if it has one.
    pub(crate) fn end_home(&mut self) -> Option<HomeId> {
        let home = self.home.take()?;
        if self.past.len() == REMEMBERED {
            self.past.remove(0);
        }
        self.past.push(home);
        Some(home)
    }
}

/// A node's small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub(crate) u8);

/// A set of nodes, by their seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(pub(crate) u64);

impl NodeSet {
    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn contains(self, seat: Seat) -> bool {
        self.0 & Self::only(seat).0 != 0
    }

    /// The set of this one.
    #[must_use]
    pub fn only(seat: Seat) -> Self {
        Self(1 << seat.0)
    }

    /// All but this one.
    #[must_use]
    pub fn without(self, seat: Seat) -> Self {
        Self(self.0 & !Self::only(seat).0)
    }

    /// All in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The seats, in order.
    pub fn iter(self) -> impl Iterator<Item = Seat> {
        (0..MAX_NODES as u8).map(Seat).filter(move |&seat| self.contains(seat))
    }

    /// The first seat that is not in it.
    pub(crate) fn vacant(self) -> Option<Seat> {
        u8::try_from(self.0.trailing_ones()).ok().map(Seat).filter(|seat| usize::from(seat.0) < MAX_NODES)
    }

    /// Puts one in; whether it is new.
    pub(crate) fn insert(&mut self, seat: Seat) -> bool {
        let before = *self;
        *self = self.union(Self::only(seat));
        *self != before
    }

    /// Takes one out; whether it was there.
    pub(crate) fn remove(&mut self, seat: Seat) -> bool {
        let before = *self;
        *self = self.without(seat);
        *self != before
    }
}
