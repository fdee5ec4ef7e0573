//! From a folder to a running store, in two steps: open and recover, then start.

use super::checkpoint::Checkpointer;
use super::config::{Durability, StoreConfig};
use super::core::{CheckpointSignal, Core, Queue};
use super::engine::{Engine, EngineError, Identity, MemoryEngine};
use super::files::{DiskFiles, Files, FolderLock};
use super::journal::{AppendError, Journal, Shelf};
use super::record::{Kind, RecordBuilder};
use super::recovery::{Recovered, recover, tables_error};
use super::sled::{OpenError, SledEngine};
use super::spares::{Spares, give_up_reserve};
use super::stats::{Counters, HealthCell};
use super::writer::{TERM, Writer};
use super::{Sink, Store, StoreError};
use crate::env::{entropy, task};
use nightjar_base::ShardId;
use nightjar_shard::Shard;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// A store that is recovered and does not run yet: read from it, build what listens to it, then start it.
pub struct Opened {
    store: Store,
    journal: Option<Journal>,
    checkpointed: Vec<u64>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opened").field(&self.store).finish()
    }
}

impl Opened {
    pub(crate) fn open(config: StoreConfig) -> Result<Self, StoreError> {
        check(&config)?;
        if config.durability == Durability::Memory {
            return Self::in_memory(config);
        }
        let files = Arc::new(DiskFiles::new(&config.folder)?);
        let lock = FolderLock::take(&config.folder)?;
        let engine = open_tables(&config, &*files)?;
        Self::open_with(config, files, Arc::new(engine), Some(lock))
    }

    /// As `open`, on any disk and tables.
    pub(crate) fn open_with(
        config: StoreConfig,
        files: Arc<dyn Files>,
        engine: Arc<dyn Engine>,
        lock: Option<FolderLock>,
    ) -> Result<Self, StoreError> {
        let failed = |source| StoreError::io("cannot prepare the journal in", config.folder.clone(), source);
        let shelf = Arc::new(Shelf::default());
        let fresh = Identity { node: entropy::u64(), shards: config.shards };
        let Recovered { identity, shards, checkpointed, resume } = recover(&*files, &*engine, &shelf, fresh)?;
        if identity.shards != config.shards {
            tracing::warn!(
                configured = config.shards,
                kept = identity.shards,
                "the number of shards is fixed when a data folder is made"
            );
        }
        let spares =
            Spares::open(Arc::clone(&files), config.segment_bytes, config.reserve_bytes, config.free_space_floor)
                .map_err(failed)?;
        let indexes = shards.iter().map(Shard::applied).collect();
        let mut journal =
            Journal::new(Arc::clone(&files), Arc::clone(&spares), Arc::clone(&shelf), identity.node, indexes, &resume)
                .map_err(failed)?;
        if resume.next == 1 {
            found(&mut journal, identity).map_err(failed)?;
        }
        if Identity::read(&*engine).map_err(|error| tables_error(&*files, error))?.is_none() {
            engine.write(&[identity.change()]).map_err(|error| match error {
                EngineError::Retry(error) => tables_error(&*files, error),
                EngineError::Lost(what) => StoreError::Tables { folder: config.folder.join("sled"), key: None, what },
            })?;
        }
        let core = core(config, identity.node, files, engine, (spares, shelf), shards, lock);
        Ok(Self { store: Store { core: Arc::new(core) }, journal: Some(journal), checkpointed })
    }

    fn in_memory(config: StoreConfig) -> Result<Self, StoreError> {
        let files: Arc<dyn Files> = Arc::new(super::files::NoFiles);
        let spares = Spares::open(Arc::clone(&files), 0, 0, 0)
            .map_err(|source| StoreError::io("cannot prepare", config.folder.clone(), source))?;
        let shards: Vec<Shard> = (0..config.shards).map(|number| Shard::new(ShardId(number))).collect();
        let checkpointed = vec![0; shards.len()];
        let engine = Arc::new(MemoryEngine::default());
        let core = core(config, entropy::u64(), files, engine, (spares, Arc::new(Shelf::default())), shards, None);
        Ok(Self { store: Store { core: Arc::new(core) }, journal: None, checkpointed })
    }

