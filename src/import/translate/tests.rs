//! Files of options, and what comes of them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{Config, Sources};
use crate::import::report::Entry;

/// What a file comes to.
struct Came {
    toml: String,
    report: Report,
    needs_rules: bool,
    translation: (bool, bool, Option<u64>, Queues, Option<PathBuf>),
}

impl Came {
    /// What is said of the option in this line.
    fn said(&self, line: usize) -> &Entry {
        let at = |entry: &&Entry| entry.place.ends_with(&format!(":{line}"));
        self.report.entries.iter().find(at).unwrap_or_else(|| panic!("line {line} is missing:\n{}", self.report))
    }

    #[track_caller]
    fn is(&self, line: usize, fate: Fate, text: &str) {
        let said = self.said(line);
        assert!(said.fate == fate && said.text.contains(text), "{fate}, {text}: {said}");
    }

    /// The configuration that is loaded of it.
    fn config(&self) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nightjar.toml");
        std::fs::write(&file, &self.toml).unwrap();
        let loaded = Config::load(&Sources { file: Some(file), ..Sources::default() });
        loaded.unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", self.toml)).config
    }
}

fn translated(text: &str) -> Result<Came, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.conf");
    std::fs::write(&path, text).unwrap();
    let translation = translate(&path, Path::new("/out")).map_err(|wrong| {
        wrong.iter().map(|wrong| wrong.to_string().replace(&format!("{}:", path.display()), "")).collect::<Vec<_>>()
    })?;
    let facts = (
        translation.needs_passwords,
        translation.proves_users,
        translation.expiration,
        translation.queues,
        translation.database.clone(),
    );
    let needs_rules = translation.needs_rules;
    let (toml, report) = translation.finish("head");
    Ok(Came { toml, report, needs_rules, translation: facts })
}

#[track_caller]
fn came(text: &str) -> Came {
    translated(text).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}

use Fate::{Changed, Honoured, Unsupported};

#[test]
fn nothing_is_a_broker_for_this_machine() {
    let came = came("");
    let config = came.config();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1883");
    assert!(config.listeners.iter().all(|listener| listener.anonymous));
    assert_eq!(config.node.data, Path::new("/out/data"));
    assert_eq!(config.session.expiry_v3, None);
    assert_eq!(came.translation.4, None);
}

#[test]
fn listeners_with_tls_websockets_and_sockets() {
    let came = came(
        "listener 8883 127.0.0.1\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\nrequire_certificate true\n\
         use_identity_as_username true\ncrlfile /crl.pem\ntls_version tlsv1.2\nmax_connections 50\n\
         listener 9001 ::1\nprotocol websockets\nwebsockets_origin https://a\nwebsockets_origin https://b\n\
         listener 0 /run/m.sock\nallow_anonymous true\n\
         listener 8884 127.0.0.1\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\nmax_connections -1\nenable_proxy_protocol 2\n",
    );
    let config = came.config();
    let of = |name: &str| config.listeners.iter().find(|listener| listener.name == name).unwrap();
    let (tls, web, unix, other) = (of("tls-8883"), of("websockets-9001"), of("unix"), of("tls-8884"));
    assert_eq!((&*tls.name, tls.client_ca.len(), tls.crl.len(), tls.max_connections), ("tls-8883", 1, 1, 50));
    assert!(tls.client_certificate_required && tls.is_tls() && tls.names_by_certificate() && tls.speaks("mqtt"));
    assert_eq!((web.name.as_str(), web.address.to_string()), ("websockets-9001", "[::1]:9001".to_owned()));
    assert!(web.speaks("websocket") && !web.speaks("mqtt"));
    assert_eq!(web.origins.as_ref().map(Vec::len), Some(2));
    assert_eq!((unix.name.as_str(), unix.address.to_string()), ("unix", "unix:/run/m.sock".to_owned()));
    assert!(config.listeners.iter().all(|listener| listener.anonymous));
    assert!(other.is_tls() && other.client_ca.is_empty() && other.proxy_protocol && other.max_connections > 100_000);
    came.is(1, Honoured, "listeners.tls-8883 at 127.0.0.1:8883");
    came.is(2, Honoured, "certificate = \"/c.pem\"");
    came.is(13, Honoured, "origins = [\"https://a\", \"https://b\"]");
    came.is(19, Changed, "no client certificate is asked for");
    came.is(21, Changed, "trusted_proxies");
}

