//! What a client may do, by rules or by mosquitto's ACL: publishing, subscribing, delivery, wills, and what was stored
//! before the rule was there.

use crate::support::secrets::password_line;
use crate::support::wire::PUBREC;
use crate::support::{Broker, Connect, Publish, V5, V31, V311, VERSIONS, Will, prop};

const LISTENER: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n";
const AUTH: &str = "[auth]\npassword_file = \"{folder}/passwords\"\n";
const RULES: &str = "[access]\nrules = \"{folder}/rules\"\n";
const ACL: &str = "[access]\nmosquitto_acl = \"{folder}/rules\"\n";

/// A broker whose users are `ann`, `bob` and `root`, with the password of their name.
#[track_caller]
fn with(access: &str, rules: &str) -> Broker {
    let users: String = ["ann", "bob", "root"].iter().map(|user| password_line(user, user)).collect();
    Broker::configured(&format!("{LISTENER}{AUTH}{access}"), &[("passwords", &users), ("rules", rules)])
}

fn of(version: u8, user: &str) -> Connect {
    Connect::of(version, &format!("{user}-client")).user(user, Some(user.as_bytes()))
}

/// Writes other rules and puts them in force.
#[track_caller]
fn change(broker: &Broker, rules: &str) {
    broker.write("rules", rules);
    let line = broker.reload();
    assert!(!line.contains("not reloaded"), "{line}");
}

const BOTH: &str = "allow user root to all on # $SYS/#\nallow user ann to all on open/#\n";
const BOTH_ACL: &str = "user root\ntopic #\ntopic $SYS/#\nuser ann\ntopic open/#\n";

#[test]
fn what_may_not_be_published_reaches_nobody() {
    for (access, rules) in [(RULES, BOTH), (ACL, BOTH_ACL)] {
        let broker = with(access, rules);
        let mut root = of(V5, "root").open(&broker);
        root.subscribe("#", 2);
        for version in VERSIONS {
            let mut ann = of(version, "ann").open(&broker);
            let refused = if version == V5 { 0x87 } else { 0 };
            for qos in 0..3 {
                for retain in [false, true] {
                    let mut denied = Publish::new("closed/1", "denied").qos(qos);
                    denied.retain = retain;
                    assert_eq!(ann.publish_as(denied), if qos == 0 { 0 } else { refused }, "QoS {qos}");
                    assert_eq!(ann.publish_as(Publish::new("open/1", "allowed").qos(qos)), 0);
                    root.expect_payload("allowed");
                }
            }
            root.expect_nothing();
        }
        // Nothing of it was retained either.
        root.subscribe("closed/#", 1);
        root.expect_nothing();
    }
}

#[test]
fn a_refused_publish_frees_its_identifier_and_its_place_in_the_window() {
    let broker = with(RULES, BOTH);
    let mut ann = of(V5, "ann").open(&broker);
    for _ in 0..3_000 {
        ann.send_publish(Publish::new("closed", "x").qos(2).id(7));
        assert_eq!(ann.expect_ack(PUBREC, 7), 0x87);
    }
    assert_eq!(ann.publish_as(Publish::new("open/x", "x").qos(2).id(7)), 0x10);
}

#[test]
fn a_topic_alias_does_not_get_around_the_rules() {
    let broker = with(RULES, "allow user root to all on #\nallow user ann to publish on a\n");
    let mut root = of(V5, "root").open(&broker);
    root.subscribe("#", 1);
    let mut ann = of(V5, "ann").open(&broker);
    let alias = || prop::topic_alias(1);
    assert_eq!(ann.publish_as(Publish::new("b", "denied").qos(1).prop(alias())), 0x87);
    assert_eq!(ann.publish_as(Publish::new("", "denied").qos(1).prop(alias())), 0x87);
    assert_eq!(ann.publish_as(Publish::new("a", "1").qos(1).prop(alias())), 0);
    assert_eq!(ann.publish_as(Publish::new("", "2").qos(1).prop(alias())), 0);
    root.expect_payload("1");
    root.expect_payload("2");
    root.expect_nothing();
}

