//! How a cluster comes to be, and who belongs to it.

use crate::support::{Connect, PATIENCE, wait_until};
use crate::{Cluster, Pen, expect_in_order, leave_session, subscriber};

fn founded(cluster: &Cluster) -> usize {
    (0..cluster.count()).map(|node| cluster[node].log().matches("founding the cluster").count()).sum()
}

#[test]
fn nodes_form_one_cluster_in_any_order_of_starting_and_find_it_again() {
    let mut cluster = Cluster::prepare(3);
    cluster.launch(2);
    cluster[2].wait_log(&["waiting for the first members", "1 of 3"]);
    cluster.launch(0);
    cluster[0].wait_log(&["waiting for the first members", "2 of 3"]);
    let early = Connect::v5("early").try_open(cluster.port(0), crate::ms(300));
    assert!(early.is_none(), "nobody is served before all first members are there");
    cluster.launch(1);
    cluster.wait_all();
    assert_eq!(founded(&cluster), 1);
    let connect = Connect::v311("theirs").persistent();
    leave_session(&cluster, 0, &connect, "t");
    Pen::at(cluster.port(1), "pen").publish("t", "kept", 1);
    for order in [[0, 1, 2], [1, 2, 0]] {
        cluster.terminate_together(&[2, 0, 1]);
        for node in order {
            cluster.launch(node);
        }
        cluster.wait_all();
        assert_eq!(founded(&cluster), 1, "it was founded once and for all");
    }
    let mut client = connect.open(&cluster[2]);
    assert!(client.session_present);
    client.expect_payload("kept");
}

#[test]
fn nodes_that_are_restarted_one_after_the_other_come_back_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3);
    let connect = Connect::v5("theirs").persistent();
    leave_session(&cluster, 0, &connect, "t");
    let mut pens: Vec<Pen> = (0..3).map(|node| Pen::at(cluster.port(node), &format!("pen {node}"))).collect();
    let mut wanted = Vec::new();
    for node in 0..3 {
        if node == 1 {
            cluster.kill(node)
        } else {
            cluster.terminate(node)
        }
        for other in cluster.others(node) {
            for qos in 1..=2 {
                wanted.push(format!("{other} without {node} at {qos}"));
                pens[other].publish("t", wanted.last().unwrap(), qos);
            }
        }
        cluster.again(node);
        wanted.push(format!("{node} again"));
        pens[node].publish("t", wanted.last().unwrap(), 1);
    }
    let mut client = connect.open(&cluster[1]);
    assert!(client.session_present);
    expect_in_order(&mut client, &wanted);
}

#[test]
fn a_node_of_another_cluster_is_turned_away() {
    let (mut cluster, mut other) = (Cluster::start(3), Cluster::start(1));
    // It stands where one of the three was.
    cluster.terminate(2);
    other.terminate(0);
    let door = cluster.advertised(2);
    other.configure_at(0, door, door, &[door]);
    other.again(0);
    let turned_away = |log: &str| log.contains("it belongs to the cluster");
    wait_until("one of them says so", PATIENCE, || {
        turned_away(&cluster[0].log()) || turned_away(&cluster[1].log()) || turned_away(&other[0].log())
    });
    let mut here = subscriber(&cluster, 0, &Connect::v5("here"), "t");
    let mut there = subscriber(&other, 0, &Connect::v5("there"), "t");
    cluster[1].v5("publishes").publish("t", "ours", 1);
    other[0].v5("publishes").publish("t", "theirs", 1);
    here.expect_payload("ours");
    there.expect_payload("theirs");
    here.expect_nothing();
    there.expect_nothing();
    other.kill(0);
    cluster.again(2);
    cluster[2].v5("publishes").publish("t", "all three again", 1);
    here.expect_payload("all three again");
}
