//! What goes around a circle of brokers, and is to be taken once.
//!
//! Between Nightjars that speak MQTT 5 a message carries a *stamp*: the node where it was first published, a number there,
//! how many bridges it has passed, and a mark of its payload, so that a stamp that somebody copies to another message
//! says nothing. So each node knows what it has had, and what is its own.
//!
//! Where a stamp gets lost (before MQTT 5), there is only the message itself: each message that was taken of one source
//! may come back once by each of the others, since a circle brings each message once by each way. So within a window of
//! time, of the same topic and payload a link is excused as often as others were taken. What was taken counts, not what
//! is right: a message that went around while nobody knew of the circle comes around once more.
//!
//! But two messages may be alike by chance: so this holds only once there is evidence of a circle, which is that several
//! messages in a short time came by several ways, each within a moment; or that one message of this broker's own came back
//! twice. The first message of a circle so comes to each broker three times at most: by two ways, and once more since where
//! it began its first return is believed to be another message, and its second is not. A moment is as long as the slowest
//! remote needs, for what goes around takes no less.

use nightjar_base::Tick;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// Messages that are remembered; beyond it the oldest are forgotten before their time.
const MOST: usize = 262_144;
/// Messages that came by several ways, each within a moment, and all within `WHILE`, that are evidence of a circle.
const EVIDENCE: usize = 3;
/// Returns of one message that a client here published, each within a moment, that are evidence of a circle.
const RETURNS: u32 = 2;
/// Milliseconds: the shortest moment, where no remote needs longer.
const MOMENT: u64 = 1_000;
/// Round trips to the slowest remote that a moment has room for: two laps around four brokers.
const LAPS: u64 = 4;
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
    contents: Memory<Content>,
    belief: Belief,
    /// The slowest round trip to a remote of late, in milliseconds, and when it was.
    round_trip: (u64, Tick),
}

/// Whether there is a circle.
#[derive(Debug, Default)]
struct Belief {
    /// When messages came by another way within a moment, of late.
    evidence: VecDeque<Tick>,
    /// When there last was enough of it.
    since: Option<Tick>,
    /// It was told.
    told: bool,
}

/// What came of one topic and payload.
#[derive(Debug, Default)]
struct Content {
    sources: Vec<Brought>,
    /// How often it came by another way within a moment.
    returns: u32,
}

/// What one source brought of a message.
#[derive(Clone, Copy, Debug)]
struct Brought {
    by: Bringer,
    stamped: bool,
    /// How often it was taken.
    taken: u32,
    /// How often it was known.
    known: u32,
    last: Tick,
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            stamps: Memory::default(),
            contents: Memory::default(),
            belief: Belief::default(),
            round_trip: (0, Tick::default()),
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
        let (key, moment) = (self.hasher.hash_one(content), self.moment().min(window));
        self.contents.forget(now, window);
        let content = self.contents.entry(key, now).get_or_insert_default();
        let (mut taken, mut lately, mut ours) = (0_u32, false, false);
        for other in content.sources.iter().filter(|other| other.by != by && !(stamped && other.stamped)) {
            taken = taken.saturating_add(other.taken);
            lately |= now.since(other.last) <= moment;
            ours |= other.by == Bringer::Client;
        }
        let place = content.sources.iter().position(|own| own.by == by).unwrap_or_else(|| {
            content.sources.push(Brought { by, stamped, taken: 0, known: 0, last: now });
            content.sources.len() - 1
        });
        let own = &mut content.sources[place];
        own.stamped &= stamped;
        own.last = now;
        let alike = by != Bringer::Client && own.known < taken;
        if alike && lately {
            content.returns = content.returns.saturating_add(1);
            let enough = ours && content.returns >= RETURNS;
            self.belief.gather(enough, now);
        }
        let known = alike && self.belief.holds(now);
        if known {
            own.known = own.known.saturating_add(1);
        } else {
            own.taken = own.taken.saturating_add(1);
        }
        known
    }

    /// There is a circle: somebody knows it by other means.
    pub fn believe(&mut self, now: Tick) {
        self.belief.begin(now);
    }

    /// Whether a circle has been noticed, which is told once.
    pub fn is_news(&mut self) -> bool {
        self.belief.since.is_some() && !std::mem::replace(&mut self.belief.told, true)
    }

    /// A remote took so many milliseconds to answer. What goes around takes no less: a moment is measured by it.
    pub fn note_round_trip(&mut self, time: u64, now: Tick) {
        let (slowest, at) = self.round_trip;
        if time >= slowest || now.since(at) > WHILE {
            self.round_trip = (time, now);
        }
    }

    /// Within how many milliseconds a message that comes by two ways is taken for evidence.
    fn moment(&self) -> u64 {
        MOMENT.max(self.round_trip.0.saturating_mul(LAPS))
    }
}

