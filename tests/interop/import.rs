//! Moving in from mosquitto: a real one is stopped, its configuration and database are imported, and its clients go on
//! with Nightjar as if nothing had happened.

use super::{have, success, works};
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, prop, secs, wait_until};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn installed() -> bool {
    have("mosquitto", works(Command::new("sh").args(["-c", "command -v mosquitto"])))
}

/// A mosquitto in the folder, and on the port, of a broker that is not running. Killed when dropped.
struct Mosquitto {
    child: Child,
}

impl Mosquitto {
    /// Starts it with a config file that begins with the usual, and waits until it answers.
    fn start(broker: &Broker, options: &str) -> Self {
        let folder = broker.scratch().display().to_string();
        // It gives up root's rights otherwise, and cannot write here then.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n{user}{options}",
            broker.port()
        );
        broker.write("mosquitto.conf", &text);
        Self::run(&format!("{folder}/mosquitto.conf"), broker.port())
    }

    fn run(config: &str, port: u16) -> Self {
        let mut command = Command::new("mosquitto");
        command.args(["-c", config]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_until("mosquitto answers", secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it; it writes its database.
    fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Imports what is in the broker's folder; gives the report.
fn import(broker: &Broker, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let folder = broker.scratch();
    command.args(["import", "mosquitto", "--conf"]).arg(folder.join("mosquitto.conf")).arg("--out").arg(folder);
    success("import", command.args(arguments).output().unwrap())
}

/// The next PUBLISH, PUBREL or PUBREC as a few words: kind, identifier, DUP, text.
fn next(client: &mut Client) -> (&'static str, u16, bool, String) {
    match client.recv() {
        Packet::Publish(publish) => ("publish", publish.id, publish.dup, publish.text()),
        Packet::Ack { kind: PUBREL, id, .. } => ("pubrel", id, false, String::new()),
        other => panic!("expected a message, got {other:?}"),
    }
}

/// What clients do with mosquitto before it stops: `keeper` leaves in the middle of three exchanges, `sender` before it
/// has sent PUBREL, `five` has a session of MQTT 5.
fn before(broker: &Broker) {
    let mut keeper = Connect::v311("keeper").clean(false).manual().open(broker);
    keeper.subscribe("q/#", 2);
    let mut five = Connect::v5("five").persistent().open(broker);
    five.subscribe_many(&[("q/five/+", 2 | 0x04 | 0x08)], &[prop::subscription_id(9)]);
    five.disconnect();
    let mut sender = broker.v311("publisher");
    sender.publish("q/a", "received", 2);
    sender.publish("q/b", "sent", 2);
    sender.publish("q/c", "sent too", 1);
    for expected in
        [("publish", 1, false, "received"), ("publish", 2, false, "sent"), ("publish", 3, false, "sent too")]
    {
        let (kind, id, dup, text) = next(&mut keeper);
        assert_eq!((kind, id, dup, text.as_str()), expected);
    }
    keeper.ack(PUBREC, 1);
    assert_eq!(next(&mut keeper), ("pubrel", 1, false, String::new()));
    keeper.fin();
    // It notices the end at its own time; what comes until then is under way too, and must not be lost either.
    sender.publish("q/d", "queued", 1);
    sender.publish("q/e", "queued twice", 2);
    sender.retain("state/1", "kept", 1);
    sender.retain("state/2", "to be gone", 1);
    sender.retain("state/2", "", 1);
    let mut publisher = broker.v5("publisher-5");
    let message = Publish::new("q/five/1", "with properties").qos(1).retain();
    let message = message.prop(prop::user("k", "v")).prop(prop::content_type("text")).prop(prop::message_expiry(1_000));
    publisher.publish_as(message);
    // The exchange is not ended: mosquitto has it, and waits for PUBREL before anybody else has.
    let mut unfinished = Connect::v311("sender").clean(false).manual().open(broker);
    unfinished.send_publish(Publish::new("q/from", "unreleased").qos(2).id(77));
    unfinished.expect_ack(PUBREC, 77);
    unfinished.fin();
    publisher.disconnect();
    sender.disconnect();
}

#[test]
fn clients_go_on_where_mosquitto_left_them() {
    if !installed() {
        return;
    }
    let mut broker = Broker::prepare(&[]);
    let mosquitto = Mosquitto::start(&broker, "");
    before(&broker);
    mosquitto.stop();

    let dry = import(&broker, &["--dry-run"]);
    assert!(
        dry.ends_with("nothing was written (--dry-run)\n") && !broker.config_path().exists() && !broker.data().exists()
    );
    let report = import(&broker, &[]);
    for line in [
        "format 6",
        "         3 sessions",
        "         2 subscriptions",
        "         1 messages of QoS 2 that clients have, to be released",
        "         1 messages of QoS 2 from clients, to be released by them",
        "         2 retained messages",
    ] {
        assert!(report.contains(line), "{line}:\n{report}");
    }
    assert!(!report.contains("packet identifiers;"), "all identifiers are kept:\n{report}");
    broker.start_as_written();
    after(&mut broker);
}

/// What the same clients find at Nightjar.
fn after(broker: &mut Broker) {
    let mut keeper = Connect::v311("keeper").clean(false).manual().open(broker);
    assert!(keeper.session_present);
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(next(&mut keeper));
    }
    let texts: Vec<&str> = all.iter().map(|(_, _, _, text)| text.as_str()).collect();
    // What waits for a PUBREL is there first, then the queue in its order; what `sender` had sent comes last.
    assert_eq!(texts, ["", "sent", "sent too", "queued", "queued twice", "with properties", "unreleased"]);
    assert_eq!(
        all[..3],
        [
            ("pubrel", 1, false, String::new()),
            ("publish", 2, true, "sent".to_owned()),
            ("publish", 3, true, "sent too".to_owned())
        ]
    );
    keeper.ack(PUBCOMP, 1);
    for (at, (_, id, _, _)) in all.iter().enumerate().skip(1) {
        if matches!(at, 2 | 3 | 5) {
            keeper.ack(PUBACK, *id);
        } else {
            keeper.ack(PUBREC, *id);
            assert_eq!(next(&mut keeper), ("pubrel", *id, false, String::new()));
            keeper.ack(PUBCOMP, *id);
        }
    }
    // The same PUBLISH again, since its PUBREC might have been lost, brings nobody a second one.
    let mut unfinished = Connect::v311("sender").clean(false).manual().open(broker);
    assert!(unfinished.session_present);
    unfinished.send_publish(Publish::new("q/from", "unreleased").qos(2).id(77).dup());
    unfinished.expect_ack(PUBREC, 77);
    unfinished.ack(PUBREL, 77);
    unfinished.expect_ack(PUBCOMP, 77);
    keeper.expect_nothing();
    keeper.disconnect();

    let mut five = Connect::v5("five").persistent().open(broker);
    assert!(five.session_present);
    let message = five.expect_payload("with properties");
    assert_eq!((message.qos, message.retain, message.numbers(prop::SUBSCRIPTION_ID)), (1, true, vec![9]));
    assert_eq!(crate::support::wire::text(&message.props, prop::CONTENT_TYPE), Some("text"));
    let left = message.number(prop::MESSAGE_EXPIRY).unwrap();
    assert!((900..=1_000).contains(&left), "{left}");
    // Its subscription has No Local.
    five.publish("q/five/2", "from itself", 1);
    five.expect_nothing();
    five.disconnect();

    let mut fresh = broker.v311("fresh");
    fresh.subscribe("state/#", 1);
    assert!(fresh.expect_payload("kept").retain);
    fresh.expect_nothing();
    fresh.disconnect();
    // And all of it outlives a crash.
    broker.crash();
    let mut keeper = Connect::v311("keeper").clean(false).open(broker);
    assert!(keeper.session_present);
    keeper.expect_payload("from itself");
    keeper.expect_nothing();
}

#[test]
fn a_database_that_was_saved_while_it_ran_is_told_to_be_old() {
    if !installed() {
        return;
    }
    let broker = Broker::prepare(&[]);
    let mosquitto = Mosquitto::start(&broker, "");
    broker.v311("publisher").retain("a", "kept", 1);
    mosquitto.signal(rustix::process::Signal::USR1);
    let database = broker.scratch().join("mosquitto.db");
    wait_until("mosquitto saves", secs(10), || database.exists());
    drop(mosquitto);
    let report = import(&broker, &["--dry-run"]);
    assert!(report.contains("note: mosquitto was running when it wrote the database"), "{report}");
    assert!(report.contains("1 retained messages"), "{report}");
}

#[test]
fn a_bridge_goes_on_with_what_waits_for_it() {
    if !installed() {
        return;
    }
    let (mut broker, remote) = (Broker::prepare(&[]), Broker::prepare(&[]));
    let options = format!("connection Up\naddress 127.0.0.1:{}\ntopic t/# out 2 \"\" from/\n", remote.port());
    let mosquitto = Mosquitto::start(&broker, &options);
    let mut publisher = broker.v311("publisher");
    for (text, qos) in [("one", 1), ("two", 2)] {
        publisher.publish("t/1", text, qos);
    }
    publisher.disconnect();
    mosquitto.stop();
    let report = import(&broker, &[]);
    assert!(report.contains("bridge up goes on with its queue, 2 messages"), "{report}");

    let _other = Mosquitto::start(&remote, "");
    let mut subscriber = remote.v311("subscriber");
    subscriber.subscribe("from/#", 2);
    broker.start_as_written();
    for text in ["one", "two"] {
        assert_eq!(subscriber.expect_payload(text).topic, "from/t/1");
    }
    broker.v311("another").publish("t/2", "three", 1);
    assert_eq!(subscriber.expect_payload("three").topic, "from/t/2");
    assert_eq!(subscriber.read_packet(crate::support::QUIET), Read::Timeout);
}
