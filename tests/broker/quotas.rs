//! Each limit of `[limits]` and of a listener: what happens at it, in v5 and before. What is refused is counted, what
//! is below the limit is not touched.

use crate::support::broker::free_port;
use crate::support::secrets::password_line;
use crate::support::{
    Broker, Client, Connect, Packet, Publish, Read, Stream, V5, V311, VERSIONS, Will, ms, prop, secs, wait_until,
};
use std::time::Instant;

const MAIN: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n";

/// A broker whose users are `ann` and `bob`, with this after its listener.
#[track_caller]
fn with_users(more: &str) -> Broker {
    let users = password_line("ann", "pw") + &password_line("bob", "pw");
    let config = format!("{MAIN}[auth]\npassword_file = \"{{folder}}/passwords\"\n{more}");
    Broker::configured(&config, &[("passwords", &users)])
}

fn of(version: u8, user: &str, id: &str) -> Connect {
    Connect::of(version, id).user(user, Some(b"pw"))
}

/// The connection is closed without a word.
#[track_caller]
fn closed_at_once(mut client: Client) {
    client.try_send(&Connect::v5("late").encode());
    assert_eq!(client.expect_closed(), []);
}

#[test]
fn connections_of_the_node() {
    let broker = Broker::with(&["limits.max_connections=2"]);
    // The one that looked whether the broker answers may still be counted for a moment.
    let mut first = broker.v5("1");
    let mut second = None;
    wait_until("room for a second", secs(10), || {
        let (client, code) = Connect::v5("2").open_any(&broker);
        second = Some(client);
        code == 0
    });
    for (version, code) in [(V5, 0x89), (V311, 3)] {
        let (mut third, found) = Connect::of(version, "3").open_any(&broker);
        assert_eq!(found, code);
        third.expect_closed();
    }
    first.ping();
    drop(second);
    wait_until("room again", secs(10), || Connect::v5("3").open_any(&broker).1 == 0);
}

#[test]
fn connections_of_a_listener() {
    let (port, slow) = (free_port(), free_port());
    let config = format!(
        "{MAIN}anonymous = true\n[listeners.small]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
         max_connections = 1\n[listeners.slow]\naddress = \"127.0.0.1:{slow}\"\nanonymous = true\nconnection_rate = 1\n"
    );
    let broker = Broker::configured(&config, &[]);
    let only = Connect::v5("only").open_over(Stream::tcp(port));
    closed_at_once(Client::raw(port, V5));
    broker.v5("elsewhere").ping();
    only.disconnect();
    wait_until("room again", secs(10), || Connect::v5("next").try_open(port, secs(5)).is_some());
    // The rate: a second's worth at once, and then one a second.
    let mut refused = 0;
    for n in 0..5 {
        refused += usize::from(Connect::v5(&format!("r{n}")).try_open(slow, secs(5)).is_none());
    }
    assert!(refused >= 1, "five at once");
    wait_until("its time comes again", secs(10), || Connect::v5("later").try_open(slow, secs(5)).is_some());
    broker.v5("end").ping();
}

#[test]
fn connections_without_connect() {
    let broker = Broker::with(&["limits.half_open=3", "limits.connect_timeout=1h"]);
    let mut silent = Vec::new();
    wait_until("the places are taken", secs(10), || {
        let mut one = broker.socket();
        let refused = one.read_packet(ms(100)) == Read::Closed;
        silent.push(one);
        refused
    });
    assert!(silent.len() >= 4, "{} let in", silent.len());
    closed_at_once(broker.socket_for(V5));
    silent.clear();
    wait_until("there is room", secs(10), || Connect::v5("c").try_open(broker.port(), secs(5)).is_some());
}

#[test]
fn connections_of_an_address_as_the_balancer_tells_it() {
    let config = format!(
        "{MAIN}anonymous = true\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [limits]\nconnections_per_address = 2\n"
    );
    let broker = Broker::configured(&config, &[]);
    let from = |address: &str| {
        Stream::tcp(broker.port()).after(format!("PROXY TCP4 {address} 127.0.0.1 1000 1883\r\n").as_bytes())
    };
    let mut held = vec![
        Connect::v5("a").open_over(from("192.0.2.1")),
        Connect::v311("b").open_over(from("192.0.2.1").websocket()),
    ];
    closed_at_once(Client::over(from("192.0.2.1"), V5));
    held.push(Connect::v5("c").open_over(from("192.0.2.2")));
    held.remove(0).disconnect();
    wait_until("room again", secs(10), || {
        let mut client = Client::over(from("192.0.2.1"), V5);
        client.try_send(&Connect::v5("d").encode());
        matches!(client.read_packet(secs(5)), Read::Packet(Packet::Connack { code: 0, .. }))
    });
    held.iter_mut().for_each(Client::ping);
}

