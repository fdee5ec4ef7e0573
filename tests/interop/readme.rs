//! The first messages of the README, as they stand there.

use super::{Stdio, success, works};
use crate::support::{Broker, secs, wait_until};
use std::process::Command;

/// The README's shell lines that use mosquitto's clients, in order, aimed at our port; and the one that kills.
fn lines(port: u16) -> Vec<String> {
    let wanted = |line: &&str| line.starts_with("mosquitto_") || line.starts_with("pkill");
    super::examples("README.md", "sh")
        .lines()
        .filter(wanted)
        .map(|line| {
            let line = line.replace("mosquitto_sub ", &format!("mosquitto_sub -p {port} "));
            line.replace("mosquitto_pub ", &format!("mosquitto_pub -p {port} "))
        })
        .collect()
}

fn shell(line: &str) -> String {
    success(line, Command::new("bash").args(["-c", line]).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn the_first_messages_arrive_as_the_readme_says() {
    if !super::have("mosquitto_pub", works(Command::new("which").arg("mosquitto_pub"))) {
        return;
    }
    let mut broker = Broker::start();
    let lines = lines(broker.port());
    let [subscribe, publish, session, away, kill, back] = &lines[..] else { panic!("other lines: {lines:#?}") };

    let mut listener = Command::new("bash");
    listener.args(["-c", &format!("exec {subscribe} -C 1 -W 10")]).stdin(Stdio::null()).stdout(Stdio::piped());
    let listener = listener.spawn().unwrap();
    let subscribed = || broker.log().contains("connected");
    wait_until("the subscriber is there", secs(5), subscribed);
    // Its SUBSCRIBE follows at once; the message is retained so that it cannot come too early.
    shell(&format!("{publish} -r"));
    assert_eq!(success(subscribe, listener.wait_with_output().unwrap()), "hello/world first message\n");

    shell(session);
    shell(away);
    assert!(kill.starts_with("pkill -9"), "{kill}");
    broker.crash();
    // `-W` ends it with code 27 when its time is over, which is not the point here.
    assert_eq!(shell(&format!("{back} -C 1")), "kept for you\n");
}
