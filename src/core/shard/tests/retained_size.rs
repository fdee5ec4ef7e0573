//! What a retained topic costs in memory; alone in its process, since it reads the process's resident memory.
#![allow(clippy::unwrap_used)]

use nightjar_base::{ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{Op, Shard};
use std::sync::Arc;

/// Resident memory, where the system tells it.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn a_retained_topic_costs_at_most_250_bytes_beyond_its_message() {
    const COUNT: usize = 100_000;
    let (mut shard, mut effects) = (Shard::new(ShardId(0)), Vec::new());
    let topic = |at: usize| format!("house/{}/room/{}", at * 7919 % 1000, at);
    let messages: Vec<_> = (0..COUNT).map(|at| Arc::new(Message::new(&topic(at), &[], &[7; 40]))).collect();
    let before = resident();
    for message in messages {
        shard.apply(1, Op::Retain { message, now: Wall(0) }, &mut effects);
    }
    assert_eq!(shard.retained_count(), COUNT);
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before) / COUNT;
        println!("{each} bytes a topic");
        assert!(each <= 250, "{each} bytes a topic");
    }
}
