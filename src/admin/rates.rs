//! How much a second, over the last few seconds.

use crate::broker::Totals;
use nightjar_base::Tick;
use serde::Serialize;
use std::collections::VecDeque;
use utoipa::ToSchema;

/// Seconds over which rates are taken.
const SPAN: usize = 10;

/// What was counted in the last seconds, a sample for each.
#[derive(Default)]
pub(super) struct Samples(VecDeque<(Tick, Totals)>);

/// So much a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Rates {
    /// PUBLISH packets received.
    pub(super) publish_received: f64,
    /// PUBLISH packets sent.
    pub(super) publish_sent: f64,
    /// Bytes received.
    pub(super) bytes_received: f64,
    /// Bytes sent.
    pub(super) bytes_sent: f64,
    /// Messages dropped.
    pub(super) dropped: f64,
}

impl Samples {
    pub(super) fn add(&mut self, now: Tick, totals: Totals) {
        self.0.push_back((now, totals));
        if self.0.len() > SPAN + 1 {
            self.0.pop_front();
        }
    }

    /// The rates up to now.
    pub(super) fn rates(&self, now: Tick, totals: &Totals) -> Rates {
        let Some((since, before)) = self.0.front() else { return Rates::default() };
        let millis = now.since(*since);
        if millis == 0 {
            return Rates::default();
        }
        let dropped = |totals: &Totals| totals.dropped().map(|(_, count)| count).sum::<u64>();
        #[allow(clippy::cast_precision_loss, reason = "a rate of 2^53 a second is not measured to the last digit")]
        let rate = |now: u64, before: u64| {
            // To a tenth: more digits would claim more than is known.
            (now.saturating_sub(before) as f64 * 10_000.0 / millis as f64).round() / 10.0
        };
        Rates {
            publish_received: rate(totals.publish_received, before.publish_received),
            publish_sent: rate(totals.publish_sent, before.publish_sent),
            bytes_received: rate(totals.bytes_received, before.bytes_received),
            bytes_sent: rate(totals.bytes_sent, before.bytes_sent),
            dropped: rate(dropped(totals), dropped(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_the_last_seconds() {
        let mut samples = Samples::default();
        let at = |count| Totals { publish_received: count, dropped_slow: count / 10, ..Totals::default() };
        assert_eq!(samples.rates(Tick(0), &at(5)), Rates::default());
        for second in 0..100 {
            samples.add(Tick(second * 1000), at(second * second));
        }
        let rates = samples.rates(Tick(99_000), &at(99 * 99));
        assert!((rates.publish_received - 188.0).abs() < 0.01, "{rates:?}");
        assert!(rates.dropped > 18.0 && rates.dropped < 19.0, "{rates:?}");
    }
}
