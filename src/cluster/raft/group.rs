//! One group on this node.

use super::Parts;
use super::log_store::LogStore;
use super::machine::{Machine, SnapshotData};
use super::members::Members;
use super::messages::{self, Kind};
use super::network::Network;
use super::types::{Malformed, Proposal, RaftVote, Types, log_id_of, point_of};
use crate::cluster::wire::Refusal;
use crate::env::task;
use crate::store::{Point, Received};
use bytes::Bytes;
use nightjar_base::{NodeId, ShardId, millis};
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::raft::{ReadPolicy, TransferLeaderRequest, VoteRequest};
use openraft::storage::Snapshot;
use openraft::type_config::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, Config, EmptyNode, Instant as _, Raft};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// No node: ids are made by chance.
const NOBODY: u64 = 0;
/// How long a member has to take over.
const TAKING_OVER: Duration = Duration::from_millis(500);

/// Why a group did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Another node leads it, or none does. Nothing was done.
    #[error("this node does not lead group {group}")]
    NotLeader {
        /// The group.
        group: u16,
        /// Who leads it, if that is known.
        leader: Option<NodeId>,
    },
    /// What was proposed is in the log of a leader that is none any more: it may be agreed on yet, or never.
    #[error("group {group} has lost its leader")]
    Unknown {
        /// The group.
        group: u16,
    },
    /// Too few members answer.
    #[error("too few members of group {group} answer")]
    NoQuorum {
        /// The group.
        group: u16,
    },
    /// It cannot be done, now or at all.
    #[error("group {group}: {why}")]
    Refused {
        /// The group.
        group: u16,
        /// Why.
        why: String,
    },
}

/// Who leads a group, and in which term: the same node may lead again, with others in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The term.
    pub term: u64,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
}

impl Reign {
    fn of(metrics: &openraft::metrics::RaftServerMetrics<Types>) -> Self {
        Self { term: metrics.vote.leader_id.term, leader: metrics.current_leader.map(NodeId) }
    }
}

/// A group on this node.
pub struct Group {
    id: ShardId,
    node: NodeId,
    raft: Raft<Types, Machine>,
    store: crate::store::Store,
    /// The snapshot that is being received.
    incoming: tokio::sync::Mutex<Option<Received>>,
}

impl Group {
    pub(super) async fn start(
        id: ShardId,
        node: NodeId,
        config: Arc<Config>,
        parts: &Parts,
    ) -> Result<Self, GroupError> {
        let network = Network { transport: Arc::clone(&parts.transport), group: id };
        let log = LogStore(parts.store.group_log(id));
        let (store, applier, agreed) = (parts.store.clone(), Arc::clone(&parts.applier), Arc::clone(&parts.agreed));
        let machine = Machine { group: id, store: store.clone(), applier, agreed };
        let raft = Raft::new(node.0, config, network, log, machine).await;
        let raft = raft.map_err(|error| GroupError::Refused { group: id.0, why: error.to_string() })?;
        Ok(Self { id, node, raft, store, incoming: tokio::sync::Mutex::new(None) })
    }

    fn refused(&self, why: impl std::fmt::Display) -> GroupError {
        GroupError::Refused { group: self.id.0, why: why.to_string() }
    }

    fn not_leader(&self, leader: Option<u64>) -> GroupError {
        GroupError::NotLeader { group: self.id.0, leader: leader.map(NodeId) }
    }

    fn write_error(&self, error: RaftError<Types, ClientWriteError<Types>>) -> GroupError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => self.not_leader(forward.leader_id),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => GroupError::Unknown { group: self.id.0 },
            other => self.refused(other),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Has the group agree on `entry`; returns when it has, and this node has applied it.
    ///
    /// # Errors
    /// When this node does not lead it, or is not its leader any more.
    pub async fn propose(&self, entry: Bytes) -> Result<Point, GroupError> {
        match self.raft.client_write(Proposal(entry)).await {
            Ok(written) => Ok(point_of(Some(written.log_id))),
            Err(error) => Err(self.write_error(error)),
        }
    }

    /// Makes this node, and the others that are told the same, the group's first members. Nothing, if it has members.
    ///
    /// # Errors
    /// When this node is none of them, or the group cannot be started.
    pub async fn found(&self, members: &BTreeSet<NodeId>) -> Result<(), GroupError> {
        let nodes: BTreeMap<u64, EmptyNode> = members.iter().map(|node| (node.0, EmptyNode::new())).collect();
        match self.raft.initialize(nodes).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Adds a member that follows, and waits until it has caught up.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), or when the members are being changed.
    pub async fn add_learner(&self, node: NodeId, wait: bool) -> Result<(), GroupError> {
        let added = self.raft.add_learner(node.0, EmptyNode::new(), wait).await;
        added.map(drop).map_err(|error| self.write_error(error))
    }

