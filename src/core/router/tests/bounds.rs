//! What strangers may do to the trie: very deep, very wide, and nothing left behind.

// A measurement reads the clock.
#![allow(clippy::disallowed_methods)]

use nightjar_mqtt::SubscriptionOptions;
use nightjar_router::Router;
use std::time::{Duration, Instant};

const NOBODY: u64 = u64::MAX;

fn subscribe(router: &mut Router<()>, filter: &str, id: u64) {
    router.subscribe(filter, None, id, &(), SubscriptionOptions::default());
}

/// The most levels that a topic of 65,535 bytes can have, and more wildcards than a walk should feel.
#[test]
fn topics_and_filters_of_32_768_levels_are_walked_in_linear_time() {
    let begun = Instant::now();
    let deep = vec!["a"; 32_768].join("/");
    let pluses = vec!["+"; 32_768].join("/");
    let prefix = format!("{}/#", vec!["a"; 32_767].join("/"));
    let slashes = "/".repeat(65_535);
    let mut router = Router::new();
    for (id, filter) in (0..).zip([&deep, &pluses, &prefix, &slashes]) {
        subscribe(&mut router, filter, id);
    }
    assert_eq!(router.plan(&deep, NOBODY).receivers.len(), 3);
    assert_eq!(router.plan(&slashes, NOBODY).receivers.len(), 1);
    assert_eq!(router.plan(&deep[..65_533], NOBODY).receivers.len(), 1, "the prefix, by its parent level");
    assert_eq!(router.plan(&format!("{}b", &deep[..65_534]), NOBODY).receivers.len(), 2, "all but the exact one");
    for (id, filter) in (0..).zip([&deep, &pluses, &prefix, &slashes]) {
        assert!(router.unsubscribe(filter, None, id));
    }
    assert_eq!(router.nodes(), 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// All 2^12 filters of `a` and `+`: the active nodes are as many as the prefixes, and each is visited once.
#[test]
fn a_full_set_of_wildcards_is_visited_once() {
    let mut router = Router::new();
    for bits in 0..1_u32 << 12 {
        let levels: Vec<&str> = (0..12).map(|level| if bits >> level & 1 == 1 { "+" } else { "a" }).collect();
        subscribe(&mut router, &levels.join("/"), u64::from(bits));
    }
    assert_eq!(router.nodes(), (1 << 13) - 1);
    let topic = ["a"; 12].join("/");
    assert_eq!(router.plan(&topic, NOBODY).receivers.len(), 1 << 12);
    assert_eq!(router.plan(&format!("{topic}/b"), NOBODY).receivers.len(), 0);
}

#[test]
fn nothing_stays_when_everyone_has_gone() {
    let mut router = Router::new();
    let baseline = router.memory();
    let filters: Vec<String> = (0..20_000)
        .map(|n| match n % 4 {
            0 => format!("dev/{n}/+/temp{}", n % 100),
            1 => format!("+/x/{n}"),
            2 => format!("{n}/b/#"),
            _ => "everyone".to_owned(),
        })
        .collect();
    for round in 0..3 {
        for (id, filter) in (0..).zip(&filters) {
            let share = (id % 3 == 0).then_some("group");
            router.subscribe(filter, share, id, &(), SubscriptionOptions::default());
        }
        let full = router.memory();
        assert_eq!(router.len(), filters.len());
        assert!(full > 1_000_000, "{full}");
        let mut order: Vec<usize> = (0..filters.len()).collect();
        match round {
            0 => {}
            1 => order.reverse(),
            _ => order.sort_by_key(|n| n * 7919 % 20_011),
        }
        for (gone, &n) in order.iter().enumerate() {
            let share = (n % 3 == 0).then_some("group");
            assert!(router.unsubscribe(&filters[n], share, n as u64));
            if gone == filters.len() * 9 / 10 {
                assert!(router.memory() < full / 2, "memory follows what is left: {} of {full}", router.memory());
            }
        }
        assert_eq!((router.len(), router.shared_len(), router.filters(), router.nodes()), (0, 0, 0, 1));
        assert!(router.memory() <= baseline + 1024, "{} left of {full}", router.memory());
    }
}

#[test]
fn a_filter_with_100_000_subscribers_is_cheap_to_join_and_to_leave() {
    let begun = Instant::now();
    let mut router = Router::new();
    for share in [None, Some("g")] {
        for id in 0..100_000_u64 {
            router.subscribe("a", share, id * 7919 % 100_003, &(), SubscriptionOptions::default());
        }
    }
    let plan = router.plan("a", NOBODY);
    assert_eq!((plan.receivers.len(), plan.groups[0].members.len()), (100_000, 100_000));
    for share in [None, Some("g")] {
        for id in 0..100_000_u64 {
            assert!(router.unsubscribe("a", share, id * 7919 % 100_003));
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
