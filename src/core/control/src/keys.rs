//! The rows' keys: `group u16 | kind u8 | … | part u16`, all big-endian, so that one group is one range.
//!
//! Variable texts (filters, names) are in the values, never in the keys: they may be 64 KiB long.

use nightjar_base::NodeId;

/// What a row holds; the number is part of the key, and the order is the order of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Meta = 0,
    Node = 1,
    Placement = 2,
    Bridges = 3,
    Route = 4,
}

impl Kind {
    pub(crate) fn from_u8(kind: u8) -> Option<Self> {
        [Self::Meta, Self::Node, Self::Placement, Self::Bridges, Self::Route].get(usize::from(kind)).copied()
    }

    /// How long the base of such a key is.
    pub(crate) fn base_length(self) -> usize {
        3 + match self {
            Self::Meta | Self::Placement | Self::Bridges => 0,
            Self::Node => 8,
            Self::Route => 4,
        }
    }
}

/// The first key of a group, and the first behind it.
pub(crate) fn bounds(group: u16) -> (Vec<u8>, Vec<u8>) {
    let from = group.to_be_bytes().to_vec();
    let mut to = from.clone();
    to.push(u8::MAX);
    (from, to)
}

/// The base of a row that is the only one of its kind.
pub(crate) fn single(group: u16, kind: Kind) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&group.to_be_bytes());
    key.push(kind as u8);
    key
}

pub(crate) fn node(group: u16, id: NodeId) -> Vec<u8> {
    let mut key = single(group, Kind::Node);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

pub(crate) fn route(group: u16, row: u32) -> Vec<u8> {
    let mut key = single(group, Kind::Route);
    key.extend_from_slice(&row.to_be_bytes());
    key
}

/// The number at the end of a base.
pub(crate) fn number(base: &[u8]) -> u64 {
    base[3..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
