//! What goes around a circle of brokers, and is to be taken once.
//!
//! Between Nightjars that speak MQTT 5 a message carries a *stamp*: the node where it was first published, a number there,
//! how many bridges it has passed, and a mark of its payload, so that a stamp that somebody copies to another message
//! says nothing. So each node knows what it has had, and what is its own.
//!
//! Where a stamp gets lost (before MQTT 5), there is only the message itself: within a window of time the same topic and
//! payload is taken as often as the busiest of its sources brought it, since each way around the circle brings each message
//! once. But two messages may be alike by chance: so this holds only once there is evidence of a circle, which is that
//! several messages in a short time came by several ways, each within a moment. A circle gives that evidence at once.

use nightjar_base::Tick;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// Messages that are remembered; beyond it the oldest are forgotten before their time.
const MOST: usize = 262_144;
/// Messages that came by several ways, each within `MOMENT`, and all within `WHILE`, that are evidence of a circle.
const EVIDENCE: usize = 3;
/// Milliseconds.
const MOMENT: u64 = 1_000;
const WHILE: u64 = 60_000;
/// For how many milliseconds evidence counts.
const BELIEVED: u64 = 3_600_000;

/// Where a message began, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The node where it was published.
    pub node: u64,
    /// Its number there: no other message has it.
    pub number: u64,
    /// Bridges that it has passed.
    pub hops: u8,
    /// The mark of its payload.
    pub mark: u32,
}

impl Stamp {
    /// The mark of a payload (FNV-1a).
    #[must_use]
    pub fn mark_of(payload: &[u8]) -> u32 {
        payload.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{:x}/{}/{:08x}", self.node, self.number, self.hops, self.mark)
    }
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(());
        let node = u64::from_str_radix(part()?, 16).map_err(drop)?;
        let number = u64::from_str_radix(part()?, 16).map_err(drop)?;
        let hops = part()?.parse().map_err(drop)?;
        let mark = u32::from_str_radix(part()?, 16).map_err(drop)?;
        if parts.next().is_some() { Err(()) } else { Ok(Self { node, number, hops, mark }) }
    }
}

/// Who brought a message here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bringer {
    /// A client of this broker's own.
    Client,
    /// The link with this number: a bridge of ours, or one that comes to us.
    Link(u64),
}

/// Remembers what came, and from where.
#[derive(Debug)]
pub struct LoopGuard {
    hasher: RandomState,
    stamps: Memory<u64>,
    contents: Memory<Vec<Brought>>,
    /// When messages came by another way within a moment, of late.
    evidence: VecDeque<Tick>,
    /// When there last was enough of it.
    believed_since: Option<Tick>,
}

/// How often one source brought a message.
#[derive(Clone, Copy, Debug)]
struct Brought {
    by: Bringer,
    stamped: bool,
    times: u32,
    last: Tick,
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            stamps: Memory::default(),
            contents: Memory::default(),
            evidence: VecDeque::new(),
            believed_since: None,
        }
    }
}

impl LoopGuard {
    /// Whether the link brings a stamped message that another one brought before, under the same name.
    pub fn has_had(&mut self, stamp: &Stamp, topic: &str, link: u64, now: Tick, window: u64) -> bool {
        let key = self.hasher.hash_one((stamp.node, stamp.number, topic));
        self.stamps.forget(now, window);
        // Over the same link it is a repetition, which QoS 1 may have.
        *self.stamps.entry(key, now).get_or_insert(link) != link
    }

    /// Whether a message that `by` brings is one that came on another way already. `stamped` ones are compared only with
    /// those that have no stamp: of two stamped ones the stamps tell. Nothing is known before there is evidence of a circle.
    pub fn is_known(&mut self, content: (&str, &[u8]), by: Bringer, stamped: bool, now: Tick, window: u64) -> bool {
        let key = self.hasher.hash_one(content);
        self.contents.forget(now, window);
        let brought = self.contents.entry(key, now).get_or_insert_default();
        let others = brought.iter().filter(|other| other.by != by && !(stamped && other.stamped));
        let (mut most, mut lately) = (0, false);
        for other in others {
            most = most.max(other.times);
            lately |= now.since(other.last) <= MOMENT;
        }
        let own = match brought.iter_mut().find(|own| own.by == by) {
            Some(own) => own,
            None => {
                brought.push(Brought { by, stamped, times: 0, last: now });
                let last = brought.len() - 1;
                &mut brought[last]
            }
        };
        own.times = own.times.saturating_add(1);
        own.stamped &= stamped;
        own.last = now;
        let alike = by != Bringer::Client && own.times <= most;
        alike && self.believes(lately, now)
    }

    /// There is a circle: somebody knows it by other means.
    pub fn believe(&mut self, now: Tick) {
        self.believed_since = Some(now);
    }

    /// Whether there is a circle. `evidence`: another message has just come by another way within a moment.
    fn believes(&mut self, evidence: bool, now: Tick) -> bool {
        if evidence {
            self.evidence.push_back(now);
            if self.evidence.len() > EVIDENCE {
                self.evidence.pop_front();
            }
            if self.evidence.len() == EVIDENCE && now.since(self.evidence[0]) <= WHILE {
                self.believed_since = Some(now);
            }
        }
        self.believed_since.is_some_and(|since| now.since(since) <= BELIEVED)
    }
}