#[test]
fn a_listener_on_every_address_is_one_for_each_family() {
    let came = came("socket_domain ipv6\nlistener 1884\nsocket_domain ipv4\nallow_anonymous true\n");
    let addresses: Vec<String> = came.config().listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["[::]:1883", "0.0.0.0:1884"]);
}

#[test]
fn what_protects_and_cannot_be_kept_closes_its_listener() {
    let came = came(
        "allow_anonymous true\nlistener 1883 127.0.0.1\nlistener 1884 127.0.0.1\nmount_point a/\nmax_qos 1\n\
         listener 1885 127.0.0.1\npsk_hint h\npsk_file /p\nlistener 1886 127.0.0.1\nprotocol http_api\n\
         listener 1887 127.0.0.1\ncertfile /c\nkeyfile /k\ncapath /d\nrequire_certificate true\n\
         listener 1883 127.0.0.1\n",
    );
    assert_eq!(came.config().listeners.len(), 1);
    came.is(3, Unsupported, "the listener is left out: no prefix");
    came.is(5, Unsupported, "left out");
    came.is(6, Unsupported, "pre-shared keys");
    came.is(8, Unsupported, "pre-shared keys");
    came.is(9, Unsupported, "admin door");
    came.is(11, Unsupported, "join those of capath");
    came.is(16, Unsupported, "another one has its address");
}

#[test]
fn where_no_listener_is_kept_nobody_comes_in_until_somebody_is_added() {
    let came = came(
        "allow_anonymous true\npassword_file /users\nacl_file /acl\nlistener 1883\nmount_point x/\nmax_qos 1\n\
         listener 8883\npsk_hint h\n",
    );
    let config = came.config();
    let [local] = &config.listeners[..] else { panic!("{}", came.toml) };
    assert_eq!((local.name.as_str(), local.address.to_string()), ("local", "127.0.0.1:1883".to_owned()));
    assert!(!local.anonymous);
    // mosquitto's users were bound to a prefix; the new file has nobody.
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/out/passwords")));
    assert!(came.translation.0);
    assert_eq!(config.access.mosquitto_acl.as_deref(), Some(Path::new("/acl")));
    came.is(1, Changed, "are left out");
    came.is(2, Unsupported, "when you add one");
    came.is(3, Honoured, "access.mosquitto_acl");
    came.is(4, Unsupported, "the listener is left out");
    assert!(came.report.notes.iter().any(|note| note.contains("no listener could be kept")), "{}", came.report);
}

#[test]
fn an_interface_is_no_address() {
    let came = came("listener 1883\nbind_interface eth0\n");
    assert_eq!(came.config().listeners[0].address.to_string(), "127.0.0.1:1883");
    came.is(2, Changed, "this machine alone");
    // mosquitto binds to the interface, whatever its address: a host may be on others as well.
    for text in
        ["listener 1883 0.0.0.0\nbind_interface eth0\n", "port 1883\nbind_address 10.9.8.7\nbind_interface eth0\n"]
    {
        let came = self::came(text);
        let addresses: Vec<_> = came.config().listeners.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:1883"], "{text}");
        came.is(text.lines().count(), Changed, "this machine alone");
    }
}

#[test]
fn users_and_rules_are_read_from_their_own_files() {
    let came =
        came("listener 1883 0.0.0.0\npassword_file /etc/m/passwd\nacl_file /etc/m/acl ok\nallow_anonymous false\n");
    let config = came.config();
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/etc/m/passwd")));
    assert_eq!(config.access.mosquitto_acl.as_deref(), Some(Path::new("/etc/m/acl ok")));
    assert!(!config.listeners[0].anonymous);
    came.is(2, Honoured, "auth.password_file");
    came.is(3, Honoured, "access.mosquitto_acl");
    assert_eq!((came.translation.0, came.translation.1), (false, true));
}

