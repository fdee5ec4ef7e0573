//! Alerts and dashboard ask for metrics and labels that there are.

use crate::{read, yaml};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const RULES: &str = "deploy/prometheus/nightjar.rules.yml";
const DASHBOARD: &str = "deploy/grafana/nightjar.json";

/// Labels that Prometheus adds.
const ADDED: &[&str] = &["job", "instance"];

/// What the manual says: each metric with its labels, and those of its series where they are called otherwise.
struct Manual(BTreeMap<String, BTreeSet<String>>);

impl Manual {
    fn read() -> Self {
        let mut metrics = BTreeMap::new();
        // Prometheus' own: whether a target could be asked.
        metrics.insert("up".to_owned(), BTreeSet::new());
        for line in read("docs/metrics.md").lines() {
            let Some(row) = line.strip_prefix("| `nightjar_") else { continue };
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [name, kind, _, labels, ..] = cells[..] else { panic!("{line}") };
            let name = format!("nightjar_{}", name.trim_end_matches('`'));
            let labels: BTreeSet<String> =
                labels.split(", ").map(|label| label.trim_matches('`').to_owned()).filter(|l| !l.is_empty()).collect();
            if kind == "histogram" {
                for part in ["_sum", "_count"] {
                    metrics.insert(format!("{name}{part}"), labels.clone());
                }
                let buckets = labels.iter().cloned().chain(["le".to_owned()]).collect();
                metrics.insert(format!("{name}_bucket"), buckets);
            } else {
                metrics.insert(name, labels);
            }
        }
        assert!(metrics.len() > 50, "the page has another form");
        Self(metrics)
    }

    /// What is wrong with an expression, and which labels its series have.
    fn check(&self, expression: &str) -> (Vec<String>, BTreeSet<String>) {
        let mut mistakes = Vec::new();
        let mut all: BTreeSet<String> = ADDED.iter().map(|label| (*label).to_owned()).collect();
        let mut groups = Vec::new();
        let mut named = 0;
        let mut rest = expression;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '"') {
            rest = &rest[start..];
            if let Some(text) = rest.strip_prefix('"') {
                rest = text.split_once('"').map_or("", |(_, behind)| behind);
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            if let Some(labels) = self.0.get(word) {
                named += 1;
                all.extend(labels.iter().cloned());
                let matchers = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
                if let Some((matchers, behind)) = matchers {
                    rest = behind;
                    for label in matched(matchers) {
                        if !labels.contains(label) && !ADDED.contains(&label) {
                            mistakes.push(format!("{word} has no label {label}"));
                        }
                    }
                }
            } else if word.starts_with("nightjar_") {
                mistakes.push(format!("there is no metric {word}"));
            } else if ["by", "on", "without", "ignoring"].contains(&word) {
                let (inside, behind) = rest.split_once(')').expect("a list of labels");
                groups.extend(inside.trim_start().trim_start_matches('(').split(',').map(|l| l.trim().to_owned()));
                rest = behind;
            }
        }
        mistakes.extend(groups.into_iter().filter(|l| !all.contains(l)).map(|l| format!("nothing has a label {l}")));
        if named == 0 {
            mistakes.push("it asks for no metric".to_owned());
        }
        (mistakes, all)
    }
}

/// The labels of `a="b",c=~"d|e"`.
fn matched(matchers: &str) -> Vec<&str> {
    let outside = matchers.split('"').step_by(2);
    outside.map(|part| part.trim_matches([',', ' ', '=', '!', '~'])).filter(|label| !label.is_empty()).collect()
}

/// The words behind each `open`.
fn behind<'a>(text: &'a str, open: &str) -> Vec<&'a str> {
    let name = |rest: &'a str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
    text.split(open).skip(1).map(|rest| name(rest.trim_start())).collect()
}

