//! Real clients of other makes against the broker: mosquitto's, paho for Python and C, rumqttc, MQTT.js, and
//! curl at the admin door.
//!
//! A missing tool is a failure, unless `NIGHTJAR_SKIP_INTEROP=1` says that this machine need not have it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod doors;
mod import;
mod readme;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use support::{Broker, secs, wait_until};

const SKIP: &str = "NIGHTJAR_SKIP_INTEROP";

/// True when the tool works; panics when it does not and may not be missing.
fn have(tool: &str, works: bool) -> bool {
    if works {
        return true;
    }
    assert!(std::env::var(SKIP).is_ok_and(|v| v == "1"), "{tool} is missing; set {SKIP}=1 to go without");
    println!("skipped: {tool} is missing");
    false
}

fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|o| o.status.success())
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "interop"].iter().collect()
}

/// What stands in the blocks of `language` of a document, one behind the other.
fn examples(document: &str, language: &str) -> String {
    let text = std::fs::read_to_string([env!("CARGO_MANIFEST_DIR"), document].join("/")).unwrap();
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

fn success(what: &str, output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// mosquitto's clients against one broker.
struct Mosquitto {
    port: String,
    version: &'static str,
}

impl Mosquitto {
    fn publish(&self, arguments: &[&str]) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &self.port, "-V", self.version]).args(arguments);
        success("mosquitto_pub", command.output().unwrap());
    }

    /// Starts `mosquitto_sub`, and waits until it has its SUBACK.
    fn subscribe(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &self.port, "-V", self.version, "-W", "20", "-F", "%t %p %q %r"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What it printed until it ended by itself.
    fn lines(&self, child: Child) -> Vec<String> {
        success("mosquitto_sub", child.wait_with_output().unwrap()).lines().map(str::to_owned).collect()
    }
}

fn with_mosquitto(test: impl Fn(&Broker, &Mosquitto)) {
    if !have(
        "mosquitto_pub and mosquitto_sub",
        works(Command::new("sh").args(["-c", "command -v mosquitto_sub && command -v mosquitto_pub"])),
    ) {
        return;
    }
    for version in VERSIONS {
        let broker = Broker::start();
        test(&broker, &Mosquitto { port: broker.port().to_string(), version });
    }
}

/// Waits for the log to tell of a client, since the tools say nothing about when they are subscribed. The message that
/// follows is retained as well, so that it does not matter which of both comes first.
fn connected(broker: &Broker, id: &str) {
    broker.wait_log(&[id]);
}

#[test]
fn mosquitto_clients_at_every_qos() {
    with_mosquitto(|broker, m| {
        for subscribed in ["0", "1", "2"] {
            for published in ["0", "1", "2"] {
                // Persistent, and subscribed before: so the order of the two programs does not matter.
                let id = format!("sub{subscribed}{published}");
                let quick = m.subscribe(&["-i", &id, "-c", "-q", subscribed, "-t", "a/#", "-E"]);
                assert!(m.lines(quick).is_empty());
                let sub = m.subscribe(&["-i", &id, "-c", "-q", subscribed, "-t", "a/#", "-C", "1"]);
                wait_until("the subscriber is back", secs(10), || broker.log().matches(&id).count() >= 3);
                // QoS 0 is for those who are there: give its SUBSCRIBE the time of a retry.
                let mut child = Some(sub);
                for _ in 0..50 {
                    m.publish(&["-t", "a/b", "-m", "text", "-q", published]);
                    std::thread::sleep(support::ms(50));
                    if child.as_mut().unwrap().try_wait().unwrap().is_some() {
                        break;
                    }
                }
                let qos = subscribed.min(published);
                assert_eq!(m.lines(child.take().unwrap()), [format!("a/b text {qos} 0")], "{}", m.version);
                let clean = m.subscribe(&["-i", &id, "-t", "a/#", "-E"]);
                m.lines(clean);
            }
        }
    });
}

#[test]
fn mosquitto_clients_and_retained_messages() {
    with_mosquitto(|_, m| {
        m.publish(&["-t", "kept", "-m", "value", "-q", "1", "-r"]);
        assert_eq!(m.lines(m.subscribe(&["-t", "kept", "-q", "2", "-C", "1"])), ["kept value 1 1"]);
        m.publish(&["-t", "kept", "-n", "-r", "-q", "1"]);
        m.publish(&["-t", "kept2", "-m", "other", "-r", "-q", "2"]);
        assert_eq!(m.lines(m.subscribe(&["-t", "#", "-q", "2", "-C", "1"])), ["kept2 other 2 1"]);
    });
}

#[test]
fn mosquitto_clients_and_wills() {
    with_mosquitto(|broker, m| {
        let dying = [
            "-i",
            "dying",
            "-t",
            "none",
            "--will-topic",
            "will",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
            "--will-retain",
        ];
        let mut dying = m.subscribe(&dying);
        connected(broker, "dying");
        dying.kill().unwrap();
        dying.wait().unwrap();
        assert_eq!(
            m.lines(m.subscribe(&["-t", "will", "-q", "2", "-C", "1"]))[0].split(' ').take(3).collect::<Vec<_>>(),
            ["will", "gone", "1"]
        );
    });
}

#[test]
fn mosquitto_clients_keep_a_session() {
    with_mosquitto(|_, m| {
        let mut session = vec!["-i", "keeper", "-c", "-q", "2", "-t", "away/#"];
        if m.version == "mqttv5" {
            session.extend(["-x", "300"]);
        }
        let first = m.subscribe(&[&session[..], &["-E"]].concat());
        assert!(m.lines(first).is_empty());
        let expected: Vec<String> = (0..20).map(|n| format!("away/x m{n} 2 0")).collect();
        for n in 0..20 {
            m.publish(&["-t", "away/x", "-m", &format!("m{n}"), "-q", "2"]);
        }
        let again = m.subscribe(&[&session[..], &["-C", "20"]].concat());
        assert_eq!(m.lines(again), expected);
    });
}

#[test]
fn mosquitto_sub_reads_the_statistics() {
    with_mosquitto(|_, m| {
        let lines = m.lines(m.subscribe(&["-t", "$SYS/broker/version", "-C", "1"]));
        assert!(lines[0].starts_with("$SYS/broker/version "), "{lines:?}");
    });
}

#[test]
fn paho_for_python() {
    let found = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| works(Command::new(python).args(["-c", "import paho.mqtt.client"])));
    if !have("paho for Python", found.is_some()) {
        return;
    }
    for level in ["3", "4", "5"] {
        let broker = Broker::start();
        let mut command = Command::new(found.unwrap());
        command.arg(folder().join("paho_flow.py")).args([&broker.port().to_string(), level]);
        success(&format!("paho at level {level}"), command.output().unwrap());
    }
}

/// Installs what the lock file names, once.
fn mqttjs_installed() -> bool {
    static ONCE: Mutex<()> = Mutex::new(());
    let _one = ONCE.lock().unwrap();
    if folder().join("node_modules").join("mqtt").exists() {
        return true;
    }
    let mut command = Command::new("npm");
    command.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder());
    works(&mut command)
}

#[test]
fn mqttjs() {
    if !have("node", works(Command::new("node").arg("--version"))) || !have("MQTT.js (npm ci)", mqttjs_installed()) {
        return;
    }
    for version in ["3", "4", "5"] {
        let broker = Broker::start();
        let mut command = Command::new("node");
        command.arg(folder().join("mqttjs.mjs")).args([&format!("mqtt://127.0.0.1:{}", broker.port()), version]);
        success(&format!("MQTT.js at level {version}"), command.output().unwrap());
    }
}
