//! The settings of a cluster, and what a host and a port look like.

use super::kinds::{Count, FilePath, Flag, Found, Kind, Or, Span, quote};
use super::more_kinds::{IpAddress, Texts};
use super::reader::Reader;
use super::sections::{Described, Durability, Section, section};
use super::{Config, ListenAddress};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The most nodes of a cluster: each has a seat, and there are so many.
const MOST: usize = 64;

section! {
    /// Several nodes as one broker. Without `listen` the node is alone, and nothing else may be set here. With `nodes`
    /// or `dns` the first members form the cluster by themselves; with neither, the node waits for a command: to join
    /// a cluster, or to be the first of one.
    Cluster = "cluster" {
        /// The address of the door for other nodes. No client comes in there. "off" leaves the node alone.
        listen: Option<SocketAddr> = None, Or("off", IpAddress);
        /// The host and port by which the other nodes reach that door. "auto" is what `listen` says, which others must
        /// be able to reach then. It stands for the node: the other nodes know it by this address.
        advertise: Option<String> = None, Or("auto", HostPort);
        /// What people call the node, in logs and lists. "auto" is the host and port of `advertise`.
        name: Option<String> = None, Or("auto", NodeName);
        /// The first members, each by its `advertise`, this node among them. The same list on all of them. They form
        /// the cluster when they first meet; who comes later joins by a command and need not be listed.
        nodes: Vec<String> = Vec::new(), HostPorts;
        /// In place of `nodes`: a name that resolves to the addresses of all first members, and the port of their
        /// doors. With TLS the name is to be in the certificates of all of them, unless these addresses are.
        dns: Option<String> = None, Or("none", HostPort);
        /// With `dns`, how many members there must be before they form the cluster: a name may know some of them
        /// earlier than others.
        members: u64 = 3, Count(1..=MOST as u64);
        /// How many nodes vote on each shard; all others follow without a vote. Three bear the loss of one, five that
        /// of two. Where there are fewer nodes, fewer vote, and an even number counts as the odd one below it, which
        /// bears as much.
        replicas: u8 = 3, Count(1..=7);
        /// The authority (PEM) that signs the certificates of all nodes, and of nobody else: who has one is believed.
        /// Set together with `certificate` and `key`: nodes then speak TLS, and each shows its certificate.
        ca: Option<PathBuf> = None, Or("none", FilePath);
        /// This node's certificate chain (PEM), for a server and a client both, with the host of `advertise` among its
        /// names.
        certificate: Option<PathBuf> = None, Or("none", FilePath);
        /// Its private key (PEM).
        key: Option<PathBuf> = None, Or("none", FilePath);
        /// Whether nodes do without TLS. Whoever reaches the door is then taken for a node and can read and change
        /// everything, so it is for a network that nobody else is on, and has to be said.
        insecure: bool = false, Flag;
        /// The host and port at which clients reach this node. Clients of MQTT 5 that are to use it are told so (Server
        /// Reference). With "none" they are told nothing.
        clients: Option<String> = None, Or("none", HostPort);
        /// How often nodes tell each other that they are there, and which leaders they miss; and how often the leader of
        /// the control group says that it leads. The leaders of shards say so twenty times less often. The same on all
        /// nodes. The defaults of this and of `election` are what was measured to fail over within two seconds without
        /// an election in vain on a busy machine, and to cost an idle node next to nothing.
        heartbeat: Duration = 400 * MILLISECOND, Span(50 * MILLISECOND, 10 * SECOND);
        /// How long a node hears nothing of the leader of the control group before it stands for election, in shards
        /// twenty times as long; to this each node adds up to two thirds by chance, so that they do not stand all at once.
        /// Most leaders are missed earlier: at once if their process ended, and after three times `heartbeat` if nothing is
        /// heard of their node by most. The same on all nodes. At least two and a half times `heartbeat`, so that one
        /// heartbeat may be lost and the next be late by half.
        election: Duration = 1000 * MILLISECOND, Span(100 * MILLISECOND, 60 * SECOND);
    }
}

impl Cluster {
    /// The host and port by which other nodes reach this one; none if it is alone.
    #[must_use]
    pub fn advertised(&self) -> Option<String> {
        let listen = self.listen?;
        Some(self.advertise.clone().unwrap_or_else(|| listen.to_string()))
    }

