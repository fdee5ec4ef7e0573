//! A node is lost: what it had acknowledged is at the others, and the others go on.

use crate::support::{Connect, secs, wait_until};
use crate::{Cluster, PATIENCE, Pen, expect_in_order, is_taken, leave_session, payloads, subscriber};

#[test]
fn what_a_lost_node_has_acknowledged_is_at_all_others_f54() {
    let mut cluster = Cluster::start(3);
    for lost in 0..3 {
        let others = cluster.others(lost);
        let connect = match lost {
            1 => Connect::v311("theirs 1").persistent(),
            _ => Connect::v5(&format!("theirs {lost}")).persistent(),
        };
        let topic = format!("t/{lost}");
        leave_session(&cluster, lost, &connect, &topic);
        let online = Connect::v5(&format!("online {lost}")).persistent();
        let mut online_client = subscriber(&cluster, lost, &online, &topic);
        let mut wanted = Vec::new();
        let mut client = cluster[lost].v5("publishes");
        for number in 0..20 {
            wanted.push(format!("{number} of the lost"));
            assert_eq!(client.publish(&topic, wanted.last().unwrap(), 1 + number % 2), 0);
        }
        assert_eq!(payloads(&mut online_client, wanted.len()), wanted);
        let mut pens: Vec<Pen> = others.iter().map(|at| Pen::at(cluster.port(*at), &format!("pen {at}"))).collect();
        cluster.kill(lost);
        for number in 0..20 {
            let (of, text) = (number % 2, format!("{number} of the others"));
            let time = pens[of].publish(&topic, &text, 1 + number as u8 % 2);
            if number < 2 {
                println!("node {lost} lost: {:?} until {} takes a message", time, others[of]);
                assert!(time < secs(10), "an election takes no longer");
            }
            wanted.push(text);
        }
        let mut client = cluster.come_in(others[0], &connect);
        assert!(client.session_present);
        expect_in_order(&mut client, &wanted);
        client.disconnect();
        // The one that was connected there finds what came since.
        let mut client = cluster.come_in(others[1], &online);
        assert!(client.session_present);
        let seen = crate::drain(&mut client, crate::ms(500));
        assert!(wanted[20..].iter().all(|text| seen.contains_key(text)), "{seen:?}");
        assert!(seen.iter().all(|(text, _)| wanted.contains(text)), "{seen:?}");
        client.disconnect();
        let text = "while it was away";
        pens[0].publish(&topic, text, 1);
        cluster.again(lost);
        let mut client = connect.open(&cluster[lost]);
        assert!(client.session_present);
        client.expect_payload(text);
        client.expect_nothing();
        client.disconnect();
    }
}

#[test]
fn a_client_of_a_lost_node_is_served_elsewhere_and_goes_back_f56() {
    let mut cluster = Cluster::start(3);
    let filter = "as923/gateway/+/command/#";
    let kinds =
        [(Connect::v311("nodered"), 0), (Connect::v311("nodered").persistent(), 1), (Connect::v5("nodered"), 1)];
    for (round, (connect, qos)) in kinds.into_iter().enumerate() {
        let (lost, elsewhere) = (round % 3, (round + 1) % 3);
        let mut client = connect.open(&cluster[lost]);
        assert_eq!(client.subscribe(filter, qos), qos);
        cluster.kill(lost);
        let mut client = cluster.come_in(elsewhere, &connect);
        assert_eq!(client.subscribe(filter, qos), qos);
        let mut pen = Pen::at(cluster.port((round + 2) % 3), &format!("pen {round}"));
        pen.publish("as923/gateway/x/command/y", "elsewhere", 1);
        client.expect_payload("elsewhere");
        client.expect_nothing();
        cluster.again(lost);
        let mut back = connect.open(&cluster[lost]);
        client.expect_disconnect(&[0x8e]);
        assert_eq!(back.subscribe(filter, qos), qos);
        pen.publish("as923/gateway/x/command/y", "back", 1);
        back.expect_payload("back");
        back.expect_nothing();
        back.disconnect();
    }
}

#[test]
fn two_of_three_that_are_restarted_at_once_come_back_f51() {
    let mut cluster = Cluster::start(3);
    let connect = Connect::v5("theirs").persistent();
    leave_session(&cluster, 0, &connect, "t");
    let mut wanted = Vec::new();
    for round in 0..4 {
        let third = round % 3;
        let pair = cluster.others(third);
        if round % 2 == 0 {
            pair.iter().for_each(|node| cluster.kill(*node));
        } else {
            cluster.terminate_together(&pair);
        }
        // Without a majority nothing is acknowledged, and the log says why.
        wait_until("it knows that it is alone", PATIENCE, || {
            cluster[third]
                .log()
                .lines()
                .rev()
                .find(|line| line.contains("touch with the cluster"))
                .is_some_and(|line| line.contains("out of touch"))
        });
        assert!(!is_taken(cluster.port(third), "other", secs(1)));
        for node in &pair {
            cluster.launch(*node);
        }
        cluster.wait_all();
        let text = format!("after round {round}");
        Pen::at(cluster.port(pair[0]), "pen").publish("t", &text, 1 + round as u8 % 2);
        wanted.push(text);
        let across = format!("across in round {round}");
        let mut reader = subscriber(&cluster, third, &Connect::v5("reads"), "t");
        Pen::at(cluster.port(pair[1]), "pen").publish("t", &across, 1);
        wanted.push(across.clone());
        reader.expect_payload(&across);
        reader.disconnect();
    }
    let mut client = connect.open(&cluster[1]);
    assert!(client.session_present);
    expect_in_order(&mut client, &wanted);
    assert!((0..3).all(|node| cluster.is_running(node)));
}
