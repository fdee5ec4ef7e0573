//! A client that comes in at another node takes its session with it.

use crate::checker::{self, Delivery, History, Reader, Stream, Verdict};
use crate::support::persist::{Publisher, Subscriber};
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Client, Connect, Packet, Publish, V5, ms, secs};
use crate::{Cluster, leave_session, subscriber};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn the_old_connection_ends_and_the_session_is_present_where_it_should_be() {
    let cluster = Cluster::start(3);
    let kinds = [
        ("clean 4", Connect::v311("clean 4"), false),
        ("kept 4", Connect::v311("kept 4").persistent(), true),
        ("clean 5", Connect::v5("clean 5"), false),
        ("kept 5", Connect::v5("kept 5").persistent(), true),
        ("begun anew 5", Connect::v5("begun anew 5").expiry(300), false),
        // Without an expiry interval it ends with its connection, whatever the next one asks for.
        ("not clean, no expiry", Connect::v5("not clean, no expiry").clean(false), false),
    ];
    for (name, connect, resumes) in kinds {
        let mut old = subscriber(&cluster, 0, &connect, &format!("t/{name}"));
        assert!(!old.session_present, "{name}");
        for node in [1, 2, 0, 2] {
            let mut new = connect.open(&cluster[node]);
            assert_eq!(new.session_present, resumes, "{name} at {node}");
            // Every other client of the cluster is served by the new one alone.
            old.expect_disconnect(&[0x8e]);
            if !resumes {
                cluster[0].v5("publishes").publish(&format!("t/{name}"), "lost", 1);
                new.expect_nothing();
                assert_eq!(new.subscribe(&format!("t/{name}"), 2), 2, "{name} at {node}");
            }
            cluster[1].v5("publishes").publish(&format!("t/{name}"), format!("at {node}"), 2);
            new.expect_payload(format!("at {node}"));
            old = new;
        }
        old.disconnect();
    }
}

#[test]
fn a_session_whose_client_wants_none_any_more_is_gone_at_every_node() {
    let cluster = Cluster::start(3);
    let connect = Connect::v5("theirs").persistent();
    leave_session(&cluster, 0, &connect, "t");
    cluster[1].v5("publishes").publish("t", "queued", 1);
    let clean = connect.clone().clean(true).expiry(0).open(&cluster[1]);
    assert!(!clean.session_present);
    clean.disconnect();
    for node in [2, 0] {
        let mut client = Connect::v5("theirs").clean(false).open(&cluster[node]);
        assert!(!client.session_present);
        client.expect_nothing();
        client.disconnect();
    }
}

#[test]
fn a_session_that_expires_is_gone_at_every_node() {
    let cluster = Cluster::start(3);
    let connect = Connect::v5("short").clean(false).expiry(1);
    leave_session(&cluster, 0, &connect, "t");
    crate::support::wait_until("it is gone", crate::PATIENCE, || {
        let mut client = cluster[1].v5("publishes");
        let code = client.publish("t", "anybody?", 1);
        client.disconnect();
        code == 0x10
    });
    assert!(!connect.open(&cluster[2]).session_present);
}

/// The next packets in short: `publish ID PAYLOAD` with `again` for DUP, or `release ID`.
fn next(client: &mut Client, count: usize) -> Vec<String> {
    let short = |packet: Packet| match packet {
        Packet::Publish(of) => {
            format!("publish {} {}{}", of.id, of.text(), if of.dup { " again" } else { "" })
        }
        Packet::Ack { kind: PUBREL, id, .. } => format!("release {id}"),
        other => format!("{other:?}"),
    };
    (0..count).map(|_| short(client.recv())).collect()
}

#[test]
fn what_is_in_flight_to_a_client_goes_on_at_the_other_node() {
    let cluster = Cluster::start(3);
    let connect = Connect::v5("theirs").persistent().manual();
    let mut old = subscriber(&cluster, 0, &connect, "t/#");
    let mut pen = cluster[1].v5("publishes");
    for number in 0..6 {
        pen.publish("t/1", format!("one {number}"), 1);
        pen.publish("t/2", format!("two {number}"), 2);
    }
    let mut messages: Vec<Publish> = (0..12).map(|_| old.expect_publish()).collect();
    messages.sort_by_key(|message| (message.topic.clone(), message.text()));
    let (ones, twos) = messages.split_at(6);
    // The first two of each are done with; two more of QoS 2 are received.
    ones[..2].iter().for_each(|message| old.ack(PUBACK, message.id));
    for message in &twos[..4] {
        old.ack(PUBREC, message.id);
    }
    for _ in 0..4 {
        let Packet::Ack { kind: PUBREL, id, .. } = old.recv() else { panic!("PUBREL") };
        if twos[..2].iter().any(|message| message.id == id) {
            old.ack(PUBCOMP, id);
        }
    }
    old.ping();
    for node in [2, 1] {
        let mut new = connect.open(&cluster[node]);
        assert!(new.session_present);
        old.expect_disconnect(&[0x8e]);
        let mut wanted: Vec<String> =
            ones[2..].iter().chain(&twos[4..]).map(|of| format!("publish {} {} again", of.id, of.text())).collect();
        wanted.extend(twos[2..4].iter().map(|of| format!("release {}", of.id)));
        let mut seen = next(&mut new, wanted.len());
        let order = |seen: &[String], kind: &str| -> Vec<String> {
            seen.iter().filter(|of| of.contains(kind)).cloned().collect()
        };
        let ones_seen = order(&seen, "one");
        assert_eq!(ones_seen, order(&wanted, "one"), "in their order");
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted, "at {node}");
        old = new;
    }
    // New ones come behind.
    ones[2..].iter().for_each(|message| old.ack(PUBACK, message.id));
    pen.publish("t/1", "one more", 1);
    old.expect_payload("one more");
}