    /// What people call the node; empty if it is alone.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().or_else(|| self.advertised()).unwrap_or_default()
    }

    /// What cannot stand together.
    pub(super) fn check(&self, config: &Config, reader: &mut Reader) {
        let Some(listen) = self.listen else {
            // Nothing can be said of the rest if it is not known whether there is a door.
            if !reader.is_wrong("cluster.listen") {
                self.check_alone(reader);
            }
            return;
        };
        if config.store.durability == Durability::Memory {
            let problem = "expected \"sync\" or \"interval\" where cluster.listen is set: what the nodes have agreed on \
                is lost if a node that starts again has forgotten it";
            reader.mistake("store.durability", problem.to_owned());
        }
        check_door(listen, config, reader);
        self.check_members(listen, reader);
        self.check_security(reader);
        if self.election * 2 < self.heartbeat * 5 {
            reader.mistake("cluster.election", "expected at least 2.5 times the value of cluster.heartbeat".to_owned());
        }
    }

    /// Without a door for others whatever else is set has no effect, which nobody can have meant.
    fn check_alone(&self, reader: &mut Reader) {
        for (setting, default) in self.describe().into_iter().zip(Self::default().describe()) {
            if setting.value != default.value {
                reader.mistake(&setting.key, "expected cluster.listen to be set as well".to_owned());
            }
        }
    }

    fn check_members(&self, listen: SocketAddr, reader: &mut Reader) {
        // A wildcard stands for all addresses of this machine, and port 0 for any: neither leads others here.
        let is_reachable = !listen.ip().to_canonical().is_unspecified() && listen.port() != 0;
        let is_known = is_reachable || self.advertise.is_some();
        let is_wrong = reader.is_wrong("cluster.advertise");
        if !is_known && !is_wrong {
            let problem = format!("missing: others cannot reach {listen}: expected {}", HostPort.expected());
            reader.mistake("cluster.advertise", problem);
        }
        if self.dns.is_some() && !self.nodes.is_empty() {
            reader.mistake("cluster.dns", "expected one of cluster.nodes and cluster.dns".to_owned());
        }
        if self.members != Self::default().members && self.dns.is_none() && !reader.is_wrong("cluster.dns") {
            reader.mistake("cluster.members", "expected cluster.dns to be set as well".to_owned());
        }
        if self.nodes.len() > MOST {
            reader.mistake("cluster.nodes", format!("expected at most {MOST} nodes, found {}", self.nodes.len()));
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&String> = self.nodes.iter().filter(|node| !seen.insert(*node)).collect();
        for node in twice {
            reader.mistake("cluster.nodes", format!("expected each node once, found {} twice", quote(node)));
        }
        let own = self.advertised().filter(|_| is_known && !is_wrong && !self.nodes.is_empty());
        if let Some(own) = own.filter(|own| !self.nodes.contains(own)) {
            let problem = format!("expected this node, {}, among them, as cluster.advertise says it", quote(&own));
            reader.mistake("cluster.nodes", problem);
        }
    }

    fn check_security(&self, reader: &mut Reader) {
        let files = [
            ("cluster.ca", self.ca.is_some()),
            ("cluster.certificate", self.certificate.is_some()),
            ("cluster.key", self.key.is_some()),
        ];
        // One that cannot be read as a path was meant to be there, and is told of already.
        let files = files.map(|(key, is_set)| (key, is_set || reader.is_wrong(key)));
        let has_some = files.iter().any(|(_, is_set)| *is_set);
        for (key, _) in files.iter().filter(|(_, is_set)| has_some && !is_set) {
            let problem = "missing: expected a path: cluster.ca, cluster.certificate and cluster.key go together";
            reader.mistake(key, problem.to_owned());
        }
        if has_some && self.insecure {
            let problem = "expected false where cluster.ca, cluster.certificate and cluster.key are set: they are for \
                TLS, and this is for doing without";
            reader.mistake("cluster.insecure", problem.to_owned());
        }
        if !has_some && !self.insecure && !reader.is_wrong("cluster.insecure") {
            let problem = "without TLS whoever reaches cluster.listen is taken for a node: set cluster.ca, \
                cluster.certificate and cluster.key (nightjar cert dev --node makes some to try), or set this to true \
                if nobody else is on the network";
            reader.mistake("cluster.insecure", problem.to_owned());
        }
    }
}

