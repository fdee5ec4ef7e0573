//! The same clients by every door: TLS, WebSocket, secure WebSocket, Unix socket.

use super::{folder, have, mqttjs_installed, success, works};
use crate::support::Broker;
use std::path::PathBuf;
use std::process::Command;

/// A broker with every kind of listener, and users in a file that mosquitto's own tool has made.
struct House {
    broker: Broker,
    folder: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let made = Command::new(env!("CARGO_BIN_EXE_nightjar")).args(["cert", "dev", &path("tls")]).output().unwrap();
        success("nightjar cert dev", made);
        let settings = [
            "listeners.tls.address=127.0.0.1:0".to_owned(),
            format!("listeners.tls.certificate={}", path("tls/server.crt")),
            format!("listeners.tls.key={}", path("tls/server.key")),
            format!("listeners.unix.address=unix:{}", path("mqtt.sock")),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self { broker: Broker::with(&settings), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> String {
        self.path("tls/ca.crt").display().to_string()
    }

    /// The port that the system chose for the listener with TLS.
    fn tls_port(&self) -> String {
        self.broker.wait_log(&["listening name=tls "]);
        let log = self.broker.log();
        let line = log.lines().find(|line| line.contains("listening name=tls ")).expect("it listens");
        line.rsplit(':').next().unwrap().trim().to_owned()
    }
}

#[test]
fn mqttjs_by_every_scheme() {
    if !have("node", works(Command::new("node").arg("--version"))) || !have("MQTT.js (npm ci)", mqttjs_installed()) {
        return;
    }
    let house = House::open();
    let (plain, tls) = (house.broker.port().to_string(), house.tls_port());
    for scheme in ["tcp", "ws", "mqtts", "tls", "ssl", "wss", "unix"] {
        let url = match scheme {
            "tcp" => format!("tcp://127.0.0.1:{plain}"),
            "ws" => format!("ws://127.0.0.1:{plain}/mqtt"),
            "unix" => format!("mqtt+unix://{}", house.path("mqtt.sock").display()),
            secure => format!("{secure}://localhost:{tls}"),
        };
        for version in ["4", "5"] {
            let mut command = Command::new("node");
            command.arg(folder().join("mqttjs.mjs")).args([&url, version, &house.ca()]);
            success(&format!("MQTT.js by {url} at level {version}"), command.output().unwrap());
        }
    }
}

#[test]
fn mqttjs_with_a_password_of_mosquitto() {
    let tools = works(Command::new("sh").args(["-c", "command -v mosquitto_passwd"]));
    if !have("mosquitto_passwd", tools) || !have("MQTT.js (npm ci)", mqttjs_installed()) {
        return;
    }
    let folder_of = tempfile::tempdir().unwrap();
    let file = folder_of.path().join("users").display().to_string();
    success(
        "mosquitto_passwd",
        Command::new("mosquitto_passwd").args(["-b", "-c", &file, "ann", "secret"]).output().unwrap(),
    );
    let broker = Broker::with(&[&format!("auth.password_file={file}"), "auth.backoff_after=1000"]);
    for scheme in ["mqtt", "ws"] {
        let url = format!("{scheme}://127.0.0.1:{}", broker.port());
        for version in ["4", "5"] {
            let mut command = Command::new("node");
            command.arg(folder().join("mqttjs.mjs")).args([&url, version, "-", "ann", "secret"]);
            success(&format!("MQTT.js by {url} at level {version}"), command.output().unwrap());
        }
    }
}

#[test]
fn paho_for_python_by_every_door() {
    let found = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| works(Command::new(python).args(["-c", "import paho.mqtt.client"])));
    if !have("paho for Python", found.is_some()) {
        return;
    }
    let house = House::open();
    let (plain, tls, ca) = (house.broker.port().to_string(), house.tls_port(), house.ca());
    for (port, transport, ca) in
        [(&plain, "websockets", None), (&tls, "tcp", Some(&ca)), (&tls, "websockets", Some(&ca))]
    {
        for level in ["4", "5"] {
            let mut command = Command::new(found.unwrap());
            command.arg(folder().join("paho_flow.py")).args([port, level, transport]).args(ca);
            success(&format!("paho by {transport} at level {level}, TLS {}", ca.is_some()), command.output().unwrap());
        }
    }
}

#[test]
fn mosquitto_clients_by_tls_and_by_a_unix_socket() {
    let tools = works(Command::new("sh").args(["-c", "command -v mosquitto_sub && command -v mosquitto_pub"]));
    if !have("mosquitto_pub and mosquitto_sub", tools) {
        return;
    }
    let house = House::open();
    let (tls, ca) = (house.tls_port(), house.ca());
    let socket = house.path("mqtt.sock").display().to_string();
    let doors = [vec!["-h", "localhost", "-p", &tls, "--cafile", &ca], vec!["--unix", &socket]];
    for (number, door) in doors.iter().enumerate() {
        let (topic, message) = (format!("door/{number}"), format!("by door {number}"));
        let mut publish = Command::new("mosquitto_pub");
        publish.args(door).args(["-V", "5", "-q", "2", "-r", "-t", &topic, "-m", &message]);
        success("mosquitto_pub", publish.output().unwrap());
        let mut subscribe = Command::new("mosquitto_sub");
        subscribe.args(door).args(["-V", "5", "-q", "2", "-C", "1", "-W", "20", "-t", &topic]);
        assert_eq!(success("mosquitto_sub", subscribe.output().unwrap()).trim(), message);
    }
}

#[test]
fn paho_for_c_by_every_door() {
    let out = tempfile::tempdir().unwrap();
    let program = out.path().join("paho_flow");
    // The library with TLS and WebSocket; a machine without its header has nothing to try.
    let header = works(Command::new("sh").args(["-c", "echo '#include <MQTTClient.h>' | cc -E - >/dev/null 2>&1"]));
    if !have("paho for C (libpaho-mqtt-dev)", header) {
        return;
    }
    let mut compile = Command::new("cc");
    compile.arg("-o").arg(&program).arg(folder().join("paho_flow.c")).arg("-lpaho-mqtt3cs");
    success("cc", compile.output().unwrap());
    let house = House::open();
    let (plain, tls, ca) = (house.broker.port(), house.tls_port(), house.ca());
    for (url, ca) in [
        (format!("tcp://127.0.0.1:{plain}"), None),
        (format!("ws://127.0.0.1:{plain}/mqtt"), None),
        (format!("ssl://localhost:{tls}"), Some(&ca)),
        (format!("wss://localhost:{tls}/mqtt"), Some(&ca)),
    ] {
        for level in ["4", "5"] {
            let output = Command::new(&program).args([url.as_str(), level]).args(ca).output().unwrap();
            success(&format!("paho for C by {url} at level {level}"), output);
        }
    }
}

#[test]
fn rumqttc_by_every_door() {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(folder().join("rumqttc/Cargo.toml"));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rumqttc");
    build.arg("--target-dir").arg(&target);
    success("the build of rumqttc's program", build.output().unwrap());
    let house = House::open();
    let (plain, tls, ca) = (house.broker.port().to_string(), house.tls_port(), house.ca());
    for (scheme, port) in [("mqtt", &plain), ("ws", &plain), ("mqtts", &tls), ("wss", &tls)] {
        for level in ["4", "5"] {
            let mut command = Command::new(target.join("debug/rumqttc-flow"));
            command.args([scheme, port, level, &ca]);
            success(&format!("rumqttc by {scheme} at level {level}"), command.output().unwrap());
        }
    }
}
