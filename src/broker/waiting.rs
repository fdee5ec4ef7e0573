//! The queue of a transient session: what did not fit its window. It lives in memory, ends with the connection, and is
//! bounded.

use super::drops::{Drops, Reason};
use super::sending::Copy;
use nightjar_mqtt::{Message, QoS};
use std::collections::VecDeque;
use std::sync::Arc;

/// The bounds of one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// What happens when it is full.
    pub(crate) overflow: Overflow,
}

/// What happens to a message when the queue of a transient session is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    DropOldest,
    DropNewest,
    /// The receiver is disconnected: it would miss messages that it was promised.
    Disconnect,
}

/// One message that waits.
pub(crate) struct Waiting {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Box<[u32]>,
    pub(crate) share: Option<Arc<str>>,
}

/// The messages that wait, in order.
#[derive(Default)]
pub(crate) struct WaitingQueue {
    messages: VecDeque<Waiting>,
    bytes: usize,
}

impl WaitingQueue {
    /// Takes a message, or drops what the policy says; false if the receiver is to be disconnected instead.
    pub(crate) fn push(&mut self, message: &Arc<Message>, copy: &Copy<'_>, bounds: &Bounds, drops: &mut Drops) -> bool {
        if message.size() > bounds.bytes {
            drops.note(Reason::QueueFull, message.topic_bytes());
            return true;
        }
        while self.messages.len() >= bounds.messages || self.bytes + message.size() > bounds.bytes {
            let oldest = if bounds.overflow == Overflow::DropOldest { self.pop() } else { None };
            let dropped = oldest.as_ref().map_or(message, |oldest| &oldest.message);
            drops.note(Reason::QueueFull, dropped.topic_bytes());
            match (oldest, bounds.overflow) {
                (Some(_), _) => {}
                (None, Overflow::Disconnect) => return false,
                (None, _) => return true,
            }
        }
        self.bytes += message.size();
        self.messages.push_back(Waiting {
            message: Arc::clone(message),
            qos: copy.qos,
            retain: copy.retain,
            identifiers: copy.identifiers.into(),
            share: copy.share.cloned(),
        });
        true
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.messages.pop_front()?;
        self.bytes -= waiting.message.size();
        Some(waiting)
    }

    /// How many wait, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn into_messages(self) -> impl Iterator<Item = Waiting> {
        self.messages.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(overflow: Overflow, sizes: &[usize]) -> (Vec<usize>, bool) {
        let bounds = Bounds { messages: 3, bytes: 1_000, overflow };
        let mut queue = WaitingQueue::default();
        let mut stays = true;
        for &size in sizes {
            let message = Arc::new(Message::new("t", &[], &vec![0; size]));
            let copy = Copy { qos: QoS::AtLeastOnce, retain: false, identifiers: &[], share: None };
            stays &= queue.push(&message, &copy, &bounds, &mut Drops::default());
        }
        (queue.into_messages().map(|waiting| waiting.message.payload().len()).collect(), stays)
    }

    #[test]
    fn a_full_queue_follows_its_policy() {
        assert_eq!(queued(Overflow::DropOldest, &[1, 2, 3, 4]), (vec![2, 3, 4], true));
        assert_eq!(queued(Overflow::DropNewest, &[1, 2, 3, 4]), (vec![1, 2, 3], true));
        assert_eq!(queued(Overflow::Disconnect, &[1, 2, 3, 4]), (vec![1, 2, 3], false));
        assert_eq!(queued(Overflow::DropOldest, &[100, 500, 300]), (vec![500, 300], true));
    }

    #[test]
    fn what_never_fits_drops_nothing_else() {
        assert_eq!(queued(Overflow::DropOldest, &[1, 2, 5_000]), (vec![1, 2], true));
    }
}
