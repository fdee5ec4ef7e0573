//! Bridges, seen and changed through the admin door; the remote is another broker.

use crate::http::{Door, READ_TOKEN, TOKEN, bearer};
use crate::support::{Broker, Connect, PATIENCE, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

const LISTENER: &str = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n";
const SECRET: &str = "canary-7391";

/// Settings of a bridge to `hub`.
fn to(hub: &Broker) -> Value {
    json!({
        "address": format!("mqtt://127.0.0.1:{}", hub.port()),
        "topics": ["up/# out 1 \"\" plant/", "down/# in 1"],
        "username": "u",
        "password": SECRET,
        "retry_base": "100ms",
        "retry_cap": "200ms",
    })
}

/// A config file with a bridge to `hub`.
fn configured(hub: &Broker) -> String {
    format!(
        "{LISTENER}[bridges.hub]\naddress = \"mqtt://127.0.0.1:{}\"\ntopics = [\"up/# out 1\"]\nkeep_alive = \"30s\"\n\
         retry_base = \"100ms\"\nretry_cap = \"200ms\"\n",
        hub.port()
    )
}

fn file(door: &Door) -> PathBuf {
    door.broker.data().join("bridges.toml")
}

fn text(door: &Door) -> String {
    fs::read_to_string(file(door)).unwrap_or_default()
}

#[track_caller]
fn wait_state(door: &Door, name: &str, state: &str) -> Value {
    let mut seen = Value::Null;
    wait_until(&format!("{name} is {state}"), PATIENCE, || {
        seen = door.get(&format!("/api/v1/bridges/{name}")).json();
        seen["state"] == state
    });
    seen
}

#[test]
fn a_bridge_is_added_seen_paused_and_removed() {
    let hub = Broker::start();
    let mut door = Door::open(&[]);
    let mut far = hub.v5("far");
    far.subscribe("plant/#", 1);
    assert_eq!(door.get("/api/v1/bridges").json(), json!([]));
    let added = door.send("PUT", "/api/v1/bridges/hub", &to(&hub));
    assert_eq!(added.status, 200, "{}", added.text());
    assert_eq!(door.send("PUT", "/api/v1/bridges/hub", &to(&hub)).status, 409);
    assert_eq!(fs::metadata(file(&door)).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = wait_state(&door, "hub", "connected");
    assert!(shown["speaks"].as_str().unwrap().contains('5'), "{shown}");
    door.broker.v5("near").publish("up/1", "hello", 1);
    assert_eq!(far.expect_payload("hello").topic, "plant/up/1");
    wait_until("it is acknowledged", PATIENCE, || door.get("/api/v1/bridges/hub").json()["acknowledged"] == 1);
    let shown = door.get("/api/v1/bridges/hub").json();
    let rule = &shown["rules"][0];
    assert_eq!((&rule["sent"]["messages"], &rule["sent"]["bytes"]), (&json!(1), &json!(5)), "{shown}");
    assert_eq!((&shown["mode"], &shown["connects"]), (&json!("running"), &json!(1)), "{shown}");
    for path in ["/api/v1/bridges", "/api/v1/config", "/metrics"] {
        assert!(!door.get(path).text().contains(SECRET), "{path}");
    }

    assert_eq!(door.send("POST", "/api/v1/bridges/hub/pause", &json!({})).json()["mode"], "paused");
    wait_state(&door, "hub", "paused");
    door.broker.v5("near").publish("up/2", "later", 1);
    door.broker.restart();
    let shown = wait_state(&door, "hub", "paused");
    assert_eq!(shown["queue"]["messages"], 1, "{shown}");
    assert!(shown["queue"]["bytes"].as_u64().unwrap() > 0, "{shown}");
    door.send("POST", "/api/v1/bridges/hub/resume", &json!({}));
    far.expect_payload("later");
    door.send("POST", "/api/v1/bridges/hub/drain", &json!({}));
    wait_state(&door, "hub", "drained");

    assert_eq!(door.delete("/api/v1/bridges/hub").status, 204);
    assert_eq!(door.get("/api/v1/bridges/hub").status, 404);
    assert!(!text(&door).contains("hub]"), "{}", text(&door));
}

#[test]
fn a_bridge_of_the_config_file_is_changed_and_reset() {
    let hub = Broker::start();
    let mut door = Door::configured(&configured(&hub));
    wait_state(&door, "hub", "connected");
    let set = |body: Value| door.send("PATCH", "/api/v1/bridges/hub", &body);
    let changed = set(json!({"keep_alive": "20s", "clean_start": true, "max_inflight": 5})).json();
    assert_eq!(changed["changed"], json!(["clean_start", "keep_alive", "max_inflight"]), "{changed}");
    let effective = door.get("/api/v1/config").json()["toml"].as_str().unwrap().to_owned();
    let line = effective.lines().find(|line| line.starts_with("keep_alive = \"20s\"")).unwrap();
    assert!(line.contains("bridges.toml:"), "{line}");
    let one = door.delete("/api/v1/bridges/hub/settings/clean_start").json();
    assert_eq!(one["changed"], json!(["keep_alive", "max_inflight"]), "{one}");
    assert_eq!(set(json!({"max_inflight": null})).json()["changed"], json!(["keep_alive"]));
    assert!(door.broker.reload().contains("reloaded"));
    door.broker.restart();
    let shown = wait_state(&door, "hub", "connected");
    assert_eq!(shown["changed"], json!(["keep_alive"]));
    assert_eq!(door.delete("/api/v1/bridges/hub/settings").json()["changed"], json!([]));

    assert_eq!(door.delete("/api/v1/bridges/hub").status, 204);
    door.broker.reload();
    assert_eq!(door.get("/api/v1/bridges/hub").status, 404, "a reload finds the same");
    door.broker.restart();
    assert_eq!(door.get("/api/v1/bridges").json(), json!([]), "and so does a start");
    let again = door.send("PUT", "/api/v1/bridges/hub", &to(&hub));
    assert!(again.status == 409 && again.text().contains("reset"), "{}", again.text());
    assert_eq!(door.delete("/api/v1/bridges/hub/settings").status, 200);
    wait_state(&door, "hub", "connected");
}

#[test]
fn a_change_with_mistakes_changes_nothing() {
    let hub = Broker::start();
    let door = Door::configured(&configured(&hub));
    assert_eq!(door.send("PATCH", "/api/v1/bridges/hub", &json!({"keep_alive": "20s"})).status, 200);
    let before = text(&door);
    for (method, path, body, told) in [
        ("PATCH", "hub", json!({"mode": "asleep"}), "bridges.hub.mode: expected one of"),
        ("PATCH", "hub", json!({"mod": "paused"}), "did you mean bridges.hub.mode?"),
        ("PATCH", "hub", json!({"removed": true}), "no such setting"),
        ("PATCH", "hub", json!({"topics": ["a sideways"]}), "bridges.hub.topics"),
        ("PATCH", "hub", json!({"password": SECRET}), "expected a user name"),
        ("PATCH", "hub", json!({"password_file": "/none", "username": "u"}), "/none"),
        ("PUT", "new", json!({"topics": ["a"]}), "bridges.new.address: missing"),
        ("PUT", "NEW", to(&hub), "lower-case letters"),
        ("DELETE", "hub/settings/keepalive", json!({}), "did you mean bridges.hub.keep_alive?"),
    ] {
        let answer = door.send(method, &format!("/api/v1/bridges/{path}"), &body);
        assert_eq!(answer.status, 422, "{method} {path} {body}: {}", answer.text());
        let mistakes = answer.json()["mistakes"].to_string().replace("\\\"", "\"");
        assert!(mistakes.contains(told) && !mistakes.contains(SECRET), "{method} {path} {body}: {mistakes}");
        assert_eq!(text(&door), before);
    }
    for (method, path) in [("PATCH", "none"), ("POST", "none/pause"), ("DELETE", "none"), ("DELETE", "none/settings")] {
        assert_eq!(door.send(method, &format!("/api/v1/bridges/{path}"), &json!({})).status, 404, "{method} {path}");
    }
    assert_eq!(door.send("PATCH", "/api/v1/bridges/hub", &json!([])).status, 422);
    assert_eq!(door.get("/api/v1/bridges/hub").json()["changed"], json!(["keep_alive"]));
    // A mistake of the config file that nobody has reloaded yet is in the way too: the whole is checked.
    door.broker.configure(&format!("{}\n[store]\nshard = 1\n", configured(&hub)));
    let answer = door.send("POST", "/api/v1/bridges/hub/pause", &json!({}));
    assert!(answer.status == 422 && answer.text().contains("store.shard"), "{}", answer.text());
}

#[test]
fn what_the_command_line_decides_is_not_changed_in_vain() {
    let door =
        Door::open(&["bridges.hub.address=mqtt://127.0.0.1:1", "bridges.hub.topics=a", "bridges.hub.mode=paused"]);
    let answer = door.send("POST", "/api/v1/bridges/hub/resume", &json!({}));
    assert!(answer.status == 422 && answer.text().contains("--set: bridges.hub.mode"), "{}", answer.text());
    assert_eq!(door.send("PATCH", "/api/v1/bridges/hub", &json!({"keep_alive": "9s"})).status, 200);
    assert_eq!(door.delete("/api/v1/bridges/hub").status, 204);
    assert_eq!(door.get("/api/v1/bridges").json(), json!([]));
}

#[test]
fn whoever_may_look_may_look_and_map_alone() {
    let hub = Broker::start();
    let door = Door::open(&[]);
    assert_eq!(door.send("PUT", "/api/v1/bridges/hub", &to(&hub)).status, 200);
    let read = |method: &str, path: &str| door.ask(method, path, &[bearer(READ_TOKEN)], Some(&json!({})));
    for path in ["/api/v1/bridges", "/api/v1/bridges/hub", "/api/v1/bridges/hub/map?topic=up/x"] {
        assert_eq!(read("GET", path).status, 200, "{path}");
    }
    for (method, path) in [
        ("PUT", "/api/v1/bridges/new"),
        ("PATCH", "/api/v1/bridges/hub"),
        ("DELETE", "/api/v1/bridges/hub"),
        ("DELETE", "/api/v1/bridges/hub/settings"),
        ("DELETE", "/api/v1/bridges/hub/settings/mode"),
        ("POST", "/api/v1/bridges/hub/pause"),
        ("POST", "/api/v1/bridges/hub/resume"),
        ("POST", "/api/v1/bridges/hub/drain"),
    ] {
        assert_eq!(read(method, path).status, 403, "{method} {path}");
    }
    let map = |topic: &str| door.get(&format!("/api/v1/bridges/hub/map?topic={topic}")).json();
    let up = map("up/1");
    assert_eq!((&up["out"]["topic"], &up["out"]["rule"]), (&json!("plant/up/1"), &json!(1)), "{up}");
    assert_eq!(up["in"], Value::Null);
    let down = map("down/1");
    assert_eq!((&down["in"]["topic"], &down["in"]["rule"], &down["out"]), (&json!("down/1"), &json!(2), &Value::Null));
    assert_eq!(door.get("/api/v1/bridges/hub/map?topic=up/%23").status, 422);
    assert_eq!(door.get("/api/v1/bridges/none/map?topic=a").status, 404);
}

#[test]
fn changes_at_the_same_time_are_all_made() {
    let door = Door::open(&[]);
    let away = json!({"address": "mqtt://127.0.0.1:1", "topics": ["a out 1"]});
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (door, away) = (&door, &away);
            scope.spawn(move || {
                let path = format!("/api/v1/bridges/b{number}");
                assert_eq!(door.send("PUT", &path, away).status, 200);
                for inflight in 1..5 {
                    assert_eq!(door.send("PATCH", &path, &json!({"max_inflight": inflight})).status, 200);
                }
            });
        }
    });
    assert_eq!(door.get("/api/v1/bridges").json().as_array().unwrap().len(), 8);
    assert_eq!(text(&door).matches("max_inflight = 4").count(), 8, "{}", text(&door));
}

