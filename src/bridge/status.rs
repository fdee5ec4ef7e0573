//! What a bridge is doing, for those who look.

use super::counts::Counts;
use crate::broker::BridgeQueue;
use nightjar_base::{Tick, Wall};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a bridge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It reaches for the remote.
    #[default]
    Connecting,
    /// Messages flow.
    Connected,
    /// The remote was lost, or is not there; it will be tried again.
    Waiting,
    /// A lazy bridge that has nothing to do.
    Idle,
    /// Somebody paused it.
    Paused,
    /// Messages flow out, nothing new is taken.
    Draining,
    /// Everything is out.
    Drained,
    /// It was to connect once, and has.
    Ended,
    /// Another node of the cluster runs it, or none yet.
    Elsewhere,
}

impl State {
    /// Its name in the API and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Ended => "ended",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Every state there is.
    pub const ALL: [Self; 9] = [
        Self::Connecting,
        Self::Connected,
        Self::Waiting,
        Self::Idle,
        Self::Paused,
        Self::Draining,
        Self::Drained,
        Self::Ended,
        Self::Elsewhere,
    ];
}

/// What a bridge is doing now.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// The address that it is connected to, or tried last.
    pub address: Option<String>,
    /// What is spoken with the remote.
    pub speech: Option<String>,
    /// Why it was lost, or not reached, the last time.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<Wall>,
    /// When it is tried again.
    pub retry_at: Option<Wall>,
    /// Filters that the remote has refused.
    pub refused_filters: Vec<String>,
    /// Messages on their way to the remote.
    pub under_way: usize,
}

/// What a bridge shows of itself.
pub(super) struct Status {
    now: Mutex<Now>,
    counts: Mutex<Arc<Counts>>,
    ages: Mutex<Ages>,
}

impl Status {
    pub(super) fn new(rules: usize) -> Self {
        Self { now: Mutex::default(), counts: Mutex::new(Arc::new(Counts::new(rules))), ages: Mutex::default() }
    }

    /// What it is doing.
    pub(super) fn now(&self) -> Now {
        self.now.lock().clone()
    }

    /// What it has carried since it was started, or since its rules changed.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts.lock())
    }

    /// The rules are others: so are their counts.
    pub(super) fn recount(&self, rules: usize) {
        *self.counts.lock() = Arc::new(Counts::new(rules));
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock());
    }

    pub(super) fn enter(&self, state: State, now: Wall) {
        let mut current = self.now.lock();
        if current.state != state || current.since == Wall::default() {
            current.state = state;
            current.since = now;
        }
        if state != State::Waiting {
            current.retry_at = None;
        }
    }

    /// Notes how far the queue is.
    pub(super) fn look(&self, queue: &BridgeQueue, now: Tick) {
        self.ages.lock().look(queue, now);
    }

    /// For how many milliseconds the oldest message in its queue has waited, to a second.
    pub(super) fn oldest(&self, queue: &BridgeQueue, now: Tick) -> Option<u64> {
        self.ages.lock().oldest(queue, now)
    }
}

/// How many looks are remembered.
const LOOKS: usize = 1024;

/// When the queue was how far: so when its oldest message came is known to the time between two looks, without a word
/// about it in the queue.
#[derive(Debug, Default)]
struct Ages(VecDeque<(u64, Tick)>);

impl Ages {
    fn look(&mut self, queue: &BridgeQueue, now: Tick) {
        while self.0.len() > 1 && self.0[1].0 <= queue.head {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(next, _)| *next != queue.next) {
            if self.0.len() == LOOKS {
                // Every other look will do, but for the first two: between them came what is the oldest now.
                let mut place = 0;
                self.0.retain(|_| {
                    place += 1;
                    place <= 2 || place % 2 == 1
                });
            }
            self.0.push_back((queue.next, now));
        }
    }

    fn oldest(&self, queue: &BridgeQueue, now: Tick) -> Option<u64> {
        if queue.messages == 0 {
            return None;
        }
        let seen = self.0.iter().find(|(next, _)| *next > queue.head);
        Some(seen.map_or(0, |(_, at)| now.since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_oldest_follows_from_looks() {
        let queue = |head, next| BridgeQueue { messages: next - head, head, next, ..BridgeQueue::default() };
        let mut ages = Ages::default();
        ages.look(&queue(1, 1), Tick(0));
        assert_eq!(ages.oldest(&queue(1, 1), Tick(5)), None);
        ages.look(&queue(1, 3), Tick(1_000));
        ages.look(&queue(1, 5), Tick(2_000));
        assert_eq!(ages.oldest(&queue(1, 5), Tick(9_000)), Some(8_000));
        assert_eq!(ages.oldest(&queue(3, 5), Tick(9_000)), Some(7_000));
        assert_eq!(ages.oldest(&queue(5, 6), Tick(9_000)), Some(0));
        for number in 0..10_000 {
            ages.look(&queue(1, 6 + number), Tick(3_000 + number));
        }
        assert!(ages.0.len() <= LOOKS);
        assert_eq!(ages.oldest(&queue(1, 10_006), Tick(20_000)), Some(19_000));
    }
}
