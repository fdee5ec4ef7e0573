//! From a folder to a running store, in two steps: open and recover, then start.

use super::checkpoint::Checkpointer;
use super::config::{Durability, StoreConfig};
use super::core::{CheckpointSignal, Core, Queue, Replicated, State};
use super::engine::{Engine, EngineError, Identity, MemoryEngine, Stand, chunks};
use super::files::{DiskFiles, Files, FolderLock};
use super::journal::{AppendError, Journal, Shelf};
use super::log::{Log, Point};
use super::log_writer;
use super::record::{Kind, RecordBuilder};
use super::recovery::{Recovered, recover, tables_error};
use super::replica::{Applier, Proposals};
use super::sled::{OpenError, SledEngine};
use super::spares::{Spares, give_up_reserve};
use super::stats::{Counters, HealthCell};
use super::writer::{TERM, Writer};
use super::{Sink, Store, StoreError};
use crate::env::{entropy, task};
use bytes::Bytes;
use nightjar_base::ShardId;
use nightjar_shard::Shard;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A store that is recovered and does not run yet: read from it, build what listens to it, then start it.
pub struct Opened {
    store: Store,
    journal: Option<Journal>,
    /// By group: the logs, if the folder is that of a node of a cluster.
    logs: Option<Vec<Log>>,
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
        let Recovered { identity, shards, stands, logs, resume } = recover(&*files, &*engine, &shelf, fresh)?;
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
        let indexes = match &logs {
            Some(logs) => logs.iter().map(|log| log.last().index).collect(),
            None => shards.iter().map(Shard::applied).collect(),
        };
        let node = (identity.node, logs.is_some());
        let mut journal =
            Journal::new(Arc::clone(&files), Arc::clone(&spares), Arc::clone(&shelf), node, indexes, &resume)
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
        let core = core(config, identity.node, files, engine, (spares, shelf), (shards, stands), lock);
        Ok(Self { store: Store { core: Arc::new(core) }, journal: Some(journal), logs })
    }

    fn in_memory(config: StoreConfig) -> Result<Self, StoreError> {
        let files: Arc<dyn Files> = Arc::new(super::files::NoFiles);
        let spares = Spares::open(Arc::clone(&files), 0, 0, 0)
            .map_err(|source| StoreError::io("cannot prepare", config.folder.clone(), source))?;
        let shards: Vec<Shard> = (0..config.shards).map(|number| Shard::new(ShardId(number))).collect();
        let engine = Arc::new(MemoryEngine::default());
        let (papers, state) = ((spares, Arc::new(Shelf::default())), (shards, Vec::new()));
        let core = core(config, entropy::u64(), files, engine, papers, state, None);
        Ok(Self { store: Store { core: Arc::new(core) }, journal: None, logs: None })
    }

    /// The store, to read what was recovered; what is submitted waits until it is started.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts the store's threads, for a node alone.
    ///
    /// # Errors
    /// When the folder is that of a node of a cluster, or the system gives no threads.
    pub fn start(self, sink: Box<dyn Sink>) -> Result<Store, StoreError> {
        if self.logs.is_some() {
            return Err(StoreError::Setting("the data folder is that of a node of a cluster: nothing else may use it"));
        }
        let core = &self.store.core;
        let failed = |source| StoreError::io("cannot start a thread for", core.config.folder.clone(), source);
        let has_journal = self.journal.is_some();
        let spares = Arc::clone(&core.spares);
        let writer = Writer::new(Arc::clone(core), sink, self.journal);
        let checkpointer = Checkpointer::new(Arc::clone(core));
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

/// What a node alone that has data becomes the first of a cluster with: its shards' groups have one voter, which it is.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The vote of each group, in the only term that a node alone has.
    pub vote: Bytes,
    /// Their members.
    pub members: Bytes,
}

/// What a cluster brings to a store that is replicated.
pub struct Replication {
    /// What the control group agrees on, as the tables have it.
    pub control: Arc<Mutex<dyn State>>,
    /// Called when something was submitted after all had been taken.
    pub submitted: Box<dyn Fn() + Send + Sync>,
    /// The most bytes of all logs together that are held in memory.
    pub most_held: usize,
    /// Set where a node alone becomes the first of a cluster.
    pub founding: Option<Founding>,
}

