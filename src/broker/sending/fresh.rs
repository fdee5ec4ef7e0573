//! What was retained while retained messages are replayed, and went to the client live.

use super::State;
use crate::store::Store;
use nightjar_base::Position;
use nightjar_mqtt::Message;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

/// Messages after which it is time to forget those that the store has.
const TURN: usize = 4096;
const TURN_BYTES: usize = 1024 * 1024;
/// Turns that may be due and not possible yet, before it is too much.
const MOST_TURNS: usize = 16;

/// The newest messages by topic: they stand for what a replay reads of the same topic, which may be older. A message is
/// kept until the store has it, since a replay finds it there from then on.
#[derive(Default)]
pub(super) struct Fresh {
    newer: HashMap<Arc<str>, Arc<Message>>,
    bytes: usize,
    older: HashMap<Arc<str>, Arc<Message>>,
    /// The store has all of `older` when this is applied.
    until: Position,
}

impl Fresh {
    /// Notes a message that was submitted to `store` before. `reading`: a replay has read, and not sent what it found.
    /// False if too much is not in the store yet.
    pub(super) fn note(&mut self, message: &Arc<Message>, store: &Store, reading: bool) -> bool {
        self.note_at(message, reading, || store.applied(), || store.submitted())
    }

    fn note_at(
        &mut self,
        message: &Arc<Message>,
        reading: bool,
        applied: impl FnOnce() -> Position,
        submitted: impl FnOnce() -> Position,
    ) -> bool {
        self.bytes += message.topic().len() + message.payload().len();
        self.newer.insert(message.topic().into(), Arc::clone(message));
        if (self.newer.len() >= TURN || self.bytes >= TURN_BYTES) && !reading && applied() >= self.until {
            self.older = mem::take(&mut self.newer);
            self.bytes = 0;
            self.until = submitted();
        }
        self.newer.len() < MOST_TURNS * TURN && self.bytes < MOST_TURNS * TURN_BYTES
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.newer.get(topic).or_else(|| self.older.get(topic))
    }
}

impl State {
    /// Whether a message of a topic went to the client live while something was replayed.
    pub(crate) fn is_fresh(&self, topic: &str) -> bool {
        self.fresh.as_ref().is_some_and(|fresh| fresh.get(topic).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Arc<Message> {
        Arc::new(Message::new(topic, &[], b"new"))
    }

    #[test]
    fn what_the_store_has_is_forgotten() {
        let mut fresh = Fresh::default();
        for number in 0..20 * TURN as u64 {
            let kept =
                fresh.note_at(&message(&format!("t/{number}")), false, || Position(number), || Position(number + 9));
            assert!(kept && fresh.newer.len() + fresh.older.len() <= 2 * TURN);
            assert!(fresh.get(&format!("t/{}", number.saturating_sub(9))).is_some(), "the store may not have it yet");
        }
    }

    #[test]
    fn what_a_replay_has_in_hand_and_what_is_not_stored_stays() {
        let mut fresh = Fresh::default();
        let mut number = 0;
        while fresh.note_at(&message(&format!("t/{number}")), true, || Position(u64::MAX), || Position(0)) {
            number += 1;
        }
        assert!(fresh.get("t/0").is_some() && number < MOST_TURNS * TURN);
        let mut fresh = Fresh::default();
        while fresh.note_at(&message("t/same"), false, || Position(0), || Position(1)) {}
        assert!(fresh.get("t/same").is_some());
    }
}
