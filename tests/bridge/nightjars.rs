//! Two Nightjars, and what an operator does to a bridge while it runs.

use super::support::{Broker, QUIET, wait_until};
use super::{PATIENCE, bridged, config, hub, payloads, publish, subscriber, wait_state};

#[test]
fn every_version_carries_both_ways_once() {
    for version in ["auto", "5", "3.1.1", "3.1"] {
        let remote = Broker::start();
        let client_id = if version == "3.1" { "client_id = \"short\"\n" } else { "" };
        let lines = format!("version = \"{version}\"\n{client_id}");
        let broker = bridged(&hub(remote.port(), r##"["# both 2"]"##, &lines));
        wait_state(&broker, "1");
        let mut here = subscriber(broker.port(), "here", &["t/#"]);
        let mut there = subscriber(remote.port(), "there", &["t/#"]);
        for (port, name) in [(broker.port(), "here"), (remote.port(), "there")] {
            for qos in 0..=2 {
                publish(port, "t/x", &format!("{name} {qos}"), qos);
                here.expect_payload(format!("{name} {qos}"));
                there.expect_payload(format!("{name} {qos}"));
            }
        }
        here.expect_nothing();
        there.expect_nothing();
    }
}

#[test]
fn rules_can_be_changed_while_messages_wait_and_clients_are_connected() {
    let remote = Broker::start();
    let broker = bridged(&hub(remote.port(), r##"["a/# out 1", "b/# in 1"]"##, ""));
    wait_state(&broker, "1");
    let mut here = subscriber(broker.port(), "here", &["#"]);
    let mut there = subscriber(remote.port(), "there", &["#"]);
    publish(broker.port(), "a/1", "one", 1);
    there.expect_payload("one");
    broker.configure(&config(&hub(remote.port(), r##"["c/# out 1", "d/# in 1"]"##, "")));
    assert!(broker.reload().contains("bridges.hub.topics"));
    wait_state(&broker, "1");
    publish(broker.port(), "a/2", "not any more", 1);
    publish(broker.port(), "c/2", "two", 1);
    there.expect_payload("two");
    publish(remote.port(), "b/3", "not any more", 1);
    publish(remote.port(), "d/3", "three", 1);
    let seen = payloads(&mut here, 4);
    assert_eq!(seen, ["one", "not any more", "two", "three"]);
    here.ping();
}

#[test]
fn a_direction_that_is_changed_over_a_restart_is_taken_back_at_the_remote() {
    for version in ["5", "3.1.1"] {
        let remote = Broker::start();
        let with = |direction: &str| {
            let rules = format!(r##"["a/# {direction} 1", "b/# in 1"]"##);
            config(&hub(remote.port(), &rules, &format!("version = \"{version}\"\n")))
        };
        let mut broker = Broker::configured(&with("both"), &[]);
        wait_state(&broker, "1");
        broker.terminate();
        broker.configure(&with("out"));
        broker.again();
        wait_state(&broker, "1");
        let mut here = subscriber(broker.port(), "here", &["#"]);
        publish(remote.port(), "a/1", "not any more", 1);
        broker.wait_log(&["the remote sends what no rule brings in any more", "a/#"]);
        // The remote finds nobody for it any more, and this direction is as it was.
        wait_until("it was taken back", PATIENCE, || {
            let mut client = remote.v5("asks");
            let code = client.publish("a/2", "nobody's", 1);
            client.disconnect();
            code == 0x10
        });
        publish(remote.port(), "b/1", "taken", 1);
        here.expect_payload("taken");
        here.expect_nothing();
    }
}

#[test]
fn a_paused_bridge_keeps_and_a_draining_one_sends_and_takes_no_more() {
    let remote = Broker::start();
    let with = |mode: &str| hub(remote.port(), r##"["a/# both 1"]"##, &format!("mode = \"{mode}\"\n"));
    let broker = bridged(&with("paused"));
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    for number in 0..20 {
        publish(broker.port(), "a/x", &number.to_string(), 1);
    }
    there.expect_nothing();
    broker.configure(&config(&with("draining")));
    broker.reload();
    assert_eq!(payloads(&mut there, 20), (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    let left = |line: &str| line.contains("disconnected client=\"hub.") && line.contains("client disconnected");
    wait_until("it has left the remote", PATIENCE, || remote.log().lines().any(left));
    publish(broker.port(), "a/x", "new here", 1);
    let mut here = subscriber(broker.port(), "here", &["a/#"]);
    publish(remote.port(), "a/x", "new there", 1);
    there.expect_payload("new there");
    here.expect_nothing_for(QUIET);
    there.expect_nothing_for(QUIET);
}

#[test]
fn a_bridge_that_is_removed_leaves_nothing() {
    let remote = Broker::start();
    let broker = bridged(&hub(remote.port(), r##"["a/# both 1"]"##, "client_id = \"theirs\"\n"));
    wait_state(&broker, "1");
    broker.configure(&config(""));
    broker.reload();
    wait_until("its state is gone", PATIENCE, || {
        let mut late = subscriber(broker.port(), "late", &["$SYS/broker/connection/hub/state"]);
        matches!(late.read_packet(QUIET), super::support::Read::Timeout)
    });
    // The remote keeps nothing either: a client of the same identifier finds no session.
    let old = super::support::Connect::v5("theirs").persistent().open(&remote);
    assert!(!old.resumed());
    // And nobody else takes its place here.
    let refused = super::support::Connect::v5("$bridge/hub").open_any(&broker);
    assert_eq!(refused.1, 0x85);
}

#[test]
fn with_clean_local_nothing_waits_for_a_remote_that_was_lost() {
    let mut remote = Broker::start();
    let broker = bridged(&hub(remote.port(), r##"["a/# out 1", "b/# in 1"]"##, "clean_local = true\n"));
    wait_state(&broker, "1");
    remote.kill();
    wait_state(&broker, "0");
    publish(broker.port(), "a/x", "while it is away", 1);
    let mut client = broker.v5("retains");
    client.retain("a/kept", "what is there", 1);
    client.disconnect();
    remote.again();
    wait_state(&broker, "1");
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    publish(broker.port(), "a/x", "back", 1);
    let mut seen = payloads(&mut there, 2);
    seen.sort();
    assert_eq!(seen, ["back", "what is there"]);
    there.expect_nothing();
}

#[test]
fn a_lazy_bridge_comes_when_enough_waits_and_leaves_when_nothing_moves() {
    let remote = Broker::start();
    let lines = "start = \"lazy\"\nlazy_threshold = 5\nidle_timeout = \"1s\"\n";
    let broker = bridged(&hub(remote.port(), r##"["a/# out 1"]"##, lines));
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    for number in 0..4 {
        publish(broker.port(), "a/x", &number.to_string(), 1);
    }
    there.expect_nothing_for(QUIET * 5);
    publish(broker.port(), "a/x", "4", 1);
    assert_eq!(payloads(&mut there, 5), ["0", "1", "2", "3", "4"]);
    wait_state(&broker, "0");
}

#[test]
fn a_bridge_that_connects_once_does_not_come_back() {
    let mut remote = Broker::start();
    let broker = bridged(&hub(remote.port(), r##"["a/# out 1"]"##, "start = \"once\"\n"));
    wait_state(&broker, "1");
    remote.crash();
    wait_state(&broker, "0");
    publish(broker.port(), "a/x", "kept", 1);
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    there.expect_nothing_for(QUIET * 8);
}

#[test]
fn the_next_address_is_tried_and_the_first_is_home() {
    let (mut first, second) = (Broker::start(), Broker::start());
    let table = |lines: &str| {
        format!(
            "[bridges.hub]\naddress = [\"mqtt://127.0.0.1:{}\", \"mqtt://127.0.0.1:{}\"]\ntopics = [\"a/# out 1\"]\n\
             retry_base = \"100ms\"\nretry_cap = \"200ms\"\nhome_interval = \"1s\"\n{lines}",
            first.port(),
            second.port()
        )
    };
    let broker = bridged(&table(""));
    wait_state(&broker, "1");
    wait_until("it is told", PATIENCE, || first.log().contains("client=\"hub."));
    first.kill();
    wait_until("it goes to the second", PATIENCE, || second.log().contains("client=\"hub."));
    publish(broker.port(), "a/x", "to the second", 1);
    first.again();
    wait_until("it goes home", PATIENCE, || first.log().matches("client=\"hub.").count() > 1);
    let mut there = subscriber(first.port(), "there", &["a/#"]);
    publish(broker.port(), "a/x", "to the first", 1);
    there.expect_payload("to the first");
}

#[test]
fn what_the_remote_will_not_have_is_set_aside_and_blocks_nothing() {
    let remote = Broker::with(&["mqtt.max_packet_size=1KiB"]);
    let broker = bridged(&hub(remote.port(), r##"["a/# out 2"]"##, "dead_letter = \"dead/\"\n"));
    wait_state(&broker, "1");
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    let mut dead = subscriber(broker.port(), "dead", &["dead/#"]);
    for qos in 0..=2 {
        publish(broker.port(), "a/large", &"x".repeat(2_000), qos);
        publish(broker.port(), "a/small", &format!("after {qos}"), qos);
        there.expect_payload(format!("after {qos}"));
        let letter = dead.expect_publish();
        assert_eq!((letter.topic.as_str(), letter.payload.len()), ("dead/a/large", 2_000));
    }
    broker.wait_log(&["a message is set aside", "a/large"]);
}

#[test]
fn circles_within_one_bridge_are_refused_before_anything_starts() {
    let broker = Broker::prepare(&[]);
    broker.configure(&config(&hub(1, r##"["# out 1 \"\" a/", "# in 1 b/ \"\""]"##, "")));
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let output = check.args(["check-config", "--config"]).arg(broker.config_path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("bridges.hub.topics") && told.contains("under another name"), "{told}");
}