/// Values that are forgotten after a while.
#[derive(Debug)]
struct Memory<T> {
    values: HashMap<u64, Option<T>>,
    order: VecDeque<(Tick, u64)>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Memory<T> {
    fn entry(&mut self, key: u64, now: Tick) -> &mut Option<T> {
        self.values.entry(key).or_insert_with(|| {
            self.order.push_back((now, key));
            None
        })
    }

    fn forget(&mut self, now: Tick, window: u64) {
        while let Some((at, key)) = self.order.front().copied() {
            if now.since(at) < window && self.order.len() < MOST {
                break;
            }
            self.order.pop_front();
            self.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1_000;
    const X: (&str, &[u8]) = ("a", b"x");

    fn known(guard: &mut LoopGuard, by: Bringer, stamped: bool, now: u64) -> bool {
        guard.is_known(X, by, stamped, Tick(now), WINDOW)
    }

    /// A guard that has seen evidence of a circle.
    fn in_a_circle() -> LoopGuard {
        let mut guard = LoopGuard::default();
        for payload in [b"1", b"2", b"3"] {
            for link in [1, 2] {
                guard.is_known(("evidence", payload), Bringer::Link(link), false, Tick(0), WINDOW);
            }
        }
        guard
    }

    #[test]
    fn messages_that_are_alike_by_chance_are_all_taken() {
        let mut guard = LoopGuard::default();
        let (one, two) = (Bringer::Link(1), Bringer::Link(2));
        // Now and then, and never within a moment.
        for round in 0..100 {
            let at = Tick(round * 10_000);
            assert!(!guard.is_known(("alarm", b"1"), one, false, at, 10_000));
            assert!(!guard.is_known(("alarm", b"1"), two, false, at.plus_millis(5_000), 10_000));
        }
        // Within a moment, and seldom.
        for round in 0..10 {
            let at = Tick(10_000_000 + round * 100_000);
            assert!(!guard.is_known(("alarm", b"2"), one, false, at, 10_000));
            assert!(!guard.is_known(("alarm", b"2"), two, false, at.plus_millis(5), 10_000));
        }
    }

    #[test]
    fn a_circle_is_noticed_at_once_and_for_a_while() {
        let mut guard = LoopGuard::default();
        let mut taken = 0;
        for lap in 0..20 {
            for link in [1, 2] {
                taken += u32::from(!guard.is_known(X, Bringer::Link(link), false, Tick(lap), 10_000));
            }
        }
        // Each lap brings it by the same link once more, as a circle without a guard would.
        assert!(taken <= 20 + EVIDENCE as u32, "{taken}");
        assert!(!guard.is_known(("b", b"y"), Bringer::Link(1), false, Tick(50_000), 10_000));
        assert!(guard.is_known(("b", b"y"), Bringer::Link(2), false, Tick(58_000), 10_000));
    }

    #[test]
    fn stamps_are_read_as_they_are_written() {
        let stamp = Stamp { node: 0xabc, number: u64::MAX, hops: 7, mark: Stamp::mark_of(b"x") };
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        for text in ["", "1/2", "1/2/3", "1/2/3/4/5", "x/2/3/4", "1/2/300/4", "1/2/-1/4"] {
            assert_eq!(text.parse::<Stamp>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_stamped_message_is_taken_of_one_link() {
        let mut guard = LoopGuard::default();
        let stamp = Stamp { node: 1, number: 2, hops: 0, mark: 0 };
        let mut had = |topic, link, now| guard.has_had(&stamp, topic, link, Tick(now), WINDOW);
        assert!(!had("a", 1, 0));
        assert!(had("a", 2, 1));
        assert!(!had("a", 1, 2), "a repetition");
        assert!(!had("b", 2, 3), "under another name it is another message");
        assert!(!had("a", 2, 1_500), "forgotten");
    }

    #[test]
    fn a_message_is_taken_as_often_as_the_busiest_link_brings_it() {
        let (mut guard, one, two) = (in_a_circle(), Bringer::Link(1), Bringer::Link(2));
        assert!(!known(&mut guard, one, false, 0));
        assert!(!known(&mut guard, one, false, 1), "published twice");
        assert!(known(&mut guard, two, false, 2));
        assert!(known(&mut guard, two, false, 3));
        assert!(!known(&mut guard, two, false, 4), "a third one");
        assert!(known(&mut guard, one, false, 5));
        assert!(!known(&mut guard, two, false, 1_001), "forgotten");
    }

    #[test]
    fn what_a_client_published_here_comes_home_and_is_known() {
        let mut guard = in_a_circle();
        assert!(!known(&mut guard, Bringer::Client, false, 0));
        assert!(known(&mut guard, Bringer::Link(1), false, 1));
        assert!(known(&mut guard, Bringer::Link(2), false, 2));
        assert!(!known(&mut guard, Bringer::Client, false, 3), "what a client publishes is always taken");
    }

    #[test]
    fn of_two_stamped_ones_the_stamps_tell() {
        let mut guard = in_a_circle();
        assert!(!known(&mut guard, Bringer::Link(1), true, 0));
        assert!(!known(&mut guard, Bringer::Link(2), true, 1));
        assert!(known(&mut guard, Bringer::Link(3), false, 2));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut guard = LoopGuard::default();
        for number in 0..MOST as u64 + 10 {
            let stamp = Stamp { node: 1, number, hops: 0, mark: 0 };
            guard.has_had(&stamp, "a", 1, Tick(0), WINDOW);
        }
        assert!(guard.stamps.order.len() <= MOST && guard.stamps.values.len() <= MOST);
    }
}
