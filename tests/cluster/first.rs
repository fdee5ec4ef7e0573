//! A node alone that becomes the first of a cluster.

use crate::support::{Connect, Publish};
use crate::{Cluster, Pen, leave_session, payloads};

#[test]
fn what_a_node_alone_has_is_what_its_cluster_has() {
    let mut cluster = Cluster::prepare(3);
    cluster.configure_alone(1);
    cluster.again(1);
    let sessions = [Connect::v5("five").persistent(), Connect::v311("four").persistent()];
    for connect in &sessions {
        leave_session(&cluster, 1, connect, "q/#");
    }
    let wanted: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    {
        let mut client = cluster[1].v5("publishes");
        for (number, text) in wanted.iter().enumerate() {
            client.publish("q/x", text, 1 + number as u8 % 2);
        }
        client.retain("kept/1", "one", 1);
        client.retain("kept/2", "two", 2);
    }
    // One message is half way through its exchange.
    let half = Connect::v5("half").persistent().manual();
    let mut client = half.open(&cluster[1]);
    let message = Publish::new("q/half", "half way").qos(2).id(77);
    client.send_publish(message.clone());
    assert_eq!(client.wait_ack(crate::support::wire::PUBREC, 77), 0);
    client.fin();
    cluster.terminate(1);
    cluster.configure(1);
    cluster.launch_all();
    cluster.wait_all();
    for node in 0..3 {
        let mut client = cluster[node].v5(&format!("reads {node}"));
        client.subscribe("kept/+", 1);
        let mut kept = payloads(&mut client, 2);
        kept.sort();
        assert_eq!(kept, ["one", "two"]);
    }
    // It goes on at a node that has only now heard of it.
    let mut client = half.open(&cluster[2]);
    assert!(client.session_present);
    client.send_publish(message.dup());
    assert_eq!(client.wait_ack(crate::support::wire::PUBREC, 77), 0);
    client.ack(crate::support::wire::PUBREL, 77);
    assert_eq!(client.wait_ack(crate::support::wire::PUBCOMP, 77), 0);
    client.disconnect();
    Pen::at(cluster.port(2), "pen").publish("q/x", "of the cluster", 1);
    for (connect, node) in sessions.iter().zip([0, 2]) {
        let mut client = connect.open(&cluster[node]);
        assert!(client.session_present);
        assert_eq!(payloads(&mut client, wanted.len()), wanted);
        client.expect_payload("half way");
        client.expect_payload("of the cluster");
        client.expect_nothing();
    }
}
