//! What the router costs: nanoseconds an operation and bytes a filter.
//!
//! `cargo run --release -p nightjar-router --example cost`

// A measurement reads the clock.
#![allow(clippy::disallowed_methods)]

use nightjar_mqtt::SubscriptionOptions;
use nightjar_router::Router;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const COUNT: usize = 100_000;
const NOBODY: u64 = u64::MAX;

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

fn nanoseconds(name: &str, times: usize, run: impl FnOnce()) {
    let begun = Instant::now();
    run();
    println!("  {name:<12} {:>8.0} ns", begun.elapsed().as_secs_f64() * 1e9 / times as f64);
}

/// One subscriber for each of `COUNT` filters, each matched by its topic.
fn filters(name: &str, filter: impl Fn(usize) -> String, topic: impl Fn(usize) -> String) {
    println!("{name}");
    let filters: Vec<String> = (0..COUNT).map(filter).collect();
    let topics: Vec<String> = (0..COUNT).map(topic).collect();
    let strangers: Vec<String> = topics.iter().map(|topic| format!("other/other/{topic}")).collect();
    let handle = Arc::new(0_u64);
    let mut router = Router::new();
    let before = resident();
    nanoseconds("subscribe", COUNT, || {
        for n in shuffled() {
            router.subscribe(&filters[n], None, n as u64, &handle, SubscriptionOptions::default());
        }
    });
    let bytes = |bytes: usize| bytes / COUNT;
    let (resident, told) = (resident().saturating_sub(before), router.memory());
    println!("  {:<12} {:>8} bytes resident, {} by its own account", "memory", bytes(resident), bytes(told));
    nanoseconds("plan", COUNT, || {
        for n in shuffled() {
            assert_eq!(black_box(router.plan(&topics[n], NOBODY)).receivers.len(), 1);
        }
    });
    nanoseconds("plan, one", COUNT, || {
        for _ in 0..COUNT {
            black_box(router.plan(&topics[1], NOBODY));
        }
    });
    nanoseconds("no match", COUNT, || {
        for n in shuffled() {
            assert!(!router.has_match(black_box(&strangers[n])));
        }
    });
    nanoseconds("unsubscribe", COUNT, || {
        for n in shuffled() {
            assert!(router.unsubscribe(&filters[n], None, n as u64));
        }
    });
}

/// `COUNT` subscribers of one filter.
fn subscribers(name: &str, share: Option<&str>) {
    println!("{name}");
    let handle = Arc::new(0_u64);
    let mut router = Router::new();
    nanoseconds("subscribe", COUNT, || {
        for n in shuffled() {
            router.subscribe("a/b", share, n as u64, &handle, SubscriptionOptions::default());
        }
    });
    println!("  {:<12} {:>8} bytes by its own account", "memory", router.memory() / COUNT);
    nanoseconds("first plan", COUNT, || drop(black_box(router.plan("a/b", NOBODY))));
    nanoseconds("next plan", COUNT, || drop(black_box(router.plan("a/b", NOBODY))));
    nanoseconds("unsubscribe", COUNT, || {
        for n in shuffled() {
            assert!(router.unsubscribe("a/b", share, n as u64));
        }
    });
}

fn main() {
    let (device, value) = (|n: usize| n % 1000, |n: usize| n / 1000);
    filters(
        "dev/123/+/temp45, a thousand devices",
        |n| format!("dev/{}/+/temp{}", device(n), value(n)),
        |n| format!("dev/{}/kitchen/temp{}", device(n), value(n)),
    );
    filters("dev/123/+/temp45, all devices differ", |n| format!("dev/{n}/+/temp45"), |n| format!("dev/{n}/x/temp45"));
    filters("+/x/17", |n| format!("+/x/{n}"), |n| format!("room/x/{n}"));
    filters("17/b/#", |n| format!("{n}/b/#"), |n| format!("{n}/b/c/d"));
    filters(
        "the three in turn",
        |n| [format!("dev/{n}/+/temp{}", n % 99), format!("+/x/{n}"), format!("a{n}/b/#")][n % 3].clone(),
        |n| [format!("dev/{n}/y/temp{}", n % 99), format!("z/x/{n}"), format!("a{n}/b/c")][n % 3].clone(),
    );
    subscribers("100,000 subscribers of one filter, per subscriber", None);
    subscribers("100,000 members of one group, per member", Some("g"));
}
