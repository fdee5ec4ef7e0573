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

/// The memory that this process may use at most: what the machine has, or the container that it runs in.
#[must_use]
pub fn available() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    // Version 2 of control groups, then version 1; a container sees its own at the root.
    let group = number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    machine.unwrap_or(u64::MAX).min(group.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_something() {
        let (now, most) = super::resident();
        assert!(now > 0 && most >= now);
        assert!(super::available() > now);
    }
}