#[test]
fn connections_of_one_address_in_a_second() {
    let broker = Broker::with(&["limits.connect_rate_per_address=3"]);
    let mut refused = 0;
    for n in 0..12 {
        refused += usize::from(Connect::v5(&n.to_string()).try_open(broker.port(), secs(5)).is_none());
    }
    assert!(refused >= 1);
    wait_until("its time comes again", secs(10), || Connect::v5("c").try_open(broker.port(), secs(5)).is_some());
}

#[test]
fn connections_of_a_user() {
    let broker = with_users("[limits]\nconnections_per_user = 2\n");
    let mut first = of(V5, "ann", "1").open(&broker);
    let mut second = of(V311, "ann", "2").open(&broker);
    for (version, code) in [(V5, 0x97), (V311, 3)] {
        let (mut third, found) = of(version, "ann", "3").open_any(&broker);
        assert_eq!(found, code);
        third.expect_closed();
    }
    of(V5, "bob", "4").open(&broker).ping();
    second.ping();
    second.disconnect();
    wait_until("room again", secs(10), || of(V5, "ann", "3").open_any(&broker).1 == 0);
    first.ping();
}

/// Publishes so much that a rate of ten a second, or a kibibyte, is exceeded; whether nothing is lost and it took its
/// time.
#[track_caller]
fn throttled(broker: &Broker, mut publishers: Vec<Client>, payload: &str) {
    let mut watcher = match broker.log().contains("anonymous=false") {
        true => of(V5, "bob", "watcher").open(broker),
        false => broker.v5("watcher"),
    };
    watcher.subscribe("t", 1);
    let start = Instant::now();
    const EACH: usize = 15;
    for n in 0..EACH {
        for publisher in &mut publishers {
            publisher.send_publish(Publish::new("t", format!("{n}{payload}")).qos(1));
        }
    }
    for _ in 0..EACH * publishers.len() {
        watcher.expect_publish();
    }
    // What they send next is read when what they sent has been paid for.
    publishers.iter_mut().for_each(Client::ping);
    assert!(start.elapsed() >= ms(400), "{:?}", start.elapsed());
    watcher.expect_nothing();
}

#[test]
fn publishing_of_a_client_is_slowed_down() {
    let payload = "x".repeat(200);
    for setting in ["limits.publish_rate=10", "limits.publish_bytes=2KiB"] {
        let broker = Broker::with(&[setting]);
        for version in VERSIONS {
            let publisher = broker.client(version, "p");
            throttled(&broker, vec![publisher], &payload);
        }
    }
}

#[test]
fn publishing_of_a_user_is_slowed_down_over_all_its_clients() {
    let payload = "x".repeat(200);
    for setting in ["user_publish_rate = 20", "user_publish_bytes = \"4KiB\""] {
        let broker = with_users(&format!("[limits]\n{setting}\n"));
        let publishers = vec![of(V5, "ann", "1").open(&broker), of(V311, "ann", "2").open(&broker)];
        throttled(&broker, publishers, &payload);
    }
}

#[test]
fn a_rate_of_users_that_a_reload_sets_holds_for_who_is_there() {
    let config = |more: &str| format!("{MAIN}[auth]\npassword_file = \"{{folder}}/passwords\"\n{more}");
    let broker = with_users("");
    let publishers = vec![of(V5, "ann", "1").open(&broker), of(V311, "ann", "2").open(&broker)];
    broker.configure(&config("[limits]\nuser_publish_rate = 20\n"));
    broker.reload();
    throttled(&broker, publishers, "x");
}

#[test]
fn who_publishes_too_much_can_be_disconnected() {
    let port = free_port();
    let config = format!(
        "{MAIN}anonymous = true\n[listeners.slow]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
         publish_rate = 5\n[limits]\nrate_policy = \"disconnect\"\n"
    );
    let broker = Broker::configured(&config, &[]);
    for version in [V5, V311] {
        let mut fast = Connect::of(version, "fast").open_over(Stream::tcp(port));
        for _ in 0..50 {
            fast.send_publish(Publish::new("t", "x"));
        }
        fast.expect_disconnect(&[0x96]);
        // The other listener has no such limit.
        let mut other = broker.client(version, "other");
        for _ in 0..50 {
            other.send_publish(Publish::new("t", "x"));
        }
        other.ping();
    }
}

#[test]
fn the_size_of_a_will() {
    let broker = Broker::with(&["limits.max_will_size=100B"]);
    for (version, code) in [(V5, 0x95), (V311, 3)] {
        let with = |length: usize| Connect::of(version, "c").will(Will::new("0123456789", "x".repeat(length)));
        with(90).open(&broker).disconnect();
        let (mut client, found) = with(91).open_any(&broker);
        assert!(found == code || (version == V311 && found > 0), "{found:#x}");
        client.expect_closed();
    }
}

