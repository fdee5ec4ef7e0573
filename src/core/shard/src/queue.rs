//! One session's queue: the sequence space `[head, next)`.
//!
//! ```text
//!   head            tail_start                 next
//!    |  pages (rows in the tables)  |  tail (typed, in memory)  |
//! ```
//!
//! Whether an entry is still there, and what it weighs, is known for all of the space without reading the tables
//! (two bytes an entry), so that no decision depends on when a freeze happened.
//!
//! An entry whose PUBREC was seen leaves this space for the `received` set: its message is never sent again
//! [MQTT-4.3.3-6], so a client that stays away between PUBREC and PUBCOMP holds up nothing.

use crate::effect::Entry;
use std::collections::VecDeque;

/// What an entry weighs, in 16 bits: an 11-bit mantissa and a 5-bit exponent, rounded up; 0 is "no entry".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(u16);

impl Weight {
    /// No entry.
    pub(crate) const GONE: Self = Self(0);

    /// The weight of `bytes` (at least 1).
    pub(crate) fn of(bytes: u64) -> Self {
        let bytes = bytes.max(1);
        let mut exponent = (64 - bytes.leading_zeros()).saturating_sub(11);
        let mut mantissa = bytes.div_ceil(1 << exponent);
        if mantissa > 0x7ff {
            mantissa = mantissa.div_ceil(2);
            exponent += 1;
        }
        if exponent > 31 { Self(u16::MAX) } else { Self((exponent as u16) << 11 | mantissa as u16) }
    }

    /// In bytes.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.0 & 0x7ff) << (self.0 >> 11)
    }

    /// As written to a page.
    pub(crate) fn to_bits(self) -> u16 {
        self.0
    }

    /// As read from a page.
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// Where one page of entries lies; its row is in the tables (or among the frozen changes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRef {
    /// Sequence of its first entry; part of its key.
    pub(crate) first: u64,
    /// How many sequences it spans, from its first entry to its last.
    pub(crate) span: u32,
    /// Into how many rows it is split.
    pub(crate) parts: u16,
    /// Whether some of its entries name messages that are stored on their own.
    pub(crate) shared: bool,
}

impl PageRef {
    /// The sequence after its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.span)
    }
}

/// A session's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    head: u64,
    next: u64,
    len: u64,
    bytes: u64,
    /// Weights of `head..next`.
    weights: VecDeque<Weight>,
    /// Entries of `tail_start..next`, `None` where one is gone.
    tail: VecDeque<Option<Entry>>,
    tail_start: u64,
    /// Bytes of the entries in the tail.
    tail_bytes: u64,
    received: VecDeque<u64>,
    /// Pages that still hold something of `head..tail_start`, and passed ones that the next freeze removes.
    pub(crate) pages: VecDeque<PageRef>,
}

impl Queue {
    /// An empty queue whose first entry gets sequence 1.
    pub(crate) fn new() -> Self {
        Self::restore(1, 1, VecDeque::new())
    }

    /// A queue as its row describes it; pages and what is gone follow.
    pub(crate) fn restore(head: u64, next: u64, received: VecDeque<u64>) -> Self {
        Self {
            head,
            next,
            len: 0,
            bytes: 0,
            weights: VecDeque::new(),
            tail: VecDeque::new(),
            tail_start: next,
            tail_bytes: 0,
            received,
            pages: VecDeque::new(),
        }
    }

    /// During a load: the weight of the entry at `sequence`, which a page holds. Ascending order.
    pub(crate) fn restore_weight(&mut self, sequence: u64, weight: Weight) {
        if sequence < self.head || sequence >= self.next {
            return;
        }
        let at = (sequence - self.head) as usize;
        while self.weights.len() < at {
            self.weights.push_back(Weight::GONE);
        }
        self.weights.push_back(weight);
        self.len += 1;
        self.bytes += weight.bytes();
    }

    /// At the end of a load: what was done with out of order.
    pub(crate) fn restore_gone(&mut self, gone: &[u64]) {
        self.weights.resize((self.next - self.head) as usize, Weight::GONE);
        for &sequence in gone {
            self.release(sequence);
        }
    }

