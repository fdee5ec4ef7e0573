//! A real mosquitto as the remote: every direction, QoS, prefix, retain mode and transport.

use super::support::wire::prop;
use super::support::{Broker, Mosquitto, Packet, Publish, V5};
use super::{bridged, config, hub, payloads, publish, subscriber, wait_state};
use std::process::Command;

const BOTH: [&str; 2] = ["5", "3.1.1"];

fn version(of: &str) -> String {
    format!("version = \"{of}\"")
}

/// Messages of every QoS both ways, under their names on the other side.
#[track_caller]
fn carries_both_ways(broker: &Broker, mosquitto: u16) {
    wait_state(broker, "1");
    let mut there = subscriber(mosquitto, "there", &["away/#"]);
    let mut here = subscriber(broker.port(), "here", &["home/#"]);
    for qos in 0..=2 {
        publish(broker.port(), "home/out/x", &format!("out {qos}"), qos);
        let message = there.expect_publish();
        assert_eq!((message.topic.as_str(), message.qos), ("away/out/x", qos));
        assert_eq!(message.payload, format!("out {qos}").as_bytes());
        here.expect_payload(format!("out {qos}"));
        publish(mosquitto, "away/in/x", &format!("in {qos}"), qos);
        let message = here.expect_publish();
        assert_eq!((message.topic.as_str(), message.qos), ("home/in/x", qos));
        assert_eq!(message.payload, format!("in {qos}").as_bytes());
        there.expect_payload(format!("in {qos}"));
    }
    here.expect_nothing();
    there.expect_nothing();
}

const RULES: &str = r##"["out/# out 2 home/ away/", "in/# in 2 home/ away/"]"##;

#[test]
fn mosquitto_over_tcp() {
    for of in BOTH {
        let mosquitto = Mosquitto::start();
        let broker = bridged(&hub(mosquitto.port(), RULES, &version(of)));
        carries_both_ways(&broker, mosquitto.port());
    }
}

#[test]
fn mosquitto_over_tls_with_a_client_certificate() {
    for of in BOTH {
        let (mosquitto, plain) = encrypted("require_certificate true\nuse_identity_as_username true\n", "");
        let dir = mosquitto.folder().join("tls");
        let table = format!(
            "[bridges.hub]\naddress = \"mqtts://localhost:{}\"\ntopics = {RULES}\nca = \"{1}/ca.crt\"\n\
             certificate = \"{1}/client.crt\"\nkey = \"{1}/client.key\"\n{2}\n",
            mosquitto.port(),
            dir.display(),
            version(of)
        );
        carries_both_ways(&bridged(&table), plain);
    }
}

#[test]
fn mosquitto_over_websocket_and_secure_websocket() {
    for (scheme, lines) in [("ws", ""), ("wss", "tls")] {
        let (mosquitto, plain) = match lines {
            "" => {
                let mut mosquitto = Mosquitto::prepare();
                let plain = super::support::broker::free_port();
                mosquitto.configure(&format!(
                    "allow_anonymous true\nlistener {} 127.0.0.1\nprotocol websockets\nlistener {plain} 127.0.0.1\n",
                    mosquitto.port()
                ));
                mosquitto.launch();
                (mosquitto, plain)
            }
            _ => encrypted("", "protocol websockets\n"),
        };
        let ca = match lines {
            "" => String::new(),
            _ => format!("ca = \"{}/tls/ca.crt\"\n", mosquitto.folder().display()),
        };
        let table = format!(
            "[bridges.hub]\naddress = \"{scheme}://localhost:{}/mqtt\"\ntopics = {RULES}\n{ca}",
            mosquitto.port()
        );
        carries_both_ways(&bridged(&table), plain);
    }
}

/// A mosquitto with TLS, and the port of a listener without.
fn encrypted(lines: &str, protocol: &str) -> (Mosquitto, u16) {
    let mut mosquitto = Mosquitto::prepare();
    let dir = mosquitto.folder().join("tls");
    let made = Command::new(env!("CARGO_BIN_EXE_nightjar")).args(["cert", "dev"]).arg(&dir).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let plain = super::support::broker::free_port();
    mosquitto.configure(&format!(
        "allow_anonymous true\nlistener {} 127.0.0.1\n{protocol}cafile {{folder}}/tls/ca.crt\n\
         certfile {{folder}}/tls/server.crt\nkeyfile {{folder}}/tls/server.key\n{lines}\n\
         listener {plain} 127.0.0.1\n",
        mosquitto.port()
    ));
    mosquitto.launch();
    (mosquitto, plain)
}