#[test]
fn a_kill_amid_changes_leaves_a_file_that_loads() {
    let mut door = Door::open(&[]);
    let away = json!({"address": "mqtt://127.0.0.1:1", "topics": ["a out 1"], "mode": "paused"});
    assert_eq!(door.send("PUT", "/api/v1/bridges/hub", &away).status, 200);
    for round in 0..5_u64 {
        let port = door.port;
        let changing = std::thread::spawn(move || {
            let mut done = 0;
            // Until the door is gone.
            for number in 1..100_000_u64 {
                let body =
                    json!({"max_inflight": number % 60_000 + 1, "client_id": "x".repeat(number as usize % 2_000 + 1)});
                if patch(port, &body).is_none() {
                    break;
                }
                done = number;
            }
            done
        });
        let before = text(&door);
        wait_until("some changes are made", PATIENCE, || {
            text(&door) != before && text(&door).len() as u64 % 7 == round
        });
        door.broker.kill();
        let done = changing.join().unwrap();
        door.broker.again();
        wait_state(&door, "hub", "paused");
        let kept = text(&door);
        let line = kept.lines().find_map(|line| line.strip_prefix("max_inflight = ")).unwrap().parse::<u64>().unwrap();
        assert!(line > done, "what was answered is kept: {line} {done}");
    }
}

