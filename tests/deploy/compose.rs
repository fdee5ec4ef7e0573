//! `docker-compose.yml` for real: an engine, images that are made here, clients before HAProxy, at a node and at
//! mosquitto.
//!
//! It needs root, Docker, debootstrap, mosquitto's clients and some minutes, so it has to be asked for:
//! `NIGHTJAR_DOCKER=1`.

use crate::engine::{Engine, run, success};
use crate::pods::pods_come_together;
use crate::read;
use crate::support::{secs, wait_until};
use crate::up::{NIGHTJAR, NODES, Up};
use crate::watched::{prometheus_is_content, prometheus_misses_a_node};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

const ASK: &str = "NIGHTJAR_DOCKER";

/// Subscribes and leaves: what is published from now on waits.
#[track_caller]
fn leave(mut client: Command, id: &str, filter: &str) {
    run(client.args(["-i", id, "-c", "-q", "2", "-t", filter, "-E"]));
}

/// Comes back for `count` messages, and takes leave. They are sorted: of two publishers either may come first.
#[track_caller]
fn fetch(mut client: Command, id: &str, filter: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let fetched = run(client.args(["-i", id, "-c", "-q", "2", "-t", filter, "-v", "-W", "30", "-C", &count]));
    let mut lines: Vec<_> = fetched.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn publish(mut client: Command, topic: &str, message: &str, more: &[&str]) {
    run(client.args(["-t", topic, "-m", message]).args(more));
}

/// Whether it is acknowledged.
fn publishes(mut client: Command, topic: &str, message: &str) -> bool {
    let client = client.args(["-t", topic, "-m", message, "-r", "-q", "1"]).stdin(Stdio::null());
    client.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

#[track_caller]
fn retained(mut client: Command, topic: &str) -> String {
    run(client.args(["-t", topic, "-v", "-W", "20", "-C", "1"]))
}

fn asked() -> bool {
    std::env::var(ASK).is_ok_and(|value| value == "1")
}

#[test]
fn what_is_deployed_works() {
    if !asked() {
        println!("skipped: {ASK}=1 has it start containers");
        return;
    }
    let up = Up::prepare();
    the_image_alone(&up.engine);
    pods_come_together(&up);
    secrets_are_made_once(&up);
    up.up();

    what_the_manual_shows_is_so(&up);
    haproxy_spreads_clients_and_says_who_they_are(&up);
    the_admin_doors_are_open(&up);
    prometheus_is_content(&up);
    a_node_that_dies_is_started_again(&up);
    clients_go_on_without_a_node(&up);
    everything_is_there_after_a_restart(&up);

    run(up.compose().args(["down", "-v", "-t", "10"]));
    let filter = format!("label=com.docker.compose.project={}", up.project);
    assert_eq!(run(up.engine.docker().args(["ps", "-aq", "--filter", &filter])), "", "containers are left");
    assert_eq!(run(up.engine.docker().args(["volume", "ls", "-q", "--filter", &filter])), "", "volumes are left");
}

/// It starts nothing that everyone could come into, says why, and changes nothing but its data.
fn the_image_alone(engine: &Engine) {
    let hardened = ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    let refused = engine.docker().args(hardened).arg(NIGHTJAR).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("auth.password_file"), "{refused:?}");
    let version = run(engine.docker().args(hardened).args([NIGHTJAR, "version"]));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let open = ["--anonymous", "--set", "auth.password_file=none"];
    let id = run(engine.docker().args(hardened).args(["-d", NIGHTJAR]).args(open));
    let health = || run(engine.docker().args(["inspect", "-f", "{{.State.Health.Status}}", &id]));
    wait_until("the image is healthy", secs(60), || health() == "healthy");
    let changed = run(engine.docker().args(["diff", &id]));
    run(engine.docker().args(["stop", &id]));
    assert_eq!(changed, "");
}

fn secrets_are_made_once(up: &Up) {
    let all = || -> BTreeMap<_, _> {
        let files = fs::read_dir(up.secrets()).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    up.make_secrets();
    assert_eq!(fs::metadata(up.secrets()).unwrap().permissions().mode() & 0o777, 0o700);
    let first = all();
    up.make_secrets();
    assert!(first == all(), "another run has changed them");
}

/// A message through node 2 to mosquitto, and one back.
fn what_the_manual_shows_is_so(up: &Up) {
    let shown = up.show();
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(read("docs/deployment.md").contains(&format!("```text\n{shown}\n```")), "{shown}");
}

fn through_a_node_to_mosquitto_and_back(up: &Up, node: usize, round: &str) {
    let (out, back) = (format!("site/{round}/temperature"), format!("orders/{round}/pump"));
    leave(up.there("mosquitto_sub"), round, &format!("plant7/{out}"));
    publish(up.node(node, "mosquitto_pub"), &out, "21.5", &["-q", "2"]);
    assert_eq!(fetch(up.there("mosquitto_sub"), round, &format!("plant7/{out}"), 1), [format!("plant7/{out} 21.5")]);
    leave(up.node(node, "mosquitto_sub"), round, &back);
    publish(up.there("mosquitto_pub"), &format!("plant7/{back}"), "on", &["-q", "2"]);
    assert_eq!(fetch(up.node(node, "mosquitto_sub"), round, &back, 1), [format!("{back} on")]);
}

/// Each node gets its share of the clients, and sees who connected to HAProxy, not HAProxy.
fn haproxy_spreads_clients_and_says_who_they_are(up: &Up) {
    let balancers = up.inspect("haproxy", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}");
    let ids = ["watched 1", "watched 2", "watched 3"];
    let start = |id: &str| up.here("mosquitto_sub").args(["-i", id, "-t", "x"]).spawn().unwrap();
    let _clients = ids.map(|id| Running(start(id)));
    // Where each of them is, and where it came from.
    let addresses = || -> BTreeMap<&str, Vec<String>> {
        let watched = |node: &&'static str| {
            let clients = up.ctl(node, &["clients", "list"]);
            let clients = clients.as_array().unwrap().iter();
            let clients = clients.filter(|client| ids.contains(&client["client_id"].as_str().unwrap()));
            (*node, clients.map(|client| client["address"].as_str().unwrap().to_owned()).collect())
        };
        NODES.iter().map(watched).collect()
    };
    wait_until("each node has a client", secs(20), || addresses().values().all(|of_node| of_node.len() == 1));
    for address in addresses().values().flatten() {
        let address = address.rsplit_once(':').unwrap().0;
        assert!(!balancers.split(' ').any(|balancer| balancer == address), "{address} is HAProxy's");
    }
    let wrong = up.client("mosquitto_pub", up.ports.mqtt, "wrong");
    assert!(!publishes(wrong, "x", "x"), "a wrong password came in");
}

/// A process that ends with what holds it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_admin_doors_are_open(up: &Up) {
    let token = format!("Authorization: Bearer {}", up.secret("nightjar_admin_token"));
    for (_, admin) in up.ports.nodes {
        let door = format!("http://127.0.0.1:{admin}");
        let ready = run(up.engine.program("curl").args(["-sf", &format!("{door}/readyz")]));
        assert!(ready.contains("\"ok\":true") && ready.contains("\"cluster\""), "{ready}");
        let metrics = run(up.engine.program("curl").args(["-sf", &format!("{door}/metrics")]));
        assert!(metrics.lines().any(|line| line == "nightjar_cluster_nodes_up 3.0"), "{metrics}");
        run(up.engine.program("curl").args(["-sf", "-H", &token, &format!("{door}/api/v1/clients")]));
    }
}

