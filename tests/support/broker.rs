//! The broker as a process: a free port, a data folder of its own, its log kept for when a test fails.

use super::{Client, Connect, PATIENCE, V311, secs, wait_until};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Another broker to run the suites against: a command with `{port}` and `{data}` in it. Settings are not passed on.
const OTHER_BROKER: &str = "NIGHTJAR_TEST_BROKER_CMD";

/// Another build of Nightjar to run instead of the one that was built with the tests.
const OUR_BROKER: &str = "NIGHTJAR_BIN";

/// A folder that keeps the whole log of each broker whose test failed.
const KEPT_LOGS: &str = "NIGHTJAR_TEST_LOGS";

/// A running broker (or one between two runs). Killed when dropped; its log is printed if the test failed.
#[derive(Debug)]
pub struct Broker {
    child: Option<Child>,
    port: u16,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    /// Whether the listeners are those of a config file.
    configured: bool,
    /// How long the log was when the process was started.
    log_before: usize,
}

impl Broker {
    /// Starts one with the default settings.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with settings of the form `section.key=value`.
    #[track_caller]
    pub fn with(settings: &[&str]) -> Self {
        let mut broker = Self::prepare(settings);
        broker.launch();
        broker.wait_ready();
        broker
    }

    /// Everything but the start.
    pub fn prepare(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("nightjar-test-").tempdir().expect("temporary folder");
        let settings = settings.iter().map(|s| (*s).into()).collect();
        Self { child: None, port: free_port(), folder, settings, configured: false, log_before: 0 }
    }

    /// Starts one with this config file. `{port}` in it stands for the broker's port, `{folder}` for a folder of its own
    /// where `files` (name and content) are written first.
    #[track_caller]
    pub fn configured(config: &str, files: &[(&str, &str)]) -> Self {
        Self::configured_with(config, files, &[])
    }

    /// The same, with settings of the form `section.key=value` over the file.
    #[track_caller]
    pub fn configured_with(config: &str, files: &[(&str, &str)], settings: &[&str]) -> Self {
        let mut broker = Self::prepare(settings);
        broker.configured = true;
        files.iter().for_each(|(name, text)| broker.write(name, text));
        broker.configure(config);
        broker.again();
        broker
    }

    /// One with this config file and these settings, not started yet.
    pub fn written(config: &str, settings: &[&str]) -> Self {
        let mut broker = Self::prepare(settings);
        broker.configured = true;
        broker.configure(config);
        broker
    }

    /// Starts it with the config file that something else has written into its folder.
    #[track_caller]
    pub fn start_as_written(&mut self) {
        self.configured = true;
        self.again();
    }

