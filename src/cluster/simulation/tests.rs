//! Seeds, and faults that are put in.
// A test may wait by the clock.
#![allow(clippy::disallowed_methods)]

use super::bugs::{self, Bug};
use super::{Outcome, simulate};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds of the test command.
const SEEDS: Range<u64> = 0..200;
/// Threads that simulate at a time.
const THREADS: usize = 2;
/// How often a seed that has shown something is run again.
const AGAIN: usize = 3;
/// Seeds within which each fault that is put in must be found.
const BUGGY: u64 = 100;

fn failure(seed: u64, outcome: &Outcome) -> String {
    format!(
        "seed {seed}: {}\nviolations:\n  {}\nstory:\n  {}\nseed {seed} again: \
         NIGHTJAR_SIM_SEEDS={seed}..{} cargo test --lib simulation::tests::many -- --ignored --nocapture\n",
        outcome.summary,
        outcome.violations.join("\n  "),
        outcome.story.join("\n  "),
        seed + 1
    )
}

/// Runs seeds on a few threads; what each failure says, and how much happened in all.
fn run(seeds: Range<u64>, stop_at: usize, mut progress: impl FnMut(u64) + Send) -> (Vec<(u64, String)>, [u64; 4]) {
    let next = AtomicU64::new(seeds.start);
    let (failures, sums) = (parking_lot::Mutex::new(Vec::new()), parking_lot::Mutex::new([0; 4]));
    let progress = parking_lot::Mutex::new(&mut progress);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || failures.lock().len() >= stop_at {
                        return;
                    }
                    let outcome = simulate(seed, Bug::None);
                    let counts = outcome.counts;
                    let all = [counts.connected, counts.published, counts.acknowledged, counts.delivered];
                    sums.lock().iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
                    if !outcome.violations.is_empty() {
                        failures.lock().push((seed, failure(seed, &outcome)));
                    }
                    (progress.lock())(seed);
                }
            });
        }
    });
    (failures.into_inner(), sums.into_inner())
}

#[test]
fn whatever_goes_wrong_the_promises_are_kept() {
    let (failures, [connected, published, acknowledged, delivered]) = run(SEEDS, 3, |_| {});
    for (seed, failure) in failures {
        // Not every run of a seed is the same to the last step: what does not come again cannot be looked into here.
        let again = (0..AGAIN).any(|_| !simulate(seed, Bug::None).violations.is_empty());
        assert!(!again, "{failure}");
        println!("once, and not in {AGAIN} more runs:\n{failure}");
    }
    // Else it would show nothing.
    let least = SEEDS.end - SEEDS.start;
    assert!(
        connected > 10 * least && published > 100 * least && acknowledged > 50 * least && delivered > 20 * least,
        "{connected} let in, {published} published, {acknowledged} acknowledged, {delivered} delivered"
    );
}

#[test]
fn every_fault_that_is_put_in_is_found() {
    for bug in bugs::FOUND {
        let found = (0..BUGGY).find(|seed| !simulate(*seed, bug).violations.is_empty());
        assert!(found.is_some(), "{bug:?} is not found within {BUGGY} seeds");
    }
}

/// `NIGHTJAR_SIM_SEEDS=FROM..TO`, from FROM up to and without TO.
#[test]
#[ignore = "as many seeds as are asked for"]
fn many() {
    let text = std::env::var("NIGHTJAR_SIM_SEEDS").unwrap_or_else(|_| "0..1000".to_owned());
    let (from, to) = text.split_once("..").unwrap();
    let seeds = from.parse().unwrap()..to.parse().unwrap();
    let (begin, all, mut count) = (Instant::now(), seeds.end - seeds.start, 0_u64);
    let (failures, sums) = run(seeds, 10, |_| {
        count += 1;
        if count.is_multiple_of(100) || count == all {
            println!("{count} of {all} seeds, {:.3} s each", begin.elapsed().as_secs_f64() / count as f64);
        }
    });
    println!("{sums:?} let in, published, acknowledged, delivered");
    for (_, failure) in &failures {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

/// For whoever changes the checker: which of the faults that are put in are found by how many seeds.
#[test]
#[ignore = "a table for the reader"]
fn how_soon_each_fault_is_found() {
    for bug in bugs::FOUND.into_iter().chain(bugs::RARE) {
        let outcomes: Vec<Outcome> = (0..BUGGY).map(|seed| simulate(seed, bug)).collect();
        let found = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).count();
        let first = outcomes.iter().find_map(|outcome| outcome.violations.first().cloned());
        println!("{bug:?}: {found} of {BUGGY}, {}", first.unwrap_or_default());
    }
}