#[test]
fn where_nobody_could_come_in_nobody_can() {
    let came =
        came("listener 1883 0.0.0.0\nplugin /usr/lib/mosquitto_dynamic_security.so\nplugin_opt_config_file /d.json\n");
    let config = came.config();
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/out/passwords")));
    assert!(!config.listeners[0].anonymous && came.translation.0);
    came.is(2, Unsupported, "no plugins");
    came.is(3, Unsupported, "no plugins");
    assert!(came.report.notes.iter().any(|note| note.contains("dynamic security")));
    let open = self::came("listener 1883 0.0.0.0\nallow_anonymous true\n");
    assert_eq!((open.translation.0, open.translation.1), (false, false));
}

fn names(config: &Config) -> Vec<(&str, bool)> {
    config.listeners.iter().map(|listener| (listener.name.as_str(), listener.anonymous)).collect()
}

#[test]
fn a_listener_with_another_password_file_is_left_out() {
    let came = came(
        "per_listener_settings true\nlistener 1883 127.0.0.1\npassword_file /a\nlistener 1884 127.0.0.1\n\
         password_file /b\nlistener 1885 127.0.0.1\nallow_anonymous true\npassword_file /a\nlistener 1886 127.0.0.1\n\
         listener 1887 127.0.0.1\nallow_anonymous true\n",
    );
    let config = came.config();
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/a")));
    // Who had no file let in nobody, or everybody.
    assert_eq!(names(&config), [("mqtt-1883", false), ("mqtt-1885", true), ("mqtt-1887", true)]);
    came.is(1, Changed, "for all listeners");
    came.is(4, Unsupported, "left out: auth.password_file = \"/a\"");
    came.is(5, Unsupported, "join the files");
    came.is(8, Honoured, "auth.password_file");
    came.is(9, Unsupported, "left out");
}

#[test]
fn a_listener_with_another_acl_file_is_left_out() {
    let came = came(
        "per_listener_settings true\nlistener 1883 127.0.0.1\nacl_file /all\npassword_file /a\nlistener 8883 0.0.0.0\n\
         acl_file /little\npassword_file /a\nlistener 1885 127.0.0.1\npassword_file /a\n",
    );
    let config = came.config();
    assert_eq!(config.access.mosquitto_acl.as_deref(), Some(Path::new("/all")));
    assert_eq!(names(&config), [("mqtt-1883", false), ("mqtt-1885", false)]);
    came.is(3, Honoured, "access.mosquitto_acl");
    came.is(5, Unsupported, "left out: access.mosquitto_acl = \"/all\"");
    came.is(6, Unsupported, "left out");
    came.is(7, Unsupported, "left out");
}

#[test]
fn certificates_alone_name_users_where_they_did() {
    let came = came(
        "per_listener_settings true\nlistener 8883 127.0.0.1\ncertfile /c\nkeyfile /k\ncafile /ca\n\
         use_identity_as_username true\nrequire_certificate true\nlistener 1884 127.0.0.1\npassword_file /b\n",
    );
    let config = came.config();
    assert_eq!(names(&config), [("mqtt-1884", false), ("tls-8883", false)]);
    assert_eq!(config.listeners[0].authentication, None);
    assert_eq!(config.listeners[1].authentication.as_deref(), Some(&["certificate".to_owned()][..]));
}

#[test]
fn settings_above_those_for_each_listener_hold_nowhere() {
    let came = came(
        "allow_anonymous true\npassword_file /a\nper_listener_settings true\nlistener 1883 127.0.0.1\n\
         listener 1884 127.0.0.1\nallow_anonymous true\n",
    );
    let config = came.config();
    assert_eq!(names(&config), [("mqtt-1883", false), ("mqtt-1884", true)]);
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/out/passwords")));
    came.is(1, Unsupported, "at no listener");
    came.is(2, Unsupported, "at no listener");
}

