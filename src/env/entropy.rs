//! Random numbers, from the operating system.

/// Fills `buffer` with random bytes that nobody can foretell.
///
/// # Panics
/// If the operating system has none to give: nothing that would be made from a guess could be trusted.
pub fn fill(buffer: &mut [u8]) {
    if let Err(error) = getrandom::fill(buffer) {
        panic!("the operating system gives no random numbers: {error}");
    }
}

/// A random number.
#[must_use]
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_numbers_differ() {
        assert_ne!(super::u64(), super::u64());
    }
}
