//! Bridges to other brokers.

use super::{Writer, absolute, table_name};
use crate::import::conf::{Group, number};
use crate::import::toml::quote;
use crate::telemetry::escape;
use nightjar_policy::{TopicRule, TopicRules};

const PSK: &str = "TLS with pre-shared keys is not spoken";

/// A bridge that is written.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its name here.
    pub(crate) name: String,
    /// Its name in mosquitto's files.
    told: String,
    client_id: ClientId,
}

/// A bridge's client identifier within mosquitto.
#[derive(Clone, Debug)]
enum ClientId {
    /// As the files say.
    Told(String),
    /// `local.`, the machine's name, a dot, and the bridge's.
    Guessed,
}

impl Known {
    /// Whether the session of this client is the bridge's.
    pub(crate) fn has(&self, client: &str) -> bool {
        match &self.client_id {
            ClientId::Told(id) => id == client,
            ClientId::Guessed => self.remote_id(client).is_some(),
        }
    }

    /// The client identifier at the remote that this one here tells of, where the files tell none.
    pub(crate) fn remote_id<'c>(&self, client: &'c str) -> Option<&'c str> {
        let id = client.strip_prefix("local.")?;
        let machine = id.strip_suffix(self.told.as_str())?.strip_suffix('.')?;
        (matches!(self.client_id, ClientId::Guessed) && !machine.is_empty()).then_some(id)
    }
}

