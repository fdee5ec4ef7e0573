//! Listeners: several at once, several protocols on one, and what comes to the wrong one.

use crate::support::broker::free_port;
use crate::support::secrets::Authority;
use crate::support::stream::frame;
use crate::support::{Broker, Client, Connect, Packet, Publish, Stream, V5, V311};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

const PLAIN: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n";

/// A listener for TLS on this port, with the files that it needs.
fn with_tls(port: u16, more: &str) -> String {
    format!(
        "{PLAIN}[listeners.tls]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
         certificate = \"{{folder}}/server.crt\"\nkey = \"{{folder}}/server.key\"\n{more}"
    )
}

/// A broker with a plain listener and one for TLS; the authority that it is known by, and the port.
fn secured(more: &str) -> (Broker, Authority, u16) {
    let authority = Authority::new();
    let server = authority.sign("localhost", 1);
    let port = free_port();
    let (ca, revoked) = (authority.certificate(), authority.revocations(&[]));
    let files = [
        ("server.crt", server.certificate.as_str()),
        ("server.key", server.key.as_str()),
        ("ca.crt", ca.as_str()),
        ("crl", revoked.as_str()),
    ];
    (Broker::configured(&with_tls(port, more), &files), authority, port)
}

#[test]
fn two_listeners_and_a_unix_socket_are_one_broker() {
    let second = free_port();
    let config = format!(
        "{PLAIN}[listeners.second]\naddress = \"127.0.0.1:{second}\"\nanonymous = true\n\
         [listeners.local]\naddress = \"unix:{{folder}}/mqtt.sock\"\nunix_mode = \"0600\"\nanonymous = true\n"
    );
    let mut broker = Broker::configured(&config, &[]);
    let path = broker.scratch().join("mqtt.sock");
    for _ in 0..2 {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut clients = [
            Connect::v5("one").open(&broker),
            Connect::v311("two").open_over(Stream::tcp(second)),
            Connect::v5("three").open_over(Stream::unix(&path)),
            Connect::v5("four").open_over(Stream::unix(&path).websocket()),
        ];
        clients.iter_mut().for_each(|client| assert_eq!(client.subscribe("t/+", 1), 1));
        for from in 0..clients.len() {
            let text = from.to_string();
            clients[from].send_publish(Publish::new(&format!("t/{from}"), &text));
            clients.iter_mut().for_each(|client| drop(client.expect_payload(&text)));
        }
        broker.wait_log(&["connected", "client=\"three\"", "listener=local"]);
        // A broker that was killed leaves the file of its socket behind; it is no obstacle.
        broker.crash();
    }
    broker.terminate();
    assert!(!path.exists(), "the file of a Unix socket goes with its listener");
}

#[test]
fn mqtt_and_websocket_share_a_port_with_and_without_tls() {
    let (broker, authority, port) = secured("");
    let ca = authority.certificate();
    let plain = || Stream::tcp(broker.port());
    let tls = || Stream::tcp(port).tls(&ca, None);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("#", 1);
    let large = "x".repeat(300_000);
    for version in [V311, V5] {
        for (transport, stream) in
            [("tcp", plain()), ("ws", plain().websocket()), ("tls", tls()), ("wss", tls().websocket())]
        {
            let mut client = Connect::of(version, transport).open_over(stream);
            client.subscribe("own", 1);
            assert_eq!(client.publish("own", &large, 1), 0);
            watcher.expect_payload(&large);
            client.expect_payload(&large);
            let told = format!("transport=\"{transport}\"");
            broker.wait_log(&["connected", &format!("client=\"{transport}\""), &told]);
            client.disconnect();
        }
    }
}

#[test]
fn mosquittos_clients_come_in_by_tls() {
    let (broker, _, port) = secured("");
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("hello", 1);
    for version in ["311", "5"] {
        let ca = broker.scratch().join("ca.crt");
        let output = Command::new("mosquitto_pub")
            .args(["-h", "localhost", "-p", &port.to_string(), "-V", version, "-q", "1", "-t", "hello", "-m", "world"])
            .arg("--cafile")
            .arg(ca)
            .output();
        let Ok(output) = output else { return println!("mosquitto_pub is not there") };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        watcher.expect_payload("world");
    }
}

