//! What the members of a group say to each other, as bytes.
//!
//! ```text
//! append    version u8 | vote | prev point | commit point | entries u32 | entry*
//! entry     term u64 | index u64 | content u8 | length u32 | payload
//! vote      term u64 | node u64 | committed u8          point   term u64 | index u64
//! ```
//! Little-endian; points count as the journal does.

use super::types::{
    Malformed, RaftEntry, RaftLogId, RaftSnapshotMeta, RaftVote, Types, decode_standing, encode_standing, from_log,
    log_id_of, point_of, to_log, vote,
};
use crate::store::{Content, LogEntry, Point};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::storage::SnapshotMeta;

const VERSION: u8 = 1;
/// Bytes of an entry beside its payload.
const ENTRY: usize = 21;

/// What a message between members is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Append = 1,
    Vote = 2,
    PreVote = 3,
    Transfer = 4,
    SnapshotBegin = 5,
    SnapshotPiece = 6,
    SnapshotEnd = 7,
}

impl Kind {
    pub(super) fn from_u8(kind: u8) -> Option<Self> {
        use Kind::{Append, PreVote, SnapshotBegin, SnapshotEnd, SnapshotPiece, Transfer, Vote};
        [Append, Vote, PreVote, Transfer, SnapshotBegin, SnapshotPiece, SnapshotEnd]
            .into_iter()
            .find(|known| *known as u8 == kind)
    }
}

/// Reads fields off the front of a message.
struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    fn new(bytes: Bytes, what: &'static str) -> Result<Self, Malformed> {
        let mut reader = Self { rest: bytes, what };
        if reader.u8()? == VERSION { Ok(reader) } else { Err(Malformed(what)) }
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| Malformed(self.what))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.rest.try_get_u32_le().map_err(|_| Malformed(self.what))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.rest.try_get_u64_le().map_err(|_| Malformed(self.what))
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(self.what)),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(Malformed(self.what));
        }
        Ok(self.rest.split_to(length))
    }

    fn point(&mut self) -> Result<Point, Malformed> {
        Ok(Point { term: self.u64()?, index: self.u64()? })
    }

    fn id(&mut self) -> Result<Option<RaftLogId>, Malformed> {
        self.point().map(log_id_of)
    }

    fn vote(&mut self) -> Result<RaftVote, Malformed> {
        Ok(vote(self.u64()?, self.u64()?, self.bool()?))
    }

    fn entry(&mut self) -> Result<RaftEntry, Malformed> {
        let point = self.point()?;
        let content = match self.u8()? {
            0 => Content::Blank,
            1 => Content::Members,
            2 => Content::Batches,
            _ => return Err(Malformed(self.what)),
        };
        // What is kept for long does not keep the whole message that it came in.
        let payload = Bytes::copy_from_slice(&self.bytes()?);
        from_log(LogEntry { point, content, payload })
    }

    fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(self.what)) }
    }
}

fn begin(room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(room);
    out.put_u8(VERSION);
    out
}

fn put_point(out: &mut BytesMut, point: Point) {
    out.put_u64_le(point.term);
    out.put_u64_le(point.index);
}

fn put_id(out: &mut BytesMut, id: Option<RaftLogId>) {
    put_point(out, point_of(id));
}

fn put_vote(out: &mut BytesMut, vote: &RaftVote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(vote.committed.into());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("what is sent is bounded far below 4 GiB"));
    out.put_slice(bytes);
}

pub(super) fn encode_append(request: AppendEntriesRequest<Types>) -> Bytes {
    let entries: Vec<LogEntry> = request.entries.into_iter().map(to_log).collect();
    let size = entries.iter().map(|entry| ENTRY + entry.payload.len()).sum::<usize>();
    let mut out = begin(64 + size);
    put_vote(&mut out, &request.vote);
    put_id(&mut out, request.prev_log_id);
    put_id(&mut out, request.leader_commit);
    out.put_u32_le(u32::try_from(entries.len()).expect("openraft sends a few hundred entries at a time"));
    for entry in entries {
        put_point(&mut out, entry.point);
        out.put_u8(match entry.content {
            Content::Blank => 0,
            Content::Members => 1,
            Content::Batches => 2,
        });
        put_bytes(&mut out, &entry.payload);
    }
    out.freeze()
}

