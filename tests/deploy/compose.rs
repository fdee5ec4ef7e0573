//! `deploy/compose/single` for real: an engine, images that are made here, clients before HAProxy and at mosquitto.
//!
//! It needs root, Docker, debootstrap, mosquitto's clients and some minutes, so it has to be asked for:
//! `NIGHTJAR_DOCKER=1`.

use crate::at;
use crate::engine::{Engine, Ports, run, success};
use crate::support::{secs, wait_until};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ASK: &str = "NIGHTJAR_DOCKER";

/// The image that the binary runs in has what `debian:bookworm-slim` has, and certificates; HAProxy and mosquitto have
/// another, so that it would be seen if the binary needed anything of theirs.
const RUN: &str = "nightjar-test/run:1";
const TOOLS: &str = "nightjar-test/tools:1";
const NIGHTJAR: &str = "nightjar-test/nightjar:1";

/// What is up. Taken down when dropped, whatever happened.
struct Up {
    engine: Engine,
    tree: PathBuf,
    ports: Ports,
    project: String,
}

impl Up {
    fn file(&self) -> PathBuf {
        self.tree.join("deploy/compose/single/docker-compose.yml")
    }

    fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.tree.join("deploy/compose/single/secrets").join(name)).unwrap().trim().to_owned()
    }

    fn compose(&self) -> Command {
        let mut command = self.engine.compose();
        command.arg("-p").arg(&self.project).arg("-f").arg(self.file());
        command.env("NIGHTJAR_IMAGE", NIGHTJAR).env("HAPROXY_IMAGE", TOOLS).env("MOSQUITTO_IMAGE", TOOLS);
        self.ports.tell(&mut command);
        command
    }

    fn container(&self, service: &str) -> String {
        run(self.compose().args(["ps", "-q", service]))
    }

    fn inspect(&self, service: &str, what: &str) -> String {
        run(self.engine.docker().args(["inspect", "-f", what, &self.container(service)]))
    }

    /// Brings up what is not.
    #[track_caller]
    fn up(&self) {
        run(self.compose().args(["up", "-d"]));
        for service in ["nightjar", "mosquitto", "haproxy"] {
            wait_until(&format!("{service} is healthy"), secs(90), || {
                self.inspect(service, "{{.State.Health.Status}}") == "healthy"
            });
        }
        wait_until("the bridge is connected", secs(60), || {
            self.ctl(&["bridge", "show", "mosquitto"]).contains("connected")
        });
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let nightjar = self.container("nightjar");
        run(self.engine.docker().args(["exec", &nightjar, "nightjar", "ctl"]).args(arguments))
    }

    fn client(&self, program: &str, port: u16, secret: &str) -> Command {
        let mut command = self.engine.program(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", "client", "-P", &self.secret(secret)]);
        command
    }

    /// A client of Nightjar, through HAProxy.
    fn here(&self, program: &str) -> Command {
        self.client(program, self.ports.mqtt, "nightjar_client_password")
    }

    /// A client of mosquitto.
    fn there(&self, program: &str) -> Command {
        self.client(program, self.ports.mosquitto, "mosquitto_client_password")
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
        let images = [NIGHTJAR, TOOLS, RUN];
        let _ = self.engine.docker().arg("rmi").args(images).output();
    }
}

/// Subscribes and leaves: what is published from now on waits.
#[track_caller]
fn leave(mut client: Command, id: &str, filter: &str) {
    run(client.args(["-i", id, "-c", "-q", "2", "-t", filter, "-E"]));
}

/// Comes back for `count` messages, and takes leave.
#[track_caller]
fn fetch(mut client: Command, id: &str, filter: &str, count: usize) -> String {
    run(client.args(["-i", id, "-c", "-q", "2", "-t", filter, "-v", "-W", "30", "-C", &count.to_string()]))
}

#[track_caller]
fn publish(mut client: Command, topic: &str, message: &str, more: &[&str]) {
    run(client.args(["-q", "1", "-t", topic, "-m", message]).args(more));
}

/// What the images are built from: the deployment's files, and the binary of these tests in place of a release.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("target/release")).unwrap();
    for name in ["deploy", "Cargo.toml", "Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", ".dockerignore"] {
        run(Command::new("cp").arg("-R").arg(at(name)).arg(&tree));
    }
    let _ = fs::remove_dir_all(tree.join("deploy/compose/single/secrets"));
    fs::copy(env!("CARGO_BIN_EXE_nightjar"), tree.join("target/release/nightjar")).unwrap();
    tree
}

