//! Every option of mosquitto 2.0 and 2.1: to what it belongs, what its value is, and, where that never depends on
//! anything else, what becomes of it.

use crate::import::report::Fate;

/// To what an option belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The broker.
    Global,
    /// The listener above it; without one, the default listener.
    Listener,
    /// The broker, or with `per_listener_settings` the listener above it.
    Security,
    /// The bridge above it.
    Bridge,
    /// The plugin above it, or the one that it names.
    Plugin,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number; what follows it is not looked at.
    Number(i64, i64),
    /// The rest of the line.
    Text,
    /// One of these; what follows it is not looked at.
    Word(&'static [&'static str]),
}

/// What is known of an option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// As it stands in the file.
    pub(crate) name: &'static str,
    /// Its name in the rest of the program: older names are the newer ones there.
    pub(crate) means: &'static str,
    pub(crate) scope: Scope,
    pub(crate) kind: Kind,
    pub(crate) fate: Option<(Fate, &'static str)>,
}

impl Known {
    const fn means(self, means: &'static str) -> Self {
        Self { means, ..self }
    }

    const fn never(self, instead: &'static str) -> Self {
        Self { fate: Some((Fate::Unsupported, instead)), ..self }
    }

    const fn other(self, why: &'static str) -> Self {
        Self { fate: Some((Fate::Changed, why)), ..self }
    }

    const fn same(self, how: &'static str) -> Self {
        Self { fate: Some((Fate::Honoured, how)), ..self }
    }
}

const fn option(name: &'static str, scope: Scope, kind: Kind) -> Known {
    Known { name, means: name, scope, kind, fate: None }
}

/// What is known of the option `name`.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    let named = |known: &&Known| known.name == name;
    let plugin =
        || ["plugin_opt_", "auth_opt_"].iter().any(|prefix| name.starts_with(prefix)).then_some(&PLUGIN_OPTION);
    TABLE.iter().find(named).or_else(plugin)
}

const COUNT: Kind = Kind::Number(0, i32::MAX as i64);
const ANY: Kind = Kind::Number(i32::MIN as i64, i32::MAX as i64);
const TWO_BYTES: Kind = Kind::Number(0, 65_535);
const PLUGIN: &str = "nightjar has no plugins: a password file, tokens (auth.jwt_*), client certificates, or a service \
    that is asked (auth.http_url) say who a client is; access.rules or access.mosquitto_acl what it may do";
const DISK: &str = "nothing to save: a message is on the disk before it is acknowledged";
const JOURNAL: &str = "the log goes to the standard error, where the service manager takes it";
const ENGINE: &str = "keys come from PEM files";
const TLS_LIST: &str = "TLS 1.2 and 1.3 are spoken, with those ciphers that are safe";

use Kind::{Flag, Text, Word};
use Scope::{Bridge, Global, Listener, Plugin, Security};

const PLUGIN_OPTION: Known = option("plugin_opt_*", Plugin, Text).never(PLUGIN);