    /// The lowest sequence with an entry; `next` if there is none.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The sequence of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Where the part in memory begins.
    pub(crate) fn tail_start(&self) -> u64 {
        self.tail_start
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What they weigh.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the ones in the tail weigh.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// The lowest sequence that is not done with, received ones included.
    pub(crate) fn first_open(&self) -> u64 {
        self.received.front().map_or(self.head, |&first| first.min(self.head))
    }

    /// Received sequences, ascending.
    pub(crate) fn received(&self) -> impl Iterator<Item = u64> {
        self.received.iter().copied()
    }

    /// Received sequences from `from` on, ascending.
    pub(crate) fn received_from(&self, from: u64) -> impl Iterator<Item = u64> {
        self.received.range(self.received.partition_point(|&sequence| sequence < from)..).copied()
    }

    /// Whether there is an entry at `sequence`.
    pub(crate) fn is_live(&self, sequence: u64) -> bool {
        self.weight(sequence).is_some()
    }

    /// What the entry at `sequence` weighs, if there is one.
    pub(crate) fn weight(&self, sequence: u64) -> Option<Weight> {
        let at = usize::try_from(sequence.checked_sub(self.head)?).ok()?;
        self.weights.get(at).copied().filter(|&weight| weight != Weight::GONE)
    }

    /// Sequences above `head` that are gone: what the queue's row must say beside `head`.
    pub(crate) fn gone(&self) -> Vec<u64> {
        let mut missing = self.weights.len() as u64 - self.len;
        let mut gone = Vec::with_capacity(missing as usize);
        for (at, &weight) in self.weights.iter().enumerate() {
            if missing == 0 {
                break;
            }
            if weight == Weight::GONE {
                gone.push(self.head + at as u64);
                missing -= 1;
            }
        }
        gone
    }

    /// Adds an entry, which must carry the sequence `next`.
    pub(crate) fn push(&mut self, entry: Entry, weight: Weight) {
        debug_assert_eq!(entry.sequence, self.next, "entries are numbered in order");
        self.tail.push_back(Some(entry));
        self.weights.push_back(weight);
        self.next += 1;
        self.len += 1;
        self.bytes += weight.bytes();
        self.tail_bytes += weight.bytes();
    }

    /// Takes the entry at `sequence` out; its bytes, or `None` if there was none.
    pub(crate) fn release(&mut self, sequence: u64) -> Option<u64> {
        let weight = self.weight(sequence)?;
        self.weights[(sequence - self.head) as usize] = Weight::GONE;
        self.len -= 1;
        self.bytes -= weight.bytes();
        if let Some(at) = sequence.checked_sub(self.tail_start) {
            self.tail[at as usize] = None;
            self.tail_bytes -= weight.bytes();
        }
        if sequence == self.head {
            self.advance();
        }
        Some(weight.bytes())
    }

    fn advance(&mut self) {
        while self.weights.front() == Some(&Weight::GONE) {
            self.weights.pop_front();
            self.head += 1;
        }
        while self.tail_start < self.head {
            self.tail.pop_front();
            self.tail_start += 1;
        }
        shrink(&mut self.weights);
    }

    /// Marks the entry at `sequence` as received; its bytes, or `None` if there was none.
    pub(crate) fn receive(&mut self, sequence: u64) -> Option<u64> {
        let bytes = self.release(sequence)?;
        if let Err(at) = self.received.binary_search(&sequence) {
            self.received.insert(at, sequence);
        }
        Some(bytes)
    }

    /// Notes that `sequence`, which has no entry any more, is received; false if it never had one.
    pub(crate) fn note_received(&mut self, sequence: u64) -> bool {
        if sequence >= self.next() {
            return false;
        }
        if let Err(at) = self.received.binary_search(&sequence) {
            self.received.insert(at, sequence);
        }
        true
    }

    /// Forgets that `sequence` was received; whether it was.
    pub(crate) fn complete(&mut self, sequence: u64) -> bool {
        match self.received.binary_search(&sequence) {
            Ok(at) => {
                self.received.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// The entries in memory from `from` on.
    pub(crate) fn tail_from(&self, from: u64) -> impl Iterator<Item = &Entry> {
        let skip = from.saturating_sub(self.tail_start).min(self.tail.len() as u64) as usize;
        self.tail.range(skip..).flatten()
    }

    /// Pages that may hold entries from `from` on.
    pub(crate) fn pages_from(&self, from: u64) -> impl Iterator<Item = &PageRef> {
        let from = from.max(self.head);
        self.pages.range(self.pages.partition_point(|page| page.end() <= from)..)
    }

    /// Pages that have nothing left.
    pub(crate) fn passed_pages(&self) -> impl Iterator<Item = &PageRef> {
        self.pages.range(..self.pages.partition_point(|page| page.end() <= self.head))
    }

    /// Drops the references to pages that have nothing left.
    pub(crate) fn drop_passed_pages(&mut self) {
        let count = self.passed_pages().count();
        self.pages.drain(..count);
        shrink(&mut self.pages);
    }

    /// Takes the tail out of memory; whoever calls this has made pages of it.
    pub(crate) fn clear_tail(&mut self) {
        self.tail = VecDeque::new();
        self.tail_start = self.next;
        self.tail_bytes = 0;
    }

    /// Bytes of memory that the queue holds beside the messages.
    pub(crate) fn memory(&self) -> usize {
        self.weights.capacity() * size_of::<Weight>()
            + self.tail.capacity() * size_of::<Option<Entry>>()
            + self.pages.capacity() * size_of::<PageRef>()
            + self.received.capacity() * size_of::<u64>()
    }
}

/// Gives back the memory of what grew large and is nearly empty.
fn shrink<T>(items: &mut VecDeque<T>) {
    if items.capacity() > 1024 && items.len() < items.capacity() / 8 {
        items.shrink_to(items.len() * 2);
    }
}