impl Opened {
    /// Whether the folder is that of a node of a cluster.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.logs.is_some()
    }

    /// Whether a node alone has left something in the folder.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.logs.is_none() && self.applied().any(|applied| applied > 0)
    }

    fn applied(&self) -> impl Iterator<Item = u64> {
        self.store.core.shards.iter().map(|shard| shard.lock().applied())
    }

    /// Starts the store's threads for a cluster, which runs the groups by what this returns.
    ///
    /// # Errors
    /// When a node alone has left something that is only in the journal (start and stop it alone first), when it may not
    /// be replicated, or the system refuses.
    pub fn start_replicated(
        mut self,
        sink: Box<dyn Sink>,
        replication: Replication,
    ) -> Result<(Store, Applier, Proposals), StoreError> {
        let Some(journal) = &mut self.journal else {
            return Err(StoreError::Setting("a cluster needs a journal: durability = \"memory\" has none"));
        };
        let Replication { control, submitted, most_held, founding } = replication;
        let core = Arc::clone(&self.store.core);
        let logs = match self.logs.take() {
            Some(logs) => logs,
            None => found_groups(&core, journal, founding.as_ref())?,
        };
        core.shards.iter().for_each(|shard| shard.lock().set_replicated(true));
        let applier = Applier::new(Arc::clone(&core), sink);
        let proposals = Proposals::new(Arc::clone(&core));
        let logs = logs.into_iter().map(Mutex::new).collect();
        let replicated = Replicated { control, logs, submitted, most_held };
        if core.replicated.set(replicated).is_err() {
            return Err(StoreError::Setting("a store is started once"));
        }
        self.start(Box::new(Unheard)).map(|store| (store, applier, proposals))
    }
}

/// A sink that listens to nothing: of a store that nobody is connected to, or whose journal's thread applies nothing.
pub struct Unheard;

impl Sink for Unheard {
    fn effects(&mut self, _: ShardId, _: &mut Vec<nightjar_shard::Effect>) {}
    fn applied(&mut self, _: nightjar_base::Position) {}
}

/// The logs of the groups of a folder that has been a node's alone until now.
fn found_groups(core: &Core, journal: &mut Journal, founding: Option<&Founding>) -> Result<Vec<Log>, StoreError> {
    let (mut logs, mut stands) = (Vec::new(), Vec::new());
    for (number, shard) in core.shards.iter().enumerate() {
        let index = shard.lock().applied();
        if index != core.checkpointed[number].load(Ordering::Acquire) {
            return Err(StoreError::Setting("what a node alone has in its journal must be in its tables first"));
        }
        let point = Point { term: TERM, index };
        match founding.filter(|_| index > 0) {
            Some(Founding { vote, members }) => {
                let stand = Stand { point, members: members.clone() };
                stands.push(stand.change(ShardId(u16::try_from(number).expect("there are at most 1024 shards"))));
                *core.stands[number].lock() = stand;
                logs.push(Log::behind(point, Some(vote.clone())));
            }
            None if index > 0 => return Err(StoreError::Setting("this folder holds what a node alone has left")),
            None => logs.push(Log::default()),
        }
    }
    logs.push(Log::default());
    let written = chunks(&stands).try_for_each(|chunk| core.engine.write(chunk));
    written.map_err(|error| StoreError::Tables {
        folder: core.config.folder.join("sled"),
        key: None,
        what: error.to_string(),
    })?;
    let failed = |source| StoreError::io("cannot prepare the journal in", core.config.folder.clone(), source);
    // Segments of a node alone know nothing of the control group.
    journal.replicate().map_err(failed)?;
    let mut builder = RecordBuilder::default();
    builder.begin();
    log_writer::preamble(&logs, &mut builder);
    let written = journal.append(&mut builder, &[], false, 0).and_then(|_| journal.sync());
    written.map_err(|error| match error {
        AppendError::Full(error) | AppendError::Broken(error) => failed(error),
    })?;
    Ok(logs)
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
    let written = journal.append(&mut builder, &[], false, 0).and_then(|_| journal.sync());
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
    (shards, mut stands): (Vec<Shard>, Vec<Stand>),
    lock: Option<FolderLock>,
) -> Core {
    // One more than there are shards, for the control group of a cluster.
    stands.resize_with(shards.len() + 1, Stand::default);
    let core = Core {
        readers: stands.iter().map(|_| AtomicU32::new(0)).collect(),
        checkpointed: stands.iter().map(|stand| AtomicU64::new(stand.point.index)).collect(),
        overlays: stands.iter().map(|_| AtomicUsize::new(0)).collect(),
        stands: stands.into_iter().map(Mutex::new).collect(),
        replicated: OnceLock::new(),
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
    for (number, shard) in core.shards.iter().enumerate() {
        core.note_overlay(number, &*shard.lock());
    }
    core
}
