//! What was dropped of what one client was to get, and why: the last few, so that the operator need not guess.

use super::stats;
use crate::env::clock;
use nightjar_base::Wall;
use std::collections::VecDeque;

/// Runs of drops that are remembered of one connection.
const REMEMBERED: usize = 8;

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The outbox was over its mark (QoS 0).
    Slow,
    /// The queue was at its limit.
    QueueFull,
    /// It is larger than the client's Maximum Packet Size.
    TooLarge,
    /// It expired before it could be sent.
    Expired,
    /// The client may not have it.
    Denied,
}

impl Reason {
    /// Its name in the API and as a label of the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Denied => "denied",
        }
    }

    fn count(self) {
        match self {
            Self::Slow => stats::add(|s| &s.dropped_slow, 1),
            Self::QueueFull => stats::add(|s| &s.dropped_queue_full, 1),
            Self::TooLarge => stats::add(|s| &s.dropped_too_large, 1),
            Self::Expired => stats::add(|s| &s.dropped_expired, 1),
            Self::Denied => stats::add(|s| &s.dropped_denied, 1),
        }
    }
}

/// Drops in a row on one topic for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// When it began.
    pub(crate) since: Wall,
    /// Empty where it is not known any more.
    pub(crate) topic: String,
    pub(crate) reason: Reason,
    pub(crate) count: u64,
}

/// The last runs of one connection; nothing is held until something was dropped.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "most connections drop nothing: eight bytes in each, not thirty-two")]
pub(crate) struct Drops(Option<Box<VecDeque<Run>>>);

impl Drops {
    /// Counts and remembers one. A client that is slow loses many in a row: they cost a comparison each.
    pub(crate) fn note(&mut self, reason: Reason, topic: &[u8]) {
        reason.count();
        let runs = self.0.get_or_insert_default();
        if let Some(last) = runs.back_mut()
            && last.reason == reason
            && last.topic.as_bytes() == topic
        {
            last.count += 1;
            return;
        }
        let mut text =
            if runs.len() >= REMEMBERED { runs.pop_front().map(|run| run.topic) } else { None }.unwrap_or_default();
        text.clear();
        text.push_str(std::str::from_utf8(topic).unwrap_or_default());
        runs.push_back(Run { since: clock::wall(), topic: text, reason, count: 1 });
    }

    /// The runs, oldest first.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.0.as_ref().map(|runs| runs.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_runs_are_remembered() {
        let mut drops = Drops::default();
        assert!(drops.runs().is_empty());
        for number in 0..20 {
            let topic = format!("t/{}", number / 2);
            drops.note(Reason::Slow, topic.as_bytes());
        }
        drops.note(Reason::Expired, b"t/9");
        let runs = drops.runs();
        assert_eq!(runs.len(), REMEMBERED);
        assert_eq!((runs[0].topic.as_str(), runs[0].count), ("t/3", 2));
        assert_eq!((runs[7].reason, runs[7].topic.as_str(), runs[7].count), (Reason::Expired, "t/9", 1));
    }
}
