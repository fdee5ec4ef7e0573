//! Retained messages: storing, handing out, and the two v5 options.

use crate::support::{Broker, Packet, Publish, Read, VERSIONS, ms, prop};

const RETAIN_AS_PUBLISHED: u8 = 8;

#[test]
fn the_last_retained_message_is_handed_out_at_the_right_qos() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        for published in 0..=2 {
            let topic = format!("r/{version}/{published}");
            let mut p = broker.client(version, "p");
            p.retain(&topic, "old", published);
            p.retain(&topic, "last", published);
            p.publish(&topic, "live only", published);
            p.ping();
        }
    }
    for restart in [None, Some(false), Some(true)] {
        match restart {
            None => {}
            Some(false) => broker.restart(),
            Some(true) => broker.crash(),
        }
        for version in VERSIONS {
            for subscribed in 0..=2 {
                for published in 0..=2 {
                    let mut s = broker.client(version, "s");
                    s.subscribe(&format!("r/{version}/{published}"), subscribed);
                    let m = s.expect_payload("last");
                    assert_eq!((m.qos, m.retain, m.dup), (published.min(subscribed), true, false));
                    s.expect_nothing_for(ms(5));
                }
            }
        }
    }
}

#[test]
fn retain_as_published_and_retain_handling_in_every_combination() {
    let broker = Broker::start();
    for published_retain in [false, true] {
        for as_published in [0, RETAIN_AS_PUBLISHED] {
            for handling in 0..=2u8 {
                for qos in 0..=2u8 {
                    let mut p = broker.v5("p");
                    p.retain("t", "stored", 1);
                    let mut s = broker.v5("s");
                    assert_eq!(s.subscribe("t", qos | as_published | handling << 4), qos);
                    if handling < 2 {
                        let m = s.expect_payload("stored");
                        assert!(m.retain, "a copy at subscribe time always says so [MQTT-3.3.1-8]");
                    }
                    let live = Publish::new("t", "live").qos(1);
                    p.publish_as(if published_retain { live.retain() } else { live });
                    let m = s.expect_payload("live");
                    assert_eq!(m.retain, published_retain && as_published != 0, "[MQTT-3.3.1-12] [MQTT-3.3.1-13]");
                    s.expect_nothing_for(ms(5));
                }
            }
        }
    }
}

#[test]
fn retain_as_published_holds_for_a_queue_too() {
    let mut broker = Broker::start();
    let connect = crate::support::Connect::v5("s").persistent();
    let mut s = connect.open(&broker);
    s.subscribe("kept", 1 | RETAIN_AS_PUBLISHED);
    s.subscribe("plain", 1);
    s.disconnect();
    let mut p = broker.v5("p");
    p.retain("kept", "x", 1);
    p.retain("plain", "y", 1);
    broker.crash();
    let mut s = connect.open(&broker);
    for _ in 0..2 {
        let m = s.expect_publish();
        assert_eq!(m.retain, m.topic == "kept");
    }
}

#[test]
fn wildcards_find_the_retained_messages_that_match() {
    let broker = Broker::start();
    let topics = ["a", "a/b", "a/b/c", "b/b", "/a", "$d/a", "a/"];
    let mut p = broker.v311("p");
    for topic in topics {
        p.retain(topic, topic, 1);
    }
    let table: &[(&str, &[&str])] = &[
        ("#", &["/a", "a", "a/", "a/b", "a/b/c", "b/b"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c"]),
        ("+/b", &["a/b", "b/b"]),
        ("+", &["a"]),
        ("a/+", &["a/", "a/b"]),
        ("$d/+", &["$d/a"]),
        ("+/+/c", &["a/b/c"]),
        ("x/#", &[]),
    ];
    for version in VERSIONS {
        for (filter, expected) in table {
            let mut s = broker.client(version, "s");
            s.subscribe(filter, 1);
            let mut found: Vec<String> = expected.iter().map(|_| s.expect_publish().text()).collect();
            found.sort();
            assert_eq!(found, *expected, "{filter}");
            s.expect_nothing_for(ms(5));
        }
    }
}

#[test]
fn retained_messages_keep_their_properties() {
    let mut broker = Broker::start();
    let props = [prop::content_type("a"), prop::correlation(b"c"), prop::user("k", "v"), prop::payload_format(1)];
    let m = props.iter().fold(Publish::new("t", "x").qos(1).retain(), |m, p| m.prop(p.clone()));
    broker.v5("p").publish_as(m);
    for _ in 0..2 {
        let mut s = broker.v5("s");
        s.subscribe_many(&[("t", 1)], &[prop::subscription_id(9)]);
        let m = s.expect_payload("x");
        assert_eq!(m.number(prop::SUBSCRIPTION_ID), Some(9));
        assert!(props.iter().all(|p| m.props.contains(p)), "{:?}", m.props);
        broker.restart();
    }
}

#[test]
fn retain_may_be_switched_off() {
    let broker = Broker::with(&["mqtt.retain_available=false"]);
    let mut p = broker.v5("p");
    assert_eq!(crate::support::wire::number(&p.connack, prop::RETAIN_AVAILABLE), Some(0));
    p.send_publish(Publish::new("t", "x").retain());
    p.expect_disconnect(&[0x9a]);
    let mut s = broker.v5("s");
    s.subscribe("t", 1);
    s.expect_nothing();
}

#[test]
fn a_slow_reader_of_retained_messages_still_gets_live_ones_and_nothing_twice() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    for n in 0..300 {
        p.retain(&format!("r/{n}"), "kept", 0);
    }
    p.ping();
    let mut s = crate::support::Connect::v5("s").receive_maximum(5).open(&broker);
    s.send_subscribe(&[("r/#", 1)], &[]);
    let first = s.read_packet(ms(15_000));
    assert!(matches!(first, Read::Packet(Packet::Suback { .. })), "SUBACK goes first: {first:?}");
    for n in 0..20 {
        p.publish(&format!("r/live{n}"), "live", 1);
    }
    let (mut kept, mut live) = (0, 0);
    while kept < 300 || live < 20 {
        match s.read_packet(ms(15_000)) {
            Read::Packet(Packet::Publish(m)) if m.retain => kept += 1,
            Read::Packet(Packet::Publish(_)) => live += 1,
            other => panic!("{kept} and {live}: {other:?}"),
        }
    }
    s.expect_nothing();
    assert_eq!((kept, live), (300, 20));
}

#[test]
fn a_subscriber_gets_its_copy_however_often_the_message_is_replaced() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    p.retain("t", "0", 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                p.retain("t", n.to_string(), 1);
            }
        });
        let missing = (0..1500).filter(|_| !has_retained_copy(&mut broker.v311("s"))).count();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(missing, 0, "of 1500 subscribers [MQTT-3.3.1-6]");
    });
}

/// Subscribes, and looks for the copy with RETAIN = 1 among the live messages for a second.
fn has_retained_copy(s: &mut crate::support::Client) -> bool {
    s.subscribe("t", 0);
    let start = std::time::Instant::now();
    while start.elapsed() < ms(1000) {
        if matches!(s.read_packet(ms(100)), Read::Packet(Packet::Publish(m)) if m.retain) {
            return true;
        }
    }
    false
}