    /// Makes `voters` those that decide; who was one before follows from then on, but who is in `gone` is no member any
    /// more.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), or when the members are being changed.
    pub async fn change(&self, voters: &BTreeSet<NodeId>, gone: &BTreeSet<NodeId>) -> Result<(), GroupError> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        let changed = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await;
        changed.map_err(|error| self.write_error(error))?;
        if !gone.is_empty() {
            let gone = gone.iter().map(|node| node.0).collect();
            let changed = self.raft.change_membership(ChangeMembers::RemoveNodes(gone), true).await;
            changed.map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    /// Has `to` lead. Nothing is taken here meanwhile; if it does not take over soon, this node begins another reign.
    ///
    /// # Errors
    /// When the group has stopped.
    pub async fn hand_over(&self, to: NodeId) -> Result<(), GroupError> {
        let reign = self.reign();
        if !self.leads() || reign.leader == Some(to) {
            return Ok(());
        }
        self.raft.trigger().transfer_leader(to.0).await.map_err(|error| self.refused(error))?;
        if task::timeout(TAKING_OVER, self.next_reign(reign)).await.is_err() && self.leads() {
            self.begin_again().await?;
        }
        Ok(())
    }

    /// A leader that was asked to hand over takes nothing more and says nothing more, as long as it leads. So it votes for
    /// nobody in the next term, as if one had asked that is no node, and then stands as any member may. For no node that
    /// there is: that could take the vote for one that it was given.
    async fn begin_again(&self) -> Result<(), GroupError> {
        let mut request = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let last = metrics
                .last_log_index
                .map_or_else(Default::default, |index| Point { term: u64::MAX, index: index + 1 });
            VoteRequest::new(RaftVote::new(metrics.current_term + 1, NOBODY), log_id_of(last))
        };
        request.leadership_transfer = true;
        self.raft.vote(request).await.map_err(|error| self.refused(error))?;
        self.raft.trigger().elect(false).await.map_err(|error| self.refused(error))
    }

