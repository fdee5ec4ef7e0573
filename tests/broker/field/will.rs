//! F22 to F25: wills and will delay.

use crate::support::{Broker, Client, Connect, Packet, Read, V311, VERSIONS, Will, ms, secs};
use std::time::Instant;

fn watcher(broker: &Broker) -> Client {
    let mut w = broker.v311("watcher");
    w.subscribe("w", 1);
    w
}

#[test]
fn f22_a_takeover_publishes_the_old_will_and_only_that() {
    let broker = Broker::start();
    for (old, new) in VERSIONS.into_iter().flat_map(|old| VERSIONS.map(|new| (old, new))) {
        for clean in [true, false] {
            let mut w = watcher(&broker);
            let _a1 = Connect::of(old, "x").clean(clean).will(Will::new("w", "one")).open(&broker);
            let a2 = Connect::of(new, "x").clean(clean).will(Will::new("w", "two")).open(&broker);
            w.expect_payload("one");
            a2.disconnect();
            w.expect_nothing();
            Connect::of(V311, "x").open(&broker).disconnect();
        }
    }
}

#[test]
fn f23_the_will_delay_is_honoured() {
    let broker = Broker::start();
    let mut w = watcher(&broker);
    let connect = Connect::v5("x").clean(false).expiry(60).will(Will::new("w", "late").delay(3));
    let start = Instant::now();
    connect.open(&broker).rst();
    w.expect_payload("late");
    let after = start.elapsed();
    assert!(after >= ms(2900) && after < secs(5), "after {after:?}");
    w.expect_nothing();

    // The client is back in time: no will [MQTT-3.1.3-9].
    connect.open(&broker).rst();
    std::thread::sleep(secs(1));
    let back = connect.open(&broker);
    assert!(back.session_present);
    w.expect_nothing_for(ms(3500));
    back.disconnect();

    // The session ends before the delay does: the will is due then.
    let start = Instant::now();
    Connect::v5("y").clean(false).expiry(2).will(Will::new("w", "ended").delay(30)).open(&broker).rst();
    w.expect_payload("ended");
    let after = start.elapsed();
    assert!(after >= ms(1900) && after < secs(5), "after {after:?}");

    // No session to wait for at all; and a clean start that ends the old session ends the wait too.
    Connect::v5("z").expiry(0).will(Will::new("w", "none").delay(30)).open(&broker).rst();
    w.expect_payload("none");
    connect.open(&broker).rst();
    std::thread::sleep(ms(100));
    let _fresh = Connect::v5("x").clean(true).open(&broker);
    w.expect_payload("late");
    w.expect_nothing();
}

#[test]
fn f23_a_delayed_will_survives_the_broker() {
    let mut broker = Broker::start();
    for (delay, down) in [(5, ms(0)), (2, secs(3))] {
        let mut w = Connect::v311("w").persistent().open(&broker);
        w.subscribe("w", 1);
        let start = Instant::now();
        let will = Will::new("w", "late").qos(1).delay(delay);
        Connect::v5("x").clean(false).expiry(60).will(will).open(&broker).rst();
        std::thread::sleep(secs(1));
        broker.kill();
        std::thread::sleep(down);
        broker.again();
        let mut w = Connect::v311("w").persistent().open(&broker);
        assert!(w.session_present);
        w.expect_payload("late");
        let after = start.elapsed();
        assert!(after >= secs(u64::from(delay)) - ms(100), "after {after:?}");
        w.expect_nothing();
        broker.restart();
        let mut w = Connect::v311("w").persistent().open(&broker);
        w.expect_nothing();
    }
}

#[test]
fn f23_the_crash_of_the_broker_fires_the_wills_it_cut() {
    let mut broker = Broker::start();
    for connect in [Connect::v311("x"), Connect::v5("x"), Connect::v5("x").persistent(), Connect::v31("x").persistent()]
    {
        let mut w = Connect::v311("w").persistent().open(&broker);
        w.subscribe("w", 1);
        let _x = connect.will(Will::new("w", "gone").qos(1)).open(&broker);
        broker.crash();
        let mut w = Connect::v311("w").persistent().open(&broker);
        assert!(w.session_present);
        w.expect_payload("gone");
        w.expect_nothing();
    }
}

#[test]
fn f24_every_end_but_a_disconnect_publishes_the_will() {
    let broker = Broker::start();
    let mut w = watcher(&broker);
    for version in VERSIONS {
        let open =
            |keep_alive| Connect::of(version, "x").keep_alive(keep_alive).will(Will::new("w", "will")).open(&broker);
        open(60).rst();
        w.expect_payload("will");
        if version == 5 {
            let mut x = open(60);
            x.send_hex("e00104");
            x.expect_closed();
            w.expect_payload("will");
        }
        open(60).fin();
        w.expect_payload("will");
        let mut silent = open(2);
        let start = Instant::now();
        silent.expect_cut(&[0x8d]);
        assert!(start.elapsed() > ms(2500), "cut after {:?}", start.elapsed());
        w.expect_payload("will");
        let mut bad = open(60);
        bad.send_hex("3003000501");
        bad.expect_cut(&[0x81, 0x82]);
        w.expect_payload("will");
        open(60).disconnect();
        let mut short = open(60);
        short.send_hex(if version == 5 { "e00100" } else { "e000" });
        short.expect_closed();
        w.expect_nothing();
    }
}

#[test]
fn f25_a_retained_will_replaces_the_retained_message() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        let topic = format!("status/{version}");
        let will = Will::new(&topic, "offline").qos(1).retain();
        let mut a = Connect::of(version, "a").will(will).open(&broker);
        a.retain(&topic, "online", 1);
        let mut live = broker.v311("live");
        live.subscribe(&topic, 1);
        assert!(live.expect_payload("online").retain);
        a.rst();
        assert!(!live.expect_payload("offline").retain);
        let mut new = broker.client(version, "new");
        new.subscribe(&topic, 1);
        assert!(new.expect_payload("offline").retain);
    }
    for hard in [false, true] {
        if hard {
            broker.crash()
        } else {
            broker.restart()
        }
        let mut new = broker.v311("new");
        new.subscribe("status/+", 1);
        for _ in VERSIONS {
            assert!(new.expect_payload("offline").retain);
        }
        let end = new.read_packet(ms(50));
        assert!(!matches!(end, Read::Packet(Packet::Publish(_))), "{end:?}");
    }
}
