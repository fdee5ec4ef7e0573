//! The files of Prometheus for real: it asks all nodes, its alerts can be evaluated, and fall silent and speak as they
//! should.

use crate::engine::run;
use crate::read;
use crate::support::{secs, wait_until};
use crate::up::{NODES, Up};
use serde_json::Value;
use std::collections::BTreeSet;

/// Starts it, and looks at everything while all is well.
pub(crate) fn prometheus_is_content(up: &Up) {
    run(up.compose().args(["up", "-d", "prometheus"]));
    wait_until("Prometheus is healthy", secs(60), || up.inspect("prometheus", "{{.State.Health.Status}}") == "healthy");
    let reached = || {
        let targets = up.prometheus("targets", &[]);
        let targets = targets["activeTargets"].as_array().unwrap().clone();
        targets.len() == NODES.len() + 1 && targets.iter().all(|target| target["health"] == "up")
    };
    wait_until("Prometheus reaches the nodes and HAProxy", secs(60), reached);
    let rules = || -> Vec<Value> {
        let rules = up.prometheus("rules", &[]);
        rules["groups"].as_array().unwrap().iter().flat_map(|of| of["rules"].as_array().unwrap().clone()).collect()
    };
    wait_until("every rule was evaluated", secs(60), || rules().iter().all(|rule| rule["health"] == "ok"));
    assert!(rules().len() > 20, "{:?}", rules());
    // One that compares with what was just begins with nothing.
    wait_until("nothing alerts", secs(60), || alerts(up).is_empty());
    the_dashboard_can_ask(up);
}

/// Every query of it is one, and what all nodes have is counted once.
fn the_dashboard_can_ask(up: &Up) {
    let ask = |query: &str| -> Vec<f64> {
        let query = query.replace("$job", "nightjar").replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = up.prometheus("query", &["--data-urlencode", &format!("query={query}")]);
        let results = answer["result"].as_array().unwrap().iter();
        results.map(|result| result["value"][1].as_str().unwrap().parse().unwrap()).collect()
    };
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/nightjar.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 30, "{queries:?}");
    for query in queries {
        let found = ask(query);
        if query.contains("nightjar_retained_messages") {
            assert_eq!(found, ask("max(nightjar_retained_messages)"), "{query}");
            assert!(found[0] >= 1.0, "the bridge says how it is in a retained message");
        }
    }
}

/// A node has been lost: it alerts, and the bridge, which another has taken, does not.
pub(crate) fn prometheus_misses_a_node(up: &Up) {
    wait_until("a node is missed", secs(90), || {
        let alerts = alerts(up);
        alerts.contains("NightjarDown") && alerts.contains("NightjarNodesDown")
    });
    let alerts = alerts(up);
    assert!(!alerts.iter().any(|name| name.contains("Bridge") || name.contains("OutOfTouch")), "{alerts:?}");
}

/// The alerts that are on, or will be if it stays so; those of this machine's disk are left out.
fn alerts(up: &Up) -> BTreeSet<String> {
    let alerts = up.prometheus("alerts", &[]);
    let names = alerts["alerts"].as_array().unwrap().iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap());
    names.filter(|name| !name.contains("Disk")).map(str::to_owned).collect()
}
