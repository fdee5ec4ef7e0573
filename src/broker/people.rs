//! Addresses and users with connections: how many each has, and how much each may publish.
//!
//! An entry lives as long as somebody holds a share of it, so the tables are as large as what is connected.

use nightjar_base::Tick;
use nightjar_policy::Bucket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// What one address or user has here.
struct Entry {
    connections: usize,
    /// What holds for it.
    bounds: Bounds,
    /// New connections.
    arrivals: Option<Bucket>,
    /// The last arrival.
    last: Tick,
    rates: Arc<Mutex<Rates>>,
}

/// Those with connections, and those that had one a moment ago.
pub(crate) struct People<K: Eq + Hash + Clone>(Mutex<HashMap<K, Entry, foldhash::fast::RandomState>>);

/// How long an address without connections is remembered for the rate of its arrivals.
const REMEMBERED_MILLIS: u64 = 10_000;
/// Entries from which on those without connections are looked for.
const SWEEP_FROM: usize = 1024;

impl<K: Eq + Hash + Clone> Default for People<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Why one more connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Too many are there.
    Connections,
    /// Too many come at once.
    Arrivals,
}

/// What limits one address or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// New connections a second; 0 for any number.
    pub(crate) arrivals: u64,
    pub(crate) rate: RateLimit,
}

impl Bounds {
    /// Whether nothing needs counting.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.connections == usize::MAX && self.arrivals == 0 && self.rate.is_unlimited()
    }
}

impl<K: Eq + Hash + Clone> People<K> {
    /// Counts one more connection of `who` in.
    pub(crate) fn enter(self: &Arc<Self>, who: K, bounds: &Bounds, now: Tick) -> Result<Share<K>, TooMany> {
        let mut people = self.0.lock();
        if people.len() >= SWEEP_FROM && people.len() == people.capacity() {
            people.retain(|_, entry| entry.connections > 0 || now.since(entry.last) < REMEMBERED_MILLIS);
        }
        let entry = people.entry(who.clone()).or_insert_with(|| Entry {
            connections: 0,
            bounds: *bounds,
            arrivals: bucket(bounds.arrivals),
            last: now,
            rates: Arc::new(Mutex::new(Rates::new(bounds.rate))),
        });
        entry.keep_to(bounds);
        if entry.connections >= bounds.connections {
            return Err(TooMany::Connections);
        }
        if entry.arrivals.as_mut().is_some_and(|arrivals| !arrivals.try_take(1, now)) {
            return Err(TooMany::Arrivals);
        }
        entry.connections += 1;
        entry.last = now;
        let rates = Arc::clone(&entry.rates);
        Ok(Share { people: Arc::clone(self), who, rates })
    }

    fn leave(&self, who: &K) {
        let mut people = self.0.lock();
        let Some(entry) = people.get_mut(who) else { return };
        entry.connections -= 1;
        if entry.connections == 0 && entry.arrivals.is_none() {
            people.remove(who);
        }
    }
}

impl Entry {
    /// A reload may have changed the bounds since the entry was made.
    fn keep_to(&mut self, bounds: &Bounds) {
        if self.bounds.arrivals != bounds.arrivals {
            self.arrivals = bucket(bounds.arrivals);
        }
        if self.bounds.rate != bounds.rate {
            *self.rates.lock() = Rates::new(bounds.rate);
        }
        self.bounds = *bounds;
    }
}

/// A second's worth may come at once; 0 is for no bound.
fn bucket(rate: u64) -> Option<Bucket> {
    (rate > 0).then(|| Bucket::new(rate, rate))
}

/// One connection's share of an address or user, until it is dropped.
pub(crate) struct Share<K: Eq + Hash + Clone> {
    people: Arc<People<K>>,
    who: K,
    pub(crate) rates: Arc<Mutex<Rates>>,
}

impl<K: Eq + Hash + Clone> Share<K> {
    /// A reload may have changed how much may be published.
    pub(crate) fn set_rate(&self, rate: RateLimit) {
        if let Some(entry) = self.people.0.lock().get_mut(&self.who) {
            entry.keep_to(&Bounds { rate, ..entry.bounds });
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        self.people.leave(&self.who);
    }
}

/// How much may be published in a second; 0 for any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl RateLimit {
    pub(crate) fn is_unlimited(&self) -> bool {
        self.messages == 0 && self.bytes == 0
    }
}

/// What may be published now, of messages and of bytes.
pub(crate) struct Rates {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Rates {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { messages: bucket(limit.messages), bytes: bucket(limit.bytes) }
    }

