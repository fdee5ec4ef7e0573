//! The message at which the remote closes the connection.
//!
//! Before MQTT 5 a remote that does not want a message has no other word for it, and some close in MQTT 5 too. The message
//! would be sent again at each connection, for ever, and nothing behind it would ever arrive. So who is under suspicion is
//! sent alone, and who is convicted is set aside. A link that merely fails convicts nobody: it would have to end just
//! behind the same message each time.

/// Closings without a word, with the message alone under way, that convict.
const SILENT: u32 = 5;
/// Closings with a reason.
const SPOKEN: u32 = 3;
/// From here on the message is sent alone.
const ALONE: u32 = 2;

/// Which message is suspected.
#[derive(Debug, Default)]
pub(super) struct Poison {
    /// Its packet identifier.
    suspect: Option<u16>,
    times: u32,
}

impl Poison {
    /// The remote closed the connection; `front` is the oldest message that it had not acknowledged.
    pub(super) fn closed_at(&mut self, front: Option<u16>) {
        if front.is_some() && front == self.suspect {
            self.times += 1;
        } else {
            self.suspect = front;
            self.times = u32::from(front.is_some());
        }
    }

    /// Whether there is a suspect.
    pub(super) fn is_suspicious(&self) -> bool {
        self.suspect.is_some()
    }

    /// How many messages may be under way, where `window` may without a suspicion.
    pub(super) fn window(&self, window: u16) -> u16 {
        if self.times >= ALONE { 1 } else { window }
    }

    /// The message that is not to be sent any more. `spoken`: whether the remote last said why it closed.
    pub(super) fn convicted(&self, spoken: bool) -> Option<u16> {
        let enough = if spoken { SPOKEN } else { SILENT };
        self.suspect.filter(|_| self.times >= enough)
    }

    /// It was acknowledged, or set aside.
    pub(super) fn cleared(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_five_times_in_a_row_convicts() {
        let mut poison = Poison::default();
        for times in 1..=4 {
            poison.closed_at(Some(7));
            assert_eq!(poison.window(100), if times < 2 { 100 } else { 1 });
            assert_eq!(poison.convicted(false), None);
        }
        assert_eq!(poison.convicted(true), Some(7));
        poison.closed_at(Some(7));
        assert_eq!(poison.convicted(false), Some(7));
        poison.cleared();
        assert_eq!((poison.window(100), poison.convicted(true)), (100, None));
    }

    #[test]
    fn another_message_begins_anew() {
        let mut poison = Poison::default();
        (0..4).for_each(|_| poison.closed_at(Some(7)));
        poison.closed_at(Some(8));
        assert_eq!((poison.window(100), poison.convicted(true)), (100, None));
        poison.closed_at(None);
        poison.closed_at(None);
        assert_eq!(poison.window(100), 100);
    }
}
