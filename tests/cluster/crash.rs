//! SIGKILL of one node after the other, at random moments and under load; then everything that was acknowledged is
//! counted.
//!
//! `cargo test --test cluster` runs a short one. `NIGHTJAR_NODES_ROUNDS=200 cargo test --release --test cluster long_run
//! -- --ignored --nocapture` is the long one; `NIGHTJAR_NODES_SEED=n` repeats a run's random choices.

use crate::Cluster;
use crate::load::{Load, finish};
use crate::support::{Random, ms};
use std::time::{Instant, SystemTime};

const ROUNDS: &str = "NIGHTJAR_NODES_ROUNDS";
const SEED: &str = "NIGHTJAR_NODES_SEED";

/// A short run ends after this time even if rounds are left: machines differ.
const SHORT_LIMIT: std::time::Duration = crate::support::secs(60);

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_of_one_node_after_the_other() {
    run(10, true);
}

#[test]
#[ignore = "a long run: minutes, and a machine of its own"]
fn nothing_acknowledged_is_lost_in_a_long_run() {
    run(from_env(ROUNDS).unwrap_or(100), false);
}

fn run(rounds: u64, short: bool) {
    let seed = from_env(SEED).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000
    });
    println!("seed {seed}, {rounds} rounds");
    let mut random = Random(seed);
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster.ports(), random.next());
    let (mut kills, mut early, start) = (0u64, 0u64, Instant::now());
    for round in 0..rounds {
        if short && start.elapsed() > SHORT_LIMIT {
            println!("time is up after {round} rounds");
            break;
        }
        std::thread::sleep(ms(100 + random.below(1_000)));
        let node = random.below(3) as usize;
        cluster.kill(node);
        kills += 1;
        // Sometimes it is back before anybody has missed it, sometimes long after.
        std::thread::sleep(ms(random.below(4_000)));
        while random.below(3) == 0 {
            cluster.launch(node);
            std::thread::sleep(ms(random.below(500)));
            cluster.kill(node);
            early += 1;
        }
        cluster.again(node);
        if !short {
            load.wait_more();
            println!("round {round}: node {node}, {:?}", start.elapsed());
        }
    }
    println!("kills {kills}, of starts {early}; seed {seed}");
    finish(load, &cluster.ports());
}
