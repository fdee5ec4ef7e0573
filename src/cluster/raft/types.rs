//! openraft's types as they are used here, and how they become bytes.
//!
//! openraft counts entries from 0 and says `None` before the first; the journal counts from 1 and says 0. The encodings
//! are our own and carry a version: openraft's structs change between its versions, what is on disk and on the wire does
//! not.

use crate::store::{Content, Founding, LogEntry, LogState, Point};
use bincode::Options;
use bytes::Bytes;
use openraft::entry::RaftEntry as _;
use openraft::impls::leader_id_std::LeaderId;
use openraft::impls::{Entry, Vote};
use openraft::vote::RaftLeaderId as _;
use openraft::{EmptyNode, EntryPayload, LogId, Membership, StoredMembership};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

/// What a group agrees on: bytes that only the state machine understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal(pub(super) Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// The groups' types.
    pub(super) Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
        LeaderId = LeaderId<u64, u64>,
);

pub(super) type RaftEntry = openraft::type_config::alias::EntryOf<Types>;
pub(super) type RaftLogId = openraft::type_config::alias::LogIdOf<Types>;
pub(super) type RaftVote = openraft::type_config::alias::VoteOf<Types>;
pub(super) type RaftMembers = Membership<u64, EmptyNode>;
pub(super) type RaftStanding = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(super) type RaftSnapshot = openraft::type_config::alias::SnapshotOf<Types, super::machine::SnapshotData>;
pub(super) type RaftSnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Term = <LeaderId<u64, u64> as openraft::vote::RaftLeaderId>::Committed;

/// Bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {0} of Raft has no known shape")]
pub(super) struct Malformed(pub(super) &'static str);

/// Bytes of our own that cannot be read, as an error of the storage.
pub(super) fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The place of a log id in the journal.
pub(super) fn point_of(id: Option<RaftLogId>) -> Point {
    id.map_or_else(Point::default, |id| Point { term: id.leader_id.term, index: id.index + 1 })
}

/// The log id of a place in the journal.
pub(super) fn log_id_of(point: Point) -> Option<RaftLogId> {
    point.index.checked_sub(1).map(|index| LogId { leader_id: Term::new(point.term), index })
}

/// An entry as the journal keeps it.
pub(super) fn to_log(entry: RaftEntry) -> LogEntry {
    let point = point_of(Some(entry.log_id()));
    let (content, payload) = match entry.payload {
        EntryPayload::Blank => (Content::Blank, Bytes::new()),
        EntryPayload::Normal(Proposal(bytes)) => (Content::Batches, bytes),
        EntryPayload::Membership(members) => (Content::Members, encode_members(&members)),
    };
    LogEntry { point, content, payload }
}

/// The entry that the journal kept.
pub(super) fn from_log(entry: LogEntry) -> Result<RaftEntry, Malformed> {
    let id = log_id_of(entry.point).ok_or(Malformed("place in a log"))?;
    let payload = match entry.content {
        Content::Blank => EntryPayload::Blank,
        Content::Batches => EntryPayload::Normal(Proposal(entry.payload)),
        Content::Members => EntryPayload::Membership(decode_members(&entry.payload)?),
    };
    Ok(Entry::new(id, payload))
}

/// Format of what is encoded here.
const FORMAT: u8 = 1;
/// More than any group will have.
const MOST_MEMBERS_BYTES: u64 = 1 << 20;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(MOST_MEMBERS_BYTES)
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = vec![FORMAT];
    options().serialize_into(&mut bytes, value).expect("a few numbers are below the limit, and memory does not refuse");
    bytes.into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, Malformed> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => options().deserialize(rest).map_err(|_| Malformed(what)),
        _ => Err(Malformed(what)),
    }
}

#[derive(Serialize, Deserialize)]
struct MembersV1 {
    /// One set of voters; two while they change.
    voters: Vec<BTreeSet<u64>>,
    /// All of them, learners included.
    nodes: BTreeSet<u64>,
}

pub(super) fn encode_members(members: &RaftMembers) -> Bytes {
    let nodes = members.nodes().map(|(node, _)| *node).collect();
    encode(&MembersV1 { voters: members.get_joint_config().clone(), nodes })
}

pub(super) fn decode_members(bytes: &[u8]) -> Result<RaftMembers, Malformed> {
    let MembersV1 { voters, nodes } = decode(bytes, "membership")?;
    let nodes: BTreeMap<u64, EmptyNode> = nodes.into_iter().map(|node| (node, EmptyNode::new())).collect();
    Membership::new(voters, nodes).map_err(|_| Malformed("membership"))
}

#[derive(Serialize, Deserialize)]
struct StandingV1 {
    term: u64,
    index: u64,
    members: Vec<u8>,
}

