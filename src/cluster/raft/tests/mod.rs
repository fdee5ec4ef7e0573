//! The store as openraft needs it: openraft's own suite over a real journal.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod three;

use super::Members;
use super::log_store::LogStore;
use super::machine::{Agreed, Machine};
use super::types::Types;
use crate::cluster::tests::Deaf;
use crate::store::{Applier, LogEntry, Opened, Replication, State, Store, StoreConfig};
use nightjar_base::ShardId;
use nightjar_shard::Shard;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

impl Agreed for Deaf {
    fn apply(&self, group: ShardId, entry: &LogEntry, applier: &mut Applier) -> io::Result<()> {
        applier.batches(group, entry, |_, _| {})
    }

    fn members(&self, _: ShardId, _: &Members) {}
    fn end_turn(&self, _: ShardId, _: &mut Applier) {}
    fn replaced(&self, _: ShardId, _: &dyn Fn(u64) -> u64) {}
}

/// A store of a node of a cluster in `folder`.
pub(super) fn open(folder: &std::path::Path) -> (Store, Arc<Mutex<Applier>>) {
    let config = StoreConfig { shards: 1, ..StoreConfig::new(folder) };
    let opened: Opened = Store::open(config).unwrap();
    let control: Arc<Mutex<dyn State>> = Arc::new(Mutex::new(Shard::new(ShardId(1))));
    let replication = Replication { control, submitted: Box::new(|| {}), most_held: 1 << 20, founding: None };
    let (store, applier, _) = opened.start_replicated(Box::new(Deaf), replication).unwrap();
    (store, Arc::new(Mutex::new(applier)))
}

struct Folders;

struct Guard {
    _folder: tempfile::TempDir,
    store: Option<Store>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.take().unwrap().stop();
    }
}

impl StoreBuilder<Types, LogStore, Machine, Guard> for Folders {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let (store, applier) = open(folder.path());
        let group = ShardId(0);
        let log = LogStore(store.group_log(group));
        let machine = Machine { group, store: store.clone(), applier, agreed: Arc::new(Deaf) };
        Ok((Guard { _folder: folder, store: Some(store) }, log, machine))
    }
}

#[test]
fn openrafts_own_suite_passes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::<Types, LogStore, Machine, Folders, Guard>::test_all(Folders)).unwrap();
}

/// What the shard keeps under the topic that these tests write to.
fn retained_value(store: &Store, shard: ShardId) -> u64 {
    let found = store.lock(shard).retained(store.tables(), "the/last").unwrap();
    found.map_or(0, |(message, _)| u64::from_be_bytes(message.payload().try_into().unwrap()))
}
