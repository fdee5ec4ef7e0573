//! What the client sends us: which QoS 2 identifiers are taken, how much is under way, what its aliases stand for.
//!
//! ```text
//!  QoS 2, one identifier:   free --PUBLISH--> taken --PUBREL--> free
//!                                   (again: PUBREC only)   (again: PUBCOMP, v5 "not found")
//! ```

use std::collections::HashSet;
use std::sync::Arc;

/// The receiving half of one connection's protocol state.
#[derive(Debug)]
pub struct Inbound {
    receive_maximum: u32,
    /// Most clients never send at QoS 2.
    #[allow(clippy::box_collection, reason = "a set is six words, and an idle connection pays for each")]
    taken: Option<Box<HashSet<u16>>>,
    alias_maximum: u16,
    aliases: Vec<Option<Arc<str>>>,
}

/// What a QoS 2 PUBLISH is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New: to be published, then PUBREC.
    New,
    /// A repeat of one that was accepted: PUBREC again, and nothing else [MQTT-4.3.3-10].
    Repeat,
}

/// A breach of the protocol by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// More under way than the Receive Maximum that we announced [MQTT-3.3.4-7].
    ReceiveMaximum,
    /// A topic alias of 0 or above the maximum that we announced [MQTT-3.3.2-8], [MQTT-3.3.2-9].
    AliasInvalid,
    /// An empty topic with an alias that was never set, or with none (section 3.3.2.3.4).
    AliasUnknown,
}

impl Inbound {
    /// The state of a new connection: `taken` are the QoS 2 identifiers that its session still holds.
    ///
    /// `receive_maximum` is how many QoS 1 and 2 messages may be under way (65,535 where none was announced).
    #[must_use]
    pub fn new(receive_maximum: u32, alias_maximum: u16, taken: impl IntoIterator<Item = u16>) -> Self {
        let taken: HashSet<u16> = taken.into_iter().collect();
        let taken = (!taken.is_empty()).then(|| Box::new(taken));
        Self { receive_maximum, taken, alias_maximum, aliases: Vec::new() }
    }

    /// A QoS 2 PUBLISH with `packet_id` has come. DUP says nothing: what counts is whether the identifier is taken.
    pub fn exactly_once(&mut self, packet_id: u16) -> Arrival {
        if self.taken.get_or_insert_default().insert(packet_id) { Arrival::New } else { Arrival::Repeat }
    }

    /// A PUBREL has come: whether its identifier was taken. It is free from now on.
    pub fn release(&mut self, packet_id: u16) -> bool {
        self.taken.as_mut().is_some_and(|taken| taken.remove(&packet_id))
    }

    /// Whether `packet_id` belongs to a QoS 2 message that is not released yet.
    #[must_use]
    pub fn holds(&self, packet_id: u16) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.contains(&packet_id))
    }

    /// QoS 2 messages that are not released.
    #[must_use]
    pub fn held(&self) -> usize {
        self.taken.as_ref().map_or(0, |taken| taken.len())
    }

    /// Checks the receive quota when `at_least_once` QoS 1 messages, this one included if it is one, await their PUBACK.
    ///
    /// # Errors
    /// [`Violation::ReceiveMaximum`] when more is under way than was announced and tolerated: one eighth on top,
    /// since real clients overrun it by a little, unless `strict`.
    pub fn check_quota(&self, at_least_once: usize, strict: bool) -> Result<(), Violation> {
        let slack = if strict { 0 } else { self.receive_maximum / 8 };
        let allowed = usize::try_from(self.receive_maximum + slack).unwrap_or(usize::MAX);
        if self.held() + at_least_once > allowed { Err(Violation::ReceiveMaximum) } else { Ok(()) }
    }

    /// Sets `alias` to `topic`.
    ///
    /// # Errors
    /// [`Violation::AliasInvalid`] for 0 and above the maximum.
    pub fn set_alias(&mut self, alias: u16, topic: &Arc<str>) -> Result<(), Violation> {
        *self.alias_slot(alias)? = Some(Arc::clone(topic));
        Ok(())
    }

    /// The topic that `alias` stands for.
    ///
    /// # Errors
    /// [`Violation::AliasInvalid`] for 0 and above the maximum, [`Violation::AliasUnknown`] for one never set.
    pub fn alias(&mut self, alias: u16) -> Result<Arc<str>, Violation> {
        self.alias_slot(alias)?.clone().ok_or(Violation::AliasUnknown)
    }

    fn alias_slot(&mut self, alias: u16) -> Result<&mut Option<Arc<str>>, Violation> {
        if alias == 0 || alias > self.alias_maximum {
            return Err(Violation::AliasInvalid);
        }
        // The table grows with use: most connections never set an alias.
        let index = usize::from(alias) - 1;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        Ok(&mut self.aliases[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_until_it_is_released() {
        let mut inbound = Inbound::new(10, 0, [7]);
        assert_eq!(inbound.exactly_once(7), Arrival::Repeat);
        assert_eq!(inbound.exactly_once(1), Arrival::New);
        assert_eq!(inbound.exactly_once(1), Arrival::Repeat);
        assert!(inbound.release(1));
        assert!(!inbound.release(1));
        assert_eq!(inbound.exactly_once(1), Arrival::New);
    }

    #[test]
    fn f32_the_quota_counts_both_qualities() {
        let mut inbound = Inbound::new(1, 0, []);
        inbound.exactly_once(1);
        assert_eq!(inbound.check_quota(0, false), Ok(()));
        inbound.exactly_once(1);
        assert_eq!(inbound.check_quota(0, false), Ok(()));
        inbound.exactly_once(2);
        assert_eq!(inbound.check_quota(0, false), Err(Violation::ReceiveMaximum));
        assert_eq!(Inbound::new(16, 0, []).check_quota(18, false), Ok(()));
        assert_eq!(Inbound::new(16, 0, []).check_quota(17, true), Err(Violation::ReceiveMaximum));
    }

    #[test]
    fn f36_f37_aliases_are_set_replaced_and_bounded() {
        let mut inbound = Inbound::new(10, 2, []);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!(inbound.alias(2), Err(Violation::AliasUnknown));
        assert_eq!(inbound.set_alias(3, &a), Err(Violation::AliasInvalid));
        assert_eq!(inbound.set_alias(0, &a), Err(Violation::AliasInvalid));
        inbound.set_alias(2, &a).expect("2 is within the maximum");
        inbound.set_alias(2, &b).expect("2 is within the maximum");
        assert_eq!(inbound.alias(2), Ok(b));
    }
}
