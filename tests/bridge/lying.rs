//! Remotes that are no good: each costs nothing but its own bridge.

use super::support::broker::free_port;
use super::support::{Broker, Proxy, QUIET, ms, secs, wait_until};
use super::{PATIENCE, bridged, hub, publish, queued, subscriber};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A remote that is no broker: `serve` has each connection, with its number.
fn remote(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> (u16, Arc<AtomicUsize>) {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (count, serve) = (Arc::<AtomicUsize>::default(), Arc::new(serve));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (number, serve) = (counted.fetch_add(1, Ordering::Relaxed), Arc::clone(&serve));
            std::thread::spawn(move || serve(stream, number));
        }
    });
    (port, count)
}

/// The first byte and the body of the next packet; `None` when the connection is over.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

const CONNACK_5: &[u8] = &[0x20, 3, 0, 0, 0];
const CONNACK_311: &[u8] = &[0x20, 2, 0, 0];

/// A remote that speaks MQTT 5 and answers each message by DISCONNECT with the next of these reasons; its port.
pub(crate) fn closing(reasons: &'static [u8]) -> u16 {
    let (port, _) = remote(move |mut stream, number| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(CONNACK_5);
        while let Some((first, _)) = packet(&mut stream) {
            if first >> 4 == 3 && first & 6 != 0 {
                let _ = stream.write_all(&[0xe0, 1, reasons[number % reasons.len()]]);
                return;
            }
        }
    });
    port
}

/// Our broker is as it should be, whatever its bridge meets.
#[track_caller]
fn is_unharmed(broker: &Broker) {
    let mut client = broker.v5("unharmed");
    client.subscribe("unharmed", 2);
    client.publish("unharmed", "x", 2);
    client.expect_payload("x");
    client.disconnect();
}