/// All of them, by name.
pub(crate) const TABLE: &[Known] = &[
    option("accept_protocol_versions", Listener, Text),
    option("acl_file", Security, Text),
    option("address", Bridge, Text),
    option("addresses", Bridge, Text).means("address"),
    option("allow_anonymous", Security, Flag),
    option("allow_duplicate_messages", Global, Flag),
    option("allow_zero_length_clientid", Security, Flag),
    option("auth_plugin", Security, Text).means("plugin").never(PLUGIN),
    option("auth_plugin_deny_special_chars", Plugin, Flag).never(PLUGIN),
    option("auto_id_prefix", Security, Text),
    option("autosave_interval", Global, ANY).other(DISK),
    option("autosave_on_changes", Global, Flag).other(DISK),
    option("bind_address", Listener, Text),
    option("bind_interface", Listener, Text),
    option("bridge_alpn", Bridge, Text),
    option("bridge_attempt_unsubscribe", Bridge, Flag)
        .never("a topic line that is taken out is unsubscribed from at the remote where nightjar subscribed to it"),
    option("bridge_bind_address", Bridge, Text).never("the system chooses by its routes"),
    option("bridge_cafile", Bridge, Text),
    option("bridge_capath", Bridge, Text),
    option("bridge_certfile", Bridge, Text),
    option("bridge_ciphers", Bridge, Text).never(TLS_LIST),
    option("bridge_ciphers_tls1.3", Bridge, Text).never(TLS_LIST),
    option("bridge_identity", Bridge, Text),
    option("bridge_insecure", Bridge, Flag),
    option("bridge_keyfile", Bridge, Text),
    option("bridge_max_packet_size", Bridge, ANY),
    option("bridge_max_topic_alias", Bridge, TWO_BYTES).never("topic aliases are not chosen for a bridge"),
    option("bridge_outgoing_retain", Bridge, Flag),
    option("bridge_protocol_version", Bridge, Word(&["mqttv31", "mqttv311", "mqttv50"])),
    option("bridge_psk", Bridge, Text),
    option("bridge_receive_maximum", Bridge, Kind::Number(1, 65_535)),
    option("bridge_reload_type", Bridge, Word(&["lazy", "immediate"]))
        .other("a bridge whose settings have changed connects anew at a reload"),
    option("bridge_require_ocsp", Bridge, Flag)
        .never("whether the remote's certificate was revoked is not asked: use certificates with short lives"),
    option("bridge_session_expiry_interval", Bridge, Kind::Number(0, u32::MAX as i64)),
    option("bridge_tcp_keepalive", Bridge, Text).never("keep_alive finds a remote that is gone"),
    option("bridge_tcp_user_timeout", Bridge, ANY).never("keep_alive finds a remote that is gone"),
    option("bridge_tls_use_os_certs", Bridge, Flag),
    option("bridge_tls_version", Bridge, Text),
    option("cafile", Listener, Text),
    option("capath", Listener, Text),
    option("certfile", Listener, Text),
    option("check_retain_source", Global, Flag),
    option("ciphers", Listener, Text).never(TLS_LIST),
    option("ciphers_tls1.3", Listener, Text).never(TLS_LIST),
    option("cleansession", Bridge, Flag),
    option("clientid", Bridge, Text).means("remote_clientid"),
    option("clientid_prefixes", Global, Text)
        .never("client identifiers are not a door: let rules name them (`allow client NAME* to ...`)"),
    option("connection", Bridge, Text),
    option("connection_messages", Global, Flag),
    option("crlfile", Listener, Text),
    option("dhparamfile", Listener, Text).other("not needed: keys are agreed on over elliptic curves"),
    option("disable_client_cert_date_checks", Listener, Flag),
    option("enable_control_api", Global, Flag).never("`nightjar ctl` and the admin door's API do what $CONTROL does"),
    option("enable_proxy_protocol", Listener, Kind::Number(1, 2)),
    option("global_max_clients", Global, ANY),
    option("global_max_connections", Global, ANY),
    option("global_plugin", Global, Text).means("plugin").never(PLUGIN),
    option("http_dir", Listener, Text).never("serve files by a web server; the dashboard is at admin.address"),
    option("idle_timeout", Bridge, ANY),
    option("include_dir", Global, Text).same("its files are read, and stand in this report by their own names"),
    option("keepalive_interval", Bridge, Kind::Number(i32::MIN as i64, 65_535)),
    option("keyfile", Listener, Text),
    option("listener", Listener, Text),
    option("listener_allow_anonymous", Listener, Flag),
    option("listener_auto_id_prefix", Listener, Text),
    option("local_cleansession", Bridge, Flag),
    option("local_clientid", Bridge, Text).other("a bridge has no client identifier here"),
    option("local_password", Bridge, Text).other("not needed: a bridge is part of the broker"),
    option("local_username", Bridge, Text),
    option("log_dest", Global, Text),
    option("log_facility", Global, ANY).never(JOURNAL),
    option("log_timestamp", Global, Flag).other("lines always have their time"),
    option("log_timestamp_format", Global, Text).other("lines have their time as RFC 3339 writes it"),
    option("log_type", Global, Text),
    option("max_connections", Listener, ANY),
    option("max_inflight_bytes", Global, ANY),
    option("max_inflight_messages", Global, Kind::Number(i32::MIN as i64, 65_535)),
    option("max_keepalive", Global, TWO_BYTES),
    option("max_packet_size", Global, Kind::Number(20, i32::MAX as i64)),
    option("max_qos", Listener, Kind::Number(0, 2)),
    option("max_queued_bytes", Global, ANY),
    option("max_queued_messages", Global, ANY),
    option("max_topic_alias", Listener, TWO_BYTES),
    option("max_topic_alias_broker", Listener, TWO_BYTES),
    option("maximum_qos", Listener, Kind::Number(0, 2)).means("max_qos"),
    option("memory_limit", Global, Kind::Number(0, i64::MAX)),
    option("message_size_limit", Global, Kind::Number(0, 268_435_455)),
    option("mount_point", Listener, Text),
    option("notification_topic", Bridge, Text),
    option("notifications", Bridge, Flag),
    option("notifications_local_only", Bridge, Flag),
    option("packet_buffer_size", Global, TWO_BYTES).other("not needed: buffers grow as they must"),
    option("password", Bridge, Text).means("remote_password"),
    option("password_file", Security, Text),
    option("per_listener_settings", Global, Flag),
    option("persistence", Global, Flag),
    option("persistence_file", Global, Text),
    option("persistence_location", Global, Text),
    option("persistent_client_expiration", Global, Text),
    option("pid_file", Global, Text).never("the service manager knows the process"),
    option("plugin", Security, Text).never(PLUGIN),
    option("plugin_load", Plugin, Text).never(PLUGIN),
    option("plugin_use", Plugin, Text).never(PLUGIN),
    option("port", Listener, Kind::Number(1, 65_535)),
    option("protocol", Listener, Word(&["mqtt", "websockets", "http_api"])),
    option("proxy_protocol_v2_require_tls", Listener, Flag),
    option("psk_file", Security, Text),
    option("psk_hint", Listener, Text),
    option("queue_qos0_messages", Global, Flag),
    option("remote_clientid", Bridge, Text),
    option("remote_password", Bridge, Text),
    option("remote_username", Bridge, Text),
    option("require_certificate", Listener, Flag),
    option("restart_timeout", Bridge, Text),
    option("retain_available", Global, Flag),
    option("retain_expiry_interval", Global, COUNT)
        .never("publishers say how long a message is worth keeping (MQTT 5: Message Expiry Interval)"),
    option("retained_persistence", Global, Flag).means("persistence"),
    option("retry_interval", Global, Text).other("messages are sent again when a client comes back, never before"),
    option("round_robin", Bridge, Flag),
    option("set_tcp_nodelay", Global, Flag),
    option("socket_domain", Listener, Word(&["ipv4", "ipv6"])),
    option("start_type", Bridge, Word(&["automatic", "lazy", "once"])),
    option("sys_interval", Global, TWO_BYTES),
    option("threshold", Bridge, ANY),
    option("tls_engine", Listener, Text).never(ENGINE),
    option("tls_engine_kpass_sha1", Listener, Text).never(ENGINE),
    option("tls_keyform", Listener, Text),
    option("tls_version", Listener, Text),
    option("topic", Bridge, Text),
    option("try_private", Bridge, Flag),
    option("upgrade_outgoing_qos", Global, Flag),
    option("use_identity_as_username", Listener, Flag),
    option("use_subject_as_username", Listener, Flag),
    option("use_username_as_clientid", Listener, Flag),
    option("user", Global, Text).never("start it as the user that it is to run as (the unit's User=)"),
    option("username", Bridge, Text).means("remote_username"),
    option("websockets_headers_size", Global, TWO_BYTES)
        .other("not needed: the headers of a request have a bound of their own"),
    option("websockets_log_level", Global, ANY).never("log.level is for all of the log"),
    option("websockets_origin", Listener, Text),
];

/// Options that may stand more than once, each time with something of its own to say.
pub(crate) const REPEATED: &[&str] = &[
    "include_dir",
    "listener",
    "connection",
    "log_dest",
    "log_type",
    "plugin",
    "plugin_load",
    "plugin_use",
    "topic",
    "websockets_origin",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_tells_every_option() {
        let page = include_str!("../../../docs/migrating-from-mosquitto.md");
        let missing: Vec<_> = TABLE.iter().filter(|known| !page.contains(&format!("`{}`", known.name))).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn the_table_is_sorted_and_names_each_option_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(TABLE.iter().all(|known| find(known.means).is_some()));
        assert!(REPEATED.iter().all(|name| find(name).is_some()));
    }
}
