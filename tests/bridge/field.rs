//! Inputs that broke the bridges of other brokers, each named by its case.

use super::support::wire::prop;
use super::support::{Broker, Connect, Mosquitto, Packet, Proxy, Publish, QUIET, Read, V5, ms, secs, wait_until};
use super::{PATIENCE, bridged, config, hub, payloads, publish, queued, subscriber, wait_state};
use std::collections::HashMap;

/// The numbers of `count` messages of each of two topics, as they come.
#[track_caller]
fn in_order(client: &mut super::Client, topics: &[(&str, usize)]) {
    let mut next: Vec<usize> = vec![0; topics.len()];
    while topics.iter().zip(&next).any(|((_, count), next)| next < count) {
        let message = client.expect_publish();
        let place = topics.iter().position(|(topic, _)| *topic == message.topic).expect("a topic of ours");
        assert_eq!(String::from_utf8_lossy(&message.payload), next[place].to_string(), "on {}", message.topic);
        next[place] += 1;
    }
}

#[test]
fn f44_the_backlog_keeps_to_the_receive_maximum_of_the_remote() {
    for maximum in [5, 1, 65_535] {
        let remote = Broker::with(&[&format!("mqtt.receive_maximum={maximum}")]);
        let proxy = Proxy::to(remote.port());
        proxy.down();
        // In one version, since a link that closes at once looks like a remote that does not know it, which has the bridge
        // try others: how that ends is a test of its own.
        let lines = "client_id = \"theirs\"\nversion = \"5\"\n";
        let broker = bridged(&hub(proxy.port(), r##"["t/# out 2"]"##, lines));
        let mut client = broker.v5("client");
        for number in 0..200 {
            client.publish("t/1", number.to_string(), 1);
            if number < 50 {
                client.publish("t/2", number.to_string(), 2);
            }
        }
        let mut there = subscriber(remote.port(), "there", &["t/#"]);
        proxy.delay(ms(if maximum == 65_535 { 20 } else { 5 }));
        let before = proxy.accepted();
        proxy.up();
        in_order(&mut there, &[("t/1", 200), ("t/2", 50)]);
        there.expect_nothing();
        let log = remote.log();
        assert_eq!(log.matches(" connected client=\"theirs\"").count(), 1, "one connection only");
        assert!(!log.contains("receive maximum"), "{log}");
        // It may have been refused by the link that was down a moment longer.
        assert!(proxy.accepted() >= before);
    }
}

#[test]
fn f45_the_backlog_leaves_without_anything_new() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::to(mosquitto.port());
    let broker = bridged(&hub(proxy.port(), r##"["t/# out 1"]"##, ""));
    wait_state(&broker, "1");
    proxy.down();
    wait_state(&broker, "0");
    let mut client = broker.v5("client");
    for number in 0..10 {
        assert_eq!(client.publish("t/x", number.to_string(), 1), 0);
    }
    let mut there = subscriber(mosquitto.port(), "there", &["t/#"]);
    proxy.up();
    in_order(&mut there, &[("t/x", 10)]);
    wait_state(&broker, "1");
}

/// Two brokers with `# both 1`: one message from each side at each QoS, and one retained, seen once on each side.
#[track_caller]
fn seen_once_on_each_side(round: &str, one: u16, other: u16) {
    let mut seen = [one, other].map(|port| subscriber(port, "seen", &[&format!("{round}/#")]));
    for (place, port) in [one, other].into_iter().enumerate() {
        let mut client = super::support::mosquitto::open(port, &Connect::v5("publishes"));
        for qos in 0..=2 {
            client.publish(&format!("{round}/live"), format!("{place} {qos}"), qos);
        }
        client.retain(&format!("{round}/kept/{place}"), "r", 1);
    }
    for client in &mut seen {
        let mut got: Vec<String> = (0..8)
            .map(|_| client.expect_publish())
            .map(|m| format!("{} {}", m.topic, String::from_utf8_lossy(&m.payload)))
            .collect();
        got.sort();
        let mut wanted: Vec<String> = (0..2)
            .flat_map(|place| (0..3).map(move |qos| (place, qos)))
            .map(|(place, qos)| format!("{round}/live {place} {qos}"))
            .collect();
        wanted.extend((0..2).map(|place| format!("{round}/kept/{place} r")));
        wanted.sort();
        assert_eq!(got, wanted);
    }
    seen.iter_mut().for_each(|client| client.expect_nothing_for(secs(1)));
    for port in [one, other] {
        let mut late = subscriber(port, "late", &[&format!("{round}/kept/#")]);
        let mut topics: Vec<String> = (0..2).map(|_| late.expect_publish().topic).collect();
        topics.sort();
        assert_eq!(topics, [format!("{round}/kept/0"), format!("{round}/kept/1")]);
    }
}

/// Publishes at two brokers that have a bridge to each other, without stamps, until both know of the circle by what comes
/// around. Until then each message comes once at least, and three times at most.
#[track_caller]
fn know_the_circle(brokers: [&Broker; 2]) {
    let mut seen = brokers.map(|broker| subscriber(broker.port(), "seen", &["circle/#"]));
    let (mut count, mut came) = (0, [(); 2].map(|()| HashMap::new()));
    wait_until("both know of the circle", PATIENCE, || {
        brokers.iter().for_each(|broker| publish(broker.port(), "circle/x", &format!("{count} {}", broker.port()), 1));
        count += 1;
        for (client, came) in seen.iter_mut().zip(&mut came) {
            while let Read::Packet(packet) = client.read_packet(QUIET) {
                if let Packet::Publish(message) = packet {
                    *came.entry(message.payload).or_insert(0) += 1;
                }
            }
        }
        brokers.iter().all(|broker| broker.log().contains("bridges make a circle"))
    });
    // What is under way when the last of them has learned it.
    for (client, came) in seen.iter_mut().zip(&mut came) {
        while let Read::Packet(packet) = client.read_packet(QUIET) {
            if let Packet::Publish(message) = packet {
                *came.entry(message.payload).or_insert(0) += 1;
            }
        }
        assert_eq!(came.len(), 2 * count, "{came:?}");
        assert!(came.values().all(|times| (1..=3).contains(times)), "{came:?}");
    }
}

#[test]
fn f46_a_two_way_bridge_on_the_same_topics_does_not_loop() {
    let rule = r##"["# both 1"]"##;
    for version in ["3.1.1", "5"] {
        let lines = format!("version = \"{version}\"\n");
        let mosquitto = Mosquitto::start();
        let broker = bridged(&hub(mosquitto.port(), rule, &lines));
        wait_state(&broker, "1");
        seen_once_on_each_side("mosquitto", broker.port(), mosquitto.port());

        let remote = Broker::configured(&config(""), &[]);
        let broker = bridged(&hub(remote.port(), rule, &lines));
        wait_state(&broker, "1");
        seen_once_on_each_side("one", broker.port(), remote.port());
        // Then on both.
        remote.configure(&config(&hub(broker.port(), rule, &lines)));
        remote.reload();
        wait_state(&remote, "1");
        if version == "3.1.1" {
            know_the_circle([&broker, &remote]);
        }
        seen_once_on_each_side("both", broker.port(), remote.port());
    }
}

#[test]
fn f47_retained_messages_come_in_under_the_local_prefix() {
    for version in ["3.1.1", "5"] {
        let mosquitto = Mosquitto::start();
        let proxy = Proxy::to(mosquitto.port());
        let mut there = mosquitto.client(V5, "there");
        there.retain("s/1", "x", 1);
        let lines = format!("version = \"{version}\"\n");
        let broker = bridged(&hub(proxy.port(), r#"["s/# in 1 site/ \"\""]"#, &lines));
        let retained = |payload: &str| {
            wait_until("it is retained under its name here", PATIENCE, || {
                let mut late = subscriber(broker.port(), "late", &["#"]);
                let Read::Packet(Packet::Publish(message)) = late.read_packet(QUIET) else { return false };
                assert_eq!(message.topic, "site/s/1");
                message.retain && message.payload == payload.as_bytes()
            });
        };
        retained("x");
        proxy.cut();
        wait_state(&broker, "1");
        retained("x");
        let mut here = subscriber(broker.port(), "here", &["#"]);
        here.expect_payload("x");
        there.publish("s/1", "live", 1);
        let message = here.recv_where("the live one", |packet| match packet {
            Packet::Publish(message) if message.payload == b"live" => Some(message.clone()),
            _ => None,
        });
        assert_eq!(message.topic, "site/s/1");
    }
}

#[test]
fn f48_the_retain_flag_is_not_lost_on_the_way() {
    for version in ["3.1.1", "5"] {
        let mosquitto = Mosquitto::start();
        let rules = r#"["test out 1", "tset in 1"]"#;
        let broker = bridged(&hub(mosquitto.port(), rules, &format!("version = \"{version}\"\n")));
        wait_state(&broker, "1");
        let ways = [("test", broker.v5("out"), mosquitto.port()), ("tset", mosquitto.client(V5, "in"), broker.port())];
        for (topic, mut client, other) in ways {
            let mut live = subscriber(other, "live", &[topic]);
            for (payload, kept) in [("m1", true), ("", false), ("m2", true)] {
                client.retain(topic, payload, 1);
                assert_eq!(live.expect_publish().payload, payload.as_bytes());
                let mut late = subscriber(other, "late", &[topic]);
                if kept {
                    assert!(late.expect_payload(payload).retain);
                } else {
                    late.expect_nothing();
                }
            }
        }
    }
}

#[test]
fn f49_a_queue_that_was_full_sends_again() {
    let limits =
        [("queue_messages = 100\n", "drop_oldest", 50..150), ("queue_messages = 100\n", "drop_newest", 0..100)];
    for (limit, policy, kept) in limits {
        let remote = Broker::start();
        let proxy = Proxy::to(remote.port());
        proxy.down();
        let lines = format!("{limit}queue_overflow = \"{policy}\"\n");
        let mut broker = bridged(&hub(proxy.port(), r##"["t/# out 1"]"##, &lines));
        let mut client = broker.v5("client");
        for number in 0..150 {
            client.publish("t/x", number.to_string(), 1);
        }
        broker.wait_log(&["queue full", "$bridge/hub"]);
        let mut there = subscriber(remote.port(), "there", &["t/#"]);
        proxy.up();
        let wanted: Vec<String> = kept.map(|number| number.to_string()).collect();
        assert_eq!(payloads(&mut there, wanted.len()), wanted);
        wait_until("the queue is empty", PATIENCE, || queued(&broker) == 0);
        for number in 150..160 {
            client.publish("t/x", number.to_string(), 1);
        }
        assert_eq!(payloads(&mut there, 10), (150..160).map(|number| number.to_string()).collect::<Vec<_>>());
        // What is not acknowledged by then comes again.
        wait_until("the last is acknowledged", PATIENCE, || queued(&broker) == 0);
        broker.restart();
        wait_state(&broker, "1");
        publish(broker.port(), "t/x", "after a restart", 1);
        there.expect_payload("after a restart");
    }
    // By bytes: whatever is kept, it is the newest, in order, and then it goes on.
    let remote = Broker::start();
    let proxy = Proxy::to(remote.port());
    proxy.down();
    let broker = bridged(&hub(proxy.port(), r##"["t/# out 1"]"##, "queue_bytes = 10000\n"));
    let mut client = broker.v5("client");
    for number in 0..150 {
        client.publish("t/x", format!("{number:0200}"), 1);
    }
    let mut there = subscriber(remote.port(), "there", &["t/#"]);
    proxy.up();
    let first: usize = payloads(&mut there, 1)[0].parse().unwrap();
    assert!((100..149).contains(&first), "{first}");
    for number in first + 1..150 {
        there.expect_payload(format!("{number:0200}"));
    }
    wait_until("the queue is empty", PATIENCE, || queued(&broker) == 0);
    client.publish("t/x", "new", 1);
    there.expect_payload("new");
}

#[test]
fn f50_the_state_topics_say_how_it_is() {
    let mut mosquitto = Mosquitto::with("persistence true\npersistence_location {folder}/\n");
    let proxy = Proxy::to(mosquitto.port());
    let lines = "client_id = \"ours\"\nkeep_alive = \"1s\"\n";
    let mut broker = bridged(&hub(proxy.port(), r##"["t/# both 1"]"##, lines));
    let here = |broker: &Broker, state: &str| wait_state(broker, state);
    let there = |mosquitto: &Mosquitto, state: &str| {
        wait_until(&format!("the remote says {state}"), PATIENCE, || {
            let mut late = subscriber(mosquitto.port(), "late", &["$SYS/broker/connection/ours/state"]);
            matches!(late.read_packet(QUIET), Read::Packet(Packet::Publish(m)) if m.retain && m.payload == state.as_bytes())
        });
    };
    let up = |broker: &Broker, mosquitto: &Mosquitto| {
        here(broker, "1");
        there(mosquitto, "1");
        // And it stays so: no will of an earlier connection follows.
        let mut watch = subscriber(mosquitto.port(), "watch", &["$SYS/broker/connection/ours/state"]);
        watch.expect_payload("1");
        watch.expect_nothing_for(ms(600));
    };
    up(&broker, &mosquitto);
    // A stop of ours, and a crash of ours.
    broker.stop();
    there(&mosquitto, "0");
    broker.again();
    up(&broker, &mosquitto);
    broker.kill();
    there(&mosquitto, "0");
    broker.again();
    up(&broker, &mosquitto);
    // The remote's.
    mosquitto.kill();
    here(&broker, "0");
    mosquitto.launch();
    up(&broker, &mosquitto);
    // The link is cut for more than two keep alives, without a word to either side.
    proxy.stall();
    here(&broker, "0");
    there(&mosquitto, "0");
    proxy.cut();
    proxy.up();
    up(&broker, &mosquitto);
}

#[test]
fn f68_an_address_that_cannot_be_one_is_told_before_anything_starts() {
    let broker = Broker::prepare(&[]);
    for address in ["mqtt://host:0", "://", "host", "mqtt://a b", "http://host"] {
        broker.configure(&config(&format!("[bridges.hub]\naddress = \"{address}\"\ntopics = [\"#\"]\n")));
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_nightjar"));
        let output = check.args(["check-config", "--config"]).arg(broker.config_path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("bridges.hub.address: expected an address") && told.contains(":4: "), "{told}");
    }
    // One that may be one, and is not there, costs nothing but its own bridge.
    let broker = bridged(
        "[bridges.hub]\naddress = \"mqtt://no-such-host.invalid:1\"\ntopics = [\"#\"]\nretry_base = \"100ms\"\n",
    );
    broker.wait_log(&["the remote is not there", "no-such-host.invalid"]);
    let mut client = broker.v5("client");
    client.subscribe("a", 1);
    client.publish_as(Publish::new("a", "x").qos(1).prop(prop::content_type("t")));
    client.expect_payload("x");
}