/// By its restart policy, and it finds its cluster.
fn a_node_that_dies_is_started_again(up: &Up) {
    let (pid, since) = (up.inspect("node1", "{{.State.Pid}}"), up.inspect("node1", "{{.State.StartedAt}}"));
    run(Command::new("kill").args(["-KILL", &pid]));
    wait_until("another process", secs(60), || up.inspect("node1", "{{.State.StartedAt}}") != since);
    up.wait();
}

/// The node that runs the bridge is killed, and stays away. What waited is there without it, and all goes on: clients
/// through HAProxy, the bridge at another node.
fn clients_go_on_without_a_node(up: &Up) {
    leave(up.here("mosquitto_sub"), "survivor", "site/before/#");
    publish(up.here("mosquitto_pub"), "site/before/1", "once", &["-q", "1"]);
    publish(up.here("mosquitto_pub"), "site/before/2", "exactly once", &["-q", "2"]);
    let lost = NODES.into_iter().find(|node| up.runs_the_bridge(node)).unwrap();
    run(up.engine.docker().args(["kill", &up.container(lost)]));
    wait_until("a message is acknowledged without it", secs(30), || {
        publishes(up.here("mosquitto_pub"), "site/without", lost)
    });
    let left: Vec<_> = NODES.into_iter().filter(|node| *node != lost).collect();
    up.wait_for_nodes(&left);
    assert_eq!(retained(up.here("mosquitto_sub"), "site/without"), format!("site/without {lost}"));
    let waited = fetch(up.here("mosquitto_sub"), "survivor", "site/before/#", 2);
    assert_eq!(waited, ["site/before/1 once", "site/before/2 exactly once"]);
    prometheus_misses_a_node(up);
    let other = NODES.iter().position(|node| *node == left[1]).unwrap();
    through_a_node_to_mosquitto_and_back(up, other, "without");
    assert_eq!(up.inspect(lost, "{{.State.Running}}"), "false", "it was to stay away");
    up.up();
}

fn everything_is_there_after_a_restart(up: &Up) {
    leave(up.here("mosquitto_sub"), "offline", "site/queued/#");
    publish(up.here("mosquitto_pub"), "site/state", "kept", &["-q", "1", "-r"]);
    publish(up.here("mosquitto_pub"), "site/queued/1", "once", &["-q", "1"]);
    publish(up.here("mosquitto_pub"), "site/queued/2", "exactly once", &["-q", "2"]);
    let starts = || NODES.map(|node| up.inspect(node, "{{.State.StartedAt}}"));
    let before = starts();
    // Nobody says goodbye: what is there afterwards was on the disks.
    run(up.compose().args(["kill"]));
    up.up();
    assert!(before.iter().zip(starts()).all(|(before, after)| *before != after));
    // The old containers and everything in them but the volumes go away too.
    run(up.compose().args(["down", "-t", "10"]));
    up.up();
    let waited = fetch(up.here("mosquitto_sub"), "offline", "site/queued/#", 2);
    assert_eq!(waited, ["site/queued/1 once", "site/queued/2 exactly once"]);
    // Nothing of it comes again: what comes next is what is published next.
    publish(up.here("mosquitto_pub"), "site/queued/3", "later", &["-q", "2"]);
    assert_eq!(fetch(up.here("mosquitto_sub"), "offline", "site/queued/#", 1), ["site/queued/3 later"]);
    for node in 0..NODES.len() {
        assert_eq!(retained(up.node(node, "mosquitto_sub"), "site/state"), "site/state kept");
    }
    through_a_node_to_mosquitto_and_back(up, 1, "second");
    let output = up.compose().args(["exec", "-T", "node2", "nightjar", "health"]).output().unwrap();
    success("nightjar health", &output);
}