#[test]
fn a_remote_that_cannot_prove_who_it_is_gets_nothing() {
    let (mosquitto, plain) = encrypted("", "");
    let table = |lines: &str| {
        format!(
            "[bridges.hub]\naddress = \"mqtts://localhost:{}\"\ntopics = {RULES}\nretry_base = \"100ms\"\n{lines}",
            mosquitto.port()
        )
    };
    let broker = bridged(&table("ca = \"/etc/ssl/certs/ca-certificates.crt\"\n"));
    broker.wait_log(&["the remote is not there", "TLS: invalid peer certificate"]);
    broker.configure(&config(&table("insecure = true\n")));
    broker.reload();
    carries_both_ways(&broker, plain);
}

#[test]
fn user_name_and_password_from_a_file_that_is_renewed() {
    let mut mosquitto = Mosquitto::prepare();
    let users = mosquitto.folder().join("users");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(users).args(["bridge", "second"]).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
    let plain = super::support::broker::free_port();
    mosquitto.configure(&format!(
        "per_listener_settings true\nlistener {} 127.0.0.1\npassword_file {{folder}}/users\nallow_anonymous false\n\
         listener {plain} 127.0.0.1\nallow_anonymous true\n",
        mosquitto.port()
    ));
    let broker = Broker::configured(
        &config(&hub(mosquitto.port(), RULES, "username = \"bridge\"\npassword_file = \"{folder}/token\"\n")),
        &[("token", "first\n")],
    );
    mosquitto.launch_refusing();
    broker.wait_log(&["the remote is not there", "refused: "]);
    broker.write("token", "second\n");
    carries_both_ways(&broker, plain);
}

#[test]
fn rules_that_overlap_give_one_copy() {
    let mosquitto = Mosquitto::start();
    let rules =
        r##"["a/# out 1 \"\" first/", "a/b out 2 \"\" second/", "# out 0 \"\" third/", "a/# out 1 \"\" first/"]"##;
    let broker = bridged(&hub(mosquitto.port(), rules, ""));
    wait_state(&broker, "1");
    let mut there = subscriber(mosquitto.port(), "there", &["first/#", "second/#", "third/#"]);
    publish(broker.port(), "a/b", "x", 2);
    let first = there.expect_payload("x");
    // At QoS 0 it may overtake what is of QoS 2.
    publish(broker.port(), "c", "y", 2);
    let second = there.expect_payload("y");
    assert_eq!((first.topic.as_str(), second.topic.as_str()), ("first/a/b", "third/c"));
    there.expect_nothing();
}