#[test]
fn what_a_client_has_in_flight_goes_on_at_the_other_node() {
    let cluster = Cluster::start(3);
    let mut reader = subscriber(&cluster, 1, &Connect::v5("reads").persistent(), "t");
    let connect = Connect::v5("theirs").persistent().manual();
    let mut old = connect.open(&cluster[0]);
    for number in 1..=4 {
        old.send_publish(Publish::new("t", number.to_string()).qos(2).id(number));
        assert_eq!(old.wait_ack(PUBREC, number), 0);
    }
    old.ack(PUBREL, 1);
    assert_eq!(old.wait_ack(PUBCOMP, 1), 0);
    let mut new = connect.open(&cluster[2]);
    assert!(new.session_present);
    old.expect_disconnect(&[0x8e]);
    // The client may or may not have seen the PUBREC.
    new.send_publish(Publish::new("t", "2").qos(2).id(2).dup());
    assert_eq!(new.wait_ack(PUBREC, 2), 0);
    for number in 2..=4 {
        new.ack(PUBREL, number);
        assert_eq!(new.wait_ack(PUBCOMP, number), 0);
    }
    // The same identifiers, and the same messages, are others now.
    for number in 1..=4 {
        new.send_publish(Publish::new("t", number.to_string()).qos(2).id(number));
        assert_eq!(new.wait_ack(PUBREC, number), 0);
        new.ack(PUBREL, number);
        assert_eq!(new.wait_ack(PUBCOMP, number), 0);
    }
    assert_eq!(crate::payloads(&mut reader, 8), ["1", "2", "3", "4", "1", "2", "3", "4"]);
    reader.expect_nothing();
}

#[test]
fn sessions_move_while_messages_are_published_and_nothing_is_lost_or_doubled() {
    const MOVES: usize = 15;
    let cluster = Cluster::start(3);
    let ports = cluster.ports();
    let (over, mut history) = (AtomicBool::new(false), History::default());
    let mut subscribers = [1, 2].map(|qos| {
        let name = format!("reads-{qos}");
        let mut of = Subscriber::new(Connect::of(3 + qos, &name).persistent(), &name, &["c/#"], qos);
        of.takeover = true;
        of.open(ports[0], secs(10)).expect("first connect").disconnect();
        of
    });
    let mut publishers = [1, 2].map(|qos| {
        let name = format!("writes-{qos}");
        let mut of = Publisher::new(Connect::of(V5, &name).persistent(), &name, &format!("c/{qos}"), qos);
        (of.takeover, of.pause) = (true, ms(5));
        of
    });
    std::thread::scope(|scope| {
        let (over, ports) = (&over, &ports);
        for publisher in &mut publishers {
            scope.spawn(move || {
                for turn in 0.. {
                    let goal = publisher.acked.len() + 50;
                    publisher.run(ports[turn % 3], &|of| of.acked.len() >= goal || over.load(Ordering::SeqCst));
                    if over.load(Ordering::SeqCst) {
                        return publisher.finish(ports[turn % 3]);
                    }
                }
            });
        }
        let readers: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| {
                scope.spawn(move || {
                    for turn in 0..MOVES {
                        let goal = subscriber.delivered.len() + 40;
                        subscriber.run(ports[(turn + 1) % 3], &|of| of.delivered.len() >= goal);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a reader failed");
    });
    for publisher in publishers {
        let stream = Stream { qos: publisher.qos(), attempted: publisher.attempted, acked: publisher.acked.clone() };
        history.sessions.insert(publisher.name().into(), (publisher.connects, publisher.session_losses));
        history.streams.insert(publisher.name().into(), stream);
    }
    for mut subscriber in subscribers {
        subscriber.drain(ports[0], secs(1));
        history.sessions.insert(subscriber.name.clone(), (subscriber.connects, subscriber.session_losses));
        let deliver = |of: &crate::support::persist::Delivered| Delivery {
            publisher: of.publisher.clone(),
            seq: of.seq,
            qos: of.qos,
        };
        let delivered = subscriber.delivered.iter().map(deliver).collect();
        history.readers.insert(subscriber.name.clone(), Reader { qos: subscriber.qos, delivered });
    }
    let verdict = checker::check(&history, &mut |line| println!("  {line}"));
    println!("{:?}", history.sessions);
    assert_eq!(verdict, Verdict::default());
}