impl Writer<'_> {
    /// Writes them.
    pub(super) fn bridges(&mut self) -> Vec<Known> {
        let mut found: Vec<Known> = Vec::new();
        for group in &self.conf.bridges {
            let conf = self.conf;
            let Some(at) = conf.last(group, "connection") else { continue };
            let told = self.option(at).text().split(' ').next().unwrap_or_default();
            let taken: Vec<String> = found.iter().map(|known| known.name.clone()).collect();
            let name = table_name(told, &taken);
            let table = format!("bridges.{name}");
            let Some(rules) = self.rules(group, at) else { continue };
            if let Some(why) = self.bridge_obstacle(group, &rules) {
                let why = format!("the bridge is left out: {why}");
                conf.each(group).for_each(|option| self.unsupported(option, why.clone()));
                continue;
            }
            if name == told {
                self.honoured(at, table.clone());
            } else {
                self.changed(at, format!("{table}: names are of lower-case letters, digits, - and _"));
            }
            self.address(group, &table, at);
            self.topics(&table, &rules);
            let client_id = self.client_ids(group, &table, told);
            self.client(group, &table);
            self.bridge_tls(group, &table);
            self.pace(group, &table);
            found.push(Known { name, told: told.to_owned(), client_id });
        }
        found
    }

    /// Sets a text of the bridge.
    fn bridge_text(&mut self, group: &Group, table: &str, name: &str, key: &str) {
        let Some(at) = self.conf.last(group, name) else { return };
        let value = quote(self.option(at).text());
        self.put(at, table, key, value);
    }

    fn bridge_path(&mut self, group: &Group, table: &str, name: &str, key: &str) {
        let Some(at) = self.conf.last(group, name) else { return };
        let value = quote(&absolute(self.option(at).text()).to_string_lossy());
        self.put(at, table, key, value);
    }

    fn bridge_flag(&mut self, group: &Group, table: &str, name: &str, key: &str) {
        if let (Some(at), Some(flag)) = (self.conf.last(group, name), self.conf.flag(group, name)) {
            self.put(at, table, key, flag.to_string());
        }
    }

    fn is_tls(&self, group: &Group) -> bool {
        let named = ["bridge_cafile", "bridge_capath", "bridge_certfile"]
            .iter()
            .any(|name| self.conf.last(group, name).is_some());
        named || self.conf.flag(group, "bridge_tls_use_os_certs") == Some(true)
    }

    fn address(&mut self, group: &Group, table: &str, connection: usize) {
        let Some(at) = self.conf.last(group, "address") else {
            return self.wrong(connection, "expected an `address` line below it");
        };
        let scheme = if self.is_tls(group) { "mqtts" } else { "mqtt" };
        let mut urls = Vec::new();
        for word in
            self.option(at).text().split(' ').filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#'))
        {
            let (host, port) = word.rsplit_once(':').unwrap_or((word, "1883"));
            let host = host.trim_matches(['[', ']']);
            let Some(port) = number(port).filter(|port| (1..=65_535).contains(port)).filter(|_| !host.is_empty())
            else {
                return self.wrong(at, format!("expected HOST or HOST:PORT, found {}", escape(word)));
            };
            urls.push(if host.contains(':') {
                format!("{scheme}://[{host}]:{port}")
            } else {
                format!("{scheme}://{host}:{port}")
            });
        }
        if urls.is_empty() {
            return self.wrong(at, "expected an address");
        }
        self.honoured(at, format!("{table}.address = {}", urls.join(", ")));
        self.toml.texts(table, "address", &urls);
        self.bridge_flag(group, table, "round_robin", "round_robin");
    }

    /// The rules of its `topic` lines; none if one of them is wrong.
    fn rules(&mut self, group: &Group, connection: usize) -> Option<Vec<(usize, TopicRule)>> {
        let (mut rules, mut wrong) = (Vec::new(), false);
        for at in self.conf.all(group, "topic").collect::<Vec<_>>() {
            match rule(self.option(at).text()) {
                Ok(rule) => rules.push((at, rule)),
                Err(what) => {
                    self.wrong(at, what);
                    wrong = true;
                }
            }
        }
        if rules.is_empty() && !wrong {
            self.wrong(connection, "expected a `topic` line below it");
        }
        Some(rules).filter(|rules| !wrong && !rules.is_empty())
    }

    /// Why it cannot be kept.
    fn bridge_obstacle(&self, group: &Group, rules: &[(usize, TopicRule)]) -> Option<String> {
        if self.conf.last(group, "bridge_psk").or(self.conf.last(group, "bridge_identity")).is_some() {
            return Some(format!("{PSK}: give it bridge_cafile, and perhaps a certificate"));
        }
        TopicRules::new(rules.iter().map(|(_, rule)| rule.clone()).collect()).err()
    }

    fn topics(&mut self, table: &str, rules: &[(usize, TopicRule)]) {
        let mut lines = Vec::new();
        for (at, rule) in rules {
            self.honoured(*at, format!("{table}.topics: {rule}"));
            let line = rule.to_string();
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        self.toml.texts(table, "topics", &lines);
    }

    /// Its client identifier at the remote; gives the one here.
    fn client_ids(&mut self, group: &Group, table: &str, name: &str) -> ClientId {
        let local = self.conf.text(group, "local_clientid").map(str::to_owned);
        if let Some(id) = self.conf.text(group, "remote_clientid") {
            self.bridge_text(group, table, "remote_clientid", "client_id");
            return ClientId::Told(local.unwrap_or_else(|| format!("local.{id}")));
        }
        // mosquitto's own choice, said aloud: the remote knows the bridge's session by it.
        let id = format!("{}.{name}", hostname());
        self.toml.text(table, "client_id", &id);
        self.draft.note(format!(
            "{table}.client_id is the identifier that mosquitto would give it: this machine's name, or the one that the \
             database tells, a dot, and the bridge's name"
        ));
        local.map_or(ClientId::Guessed, ClientId::Told)
    }

    fn client(&mut self, group: &Group, table: &str) {
        self.bridge_text(group, table, "remote_username", "username");
        if let Some(at) = self.conf.last(group, "remote_password") {
            if self.conf.last(group, "remote_username").is_some() {
                self.toml.text(table, "password", self.conf.options[at].text());
                self.honoured(at, format!("{table}.password"));
            } else {
                self.unsupported(at, "a password needs a user name (remote_username)");
            }
        }
        self.bridge_text(group, table, "local_username", "local_user");
        let version = match self.conf.text(group, "bridge_protocol_version") {
            Some("mqttv31") => Some("3.1"),
            Some("mqttv311") => Some("3.1.1"),
            Some(_) => Some("5"),
            None => None,
        };
        if let (Some(at), Some(version)) = (self.conf.last(group, "bridge_protocol_version"), version) {
            self.put(at, table, "version", quote(version));
        }
        self.bridge_flag(group, table, "cleansession", "clean_start");
        self.bridge_flag(group, table, "local_cleansession", "clean_local");
        if self.conf.flag(group, "cleansession") == Some(true) && self.conf.last(group, "local_cleansession").is_none()
        {
            self.toml.set(table, "clean_local", "true");
        }
        self.bridge_number(group, table, "bridge_session_expiry_interval", "session_expiry", |span| match span {
            4_294_967_295.. => "\"unlimited\"".to_owned(),
            span => format!("\"{span}s\""),
        });
        self.bridge_number(group, table, "keepalive_interval", "keep_alive", |span| format!("\"{}s\"", span.max(5)));
        for (name, key) in [
            ("try_private", "bridge_flag"),
            ("notifications", "notifications"),
            ("notifications_local_only", "notifications_local_only"),
            ("bridge_outgoing_retain", "outgoing_retain"),
        ] {
            self.bridge_flag(group, table, name, key);
        }
        self.bridge_text(group, table, "notification_topic", "notification_topic");
    }

    fn bridge_number(&mut self, group: &Group, table: &str, name: &str, key: &str, show: impl Fn(i64) -> String) {
        if let (Some(at), Some(number)) = (self.conf.last(group, name), self.conf.number(group, name)) {
            self.put(at, table, key, show(number));
        }
    }

    fn bridge_tls(&mut self, group: &Group, table: &str) {
        for (name, key) in [("bridge_cafile", "ca"), ("bridge_certfile", "certificate"), ("bridge_keyfile", "key")] {
            self.bridge_path(group, table, name, key);
        }
        let certificate = (self.conf.last(group, "bridge_certfile"), self.conf.last(group, "bridge_keyfile"));
        if let (Some(at), None) | (None, Some(at)) = certificate {
            self.wrong(at, "expected bridge_certfile and bridge_keyfile, both or neither");
        }
        if let Some(at) = self.conf.last(group, "bridge_capath") {
            self.unsupported(
                at,
                format!("{table}.ca is one file: join those of the folder in it (cat DIR/*.pem > ca.pem)"),
            );
        }
        if let Some(at) = self.conf.last(group, "bridge_alpn") {
            let list = format!("[{}]", quote(self.conf.options[at].text()));
            self.put(at, table, "alpn", list);
        }
        self.bridge_flag(group, table, "bridge_insecure", "insecure");
        if let Some(at) = self.conf.last(group, "bridge_tls_use_os_certs") {
            let file = self.conf.last(group, "bridge_cafile").is_some();
            match self.conf.flag(group, "bridge_tls_use_os_certs") {
                Some(true) if file => {
                    self.changed(at, format!("{table}.ca alone counts: it is either a file or the system's own list"))
                }
                Some(true) => self.put(at, table, "ca", "\"system\""),
                _ => self.honoured(at, "it is so"),
            }
        }
        if let Some(at) = self.conf.last(group, "bridge_tls_version") {
            match self.option(at).text() {
                "tlsv1.2" => self.honoured(at, "TLS 1.2 and 1.3 are spoken"),
                _ => self.changed(at, "TLS 1.2 and 1.3 are spoken, whichever the remote takes"),
            }
        }
    }

    fn pace(&mut self, group: &Group, table: &str) {
        self.bridge_text(group, table, "start_type", "start");
        self.bridge_number(group, table, "threshold", "lazy_threshold", |count| {
            count.clamp(1, 1_000_000_000).to_string()
        });
        self.bridge_number(group, table, "idle_timeout", "idle_timeout", |span| {
            format!("\"{}s\"", span.clamp(1, 86_400))
        });
        self.bridge_number(group, table, "bridge_receive_maximum", "receive_maximum", |count| count.to_string());
        self.bridge_number(group, table, "bridge_max_packet_size", "max_packet_size", |size| match size {
            ..=0 | 268_435_455.. => "\"unlimited\"".to_owned(),
            size => size.max(128).to_string(),
        });
        let Some(at) = self.conf.last(group, "restart_timeout") else { return };
        let mut words = self
            .option(at)
            .text()
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| number(word).filter(|&span| span >= 0));
        let (base, cap, stable) = (words.next().flatten(), words.next(), words.next());
        let (Some(base), false) = (base, cap == Some(None) || stable == Some(None)) else {
            return self.wrong(at, "expected a number of seconds, or two, or three");
        };
        let base = base.clamp(1, 3_600);
        let cap = cap.flatten().unwrap_or(base).clamp(base, 7_200);
        self.toml.set(table, "retry_base", format!("\"{base}s\""));
        self.toml.set(table, "retry_cap", format!("\"{cap}s\""));
        self.changed(at, format!("{table}.retry_base = \"{base}s\", retry_cap = \"{cap}s\": twice as long after each loss, give or take a part"));
    }
}