    /// The store, to read what was recovered; what is submitted waits until it is started.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts the store's threads.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(self, sink: Box<dyn Sink>) -> Result<Store, StoreError> {
        let core = &self.store.core;
        let failed = |source| StoreError::io("cannot start a thread for", core.config.folder.clone(), source);
        let has_journal = self.journal.is_some();
        let spares = Arc::clone(&core.spares);
        let writer = Writer::new(Arc::clone(core), sink, self.journal);
        let checkpointer = Checkpointer::new(Arc::clone(core), self.checkpointed);
        let prepare = move || {
            if has_journal {
                spares.run()
            }
        };
        let mut threads = core.threads.lock();
        threads.push(task::thread("spares", prepare).map_err(failed)?);
        threads.push(task::thread("journal", || writer.run()).map_err(failed)?);
        threads.push(task::thread("checkpoint", || checkpointer.run()).map_err(failed)?);
        drop(threads);
        Ok(self.store)
    }
}

/// Opens the tables. On a full disk the reserve is given up for it: sled writes when it opens.
fn open_tables(config: &StoreConfig, files: &dyn Files) -> Result<SledEngine, StoreError> {
    let folder = config.folder.join("sled");
    let mut opened = SledEngine::open(&folder, config.sled_cache_bytes);
    if matches!(opened, Err(OpenError::Full(_))) && give_up_reserve(files) {
        opened = SledEngine::open(&folder, config.sled_cache_bytes);
    }
    opened.map_err(|error| match error {
        OpenError::Full(source) => StoreError::io("cannot open the tables in", folder, source),
        OpenError::Tables(error) => tables_error(files, error),
    })
}

fn check(config: &StoreConfig) -> Result<(), StoreError> {
    if !(1..=1024).contains(&config.shards) {
        return Err(StoreError::Setting("the number of shards must be from 1 to 1024"));
    }
    if config.segment_bytes < 64 << 10 {
        return Err(StoreError::Setting("a journal segment must have at least 64 KiB"));
    }
    Ok(())
}

/// The first record: each shard's group has one voter, this node. What a Raft log would begin with.
fn found(journal: &mut Journal, identity: Identity) -> std::io::Result<()> {
    let mut builder = RecordBuilder::default();
    builder.begin();
    for number in 0..identity.shards {
        builder.entry(ShardId(number), Kind::Membership, 0, TERM, |out| {
            out.extend_from_slice(&1_u32.to_le_bytes());
            out.extend_from_slice(&identity.node.to_le_bytes());
        });
    }
    let written = journal.append(&mut builder, &[], false).and_then(|()| journal.sync());
    written.map_err(|error| match error {
        AppendError::Full(error) | AppendError::Broken(error) => error,
    })
}

fn core(
    config: StoreConfig,
    node: u64,
    files: Arc<dyn Files>,
    engine: Arc<dyn Engine>,
    (spares, shelf): (Arc<Spares>, Arc<Shelf>),
    shards: Vec<Shard>,
    lock: Option<FolderLock>,
) -> Core {
    let core = Core {
        overlays: shards.iter().map(|_| AtomicUsize::new(0)).collect(),
        overlay: AtomicUsize::new(0),
        shards: shards.into_iter().map(Mutex::new).collect(),
        queue: Mutex::new(Queue::default()),
        wake: Condvar::new(),
        applied: AtomicU64::new(0),
        pending: AtomicUsize::new(0),
        journal_bytes: AtomicU64::new(shelf.bytes()),
        signal: Mutex::new(CheckpointSignal::default()),
        checkpoint: Condvar::new(),
        stopping: AtomicBool::new(false),
        health: HealthCell::default(),
        counters: Counters::default(),
        threads: Mutex::new(Vec::new()),
        lock: Mutex::new(lock),
        config,
        node,
        files,
        engine,
        spares,
        shelf,
    };
    for shard in &core.shards {
        core.note_overlay(&shard.lock());
    }
    core
}
