//! What has a time, ordered by it.

use nightjar_base::{SessionId, Wall};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is due at a time. Of one time wills come first: they are due at their session's end at the latest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    Will(SessionId),
    Expiry(SessionId),
    Retained(Arc<str>),
}

/// All deadlines that were not handed out yet.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeSet<(Wall, Deadline)>);

impl Deadlines {
    pub(crate) fn set(&mut self, at: Wall, deadline: Deadline) {
        self.0.insert((at, deadline));
    }

    pub(crate) fn clear(&mut self, at: Wall, deadline: Deadline) {
        self.0.remove(&(at, deadline));
    }

    pub(crate) fn next(&self) -> Option<Wall> {
        self.0.first().map(|&(at, _)| at)
    }

    pub(crate) fn pop(&mut self, now: Wall) -> Option<(Wall, Deadline)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first()
    }
}
