//! Replays of retained messages that a disconnect cuts.

use crate::support::{Broker, Connect, Packet, Read, ms};
use std::collections::BTreeMap;

#[test]
fn a_replay_that_was_cut_gives_the_rest_and_repeats_nothing_that_was_queued() {
    for crash in [false, true] {
        let mut broker = Broker::start();
        let mut p = broker.v5("p");
        for n in 0..3 {
            p.retain(&format!("r/{n}"), format!("early {n}"), 2);
        }
        let connect = Connect::v5("s").persistent().receive_maximum(1);
        let mut s = connect.clone().manual().open(&broker);
        s.subscribe("r/#", 2);
        s.expect_publish();
        s.rst();
        // Another millisecond than that of the SUBSCRIBE: times are told apart no finer.
        std::thread::sleep(ms(5));
        p.retain("r/9", "late", 2);
        if crash {
            broker.crash();
        }
        let mut s = connect.open(&broker);
        let mut seen = BTreeMap::new();
        loop {
            match s.read_packet(ms(500)) {
                Read::Packet(Packet::Publish(m)) => {
                    *seen.entry(String::from_utf8_lossy(&m.payload).into_owned()).or_insert(0) += 1;
                }
                Read::Packet(_) => {}
                Read::Timeout if seen.len() == 4 => break,
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        let wanted: BTreeMap<String, i32> =
            ["early 0", "early 1", "early 2", "late"].iter().map(|payload| ((*payload).to_owned(), 1)).collect();
        assert_eq!(seen, wanted, "with a crash in between: {crash}");
    }
}

/// A topic that has no retained message when SUBSCRIBE comes: what is retained from then on comes live, and the replay
/// that begins meanwhile does not find it as well.
#[test]
fn what_is_retained_right_after_a_subscribe_comes_once() {
    let broker = Broker::start();
    let mut p = broker.v5("p");
    p.retain("other", "something is retained", 1);
    let mut s = broker.v5("s");
    for n in 0..300 {
        let topic = format!("t/{n}");
        let filter = format!("t/{n}/#");
        s.send_subscribe(&[(&filter, 2)], &[]);
        s.recv_where("SUBACK", |packet| matches!(packet, Packet::Suback { .. }).then_some(()));
        p.retain(&topic, "once", 0);
        s.expect_payload("once");
    }
    s.expect_nothing();
}
