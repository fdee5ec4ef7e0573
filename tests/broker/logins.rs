//! Who comes in: passwords, SCRAM over AUTH packets, tokens that expire, and a service that is asked over HTTP.

use crate::support::secrets::{in_seconds, password_line, scram_first, scram_last, scram_line, token};
use crate::support::wire::{self, Value};
use crate::support::{Broker, Client, Connect, Packet, Prop, Publish, V5, V31, V311, VERSIONS, prop, wait_until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const LISTENER: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n[auth]\n";
const SECRET: &str = "a secret that signs tokens";

fn by_password(users: &str) -> Broker {
    Broker::configured(&format!("{LISTENER}password_file = \"{{folder}}/passwords\"\n"), &[("passwords", users)])
}

#[test]
fn only_the_right_password_comes_in() {
    let broker = by_password(&password_line("ann", "right"));
    for version in VERSIONS {
        let ann = || Connect::of(version, "ann");
        let v5 = version == V5;
        for (connect, before_v5, code) in [
            (ann().user("ann", Some(b"wrong")), 5, 0x86),
            (ann().user("ann", None), 5, 0x86),
            (ann().user("nobody", Some(b"right")), 5, 0x86),
            (ann().user("", Some(b"right")), 5, 0x86),
            (ann(), 5, 0x87),
        ] {
            let (mut client, found) = connect.open_any(&broker);
            assert_eq!(found, if v5 { code } else { before_v5 }, "{connect:?}");
            client.expect_closed();
        }
        ann().user("ann", Some(b"right")).open(&broker).ping();
    }
    broker.wait_log(&["refused", "wrong user name or password", "nobody"]);
}

#[test]
fn who_fails_too_often_waits() {
    let config = format!(
        "{LISTENER}password_file = \"{{folder}}/passwords\"\nbackoff_after = 2\nbackoff_first = \"1h\"\n\
        backoff_max = \"1h\"\n"
    );
    let users = password_line("ann", "right") + &password_line("bob", "right");
    let broker = Broker::configured(&config, &[("passwords", &users)]);
    let mut ann = Connect::v5("ann").user("ann", Some(b"right")).open(&broker);
    let fail = |password: &str| Connect::v5("eve").user("ann", Some(password.as_bytes())).open_any(&broker).1;
    let banned = |code: u8| code == 0x8a;
    // The same wrong password again and again is one failure.
    assert!((0..5).all(|_| !banned(fail("wrong"))));
    assert!((0..5).any(|n| banned(fail(&n.to_string()))));
    // The address waits now, but for those whose password was right a moment ago.
    assert_eq!(Connect::v5("bob").user("bob", Some(b"right")).open_any(&broker).1, 0x8a);
    assert_eq!(Connect::v311("bob").user("bob", Some(b"right")).open_any(&broker).1, 5);
    Connect::v5("again").user("ann", Some(b"right")).open(&broker).ping();
    ann.ping();
}

fn method(name: &str) -> Prop {
    Prop(prop::AUTH_METHOD, Value::Text(name.into()))
}

fn data(text: &str) -> Prop {
    Prop(prop::AUTH_DATA, Value::Bin(text.as_bytes().into()))
}

const SCRAM: &str = "SCRAM-SHA-256";

/// An AUTH packet.
fn auth(reason: u8, name: &str, text: &str) -> Vec<u8> {
    wire::packet(0xf0, &[&[reason][..], &wire::properties(&[method(name), data(text)])].concat())
}

/// The next packet, which must be AUTH with this reason; gives its data.
#[track_caller]
fn expect_auth(client: &mut Client, reason: u8) -> String {
    match client.recv() {
        Packet::Auth { code, props } => {
            assert_eq!(code, reason);
            assert_eq!(wire::text(&props, prop::AUTH_METHOD), Some(SCRAM), "[MQTT-4.12.0-5]");
            data_of(&props)
        }
        other => panic!("expected AUTH, got {other:?}"),
    }
}

fn data_of(props: &[Prop]) -> String {
    let data = props.iter().find_map(|prop| match &prop.1 {
        Value::Bin(data) if prop.0 == prop::AUTH_DATA => Some(data.clone()),
        _ => None,
    });
    String::from_utf8(data.unwrap_or_default()).unwrap()
}

/// The beginning of an exchange: the client, and the broker's challenge.
#[track_caller]
fn begin(broker: &Broker, user: &str) -> (Client, String) {
    let connect = Connect::v5("scram").prop(method(SCRAM)).prop(data(&scram_first(user)));
    let mut client = connect.send_to(broker);
    let challenge = expect_auth(&mut client, 0x18);
    (client, challenge)
}

#[test]
fn scram_proves_both_sides_and_can_be_repeated() {
    let broker = by_password(&scram_line("ann", "pencil"));
    let (mut client, challenge) = begin(&broker, "ann");
    let (last, proof) = scram_last("ann", "pencil", &challenge);
    client.send(&auth(0x18, SCRAM, &last));
    match client.recv() {
        Packet::Connack { code: 0, props, .. } => {
            assert_eq!(wire::text(&props, prop::AUTH_METHOD), Some(SCRAM), "[MQTT-4.12.0-5]");
            assert_eq!(data_of(&props), proof, "the broker knows the user too");
        }
        other => panic!("{other:?}"),
    }
    client.ping();
    broker.wait_log(&["connected", "client=\"scram\"", "user=\"ann\""]);

    // Re-authentication, with messages under way meanwhile [MQTT-4.12.1-1].
    client.subscribe("t", 1);
    client.send(&auth(0x19, SCRAM, &scram_first("ann")));
    let challenge = expect_auth(&mut client, 0x18);
    assert_eq!(client.publish("t", "meanwhile", 1), 0);
    client.expect_payload("meanwhile");
    let (last, proof) = scram_last("ann", "pencil", &challenge);
    client.send(&auth(0x18, SCRAM, &last));
    assert_eq!(expect_auth(&mut client, 0), proof);
    client.ping();

    // One that fails ends the connection [MQTT-4.12.1-2].
    client.send(&auth(0x19, SCRAM, &scram_first("ann")));
    let challenge = expect_auth(&mut client, 0x18);
    client.send(&auth(0x18, SCRAM, &scram_last("ann", "wrong", &challenge).0));
    client.expect_disconnect(&[0x87]);
}

#[test]
fn who_fails_too_often_by_scram_waits_too() {
    let config = format!(
        "{LISTENER}password_file = \"{{folder}}/passwords\"\nbackoff_after = 2\nbackoff_first = \"1h\"\n\
        backoff_max = \"1h\"\n"
    );
    let broker = Broker::configured(&config, &[("passwords", &scram_line("ann", "pencil"))]);
    for _ in 0..3 {
        let (mut client, challenge) = begin(&broker, "ann");
        client.send(&auth(0x18, SCRAM, &scram_last("ann", "wrong", &challenge).0));
        assert!(matches!(client.recv(), Packet::Connack { code: 0x86 | 0x87, .. }));
    }
    // Not even a challenge.
    let connect = Connect::v5("scram").prop(method(SCRAM)).prop(data(&scram_first("ann")));
    assert_eq!(connect.open_any(&broker).1, 0x8a);
}

#[test]
fn scram_counts_where_it_is_in_the_chain() {
    for (chain, code) in [("\"password\"", 0x8c), ("\"scram\"", 0x18)] {
        let config = format!("{LISTENER}password_file = \"{{folder}}/passwords\"\nchain = [{chain}]\n");
        let broker = Broker::configured(&config, &[("passwords", &scram_line("ann", "pencil"))]);
        let mut client = Connect::v5("scram").prop(method(SCRAM)).prop(data(&scram_first("ann"))).send_to(&broker);
        match client.recv() {
            Packet::Connack { code: found, .. } => assert_eq!(found, code),
            other => assert!(matches!(other, Packet::Auth { code: 0x18, .. }) && code == 0x18),
        }
    }
}

#[test]
fn scram_lets_nobody_else_in() {
    let broker = by_password(&(scram_line("ann", "pencil") + &scram_line("bob", "pencil")));
    for (user, password) in [("ann", "wrong"), ("nobody", "pencil")] {
        let (mut client, challenge) = begin(&broker, user);
        client.send(&auth(0x18, SCRAM, &scram_last(user, password, &challenge).0));
        assert!(matches!(client.recv(), Packet::Connack { code: 0x86 | 0x87, .. }));
        client.expect_closed();
    }
    // Another method, with CONNECT and in the middle.
    let (mut client, code) = Connect::v5("other").prop(method("GSSAPI")).open_any(&broker);
    assert_eq!(code, 0x8c);
    client.expect_closed();
    let (mut client, challenge) = begin(&broker, "ann");
    client.send(&auth(0x18, "SCRAM-SHA-1", &scram_last("ann", "pencil", &challenge).0));
    client.expect_cut(&[0x82, 0x8c]);
    // [MQTT-3.1.2-30]: nothing but AUTH and DISCONNECT before CONNACK.
    let (mut client, _) = begin(&broker, "ann");
    client.send_publish(Publish::new("t", "x"));
    client.expect_cut(&[0x82]);
    // AUTH without a method in CONNECT; re-authentication as somebody else.
    let mut plain = Connect::v5("plain").user("ann", Some(b"pencil")).open(&broker);
    plain.send(&auth(0x19, SCRAM, &scram_first("ann")));
    plain.expect_disconnect(&[0x82]);
    let (mut client, challenge) = begin(&broker, "ann");
    client.send(&auth(0x18, SCRAM, &scram_last("ann", "pencil", &challenge).0));
    assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
    client.send(&auth(0x19, SCRAM, &scram_first("bob")));
    let challenge = expect_auth(&mut client, 0x18);
    client.send(&auth(0x18, SCRAM, &scram_last("bob", "pencil", &challenge).0));
    client.expect_disconnect(&[0x87]);
}

#[test]
fn a_token_counts_until_it_expires() {
    let rules = "allow user root to all on #\nallow group readers to subscribe on read/#\n";
    let config = format!(
        "{LISTENER}jwt_secret = \"{SECRET}\"\njwt_issuer = \"tests\"\n[access]\nrules = \"{{folder}}/rules\"\n"
    );
    let broker = Broker::configured(&config, &[("rules", rules)]);
    let exp = in_seconds(3_600);
    let sign = |claims: &str| token(SECRET, &format!("{{\"iss\":\"tests\",{claims}}}"));
    let with = |version, token: &str| Connect::of(version, "dev").user("ignored", Some(token.as_bytes()));
    let right = sign(&format!(r#""sub":"ann","exp":{exp},"groups":["readers"],"publish":["own/%u/%c"]"#));
    for version in [V31, V311, V5] {
        let mut client = with(version, &right).open(&broker);
        let v5 = version == V5;
        assert_eq!(client.subscribe("read/1", 1), 1);
        assert_eq!(client.subscribe("other", 1), if v5 { 0x87 } else { 0x80 });
        assert_eq!(client.publish("own/ann/dev", "x", 1), if v5 { 0x10 } else { 0 });
        assert_eq!(client.publish("own/bob/dev", "x", 1), if v5 { 0x87 } else { 0 });
        client.disconnect();
    }
    broker.wait_log(&["connected", "user=\"ann\""]);
    for wrong in [
        sign(&format!(r#""sub":"ann","exp":{}"#, in_seconds(-3_600))),
        sign(r#""sub":"ann""#),
        sign(&format!(r#""exp":{exp}"#)),
        sign(&format!(r#""sub":"ann","exp":{exp},"client_id":"other""#)),
        sign(&format!(r#""sub":"ann","exp":{exp},"nbf":{exp}"#)),
        token(SECRET, &format!(r#"{{"iss":"other","sub":"ann","exp":{exp}}}"#)),
        token("another secret of that length", &format!(r#"{{"iss":"tests","sub":"ann","exp":{exp}}}"#)),
        format!("{}.", right.rsplit_once('.').unwrap().0),
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", right.split('.').nth(1).unwrap()),
        "no token".to_owned(),
    ] {
        assert_eq!(with(V5, &wrong).open_any(&broker).1, 0x86, "{wrong}");
    }
    // Clocks may differ by half a minute: this one has two seconds left.
    let soon = sign(&format!(r#""sub":"ann","exp":{}"#, in_seconds(-28)));
    let mut v5 = with(V5, &soon).open(&broker);
    v5.expect_disconnect(&[0xa0]);
    let soon = sign(&format!(r#""sub":"ann","exp":{}"#, in_seconds(-28)));
    let mut v311 = with(V311, &soon).open(&broker);
    assert_eq!(v311.expect_closed(), []);
    with(V5, &right).open(&broker).ping();
}

/// A service that answers each question by its user, and keeps what it was asked.
struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, kept) = (BufReader::new(stream.unwrap()), Arc::clone(&kept));
                std::thread::spawn(move || while Self::answer(&mut stream, &kept).is_some() {});
            }
        });
        Self { port, asked }
    }

    /// One question and its answer; `None` at the end of the connection.
    fn answer(stream: &mut BufReader<std::net::TcpStream>, kept: &Mutex<Vec<String>>) -> Option<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body: String = String::from_utf8(body).ok()?.split_whitespace().collect();
        let (status, answer) = match () {
            () if body.contains(r#""user":"ann""#) => {
                (200, r##"{"allow":true,"groups":["makers"],"publish":["own/%u"],"subscribe":["#"]}"##)
            }
            () if body.contains(r#""user":"brief""#) => (200, r#"{"allow":true,"expires_in":1}"#),
            () if body.contains(r#""user":"broken""#) => (200, "what?"),
            () if body.contains(r#""user":"down""#) => (500, ""),
            () if body.contains(r#""user":"silent""#) => loop {
                std::thread::park();
            },
            () => (403, ""),
        };
        kept.lock().unwrap().push(head + &body);
        write!(stream.get_mut(), "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).ok()
    }
}

#[test]
fn a_service_is_asked_over_http() {
    let service = Service::start();
    let rules = "allow group makers to publish on made/#\nallow user root to all on #\n";
    let config = format!(
        "{LISTENER}http_url = \"http://127.0.0.1:{}/auth\"\nhttp_token = \"bearer-of-tests\"\nhttp_timeout = \"1s\"\n\
         http_cache = \"1h\"\n[access]\nrules = \"{{folder}}/rules\"\n",
        service.port
    );
    let broker = Broker::configured(&config, &[("rules", rules)]);
    let with = |version, user: &str| Connect::of(version, "dev").user(user, Some(b"pw"));
    let mut client = with(V5, "ann").open(&broker);
    let question = service.asked.lock().unwrap()[0].clone();
    for part in [r#""client_id":"dev""#, r#""user":"ann""#, r#""password":"pw""#, r#""address":"127.0.0.1""#] {
        assert!(question.contains(part), "{part} in {question}");
    }
    assert!(question.to_lowercase().contains("authorization: bearer bearer-of-tests"), "{question}");
    assert_eq!(client.subscribe("own/ann", 1), 1);
    assert_eq!(client.publish("own/ann", "mine", 1), 0);
    client.expect_payload("mine");
    assert_eq!(client.publish("own/bob", "x", 1), 0x87);
    assert_eq!(client.publish("made/1", "x", 1), 0x10);
    // What it said holds for a while, for the same credentials.
    with(V5, "ann").open(&broker).ping();
    assert_eq!(service.asked.lock().unwrap().len(), 1);
    Connect::v5("dev").user("ann", Some(b"other")).open(&broker).ping();
    assert_eq!(service.asked.lock().unwrap().len(), 2);

    for (user, v5, before) in [("eve", 0x86, 5), ("down", 0x88, 3), ("broken", 0x88, 3), ("silent", 0x88, 3)] {
        assert_eq!(with(V5, user).open_any(&broker).1, v5, "{user}");
        assert_eq!(with(V311, user).open_any(&broker).1, before, "{user}");
    }
    let mut brief = with(V5, "brief").open(&broker);
    brief.expect_disconnect(&[0xa0]);
    // Asking anew finds out anew.
    wait_until("it is let in again", crate::support::PATIENCE, || with(V5, "brief").open_any(&broker).1 == 0);
}

#[test]
fn a_listener_may_take_some_ways_only_and_others_none() {
    let second = crate::support::broker::free_port();
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:{{port}}\"\nanonymous = true\nauthentication = [\"jwt\"]\n\
         [listeners.second]\naddress = \"127.0.0.1:{second}\"\nauthentication = [\"password\"]\n[auth]\n\
         password_file = \"{{folder}}/passwords\"\njwt_secret = \"{SECRET}\"\n"
    );
    let broker = Broker::configured(&config, &[("passwords", &password_line("ann", "pw"))]);
    let token = token(SECRET, &format!(r#"{{"sub":"ann","exp":{}}}"#, in_seconds(3_600)));
    let code = |port: u16, password: Option<&str>| {
        let connect = Connect::v5("c");
        let connect = match password {
            Some(password) => connect.user("ann", Some(password.as_bytes())),
            None => connect,
        };
        let mut client = connect.send_to_port(port);
        match client.recv() {
            Packet::Connack { code, .. } => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (code(broker.port(), None), code(broker.port(), Some("pw")), code(broker.port(), Some(&token))),
        (0, 0x86, 0)
    );
    assert_eq!((code(second, None), code(second, Some("pw")), code(second, Some(&token))), (0x87, 0, 0x86));
}