/// Changes the bridge `hub`; none if the door is gone.
fn patch(port: u16, body: &Value) -> Option<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    let body = body.to_string();
    let head = format!("PATCH /api/v1/bridges/hub HTTP/1.1\r\nHost: localhost\r\n{}\r\n", bearer(TOKEN));
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{rest}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

#[test]
fn in_memory_changes_last_as_long_as_everything_else() {
    let mut door = Door::open(&["store.durability=memory"]);
    let away = json!({"address": "mqtt://127.0.0.1:1", "topics": ["a out 1"]});
    assert_eq!(door.send("PUT", "/api/v1/bridges/hub", &away).status, 200);
    door.broker.reload();
    assert_eq!(door.get("/api/v1/bridges/hub").status, 200);
    assert!(!file(&door).exists());
    door.broker.restart();
    assert_eq!(door.get("/api/v1/bridges").json(), json!([]));
}

#[test]
fn the_probe_for_readiness_does_not_mind() {
    let door = Door::open(&["bridges.hub.address=mqtt://127.0.0.1:1", "bridges.hub.topics=a"]);
    wait_until("it fails", PATIENCE, || door.get("/api/v1/bridges/hub").json()["failures"].as_u64() > Some(0));
    assert_eq!(door.get("/readyz").status, 200);
}