#[test]
fn the_topic_and_the_retaining_of_a_will() {
    let broker = Broker::with(&["mqtt.max_topic_levels=3", "limits.retained_messages=1", "sys.interval=off"]);
    for (version, code) in [(V5, 0x90), (V311, 5)] {
        let (_, found) = Connect::of(version, "c").will(Will::new("a/b/c/d", "x")).open_any(&broker);
        assert!(found == code || (version == V311 && found > 0), "{found:#x}");
    }
    assert_eq!(Connect::v5("c").will(Will::new("$SYS", "x")).open_any(&broker).1, 0x87);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will/#", 1);
    for n in 0..4 {
        let will = Will::new(&format!("will/{n}"), "x").qos(1).retain();
        drop(Connect::v5("leaver").will(will).open(&broker));
        watcher.expect_payload("x");
    }
    // What was counted when the second came may not have been counted yet; the last comes long after.
    watcher.subscribe("will/3", 1);
    watcher.expect_nothing();
}

#[test]
fn subscriptions_of_a_client_and_of_all() {
    let broker = Broker::with(&["mqtt.max_subscriptions=3", "limits.max_subscriptions_total=5"]);
    for (version, refused) in [(V5, 0x97), (V311, 0x80)] {
        let mut one = broker.client(version, "one");
        assert_eq!(one.subscribe_many(&[("a", 0), ("b", 0), ("c", 0), ("d", 0)], &[]), [0, 0, 0, refused]);
        assert_eq!(one.subscribe("a", 1), 1, "one that is there already may change");
        let mut two = broker.client(version, "two");
        assert_eq!(two.subscribe_many(&[("a", 0), ("b", 0), ("c", 0)], &[]), [0, 0, refused]);
        one.unsubscribe("a");
        assert_eq!(two.subscribe("c", 0), 0);
        one.disconnect();
        two.disconnect();
    }
}

#[test]
fn retained_messages_and_their_bytes() {
    let size = "x".repeat(300);
    for (setting, room) in [("limits.retained_messages=3", 3), ("limits.retained_bytes=1KiB", 3)] {
        let broker = Broker::with(&[setting, "sys.interval=off"]);
        let mut client = broker.v5("c");
        let stored = (0..10).take_while(|n| client.retain(&format!("t/{n}"), &size, 1) < 0x80).count();
        assert!((room..=room + 1).contains(&stored), "{setting}: {stored}");
        assert_eq!(client.retain("t/more", &size, 1), 0x97);
        assert_eq!(client.retain("t/0", size.to_uppercase(), 1), 0, "a topic that has one may have another");
        let mut old = broker.v311("old");
        old.send_publish(Publish::new("t/more", &size).qos(1).retain());
        assert_eq!(old.expect_closed(), [], "before v5 there are no words for it");
        client.retain("t/1", "", 1);
        client.retain("t/2", "", 1);
        wait_until("there is room", secs(10), || client.retain("t/more", "x", 1) == 0);
        client.subscribe("t/more", 1);
        client.expect_payload("x");
    }
}

#[test]
fn queued_messages_and_their_bytes_over_all_sessions() {
    let size = "x".repeat(300);
    for setting in ["limits.queued_messages_total=6", "limits.queued_bytes_total=2KiB"] {
        let broker = Broker::with(&[setting]);
        for id in ["s1", "s2"] {
            let mut session = Connect::v5(id).persistent().open(&broker);
            session.subscribe("t", 1);
            session.disconnect();
        }
        let mut client = broker.v5("c");
        let taken = (0..20).take_while(|_| client.publish("t", &size, 1) < 0x80).count();
        assert!((2..=4).contains(&taken), "{setting}: {taken}");
        assert_eq!(client.publish("t", &size, 2), 0x97);
        assert_eq!(client.publish("elsewhere", &size, 1), 0x10, "nobody would have to keep it");
        let mut old = broker.v311("old");
        old.send_publish(Publish::new("t", &size).qos(1));
        assert_eq!(old.expect_closed(), []);
        // Whoever takes its messages makes room.
        for id in ["s1", "s2"] {
            let mut session = Connect::v5(id).persistent().open(&broker);
            for _ in 0..taken {
                session.expect_payload(&size);
            }
            session.expect_nothing();
            session.disconnect();
        }
        wait_until("there is room", secs(10), || client.publish("t", "x", 1) == 0);
    }
}

