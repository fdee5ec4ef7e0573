//! What the admin door shows of clients, sessions, subscriptions and retained messages, and what it does to them.

use crate::http::{Door, READ_TOKEN, bearer};
use crate::support::{Broker, Connect, Publish, Stream, V5, Will, prop, secs, wait_until};
use serde_json::{Value, json};

fn strings(items: &[Value], key: &str) -> Vec<String> {
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn status_counts_what_there_is() {
    let door = Door::open(&[]);
    let mut subscriber = Connect::v5("s").clean(false).expiry(300).open(&door.broker);
    subscriber.subscribe("a/#", 1);
    subscriber.subscribe("$share/g/b", 0);
    let mut publisher = door.broker.v311("p");
    publisher.retain("a/r", "kept", 1);
    subscriber.disconnect();
    let disconnected = || door.get("/api/v1/status").json()["clients"]["disconnected"] == 1;
    wait_until("the subscriber is gone", secs(10), disconnected);
    publisher.publish("a/x", "waits", 1);
    publisher.publish("nobody", "wants it", 0);
    publisher.ping();
    let status = door.get("/api/v1/status").json();
    assert_eq!(status["clients"]["connected"], 1, "{status}");
    assert_eq!(status["clients"]["sessions"], 1, "{status}");
    assert_eq!(status["clients"]["disconnected"], 1, "{status}");
    assert_eq!(status["subscriptions"], 2, "{status}");
    assert_eq!(status["shared_subscriptions"], 1, "{status}");
    assert_eq!(status["retained"]["messages"], 1, "{status}");
    assert_eq!(status["queued"]["messages"], 2, "{status}");
    assert_eq!(status["totals"]["publish_received"], 3, "{status}");
    assert_eq!(status["totals"]["unmatched"], 1, "{status}");
    assert_eq!((&status["durability"], &status["ready"]), (&json!("sync"), &json!(true)));
    assert!(status["journal"]["syncs"].as_u64().unwrap() > 0, "{status}");
    assert!(status["journal"]["sync_p99_us"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["data_folder"], door.broker.data().display().to_string());
    let listeners = door.get("/api/v1/listeners").json();
    assert_eq!(listeners[0]["connections"], 1, "{listeners}");
    assert!(listeners[0]["address"].as_str().unwrap().ends_with(&door.broker.port().to_string()));
}

#[test]
fn clients_come_a_page_at_a_time() {
    let door = Door::open(&[]);
    let names: Vec<String> = (0..7).map(|n| format!("client-{n}")).collect();
    let clients: Vec<_> = names.iter().rev().map(|name| door.broker.v5(name)).collect();
    let other = door.broker.v311("other/ü?");
    let first = door.get("/api/v1/clients?limit=3").json();
    assert_eq!(strings(first["items"].as_array().unwrap(), "client_id"), names[..3]);
    let mut all = strings(&door.all("/api/v1/clients?limit=3"), "client_id");
    assert_eq!(all.pop().unwrap(), "other/ü?");
    assert_eq!(all, names);
    assert_eq!(door.all("/api/v1/clients?match=ent-3").len(), 1);
    assert_eq!(door.all("/api/v1/clients?address=127.0.0.1").len(), 8);
    assert_eq!(door.all("/api/v1/clients?address=127.0.0.2").len(), 0);
    assert_eq!(door.all("/api/v1/clients?user=u").len(), 0);
    assert_eq!(door.all("/api/v1/clients?listener=nothing&user=").len(), 0);
    let one = door.get("/api/v1/clients/other%2F%C3%BC%3F").json();
    assert_eq!((&one["client_id"], &one["version"]), (&json!("other/ü?"), &json!("3.1.1")), "{one}");
    drop((clients, other));
}

#[test]
fn a_client_is_shown_whole() {
    let door = Door::open(&[]);
    let will = Will::new("w/a", "gone").qos(1).delay(5);
    let connect = Connect::v5("a").clean(false).expiry(300).receive_maximum(2).keep_alive(77).will(will).manual();
    let mut client = connect.open(&door.broker);
    client.subscribe_many(&[("a/#", 0b0001_1101)], &[prop::subscription_id(9)]);
    let mut publisher = door.broker.v311("p");
    for payload in ["1", "2", "3"] {
        publisher.publish("a/x", payload, 1);
    }
    client.publish("b", "x", 0);
    client.expect_publish();
    client.expect_publish();
    client.ping();
    let shown = door.get("/api/v1/clients/a").json();
    assert_eq!((&shown["received"], &shown["sent"]), (&json!(1), &json!(2)), "{shown}");
    assert_eq!((&shown["inflight_out"], &shown["window"]), (&json!(2), &json!(2)), "{shown}");
    assert_eq!(shown["queued"], 1, "{shown}");
    assert_eq!((&shown["keep_alive"], &shown["clean_start"]), (&json!(77), &json!(false)), "{shown}");
    assert_eq!(shown["session"]["expiry_seconds"], 300, "{shown}");
    assert_eq!((&shown["session"]["persistent"], &shown["session"]["present"]), (&json!(true), &json!(false)));
    let will = &shown["will"];
    assert_eq!(
        (&will["topic"], &will["qos"], &will["delay_seconds"]),
        (&json!("w/a"), &json!(1), &json!(5)),
        "{shown}"
    );
    let subscription = &shown["subscriptions"][0];
    assert_eq!((&subscription["filter"], &subscription["qos"]), (&json!("a/#"), &json!(1)), "{shown}");
    assert_eq!((&subscription["no_local"], &subscription["retain_as_published"]), (&json!(true), &json!(true)));
    assert_eq!((&subscription["retain_handling"], &subscription["identifier"]), (&json!(1), &json!(9)), "{shown}");
}

#[test]
fn what_was_dropped_for_a_client_is_told() {
    let door = Door::open(&[]);
    let mut client = Connect::v5("a").prop(prop::maximum_packet_size(100)).open(&door.broker);
    client.subscribe("t/#", 0);
    let mut publisher = door.broker.v5("p");
    for _ in 0..3 {
        publisher.publish("t/large", "x".repeat(200), 0);
    }
    publisher.publish("t/small", "x", 0);
    client.expect_payload("x");
    let shown = door.get("/api/v1/clients/a").json();
    let drop = &shown["drops"][0];
    assert_eq!((&drop["topic"], &drop["reason"]), (&json!("t/large"), &json!("too_large")), "{shown}");
    assert_eq!(drop["count"], 3, "{shown}");
    assert_eq!(door.get("/api/v1/status").json()["dropped"]["too_large"], 3);
}

#[test]
fn a_client_is_kicked() {
    let door = Door::open(&[]);
    let mut five = Connect::v5("five").clean(false).expiry(300).open(&door.broker);
    let mut old = door.broker.v311("old");
    assert_eq!(door.delete("/api/v1/clients/five").status, 204);
    five.expect_disconnect(&[0x98]);
    assert_eq!(door.delete("/api/v1/clients/old").status, 204);
    old.expect_closed();
    wait_until("both are gone", secs(10), || door.all("/api/v1/clients").is_empty());
    // The session stays.
    assert_eq!(strings(&door.all("/api/v1/sessions"), "client_id"), ["five"]);
    assert!(Connect::v5("five").clean(false).expiry(300).open(&door.broker).resumed());
}

#[test]
fn a_session_is_ended_with_all_it_has() {
    let mut door = Door::open(&[]);
    let mut away = Connect::v5("away").clean(false).expiry(300).open(&door.broker);
    away.subscribe("t", 1);
    away.disconnect();
    let mut here = Connect::v5("here").clean(false).expiry(u32::MAX).open(&door.broker);
    here.subscribe("t", 1);
    door.broker.v311("p").publish("t", "x", 1);
    let sessions = door.all("/api/v1/sessions?limit=1");
    assert_eq!(strings(&sessions, "client_id"), ["away", "here"]);
    assert_eq!((&sessions[0]["connected"], &sessions[1]["connected"]), (&json!(false), &json!(true)), "{sessions:?}");
    assert!(sessions[0]["expires_at"].is_string() && sessions[1]["expires_at"].is_null(), "{sessions:?}");
    assert_eq!((&sessions[0]["queued"], &sessions[0]["subscriptions"]), (&json!(1), &json!(1)), "{sessions:?}");
    let shown = door.get("/api/v1/sessions/here").json();
    assert_eq!(
        (&shown["expiry_seconds"], &shown["subscriptions"][0]["filter"]),
        (&Value::Null, &json!("t")),
        "{shown}"
    );
    for client in ["away", "here"] {
        assert_eq!(door.delete(&format!("/api/v1/sessions/{client}")).status, 204);
        assert_eq!(door.get(&format!("/api/v1/sessions/{client}")).status, 404);
    }
    here.expect_publish();
    here.expect_disconnect(&[0x98]);
    assert!(door.all("/api/v1/subscriptions").is_empty());
    // It stays away, whatever happens.
    door.broker.crash();
    assert!(door.all("/api/v1/sessions").is_empty());
    assert!(!Connect::v5("away").clean(false).expiry(300).open(&door.broker).resumed());
}

#[test]
fn a_will_is_published_when_its_session_is_ended() {
    let door = Door::open(&[]);
    let mut watcher = door.broker.v5("watcher");
    watcher.subscribe("w", 0);
    let will = Will::new("w", "gone").delay(3_000);
    Connect::v5("a").clean(false).expiry(3_600).will(will).open(&door.broker).fin();
    wait_until("it is gone", secs(10), || door.get("/api/v1/clients/a").status == 404);
    wait_until("the will waits", secs(10), || door.get("/api/v1/sessions/a").json()["will_due"].is_string());
    assert_eq!(door.delete("/api/v1/sessions/a").status, 204);
    watcher.expect_payload("gone");
}

#[test]
fn subscriptions_are_found_by_client_and_topic() {
    let door = Door::open(&[]);
    let mut persistent = Connect::v5("p").clean(false).expiry(300).open(&door.broker);
    persistent.subscribe_many(&[("a/+", 1), ("b", 0), ("$share/g/a/#", 2)], &[]);
    let mut transient = door.broker.v311("t");
    transient.subscribe("a/b", 0);
    transient.subscribe("c", 0);
    let all = door.all("/api/v1/subscriptions?limit=2");
    assert_eq!(strings(&all, "client_id"), ["p", "p", "p", "t", "t"]);
    assert_eq!(strings(&all, "filter"), ["$share/g/a/#", "a/+", "b", "a/b", "c"]);
    assert_eq!((&all[0]["share"], &all[0]["qos"]), (&json!("g"), &json!(2)));
    let matching = door.all("/api/v1/subscriptions?topic=a%2Fb");
    assert_eq!(strings(&matching, "filter"), ["$share/g/a/#", "a/+", "a/b"]);
    assert_eq!(strings(&door.all("/api/v1/subscriptions?client=t"), "filter"), ["a/b", "c"]);
    assert_eq!(strings(&door.all("/api/v1/subscriptions?client=t&topic=c"), "filter"), ["c"]);
    transient.unsubscribe("c");
    assert_eq!(strings(&door.all("/api/v1/subscriptions?client=t"), "filter"), ["a/b"]);
    // Those of a session stay when its connection goes.
    persistent.disconnect();
    assert_eq!(door.all("/api/v1/subscriptions?client=p").len(), 3);
    let _ = transient;
}

#[test]
fn retained_messages_are_found_read_and_removed() {
    let mut door = Door::open(&[]);
    let mut publisher = door.broker.v5("p");
    for n in 0..20 {
        publisher.retain(&format!("house/{n}/temp"), format!("{n}"), 1);
    }
    let message = Publish::new("other/ü", [0xff, 0x00]).qos(1).retain();
    let message = message.prop(prop::content_type("raw")).prop(prop::user("k", "v")).prop(prop::message_expiry(600));
    publisher.publish_as(message);
    let mut topics = strings(&door.all("/api/v1/retained?limit=3"), "topic");
    topics.sort();
    assert_eq!(topics.len(), 21);
    topics.dedup();
    assert_eq!(topics.len(), 21);
    assert_eq!(door.all("/api/v1/retained?filter=house%2F%2B%2Ftemp&limit=7").len(), 20);
    let one = door.all("/api/v1/retained?filter=house%2F3%2Ftemp");
    assert_eq!((one.len(), &one[0]["payload_preview"], &one[0]["bytes"]), (1, &json!("3"), &json!(1)));
    assert!(one[0]["retained_at"].is_string() && one[0]["expires_at"].is_null());
    let shown = door.get("/api/v1/retained/other%2F%C3%BC").json();
    assert_eq!((&shown["payload_base64"], &shown["payload_text"]), (&json!("/wA="), &Value::Null), "{shown}");
    assert_eq!((&shown["content_type"], &shown["user_properties"][0]["name"]), (&json!("raw"), &json!("k")), "{shown}");
    assert!(shown["expires_at"].is_string(), "{shown}");
    assert_eq!(door.delete("/api/v1/retained/other%2F%C3%BC").status, 204);
    assert_eq!(door.get("/api/v1/retained/other%2F%C3%BC").status, 404);
    door.broker.crash();
    assert_eq!(door.all("/api/v1/retained").len(), 20);
}

#[test]
fn a_message_is_published_from_here() {
    let mut door = Door::open(&[]);
    let mut client = door.broker.client(V5, "a");
    client.subscribe("t", 1);
    let published = door.send("POST", "/api/v1/publish", &json!({"topic": "t", "payload": "grüß", "qos": 1}));
    assert_eq!((published.status, &published.json()["code"]), (200, &json!(0)), "{}", published.text());
    client.expect_payload("grüß");
    let binary = json!({"topic": "t", "payload_base64": "/wA=", "retain": true});
    assert_eq!(door.send("POST", "/api/v1/publish", &binary).json()["code"], 0);
    client.expect_payload([0xff, 0x00]);
    assert_eq!(door.send("POST", "/api/v1/publish", &json!({"topic": "nobody"})).json()["code"], 16);
    // What was answered is durable.
    door.broker.crash();
    assert_eq!(door.get("/api/v1/retained/t").json()["payload_base64"], "/wA=");
}

#[test]
fn rules_are_tested_and_the_log_is_set() {
    let open = Door::open(&[]);
    let test = open.get("/api/v1/rules/test?client=a&action=publish&topic=t&qos=1&retain=true").json();
    assert_eq!((&test["allowed"], &test["rule"]), (&json!(true), &Value::Null), "{test}");
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::write(&rules, "allow user alice to publish on a/#\n").unwrap();
    let door = Door::open(&[&format!("access.rules={}", rules.display())]);
    let allowed = |query: &str| door.get(&format!("/api/v1/rules/test?client=c&{query}")).json()["allowed"] == true;
    assert!(!allowed("user=bob&action=publish&topic=a%2Fb") && !allowed("user=alice&action=publish&topic=b"));
    assert_eq!(door.get("/api/v1/log").json()["level"], "info");
    assert_eq!(door.send("PUT", "/api/v1/log", &json!({"level": "debug"})).json()["level"], "debug");
    assert_eq!(door.get("/api/v1/log").json()["level"], "debug");
    let config = door.get("/api/v1/config").json()["toml"].as_str().unwrap().to_owned();
    assert!(config.contains("[admin]") && !config.contains(crate::http::TOKEN), "{config}");
    let reloaded = door.send("POST", "/api/v1/reload", &json!({})).json();
    assert_eq!(reloaded, json!({"applied": [], "needs_restart": []}));
    // The reload has set the level of the configuration again.
    assert_eq!(door.get("/api/v1/log").json()["level"], "info");
    assert_eq!(door.ask("GET", "/api/v1/login", &[bearer(READ_TOKEN)], None).json()["scope"], "read");
}

#[test]
fn f59_a_clients_address_is_the_one_that_the_balancer_told() {
    let config = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\nproxy_protocol = true\n\
                  trusted_proxies = [\"127.0.0.0/8\"]\n";
    // Asked over its Unix socket alone.
    let door = Door { broker: Broker::configured(config, &[]), port: 0 };
    let through = || Stream::tcp(door.broker.port()).after(b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 1883\r\n");
    let _plain = Connect::v5("plain").open_over(through());
    let _web = Connect::v5("web").open_over(through().websocket());
    for id in ["plain", "web"] {
        let client = door.inside("GET", &format!("/api/v1/clients/{id}")).json();
        assert_eq!(client["address"], "192.0.2.7:12345", "{client}");
    }
    let found = door.inside("GET", "/api/v1/clients?address=192.0.2.7").json();
    assert_eq!(strings(found["items"].as_array().unwrap(), "client_id"), ["plain", "web"]);
}
