//! Who may come in, what each may do, and what mosquitto sets for each listener and Nightjar for all together.

use super::Writer;
use super::files::Files;
use crate::import::conf::Group;
use std::path::Path;

/// What is to be known of it elsewhere.
pub(super) struct Security {
    /// Whether a password file must be made that lets nobody in.
    pub(super) needs_passwords: bool,
    /// Whether a file of rules must be made that denies everything.
    pub(super) needs_rules: bool,
    /// Whether user names are proved.
    pub(super) proves_users: bool,
}

impl Writer<'_> {
    /// Whether everyone may come in at a listener.
    pub(super) fn anonymous(&mut self, group: &Group) -> bool {
        let own =
            self.conf.flag(group, "listener_allow_anonymous").or_else(|| self.conf.flag(group, "allow_anonymous"));
        // With settings for each listener, mosquitto uses those for all of them nowhere.
        let everywhere = || self.conf.flag(&self.conf.global, "allow_anonymous").filter(|_| !self.conf.per_listener);
        own.or_else(everywhere).unwrap_or(false)
    }

    pub(super) fn security(&mut self, out: &Path) -> Security {
        let Files { passwords, closed: needs_rules } = self.files(out);
        let none_kept = self.kept.is_empty();
        if none_kept {
            self.closed_local();
        }
        for at in 0..self.kept.len() {
            let (tables, anonymous) = (self.kept[at].tables.clone(), self.kept[at].anonymous);
            tables
                .iter()
                .for_each(|table| self.toml.set(&format!("listeners.{table}"), "anonymous", anonymous.to_string()));
        }
        for at in self.named(&["allow_anonymous", "listener_allow_anonymous"]) {
            match none_kept && self.conf.options[at].value != crate::import::conf::Value::Flag(false) {
                true => self.changed(at, "listeners.*.anonymous = false: the listeners that it was for are left out"),
                false => self.honoured(at, "listeners.*.anonymous"),
            }
        }
        for at in self.named(&["psk_file"]) {
            self.unsupported(at, "TLS with pre-shared keys is not spoken: use certificates");
        }
        let identity = self.kept.iter().any(|kept| kept.identity);
        let closed = self.kept.iter().any(|kept| !kept.anonymous);
        let needs_passwords = closed && !passwords && !identity;
        if needs_passwords {
            self.path("auth", "password_file", &out.join("passwords"));
            self.draft.note(format!(
                "clients must say who they are, and mosquitto's files name no users that nightjar could know: nobody \
                 comes in until `nightjar passwd add {} NAME` has added some",
                out.join("passwords").display()
            ));
        }
        Security { needs_passwords, needs_rules, proves_users: passwords || identity || needs_passwords }
    }

    /// Options with one of these names in the file, of the broker and of listeners that are kept.
    pub(super) fn named(&self, names: &[&str]) -> Vec<usize> {
        let conf = self.conf;
        let groups = self.kept.iter().filter_map(|kept| Some(&conf.listeners[kept.at?])).chain([&conf.global]);
        let named = |at: usize| names.contains(&conf.options[at].name.as_str());
        // One that a later line replaces does not count.
        let counts = |group, at: usize| {
            let known = conf.options[at].known;
            known.fate.is_some() || conf.last(group, known.means) == Some(at)
        };
        let of = |group| conf.each(group).filter(move |&at| named(at) && counts(group, at));
        let mut all: Vec<usize> = groups.flat_map(of).collect();
        all.sort_unstable();
        all
    }

    /// What mosquitto sets for each listener and Nightjar for all.
    pub(super) fn shared(&mut self) {
        self.largest("max_topic_alias", "topic_alias_maximum");
        self.largest("max_topic_alias_broker", "topic_alias_maximum_out");
        self.max_qos();
        self.versions();
        let empty = self.named(&["allow_zero_length_clientid"]);
        let refused = |at: &usize| self.conf.options[*at].value == crate::import::conf::Value::Flag(false);
        let everywhere = empty.iter().all(refused) && (!self.conf.per_listener || empty.len() == self.kept.len());
        for at in empty {
            if everywhere {
                self.put(at, "mqtt", "allow_empty_client_id", "false");
            } else if refused(&at) {
                self.unsupported(
                    at,
                    "mqtt.allow_empty_client_id is for all listeners: set it to false if all are to be so",
                );
            } else {
                self.honoured(at, "mqtt.allow_empty_client_id is true");
            }
        }
        for at in self.named(&["auto_id_prefix", "listener_auto_id_prefix"]) {
            if self.option(at).text() == "auto-" {
                self.honoured(at, "it is so");
            } else {
                self.unsupported(at, "identifiers that the broker gives begin with auto-");
            }
        }
    }

    /// Each kept listener's value of a number.
    fn values(&self, name: &str, default: i64) -> Vec<i64> {
        let groups = self.kept.iter().filter_map(|kept| Some(&self.conf.listeners[kept.at?]));
        groups.map(|group| self.conf.number(group, name).unwrap_or(default)).collect()
    }

    fn largest(&mut self, name: &str, key: &str) {
        let options = self.named(&[name]);
        let values = self.values(name, 10);
        let Some(&largest) = values.iter().max().filter(|_| !options.is_empty()) else { return };
        self.toml.set("mqtt", key, largest.to_string());
        for at in options {
            if values.iter().all(|&value| value == largest) {
                self.honoured(at, format!("mqtt.{key} = {largest}"));
            } else {
                self.changed(at, format!("mqtt.{key} = {largest}: one for all listeners, the largest of theirs"));
            }
        }
    }

    fn max_qos(&mut self) {
        let values = self.values("max_qos", 2);
        for at in self.named(&["max_qos", "maximum_qos"]) {
            if values.windows(2).all(|pair| pair[0] == pair[1]) {
                self.put(at, "mqtt", "max_qos", values[0].to_string());
            } else {
                self.unsupported(
                    at,
                    "mqtt.max_qos is for all listeners, and they differ; rules can bound the QoS of some (`at qos 0`)",
                );
            }
        }
    }

    fn versions(&mut self) {
        let options = self.named(&["accept_protocol_versions"]);
        let spoken = |at: usize| -> Vec<&str> { self.conf.options[at].text().split([',', ' ', '\t']).collect() };
        let everywhere = options.len() == self.kept.len();
        let none_speaks_3 = everywhere && !options.is_empty() && options.iter().all(|&at| !spoken(at).contains(&"3"));
        if none_speaks_3 {
            self.toml.set("mqtt", "allow_v31", "false");
        }
        for at in options {
            let spoken = spoken(at);
            let newer = ["4", "5"].iter().all(|version| spoken.contains(version));
            if newer && (spoken.contains(&"3") || none_speaks_3) {
                self.honoured(at, format!("mqtt.allow_v31 = {}", !none_speaks_3));
            } else {
                self.unsupported(
                    at,
                    "MQTT 3.1.1 and 5 are spoken by every listener; mqtt.allow_v31 is for all of them",
                );
            }
        }
    }
}
