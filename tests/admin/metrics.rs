//! The metrics, their page, and what is built on them.

use crate::http::{Door, cluster_of_one};
use crate::support::{Connect, secs, wait_until};
use nightjar::admin::{Kind, METRICS, manual};
use std::collections::BTreeSet;
use std::fs;

/// The name of the metric that a series belongs to.
fn metric_of(series: &str) -> Option<&'static str> {
    METRICS.iter().map(|metric| (metric.name, metric.kind)).find_map(|(name, kind)| {
        let parts: &[&str] = if kind == Kind::Histogram { &["_bucket", "_sum", "_count", ""] } else { &[""] };
        parts.iter().any(|part| series.strip_suffix(part) == Some(name)).then_some(name)
    })
}

#[test]
fn every_metric_of_the_table_is_served_and_no_other() {
    let door = Door::open(&["bridges.hub.address=mqtt://127.0.0.1:1", "bridges.hub.topics=secret/bridged out 1"]);
    let mut client = Connect::v5("secret-client").clean(false).expiry(300).open(&door.broker);
    client.subscribe("secret/topic", 1);
    client.publish("secret/topic", "x", 1);
    let answer = door.ask("GET", "/metrics", &[], None);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("secret"), "{text}");
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut seen = BTreeSet::new();
    for line in &series {
        let name = line.split(['{', ' ']).next().unwrap();
        seen.insert(metric_of(name).unwrap_or_else(|| panic!("{name} is in no row of the table")));
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    // Without TLS there are no certificates, alone there is no cluster.
    let silent =
        |name: &&str| *name == "nightjar_certificate_expiry_timestamp_seconds" || name.starts_with("nightjar_cluster_");
    let missing: Vec<&str> = METRICS.iter().map(|m| m.name).filter(|n| !seen.contains(n) && !silent(n)).collect();
    assert!(missing.is_empty(), "{missing:?}\n{text}");
    assert!(text.contains("nightjar_messages_dropped_total{reason=\"queue_full\"} 0"), "{text}");
    assert!(text.contains("nightjar_clients_connected 1"), "{text}");
    for line in [
        "nightjar_bridge_connected{bridge=\"hub\"} 0",
        "nightjar_bridge_state{bridge=\"hub\",state=\"connected\"} 0",
        "nightjar_bridge_messages_total{bridge=\"hub\",rule=\"1\",direction=\"out\"} 0",
        "nightjar_bridge_set_aside_total{bridge=\"hub\",reason=\"closed_at\"} 0",
    ] {
        assert!(text.lines().any(|told| told.strip_suffix(".0").unwrap_or(told) == line), "{line}\n{text}");
    }
    let acks = series.iter().find(|line| line.starts_with("nightjar_ack_latency_seconds_count ")).unwrap();
    assert_ne!(acks.rsplit(' ').next(), Some("0"));
}

#[test]
fn a_cluster_has_metrics_of_its_own() {
    let door = Door::open(&cluster_of_one().each_ref().map(String::as_str));
    let text = door.get("/metrics").text();
    for name in METRICS.iter().map(|metric| metric.name).filter(|name| name.starts_with("nightjar_cluster_")) {
        assert!(text.lines().any(|line| line.split(' ').next() == Some(name)), "{name}\n{text}");
    }
    let told = |line: &str| text.lines().any(|told| told.strip_suffix(".0").unwrap_or(told) == line);
    assert!(told("nightjar_cluster_nodes_up 1") && told("nightjar_cluster_in_touch 1"), "{text}");
}

#[test]
fn the_page_of_the_manual_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    assert_eq!(fs::read_to_string(path).unwrap(), manual(), "run `make config-docs`");
}

/// A value of the metrics page.
fn value(door: &Door, name: &str) -> f64 {
    let page = door.get("/metrics").text();
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in\n{page}"))
}

#[test]
fn f66_the_metrics_count_clients_alone() {
    let mut door = Door::open(&["sys.interval=1s"]);
    for n in 0..3 {
        Connect::v311(&format!("away{n}")).persistent().open(&door.broker).disconnect();
    }
    let clients: Vec<_> = (0..5).map(|n| door.broker.v311(&format!("here{n}"))).collect();
    let silent: Vec<_> = (0..20).map(|_| door.broker.socket()).collect();
    let numbers = |door: &Door| {
        let names = ["nightjar_clients_connected", "nightjar_sessions", "nightjar_sessions_disconnected"];
        names.map(|name| value(door, name))
    };
    for _ in 0..10 {
        drop(door.broker.v311("turn"));
        assert!(numbers(&door).iter().all(|number| *number >= 0.0));
    }
    wait_until("what is at rest", secs(10), || numbers(&door) == [5.0, 3.0, 3.0]);
    drop((clients, silent));
    door.broker.restart();
    wait_until("the same after a restart", secs(20), || numbers(&door) == [0.0, 3.0, 3.0]);
}