#[test]
fn where_a_plugin_may_have_decided_everything_is_denied() {
    for text in [
        "listener 1883 0.0.0.0\nplugin /x/some_acl.so\npassword_file /a\nacl_file /acl\n",
        "listener 1883 0.0.0.0\nauth_plugin /x/go-auth.so\nallow_anonymous true\n",
        "listener 1883 0.0.0.0\nplugin_load d /x/mosquitto_dynamic_security.so\nplugin_use d\nallow_anonymous true\n",
        "per_listener_settings true\nglobal_plugin /x/some.so\nlistener 1883 0.0.0.0\nallow_anonymous true\n",
        "per_listener_settings true\nlistener 1883 0.0.0.0\nallow_anonymous true\nplugin /x/some.so\n",
        "plugin /x/some.so\n",
        // Which of two decides is not to be known.
        "listener 1883 0.0.0.0\nacl_file /a\nplugin /x/mosquitto_acl_file.so\nplugin_opt_acl_file /b\n",
    ] {
        let came = came(text);
        let config = came.config();
        assert_eq!(config.access.rules.as_deref(), Some(Path::new("/out/rules")), "{text}");
        assert!(config.access.mosquitto_acl.is_none() && came.needs_rules, "{text}");
        assert!(config.listeners.iter().all(|listener| !listener.anonymous), "{text}");
        assert!(came.report.notes.iter().any(|note| note.contains("EVERYTHING IS DENIED")), "{text}");
    }
    let with_files = came("listener 1883 0.0.0.0\nplugin /x/some_acl.so\npassword_file /a\nacl_file /acl\n");
    assert_eq!(with_files.config().auth.password_file.as_deref(), Some(Path::new("/a")));
    with_files.is(4, Unsupported, "access.mosquitto_acl = \"/acl\"");
}

#[test]
fn a_plugin_of_one_listener_closes_that_one() {
    let came = came(
        "per_listener_settings true\nlistener 1883 127.0.0.1\nacl_file /acl\nallow_anonymous true\n\
         listener 1884 127.0.0.1\nallow_anonymous true\nplugin /p.so\nplugin_opt_acl_file /other\n",
    );
    let config = came.config();
    assert_eq!(names(&config), [("mqtt-1883", true)]);
    assert_eq!(config.access.mosquitto_acl.as_deref(), Some(Path::new("/acl")));
    assert!(!came.needs_rules);
    came.is(5, Unsupported, "a plugin may have decided");
}

#[test]
fn plugins_that_read_mosquittos_files_are_those_files() {
    let came = came(
        "listener 1883 127.0.0.1\nplugin /x/mosquitto_password_file.so\nplugin_opt_password_file /a\n\
         plugin /x/mosquitto_acl_file.so\nplugin_opt_acl_file /acl\nglobal_plugin /x/mosquitto_persist_sqlite.so\n",
    );
    let config = came.config();
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/a")));
    assert_eq!(config.access.mosquitto_acl.as_deref(), Some(Path::new("/acl")));
    assert!(!came.needs_rules);
}

#[test]
fn limits_are_carried_over() {
    let came = came(
        "max_inflight_messages 5\nmax_queued_messages 100\nmax_packet_size 100\nmax_keepalive 60\nmemory_limit 1\n\
         global_max_connections 10\nglobal_max_clients 5\npersistent_client_expiration 2m\nqueue_qos0_messages true\n\
         retain_available false\nmax_queued_bytes 4096\nmax_qos 1\nmax_topic_alias 3\nset_tcp_nodelay true\n\
         allow_duplicate_messages true\nsys_interval 0\nlog_type error\nlog_type warning\nlog_dest syslog\n\
         accept_protocol_versions 4,5\nallow_zero_length_clientid false\nmax_inflight_bytes 1\nretain_expiry_interval 5\n",
    );
    let config = came.config();
    assert_eq!((config.session.max_inflight, config.mqtt.receive_maximum), (5, 5));
    assert_eq!((config.mqtt.max_packet_size, config.mqtt.max_keep_alive), (128, Some(60)));
    assert_eq!((config.limits.max_connections, config.mqtt.max_qos, config.mqtt.topic_alias_maximum), (5, 1, 3));
    assert!(config.session.queue_qos0 && !config.mqtt.retain_available && !config.mqtt.allow_v31);
    assert!(!config.mqtt.allow_empty_client_id && config.sys.interval.is_none());
    let months = std::time::Duration::from_secs(60 * 86_400);
    assert_eq!((config.session.expiry_v3, config.session.max_expiry), (Some(months), Some(months)));
    assert_eq!(config.log.level, crate::config::Level::Warn);
    let queues = Queues { messages: Some(105), bytes: Some(4_096) };
    assert_eq!((came.translation.2, came.translation.3), (Some(60 * 86_400), queues));
    came.is(3, Changed, "from 128");
    came.is(5, Changed, "memory_mark");
    came.is(8, Honoured, "session.max_expiry");
    came.is(15, Unsupported, "one copy");
    came.is(22, Unsupported, "session.max_inflight");
    came.is(23, Unsupported, "Message Expiry Interval");
}

