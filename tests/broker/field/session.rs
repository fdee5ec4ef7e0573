//! F13 to F16: resume and takeover.

use crate::support::wire::{self, PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Connect, Packet, Read, V5, V311, VERSIONS, ms, prop, secs};

#[test]
fn f13_the_end_of_the_old_connection_leaves_the_new_one_alone() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    for round in 0..100 {
        let version = VERSIONS[round % 3];
        let mut old = broker.client(version, "x");
        old.subscribe("t", 1);
        let mut new = broker.client(version, "x");
        new.subscribe("t", 1);
        match round / 3 % 3 {
            0 => old.fin(),
            1 => old.rst(),
            _ if version == V5 => old.expect_disconnect(&[0x8e]),
            _ => assert_eq!(old.expect_closed(), []),
        }
        for n in 0..3 {
            let text = format!("{round}.{n}");
            p.publish("t", &text, 1);
            new.expect_payload(&text);
        }
        new.expect_nothing_for(secs(0));
    }
}

#[test]
fn f14_a_persistent_qos2_session_survives_thirty_hard_ends() {
    let broker = Broker::with(&["session.max_inflight=10"]);
    let mut p = broker.v311("p");
    for version in VERSIONS {
        let connect = Connect::of(version, "x").persistent().manual();
        let mut unfinished: Option<u16> = None;
        for round in 0..30 {
            let mut x = connect.open(&broker);
            assert!(round == 0 || x.resumed(), "round {round}");
            if let Some(id) = unfinished.take() {
                assert_eq!(x.expect_ack(PUBREL, id), 0, "round {round}");
                x.ack(PUBCOMP, id);
            }
            x.subscribe("t", 2);
            let text = format!("m{round}");
            p.publish("t", &text, 2);
            let m = x.expect_payload(&text);
            x.ack(PUBREC, m.id);
            x.expect_ack(PUBREL, m.id);
            if round % 3 == 2 {
                unfinished = Some(m.id);
            } else {
                x.ack(PUBCOMP, m.id);
                x.ping();
            }
            x.rst();
        }
        Connect::of(version, "x").open(&broker).disconnect();
    }
}

#[test]
fn f15_an_empty_client_id_needs_a_clean_session_in_311() {
    let broker = Broker::start();
    let mut client = broker.socket();
    client.send_hex("100c00044d5154540400003c0000");
    assert_eq!(client.expect_closed(), [Packet::Connack { session_present: false, code: 2, props: vec![] }]);

    let mut assigned = Vec::new();
    for _ in 0..2 {
        let mut client = broker.socket_for(V5);
        client.send_hex("100d00044d5154540500003c000000");
        let Packet::Connack { code: 0, session_present: false, props } = client.recv() else { panic!("refused") };
        let id = wire::text(&props, prop::ASSIGNED_CLIENT_ID).expect("assigned client identifier").to_owned();
        assert!(!id.is_empty() && !assigned.contains(&id));
        assigned.push(id);
    }

    // Two at a time: each gets an identifier of its own, so neither pushes the other out.
    let mut clients: Vec<_> = (0..2).map(|_| broker.socket()).collect();
    for client in &mut clients {
        client.send_hex("100c00044d5154540402003c0000");
        assert_eq!(client.recv(), Packet::Connack { session_present: false, code: 0, props: vec![] });
    }
    clients.iter_mut().for_each(|c| c.ping());
}

#[test]
fn f15_the_assigned_client_id_resumes_its_session() {
    let broker = Broker::start();
    let a = Connect::v5("").clean(false).expiry(60).open(&broker);
    let id = wire::text(&a.connack, prop::ASSIGNED_CLIENT_ID).expect("assigned").to_owned();
    a.rst();
    let a = Connect::v5(&id).clean(false).expiry(60).open(&broker);
    assert!(a.resumed());
    assert_eq!(wire::text(&a.connack, prop::ASSIGNED_CLIENT_ID), None, "the client named itself");
}

#[test]
fn f16_connack_is_always_the_first_packet() {
    let broker = Broker::start();
    broker.v311("r").retain("t", "retained", 1);
    for version in [V311, V5] {
        let connect = Connect::of(version, "a").persistent().manual();
        let mut a = connect.open(&broker);
        a.subscribe("t", 1);
        a.rst();
        let mut p = broker.v311("p");
        for n in 0..20 {
            p.publish("t", n.to_string(), 1);
        }
        for round in 0..200 {
            // `open` refuses any other first packet.
            let a = connect.open(&broker);
            assert!(a.resumed(), "round {round}");
            a.rst();
        }
        // A live publisher beside it must not slip in front either.
        for round in 0..50 {
            p.send_publish(crate::support::Publish::new("t", "live").qos(0));
            let mut a = connect.open(&broker);
            assert!(a.resumed(), "round {round}");
            if let Read::Packet(Packet::Publish(m)) = a.read_packet(ms(50))
                && m.qos > 0
            {
                a.ack(PUBACK, m.id);
            }
            a.rst();
        }
        Connect::of(version, "a").open(&broker).disconnect();
    }
}
