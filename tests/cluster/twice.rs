//! QoS 2 towards the broker is continued at another node when the first is lost.

use crate::support::wire::{PUBCOMP, PUBREC, PUBREL};
use crate::support::{Client, Connect, Publish, Random, ms};
use crate::{Cluster, drain, subscriber};
use std::collections::BTreeMap;

/// How far an exchange came before the node was lost, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    /// PUBLISH was sent.
    Sent,
    /// PUBREC was on its way, and the client did not see it.
    Unseen,
    /// PUBREC was seen.
    Received,
    /// PUBREL was sent.
    Released,
}

const ALL: [Far; 4] = [Far::Sent, Far::Unseen, Far::Received, Far::Released];

struct Exchange {
    far: Far,
    connect: Connect,
    client: Client,
    text: String,
}

impl Exchange {
    fn message(&self) -> Publish {
        Publish::new("t", &self.text).qos(2).id(7)
    }

    fn complete(&mut self, mut client: Client, again: bool) {
        if again {
            client.send_publish(self.message().dup());
            assert_eq!(client.wait_ack(PUBREC, 7), 0, "{:?}", self.far);
        }
        client.ack(PUBREL, 7);
        let code = client.wait_ack(PUBCOMP, 7);
        assert!(code == 0 || (code == 0x92 && self.far == Far::Released), "{:?}: PUBCOMP {code:#x}", self.far);
        self.client = client;
    }
}

#[test]
fn a_qos2_publish_is_continued_elsewhere_and_delivered_once() {
    let mut cluster = Cluster::start(3);
    let mut random = Random(8);
    for lost in 0..3 {
        let (at, elsewhere) = ((lost + 1) % 3, (lost + 2) % 3);
        let mut kept = subscriber(&cluster, at, &Connect::v5(&format!("kept {lost}")).persistent(), "t");
        let mut live = subscriber(&cluster, elsewhere, &Connect::v5(&format!("live {lost}")), "t");
        let mut exchanges: Vec<Exchange> = Vec::new();
        for far in ALL {
            for version in [4, 5] {
                let name = format!("{far:?} {version} {lost}");
                let connect = Connect::of(version, &name).persistent().manual();
                let client = connect.open(&cluster[lost]);
                exchanges.push(Exchange { far, connect, client, text: name });
            }
        }
        for exchange in exchanges.iter_mut().rev() {
            let message = exchange.message();
            exchange.client.send_publish(message);
            if exchange.far != Far::Sent {
                assert_eq!(exchange.client.wait_ack(PUBREC, 7), 0);
            }
            if exchange.far == Far::Released {
                exchange.client.ack(PUBREL, 7);
            }
        }
        // What was only just sent may have been taken, or not.
        std::thread::sleep(ms(random.below(10)));
        cluster.kill(lost);
        for exchange in &mut exchanges {
            let client = cluster.come_in(elsewhere, &exchange.connect);
            assert!(client.session_present, "{}", exchange.text);
            let again = matches!(exchange.far, Far::Sent | Far::Unseen);
            exchange.complete(client, again);
        }
        let wanted: BTreeMap<String, usize> = exchanges.iter().map(|of| (of.text.clone(), 1)).collect();
        assert_eq!(drain(&mut kept, ms(500)), wanted, "node {lost} lost");
        let seen = drain(&mut live, ms(100));
        assert!(seen.iter().all(|(text, count)| wanted.contains_key(text) && *count == 1), "{seen:?}");
        // The same identifier with the same message is another one now.
        for exchange in &mut exchanges {
            let message = exchange.message();
            exchange.client.send_publish(message);
            assert_eq!(exchange.client.wait_ack(PUBREC, 7), 0);
            exchange.client.ack(PUBREL, 7);
            assert_eq!(exchange.client.wait_ack(PUBCOMP, 7), 0);
        }
        assert_eq!(drain(&mut kept, ms(500)), wanted, "the same again after node {lost} was lost");
        assert_eq!(drain(&mut live, ms(300)), wanted, "and to the live one");
        kept.disconnect();
        live.disconnect();
        cluster.again(lost);
    }
}
