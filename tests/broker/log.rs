//! What the log says, and what it never says.

use crate::support::{Broker, Connect, Publish, VERSIONS};

#[test]
fn one_line_tells_of_each_connect_and_each_disconnect() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("sensor-{version}");
        Connect::of(version, &id).open(&broker).disconnect();
        broker.wait_log(&[&id, "127.0.0.1", "onnect"]);
        broker.wait_log(&[&id, "isconnect"]);
        let id = format!("cut-{version}");
        Connect::of(version, &id).open(&broker).rst();
        broker.wait_log(&[&id, "isconnect"]);
        let id = format!("bad-{version}");
        let mut bad = Connect::of(version, &id).open(&broker);
        bad.send_hex("3003000501");
        bad.expect_closed();
        broker.wait_log(&[&id, "isconnect"]);
        let lines = broker.log().lines().filter(|l| l.contains(&format!("sensor-{version}"))).count();
        assert_eq!(lines, 2, "one line each");
    }
}

#[test]
fn hostile_client_ids_are_escaped() {
    let broker = Broker::start();
    for id in ["evil\u{1b}[31m\u{7}id", "two\nlines ERROR forged", "quo\"te\\", "\u{9b}31mcsi", "right\u{202e}left"] {
        for version in VERSIONS {
            // A control character may also be a reason to refuse the id.
            if let Some(c) = Connect::of(version, id).try_open(broker.port(), crate::support::secs(5)) {
                c.disconnect();
            }
        }
    }
    broker.v311("last-one").disconnect();
    broker.wait_log(&["last-one"]);
    let log = broker.log();
    for bad in ["\u{1b}[31m\u{7}", "\u{7}", "\u{9b}", "\u{202e}"] {
        assert!(!log.contains(bad), "raw {bad:?} in the log");
    }
    assert!(!log.lines().any(|l| l.starts_with("lines ERROR forged")), "a forged line");
}

#[test]
fn never_a_payload_a_password_or_a_line_per_message_at_info() {
    let broker = Broker::start();
    let mut p = Connect::v311("talker").user("someone", Some(b"hunter2-password")).open(&broker);
    let mut s = broker.v5("s");
    s.subscribe("t", 2);
    let before = broker.log().lines().count();
    for n in 0..50 {
        p.publish("t", format!("secret-payload-{n}"), n % 3);
        s.expect_publish();
    }
    s.send_publish(Publish::new("t", "secret-payload-bad").qos(1).id(3));
    s.send_hex("3003000501");
    s.expect_closed();
    p.disconnect();
    broker.wait_log(&["talker", "isconnect"]);
    let log = broker.log();
    assert!(!log.contains("secret-payload"), "a payload in the log");
    assert!(!log.contains("hunter2"), "a password in the log");
    let lines = log.lines().count() - before;
    assert!(lines < 10, "{lines} lines for 50 messages");
}

#[test]
fn json_lines_are_json() {
    let broker = Broker::with(&["log.format=json"]);
    broker.v311("quo\"te\nline").disconnect();
    broker.v311("last-one").disconnect();
    broker.wait_log(&["last-one", "isconnect"]);
    for line in broker.log().lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert_eq!(line.matches('"').count() % 2, line.matches("\\\"").count() % 2, "{line}");
    }
}
