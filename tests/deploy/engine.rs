//! Docker: the one that runs on this machine, or one of our own for the time of a test.

use crate::support::broker::free_port;
use crate::support::{secs, wait_until};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder in which root filesystems are kept from one run to the next; without it each run makes them anew.
const CACHE: &str = "NIGHTJAR_DOCKER_CACHE";

/// Where `docker` finds its engine.
pub(crate) struct Engine {
    own: Option<Own>,
    folder: tempfile::TempDir,
}

/// An engine that was started here, in a network of its own: its bridges and rules go away with it, and this machine's are
/// left alone. Whoever wants to reach a container has to be in that network too.
struct Own {
    daemon: Child,
    address: String,
}

/// Runs a command to its end; panics with all that it said if it fails.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    success(&format!("{command:?}"), &output)
}

#[track_caller]
pub(crate) fn success(what: &str, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out.trim_end().to_owned()
}

fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Engine {
    /// The engine of this machine, or one of our own.
    pub(crate) fn find() -> Self {
        let folder = tempfile::Builder::new().prefix("nightjar-docker-").tempdir().unwrap();
        let mut engine = Self { own: None, folder };
        if works(engine.docker().arg("info")) && works(engine.docker().args(["ps"])) {
            println!("docker: the engine of this machine");
            return engine;
        }
        for (how, options) in [("", &[][..]), (" without iptables", &["--iptables=false", "--ip6tables=false"][..])] {
            if let Some(own) = engine.start(options) {
                engine.own = Some(own);
                println!("docker: an engine of our own, in a network of its own{how}");
                return engine;
            }
        }
        panic!("dockerd does not start:\n{}", engine.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("dockerd.log")).unwrap_or_default()
    }

    /// Everything that an engine keeps is in our folder: nothing of it is left, and another engine is not disturbed.
    fn start(&self, options: &[&str]) -> Option<Own> {
        let folder = self.folder.path();
        let address = format!("unix://{}/docker.sock", folder.display());
        let log = File::create(folder.join("dockerd.log")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec dockerd \"$@\"", "dockerd", "--data-root"]);
        command.arg(folder.join("data")).arg("--exec-root").arg(folder.join("exec"));
        command.arg("--pidfile").arg(folder.join("docker.pid")).arg("--host").arg(&address);
        // To change how readily it is killed takes a right that root in a container does not have.
        command.arg("--oom-score-adjust=0").args(options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut own = Own { daemon: command.spawn().expect("dockerd is there: apt-get install docker.io"), address };
        let mut answers = false;
        wait_until("dockerd answers or ends", secs(60), || {
            answers = works(Command::new("docker").args(["--host", &own.address, "info"]));
            answers || own.daemon.try_wait().unwrap().is_some()
        });
        answers.then_some(own)
    }

    /// A folder for what the test makes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `docker`, or another program, in the engine's network and with its address.
    pub(crate) fn program(&self, name: &str) -> Command {
        let Some(own) = &self.own else { return Command::new(name) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", own.daemon.id())).arg(name);
        command.env("DOCKER_HOST", &own.address).env_remove("DOCKER_CONTEXT");
        command
    }

    pub(crate) fn docker(&self) -> Command {
        self.program("docker")
    }

    /// `docker compose`, or Debian's `docker-compose`.
    pub(crate) fn compose(&self) -> Command {
        let mut plugin = self.docker();
        if works(plugin.args(["compose", "version"])) {
            let mut command = self.docker();
            command.arg("compose");
            return command;
        }
        self.program("docker-compose")
    }

    /// An image of a small Debian with these packages. It comes from Debian's archive: there may be no registry.
    /// With an entry point it starts that.
    pub(crate) fn debian(&self, image: &str, packages: &str, entry: Option<&str>, and_then: impl FnOnce(&Path)) {
        let cache = std::env::var_os(CACHE).map_or_else(|| self.folder.path().join("cache"), PathBuf::from);
        fs::create_dir_all(&cache).unwrap();
        let archive = cache.join(format!("{}.tar", packages.replace(',', "+")));
        if !archive.exists() {
            let root = self.folder.path().join("root");
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", &format!("--include={packages}"), "bookworm"]).arg(&root);
            run(command.env("DEBIAN_FRONTEND", "noninteractive"));
            and_then(&root);
            let new = archive.with_extension("new");
            run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&new).arg("."));
            fs::rename(new, &archive).unwrap();
            fs::remove_dir_all(&root).unwrap();
        }
        let mut import = self.docker();
        import.arg("import");
        entry.map(|entry| import.args(["--change", &format!("ENTRYPOINT [\"{entry}\"]")]));
        run(import.arg(&archive).arg(image));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("dockerd.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("dockerd, the last first:\n{}", last.join("\n"));
        }
        let _ = Command::new("kill").arg(own.daemon.id().to_string()).status();
        let _ = own.daemon.wait();
        // What it may have left mounted keeps the folder from going away.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = self.folder.path().to_str().unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(folder))
        {
            let _ = Command::new("umount").arg(mount).status();
        }
    }
}

/// Ports of this machine for a compose file, by the names that it has for them.
pub(crate) struct Ports {
    pub(crate) mqtt: u16,
    pub(crate) mosquitto: u16,
    pub(crate) prometheus: u16,
    /// Of each node the port for clients, and its admin door.
    pub(crate) nodes: [(u16, u16); 3],
}

impl Ports {
    pub(crate) fn free() -> Self {
        let nodes = [(); 3].map(|()| (free_port(), free_port()));
        Self { mqtt: free_port(), mosquitto: free_port(), prometheus: free_port(), nodes }
    }

    pub(crate) fn tell(&self, command: &mut Command) {
        command.env("MQTT_PORT", self.mqtt.to_string());
        command.env("MOSQUITTO_PORT", self.mosquitto.to_string());
        command.env("PROMETHEUS_PORT", self.prometheus.to_string());
        for (number, (clients, admin)) in self.nodes.iter().enumerate() {
            command.env(format!("NODE{}_PORT", number + 1), clients.to_string());
            command.env(format!("NODE{}_ADMIN_PORT", number + 1), admin.to_string());
        }
    }
}
