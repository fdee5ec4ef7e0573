//! What one connection owes to time: deadlines, and how much it may publish in a second.

use super::connection::{Connection, End};
use super::limits::Limits;
use super::peer::Close;
use super::people::Throttle;
use super::{stats, wheel};
use crate::config::RatePolicy;
use crate::env::task;
use nightjar_base::Tick;
use nightjar_mqtt::ReasonCode;
use std::sync::Arc;
use std::time::Duration;

impl Connection {
    /// A reload may have changed what the connection may cost.
    pub(super) fn see_limits(&mut self) {
        let limits = self.peer.about.door.at.limits();
        if !Arc::ptr_eq(&limits, &self.limits) {
            let limits = limits.after(&self.limits);
            if (limits.rate, limits.user_rate) != (self.limits.rate, self.limits.user_rate) {
                self.see_rates(&limits);
            }
            self.limits = limits;
        }
    }

    fn see_rates(&mut self, limits: &Limits) {
        match &self.share {
            Some(share) => share.set_rate(limits.user_rate),
            // Who came in when its user was not counted is counted from now on, as one more if there are too many.
            None => self.share = self.broker.count_late(&self.peer.about.identity, limits).map(Box::new),
        }
        let user = self.share.as_ref().map(|share| (limits.user_rate, &share.rates));
        self.throttle = Throttle::new(limits.rate, user);
    }

    /// Leaves a client unread that has published more than it may, or ends its connection.
    pub(super) fn throttle(&mut self, now: Tick) -> Result<(), End> {
        let wait = self.throttle.as_mut().map_or(0, |throttle| throttle.settle(now));
        if wait == 0 {
            return Ok(());
        }
        stats::add(|s| &s.throttled, 1);
        if self.limits.rate_policy == RatePolicy::Disconnect {
            return Err(End::Violation(ReasonCode::MessageRateTooHigh, "published more in a second than it may"));
        }
        self.congested = Some(Box::pin(task::sleep(Duration::from_millis(wait))));
        Ok(())
    }

    /// The next deadline, and what its passing means.
    fn deadline(&self) -> Option<Tick> {
        let packet = self.partial_since.map(|since| since.plus_millis(self.limits.packet_millis));
        let write = self.peer.lock().blocked_since.map(|since| since.plus_millis(self.limits.write_millis));
        let credentials = self.credentials_expire.map(|at| {
            let left = at.0.saturating_sub(self.broker.clock.now().0);
            self.broker.clock.tick().plus_millis(left)
        });
        [self.keep_alive.deadline(), packet, write, credentials].into_iter().flatten().min()
    }

    pub(super) fn note_deadline(&mut self) {
        // Without any other reason to be looked at, a blocked socket must still be found.
        let latest = self.broker.clock.tick().plus_millis(self.limits.write_millis);
        self.note_at(self.deadline().map_or(latest, |deadline| deadline.min(latest)));
    }

    fn note_at(&mut self, deadline: Tick) {
        self.forget_note();
        self.noted = Some(wheel::note(&self.peer, deadline));
    }

    pub(crate) fn forget_note(&mut self) {
        if let Some(slot) = self.noted.take() {
            wheel::forget(&self.peer, slot);
        }
    }

    pub(super) fn check_deadlines(&mut self) -> Result<(), End> {
        let now = self.broker.clock.tick();
        if self.congested.is_some() {
            // It is not read: its silence is ours.
            self.keep_alive.packet(now);
            self.partial_since = self.partial_since.map(|_| now);
        }
        if self.keep_alive.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(End::KeepAlive);
        }
        if self.credentials_expired(self.broker.clock.now()) {
            return Err(End::Told(Close::Expired));
        }
        let limits = &self.limits;
        if self.partial_since.is_some_and(|since| now.since(since) >= limits.packet_millis) {
            return Err(End::PacketTimeout);
        }
        let write_millis = limits.write_millis;
        let mut state = self.peer.lock();
        if state.blocked {
            let since = *state.blocked_since.get_or_insert(now);
            if now.since(since) >= write_millis {
                return Err(End::WriteTimeout);
            }
        } else {
            state.blocked_since = None;
        }
        drop(state);
        self.note_deadline();
        Ok(())
    }
}
