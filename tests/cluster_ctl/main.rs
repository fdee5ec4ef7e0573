//! A cluster of real processes in the hands of an operator: `nightjar ctl cluster`, and `store recover`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod nodes;
#[path = "../support/mod.rs"]
mod support;

use nodes::{LONG, Node, node, text, three, three_with};
use support::broker::free_port;
use support::wire::{Packet, Prop};
use support::{Connect, wait_until};

/// The number of the property Server Reference.
const SERVER_REFERENCE: u8 = 0x1c;

fn reference(props: &[Prop]) -> String {
    let found = props.iter().find(|prop| prop.0 == SERVER_REFERENCE);
    found.map(|prop| format!("{:?}", prop.1)).unwrap_or_default()
}

/// Drained, its clients are sent elsewhere, it is not ready, and comes back or leaves for good.
#[test]
fn a_node_is_drained_comes_back_and_leaves() {
    let [one, two, mut three] = three();
    let seen = one.status();
    assert_eq!((seen["replicas"].as_u64(), seen["state"].as_str()), (Some(3), Some("active")), "{seen}");
    assert_eq!(node(&seen, "n2")["clients"], format!("127.0.0.1:{}", two.mqtt));
    let people = one.ctl(&["status"]);
    assert!(people.contains("STAGE") && people.contains("n3") && people.contains("control_leader"), "{people}");
    wait_until("its listeners are open", LONG, || one.run(&["health"]).status.success());

    let mut kept = three.client(&Connect::v5("kept").clean(false).expiry(300));
    kept.subscribe("a/#", 1);
    let mut old = three.client(&Connect::v311("old"));
    old.subscribe("b", 0);
    one.ctl_fails(&["leave", "n3"], 1);
    one.ctl(&["drain", "n3"]);
    let disconnect = kept.expect_closed_within(LONG).pop();
    let Some(Packet::Disconnect { code: 0x9c, props }) = disconnect else { panic!("{disconnect:?}") };
    let reference = reference(&props);
    assert!([&one, &two].iter().any(|node| reference.contains(&node.mqtt.to_string())), "{reference}");
    assert!(old.expect_closed_within(LONG).is_empty());
    let mut refused = Connect::v5("late").send_to_port(three.mqtt);
    assert!(matches!(refused.recv(), Packet::Connack { code: 0x9c, .. }));
    let mut refused = Connect::v311("late").send_to_port(three.mqtt);
    assert!(matches!(refused.recv(), Packet::Connack { code: 3, .. }));
    let unready = text(&three.run(&["health"]));
    assert!(unready.contains("being drained"), "{unready}");
    one.ctl(&["drain", "n3", "--wait"]);
    let drained = one.status();
    let of = node(&drained, "n3");
    assert_eq!((&of["leads"], &of["votes"], &of["stage"]), (&0.into(), &0.into(), &"draining".into()), "{drained}");

    // What was published meanwhile is there at whichever node its client comes in.
    one.client(&Connect::v5("publisher")).publish("a/1", "meanwhile", 1);
    let mut kept = two.client(&Connect::v5("kept").clean(false).expiry(300));
    assert!(kept.resumed());
    kept.expect_payload("meanwhile");

    two.ctl(&["resume", &three.address()]);
    one.wait_formed(3);
    wait_until("it is ready again", LONG, || three.run(&["health"]).status.success());
    three.client(&Connect::v5("again")).publish("a/2", "again", 1);
    kept.expect_payload("again");

    three.ctl(&["drain", "n3", "--wait"]);
    one.ctl(&["leave", "n3"]);
    one.wait_formed(2);
    wait_until("the node that has left ends", LONG, || three.has_ended());
    let id = node(&drained, "n3")["id"].as_str().unwrap();
    assert!(one.ctl_fails(&["drain", id], 5).contains("has left"));
    assert_eq!(one.ctl_fails(&["drain", "n3"], 5).lines().count(), 1);
}

/// A fresh folder at the address of a node that is down takes its place when an operator says so, and not before.
#[test]
fn a_lost_disk_is_replaced() {
    let [mut one, two, mut three] = three();
    let mut kept = two.client(&Connect::v5("kept").clean(false).expiry(300));
    kept.subscribe("a/#", 1);
    one.ctl_fails(&["replace", "n3"], 1);
    let before = node(&one.status(), "n3")["id"].clone();
    three.lose_disk();
    one.wait_status("n3 down", |seen| node(seen, "n3")["up"] == false);
    three.launch();
    let waits = three.wait_status("why it is not let in", |seen| {
        seen["waiting_for"].as_str().is_some_and(|why| why.contains("ctl cluster replace"))
    });
    assert_eq!(waits["state"], "waiting");
    two.ctl(&["replace", "n3"]);
    let formed = one.wait_formed(3);
    assert_ne!(node(&formed, "n3")["id"], before, "{formed}");
    // On all of them: what only the leader has in its log is not agreed on yet.
    for sees in [&one, &two, &three] {
        sees.wait_status("that it votes", |seen| {
            node(seen, "n3")["votes"] == seen["shards"] && node(seen, "n3")["control"] != "follower"
        });
    }

    // What it has now is as good as what it had: the majority of the others is not needed any more.
    one.client(&Connect::v5("publisher")).publish("a/1", "kept", 1);
    kept.expect_payload("kept");
    one.kill();
    three.wait_formed(2);
    three.client(&Connect::v5("publisher")).publish("a/2", "by two", 1);
    kept.expect_payload("by two");
}

