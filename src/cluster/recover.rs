//! A cluster whose majority is lost for good: one node that is left becomes a cluster of its own again, with what it has.
//!
//! Nobody can know what the others had agreed on without it, so this is for an operator to decide, with the node stopped.
//! Behind all that its logs hold, whether it was agreed on or not, each group gets an entry that makes this node the only
//! voter, and the control group those by which the others have left. It is another cluster from then on: those that were
//! given up, should they come back, are not let in and cannot overrule it.

use super::identity::Identity;
use super::raft::{alone, is_members_entry};
use crate::env::clock::Clock;
use crate::env::entropy;
use crate::store::{Content, LogEntry, Opened, Replication, Store, StoreError, Unheard};
use bytes::Bytes;
use nightjar_base::{HomeId, NodeId, ShardId, Wall};
use nightjar_control::{Control, ControlEffect, ControlOp, Node, Stage, Start};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Bytes of logs that are held in memory.
const MOST_HELD: usize = 64 << 20;
/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a folder was not recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is nothing to recover it from.
    #[error("{0} is not the folder of a node of a cluster")]
    Alone(String),
    /// It never was a member, or learned only a part.
    #[error("this node has never had the state of group {0}: take another node's folder")]
    NoState(u16),
    /// Others have gone on without it.
    #[error("this node has left the cluster or was replaced: take another node's folder")]
    Gone,
    /// A log holds what this program does not write.
    #[error("the log of the control group cannot be understood: {0}")]
    Log(String),
    /// The control group's state does not allow it.
    #[error("the others cannot be taken out: {0}")]
    Control(String),
    /// The folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store does not start.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a folder was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The cluster, which is another one now.
    pub cluster: String,
    /// The node that it consists of, by name.
    pub node: String,
    /// Those that were given up, by name.
    pub gone: Vec<String>,
}

/// Makes the node whose store this is, and whose folder, a cluster of one.
///
/// # Errors
/// When it cannot be done. Tried again it begins anew; the node is of no use until it has succeeded.
pub fn recover(opened: Opened, folder: &Path, clock: &Clock) -> Result<Recovered, RecoverError> {
    let none = || RecoverError::Alone(folder.display().to_string());
    let mut identity = Identity::read(folder)?.filter(|_| opened.is_replicated()).ok_or_else(none)?;
    let store = opened.store().clone();
    let load = || Control::load(store.shard_count(), store.tables()).map_err(io::Error::other);
    let (control, mut plan) = (load()?, load()?);
    let replication = Replication {
        control: Arc::new(Mutex::new(control)),
        submitted: Box::new(|| {}),
        most_held: MOST_HELD,
        founding: None,
    };
    // What applies entries is not used: nothing is applied here.
    let (store, _applier, _proposals) = opened.start_replicated(Box::new(Unheard), replication)?;
    let done = write(&store, &mut plan, &mut identity, (folder, clock.now()));
    store.stop();
    let gone = done?;
    let name = |id: NodeId| plan.node(id).map_or_else(|| id.to_string(), |node| node.name().to_string());
    let node = name(NodeId(identity.nodes.keys().next().map_or(0, |node| node.0)));
    Ok(Recovered { cluster: identity.name(), node, gone: gone.into_iter().map(name).collect() })
}

fn write(
    store: &Store,
    plan: &mut Control,
    identity: &mut Identity,
    (folder, now): (&Path, Wall),
) -> Result<Vec<NodeId>, RecoverError> {
    let control = ShardId(store.shard_count());
    for group in (0..=control.0).map(ShardId) {
        let standing = store.standing(group);
        let knows_members = !standing.members.is_empty();
        if knows_members && group != control {
            continue;
        }
        let entries = entries(store, group)?;
        if !knows_members && !entries.iter().any(is_members_entry) {
            return Err(RecoverError::NoState(group.0));
        }
        if group == control {
            catch_up(plan, entries.into_iter().filter(|entry| entry.point.index > standing.point.index))?;
        }
    }
    let own = NodeId(store.node());
    let (ops, gone) = take_out(plan, own, now)?;
    let address = plan.node(own).map(|node| node.address().to_string()).unwrap_or_default();
    // First: a node that was only half made this must not be one of the cluster of before.
    identity.cluster = Identity::invent();
    identity.nodes = BTreeMap::from([(own, address)]);
    identity.write(folder)?;
    let (done, written) = mpsc::sync_channel(2 * (usize::from(control.0) + 1));
    let mut waits = 0;
    for group in (0..=control.0).map(ShardId) {
        let log = store.group_log(group);
        let (vote, mut entry) = alone(own, &log.state()).map_err(|error| RecoverError::Log(error.to_string()))?;
        let mut entries = vec![entry.clone()];
        for op in ops.iter().filter(|_| group == control) {
            entry.point.index += 1;
            let payload = op.encode().map_err(|error| RecoverError::Control(error.to_string()))?;
            entries.push(LogEntry { point: entry.point, content: Content::Batches, payload: Bytes::from(payload) });
        }
        let tell = |done: mpsc::SyncSender<()>| -> Box<dyn FnOnce() + Send> {
            Box::new(move || {
                let _ = done.send(());
            })
        };
        log.save_vote(vote, tell(done.clone()))?;
        log.append(entries, tell(done.clone()))?;
        waits += 2;
    }
    for _ in 0..waits {
        written.recv_timeout(PATIENCE).map_err(|_| io::Error::other("the journal cannot be written"))?;
    }
    Ok(gone)
}

