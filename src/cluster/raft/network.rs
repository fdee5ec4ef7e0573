//! A group's way to its other members, over the wire between the nodes.

use super::machine::SnapshotData;
use super::messages::{self, Kind};
use super::types::{Malformed, RaftSnapshot, RaftVote, Types};
use crate::cluster::wire::{CallError, Lane, Request, Transport};
use bytes::Bytes;
use futures_util::future::{Either, select};
use nightjar_base::{NodeId, ShardId};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How long one piece of a snapshot may take, and how long its installation.
const PIECE: Duration = Duration::from_secs(10);
const INSTALLATION: Duration = Duration::from_secs(300);

/// Makes the ways to a group's members.
pub(super) struct Network {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) group: ShardId,
}

impl Network {
    fn way(&self, to: u64, lane: Lane) -> Way {
        Way { transport: Arc::clone(&self.transport), group: self.group, to: NodeId(to), lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Beat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _: &EmptyNode) -> Way {
        self.way(target, Lane::Snapshot)
    }
}

/// The way to one member.
pub(super) struct Way {
    transport: Arc<dyn Transport>,
    group: ShardId,
    to: NodeId,
    lane: Lane,
}

/// Why a member did not answer, or not so that it could be understood.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<Failed> for RPCError<Types> {
    fn from(error: Failed) -> Self {
        match error {
            // Tried again after a while; every other failure is tried again at once.
            Failed::Call(CallError::Unreachable | CallError::Refused(_)) => Unreachable::new(&error).into(),
            _ => NetworkError::new(&error).into(),
        }
    }
}

impl From<Failed> for StreamingError<Types> {
    fn from(error: Failed) -> Self {
        match error {
            Failed::Call(CallError::Unreachable | CallError::Refused(_)) => Unreachable::new(&error).into(),
            _ => NetworkError::new(&error).into(),
        }
    }
}

impl Way {
    fn call(
        &self,
        lane: Lane,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> impl Future<Output = Result<Bytes, CallError>> + use<> {
        let request = Request { group: self.group.0, kind: kind as u8, payload };
        self.transport.call(self.to, lane, request, patience)
    }

    async fn vote_of(
        &self,
        kind: Kind,
        request: &VoteRequest<Types>,
        patience: Duration,
    ) -> Result<VoteResponse<Types>, Failed> {
        let answer = self.call(Lane::Beat, kind, messages::encode_vote_request(request), patience).await?;
        Ok(messages::decode_vote_response(answer)?)
    }

    async fn send(
        &self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Out(mut outgoing) = snapshot.snapshot else {
            let what = AnyError::error("only a snapshot of this node's own can be sent");
            return Err(NetworkError::<Types>::new(&what).into());
        };
        let head = messages::encode_snapshot(&vote, &snapshot.meta);
        let call = |kind, payload, patience| self.call(Lane::Snapshot, kind, payload, patience);
        call(Kind::SnapshotBegin, head.clone(), PIECE).await.map_err(Failed::from)?;
        loop {
            let piece = outgoing.piece().map_err(|error| NetworkError::<Types>::new(&error))?;
            let Some(piece) = piece else { break };
            call(Kind::SnapshotPiece, piece.into(), PIECE).await.map_err(Failed::from)?;
        }
        drop(outgoing);
        let answer = call(Kind::SnapshotEnd, head, INSTALLATION).await.map_err(Failed::from)?;
        Ok(messages::decode_installed(answer).map_err(Failed::from)?)
    }
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let payload = messages::encode_append(request);
        let answer = self.call(self.lane, Kind::Append, payload, option.soft_ttl()).await.map_err(Failed::from)?;
        Ok(messages::decode_appended(answer).map_err(Failed::from)?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.vote_of(Kind::Vote, &request, option.soft_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.vote_of(Kind::PreVote, &request, option.soft_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        match select(pin!(self.send(vote, snapshot)), pin!(cancel)).await {
            Either::Left((sent, _)) => sent,
            Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let payload = messages::encode_transfer(&request);
        self.call(Lane::Beat, Kind::Transfer, payload, option.soft_ttl()).await.map_err(Failed::from)?;
        Ok(Ok(()))
    }
}
