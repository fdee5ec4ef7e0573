//! WebSocket frames to the other end: one for each MQTT packet.
//!
//! The standard lets packets lie across frames as they like, and there are clients that read no second packet out of a
//! frame before the next one comes, or no packet that takes several. A packet that is written in parts has its frame
//! announced with the first.

use crate::env::entropy;
use nightjar_mqtt::frame::needed;

/// Which packet is being written.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// Bytes of the present packet that its frame still owes.
    left: usize,
    /// Control frames that wait for the end of the present one: nothing may come between its bytes.
    held: Vec<u8>,
    /// Who dials must mask what it sends (RFC 6455 section 5.1): the key of the present frame, which turns with each byte.
    mask: Option<[u8; 4]>,
}

impl Framer {
    /// Frames as a client sends them.
    pub(super) fn masking() -> Self {
        Self { mask: Some([0; 4]), ..Self::default() }
    }

    /// Where control frames go: out, or behind the frame that is not whole yet.
    pub(super) fn control<'a>(&'a mut self, outbox: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if self.left > 0 { &mut self.held } else { outbox }
    }

    /// Whether a frame is not whole yet.
    pub(super) fn is_within(&self) -> bool {
        self.left > 0
    }

    /// Appends `payload`, which goes on where the one before ended, to `out` in frames; how much of it was taken. What
    /// is left is the beginning of a packet that does not tell its size yet.
    pub(super) fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < payload.len() {
            if self.left == 0 {
                let Some(size) = needed(&payload[at..]) else { break };
                header(size, self.mask.is_some(), out);
                if let Some(mask) = &mut self.mask {
                    entropy::fill(mask);
                    out.extend_from_slice(mask);
                }
                self.left = size;
            }
            let part = self.left.min(payload.len() - at);
            let start = out.len();
            out.extend_from_slice(&payload[at..at + part]);
            if let Some(mask) = &mut self.mask {
                out[start..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                mask.rotate_left(part % 4);
            }
            self.left -= part;
            at += part;
            if self.left == 0 {
                out.append(&mut self.held);
            }
        }
        at
    }
}

/// The header of a binary frame, without the key of its mask (RFC 6455 section 5.2).
fn header(length: usize, masked: bool, out: &mut Vec<u8>) {
    let masked = u8::from(masked) << 7;
    out.push(0x82);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.push(masked | short),
        (_, Ok(middle)) => {
            out.push(masked | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PUBLISH at QoS 0 of so many bytes behind its header.
    fn packet(length: usize) -> Vec<u8> {
        let mut packet = vec![0x30];
        let mut rest = length;
        loop {
            let byte = u8::try_from(rest % 128).expect("a remainder");
            rest /= 128;
            packet.push(if rest > 0 { byte | 0x80 } else { byte });
            if rest == 0 {
                break;
            }
        }
        packet.extend(std::iter::repeat_n(7, length));
        packet
    }

    #[test]
    fn each_packet_is_one_frame_however_it_is_written() {
        let packets: Vec<Vec<u8>> = [0, 5, 123, 124, 200, 70_000].into_iter().map(packet).collect();
        let all = packets.concat();
        let mut expected = Vec::new();
        for packet in &packets {
            header(packet.len(), false, &mut expected);
            expected.extend_from_slice(packet);
        }
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let (mut framer, mut out, mut at) = (Framer::default(), Vec::new(), 0);
            let mut end = 0;
            while at < all.len() {
                end = (end.max(at) + step).min(all.len());
                at += framer.frame(&all[at..end], &mut out);
            }
            assert!(out == expected, "{step}");
        }
    }

    #[test]
    fn a_control_frame_waits_for_the_end_of_the_present_one() {
        let (mut framer, mut out) = (Framer::default(), Vec::new());
        assert_eq!(framer.frame(&[0xd0, 0, 0x30, 3, 1], &mut out), 5);
        framer.control(&mut out).extend_from_slice(b"pong");
        assert!(framer.is_within());
        assert_eq!(framer.frame(&[2, 3], &mut out), 2);
        assert_eq!(out, [&[0x82, 2, 0xd0, 0, 0x82, 5, 0x30, 3, 1, 2, 3][..], b"pong"].concat());
        framer.control(&mut out).push(9);
        assert_eq!(out.last(), Some(&9));
    }
}
