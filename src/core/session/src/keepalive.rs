//! Keep alive: one and a half times the interval of silence ends a connection [MQTT-3.1.2-22].

use nightjar_base::Tick;

/// The keep alive of one connection.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    allowed_millis: Option<u64>,
    last: Tick,
}

impl KeepAlive {
    /// A keep alive of `seconds` that starts at `now`; 0 turns it off (section 3.1.2.10).
    #[must_use]
    pub fn new(seconds: u16, now: Tick) -> Self {
        let allowed_millis = (seconds > 0).then(|| u64::from(seconds) * 1500);
        Self { allowed_millis, last: now }
    }

    /// A whole control packet has come in. Bytes of an unfinished one do not count as life.
    pub fn packet(&mut self, now: Tick) {
        self.last = now;
    }

    /// When the connection is to be closed if no packet comes before; `None` if never.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.allowed_millis.map(|millis| self.last.plus_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_allowed_for_one_and_a_half_intervals_from_the_last_packet() {
        let mut keep_alive = KeepAlive::new(4, Tick(1000));
        assert_eq!(keep_alive.deadline(), Some(Tick(7000)));
        keep_alive.packet(Tick(6500));
        assert_eq!(keep_alive.deadline(), Some(Tick(12_500)));
        assert_eq!(KeepAlive::new(0, Tick(0)).deadline(), None);
    }
}