impl Belief {
    /// A message has just come by another way within a moment. `enough`: this says it by itself.
    fn gather(&mut self, enough: bool, now: Tick) {
        self.evidence.push_back(now);
        if self.evidence.len() > EVIDENCE {
            self.evidence.pop_front();
        }
        if enough || (self.evidence.len() == EVIDENCE && now.since(self.evidence[0]) <= WHILE) {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Tick) {
        self.told &= self.holds(now);
        self.since = Some(now);
    }

    fn holds(&self, now: Tick) -> bool {
        self.since.is_some_and(|since| now.since(since) <= BELIEVED)
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
    fn a_message_of_our_own_that_comes_back_twice_is_a_circle_and_one_that_comes_once_is_none() {
        let mut guard = LoopGuard::default();
        // A client here and one at another broker say the same in the same second.
        for round in 0..10 {
            let at = Tick(round * 100_000);
            assert!(!guard.is_known(("door", b"open"), Bringer::Client, false, at, 10_000));
            assert!(!guard.is_known(("door", b"open"), Bringer::Link(1), false, at.plus_millis(5), 10_000));
        }
        assert!(!guard.is_news());
        for (payload, by) in [(b"1", [1, 2]), (b"2", [1, 1])] {
            let mut guard = LoopGuard::default();
            assert!(!guard.is_known(("a", payload), Bringer::Client, false, Tick(0), 10_000));
            assert!(!guard.is_known(("a", payload), Bringer::Link(by[0]), false, Tick(5), 10_000));
            assert!(guard.is_known(("a", payload), Bringer::Link(by[1]), false, Tick(10), 10_000), "{by:?}");
            assert!(guard.is_news() && !guard.is_news(), "told once");
        }
    }

    #[test]
    fn what_went_around_while_nobody_knew_does_not_go_on_when_it_is_known() {
        let mut guard = LoopGuard::default();
        assert!(!known(&mut guard, Bringer::Link(1), false, 0));
        assert!(!known(&mut guard, Bringer::Link(2), false, 1));
        assert!(!known(&mut guard, Bringer::Link(1), false, 2));
        // The third evidence: from here on no way brings it any more, since each brings less than was taken of the other.
        assert!(known(&mut guard, Bringer::Link(2), false, 3));
        assert!(known(&mut guard, Bringer::Link(1), false, 4));
    }

    #[test]
    fn a_moment_is_as_long_as_the_slowest_remote_needs() {
        let come_back = |round_trip| {
            let mut guard = LoopGuard::default();
            guard.note_round_trip(round_trip, Tick(0));
            guard.note_round_trip(1, Tick(10));
            guard.is_known(X, Bringer::Client, false, Tick(20), 10_000);
            guard.is_known(X, Bringer::Link(1), false, Tick(3_020), 10_000);
            guard.is_known(X, Bringer::Link(1), false, Tick(3_020), 10_000)
        };
        assert!(!come_back(700) && come_back(800));
        let mut guard = LoopGuard::default();
        guard.note_round_trip(5_000, Tick(0));
        guard.note_round_trip(1, Tick(WHILE + 1));
        assert_eq!(guard.moment(), MOMENT, "it was slow once");
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