    /// Stands for leader at once, if it is still `reign`: for when it is known otherwise that its leader is none any more.
    ///
    /// # Errors
    /// When the group has stopped.
    pub async fn stand(&self, reign: Reign) -> Result<(), GroupError> {
        let (vote, now) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, Reign::of(&metrics))
        };
        if now != reign || self.leads() {
            return Ok(());
        }
        let stood = match reign.leader {
            // Members do not wait until they have missed the leader themselves if it seems to have handed over.
            Some(_) => {
                let request = TransferLeaderRequest::new(vote, self.node.0, None);
                self.raft.handle_transfer_leader(request).await.map(drop)
            }
            None => self.raft.trigger().elect(true).await,
        };
        stood.map_err(|error| self.refused(error))
    }

    /// Up to where everything that anybody was told is in the log, as of now: this node leads it, and has asked a majority
    /// whether it still does.
    ///
    /// # Errors
    /// When it does not.
    pub async fn read_index(&self) -> Result<u64, GroupError> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(point_of(Some(*read.log_id())).index),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(self.not_leader(forward.leader_id))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(GroupError::NoQuorum { group: self.id.0 })
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    /// What this node takes for the leader. Nothing is proved by it.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Whether this node takes itself for the leader.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raft.is_leader()
    }

    /// How many milliseconds ago this node certainly led: a majority has followed it since. None, if it does not lead.
    #[must_use]
    pub fn proved(&self) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let acknowledged = metrics.borrow_watched().last_quorum_acked;
        acknowledged.filter(|_| self.leads()).map(|acknowledged| millis(acknowledged.into_inner().elapsed()))
    }

    /// The term, the index of the newest entry here, and that of the newest that was applied here.
    #[must_use]
    pub fn progress(&self) -> (u64, u64, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        (metrics.current_term, last, point_of(metrics.last_applied).index)
    }

    /// As the leader: the members that do not have the newest entry yet, and up to where each has the log.
    #[must_use]
    pub fn behind(&self) -> Vec<(NodeId, u64)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        let all = metrics.replication.iter().flatten();
        let matched = all.map(|(node, matched)| (NodeId(*node), point_of(*matched).index));
        matched.filter(|(_, index)| *index < last).collect()
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::of(&self.raft.server_metrics().borrow_watched().membership_config)
    }

    /// Who leads in which term, as this node takes it.
    #[must_use]
    pub fn reign(&self) -> Reign {
        Reign::of(&self.raft.server_metrics().borrow_watched())
    }

    /// Waits until there is another reign than `known`, and returns it; for ever, if the group stops.
    pub async fn next_reign(&self, known: Reign) -> Reign {
        // The others change with every entry.
        let mut metrics = self.raft.server_metrics();
        loop {
            let reign = Reign::of(&metrics.borrow_and_update());
            if reign != known {
                return reign;
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Lets go of the log up to the last checkpoint but what followers may still need.
    ///
    /// # Errors
    /// When the group has stopped.
    pub async fn trim(&self) -> Result<(), GroupError> {
        self.raft.trigger().snapshot().await.map_err(|error| self.refused(error))
    }

    /// Ends the group on this node.
    pub async fn stop(&self) {
        // It may have stopped by itself.
        let _ = self.raft.shutdown().await;
    }

    /// Answers another member.
    pub(super) async fn handle(&self, kind: Kind, payload: Bytes) -> Result<Bytes, Refusal> {
        match kind {
            Kind::Append => {
                let request = messages::decode_append(payload).map_err(malformed)?;
                let answer = self.raft.append_entries(request).await.map_err(stopped)?;
                Ok(messages::encode_appended(&answer))
            }
            Kind::Vote => {
                let request = messages::decode_vote_request(payload).map_err(malformed)?;
                let answer = self.raft.vote(request).await.map_err(stopped)?;
                Ok(messages::encode_vote_response(&answer))
            }
            Kind::PreVote => {
                let request = messages::decode_vote_request(payload).map_err(malformed)?;
                let answer = self.raft.pre_vote(request).await.map_err(stopped)?;
                Ok(messages::encode_vote_response(&answer))
            }
            Kind::Transfer => {
                let request = messages::decode_transfer(payload).map_err(malformed)?;
                let _ = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
                Ok(Bytes::new())
            }
            Kind::SnapshotBegin | Kind::SnapshotPiece | Kind::SnapshotEnd => self.receive(kind, payload).await,
        }
    }

    /// Takes a step of a snapshot that comes in. One begins anew whenever its beginning comes.
    async fn receive(&self, kind: Kind, payload: Bytes) -> Result<Bytes, Refusal> {
        let mut incoming = self.incoming.lock().await;
        match kind {
            Kind::SnapshotBegin => {
                let (_, meta) = messages::decode_snapshot(payload).map_err(malformed)?;
                *incoming = None;
                let received = self.store.receive_snapshot(self.id, point_of(meta.last_log_id)).map_err(stopped)?;
                *incoming = Some(received);
                Ok(Bytes::new())
            }
            Kind::SnapshotPiece => {
                let received = incoming.as_mut().ok_or_else(no_snapshot)?;
                received.piece(&payload).map_err(stopped)?;
                Ok(Bytes::new())
            }
            _ => {
                let (vote, meta) = messages::decode_snapshot(payload).map_err(malformed)?;
                let received = incoming.take().ok_or_else(no_snapshot)?;
                let snapshot = Snapshot { meta, snapshot: SnapshotData::In(received) };
                let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
                Ok(messages::encode_installed(&answer))
            }
        }
    }
}

/// Codes of refusals.
const MALFORMED: u32 = 1;
const STOPPED: u32 = 2;
const NO_SNAPSHOT: u32 = 3;

fn malformed(error: Malformed) -> Refusal {
    Refusal::new(MALFORMED, error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(STOPPED, error.to_string())
}

fn no_snapshot() -> Refusal {
    Refusal::new(NO_SNAPSHOT, "no snapshot is under way")
}

/// How groups behave: heartbeats, elections, and when their logs are let go of.
pub(super) fn config(pace: Pace) -> Arc<Config> {
    let config = Config {
        cluster_name: "nightjar".to_owned(),
        heartbeat_interval: millis(pace.heartbeat),
        heartbeat_min_interval: Some(millis(pace.heartbeat)),
        election_timeout_min: millis(pace.election),
        election_timeout_max: millis(pace.election) * 5 / 3,
        install_snapshot_timeout: 300_000,
        max_payload_entries: 256,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: pace.kept,
        purge_batch_size: 1,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    Arc::new(config.validate().expect("the settings' own bounds keep an election above two heartbeats"))
}

/// By how much slower a shard's group is than the control group, which is enough to be sure that it is always looked at.
const SLOWER: u32 = 20;

/// The two times of Raft, and how long its memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// How long a member waits for that at least, and two thirds more at most.
    pub election: Duration,
    /// Entries that are kept for followers though the tables have what they led to: who is further behind gets a snapshot.
    pub kept: u64,
}

impl Pace {
    /// That of a group whose members are told otherwise when its leader is lost.
    #[must_use]
    pub fn slow(self) -> Self {
        Self { heartbeat: self.heartbeat * SLOWER, election: self.election * SLOWER, ..self }
    }
}

impl Default for Pace {
    /// What was measured to fail over within two seconds without an election in vain on a busy machine.
    fn default() -> Self {
        Self { heartbeat: Duration::from_millis(400), election: Duration::from_millis(1_000), kept: 1_000 }
    }
}
