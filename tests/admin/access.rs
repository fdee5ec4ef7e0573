//! Who may ask what.

use crate::http::{Door, READ_TOKEN, TOKEN, bearer};
use crate::support::broker::free_port;
use crate::support::{Broker, Connect, PATIENCE, Stream};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn health_needs_no_token() {
    let door = Door::open(&[]);
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = door.ask("GET", path, &[], None);
        assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)), "{path}");
    }
    let ready = door.ask("GET", "/readyz", &[], None).json();
    let names: Vec<&str> = ready["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["store", "listeners", "certificates", "running"]);
    assert_eq!(door.ask("GET", "/metrics", &[], None).status, 200);
}

#[test]
fn everything_else_needs_one() {
    let door = Door::open(&["admin.open_metrics=false"]);
    for path in ["/api/v1/status", "/api/v1/clients", "/api/v1/config", "/metrics", "/api/v1/nothing"] {
        let answer = door.ask("GET", path, &[], None);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.json()["error"].is_string());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        for wrong in ["wrong", "", &TOKEN[1..], &format!("{TOKEN}x")] {
            assert_eq!(door.ask("GET", path, &[bearer(wrong)], None).status, 401, "{path}");
        }
    }
    assert_eq!(door.ask("GET", "/api/v1/status", &[format!("Authorization: Basic {TOKEN}")], None).status, 401);
    assert_eq!(door.get("/api/v1/status").status, 200);
}

