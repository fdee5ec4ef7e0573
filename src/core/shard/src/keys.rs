//! The rows' keys: `shard u16 | kind u8 | … | part u16`, all big-endian, so that one shard is one range.
//!
//! A row's *base* is its key without the part. Variable texts (client identifiers, filters, topics) are in the values,
//! never in the keys: they may be 64 KiB long.

use nightjar_base::{SessionId, ShardId};

/// What a row holds; the number is part of the key, and the order is the order of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Meta = 0,
    Identity = 1,
    Queue = 2,
    Subscription = 3,
    Page = 4,
    Message = 5,
    Retained = 6,
    Proposer = 7,
    Origin = 8,
}

impl Kind {
    pub(crate) fn from_u8(kind: u8) -> Option<Self> {
        const KINDS: [Kind; 9] = [
            Kind::Meta,
            Kind::Identity,
            Kind::Queue,
            Kind::Subscription,
            Kind::Page,
            Kind::Message,
            Kind::Retained,
            Kind::Proposer,
            Kind::Origin,
        ];
        KINDS.get(usize::from(kind)).copied()
    }

    /// How long the base of such a key is.
    pub(crate) fn base_length(self) -> usize {
        3 + match self {
            Self::Meta => 0,
            Self::Identity | Self::Queue | Self::Message | Self::Retained | Self::Proposer => 8,
            Self::Origin => 10,
            Self::Subscription => 12,
            Self::Page => 16,
        }
    }
}

fn start(shard: ShardId, kind: Kind) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.push(kind as u8);
    key
}

fn numbered(shard: ShardId, kind: Kind, number: u64) -> Vec<u8> {
    let mut key = start(shard, kind);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The first key of a shard, and the first behind it.
pub(crate) fn bounds(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    let from = shard.0.to_be_bytes().to_vec();
    let mut to = from.clone();
    to.push(u8::MAX);
    (from, to)
}

pub(crate) fn meta(shard: ShardId) -> Vec<u8> {
    start(shard, Kind::Meta)
}

pub(crate) fn identity(shard: ShardId, session: SessionId) -> Vec<u8> {
    numbered(shard, Kind::Identity, session.0)
}

pub(crate) fn queue(shard: ShardId, session: SessionId) -> Vec<u8> {
    numbered(shard, Kind::Queue, session.0)
}

pub(crate) fn subscription(shard: ShardId, session: SessionId, row: u32) -> Vec<u8> {
    let mut key = numbered(shard, Kind::Subscription, session.0);
    key.extend_from_slice(&row.to_be_bytes());
    key
}

pub(crate) fn page(shard: ShardId, session: SessionId, first: u64) -> Vec<u8> {
    let mut key = numbered(shard, Kind::Page, session.0);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

pub(crate) fn message(shard: ShardId, id: u64) -> Vec<u8> {
    numbered(shard, Kind::Message, id)
}

pub(crate) fn retained(shard: ShardId, row: u64) -> Vec<u8> {
    numbered(shard, Kind::Retained, row)
}

pub(crate) fn proposer(shard: ShardId, home: u64) -> Vec<u8> {
    numbered(shard, Kind::Proposer, home)
}

pub(crate) fn origin(shard: ShardId, (of, session): (ShardId, SessionId)) -> Vec<u8> {
    let mut key = start(shard, Kind::Origin);
    key.extend_from_slice(&of.0.to_be_bytes());
    key.extend_from_slice(&session.0.to_be_bytes());
    key
}

/// The session, and its shard, that such a key is of.
pub(crate) fn publisher(key: &[u8]) -> (ShardId, SessionId) {
    (ShardId(u16::from_be_bytes([key[3], key[4]])), SessionId(number(key, 5)))
}

/// The number at `at` of a key whose length was checked.
pub(crate) fn number(key: &[u8], at: usize) -> u64 {
    key[at..at + 8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The 32-bit number at `at` of a key whose length was checked.
pub(crate) fn number32(key: &[u8], at: usize) -> u32 {
    key[at..at + 4].iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