#[test]
fn clients_before_v5_can_be_disconnected_for_it() {
    let broker = with(&format!("{RULES}denied_publish = \"disconnect\"\n"), BOTH);
    for version in [V31, V311] {
        let mut ann = of(version, "ann").open(&broker);
        ann.send_publish(Publish::new("closed", "denied").qos(1));
        assert_eq!(ann.expect_closed(), []);
    }
    let mut ann = of(V5, "ann").open(&broker);
    assert_eq!(ann.publish("closed", "denied", 1), 0x87, "v5 has words for it");
    ann.ping();
}

#[test]
fn retain_qos_and_share_are_rights_of_their_own() {
    let rules = "allow user root to all on #\ndeny user ann to retain, share on t/#\n\
        allow user ann to all at qos 0-1 on t/#\n";
    let broker = with(RULES, rules);
    let mut ann = of(V5, "ann").open(&broker);
    assert_eq!(ann.subscribe_many(&[("t/a", 2), ("$share/g/t/a", 1), ("t/#", 0)], &[]), [1, 0x87, 0]);
    assert_eq!(ann.publish("t/b", "x", 1), 0);
    assert_eq!(ann.publish("t/b", "x", 2), 0x87);
    assert_eq!(ann.retain("t/b", "x", 1), 0x87);
    let mut root = of(V5, "root").open(&broker);
    root.subscribe("t/#", 1);
    root.expect_nothing();
}

#[test]
fn names_in_a_rule_are_those_of_the_client() {
    let rules = "allow authenticated to all on u/%u/# c/%c/#\nallow user root to all on #\n\
        allow anonymous to subscribe on public\n";
    let broker = with(RULES, rules);
    let mut ann = of(V5, "ann").open(&broker);
    let filters = [("u/ann/x", 0), ("u/bob/x", 0), ("c/ann-client/#", 0), ("c/+/x", 0), ("u/+/x", 0), ("public", 0)];
    assert_eq!(ann.subscribe_many(&filters, &[]), [0, 0x87, 0, 0x87, 0x87, 0x87]);
    let mut anonymous = broker.v5("ann-client-2");
    assert_eq!(anonymous.subscribe_many(&[("public", 1), ("u//x", 0), ("c/ann-client-2/x", 0)], &[]), [1, 0x87, 0x87]);
    // A client identifier that would widen its rule has none.
    let mut wide = Connect::v5("+").user("ann", Some(b"ann")).open(&broker);
    assert_eq!(wide.subscribe_many(&[("c/+/x", 0), ("c/ann-client/x", 0)], &[]), [0x87, 0x87]);
}

#[test]
fn a_will_that_may_not_be_published_is_refused_with_its_connect() {
    let broker = with(RULES, BOTH);
    let mut root = of(V5, "root").open(&broker);
    root.subscribe("#", 1);
    for version in VERSIONS {
        let (mut ann, code) = of(version, "ann").will(Will::new("closed", "will")).open_any(&broker);
        assert_eq!(code, if version == V5 { 0x87 } else { 5 });
        ann.expect_closed();
        of(version, "ann").will(Will::new("open/will", "will")).open(&broker).fin();
        root.expect_payload("will");
    }
    root.expect_nothing();
}

#[test]
fn mosquittos_acl_lets_the_will_in_and_drops_it_when_it_is_due() {
    let broker = with(ACL, BOTH_ACL);
    let mut root = of(V5, "root").open(&broker);
    root.subscribe("#", 1);
    for version in VERSIONS {
        of(version, "ann").will(Will::new("closed", "no")).open(&broker).fin();
        of(version, "ann").will(Will::new("open/will", "yes")).open(&broker).fin();
        root.expect_payload("yes");
    }
    root.expect_nothing();
}

