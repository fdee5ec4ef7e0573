//! What a service manager is told.

use crate::support::{Broker, secs, wait_until};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

/// A socket such as systemd gives to a service.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    fn hears(&mut self, what: &str) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut buffer) {
            self.heard += &String::from_utf8_lossy(&buffer[..count]);
            self.heard.push('\n');
        }
        self.heard.lines().any(|line| line == what)
    }

    fn wait_for(&mut self, what: &str) {
        wait_until(what, secs(30), || self.hears(what));
        self.heard.clear();
    }
}

#[test]
fn a_service_manager_hears_of_start_reload_life_and_stop() {
    let broker = Broker::prepare(&[]);
    let path = broker.scratch().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket of our own");
    socket.set_nonblocking(true).expect("it can be asked without waiting");
    let mut manager = Manager { socket, heard: String::new() };
    let mut child = broker
        .command()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .stderr(Stdio::null())
        .spawn()
        .expect("start the broker");
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    };
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    signal("-HUP");
    wait_until("a reload, and its end", secs(30), || manager.hears("RELOADING=1") && manager.hears("READY=1"));
    assert!(manager.heard.contains("MONOTONIC_USEC="), "{}", manager.heard);
    signal("-TERM");
    manager.wait_for("STOPPING=1");
    assert!(child.wait().expect("it ends").success());
}