#[test]
fn one_topic_is_renamed_by_an_empty_pattern() {
    let mosquitto = Mosquitto::start();
    let broker = bridged(&hub(mosquitto.port(), r#"["\"\" both 1 here/it there/that"]"#, ""));
    wait_state(&broker, "1");
    let mut there = subscriber(mosquitto.port(), "there", &["#"]);
    let mut here = subscriber(broker.port(), "here", &["#"]);
    publish(broker.port(), "here/it", "out", 1);
    assert_eq!(there.expect_payload("out").topic, "there/that");
    here.expect_payload("out");
    publish(mosquitto.port(), "there/that", "in", 1);
    assert_eq!(here.expect_payload("in").topic, "here/it");
}

#[test]
fn retained_messages_are_kept_or_dropped_as_the_rule_says() {
    for of in BOTH {
        let mosquitto = Mosquitto::start();
        let rules = r#"["kept/# both 1", "dropped/# both 1 retain=drop"]"#;
        let broker = bridged(&hub(mosquitto.port(), rules, &version(of)));
        wait_state(&broker, "1");
        let mut probe = subscriber(mosquitto.port(), "probe", &["kept/o", "dropped/o"]);
        let mut client = broker.v5("out");
        client.retain("kept/o", "x", 1);
        client.retain("dropped/o", "x", 1);
        payloads(&mut probe, 2);
        let mut late = subscriber(mosquitto.port(), "late", &["kept/o", "dropped/o"]);
        assert_eq!(late.expect_publish().topic, "kept/o");
        late.expect_nothing();
        let mut probe = subscriber(broker.port(), "probe", &["kept/i", "dropped/i"]);
        let mut client = mosquitto.client(V5, "in");
        client.retain("kept/i", "x", 1);
        client.retain("dropped/i", "x", 1);
        payloads(&mut probe, 2);
        let mut late = subscriber(broker.port(), "late", &["kept/i", "dropped/i"]);
        assert_eq!(late.expect_publish().topic, "kept/i");
        late.expect_nothing();
    }
}

#[test]
fn retained_messages_of_before_the_bridge_go_both_ways_once() {
    let mosquitto = Mosquitto::start();
    mosquitto.client(V5, "in").retain("there", "x", 1);
    let broker = bridged(&hub(mosquitto.port(), r##"["# both 1"]"##, "mode = \"paused\"\n"));
    broker.v5("out").retain("here", "y", 1);
    let mut seen = subscriber(broker.port(), "seen", &["there"]);
    broker.configure(&config(&hub(mosquitto.port(), r##"["# both 1"]"##, "")));
    broker.reload();
    seen.expect_payload("x");
    let mut there = subscriber(mosquitto.port(), "there", &["here"]);
    there.expect_payload("y");
    // Another connection of the same session brings none of it again.
    let lines = "keep_alive = \"59s\"\n";
    broker.configure(&config(&hub(mosquitto.port(), r##"["# both 1"]"##, lines)));
    broker.reload();
    wait_state(&broker, "1");
    seen.expect_nothing();
    there.expect_nothing();
}

#[test]
fn properties_of_mqtt_5_go_both_ways_and_expiry_counts_down() {
    let mut mosquitto = Mosquitto::start();
    let broker = bridged(&hub(mosquitto.port(), r##"["# both 2"]"##, ""));
    wait_state(&broker, "1");
    let message = |topic: &str| {
        Publish::new(topic, "p")
            .qos(1)
            .prop(prop::content_type("text/plain"))
            .prop(prop::correlation(b"7"))
            .prop(prop::response_topic("answer"))
            .prop(prop::user("a", "b"))
            .prop(prop::message_expiry(100))
    };
    let has = |publish: &Publish, expected: &Publish, at_least: u32| {
        for wanted in &expected.props {
            match wanted.0 {
                prop::MESSAGE_EXPIRY => {
                    let left = publish.props.iter().find(|found| found.0 == prop::MESSAGE_EXPIRY).unwrap();
                    let left = format!("{left:?}").chars().filter(char::is_ascii_digit).collect::<String>();
                    let left: u32 = left[1..].parse().unwrap();
                    assert!((at_least..=100).contains(&left), "{left}");
                }
                _ => assert!(publish.props.contains(wanted), "{wanted:?} in {publish:?}"),
            }
        }
    };
    let mut there = subscriber(mosquitto.port(), "there", &["out"]);
    broker.v5("out").publish_as(message("out"));
    has(&there.expect_publish(), &message("out"), 90);
    let mut here = subscriber(broker.port(), "here", &["in"]);
    mosquitto.client(V5, "in").publish_as(message("in"));
    has(&here.expect_publish(), &message("in"), 90);
    // One that expires while the remote is away does not arrive.
    mosquitto.kill();
    wait_state(&broker, "0");
    let mut client = broker.v5("late");
    client.publish_as(Publish::new("out", "stale").qos(1).prop(prop::message_expiry(1)));
    client.publish("out", "fresh", 1);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    mosquitto.launch();
    let mut there = subscriber(mosquitto.port(), "there", &["out"]);
    there.recv_where("the fresh one", |packet| match packet {
        Packet::Publish(publish) if publish.payload == b"stale" => panic!("it had expired"),
        Packet::Publish(publish) => (publish.payload == b"fresh").then_some(()),
        _ => None,
    });
}
