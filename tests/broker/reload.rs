//! SIGHUP: the configuration read again, and put in force whole or not at all.

use crate::support::broker::free_port;
use crate::support::secrets::{Authority, password_line, scram_line};
use crate::support::{Broker, Client, Connect, PATIENCE, Publish, Read, Stream, V5, V311, Will, ms, wait_until};
use std::net::TcpStream;

const MAIN: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n";

/// A second listener on this port.
fn second(port: u16, more: &str) -> String {
    format!("{MAIN}[listeners.second]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n{more}")
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn nothing_changed_changes_nothing() {
    let mut broker = Broker::configured(MAIN, &[]);
    let mut client = Connect::v5("c").persistent().will(Will::new("will", "w")).open(&broker);
    client.subscribe("t", 1);
    for _ in 0..3 {
        let line = broker.reload();
        assert!(line.contains(" reloaded") && !line.contains("WARN"), "{line}");
        assert_eq!(client.publish("t", "x", 1), 0);
        client.expect_payload("x");
    }
    client.expect_nothing();
    assert!(broker.is_running());
}

#[test]
fn a_signal_right_after_the_start_is_none_too_early() {
    for _ in 0..5 {
        let mut broker = Broker::configured(MAIN, &[]);
        broker.reload();
        assert!(broker.is_running());
        broker.v5("c").ping();
    }
}

#[test]
fn a_file_with_mistakes_changes_nothing_at_all() {
    let port = free_port();
    let rules = "allow everyone to all on #\n";
    let config = |more: &str| {
        format!(
            "{MAIN}{more}[auth]\npassword_file = \"{{folder}}/passwords\"\n[access]\nrules = \"{{folder}}/rules\"\n"
        )
    };
    let users = password_line("ann", "pw");
    let broker = Broker::configured(&config(""), &[("passwords", &users), ("rules", rules)]);
    let mut ann = Connect::v5("ann").user("ann", Some(b"pw")).open(&broker);
    let added = format!("[listeners.second]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n");
    let refused = |what: &str, parts: &[&str]| {
        let line = broker.reload();
        assert!(line.contains("not reloaded"), "{what}: {line}");
        for part in parts {
            assert!(broker.log().contains(part), "{what}: {part:?} in {}", broker.log());
        }
        assert!(!is_open(port), "{what}: a listener of a bad file");
    };
    // A key that nobody knows, beside a listener that could be opened; a broken file; no file.
    broker.configure(&(config(&added) + "ruels = \"x\"\n"));
    refused("unknown key", &["ruels"]);
    broker.configure("[listeners.main\n");
    refused("broken", &["nightjar.toml"]);
    std::fs::remove_file(broker.config_path()).unwrap();
    refused("gone", &["nightjar.toml"]);
    // Good settings that name bad files.
    broker.configure(&config(&added));
    broker.write("passwords", "ann:$7$broken\n");
    refused("passwords", &["passwords:1"]);
    broker.write("passwords", &users);
    broker.write("rules", "allow everyone to all on #\ndeny nobody to breathe\n");
    refused("rules", &["rules:2"]);
    // An address that somebody else has.
    broker.write("rules", "deny everyone to publish on #\n");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().port();
    broker.configure(&config(&format!(
        "{added}[listeners.third]\naddress = \"127.0.0.1:{address}\"\nanonymous = true\n"
    )));
    refused("address", &["third"]);
    assert_eq!(ann.publish("t", "x", 1), 0x10, "the rules are as they were");
    // With the last mistake mended, all of it counts.
    broker.configure(&config(&added));
    assert!(!broker.reload().contains("not reloaded"));
    assert!(is_open(port));
    assert_eq!(ann.publish("t", "x", 1), 0x87);
}

#[test]
fn listeners_come_change_and_go_and_their_clients_stay() {
    let (port, other) = (free_port(), free_port());
    let broker = Broker::configured(MAIN, &[]);
    let mut main = broker.v5("main");
    assert!(!is_open(port));
    broker.configure(&second(port, ""));
    assert!(broker.reload().contains("listeners"));
    let mut early = Connect::v5("early").open_over(Stream::tcp(port));
    // It changes: what is announced from then on, and who may come.
    broker.configure(&second(port, "max_packet_size = \"2KiB\"\nprotocols = [\"mqtt\"]\n"));
    broker.reload();
    let mut late = Connect::v5("late").open_over(Stream::tcp(port));
    let large = "x".repeat(4_000);
    early.send_publish(Publish::new("t", &large));
    early.ping();
    late.send_publish(Publish::new("t", &large));
    late.expect_disconnect(&[0x95]);
    assert!(Stream::tcp(port).upgrade("/", "").1.starts_with("HTTP/1.1 400"));
    // It moves.
    broker.configure(&second(other, ""));
    broker.reload();
    wait_until("the old address is closed", PATIENCE, || !is_open(port));
    let mut moved = Connect::v5("moved").open_over(Stream::tcp(other));
    // It becomes private, and goes.
    broker.configure(&second(other, "").replacen(
        "anonymous = true\n[listeners.second]",
        "anonymous = true\n[listeners.second]\nauthentication = [\"password\"]",
        1,
    ));
    broker.reload();
    broker.configure(MAIN);
    broker.reload();
    wait_until("the listener is gone", PATIENCE, || !is_open(other));
    for client in [&mut main, &mut early, &mut moved] {
        client.ping();
    }
    broker.v5("next").ping();
}

#[test]
fn a_unix_socket_comes_and_goes_with_its_file() {
    let broker = Broker::configured(MAIN, &[]);
    let path = broker.scratch().join("sock");
    let with = format!("{MAIN}[listeners.local]\naddress = \"unix:{{folder}}/sock\"\nanonymous = true\n");
    for _ in 0..2 {
        broker.configure(&with);
        broker.reload();
        let mut client = Connect::v5("local").open_over(Stream::unix(&path));
        client.ping();
        broker.reload();
        client.ping();
        Connect::v5("again").open_over(Stream::unix(&path)).ping();
        broker.configure(MAIN);
        broker.reload();
        assert!(!path.exists());
    }
}

#[test]
fn limits_and_the_log_level_count_at_once() {
    let broker = Broker::configured(MAIN, &[]);
    let mut before = broker.v5("before");
    before.subscribe("a", 1);
    let changed = format!(
        "{MAIN}[mqtt]\nmax_subscriptions = 1\nmax_topic_levels = 3\n[log]\nlevel = \"debug\"\n[limits]\nmax_connections = 2\n"
    );
    broker.configure(&changed);
    let line = broker.reload();
    for key in ["mqtt.max_subscriptions", "mqtt.max_topic_levels", "log.level", "limits.max_connections"] {
        assert!(line.contains(key), "{key} in {line}");
    }
    assert_eq!(before.subscribe("b", 1), 0x97, "of a client that was there before");
    assert_eq!(before.subscribe("a", 0), 0);
    let after = broker.v5("after");
    assert_eq!(Connect::v5("third").open_any(&broker).1, 0x89);
    drop(after);
    // Who is cut off at the door is told of at debug alone.
    broker.configure(&changed.replace("anonymous = true", "anonymous = true\nconnection_rate = 1"));
    broker.reload();
    let held: Vec<_> = (0..3).map(|_| broker.socket()).collect();
    broker.wait_log(&[" DEBUG ", "too many new connections"]);
    drop(held);
    // What a connection was promised stays: its packets may be as large as CONNACK said.
    broker.configure(&format!("{MAIN}[mqtt]\nmax_packet_size = \"1KiB\"\nreceive_maximum = 1\n"));
    broker.reload();
    before.send_publish(Publish::new("a", "x".repeat(10_000)));
    before.expect_publish();
    let mut after = broker.v5("after");
    after.send_publish(Publish::new("a", "x".repeat(10_000)));
    after.expect_disconnect(&[0x95]);
}

#[test]
fn what_needs_a_restart_is_said() {
    let broker = Broker::configured(MAIN, &[]);
    broker.configure(&format!("{MAIN}[store]\ndurability = \"memory\"\n[mqtt]\nmax_qos = 1\n"));
    let line = broker.reload();
    assert!(line.contains("WARN") && line.contains("restart=\"store.durability\""), "{line}");
    assert!(line.contains("changed=\"mqtt.max_qos\""), "{line}");
}

const PASSWORDS: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n[auth]\npassword_file = \"{folder}/passwords\"\n";

#[test]
fn who_is_revoked_is_disconnected_and_nobody_else() {
    let lines = |ann: &str| password_line("ann", ann) + &password_line("bob", "pw") + &scram_line("eve", "pw");
    let broker = Broker::configured(PASSWORDS, &[("passwords", &lines("pw"))]);
    let open = |version, user: &str, id: &str| {
        Connect::of(version, id).user(user, Some(b"pw")).persistent().will(Will::new("will", id)).open(&broker)
    };
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut ann = [open(V5, "ann", "ann5"), open(V311, "ann", "ann4")];
    let mut rest = [open(V5, "bob", "bob"), open(V5, "eve", "eve")];
    // Another password.
    broker.write("passwords", &lines("other"));
    broker.reload();
    for client in &mut ann {
        client.expect_disconnect(&[0x87]);
    }
    let mut wills = [watcher.expect_publish().text(), watcher.expect_publish().text()];
    wills.sort();
    assert_eq!(wills, ["ann4", "ann5"], "it did not leave of its own will");
    rest.iter_mut().for_each(Client::ping);
    assert_eq!(
        Connect::v5("a").user("ann", Some(b"pw")).open_any(&broker).1,
        0x86,
        "what was remembered is not any more"
    );
    // No line any more.
    broker.write("passwords", &password_line("bob", "pw"));
    broker.reload();
    rest[1].expect_disconnect(&[0x87]);
    rest[0].ping();
    // No file any more: nobody can say who anybody is.
    broker.configure(MAIN);
    broker.reload();
    rest[0].expect_disconnect(&[0x87]);
    watcher.recv();
    watcher.recv();
    watcher.ping();
}

#[test]
fn a_revoked_certificate_ends_its_connections() {
    let authority = Authority::new();
    let (server, lost, kept) = (authority.sign("localhost", 1), authority.sign("lost", 2), authority.sign("kept", 3));
    let port = free_port();
    let config = format!(
        "{MAIN}[listeners.tls]\naddress = \"127.0.0.1:{port}\"\ncertificate = \"{{folder}}/server.crt\"\n\
         key = \"{{folder}}/server.key\"\nclient_ca = \"{{folder}}/ca.crt\"\ncrl = \"{{folder}}/crl\"\nidentity = \"cn\"\n"
    );
    let (ca, none) = (authority.certificate(), authority.revocations(&[]));
    let files = [
        ("server.crt", server.certificate.as_str()),
        ("server.key", server.key.as_str()),
        ("ca.crt", ca.as_str()),
        ("crl", none.as_str()),
    ];
    let broker = Broker::configured(&config, &files);
    let tls = |own: (&str, &str)| Stream::tcp(port).tls(&ca, Some(own));
    let (lost, kept) =
        ((lost.certificate.as_str(), lost.key.as_str(), &lost), (kept.certificate.as_str(), kept.key.as_str()));
    let mut clients =
        [V5, V311].map(|version| Connect::of(version, &format!("lost{version}")).open_over(tls((lost.0, lost.1))));
    let mut other = Connect::v5("kept").open_over(tls(kept));
    let mut plain = broker.v5("plain");
    broker.write("crl", &authority.revocations(&[lost.2]));
    // What is wrong elsewhere keeps the list from being in force, and does not make it forgotten.
    broker.configure(&format!("{config}[limits]\nmax_connections = \"many\"\n"));
    assert!(broker.reload().contains("not reloaded"));
    clients.iter_mut().for_each(Client::ping);
    broker.configure(&config);
    broker.reload();
    for client in &mut clients {
        client.expect_disconnect(&[0x87]);
    }
    other.ping();
    plain.ping();
    let mut again = Client::over(tls((lost.0, lost.1)), V5);
    again.try_send(&Connect::v5("again").encode());
    assert_eq!(again.expect_closed(), []);
    Connect::v5("next").open_over(tls(kept)).ping();
    assert_eq!(other.read_packet(ms(1)), Read::Timeout);
    // Another authority besides changes nothing; without the first its certificates are no good any more.
    let another = Authority::new().certificate();
    broker.write("ca.crt", &(ca.clone() + &another));
    broker.reload();
    other.ping();
    broker.write("ca.crt", &another);
    broker.reload();
    other.expect_disconnect(&[0x87]);
    plain.ping();
}

#[test]
fn a_way_in_that_is_closed_ends_the_connections_that_came_by_it() {
    let passwords = password_line("ann", "pw") + &scram_line("bob", "pw");
    let broker = Broker::configured(PASSWORDS, &[("passwords", &passwords)]);
    let mut anonymous = [broker.v5("nobody"), broker.v311("nobody4")];
    let mut ann = Connect::v5("ann").user("ann", Some(b"pw")).open(&broker);
    broker.configure(&PASSWORDS.replace("anonymous = true", "anonymous = false"));
    broker.reload();
    for client in &mut anonymous {
        client.expect_disconnect(&[0x87]);
    }
    ann.ping();
    broker.configure(&PASSWORDS.replace("anonymous = true", "authentication = [\"certificate\", \"scram\"]"));
    broker.reload();
    ann.expect_disconnect(&[0x87]);
}