#[test]
fn zero_is_no_bound() {
    let came = came(
        "max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\nmax_keepalive 0\nmemory_limit 0\nglobal_max_clients -1\nmessage_size_limit 0\n",
    );
    let config = came.config();
    assert_eq!((config.session.max_inflight, config.mqtt.max_keep_alive), (65_535, None));
    assert_eq!(came.translation.3, Queues { messages: Some(u64::MAX), bytes: Some(u64::MAX) });
    assert!((1..=7).all(|line| came.said(line).fate == Honoured), "{}", came.report);
}

#[test]
fn the_database_is_where_the_files_say() {
    let path = |text: &str| came(text).translation.4;
    assert_eq!(path("persistence true\npersistence_location /var/lib/m/\n"), Some("/var/lib/m/mosquitto.db".into()));
    assert_eq!(
        path("persistence true\npersistence_location /var/lib/m\npersistence_file x.db\n"),
        Some("/var/lib/m/x.db".into())
    );
    assert_eq!(path("persistence true\n"), Some(std::path::absolute("mosquitto.db").unwrap()));
    assert_eq!(path("persistence_location /var/lib/m/\n"), None);
}

#[test]
fn what_stands_twice_counts_once() {
    let came = came("sys_interval 5\nsys_interval 6\npassword_file /a\npassword_file /b\n");
    let config = came.config();
    assert_eq!(config.sys.interval.map(|span| span.as_secs()), Some(6));
    assert_eq!(config.auth.password_file.as_deref(), Some(Path::new("/b")));
    came.is(1, Changed, ":2 says otherwise");
    came.is(3, Changed, ":4 says otherwise");
}

#[test]
fn a_bridge_is_a_table() {
    let came = came(
        "connection My Bridge\naddress one:1884 two # a comment\ntopic s/# both 1\ntopic \"a b/#\" in 2 x/ y/ # why\n\
         remote_username u\nremote_password p\"w\nremote_clientid me\ncleansession true\nbridge_cafile /ca.pem\n\
         bridge_insecure true\nstart_type lazy\nthreshold 0\nidle_timeout 5\nkeepalive_interval 2\nrestart_timeout 10 30\n\
         try_private false\nnotification_topic n/t\nbridge_protocol_version mqttv50\nbridge_session_expiry_interval 60\n\
         bridge_max_packet_size 0\nbridge_receive_maximum 7\nlocal_username l\nlocal_clientid here\nbridge_alpn mqtt\n\
         bridge_bind_address 1.2.3.4\nround_robin true\n",
    );
    let table = came.toml.split("[bridges.my]\n").nth(1).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    for line in [
        "client_id = \"me\"",
        "address = [\"mqtts://one:1884\", \"mqtts://two:1883\"]",
        "round_robin = true",
        "topics = [\"\\\"s/#\\\" both 1 \\\"\\\" \\\"\\\"\", \"\\\"a b/#\\\" in 2 \\\"x/\\\" \\\"y/\\\"\"]",
        "username = \"u\"",
        "password = \"p\\\"w\"",
        "local_user = \"l\"",
        "version = \"5\"",
        "clean_start = true",
        "clean_local = true",
        "session_expiry = \"60s\"",
        "keep_alive = \"5s\"",
        "bridge_flag = false",
        "notification_topic = \"n/t\"",
        "ca = \"/ca.pem\"",
        "alpn = [\"mqtt\"]",
        "insecure = true",
        "start = \"lazy\"",
        "lazy_threshold = \"1\"",
        "idle_timeout = \"5s\"",
        "receive_maximum = 7",
        "max_packet_size = \"unlimited\"",
        "retry_base = \"10s\"",
        "retry_cap = \"30s\"",
    ] {
        let line = line.replace("\"1\"", "1");
        assert!(lines.contains(&line.as_str()), "{line} in:\n{table}");
    }
    let config = came.config();
    let bridge = &config.bridges[0];
    assert_eq!((bridge.name.as_str(), bridge.address.len(), bridge.topics.len()), ("my", 2, 2));
    assert_eq!((bridge.keep_alive, bridge.receive_maximum, bridge.lazy_threshold), (5, 7, 1));
    assert!(
        bridge.insecure && bridge.clean_start && bridge.clean_local && !bridge.bridge_flag && bridge.password.is_some()
    );
    came.is(1, Changed, "lower-case");
    came.is(6, Honoured, "bridges.my.password");
    assert!(!came.report.to_string().contains("p\"w"), "a secret is not told");
    came.is(25, Unsupported, "routes");
}

