//! A node that cannot reach the others acknowledges nothing, and has everything when it can again.

use crate::links::Way;
use crate::load::{Load, finish};
use crate::support::wire::PUBACK;
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, ms, secs, wait_until};
use crate::{Cluster, PATIENCE, Pen, payloads, subscriber};

/// Waits until the node knows that it is out of touch.
#[track_caller]
fn wait_out_of_touch(cluster: &Cluster, node: usize) {
    wait_until("it knows that it is cut off", PATIENCE, || {
        let log = cluster[node].log();
        log.lines().rev().find(|line| line.contains("touch with the cluster")).is_some_and(|l| l.contains("out of"))
    });
}

/// Whether the node refuses this client, and with which code.
fn refusal(cluster: &Cluster, node: usize, connect: &Connect) -> u8 {
    let (mut client, code) = connect.open_any(&cluster[node]);
    client.expect_closed();
    code
}

fn cut_off(way: Way) {
    let cluster = Cluster::linked(3);
    let kept = Connect::v5("kept").persistent();
    let mut reader = subscriber(&cluster, 0, &kept, "m/#");
    let (mut five, mut four) = (cluster[2].v5("five"), cluster[2].v311("four"));
    let (mut listens, mut four_listens) = (cluster[2].v5("listens"), cluster[2].v311("four listens"));
    assert_eq!(listens.subscribe("own", 0), 0);
    assert_eq!(five.publish("m/x", "before", 1), 0);
    reader.expect_payload("before");
    cluster.links().set_around(2, way);
    wait_out_of_touch(&cluster, 2);
    // It says so, and serves what needs no promise.
    let code = five.publish("m/x", "refused", 1);
    assert_eq!(code, 0x83);
    let code = five.publish("m/x", "refused", 2);
    assert_eq!(code, 0x83);
    four.send_publish(Publish::new("m/x", "refused").qos(1));
    assert_eq!(four.expect_closed(), [], "3.1.1 has no word for it");
    assert!(listens.subscribe("other", 1) >= 0x80);
    assert_eq!(four_listens.subscribe("other", 1), 0x80);
    five.publish("own", "among our own", 0);
    listens.expect_payload("among our own");
    assert_eq!(refusal(&cluster, 2, &Connect::v5("newcomer")), 0x88);
    assert_eq!(refusal(&cluster, 2, &Connect::v311("newcomer")), 3);
    assert_eq!(refusal(&cluster, 2, &Connect::v5("newcomer").persistent()), 0x88);
    // The others go on.
    let mut wanted = Vec::new();
    for node in [0, 1] {
        let mut pen = Pen::at(cluster.port(node), &format!("pen {node}"));
        for number in 0..10 {
            wanted.push(format!("{number} at {node}"));
            pen.publish("m/x", wanted.last().unwrap(), 1 + number % 2);
        }
        let mut fresh = Connect::v5("fresh").open(&cluster[node]);
        assert_eq!(fresh.subscribe("new", 1), 1);
        fresh.disconnect();
    }
    assert_eq!(payloads(&mut reader, wanted.len()), wanted);
    reader.disconnect();
    Pen::at(cluster.port(1), "pen 1").publish("m/x", "for later", 2);
    cluster.links().heal();
    let mut reader = cluster.come_in(2, &kept);
    assert!(reader.session_present);
    reader.expect_payload("for later");
    let mut back = cluster.come_in(2, &Connect::v311("four"));
    back.publish("m/x", "again", 1);
    reader.expect_payload("again");
    reader.expect_nothing();
}

#[test]
fn a_node_that_is_cut_off_says_so_and_comes_back() {
    cut_off(Way::Closed);
}

#[test]
fn a_node_whose_links_fall_silent_says_so_and_comes_back() {
    cut_off(Way::Silent);
}

