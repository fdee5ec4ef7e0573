//! `nightjar ctl`, `health`, trace and explain, as an operator uses them.

use crate::http::Door;
use crate::support::{Connect, secs, wait_until};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

fn command(door: &Door, arguments: &[&str]) -> Command {
    // The door opens a moment after the listeners.
    assert_eq!(door.get("/livez").status, 200);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    command.args(arguments).arg("--data").arg(door.broker.data());
    command
}

fn run(door: &Door, arguments: &[&str]) -> Output {
    command(door, arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn told(door: &Door, arguments: &[&str]) -> String {
    let output = run(door, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[test]
fn exit_codes_tell_how_it_went() {
    let door = Door::open(&[]);
    for (arguments, code) in [
        (&["ctl", "status"][..], 0),
        (&["health"], 0),
        (&["health", "--live"], 0),
        (&["ctl", "clients", "show", "nobody"], 5),
        (&["ctl", "sessions", "delete", "nobody"], 5),
        (&["ctl", "explain", "nobody", "a"], 5),
        (&["ctl", "explain", "nobody", "a/#"], 1),
        (&["ctl", "clients"], 2),
        (&["ctl", "--url", "http://127.0.0.1:1", "status"], 7),
        (&["ctl", "--url", "https://127.0.0.1:1", "status"], 2),
    ] {
        let output = run(&door, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_nightjar"))
        .args(["ctl", "--url", &format!("http://127.0.0.1:{}", door.port), "status"])
        .env_remove("NIGHTJAR_ADMIN_TOKEN")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
}

#[test]
fn an_operator_sees_and_acts() {
    let door = Door::open(&[]);
    let mut client = Connect::v5("gateway \u{1b}[31m").clean(false).expiry(300).open(&door.broker);
    client.subscribe("a/#", 1);
    let list = told(&door, &["ctl", "clients", "list"]);
    assert!(list.contains("gateway") && !list.contains('\u{1b}'), "{list}");
    assert!(told(&door, &["ctl", "subscriptions", "list", "--topic", "a/b"]).contains("a/#"));
    assert!(told(&door, &["ctl", "publish", "a/b", "hi", "--qos", "1", "--retain"]).contains("success"));
    assert!(told(&door, &["ctl", "retained", "show", "a/b"]).contains("hi"));
    let json = told(&door, &["ctl", "retained", "list", "--json"]);
    let items: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(items[0]["topic"], "a/b", "{json}");
    told(&door, &["ctl", "retained", "delete", "a/b"]);
    assert!(told(&door, &["ctl", "acl", "test", "-", "c", "publish", "x"]).starts_with("allowed"));
    assert_eq!(told(&door, &["ctl", "log", "set", "debug"]).trim(), "debug");
    assert!(told(&door, &["ctl", "config"]).contains("[store]"));
    assert!(told(&door, &["ctl", "reload"]).contains("reloaded"));
    told(&door, &["ctl", "clients", "kick", "gateway \u{1b}[31m"]);
    client.expect_closed();
    told(&door, &["ctl", "sessions", "delete", "gateway \u{1b}[31m"]);
    assert_eq!(run(&door, &["ctl", "sessions", "show", "gateway \u{1b}[31m"]).status.code(), Some(5));
}

#[test]
fn explain_names_what_stands_between() {
    let door = Door::open(&["session.queue_qos0=false"]);
    let mut client = Connect::v5("sleeper").clean(false).expiry(300).open(&door.broker);
    client.subscribe("zero", 0);
    client.subscribe("one/#", 1);
    assert!(told(&door, &["ctl", "explain", "sleeper", "one/x"]).starts_with("yes"));
    let none = told(&door, &["ctl", "explain", "sleeper", "two"]);
    assert!(none.starts_with("no: subscription"), "{none}");
    client.disconnect();
    wait_until("it is away", secs(10), || door.get("/api/v1/status").json()["clients"]["connected"] == 0);
    assert!(told(&door, &["ctl", "explain", "sleeper", "one/x"]).starts_with("yes"));
    let away = told(&door, &["ctl", "explain", "sleeper", "zero"]);
    assert!(away.starts_with("no: queue") && away.contains("QoS 0"), "{away}");
}

#[test]
fn trace_shows_what_happens_as_it_happens() {
    let door = Door::open(&[]);
    let mut subscriber = door.broker.v5("watched");
    subscriber.subscribe("t/#", 1);
    let mut trace = command(&door, &["ctl", "trace", "--topic", "t/#", "--for", "60s", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(trace.stdout.take().unwrap()).lines();
    let mut publisher = door.broker.v5("publisher");
    // Until somebody looks nothing is told: so again, until it is.
    let publishing = std::thread::spawn(move || {
        for _ in 0..600 {
            publisher.publish("t/x", "seen", 1);
            std::thread::sleep(crate::support::ms(50));
        }
    });
    let mut seen = Vec::new();
    while !(seen.contains(&"routed".to_owned()) && seen.contains(&"sent".to_owned())) {
        let line = lines.next().unwrap().unwrap();
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        assert_eq!(event["topic"], "t/x", "{line}");
        assert!(!line.contains("seen"), "never a payload: {line}");
        seen.push(event["event"].as_str().unwrap().to_owned());
    }
    trace.kill().unwrap();
    trace.wait().unwrap();
    drop(publishing);
}
