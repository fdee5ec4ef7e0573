//! The primitive types of the wire: a cursor that cannot pass the end, and their way back (v5 section 1.5).

use crate::DecodeError;

/// The largest value of a variable byte integer [MQTT-1.5.5-1].
pub(crate) const MAX_VARINT: u32 = 268_435_455;

/// What is left to read of a packet, or of a part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

#[cold]
fn truncated() -> DecodeError {
    DecodeError::malformed("packet ends within a field", "MQTT-4.13.1-1")
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A byte that may only be 0 or 1.
    pub(crate) fn flag(&mut self, what: &'static str, clause: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol(what, clause)),
        }
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift != 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed("variable byte integer too long", "MQTT-1.5.5-1"))
    }

    /// Two bytes of length and as many bytes of data.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 encoded string.
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        text(self.binary()?)
    }

    /// A UTF-8 encoded string, checked, but left as bytes: half the work of `string`.
    #[inline]
    pub(crate) fn text_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = self.binary()?;
        if !is_plain(bytes) {
            text(bytes)?;
        }
        Ok(bytes)
    }

    /// A property block, without its length (v5 section 2.2.2).
    #[inline]
    pub(crate) fn properties(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        self.bytes(length as usize)
    }

    /// A packet identifier, which is never 0.
    #[inline]
    pub(crate) fn packet_id(&mut self, clause: &'static str) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::protocol("packet identifier 0", clause)),
            id => Ok(id),
        }
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes after the end of the packet", "MQTT-4.13.1-1"))
        }
    }
}

/// Well-formed UTF-8 without U+0000. Surrogates are ill-formed; noncharacters are allowed.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("ill-formed UTF-8", "MQTT-1.5.4-1"))?;
    if !is_plain(bytes) && bytes.contains(&0) {
        return Err(DecodeError::malformed("U+0000 in a string", "MQTT-1.5.4-2"));
    }
    Ok(text)
}

/// A word with 1 in each byte, and one with the high bit of each.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Whether `bytes` are ASCII without U+0000, as most strings of the wire are; eight at a time.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    // In a word without high bits the subtraction sets one exactly if a byte is 0.
    let plain = |word: u64| (word | word.wrapping_sub(ONES)) & HIGH == 0;
    let (words, tail) = bytes.as_chunks::<8>();
    words.iter().all(|word| plain(u64::from_ne_bytes(*word))) && tail.iter().all(|&byte| byte.wrapping_sub(1) < 0x7f)
}

/// Whether `+` or `#` is among `bytes`. The two differ in one bit, so one comparison finds both.
#[inline]
pub(crate) fn has_wildcard(bytes: &[u8]) -> bool {
    const BIT: u8 = b'+' ^ b'#';
    let (words, tail) = bytes.as_chunks::<8>();
    let found = |word: u64| {
        // A byte is 0 where a wildcard was; the classical test for a zero byte follows.
        let word = (word | (ONES * u64::from(BIT))) ^ (ONES * u64::from(b'+' | BIT));
        word.wrapping_sub(ONES) & !word & HIGH != 0
    };
    words.iter().any(|word| found(u64::from_ne_bytes(*word))) || tail.iter().any(|&byte| byte | BIT == b'+' | BIT)
}

/// `value` as a variable byte integer: the bytes, and how many of them count. Larger values than the format has
/// saturate, so that a stream never loses its framing by an oversized integer.
#[inline]
pub(crate) fn varint(value: usize) -> ([u8; 4], usize) {
    let mut left = value.min(MAX_VARINT as usize);
    let mut bytes = [0; 4];
    let mut used = 0;
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        bytes[used] = if left == 0 { low } else { low | 0x80 };
        used += 1;
        if left == 0 || used == 4 {
            return (bytes, used);
        }
    }
}

/// How many bytes `value` takes as a variable byte integer.
#[inline]
pub(crate) fn varint_size(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let (bytes, used) = varint(value);
    out.extend_from_slice(&bytes[..used]);
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// What fits into a length-prefixed field: at most 65,535 bytes.
#[inline]
pub(crate) fn fitting(bytes: &[u8]) -> (&[u8], u16) {
    match u16::try_from(bytes.len()) {
        Ok(length) => (bytes, length),
        Err(_) => (&bytes[..usize::from(u16::MAX)], u16::MAX),
    }
}

/// Binary data; what exceeds 65,535 bytes is cut off.
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let (bytes, length) = fitting(bytes);
    put_u16(out, length);
    out.extend_from_slice(bytes);
}

/// A string; what exceeds 65,535 bytes is cut off between two characters.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_binary(out, &text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))]);
}

/// What `body` writes, preceded by its length: the one shape of packets and of property blocks.
pub(crate) fn put_with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    body(out);
    let (bytes, used) = varint(out.len() - start);
    out.extend_from_slice(&bytes[..used]);
    out[start..].rotate_right(used);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn integers_have_the_sizes_of_table_1_1() {
        for (value, bytes) in [
            (0, &[0u8][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_size(value), bytes.len());
            assert_eq!(Cursor::new(bytes).varint().unwrap() as usize, value);
        }
    }

    #[test]
    fn integers_that_are_longer_than_needed_or_than_allowed_are_malformed() {
        for bytes in [&[0x80u8, 0x00][..], &[0xff, 0xff, 0xff, 0xff], &[0x80, 0x80, 0x80, 0x80, 0x01], &[0x80]] {
            assert!(Cursor::new(bytes).varint().is_err());
        }
    }

    #[test]
    fn strings_are_utf8_without_surrogates_and_null() {
        assert!(text(&[0xed, 0xa0, 0x80]).is_err());
        assert!(text(b"a\0b").is_err());
        assert!(text(&[0xc0, 0xaf]).is_err());
        // U+FFFF and U+FEFF are characters like any other [MQTT-1.5.4-3].
        assert_eq!(text("\u{feff}\u{ffff}".as_bytes()).unwrap(), "\u{feff}\u{ffff}");
    }

    #[test]
    fn plain_is_ascii_without_null_wherever_the_byte_stands() {
        for length in 0..20 {
            assert!(is_plain(&vec![b'a'; length]));
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![0x7f; length];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), (1..0x80).contains(&byte), "{length} {at} {byte}");
                }
            }
        }
    }

    #[test]
    fn a_wildcard_is_seen_wherever_it_stands() {
        for length in 1..20 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'*'; length];
                    bytes[at] = byte;
                    assert_eq!(has_wildcard(&bytes), byte == b'+' || byte == b'#', "{length} {at} {byte}");
                }
            }
        }
    }

    #[test]
    fn an_overlong_string_is_cut_between_characters() {
        let mut out = Vec::new();
        put_string(&mut out, &"é".repeat(40_000));
        assert_eq!(out.len(), 2 + 65_534);
        assert!(Cursor::new(&out).string().is_ok());
    }
}
