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
