//! The texts between the slashes, each kept once and known by a number.

use crate::slab::Slab;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

#[derive(Default)]
struct Level {
    text: Box<str>,
    /// Edges of the trie that carry this level.
    uses: u32,
    /// Kept so that a growing table need not read all texts again.
    hash: u32,
}

/// Texts of topic levels to numbers and back, with a count of uses.
pub(crate) struct Levels {
    entries: Slab<Level>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    text_bytes: usize,
}

/// Spreads a kept hash over both ends, since the table takes its tag from the top and its place from the bottom.
fn wide(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Levels {
    pub(crate) fn new() -> Self {
        Self { entries: Slab::new(), table: HashTable::new(), hasher: DefaultHashBuilder::default(), text_bytes: 0 }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded into the one that is kept")]
    fn hash(&self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        (hash ^ (hash >> 32)) as u32
    }

    #[inline]
    fn find_hashed(&self, hash: u32, text: &str) -> Option<u32> {
        let same = |&number: &u32| {
            let level = &self.entries[number];
            level.hash == hash && *level.text == *text
        };
        self.table.find(wide(hash), same).copied()
    }

    /// The text of a number.
    pub(crate) fn text(&self, number: u32) -> &str {
        &self.entries[number].text
    }

    /// The number of `text`, if any filter contains it.
    #[inline]
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.find_hashed(self.hash(text), text)
    }

    /// The number of `text`, which is new if no filter contained it. It stays only once it is [`used`](Self::used).
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hash(text);
        if let Some(number) = self.find_hashed(hash, text) {
            return number;
        }
        self.text_bytes += text.len();
        let number = self.entries.insert(Level { text: text.into(), uses: 0, hash });
        let entries = &self.entries;
        self.table.insert_unique(wide(hash), number, |&other| wide(entries[other].hash));
        number
    }

    /// One more edge carries `number`.
    pub(crate) fn used(&mut self, number: u32) {
        self.entries[number].uses += 1;
    }

    /// One edge less carries `number`; after the last one its text is forgotten.
    pub(crate) fn release(&mut self, number: u32) {
        let level = &mut self.entries[number];
        level.uses -= 1;
        if level.uses > 0 {
            return;
        }
        let hash = wide(level.hash);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.text_bytes -= self.entries.remove(number).text.len();
    }

    pub(crate) fn live(&self) -> usize {
        self.entries.live()
    }

    pub(crate) fn occupied(&self) -> usize {
        self.entries.occupied()
    }

    pub(crate) fn memory(&self) -> usize {
        // An allocation of a few bytes costs about 16 more than its text.
        self.entries.memory() + self.table.allocation_size() + self.text_bytes + 16 * self.entries.live()
    }

    /// Gives memory back. Returns the new number of each old one.
    pub(crate) fn compact(&mut self) -> Vec<u32> {
        let moved = self.entries.compact();
        let entries = &self.entries;
        self.table = HashTable::with_capacity(entries.live());
        for &number in moved.iter().filter(|&&number| number != crate::slab::NONE) {
            let hash = wide(entries[number].hash);
            self.table.insert_unique(hash, number, |&other| wide(entries[other].hash));
        }
        moved
    }
}