fn images(engine: &Engine, tree: &Path) {
    engine.debian(RUN, "ca-certificates", |_| ());
    engine.debian(TOOLS, "ca-certificates,haproxy,mosquitto,mosquitto-clients", |root| {
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

fn asked() -> bool {
    std::env::var(ASK).is_ok_and(|value| value == "1")
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

#[test]
fn one_node_behind_haproxy_with_a_bridge_to_mosquitto() {
    if !asked() {
        println!("skipped: {ASK}=1 has it start containers");
        return;
    }
    let engine = Engine::find();
    let tree = tree(engine.folder());
    images(&engine, &tree);
    the_image_alone(&engine);

    let project = format!("nightjar-test-{}", std::process::id());
    let up = Up { engine, tree, ports: Ports::free(), project };
    let secrets = up.tree.join("deploy/compose/single/secrets");
    let mut script = up.engine.program("sh");
    run(script.arg(up.tree.join("deploy/compose/secrets.sh")).arg(&secrets).env("MOSQUITTO_IMAGE", TOOLS));
    assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o700);
    up.up();

    through_haproxy_to_mosquitto_and_back(&up, "first");
    clients_have_their_own_addresses(&up);
    the_admin_door_is_open(&up);
    everything_is_there_after_a_restart(&up);

    run(up.compose().args(["down", "-v", "-t", "10"]));
    let filter = format!("label=com.docker.compose.project={}", up.project);
    assert_eq!(run(up.engine.docker().args(["ps", "-aq", "--filter", &filter])), "", "containers are left");
    assert_eq!(run(up.engine.docker().args(["volume", "ls", "-q", "--filter", &filter])), "", "volumes are left");
}

fn through_haproxy_to_mosquitto_and_back(up: &Up, round: &str) {
    let (out, back) = (format!("site/{round}/temperature"), format!("orders/{round}/pump"));
    leave(up.there("mosquitto_sub"), round, &format!("plant7/{out}"));
    publish(up.here("mosquitto_pub"), &out, "21.5", &[]);
    assert_eq!(fetch(up.there("mosquitto_sub"), round, &format!("plant7/{out}"), 1), format!("plant7/{out} 21.5"));
    leave(up.here("mosquitto_sub"), round, &back);
    publish(up.there("mosquitto_pub"), &format!("plant7/{back}"), "on", &[]);
    assert_eq!(fetch(up.here("mosquitto_sub"), round, &back, 1), format!("{back} on"));

    let mut wrong = up.engine.program("mosquitto_pub");
    wrong.args([
        "-h",
        "127.0.0.1",
        "-p",
        &up.ports.mqtt.to_string(),
        "-u",
        "client",
        "-P",
        "wrong",
        "-t",
        "x",
        "-m",
        "x",
    ]);
    assert!(!wrong.stderr(Stdio::null()).status().unwrap().success(), "a wrong password came in");
}

/// The broker sees who connected to HAProxy, not HAProxy.
fn clients_have_their_own_addresses(up: &Up) {
    let balancers = up.inspect("haproxy", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}");
    let mut client = up.here("mosquitto_sub").args(["-i", "watched", "-t", "x"]).spawn().unwrap();
    let list = || up.ctl(&["--json", "clients", "list"]);
    wait_until("the client is there", secs(20), || list().contains("\"watched\""));
    let clients: serde_json::Value = serde_json::from_str(&list()).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let watched = clients.as_array().unwrap().iter().find(|client| client["client_id"] == "watched").unwrap();
    let address = watched["address"].as_str().unwrap().rsplit_once(':').unwrap().0;
    assert!(!balancers.split(' ').any(|balancer| balancer == address), "{address} is HAProxy's");
}

fn the_admin_door_is_open(up: &Up) {
    let door = format!("http://127.0.0.1:{}", up.ports.admin);
    let ready = run(up.engine.program("curl").args(["-sf", &format!("{door}/readyz")]));
    assert!(ready.contains("\"ok\":true"), "{ready}");
    let metrics = run(up.engine.program("curl").args(["-sf", &format!("{door}/metrics")]));
    assert!(metrics.contains("nightjar_bridge_connected{bridge=\"mosquitto\"} 1"), "{metrics}");
    let token = format!("Authorization: Bearer {}", up.secret("nightjar_admin_token"));
    run(up.engine.program("curl").args(["-sf", "-H", &token, &format!("{door}/api/v1/clients")]));
}

fn everything_is_there_after_a_restart(up: &Up) {
    leave(up.here("mosquitto_sub"), "offline", "site/queued/#");
    publish(up.here("mosquitto_pub"), "site/state", "kept", &["-r"]);
    publish(up.here("mosquitto_pub"), "site/queued/1", "once", &[]);
    run(up.here("mosquitto_pub").args(["-q", "2", "-t", "site/queued/2", "-m", "exactly once"]));
    let before = up.inspect("nightjar", "{{.State.StartedAt}}");
    // Nobody says goodbye: what is there afterwards was on the disk.
    run(up.compose().args(["kill"]));
    up.up();
    assert_ne!(up.inspect("nightjar", "{{.State.StartedAt}}"), before);
    // The old containers and everything in them but the volumes go away too.
    run(up.compose().args(["down", "-t", "10"]));
    up.up();
    assert_eq!(
        fetch(up.here("mosquitto_sub"), "offline", "site/queued/#", 2),
        "site/queued/1 once\nsite/queued/2 exactly once"
    );
    let mut retained = up.here("mosquitto_sub");
    assert_eq!(run(retained.args(["-t", "site/state", "-v", "-W", "20", "-C", "1"])), "site/state kept");
    through_haproxy_to_mosquitto_and_back(up, "second");
    let output = up.compose().args(["exec", "-T", "nightjar", "nightjar", "health"]).output().unwrap();
    success("nightjar health", &output);
}