/// A `topic` line. What stands behind a `#` at the place of the QoS or later is a comment.
fn rule(line: &str) -> Result<TopicRule, String> {
    let (pattern, rest) = match line.strip_prefix('"').filter(|rest| !rest.starts_with('"')) {
        Some(quoted) => quoted.split_once('"').ok_or("expected a closing quote")?,
        None => line.split_once(' ').unwrap_or((line, "")),
    };
    let pattern = if pattern == "\"\"" { "" } else { pattern };
    let mut words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    if let Some(comment) = words.iter().skip(1).position(|word| word.starts_with('#')) {
        words.truncate(comment + 1);
    }
    // mosquitto looks at no more.
    words.truncate(4);
    let quoted = |text: &str| match text {
        "\"\"" => "\"\"".to_owned(),
        text => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    let word = |at: usize, default: &'static str| words.get(at).copied().unwrap_or(default);
    let (local, remote) = (quoted(word(2, "\"\"")), quoted(word(3, "\"\"")));
    format!("{} {} {} {local} {remote}", quoted(pattern), word(0, "out"), word(1, "0")).parse()
}

/// This machine's name, by which mosquitto calls bridges that have no name of their own.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn topic_lines_are_read_as_mosquitto_reads_them() {
        for (line, expected) in [
            ("# both 1", r##""#" both 1 "" """##),
            ("sensors/# out", r##""sensors/#" out 0 "" """##),
            ("a/b", r#""a/b" out 0 "" """#),
            ("\"\" both 0 here/it there/it", r#""" both 0 "here/it" "there/it""#),
            ("s/# IN 2 \"\" site/", r##""s/#" in 2 "" "site/""##),
            ("\"a b/#\" in 1 x/", r##""a b/#" in 1 "x/" """##),
            ("a out # why", r#""a" out 0 "" """#),
            ("a out 1 # why not", r#""a" out 1 "" """#),
            ("a out 1 b/ # why not", r#""a" out 1 "b/" """#),
            ("a out 1 b c too much", r#""a" out 1 "b" "c""#),
            ("a\\b out 0 \"", r#""a\\b" out 0 "\"" """#),
        ] {
            assert_eq!(rule(line).unwrap().to_string(), expected, "{line}");
        }
        for line in ["a sideways", "a out 3", "\"a b", "+/a# in", "a in 1 # # in", "\"\" out 1 a"] {
            assert!(rule(line).is_err() || line == "a in 1 # # in", "{line}");
        }
    }
}
