//! Packet identifiers that need no table and no disk.

/// The packet identifier of the message with `sequence` in its session's queue: 1 to 65,535, in turn. A queue's first
/// sequence is 1, and so is its first identifier, which is what clients and their tests are used to.
///
/// Since a sequence never changes, a message that is sent again, after a resume or a crash, carries its original
/// identifier [MQTT-4.4.0-1]. Two messages in flight differ as long as fewer than 65,535 sequences lie between them.
#[must_use]
pub fn packet_id(sequence: u64) -> u16 {
    u16::try_from((sequence % 65_535 + 65_534) % 65_535 + 1).expect("a remainder of 65,535 plus one fits 16 bits")
}

/// The sequence at or after `base` whose packet identifier is `id`; `None` for 0, which is no identifier.
pub(crate) fn sequence_of(id: u16, base: u64) -> Option<u64> {
    if id == 0 {
        return None;
    }
    let offset = (u64::from(id) + 65_535 - base % 65_535) % 65_535;
    base.checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_run_from_1_to_65535_and_start_again() {
        assert_eq!(packet_id(0), 65_535);
        assert_eq!(packet_id(1), 1);
        assert_eq!(packet_id(65_535), 65_535);
        assert_eq!(packet_id(65_536), 1);
        assert_eq!(sequence_of(0, 7), None);
    }

    proptest! {
        #[test]
        fn the_sequence_is_found_again(base in 0..u64::MAX / 2, ahead in 0..65_535u64) {
            let sequence = base + ahead;
            prop_assert_eq!(sequence_of(packet_id(sequence), base), Some(sequence));
        }
    }
}
