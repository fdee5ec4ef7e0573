//! Lives through many seeds: `--seeds 0..10000`, or one of them with all that happens: `--seed 17 --verbose`; `--bug 3`
//! puts a fault in.

#![allow(clippy::disallowed_methods, reason = "it says how long it takes")]

use nightjar_simulation::{Bug, simulate};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

struct Wish {
    seeds: Range<u64>,
    is_verbose: bool,
    bug: Option<Bug>,
}

fn wish() -> Wish {
    let mut wish = Wish { seeds: 0..1_000, is_verbose: false, bug: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_default();
        match word.as_str() {
            "--verbose" => wish.is_verbose = true,
            "--seed" => {
                let seed = next().parse().expect("--seed takes a number");
                wish.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let words = next();
                let (from, to) = words.split_once("..").expect("--seeds takes FROM..TO");
                wish.seeds = from.parse().expect("a number")..to.parse().expect("a number");
            }
            "--bug" => {
                let name = next();
                wish.bug = Bug::ALL.into_iter().chain(Bug::RARE).find(|bug| format!("{bug:?}") == name);
                assert!(wish.bug.is_some(), "--bug takes one of {:?}", Bug::ALL);
            }
            other => panic!("{other} is none of --seeds, --seed, --verbose, --bug"),
        }
    }
    wish
}

fn main() {
    let wish = wish();
    let (next, steps, broken) = (AtomicU64::new(wish.seeds.start), AtomicU64::new(0), AtomicU64::new(0));
    let (begin, threads) = (Instant::now(), std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(usize::try_from(wish.seeds.end - wish.seeds.start).unwrap_or(1)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wish.seeds.end {
                        return;
                    }
                    let run = simulate(seed, wish.bug);
                    steps.fetch_add(run.steps, Ordering::Relaxed);
                    if wish.is_verbose {
                        print!("{}", run.history);
                    }
                    if !run.violations.is_empty() {
                        broken.fetch_add(1, Ordering::Relaxed);
                        let what = run.violations.iter().take(5).map(|what| format!("\n  {what}")).collect::<String>();
                        println!("seed {seed}: {} violations{what}", run.violations.len());
                        println!(
                            "  cargo run -p nightjar-simulation --release --example seeds -- --seed {seed} --verbose{}",
                            wish.bug.map(|bug| format!(" --bug {bug:?}")).unwrap_or_default()
                        );
                    }
                }
            });
        }
    });
    let (count, seconds) = (wish.seeds.end - wish.seeds.start, begin.elapsed().as_secs_f64());
    println!(
        "{count} seeds, {} broken, {} steps, {seconds:.1} s, {:.0} seeds a minute",
        broken.load(Ordering::Relaxed),
        steps.load(Ordering::Relaxed),
        count as f64 / seconds * 60.0
    );
}
