//! Sessions, queues, packets, and where the data is.

use super::{Writer, absolute, seconds};
use std::path::PathBuf;

const LARGEST_PACKET: i64 = 268_435_455;
/// What a PUBLISH has beside its payload, generously.
const HEAD: i64 = 65_536;
/// The longest session expiry interval that does not mean "never".
const LONGEST_EXPIRY: u64 = u32::MAX as u64 - 1;
const SMALLEST_MARK: i64 = 16 << 20;

/// The bounds of a session's queue as the files have them: `None` where they say nothing, `u64::MAX` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) messages: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl Writer<'_> {
    fn global_number(&self, name: &str) -> Option<(usize, i64)> {
        Some((self.conf.last(&self.conf.global, name)?, self.conf.number(&self.conf.global, name)?))
    }

    /// The settings, and the bounds of queues and the expiry of sessions, which the data must fit.
    pub(super) fn limits(&mut self) -> (Queues, Option<u64>) {
        let expiration = self.expiration();
        let in_flight = self.in_flight();
        let queues = self.queues(in_flight);
        self.packets();
        self.connections();
        let global = &self.conf.global;
        for (name, table, key) in
            [("queue_qos0_messages", "session", "queue_qos0"), ("retain_available", "mqtt", "retain_available")]
        {
            if let (Some(at), Some(flag)) = (self.conf.last(global, name), self.conf.flag(global, name)) {
                self.put(at, table, key, flag.to_string());
            }
        }
        self.fixed_flag(global, "set_tcp_nodelay", true, "small packets are never held back");
        self.fixed_flag(
            global,
            "upgrade_outgoing_qos",
            false,
            "a message is never sent at a higher QoS than it was published at",
        );
        self.fixed_flag(
            global,
            "check_retain_source",
            false,
            "what a client may have is asked for when it is sent; who once retained it is not",
        );
        let several = "a client with several subscriptions that match gets one copy, with all their identifiers";
        self.fixed_flag(global, "allow_duplicate_messages", false, several);
        if let Some(at) = self.conf.last(global, "per_listener_settings") {
            match self.conf.flag(global, "per_listener_settings") {
                Some(true) => {
                    self.changed(at, "users and rules are for all listeners, anonymous clients for each by itself")
                }
                _ => self.honoured(at, "users and rules are for all listeners"),
            }
        }
        (queues, expiration)
    }

    /// After how many seconds sessions end that would not by themselves.
    fn expiration(&mut self) -> Option<u64> {
        let Some(at) = self.conf.last(&self.conf.global, "persistent_client_expiration") else {
            self.toml.text("session", "expiry_v3", "unlimited");
            self.draft.note(
                "without persistent_client_expiration mosquitto never ends a session of MQTT 3: neither does nightjar now \
                 (session.expiry_v3 = \"unlimited\"; its own default is 14d, so that devices that are gone for good are \
                 forgotten)",
            );
            return None;
        };
        let Some(span) = duration(self.option(at).text()) else {
            self.wrong(at, "expected a number and its unit: s, h, d, w, m (months) or y");
            return None;
        };
        let value = if span > LONGEST_EXPIRY { "\"unlimited\"".to_owned() } else { seconds(span) };
        self.toml.set("session", "max_expiry", value.clone());
        self.toml.set("session", "expiry_v3", value.clone());
        self.honoured(at, format!("session.expiry_v3 and session.max_expiry = {value}"));
        Some(span).filter(|&span| span <= LONGEST_EXPIRY)
    }

    /// How many messages may be under way to a client.
    fn in_flight(&mut self) -> u64 {
        if let Some((at, _)) = self.global_number("max_inflight_bytes") {
            self.unsupported(at, "session.max_inflight counts messages; limits.outbox_max bounds the bytes that wait for a client's socket");
        }
        let Some((at, most)) = self.global_number("max_inflight_messages") else { return 20 };
        let most = if most < 1 { 65_535 } else { most };
        self.toml.set("session", "max_inflight", most.to_string());
        self.toml.set("mqtt", "receive_maximum", most.to_string());
        self.honoured(at, format!("session.max_inflight and mqtt.receive_maximum = {most}"));
        most.unsigned_abs()
    }

    fn queues(&mut self, in_flight: u64) -> Queues {
        let mut queues = Queues::default();
        if let Some((at, most)) = self.global_number("max_queued_messages") {
            // mosquitto does not count those that are under way, and keeps the oldest.
            let most = if most < 1 { u64::MAX } else { most.unsigned_abs() + in_flight };
            queues.messages = Some(most);
            if most == u64::MAX {
                self.honoured(at, "session.queue_messages = \"unlimited\"");
            } else {
                self.toml.text("session", "queue_overflow", "drop_newest");
                self.honoured(at, format!("session.queue_messages = {most}, those under way included, and session.queue_overflow = \"drop_newest\""));
            }
        }
        if let Some((at, most)) = self.global_number("max_queued_bytes") {
            if most < 1 {
                queues.bytes = Some(u64::MAX);
                self.honoured(at, "session.queue_bytes = \"unlimited\"");
            } else {
                let most = most.max(1024).unsigned_abs();
                queues.bytes = Some(most);
                self.changed(at, format!("session.queue_bytes = {most}: a queue is full when it has either too many messages or too many bytes, not both"));
            }
        }
        queues
    }

    fn packets(&mut self) {
        if let Some((at, most)) = self.global_number("max_packet_size") {
            let size = most.clamp(128, LARGEST_PACKET);
            if size == most {
                self.put(at, "mqtt", "max_packet_size", size.to_string());
            } else {
                self.toml.set("mqtt", "max_packet_size", size.to_string());
                self.changed(at, format!("mqtt.max_packet_size = {size}: from 128 to what the format can say"));
            }
        }
        if let Some((at, most)) = self.global_number("message_size_limit") {
            let size = (most + HEAD).min(LARGEST_PACKET);
            if most == 0 {
                self.honoured(at, "no bound of its own");
            } else if self.global_number("max_packet_size").is_some_and(|(_, other)| other < size) {
                self.changed(at, "mqtt.max_packet_size bounds payloads as well");
            } else {
                self.toml.set("mqtt", "max_packet_size", size.to_string());
                self.changed(
                    at,
                    format!(
                        "mqtt.max_packet_size = {size}: the whole packet is bounded, topic and properties included"
                    ),
                );
            }
        }
        if let Some((at, longest)) = self.global_number("max_keepalive") {
            let value = if longest == 0 { "\"unlimited\"".to_owned() } else { seconds(longest.unsigned_abs()) };
            self.put(at, "mqtt", "max_keep_alive", value);
        }
        if let Some((at, limit)) = self.global_number("memory_limit") {
            if limit == 0 {
                self.honoured(at, "limits.memory_mark is \"auto\"");
            } else {
                let mark = limit.max(SMALLEST_MARK);
                self.toml.set("limits", "memory_mark", mark.to_string());
                self.changed(
                    at,
                    format!("limits.memory_mark = {mark}: above it new work is refused, what is there goes on"),
                );
            }
        }
    }

    fn connections(&mut self) {
        let mut most: Option<i64> = None;
        for name in ["global_max_connections", "global_max_clients"] {
            let Some((at, limit)) = self.global_number(name) else { continue };
            if limit < 1 {
                self.honoured(at, "no bound");
                continue;
            }
            let least = most.map_or(limit, |other| other.min(limit));
            most = Some(least);
            self.toml.set("limits", "max_connections", least.to_string());
            if name == "global_max_connections" {
                self.honoured(at, format!("limits.max_connections = {least}"));
            } else {
                self.changed(
                    at,
                    format!("limits.max_connections = {least}: sessions whose clients are away do not count"),
                );
            }
        }
    }

    /// The database's path, if there is one.
    pub(super) fn persistence(&mut self) -> Option<PathBuf> {
        let global = &self.conf.global;
        let persistent = self.conf.flag(global, "persistence").unwrap_or(false);
        if let Some(at) = self.conf.last(global, "persistence") {
            if persistent {
                self.honoured(at, "store.durability is \"sync\": what is acknowledged is on the disk");
            } else {
                self.changed(
                    at,
                    "what is acknowledged is kept on the disk; store.durability = \"memory\" keeps nothing",
                );
            }
        }
        let file = self.conf.text(global, "persistence_file").unwrap_or("mosquitto.db");
        let path = match self.conf.text(global, "persistence_location") {
            Some(folder) => absolute(&format!("{folder}/{file}")),
            None => absolute(file),
        };
        for name in ["persistence_file", "persistence_location"] {
            if let Some(at) = self.conf.last(global, name) {
                self.changed(
                    at,
                    format!("mosquitto's data is read from {}; nightjar's goes to node.data", path.display()),
                );
            }
        }
        persistent.then_some(path)
    }
}

/// mosquitto's durations, in seconds; `m` is a month.
fn duration(text: &str) -> Option<u64> {
    let text = text.split(' ').next().unwrap_or_default();
    let unit = text.chars().last()?;
    let factor = match unit {
        's' => 1,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(factor).filter(|&span| span > 0)
}