/// All that a group's log holds.
fn entries(store: &Store, group: ShardId) -> io::Result<Vec<LogEntry>> {
    let log = store.group_log(group);
    let state = log.state();
    if state.first == 0 || state.first > state.last.index {
        return Ok(Vec::new());
    }
    log.read(state.first, state.last.index + 1, usize::MAX)
}

/// Applies what the log holds, whether it was agreed on or not: it will be.
fn catch_up(plan: &mut Control, entries: impl Iterator<Item = LogEntry>) -> Result<(), RecoverError> {
    for entry in entries.filter(|entry| entry.content == Content::Batches) {
        let op = ControlOp::decode(&entry.payload).map_err(|error| RecoverError::Log(error.to_string()))?;
        plan.apply(entry.point.index, op, &mut Vec::new());
    }
    Ok(())
}

/// What takes all but `own` out of the cluster, and who they are. It is applied to `plan`, too.
fn take_out(plan: &mut Control, own: NodeId, now: Wall) -> Result<(Vec<ControlOp>, Vec<NodeId>), RecoverError> {
    if plan.settings().is_none() {
        return Err(RecoverError::NoState(plan.group()));
    }
    let node = plan.node(own).filter(|node| node.stage() != Stage::Gone).ok_or(RecoverError::Gone)?;
    let (home, stage) = (node.home().unwrap_or_else(|| HomeId(entropy::u64())), node.stage());
    let (name, address, hint, version) =
        (node.name().clone(), node.address().clone(), node.hint().cloned(), node.version());
    let mut ops = Vec::new();
    if node.home().is_none() {
        ops.push(ControlOp::NodeStarted { start: Start { id: own, home, name, address, hint, version }, now });
    }
    if stage != Stage::Active {
        ops.push(ControlOp::NodeUp { id: own, home, now });
    }
    let gone: Vec<NodeId> = plan.members().map(Node::id).filter(|node| *node != own).collect();
    ops.extend(gone.iter().map(|&id| ControlOp::NodeLeft { id, now }));
    ops.iter().try_for_each(|op| apply(plan, op))?;
    let placement = ControlOp::PlacementSet { placement: plan.plan() };
    apply(plan, &placement)?;
    ops.push(placement);
    Ok((ops, gone))
}

fn apply(plan: &mut Control, op: &ControlOp) -> Result<(), RecoverError> {
    let mut effects = Vec::new();
    plan.apply(plan.applied() + 1, op.clone(), &mut effects);
    let refused = effects.iter().find_map(|effect| match effect {
        ControlEffect::Refused(refusal) => Some(RecoverError::Control(refusal.to_string())),
        _ => None,
    });
    refused.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::status::tests::{apply as told, formed};
    use super::*;

    #[test]
    fn all_others_are_taken_out_and_the_one_has_everything() {
        for (stage, down) in [(Stage::Active, false), (Stage::Active, true), (Stage::Draining, true)] {
            let mut control = formed(3);
            let own = NodeId(2);
            if stage == Stage::Draining {
                told(&mut control, ControlOp::NodeDraining { id: own, now: Wall(0) });
            }
            if down {
                told(&mut control, ControlOp::NodeDown { id: own, home: HomeId(2), now: Wall(0) });
            }
            let (ops, gone) = take_out(&mut control, own, Wall(1)).unwrap();
            assert_eq!(gone, [NodeId(1), NodeId(3)]);
            assert!(control.members().all(|node| node.id() == own && node.is_serving()), "{ops:?}");
            let placement = control.placement();
            assert!(placement.shards.iter().chain([&placement.control]).all(|voters| *voters == [own]));
        }
    }

    #[test]
    fn who_has_gone_recovers_nothing() {
        let mut control = formed(2);
        told(&mut control, ControlOp::NodeLeft { id: NodeId(2), now: Wall(0) });
        assert!(matches!(take_out(&mut control, NodeId(2), Wall(1)), Err(RecoverError::Gone)));
        assert!(matches!(take_out(&mut control, NodeId(7), Wall(1)), Err(RecoverError::Gone)));
        assert!(matches!(take_out(&mut Control::new(2), NodeId(1), Wall(1)), Err(RecoverError::NoState(2))));
    }
}
