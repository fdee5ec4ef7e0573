//! Several nodes, each a process of its own, that are one broker.

use crate::links::Links;
use crate::support::broker::free_port;
use crate::support::{Broker, Client, Connect, secs, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ops::Index;
use std::process::Command;
use std::time::Duration;

/// How long a node may take until it serves: all of them start at once on a machine that is busy.
const COMING: Duration = secs(60);

/// The nodes of a cluster; `cluster[n]` is the `n`th.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Broker>,
    /// The ports of the doors for other nodes.
    doors: Vec<u16>,
    /// What the nodes are known by.
    advertised: Vec<u16>,
    links: Option<Links>,
}

impl Cluster {
    /// So many nodes that run and serve.
    #[track_caller]
    pub(crate) fn start(count: usize) -> Self {
        Self::prepare(count).all()
    }

    /// The same, with links that can be cut.
    #[track_caller]
    pub(crate) fn linked(count: usize) -> Self {
        Self::prepare_linked(count).all()
    }

    fn all(mut self) -> Self {
        self.launch_all();
        self.wait_all();
        self.wait_whole();
        self
    }

    /// Waits until all nodes vote for all shards: before that there is one that nobody could do without.
    #[track_caller]
    fn wait_whole(&self) {
        if self.count() < 3 {
            return;
        }
        wait_until("every shard has its voters", COMING, || {
            let status = self.status(0);
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let voters: u64 = nodes.iter().filter_map(|node| node["votes"].as_u64()).sum();
            status["shards"].as_u64().is_some_and(|shards| voters == shards * 3)
        });
    }

    /// The node that leads the control group, as this one sees it.
    pub(crate) fn leader(&self, node: usize) -> Option<usize> {
        let status = self.status(node);
        let nodes = status["nodes"].as_array()?;
        let name = nodes.iter().find(|of| of["id"] == status["control_leader"])?["name"].as_str()?;
        name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
    }

    /// How a node sees the cluster.
    fn status(&self, node: usize) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        command.args(["ctl", "--json", "cluster", "status", "--data"]).arg(self.nodes[node].data());
        let output = command.output().expect("run a command");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Everything but the start.
    pub(crate) fn prepare(count: usize) -> Self {
        Self::of(count, false)
    }

    /// The same, with links that can be cut.
    pub(crate) fn prepare_linked(count: usize) -> Self {
        Self::of(count, true)
    }

    fn of(count: usize, linked: bool) -> Self {
        let doors: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let links = linked.then(|| Links::to(&doors));
        let advertised = links.as_ref().map_or_else(|| doors.clone(), |links| links.ports().to_vec());
        let nodes = (0..count).map(|_| Broker::written("", &[])).collect();
        let cluster = Self { nodes, doors, advertised, links };
        (0..count).for_each(|node| cluster.configure(node));
        cluster
    }

    /// Writes the config file of a node of this cluster.
    pub(crate) fn configure(&self, node: usize) {
        self.configure_at(node, self.doors[node], self.advertised[node], &self.advertised);
    }

    /// The same with a door elsewhere and other first members.
    pub(crate) fn configure_at(&self, node: usize, door: u16, advertised: u16, first: &[u16]) {
        let first: Vec<String> = first.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        self.nodes[node].configure(&format!(
            "[listeners.mqtt]\naddress = \"127.0.0.1:{{port}}\"\nanonymous = true\n[cluster]\nlisten = \
             \"127.0.0.1:{door}\"\nadvertise = \"127.0.0.1:{advertised}\"\nnodes = [{}]\nname = \"n{}\"\ninsecure = \
             true\n",
            first.join(", "),
            node + 1
        ));
    }

    /// Writes the config file of a node that is alone.
    pub(crate) fn configure_alone(&self, node: usize) {
        self.nodes[node].configure("[listeners.mqtt]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n");
    }

    /// How many nodes there are.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes but this one.
    pub(crate) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.count()).filter(|other| *other != node).collect()
    }

    /// The port for clients of a node.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.nodes[node].port()
    }

    /// The ports for clients of all nodes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(Broker::port).collect()
    }

    /// The port by which other nodes know this one.
    pub(crate) fn advertised(&self, node: usize) -> u16 {
        self.advertised[node]
    }

    /// The links between the nodes.
    pub(crate) fn links(&self) -> &Links {
        self.links.as_ref().expect("a cluster with links")
    }

    /// Starts a node and does not wait.
    pub(crate) fn launch(&mut self, node: usize) {
        self.nodes[node].launch();
        if let Some(links) = &self.links {
            links.is(node, self.nodes[node].pid());
        }
    }

    pub(crate) fn launch_all(&mut self) {
        (0..self.count()).for_each(|node| self.launch(node));
    }

    /// Waits until a node lets a client in.
    #[track_caller]
    pub(crate) fn wait_serves(&mut self, node: usize) {
        let broker = &mut self.nodes[node];
        let connect = Connect::v5(&format!("probe-{}", free_port()));
        wait_until("the node serves", COMING, || {
            assert!(broker.is_running(), "the node ended");
            let probe = connect.try_open(broker.port(), secs(5));
            probe.map(Client::disconnect).is_some()
        });
    }

    #[track_caller]
    pub(crate) fn wait_all(&mut self) {
        (0..self.count()).for_each(|node| self.wait_serves(node));
    }

    /// Starts a node and waits until it serves.
    #[track_caller]
    pub(crate) fn again(&mut self, node: usize) {
        self.launch(node);
        self.wait_serves(node);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// SIGTERM; it must end by itself.
    #[track_caller]
    pub(crate) fn terminate(&mut self, node: usize) {
        self.nodes[node].terminate();
    }

    /// SIGTERM to several at the same moment.
    #[track_caller]
    pub(crate) fn terminate_together(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.nodes[*node].signal_term());
        for node in nodes {
            let status = self.nodes[*node].wait_exit(secs(30));
            assert_eq!(status.code(), Some(0), "exit after SIGTERM: {status}");
        }
    }

    /// Whether its process runs.
    pub(crate) fn is_running(&mut self, node: usize) -> bool {
        self.nodes[node].is_running()
    }

    /// SIGSTOP: it is there and does nothing.
    pub(crate) fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let pid = Pid::from_raw(self.nodes[node].pid().try_into().expect("a process id"));
        kill_process(pid.expect("a process id"), signal).expect("send a signal");
    }

    /// Opens a connection as soon as the node lets this client in: after a loss that takes as long as an election.
    #[track_caller]
    pub(crate) fn come_in(&self, node: usize, connect: &Connect) -> Client {
        let mut client = None;
        wait_until("the client is let in", COMING, || {
            client = connect.try_open(self.port(node), secs(10));
            client.is_some()
        });
        client.expect("the condition held")
    }
}

impl Index<usize> for Cluster {
    type Output = Broker;

    fn index(&self, node: usize) -> &Broker {
        &self.nodes[node]
    }
}
