//! Wills of clients whose node is lost.

use crate::links::Way;
use crate::support::{Client, Connect, Packet, Read, Will, ms, secs, wait_until};
use crate::{Cluster, PATIENCE, drain, subscriber};
use std::collections::BTreeMap;

/// Takes messages until all of these were there; gives how often each came.
fn until(client: &mut Client, wanted: &[&str], seen: &mut BTreeMap<String, usize>) {
    wait_until("the wills", secs(30), || {
        if let Read::Packet(Packet::Publish(message)) = client.read_packet(ms(100)) {
            *seen.entry(message.text()).or_default() += 1;
        }
        wanted.iter().all(|text| seen.contains_key(*text))
    });
}

fn will(text: &str, qos: u8) -> Will {
    Will::new(&format!("wills/{text}"), text).qos(qos)
}

#[test]
fn the_wills_of_a_lost_node_come_once_and_only_of_those_who_did_not_come_back_f53() {
    let mut cluster = Cluster::start(3);
    let kept = Connect::v5("kept").persistent();
    let mut readers =
        [subscriber(&cluster, 1, &Connect::v5("live"), "wills/#"), subscriber(&cluster, 2, &kept, "wills/#")];
    let delayed = |name: &str, delay| Connect::v5(name).expiry(300).will(will(name, 1).delay(delay));
    let clients = [
        Connect::v311("at once").will(will("at once", 1)),
        Connect::v5("twice never").expiry(300).will(will("twice never", 2)),
        Connect::v5("retained").will(will("retained", 1).retain()),
        // Its session ends with its connection, and its will is due then, whatever the delay.
        Connect::v5("with the session").will(will("with the session", 1).delay(600)),
        delayed("later", 3),
    ];
    let mut open: Vec<Client> = clients.iter().map(|connect| connect.open(&cluster[0])).collect();
    delayed("said goodbye", 0).open(&cluster[0]).disconnect();
    cluster[0].wait_log(&["disconnected client=\"said goodbye\""]);
    // What a node was told before is agreed on when it lets the next one in.
    let back = Connect::v5("back").persistent().will(will("back", 1).delay(2));
    open.push(back.open(&cluster[0]));
    cluster.kill(0);
    let again = cluster.come_in(2, &back);
    assert!(again.session_present);
    let wanted = ["at once", "twice never", "retained", "with the session", "later"];
    let mut seen = [BTreeMap::new(), BTreeMap::new()];
    for (reader, seen) in readers.iter_mut().zip(&mut seen) {
        until(reader, &wanted, seen);
    }
    let mut late = Connect::v5("late").open(&cluster[1]);
    late.subscribe("wills/retained", 1);
    let message = late.expect_publish();
    assert_eq!((message.text().as_str(), message.retain), ("retained", true));
    // Nothing of it comes again with the node.
    cluster.again(0);
    for (reader, mut seen) in readers.iter_mut().zip(seen) {
        for (text, count) in drain(reader, ms(500)) {
            *seen.entry(text).or_default() += count;
        }
        let once: BTreeMap<String, usize> = wanted.iter().map(|text| ((*text).to_owned(), 1)).collect();
        assert_eq!(seen, once);
    }
    again.disconnect();
    readers[0].expect_nothing();
}

#[test]
fn a_will_is_withdrawn_by_goodbye_and_by_coming_back_elsewhere() {
    let cluster = Cluster::start(3);
    let mut reader = subscriber(&cluster, 1, &Connect::v5("reads"), "wills/#");
    let of = |name: &str, delay| Connect::v5(name).persistent().will(will(name, 1).delay(delay));
    of("goodbye", 0).open(&cluster[0]).disconnect();
    // Lost, and back at another node within the delay.
    of("back", 2).open(&cluster[0]).fin();
    let back = of("back", 2).open(&cluster[2]);
    assert!(back.session_present);
    // Taken over: the session goes on, and with it the delay.
    let mut old = of("moved", 2).open(&cluster[0]);
    let moved = of("moved", 2).open(&cluster[2]);
    old.expect_disconnect(&[0x8e]);
    // With DISCONNECT 0x04 the will is wanted.
    of("wanted", 0).open(&cluster[0]).disconnect_with(4, &[]);
    assert_eq!(reader.expect_publish().text(), "wanted");
    of("mark", 3).open(&cluster[2]).fin();
    assert_eq!(reader.expect_publish().text(), "mark", "what was due before it did not come");
    back.disconnect();
    moved.disconnect();
    reader.expect_nothing();
}

#[test]
fn a_will_without_delay_fires_when_another_node_takes_the_client_over() {
    let cluster = Cluster::start(3);
    let mut reader = subscriber(&cluster, 1, &Connect::v5("reads"), "wills/#");
    for connect in [Connect::v5("five"), Connect::v311("four").persistent()] {
        let connect = connect.will(will("taken over", 1));
        let mut old = connect.open(&cluster[0]);
        let new = connect.open(&cluster[2]);
        old.expect_disconnect(&[0x8e]);
        reader.expect_payload("taken over");
        new.disconnect();
        reader.expect_nothing();
    }
}

#[test]
fn wills_of_a_node_that_was_only_cut_off_come_at_most_once_f53() {
    let cluster = Cluster::linked(3);
    let kept = Connect::v5("kept").persistent();
    let mut reader = subscriber(&cluster, 1, &kept, "wills/#");
    let cut: Vec<Client> = (0..6)
        .map(|number| {
            let name = format!("cut {number}");
            let connect = Connect::v5(&name).keep_alive(0).will(will(&name, 1 + number % 2));
            let connect = if number < 3 { connect } else { connect.persistent() };
            connect.open(&cluster[0])
        })
        .collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for way in [Way::Silent, Way::Closed] {
        cluster.links().set_around(0, way);
        cluster[0].wait_log(&["out of touch with the cluster"]);
        wait_until("it is given up", PATIENCE, || {
            [1, 2].iter().any(|node| cluster[*node].log().contains("it is taken for down"))
        });
        cluster.links().heal();
        cluster.come_in(0, &Connect::v5("probe")).disconnect();
        for (text, count) in drain(&mut reader, secs(1)) {
            *seen.entry(text).or_default() += count;
        }
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    }
    drop(cut);
}
