//! What this process holds in memory.

/// Resident bytes now and at most so far; zeros where the system does not tell.
#[must_use]
pub fn resident() -> (u64, u64) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return (0, 0) };
    let kib = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_something() {
        let (now, most) = super::resident();
        assert!(now > 0 && most >= now);
    }
}