#[test]
fn above_the_memory_mark_nothing_new_comes_in() {
    let broker = Broker::configured(&format!("{MAIN}anonymous = true\n"), &[]);
    let mut client = broker.v5("c");
    assert_eq!((client.subscribe("a", 1), client.retain("r/old", "x", 1)), (1, 0));
    let config = format!("{MAIN}anonymous = true\n[limits]\nmemory_mark = \"16MiB\"\n");
    // A tree's cache alone is larger than this mark as soon as it is used; if the process is smaller, there is nothing
    // to be seen.
    if broker.resident_kib() < 17 * 1024 {
        return println!("the process is below the smallest mark");
    }
    broker.configure(&config);
    broker.reload();
    broker.wait_log(&["WARN", "memory is above limits.memory_mark"]);
    for (version, code) in [(V5, 0x89), (V311, 3)] {
        assert_eq!(Connect::of(version, "new").open_any(&broker).1, code);
    }
    assert_eq!((client.subscribe("b", 1), client.subscribe("a", 0)), (0x97, 0));
    assert_eq!((client.retain("r/new", "x", 1), client.retain("r/old", "y", 1)), (0x97, 0));
    client.publish("a", "goes on", 1);
    client.expect_payload("goes on");
    broker.configure(&format!("{MAIN}anonymous = true\n"));
    broker.reload();
    broker.wait_log(&["memory is below limits.memory_mark again"]);
    broker.v5("new").ping();
}

#[test]
fn below_the_disk_mark_nothing_more_is_kept() {
    let broker = Broker::configured(&format!("{MAIN}anonymous = true\n"), &[]);
    let mut session = Connect::v5("s").persistent().open(&broker);
    session.subscribe("t", 1);
    session.disconnect();
    let mut client = broker.v5("c");
    assert_eq!(client.publish("t", "kept", 1), 0);
    broker.configure(&format!("{MAIN}anonymous = true\n[limits]\ndisk_mark = \"1024TiB\"\n"));
    broker.reload();
    broker.wait_log(&["WARN", "free space is below limits.disk_mark"]);
    assert_eq!(client.publish("t", "too late", 1), 0x97);
    assert_eq!(client.retain("r", "too late", 1), 0x97);
    assert_eq!(client.publish("nobody", "x", 1), 0x10);
    let mut old = broker.v311("old");
    old.send_publish(Publish::new("t", "too late").qos(1));
    assert_eq!(old.expect_closed(), []);
    let mut session = Connect::v5("s").persistent().open(&broker);
    session.expect_payload("kept");
    session.expect_nothing();
}

#[test]
fn two_that_throw_each_other_out_are_stopped() {
    let broker = Broker::with(&["limits.takeovers_per_minute=3"]);
    let mut last = broker.v5("one");
    let mut taken = 0;
    for version in [V311, V5, V311, V5, V311, V5] {
        let (client, code) = Connect::of(version, "one").open_any(&broker);
        if code != 0 {
            assert_eq!(code, if version == V5 { 0x89 } else { 3 });
            continue;
        }
        taken += 1;
        last = client;
    }
    assert_eq!(taken, 3);
    last.ping();
    broker.wait_log(&["WARN", "two clients use one client id", "client=\"one\""]);
    broker.v5("another").ping();
}

#[test]
fn what_a_listener_overrides() {
    let port = free_port();
    let config = format!(
        "{MAIN}anonymous = true\n[listeners.small]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
         max_packet_size = \"1KiB\"\nmax_inflight = 2\nmax_subscriptions = 1\nmax_topic_levels = 2\n"
    );
    let broker = Broker::configured(&config, &[]);
    let open = |version| Connect::of(version, "small").manual().open_over(Stream::tcp(port));
    let mut publisher = broker.v5("publisher");
    for version in [V5, V311] {
        let mut client = open(version);
        let refused = |code| if version == V5 { code } else { 0x80 };
        if version == V5 {
            let told = crate::support::wire::number(&client.connack, prop::MAXIMUM_PACKET_SIZE);
            assert_eq!(told, Some(1024));
        }
        assert_eq!(
            client.subscribe_many(&[("a/b/c", 1), ("a/b", 1), ("c", 1)], &[]),
            [refused(0x8f), 1, refused(0x97)]
        );
        for n in 0..4 {
            publisher.publish("a/b", n.to_string(), 1);
        }
        let ids = [client.expect_publish().id, client.expect_publish().id];
        client.expect_nothing();
        client.ack(crate::support::wire::PUBACK, ids[0]);
        client.expect_payload("2");
        client.send_publish(Publish::new("t", "x".repeat(2_000)));
        client.expect_disconnect(&[0x95]);
    }
    assert_eq!(publisher.subscribe("a/b/c/d", 1), 1);
}