#[test]
fn the_metrics_count_what_a_bridge_does() {
    let hub = Broker::start();
    let door = Door::open(&[]);
    door.send("PUT", "/api/v1/bridges/hub", &to(&hub));
    wait_state(&door, "hub", "connected");
    let mut near = door.broker.v5("near");
    near.subscribe("down/#", 1);
    near.publish("up/1", "12345", 1);
    hub.v5("far").publish("down/1", "123", 1);
    near.expect_payload("123");
    let has = |lines: &[&str]| {
        let page = door.get("/metrics").text();
        let plain: Vec<&str> = page.lines().map(|line| line.strip_suffix(".0").unwrap_or(line)).collect();
        lines.iter().all(|line| plain.contains(line))
    };
    wait_until("all is counted", PATIENCE, || {
        has(&[
            "nightjar_bridge_connected{bridge=\"hub\"} 1",
            "nightjar_bridge_state{bridge=\"hub\",state=\"connected\"} 1",
            "nightjar_bridge_state{bridge=\"hub\",state=\"paused\"} 0",
            "nightjar_bridge_messages_total{bridge=\"hub\",rule=\"1\",direction=\"out\"} 1",
            "nightjar_bridge_payload_bytes_total{bridge=\"hub\",rule=\"1\",direction=\"out\"} 5",
            "nightjar_bridge_messages_total{bridge=\"hub\",rule=\"2\",direction=\"in\"} 1",
            "nightjar_bridge_acknowledged_total{bridge=\"hub\"} 1",
            "nightjar_bridge_connects_total{bridge=\"hub\"} 1",
            "nightjar_bridge_queue_messages{bridge=\"hub\"} 0",
        ])
    });
    door.send("POST", "/api/v1/bridges/hub/pause", &json!({}));
    wait_until("it is paused", PATIENCE, || {
        has(&[
            "nightjar_bridge_connected{bridge=\"hub\"} 0",
            "nightjar_bridge_state{bridge=\"hub\",state=\"paused\"} 1",
        ])
    });
    near.publish("up/2", "waits", 1);
    assert!(has(&["nightjar_bridge_queue_messages{bridge=\"hub\"} 1"]));
}

