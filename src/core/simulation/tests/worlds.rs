//! Worlds by seed: the same seed is the same history, no promise is broken in any, and every fault that is put in is found.

use nightjar_simulation::{Bug, simulate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Worlds that are lived through with the other tests.
const SEEDS: u64 = 500;
/// So many at most it takes to find a fault that is put in.
const BOUND: u64 = 3_000;

/// Lives through the worlds of some seeds on all cores until one says that it is enough; what each had to say.
fn live<T: Send>(seeds: std::ops::Range<u64>, look: impl Fn(u64) -> Option<T> + Sync, most: usize) -> Vec<T> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while found.lock().expect("no look panics").len() < most {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(one) = look(seed) {
                        found.lock().expect("no look panics").push(one);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no look panics")
}

/// What is broken in the world of a seed, and how to see it again.
fn broken(seed: u64) -> Option<String> {
    let run = simulate(seed, None);
    let what = run.violations.iter().take(5).map(|what| format!("\n  {what}")).collect::<String>();
    let again = "cargo run -p nightjar-simulation --release --example seeds -- --verbose --seed";
    (!run.violations.is_empty())
        .then(|| format!("seed {seed}: {} violations{what}\n  {again} {seed}", run.violations.len()))
}

#[test]
fn no_promise_is_broken_in_any_world() {
    let found = live(0..SEEDS, broken, 10);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// `NIGHTJAR_SIM_SEEDS=10000 cargo test -p nightjar-simulation --release -- --ignored many_seeds --nocapture`;
/// `NIGHTJAR_SIM_FROM` says where to begin.
#[test]
#[ignore = "takes as long as one likes"]
fn many_seeds() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count) = (number("NIGHTJAR_SIM_FROM", 0), number("NIGHTJAR_SIM_SEEDS", 10_000));
    let found = live(from..from + count, broken, 100);
    println!("{count} seeds from {from} on, {} with violations", found.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [3, 14, 159] {
        let (one, other) = (simulate(seed, None), simulate(seed, None));
        assert_eq!(one.history.hash(), other.history.hash(), "seed {seed}");
        assert_eq!((one.history, one.steps), (other.history, other.steps), "seed {seed}");
    }
    assert_ne!(simulate(3, None).history.hash(), simulate(4, None).history.hash());
}

#[test]
fn every_fault_that_is_put_in_is_found() {
    for bug in Bug::ALL {
        let look = |seed| simulate(seed, Some(bug)).violations.first().map(|what| (seed, what.clone()));
        let found = live(0..BOUND, look, 1);
        let (seed, what) = found.first().unwrap_or_else(|| panic!("{bug:?} was not found in {BOUND} seeds"));
        println!("{bug:?}: found by seed {seed}: {what}");
    }
}
