//! F57 to F60: WebSocket frames, the PROXY protocol, and SIGHUP.

use crate::support::secrets::{Authority, password_line};
use crate::support::stream::frame;
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, Stream, V5, V311, Will, hex, ms};

/// A client over WebSocket, connected.
#[track_caller]
fn websocket(broker: &Broker, version: u8) -> Client {
    Connect::of(version, "ws").open_over(Stream::tcp(broker.port()).websocket())
}

#[test]
fn f57_empty_and_control_frames_leave_the_stream_as_it_is() {
    let broker = Broker::start();
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("a", 0);
    for version in [V5, V311] {
        let mut client = websocket(&broker, version);
        let frames = client.stream().frames();
        frames.send_raw(&frame(0x82, b""));
        frames.send_raw(&frame(0x82, &[0xc0, 0]));
        assert_eq!(client.recv(), Packet::Pingresp);
        let publish = Publish::new("a", "in halves").encode(version);
        let (head, tail) = publish.split_at(4);
        let frames = client.stream().frames();
        for piece in [
            frame(0x02, head),
            frame(0x00, b""),
            frame(0x89, &[7; 125]),
            frame(0x8a, b"nobody asked"),
            frame(0x00, b""),
            frame(0x80, tail),
            frame(0x82, &[0xc0, 0]),
        ] {
            frames.send_raw(&piece);
        }
        watcher.expect_payload("in halves");
        assert_eq!(client.recv(), Packet::Pingresp);
        assert_eq!(client.stream().frames().control, [(10, vec![7; 125])], "the ping is answered with its own data");
        client.ping();
    }
}

#[test]
fn f58_frames_and_packets_need_not_end_together() {
    let broker = Broker::start();
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("t/#", 1);
    for version in [V311, V5] {
        let connect = Connect::of(version, "script").encode();
        let fresh = || Client::over(Stream::tcp(broker.port()).websocket(), version);
        let subscribe = hex(if version == V5 { "82080001000002732f00" } else { "820700010002732f00" });
        let publish = Publish::new("t/1", "halved").encode(version);

        // The first byte in a frame of its own; then each byte in one.
        let mut client = fresh();
        client.send(&connect[..1]);
        client.send(&connect[1..]);
        assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
        publish.iter().for_each(|byte| client.send(&[*byte]));
        watcher.expect_payload("halved");

        // CONNECT, SUBSCRIBE and half a PUBLISH in one, the other half and PINGREQ in the next.
        let mut client = fresh();
        client.send(&[&connect[..], &subscribe, &publish[..5]].concat());
        assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
        assert!(matches!(client.recv(), Packet::Suback { .. }));
        client.send(&[&publish[5..], &[0xc0, 0]].concat());
        watcher.expect_payload("halved");
        assert_eq!(client.recv(), Packet::Pingresp);

        // One packet over a fragmented message.
        let mut client = fresh();
        client.stream().frames().send_raw(&[frame(0x02, &connect[..3]), frame(0x80, &connect[3..])].concat());
        assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));

        // [MQTT-6.0.0-1]: a text frame ends the connection.
        client.stream().frames().send_raw(&frame(0x81, &[0xc0, 0]));
        client.expect_cut(&[0x81, 0x82]);
        watcher.ping();
    }
}

const PROXY_TCP: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

/// A header of version 2: command, family, and what follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