#[test]
fn mosquittos_acl_grants_subscriptions_and_looks_at_each_delivery() {
    let acl = "topic read public\npattern readwrite u/%u/#\npattern read c/%c\nuser root\ntopic #\nuser ann\n\
        topic read news/#\ntopic deny news/secret\n";
    let broker = with(ACL, acl);
    let mut root = of(V5, "root").open(&broker);
    assert_eq!(root.retain("news/secret", "no", 1), 0);
    assert_eq!(root.retain("news/old", "retained", 1), 0);
    for version in [V311, V5] {
        let mut ann = of(version, "ann").open(&broker);
        assert_eq!(ann.subscribe_many(&[("#", 1), ("$share/g/news/secret", 1)], &[]), [1, 1]);
        ann.expect_payload("retained");
        let mut anonymous = broker.client(version, "nobody");
        assert_eq!(anonymous.subscribe("#", 1), 1);
        for topic in ["news/1", "news/secret", "u/ann/1", "u/bob/1", "c/ann-client", "c/other", "public"] {
            root.publish(topic, topic, 1);
        }
        for topic in ["news/1", "u/ann/1", "c/ann-client"] {
            ann.expect_payload(topic);
        }
        ann.expect_nothing();
        anonymous.expect_payload("public");
        anonymous.expect_nothing();
        let refused = if version == V5 { 0x87 } else { 0 };
        assert_eq!(ann.publish("news/1", "x", 1), refused);
        assert_eq!(ann.publish("public", "x", 1), refused);
        assert_eq!(anonymous.publish("public", "x", 1), refused);
    }
    let empty = with(ACL, "");
    let mut nobody = empty.v5("nobody");
    assert_eq!((nobody.subscribe("a", 1), nobody.publish("a", "x", 1)), (1, 0x87));
    nobody.expect_nothing();
}

#[test]
fn receiving_can_be_denied_below_a_granted_filter() {
    let rules = "deny user ann to receive on a/secret\nallow everyone to all on #\n";
    let broker = with(RULES, rules);
    let mut root = of(V5, "root").open(&broker);
    for (topic, text) in [("a/secret", "no"), ("a/open", "retained")] {
        root.retain(topic, text, 1);
    }
    for version in [V311, V5] {
        let mut ann = of(version, "ann").persistent().open(&broker);
        assert_eq!(ann.subscribe("a/#", 1), 1);
        ann.expect_payload("retained");
        for qos in 0..3 {
            root.publish("a/secret", "no", qos);
            root.publish("a/1", "yes", qos);
            ann.expect_payload("yes");
        }
        ann.expect_nothing();
        // Away, it is queued nothing of it either.
        ann.disconnect();
        root.publish("a/secret", "no", 1);
        root.publish("a/1", "queued", 1);
        let mut ann = of(version, "ann").persistent().open(&broker);
        ann.expect_payload("queued");
        ann.expect_nothing();
        ann.unsubscribe("a/#");
        ann.disconnect();
        of(version, "ann").open(&broker).disconnect();
    }
}

#[test]
fn what_nobody_may_have_fills_no_queue() {
    // Mosquitto's ACL grants every subscription; what is behind it must not be kept for who may never see it.
    for (access, rules) in [
        (ACL, BOTH_ACL),
        (RULES, "deny user ann to receive on #\nallow user ann to subscribe on #\nallow user root to all on #\n"),
    ] {
        let full = format!("[session]\nqueue_messages = 1\nqueue_overflow = \"refuse\"\n{access}");
        let mut broker = with(&full, rules);
        for restart in [false, true] {
            let mut ann = of(V5, "ann").persistent().open(&broker);
            assert_eq!(ann.subscribe("#", 1), 1);
            ann.disconnect();
            if restart {
                broker.crash();
            }
            let mut root = of(V5, "root").open(&broker);
            for _ in 0..3 {
                assert_eq!(root.publish("closed/1", "x", 1), 0x10, "nobody receives it");
            }
            of(V5, "ann").persistent().open(&broker).expect_nothing();
        }
    }
}