#[test]
fn what_waits_when_the_links_fall_silent_is_never_acknowledged_in_vain() {
    let cluster = Cluster::linked(3);
    let kept = Connect::v5("kept").persistent();
    let mut reader = subscriber(&cluster, 0, &kept, "m");
    let mut clients: Vec<(u16, Client)> = (0..4).map(|n| (n, cluster[2].v5(&format!("publishes {n}")))).collect();
    cluster.links().set_around(2, Way::Silent);
    let mut acknowledged = Vec::new();
    for (number, client) in &mut clients {
        client.send_publish(Publish::new("m", number.to_string()).qos(1).id(1));
    }
    for (number, client) in &mut clients {
        // Either it is refused, or the connection ends; whatever is acknowledged must be there.
        match client.read_packet(PATIENCE) {
            Read::Packet(Packet::Ack { kind: PUBACK, code, .. }) if code < 0x80 => {
                acknowledged.push(number.to_string())
            }
            Read::Packet(Packet::Ack { kind: PUBACK, .. } | Packet::Disconnect { .. }) | Read::Closed => {}
            other => panic!("{other:?}"),
        }
    }
    cluster.links().heal();
    cluster.come_in(2, &Connect::v5("probe")).disconnect();
    Pen::at(cluster.port(2), "pen").publish("m", "mark", 1);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "mark") {
        seen.push(reader.expect_publish().text());
    }
    println!("acknowledged {acknowledged:?}, seen {seen:?}");
    assert!(acknowledged.iter().all(|text| seen.contains(text)));
}

#[test]
fn a_node_without_the_others_stops_when_it_is_told_though_it_runs_a_bridge() {
    let remote = Broker::start();
    let mut cluster = Cluster::prepare(3);
    for node in 0..3 {
        let path = cluster[node].config_path();
        let config = std::fs::read_to_string(&path).unwrap();
        let bridge = format!("[bridges.hub]\naddress = \"mqtt://127.0.0.1:{}\"\ntopics = [\"t out\"]\n", remote.port());
        std::fs::write(&path, config + &bridge).unwrap();
    }
    cluster.launch_all();
    cluster.wait_all();
    let runs = |node: &usize| cluster[*node].log().contains("connected bridge=\"hub\"");
    wait_until("one runs the bridge", PATIENCE, || (0..3).any(|node| runs(&node)));
    let node = (0..3).find(runs).unwrap();
    cluster.others(node).into_iter().for_each(|other| cluster.kill(other));
    wait_out_of_touch(&cluster, node);
    // What the bridge would tell here last is never acknowledged.
    cluster.terminate(node);
}

#[test]
fn a_one_way_link_does_not_stop_the_cluster() {
    let cluster = Cluster::linked(3);
    let kept = Connect::v5("kept").persistent();
    let mut reader = subscriber(&cluster, 0, &kept, "m");
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        cluster.links().set(from, to, Way::Silent);
        // Two of the three pairs are whole: somebody leads who reaches all, so even who does not hear everybody publishes.
        for node in 0..3 {
            let time = Pen::at(cluster.port(node), "pen").publish("m", &format!("{from} {to} at {node}"), 1);
            println!("no way from {from} to {to}: {time:?} at {node}");
        }
        cluster.links().heal();
        for node in 0..3 {
            cluster.come_in(node, &Connect::v5("probe")).disconnect();
        }
        for node in 0..3 {
            reader.expect_payload(format!("{from} {to} at {node}"));
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_when_nodes_are_cut_off_under_load() {
    let cluster = Cluster::linked(3);
    let load = Load::start(&cluster.ports(), 9);
    for (round, way) in [Way::Closed, Way::Silent, Way::Closed].into_iter().enumerate() {
        load.wait_more();
        cluster.links().set_around(round, way);
        wait_out_of_touch(&cluster, round);
        load.wait_more();
        cluster.links().heal();
        cluster.come_in(round, &Connect::v5("probe")).disconnect();
    }
    load.wait_more();
    finish(load, &cluster.ports());
}

#[test]
fn nothing_is_lost_or_doubled_when_a_node_is_paused_under_load() {
    let cluster = Cluster::start(3);
    let load = Load::start(&cluster.ports(), 10);
    for node in 0..2 {
        load.wait_more();
        cluster.pause(node);
        // As long as the others take to give it up, and then some.
        std::thread::sleep(secs(5));
        load.wait_more();
        cluster.resume(node);
        cluster.come_in(node, &Connect::v5("probe")).disconnect();
    }
    std::thread::sleep(ms(500));
    finish(load, &cluster.ports());
}
