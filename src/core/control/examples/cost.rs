//! What the routes cost: nanoseconds an operation and bytes a filter.
//!
//! `cargo run --release -p nightjar-control --example cost`

// A measurement reads the clock.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use nightjar_base::{HomeId, NodeId, Wall};
use nightjar_control::{Control, ControlOp, Settings, Start};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const COUNT: usize = 100_000;
const NODES: u64 = 3;
/// Filters in one op.
const BATCH: usize = 100;

/// Resident memory of this process, or 0 where the system does not tell. What one part freed, the next takes first: of
/// the first part alone is this the whole truth.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// 0 to `COUNT` in an order that no cache expects.
fn shuffled() -> impl Iterator<Item = usize> {
    (0..COUNT).map(|n| n * 61_819 % COUNT)
}

fn nanoseconds<R>(name: &str, times: usize, run: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = run();
    println!("  {name:<16} {:>8.0} ns", begun.elapsed().as_secs_f64() * 1e9 / times as f64);
    result
}

fn formed() -> Control {
    let mut control = Control::new(16);
    let text: Arc<str> = "node".into();
    let start =
        |n| Start { id: NodeId(n), home: HomeId(n), name: text.clone(), address: text.clone(), hint: None, version: 1 };
    let settings = Settings { cluster: 1, shards: 16, replicas: 3 };
    let members = (0..NODES).map(start).collect();
    control.apply(1, ControlOp::Form { settings, protocol: 1, members, now: Wall(0) }, &mut Vec::new());
    control
}

fn measure(name: &str, filter: impl Fn(usize) -> String, topic: impl Fn(usize) -> String) {
    println!("{name}");
    let filters: Vec<Arc<str>> = shuffled().map(|n| filter(n).into()).collect();
    let topics: Vec<String> = (0..COUNT).map(topic).collect();
    let mut control = formed();
    let before = resident();
    nanoseconds("add", COUNT, || {
        for (number, added) in (0..).zip(filters.chunks(BATCH)) {
            let op = ControlOp::Routes { home: HomeId(number % NODES), added: added.to_vec(), removed: vec![] };
            control.apply(2 + number, op, &mut Vec::new());
        }
    });
    let resident = resident().saturating_sub(before) / COUNT;
    println!("  {:<16} {resident:>8} bytes resident, {} by its own account", "memory", control.routes_memory() / COUNT);
    nanoseconds("match", COUNT, || {
        for n in shuffled() {
            assert_eq!(black_box(control.nodes_for(&topics[n])).len(), 1);
        }
    });
    nanoseconds("match, one", COUNT, || {
        for _ in 0..COUNT {
            black_box(control.nodes_for(&topics[1]));
        }
    });
    let changes = nanoseconds("freeze", COUNT, || control.freeze());
    let rows: BTreeMap<_, _> = changes.iter().map(|row| (row.key.clone(), row.value.clone().unwrap())).collect();
    nanoseconds("load", COUNT, || Control::load(16, &rows).unwrap());
    let down = ControlOp::NodeDown { id: NodeId(1), home: HomeId(1), now: Wall(0) };
    nanoseconds("a home's end", COUNT, || control.apply(u64::MAX, down, &mut Vec::new()));
}

fn main() {
    let site = |n: usize| (n % 100, n / 100);
    measure(
        "one level of its own each: site/+/device-N/state",
        |n| format!("site/+/device-{n}/state"),
        |n| format!("site/7/device-{n}/state"),
    );
    measure(
        "levels in common: site/A/device/B/#",
        |n| format!("site/{}/device/{}/#", site(n).0, site(n).1),
        |n| format!("site/{}/device/{}/state", site(n).0, site(n).1),
    );
}
