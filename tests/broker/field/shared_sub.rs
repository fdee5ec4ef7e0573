//! F26 to F28: shared subscriptions.

use crate::support::wire::{PUBREC, PUBREL};
use crate::support::{Broker, Client, Connect, Packet, Read, V5, VERSIONS, ms};
use std::collections::HashSet;

#[test]
fn f26_what_a_member_leaves_behind_goes_to_another() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    for filter in ["$share/g/foo", "$share/g/+"] {
        let mut c1 = Connect::v5("c1").clean(true).expiry(3).open(&broker);
        c1.subscribe(filter, 1);
        c1.rst();
        wait_gone();
        for n in 0..3 {
            p.publish("foo", n.to_string(), 1);
        }
        let mut c2 = Connect::v5("c2").open(&broker);
        c2.subscribe(filter, 1);
        for n in 0..3 {
            c2.expect_payload(n.to_string());
        }
        c2.expect_nothing();
        c2.disconnect();
    }
}

/// The broker sees an RST at once, but not before it is sent.
fn wait_gone() {
    std::thread::sleep(ms(100));
}

#[test]
fn f26_qos2_messages_that_were_sent_to_a_member_stay_with_it() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    let connect = Connect::v5("c1").clean(false).expiry(2).manual();
    let mut c1 = connect.open(&broker);
    c1.subscribe("$share/g/foo", 2);
    p.publish("foo", "sent", 2);
    let m = c1.expect_payload("sent");
    c1.ack(PUBREC, m.id);
    c1.expect_ack(PUBREL, m.id);
    c1.rst();
    wait_gone();
    let mut c2 = Connect::v5("c2").open(&broker);
    c2.subscribe("$share/g/foo", 2);
    // [MQTT-4.8.2-5]: its session ends, and no other member gets it.
    c2.expect_nothing_for(ms(4000));
}

#[test]
fn f27_no_local_and_bad_shared_filters_are_refused() {
    let broker = Broker::start();
    let mut client = broker.v5("t1");
    client.send_hex("8210000100000a2473686172652f672f7404");
    client.expect_disconnect(&[0x82]);

    for filter in ["$share/g", "$share//t", "$share/g+/t", "$share/g#/t", "$share/g/", "$share/", "$share/+/t"] {
        for version in VERSIONS {
            let mut client = broker.client(version, "t1");
            client.send_subscribe(&[(filter, 1)], &[]);
            match client.read_packet(ms(5000)) {
                Read::Packet(Packet::Suback { codes, .. }) => {
                    assert!(codes[0] >= 0x80, "{filter} was granted to version {version}");
                    assert!(version != V5 || codes == [0x8f], "{filter}: {codes:x?}");
                    broker.v311("p").publish("g/t", "x", 0);
                    client.expect_nothing_for(ms(20));
                }
                Read::Packet(Packet::Disconnect { code: 0x81 | 0x82 | 0x8f, .. }) | Read::Closed => {}
                other => panic!("{filter}: {other:?}"),
            }
        }
    }
}

#[test]
fn f28_a_member_that_came_back_leaves_no_ghost() {
    for id in ["m0", "new"] {
        let broker = Broker::start();
        for version in VERSIONS {
            let member = |id: &str| -> Client {
                let mut m = broker.client(version, id);
                m.subscribe("$share/g/t", 1);
                m
            };
            let mut members: Vec<Client> = (0..3).map(|n| member(&format!("m{n}"))).collect();
            members.remove(0).rst();
            members.push(member(id));
            let mut p = broker.v311("p");
            let mut seen = HashSet::new();
            for n in 0..300 {
                p.publish("t", n.to_string(), 1);
            }
            for m in &mut members {
                loop {
                    match m.read_packet(ms(200)) {
                        Read::Packet(Packet::Publish(m)) => assert!(seen.insert(m.text()), "{} twice", m.text()),
                        Read::Timeout => break,
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(seen.len(), 300, "version {version}, returned as {id}");
            for m in members {
                m.disconnect();
            }
        }
    }
}
