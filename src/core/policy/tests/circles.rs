//! Circles of brokers whose links carry no stamps, on a clock of their own: how often each message is taken, whatever the
//! links' delays.
#![allow(clippy::unwrap_used)]

use nightjar_base::Tick;
use nightjar_policy::{Bringer, LoopGuard};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const WINDOW: u64 = 10_000;
/// Hops after which a circle is one that does not end.
const ENDLESS: usize = 10_000;

/// A message that comes to a broker, by a link or of a client.
struct Coming {
    at: usize,
    by: Bringer,
    message: usize,
}

/// Brokers in a ring, of which each has a link to the next; two have two links to each other. A link carries both ways, in
/// order.
struct Ring {
    guards: Vec<LoopGuard>,
    /// By time, and by number where it is the same.
    coming: BTreeMap<(u64, usize), Coming>,
    /// When the last one arrives that a link carries so far, by the link and the broker where it arrives.
    last: HashMap<(usize, usize), u64>,
    delays: Vec<u64>,
    number: usize,
    one_way: bool,
    /// How often each broker has taken each message.
    taken: Vec<HashMap<usize, usize>>,
}

impl Ring {
    /// A ring of `size` brokers. A hop takes each of these `delays` in turn.
    fn new(size: usize, delays: &[u64]) -> Self {
        Self {
            guards: (0..size).map(|_| LoopGuard::default()).collect(),
            coming: BTreeMap::new(),
            last: HashMap::new(),
            delays: delays.to_vec(),
            number: 0,
            one_way: false,
            taken: vec![HashMap::new(); size],
        }
    }

    fn come(&mut self, time: u64, coming: Coming) {
        self.number += 1;
        self.coming.insert((time, self.number), coming);
    }

    /// A client publishes.
    fn publish(&mut self, time: u64, at: usize, message: usize) {
        self.come(time, Coming { at, by: Bringer::Client, message });
    }

    /// Until nothing moves any more. The time that it is then.
    fn settle(&mut self) -> u64 {
        let (mut now, mut hops) = (0, 0);
        while let Some(((time, _), Coming { at, by, message })) = self.coming.pop_first() {
            (now, hops) = (time, hops + 1);
            assert!(hops < ENDLESS, "it goes around for ever");
            let payload = message.to_string();
            if self.guards[at].is_known(("t", payload.as_bytes()), by, false, Tick(time), WINDOW) {
                continue;
            }
            *self.taken[at].entry(message).or_insert(0) += 1;
            let size = self.guards.len();
            let ways = [(at, (at + 1) % size), ((at + size - 1) % size, (at + size - 1) % size)];
            for (link, to) in ways.into_iter().take(if self.one_way { 1 } else { 2 }) {
                if by == Bringer::Link(link as u64) {
                    continue;
                }
                let delay = self.delays[self.number % self.delays.len()];
                let last = self.last.entry((link, to)).or_insert(0);
                *last = (*last).max(time + delay);
                let arrives = *last;
                self.come(arrives, Coming { at: to, by: Bringer::Link(link as u64), message });
            }
        }
        now
    }

    /// How often each broker has taken it.
    fn times(&self, message: usize) -> Vec<usize> {
        self.taken.iter().map(|taken| taken.get(&message).copied().unwrap_or(0)).collect()
    }
}

/// The first messages of a circle: published at random, none like another. Then one more after all is quiet.
fn first_messages(mut ring: Ring, published: &[(u64, usize)]) {
    let size = ring.guards.len();
    for (message, (time, at)) in published.iter().enumerate() {
        ring.publish(*time, at % size, message);
    }
    let quiet = ring.settle();
    for message in 0..published.len() {
        let times = ring.times(message);
        assert!(times.iter().all(|times| (1..=3).contains(times)), "{message} came {times:?} times");
    }
    // Each broker that has seen a message of its own come around knows; by now it does so at the first return.
    let late = published.len();
    ring.publish(quiet + 1, published[0].1 % size, late);
    ring.settle();
    let at = published[0].1 % size;
    assert_eq!(ring.times(late)[at], 1, "where it began");
}

proptest! {
    #[test]
    fn the_first_messages_come_three_times_at_most(
        size in 2_usize..5,
        delays in prop::collection::vec(1_u64..250, 1..40),
        published in prop::collection::vec((0_u64..100, 0_usize..4), 1..20),
    ) {
        first_messages(Ring::new(size, &delays), &published);
    }

    #[test]
    fn on_slow_machines_too(
        size in 2_usize..5,
        delays in prop::collection::vec(300_u64..800, 1..40),
        published in prop::collection::vec((0_u64..100, 0_usize..4), 1..20),
    ) {
        let mut ring = Ring::new(size, &delays);
        for guard in &mut ring.guards {
            guard.note_round_trip(2 * 800, Tick(0));
        }
        first_messages(ring, &published);
    }

    #[test]
    fn where_the_circle_is_known_each_is_taken_once_and_two_alike_twice(
        size in 2_usize..5,
        delays in prop::collection::vec(1_u64..1_000, 1..40),
        published in prop::collection::vec((0_u64..100, 0_usize..4), 1..20),
        alike in 1_usize..4,
    ) {
        let mut ring = Ring::new(size, &delays);
        for guard in &mut ring.guards {
            guard.believe(Tick(0));
        }
        for (message, (time, at)) in published.iter().enumerate() {
            for again in 0..alike {
                ring.publish(time + again as u64 * 70, at % size, message);
            }
        }
        ring.settle();
        for message in 0..published.len() {
            prop_assert_eq!(ring.times(message), vec![alike; size]);
        }
    }
}

#[test]
fn a_message_alone_ends_where_the_circle_has_one_way() {
    let mut ring = Ring::new(3, &[200]);
    ring.one_way = true;
    ring.guards.iter_mut().for_each(|guard| guard.note_round_trip(2 * 200, Tick(0)));
    ring.publish(0, 0, 1);
    ring.settle();
    assert_eq!(ring.times(1), [2, 2, 2]);
}

#[test]
fn a_burst_before_the_circle_is_known_costs_no_more_than_one_message() {
    for delay in [1, 20, 240] {
        let mut ring = Ring::new(2, &[delay, delay, 1]);
        (0..50).for_each(|message| ring.publish(message as u64, 0, message));
        ring.settle();
        let more = |broker: usize| (0..50).map(|message| ring.times(message)[broker] - 1).sum::<usize>();
        assert!(more(0) <= 2, "where they began: {}", more(0));
        assert!((0..50).all(|message| ring.times(message).iter().all(|times| (1..=3).contains(times))));
    }
}