    /// Takes what was published; how many milliseconds to wait until more may be.
    pub(crate) fn take(&mut self, messages: u64, bytes: u64, now: Tick) -> u64 {
        let take = |bucket: &mut Option<Bucket>, amount| bucket.as_mut().map_or(0, |bucket| bucket.take(amount, now));
        take(&mut self.messages, messages).max(take(&mut self.bytes, bytes))
    }
}

/// What bounds how much one connection publishes: its own rate, and its user's.
pub(crate) struct Throttle {
    own: Rates,
    user: Option<Arc<Mutex<Rates>>>,
    messages: u64,
    bytes: u64,
}

impl Throttle {
    /// `None` if there is no bound.
    pub(crate) fn new(own: RateLimit, user: Option<(RateLimit, &Arc<Mutex<Rates>>)>) -> Option<Box<Self>> {
        let user = user.filter(|(limit, _)| !limit.is_unlimited()).map(|(_, rates)| Arc::clone(rates));
        (!own.is_unlimited() || user.is_some())
            .then(|| Box::new(Self { own: Rates::new(own), user, messages: 0, bytes: 0 }))
    }

    /// Notes a message of this read.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// The end of a read: how many milliseconds its client is not to be read.
    pub(crate) fn settle(&mut self, now: Tick) -> u64 {
        let (messages, bytes) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.bytes));
        if messages == 0 {
            return 0;
        }
        let user = self.user.as_ref().map_or(0, |rates| rates.lock().take(messages, bytes, now));
        self.own.take(messages, bytes, now).max(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { connections: 2, arrivals: 3, rate: RateLimit { messages: 0, bytes: 0 } };

    #[test]
    fn connections_are_counted_and_let_go() {
        let people = Arc::<People<u32>>::default();
        let first = people.enter(1, &BOUNDS, Tick(0)).ok();
        let second = people.enter(1, &BOUNDS, Tick(0)).ok();
        assert_eq!(people.enter(1, &BOUNDS, Tick(0)).err(), Some(TooMany::Connections));
        assert!(people.enter(2, &BOUNDS, Tick(0)).is_ok());
        drop(first);
        assert!(people.enter(1, &BOUNDS, Tick(0)).is_ok());
        assert_eq!(people.enter(1, &BOUNDS, Tick(0)).err(), Some(TooMany::Arrivals));
        assert!(people.enter(1, &BOUNDS, Tick(2_000)).is_ok());
        drop(second);
        assert_eq!(people.0.lock().get(&1).map(|entry| entry.connections), Some(0));
    }

    #[test]
    fn bounds_that_a_reload_changed_hold_for_who_is_there() {
        let people = Arc::<People<u32>>::default();
        let free = Bounds { connections: usize::MAX, arrivals: 0, ..BOUNDS };
        let share = people.enter(1, &free, Tick(0)).unwrap_or_else(|_| panic!("nothing is bounded"));
        share.set_rate(RateLimit { messages: 1, bytes: 0 });
        assert_eq!(share.rates.lock().take(1, 0, Tick(0)), 0);
        assert!(share.rates.lock().take(1, 0, Tick(0)) > 0);
        let one = Bounds { connections: usize::MAX, arrivals: 1, ..BOUNDS };
        assert!(people.enter(1, &one, Tick(0)).is_ok());
        assert_eq!(people.enter(1, &one, Tick(0)).err(), Some(TooMany::Arrivals));
        assert_eq!(share.rates.lock().take(9, 0, Tick(0)), 0, "the bound of the rate is gone again");
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let people = Arc::<People<usize>>::default();
        let bounds = Bounds { arrivals: 0, ..BOUNDS };
        drop(people.enter(1, &bounds, Tick(0)).ok());
        assert!(people.0.lock().is_empty());
        for number in 0..100_000 {
            drop(people.enter(number, &BOUNDS, Tick(number as u64)).ok());
        }
        assert!(people.0.lock().len() < 30_000);
    }

    #[test]
    fn a_client_that_publishes_too_much_waits() {
        let limit = RateLimit { messages: 10, bytes: 0 };
        let mut throttle = Throttle::new(limit, None).expect("there is a bound");
        for _ in 0..10 {
            throttle.note(1);
        }
        assert_eq!(throttle.settle(Tick(0)), 0);
        throttle.note(1);
        assert!(throttle.settle(Tick(0)) > 0);
        assert_eq!(throttle.settle(Tick(0)), 0, "a read without a message costs nothing");
        assert!(Throttle::new(RateLimit::default(), None).is_none());
    }
}