#[test]
fn the_check_sees_what_is_wrong() {
    let manual = Manual::read();
    for good in [
        "up{job=\"nightjar\"} == 0",
        "sum by (instance, reason) (rate(nightjar_refused_total{reason!~\"a|b\",job=~\"$job\"}[10m])) > 1",
        "histogram_quantile(0.99, sum by (instance, le) (rate(nightjar_ack_latency_seconds_bucket[5m]))) > 1",
    ] {
        assert_eq!(manual.check(good).0, Vec::<String>::new(), "{good}");
    }
    for (bad, mistake) in [
        ("nightjar_clients > 1", "there is no metric nightjar_clients"),
        ("nightjar_ready{bridge=\"x\"} > 1", "nightjar_ready has no label bridge"),
        ("sum by (le) (nightjar_ready)", "nothing has a label le"),
        ("nightjar_ack_latency_seconds > 1", "there is no metric nightjar_ack_latency_seconds"),
        ("vector(1)", "it asks for no metric"),
    ] {
        assert!(manual.check(bad).0.contains(&mistake.to_owned()), "{bad}: {:?}", manual.check(bad).0);
    }
}

#[test]
fn alerts_use_metrics_and_labels_that_exist() {
    let manual = Manual::read();
    let rules = yaml(RULES);
    let mut names = BTreeSet::new();
    let mut mistakes = Vec::new();
    for group in rules["groups"].as_vec().unwrap() {
        for rule in group["rules"].as_vec().unwrap() {
            let name = rule["alert"].as_str().expect("an alert has a name");
            assert!(names.insert(name), "{name} is there twice");
            let (wrong, labels) = manual.check(rule["expr"].as_str().unwrap());
            mistakes.extend(wrong.into_iter().map(|mistake| format!("{name}: {mistake}")));
            assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
            for part in ["summary", "description"] {
                let text = rule["annotations"][part].as_str().unwrap_or_else(|| panic!("{name} has no {part}"));
                let unknown = behind(text, "$labels.").into_iter().filter(|label| !labels.contains(*label));
                mistakes.extend(unknown.map(|label| format!("{name}: {part} names {label}")));
            }
        }
    }
    assert!(names.len() > 15, "{names:?}");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn the_dashboard_uses_metrics_and_labels_that_exist() {
    let manual = Manual::read();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut mistakes = Vec::new();
    let mut ids = BTreeSet::new();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked += 1;
            let (wrong, labels) = manual.check(target["expr"].as_str().unwrap());
            mistakes.extend(wrong.into_iter().map(|mistake| format!("{title}: {mistake}")));
            let unknown = behind(target["legendFormat"].as_str().unwrap_or(""), "{{");
            let unknown = unknown.into_iter().filter(|label| !labels.contains(*label));
            mistakes.extend(unknown.map(|label| format!("{title}: the legend names {label}")));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            asked += 1;
            mistakes.extend(manual.check(query).0);
        }
    }
    assert!(asked > 30, "{asked}");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn what_is_mounted_for_prometheus_and_grafana_fits_together() {
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let jobs: Vec<_> =
        prometheus["scrape_configs"].as_vec().unwrap().iter().map(|job| job["job_name"].as_str()).collect();
    assert!(jobs.contains(&Some("nightjar")), "the alert NightjarDown asks for this job: {jobs:?}");
    assert_eq!(crate::texts(&prometheus["rule_files"]), ["nightjar.rules.yml"]);
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["isDefault"].as_bool(), Some(true));
    let boards = yaml("deploy/grafana/provisioning/dashboards/nightjar.yml");
    let folder = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let compose = yaml("docker-compose.yml");
    let mounts = crate::texts(&compose["services"]["grafana"]["volumes"]).join("\n");
    assert!(mounts.contains(&format!("nightjar.json:{folder}/nightjar.json")), "{mounts}");
    let mounts = crate::texts(&compose["services"]["prometheus"]["volumes"]).join("\n");
    assert!(mounts.contains("/prometheus/nightjar.rules.yml:/etc/prometheus/nightjar.rules.yml"), "{mounts}");
}
