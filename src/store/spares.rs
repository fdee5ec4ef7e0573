//! Segments in waiting: zero-filled files, prepared by a thread of their own or left by the trimmed journal, since
//! writing over blocks that are there already makes a sync half as long, and filling them takes tens of milliseconds.

use super::files::{Files, is_full};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

const RESERVE: &str = "reserve";
const READY: usize = 1;
const KEPT: usize = 2;
const BLOCK: usize = 256 << 10;

/// Gives up the reserve before there are any [`Spares`]; whether there was one.
pub(crate) fn give_up_reserve(files: &dyn Files) -> bool {
    files.remove(RESERVE).is_ok()
}

/// The prepared segments, and the reserve: a file that is given up when the disk is full.
pub(crate) struct Spares {
    files: Arc<dyn Files>,
    segment_bytes: u64,
    reserve_bytes: u64,
    floor: u64,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<String>,
    made: u64,
    reserve: bool,
    stop: bool,
}

impl Spares {
    /// Takes over what an earlier process left: whole spares are kept, half-made ones go.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        reserve_bytes: u64,
        floor: u64,
    ) -> io::Result<Arc<Self>> {
        let mut state = State::default();
        for (name, length) in files.list()? {
            if name == RESERVE {
                state.reserve = length == reserve_bytes;
            } else if let Some(number) = name.strip_prefix("spare-") {
                state.made = number.parse().map_or(state.made, |number: u64| state.made.max(number + 1));
                if length == segment_bytes && !name.ends_with(".new") {
                    state.ready.push(name);
                } else {
                    files.remove(&name)?;
                }
            }
        }
        let wanted = Condvar::new();
        Ok(Arc::new(Self { files, segment_bytes, reserve_bytes, floor, state: Mutex::new(state), wanted }))
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// A prepared file of the usual length, if there is one.
    pub(crate) fn take(&self) -> Option<String> {
        self.state.lock().ready.pop()
    }

    /// Makes a file of this length, on disk, and returns its name.
    pub(crate) fn create(&self, length: u64) -> io::Result<String> {
        let name = self.new_name();
        let unfinished = format!("{name}.new");
        let made = self.fill(&unfinished, length).and_then(|()| self.files.rename(&unfinished, &name));
        if made.is_err() {
            let _ = self.files.remove(&unfinished);
        }
        made.map(|()| name)
    }

    fn new_name(&self) -> String {
        let mut state = self.state.lock();
        state.made += 1;
        format!("spare-{}", state.made - 1)
    }

    fn fill(&self, name: &str, length: u64) -> io::Result<()> {
        let file = self.files.create(name)?;
        let zeros = vec![0; BLOCK];
        let mut at = 0;
        while at < length {
            let size = (length - at).min(BLOCK as u64);
            file.write_at(at, &zeros[..usize::try_from(size).unwrap_or(BLOCK)])?;
            at += size;
        }
        file.sync()
    }

    /// Takes over a segment that the journal no longer needs.
    pub(crate) fn retire(&self, segment: &str, length: u64) -> io::Result<()> {
        if length != self.segment_bytes || self.state.lock().ready.len() >= KEPT {
            self.files.remove(segment)?;
            return self.files.sync_folder();
        }
        let name = self.new_name();
        self.files.rename(segment, &name)?;
        // Before anything is written to it: a crash must not bring it back under its old name with a new header.
        self.files.sync_folder()?;
        self.state.lock().ready.push(name);
        Ok(())
    }

    /// Gives up the reserve and the prepared segments but one; whether that freed anything.
    pub(crate) fn give_up(&self) -> bool {
        let mut freed = std::mem::take(&mut self.state.lock().reserve) && self.files.remove(RESERVE).is_ok();
        while let Some(name) = self.take_beyond(READY) {
            freed |= self.files.remove(&name).is_ok();
        }
        freed
    }

    fn take_beyond(&self, kept: usize) -> Option<String> {
        let mut state = self.state.lock();
        if state.ready.len() > kept { state.ready.pop() } else { None }
    }

    /// Tells the preparing thread to look whether something is missing.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Ends [`Spares::run`].
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.wanted.notify_all();
    }

    /// The preparing thread: keeps one spare and the reserve, as long as there is space.
    pub(crate) fn run(&self) {
        loop {
            let prepared = self.prepare();
            if let Err(error) = &prepared
                && !is_full(error)
            {
                tracing::warn!(%error, "cannot prepare a journal segment");
            }
            let mut state = self.state.lock();
            if state.stop {
                return;
            }
            if !matches!(prepared, Ok(true)) {
                self.wanted.wait_for(&mut state, Duration::from_secs(1));
            } else if state.ready.len() >= READY {
                self.wanted.wait(&mut state);
            }
        }
    }

    /// Whether nothing is missing now.
    fn prepare(&self) -> io::Result<bool> {
        let (ready, reserve) = {
            let state = self.state.lock();
            (state.ready.len(), state.reserve || self.reserve_bytes == 0)
        };
        let space = self.files.free_space()?;
        if ready < READY && space > self.segment_bytes + self.floor / 2 {
            let name = self.create(self.segment_bytes)?;
            self.state.lock().ready.push(name);
        }
        if !reserve && space > self.reserve_bytes + self.floor {
            self.fill(RESERVE, self.reserve_bytes).inspect_err(|_| {
                let _ = self.files.remove(RESERVE);
            })?;
            self.state.lock().reserve = true;
        }
        let state = self.state.lock();
        Ok(state.ready.len() >= READY && (state.reserve || self.reserve_bytes == 0))
    }
}
