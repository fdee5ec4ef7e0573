//! F29 to F31: topic filters, `$`-topics, overlap.

use super::plain;
use crate::support::{Broker, Client, Packet, Publish, Read, V5, V311, ms};

#[test]
fn f29_a_null_character_in_a_topic_closes_the_connection() {
    let broker = Broker::start();
    let v311 = ["82080001000361006200", "a207000100036100 62", "30050003610062", "3207000361006200 01"];
    let v5 = ["8209000100000361006200", "a20800010000036100 62", "3006000361006200", "320800036100620001 00"];
    for (version, packets) in [(V311, v311), (V5, v5)] {
        for bytes in packets {
            let mut client = plain(&broker, version);
            client.send_hex(bytes);
            client.expect_cut(&[0x81, 0x82, 0x8f, 0x90]);
        }
    }
}

#[test]
fn f30_wildcards_do_not_reach_dollar_topics() {
    let broker = Broker::with(&["sys.interval=1s"]);
    let watch = |filter: &str| {
        let mut client = broker.v5(&format!("watch {filter}").replace(['#', '+', '/', '$'], "_"));
        assert_eq!(client.subscribe(filter, 1), 1, "{filter}");
        client
    };
    let mut silent = [watch("#"), watch("+/#"), watch("+/broker/#"), watch("+/broker/version"), watch("+/x")];
    let mut counted = [watch("$SYS/#"), watch("$SYS/broker/+")];
    let mut foo = watch("$foo/#");
    for s in &mut counted {
        let m = s.expect_publish();
        assert!(m.topic.starts_with("$SYS/"), "{}", m.topic);
    }
    let mut p = broker.v5("p");
    assert_eq!(p.publish("$SYS/broker/version", "forged", 1), 0x87);
    assert_eq!(p.publish("$SYS/broker/version", "forged", 2), 0x87);
    p.retain("$SYS/broker/version", "forged", 0);
    p.ping();
    let mut old = broker.v311("old");
    old.send_publish(Publish::new("$SYS/broker/version", "forged").retain());
    p.publish("$foo/x", "dollar", 1);
    assert_eq!(foo.expect_payload("dollar").topic, "$foo/x");

    let mut reader = broker.v5("reader");
    reader.subscribe("$SYS/broker/version", 0);
    assert_ne!(reader.expect_publish().text(), "forged");
    // Two intervals of statistics.
    std::thread::sleep(ms(2200));
    for s in &mut silent {
        s.expect_nothing_for(ms(20));
    }
    for s in &mut counted {
        while let Read::Packet(Packet::Publish(m)) = s.read_packet(ms(20)) {
            assert!(m.topic.starts_with("$SYS/") && m.text() != "forged");
        }
    }
}

#[test]
fn f31_overlapping_filters_give_one_copy_at_the_highest_qos() {
    let broker = Broker::start();
    for version in [V311, V5] {
        let mut s = broker.client(version, "s");
        let filters = [("test/bla/status", 1), ("test/+/status", 0), ("test/#", 2)];
        for (filter, qos) in filters {
            s.subscribe(filter, qos);
        }
        let mut p = broker.v311("p");
        p.publish("test/bla/status", "toggle", 2);
        assert_eq!(s.expect_payload("toggle").qos, 2);
        s.expect_nothing();
        p.retain("test/bla/status", "kept", 2);
        assert_eq!(s.expect_payload("kept").qos, 2);
        s.expect_nothing();

        // Each SUBSCRIBE makes its own retained copy (section 3.8.4).
        let mut late = broker.client(version, "late");
        for (filter, qos) in filters {
            late.subscribe(filter, qos);
            retained_copy(&mut late, qos);
        }
        late.expect_nothing();
        p.retain("test/bla/status", "", 0);
    }
}

fn retained_copy(client: &mut Client, qos: u8) {
    let m = client.expect_payload("kept");
    assert_eq!((m.qos, m.retain), (qos, true));
}
