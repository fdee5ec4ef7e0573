//! What systemd is told: when we are ready, what we are doing, and that we are alive, which is more than that a thread
//! runs: the journal must move and every loop must turn.

use crate::env::clock::Clock;
use crate::env::task;
use crate::store::{Health, Store};
use nightjar_base::millis;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a loop says that it turns.
const BEAT: Duration = Duration::from_millis(500);

/// Tells systemd; without systemd it tells nobody.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Listeners are open.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// A reload begins; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Clients are being told; nobody comes in any more.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// When each loop last turned.
#[derive(Clone)]
pub(super) struct Beats {
    clock: Clock,
    beats: Arc<Vec<AtomicU64>>,
}

impl Beats {
    pub(super) fn new(clock: Clock, loops: usize) -> Self {
        let now = clock.tick().0;
        Self { clock, beats: Arc::new((0..loops).map(|_| AtomicU64::new(now)).collect()) }
    }

    /// Says again and again that the loop of this thread turns.
    pub(super) async fn beat(self, number: usize) {
        let mut ticks = task::interval(BEAT);
        loop {
            self.beats[number].store(self.clock.tick().0, Ordering::Relaxed);
            ticks.tick().await;
        }
    }

    /// Whether every loop has turned within `span`.
    fn all_within(&self, span: Duration) -> bool {
        let now = self.clock.tick().0;
        let span = millis(span);
        self.beats.iter().all(|beat| now.saturating_sub(beat.load(Ordering::Relaxed)) <= span)
    }
}

/// The watchdog, where systemd has set one.
pub(super) struct Watchdog {
    /// Within which systemd wants to hear from us.
    deadline: Option<Duration>,
    store: Store,
    beats: Beats,
}

impl Watchdog {
    pub(super) fn new(store: Store, beats: Beats) -> Self {
        Self { deadline: sd_notify::watchdog_enabled(), store, beats }
    }

    /// Says that we are alive as long as that is so; ends never.
    pub(super) async fn run(&self) {
        let Some(deadline) = self.deadline else { return std::future::pending().await };
        let mut ticks = task::interval(deadline / 3);
        loop {
            if self.is_alive(deadline / 3).await {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(
                    "the journal does not move, or a loop does not turn: the watchdog is not told that all is well"
                );
            }
            ticks.tick().await;
        }
    }

    /// Whether the journal has taken everything that it had a moment ago, or says itself why not, and the loops turn.
    async fn is_alive(&self, patience: Duration) -> bool {
        if !self.beats.all_within(patience.max(BEAT * 4)) {
            return false;
        }
        // A full disk is known, told of, and mended by itself: a restart would not help.
        if matches!(self.store.health(), Health::Stalled { .. }) {
            return true;
        }
        task::timeout(patience, self.store.wait(self.store.submitted())).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightjar_base::Wall;

    #[tokio::test]
    async fn a_loop_that_does_not_turn_is_seen() {
        let clock = Clock::manual(Wall(0));
        let beats = Beats::new(clock.clone(), 2);
        assert!(beats.all_within(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(2));
        assert!(!beats.all_within(Duration::from_secs(1)));
        for number in 0..2 {
            // It says so before it waits.
            let _ = task::timeout(Duration::ZERO, beats.clone().beat(number)).await;
        }
        assert!(beats.all_within(Duration::from_secs(1)));
    }
}