#[test]
fn a_certificate_names_its_client_where_it_is_asked_for() {
    let more = "client_ca = \"{folder}/ca.crt\"\ncrl = \"{folder}/crl\"\nidentity = \"cn\"\n";
    let (broker, authority, port) = secured(more);
    let ca = authority.certificate();
    let device = authority.sign("device-7", 7);
    let own = Some((device.certificate.as_str(), device.key.as_str()));
    Connect::v5("known").open_over(Stream::tcp(port).tls(&ca, own)).ping();
    broker.wait_log(&["connected", "client=\"known\"", "user=\"device-7\""]);
    // Without one, and with one that somebody else has signed.
    let stranger = Authority::new().sign("device-7", 7);
    for own in [None, Some((stranger.certificate.as_str(), stranger.key.as_str()))] {
        let mut client = Client::over(Stream::tcp(port).tls(&ca, own), V5);
        client.try_send(&Connect::v5("unknown").encode());
        assert_eq!(client.expect_closed(), []);
    }
    assert!(!broker.log().contains("client=\"unknown\""));
}

#[test]
fn what_comes_to_the_wrong_door_is_told_so() {
    let (broker, authority, port) = secured("");
    let ca = authority.certificate();
    // Plain MQTT where TLS is spoken.
    let mut client = Connect::v311("plain").send_to_port(port);
    assert_eq!(client.bytes_until_closed(), []);
    broker.wait_log(&["refused", "no TLS on a listener with TLS"]);
    // HTTP where TLS is spoken, and where MQTT is.
    for (port, words) in [(port, "this port speaks TLS"), (broker.port(), "this port speaks MQTT")] {
        let mut http = Client::over(Stream::tcp(port), V311);
        http.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = String::from_utf8(http.bytes_until_closed()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(words), "{answer}");
    }
    // TLS where it is not spoken.
    let mut client = Client::over(Stream::tcp(broker.port()).tls(&ca, None), V311);
    client.try_send(&Connect::v311("tls").encode());
    assert_eq!(client.expect_closed(), []);
    broker.wait_log(&["refused", "TLS on a listener without TLS"]);
    // Nothing that anybody knows.
    let mut client = broker.socket();
    client.send_hex("00010203");
    assert_eq!(client.expect_closed(), []);
    broker.v5("next").ping();
}

