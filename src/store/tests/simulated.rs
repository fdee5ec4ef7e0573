//! What a simulation of several nodes needs to know of the stores beneath them.

use super::super::{Health, Store};

impl Store {
    /// Whether the journal's thread has nothing to do, so that time may go on without it.
    pub(crate) fn is_quiet(&self) -> bool {
        let queue = self.core.queue.lock();
        queue.closed || (queue.asleep && queue.jobs.is_empty() && queue.parts.is_empty())
    }

    /// Whether the journal or the tables have failed.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.health(), Health::Failed { .. })
    }
}