#[test]
fn a_token_for_reading_changes_nothing() {
    let door = Door::open(&[]);
    let _client = door.broker.v5("a");
    let reader = [bearer(READ_TOKEN)];
    assert_eq!(door.ask("GET", "/api/v1/clients/a", &reader, None).status, 200);
    for (method, path) in [
        ("DELETE", "/api/v1/clients/a"),
        ("POST", "/api/v1/reload"),
        ("PUT", "/api/v1/log"),
        ("POST", "/api/v1/publish"),
    ] {
        let answer = door.ask(method, path, &reader, Some(&json!({"topic": "t", "level": "debug"})));
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(door.get("/api/v1/clients/a").status, 200);
}

#[test]
fn our_own_user_needs_no_token_over_the_unix_socket() {
    let mut door = Door::open(&[]);
    assert_eq!(door.inside("GET", "/api/v1/status").status, 200);
    assert_eq!(door.inside("POST", "/api/v1/reload").status, 200);
    let path = door.broker.data().join("admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // One that a crash left behind does not stand in the way; a clean stop leaves none.
    door.broker.crash();
    assert_eq!(door.inside("GET", "/api/v1/status").status, 200);
    door.broker.terminate();
    assert!(!path.exists());
}

#[test]
fn a_token_is_made_at_the_first_start() {
    let mut door = Door::open(&["admin.token=auto"]);
    assert_eq!(door.ask("GET", "/livez", &[], None).status, 200);
    let path = door.broker.data().join("admin.token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&path).unwrap();
    assert!(!door.broker.log().contains(token.trim()));
    door.broker.restart();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
    assert_eq!(door.ask("GET", "/api/v1/status", &[bearer(token.trim())], None).status, 200);
}

#[test]
fn a_login_gives_a_cookie_that_stands_for_the_token() {
    let door = Door::open(&[]);
    assert_eq!(door.ask("POST", "/api/v1/login", &[], Some(&json!({"token": "wrong"}))).status, 401);
    let answer = door.ask("POST", "/api/v1/login", &[], Some(&json!({"token": TOKEN})));
    assert_eq!((answer.status, &answer.json()["scope"]), (200, &json!("full")));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(door.ask("GET", "/api/v1/status", std::slice::from_ref(&cookie), None).status, 200);
    // A page of somebody else's may not make use of it.
    let foreign = [cookie.clone(), "Origin: http://evil.example".to_owned()];
    assert_eq!(door.ask("POST", "/api/v1/reload", &foreign, None).status, 401);
    let own = [cookie, "Origin: http://localhost".to_owned()];
    assert_eq!(door.ask("POST", "/api/v1/reload", &own, None).status, 200);
    let forged = ["Cookie: nightjar=AAAA".to_owned()];
    assert_eq!(door.ask("GET", "/api/v1/status", &forged, None).status, 401);
}

#[test]
fn a_name_that_was_made_to_point_here_leads_nowhere() {
    let door = Door::open(&[]);
    for host in ["evil.example", "evil.example:9883", "localhost.evil.example"] {
        let answer = door.ask("GET", "/livez", &[format!("Host: {host}")], None);
        assert_eq!(answer.status, 421, "{host}");
    }
    assert_eq!(door.ask("GET", "/livez", &[format!("Host: 127.0.0.1:{}", door.port)], None).status, 200);
}

#[test]
fn changes_are_in_the_log() {
    let door = Door::open(&[]);
    let _client = door.broker.v5("a");
    door.delete("/api/v1/clients/a");
    let line = door.broker.wait_log(&["admin change", "disconnect client"]);
    assert!(line.contains("scope=\"full\"") && line.contains("127.0.0.1") && line.contains("what=\"a\""), "{line}");
    assert!(!door.broker.log().contains(TOKEN));
}

#[test]
fn the_page_may_use_what_comes_from_here_alone() {
    let door = Door::open(&[]);
    let page = door.ask("GET", "/", &[], None);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    assert_eq!(door.ask("GET", "/page/app.js", &[], None).status, 200);
    assert_eq!(door.ask("GET", "/page/none.js", &[], None).status, 404);
    let without = Door::open(&["admin.page=false"]);
    assert_eq!(without.ask("GET", "/", &[], None).status, 404);
}

#[test]
fn what_is_too_much_is_refused() {
    let door = Door::open(&["admin.max_body=2KiB"]);
    let large = json!({"topic": "t", "payload": "x".repeat(4_000)});
    assert_eq!(door.send("POST", "/api/v1/publish", &large).status, 413);
    let head = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    assert!([400, 431, 0].contains(&door.raw(head.as_bytes()).status));
    assert_eq!(door.ask("GET", "/livez", &[], None).status, 200);
}

#[test]
fn what_is_wrong_is_told_as_json() {
    let door = Door::open(&[]);
    for (method, path, body, status) in [
        ("GET", "/api/v1/nothing", None, 404),
        ("POST", "/api/v1/status", None, 405),
        ("GET", "/api/v1/clients/nobody", None, 404),
        ("DELETE", "/api/v1/clients/nobody", None, 404),
        ("DELETE", "/api/v1/sessions/nobody", None, 404),
        ("DELETE", "/api/v1/retained/nothing", None, 404),
        ("GET", "/api/v1/clients?cursor=%21", None, 400),
        ("GET", "/api/v1/clients?limit=many", None, 400),
        ("GET", "/api/v1/retained?filter=a%2F%23%2Fb", None, 422),
        ("GET", "/api/v1/rules/test?action=fly&topic=t", None, 422),
        ("POST", "/api/v1/publish", Some(json!({"topic": "a/#"})), 422),
        ("POST", "/api/v1/publish", Some(json!({"topic": "$SYS/x"})), 422),
        ("POST", "/api/v1/publish", Some(json!({"payload": "x"})), 422),
        ("POST", "/api/v1/publish", Some(json!({"topic": "t", "qos": 3})), 422),
        ("POST", "/api/v1/publish", Some(json!({"topic": "t", "payload_base64": "!"})), 422),
        ("PUT", "/api/v1/log", Some(json!({"level": "loud"})), 422),
    ] {
        let answer = door.ask(method, path, &[bearer(TOKEN)], body.as_ref());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{method} {path}");
    }
}

#[test]
fn an_address_that_is_taken_is_told_with_its_setting() {
    let door = Door::open(&[]);
    let address = format!("admin.address=127.0.0.1:{}", door.port);
    let mut second = crate::support::Broker::prepare(&[&address]);
    second.launch();
    let status = second.wait_exit(crate::support::secs(30));
    assert_ne!(status.code(), Some(0));
    let log = second.log();
    assert!(log.contains(&door.port.to_string()) && log.contains("admin.address"), "{log}");
}

#[test]
fn a_token_that_is_replaced_ends_what_came_in_by_it() {
    let door = free_port();
    let broker = Broker::with(&[&format!("admin.address=127.0.0.1:{door}")]);
    broker.wait_log(&["the admin door is open"]);
    let file = broker.data().join("admin.token");
    let token = std::fs::read_to_string(&file).unwrap();
    let fields = format!("Authorization: Bearer {}\r\nSec-WebSocket-Protocol: mqtt\r\n", token.trim());
    let (stream, head) = Stream::tcp(door).upgrade("/mqtt", &fields);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut console = Connect::v5("console").open_over(stream);
    let mut trace = std::net::TcpStream::connect(("127.0.0.1", door)).unwrap();
    let request = format!(
        "GET /api/v1/trace?client=c&seconds=600 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    trace.write_all(request.as_bytes()).unwrap();
    let mut ended = String::new();
    let mut client = broker.v5("c");
    broker.reload();
    console.ping();
    std::fs::write(&file, "another-token-0123456789\n").unwrap();
    broker.reload();
    console.expect_disconnect(&[0x87]);
    client.publish("t", "x", 1);
    trace.set_read_timeout(Some(PATIENCE)).unwrap();
    trace.read_to_string(&mut ended).unwrap();
    assert!(ended.starts_with("HTTP/1.1 200"), "{ended}");
}
