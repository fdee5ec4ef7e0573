//! What was sent to a remote that cannot be asked not to send it back.

use nightjar_base::Tick;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Messages that are remembered at a time; beyond it the oldest are forgotten before their time.
const MOST: usize = 65_536;

/// Remembers for a while what was sent, by topic and payload: what comes back within is no news. Each sending excuses one
/// coming back.
#[derive(Debug)]
pub(super) struct Echoes {
    window: u64,
    hasher: RandomState,
    /// When each was sent that has not come back, the earliest first.
    away: HashMap<u64, VecDeque<Tick>>,
    order: VecDeque<(Tick, u64)>,
}

impl Echoes {
    /// What was sent is remembered for `window` milliseconds.
    pub(super) fn new(window: u64) -> Self {
        Self { window, hasher: RandomState::new(), away: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn sent(&mut self, topic: &str, payload: &[u8], now: Tick) {
        self.forget(now);
        let key = self.hasher.hash_one((topic, payload));
        self.away.entry(key).or_default().push_back(now);
        self.order.push_back((now, key));
    }

    /// Whether this is one of those that were sent, which it is once for each.
    pub(super) fn is_echo(&mut self, topic: &str, payload: &[u8], now: Tick) -> bool {
        self.forget(now);
        let key = self.hasher.hash_one((topic, payload));
        self.take(key)
    }

    fn take(&mut self, key: u64) -> bool {
        let Some(away) = self.away.get_mut(&key) else { return false };
        away.pop_front();
        if away.is_empty() {
            self.away.remove(&key);
        }
        true
    }

    fn forget(&mut self, now: Tick) {
        while let Some((at, key)) = self.order.front().copied() {
            if now.since(at) < self.window && self.order.len() < MOST {
                break;
            }
            self.order.pop_front();
            // Unless it has come back already.
            if self.away.get(&key).and_then(VecDeque::front) == Some(&at) {
                self.take(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sending_excuses_one_coming_back_within_the_window() {
        let mut echoes = Echoes::new(100);
        echoes.sent("a", b"1", Tick(0));
        echoes.sent("a", b"1", Tick(10));
        assert!(!echoes.is_echo("a", b"2", Tick(20)));
        assert!(!echoes.is_echo("b", b"1", Tick(20)));
        assert!(echoes.is_echo("a", b"1", Tick(20)));
        assert!(echoes.is_echo("a", b"1", Tick(20)));
        assert!(!echoes.is_echo("a", b"1", Tick(20)));
        echoes.sent("a", b"1", Tick(200));
        assert!(!echoes.is_echo("a", b"1", Tick(300)));
        echoes.sent("a", b"1", Tick(400));
        assert!(echoes.is_echo("a", b"1", Tick(410)));
        echoes.sent("a", b"1", Tick(450));
        assert!(echoes.is_echo("a", b"1", Tick(505)), "the one that came back takes no other along");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut echoes = Echoes::new(1_000);
        for number in 0..MOST + 10 {
            echoes.sent(&number.to_string(), b"", Tick(0));
        }
        assert!(echoes.order.len() <= MOST && echoes.away.len() <= MOST);
        assert!(!echoes.is_echo("0", b"", Tick(1)));
        assert!(echoes.is_echo(&(MOST + 9).to_string(), b"", Tick(1)));
    }
}