/// Nodes that know nobody wait to be told: one forms a cluster, with what it has, and another joins it.
#[test]
fn a_cluster_grows_by_commands() {
    let mut first = Node::new("first", free_port(), &[]);
    let mut second = Node::new("second", free_port(), &[]);
    first.launch();
    second.launch();
    for node in [&first, &second] {
        let waits = node.wait_status("that it waits", |seen| seen["state"] == "waiting");
        assert!(waits["waiting_for"].as_str().unwrap().contains("to be told"), "{waits}");
        assert!(!node.run(&["health"]).status.success());
    }
    first.ctl_fails(&["drain", "first"], 1);
    first.ctl_fails(&["join", "nowhere"], 1);
    first.ctl(&["form"]);
    first.wait_formed(1);
    first.ctl_fails(&["form"], 1);
    first.ctl_fails(&["drain", "first"], 1);
    let mut kept = first.client(&Connect::v5("kept").clean(false).expiry(300));
    kept.subscribe("a", 1);
    second.ctl(&["join", &first.address()]);
    let seen = second.wait_formed(2);
    assert_eq!(seen["cluster"], first.status()["cluster"]);
    second.client(&Connect::v5("publisher")).publish("a", "over there", 1);
    kept.expect_payload("over there");
    second.ctl_fails(&["join", &first.address()], 1);
}

/// One node of three is all that is left: it goes on with what it has, and fresh ones join it.
#[test]
fn one_that_is_left_is_a_cluster_again() {
    let [mut one, mut two, mut three] = three();
    let mut kept = one.client(&Connect::v5("kept").clean(false).expiry(300));
    kept.subscribe("a/#", 1);
    let mut publisher = one.client(&Connect::v5("publisher"));
    kept.disconnect();
    assert_eq!(publisher.publish("a/1", "waits", 1), 0);
    publisher.retain("r", "stays", 1);
    let before = one.status();
    let locked = one.run(&["store", "recover", "--i-may-lose-acknowledged-messages"]);
    assert_eq!(locked.status.code(), Some(4), "{}", text(&locked));
    [&mut one, &mut two, &mut three].into_iter().for_each(Node::kill);
    let warned = one.run(&["store", "recover"]);
    assert_eq!(warned.status.code(), Some(1));
    assert!(text(&warned).contains("What may be lost"), "{}", text(&warned));
    let done = one.run(&["store", "recover", "--i-may-lose-acknowledged-messages"]);
    assert!(
        done.status.success() && ["\"n2\"", "\"n3\""].iter().all(|name| text(&done).contains(name)),
        "{}",
        text(&done)
    );
    one.launch();
    let after = one.wait_formed(1);
    assert_ne!(after["cluster"], before["cluster"]);
    let mut kept = one.client(&Connect::v5("kept").clean(false).expiry(300));
    assert!(kept.resumed());
    kept.expect_payload("waits");
    kept.subscribe("r", 1);
    kept.expect_payload("stays");

    // One of those that were given up is not let in, and changes nothing; with an empty folder it is.
    two.launch();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(two.status()["in_touch"], false);
    assert_eq!(one.status()["nodes"].as_array().map(Vec::len), Some(1));
    two.lose_disk();
    two.launch();
    one.wait_formed(2);
    two.client(&Connect::v5("publisher")).publish("a/2", "together", 1);
    kept.expect_payload("together");
}

/// All nodes get certificates of another authority, one after the other by a reload; who comes later finds them in use.
#[test]
fn new_certificates_are_taken_up_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    Node::make_certificates(folder.path(), &["--node", "localhost"]);
    let [one, two, mut three] = three_with(Some(folder.path()));
    Node::make_certificates(folder.path(), &["--node", "localhost", "--new-authority", "--force"]);
    three.kill();
    for node in [&one, &two] {
        wait_until("it is in touch with the other one", LONG, || node.run(&["health"]).status.success());
        let reload = node.run(&["ctl", "reload"]);
        assert!(reload.status.success(), "{}", text(&reload));
    }
    three.launch();
    three.wait_formed(3);
    // One that waits for the others has nothing open yet, and says so.
    let mut alone = Node::new("alone", free_port(), &[]);
    alone.launch();
    alone.wait_status("that it waits", |seen| seen["state"] == "waiting");
    let early = alone.run(&["ctl", "reload"]);
    assert!(!early.status.success() && text(&early).contains("has not let anybody in yet"), "{}", text(&early));
}

/// One more node gets a certificate of the authority that the others have theirs of.
#[test]
fn one_more_node_gets_a_certificate_of_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    Node::make_certificates(folder.path(), &["--node", "localhost"]);
    let [one, two, three] = three_with(Some(folder.path()));
    let (authority, first) = (read("cluster-ca.pem"), read("localhost.pem"));
    Node::make_certificates(folder.path(), &["--node", "node4"]);
    assert_eq!((read("cluster-ca.pem"), read("localhost.pem")), (authority, first));

    let elsewhere = tempfile::tempdir().unwrap();
    for (from, to) in
        [("cluster-ca.pem", "cluster-ca.pem"), ("node4.pem", "localhost.pem"), ("node4.key", "localhost.key")]
    {
        std::fs::copy(folder.path().join(from), elsewhere.path().join(to)).unwrap();
    }
    let mut four = Node::new("n4", free_port(), &[]);
    four.certificates = Some(elsewhere.path().to_owned());
    four.launch();
    wait_until("it can be told", LONG, || four.run(&["ctl", "cluster", "join", &one.address()]).status.success());
    four.wait_formed(4);
    drop((two, three));
}