/// Where and what the members are, for the state that goes with them.
pub(super) fn encode_standing(members: &RaftStanding) -> Bytes {
    let Point { term, index } = point_of(*members.log_id());
    encode(&StandingV1 { term, index, members: encode_members(members.membership()).to_vec() })
}

pub(super) fn decode_standing(bytes: &[u8]) -> Result<RaftStanding, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let StandingV1 { term, index, members } = decode(bytes, "membership")?;
    Ok(StoredMembership::new(log_id_of(Point { term, index }), decode_members(&members)?))
}

#[derive(Serialize, Deserialize)]
struct VoteV1 {
    term: u64,
    node: u64,
    committed: bool,
}

pub(super) fn encode_vote(vote: &RaftVote) -> Bytes {
    let LeaderId { term, voted_for } = vote.leader_id;
    encode(&VoteV1 { term, node: voted_for, committed: vote.committed })
}

pub(super) fn decode_vote(bytes: &[u8]) -> Result<RaftVote, Malformed> {
    let VoteV1 { term, node, committed } = decode(bytes, "vote")?;
    Ok(vote(term, node, committed))
}

pub(super) fn vote(term: u64, node: u64, committed: bool) -> RaftVote {
    Vote { leader_id: LeaderId::new(term, node), committed }
}

/// A group of one node in its first term, as a node alone has written its journal.
pub(super) fn founding(node: u64) -> Founding {
    let nodes = BTreeMap::from([(node, EmptyNode::new())]);
    let members = Membership::new(vec![BTreeSet::from([node])], nodes).expect("one voter, who is a node");
    let first = log_id_of(Point { term: 1, index: 1 });
    let standing = StoredMembership::new(first, members);
    Founding { vote: encode_vote(&vote(1, node, true)), members: encode_standing(&standing) }
}

/// What makes `node` the only voter of a group whose log is this: a vote in the term behind all that it knows of, and the
/// entry behind all others.
pub(super) fn alone(node: u64, log: &LogState) -> Result<(Bytes, LogEntry), Malformed> {
    let voted = log.vote.as_ref().map(|vote| decode_vote(vote)).transpose()?;
    let term = voted.map_or(0, |vote| vote.leader_id.term).max(log.last.term) + 1;
    let nodes = BTreeMap::from([(node, EmptyNode::new())]);
    let members = Membership::new(vec![BTreeSet::from([node])], nodes).expect("one voter, who is a node");
    let point = Point { term, index: log.last.index + 1 };
    let entry = LogEntry { point, content: Content::Members, payload: encode_members(&members) };
    Ok((encode_vote(&vote(term, node, true)), entry))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use openraft::entry::RaftPayload as _;

    #[test]
    fn votes_and_members_are_read_back() {
        for (term, node, committed) in [(0, 0, false), (7, u64::MAX, true)] {
            let vote = vote(term, node, committed);
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        assert_eq!(decode_vote(b""), Err(Malformed("vote")));
        assert_eq!(decode_vote(&[2; 18]), Err(Malformed("vote")));

        let nodes: BTreeMap<u64, EmptyNode> = (1..=4).map(|node| (node, EmptyNode::new())).collect();
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])];
        let members = Membership::new(voters, nodes).unwrap();
        assert_eq!(decode_members(&encode_members(&members)).unwrap(), members);
        let standing = StoredMembership::new(log_id_of(Point { term: 3, index: 9 }), members);
        assert_eq!(decode_standing(&encode_standing(&standing)).unwrap(), standing);
        assert_eq!(decode_standing(b"").unwrap(), StoredMembership::default());
    }

    #[test]
    fn the_only_voter_that_is_left_comes_behind_all_that_was() {
        let last = Point { term: 3, index: 9 };
        let log = LogState { last, vote: Some(encode_vote(&vote(7, 2, false))), ..LogState::default() };
        let (voted, entry) = alone(1, &log).unwrap();
        assert_eq!(decode_vote(&voted), Ok(vote(8, 1, true)));
        assert_eq!(entry.point, Point { term: 8, index: 10 });
        let members = decode_members(&entry.payload).unwrap();
        assert_eq!(members.voter_ids().collect::<Vec<_>>(), [1]);
        assert_eq!(alone(1, &LogState { last, ..LogState::default() }).unwrap().1.point.term, 4);
    }

    #[test]
    fn the_journal_counts_from_one() {
        assert_eq!((point_of(None), log_id_of(Point::default())), (Point::default(), None));
        let first = LogId { leader_id: Term::new(0), index: 0 };
        assert_eq!(point_of(Some(first)), Point { term: 0, index: 1 });
        assert_eq!(log_id_of(Point { term: 0, index: 1 }), Some(first));
        let entry = RaftEntry::new(first, EntryPayload::normal(Proposal(Bytes::from_static(b"x"))));
        assert_eq!(from_log(to_log(entry.clone())).unwrap(), entry);
    }
}