#[test]
fn a_listener_speaks_only_what_it_is_told_to() {
    let port = free_port();
    let config = format!(
        "{PLAIN}protocols = [\"mqtt\"]\n[listeners.web]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
         protocols = [\"websocket\"]\npaths = [\"/mqtt\"]\norigins = [\"https://app.example\"]\n"
    );
    let broker = Broker::configured(&config, &[]);
    let (_, answer) = Stream::tcp(broker.port()).upgrade("/mqtt", "");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    broker.v5("mqtt").ping();
    let mut client = Connect::v5("no-websocket").send_to_port(port);
    assert_eq!(client.expect_closed(), []);
    broker.wait_log(&["refused", "WebSocket alone"]);
    for (path, more, status) in [
        ("/mqtt?client=1", "", "101"),
        ("/mqtt", "Origin: https://app.example\r\n", "101"),
        ("/mqtt", "Origin: https://evil.example\r\n", "403"),
        ("/other", "", "404"),
    ] {
        let (stream, answer) = Stream::tcp(port).upgrade(path, more);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {more}: {answer}");
        if status == "101" {
            Connect::v5("ws").open_over(stream).ping();
        }
    }
}

#[test]
fn the_subprotocol_is_one_of_those_that_were_offered() {
    let broker = Broker::start();
    for (offered, chosen) in [
        ("mqtt", Some("mqtt")),
        ("mqttv3.1", Some("mqttv3.1")),
        ("mqttv3.1, mqtt", Some("mqtt")),
        ("mqtt-v5", Some("mqtt-v5")),
        ("chat", None),
    ] {
        let (stream, answer) =
            Stream::tcp(broker.port()).upgrade("/", &format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let told = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(told, chosen, "{offered}");
        Connect::v311("sub").open_over(stream).ping();
    }
    let (stream, answer) = Stream::tcp(broker.port()).upgrade("/", "");
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "{answer}");
    Connect::v5("none").open_over(stream).ping();
}

#[test]
fn only_trusted_proxies_tell_addresses() {
    let (second, third) = (free_port(), free_port());
    let config = format!(
        "{PLAIN}[listeners.foreign]\naddress = \"127.0.0.1:{second}\"\nanonymous = true\nproxy_protocol = true\n\
         trusted_proxies = [\"192.0.2.1\"]\n[listeners.web]\naddress = \"127.0.0.1:{third}\"\nanonymous = true\n\
         trusted_proxies = [\"127.0.0.1\"]\n"
    );
    let broker = Broker::configured(&config, &[]);
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 1883\r\n";
    let mut client = Client::over(Stream::tcp(second).after(header), V5);
    client.try_send(&Connect::v5("untrusted").encode());
    assert_eq!(client.expect_closed(), []);
    broker.wait_log(&["refused", "address=127.0.0.1", "only trusted_proxies may connect here"]);
    // A header where none is expected is nothing that MQTT knows.
    let mut client = Client::over(Stream::tcp(broker.port()).after(header), V5);
    client.try_send(&Connect::v5("unasked").encode());
    client.bytes_until_closed();
    // The header field counts from those that are trusted, and from nobody else.
    for (port, id, address) in [(third, "believed", "192.0.2.9"), (broker.port(), "doubted", "127.0.0.1")] {
        let (stream, _) = Stream::tcp(port).upgrade("/", "X-Forwarded-For: 10.0.0.1, 192.0.2.9\r\n");
        Connect::v5(id).open_over(stream).ping();
        broker.wait_log(&["connected", &format!("client=\"{id}\""), &format!("address={address}")]);
    }
    assert!(!broker.log().contains("untrusted\"") && !broker.log().contains("unasked\""));
}

#[test]
fn a_script_of_mqttjs_comes_in_by_websocket() {
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/node_modules/mqtt");
    if !std::path::Path::new(modules).exists() {
        return println!("MQTT.js is not there");
    }
    let (broker, authority, port) = secured("");
    std::fs::write(broker.scratch().join("authority.crt"), authority.certificate()).unwrap();
    let script = r#"
        const mqtt = require(process.argv[2]), fs = require('fs'), ca = fs.readFileSync(process.argv[3]);
        const run = (url, version) => new Promise((done, fail) => {
            const client = mqtt.connect(url, { protocolVersion: version, ca, reconnectPeriod: 0 });
            client.on('error', fail);
            client.on('connect', () => client.subscribe('js', { qos: 1 }, () => client.publish('js', 'hello', { qos: 1 })));
            client.on('message', (_, text) => client.end(() => text.toString() === 'hello' ? done() : fail(text)));
        });
        (async () => {
            for (const version of [4, 5]) for (const url of process.argv.slice(4)) await run(url, version);
        })().catch((error) => { console.error(error); process.exit(1); });
    "#;
    let mut node = Command::new("node")
        .args(["-", modules])
        .arg(broker.scratch().join("authority.crt"))
        .args([format!("ws://localhost:{}/mqtt", broker.port()), format!("wss://localhost:{port}/mqtt")])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_renewed_certificate_is_taken_up_and_nobody_is_disconnected() {
    let (broker, authority, port) = secured("");
    let ca = authority.certificate();
    let mut before = Connect::v5("before").open_over(Stream::tcp(port).tls(&ca, None));
    let other = Authority::new();
    let renewed = other.sign("localhost", 2);
    broker.write("server.crt", &renewed.certificate);
    broker.write("server.key", &renewed.key);
    assert!(broker.reload().contains(" reloaded"));
    let mut after = Connect::v5("after").open_over(Stream::tcp(port).tls(&other.certificate(), None));
    after.ping();
    before.ping();
    // Half a renewal changes nothing: the key does not fit any more.
    broker.write("server.key", &authority.sign("localhost", 3).key);
    assert!(broker.reload().contains("not reloaded"));
    Connect::v5("still").open_over(Stream::tcp(port).tls(&other.certificate(), None)).ping();
    assert!(matches!(after.publish("t", "x", 1), 0x10));
    after.send(&[0xc0, 0]);
    assert_eq!(after.recv(), Packet::Pingresp);
}

/// One connection of each transport, by name.
fn each_transport(broker: &Broker, ca: &str, port: u16) -> [(&'static str, Stream); 4] {
    let plain = || Stream::tcp(broker.port());
    let tls = || Stream::tcp(port).tls(ca, None);
    [("tcp", plain()), ("ws", plain().websocket()), ("tls", tls()), ("wss", tls().websocket())]
}

#[test]
fn who_reads_late_gets_all_of_it_by_every_transport() {
    const MESSAGES: usize = 300;
    let (broker, authority, port) = secured("");
    let mut publisher = broker.v5("publisher");
    let body = "x".repeat(20_000);
    for (name, stream) in each_transport(&broker, &authority.certificate(), port) {
        let mut late = Connect::v5(name).persistent().open_over(stream);
        late.subscribe("t", 1);
        for n in 0..MESSAGES {
            publisher.send_publish(Publish::new("t", format!("{n:04}{body}")).qos(1));
        }
        for _ in 0..MESSAGES {
            assert!(matches!(publisher.recv(), Packet::Ack { code: 0, .. }));
        }
        for n in 0..MESSAGES {
            late.expect_payload(format!("{n:04}{body}"));
        }
        late.expect_nothing();
        late.disconnect();
    }
}

#[test]
fn the_last_words_arrive_by_every_transport() {
    let (mut broker, authority, port) = secured("");
    let ca = authority.certificate();
    for (name, stream) in each_transport(&broker, &ca, port) {
        let mut old = Connect::v5(name).open_over(stream);
        broker.v5(name).ping();
        old.expect_disconnect(&[0x8e]);
        assert!(old.stream().ended_cleanly(), "taken over by {name}");
    }
    for (name, stream) in each_transport(&broker, &ca, port) {
        let mut client = Connect::v311(name).open_over(stream);
        client.send(&[0xe0, 0]);
        client.expect_closed();
        assert!(client.stream().ended_cleanly(), "DISCONNECT by {name}");
    }
    let mut clients = each_transport(&broker, &ca, port).map(|(name, stream)| Connect::v5(name).open_over(stream));
    broker.terminate();
    for client in &mut clients {
        client.expect_disconnect(&[0x8b]);
        assert!(client.stream().ended_cleanly(), "the broker stops");
    }
}

#[test]
fn a_websocket_that_says_goodbye_is_answered() {
    let broker = Broker::start();
    let mut client = Connect::v311("ws").open_over(Stream::tcp(broker.port()).websocket());
    client.stream().frames().send_raw(&frame(0x88, &[3, 0xe8]));
    assert_eq!(client.expect_closed(), []);
    assert_eq!(client.stream().frames().control, [(8, vec![3, 0xe8])]);
    // Frames that no client may send: unmasked, reserved bits, an unknown opcode, a long ping, a fragmented one.
    for bad in [
        vec![0x82, 2, 0xc0, 0],
        frame(0xc2, &[0xc0, 0]),
        frame(0x83, &[0xc0, 0]),
        frame(0x89, &[0; 126]),
        frame(0x09, b""),
        frame(0x80, &[0xc0, 0]),
    ] {
        let mut client = Connect::v5("bad").open_over(Stream::tcp(broker.port()).websocket());
        client.stream().frames().send_raw(&bad);
        let seen = client.expect_closed();
        assert!(!seen.contains(&Packet::Pingresp), "{bad:x?} was taken: {seen:?}");
    }
    broker.v5("next").ping();
}

#[test]
fn a_message_larger_than_what_is_allowed_ends_a_websocket_too() {
    let broker = Broker::with(&["mqtt.max_packet_size=10KiB"]);
    let mut client = Connect::v5("ws").open_over(Stream::tcp(broker.port()).websocket());
    // Many packets in one frame may be larger than one packet may be, but not without end.
    let small = Publish::new("t", "x".repeat(1_000)).encode(V5);
    client.send(&small.repeat(8));
    client.ping();
    client.send(&Publish::new("t", "x".repeat(11_000)).encode(V5));
    client.expect_cut(&[0x95]);
}
