//! F61 to F63: whose session it is, and rights behind `$share`.

use crate::support::secrets::password_line;
use crate::support::{Broker, Connect, Publish, V5, V31, V311, VERSIONS};
use std::process::Command;

const CONFIG: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n[auth]\npassword_file = \"{folder}/passwords\"\n\
    [access]\nrules = \"{folder}/rules\"\n";

/// A broker with these users (the password is the name) and these rules.
#[track_caller]
fn broker(users: &[&str], rules: &str) -> Broker {
    let passwords: String = users.iter().map(|user| password_line(user, user)).collect();
    Broker::configured(CONFIG, &[("passwords", &passwords), ("rules", rules)])
}

fn of(version: u8, user: &str, id: &str) -> Connect {
    Connect::of(version, id).user(user, Some(user.as_bytes()))
}

const OWNERS: &str = "allow user admin to all on #\nallow user sensor to all on sensor/#\n";

/// The intruder is refused in every way that it may ask.
#[track_caller]
fn refused(broker: &Broker) {
    for version in VERSIONS {
        for clean in [false, true] {
            let (mut intruder, code) = of(version, "sensor", "gateway-01").clean(clean).open_any(broker);
            assert!(if version == V5 { code == 0x87 || code == 0x85 } else { code == 5 || code == 2 }, "{code:#x}");
            intruder.expect_closed();
        }
    }
}

#[test]
fn f61_another_user_with_the_same_client_id_gets_nothing() {
    for version in VERSIONS {
        let mut broker = broker(&["admin", "sensor"], OWNERS);
        let owner = || {
            let owner = of(version, "admin", "gateway-01").clean(false);
            if version == V5 { owner.expiry(3600) } else { owner }
        };
        let mut admin = owner().open(&broker);
        admin.subscribe("factory/secret", 1);
        admin.disconnect();
        let mut other = of(V5, "admin", "publisher").open(&broker);
        assert_eq!(other.publish("factory/secret", "first", 1), 0);
        refused(&broker);

        // Neither a crash nor a restart makes it anybody else's.
        broker.crash();
        refused(&broker);
        broker.restart();
        refused(&broker);

        let mut admin = owner().open(&broker);
        assert!(admin.resumed());
        admin.expect_payload("first");
        refused(&broker);
        admin.ping();
        let mut other = of(V5, "admin", "publisher").open(&broker);
        assert_eq!(other.publish("factory/secret", "second", 1), 0);
        admin.expect_payload("second");
        admin.expect_nothing();
        broker.wait_log(&["refused", "belongs to another user"]);
    }
}

#[test]
fn f61_a_setting_lets_the_other_user_in_without_the_queue() {
    let passwords = password_line("admin", "admin") + &password_line("sensor", "sensor");
    let config = CONFIG.replace("[access]", "session_of_other_user = \"end\"\n[access]");
    let broker = Broker::configured(&config, &[("passwords", &passwords), ("rules", OWNERS)]);
    let mut admin = of(V5, "admin", "gateway-01").persistent().open(&broker);
    admin.subscribe("factory/secret", 1);
    admin.disconnect();
    let mut other = of(V5, "admin", "publisher").open(&broker);
    assert_eq!(other.publish("factory/secret", "queued", 1), 0);
    let mut sensor = of(V5, "sensor", "gateway-01").persistent().open(&broker);
    assert!(!sensor.session_present);
    assert_eq!(other.publish("factory/secret", "later", 1), 0x10);
    sensor.expect_nothing();
    // The same while it is online: the connection is taken over, and nothing of its session with it.
    sensor.subscribe("sensor/1", 1);
    let admin = of(V5, "admin", "gateway-01").persistent().open(&broker);
    assert!(!admin.session_present);
    sensor.expect_disconnect(&[0x8e]);
}

#[test]
fn f62_a_refused_shared_subscription_is_not_in_force() {
    let rules = "deny user u to all on secret/#\nallow everyone to all on #\n";
    for version in [V5, V311, V31] {
        let broker = broker(&["u", "v"], rules);
        let u = || {
            let u = of(version, "u", "u").clean(false);
            if version == V5 { u.expiry(60) } else { u }
        };
        let mut client = u().open(&broker);
        let refused = if version == V5 { 0x87 } else { 0x80 };
        let filters = [("$share/g/secret/a", 1), ("secret/a", 1), ("ok/a", 1)];
        assert_eq!(client.subscribe_many(&filters, &[]), [refused, refused, 1]);
        let mut member = of(V5, "v", "member").open(&broker);
        assert_eq!(member.subscribe("$share/g/secret/a", 1), 1);
        let mut publisher = of(V5, "v", "publisher").open(&broker);
        for round in 0..2 {
            if round == 1 {
                client.fin();
                client = u().open(&broker);
                assert!(client.resumed());
            }
            for n in 0..10 {
                assert_eq!(publisher.publish("secret/a", format!("secret {n}"), 1), 0);
                assert_eq!(publisher.publish("ok/a", format!("ok {n}"), 1), 0);
            }
            for n in 0..10 {
                member.expect_payload(format!("secret {n}"));
                client.expect_payload(format!("ok {n}"));
            }
            member.expect_nothing();
            client.expect_nothing();
        }
    }
}

#[test]
fn f63_rules_are_about_the_filter_behind_share() {
    let rules = "allow user u to subscribe on ibm/c7/msg\nallow user v to all on #\n";
    for version in [V5, V311] {
        let broker = broker(&["u", "v"], rules);
        let mut client = of(version, "u", "u").open(&broker);
        let refused = if version == V5 { 0x87 } else { 0x80 };
        let filters = [("$share/g1/ibm/c7/msg", 1), ("$share/g1/ibm/#", 1), ("$share/ibm/c7/msg", 1), ("ibm/#", 1)];
        assert_eq!(client.subscribe_many(&filters, &[]), [1, refused, refused, refused]);
        let mut publisher = of(V5, "v", "v").open(&broker);
        assert_eq!(publisher.publish("ibm/c7/msg", "to the group", 1), 0);
        assert_eq!(client.expect_payload("to the group").topic, "ibm/c7/msg");
        // It may write nothing.
        let code = client.publish_as(Publish::new("ibm/c7/msg", "mine").qos(1));
        assert_eq!(code, if version == V5 { 0x87 } else { 0 });
        client.expect_nothing();
    }
    let literal = "allow user u to subscribe on ibm/c7/msg\nallow user u to subscribe on $share/g1/ibm/c7/msg\n";
    let broker = broker(&["u"], rules);
    broker.write("rules", literal);
    let output = Command::new(env!("CARGO_BIN_EXE_nightjar"))
        .args(["check-config", "--config"])
        .arg(broker.config_path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("rules:2") && text.contains("$share"), "{text}");
}