#[test]
fn bridges_that_cannot_be_kept_are_left_out() {
    let came = came(
        "connection a\naddress h\ntopic # out\nbridge_psk 12\nbridge_identity i\nconnection b\naddress h\ntopic # out 1 \"\" a/\n\
         topic # in 1 b/ \"\"\nconnection c\naddress ::1:1883\ntopic t out\n",
    );
    assert!(!came.toml.contains("[bridges.a]") && !came.toml.contains("[bridges.b]"));
    assert!(came.toml.contains("address = [\"mqtt://[::1]:1883\"]"), "{}", came.toml);
    came.is(1, Unsupported, "pre-shared keys");
    came.is(6, Unsupported, "under another name");
    assert_eq!(came.config().bridges.len(), 1);
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let wrong = translated(
        "listener 99999\nlistener 0\ncertfile /c\npersistent_client_expiration 5\nlog_type loud\nconnection a\naddress :x\ntopic a sideways\nrestart_timeout x\n",
    );
    let wrong = wrong.err().unwrap();
    let expected = [
        "1: listener: expected a port from 0 to 65535, and perhaps an address",
        "2: listener: expected the path of a Unix socket behind port 0",
        "4: persistent_client_expiration: expected a number and its unit: s, h, d, w, m (months) or y",
        "5: log_type: expected a kind of line that mosquitto logs, found \"loud\"",
        "8: topic: expected out, in or both, found \"sideways\"",
    ];
    assert_eq!(wrong, expected);
}

#[test]
fn a_report_does_nothing_to_a_terminal() {
    let came = came("connection a\naddress h\ntopic a\x1b[2Jb out\nlocal_username \x07\n");
    assert!(!came.report.to_string().replace('\n', "").contains(char::is_control), "{}", came.report);
}

#[test]
fn every_option_is_told_what_becomes_of_it() {
    use crate::import::conf::table::{Kind, Known, Scope, TABLE};
    let line = |known: &Known| {
        let value = match (known.name, known.kind) {
            ("connection" | "listener" | "port" | "bind_address" | "include_dir", _) => return String::new(),
            ("mount_point" | "psk_hint" | "bridge_psk" | "bridge_identity" | "bind_interface", _) => {
                return String::new();
            }
            ("persistent_client_expiration", _) => "1d",
            ("topic", _) => "# out 1",
            ("log_type", _) => "all",
            (_, Kind::Flag) => "true",
            (_, Kind::Number(20.., _)) => "20",
            (_, Kind::Number(..)) => "2",
            (_, Kind::Word(words)) => words[0],
            (_, Kind::Text) => "1",
        };
        format!("{} {value}\n", known.name)
    };
    let lines = |bridge: bool| TABLE.iter().filter(move |known| (known.scope == Scope::Bridge) == bridge).map(line);
    let head = "per_listener_settings true\nlistener 1883 127.0.0.1\n".to_owned();
    let text = head + &lines(false).collect::<String>() + "connection b\n" + &lines(true).collect::<String>();
    let came = came(&text);
    assert!(came.report.entries.len() > 130 && came.toml.contains("[bridges.b]"), "{}", came.toml);
    let silent = came.report.entries.iter().find(|entry| entry.text.starts_with("nothing in nightjar"));
    assert_eq!(silent, None);
    came.config();
}
