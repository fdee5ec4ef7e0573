//! Who wins, and where a value came from.

use super::Setup;
use nightjar::config::{Durability, Overflow};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_file_sets_every_kind_of_value() {
    let config = Setup::file(
        r#"
        [node]
        workers = 3
        [store]
        durability = "interval"
        checkpoint_interval = "250ms"
        segment_size = "2MB"
        [session]
        expiry_v3 = "unlimited"
        queue_overflow = "refuse"
        queue_qos0 = true
        queue_messages = "unlimited"
        [mqtt]
        server_keep_alive = "60s"
        max_packet_size = 1_000
        [sys]
        interval = "off"
        "#,
    )
    .config();
    assert_eq!(config.node.worker_count(), 3);
    assert_eq!(config.store.durability, Durability::Interval);
    assert_eq!(config.store.checkpoint_interval, Duration::from_millis(250));
    assert_eq!(config.store.segment_size, 2_000_000);
    assert_eq!(config.session.expiry_v3, None);
    assert_eq!(config.session.queue_overflow, Overflow::Refuse);
    assert!(config.session.queue_qos0);
    assert_eq!(config.session.queue_messages, u64::MAX);
    assert_eq!(config.mqtt.server_keep_alive, Some(60));
    assert_eq!(config.mqtt.max_packet_size, 1_000);
    assert_eq!(config.sys.interval, None);
}

#[test]
fn a_flag_wins_over_set_over_environment_over_file() {
    let file = || Setup::file("[node]\ndata = \"/tmp/file\"");
    let environment = || file().variable("NIGHTJAR_NODE__DATA", "/tmp/environment");
    let set = || environment().set("node.data=/tmp/set");
    let mut flag = set();
    flag.sources.data = Some("/tmp/flag".into());
    for (setup, data) in
        [(file(), "/tmp/file"), (environment(), "/tmp/environment"), (set(), "/tmp/set"), (flag, "/tmp/flag")]
    {
        assert_eq!(setup.config().node.data, Path::new(data));
    }
}

#[test]
fn the_last_of_two_settings_of_one_key_wins() {
    assert_eq!(Setup::nothing().set("store.shards=2").set("store.shards = 3").config().store.shards, 3);
}

#[test]
fn the_environment_reaches_keys_with_underscores_and_listeners() {
    let config = Setup::nothing()
        .variable("NIGHTJAR_SESSION__QUEUE_QOS0", "true")
        .variable("NIGHTJAR_LISTENERS__MAIN__ADDRESS", "127.0.0.1:2883")
        .variable("NIGHTJAR_LISTENERS__IN_HOUSE__ADDRESS", "127.0.0.1:3883")
        .variable("HOME", "/nowhere")
        .config();
    assert!(config.session.queue_qos0);
    let names: Vec<_> = config.listeners.iter().map(|listener| (&*listener.name, port(listener))).collect();
    assert_eq!(names, [("in_house", 3883), ("main", 2883)]);
}

#[test]
fn the_config_file_can_be_named_by_a_variable() {
    let mut setup = Setup::file("[store]\nshards = 5");
    let file = setup.sources.file.take().unwrap();
    let setup = setup.variable("NIGHTJAR_CONFIG", file.to_str().unwrap());
    assert_eq!(setup.config().store.shards, 5);
}

#[test]
fn listen_flags_are_the_only_listeners() {
    let file = "[listeners.lan]\naddress = \"0.0.0.0:1883\"\nanonymous = true";
    let config = Setup::file(file).listen("127.0.0.1:0").listen("[::1]:1884").config();
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:0", "[::1]:1884"]);
    // And a setting can still go with them.
    let config = Setup::nothing().listen("127.0.0.1:0").set("listeners.main.strict=true").config();
    assert!(config.listeners[0].strict);
}

#[test]
fn anonymous_opens_every_listener() {
    let file =
        "[listeners.lan]\naddress = \"0.0.0.0:1883\"\n[listeners.wan]\naddress = \"[::]:1883\"\nanonymous = false";
    let config = Setup::file(file).anonymous().config();
    assert!(config.listeners.iter().all(|listener| listener.anonymous));
    let config = Setup::nothing().anonymous().listen("0.0.0.0:1883").config();
    assert!(config.listeners[0].anonymous);
}

#[test]
fn a_loopback_listener_lets_this_machine_in_unless_told_otherwise() {
    let open = |file| Setup::file(file).config().listeners[0].anonymous;
    assert!(open("[listeners.a]\naddress = \"127.0.0.1:5\""));
    assert!(open("[listeners.a]\naddress = \"[::1]:5\""));
    assert!(!open("[listeners.a]\naddress = \"127.0.0.1:5\"\nanonymous = false"));
}

#[test]
fn the_origin_of_each_value_is_told() {
    let setup = Setup::file("[store]\nshards = 5")
        .variable("NIGHTJAR_LOG__LEVEL", "debug")
        .set("mqtt.max_qos=1")
        .listen("127.0.0.1:0");
    let effective = setup.load().unwrap().effective();
    for line in [
        format!("shards = 5 # {}:2", setup.path().display()),
        "level = \"debug\" # environment NIGHTJAR_LOG__LEVEL".to_owned(),
        "max_qos = 1 # --set".to_owned(),
        "address = \"127.0.0.1:0\" # --listen".to_owned(),
        "retain_available = true # default".to_owned(),
    ] {
        assert!(effective.lines().any(|found| found == line), "{line}\nin\n{effective}");
    }
}

#[test]
fn variables_that_nobody_wrote_as_settings_are_left_alone() {
    let setup = Setup::nothing()
        .variable("NIGHTJAR_PORT", "tcp://10.0.0.1:1883")
        .variable("NIGHTJAR_SERVICE_HOST", "10.0.0.1")
        .variable("NIGHTJAR_TEST_ROUNDS", "200");
    setup.config();
}

#[test]
fn listeners_can_be_a_list() {
    let file = "[[listeners]]\naddress = \"127.0.0.1:1\"\n[[listeners]]\naddress = \"0.0.0.0:2\"\nanonymous = true";
    let setup = || Setup::file(file).variable("NIGHTJAR_LISTENERS__1__STRICT", "true");
    let config = setup().config();
    let listeners: Vec<_> = config.listeners.iter().map(|one| (&*one.name, port(one), one.strict)).collect();
    assert_eq!(listeners, [("1", 1, true), ("2", 2, false)]);
    assert_eq!(Setup::file(&setup().load().unwrap().effective()).config(), config);
}

fn port(listener: &nightjar::config::Listener) -> u16 {
    listener.address.ip().expect("an IP address").port()
}
