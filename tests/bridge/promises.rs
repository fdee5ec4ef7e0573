//! Promises that are easily broken in the corners: each of these was, once.

use super::support::wire::prop;
use super::support::{Broker, Connect, Proxy, Publish, QUIET, ms, wait_until};
use super::{PATIENCE, bridged, hub, publish, queued, subscriber, wait_state};
use std::process::Command;

#[test]
fn an_answer_with_the_properties_of_its_question_comes_home() {
    let remote = Broker::start();
    let broker = bridged(&hub(remote.port(), r##"["# both 1"]"##, ""));
    wait_state(&broker, "1");
    let mut asked = subscriber(remote.port(), "asked", &["ask"]);
    let mut answered = subscriber(broker.port(), "answered", &["answer"]);
    publish(broker.port(), "ask", "question", 1);
    let mut question = asked.expect_payload("question");
    assert!(question.props.iter().any(|found| found.0 == prop::USER), "it has a stamp: {question:?}");
    // Responders and transformers copy what they do not know.
    (question.topic, question.payload, question.id) = ("answer".to_owned(), b"answer".to_vec(), 0);
    asked.publish_as(question);
    answered.expect_payload("answer");
    // And a stamp that a client makes up for itself, or keeps from elsewhere, costs it nothing here.
    let mut client = broker.v5("client");
    let stamped = Publish::new("answer", "forged").qos(1).prop(prop::user("nightjar-stamp", "1/2/3/4"));
    client.publish_as(stamped);
    answered.expect_payload("forged");
}

#[test]
fn what_waited_too_long_is_not_sent_and_the_rest_does_not_expire_by_it() {
    let remote = Broker::start();
    let proxy = Proxy::to(remote.port());
    proxy.down();
    let broker = bridged(&hub(proxy.port(), r##"["a/# out 1"]"##, "queue_age = \"2s\"\n"));
    let mut client = broker.v5("client");
    client.publish("a/x", "stale", 1);
    std::thread::sleep(ms(2_200));
    client.retain("a/x", "fresh", 1);
    client.publish_as(Publish::new("a/x", "its own").qos(1).prop(prop::message_expiry(1_000)));
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    proxy.up();
    let fresh = there.expect_payload("fresh");
    assert_eq!(fresh.number(prop::MESSAGE_EXPIRY), None, "{fresh:?}");
    let own = there.expect_payload("its own");
    assert!((900..=1_000).contains(&own.number(prop::MESSAGE_EXPIRY).unwrap()), "{own:?}");
    for message in [fresh, own] {
        assert!(!format!("{:?}", message.props).contains("nightjar-expires"), "{message:?}");
    }
    there.expect_nothing();
    assert_eq!(queued(&broker), 0);
}

#[test]
fn a_letter_that_cannot_be_delivered_begets_no_letters() {
    let remote = Broker::with(&["mqtt.max_packet_size=1KiB"]);
    let broker = bridged(&hub(remote.port(), r##"["# out 1"]"##, "dead_letter = \"dead/\"\n"));
    wait_state(&broker, "1");
    let mut dead = subscriber(broker.port(), "dead", &["dead/#"]);
    publish(broker.port(), "large", &"x".repeat(2_000), 1);
    assert_eq!(dead.expect_publish().topic, "dead/large");
    dead.expect_nothing_for(QUIET * 3);
    wait_until("nothing is left", PATIENCE, || queued(&broker) == 0);
}

#[test]
fn the_session_of_a_bridge_ends_with_the_bridge_alone() {
    let remote = Broker::start();
    let proxy = Proxy::to(remote.port());
    proxy.down();
    let broker = bridged(&hub(proxy.port(), r##"["a/# out 1"]"##, ""));
    publish(broker.port(), "a/x", "kept", 1);
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let ctl = ctl.args(["ctl", "--data"]).arg(broker.data()).args(["sessions", "delete", "$bridge/hub"]);
    let output = ctl.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    proxy.up();
    there.expect_payload("kept");
}

#[test]
fn a_remote_that_shuts_down_again_and_again_convicts_no_message() {
    // Each time it closes right behind CONNECT and the first message, for reasons of its own (0x8b, 0x97).
    let remote = super::lying::closing(&[0x8b, 0x97]);
    let proxy = Proxy::to(remote);
    let broker = bridged(&hub(proxy.port(), r##"["a/# out 1"]"##, "version = \"5\"\n"));
    publish(broker.port(), "a/x", "kept", 1);
    wait_until("it was tried often", PATIENCE, || proxy.accepted() > 12);
    assert_eq!(queued(&broker), 1);
    assert!(!broker.log().contains("set aside"));
    drop(Connect::v5("unharmed").open(&broker));
}
