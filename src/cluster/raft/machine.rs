//! A group's state machine as openraft wants it: what was agreed on is applied to the shard, or to the control group's
//! state.

use super::members::Members;
use super::types::{
    RaftEntry, RaftLogId, RaftSnapshot, RaftSnapshotMeta, RaftStanding, Types, decode_standing, encode_standing,
    invalid, log_id_of, point_of, to_log,
};
use crate::env::task;
use crate::store::{Applier, Content, LogEntry, Outgoing, Received, Standing, Store};
use futures_util::{Stream, StreamExt as _};
use nightjar_base::ShardId;
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend, StoredMembership};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a checkpoint that is being written.
const PAUSE: Duration = Duration::from_millis(5);
/// Entries that are applied before others have a turn.
const TURN: usize = 64;

/// What is sent of a snapshot, or has been received of one.
pub(super) enum SnapshotData {
    /// Rows that are read as they are sent.
    Out(Outgoing),
    /// A file that is whole.
    In(Received),
}

/// What wants to know what a group has agreed on. Called on the thread that runs the groups, entry by entry.
pub trait Agreed: Send + Sync {
    /// Applies an entry that is not empty, which belongs to the state of `group`.
    ///
    /// # Errors
    /// When it is not what this program writes: the group stops here.
    fn apply(&self, group: ShardId, entry: &LogEntry, applier: &mut Applier) -> io::Result<()>;

    /// The group's members are these from now on.
    fn members(&self, group: ShardId, members: &Members);

    /// What was applied in this turn can be seen.
    fn end_turn(&self, group: ShardId, applier: &mut Applier);

    /// The state of `group` is that of a snapshot now, in which so many batches of a home were applied.
    fn replaced(&self, group: ShardId, proposed: &dyn Fn(u64) -> u64);
}

/// The state machine of one group.
pub(super) struct Machine {
    pub(super) group: ShardId,
    pub(super) store: Store,
    /// All groups of a node apply by one.
    pub(super) applier: Arc<Mutex<Applier>>,
    pub(super) agreed: Arc<dyn Agreed>,
}

impl Machine {
    fn apply_one(&self, entry: RaftEntry) -> io::Result<()> {
        let id = entry.log_id();
        let mut applier = self.applier.lock();
        if let EntryPayload::Membership(members) = entry.payload {
            let members = StoredMembership::new(Some(id), members);
            applier.note(self.group, point_of(Some(id)), Some(encode_standing(&members)));
            self.agreed.members(self.group, &Members::of(&members));
            return Ok(());
        }
        let entry = to_log(entry);
        match entry.content {
            Content::Batches => self.agreed.apply(self.group, &entry, &mut applier),
            Content::Blank | Content::Members => {
                applier.note(self.group, entry.point, None);
                Ok(())
            }
        }
    }

    fn end_turn(&self) {
        self.agreed.end_turn(self.group, &mut self.applier.lock());
    }

    /// The state as the tables have it, to be read as it is sent.
    async fn snapshot(&self) -> io::Result<RaftSnapshot> {
        loop {
            if let Some(outgoing) = self.store.send_snapshot(self.group) {
                let meta = meta(&outgoing.standing())?;
                return Ok(Snapshot { meta, snapshot: SnapshotData::Out(outgoing) });
            }
            task::sleep(PAUSE).await;
        }
    }
}

fn meta(standing: &Standing) -> io::Result<RaftSnapshotMeta> {
    let last_membership = decode_standing(&standing.members).map_err(invalid)?;
    Ok(SnapshotMeta { last_log_id: log_id_of(standing.point), last_membership })
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStanding)> {
        let standing = self.store.standing(self.group);
        let members = decode_standing(&standing.members).map_err(invalid)?;
        self.agreed.members(self.group, &Members::of(&members));
        Ok((log_id_of(standing.point), members))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut turn = 0;
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            self.apply_one(entry)?;
            if let Some(responder) = responder {
                responder.send(());
            }
            turn += 1;
            if turn == TURN {
                turn = 0;
                self.end_turn();
                task::pause().await;
            }
        }
        self.end_turn();
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let Self { group, store, applier, agreed } = self;
        let (store, applier, agreed) = (store.clone(), Arc::clone(applier), Arc::clone(agreed));
        Builder(Self { group: *group, store, applier, agreed })
    }

    async fn install_snapshot(&mut self, meta: &RaftSnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let received = match snapshot {
            SnapshotData::In(received) => received,
            // One that was not sent: the other store is within this process.
            SnapshotData::Out(mut outgoing) => {
                let mut received = self.store.receive_snapshot(self.group, point_of(meta.last_log_id))?;
                while let Some(piece) = outgoing.piece()? {
                    received.piece(&piece)?;
                }
                received
            }
        };
        let applier = Arc::clone(&self.applier);
        let installed = task::blocking("snapshot", move || received.install(&applier)).await;
        let standing = installed.and_then(|installed| installed)?;
        let members = decode_standing(&standing.members).map_err(invalid)?;
        self.agreed.members(self.group, &Members::of(&members));
        self.agreed.replaced(self.group, &|home| self.store.proposed(self.group, home));
        self.end_turn();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        if self.store.group_log(self.group).checkpointed() == 0 {
            return Ok(None);
        }
        self.snapshot().await.map(Some)
    }
}

/// Makes snapshots, which costs no more than a checkpoint: the tables are one.
pub(super) struct Builder(Machine);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    /// What was applied so far has to be in the tables first.
    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let Machine { group, store, .. } = &self.0;
        let (log, applied) = (store.group_log(*group), store.standing(*group).point.index);
        while log.checkpointed() < applied {
            store.checkpoint();
            task::sleep(PAUSE).await;
        }
        self.0.snapshot().await
    }
}
