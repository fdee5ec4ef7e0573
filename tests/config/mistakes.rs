//! Every mistake is told: where, which key, what was expected, what was perhaps meant.

use super::Setup;

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let setup = Setup::file(
        "[node]\ndata = 5\n\n[store]\nshard = 4\nshards = 0\n[mqtt]\nmax_qos = 3\n[log]\nformat = \"xml\"\n",
    )
    .variable("NIGHTJAR_LOG__LEVLE", "debug")
    .set("limits.half_open=many");
    assert_eq!(
        setup.mistakes(),
        [
            "FILE:2: node.data: expected a path, found 5",
            "FILE:5: store.shard: no such setting; did you mean store.shards?",
            "FILE:6: store.shards: expected a whole number from 1 to 1024, found 0",
            "FILE:8: mqtt.max_qos: expected a whole number from 0 to 2, found 3",
            "FILE:10: log.format: expected one of \"text\", \"json\", found \"xml\"",
            "environment NIGHTJAR_LOG__LEVLE: log.levle: no such setting; did you mean log.level?",
            "--set: limits.half_open: expected a whole number from 1 up, or \"unlimited\", found \"many\"",
        ]
    );
}

#[test]
fn a_wrong_value_is_told_with_what_was_expected() {
    for (file, told) in [
        ("[store]\nshards = \"16\"", "store.shards: expected a whole number from 1 to 1024, found \"16\""),
        ("[store]\nshards = 16.5", "store.shards: expected a whole number from 1 to 1024, found 16.5"),
        ("[store]\nshards = [16]", "store.shards: expected a whole number from 1 to 1024, found a list"),
        ("[mqtt]\nallow_v31 = \"yes\"", "mqtt.allow_v31: expected true or false, found \"yes\""),
        ("[mqtt]\nallow_v31 = 1", "mqtt.allow_v31: expected true or false, found 1"),
        ("[limits]\nwrite_timeout = 20", "with its unit, as \"500ms\", \"30s\" or \"7d\", found 20"),
        ("[limits]\nwrite_timeout = \"0s\"", "expected a duration from 1ms to 1h"),
        ("[limits]\noutbox_max = \"64 pounds\"", "expected a size from 1KiB to 1TiB"),
        ("[session]\nqueue_messages = 0", "expected a whole number from 1 up, or \"unlimited\", found 0"),
        ("[session]\nqueue_messages = -1", "or \"unlimited\", found -1"),
        ("[node]\ndata = \"\"", "node.data: expected a path, found \"\""),
        ("[listeners.a]\naddress = \"localhost\"", "expected an IP address and a port, as \"127.0.0.1:1883\""),
        ("[listeners.a]\naddress = \"127.0.0.1:65536\"", "expected an IP address and a port"),
        ("[listeners.a]\nstrict = true", "listeners.a.address: missing: expected an IP address and a port"),
    ] {
        let mistakes = Setup::file(file).mistakes();
        assert_eq!(mistakes.len(), 1, "{file}: {mistakes:?}");
        assert!(mistakes[0].contains(told), "{file}: {mistakes:?}");
    }
}

#[test]
fn an_unknown_key_is_told_with_the_nearest() {
    for (file, told) in [
        ("[stroe]\nshards = 1", "FILE:2: stroe.shards: no such setting; did you mean store.shards?"),
        ("[Store]\nshards = 1", "FILE:2: Store.shards: no such setting; did you mean store.shards?"),
        ("shards = 1", "FILE:1: shards: no such setting; did you mean store.shards?"),
        ("[node]\nshards = 1", "FILE:2: node.shards: no such setting; did you mean store.shards?"),
        ("[store.shards]\nnumber = 1", "FILE:2: store.shards.number: no such setting"),
        (
            "[listeners.a]\nadress = \"127.0.0.1:1\"",
            "FILE:2: listeners.a.adress: no such setting; did you mean listeners.a.address?",
        ),
        ("[tls]\n", "FILE:1: tls: no such setting"),
        ("store = 5", "FILE:1: store: expected a table of settings, found 5"),
        ("listeners = [1]", "FILE:1: listeners: expected tables, as [listeners.main] or [[listeners]], found a list"),
        ("[[listeners]]\nstrict = true", "FILE:2: listeners.1.address: missing: expected an IP address and a port"),
        ("[[listeners]]\nadress = 1", "FILE:2: listeners.1.adress: no such setting; did you mean listeners.1.address?"),
        (
            "[listeners.Main]\nstrict = true",
            "FILE:2: listeners.Main.strict: expected a listener's name of lower-case letters",
        ),
    ] {
        let mistakes = Setup::file(file).mistakes();
        assert!(mistakes[0].starts_with(told), "{file}: {mistakes:?}");
    }
    let mistakes = Setup::nothing().variable("NIGHTJAR_DATA", "/tmp").mistakes();
    assert_eq!(mistakes, ["environment NIGHTJAR_DATA: data: no such setting; did you mean node.data?"]);
    let mistakes = Setup::nothing().variable("NIGHTJAR_STORE", "/tmp").mistakes();
    assert_eq!(mistakes, ["environment NIGHTJAR_STORE: store: expected a table of settings, found \"/tmp\""]);
    let mistakes = Setup::nothing().set("store.shards").mistakes();
    assert_eq!(mistakes, ["--set: expected KEY=VALUE, as store.shards=16, found \"store.shards\""]);
}

#[test]
fn settings_that_cannot_stand_together_are_refused() {
    let limits = Setup::nothing().set("limits.outbox_max=1KiB").mistakes();
    assert_eq!(limits, ["--set: limits.outbox_high: expected at most the value of limits.outbox_max"]);
    let store = Setup::file("[store]\njournal_budget = \"1MiB\"").mistakes();
    assert_eq!(store, ["FILE:2: store.journal_budget: expected at least four times store.segment_size"]);
    let listeners = "[listeners.a]\naddress = \"127.0.0.1:1883\"\n[listeners.b]\naddress = \"127.0.0.1:1883\"";
    let listeners = Setup::file(listeners).mistakes();
    assert_eq!(listeners, ["FILE:4: listeners.b.address: 127.0.0.1:1883 is taken by listeners.a"]);
    let list = "[[listeners]]\naddress = \"127.0.0.1:1883\"\n[[listeners]]\naddress = \"127.0.0.1:1883\"";
    assert_eq!(Setup::file(list).mistakes(), ["FILE:4: listeners.2.address: 127.0.0.1:1883 is taken by listeners.1"]);
    // Each of these gets a port of its own.
    Setup::nothing().listen("127.0.0.1:0").listen("127.0.0.1:0").config();
}

#[test]
fn a_listener_that_others_can_reach_is_refused_unless_it_is_opened_by_name() {
    for address in ["0.0.0.0:1883", "[::]:1883", "192.168.1.10:1883", "[::ffff:127.0.0.1]:1883"] {
        let mistakes = Setup::nothing().listen(address).mistakes();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].contains("there is no authentication"), "{mistakes:?}");
        assert!(mistakes[0].contains("--anonymous"), "{mistakes:?}");
    }
}

#[test]
fn hostile_text_in_a_mistake_does_no_harm_to_a_terminal() {
    let setup = Setup::file("[store]\n\"sh\\u001b[2Jards\" = 1\ndurability = \"\\u001b]0;owned\\u0007\"\n");
    for line in setup.mistakes() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
