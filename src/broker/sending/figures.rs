//! What an operator sees of the sending to one client.

use super::State;

/// The figures of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Messages of a transient session that wait; those of a persistent one wait in the store.
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    /// Messages sent and not yet acknowledged by the client.
    pub(crate) under_way: usize,
    /// How many of these there may be.
    pub(crate) window: usize,
    pub(crate) outbox_bytes: usize,
    /// QoS 1 messages of the client that are not acknowledged yet.
    pub(crate) unacknowledged: usize,
    pub(crate) maximum_packet: Option<usize>,
}

impl State {
    /// How the sending stands.
    pub(crate) fn figures(&self) -> Figures {
        let (waiting, waiting_bytes) = self.waiting.as_ref().map_or((0, 0), |queue| queue.size());
        let under_way = self.out.under_way();
        Figures {
            waiting,
            waiting_bytes,
            under_way,
            window: under_way + self.out.room(),
            outbox_bytes: self.outbox.len(),
            unacknowledged: self.pending_pubacks,
            maximum_packet: Some(self.limits.packet).filter(|size| *size != usize::MAX),
        }
    }
}
