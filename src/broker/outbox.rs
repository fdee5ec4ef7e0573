//! Bytes that wait to be written to one client.
//!
//! Small packets are copied into one buffer; the payload of a large message that several clients receive is shared,
//! and takes its place between the buffer's bytes when it is written.

use nightjar_mqtt::Message;
use std::io::IoSlice;
use std::sync::Arc;

/// A payload of this many bytes or more is shared between its receivers instead of copied, if there are several:
/// sharing halves the cost at 16 KiB and gains nothing at 4 KiB.
pub(crate) const SHARE_FROM: usize = 8 * 1024;

/// At most this many slices go into one write.
const MAX_SLICES: usize = 64;

/// What waits to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    shared: Vec<(usize, Arc<Message>)>,
    shared_bytes: usize,
    /// Bytes of all this that have been written already.
    sent: usize,
}

impl Outbox {
    /// Bytes still to be written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() + self.shared_bytes - self.sent
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append packets to. It is taken from `pool` if it has none of its own yet.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = crate::broker::turn::buffer();
        }
        &mut self.buffer
    }

    /// The payload of `message` follows what the buffer holds now.
    pub(crate) fn share_payload(&mut self, message: Arc<Message>) {
        self.shared_bytes += message.payload().len();
        self.shared.push((self.buffer.len(), message));
    }

    /// Notes that `count` more bytes have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// Lets go of what has been written, so that a client that never catches up holds no more than what waits.
    pub(crate) fn compact(&mut self) {
        let mut left = self.sent;
        let mut start = 0;
        let mut passed = 0;
        for (offset, message) in &self.shared {
            let payload = message.payload().len();
            // A payload that was written in part stays, and with it what stands before it.
            if left < offset - start + payload {
                break;
            }
            left -= offset - start + payload;
            start = *offset;
            passed += 1;
        }
        let whole = start + if self.shared.len() == passed { left } else { 0 };
        for (_, message) in self.shared.drain(..passed) {
            self.shared_bytes -= message.payload().len();
        }
        self.shared.iter_mut().for_each(|(offset, _)| *offset -= whole);
        self.buffer.drain(..whole);
        self.sent = if self.shared.is_empty() { 0 } else { left };
    }

    /// Puts what `later` holds behind what is left here.
    pub(crate) fn append(&mut self, later: Outbox) {
        let base = self.buffer.len();
        self.buffer.extend_from_slice(&later.buffer);
        self.shared.extend(later.shared.into_iter().map(|(offset, message)| (base + offset, message)));
        self.shared_bytes += later.shared_bytes;
        debug_assert_eq!(later.sent, 0, "only what nobody has begun to write is appended");
        crate::broker::turn::give_back(later.buffer);
    }

    /// Whether one plain write is enough: the bytes to write then.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.buffer[self.sent..])
    }

    /// The next bytes to write, as slices in order.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(MAX_SLICES.min(self.shared.len() * 2 + 1));
        let mut skip = self.sent;
        let mut start = 0;
        let shared = self.shared.iter().map(|(offset, message)| (*offset, message.payload()));
        for (end, payload) in shared.chain([(self.buffer.len(), &[][..])]) {
            for part in [&self.buffer[start..end], payload] {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() && slices.len() < MAX_SLICES {
                    slices.push(IoSlice::new(&part[skipped..]));
                }
            }
            start = end;
        }
        slices
    }

    /// Gives the emptied buffer back to the thread's pool.
    pub(crate) fn recycle(self) {
        crate::broker::turn::give_back(self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let before = out.len();
            for slice in outbox.slices() {
                out.extend_from_slice(&slice);
            }
            out.truncate(before + step);
            outbox.advance(out.len() - before);
        }
        out
    }

    #[test]
    fn shared_payloads_keep_their_place_however_it_is_written() {
        for step in 1..30 {
            let mut outbox = Outbox::default();
            outbox.buffer().extend_from_slice(b"head1");
            outbox.share_payload(Arc::new(Message::new("t", &[], b"PAYLOAD1")));
            outbox.buffer().extend_from_slice(b"head2");
            let mut later = Outbox::default();
            later.buffer().extend_from_slice(b"x");
            later.share_payload(Arc::new(Message::new("t", &[], b"PAYLOAD2")));
            later.buffer().extend_from_slice(b"end");
            outbox.append(later);
            assert_eq!(outbox.len(), 30);
            outbox.advance(step);
            outbox.compact();
            assert_eq!(outbox.len(), 30 - step);
            let whole = b"head1PAYLOAD1head2xPAYLOAD2end";
            assert_eq!(drain(&mut outbox, step), whole[step..]);
            outbox.compact();
            assert_eq!((outbox.buffer.len(), outbox.shared.len(), outbox.sent), (0, 0, 0));
            assert_eq!(outbox.len(), 0);
        }
    }
}
