//! Verdicts that need not be found again for a while. What is kept is a keyed digest of credentials: worthless outside
//! this process.

use super::hash::mac;
use crate::env::entropy;
use nightjar_base::{Tick, millis};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Verdicts by credentials.
pub(super) struct Memory<T> {
    key: [u8; 32],
    most: usize,
    verdicts: Mutex<HashMap<[u8; 32], (Tick, T)>>,
}

impl<T: Clone> Memory<T> {
    pub(super) fn new(most: usize) -> Self {
        let mut key = [0; 32];
        entropy::fill(&mut key);
        Self { key, most, verdicts: Mutex::default() }
    }

    /// What stands for `parts` here.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut message = Vec::new();
        for part in parts {
            message.extend((part.len() as u64).to_le_bytes());
            message.extend_from_slice(part);
        }
        mac(&self.key, &message)
    }

    pub(super) fn recall(&self, digest: &[u8; 32], now: Tick) -> Option<T> {
        let verdicts = self.verdicts.lock();
        verdicts.get(digest).filter(|(until, _)| *until > now).map(|(_, verdict)| verdict.clone())
    }

    pub(super) fn keep(&self, digest: [u8; 32], verdict: T, holds: Duration, now: Tick) {
        if self.most == 0 || holds.is_zero() {
            return;
        }
        let mut verdicts = self.verdicts.lock();
        if verdicts.len() >= self.most {
            verdicts.retain(|_, (until, _)| *until > now);
            if verdicts.len() >= self.most {
                verdicts.clear();
            }
        }
        let until = now.plus_millis(millis(holds));
        verdicts.insert(digest, (until, verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_kept_for_a_while_and_bounded() {
        let memory = Memory::new(10);
        let digest = memory.digest(&[b"a", b"bc"]);
        assert_ne!(digest, memory.digest(&[b"ab", b"c"]));
        memory.keep(digest, 1, Duration::from_secs(1), Tick(0));
        assert_eq!((memory.recall(&digest, Tick(999)), memory.recall(&digest, Tick(1_000))), (Some(1), None));
        for number in 0..100_u64 {
            memory.keep(memory.digest(&[&number.to_le_bytes()]), 2, Duration::from_secs(1), Tick(0));
        }
        assert!(memory.verdicts.lock().len() <= 10);
    }
}