#[test]
fn remotes_that_lie_about_lengths_and_types_cost_no_memory() {
    let lies: [&'static [u8]; 7] = [
        // A CONNACK of 256 MB, a PUBACK of 256 MB, a message of 256 MB that goes on and on.
        &[0x20, 0xff, 0xff, 0xff, 0x7f],
        &[0x20, 3, 0, 0, 0, 0x40, 0xff, 0xff, 0xff, 0x7f],
        &[0x20, 3, 0, 0, 0, 0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a', 0, 1],
        // A length that never ends, a packet type that there is not, a packet that only a client sends.
        &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x20, 3, 0, 0, 0, 0x00, 0],
        &[0x20, 3, 0, 0, 0, 0xc0, 0],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ];
    let (port, count) = remote(move |mut stream, number| {
        let _ = packet(&mut stream);
        if stream.write_all(lies[number % lies.len()]).is_err() {
            return;
        }
        let chunk = vec![0; 1 << 20];
        for _ in 0..64 {
            if stream.write_all(&chunk).is_err() {
                return;
            }
        }
    });
    let broker = bridged(&hub(port, r##"["a/# both 1"]"##, "version = \"5\"\nconnect_timeout = \"1s\"\n"));
    let before = broker.resident_kib();
    wait_until("every lie was told twice", secs(60), || count.load(Ordering::Relaxed) > 14);
    is_unharmed(&broker);
    let after = broker.resident_kib();
    assert!(after < before + 48 * 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn a_remote_that_hangs_is_given_up() {
    let (port, count) = remote(|mut stream, number| {
        // Never a word; or CONNACK, and then never a word.
        let _ = packet(&mut stream);
        if number % 2 == 1 {
            let _ = stream.write_all(CONNACK_5);
        }
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        while packet(&mut stream).is_some() {}
    });
    let lines = "version = \"5\"\nconnect_timeout = \"1s\"\nkeep_alive = \"1s\"\n";
    let broker = bridged(&hub(port, r##"["a/# out 1"]"##, lines));
    publish(broker.port(), "a/x", "kept", 1);
    broker.wait_log(&["no answer in time"]);
    broker.wait_log(&["the remote does not answer any more"]);
    wait_until("it is tried again and again", secs(30), || count.load(Ordering::Relaxed) > 3);
    is_unharmed(&broker);
    assert_eq!(queued(&broker), 1);
}

#[test]
fn a_remote_that_refuses_is_asked_in_other_words_and_then_less_and_less_often() {
    // It takes 3.1.1 without the flag alone.
    let (port, _) = remote(|mut stream, _| {
        let Some((_, body)) = packet(&mut stream) else { return };
        if body[6] != 4 {
            let _ = stream.write_all(&[0x20, 2, 0, 1]);
            return;
        }
        let _ = stream.write_all(CONNACK_311);
        while packet(&mut stream).is_some() {}
    });
    let broker = bridged(&hub(port, r##"["a/# out 1"]"##, ""));
    broker.wait_log(&["connected bridge=\"hub\"", "speech=\"MQTT 3.1.1\""]);

    let (port, count) = remote(|mut stream, _| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(&[0x20, 3, 0, 0x87, 0]);
    });
    let table = format!(
        "[bridges.hub]\naddress = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"a/# out 1\"]\nretry_base = \"200ms\"\n\
         retry_cap = \"1h\"\n"
    );
    let broker = bridged(&table);
    broker.wait_log(&["the remote is not there", "NotAuthorized"]);
    wait_until("it waits longer", secs(30), || count.load(Ordering::Relaxed) >= 4);
    let seen = count.load(Ordering::Relaxed);
    // By now it waits for more than a second and a half on average; without growing it would come five times in it.
    std::thread::sleep(secs(1));
    assert!(count.load(Ordering::Relaxed) <= seen + 2);
    is_unharmed(&broker);
}

#[test]
fn a_remote_that_finds_an_identifier_of_31_too_long_is_understood() {
    let (port, _) = remote(|mut stream, _| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(&[0x20, 2, 0, 2]);
    });
    let id = "x".repeat(24);
    let lines = format!("version = \"3.1\"\nclient_id = \"{id}\"\nbridge_flag = false\n");
    let broker = bridged(&hub(port, r##"["a/# out 1"]"##, &lines));
    broker.wait_log(&["the remote is not there", "MQTT 3.1 allows client identifiers of at most 23 bytes"]);
    // An identifier that needs nothing said is none of the configuration's business, with a clean start or without.
    let lines = "version = \"3.1\"\nclean_start = true\n";
    is_unharmed(&bridged(&hub(port, r##"["a/# out 1"]"##, lines)));
}

#[test]
fn a_bridge_offers_the_subprotocol_of_mqtt() {
    for (version, name) in [("5", "mqtt"), ("3.1.1", "mqtt"), ("3.1", "mqttv3.1")] {
        let (told, asked) = std::sync::mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let (port, _) = remote(move |mut stream, _| {
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let _ = told.lock().unwrap().send(String::from_utf8_lossy(&request).into_owned());
        });
        let _broker = bridged(&format!(
            "[bridges.hub]\naddress = \"ws://127.0.0.1:{port}\"\ntopics = [\"a/# out 1\"]\nversion = \"{version}\"\n"
        ));
        let request = asked.recv_timeout(PATIENCE).unwrap();
        assert!(request.contains(&format!("\r\nSec-WebSocket-Protocol: {name}\r\n")), "{request}");
    }
}

#[test]
fn a_remote_that_was_only_starting_is_spoken_to_in_the_best_version_and_notices_nothing_of_the_others() {
    let remote = Broker::start();
    let proxy = Proxy::to(remote.port());
    // What is before the remote takes connections, and closes them.
    proxy.down();
    let broker = bridged(&hub(proxy.port(), r##"["a/# both 1"]"##, "client_id = \"ours\"\n"));
    broker.v5("retains").retain("a/kept", "kept", 1);
    let mut there = subscriber(remote.port(), "there", &["a/#"]);
    let mut state = subscriber(remote.port(), "state", &["$SYS/broker/connection/ours/state"]);
    broker.wait_log(&["it may not take the flag of bridges"]);
    proxy.up();
    // There may have been one more guess, of which the remote is told nothing, not even that it ended.
    broker.wait_log(&["connected bridge=\"hub\"", "speech=\"MQTT 5, with the Nightjar"]);
    super::wait_state(&broker, "1");
    state.expect_payload("1");
    state.expect_nothing();
    // The remote has a session by then, and knows nothing all the same: it gets what is retained.
    there.expect_payload("kept");
    there.expect_nothing();
}

#[test]
fn a_message_at_which_the_remote_closes_is_set_aside_and_the_rest_arrives() {
    let (sender, arrived) = std::sync::mpsc::channel();
    let (port, _) = remote(move |mut stream, _| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(CONNACK_311);
        while let Some((first, body)) = packet(&mut stream) {
            if first >> 4 != 3 || first & 6 == 0 {
                continue;
            }
            let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let payload = String::from_utf8_lossy(&body[end + 2..]).into_owned();
            if payload == "poison" {
                return;
            }
            let _ = stream.write_all(&[0x40, 2, body[end], body[end + 1]]);
            let _ = sender.send(payload);
        }
    });
    let lines = "version = \"3.1.1\"\ndead_letter = \"dead/\"\n";
    let broker =
        bridged(&hub(port, r##"["a/# out 1"]"##, lines).replace("retry_cap = \"500ms\"", "retry_cap = \"100ms\""));
    let mut dead = subscriber(broker.port(), "dead", &["dead/#"]);
    let mut client = broker.v5("client");
    let wanted = ["one", "two", "poison", "three", "four"];
    for payload in wanted {
        client.publish("a/x", payload, 1);
    }
    let mut got: Vec<String> = Vec::new();
    while got.last().is_none_or(|last| last != "four") {
        let payload = arrived.recv_timeout(PATIENCE).expect("the rest arrives");
        // What had arrived and was not acknowledged comes again: that is QoS 1.
        if got.last() != Some(&payload) {
            got.push(payload);
        }
    }
    got.dedup();
    assert_eq!(got, ["one", "two", "three", "four"]);
    assert_eq!(dead.expect_payload("poison").topic, "dead/a/x");
    wait_until("nothing is left", PATIENCE, || queued(&broker) == 0);
    dead.expect_nothing_for(QUIET);
}

#[test]
fn a_remote_that_forgets_its_session_gets_and_gives_everything() {
    // The remote loses all it has at each kill, and says so: nothing is taken for a repetition.
    let mut remote = Broker::with(&["store.durability=memory"]);
    let broker = bridged(&hub(remote.port(), r##"["a/# both 2"]"##, ""));
    for round in 0..5 {
        super::wait_state(&broker, "1");
        let mut there = subscriber(remote.port(), "there", &["a/out"]);
        let mut here = subscriber(broker.port(), "here", &["a/in"]);
        for number in 0..5 {
            publish(broker.port(), "a/out", &format!("{round} {number}"), 2);
            there.expect_payload(format!("{round} {number}"));
            publish(remote.port(), "a/in", &format!("{round} {number}"), 2);
            here.expect_payload(format!("{round} {number}"));
        }
        // One that is under way in both directions.
        let mut client = remote.v5("client");
        client.send_publish(super::support::Publish::new("a/in", "under way").qos(2));
        remote.kill();
        super::wait_state(&broker, "0");
        std::thread::sleep(ms(20));
        remote.again();
    }
    assert_eq!(queued(&broker), 0);
}