#[test]
fn f59_the_address_is_the_one_that_the_balancer_tells() {
    let authority = Authority::new();
    let own = authority.sign("localhost", 1);
    let tls = "certificate = \"{folder}/server.crt\"\nkey = \"{folder}/server.key\"\n";
    let files = [("server.crt", own.certificate.as_str()), ("server.key", own.key.as_str())];
    let plain = Broker::configured(PROXY_TCP, &files);
    let secure = Broker::configured(&format!("{PROXY_TCP}{tls}"), &files);
    let ca = authority.certificate();
    let four = [192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 7, 91];
    let tlv = [&four[..], &[0xee, 0, 3, 1, 2, 3]].concat();
    let mut six = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].to_vec();
    six.extend([0; 15]);
    six.extend([1, 0x30, 0x39, 7, 91]);
    let headers: [(&str, Vec<u8>, &str); 6] = [
        ("v1", b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 1883\r\n".to_vec(), "192.0.2.7:12345"),
        ("v1six", b"PROXY TCP6 2001:db8::7 ::1 12345 1883\r\n".to_vec(), "[2001:db8::7]:12345"),
        ("v2four", v2(0x21, 0x11, &four), "192.0.2.7:12345"),
        ("v2tlv", v2(0x21, 0x11, &tlv), "192.0.2.7:12345"),
        ("v2six", v2(0x21, 0x21, &six), "[2001:db8::7]:12345"),
        ("v2local", v2(0x20, 0, &[]), "127.0.0.1:"),
    ];
    for (broker, encrypted) in [(&plain, false), (&secure, true)] {
        let through = |header: &[u8]| {
            let stream = Stream::tcp(broker.port()).after(header);
            if encrypted { stream.tls(&ca, None) } else { stream }
        };
        for (name, header, address) in &headers {
            for websocket in [false, true] {
                let id = format!("{name}-{websocket}");
                let stream = if websocket { through(header).websocket() } else { through(header) };
                Connect::v5(&id).open_over(stream).ping();
                let line = broker.wait_log(&["connected", &format!("client=\"{id}\"")]);
                assert!(line.contains(&format!("address={address}")), "{address} in {line}");
            }
        }
        // A health check, and nothing more: accepted, and no line for an operator.
        for header in [v2(0x20, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
            drop(Stream::tcp(broker.port()).after(&header));
        }
        // No header at all: closed, on every kind of connection.
        let connect = Connect::v311("bare").encode();
        let mut bare = Client::over(Stream::tcp(broker.port()), V311);
        bare.send(&connect);
        assert_eq!(bare.expect_closed(), []);
        let mut http = Client::over(Stream::tcp(broker.port()), V311);
        http.send(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(http.bytes_until_closed(), []);
        broker.wait_log(&["refused", "its header is missing"]);
        let log = broker.log();
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR ") && !log.contains("a balancer's check"), "{log}");
        assert!(!log.contains("client=\"bare\""), "{log}");
    }
}

#[test]
fn f60_sighup_disconnects_nobody_whose_credentials_stand() {
    let authority = Authority::new();
    let (server, client) = (authority.sign("localhost", 1), authority.sign("device", 2));
    let config = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nauthentication = [\"password\"]\n\
        [listeners.tls]\naddress = \"unix:{folder}/unused\"\n[auth]\npassword_file = \"{folder}/passwords\"\n";
    let port = crate::support::broker::free_port();
    let config = config.replace(
        "address = \"unix:{folder}/unused\"",
        &format!(
            "address = \"127.0.0.1:{port}\"\ncertificate = \"{{folder}}/server.crt\"\nkey = \"{{folder}}/server.key\"\n\
             client_ca = \"{{folder}}/ca.crt\"\nidentity = \"cn\"\nauthentication = [\"certificate\"]"
        ),
    );
    let ann = password_line("ann", "pw");
    let ca = authority.certificate();
    let files = [
        ("server.crt", server.certificate.as_str()),
        ("server.key", server.key.as_str()),
        ("ca.crt", ca.as_str()),
        ("passwords", ann.as_str()),
    ];
    let broker = Broker::configured(&config, &files);
    let will = || Will::new("will", "gone").qos(1);
    let mut watcher = Connect::v5("watcher").user("ann", Some(b"pw")).open(&broker);
    watcher.subscribe("will", 1);
    let mut by_password = Connect::v5("password").user("ann", Some(b"pw")).persistent().will(will()).open(&broker);
    let stream = Stream::tcp(port).tls(&ca, Some((&client.certificate, &client.key)));
    let mut by_certificate = Connect::v311("certificate").persistent().will(will()).open_over(stream);
    assert!(broker.wait_log(&["connected", "client=\"certificate\""]).contains("device"), "{}", broker.log());
    for round in 0..4 {
        if round == 3 {
            broker.write("passwords", &format!("{ann}{}", password_line("bob", "other")));
        }
        assert!(broker.reload().contains(" reloaded"));
        by_password.ping();
        by_certificate.ping();
        watcher.expect_nothing();
    }
    assert_eq!(by_certificate.read_packet(ms(10)), Read::Timeout);
    Connect::v5("new").user("bob", Some(b"other")).open(&broker).disconnect();
}