pub(super) fn decode_append(bytes: Bytes) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let most = bytes.len() / ENTRY;
    let mut reader = Reader::new(bytes, "request to append")?;
    let (vote, prev_log_id, leader_commit) = (reader.vote()?, reader.id()?, reader.id()?);
    let count = reader.u32()? as usize;
    let mut entries = Vec::with_capacity(count.min(most));
    for _ in 0..count {
        entries.push(reader.entry()?);
    }
    reader.end()?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(super) fn encode_appended(response: &AppendEntriesResponse<Types>) -> Bytes {
    let mut out = begin(32);
    match response {
        AppendEntriesResponse::Success => out.put_u8(0),
        AppendEntriesResponse::PartialSuccess(id) => {
            out.put_u8(1);
            put_id(&mut out, *id);
        }
        AppendEntriesResponse::Conflict => out.put_u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(3);
            put_vote(&mut out, vote);
        }
    }
    out.freeze()
}

pub(super) fn decode_appended(bytes: Bytes) -> Result<AppendEntriesResponse<Types>, Malformed> {
    let what = "answer to an append";
    let mut reader = Reader::new(bytes, what)?;
    let response = match reader.u8()? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(reader.id()?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(reader.vote()?),
        _ => return Err(Malformed(what)),
    };
    reader.end().map(|()| response)
}

pub(super) fn encode_vote_request(request: &VoteRequest<Types>) -> Bytes {
    let mut out = begin(64);
    put_vote(&mut out, &request.vote);
    put_id(&mut out, request.last_log_id);
    out.put_u8(request.leadership_transfer.into());
    out.freeze()
}

pub(super) fn decode_vote_request(bytes: Bytes) -> Result<VoteRequest<Types>, Malformed> {
    let mut reader = Reader::new(bytes, "request for a vote")?;
    let mut request = VoteRequest::new(reader.vote()?, reader.id()?);
    request.leadership_transfer = reader.bool()?;
    reader.end().map(|()| request)
}

pub(super) fn encode_vote_response(response: &VoteResponse<Types>) -> Bytes {
    let mut out = begin(64);
    put_vote(&mut out, &response.vote);
    put_id(&mut out, response.last_log_id);
    out.put_u8(response.vote_granted.into());
    out.freeze()
}

pub(super) fn decode_vote_response(bytes: Bytes) -> Result<VoteResponse<Types>, Malformed> {
    let mut reader = Reader::new(bytes, "answer to a request for a vote")?;
    let (vote, last, granted) = (reader.vote()?, reader.id()?, reader.bool()?);
    reader.end().map(|()| VoteResponse::new(vote, last, granted))
}

pub(super) fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let mut out = begin(64);
    put_vote(&mut out, request.from_leader());
    out.put_u64_le(*request.to_node_id());
    put_id(&mut out, request.last_log_id().copied());
    out.freeze()
}

pub(super) fn decode_transfer(bytes: Bytes) -> Result<TransferLeaderRequest<Types>, Malformed> {
    let mut reader = Reader::new(bytes, "transfer of leadership")?;
    let (from, to, last) = (reader.vote()?, reader.u64()?, reader.id()?);
    reader.end().map(|()| TransferLeaderRequest::new(from, to, last))
}

/// A snapshot is about to be sent: by which leader, and what of.
pub(super) fn encode_snapshot(vote: &RaftVote, meta: &RaftSnapshotMeta) -> Bytes {
    let mut out = begin(256);
    put_vote(&mut out, vote);
    put_id(&mut out, meta.last_log_id);
    put_bytes(&mut out, &encode_standing(&meta.last_membership));
    out.freeze()
}

pub(super) fn decode_snapshot(bytes: Bytes) -> Result<(RaftVote, RaftSnapshotMeta), Malformed> {
    let mut reader = Reader::new(bytes, "snapshot")?;
    let (vote, last_log_id) = (reader.vote()?, reader.id()?);
    let last_membership = decode_standing(&reader.bytes()?)?;
    reader.end().map(|()| (vote, SnapshotMeta { last_log_id, last_membership }))
}

