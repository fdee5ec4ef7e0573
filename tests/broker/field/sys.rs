//! F66: the numbers of clients.

use crate::support::secrets::password_line;
use crate::support::{Broker, Client, Connect, Packet, Read, ms, secs, wait_until};
use std::collections::BTreeMap;
use std::time::Instant;

#[test]
fn f66_the_numbers_of_clients_are_never_negative_and_agree() {
    let mut broker = Broker::with(&["sys.interval=1s"]);
    for n in 0..3 {
        Connect::v311(&format!("away{n}")).persistent().open(&broker).disconnect();
    }
    let mut reader = broker.v311("reader");
    reader.subscribe("$SYS/broker/clients/+", 0);
    let mut others: Vec<Client> = (0..4).map(|n| broker.v311(&format!("here{n}"))).collect();
    let mut silent: Vec<Client> = (0..20).map(|_| broker.socket()).collect();
    let mut values = BTreeMap::new();
    let start = Instant::now();
    let mut turn = broker.v311("turn");
    while start.elapsed() < secs(5) {
        let next = broker.v311("turn");
        turn.expect_closed();
        turn = next;
        read_values(&mut reader, &mut values, ms(90));
        // The first interval may still tell of the time before these clients came.
        let total = values.get("total").copied().filter(|_| start.elapsed() > secs(2)).unwrap_or(9);
        assert!((8..=10).contains(&total), "with one id taken over again and again: {values:?}");
    }
    turn.disconnect();
    silent.clear();
    settle(&mut reader, &mut values, [("connected", 5), ("disconnected", 3), ("total", 8)]);
    others.iter_mut().for_each(|c| c.ping());

    broker.restart();
    let mut reader = broker.v311("reader");
    reader.subscribe("$SYS/broker/clients/+", 0);
    settle(&mut reader, &mut BTreeMap::new(), [("connected", 1), ("disconnected", 3), ("total", 4)]);
}

#[test]
fn f66_who_fails_to_come_in_is_no_client() {
    let config = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n[auth]\npassword_file = \"{folder}/passwords\"\n\
        backoff_after = 1000\n[sys]\ninterval = \"200ms\"\n";
    let broker = Broker::configured(config, &[("passwords", &password_line("ann", "pw"))]);
    let ann = |id: &str| Connect::v5(id).user("ann", Some(b"pw"));
    for n in 0..3 {
        ann(&format!("away{n}")).persistent().open(&broker).disconnect();
    }
    let mut reader = ann("reader").open(&broker);
    reader.subscribe("$SYS/broker/clients/+", 0);
    let mut values = BTreeMap::new();
    let mut held = Vec::new();
    for n in 0..20 {
        let (refused, code) = Connect::v5("away0").user("ann", Some(format!("no{n}").as_bytes())).open_any(&broker);
        assert_eq!(code, 0x86);
        held.push(refused);
        held.push(broker.socket());
        read_values(&mut reader, &mut values, ms(20));
    }
    settle(&mut reader, &mut values, [("connected", 1), ("disconnected", 3), ("total", 4)]);
    held.clear();
    ann("here").open(&broker).ping();
    let _back = ann("away0").persistent().open(&broker);
    settle(&mut reader, &mut values, [("connected", 2), ("disconnected", 2), ("total", 4)]);
}

fn read_values(reader: &mut Client, values: &mut BTreeMap<String, i64>, wait: std::time::Duration) {
    while let Read::Packet(Packet::Publish(m)) = reader.read_packet(wait) {
        let name = m.topic.rsplit('/').next().unwrap().to_owned();
        let value: i64 = m.text().parse().unwrap_or_else(|_| panic!("{} is {:?}", m.topic, m.text()));
        assert!(value >= 0, "{} is {value}", m.topic);
        values.insert(name, value);
    }
}

fn settle(reader: &mut Client, values: &mut BTreeMap<String, i64>, right: [(&str, i64); 3]) {
    wait_until(&format!("{right:?}"), secs(8), || {
        read_values(reader, values, ms(100));
        right.iter().all(|(name, value)| values.get(*name) == Some(value))
    });
}
