//! Debian's mosquitto as a process: the other end of bridges.

use super::broker::free_port;
use super::{Client, Connect, PATIENCE, secs, wait_until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running mosquitto (or one between two runs). Killed when dropped; its log is printed if the test failed.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    port: u16,
    folder: tempfile::TempDir,
    /// Whether the port is not plain MQTT.
    wrapped: bool,
    starts: usize,
    /// Whether it does not tell every packet.
    quiet: bool,
}

impl Mosquitto {
    /// Starts one that lets everyone in, with these lines more in its configuration.
    #[track_caller]
    pub fn with(lines: &str) -> Self {
        let mut broker = Self::prepare();
        broker.configure(&format!("listener {} 127.0.0.1\nallow_anonymous true\n{lines}\n", broker.port));
        broker.launch();
        broker
    }

    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        Self::with("")
    }

    /// Everything but configuration and start.
    pub fn prepare() -> Self {
        let folder = tempfile::Builder::new().prefix("nightjar-mosquitto-").tempdir().expect("temporary folder");
        Self { child: None, port: free_port(), folder, wrapped: false, starts: 0, quiet: false }
    }

    /// Writes its configuration; `{folder}` in it stands for a folder of its own.
    pub fn configure(&mut self, text: &str) {
        let folder = self.folder.path().to_string_lossy();
        let user = format!("user {}\n", user());
        fs::write(self.folder.path().join("mosquitto.conf"), user + &text.replace("{folder}", &folder))
            .expect("write the configuration");
        self.quiet = text.contains("sys_interval 1");
        self.wrapped = text.contains("certfile") || text.contains("protocol websockets");
    }

    /// Starts the process, and waits until it answers.
    #[track_caller]
    pub fn launch(&mut self) {
        let log = || File::options().create(true).append(true).open(self.folder.path().join("log")).expect("log file");
        let mut command = Command::new(std::env::var("MOSQUITTO_BIN").unwrap_or_else(|_| "mosquitto".to_owned()));
        if !self.quiet {
            command.arg("-v");
        }
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        self.starts += 1;
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn();
        self.child = Some(child.expect("mosquitto is there: apt-get install mosquitto"));
        let (port, wrapped) = (self.port, self.wrapped);
        wait_until("mosquitto answers", PATIENCE, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("wait")) {
                panic!("mosquitto ended: {status}\n{}", self.log());
            }
            if wrapped {
                return std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            }
            Connect::v311("nightjar-test-probe").try_open(port, secs(5)).map(Client::disconnect).is_some()
        });
    }

    /// As [`Self::launch`], for one that refuses a client without a password.
    #[track_caller]
    pub fn launch_refusing(&mut self) {
        self.wrapped = true;
        self.launch();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it was started again.
    pub fn restarts(&self) -> usize {
        self.starts - 1
    }

    /// A folder of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }

    /// A client of it.
    #[track_caller]
    pub fn client(&self, version: u8, id: &str) -> Client {
        open(self.port, &Connect::of(version, id))
    }
}

/// Opens a connection to whoever listens on this port.
#[track_caller]
pub fn open(port: u16, connect: &Connect) -> Client {
    connect.try_open(port, PATIENCE).expect("let in")
}

/// The user that mosquitto runs as: it gives up root's rights, and then cannot read its folder.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            println!("--- end of mosquitto's log, port {} ---", self.port);
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}