pub(super) fn encode_installed(response: &SnapshotResponse<Types>) -> Bytes {
    let mut out = begin(32);
    put_vote(&mut out, &response.vote);
    out.freeze()
}

pub(super) fn decode_installed(bytes: Bytes) -> Result<SnapshotResponse<Types>, Malformed> {
    let mut reader = Reader::new(bytes, "answer to a snapshot")?;
    let vote = reader.vote()?;
    reader.end().map(|()| SnapshotResponse::new(vote))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::types::Proposal;
    use super::*;
    use openraft::entry::RaftEntry as _;
    use openraft::{EmptyNode, EntryPayload, Membership, StoredMembership};
    use std::collections::{BTreeMap, BTreeSet};

    fn id(term: u64, index: u64) -> Option<RaftLogId> {
        log_id_of(Point { term, index })
    }

    fn members() -> Membership<u64, EmptyNode> {
        let nodes: BTreeMap<u64, EmptyNode> = (1..=3).map(|node| (node, EmptyNode::new())).collect();
        Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap()
    }

    /// Whether `bytes` cut anywhere, and with a byte more, is refused.
    fn is_exact<T>(bytes: &Bytes, decode: impl Fn(Bytes) -> Result<T, Malformed>) -> bool {
        let longer = Bytes::from([bytes, &b"x"[..]].concat());
        (0..bytes.len()).all(|length| decode(bytes.slice(..length)).is_err()) && decode(longer).is_err()
    }

    #[test]
    fn appends_are_read_back_and_nothing_else() {
        let entries = vec![
            RaftEntry::new_blank(id(2, 5).unwrap()),
            RaftEntry::new(id(2, 6).unwrap(), EntryPayload::Normal(Proposal(Bytes::from_static(b"ops")))),
            RaftEntry::new_membership(id(2, 7).unwrap(), members()),
        ];
        let request = AppendEntriesRequest {
            vote: vote(2, 9, true),
            prev_log_id: id(1, 4),
            entries: entries.clone(),
            leader_commit: None,
        };
        let bytes = encode_append(request.clone());
        let read = decode_append(bytes.clone()).unwrap();
        assert_eq!((read.vote, read.prev_log_id, read.leader_commit), (request.vote, request.prev_log_id, None));
        assert_eq!(read.entries, entries);
        assert!(is_exact(&bytes, decode_append));
        for answer in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(id(1, 2)),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote(8, 1, false)),
        ] {
            let bytes = encode_appended(&answer);
            assert_eq!(decode_appended(bytes.clone()).unwrap(), answer);
            assert!(is_exact(&bytes, decode_appended));
        }
    }

    #[test]
    fn votes_transfers_and_snapshots_are_read_back_and_nothing_else() {
        let mut request = VoteRequest::new(vote(3, 4, false), id(2, 8));
        request.leadership_transfer = true;
        let bytes = encode_vote_request(&request);
        assert_eq!(decode_vote_request(bytes.clone()).unwrap(), request);
        assert!(is_exact(&bytes, decode_vote_request));

        let response = VoteResponse::new(vote(3, 4, false), None, true);
        let bytes = encode_vote_response(&response);
        assert_eq!(decode_vote_response(bytes.clone()).unwrap(), response);
        assert!(is_exact(&bytes, decode_vote_response));

        let transfer = TransferLeaderRequest::new(vote(3, 4, true), 7, id(3, 9));
        let bytes = encode_transfer(&transfer);
        assert_eq!(decode_transfer(bytes.clone()).unwrap(), transfer);
        assert!(is_exact(&bytes, decode_transfer));

        let meta = SnapshotMeta { last_log_id: id(3, 9), last_membership: StoredMembership::new(id(1, 1), members()) };
        let bytes = encode_snapshot(&vote(3, 4, true), &meta);
        assert_eq!(decode_snapshot(bytes.clone()).unwrap(), (vote(3, 4, true), meta));
        assert!(is_exact(&bytes, decode_snapshot));
    }
}
