//! What an operator may choose about the store.

use crate::env::clock::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When an acknowledgement may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk: a power cut loses nothing acknowledged.
    Sync,
    /// When it is written; the disk is synced at this interval. A power cut loses at most that much.
    Interval(Duration),
    /// At once; nothing is ever written to disk.
    Memory,
}

/// Told once, with the reason, when the store can no longer keep its promise. It should not return.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// The settings of a store. `StoreConfig::new(folder)` gives the defaults.
#[derive(Clone)]
pub struct StoreConfig {
    /// The data folder; made if it is not there.
    pub folder: PathBuf,
    /// When an acknowledgement may be given.
    pub durability: Durability,
    /// The number of shards of a *new* folder (1 to 1024); an existing folder keeps its own.
    pub shards: u16,
    /// The length of a journal segment.
    pub segment_bytes: u64,
    /// Above this much journal that is not yet checkpointed, publishers are slowed. At least four segments.
    pub journal_budget: u64,
    /// A checkpoint begins when the overlays of all shards together hold this much memory.
    pub checkpoint_overlay_bytes: usize,
    /// A checkpoint begins when the last one is this long ago.
    pub checkpoint_interval: Duration,
    /// sled's cache.
    pub sled_cache_bytes: u64,
    /// Above this much submitted and not yet applied, publishers are slowed.
    pub pending_bytes: usize,
    /// No checkpoint is written to sled when less disk space than this is free: the journal must meet a full disk
    /// first, since sled does not recover from one.
    pub free_space_floor: u64,
    /// A file of this size is given up when the disk is full, so that acknowledgements and deletes can go on.
    pub reserve_bytes: u64,
    /// What intervals are measured by.
    pub clock: Clock,
    /// Called when a write or sync failed, or the store panicked. The default logs and exits with code 70.
    pub fatal: Fatal,
}

impl StoreConfig {
    /// The defaults for `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            durability: Durability::Sync,
            shards: 16,
            segment_bytes: 64 << 20,
            journal_budget: 512 << 20,
            checkpoint_overlay_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(10),
            sled_cache_bytes: 64 << 20,
            pending_bytes: 16 << 20,
            free_space_floor: 256 << 20,
            reserve_bytes: 16 << 20,
            clock: Clock::machine(),
            fatal: Arc::new(|reason| {
                tracing::error!(reason, "the store can no longer keep its promise: stopping");
                std::process::exit(70);
            }),
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("folder", &self.folder)
            .field("durability", &self.durability)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