/// What else of ours is where the door is to be.
fn check_door(listen: SocketAddr, config: &Config, reader: &mut Reader) {
    if listen.port() == 0 {
        return;
    }
    let listener = config.listeners.iter().find(|listener| listener.address == ListenAddress::Ip(listen));
    if let Some(listener) = listener {
        reader.mistake("cluster.listen", format!("{listen} is taken by listeners.{}", listener.name));
    }
    if config.admin.address == Some(listen) {
        reader.mistake("cluster.listen", format!("{listen} is taken by admin.address"));
    }
}

/// Whether `text` is the name or the IP address of a host, an IPv6 address without brackets.
#[must_use]
pub fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_host_name(text)
}

fn is_host_name(text: &str) -> bool {
    // A dot at the end says that the name is whole.
    let labels = text.strip_suffix('.').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    // Where only digits come last it was meant to be an IP address.
    let is_number = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() <= 253 && labels.split('.').all(is_label) && !is_number
}

/// A host and a port, in the one way of writing them: nodes are told apart by this text.
fn host_port(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let leads_somewhere = address.port() != 0 && !address.ip().to_canonical().is_unspecified();
        return leads_somewhere.then(|| address.to_string());
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    is_host_name(host).then(|| format!("{}:{port}", host.to_ascii_lowercase()))
}

/// The name or IP address of a host, and a port.
struct HostPort;

impl Kind<String> for HostPort {
    fn read(&self, found: &Found) -> Option<String> {
        host_port(found.text()?)
    }

    fn show(&self, value: &String) -> String {
        quote(value)
    }

    fn expected(&self) -> String {
        "a host and a port, as \"node1.example.org:7883\" or \"10.0.0.1:7883\"".to_owned()
    }
}

/// A list of hosts and ports.
struct HostPorts;

impl Kind<Vec<String>> for HostPorts {
    fn read(&self, found: &Found) -> Option<Vec<String>> {
        Texts::split(found)?.iter().map(|text| host_port(text)).collect()
    }

    fn show(&self, value: &Vec<String>) -> String {
        let shown: Vec<_> = value.iter().map(|node| quote(node)).collect();
        format!("[{}]", shown.join(", "))
    }

    fn expected(&self) -> String {
        "a list of hosts and ports, as [\"node1.example.org:7883\", \"10.0.0.2:7883\"]".to_owned()
    }
}

/// What a node is called: short, since every node keeps it and lists have a column for it.
struct NodeName;

impl Kind<String> for NodeName {
    fn read(&self, found: &Found) -> Option<String> {
        let is_name = |text: &&str| (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
        found.text().filter(is_name).map(str::to_owned)
    }

    fn show(&self, value: &String) -> String {
        quote(value)
    }

    fn expected(&self) -> String {
        "a text of at most 128 bytes without control characters".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_have_one_way_of_writing() {
        for (written, read) in [
            ("node1:7883", Some("node1:7883")),
            ("Node1.Example.org:07883", Some("node1.example.org:7883")),
            ("node_1.local.:1", Some("node_1.local.:1")),
            ("10.0.0.1:7883", Some("10.0.0.1:7883")),
            ("[0:0::1]:7883", Some("[::1]:7883")),
            ("node1", None),
            ("node1:", None),
            ("node1:0", None),
            ("node1:65536", None),
            (":7883", None),
            ("a..b:1", None),
            ("a b:1", None),
            ("a/b:1", None),
            ("::1:7883", None),
            ("10.0.0.1:0", None),
            ("10.0.0.300:1", None),
            ("0.0.0.0:7883", None),
            ("[::]:7883", None),
            ("[::ffff:0.0.0.0]:7883", None),
            ("nödel:1", None),
        ] {
            assert_eq!(host_port(written).as_deref(), read, "{written}");
        }
        assert!(host_port(&format!("{}:1", "a".repeat(64))).is_none());
        assert!(host_port(&format!("{}:1", "a.".repeat(127))).is_some());
        assert!(host_port(&format!("{}:1", "a.".repeat(128))).is_none());
    }

    #[test]
    fn a_host_has_no_port_and_no_path() {
        for (text, is) in
            [("node1", true), ("::1", true), ("10.0.0.1", true), ("..", false), ("a/b", false), ("", false)]
        {
            assert_eq!(is_host(text), is, "{text}");
        }
    }

    #[test]
    fn names_are_short_and_harmless() {
        let read = |text: &str| NodeName.read(&Found::Text(text.to_owned()));
        assert_eq!(read("Köln 1").as_deref(), Some("Köln 1"));
        for text in [String::new(), "a\u{1b}[2J".to_owned(), "a".repeat(129)] {
            assert_eq!(read(&text), None, "{text:?}");
        }
    }
}
