//! A vector whose entries keep their number until they are removed.

use std::mem::size_of;
use std::ops::{Index, IndexMut};

/// No entry.
pub const NONE: u32 = u32::MAX;

/// Entries of one kind, numbered; the numbers of removed entries are given out again.
pub struct Slab<T> {
    entries: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    /// No entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Adds an entry; returns its number.
    ///
    /// # Panics
    /// With 2^32 entries.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        // A quarter, not the usual double: a big allocation moves by remapping, and memory is what we are short of.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact((self.entries.len() / 4).max(8));
        }
        let number = u32::try_from(self.entries.len()).expect("2^32 entries would need 100 GB of memory first");
        self.entries.push(value);
        number
    }

    /// Takes out an entry that is in use.
    pub fn remove(&mut self, number: u32) -> T {
        self.free.push(number);
        std::mem::take(&mut self[number])
    }

    /// Entries in use.
    #[must_use]
    pub fn live(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Entries in use or waiting to be used again.
    #[must_use]
    pub fn occupied(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the table.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    /// The entries in the order of their numbers, those that were removed as their default.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    /// The same, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }

    /// Closes the gaps that removed entries left, in order. Returns the new number of each old one.
    pub fn compact(&mut self) -> Vec<u32> {
        let mut moved = vec![0; self.entries.len()];
        for &number in &self.free {
            moved[number as usize] = NONE;
        }
        let mut next = 0;
        for (old, new) in moved.iter_mut().enumerate() {
            if *new != NONE {
                *new = next;
                self.entries.swap(old, next as usize);
                next += 1;
            }
        }
        self.entries.truncate(next as usize);
        self.entries.shrink_to_fit();
        self.free = Vec::new();
        moved
    }
}

impl<T: Default> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.entries[number as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.entries[number as usize]
    }
}
