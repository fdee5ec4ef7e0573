//! A page: consecutive queue entries in one row, since a store's cost is per row.
//!
//! ```text
//! version u8 | record | record | …
//! record: sequence - first u32 | weight u16 | message id u64, 0 inline | length u32 | body (bincode)
//! ```
//! Numbers are little-endian. The head of a record is enough to rebuild a queue's weights and the messages' reference
//! counts, and to pass over entries that nobody wants.

use crate::codec;
use crate::effect::Entry;
use crate::queue::{PageRef, Weight};
use nightjar_base::{TablesError, parts};
use nightjar_mqtt::{Message, QoS};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const HEAD: usize = 18;

#[derive(Serialize)]
struct BodyOut<'a> {
    qos: QoS,
    retain: bool,
    identifiers: Option<&'a [u32]>,
    share: Option<&'a str>,
    message: Option<&'a Message>,
}

#[derive(Deserialize)]
struct BodyIn {
    qos: QoS,
    retain: bool,
    identifiers: Option<Vec<u32>>,
    share: Option<Arc<str>>,
    message: Option<Message>,
}

/// Packs entries into pages.
#[derive(Default)]
pub(crate) struct Packer {
    first: u64,
    end: u64,
    shared: bool,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

/// A finished page: where it lies (parts not yet known), and its row's value.
pub(crate) type Packed = (PageRef, Vec<u8>);

impl Packer {
    /// Adds an entry of a higher sequence than the last one; `shared` is the id of its message if that has a row of its
    /// own, else 0. Returns the page before, if this entry did not fit into it.
    pub(crate) fn add(&mut self, entry: &Entry, weight: Weight, shared: u64) -> Option<Packed> {
        let body = BodyOut {
            qos: entry.qos,
            retain: entry.retain,
            identifiers: entry.identifiers.as_deref(),
            share: entry.share.as_deref(),
            message: (shared == 0).then_some(&*entry.message),
        };
        self.scratch.clear();
        codec::write(&body, &mut self.scratch);
        let full = !self.bytes.is_empty() && self.bytes.len() + HEAD + self.scratch.len() > parts::LENGTH;
        let before = if full { self.finish() } else { None };
        if self.bytes.is_empty() {
            self.bytes.push(codec::VERSION);
            self.first = entry.sequence;
        }
        let delta = u32::try_from(entry.sequence - self.first).expect("a page's entries lie within one window");
        let length = u32::try_from(self.scratch.len()).expect("a packet is at most 256 MiB on the wire");
        self.bytes.extend_from_slice(&delta.to_le_bytes());
        self.bytes.extend_from_slice(&weight.to_bits().to_le_bytes());
        self.bytes.extend_from_slice(&shared.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&self.scratch);
        self.end = entry.sequence + 1;
        self.shared |= shared != 0;
        before
    }

    /// The page that is under way, if there is one.
    pub(crate) fn finish(&mut self) -> Option<Packed> {
        if self.bytes.is_empty() {
            return None;
        }
        let span = u32::try_from(self.end - self.first).expect("deltas were checked");
        let page = PageRef { first: self.first, span, parts: 0, shared: std::mem::take(&mut self.shared) };
        let capacity = self.bytes.capacity();
        Some((page, std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity))))
    }
}

/// One entry of a page, its body not yet decoded.
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    pub(crate) weight: Weight,
    /// The id of the message, if that has a row of its own, else 0.
    pub(crate) shared: u64,
    body: &'a [u8],
}

/// The records of a page that begins at `first`.
pub(crate) fn records<'a>(
    key: &'a [u8],
    first: u64,
    value: &'a [u8],
) -> Result<impl Iterator<Item = Result<Record<'a>, TablesError>>, TablesError> {
    let mut rest = codec::strip_version(key, value)?;
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(record) = next_record(first, &mut rest) else {
            rest = &[];
            return Some(Err(TablesError::corrupt(key, "an entry is cut off")));
        };
        Some(Ok(record))
    }))
}

fn next_record<'a>(first: u64, rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let (delta, after) = rest.split_first_chunk::<4>()?;
    let (weight, after) = after.split_first_chunk::<2>()?;
    let (shared, after) = after.split_first_chunk::<8>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let (body, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(Record {
        sequence: first.checked_add(u64::from(u32::from_le_bytes(*delta)))?,
        weight: Weight::from_bits(u16::from_le_bytes(*weight)),
        shared: u64::from_le_bytes(*shared),
        body,
    })
}

impl Record<'_> {
    /// Roughly the bytes of its message, without reading it.
    pub(crate) fn size(&self) -> usize {
        usize::try_from(self.weight.bytes()).unwrap_or(usize::MAX)
    }

    /// The entry; `message` is asked for the message if that has a row of its own.
    pub(crate) fn entry(
        &self,
        key: &[u8],
        message: impl FnOnce(u64) -> Result<Arc<Message>, TablesError>,
    ) -> Result<Entry, TablesError> {
        let body: BodyIn = codec::read(key, self.body)?;
        let message = match body.message {
            Some(inline) => Arc::new(inline),
            None => message(self.shared)?,
        };
        Ok(Entry {
            sequence: self.sequence,
            message,
            qos: body.qos,
            retain: body.retain,
            identifiers: body.identifiers.map(Arc::from),
            share: body.share,
            received: false,
        })
    }
}
