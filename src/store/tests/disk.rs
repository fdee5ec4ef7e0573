//! A disk in memory that forgets what was not synced, fails from a given call on, and can be full.

use super::super::engine::{Engine, EngineError, MemoryEngine};
use super::super::files::{File, Files};
use nightjar_shard::{Change, Tables, TablesError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const SECTOR: usize = 512;

/// A small generator, so that a run is told by its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// How often it was synced.
    syncs: u64,
}

enum Naming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

type Names = BTreeMap<String, usize>;

struct State {
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    unsynced_names: Vec<Naming>,
    random: Random,
    calls: u64,
    fail_at: u64,
    capacity: u64,
    syncs: u64,
    lies: bool,
    life: u64,
}

/// The disk; clones are the same one, in the hands of the same process.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The process that has it: of one that was killed nothing reaches the disk, whatever threads it has left.
    life: u64,
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts a call. `Ok(true)`: it is the one that the power goes off in.
    fn call(&mut self, life: u64) -> io::Result<bool> {
        if life != self.life {
            return Err(dead());
        }
        self.calls += 1;
        if self.calls > self.fail_at { Err(dead()) } else { Ok(self.calls == self.fail_at) }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].content.len() as u64).sum()
    }

    fn name(&mut self, naming: Naming, life: u64) -> io::Result<()> {
        let cut = self.call(life)?;
        if cut && self.random.below(2) == 0 {
            return Err(dead());
        }
        apply(&mut self.names, &naming)?;
        self.unsynced_names.push(naming);
        if cut { Err(dead()) } else { Ok(()) }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn apply(names: &mut Names, naming: &Naming) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    match naming {
        Naming::Create(name, inode) => drop(names.insert(name.clone(), *inode)),
        Naming::Rename(from, to) => {
            let inode = names.remove(from).ok_or_else(missing)?;
            names.insert(to.clone(), inode);
        }
        Naming::Remove(name) => drop(names.remove(name).ok_or_else(missing)?),
    }
    Ok(())
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            names: Names::new(),
            durable_names: Names::new(),
            unsynced_names: Vec::new(),
            random: Random(seed),
            calls: 0,
            fail_at: u64::MAX,
            capacity: u64::MAX,
            syncs: 0,
            lies: false,
            life: 0,
        }));
        Self { state, life: 0 }
    }

    /// The power goes off in the `n`th call from now.
    pub(crate) fn fail_in(&self, n: u64) {
        let mut state = self.state.lock();
        state.fail_at = state.calls + n.max(1);
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// The same disk for the next process: what is left of the one before can do nothing to it any more.
    pub(crate) fn next_life(&self) -> Self {
        let mut state = self.state.lock();
        state.life += 1;
        Self { state: Arc::clone(&self.state), life: state.life }
    }

    /// From now on it says that it has synced what it has not, but for the first time of each file, and then forgets all of it.
    pub(crate) fn lie(&self) {
        self.state.lock().lies = true;
    }

    pub(crate) fn used(&self) -> u64 {
        self.state.lock().used()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Power off and on: of what was not synced, any part may have reached the disk, in 512-byte sectors; of the names,
    /// any first part of what was done to them.
    pub(crate) fn power_cut(&self) {
        let mut state = self.state.lock();
        let State { inodes, names, durable_names, unsynced_names, random, lies, .. } = &mut *state;
        let kept = random.below(unsynced_names.len() as u64 + 1);
        for naming in unsynced_names.drain(..).take(usize::try_from(kept).unwrap()) {
            let _ = apply(durable_names, &naming);
        }
        *names = durable_names.clone();
        for inode in inodes {
            let mood = if *lies { 0 } else { random.below(4) };
            for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
                let mut at = 0;
                while at < bytes.len() {
                    let end = (((offset + at) / SECTOR + 1) * SECTOR - offset).min(bytes.len());
                    let survives = match mood {
                        0 => false,
                        1 => true,
                        _ => random.below(2) == 0,
                    };
                    if survives {
                        write(&mut inode.durable, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            inode.content = inode.durable.clone();
        }
        state.fail_at = u64::MAX;
    }

    /// Another disk with all that was written to this one, as after the end of a process without a power cut.
    pub(crate) fn image(&self) -> Self {
        let image = Self::new(0);
        {
            let (state, mut copy) = (self.state.lock(), image.state.lock());
            for (name, &inode) in &state.names {
                let content = state.inodes[inode].content.clone();
                let at = copy.inodes.len();
                copy.inodes.push(Inode { durable: content.clone(), content, ..Inode::default() });
                copy.names.insert(name.clone(), at);
            }
            copy.durable_names = copy.names.clone();
        }
        image
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let at = state.inode(name).unwrap();
        let inode = &mut state.inodes[at];
        change(&mut inode.content);
        inode.durable = inode.content.clone();
        inode.unsynced.clear();
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let offset = usize::try_from(offset).unwrap();
        let cut = state.call(self.disk.life)?;
        let growth = (offset + bytes.len()).saturating_sub(state.inodes[self.inode].content.len());
        if growth > 0 && state.used() + growth as u64 > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = if cut { state.random.below(bytes.len() as u64 + 1) } else { bytes.len() as u64 };
        let bytes = &bytes[..usize::try_from(written).unwrap()];
        let inode = &mut state.inodes[self.inode];
        write(&mut inode.content, offset, bytes);
        inode.unsynced.push((offset, bytes.to_vec()));
        if cut { Err(dead()) } else { Ok(()) }
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        Ok(self.disk.state.lock().inodes[self.inode].content.clone())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state.lock();
        let from = usize::try_from(offset).unwrap();
        let content = state.inodes[self.inode].content.get(from..from + buffer.len());
        buffer.copy_from_slice(content.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.call(self.disk.life)? {
            return Err(dead());
        }
        state.syncs += 1;
        let lies = state.lies;
        let inode = &mut state.inodes[self.inode];
        inode.syncs += 1;
        if lies && inode.syncs > 1 {
            return Ok(());
        }
        for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
            write(&mut inode.durable, offset, &bytes);
        }
        Ok(())
    }
}

impl Files for SimDisk {
    fn folder(&self) -> &Path {
        Path::new("simulated")
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.name(Naming::Create(name.to_owned(), inode), self.life)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.state.lock().inode(name)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().name(Naming::Rename(from.to_owned(), to.to_owned()), self.life)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.lock().name(Naming::Remove(name.to_owned()), self.life)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state.lock();
        let length = |inode: &usize| state.inodes[*inode].content.len() as u64;
        Ok(state.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.call(self.life)? {
            return Err(dead());
        }
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

/// Tables that lose power together with a disk: a chunk is there whole, or not at all. Now and then they fail for no
/// reason, and want to be opened again.
pub(crate) struct SimTables {
    rows: Arc<MemoryEngine>,
    disk: SimDisk,
    /// Of how many writes one fails; 0: none.
    pub(crate) moods: u64,
}

impl SimTables {
    pub(crate) fn new(disk: &SimDisk, moods: u64) -> Self {
        Self { rows: Arc::default(), disk: disk.clone(), moods }
    }

    /// The same tables for the next process, which has the disk as `disk`.
    pub(crate) fn next_life(&self, disk: &SimDisk) -> Self {
        Self { rows: Arc::clone(&self.rows), disk: disk.clone(), moods: self.moods }
    }

    /// The same rows as of now, on another disk.
    pub(crate) fn image(&self, disk: &SimDisk) -> Self {
        let mut rows = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            rows.push(Change { key: key.to_vec(), value: Some(value.to_vec()) });
            ControlFlow::Continue(())
        };
        self.rows.range(&[], &[0xff; 64], &mut each).unwrap();
        let image = Self::new(disk, self.moods);
        image.rows.write(&rows).unwrap();
        image
    }
}

impl Tables for SimTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.rows.get(key)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TablesError> {
        self.rows.range(from, to, each)
    }
}

impl Engine for SimTables {
    fn write(&self, chunk: &[Change]) -> Result<(), EngineError> {
        let (cut, done, mood) = {
            let mut state = self.disk.state.lock();
            let cut = state.call(self.disk.life).map_err(|error| EngineError::Lost(error.to_string()))?;
            let done = state.random.below(2) == 0;
            let mood = self.moods > 0 && state.random.below(self.moods) == 0;
            (cut, done, mood)
        };
        if !(cut || mood) || done {
            self.rows.write(chunk)?;
        }
        if cut {
            return Err(EngineError::Lost(dead().to_string()));
        }
        if mood { Err(TablesError::Unavailable("a bad mood".to_owned()).into()) } else { Ok(()) }
    }

    fn revive(&self) -> Result<(), TablesError> {
        Ok(())
    }
}
