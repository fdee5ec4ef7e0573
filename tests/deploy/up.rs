//! What `docker-compose.yml` has brought up, and what can be asked of it.

use crate::at;
use crate::engine::{Engine, Ports, run};
use crate::support::{secs, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image that the binary runs in has what `debian:bookworm-slim` has, and certificates; HAProxy and mosquitto have
/// another, so that it would be seen if the binary needed anything of theirs.
const RUN: &str = "nightjar-test/run:1";
const TOOLS: &str = "nightjar-test/tools:1";
const PROMETHEUS: &str = "nightjar-test/prometheus:1";
pub(crate) const NIGHTJAR: &str = "nightjar-test/nightjar:1";

pub(crate) const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Taken down when dropped, whatever happened.
pub(crate) struct Up {
    pub(crate) engine: Engine,
    pub(crate) ports: Ports,
    pub(crate) project: String,
    tree: PathBuf,
}

impl Up {
    /// An engine, and images that are made here. Nothing of compose is up yet.
    pub(crate) fn prepare() -> Self {
        let engine = Engine::find();
        let tree = tree(engine.folder());
        images(&engine, &tree);
        Self { engine, ports: Ports::free(), project: format!("nightjar-test-{}", std::process::id()), tree }
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.tree.join("deploy/compose/secrets")
    }

    pub(crate) fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.secrets().join(name)).unwrap().trim().to_owned()
    }

    fn with_images(command: &mut Command) {
        command.env("NIGHTJAR_IMAGE", NIGHTJAR).env("HAPROXY_IMAGE", TOOLS).env("MOSQUITTO_IMAGE", TOOLS);
        command.env("PROMETHEUS_IMAGE", PROMETHEUS);
    }

    pub(crate) fn make_secrets(&self) {
        let mut script = self.engine.program("sh");
        Self::with_images(&mut script);
        run(script.arg(self.tree.join("deploy/compose/secrets.sh")));
    }

    /// What `show.sh` says.
    #[track_caller]
    pub(crate) fn show(&self) -> String {
        let mut script = self.engine.program("sh");
        Self::with_images(&mut script);
        run(script.arg(self.tree.join("deploy/compose/show.sh")).env("COMPOSE_PROJECT_NAME", &self.project))
    }

    /// With all that may be there: Prometheus is only started by its profile.
    pub(crate) fn compose(&self) -> Command {
        self.compose_with(&["--profile", "watch"])
    }

    fn compose_with(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.compose();
        command.args(arguments).arg("-p").arg(&self.project).arg("-f").arg(self.tree.join("docker-compose.yml"));
        Self::with_images(&mut command);
        self.ports.tell(&mut command);
        command
    }

    pub(crate) fn container(&self, service: &str) -> String {
        run(self.compose().args(["ps", "-q", service]))
    }

    pub(crate) fn inspect(&self, service: &str, what: &str) -> String {
        run(self.engine.docker().args(["inspect", "-f", what, &self.container(service)]))
    }

    /// Brings up what is not, and waits until all of it works.
    #[track_caller]
    pub(crate) fn up(&self) {
        run(self.compose_with(&[]).args(["up", "-d"]));
        self.wait();
    }

    /// Waits until all of it works.
    #[track_caller]
    pub(crate) fn wait(&self) {
        for service in NODES.iter().chain(&["mosquitto", "haproxy"]) {
            wait_until(&format!("{service} is healthy"), secs(120), || {
                self.inspect(service, "{{.State.Health.Status}}") == "healthy"
            });
        }
        self.wait_for_nodes(&NODES);
    }

    /// Waits until these nodes, and no others, are a cluster that serves, HAProxy knows it and one of them runs the
    /// bridge.
    #[track_caller]
    pub(crate) fn wait_for_nodes(&self, nodes: &[&str]) {
        let serves = |node: &&str| {
            let Some(status) = self.try_ctl(node, &["cluster", "status"]) else { return false };
            let up = status["nodes"].as_array().unwrap().iter().filter(|node| node["up"] == true);
            let up: Vec<_> = up.map(|node| node["name"].as_str().unwrap()).collect();
            let all = up.len() == nodes.len() && nodes.iter().all(|node| up.contains(node));
            all && status["in_touch"] == true && status["shards_without_leader"].as_array().unwrap().is_empty()
        };
        wait_until(&format!("{nodes:?} serve"), secs(60), || nodes.iter().all(serves));
        wait_until(&format!("HAProxy sends to {nodes:?}"), secs(60), || self.in_balance() == nodes);
        wait_until(&format!("one of {nodes:?} runs the bridge"), secs(60), || {
            nodes.iter().filter(|node| self.runs_the_bridge(node)).count() == 1
        });
    }

    /// The nodes that HAProxy sends clients to.
    fn in_balance(&self) -> Vec<&'static str> {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/8404; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        let metrics = run(self.engine.docker().args(["exec", &self.container("haproxy"), "bash", "-c", ask]));
        let is_up = |node: &&str| {
            let of_node =
                |line: &&str| line.starts_with("haproxy_server_status{") && line.contains(&format!("\"{node}\""));
            metrics.lines().filter(of_node).any(|line| line.contains("state=\"UP\"") && line.ends_with(" 1"))
        };
        NODES.into_iter().filter(is_up).collect()
    }

    pub(crate) fn runs_the_bridge(&self, node: &str) -> bool {
        self.try_ctl(node, &["bridge", "show", "mosquitto"]).is_some_and(|bridge| bridge["state"] == "connected")
    }

    /// What a node answers; none if it is not there.
    fn try_ctl(&self, node: &str, arguments: &[&str]) -> Option<Value> {
        let container = self.container(node);
        let mut command = self.engine.docker();
        let output = command.args(["exec", &container, "nightjar", "ctl", "--json"]).args(arguments).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    #[track_caller]
    pub(crate) fn ctl(&self, node: &str, arguments: &[&str]) -> Value {
        self.try_ctl(node, arguments).unwrap_or_else(|| panic!("{node} does not answer {arguments:?}"))
    }

    /// What Prometheus answers.
    #[track_caller]
    pub(crate) fn prometheus(&self, what: &str, arguments: &[&str]) -> Value {
        let mut curl = self.engine.program("curl");
        curl.args(["-sfG", &format!("http://127.0.0.1:{}/api/v1/{what}", self.ports.prometheus)]).args(arguments);
        let mut answer: Value = serde_json::from_str(&run(&mut curl)).unwrap();
        answer["data"].take()
    }

    pub(crate) fn client(&self, program: &str, port: u16, password: &str) -> Command {
        let mut command = self.engine.program(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", "client", "-P", password]);
        command
    }

    /// A client of Nightjar, through HAProxy.
    pub(crate) fn here(&self, program: &str) -> Command {
        self.client(program, self.ports.mqtt, &self.secret("nightjar_client_password"))
    }

    /// A client of this node.
    pub(crate) fn node(&self, node: usize, program: &str) -> Command {
        self.client(program, self.ports.nodes[node].0, &self.secret("nightjar_client_password"))
    }

    /// A client of mosquitto.
    pub(crate) fn there(&self, program: &str) -> Command {
        self.client(program, self.ports.mosquitto, &self.secret("mosquitto_client_password"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in [&["ps"][..], &["logs", "--tail", "40"]] {
                let output = self.compose().args(arguments).output();
                eprintln!("{}", output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default());
            }
        }
        let _ = self.compose().args(["down", "-v", "-t", "5"]).output();
        let images = [NIGHTJAR, TOOLS, PROMETHEUS, RUN];
        let _ = self.engine.docker().arg("rmi").args(images).output();
    }
}

/// What the images are built from: the deployment's files, and the binary of these tests in place of a release.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("target/release")).unwrap();
    let files = ["docker-compose.yml", "deploy", "Cargo.toml", "Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];
    for name in files.iter().chain(&[".dockerignore"]) {
        run(Command::new("cp").arg("-R").arg(at(name)).arg(&tree));
    }
    let _ = fs::remove_dir_all(tree.join("deploy/compose/secrets"));
    fs::copy(env!("CARGO_BIN_EXE_nightjar"), tree.join("target/release/nightjar")).unwrap();
    tree
}

fn images(engine: &Engine, tree: &Path) {
    engine.debian(RUN, "ca-certificates", None, |_| ());
    engine.debian(PROMETHEUS, "prometheus,wget", Some("prometheus"), |_| ());
    engine.debian(TOOLS, "ca-certificates,haproxy,mosquitto,mosquitto-clients", None, |root| {
        // As in mosquitto's own image.
        let data = root.join("mosquitto/data");
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(root.join("mosquitto/config")).unwrap();
        chown(&data, Some(1883), Some(1883)).unwrap();
    });
    let mut build = engine.docker();
    build.args(["build", "--target", "prebuilt", "--build-arg", &format!("RUN_IMAGE={RUN}"), "-t", NIGHTJAR, "-f"]);
    run(build.arg(tree.join("deploy/docker/Dockerfile")).arg(tree));
}