    /// Writes a file of its folder, for its user alone as secrets should be.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("write a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set the mode");
    }

    /// Writes its config file.
    pub fn configure(&self, config: &str) {
        let folder = self.folder.path().to_string_lossy();
        self.write("nightjar.toml", &config.replace("{port}", &self.port.to_string()).replace("{folder}", &folder));
    }

    /// Its config file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("nightjar.toml")
    }

    /// SIGHUP; waits until the log says what came of it, and gives that line.
    #[track_caller]
    pub fn reload(&self) -> String {
        let lines = |log: &str| {
            let said = |line: &&str| line.contains(" reloaded") || line.contains("not reloaded");
            log.lines().filter(said).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = lines(&self.log()).len();
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("running"));
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("send SIGHUP");
        let mut said = Vec::new();
        wait_until("the broker reloads", PATIENCE, || {
            said = lines(&self.log());
            said.len() > before
        });
        said.swap_remove(before)
    }

    /// The command line that serves this data folder.
    pub fn command(&self) -> Command {
        if let Ok(other) = std::env::var(OTHER_BROKER) {
            let data = self.data();
            fs::create_dir_all(&data).expect("data folder");
            let line = other.replace("{port}", &self.port.to_string()).replace("{data}", &data.to_string_lossy());
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {line}")]);
            return command;
        }
        let ours = std::env::var(OUR_BROKER).unwrap_or_else(|_| env!("CARGO_BIN_EXE_nightjar").to_owned());
        let mut command = Command::new(ours);
        command.arg("serve").arg("--data").arg(self.data());
        if self.configured {
            command.arg("--config").arg(self.config_path());
        } else {
            command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--anonymous"]);
        }
        // Segments are allocated in full; a test needs little of them.
        for setting in
            ["store.segment_size=8MiB", "admin.address=off"].into_iter().chain(self.settings.iter().map(String::as_str))
        {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts the process and does not wait.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "already running");
        self.log_before = self.log().len();
        let log = || File::options().create(true).append(true).open(self.log_path()).expect("log file");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log()).stderr(log());
        self.child = Some(command.spawn().expect("start the broker"));
    }

    /// Waits until the broker answers a CONNECT.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_until("the broker answers", secs(60), || {
            if let Some(status) = self.try_wait() {
                panic!("the broker ended at start: {status}");
            }
            if self.configured {
                return self.listens();
            }
            match Connect::v311("nightjar-test-probe").try_open(self.port, secs(5)) {
                Some(probe) => {
                    probe.disconnect();
                    true
                }
                None => false,
            }
        });
    }

    /// Whether all listeners of the config file are open.
    fn listens(&self) -> bool {
        let config = fs::read_to_string(self.config_path()).expect("read the config");
        self.log()[self.log_before..].matches(" listening ").count() >= config.matches("[listeners.").count()
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().expect("wait for the broker"))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.try_wait().is_none()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for what a test wants to keep beside the data.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the broker");
            child.wait().expect("wait for the broker");
        }
    }

    /// SIGTERM; it must end by itself with exit code 0.
    #[track_caller]
    pub fn terminate(&mut self) {
        let status = self.stop();
        assert_eq!(status.code(), Some(0), "exit after SIGTERM: {status}");
    }

    /// SIGTERM; gives the exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal_term();
        self.wait_exit(secs(30))
    }

    /// Sends SIGTERM and does not wait.
    pub fn signal_term(&self) {
        let child = self.child.as_ref().expect("running");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("send SIGTERM");
    }

    /// Waits for the process to end.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_until("the broker ends", limit, || {
            status = self.try_wait();
            status.is_some()
        });
        self.child = None;
        status.expect("the condition held")
    }

    /// SIGTERM and start on the same data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.terminate();
        self.again();
    }

    /// SIGKILL and start on the same data.
    #[track_caller]
    pub fn crash(&mut self) {
        self.kill();
        self.again();
    }

    /// Starts on the same data after `kill` or `terminate`.
    #[track_caller]
    pub fn again(&mut self) {
        self.launch();
        self.wait_ready();
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// All that it has written to its outputs so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits for a line of the log that holds all of these; gives the line.
    #[track_caller]
    pub fn wait_log(&self, parts: &[&str]) -> String {
        let mut found = None;
        wait_until(&format!("a log line with {parts:?}"), PATIENCE, || {
            found = self.log().lines().find(|l| parts.iter().all(|p| l.contains(p))).map(str::to_owned);
            found.is_some()
        });
        found.expect("the condition held")
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("process status");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// A plain 3.1.1 client.
    #[track_caller]
    pub fn v311(&self, id: &str) -> Client {
        Connect::v311(id).open(self)
    }

    /// A plain v5 client.
    #[track_caller]
    pub fn v5(&self, id: &str) -> Client {
        Connect::v5(id).open(self)
    }

    /// A plain client of this version.
    #[track_caller]
    pub fn client(&self, version: u8, id: &str) -> Client {
        Connect::of(version, id).open(self)
    }

    /// A socket on which nothing was sent yet.
    #[track_caller]
    pub fn socket(&self) -> Client {
        Client::raw(self.port, V311)
    }

    /// A socket on which nothing was sent yet, whose peer speaks this version.
    #[track_caller]
    pub fn socket_for(&self, version: u8) -> Client {
        Client::raw(self.port, version)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            if let Ok(folder) = std::env::var(KEPT_LOGS) {
                let name = std::thread::current().name().unwrap_or("test").replace("::", ".");
                fs::write(Path::new(&folder).join(format!("{name}-{}", self.port)), &log).ok();
            }
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            println!("--- end of the broker's log, port {} ---", self.port);
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}

/// A port below the ephemeral range, so that no outgoing connection of another test can hold it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (n % 20_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