#[test]
fn a_reload_takes_rights_away_from_what_waits_in_a_queue() {
    const ALL: &str = "allow everyone to all on #\n";
    let less = format!("deny user ann to all on secret/#\n{ALL}");
    for version in [V311, V5] {
        for restart in [false, true] {
            let mut broker = with(RULES, ALL);
            let mut ann = of(version, "ann").persistent().open(&broker);
            assert_eq!(ann.subscribe_many(&[("secret/#", 1), ("open", 2), ("$share/g/secret/s", 1)], &[]), [1, 2, 1]);
            ann.disconnect();
            let mut root = of(V5, "root").open(&broker);
            for n in 0..20 {
                assert_eq!(root.publish("secret/1", format!("secret {n}"), 1), 0);
                assert_eq!(root.publish("open", format!("open {n}"), 1 + n % 2), 0);
            }
            if restart {
                broker.write("rules", &less);
                broker.crash();
            } else {
                change(&broker, &less);
            }
            let mut root = of(V5, "root").open(&broker);
            root.publish("secret/1", "later", 1);
            assert_eq!(root.publish("open", "open 20", 1), 0);
            let mut ann = of(version, "ann").persistent().open(&broker);
            for n in 0..21 {
                ann.expect_payload(format!("open {n}"));
            }
            ann.expect_nothing();
            // What was taken away comes back with the right, for messages from then on.
            change(&broker, ALL);
            assert_eq!(root.publish("secret/1", "again", 1), 0);
            ann.expect_payload("again");
            ann.expect_nothing();
        }
    }
}

#[test]
fn a_reload_takes_rights_away_from_who_is_connected() {
    const ALL: &str = "allow everyone to all on #\n";
    let broker = with(RULES, ALL);
    let mut root = of(V5, "root").open(&broker);
    let open = |version| Connect::of(version, &format!("ann-{version}")).user("ann", Some(b"ann")).open(&broker);
    let mut clients = VERSIONS.map(open);
    for client in &mut clients {
        client.subscribe("secret/#", 1);
        client.subscribe("open", 1);
        client.publish("warm", "x", 0);
        client.ping();
    }
    root.publish("secret/1", "before", 1);
    clients.iter_mut().for_each(|client| drop(client.expect_payload("before")));
    root.retain("secret/2", "retained", 1);
    clients.iter_mut().for_each(|client| drop(client.expect_payload("retained")));
    change(&broker, &format!("deny user ann to all on secret/# warm\n{ALL}"));
    root.publish("secret/1", "after", 1);
    root.publish("open", "open", 1);
    for client in &mut clients {
        client.expect_payload("open");
        client.expect_nothing();
        let v5 = client.version() == V5;
        assert_eq!(client.publish("warm", "x", 1), if v5 { 0x87 } else { 0 }, "a route that is remembered");
        assert_eq!(client.subscribe("secret/2", 1), if v5 { 0x87 } else { 0x80 });
        client.expect_nothing();
    }
}

#[test]
fn a_will_that_waits_is_published_only_if_it_may_be_when_it_is_due() {
    const ALL: &str = "allow everyone to all on #\n";
    let broker = with(RULES, ALL);
    let mut root = of(V5, "root").open(&broker);
    root.subscribe("will/#", 1);
    let lost = |topic: &str| {
        let connect = Connect::v5(topic).user("ann", Some(b"ann")).persistent();
        connect.will(Will::new(topic, topic).qos(1).delay(2)).open(&broker).fin();
    };
    lost("will/secret");
    lost("will/open");
    broker.wait_log(&["disconnected", "will/open"]);
    change(&broker, &format!("deny user ann to publish on will/secret\n{ALL}"));
    root.expect_payload("will/open");
    root.expect_nothing();
}

#[test]
fn the_will_of_a_session_that_a_crash_cut_off_asks_for_the_right_too() {
    let mut broker = with(RULES, "allow everyone to all on #\n");
    let mut root = of(V5, "root").persistent().open(&broker);
    root.subscribe("will/#", 1);
    let held = ["will/secret", "will/open"]
        .map(|topic| Connect::v311(topic).user("ann", Some(b"ann")).will(Will::new(topic, topic).qos(1)).open(&broker));
    broker.write("rules", "deny user ann to publish on will/secret\nallow everyone to all on #\n");
    broker.crash();
    drop(held);
    let mut root = of(V5, "root").persistent().open(&broker);
    root.expect_payload("will/open");
    root.expect_nothing();
}
