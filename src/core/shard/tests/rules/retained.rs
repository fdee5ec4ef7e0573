//! Retained messages.

use crate::bench::{Bench, retain};
use nightjar_shard::{Due, Op};
use std::sync::Arc;

#[test]
fn a_page_tells_since_when_a_topic_has_had_a_message() {
    let mut bench = Bench::new();
    let since = |bench: &Bench| {
        let mut found = Vec::new();
        bench.shard.retained_page(&bench.tables, "t/#", None, 10, 10, &mut found).unwrap();
        found[0].since
    };
    bench.apply(retain("t/1", b"one", None));
    let first = since(&bench);
    bench.apply(retain("t/1", b"two", None));
    assert_eq!(since(&bench), first);
    bench.apply(retain("t/1", b"", None));
    bench.apply(retain("t/1", b"three", None));
    assert!(since(&bench) > first);
}

#[test]
fn retained_messages_are_replaced_and_removed() {
    let mut bench = Bench::new();
    bench.apply(retain("a", b"1", None));
    bench.apply(retain("a", b"2", None));
    let payload = |bench: &Bench| {
        bench.shard.retained(&bench.tables, "a").unwrap().map(|(message, index)| (message.payload().to_vec(), index))
    };
    assert_eq!(payload(&bench), Some((b"2".to_vec(), 2)));
    bench.reload();
    assert_eq!(payload(&bench), Some((b"2".to_vec(), 2)));
    bench.apply(Op::Forget { topic: "a".into(), index: 1 });
    assert!(payload(&bench).is_some(), "another one is stored by now");
    bench.apply(retain("a", b"", None));
    bench.reload();
    assert_eq!((payload(&bench), bench.shard.retained_bytes()), (None, 0));
}

#[test]
fn a_retained_message_expires() {
    let mut bench = Bench::new();
    bench.apply(retain("a", b"1", Some(1_000)));
    bench.apply(retain("a", b"2", Some(2_000)));
    bench.reload();
    assert!(bench.due(1_999).is_empty());
    assert_eq!(bench.due(2_000), [Due::Retained { topic: "a".into(), index: 2 }]);
    bench.apply(Op::Forget { topic: "a".into(), index: 2 });
    assert_eq!(bench.shard.retained_count(), 0);
}

#[test]
fn a_wildcard_read_is_a_sequence_of_bounded_pages() {
    let mut bench = Bench::new();
    for at in 0..1_000 {
        bench.apply(retain(&format!("t/{at:03}/x"), &vec![1; if at % 100 == 0 { 2_000 } else { 10 }], None));
        bench.apply(retain(&format!("u/{at:03}"), b"u", None));
    }
    bench.reload();
    let (mut after, mut found, mut pages): (Option<Arc<str>>, Vec<_>, _) = (None, Vec::new(), 0);
    loop {
        after = bench.shard.retained_page(&bench.tables, "t/+/x", after.as_deref(), 64, 10, &mut found).unwrap();
        pages += 1;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (1_000, 101));
    assert!(found.windows(2).all(|pair| pair[0].message.topic() < pair[1].message.topic()));
}

#[test]
fn packed_messages_come_and_go_without_touching_each_other() {
    let mut bench = Bench::new();
    let mut wanted = std::collections::BTreeMap::new();
    let mut dice = 1_u64;
    for round in 0..20 {
        for _ in 0..400 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let topic = format!("t/{}", (dice >> 33) % 700);
            // Some empty, most small, some alone in their rows.
            let length = [0, 1, 20, 60, 200, 900, 1_500, 20_000][(dice >> 50) as usize % 8];
            let payload = vec![u8::try_from(round).unwrap(); length];
            bench.apply(retain(&topic, &payload, None));
            if payload.is_empty() {
                wanted.remove(&topic)
            } else {
                wanted.insert(topic, payload)
            };
        }
        if round % 2 == 0 {
            bench.checkpoint();
        }
        if round % 3 == 0 {
            bench.reload();
        }
        let mut found = Vec::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            after = bench.shard.retained_page(&bench.tables, "t/#", after.as_deref(), 64, 64, &mut found).unwrap();
            if after.is_none() {
                break;
            }
        }
        let got: Vec<_> = found.iter().map(|one| (one.message.topic(), one.message.payload())).collect();
        let wanted: Vec<_> = wanted.iter().map(|(topic, payload)| (topic.as_str(), payload.as_slice())).collect();
        assert!(got == wanted, "round {round}: {} topics, wanted {}", got.len(), wanted.len());
    }
    let topics: Vec<String> = wanted.into_keys().collect();
    topics.iter().for_each(|topic| drop(bench.apply(retain(topic, b"", None))));
    bench.checkpoint();
    assert_eq!((bench.shard.retained_count(), bench.shard.retained_bytes()), (0, 0));
    assert!(bench.tables.len() <= 1, "{} rows are left", bench.tables.len());
}
