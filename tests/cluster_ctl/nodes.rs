//! Nodes of a cluster as processes, each with ports and a folder of its own.

use crate::support::broker::free_port;
use crate::support::{Client, Connect, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Elections and several processes on a machine that does other things too.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A node, running or not. Killed when dropped; its log is printed if the test failed.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) mqtt: u16,
    pub(crate) door: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
    nodes: Vec<u16>,
    /// The folder that has the certificates, if it does not do without.
    pub(crate) certificates: Option<PathBuf>,
}

impl Node {
    /// One that knows the first members by their doors; if that are none, it waits to be told.
    pub(crate) fn new(name: &str, door: u16, nodes: &[u16]) -> Self {
        let folder = tempfile::Builder::new().prefix("nightjar-ctl-").tempdir().expect("temporary folder");
        Self {
            name: name.to_owned(),
            mqtt: free_port(),
            door,
            folder,
            child: None,
            nodes: nodes.to_vec(),
            certificates: None,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.door)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn binary() -> String {
        std::env::var("NIGHTJAR_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_nightjar").to_owned())
    }

    fn security(&self) -> String {
        let Some(folder) = &self.certificates else { return "insecure = true\n".to_owned() };
        let file = |name: &str| folder.join(name).display().to_string();
        let [ca, certificate, key] = ["cluster-ca.pem", "localhost.pem", "localhost.key"].map(file);
        format!("ca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n")
    }

    /// Starts the process and does not wait.
    pub(crate) fn launch(&mut self) {
        let nodes: Vec<String> = self.nodes.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let config = format!(
            "[node]\ndata = {:?}\n[store]\nsegment_size = \"8MiB\"\n[listeners.mqtt]\naddress = \"127.0.0.1:{}\"\n\
             anonymous = true\n[admin]\naddress = \"off\"\n[sys]\ninterval = \"1s\"\n[cluster]\nlisten = \"{}\"\n\
             nodes = [{}]\nname = \"{}\"\nclients = \"127.0.0.1:{}\"\n{}",
            self.data(),
            self.mqtt,
            self.address(),
            nodes.join(", "),
            self.name,
            self.mqtt,
            self.security()
        );
        let path = self.folder.path().join("nightjar.toml");
        fs::write(&path, config).expect("write the config");
        let log = || File::options().create(true).append(true).open(self.log_path()).expect("log file");
        let mut command = Command::new(Self::binary());
        command.arg("serve").arg("--config").arg(path);
        command.stdin(Stdio::null()).stdout(log()).stderr(log());
        self.child = Some(command.spawn().expect("start the node"));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the node");
            child.wait().expect("wait for the node");
        }
    }

    /// Whether its process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("wait for the node").is_some())
    }

    /// Empties its data folder: the disk was replaced.
    pub(crate) fn lose_disk(&mut self) {
        self.kill();
        fs::remove_dir_all(self.data()).expect("remove the data");
    }

    /// Makes certificates in `folder`, of an authority that is there or of a new one.
    #[track_caller]
    pub(crate) fn make_certificates(folder: &Path, more: &[&str]) {
        let mut command = Command::new(Self::binary());
        let output = command.args(["cert", "dev"]).arg(folder).args(more).output().expect("run a command");
        assert!(output.status.success(), "{}", text(&output));
    }

    /// `nightjar …` with its data folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(Self::binary()).args(arguments).arg("--data").arg(self.data()).output().expect("run a command")
    }

    /// `nightjar ctl cluster …`, which works.
    #[track_caller]
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["ctl", "cluster"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    /// The same, which does not, with this exit code.
    #[track_caller]
    pub(crate) fn ctl_fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(&[&["ctl", "cluster"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    /// How it sees the cluster; null if it does not answer.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["ctl", "--json", "cluster", "status"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until it sees what is expected.
    #[track_caller]
    pub(crate) fn wait_status(&self, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        wait_until(&format!("{} sees {what}", self.name), LONG, || {
            seen = self.status();
            expected(&seen)
        });
        seen
    }

    /// Waits until it is in touch with a cluster of so many nodes that are up.
    #[track_caller]
    pub(crate) fn wait_formed(&self, count: usize) -> Value {
        self.wait_status(&format!("{count} nodes"), |seen| {
            let up = |node: &&Value| node["up"] == true && node["stage"] == "active";
            let nodes = seen["nodes"].as_array().map_or(&[][..], Vec::as_slice);
            let led: u64 = nodes.iter().filter_map(|node| node["leads"].as_u64()).sum();
            seen["in_touch"] == true && nodes.iter().filter(up).count() == count && Some(led) == seen["shards"].as_u64()
        })
    }

    /// A client that is let in at last.
    #[track_caller]
    pub(crate) fn client(&self, connect: &Connect) -> Client {
        let mut client = None;
        wait_until(&format!("{} takes a client", self.name), LONG, || {
            client = connect.try_open(self.mqtt, Duration::from_secs(10));
            client.is_some()
        });
        client.expect("the condition held")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read(self.log_path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            println!("--- end of the log of {} ---", self.name);
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Of what a node sees, another one.
pub(crate) fn node<'a>(seen: &'a Value, name: &str) -> &'a Value {
    let nodes = seen["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().find(|node| node["name"] == name).unwrap_or(&Value::Null)
}

/// Three nodes that have formed a cluster.
#[track_caller]
pub(crate) fn three() -> [Node; 3] {
    three_with(None)
}

/// Three with certificates from this folder.
#[track_caller]
pub(crate) fn three_with(certificates: Option<&Path>) -> [Node; 3] {
    let doors = [free_port(), free_port(), free_port()];
    let mut nodes = [1, 2, 3].map(|number| Node::new(&format!("n{number}"), doors[number - 1], &doors));
    nodes.iter_mut().for_each(|node| node.certificates = certificates.map(Path::to_owned));
    nodes.iter_mut().for_each(Node::launch);
    for node in &nodes {
        node.wait_formed(3);
    }
    nodes
}
