//! Counters: each thread counts in its own, readers add them up.
//!
//! A counter is written by one thread only (load, add, store: no locked instruction), so counting costs the hot path
//! about a nanosecond. `$SYS` and the logs read the sums.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One thread's counters; also the shape of their sums (see [`Totals`]).
        #[derive(Debug, Default)]
        pub(crate) struct Stats { $($(#[$doc])* pub(crate) $name: AtomicU64,)* }

        /// The sums of all threads' counters at one time.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[$doc])* pub $name: u64,)* }

        impl Totals {
            /// Every counter by its name.
            #[must_use]
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            fn add(&mut self, stats: &Stats) {
                $(self.$name = self.$name.wrapping_add(stats.$name.load(Ordering::Relaxed));)*
            }
        }
    };
}

counters! {
    /// Bytes read from clients.
    bytes_received,
    /// Bytes written to clients.
    bytes_sent,
    /// Control packets of any kind received.
    packets_received,
    /// Control packets of any kind sent.
    packets_sent,
    /// PUBLISH packets received.
    publish_received,
    /// PUBLISH packets sent.
    publish_sent,
    /// Payload bytes of the PUBLISH packets received.
    publish_bytes_received,
    /// Payload bytes of the PUBLISH packets sent.
    publish_bytes_sent,
    /// Messages dropped: the receiver's outbox was over its mark (QoS 0).
    dropped_slow,
    /// Messages dropped: a queue was at its limit.
    dropped_queue_full,
    /// Messages dropped: larger than the receiver's Maximum Packet Size.
    dropped_too_large,
    /// Messages dropped: expired before they could be sent.
    dropped_expired,
    /// Messages dropped: the receiver may not have them.
    dropped_denied,
    /// It had come here on another way already.
    dropped_loop,
    /// Messages that clients published and nobody subscribed to.
    unmatched,
    /// PUBLISH packets that their publishers had no right to.
    denied_publish,
    /// Filters in SUBSCRIBE packets that were refused for want of a right.
    denied_subscribe,
    /// CONNECT packets refused: credentials.
    refused_credentials,
    /// CONNECT packets refused: the session belongs to another user.
    refused_owner,
    /// CONNECT packets refused: too many connections of the user.
    refused_user,
    /// CONNECT packets refused: taken over too often.
    refused_takeover,
    /// CONNECT packets refused: anything else that the settings do not allow.
    refused_connect,
    /// Connections closed as they came: too many, or too many at once, of a listener or without CONNECT.
    refused_connections,
    /// Connections closed as they came: too many, or too many at once, of an address.
    refused_address,
    /// Messages refused: a limit of retained or queued messages, of memory or of the disk.
    refused_quota,
    /// Filters refused: too many subscriptions.
    refused_subscriptions,
    /// Times that a client was not read because it published too much.
    throttled,
    /// Connections accepted at a listener.
    sockets_opened,
    /// CONNECT packets accepted.
    connections,
    /// Connections that ended.
    disconnections,
    /// Persistent sessions that ended because they expired.
    sessions_expired,
}

impl Totals {
    fn beginning(&self, with: &'static str) -> impl Iterator<Item = (&'static str, u64)> {
        self.each().into_iter().filter_map(move |(name, count)| Some((name.strip_prefix(with)?, count)))
    }

    /// Messages that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.beginning("dropped_")
    }

    /// What was refused, by reason: connections, and what clients asked for that is limited.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.beginning("refused_")
    }

    /// What clients had no right to, by what they tried.
    pub fn denied(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.beginning("denied_")
    }
}

thread_local! {
    static OWN: RefCell<Option<Arc<Stats>>> = const { RefCell::new(None) };
}

/// Makes `stats` the counters of this thread. Called once, when a thread starts.
pub(crate) fn enter(stats: Arc<Stats>) {
    OWN.with(|own| *own.borrow_mut() = Some(stats));
}

/// Adds `amount` to one of this thread's counters. A thread that never entered counts nothing.
#[inline]
pub(crate) fn add(counter: impl Fn(&Stats) -> &AtomicU64, amount: u64) {
    OWN.with(|own| {
        if let Some(stats) = &*own.borrow() {
            let counter = counter(stats);
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    });
}

/// The counters of all threads that take part.
#[derive(Debug, Default)]
pub(crate) struct Board(parking_lot::Mutex<Vec<Arc<Stats>>>);

impl Board {
    /// New counters for one more thread.
    pub(crate) fn join(&self) -> Arc<Stats> {
        let stats = Arc::<Stats>::default();
        self.0.lock().push(Arc::clone(&stats));
        stats
    }

    /// The sums.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.0.lock().iter().for_each(|stats| totals.add(stats));
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_all_threads() {
        let board = Arc::new(Board::default());
        let threads: Vec<_> = (1..=3)
            .map(|amount| {
                let stats = board.join();
                crate::env::task::thread("counting", move || {
                    enter(stats);
                    add(|s| &s.bytes_sent, amount);
                    add(|s| &s.bytes_sent, amount);
                })
                .expect("a thread starts")
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it counts and ends"));
        assert_eq!(board.totals(), Totals { bytes_sent: 12, ..Totals::default() });
    }

    #[test]
    fn reasons_are_those_of_the_counters() {
        let totals = Totals { dropped_slow: 2, dropped_expired: 1, refused_user: 3, ..Totals::default() };
        assert!(totals.dropped().eq([
            ("slow", 2),
            ("queue_full", 0),
            ("too_large", 0),
            ("expired", 1),
            ("denied", 0),
            ("loop", 0)
        ]));
        assert!(totals.refused().any(|reason| reason == ("user", 3)));
    }
}
