//! All nodes are lost at once.

use crate::support::{Connect, Will};
use crate::{Cluster, leave_session, payloads};

#[test]
fn a_cluster_that_was_killed_whole_has_all_that_it_acknowledged() {
    let mut cluster = Cluster::start(3);
    let sessions: Vec<Connect> = (0..6)
        .map(|number| {
            let name = format!("theirs {number}");
            if number % 2 == 0 { Connect::v5(&name).persistent() } else { Connect::v311(&name).persistent() }
        })
        .collect();
    for (number, connect) in sessions.iter().enumerate() {
        leave_session(&cluster, number % 3, connect, "t/#");
    }
    let mut wanted = Vec::new();
    for round in 0..2 {
        for node in 0..3 {
            let mut client = cluster[node].v5(&format!("publishes {node}"));
            for number in 0..20 {
                wanted.push(format!("{round} {node} {number}"));
                assert_eq!(client.publish("t/x", wanted.last().unwrap(), 1 + number % 2), 0);
            }
            client.retain(&format!("kept/{node}"), format!("{round} {node}"), 1 + round);
            client.retain("kept/gone", if round == 0 { "there" } else { "" }, 1);
        }
        let lost = Connect::v5("lost")
            .will(Will::new("t/will", format!("will {round}")).qos(1))
            .open(&cluster[round as usize]);
        (0..3).for_each(|node| cluster.kill(node));
        drop(lost);
        for node in if round == 0 { [2, 1, 0] } else { [1, 0, 2] } {
            cluster.launch(node);
        }
        cluster.wait_all();
        // Who was connected is not any more.
        let mut reader = Connect::v311("theirs 1").persistent().open(&cluster[0]);
        crate::wait_payload(&mut reader, &format!("will {round}"));
        reader.disconnect();
        wanted.push(format!("will {round}"));
    }
    for (number, connect) in sessions.iter().enumerate().filter(|(number, _)| *number != 1) {
        let mut client = connect.open(&cluster[(number + 1) % 3]);
        assert!(client.session_present);
        assert_eq!(payloads(&mut client, wanted.len()), wanted, "session {number}");
        client.expect_nothing();
    }
    for node in 0..3 {
        let mut client = cluster[node].v5(&format!("reads {node}"));
        client.subscribe("kept/#", 1);
        let mut kept = payloads(&mut client, 3);
        kept.sort();
        assert_eq!(kept, ["1 0", "1 1", "1 2"]);
        client.expect_nothing();
    }
}