/// Runs `nightjar ctl bridge`; the exit code and all that it said.
fn ctl(door: &Door, arguments: &[&str]) -> (i32, String) {
    assert_eq!(door.get("/livez").status, 200);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let output =
        command.args(["ctl", "bridge"]).args(arguments).arg("--data").arg(door.broker.data()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_operator_looks_after_bridges() {
    let hub = Broker::start();
    let door = Door::open(&[]);
    let told = |arguments: &[&str]| {
        let (code, said) = ctl(&door, arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    };
    let address = format!("mqtt://127.0.0.1:{}", hub.port());
    let add = ["add", "hub", "--address", &address, "--topic", "up/# out 1 \"\" plant/", "--topic", "down/# in 1"];
    told(&[&add[..], &["retry_base=100ms", "lazy_threshold=7", "username=u", "password=12345"]].concat());
    wait_state(&door, "hub", "connected");
    let list = told(&["list"]);
    assert!(list.starts_with("NAME ") && list.contains("connected"), "{list}");
    let items: Value = serde_json::from_str(&told(&["list", "--json"])).unwrap();
    assert_eq!(items[0]["name"], "hub");
    assert!(told(&["show", "hub"]).contains("rules.2.line"));
    told(&["set", "hub", "keep_alive=20s", "clean_start=true", "topics=[\"up/# out 1\", \"\\\"a,b\\\" out\"]"]);
    assert_eq!(door.get("/api/v1/bridges/hub").json()["rules"].as_array().unwrap().len(), 2);
    assert!(told(&["map", "hub", "up/1"]).starts_with("out  at the remote: up/1, by rule 1: "));
    assert!(told(&["map", "hub", "other"]).starts_with("out  no rule"));
    told(&["reset", "hub", "keep_alive", "clean_start"]);
    assert!(!text(&door).contains("keep_alive"), "{}", text(&door));
    assert!(
        text(&door).contains("lazy_threshold = 7") && text(&door).contains("password = \"12345\""),
        "{}",
        text(&door)
    );
    told(&["pause", "hub"]);
    wait_state(&door, "hub", "paused");
    door.broker.v5("near").publish("up/1", "waits", 1);
    let (code, said) = ctl(&door, &["remove", "hub"]);
    assert!(code == 1 && said.contains("messages: 1") && said.contains("--yes"), "{said}");
    told(&["resume", "hub"]);
    wait_state(&door, "hub", "connected");
    told(&["pause", "hub"]);
    wait_state(&door, "hub", "paused");
    Connect::v5("near").open(&door.broker).publish("up/1", "waits", 1);
    assert!(told(&["remove", "hub", "--yes"]).contains("lost"));
    for (arguments, code, part) in [
        (&["show", "hub"][..], 5, "no such bridge"),
        (&["remove", "hub"], 5, "no such bridge"),
        (&["reset", "hub"], 5, "no such bridge"),
        (&["add", "x", "--address", "http://a", "--topic", "a"], 1, "bridges.x.address"),
        (&["add", "x", "--topic", "a"], 2, "--address"),
        (&["set", "x", "keep_alive"], 2, "KEY=VALUE"),
        (&["frobnicate"], 2, "frobnicate"),
    ] {
        let (got, said) = ctl(&door, arguments);
        assert!(got == code && said.contains(part), "{arguments:?}: {got} {said}");
    }
}
