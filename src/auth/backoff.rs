//! Who failed too often waits: addresses and users, each for a time that doubles.

use super::fingerprint;
use crate::env::net::network;
use nightjar_base::{Tick, millis};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Entries that are kept; beyond, those that wait for nothing go, and then all.
const MOST: usize = 100_000;

/// The bounds of the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Failures that cost nothing.
    pub(super) after: u32,
    pub(super) first: Duration,
    pub(super) max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    /// The name's fingerprint: who fails chooses the name, and may choose a long one.
    User(u64),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    until: Tick,
    last: Tick,
    /// The credentials that failed last: a client that tries them twice has failed once.
    credentials: u64,
}

/// Who failed, and how often.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<Who, Entry, foldhash::fast::RandomState>>);

/// Found before the table is locked: names may be long.
fn both(address: Option<IpAddr>, user: Option<&str>) -> [Option<Who>; 2] {
    [address.map(network).map(Who::Address), user.map(|user| Who::User(fingerprint(&[user.as_bytes()])))]
}

impl Backoff {
    /// How many milliseconds `address` or `user` must wait; 0 for none.
    pub(super) fn wait(&self, address: Option<IpAddr>, user: Option<&str>, now: Tick) -> u64 {
        let both = both(address, user);
        let entries = self.0.lock();
        let wait = |who: Who| entries.get(&who).map_or(0, |entry: &Entry| entry.until.0.saturating_sub(now.0));
        both.into_iter().flatten().map(wait).max().unwrap_or(0)
    }

    /// `credentials` were wrong.
    pub(super) fn failed(
        &self,
        address: Option<IpAddr>,
        user: Option<&str>,
        credentials: u64,
        limits: &Limits,
        now: Tick,
    ) {
        let both = both(address, user);
        let mut entries = self.0.lock();
        if entries.len() >= MOST {
            entries.retain(|_, entry| entry.until > now);
            if entries.len() >= MOST {
                entries.clear();
            }
        }
        for who in both.into_iter().flatten() {
            let entry =
                entries.entry(who).or_insert(Entry { failures: 0, until: now, last: now, credentials: !credentials });
            // After a long calm it begins anew.
            if now.since(entry.last) > 2 * millis(limits.max) {
                entry.failures = 0;
            }
            entry.last = now;
            if entry.credentials == credentials {
                continue;
            }
            entry.credentials = credentials;
            entry.failures += 1;
            if let Some(beyond) = entry.failures.checked_sub(limits.after + 1) {
                let wait = millis(limits.first).saturating_mul(1 << beyond.min(32)).min(millis(limits.max));
                entry.until = now.plus_millis(wait);
            }
        }
    }

    /// `user` was right, from `address`: its own failures are forgiven, there too. Those with other names are not, or
    /// whoever has one name could try passwords for all others between two logins.
    pub(super) fn succeeded(&self, address: Option<IpAddr>, user: Option<&str>) {
        let [address, user] = both(address, user);
        let mut entries = self.0.lock();
        let forgiven = user.and_then(|user| entries.remove(&user)).map_or(0, |entry| entry.failures);
        if let Some(entry) = address.and_then(|address| entries.get_mut(&address)).filter(|_| forgiven > 0) {
            entry.failures = entry.failures.saturating_sub(forgiven);
            if entry.failures == 0 {
                entry.until = entry.last;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { after: 2, first: Duration::from_secs(1), max: Duration::from_secs(5) };

    #[test]
    fn the_time_doubles_up_to_a_bound() {
        let (backoff, here) = (Backoff::default(), Some(IpAddr::from([10, 0, 0, 1])));
        for (attempt, wait) in [(1, 0), (2, 0), (3, 1_000), (4, 2_000), (5, 4_000), (6, 5_000), (7, 5_000)] {
            backoff.failed(here, Some("ann"), attempt, &LIMITS, Tick(0));
            assert_eq!(backoff.wait(here, None, Tick(0)), wait);
            assert_eq!(backoff.wait(None, Some("ann"), Tick(0)), wait);
        }
        assert_eq!(backoff.wait(here, Some("ann"), Tick(4_999)), 1);
        assert_eq!(backoff.wait(here, Some("bob"), Tick(5_000)), 0);
        backoff.succeeded(here, Some("ann"));
        assert_eq!(backoff.wait(here, Some("ann"), Tick(0)), 0);
    }

    #[test]
    fn the_same_credentials_twice_are_one_failure() {
        let backoff = Backoff::default();
        for _ in 0..20 {
            backoff.failed(None, Some("ann"), 7, &LIMITS, Tick(0));
        }
        assert_eq!(backoff.wait(None, Some("ann"), Tick(0)), 0);
    }

    #[test]
    fn one_right_name_does_not_make_up_for_wrong_ones() {
        let (backoff, here) = (Backoff::default(), Some(IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, 1])));
        for attempt in 0..6 {
            backoff.failed(here, Some(&format!("user {attempt}")), attempt, &LIMITS, Tick(0));
            backoff.succeeded(here, Some("eve"));
        }
        assert!(backoff.wait(here, None, Tick(0)) > 0);
        let neighbour = Some(IpAddr::from([0xfd00, 0, 0, 1, 9, 9, 9, 9]));
        assert!(backoff.wait(neighbour, None, Tick(0)) > 0, "it is the same network");
    }

    #[test]
    fn what_is_remembered_is_small() {
        assert!(size_of::<(Who, Entry)>() <= 64, "whoever fails chooses the name: none is kept");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let backoff = Backoff::default();
        for attempt in 0..3 * MOST {
            backoff.failed(None, Some(&attempt.to_string()), 1, &LIMITS, Tick(attempt as u64));
        }
        assert!(backoff.0.lock().len() <= MOST);
    }
}
